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

enum { TOK = GM_TILE_TOK };

typedef struct {
    const gm_panel *p;
    ptrdiff_t ahead; /* words from what a tile takes to what the next one does: whole rows */
    /* Of n tokens each, interleaved, from k0 on: */
    const int32_t *q;                   /* activations, four of a token to a word */
    const float *d;                     /* their scales */
    const float *ds;                    /* scale times sum, per group of the panel */
    int32_t init[TOK * GM_TILE_K / 16]; /* minus offset times sum, per group */
} tile;

/* The offset of the weights costs nothing in the loop: sums begin with -offset * sum(x). */
INLINE void prepare(tile *a, const gm_panel *p, const gm_xq *x, int tok, const int n) {
    const bool wide = p->info->group == 32;
    const int n_init = n * (p->kc / p->info->group);
    const size_t at32 = (size_t)tok * (size_t)(x->n_pad / 32) + (size_t)(n * (p->k0 / 32));
    a->p = p;
    a->ahead = n * (x->n_pad / 4);
    a->q = (const int32_t *)(const void *)x->q + 8 * at32;
    a->d = x->d + at32;
    a->ds = wide ? x->ds32 + at32 : x->ds16 + 2 * at32;
    const int32_t *s = wide ? x->s32 + at32 : x->s16 + 2 * at32;
    const __m512i off = _mm512_set1_epi32(-(int)p->info->offset);
    for (int i = 0; i < n_init; i += 16) {
        __mmask16 m = (__mmask16)(n_init - i >= 16 ? 0xffff : (1u << (n_init - i)) - 1);
        _mm512_mask_storeu_epi32(a->init + i, m,
                                 _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(m, s + i), off));
    }
}

INLINE void run_quant(const tile *a, const int n, const int steps, const int has_min, float *c) {
    __m512 sum0[TOK], sum1[TOK];
    const uint8_t *w = a->p->q;
    const int32_t *q = a->q;
    const int n_group = a->p->kc / (4 * steps);
#pragma GCC unroll 6
    for (int t = 0; t < n; t++) {
        sum0[t] = _mm512_loadu_ps(c + t * GM_TILE_ROWS);
        sum1[t] = _mm512_loadu_ps(c + t * GM_TILE_ROWS + 16);
    }
    for (int g = 0; g < n_group; g++) {
        /* Called for ahead of time: the jump from tile to tile is too long for the hardware to
         * follow. */
        for (int i = 0; i < n * 4 * steps; i += 64)
            _mm_prefetch((const char *)(q + a->ahead) + i, _MM_HINT_T0);
        gm_ahead_step(a->p->ahead);
        __m512i i0[TOK], i1[TOK];
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) i0[t] = i1[t] = _mm512_set1_epi32(a->init[g * n + t]);
#pragma GCC unroll 8
        for (int s = 0; s < steps; s++, w += GM_TILE_ROWS * 4, q += n) {
            const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
#pragma GCC unroll 6
            for (int t = 0; t < n; t++) {
                const __m512i x = _mm512_set1_epi32(q[t]);
                i0[t] = _mm512_dpbusd_epi32(i0[t], w0, x);
                i1[t] = _mm512_dpbusd_epi32(i1[t], w1, x);
            }
        }
        const float *scale = a->p->scale + g * GM_TILE_ROWS, *min = a->p->min + g * GM_TILE_ROWS;
        const __m512 s0 = _mm512_load_ps(scale), s1 = _mm512_load_ps(scale + 16);
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) {
            const __m512 d = _mm512_set1_ps(a->d[g * steps / 8 * n + t]);
            sum0[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i0[t]), _mm512_mul_ps(s0, d), sum0[t]);
            sum1[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1[t]), _mm512_mul_ps(s1, d), sum1[t]);
        }
        if (!has_min) continue;
        const __m512 m0 = _mm512_load_ps(min), m1 = _mm512_load_ps(min + 16);
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) {
            const __m512 ds = _mm512_set1_ps(a->ds[g * n + t]);
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

#define TILE_N(n)                                                                                  \
    static void tile_quant_##n(const gm_panel *p, const gm_xq *x, int tok, float *c) {             \
        tile a;                                                                                    \
        prepare(&a, p, x, tok, n);                                                                 \
        if (p->info->group == 32)                                                                  \
            p->info->has_min ? run_quant(&a, n, 8, 1, c) : run_quant(&a, n, 8, 0, c);              \
        else p->info->has_min ? run_quant(&a, n, 4, 1, c) : run_quant(&a, n, 4, 0, c);             \
    }
TILE_N(1)
TILE_N(2)
TILE_N(3)
TILE_N(4)
TILE_N(5)
TILE_N(6)

static void tile_quant_avx512vnni(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    static const gm_tile_n_fn fns[TOK + 1] = {
        NULL, tile_quant_1, tile_quant_2, tile_quant_3, tile_quant_4, tile_quant_5, tile_quant_6};
    for (int t = 0, n; t < n_tok; t += n) {
        n = n_tok - t < x->tile_tok ? n_tok - t : x->tile_tok;
        fns[n](p, x, tok + t, c + t * GM_TILE_ROWS);
    }
}

void gm_tile_fill_avx512vnni(gm_tile_fns *f) {
    f->tile_quant = tile_quant_avx512vnni;
    f->tok = TOK;
    /* Of those that are dear to unpack it is enough to do so once for five tokens. */
    static const gm_dtype dear[] = {GM_Q8_0, GM_Q4_K, GM_Q5_K, GM_Q6_K};
    for (size_t i = 0; i < sizeof dear / sizeof *dear; i++) f->min_tok[dear[i]] = 5;
    f->min_tok[GM_Q4_0] = 6;
}
