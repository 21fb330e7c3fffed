/* rows_avx512.c: the row kernels with 512-bit registers.
 *
 * Every loop takes 16 elements at a time; what is left at the end goes through the same code under
 * a mask, so there are no second versions of the formulas for tails.
 */
#include <immintrin.h>
#include <math.h>
#include "kernels/cpu/rows.h"
#include "tensor/blocks.h"

enum { LANES = 16 };

/* The first n of 16 lanes; all when n is 16 or more. */
static __mmask16 lanes(int n) { return n >= LANES ? 0xFFFF : (__mmask16)((1u << n) - 1); }

/* ---- exp, tanh --------------------------------------------------------------------------- */

/* e^x = 2^n e^r with |r| <= ln 2 / 2. The polynomial is the Chebyshev fit of (e^r - 1 - r) / r^2,
 * relative error 8e-9; ln 2 is subtracted in two parts so that r is exact to the last bit. Gives 0
 * far below and infinity far above, through scalef; the clamps keep infinities out of r. */
static __m512 exp16(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-120.0f), x); /* this order lets NaN through */
    x = _mm512_min_ps(_mm512_set1_ps(100.0f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(0.00139262508f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00836323288f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0416665542f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.166665767f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/* Below 0.625 the Chebyshev fit of (tanh y - y) / y^3 in y^2, relative error 2e-8; above,
 * 1 - 2 / (e^2y + 1), whose cancellation is harmless there. */
static __m512 tanh16(__m512 y) {
    __m512 a = _mm512_abs_ps(y), z = _mm512_mul_ps(y, y), one = _mm512_set1_ps(1.0f);
    __m512 p = _mm512_set1_ps(-0.00609671417f);
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.0209971790f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(-0.0538509096f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.133327697f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(-0.333333289f));
    __m512 small = _mm512_fmadd_ps(_mm512_mul_ps(p, z), y, y);
    __m512 e = exp16(_mm512_add_ps(a, a));
    __m512 large = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(e, one)));
    __m512 sign = _mm512_and_ps(y, _mm512_set1_ps(-0.0f));
    __mmask16 is_small = _mm512_cmp_ps_mask(a, _mm512_set1_ps(0.625f), _CMP_LT_OQ);
    return _mm512_mask_blend_ps(is_small, _mm512_or_ps(large, sign), small);
}

/* ---- norms ------------------------------------------------------------------------------- */

static double sum_squares_avx512(const float *x, int n) {
    __m512d a = _mm512_setzero_pd(), b = _mm512_setzero_pd();
    for (int i = 0; i < n; i += LANES) {
        __m512 v = _mm512_maskz_loadu_ps(lanes(n - i), x + i);
        __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        __m512d hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        a = _mm512_fmadd_pd(lo, lo, a);
        b = _mm512_fmadd_pd(hi, hi, b);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(a, b));
}

static void scale_avx512(float *out, const float *x, const float *w, float r, int n) {
    __m512 vr = _mm512_set1_ps(r);
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), vr);
        if (w) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i));
        _mm512_mask_storeu_ps(out + i, m, v);
    }
}

static void add_scaled_avx512(float *h, const float *x, const float *w, float r, float s, int n) {
    __m512 vr = _mm512_set1_ps(r), vs = _mm512_set1_ps(s);
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), vr);
        v = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w + i), _mm512_maskz_loadu_ps(m, h + i));
        _mm512_mask_storeu_ps(h + i, m, _mm512_mul_ps(v, vs));
    }
}

static void rotate_avx512(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        __mmask16 m = lanes(half - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + half + i);
        __m512 c = _mm512_maskz_loadu_ps(m, cosine + i), s = _mm512_maskz_loadu_ps(m, sine + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

/* ---- activations ------------------------------------------------------------------------- */

static void geglu_avx512(float *out, const float *gate, const float *up, int n) {
    const __m512 one = _mm512_set1_ps(1.0f), cubic = _mm512_set1_ps(0.044715f);
    const __m512 minus_two_root = _mm512_set1_ps(-1.59576912160573f); /* -2 sqrt(2 / pi) */
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m512 x = _mm512_maskz_loadu_ps(m, gate + i);
        __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(cubic, _mm512_mul_ps(x, x)), x, x);
        __m512 e = exp16(_mm512_mul_ps(minus_two_root, inner));
        __m512 y = _mm512_div_ps(x, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(y, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

static void softcap_avx512(float *x, float cap, int n) {
    __m512 vcap = _mm512_set1_ps(cap);
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m512 y = tanh16(_mm512_div_ps(_mm512_maskz_loadu_ps(m, x + i), vcap));
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(y, vcap));
    }
}

static float exp_sum_avx512(float *x, float top, int n) {
    __m512 vtop = _mm512_set1_ps(top), sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), vtop));
        _mm512_mask_storeu_ps(x + i, m, e);
        sum = _mm512_mask_add_ps(sum, m, sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

static float max_avx512(const float *x, int n) {
    __m512 first = _mm512_set1_ps(x[0]), top = first;
    for (int i = 0; i < n; i += LANES)
        top = _mm512_max_ps(top, _mm512_mask_loadu_ps(first, lanes(n - i), x + i));
    return _mm512_reduce_max_ps(top);
}

/* ---- conversions ------------------------------------------------------------------------- */

static void to_f16_avx512(uint16_t *out, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        __m256i h = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, x + i),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(out + i, m, h);
    }
}

static void from_f16_avx512(float *out, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        __mmask16 m = lanes(n - i);
        _mm512_mask_storeu_ps(out + i, m, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, x + i)));
    }
}

/* 16 values to bytes, rounded half away from zero as roundf does: adding the float just below one
 * half cannot carry a value below one half up to one. What is out of range or NaN becomes 0. */
static __m128i to_bytes(__m512 x, __m512 inverse) {
    __m512 v = _mm512_mul_ps(x, inverse);
    __m512 half =
        _mm512_or_ps(_mm512_and_ps(v, _mm512_set1_ps(-0.0f)), _mm512_set1_ps(0x1.fffffep-2f));
    v = _mm512_roundscale_ps(_mm512_add_ps(v, half), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    __mmask16 good = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(127.0f), _CMP_LE_OQ);
    return _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(good, v));
}

static void to_q8_0_avx512(void *out, const float *x, int n) {
    gm_block_q8_0 *b = out;
    for (int i = 0; i < n; i += GM_QK, b++) {
        __m512 lo = _mm512_loadu_ps(x + i), hi = _mm512_loadu_ps(x + i + LANES);
        __m512 top = _mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi));
        /* Maxima forget a NaN. */
        const bool nan = _mm512_cmp_ps_mask(lo, hi, _CMP_UNORD_Q) != 0;
        float d = nan ? NAN : _mm512_reduce_max_ps(top) / 127.0f;
        __m512 inverse = _mm512_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
        b->d = _cvtss_sh(d, _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)b->q, to_bytes(lo, inverse));
        _mm_storeu_si128((__m128i *)(b->q + LANES), to_bytes(hi, inverse));
    }
}

static void from_q8_0_avx512(float *out, const void *x, int n) {
    const gm_block_q8_0 *b = x;
    for (int i = 0; i < n; i += GM_QK, b++) {
        __m512 d = _mm512_set1_ps(_cvtsh_ss(b->d));
        for (int j = 0; j < GM_QK; j += LANES) {
            __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(b->q + j)));
            _mm512_storeu_ps(out + i + j, _mm512_mul_ps(_mm512_cvtepi32_ps(q), d));
        }
    }
}

void gm_rows_fill_avx512(gm_row_fns *f) {
    *f = (gm_row_fns){
        .sum_squares = sum_squares_avx512,
        .scale = scale_avx512,
        .add_scaled = add_scaled_avx512,
        .rotate = rotate_avx512,
        .geglu = geglu_avx512,
        .softcap = softcap_avx512,
        .exp_sum = exp_sum_avx512,
        .max = max_avx512,
        .to_f16 = to_f16_avx512,
        .from_f16 = from_f16_avx512,
        .to_q8_0 = to_q8_0_avx512,
        .from_q8_0 = from_q8_0_avx512,
    };
}
