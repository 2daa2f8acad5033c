/* SHA-256 of LANES messages at once, one in each 32-bit lane of a vector; _sha256.h includes this
 * once for each kind of vector and says what its operations are. Sources: of the method S. Gueron
 * and V. Krasnov, "Simultaneous hashing of multiple messages" (2012); of the function FIPS 180-4,
 * section 6.2.
 */
#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)
#define V NAMED(Vector, LANES)
typedef uint32_t V __attribute__((vector_size(4 * LANES)));

#define BIG_SIGMA(x, p, q, r) XOR3(ROTATED(x, p), ROTATED(x, q), ROTATED(x, r))
#define SMALL_SIGMA(x, p, q, r) XOR3(ROTATED(x, p), ROTATED(x, q), (x) >> (r))
#define ROUND(a, b, c, d, e, f, g, h, i)                                         \
    do {                                                                         \
        h += BIG_SIGMA(e, 6, 11, 25) + CHOSEN(e, f, g);                          \
        h += w[i] + round_constants[at + i];                                     \
        d += h;                                                                  \
        h += BIG_SIGMA(a, 2, 13, 22) + MAJORITY(a, b, c);                        \
    } while (0)
#define EIGHT_ROUNDS(i)                       \
    do {                                      \
        ROUND(a, b, c, d, e, f, g, h, i);     \
        ROUND(h, a, b, c, d, e, f, g, i + 1); \
        ROUND(g, h, a, b, c, d, e, f, i + 2); \
        ROUND(f, g, h, a, b, c, d, e, i + 3); \
        ROUND(e, f, g, h, a, b, c, d, i + 4); \
        ROUND(d, e, f, g, h, a, b, c, i + 5); \
        ROUND(c, d, e, f, g, h, a, b, i + 6); \
        ROUND(b, c, d, e, f, g, h, a, i + 7); \
    } while (0)
#define NEXT(i) \
    w[i] += SMALL_SIGMA(w[(i + 14) & 15], 17, 19, 10) + w[(i + 9) & 15] + \
            SMALL_SIGMA(w[(i + 1) & 15], 7, 18, 3)
#define FOUR_NEXT(i) NEXT(i); NEXT(i + 1); NEXT(i + 2); NEXT(i + 3)

/* Takes whole blocks of each message into its state: word i of lane j is state[i * LANES + j]. */
__attribute__((target(TARGET))) static void KERNEL(uint32_t *state, const uint8_t *const *messages,
                                                   size_t blocks) {
    V kept[8], w[16];
    memcpy(kept, state, sizeof kept);
    for (size_t done = 0; done < blocks; done++) {
        for (int half = 0; half < 16; half += LANES) {
            V *rows = w + half;
            for (int lane = 0; lane < LANES; lane++)
                memcpy(&rows[lane], messages[lane] + 64 * done + 4 * half, sizeof(V));
            /* Interleaving halves of the rows as often as a row's length halves transposes them. */
            for (int size = 1; size < LANES; size *= 2) {
                V mixed[LANES];
                for (int i = 0; i < LANES / 2; i++)
                    INTERLEAVE(mixed[2 * i], mixed[2 * i + 1], rows[i], rows[i + LANES / 2]);
                memcpy(rows, mixed, sizeof mixed);
            }
            for (int row = 0; row < LANES; row++)
                rows[row] = TURNED(rows[row]);
        }
        V a = kept[0], b = kept[1], c = kept[2], d = kept[3];
        V e = kept[4], f = kept[5], g = kept[6], h = kept[7];
        for (int at = 0;; at += 16) {
            EIGHT_ROUNDS(0);
            EIGHT_ROUNDS(8);
            if (at == 48)
                break;
            FOUR_NEXT(0);
            FOUR_NEXT(4);
            FOUR_NEXT(8);
            FOUR_NEXT(12);
        }
        kept[0] += a, kept[1] += b, kept[2] += c, kept[3] += d;
        kept[4] += e, kept[5] += f, kept[6] += g, kept[7] += h;
    }
    memcpy(state, kept, sizeof kept);
}

#undef BIG_SIGMA
#undef SMALL_SIGMA
#undef ROUND
#undef EIGHT_ROUNDS
#undef NEXT
#undef FOUR_NEXT
#undef KERNEL
#undef TARGET
#undef V
#undef LANES
#undef JOINED
#undef NAMED
#undef TERNARY
#undef ROTATED
#undef XOR3
#undef CHOSEN
#undef MAJORITY
#undef INTERLEAVE
#undef TURNED
