/* attn_avx512.c: the two products of attention with 512-bit registers.
 *
 * Both keep a tile of 16 sums in registers. scores runs along the head, so its sums end as vectors
 * that are added up across; mix runs along the keys, so its sums are outputs as they lie.
 */
#include <immintrin.h>
#include <stddef.h>
#include "kernels/cpu/attn.h"

enum { LANES = 16 };

/* The sums of the lanes of four vectors. */
static __m128 sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512 v = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/* One row of q against the keys k0 .. k3 at column i, inside the loops of the tiles below. */
#define SCORES_ROW(r, at)                                                                          \
    do {                                                                                           \
        __m512 v = _mm512_loadu_ps(q + (at)*ld + i);                                               \
        r##0 = _mm512_fmadd_ps(v, k0, r##0);                                                       \
        r##1 = _mm512_fmadd_ps(v, k1, r##1);                                                       \
        r##2 = _mm512_fmadd_ps(v, k2, r##2);                                                       \
        r##3 = _mm512_fmadd_ps(v, k3, r##3);                                                       \
    } while (0)

/* 4 rows of q against 4 keys. The names of the sums are spelled out because a compiler may leave an
 * array of them in memory. */
static void scores_tile(float *s, const float *q, const float *k, int d, size_t ld) {
    __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    __m512 b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    __m512 c0 = a0, c1 = a0, c2 = a0, c3 = a0;
    __m512 d0 = a0, d1 = a0, d2 = a0, d3 = a0;
    for (int i = 0; i < d; i += LANES) {
        __m512 k0 = _mm512_loadu_ps(k + i), k1 = _mm512_loadu_ps(k + ld + i);
        __m512 k2 = _mm512_loadu_ps(k + 2 * ld + i), k3 = _mm512_loadu_ps(k + 3 * ld + i);
        SCORES_ROW(a, 0);
        SCORES_ROW(b, 1);
        SCORES_ROW(c, 2);
        SCORES_ROW(d, 3);
    }
    _mm_storeu_ps(s, sums(a0, a1, a2, a3));
    _mm_storeu_ps(s + GM_ATTN_KEYS, sums(b0, b1, b2, b3));
    _mm_storeu_ps(s + 2 * GM_ATTN_KEYS, sums(c0, c1, c2, c3));
    _mm_storeu_ps(s + 3 * GM_ATTN_KEYS, sums(d0, d1, d2, d3));
}

/* Four keys stay in the first-level cache while all rows pass. */
static void scores_avx512(float *s, const float *q, const float *k, int n_q, int n_k, int d,
                          int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            scores_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row, k + (size_t)j * row,
                        d, row);
}

/* 4 rows by 64 columns of o. */
static void mix_tile(float *o, const float *s, const float *v, int n_k, size_t ld) {
#define ROWS(X, ...)                                                                               \
    X(a, 0, __VA_ARGS__) X(b, 1, __VA_ARGS__) X(c, 2, __VA_ARGS__) X(d, 3, __VA_ARGS__)
#define LOAD(r, at, unused)                                                                        \
    __m512 r##0 = _mm512_loadu_ps(o + (at)*ld), r##1 = _mm512_loadu_ps(o + (at)*ld + 16);          \
    __m512 r##2 = _mm512_loadu_ps(o + (at)*ld + 32), r##3 = _mm512_loadu_ps(o + (at)*ld + 48);
#define ADD(r, at, j)                                                                              \
    w = _mm512_set1_ps(s[(at)*GM_ATTN_KEYS + (j)]);                                                \
    r##0 = _mm512_fmadd_ps(w, v0, r##0);                                                           \
    r##1 = _mm512_fmadd_ps(w, v1, r##1);                                                           \
    r##2 = _mm512_fmadd_ps(w, v2, r##2);                                                           \
    r##3 = _mm512_fmadd_ps(w, v3, r##3);
#define STORE(r, at, unused)                                                                       \
    _mm512_storeu_ps(o + (at)*ld, r##0);                                                           \
    _mm512_storeu_ps(o + (at)*ld + 16, r##1);                                                      \
    _mm512_storeu_ps(o + (at)*ld + 32, r##2);                                                      \
    _mm512_storeu_ps(o + (at)*ld + 48, r##3);
    ROWS(LOAD, 0)
    for (int j = 0; j < n_k; j++, v += ld) {
        __m512 v0 = _mm512_loadu_ps(v), v1 = _mm512_loadu_ps(v + 16), w;
        __m512 v2 = _mm512_loadu_ps(v + 32), v3 = _mm512_loadu_ps(v + 48);
        ROWS(ADD, j)
    }
    ROWS(STORE, 0)
#undef STORE
#undef ADD
#undef LOAD
#undef ROWS
}

/* 4 rows by 16 columns: heads whose size is no multiple of 64. */
static void mix_narrow(float *o, const float *s, const float *v, int n_k, size_t ld) {
    __m512 a = _mm512_loadu_ps(o), b = _mm512_loadu_ps(o + ld);
    __m512 c = _mm512_loadu_ps(o + 2 * ld), d = _mm512_loadu_ps(o + 3 * ld);
    for (int j = 0; j < n_k; j++, v += ld) {
        __m512 x = _mm512_loadu_ps(v);
        a = _mm512_fmadd_ps(_mm512_set1_ps(s[j]), x, a);
        b = _mm512_fmadd_ps(_mm512_set1_ps(s[GM_ATTN_KEYS + j]), x, b);
        c = _mm512_fmadd_ps(_mm512_set1_ps(s[2 * GM_ATTN_KEYS + j]), x, c);
        d = _mm512_fmadd_ps(_mm512_set1_ps(s[3 * GM_ATTN_KEYS + j]), x, d);
    }
    _mm512_storeu_ps(o, a);
    _mm512_storeu_ps(o + ld, b);
    _mm512_storeu_ps(o + 2 * ld, c);
    _mm512_storeu_ps(o + 3 * ld, d);
}

/* A panel of 64 columns of v (16 KiB for 64 keys) stays in the first-level cache while all rows
 * pass. */
static void mix_avx512(float *o, const float *s, const float *v, int n_q, int n_k, int d, int ld) {
    size_t row = (size_t)ld;
    int x = 0;
    for (; x + 4 * LANES <= d; x += 4 * LANES)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            mix_tile(o + (size_t)i * row + x, s + (size_t)i * GM_ATTN_KEYS, v + x, n_k, row);
    for (; x < d; x += LANES)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            mix_narrow(o + (size_t)i * row + x, s + (size_t)i * GM_ATTN_KEYS, v + x, n_k, row);
}

/* ---- straight from float16 --------------------------------------------------------------- */

static __m512 halves(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* 4 rows of q against 4 keys, as scores_tile. */
static void scores_f16_tile(float *s, const float *q, gm_attn_quad k, int d, size_t ld) {
    __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    __m512 b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    __m512 c0 = a0, c1 = a0, c2 = a0, c3 = a0;
    __m512 d0 = a0, d1 = a0, d2 = a0, d3 = a0;
    for (int i = 0; i < d; i += LANES) {
        __m512 k0 = halves(k.row[0] + i), k1 = halves(k.row[1] + i);
        __m512 k2 = halves(k.row[2] + i), k3 = halves(k.row[3] + i);
        SCORES_ROW(a, 0);
        SCORES_ROW(b, 1);
        SCORES_ROW(c, 2);
        SCORES_ROW(d, 3);
    }
    _mm_storeu_ps(s, sums(a0, a1, a2, a3));
    _mm_storeu_ps(s + GM_ATTN_KEYS, sums(b0, b1, b2, b3));
    _mm_storeu_ps(s + 2 * GM_ATTN_KEYS, sums(c0, c1, c2, c3));
    _mm_storeu_ps(s + 3 * GM_ATTN_KEYS, sums(d0, d1, d2, d3));
}

static void scores_f16_avx512(float *s, const float *q, const uint16_t *k, int n_q, int n_k, int d,
                              int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            scores_f16_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row,
                            gm_attn_quad_at(k, j, n_k, d), d, row);
}

/* Adds 4 values to 4 whole rows of o. Whole rows, because the cache is then read in order; o is
 * small and stays near. w: the 16 weights, [4 rows][4 keys]. */
static void mix_f16_tile(float *o, const __m512 w[16], gm_attn_quad v, int d, size_t ld) {
    const __m512 w00 = w[0], w01 = w[1], w02 = w[2], w03 = w[3];
    const __m512 w10 = w[4], w11 = w[5], w12 = w[6], w13 = w[7];
    const __m512 w20 = w[8], w21 = w[9], w22 = w[10], w23 = w[11];
    const __m512 w30 = w[12], w31 = w[13], w32 = w[14], w33 = w[15];
#define MIX_ROW(r)                                                                                 \
    do {                                                                                           \
        float *at = o + (r)*ld + x;                                                                \
        __m512 lo = _mm512_fmadd_ps(w##r##0, v0, _mm512_loadu_ps(at));                             \
        __m512 hi = _mm512_mul_ps(w##r##2, v2);                                                    \
        lo = _mm512_fmadd_ps(w##r##1, v1, lo);                                                     \
        hi = _mm512_fmadd_ps(w##r##3, v3, hi);                                                     \
        _mm512_storeu_ps(at, _mm512_add_ps(lo, hi));                                               \
    } while (0)
    for (int x = 0; x < d; x += LANES) {
        __m512 v0 = halves(v.row[0] + x), v1 = halves(v.row[1] + x);
        __m512 v2 = halves(v.row[2] + x), v3 = halves(v.row[3] + x);
        MIX_ROW(0);
        MIX_ROW(1);
        MIX_ROW(2);
        MIX_ROW(3);
    }
#undef MIX_ROW
}

static void mix_f16_avx512(float *o, const float *s, const uint16_t *v, int n_q, int n_k, int d,
                           int ld) {
    size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += 4)
        for (int i = 0; i < n_q; i += 4) {
            __m512 w[16];
            for (int x = 0; x < 16; x++)
                w[x] = _mm512_set1_ps(j + x % 4 < n_k ? s[(i + x / 4) * GM_ATTN_KEYS + j + x % 4]
                                                      : 0.0f);
            mix_f16_tile(o + (size_t)i * row, w, gm_attn_quad_at(v, j, n_k, d), d, row);
        }
}

void gm_attn_fill_avx512(gm_attn_fns *f) {
    *f = (gm_attn_fns){
        .scores = scores_avx512,
        .mix = mix_avx512,
        .scores_f16 = scores_f16_avx512,
        .mix_f16 = mix_f16_avx512,
    };
}
