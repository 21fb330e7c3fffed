/* attn_avx2.c: the two products of attention with 256-bit registers (AVX2, FMA).
 *
 * As attn_avx512.c, with tiles of 8 sums: 16 registers have to hold the operands too.
 */
#include <immintrin.h>
#include <stddef.h>
#include "kernels/cpu/attn.h"

enum { LANES = 8 };

/* The sums of the lanes of four vectors. */
static __m128 sums(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 ab = _mm256_hadd_ps(a, b), cd = _mm256_hadd_ps(c, d);
    __m256 v = _mm256_hadd_ps(ab, cd);
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

/* 2 rows of q against 4 keys. */
static void scores_tile(float *s, const float *q, const float *k, int d, size_t ld) {
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    __m256 b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (int i = 0; i < d; i += LANES) {
        __m256 qa = _mm256_loadu_ps(q + i), qb = _mm256_loadu_ps(q + ld + i);
        __m256 k0 = _mm256_loadu_ps(k + i), k1 = _mm256_loadu_ps(k + ld + i);
        a0 = _mm256_fmadd_ps(qa, k0, a0);
        b0 = _mm256_fmadd_ps(qb, k0, b0);
        a1 = _mm256_fmadd_ps(qa, k1, a1);
        b1 = _mm256_fmadd_ps(qb, k1, b1);
        __m256 k2 = _mm256_loadu_ps(k + 2 * ld + i), k3 = _mm256_loadu_ps(k + 3 * ld + i);
        a2 = _mm256_fmadd_ps(qa, k2, a2);
        b2 = _mm256_fmadd_ps(qb, k2, b2);
        a3 = _mm256_fmadd_ps(qa, k3, a3);
        b3 = _mm256_fmadd_ps(qb, k3, b3);
    }
    _mm_storeu_ps(s, sums(a0, a1, a2, a3));
    _mm_storeu_ps(s + GM_ATTN_KEYS, sums(b0, b1, b2, b3));
}

static void scores_avx2(float *s, const float *q, const float *k, int n_q, int n_k, int d, int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += 2)
            scores_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row, k + (size_t)j * row,
                        d, row);
}

/* 4 rows by 16 columns of o. */
static void mix_tile(float *o, const float *s, const float *v, int n_k, size_t ld) {
    __m256 a0 = _mm256_loadu_ps(o), a1 = _mm256_loadu_ps(o + LANES);
    __m256 b0 = _mm256_loadu_ps(o + ld), b1 = _mm256_loadu_ps(o + ld + LANES);
    __m256 c0 = _mm256_loadu_ps(o + 2 * ld), c1 = _mm256_loadu_ps(o + 2 * ld + LANES);
    __m256 d0 = _mm256_loadu_ps(o + 3 * ld), d1 = _mm256_loadu_ps(o + 3 * ld + LANES);
    for (int j = 0; j < n_k; j++, v += ld) {
        __m256 v0 = _mm256_loadu_ps(v), v1 = _mm256_loadu_ps(v + LANES);
        __m256 w = _mm256_broadcast_ss(s + j);
        a0 = _mm256_fmadd_ps(w, v0, a0);
        a1 = _mm256_fmadd_ps(w, v1, a1);
        w = _mm256_broadcast_ss(s + GM_ATTN_KEYS + j);
        b0 = _mm256_fmadd_ps(w, v0, b0);
        b1 = _mm256_fmadd_ps(w, v1, b1);
        w = _mm256_broadcast_ss(s + 2 * GM_ATTN_KEYS + j);
        c0 = _mm256_fmadd_ps(w, v0, c0);
        c1 = _mm256_fmadd_ps(w, v1, c1);
        w = _mm256_broadcast_ss(s + 3 * GM_ATTN_KEYS + j);
        d0 = _mm256_fmadd_ps(w, v0, d0);
        d1 = _mm256_fmadd_ps(w, v1, d1);
    }
    _mm256_storeu_ps(o, a0);
    _mm256_storeu_ps(o + LANES, a1);
    _mm256_storeu_ps(o + ld, b0);
    _mm256_storeu_ps(o + ld + LANES, b1);
    _mm256_storeu_ps(o + 2 * ld, c0);
    _mm256_storeu_ps(o + 2 * ld + LANES, c1);
    _mm256_storeu_ps(o + 3 * ld, d0);
    _mm256_storeu_ps(o + 3 * ld + LANES, d1);
}

/* A panel of v stays in the first-level cache while all rows pass. */
static void mix_avx2(float *o, const float *s, const float *v, int n_q, int n_k, int d, int ld) {
    size_t row = (size_t)ld;
    for (int x = 0; x < d; x += 2 * LANES)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            mix_tile(o + (size_t)i * row + x, s + (size_t)i * GM_ATTN_KEYS, v + x, n_k, row);
}

/* ---- straight from float16 --------------------------------------------------------------- */

static __m256 halves(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* 2 rows of q against 4 keys, as scores_tile. */
static void scores_f16_tile(float *s, const float *q, gm_attn_quad k, int d, size_t ld) {
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    __m256 b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (int i = 0; i < d; i += LANES) {
        __m256 qa = _mm256_loadu_ps(q + i), qb = _mm256_loadu_ps(q + ld + i);
        __m256 k0 = halves(k.row[0] + i), k1 = halves(k.row[1] + i);
        a0 = _mm256_fmadd_ps(qa, k0, a0);
        b0 = _mm256_fmadd_ps(qb, k0, b0);
        a1 = _mm256_fmadd_ps(qa, k1, a1);
        b1 = _mm256_fmadd_ps(qb, k1, b1);
        __m256 k2 = halves(k.row[2] + i), k3 = halves(k.row[3] + i);
        a2 = _mm256_fmadd_ps(qa, k2, a2);
        b2 = _mm256_fmadd_ps(qb, k2, b2);
        a3 = _mm256_fmadd_ps(qa, k3, a3);
        b3 = _mm256_fmadd_ps(qb, k3, b3);
    }
    _mm_storeu_ps(s, sums(a0, a1, a2, a3));
    _mm_storeu_ps(s + GM_ATTN_KEYS, sums(b0, b1, b2, b3));
}

static void scores_f16_avx2(float *s, const float *q, const uint16_t *k, int n_q, int n_k, int d,
                            int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += 2)
            scores_f16_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row,
                            gm_attn_quad_at(k, j, n_k, d), d, row);
}

/* Adds 4 values to 2 whole rows of o, weighted by wa and wb. Whole rows, because the cache is then
 * read in order; o is small and stays near. */
static void mix_f16_tile(float *o, const float wa[4], const float wb[4], gm_attn_quad v, int d,
                         size_t ld) {
    const __m256 a0 = _mm256_set1_ps(wa[0]), a1 = _mm256_set1_ps(wa[1]);
    const __m256 a2 = _mm256_set1_ps(wa[2]), a3 = _mm256_set1_ps(wa[3]);
    const __m256 b0 = _mm256_set1_ps(wb[0]), b1 = _mm256_set1_ps(wb[1]);
    const __m256 b2 = _mm256_set1_ps(wb[2]), b3 = _mm256_set1_ps(wb[3]);
    for (int x = 0; x < d; x += LANES) {
        __m256 v0 = halves(v.row[0] + x), v1 = halves(v.row[1] + x);
        __m256 oa = _mm256_fmadd_ps(a0, v0, _mm256_loadu_ps(o + x));
        __m256 ob = _mm256_fmadd_ps(b0, v0, _mm256_loadu_ps(o + ld + x));
        oa = _mm256_fmadd_ps(a1, v1, oa);
        ob = _mm256_fmadd_ps(b1, v1, ob);
        __m256 v2 = halves(v.row[2] + x), v3 = halves(v.row[3] + x);
        oa = _mm256_fmadd_ps(a2, v2, oa);
        ob = _mm256_fmadd_ps(b2, v2, ob);
        _mm256_storeu_ps(o + x, _mm256_fmadd_ps(a3, v3, oa));
        _mm256_storeu_ps(o + ld + x, _mm256_fmadd_ps(b3, v3, ob));
    }
}

static void mix_f16_avx2(float *o, const float *s, const uint16_t *v, int n_q, int n_k, int d,
                         int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += 4)
        for (int i = 0; i < n_q; i += 2) {
            float w[2][4];
            for (int x = 0; x < 8; x++)
                w[x / 4][x % 4] =
                    j + x % 4 < n_k ? s[(i + x / 4) * GM_ATTN_KEYS + j + x % 4] : 0.0f;
            mix_f16_tile(o + (size_t)i * row, w[0], w[1], gm_attn_quad_at(v, j, n_k, d), d, row);
        }
}

void gm_attn_fill_avx2(gm_attn_fns *f) {
    *f = (gm_attn_fns){
        .scores = scores_avx2,
        .mix = mix_avx2,
        .scores_f16 = scores_f16_avx2,
        .mix_f16 = mix_f16_avx2,
    };
}
