/* gemm_neon.c: tiles with baseline ARMv8, turning of panels, float formats. */
#define GM_NEON_TILE 0
#include "kernels/cpu/arm/gemm_neon.h"

#include <string.h>

/* ---- float tiles ----------------------------------------------------------------------------- */

/* 16 rows by n tokens. Eight and more rows of sums hide the latency of the additions. */
INLINE void run_float(const gm_panel *p, const gm_xq *x, int tok, int row, const int n, float *c) {
    const float *w = p->f + row, *xt[TOK];
    float32x4_t sum[TOK][QUADS];
    gm_ahead_step(p->ahead);
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        xt[t] = x->x + (size_t)(tok + t) * (size_t)x->n_in + p->k0;
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) sum[t][r] = vdupq_n_f32(0);
    }
    for (int k = 0; k < p->kc; k++, w += GM_TILE_ROWS) {
        float32x4_t v[QUADS];
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) v[r] = vld1q_f32(w + 4 * r);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int r = 0; r < QUADS; r++) sum[t][r] = vfmaq_n_f32(sum[t][r], v[r], xt[t][k]);
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++)
#pragma GCC unroll 4
        for (int r = 0; r < QUADS; r++) {
            float *to = c + t * GM_TILE_ROWS + row + 4 * r;
            vst1q_f32(to, vaddq_f32(vld1q_f32(to), sum[t][r]));
        }
}

INLINE void float_halves(const gm_panel *p, const gm_xq *x, int tok, const int n, float *c) {
    for (int row = 0; row < GM_TILE_ROWS; row += ROWS) run_float(p, x, tok, row, n, c);
}

static void tile_float(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    for (; n_tok >= TOK; n_tok -= TOK, tok += TOK, c += TOK * GM_TILE_ROWS)
        float_halves(p, x, tok, TOK, c);
    switch (n_tok) {
    case 3: float_halves(p, x, tok, 3, c); break;
    case 2: float_halves(p, x, tok, 2, c); break;
    case 1: float_halves(p, x, tok, 1, c); break;
    default: break;
    }
}

/* ---- turning --------------------------------------------------------------------------------- */

/* Four words of four rows. */
INLINE void turn_4x4(const gm_word *src, size_t stride, gm_word *dst) {
    const uint32x4_t a = vld1q_u32(src), b = vld1q_u32(src + stride);
    const uint32x4_t c = vld1q_u32(src + 2 * stride), d = vld1q_u32(src + 3 * stride);
    const uint64x2_t ab0 = vreinterpretq_u64_u32(vtrn1q_u32(a, b));
    const uint64x2_t ab1 = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
    const uint64x2_t cd0 = vreinterpretq_u64_u32(vtrn1q_u32(c, d));
    const uint64x2_t cd1 = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
    vst1q_u32(dst, vreinterpretq_u32_u64(vtrn1q_u64(ab0, cd0)));
    vst1q_u32(dst + GM_TILE_ROWS, vreinterpretq_u32_u64(vtrn1q_u64(ab1, cd1)));
    vst1q_u32(dst + 2 * GM_TILE_ROWS, vreinterpretq_u32_u64(vtrn2q_u64(ab0, cd0)));
    vst1q_u32(dst + 3 * GM_TILE_ROWS, vreinterpretq_u32_u64(vtrn2q_u64(ab1, cd1)));
}

static void turn(const gm_word *src, size_t stride, int n, gm_word *dst) {
    int d = 0;
    for (; d + 4 <= n; d += 4)
        for (size_t r = 0; r < GM_TILE_PACK; r += 4)
            turn_4x4(src + r * stride + (size_t)d, stride, dst + (size_t)d * GM_TILE_ROWS + r);
    for (; d < n; d++)
        for (size_t r = 0; r < GM_TILE_PACK; r++)
            dst[(size_t)d * GM_TILE_ROWS + r] = src[r * stride + (size_t)d];
}

/* ---- widening -------------------------------------------------------------------------------- */

static void widen_f16(const uint8_t *src, int n, float *dst) {
    int i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(dst + i, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(src + 2 * i))));
    for (; i < n; i++) {
        __fp16 h;
        memcpy(&h, src + 2 * i, 2);
        dst[i] = h;
    }
}

static void widen_bf16(const uint8_t *src, int n, float *dst) {
    int i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(dst + i, vreinterpretq_f32_u32(
                               vshll_n_u16(vreinterpret_u16_u8(vld1_u8(src + 2 * i)), 16)));
    for (; i < n; i++) {
        const uint32_t u = (uint32_t)src[2 * i] << 16 | (uint32_t)src[2 * i + 1] << 24;
        memcpy(dst + i, &u, 4);
    }
}

void gm_tile_fill_neon(gm_tile_fns *f) {
    f->tile_quant = tile_quant;
    f->tile_float = tile_float;
    f->turn = turn;
    f->widen[GM_F16] = widen_f16;
    f->widen[GM_BF16] = widen_bf16;
}
