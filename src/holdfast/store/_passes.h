/* Numbers into byte planes and back; the page docs/format/coded.md says what is computed, planes.py
 * does it with numpy. Callers have compared all lengths: data, base and planes hold n numbers.
 * Numbers are little-endian and lie at any address, hence memcpy, which costs nothing. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BYTES, FLOAT, DIFFERENCE, SORTED, KINDS };
enum { MOST_WIDTH = 8, BLOCK = 4096, MOST_KEYS = 1 << 12 };

/* A plane: its bytes, or none, and then the byte that all of them are. */
typedef struct {
    const uint8_t *bytes;
    uint8_t same;
} Plane;

/* SIGN is all ones for a negative number. ORDERED maps bit patterns of floats to integers in the
 * floats' order and is its own inverse. OUTWARD negates what stands beside a negative base and is
 * its own inverse, too. The loops have no branch, since `turn` and `outward` are known where these
 * are called, and become vector code. */
#define SIGN(B, v) ((uint##B##_t)((int##B##_t)(v) >> (B - 1)))
#define ORDERED(B, v) ((uint##B##_t)((v) ^ (SIGN(B, v) >> 1)))
#define OUTWARD(B, d, b) ((uint##B##_t)(((d) ^ SIGN(B, b)) - SIGN(B, b)))
#define PASSES(B)                                                                                  \
    static inline void split##B(int turn, const uint8_t *data, size_t n, uint8_t *restrict out) {  \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v;                                                                         \
            memcpy(&v, data + i * sizeof v, sizeof v);                                             \
            if (turn)                                                                              \
                v = (uint##B##_t)((v << 1) | (v >> (B - 1)));                                      \
            for (size_t place = 0; place < sizeof v; place++)                                      \
                out[place * n + i] = (uint8_t)(v >> (8 * place));                                  \
        }                                                                                          \
    }                                                                                              \
    static inline void join##B(int turn, const uint8_t *const *planes, size_t n,                   \
                               uint8_t *restrict out) {                                            \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v = 0;                                                                     \
            for (size_t place = 0; place < sizeof v; place++)                                      \
                v = (uint##B##_t)(v | (uint##B##_t)planes[place][i] << (8 * place));               \
            if (turn)                                                                              \
                v = (uint##B##_t)((v >> 1) | (v << (B - 1)));                                      \
            memcpy(out + i * sizeof v, &v, sizeof v);                                              \
        }                                                                                          \
    }                                                                                              \
    static inline void subtract##B(int outward, const uint8_t *data, const uint8_t *base,          \
                                   size_t n, uint8_t *restrict out) {                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v, b;                                                                      \
            memcpy(&v, data + i * sizeof v, sizeof v);                                             \
            memcpy(&b, base + i * sizeof b, sizeof b);                                             \
            v = (uint##B##_t)(ORDERED(B, v) - ORDERED(B, b));                                      \
            if (outward)                                                                           \
                v = OUTWARD(B, v, b);                                                              \
            v = (uint##B##_t)((v << 1) ^ SIGN(B, v));                                              \
            memcpy(out + i * sizeof v, &v, sizeof v);                                              \
        }                                                                                          \
    }                                                                                              \
    static inline void add##B(int outward, const uint8_t *restrict base, size_t n,                 \
                              uint8_t *restrict out) {                                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v, b;                                                                      \
            memcpy(&v, out + i * sizeof v, sizeof v);                                              \
            memcpy(&b, base + i * sizeof b, sizeof b);                                             \
            v = (uint##B##_t)((v >> 1) ^ (0 - (v & 1)));                                           \
            if (outward)                                                                           \
                v = OUTWARD(B, v, b);                                                              \
            v = (uint##B##_t)(v + ORDERED(B, b));                                                  \
            v = ORDERED(B, v);                                                                     \
            memcpy(out + i * sizeof v, &v, sizeof v);                                              \
        }                                                                                          \
    }
PASSES(8)
PASSES(16)
PASSES(32)
PASSES(64)

#define FOR_WIDTH(pass, width, ...)                                                                \
    ((width) == 1   ? pass##8(__VA_ARGS__)                                                         \
     : (width) == 2 ? pass##16(__VA_ARGS__)                                                        \
     : (width) == 4 ? pass##32(__VA_ARGS__)                                                        \
                    : pass##64(__VA_ARGS__))
/* As FOR_WIDTH for a pass whose first argument is a truth that it wants to know beforehand. */
#define KNOWING(pass, width, truth, ...)                                                           \
    ((truth) ? FOR_WIDTH(pass, width, 1, __VA_ARGS__) : FOR_WIDTH(pass, width, 0, __VA_ARGS__))

/* Returns the bits of a base's number behind its sign by which its differences are sorted. */
static inline size_t key(size_t width, const uint8_t *base, size_t i) {
    const unsigned bits = width == 1 ? 7 : width == 2 ? 8 : width == 4 ? 10 : 12;
    uint64_t b = 0;
    memcpy(&b, base + i * width, width);
    return (size_t)(b >> (8 * width - 1 - bits)) & (((size_t)1 << bits) - 1);
}

/* Moves numbers to the order of their base's keys, or back. A mapped base may change between the two
 * passes over it; then all is wrong, and the digest says so, but no place may be beyond the last. */
static inline __attribute__((always_inline)) void move(size_t width, int back, const uint8_t *from,
                                                       const uint8_t *base, size_t n,
                                                       uint8_t *restrict to) {
    uint32_t next[MOST_KEYS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++)
        next[key(width, base, i)]++;
    for (size_t k = 0; k < MOST_KEYS; k++) {
        uint32_t count = next[k];
        next[k] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++) {
        size_t place = next[key(width, base, i)]++;
        place = place < n ? place : n - 1;
        memcpy(to + (back ? i : place) * width, from + (back ? place : i) * width, width);
    }
}
#define move8(back, ...) move(1, back, __VA_ARGS__)
#define move16(back, ...) move(2, back, __VA_ARGS__)
#define move32(back, ...) move(4, back, __VA_ARGS__)
#define move64(back, ...) move(8, back, __VA_ARGS__)

/* `room` is for n numbers where there is a base. */
static void split_numbers(size_t width, int kind, const uint8_t *data, const uint8_t *base,
                          size_t n, uint8_t *out, uint8_t *room) {
    if (kind == SORTED) {
        KNOWING(subtract, width, 1, data, base, n, out);
        KNOWING(move, width, 0, out, base, n, room);
        data = room;
    } else if (kind == DIFFERENCE) {
        KNOWING(subtract, width, 0, data, base, n, room);
        data = room;
    }
    KNOWING(split, width, kind == FLOAT, data, n, out);
}

/* Goes by blocks, so that a plane of equal bytes needs no more than one block of them, and what was
 * written is still near when the base is added. `room` is for n numbers that are to be sorted. */
static void join_planes(size_t width, int kind, const Plane *planes, const uint8_t *base, size_t n,
                        uint8_t *out, uint8_t *room) {
    uint8_t equal[MOST_WIDTH][BLOCK];
    const uint8_t *at[MOST_WIDTH];
    for (size_t place = 0; place < width; place++)
        if (!planes[place].bytes)
            memset(equal[place], planes[place].same, BLOCK);
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        uint8_t *to = (kind == SORTED ? room : out) + start * width;
        for (size_t place = 0; place < width; place++)
            at[place] = planes[place].bytes ? planes[place].bytes + start : equal[place];
        KNOWING(join, width, kind == FLOAT, at, count, to);
        if (kind == DIFFERENCE)
            KNOWING(add, width, 0, base + start * width, count, to);
    }
    if (kind == SORTED) {
        KNOWING(move, width, 1, room, base, n, out);
        KNOWING(add, width, 1, base, n, out);
    }
}
