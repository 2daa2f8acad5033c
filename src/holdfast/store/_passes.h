/* Numbers into byte planes and back; the page docs/format/coded.md says what is computed, planes.py
 * does it with numpy. Callers have compared all lengths: data, base and planes hold n numbers.
 * Numbers are little-endian and lie at any address, hence memcpy, which costs nothing. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BYTES, FLOAT, DIFFERENCE, SORTED, KINDS };
enum { MOST_WIDTH = 8, BLOCK = 4096, MOST_KEYS = 1 << 12 };

#define INLINE static inline __attribute__((always_inline))

/* A plane: its bytes, or none, and then the byte that all of them are. */
typedef struct {
    const uint8_t *bytes;
    uint8_t same;
} Plane;

/* Bits behind the sign of a base's number by which its differences are sorted. */
#define KEY_BITS(B) ((B) == 8 ? 7 : (B) == 16 ? 8 : (B) == 32 ? 10 : 12)
/* SIGN is all ones for a negative number. ORDERED maps bit patterns of floats to integers in the
 * floats' order and is its own inverse. A difference that counts outwards is one to the base without
 * its sign, if the number's own is turned with it. The loops have no branch, since `turn` and
 * `outward` are known where these are called, and become vector code. */
#define SIGN(B, v) ((uint##B##_t)((int##B##_t)(v) >> (B - 1)))
#define ORDERED(B, v) ((uint##B##_t)((v) ^ (SIGN(B, v) >> 1)))
#define TOP(B, b) ((uint##B##_t)((b) & (uint##B##_t)1 << (B - 1)))
#define PASSES(B)                                                                                  \
    INLINE void split##B(int turn, const uint8_t *data, size_t n, uint8_t *restrict out) {  \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v;                                                                         \
            memcpy(&v, data + i * sizeof v, sizeof v);                                             \
            if (turn)                                                                              \
                v = (uint##B##_t)((v << 1) | (v >> (B - 1)));                                      \
            for (size_t place = 0; place < sizeof v; place++)                                      \
                out[place * n + i] = (uint8_t)(v >> (8 * place));                                  \
        }                                                                                          \
    }                                                                                              \
    INLINE void join##B(int turn, const uint8_t *const *planes, size_t n,                   \
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
    INLINE void subtract##B(int outward, const uint8_t *data, const uint8_t *base,          \
                                   size_t n, uint8_t *restrict out) {                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v, b;                                                                      \
            memcpy(&v, data + i * sizeof v, sizeof v);                                             \
            memcpy(&b, base + i * sizeof b, sizeof b);                                             \
            if (outward)                                                                           \
                v = (uint##B##_t)(ORDERED(B, v ^ TOP(B, b)) - (b ^ TOP(B, b)));                    \
            else                                                                                   \
                v = (uint##B##_t)(ORDERED(B, v) - ORDERED(B, b));                                  \
            v = (uint##B##_t)((v << 1) ^ SIGN(B, v));                                              \
            memcpy(out + i * sizeof v, &v, sizeof v);                                              \
        }                                                                                          \
    }                                                                                              \
    INLINE void add##B(int outward, const uint8_t *restrict base, size_t n,                 \
                              uint8_t *restrict out) {                                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t v, b;                                                                      \
            memcpy(&v, out + i * sizeof v, sizeof v);                                              \
            memcpy(&b, base + i * sizeof b, sizeof b);                                             \
            v = (uint##B##_t)((v >> 1) ^ (0 - (v & 1)));                                           \
            v = (uint##B##_t)(v + (outward ? b ^ TOP(B, b) : ORDERED(B, b)));                      \
            v = (uint##B##_t)(outward ? ORDERED(B, v) ^ TOP(B, b) : ORDERED(B, v));                \
            memcpy(out + i * sizeof v, &v, sizeof v);                                              \
        }                                                                                          \
    }                                                                                              \
    INLINE void keys##B(const uint8_t *base, size_t n, uint16_t *restrict keys) {           \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint##B##_t b;                                                                         \
            memcpy(&b, base + i * sizeof b, sizeof b);                                             \
            b = (uint##B##_t)(b << 1) >> (B - KEY_BITS(B));                                        \
            keys[i] = (uint16_t)b;                                                                 \
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

/* Writes the keys of a base, and for each of them the place of the first number that has it. */
INLINE void rank(size_t width, const uint8_t *base, size_t n,
                                                       uint16_t *keys, uint32_t *next) {
    uint32_t sum = 0;
    memset(next, 0, MOST_KEYS * sizeof *next);
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t end = n - start < BLOCK ? n : start + BLOCK;
        FOR_WIDTH(keys, width, base + start * width, end - start, keys + start);
        for (size_t i = start; i < end; i++)
            next[keys[i]]++;
    }
    for (size_t k = 0; k < MOST_KEYS; k++) {
        uint32_t count = next[k];
        next[k] = sum;
        sum += count;
    }
}

/* Moves numbers to the order of their keys, or back; `next` goes on with the numbers that follow. */
INLINE void move(size_t width, int back, const uint8_t *from,
                                                       const uint16_t *keys, size_t n,
                                                       uint8_t *restrict to, uint32_t *next) {
#pragma GCC unroll 4
    for (size_t i = 0; i < n; i++) {
        size_t place = next[keys[i]]++;
        memcpy(to + (back ? i : place) * width, from + (back ? place : i) * width, width);
    }
}
#define move8(back, ...) move(1, back, __VA_ARGS__)
#define move16(back, ...) move(2, back, __VA_ARGS__)
#define move32(back, ...) move(4, back, __VA_ARGS__)
#define move64(back, ...) move(8, back, __VA_ARGS__)

/* `room` is for n numbers where there is a base; `keys` as well where they are to be sorted. */
INLINE void split_by(size_t width, int kind, const uint8_t *data, const uint8_t *base,
                          size_t n, uint8_t *out, uint8_t *room, uint16_t *keys) {
    if (kind == SORTED) {
        uint32_t next[MOST_KEYS];
        rank(width, base, n, keys, next);
        for (size_t start = 0; start < n; start += BLOCK) {
            size_t count = n - start < BLOCK ? n - start : BLOCK, at = start * width;
            KNOWING(subtract, width, 1, data + at, base + at, count, out + at);
            KNOWING(move, width, 0, out + at, keys + start, count, room, next);
        }
        data = room;
    } else if (kind == DIFFERENCE) {
        KNOWING(subtract, width, 0, data, base, n, room);
        data = room;
    }
    KNOWING(split, width, kind == FLOAT, data, n, out);
}

/* Goes by blocks, so that a plane of equal bytes needs no more than one block of them, and what was
 * written is still near when the base is added. `room` and `keys` are for n numbers that are to be
 * sorted. */
INLINE void join_by(size_t width, int kind, const Plane *planes, const uint8_t *base, size_t n,
                        uint8_t *out, uint8_t *room, uint16_t *keys) {
    uint8_t equal[MOST_WIDTH][BLOCK];
    const uint8_t *at[MOST_WIDTH];
    uint32_t next[MOST_KEYS];
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
    if (kind != SORTED)
        return;
    rank(width, base, n, keys, next);
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        KNOWING(move, width, 1, room, keys + start, count, out + start * width, next);
        KNOWING(add, width, 1, base + start * width, count, out + start * width);
    }
}

/* The same for processors that have AVX2, whose vectors are twice as long as those of all x86-64.
 * Tests define NARROW to see what the others do. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(NARROW)
#define WIDER __attribute__((target("avx2")))
static int wider(void) { return __builtin_cpu_supports("avx2"); }
#else
#define WIDER
static int wider(void) { return 0; }
#endif
static WIDER void split_wider(size_t width, int kind, const uint8_t *data, const uint8_t *base,
                              size_t n, uint8_t *out, uint8_t *room, uint16_t *keys) {
    split_by(width, kind, data, base, n, out, room, keys);
}
static WIDER void join_wider(size_t width, int kind, const Plane *planes, const uint8_t *base,
                             size_t n, uint8_t *out, uint8_t *room, uint16_t *keys) {
    join_by(width, kind, planes, base, n, out, room, keys);
}
static void split_numbers(size_t width, int kind, const uint8_t *data, const uint8_t *base,
                          size_t n, uint8_t *out, uint8_t *room, uint16_t *keys) {
    if (wider())
        split_wider(width, kind, data, base, n, out, room, keys);
    else
        split_by(width, kind, data, base, n, out, room, keys);
}
static void join_planes(size_t width, int kind, const Plane *planes, const uint8_t *base, size_t n,
                        uint8_t *out, uint8_t *room, uint16_t *keys) {
    if (wider())
        join_wider(width, kind, planes, base, n, out, room, keys);
    else
        join_by(width, kind, planes, base, n, out, room, keys);
}
