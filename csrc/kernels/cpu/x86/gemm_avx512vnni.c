/* gemm_avx512vnni.c: tiles of 32 rows by 6 tokens with vpdpbusd.
 *
 * 12 integer and 12 float accumulators, two vectors of weights and one of activations fill 27 of
 * the 32 registers. A step of four elements is 2 + 6 loads and 12 products, so that the two
 * product ports stay busy and the load ports have room. Per group of 32 (16) elements the integer
 * sums become floats once: one conversion, one product of scales, one fused add.
 */
#include <immintrin.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOK = 6 };

typedef struct {
    const gm_panel *p;
    const int8_t *q[TOK];    /* activations of each token, from k0 on */
    const float *d[TOK];     /* their scales */
    const float *ds[TOK];    /* scale times sum, per group of the panel */
    size_t stride;           /* of q */
    int32_t init[TOK][GM_TILE_K / 16]; /* minus offset times sum, per group */
} tile;

/* The offset of the weights costs nothing in the loop: sums begin with -offset * sum(x). */
INLINE void prepare(tile *a, const gm_panel *p, const gm_xq *x, int tok, const int n) {
    const int n16 = x->n_pad / 16, wide = p->info->group == 32;
    const int n_group = p->kc / p->info->group;
    a->p = p;
    a->stride = (size_t)x->n_pad;
    for (int t = 0; t < n; t++) {
        size_t at16 = (size_t)(tok + t) * (size_t)n16 + (size_t)p->k0 / 16;
        a->q[t] = x->q + (size_t)(tok + t) * (size_t)x->n_pad + p->k0;
        a->d[t] = x->d + at16 / 2;
        a->ds[t] = wide ? x->ds32 + at16 / 2 : x->ds16 + at16;
        const int32_t *s = wide ? x->s32 + at16 / 2 : x->s16 + at16;
        const __m512i off = _mm512_set1_epi32(-(int)p->info->offset);
        for (int g = 0; g < n_group; g += 16) {
            __mmask16 m = (__mmask16)(n_group - g >= 16 ? 0xffff : (1u << (n_group - g)) - 1);
            _mm512_mask_storeu_epi32(a->init[t] + g, m,
                                     _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(m, s + g), off));
        }
    }
}

INLINE void run_quant(const tile *a, const int n, const int steps, const int has_min, float *c) {
    __m512 sum0[TOK], sum1[TOK];
    const uint8_t *w = a->p->q;
    const int n_group = a->p->kc / (4 * steps);
#pragma GCC unroll 6
    for (int t = 0; t < n; t++) {
        sum0[t] = _mm512_loadu_ps(c + t * GM_TILE_ROWS);
        sum1[t] = _mm512_loadu_ps(c + t * GM_TILE_ROWS + 16);
    }
    for (int g = 0; g < n_group; g++) {
        __m512i i0[TOK], i1[TOK];
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) i0[t] = i1[t] = _mm512_set1_epi32(a->init[t][g]);
#pragma GCC unroll 8
        for (int s = 0; s < steps; s++, w += GM_TILE_ROWS * 4) {
            const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
#pragma GCC unroll 6
            for (int t = 0; t < n; t++) {
                int32_t four;
                __builtin_memcpy(&four, a->q[t] + 4 * (g * steps + s), 4);
                const __m512i x = _mm512_set1_epi32(four);
                i0[t] = _mm512_dpbusd_epi32(i0[t], w0, x);
                i1[t] = _mm512_dpbusd_epi32(i1[t], w1, x);
            }
        }
        /* The next tile's activations: rows lie too far apart for the hardware to follow. */
        if (g * steps % 16 == 0) {
#pragma GCC unroll 6
            for (int t = 0; t < n; t++)
                _mm_prefetch(a->q[t] + (size_t)n * a->stride + 4 * g * steps, _MM_HINT_T0);
        }
        const float *scale = a->p->scale + g * GM_TILE_ROWS, *min = a->p->min + g * GM_TILE_ROWS;
        const __m512 s0 = _mm512_load_ps(scale), s1 = _mm512_load_ps(scale + 16);
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) {
            const __m512 d = _mm512_set1_ps(a->d[t][g * steps / 8]);
            sum0[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i0[t]), _mm512_mul_ps(s0, d), sum0[t]);
            sum1[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1[t]), _mm512_mul_ps(s1, d), sum1[t]);
        }
        if (!has_min) continue;
        const __m512 m0 = _mm512_load_ps(min), m1 = _mm512_load_ps(min + 16);
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) {
            const __m512 ds = _mm512_set1_ps(a->ds[t][g]);
            sum0[t] = _mm512_fmadd_ps(m0, ds, sum0[t]);
            sum1[t] = _mm512_fmadd_ps(m1, ds, sum1[t]);
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < n; t++) {
        _mm512_storeu_ps(c + t * GM_TILE_ROWS, sum0[t]);
        _mm512_storeu_ps(c + t * GM_TILE_ROWS + 16, sum1[t]);
    }
}

typedef void (*tile_n_fn)(const gm_panel *p, const gm_xq *x, int tok, float *c);

#define TILE_N(n)                                                                                  \
    static void tile_quant_##n(const gm_panel *p, const gm_xq *x, int tok, float *c) {             \
        tile a;                                                                                    \
        prepare(&a, p, x, tok, n);                                                                 \
        if (p->info->group == 32)                                                                  \
            p->info->has_min ? run_quant(&a, n, 8, 1, c) : run_quant(&a, n, 8, 0, c);              \
        else                                                                                       \
            p->info->has_min ? run_quant(&a, n, 4, 1, c) : run_quant(&a, n, 4, 0, c);              \
    }
TILE_N(1)
TILE_N(2)
TILE_N(3)
TILE_N(4)
TILE_N(5)
TILE_N(6)

static void tile_quant_avx512vnni(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    static const tile_n_fn fns[TOK + 1] = {NULL,         tile_quant_1, tile_quant_2, tile_quant_3,
                                           tile_quant_4, tile_quant_5, tile_quant_6};
    /* 8 tokens are 4 + 4 rather than 6 + 2: short tiles leave the ports idle. */
    for (int left = (n_tok + TOK - 1) / TOK; left > 0; left--) {
        int n = (n_tok + left - 1) / left;
        fns[n](p, x, tok, c);
        tok += n;
        n_tok -= n;
        c += n * GM_TILE_ROWS;
    }
}

void gm_tile_fill_avx512vnni(gm_tile_fns *f) {
    f->tile_quant = tile_quant_avx512vnni;
}
