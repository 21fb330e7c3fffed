/* dot_neon.h: rows times 1 to 4 tokens, 128 bits wide. A template for dot_neon.c (products through
 * 16 bits) and dot_dotprod.c.
 *
 * Weights are made signed on the way (q - offset fits in 8 bits for every format), so that a block
 * is two registers against two of activations and no sums of activations are needed; only minima
 * (Q4_K, Q5_K) use them. A block ends as four partial sums that are multiplied by its scale; lanes
 * are added up at the end of the row.
 *
 * Defines to set: GM_NEON_DOTPROD (1 or 0).
 */
#pragma once

#include <arm_neon.h>
#include <string.h>
#include "kernels/cpu/arm/arm.h"
#include "kernels/cpu/k_scales.h"
#include "tensor/blocks.h"

#define INLINE static inline __attribute__((always_inline))

/* Two sums, so that one addition need not wait for the one before. */
typedef struct {
    float32x4_t v[2];
} vec;
INLINE vec vec_zero(void) { return (vec){{vdupq_n_f32(0), vdupq_n_f32(0)}}; }
INLINE float vec_sum(vec s) { return vaddvq_f32(vaddq_f32(s.v[0], s.v[1])); }
INLINE void store_sums(const vec *v, const int n, float *const *to) {
    for (int t = 0; t < n; t++) *to[t] = vec_sum(v[t]);
}
enum { AT_ONCE = 1, TOGETHER_TOK = GM_DOT_TOK, IN_STRETCHES = 0 };
#include "kernels/cpu/dot_rows.h"

/* sum + w . x, four products to a lane. |w| <= 128 and |x| <= 127: two products fit in 16 bits. */
INLINE int32x4_t dot4(int32x4_t sum, int8x16_t w, int8x16_t x) {
#if GM_NEON_DOTPROD
    return vdotq_s32(sum, w, x);
#else
    const int16x8_t p = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(sum, vmlal_high_s8(p, w, x));
#endif
}

INLINE float half(const void *p) {
    __fp16 h;
    memcpy(&h, p, 2);
    return h;
}

INLINE int8x16_t signed_bytes(uint8x16_t v, int offset) {
    return vsubq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8((int8_t)offset));
}
INLINE uint8x16_t low_nibbles(uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }
INLINE uint8x16_t high_nibbles(uint8x16_t v) { return vshrq_n_u8(v, 4); }

/* 32 weights with one scale d against n tokens; into sum i of each. */
INLINE void block32(int8x16_t w0, int8x16_t w1, float d, const tokens *k, int e, const int n,
                    vec sum[MAX_TOK], const int i) {
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const int8_t *x = k->x->q + at(k, t, e);
        const int32x4_t s = dot4(dot4(vdupq_n_s32(0), w0, vld1q_s8(x)), w1, vld1q_s8(x + 16));
        sum[t].v[i] = vfmaq_n_f32(sum[t].v[i], vcvtq_f32_s32(s), d * k->x->d[at(k, t, e) / 32]);
    }
}

/* Twice 16 weights with a scale each: the halves of a block of activations. */
INLINE void block16x2(int8x16_t w0, int8x16_t w1, float d0, float d1, const tokens *k, int e,
                      const int n, vec sum[MAX_TOK]) {
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const int8_t *x = k->x->q + at(k, t, e);
        const float dx = k->x->d[at(k, t, e) / 32];
        const int32x4_t s0 = dot4(vdupq_n_s32(0), w0, vld1q_s8(x));
        const int32x4_t s1 = dot4(vdupq_n_s32(0), w1, vld1q_s8(x + 16));
        sum[t].v[0] = vfmaq_n_f32(sum[t].v[0], vcvtq_f32_s32(s0), d0 * dx);
        sum[t].v[1] = vfmaq_n_f32(sum[t].v[1], vcvtq_f32_s32(s1), d1 * dx);
    }
}

/* sum += m[g] * (d * sum of x) over 8 groups of 32. */
INLINE void minima(const float m[8], const tokens *k, int e, const int n, vec sum[MAX_TOK]) {
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const float *ds = k->x->ds32 + at(k, t, e) / 32;
        sum[t].v[0] = vfmaq_f32(sum[t].v[0], vld1q_f32(m), vld1q_f32(ds));
        sum[t].v[1] = vfmaq_f32(sum[t].v[1], vld1q_f32(m + 4), vld1q_f32(ds + 4));
    }
}

/* ---- blocks of 32 ---------------------------------------------------------------------------- */

INLINE void q4_0(const uint8_t *w, const tokens *k, int e, const int n, vec sum[MAX_TOK],
                 const int i) {
    const uint8x16_t v = vld1q_u8(w + 2);
    block32(signed_bytes(low_nibbles(v), 8), signed_bytes(high_nibbles(v), 8), half(w), k, e, n,
            sum, i);
}

INLINE void q8_0(const uint8_t *w, const tokens *k, int e, const int n, vec sum[MAX_TOK],
                 const int i) {
    const int8_t *q = (const int8_t *)w + 2;
    block32(vld1q_s8(q), vld1q_s8(q + 16), half(w), k, e, n, sum, i);
}

INLINE void iq4(const uint8_t *q, float d, const tokens *k, int e, const int n, vec sum[MAX_TOK],
                const int i) {
    const int8x16_t table = vld1q_s8(gm_iq4_values);
    const uint8x16_t v = vld1q_u8(q);
    block32(vqtbl1q_s8(table, low_nibbles(v)), vqtbl1q_s8(table, high_nibbles(v)), d, k, e, n, sum,
            i);
}

/* ---- blocks of 256 --------------------------------------------------------------------------- */

INLINE void step_iq4_xs(const gm_block_iq4_xs *b, const tokens *k, int e, const int n,
                        vec sum[MAX_TOK]) {
    const float d = half(&b->d);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        iq4(b->q + 16 * g, d * (float)gm_iq4_xs_scale(b, g), k, e + 32 * g, n, sum, g & 1);
    }
}

/* f[j] = d * b[j] for the eight bytes of lo and hi. */
INLINE void floats_of_bytes(float f[8], uint32_t lo, uint32_t hi, float d) {
    const uint16x8_t w = vmovl_u8(vcreate_u8((uint64_t)hi << 32 | lo));
    vst1q_f32(f, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(w))), d));
    vst1q_f32(f + 4, vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(w)), d));
}

/* One block of Q4_K or (qh given) Q5_K. head: the fields that both begin with; q: the nibbles. */
INLINE void step_k(const gm_block_q4_k *head, const uint8_t *q, const uint8_t *qh, const tokens *k,
                   int e, const int n, vec sum[MAX_TOK]) {
    const gm_k_scales six = gm_k_scales_read(head->sc);
    float d[8], m[8];
    floats_of_bytes(d, six.scale[0], six.scale[1], half(&head->d));
    floats_of_bytes(m, six.min[0], six.min[1], -half(&head->dmin));
    minima(m, k, e, n, sum);
    uint8x16_t h0 = vdupq_n_u8(0), h1 = h0;
    if (qh) {
        h0 = vld1q_u8(qh);
        h1 = vld1q_u8(qh + 16);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const uint8x16_t v0 = vld1q_u8(q + 32 * j), v1 = vld1q_u8(q + 32 * j + 16);
        uint8x16_t l0 = low_nibbles(v0), l1 = low_nibbles(v1);
        uint8x16_t u0 = high_nibbles(v0), u1 = high_nibbles(v1);
        if (qh) {
            const uint8x16_t one = vdupq_n_u8(1), next = vdupq_n_u8(2);
            l0 = vorrq_u8(l0, vshlq_n_u8(vandq_u8(h0, one), 4));
            l1 = vorrq_u8(l1, vshlq_n_u8(vandq_u8(h1, one), 4));
            u0 = vorrq_u8(u0, vshlq_n_u8(vandq_u8(h0, next), 3));
            u1 = vorrq_u8(u1, vshlq_n_u8(vandq_u8(h1, next), 3));
            h0 = vshrq_n_u8(h0, 2);
            h1 = vshrq_n_u8(h1, 2);
        }
        block32(vreinterpretq_s8_u8(l0), vreinterpretq_s8_u8(l1), d[2 * j], k, e + 64 * j, n, sum,
                0);
        block32(vreinterpretq_s8_u8(u0), vreinterpretq_s8_u8(u1), d[2 * j + 1], k, e + 64 * j + 32,
                n, sum, 1);
    }
}

/* Bits 2 s and 2 s + 1 of each byte, moved to bits 4 and 5. */
INLINE uint8x16_t two_bits(uint8x16_t v, const int s) {
    const uint8x16_t up = s == 0   ? vshlq_n_u8(v, 4)
                          : s == 1 ? vshlq_n_u8(v, 2)
                          : s == 2 ? v
                                   : vshrq_n_u8(v, 2);
    return vandq_u8(up, vdupq_n_u8(0x30));
}

INLINE void step_q6_k(const gm_block_q6_k *b, const tokens *k, int e, const int n,
                      vec sum[MAX_TOK]) {
    const float d = half(&b->d);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const uint8x16_t high0 = vld1q_u8(b->qh + 32 * h), high1 = vld1q_u8(b->qh + 32 * h + 16);
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            const uint8_t *ql = b->ql + 64 * h + 32 * (s & 1);
            const uint8x16_t v0 = vld1q_u8(ql), v1 = vld1q_u8(ql + 16);
            const uint8x16_t n0 = s < 2 ? low_nibbles(v0) : high_nibbles(v0);
            const uint8x16_t n1 = s < 2 ? low_nibbles(v1) : high_nibbles(v1);
            block16x2(signed_bytes(vorrq_u8(n0, two_bits(high0, s)), 32),
                      signed_bytes(vorrq_u8(n1, two_bits(high1, s)), 32),
                      d * (float)b->sc[8 * h + 2 * s], d * (float)b->sc[8 * h + 2 * s + 1], k,
                      e + 128 * h + 32 * s, n, sum);
        }
    }
}

/* ---- any format, unpacked first -------------------------------------------------------------- */

INLINE void step_unpacked(const unpacked *u, const gm_unpack_info *info, const tokens *k, int e,
                          const int n, vec sum[MAX_TOK]) {
    for (int j = 0; j < 8; j++) {
        const int8x16_t w0 = signed_bytes(vld1q_u8(u->q + 32 * j), info->offset);
        const int8x16_t w1 = signed_bytes(vld1q_u8(u->q + 32 * j + 16), info->offset);
        if (info->group == 32) block32(w0, w1, u->scale[j], k, e + 32 * j, n, sum, 0);
        else block16x2(w0, w1, u->scale[2 * j], u->scale[2 * j + 1], k, e + 32 * j, n, sum);
    }
    if (!info->has_min) return;
    if (info->group == 32) {
        minima(u->min, k, e, n, sum);
        return;
    }
    for (int t = 0; t < n; t++)
        for (int g = 0; g < 16; g += 4)
            sum[t].v[0] = vfmaq_f32(sum[t].v[0], vld1q_f32(u->min + g),
                                    vld1q_f32(k->x->ds16 + at(k, t, e) / 16 + g));
}

ROW_ANY

/* ---- rows ------------------------------------------------------------------------------------ */

ROW(q4_0, 36, 64, q4_0(w, k, e, n, sum, 0); q4_0(w + 18, k, e + 32, n, sum, 1))
ROW(q8_0, 68, 64, q8_0(w, k, e, n, sum, 0); q8_0(w + 34, k, e + 32, n, sum, 1))
ROW(iq4_nl, 36, 64, iq4(w + 2, half(w), k, e, n, sum, 0);
    iq4(w + 20, half(w + 18), k, e + 32, n, sum, 1))
ROW(iq4_xs, 136, 256, step_iq4_xs((const gm_block_iq4_xs *)w, k, e, n, sum))
ROW(q4_k, 144, 256, const gm_block_q4_k *b = (const gm_block_q4_k *)w;
    step_k(b, b->q, NULL, k, e, n, sum))
ROW(q5_k, 176, 256, const gm_block_q5_k *b = (const gm_block_q5_k *)w;
    step_k((const gm_block_q4_k *)w, b->q, b->qh, k, e, n, sum))
ROW(q6_k, 210, 256, step_q6_k((const gm_block_q6_k *)w, k, e, n, sum))

DOT(q4_0)
DOT(q8_0)
DOT(iq4_nl)
DOT(iq4_xs)
DOT(q4_k)
DOT(q5_k)
DOT(q6_k)
DOT(any)

INLINE void fill_dot(gm_dot_fns *f) {
    for (int t = 0; t < GM_DTYPE_LIMIT; t++)
        if (f->unpack[t]) f->dot[t] = dot_any;
    f->dot[GM_Q4_0] = dot_q4_0;
    f->dot[GM_Q8_0] = dot_q8_0;
    f->dot[GM_IQ4_NL] = dot_iq4_nl;
    f->dot[GM_IQ4_XS] = dot_iq4_xs;
    f->dot[GM_Q4_K] = dot_q4_k;
    f->dot[GM_Q5_K] = dot_q5_k;
    f->dot[GM_Q6_K] = dot_q6_k;
}
