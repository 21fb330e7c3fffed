/* pack_rows.h: rows of a quantised format straight into a panel. A template for pack_avx2.c (8 rows
 * at a time) and pack_avx512.c (16).
 *
 * The bytes are turned first and taken apart afterwards, so that the turning moves half a byte per
 * weight and not a whole one. 16 bytes of each row, four words, become four vectors that hold one
 * word of every row:
 *
 *     row 0   a0 a1 a2 a3          a0 b0 c0 ..   -> lo: step s,     hi: step s'
 *     row 1   b0 b1 b2 b3    ->    a1 b1 c1 ..   -> lo: step s + 1, hi: step s' + 1
 *     row 2   c0 c1 c2 c3          a2 b2 c2 ..
 *     ...                          a3 b3 c3 ..
 *
 * where a step is four consecutive elements of all rows (gemm_tile.h).
 *
 * Included after `vec`, ROWS, turn_vectors and the vec_ functions used here are defined.
 */
#pragma once

#include <string.h>
#include "kernels/cpu/k_scales.h"
#include "tensor/blocks.h"

enum { STEP = GM_TILE_ROWS * 4 /* bytes */ };

typedef struct {
    vec v[4];
} quad;

INLINE quad turn(const uint8_t *p, size_t stride) {
    quad a;
    turn_vectors(p, stride, a.v);
    return a;
}

INLINE void put(uint8_t *q, int step, vec v) { vec_store(q + step * STEP, v); }

INLINE vec low(vec v) { return vec_and(v, vec_bytes(15)); }
INLINE vec high(vec v) { return low(vec_shift_right(v, 4)); }

/* 16 bytes of each row from p on: low nibbles to four steps from lo on, high ones from hi on. */
INLINE void put_nibbles(const uint8_t *p, size_t stride, uint8_t *q, int lo, int hi) {
    const quad a = turn(p, stride);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put(q, lo + i, low(a.v[i]));
        put(q, hi + i, high(a.v[i]));
    }
}

/* The same through the table of IQ4, plus 128. */
INLINE void put_iq4(const uint8_t *p, size_t stride, uint8_t *q, int lo, int hi) {
    const quad a = turn(p, stride);
    const vec table = vec_xor(vec_repeat16(gm_iq4_values), vec_bytes(0x80));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put(q, lo + i, vec_look_up(table, low(a.v[i])));
        put(q, hi + i, vec_look_up(table, high(a.v[i])));
    }
}

/* n columns of scales, which lie as 16 floats per row in f, to scale + column * GM_TILE_ROWS. */
INLINE void put_floats(const float *f, int n, float *scale) {
    for (int c = 0; c < n; c += 4) {
        const quad a = turn((const uint8_t *)(f + c), 16 * sizeof *f);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) vec_store((uint8_t *)(scale + (c + i) * GM_TILE_ROWS), a.v[i]);
    }
}

/* The half floats that n blocks of each row begin with. Collected first and widened later: a wide
 * load right after the narrow stores that it covers would wait for each of them. */
INLINE void put_halves(const uint8_t *w, size_t stride, size_t block, int n, float *scale) {
    uint16_t d[GM_TILE_K / 32][ROWS];
    for (int b = 0; b < n; b++)
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
            memcpy(&d[b][r], w + (size_t)r * stride + (size_t)b * block, 2);
    for (int b = 0; b < n; b++) vec_store_halves(scale + b * GM_TILE_ROWS, d[b]);
}

/* f[j] = d * b[j] for 16 signed bytes. */
INLINE void scaled_bytes(float *f, const void *b, float d) {
    const __m128i v = _mm_loadu_si128(b);
    const __m256 k = _mm256_set1_ps(d);
    const __m256i lo = _mm256_cvtepi8_epi32(v), hi = _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8));
    _mm256_storeu_ps(f, _mm256_mul_ps(k, _mm256_cvtepi32_ps(lo)));
    _mm256_storeu_ps(f + 8, _mm256_mul_ps(k, _mm256_cvtepi32_ps(hi)));
}

/* Of Q4_K and Q5_K (whose heads are the same): 8 scales, then 8 minima. */
INLINE void k_scales(float *f, const gm_block_q4_k *b) {
    const gm_k_scales six = gm_k_scales_read(b->sc);
    scaled_bytes(f, &six, 1.0f);
    _mm256_storeu_ps(f, _mm256_mul_ps(_mm256_loadu_ps(f), _mm256_set1_ps(_cvtsh_ss(b->d))));
    _mm256_storeu_ps(f + 8,
                     _mm256_mul_ps(_mm256_loadu_ps(f + 8), _mm256_set1_ps(-_cvtsh_ss(b->dmin))));
}

#define PACK_ARGS                                                                                  \
    const uint8_t *w, size_t row_bytes, int k0, int kc, uint8_t *q, float *scale, float *min

/* w moves along the row, block by block; q and scale along the panel. */

INLINE void rows_q4_0(PACK_ARGS) {
    (void)min;
    w += (size_t)(k0 / 32) * sizeof(gm_block_q4_0);
    put_halves(w, row_bytes, sizeof(gm_block_q4_0), kc / 32, scale);
    for (int b = 0; b < kc / 32; b++, w += sizeof(gm_block_q4_0))
        put_nibbles(w + 2, row_bytes, q, 8 * b, 8 * b + 4);
}

INLINE void rows_iq4_nl(PACK_ARGS) {
    (void)min;
    w += (size_t)(k0 / 32) * sizeof(gm_block_iq4_nl);
    put_halves(w, row_bytes, sizeof(gm_block_iq4_nl), kc / 32, scale);
    for (int b = 0; b < kc / 32; b++, w += sizeof(gm_block_iq4_nl))
        put_iq4(w + 2, row_bytes, q, 8 * b, 8 * b + 4);
}

INLINE void rows_q8_0(PACK_ARGS) {
    (void)min;
    w += (size_t)(k0 / 32) * sizeof(gm_block_q8_0);
    put_halves(w, row_bytes, sizeof(gm_block_q8_0), kc / 32, scale);
    for (int b = 0; b < kc / 32; b++, w += sizeof(gm_block_q8_0)) {
        for (int h = 0; h < 2; h++) {
            const quad a = turn(w + 2 + 16 * h, row_bytes);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) put(q, 8 * b + 4 * h + i, vec_xor(a.v[i], vec_bytes(0x80)));
        }
    }
}

INLINE void rows_iq4_xs(PACK_ARGS) {
    (void)min;
    w += (size_t)(k0 / 256) * sizeof(gm_block_iq4_xs);
    for (int s = 0; s < kc / 256; s++, w += sizeof(gm_block_iq4_xs), q += 64 * STEP) {
        float f[ROWS][16];
        for (int r = 0; r < ROWS; r++) {
            const gm_block_iq4_xs *b = (const gm_block_iq4_xs *)(w + (size_t)r * row_bytes);
            const float d = _cvtsh_ss(b->d);
            for (int g = 0; g < 8; g++) f[r][g] = d * (float)gm_iq4_xs_scale(b, g);
        }
        put_floats(f[0], 8, scale + 8 * s * GM_TILE_ROWS);
        for (int g = 0; g < 8; g++)
            put_iq4(w + offsetof(gm_block_iq4_xs, q) + 16 * g, row_bytes, q, 8 * g, 8 * g + 4);
    }
}

INLINE void k_scales_of_rows(const uint8_t *w, size_t row_bytes, float *scale, float *min) {
    float f[ROWS][16];
    for (int r = 0; r < ROWS; r++)
        k_scales(f[r], (const gm_block_q4_k *)(w + (size_t)r * row_bytes));
    put_floats(f[0], 8, scale);
    put_floats(f[0] + 8, 8, min);
}

INLINE void rows_q4_k(PACK_ARGS) {
    w += (size_t)(k0 / 256) * sizeof(gm_block_q4_k);
    for (int s = 0; s < kc / 256; s++, w += sizeof(gm_block_q4_k), q += 64 * STEP) {
        k_scales_of_rows(w, row_bytes, scale + 8 * s * GM_TILE_ROWS, min + 8 * s * GM_TILE_ROWS);
        for (int p = 0; p < 8; p++) {
            int step = 16 * (p / 2) + 4 * (p % 2);
            put_nibbles(w + offsetof(gm_block_q4_k, q) + 16 * p, row_bytes, q, step, step + 8);
        }
    }
}

INLINE void rows_q5_k(PACK_ARGS) {
    w += (size_t)(k0 / 256) * sizeof(gm_block_q5_k);
    for (int s = 0; s < kc / 256; s++, w += sizeof(gm_block_q5_k), q += 64 * STEP) {
        k_scales_of_rows(w, row_bytes, scale + 8 * s * GM_TILE_ROWS, min + 8 * s * GM_TILE_ROWS);
        for (int half = 0; half < 2; half++) {
            quad h = turn(w + offsetof(gm_block_q5_k, qh) + 16 * half, row_bytes);
            for (int j = 0; j < 4; j++) {
                const quad a = turn(w + offsetof(gm_block_q5_k, q) + 32 * j + 16 * half, row_bytes);
                const vec one = vec_bytes(1);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    const vec h0 = vec_shift_left(vec_and(h.v[i], one), 4);
                    const vec h1 = vec_shift_left(vec_and(vec_shift_right(h.v[i], 1), one), 4);
                    put(q, 16 * j + 4 * half + i, vec_or(low(a.v[i]), h0));
                    put(q, 16 * j + 4 * half + i + 8, vec_or(high(a.v[i]), h1));
                    h.v[i] = vec_shift_right(h.v[i], 2);
                }
            }
        }
    }
}

INLINE void rows_q6_k(PACK_ARGS) {
    (void)min;
    w += (size_t)(k0 / 256) * sizeof(gm_block_q6_k);
    for (int s = 0; s < kc / 256; s++, w += sizeof(gm_block_q6_k), q += 64 * STEP) {
        float f[ROWS][16];
        for (int r = 0; r < ROWS; r++) {
            const gm_block_q6_k *b = (const gm_block_q6_k *)(w + (size_t)r * row_bytes);
            scaled_bytes(f[r], b->sc, _cvtsh_ss(b->d));
        }
        put_floats(f[0], 16, scale + 16 * s * GM_TILE_ROWS);
        for (int part = 0; part < 4; part++) {
            int h = part / 2, half = part % 2;
            const quad two = turn(w + offsetof(gm_block_q6_k, qh) + 32 * h + 16 * half, row_bytes);
            const quad a = turn(w + 64 * h + 16 * half, row_bytes);
            const quad b = turn(w + 64 * h + 32 + 16 * half, row_bytes);
            const vec mask = vec_bytes(0x30);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                uint8_t *to = q + (32 * h + 4 * half + i) * STEP;
                const vec t = two.v[i];
                put(to, 0, vec_or(low(a.v[i]), vec_and(vec_shift_left(t, 4), mask)));
                put(to, 8, vec_or(low(b.v[i]), vec_and(vec_shift_left(t, 2), mask)));
                put(to, 16, vec_or(high(a.v[i]), vec_and(t, mask)));
                put(to, 24, vec_or(high(b.v[i]), vec_and(vec_shift_right(t, 2), mask)));
            }
        }
    }
}

/* All GM_TILE_PACK rows. */
#define PACK(NAME)                                                                                 \
    static void pack_##NAME(PACK_ARGS) {                                                           \
        for (int r = 0; r < GM_TILE_PACK; r += ROWS)                                               \
            rows_##NAME(w + (size_t)r * row_bytes, row_bytes, k0, kc, q + 4 * r, scale + r,        \
                        min + r);                                                                  \
    }

PACK(q4_0)
PACK(iq4_nl)
PACK(q8_0)
PACK(iq4_xs)
PACK(q4_k)
PACK(q5_k)
PACK(q6_k)

INLINE void fill_pack(gm_tile_fns *f) {
    f->pack[GM_Q4_0] = pack_q4_0;
    f->pack[GM_IQ4_NL] = pack_iq4_nl;
    f->pack[GM_Q8_0] = pack_q8_0;
    f->pack[GM_IQ4_XS] = pack_iq4_xs;
    f->pack[GM_Q4_K] = pack_q4_k;
    f->pack[GM_Q5_K] = pack_q5_k;
    f->pack[GM_Q6_K] = pack_q6_k;
}
