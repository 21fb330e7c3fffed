/* unpack_neon.c: the unpackers of gemm_unpack.h that prefill meets most, and the rounding of
 * activations. The other formats keep the plain C unpackers.
 */
#include <arm_neon.h>
#include <string.h>
#include "kernels/cpu/arm/arm.h"
#include "kernels/cpu/k_scales.h"
#include "tensor/blocks.h"
#include "tensor/quant.h"

#define INLINE static inline __attribute__((always_inline))

#define UNPACK_ARGS const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale, float *min

INLINE uint8x16_t low(uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }
INLINE uint8x16_t high(uint8x16_t v) { return vshrq_n_u8(v, 4); }

static void unpack_q4_0(UNPACK_ARGS) {
    (void)min;
    const gm_block_q4_0 *b = (const gm_block_q4_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++, q += 32) {
        const uint8x16_t v = vld1q_u8(b[i].q);
        vst1q_u8(q, low(v));
        vst1q_u8(q + 16, high(v));
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

static void unpack_q8_0(UNPACK_ARGS) {
    (void)min;
    const gm_block_q8_0 *b = (const gm_block_q8_0 *)row + k0 / 32;
    const uint8x16_t flip = vdupq_n_u8(0x80);
    for (int i = 0; i < n / 32; i++, q += 32) {
        const uint8_t *p = (const uint8_t *)b[i].q;
        vst1q_u8(q, veorq_u8(vld1q_u8(p), flip));
        vst1q_u8(q + 16, veorq_u8(vld1q_u8(p + 16), flip));
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

/* 16 bytes to 32 levels, + 128. */
INLINE void look_up(const uint8_t *p, uint8_t *q) {
    const uint8x16_t table =
        veorq_u8(vreinterpretq_u8_s8(vld1q_s8(gm_iq4_values)), vdupq_n_u8(0x80));
    const uint8x16_t v = vld1q_u8(p);
    vst1q_u8(q, vqtbl1q_u8(table, low(v)));
    vst1q_u8(q + 16, vqtbl1q_u8(table, high(v)));
}

static void unpack_iq4_nl(UNPACK_ARGS) {
    (void)min;
    const gm_block_iq4_nl *b = (const gm_block_iq4_nl *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        look_up(b[i].q, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

static void unpack_iq4_xs(UNPACK_ARGS) {
    (void)min;
    const gm_block_iq4_xs *b = (const gm_block_iq4_xs *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        const float d = gm_f16_to_f32(b[i].d);
        for (int g = 0; g < 8; g++) {
            look_up(b[i].q + 16 * g, q + 256 * i + 32 * g);
            scale[8 * i + g] = d * (float)gm_iq4_xs_scale(&b[i], g);
        }
    }
}

/* Scales and minima of Q4_K and Q5_K. */
INLINE void k_scales(const gm_block_q4_k *b, float *scale, float *min) {
    const float d = gm_f16_to_f32(b->d), dmin = gm_f16_to_f32(b->dmin);
    const gm_k_scales six = gm_k_scales_read(b->sc);
    for (int j = 0; j < 8; j++) {
        scale[j] = d * (float)(six.scale[j / 4] >> 8 * (j % 4) & 63);
        min[j] = -dmin * (float)(six.min[j / 4] >> 8 * (j % 4) & 63);
    }
}

static void unpack_q4_k(UNPACK_ARGS) {
    const gm_block_q4_k *b = (const gm_block_q4_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int j = 0; j < 8; j++) {
            const uint8x16_t v = vld1q_u8(b[i].q + 16 * j);
            uint8_t *to = q + 64 * (j / 2) + 16 * (j % 2);
            vst1q_u8(to, low(v));
            vst1q_u8(to + 32, high(v));
        }
        k_scales(&b[i], scale + 8 * i, min + 8 * i);
    }
}

static void unpack_q5_k(UNPACK_ARGS) {
    const gm_block_q5_k *b = (const gm_block_q5_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int half = 0; half < 2; half++) {
            uint8x16_t h = vld1q_u8(b[i].qh + 16 * half);
            for (int j = 0; j < 4; j++) {
                const uint8x16_t v = vld1q_u8(b[i].q + 32 * j + 16 * half);
                const uint8x16_t h0 = vshlq_n_u8(vandq_u8(h, vdupq_n_u8(1)), 4);
                const uint8x16_t h1 = vshlq_n_u8(vandq_u8(h, vdupq_n_u8(2)), 3);
                vst1q_u8(q + 64 * j + 16 * half, vorrq_u8(low(v), h0));
                vst1q_u8(q + 64 * j + 32 + 16 * half, vorrq_u8(high(v), h1));
                h = vshrq_n_u8(h, 2);
            }
        }
        k_scales((const gm_block_q4_k *)&b[i], scale + 8 * i, min + 8 * i);
    }
}

static void unpack_q6_k(UNPACK_ARGS) {
    (void)min;
    const gm_block_q6_k *b = (const gm_block_q6_k *)row + k0 / 256;
    const uint8x16_t two = vdupq_n_u8(0x30);
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int part = 0; part < 4; part++) {
            const int h = part / 2, half = 16 * (part % 2);
            const uint8x16_t v = vld1q_u8(b[i].qh + 32 * h + half);
            const uint8x16_t a = vld1q_u8(b[i].ql + 64 * h + half);
            const uint8x16_t c = vld1q_u8(b[i].ql + 64 * h + 32 + half);
            uint8_t *to = q + 128 * h + half;
            vst1q_u8(to, vorrq_u8(low(a), vandq_u8(vshlq_n_u8(v, 4), two)));
            vst1q_u8(to + 32, vorrq_u8(low(c), vandq_u8(vshlq_n_u8(v, 2), two)));
            vst1q_u8(to + 64, vorrq_u8(high(a), vandq_u8(v, two)));
            vst1q_u8(to + 96, vorrq_u8(high(c), vandq_u8(vshrq_n_u8(v, 2), two)));
        }
        const float d = gm_f16_to_f32(b[i].d);
        for (int j = 0; j < 16; j++) scale[16 * i + j] = d * (float)b[i].sc[j];
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

INLINE int32x4_t round4(float32x4_t v, float inv) {
    v = vmulq_n_f32(v, inv);
    /* The number wins over NaN, whose block has a scale that carries it on. */
    v = vmaxnmq_f32(vminnmq_f32(v, vdupq_n_f32(127.0f)), vdupq_n_f32(-127.0f));
    return vcvtnq_s32_f32(v);
}

/* One block; s16: the sums of its halves. Returns the scale. */
INLINE float quantise_block(const float *src, int8_t *q, int32_t *s16) {
    float32x4_t v[8], m = vdupq_n_f32(0);
    for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(src + 4 * i);
        m = vmaxq_f32(m, vabsq_f32(v[i]));
    }
    const float amax = vmaxvq_f32(m);
    const bool zero = amax < GM_XQ_LEAST;
    const float inv = zero ? 0 : 127.0f / amax;
    for (int h = 0; h < 2; h++) {
        const int16x8_t a =
            vcombine_s16(vmovn_s32(round4(v[4 * h], inv)), vmovn_s32(round4(v[4 * h + 1], inv)));
        const int16x8_t b = vcombine_s16(vmovn_s32(round4(v[4 * h + 2], inv)),
                                         vmovn_s32(round4(v[4 * h + 3], inv)));
        vst1q_s8(q + 16 * h, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
        s16[h] = vaddlvq_s16(vaddq_s16(a, b));
    }
    return zero ? 0 : amax / 127.0f;
}

static void quantise_neon(gm_xq *x, int32_t t) {
    const float *src = x->x + (size_t)t * (size_t)x->n_in;
    int8_t *q = x->q + (size_t)t * (size_t)x->n_pad;
    float *d = x->d + (size_t)t * (size_t)(x->n_pad / 32);
    int32_t *s16 = x->s16 + (size_t)t * (size_t)(x->n_pad / 16);
    int b = 0;
    for (; b < x->n_in / 32; b++) d[b] = quantise_block(src + 32 * b, q + 32 * b, s16 + 2 * b);
    for (; b < x->n_pad / 32; b++) {
        float last[32] = {0};
        const int left = x->n_in - 32 * b;
        if (left > 0) memcpy(last, src + 32 * b, (size_t)left * sizeof *last);
        d[b] = quantise_block(last, q + 32 * b, s16 + 2 * b);
    }
    gm_xq_finish(x, t);
}

void gm_unpack_fill_neon(gm_dot_fns *f) {
    f->quantise = quantise_neon;
    f->unpack[GM_Q4_0] = unpack_q4_0;
    f->unpack[GM_Q8_0] = unpack_q8_0;
    f->unpack[GM_IQ4_NL] = unpack_iq4_nl;
    f->unpack[GM_IQ4_XS] = unpack_iq4_xs;
    f->unpack[GM_Q4_K] = unpack_q4_k;
    f->unpack[GM_Q5_K] = unpack_q5_k;
    f->unpack[GM_Q6_K] = unpack_q6_k;
}
