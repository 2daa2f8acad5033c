/* The passes over bytes of coded blobs: numbers into byte planes and back, alone or as differences
 * to a base, without the GIL. planes.py does the same with numpy and is what these are compared
 * with; the page docs/format/coded.md says what is computed. Also SHA-256 of many messages at once,
 * for hashing.py.
 *
 * Frames are read by the system's libzstd where there is one: its builds carry assembly that the
 * zstandard package's do not. It is looked for when this module is loaded, so that building needs
 * no headers but Python's; what is declared of it here has been stable since its version 1.4.
 *
 * Nothing that Python passes is believed: every length is compared with every other before a byte
 * is read. Only the limited API is used, so that one build serves Python 3.11 and all later ones.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>

#include "_passes.h"
#include "_sha256.h"

enum { MOST_KEPT = 4 << 20, MOST_IDLE = 8 };

/* The system's libzstd; all NULL where there is none. */
static struct {
    void *(*reader)(void), *(*writer)(void);
    size_t (*drop_reader)(void *), (*drop_writer)(void *);
    size_t (*decompress)(void *, void *, size_t, const void *, size_t);
    size_t (*compress)(void *, void *, size_t, const void *, size_t);
    size_t (*set)(void *, int, int);
    size_t (*bound)(size_t);
    size_t (*frame_size)(const void *, size_t);
    unsigned long long (*content_size)(const void *, size_t);
    unsigned (*is_error)(size_t);
} zstd;

/* The C standard knows no cast from an object's pointer to a function's; POSIX says how. */
static const struct {
    void *place;
    const char *name;
} symbols[] = {
    {&zstd.reader, "ZSTD_createDCtx"},
    {&zstd.writer, "ZSTD_createCCtx"},
    {&zstd.drop_reader, "ZSTD_freeDCtx"},
    {&zstd.drop_writer, "ZSTD_freeCCtx"},
    {&zstd.decompress, "ZSTD_decompressDCtx"},
    {&zstd.compress, "ZSTD_compress2"},
    {&zstd.set, "ZSTD_CCtx_setParameter"},
    {&zstd.bound, "ZSTD_compressBound"},
    {&zstd.frame_size, "ZSTD_findFrameCompressedSize"},
    {&zstd.content_size, "ZSTD_getFrameContentSize"},
    {&zstd.is_error, "ZSTD_isError"},
};

static int find_zstd(void) {
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        library = dlopen("libzstd.1.dylib", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library && i < sizeof symbols / sizeof *symbols; i++) {
        *(void **)symbols[i].place = dlsym(library, symbols[i].name);
        if (!*(void **)symbols[i].place)
            library = NULL;
    }
    if (!library)
        memset(&zstd, 0, sizeof zstd);
    return library != NULL;
}

/* Returns what writes frames of literals only: the search for matches steps over a whole block, and
 * Huffman's codes, which a search so fast would do without, are asked for. The last one is number
 * 1002 of the parameters that may change; NULL where this libzstd knows another one by it. */
static void *new_writer(void) {
    static const int parameters[][2] = {{100, 1}, {107, 1}, {106, 1 << 17}, {1002, 1}};
    void *writer = zstd.writer();
    for (size_t i = 0; writer && i < sizeof parameters / sizeof *parameters; i++)
        if (zstd.is_error(zstd.set(writer, parameters[i][0], parameters[i][1]))) {
            zstd.drop_writer(writer);
            writer = NULL;
        }
    return writer;
}

/* What a call works with; kept for the next one. The GIL guards the list. */
typedef struct {
    void *reader, *writer;
    uint8_t *scratch;
    size_t room;
} Worker;
static Worker idle[MOST_IDLE];
static int idles;

static void dismiss(Worker worker) {
    if (worker.room > MOST_KEPT) {
        PyMem_Free(worker.scratch);
        worker.scratch = NULL;
        worker.room = 0;
    }
    if (idles < MOST_IDLE) {
        idle[idles++] = worker;
        return;
    }
    if (worker.reader)
        zstd.drop_reader(worker.reader);
    if (worker.writer)
        zstd.drop_writer(worker.writer);
    PyMem_Free(worker.scratch);
}

static int hire(Worker *worker, size_t room, int reads, int writes) {
    memset(worker, 0, sizeof *worker);
    if (idles)
        *worker = idle[--idles];
    if (reads && !worker->reader)
        worker->reader = zstd.reader();
    if (writes && !worker->writer)
        worker->writer = new_writer();
    if (worker->room < room) {
        PyMem_Free(worker->scratch);
        worker->scratch = PyMem_Malloc(room);
        worker->room = worker->scratch ? room : 0;
    }
    if (worker->room >= room && (worker->reader || !reads) && (worker->writer || !writes))
        return 1;
    dismiss(*worker);
    PyErr_NoMemory();
    return 0;
}

/* Compares what a call was given; returns the count of numbers, or -1 with an exception. */
static Py_ssize_t numbers(Py_ssize_t width, int kind, const Py_buffer *plain,
                          const Py_buffer *base) {
    if ((width != 1 && width != 2 && width != 4 && width != 8) || kind < 0 || kind >= KINDS)
        PyErr_SetString(PyExc_ValueError, "an unknown width or kind of numbers");
    else if (plain->len % width)
        PyErr_SetString(PyExc_ValueError, "the bytes are not whole numbers");
    else if (kind >= DIFFERENCE && (!base->obj || base->len != plain->len))
        PyErr_SetString(PyExc_ValueError, "the base is not as long as the numbers");
    else if (plain->len / width > UINT32_MAX)
        PyErr_SetString(PyExc_ValueError, "too many numbers for one chunk");
    else
        return plain->len / width;
    return -1;
}

static PyObject *py_split(PyObject *module, PyObject *args) {
    Py_buffer data, base, out;
    Py_ssize_t width;
    Worker worker;
    int kind;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*niz*w*", &data, &width, &kind, &base, &out))
        return NULL;
    Py_ssize_t n = numbers(width, kind, &data, &base);
    if (n >= 0 && out.len != data.len) {
        PyErr_SetString(PyExc_ValueError, "the planes are not as long as the numbers");
        n = -1;
    }
    size_t keys = n >= 0 && kind == SORTED ? sizeof(uint16_t) * (size_t)n : 0;
    if (n >= 0 && !hire(&worker, keys + (kind >= DIFFERENCE ? (size_t)data.len : 0), 0, 0))
        n = -1;
    if (n >= 0) {
        Py_BEGIN_ALLOW_THREADS;
        split_numbers((size_t)width, kind, data.buf, base.buf, (size_t)n, out.buf,
                      worker.scratch + keys, (uint16_t *)worker.scratch);
        Py_END_ALLOW_THREADS;
        dismiss(worker);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&base);
    PyBuffer_Release(&out);
    return n < 0 ? NULL : Py_NewRef(Py_None);
}

/* Reads the frames that are planes into the scratch behind its first `from` bytes, and points at
 * the others; returns what is wrong, or NULL. */
static const char *read_planes(Worker worker, size_t from, size_t width, const Py_ssize_t *lengths,
                               const Py_buffer *frames, size_t n, Plane *planes) {
    const uint8_t *at = frames->buf, *end = at + frames->len;
    uint8_t *room = worker.scratch + from;
    for (size_t place = 0; place < width; place++) {
        size_t stored = lengths[place] > 0 ? (size_t)lengths[place] : lengths[place] ? 0 : n;
        planes[place].bytes = at;
        if (stored > (size_t)(end - at) || lengths[place] < -256)
            return "the frames are not as long as the index says";
        if (lengths[place] < 0) {
            planes[place].bytes = NULL;
            planes[place].same = (uint8_t)(-1 - lengths[place]);
        } else if (lengths[place] > 0) {
            if (zstd.content_size(at, stored) != n || zstd.frame_size(at, stored) != stored)
                return "a frame holds more or fewer bytes than its chunk";
            if (zstd.decompress(worker.reader, room, n, at, stored) != n)
                return "a frame is damaged";
            planes[place].bytes = room;
            room += n;
        }
        at += stored;
    }
    return at == end ? NULL : "the frames are not as long as the index says";
}

/* Reads `lengths` and returns how many there are, or -1 with an exception. */
static Py_ssize_t read_lengths(PyObject *given, Py_ssize_t *lengths) {
    Py_ssize_t width = PyTuple_Size(given);
    if (width > MOST_WIDTH) {
        PyErr_SetString(PyExc_ValueError, "an unknown width or kind of numbers");
        return -1;
    }
    for (Py_ssize_t place = 0; place < width; place++) {
        lengths[place] = PyLong_AsSsize_t(PyTuple_GetItem(given, place));
        if (lengths[place] == -1 && PyErr_Occurred())
            return -1;
    }
    return width;
}

static int join(Py_ssize_t width, const Py_ssize_t *lengths, int kind, const Py_buffer *frames,
                const Py_buffer *base, const Py_buffer *out) {
    Py_ssize_t n = numbers(width, kind, out, base);
    Plane planes[MOST_WIDTH];
    Worker worker;
    const char *wrong;
    size_t coded = 0, keys, sorting;
    if (n < 0)
        return 0;
    for (Py_ssize_t place = 0; place < width; place++)
        coded += lengths[place] > 0;
    if (coded && !zstd.reader) {
        PyErr_SetString(PyExc_ValueError, "this machine has no libzstd");
        return 0;
    }
    keys = kind == SORTED ? sizeof(uint16_t) * (size_t)n : 0;
    sorting = kind == SORTED ? keys + (size_t)out->len : 0;
    if (!hire(&worker, coded * (size_t)n + sorting, coded > 0, 0)) /* four times `out` at most */
        return 0;
    Py_BEGIN_ALLOW_THREADS;
    wrong = read_planes(worker, sorting, (size_t)width, lengths, frames, (size_t)n, planes);
    if (!wrong)
        join_planes((size_t)width, kind, planes, base->buf, (size_t)n, out->buf,
                    worker.scratch + keys, (uint16_t *)worker.scratch);
    Py_END_ALLOW_THREADS;
    dismiss(worker);
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    return !wrong;
}

static PyObject *py_join(PyObject *module, PyObject *args) {
    Py_buffer frames, base, out;
    PyObject *given;
    Py_ssize_t lengths[MOST_WIDTH];
    int kind, done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*O!iz*w*", &frames, &PyTuple_Type, &given, &kind, &base, &out))
        return NULL;
    Py_ssize_t width = read_lengths(given, lengths);
    if (width >= 0)
        done = join(width, lengths, kind, &frames, &base, &out);
    PyBuffer_Release(&frames);
    PyBuffer_Release(&base);
    PyBuffer_Release(&out);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *py_huffman(PyObject *module, PyObject *args) {
    Py_buffer data;
    Worker worker;
    PyObject *made = NULL;
    size_t size = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    if (!zstd.bound)
        PyErr_SetString(PyExc_ValueError, "this machine has no libzstd");
    else if (hire(&worker, zstd.bound((size_t)data.len), 0, 1)) {
        Py_BEGIN_ALLOW_THREADS;
        size = zstd.compress(worker.writer, worker.scratch, worker.room, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS;
        if (zstd.is_error(size))
            PyErr_SetString(PyExc_ValueError, "libzstd cannot compress this");
        else
            made = PyBytes_FromStringAndSize((const char *)worker.scratch, (Py_ssize_t)size);
        dismiss(worker);
    }
    PyBuffer_Release(&data);
    return made;
}

/* Fills `messages` with what objects hold and returns how many were opened; fewer than `count` with
 * an exception. */
static Py_ssize_t open_messages(PyObject *given, Py_ssize_t count, Py_buffer *views,
                                Message *messages, uint8_t *digests) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(given, i), &views[i], PyBUF_SIMPLE) < 0)
            return i;
        messages[i] = (Message){views[i].buf, (size_t)views[i].len, digests + 32 * i};
    }
    return count;
}

static PyObject *py_sha256(PyObject *module, PyObject *args) {
    PyObject *given, *made = NULL;
    int width;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!i", &PyTuple_Type, &given, &width))
        return NULL;
    Kernel *kernel = kernel_of(width);
    if (!kernel)
        return PyErr_Format(PyExc_ValueError, "this machine has no %d lanes", width);
    Py_ssize_t count = PyTuple_Size(given), opened = 0;
    Py_buffer *views = PyMem_Calloc((size_t)count + 1, sizeof *views);
    Message *messages = PyMem_Calloc((size_t)count + 1, sizeof *messages);
    if (!views || !messages)
        PyErr_NoMemory();
    else if ((made = PyBytes_FromStringAndSize(NULL, 32 * count))) {
        uint8_t *digests = (uint8_t *)PyBytes_AsString(made);
        opened = open_messages(given, count, views, messages, digests);
        if (opened == count) {
            Py_BEGIN_ALLOW_THREADS;
            hash_messages(kernel, width, messages, (size_t)count);
            Py_END_ALLOW_THREADS;
        } else
            Py_CLEAR(made);
    }
    while (opened)
        PyBuffer_Release(&views[--opened]);
    PyMem_Free(views);
    PyMem_Free(messages);
    return made;
}

static PyMethodDef methods[] = {
    {"split", py_split, METH_VARARGS, "split(data, width, kind, base, out): numbers to planes"},
    {"join", py_join, METH_VARARGS, "join(frames, lengths, kind, base, out): planes to numbers"},
    {"huffman", py_huffman, METH_VARARGS, "huffman(data): a frame of literals"},
    {"sha256", py_sha256, METH_VARARGS, "sha256(messages, lanes): their digests, joined"},
    {NULL, NULL, 0, NULL},
};

/* LIBZSTD says whether join reads frames; without it they must be given as what they hold. HUFFMAN
 * says whether frames of literals can be written. LANES is how many messages sha256 can take at
 * once, SHA whether the processor hashes one by instructions of its own.
 * CALLS is raised with every change of how the functions are called: a build that is older than
 * the Python beside it is not used. */
static int fill(PyObject *module) {
    int found = find_zstd();
    void *writer = found ? new_writer() : NULL;
    if (writer)
        zstd.drop_writer(writer);
    if (PyModule_AddIntConstant(module, "CALLS", 2) < 0 ||
        PyModule_AddIntConstant(module, "LIBZSTD", found) < 0)
        return -1;
    if (PyModule_AddIntConstant(module, "LANES", kernel_of(16) ? 16 : kernel_of(8) ? 8 : 0) < 0 ||
        PyModule_AddIntConstant(module, "SHA", has_sha_instructions()) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "HUFFMAN", writer != NULL);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_native", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__native(void) {
    const uint16_t one = 1;
    if (!*(const uint8_t *)&one) {
        PyErr_SetString(PyExc_ImportError, "numbers of this machine are big-endian");
        return NULL;
    }
    return PyModuleDef_Init(&definition);
}
