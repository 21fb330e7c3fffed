/* gemm_ymm.h: tiles of 16 rows by 4 (float: 6) tokens for 16 registers of 256 bits.
 *
 * A template: gemm_avx2.c and gemm_avxvnni.c include it and say how four products are added.
 * Without VNNI the products of two elements are added in 16 bits. How many steps of four elements
 * fit in there depends on the width of the weights: 15 * 127 * 2 goes eight times into 32767,
 * 31 * 127 * 2 four times, 63 * 127 * 2 twice. Eight-bit weights use magnitude and sign.
 *
 * Defines to set: GM_YMM_VNNI (1 or 0).
 */
#pragma once

#include <immintrin.h>
#include <string.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOK = 4, TOK_FLOAT = 6 };

typedef struct {
    const gm_panel *p;
    int row; /* 0 or 16: which half of the panel */
    const int8_t *q[TOK];
    const float *d[TOK];
    const float *ds[TOK];
    int32_t init[TOK][GM_TILE_K / 16]; /* minus offset times sum, per group */
} tile;

/* minus_offset: what sums begin with, times the sum of x. */
INLINE void prepare(tile *a, const gm_panel *p, const gm_xq *x, int tok, const int n,
                    int minus_offset) {
    const int n16 = x->n_pad / 16, wide = p->info->group == 32;
    const int n_group = p->kc / p->info->group;
    a->p = p;
    for (int t = 0; t < n; t++) {
        size_t at16 = (size_t)(tok + t) * (size_t)n16 + (size_t)p->k0 / 16;
        a->q[t] = x->q + (size_t)(tok + t) * (size_t)x->n_pad + p->k0;
        a->d[t] = x->d + at16 / 2;
        a->ds[t] = wide ? x->ds32 + at16 / 2 : x->ds16 + at16;
        const int32_t *s = wide ? x->s32 + at16 / 2 : x->s16 + at16;
        for (int g = 0; g < n_group; g++) a->init[t][g] = minus_offset * s[g];
    }
}

INLINE __m256i four(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* Integer sums of one group: steps of 4 elements, at most `run` of them in 16 bits (0: weights of
 * eight bits, as magnitude and sign). w: the first step. */
INLINE void group_sums(const tile *a, const uint8_t *w, int g, const int n, const int steps,
                       const int run, __m256i i0[TOK], __m256i i1[TOK]) {
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) i0[t] = i1[t] = _mm256_set1_epi32(a->init[t][g]);
#if GM_YMM_VNNI
    (void)run;
#pragma GCC unroll 8
    for (int s = 0; s < steps; s++, w += GM_TILE_ROWS * 4) {
        const __m256i w0 = _mm256_load_si256((const void *)w);
        const __m256i w1 = _mm256_load_si256((const void *)(w + 32));
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const __m256i x = four(a->q[t] + 4 * (g * steps + s));
            i0[t] = _mm256_dpbusd_avx_epi32(i0[t], w0, x);
            i1[t] = _mm256_dpbusd_avx_epi32(i1[t], w1, x);
        }
    }
#else
    const __m256i one = _mm256_set1_epi16(1);
    if (run == 0) {
        for (int s = 0; s < steps; s++, w += GM_TILE_ROWS * 4) {
            const __m256i flip = _mm256_set1_epi8((char)0x80);
            const __m256i w0 = _mm256_xor_si256(_mm256_load_si256((const void *)w), flip);
            const __m256i w1 = _mm256_xor_si256(_mm256_load_si256((const void *)(w + 32)), flip);
            const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const __m256i x = four(a->q[t] + 4 * (g * steps + s));
                const __m256i p0 = _mm256_maddubs_epi16(m0, _mm256_sign_epi8(x, w0));
                const __m256i p1 = _mm256_maddubs_epi16(m1, _mm256_sign_epi8(x, w1));
                i0[t] = _mm256_add_epi32(i0[t], _mm256_madd_epi16(p0, one));
                i1[t] = _mm256_add_epi32(i1[t], _mm256_madd_epi16(p1, one));
            }
        }
        return;
    }
    for (int s0 = 0; s0 < steps; s0 += run) {
        __m256i p0[TOK], p1[TOK];
#pragma GCC unroll 8
        for (int s = 0; s < run; s++, w += GM_TILE_ROWS * 4) {
            const __m256i w0 = _mm256_load_si256((const void *)w);
            const __m256i w1 = _mm256_load_si256((const void *)(w + 32));
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const __m256i x = four(a->q[t] + 4 * (g * steps + s0 + s));
                const __m256i v0 = _mm256_maddubs_epi16(w0, x), v1 = _mm256_maddubs_epi16(w1, x);
                p0[t] = s ? _mm256_add_epi16(p0[t], v0) : v0;
                p1[t] = s ? _mm256_add_epi16(p1[t], v1) : v1;
                GM_KEEP(p0[t]);
                GM_KEEP(p1[t]);
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            i0[t] = _mm256_add_epi32(i0[t], _mm256_madd_epi16(p0[t], one));
            i1[t] = _mm256_add_epi32(i1[t], _mm256_madd_epi16(p1[t], one));
        }
    }
#endif
}

INLINE void run_quant(const tile *a, const int n, const int steps, const int run, float *c) {
    const gm_panel *p = a->p;
    const int n_group = p->kc / (4 * steps), has_min = p->info->has_min;
    const uint8_t *w = p->q + a->row * 4;
    __m256 sum0[TOK], sum1[TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        sum0[t] = _mm256_loadu_ps(c + t * GM_TILE_ROWS);
        sum1[t] = _mm256_loadu_ps(c + t * GM_TILE_ROWS + 8);
    }
    for (int g = 0; g < n_group; g++, w += steps * GM_TILE_ROWS * 4) {
        __m256i i0[TOK], i1[TOK];
        gm_ahead_step(p->ahead);
        group_sums(a, w, g, n, steps, run, i0, i1);
        const float *scale = p->scale + g * GM_TILE_ROWS + a->row;
        const __m256 s0 = _mm256_load_ps(scale), s1 = _mm256_load_ps(scale + 8);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const __m256 d = _mm256_set1_ps(a->d[t][g * steps / 8]);
            sum0[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i0[t]), _mm256_mul_ps(s0, d), sum0[t]);
            sum1[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i1[t]), _mm256_mul_ps(s1, d), sum1[t]);
        }
        if (!has_min) continue;
        const float *min = p->min + g * GM_TILE_ROWS + a->row;
        const __m256 m0 = _mm256_load_ps(min), m1 = _mm256_load_ps(min + 8);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const __m256 ds = _mm256_set1_ps(a->ds[t][g]);
            sum0[t] = _mm256_fmadd_ps(m0, ds, sum0[t]);
            sum1[t] = _mm256_fmadd_ps(m1, ds, sum1[t]);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        _mm256_storeu_ps(c + t * GM_TILE_ROWS, sum0[t]);
        _mm256_storeu_ps(c + t * GM_TILE_ROWS + 8, sum1[t]);
    }
}

/* Both halves of the panel. */
INLINE void run_halves(const gm_panel *p, const gm_xq *x, int tok, const int n, float *c) {
    tile a;
    const int wide = p->info->group == 32;
    const bool magnitude = !GM_YMM_VNNI && p->info->bits == 8;
    prepare(&a, p, x, tok, n, magnitude ? 0 : -(int)p->info->offset);
    for (a.row = 0; a.row < GM_TILE_ROWS; a.row += 16) {
        float *cr = c + a.row;
        if (GM_YMM_VNNI) wide ? run_quant(&a, n, 8, 8, cr) : run_quant(&a, n, 4, 4, cr);
        else if (magnitude) run_quant(&a, n, 8, 0, cr);
        else if (wide) p->info->bits <= 4 ? run_quant(&a, n, 8, 8, cr) : run_quant(&a, n, 8, 4, cr);
        else p->info->bits <= 5 ? run_quant(&a, n, 4, 4, cr) : run_quant(&a, n, 4, 2, cr);
    }
}

#define QUANT_N(n)                                                                                 \
    static void tile_quant_##n(const gm_panel *p, const gm_xq *x, int tok, float *c) {             \
        run_halves(p, x, tok, n, c);                                                               \
    }
QUANT_N(1)
QUANT_N(2)
QUANT_N(3)
QUANT_N(4)

static void tile_quant(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    static const gm_tile_n_fn fns[] = {NULL, tile_quant_1, tile_quant_2, tile_quant_3,
                                       tile_quant_4};
    gm_split_tokens(fns, TOK, p, x, tok, n_tok, c);
}
