/* dot_neon.c: decode with baseline ARMv8; float formats. */
#define GM_NEON_DOTPROD 0
#include "kernels/cpu/arm/dot_neon.h"

/* Four weights as floats. */
INLINE float32x4_t wide(gm_dtype t, const uint8_t *w) {
    if (t == GM_F32) return vreinterpretq_f32_u8(vld1q_u8(w));
    const uint16x4_t h = vreinterpret_u16_u8(vld1_u8(w));
    if (t == GM_F16) return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* Four sums per token; with four lanes 16 partial ones, as in the plain C reference. */
INLINE void rows_float(const gm_dot_args *a, gm_dtype type, const int n) {
    const int n_in = a->x->n_in, whole = n_in / 16 * 16;
    const size_t elem = type == GM_F32 ? 4 : 2;
    const float *x = a->x->x + (size_t)a->tok * (size_t)n_in;
    for (int r = 0; r < a->n_row; r++) {
        const uint8_t *w = a->w + (size_t)r * a->row_bytes;
        float32x4_t s[MAX_TOK][4];
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) s[t][0] = s[t][1] = s[t][2] = s[t][3] = vdupq_n_f32(0);
        for (int e = 0; e < whole; e += 16) {
            prefetch(w + (size_t)e * elem, a->ahead, 1);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const float32x4_t v = wide(type, w + (size_t)(e + 4 * i) * elem);
#pragma GCC unroll 4
                for (int t = 0; t < n; t++)
                    s[t][i] =
                        vfmaq_f32(s[t][i], v, vld1q_f32(x + (size_t)t * (size_t)n_in + e + 4 * i));
            }
        }
        /* Up to 15 elements, padded with zeros. */
        uint8_t last_w[16 * 4] = {0};
        const size_t left = (size_t)(n_in - whole);
        memcpy(last_w, w + (size_t)whole * elem, left * elem);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            float last_x[16] = {0};
            memcpy(last_x, x + (size_t)t * (size_t)n_in + whole, left * sizeof *x);
            for (int i = 0; i < 4; i++)
                s[t][i] = vfmaq_f32(s[t][i], wide(type, last_w + (size_t)(4 * i) * elem),
                                    vld1q_f32(last_x + 4 * i));
            const float32x4_t lo = vaddq_f32(s[t][0], s[t][1]), hi = vaddq_f32(s[t][2], s[t][3]);
            a->out[(size_t)t * a->out_stride + (size_t)r] = vaddvq_f32(vaddq_f32(lo, hi));
        }
    }
}

DOT_FLOAT(f32, GM_F32)
DOT_FLOAT(f16, GM_F16)
DOT_FLOAT(bf16, GM_BF16)

void gm_dot_fill_neon(gm_dot_fns *f) {
    fill_dot(f);
    f->dot[GM_F32] = dot_f32;
    f->dot[GM_F16] = dot_f16;
    f->dot[GM_BF16] = dot_bf16;
}
