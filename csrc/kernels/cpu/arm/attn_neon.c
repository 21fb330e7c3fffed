/* attn_neon.c: the two products of attention with 128-bit registers (baseline ARMv8).
 *
 * As attn_avx512.c, with tiles for 32 registers of four lanes.
 */
#include <arm_neon.h>
#include <stddef.h>
#include "kernels/cpu/attn.h"

enum { LANES = 4 };

/* The sums of the lanes of four vectors. */
static inline float32x4_t sums(const float32x4_t v[4]) {
    return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
}

/* 4 rows of q against 4 keys. */
static void scores_tile(float *s, const float *q, const float *k, int d, size_t ld) {
    float32x4_t a[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) a[i][j] = vdupq_n_f32(0);
    for (int x = 0; x < d; x += LANES) {
        float32x4_t kv[4];
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) kv[j] = vld1q_f32(k + j * ld + x);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            const float32x4_t qv = vld1q_f32(q + i * ld + x);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) a[i][j] = vfmaq_f32(a[i][j], qv, kv[j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) vst1q_f32(s + i * GM_ATTN_KEYS, sums(a[i]));
}

static void scores_neon(float *s, const float *q, const float *k, int n_q, int n_k, int d, int ld) {
    const size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            scores_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row, k + (size_t)j * row,
                        d, row);
}

/* 4 rows by 16 columns of o. */
static void mix_tile(float *o, const float *s, const float *v, int n_k, size_t ld) {
    float32x4_t a[4][4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) a[i][x] = vld1q_f32(o + i * ld + LANES * x);
    for (int j = 0; j < n_k; j++, v += ld) {
        float32x4_t w[4];
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) w[x] = vld1q_f32(v + LANES * x);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
            for (int x = 0; x < 4; x++)
                a[i][x] = vfmaq_n_f32(a[i][x], w[x], s[i * GM_ATTN_KEYS + j]);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) vst1q_f32(o + i * ld + LANES * x, a[i][x]);
}

/* A panel of v stays in the first-level cache while all rows pass. */
static void mix_neon(float *o, const float *s, const float *v, int n_q, int n_k, int d, int ld) {
    const size_t row = (size_t)ld;
    for (int x = 0; x < d; x += 4 * LANES)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            mix_tile(o + (size_t)i * row + x, s + (size_t)i * GM_ATTN_KEYS, v + x, n_k, row);
}

/* ---- straight from float16 --------------------------------------------------------------- */

static inline float32x4_t halves(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static void scores_f16_tile(float *s, const float *q, gm_attn_quad k, int d, size_t ld) {
    float32x4_t a[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) a[i][j] = vdupq_n_f32(0);
    for (int x = 0; x < d; x += LANES) {
        float32x4_t kv[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) kv[j] = halves(k.row[j] + x);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            const float32x4_t qv = vld1q_f32(q + i * ld + x);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) a[i][j] = vfmaq_f32(a[i][j], qv, kv[j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) vst1q_f32(s + i * GM_ATTN_KEYS, sums(a[i]));
}

static void scores_f16_neon(float *s, const float *q, const uint16_t *k, int n_q, int n_k, int d,
                            int ld) {
    const size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += GM_ATTN_TILE)
        for (int i = 0; i < n_q; i += GM_ATTN_TILE)
            scores_f16_tile(s + (size_t)i * GM_ATTN_KEYS + j, q + (size_t)i * row,
                            gm_attn_quad_at(k, j, n_k, d), d, row);
}

/* Adds 4 values to 4 whole rows of o, weighted by w. Whole rows, because the cache is then read in
 * order; o is small and stays near. */
static void mix_f16_tile(float *o, const float32x4_t w[4], gm_attn_quad v, int d, size_t ld) {
    for (int x = 0; x < d; x += LANES) {
        const float32x4_t v0 = halves(v.row[0] + x), v1 = halves(v.row[1] + x);
        const float32x4_t v2 = halves(v.row[2] + x), v3 = halves(v.row[3] + x);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            float32x4_t to = vld1q_f32(o + i * ld + x);
            to = vfmaq_laneq_f32(to, v0, w[i], 0);
            to = vfmaq_laneq_f32(to, v1, w[i], 1);
            to = vfmaq_laneq_f32(to, v2, w[i], 2);
            vst1q_f32(o + i * ld + x, vfmaq_laneq_f32(to, v3, w[i], 3));
        }
    }
}

static void mix_f16_neon(float *o, const float *s, const uint16_t *v, int n_q, int n_k, int d,
                         int ld) {
    const size_t row = (size_t)ld;
    for (int j = 0; j < n_k; j += 4)
        for (int i = 0; i < n_q; i += 4) {
            float32x4_t w[4];
            for (int y = 0; y < 4; y++) {
                float f[4];
                for (int x = 0; x < 4; x++)
                    f[x] = j + x < n_k ? s[(i + y) * GM_ATTN_KEYS + j + x] : 0.0f;
                w[y] = vld1q_f32(f);
            }
            mix_f16_tile(o + (size_t)i * row, w, gm_attn_quad_at(v, j, n_k, d), d, row);
        }
}

void gm_attn_fill_neon(gm_attn_fns *f) {
    *f = (gm_attn_fns){
        .scores = scores_neon,
        .mix = mix_neon,
        .scores_f16 = scores_f16_neon,
        .mix_f16 = mix_f16_neon,
    };
}
