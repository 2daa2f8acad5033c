/* SHA-256 of many messages at once, for processors with wide vectors but no instructions for it.
 *
 * Where a processor has such instructions, one message at a time is as fast; hashlib does that.
 */
#include <stdint.h>
#include <string.h>

enum { MOST_LANES = 16 };

/* Takes whole blocks of each message into its state. */
typedef void Kernel(uint32_t *state, const uint8_t *const *messages, size_t blocks);

static const uint32_t first_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define ORDER_TURNED _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)

#define KERNEL sixteen_lanes
#define TARGET "avx512f,avx512bw"
#define LANES 16
#define TERNARY(x, y, z, table) \
    ((V)_mm512_ternarylogic_epi32((__m512i)(x), (__m512i)(y), (__m512i)(z), table))
#define XOR3(x, y, z) TERNARY(x, y, z, 0x96)
#define CHOSEN(x, y, z) TERNARY(x, y, z, 0xCA)
#define MAJORITY(x, y, z) TERNARY(x, y, z, 0xE8)
#define ROTATED(x, n) ((V)_mm512_ror_epi32((__m512i)(x), n))
#define PICKED(x, order, y) \
    ((V)_mm512_permutex2var_epi32((__m512i)(x), _mm512_setr_epi32 order, (__m512i)(y)))
#define LOW (0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH (8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define INTERLEAVE(low, high, x, y) (low = PICKED(x, LOW, y), high = PICKED(x, HIGH, y))
#define TURNED(x) ((V)_mm512_shuffle_epi8((__m512i)(x), _mm512_broadcast_i32x4(ORDER_TURNED)))
#include "_lanes.h"

#define KERNEL eight_lanes
#define TARGET "avx2"
#define LANES 8
#define XOR3(x, y, z) ((x) ^ (y) ^ (z))
#define CHOSEN(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJORITY(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))
#define ROTATED(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define INTERLEAVE(low, high, x, y)                                            \
    do {                                                                       \
        __m256i even = _mm256_unpacklo_epi32((__m256i)(x), (__m256i)(y));      \
        __m256i odd = _mm256_unpackhi_epi32((__m256i)(x), (__m256i)(y));       \
        low = (V)_mm256_permute2x128_si256(even, odd, 0x20);                   \
        high = (V)_mm256_permute2x128_si256(even, odd, 0x31);                  \
    } while (0)
#define TURNED(x) \
    ((V)_mm256_shuffle_epi8((__m256i)(x), _mm256_broadcastsi128_si256(ORDER_TURNED)))
#include "_lanes.h"

/* Returns what takes so many messages at once, NULL where this processor has no such vectors. */
static Kernel *kernel_of(int width) {
    __builtin_cpu_init();
    if (width == 16 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return sixteen_lanes;
    return width == 8 && __builtin_cpu_supports("avx2") ? eight_lanes : NULL;
}

static int has_sha_instructions(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#else
static Kernel *kernel_of(int width) {
    (void)width;
    return NULL;
}

static int has_sha_instructions(void) {
    return 0;
}
#endif

/* A message on its way through a lane: what is left of its whole blocks, then its padded end. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
    uint8_t *digest;
} Message;
typedef struct {
    Message message;
    const uint8_t *at;
    size_t blocks;
    int padded, busy;
    uint8_t end[128];
} Lane;

static void pad(Lane *lane) {
    size_t rest = lane->message.size % 64;
    uint64_t bits = (uint64_t)lane->message.size * 8;
    memset(lane->end, 0, sizeof lane->end);
    if (rest)
        memcpy(lane->end, lane->message.bytes + (lane->message.size - rest), rest);
    lane->end[rest] = 0x80;
    lane->at = lane->end;
    lane->blocks = rest < 56 ? 1 : 2;
    lane->padded = 1;
    for (size_t place = 0; place < 8; place++)
        lane->end[64 * lane->blocks - 1 - place] = (uint8_t)(bits >> 8 * place);
}

static void begin(Lane *lane, Message message, uint32_t *state, int width) {
    for (int word = 0; word < 8; word++)
        state[word * width] = first_state[word];
    lane->message = message;
    lane->at = message.bytes;
    lane->blocks = message.size / 64;
    lane->padded = 0;
    lane->busy = 1;
    if (!lane->blocks)
        pad(lane);
}

static void tell(const uint32_t *state, int width, uint8_t *digest) {
    for (int place = 0; place < 32; place++)
        digest[place] = (uint8_t)(state[place / 4 * width] >> (24 - place % 4 * 8));
}

/* Hashes messages; a lane whose message has ended takes the next one. Word i of the state of lane
 * j is state[i * width + j]. A lane without a message goes along with one that has, for nothing. */
static void hash_messages(Kernel *kernel, int width, const Message *messages, size_t count) {
    Lane lanes[MOST_LANES];
    uint32_t state[8 * MOST_LANES] = {0};
    size_t next = 0;
    memset(lanes, 0, sizeof lanes);
    for (;;) {
        const uint8_t *places[MOST_LANES];
        const Lane *some = NULL;
        size_t blocks = SIZE_MAX;
        for (int i = 0; i < width; i++) {
            if (!lanes[i].busy && next < count)
                begin(&lanes[i], messages[next++], state + i, width);
            if (lanes[i].busy && lanes[i].blocks < blocks) {
                some = &lanes[i];
                blocks = some->blocks;
            }
        }
        if (!some)
            return;
        for (int i = 0; i < width; i++)
            places[i] = lanes[i].busy ? lanes[i].at : some->at;
        kernel(state, places, blocks);
        for (int i = 0; i < width; i++) {
            lanes[i].at = places[i] + 64 * blocks;
            lanes[i].blocks -= lanes[i].busy ? blocks : 0;
            if (!lanes[i].busy || lanes[i].blocks)
                continue;
            if (!lanes[i].padded)
                pad(&lanes[i]);
            else {
                tell(state + i, width, lanes[i].message.digest);
                lanes[i].busy = 0;
            }
        }
    }
}
