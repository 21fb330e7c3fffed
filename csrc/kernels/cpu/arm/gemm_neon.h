/* gemm_neon.h: quantised tiles of 16 rows by 4 tokens for 32 registers of 128 bits.
 *
 * A template for gemm_neon.c (products through 16 bits), gemm_dotprod.c (four products to a lane)
 * and gemm_i8mm.c (2 x 2 tiles of eight products). Weights of up to 7 bits are used as they are,
 * with sums that begin at minus offset times the sum of x; those of 8 bits are made signed on
 * loading. Integer sums of a group become floats at its end; the float sums wait in c meanwhile,
 * since the 16 integer ones, four weights and four activations fill the registers.
 *
 * Defines to set: GM_NEON_TILE (0: baseline, 1: dot products, 2: matrix products).
 */
#pragma once

#include <arm_neon.h>
#include "kernels/cpu/arm/arm.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOK = 4, ROWS = 16, QUADS = ROWS / 4, STEP = GM_TILE_ROWS * 4 };

typedef struct {
    const gm_panel *p;
    const int8_t *q[TOK];
    const float *d[TOK], *ds[TOK];
    const int32_t *s[TOK]; /* sums of x, per group */
    int minus_offset;      /* what integer sums begin with, times the sum of x */
    int flip;              /* 0x80: weights of 8 bits */
} tile;

INLINE void prepare(tile *a, const gm_panel *p, const gm_xq *x, int tok, const int n) {
    const int n16 = x->n_pad / 16, wide = p->info->group == 32;
    a->p = p;
    a->flip = p->info->bits == 8 ? 0x80 : 0;
    a->minus_offset = a->flip ? 0 : -(int)p->info->offset;
    for (int t = 0; t < n; t++) {
        const size_t at16 = (size_t)(tok + t) * (size_t)n16 + (size_t)p->k0 / 16;
        a->q[t] = x->q + (size_t)(tok + t) * (size_t)x->n_pad + p->k0;
        a->d[t] = x->d + at16 / 2;
        a->ds[t] = wide ? x->ds32 + at16 / 2 : x->ds16 + at16;
        a->s[t] = wide ? x->s32 + at16 / 2 : x->s16 + at16;
    }
}

INLINE int8x16_t weights(const uint8_t *w, uint8x16_t flip) {
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w), flip));
}

/* i[t][r]: integer sums of one group of 4 * steps elements for rows 4 r .. 4 r + 3. w: its first
 * step; x: element of the tokens' q. */
INLINE void group_sums(const tile *a, const uint8_t *w, int x, int g, const int n, const int steps,
                       int32x4_t i[TOK][QUADS]) {
    const uint8x16_t flip = vdupq_n_u8((uint8_t)a->flip);
#if GM_NEON_TILE == 2
    /* m[u][r]: rows 2 r, 2 r + 1 times tokens 2 u, 2 u + 1. */
    int32x4_t m[TOK / 2][ROWS / 2];
    for (int u = 0; u < (n + 1) / 2; u++)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS / 2; r++) m[u][r] = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (int s = 0; s < steps; s += 2, w += 2 * STEP) {
        int8x16_t y[TOK / 2];
#pragma GCC unroll 2
        for (int u = 0; u < (n + 1) / 2; u++) {
            const int8x8_t lo = vld1_s8(a->q[2 * u] + x + 4 * s);
            const int8x8_t hi = 2 * u + 1 < n ? vld1_s8(a->q[2 * u + 1] + x + 4 * s) : vdup_n_s8(0);
            y[u] = vcombine_s8(lo, hi);
        }
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) {
            /* Two steps of four elements side by side are eight elements of each row. */
            const int32x4_t even = vreinterpretq_s32_s8(weights(w + 16 * r, flip));
            const int32x4_t odd = vreinterpretq_s32_s8(weights(w + STEP + 16 * r, flip));
            const int8x16_t w01 = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
            const int8x16_t w23 = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
#pragma GCC unroll 2
            for (int u = 0; u < (n + 1) / 2; u++) {
                m[u][2 * r] = vmmlaq_s32(m[u][2 * r], w01, y[u]);
                m[u][2 * r + 1] = vmmlaq_s32(m[u][2 * r + 1], w23, y[u]);
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const int32x4_t init = vdupq_n_s32(a->minus_offset * a->s[t][g]);
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) {
            const int32x4_t lo = m[t / 2][2 * r], hi = m[t / 2][2 * r + 1];
            i[t][r] = vaddq_s32(init, t % 2 ? vuzp2q_s32(lo, hi) : vuzp1q_s32(lo, hi));
        }
    }
#else
#pragma GCC unroll 4
    for (int t = 0; t < n; t++)
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) i[t][r] = vdupq_n_s32(a->minus_offset * a->s[t][g]);
    for (int s0 = 0; s0 < steps; s0 += 4) {
        int8x16_t y[TOK];
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) y[t] = vld1q_s8(a->q[t] + x + 4 * s0);
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++, w += STEP) {
#pragma GCC unroll 4
            for (int r = 0; r < QUADS; r++) {
                const int8x16_t v = weights(w + 16 * r, flip);
#pragma GCC unroll 4
                for (int t = 0; t < n; t++) {
#if GM_NEON_TILE == 1
                    /* The lane has to be a constant for the compiler. */
                    i[t][r] = s == 0   ? vdotq_laneq_s32(i[t][r], v, y[t], 0)
                              : s == 1 ? vdotq_laneq_s32(i[t][r], v, y[t], 1)
                              : s == 2 ? vdotq_laneq_s32(i[t][r], v, y[t], 2)
                                       : vdotq_laneq_s32(i[t][r], v, y[t], 3);
#else
                    const int32x4_t l = vreinterpretq_s32_s8(y[t]);
                    const int32x4_t four = s == 0   ? vdupq_laneq_s32(l, 0)
                                           : s == 1 ? vdupq_laneq_s32(l, 1)
                                           : s == 2 ? vdupq_laneq_s32(l, 2)
                                                    : vdupq_laneq_s32(l, 3);
                    const int8x16_t z = vreinterpretq_s8_s32(four);
                    const int16x8_t lo = vmull_s8(vget_low_s8(v), vget_low_s8(z));
                    const int16x8_t hi = vmull_high_s8(v, z);
                    i[t][r] = vaddq_s32(i[t][r], vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
#endif
                }
            }
        }
    }
#endif
}

INLINE void run_quant(const tile *a, int row, const int n, const int steps, float *c) {
    const gm_panel *p = a->p;
    const int n_group = p->kc / (4 * steps);
    const uint8_t *w = p->q + row * 4;
    for (int g = 0; g < n_group; g++, w += steps * STEP) {
        int32x4_t i[TOK][QUADS];
        gm_ahead_step(p->ahead);
        group_sums(a, w, 4 * steps * g, g, n, steps, i);
        const float *scale = p->scale + g * GM_TILE_ROWS + row;
        const float *min = p->info->has_min ? p->min + g * GM_TILE_ROWS + row : NULL;
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const float d = a->d[t][g * steps / 8];
#pragma GCC unroll 4
            for (int r = 0; r < QUADS; r++) {
                float *to = c + t * GM_TILE_ROWS + 4 * r;
                const float32x4_t s = vmulq_n_f32(vld1q_f32(scale + 4 * r), d);
                float32x4_t v = vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(i[t][r]), s);
                if (min) v = vfmaq_n_f32(v, vld1q_f32(min + 4 * r), a->ds[t][g]);
                vst1q_f32(to, v);
            }
        }
    }
}

/* Both halves of the panel for n tokens. */
INLINE void run_halves(const gm_panel *p, const gm_xq *x, int tok, const int n, float *c) {
    tile a;
    prepare(&a, p, x, tok, n);
    for (int row = 0; row < GM_TILE_ROWS; row += ROWS)
        if (p->info->group == 32) run_quant(&a, row, n, 8, c + row);
        else run_quant(&a, row, n, 4, c + row);
}

static void tile_quant(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    for (; n_tok >= TOK; n_tok -= TOK, tok += TOK, c += TOK * GM_TILE_ROWS)
        run_halves(p, x, tok, TOK, c);
    switch (n_tok) {
    case 3: run_halves(p, x, tok, 3, c); break;
    case 2: run_halves(p, x, tok, 2, c); break;
    case 1: run_halves(p, x, tok, 1, c); break;
    default: break;
    }
}
