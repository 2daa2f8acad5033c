/* A numpy allocator that ends each array at a page nobody may read.

   A read past an array's end is then a crash at the very place, not a wrong number nobody sees.
   Importing the module puts the allocator into force for arrays made from then on (NEP 49). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include <sys/mman.h>
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

#define PAGE 4096UL
#define FILLED 65536UL /* what malloc leaves is made to look like no number in larger arrays */

typedef struct {
    size_t mapped, size;
} Head; /* at the start of the page before an array's first one */

static Head *head(void *array) { return (Head *)(((size_t)array & ~(PAGE - 1)) - PAGE); }

static void *guarded(size_t size) {
    size_t used = size ? (size + 15) & ~15UL : 16;
    size_t pages = (used + PAGE - 1) / PAGE, mapped = (pages + 2) * PAGE;
    char *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    char *end = start + (pages + 1) * PAGE;
    if (mprotect(end, PAGE, PROT_NONE)) {
        munmap(start, mapped);
        return NULL;
    }
    ((Head *)start)->mapped = mapped;
    ((Head *)start)->size = size;
    return end - used;
}

static void *guard_malloc(void *unused, size_t size) {
    void *array = guarded(size);
    if (array && size < FILLED) memset(array, 0xA5, size);
    return array;
}

static void *guard_calloc(void *unused, size_t count, size_t size) {
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : guarded(total);
}

static void guard_free(void *unused, void *array, size_t size) {
    if (array) munmap(head(array), head(array)->mapped);
}

static void *guard_realloc(void *unused, void *array, size_t size) {
    void *moved = guarded(size);
    if (!moved) return NULL;
    if (array) {
        size_t before = head(array)->size;
        memcpy(moved, array, before < size ? before : size);
        guard_free(NULL, array, before);
    }
    return moved;
}

static PyDataMem_Handler handler = {
    "guard", 1, {NULL, guard_malloc, guard_calloc, guard_realloc, guard_free}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "guard", NULL, -1, NULL};

PyMODINIT_FUNC PyInit_guard(void) {
    import_array();
    PyObject *module = PyModule_Create(&definition);
    PyObject *capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    PyObject *before = PyDataMem_SetHandler(capsule);
    Py_XDECREF(before);
    Py_DECREF(capsule);
    return module;
}
