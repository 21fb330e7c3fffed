/* rows_neon.c: the row kernels with 128-bit registers (baseline ARMv8).
 *
 * As in rows_avx512.c, tails go through the same code as everything else: `load` and `store` take
 * the number of elements that are left and touch no more.
 */
#include <arm_neon.h>
#include <string.h>
#include "kernels/cpu/rows.h"
#include "tensor/blocks.h"

enum { LANES = 4 };

typedef float32x4_t vec;

static inline vec load(const float *x, int left) {
    if (left >= LANES) return vld1q_f32(x);
    float part[LANES] = {0};
    memcpy(part, x, (size_t)left * sizeof *x);
    return vld1q_f32(part);
}

static inline void store(float *x, vec v, int left) {
    if (left >= LANES) {
        vst1q_f32(x, v);
        return;
    }
    float part[LANES];
    vst1q_f32(part, v);
    memcpy(x, part, (size_t)left * sizeof *x);
}

/* ---- exp, tanh --------------------------------------------------------------------------- */

static inline vec power_of_two(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* c + a * b */
static inline vec fma4(vec a, vec b, float c) { return vfmaq_f32(vdupq_n_f32(c), a, b); }

/* exp8 of rows_avx2.c, which tells where the numbers come from. */
static inline vec exp4(vec x) {
    x = vmaxq_f32(vminq_f32(x, vdupq_n_f32(100.0f)), vdupq_n_f32(-120.0f)); /* NaN stays NaN */
    const vec n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    vec r = vfmsq_n_f32(x, n, 0x1.62e4p-1f);
    r = vfmsq_n_f32(r, n, 0x1.7f7d1cp-20f);
    vec p = vdupq_n_f32(0.00139262508f);
    p = fma4(p, r, 0.00836323288f);
    p = fma4(p, r, 0.0416665542f);
    p = fma4(p, r, 0.166665767f);
    p = fma4(p, r, 0.5f);
    p = vfmaq_f32(r, vmulq_f32(r, r), p);
    p = vaddq_f32(p, vdupq_n_f32(1.0f));
    const int32x4_t whole = vcvtnq_s32_f32(n), part = vshrq_n_s32(whole, 1);
    p = vmulq_f32(p, power_of_two(part));
    return vmulq_f32(p, power_of_two(vsubq_s32(whole, part)));
}

/* tanh8 of rows_avx2.c. */
static inline vec tanh4(vec y) {
    const vec a = vabsq_f32(y), z = vmulq_f32(y, y), one = vdupq_n_f32(1.0f);
    vec p = vdupq_n_f32(-0.00609671417f);
    p = fma4(p, z, 0.0209971790f);
    p = fma4(p, z, -0.0538509096f);
    p = fma4(p, z, 0.133327697f);
    p = fma4(p, z, -0.333333289f);
    const vec small = vfmaq_f32(y, vmulq_f32(p, z), y);
    const vec e = exp4(vaddq_f32(a, a));
    const vec large = vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0f), vaddq_f32(e, one)));
    const uint32x4_t sign = vdupq_n_u32(0x80000000u);
    return vbslq_f32(vcltq_f32(a, vdupq_n_f32(0.625f)), small, vbslq_f32(sign, y, large));
}

/* ---- norms ------------------------------------------------------------------------------- */

static double sum_squares_neon(const float *x, int n) {
    float64x2_t a = vdupq_n_f64(0), b = a;
    for (int i = 0; i < n; i += LANES) {
        const vec v = load(x + i, n - i);
        const float64x2_t lo = vcvt_f64_f32(vget_low_f32(v)), hi = vcvt_high_f64_f32(v);
        a = vfmaq_f64(a, lo, lo);
        b = vfmaq_f64(b, hi, hi);
    }
    return vaddvq_f64(vaddq_f64(a, b));
}

static void scale_neon(float *out, const float *x, const float *w, float r, int n) {
    for (int i = 0; i < n; i += LANES) {
        vec v = vmulq_n_f32(load(x + i, n - i), r);
        if (w) v = vmulq_f32(v, load(w + i, n - i));
        store(out + i, v, n - i);
    }
}

static void add_scaled_neon(float *h, const float *x, const float *w, float r, float s, int n) {
    for (int i = 0; i < n; i += LANES) {
        const vec v = vmulq_n_f32(load(x + i, n - i), r);
        const vec sum = vfmaq_f32(load(h + i, n - i), v, load(w + i, n - i));
        store(h + i, vmulq_n_f32(sum, s), n - i);
    }
}

static void rotate_neon(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        const int left = half - i;
        const vec a = load(x + i, left), b = load(x + half + i, left);
        const vec c = load(cosine + i, left), s = load(sine + i, left);
        store(x + i, vfmsq_f32(vmulq_f32(a, c), b, s), left);
        store(x + half + i, vfmaq_f32(vmulq_f32(b, c), a, s), left);
    }
}

/* ---- activations ------------------------------------------------------------------------- */

static void geglu_neon(float *out, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i += LANES) {
        const vec x = load(gate + i, n - i);
        const vec inner = vfmaq_f32(x, vmulq_n_f32(vmulq_f32(x, x), 0.044715f), x);
        const vec e = exp4(vmulq_n_f32(inner, -1.59576912160573f)); /* -2 sqrt(2 / pi) */
        const vec y = vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), e));
        store(out + i, vmulq_f32(y, load(up + i, n - i)), n - i);
    }
}

static void softcap_neon(float *x, float cap, int n) {
    for (int i = 0; i < n; i += LANES) {
        const vec y = tanh4(vdivq_f32(load(x + i, n - i), vdupq_n_f32(cap)));
        store(x + i, vmulq_n_f32(y, cap), n - i);
    }
}

/* The first `left` lanes of a, the others of b. */
static inline vec first_lanes(vec a, vec b, int left) {
    const uint32_t index[LANES] = {0, 1, 2, 3};
    return vbslq_f32(vcltq_u32(vld1q_u32(index), vdupq_n_u32((uint32_t)left)), a, b);
}

static float exp_sum_neon(float *x, float top, int n) {
    vec sum = vdupq_n_f32(0);
    for (int i = 0; i < n; i += LANES) {
        const vec e = exp4(vsubq_f32(load(x + i, n - i), vdupq_n_f32(top)));
        store(x + i, e, n - i);
        sum = vaddq_f32(sum, n - i >= LANES ? e : first_lanes(e, vdupq_n_f32(0), n - i));
    }
    return vaddvq_f32(sum);
}

static float max_neon(const float *x, int n) {
    const vec first = vdupq_n_f32(x[0]);
    vec top = first;
    for (int i = 0; i < n; i += LANES) {
        const vec v = load(x + i, n - i);
        top = vmaxq_f32(top, n - i >= LANES ? v : first_lanes(v, first, n - i));
    }
    return vmaxvq_f32(top);
}

/* ---- conversions ------------------------------------------------------------------------- */

static void to_f16_neon(uint16_t *out, const float *x, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    for (; i < n; i++) {
        const __fp16 h = (__fp16)x[i];
        memcpy(out + i, &h, 2);
    }
}

static inline float half(uint16_t bits) {
    __fp16 h;
    memcpy(&h, &bits, 2);
    return h;
}

static void from_f16_neon(float *out, const uint16_t *x, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + i))));
    for (; i < n; i++) out[i] = half(x[i]);
}

/* Rounded half away from zero as roundf does; what is out of range or NaN becomes 0. */
static inline int16x4_t to_shorts(const float *x, float inverse) {
    const vec v = vrndaq_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    const uint32x4_t good = vcaleq_f32(v, vdupq_n_f32(127.0f));
    return vmovn_s32(
        vcvtq_s32_f32(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), good))));
}

static void to_q8_0_neon(void *out, const float *x, int n) {
    gm_block_q8_0 *b = out;
    for (int i = 0; i < n; i += GM_QK, b++, x += GM_QK) {
        vec top = vdupq_n_f32(0);
        /* NaN wins over the number. */
        for (int j = 0; j < GM_QK; j += LANES) top = vmaxq_f32(top, vabsq_f32(vld1q_f32(x + j)));
        const float d = vmaxvq_f32(top) / 127.0f;
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        const __fp16 h = (__fp16)d;
        memcpy(&b->d, &h, 2);
        for (int j = 0; j < GM_QK; j += 8)
            vst1_s8(b->q + j, vmovn_s16(vcombine_s16(to_shorts(x + j, inverse),
                                                     to_shorts(x + j + 4, inverse))));
    }
}

static void from_q8_0_neon(float *out, const void *x, int n) {
    const gm_block_q8_0 *b = x;
    for (int i = 0; i < n; i += GM_QK, b++) {
        const float d = half(b->d);
        for (int j = 0; j < GM_QK; j += 8) {
            const int16x8_t q = vmovl_s8(vld1_s8(b->q + j));
            vst1q_f32(out + i + j, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), d));
            vst1q_f32(out + i + j + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(q)), d));
        }
    }
}

void gm_rows_fill_neon(gm_row_fns *f) {
    *f = (gm_row_fns){
        .sum_squares = sum_squares_neon,
        .scale = scale_neon,
        .add_scaled = add_scaled_neon,
        .rotate = rotate_neon,
        .geglu = geglu_neon,
        .softcap = softcap_neon,
        .exp_sum = exp_sum_neon,
        .max = max_neon,
        .to_f16 = to_f16_neon,
        .from_f16 = from_f16_neon,
        .to_q8_0 = to_q8_0_neon,
        .from_q8_0 = from_q8_0_neon,
    };
}
