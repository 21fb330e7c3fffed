/* rows_avx2.c: the row kernels with 256-bit registers (AVX2, FMA, F16C).
 *
 * As in rows_avx512.c, tails go through the same code as everything else: `load` and `store` take
 * the number of elements that are left and touch no more.
 */
#include <immintrin.h>
#include <math.h>
#include "kernels/cpu/rows.h"
#include "tensor/blocks.h"

enum { LANES = 8 };

/* Ones in the first n of 8 lanes, 0 <= n <= 8. */
static __m256i lanes(int n) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(ones + 8 - n));
}

static __m256 load(const float *x, int left) {
    return left >= LANES ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes(left));
}

static void store(float *x, __m256 v, int left) {
    if (left >= LANES) _mm256_storeu_ps(x, v);
    else _mm256_maskstore_ps(x, lanes(left), v);
}

static float reduce_add(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static float reduce_max(__m256 v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static __m256 magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

/* ---- exp, tanh --------------------------------------------------------------------------- */

static __m256 power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2. The polynomial is the Chebyshev fit of (e^r - 1 - r) / r^2,
 * relative error 8e-9; ln 2 is subtracted in two parts so that r is exact to the last bit. 2^n is
 * multiplied in two halves: n from -173 to 144 then gives 0 and infinity where it should. */
static __m256 exp8(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-120.0f), x); /* this order lets NaN through */
    x = _mm256_min_ps(_mm256_set1_ps(100.0f), x);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(0.00139262508f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.00836323288f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.0416665542f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.166665767f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    __m256i whole = _mm256_cvtps_epi32(n), part = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, power_of_two(part));
    return _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(whole, part)));
}

/* Below 0.625 the Chebyshev fit of (tanh y - y) / y^3 in y^2, relative error 2e-8; above,
 * 1 - 2 / (e^2y + 1), whose cancellation is harmless there. */
static __m256 tanh8(__m256 y) {
    __m256 a = magnitude(y), z = _mm256_mul_ps(y, y), one = _mm256_set1_ps(1.0f);
    __m256 p = _mm256_set1_ps(-0.00609671417f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.0209971790f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-0.0538509096f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.133327697f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-0.333333289f));
    __m256 small = _mm256_fmadd_ps(_mm256_mul_ps(p, z), y, y);
    __m256 e = exp8(_mm256_add_ps(a, a));
    __m256 large = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
    __m256 sign = _mm256_and_ps(y, _mm256_set1_ps(-0.0f));
    __m256 is_small = _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ);
    return _mm256_blendv_ps(_mm256_or_ps(large, sign), small, is_small);
}

/* ---- norms ------------------------------------------------------------------------------- */

static double sum_squares_avx2(const float *x, int n) {
    __m256d a = _mm256_setzero_pd(), b = _mm256_setzero_pd();
    for (int i = 0; i < n; i += LANES) {
        __m256 v = load(x + i, n - i);
        __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        __m256d hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        a = _mm256_fmadd_pd(lo, lo, a);
        b = _mm256_fmadd_pd(hi, hi, b);
    }
    a = _mm256_add_pd(a, b);
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static void scale_avx2(float *out, const float *x, const float *w, float r, int n) {
    __m256 vr = _mm256_set1_ps(r);
    for (int i = 0; i < n; i += LANES) {
        __m256 v = _mm256_mul_ps(load(x + i, n - i), vr);
        if (w) v = _mm256_mul_ps(v, load(w + i, n - i));
        store(out + i, v, n - i);
    }
}

static void add_scaled_avx2(float *h, const float *x, const float *w, float r, float s, int n) {
    __m256 vr = _mm256_set1_ps(r), vs = _mm256_set1_ps(s);
    for (int i = 0; i < n; i += LANES) {
        __m256 v = _mm256_mul_ps(load(x + i, n - i), vr);
        v = _mm256_fmadd_ps(v, load(w + i, n - i), load(h + i, n - i));
        store(h + i, _mm256_mul_ps(v, vs), n - i);
    }
}

static void rotate_avx2(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        int left = half - i;
        __m256 a = load(x + i, left), b = load(x + half + i, left);
        __m256 c = load(cosine + i, left), s = load(sine + i, left);
        store(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), left);
        store(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)), left);
    }
}

/* ---- activations ------------------------------------------------------------------------- */

static void geglu_avx2(float *out, const float *gate, const float *up, int n) {
    const __m256 one = _mm256_set1_ps(1.0f), cubic = _mm256_set1_ps(0.044715f);
    const __m256 minus_two_root = _mm256_set1_ps(-1.59576912160573f); /* -2 sqrt(2 / pi) */
    for (int i = 0; i < n; i += LANES) {
        __m256 x = load(gate + i, n - i);
        __m256 inner = _mm256_fmadd_ps(_mm256_mul_ps(cubic, _mm256_mul_ps(x, x)), x, x);
        __m256 e = exp8(_mm256_mul_ps(minus_two_root, inner));
        __m256 y = _mm256_div_ps(x, _mm256_add_ps(one, e));
        store(out + i, _mm256_mul_ps(y, load(up + i, n - i)), n - i);
    }
}

static void softcap_avx2(float *x, float cap, int n) {
    __m256 vcap = _mm256_set1_ps(cap);
    for (int i = 0; i < n; i += LANES) {
        __m256 y = tanh8(_mm256_div_ps(load(x + i, n - i), vcap));
        store(x + i, _mm256_mul_ps(y, vcap), n - i);
    }
}

static float exp_sum_avx2(float *x, float top, int n) {
    __m256 vtop = _mm256_set1_ps(top), sum = _mm256_setzero_ps();
    for (int i = 0; i < n; i += LANES) {
        __m256 e = exp8(_mm256_sub_ps(load(x + i, n - i), vtop));
        store(x + i, e, n - i);
        if (n - i < LANES) e = _mm256_and_ps(e, _mm256_castsi256_ps(lanes(n - i)));
        sum = _mm256_add_ps(sum, e);
    }
    return reduce_add(sum);
}

static float max_avx2(const float *x, int n) {
    __m256 first = _mm256_set1_ps(x[0]), top = first;
    for (int i = 0; i < n; i += LANES) {
        __m256 v = load(x + i, n - i);
        if (n - i < LANES) v = _mm256_blendv_ps(first, v, _mm256_castsi256_ps(lanes(n - i)));
        top = _mm256_max_ps(top, v);
    }
    return reduce_max(top);
}

/* ---- conversions ------------------------------------------------------------------------- */

static void to_f16_avx2(uint16_t *out, const float *x, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm_storeu_si128((__m128i *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) out[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}

static void from_f16_avx2(float *out, const uint16_t *x, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    for (; i < n; i++) out[i] = _cvtsh_ss(x[i]);
}

/* 8 values to 32-bit integers, rounded half away from zero as roundf does: adding the float just
 * below one half cannot carry a value below one half up to one. What is out of range or NaN becomes
 * 0. */
static __m256i to_ints(const float *x, __m256 inverse) {
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
    __m256 half =
        _mm256_or_ps(_mm256_and_ps(v, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(0x1.fffffep-2f));
    v = _mm256_round_ps(_mm256_add_ps(v, half), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    __m256 good = _mm256_cmp_ps(magnitude(v), _mm256_set1_ps(127.0f), _CMP_LE_OQ);
    return _mm256_cvtps_epi32(_mm256_and_ps(v, good));
}

static void to_q8_0_avx2(void *out, const float *x, int n) {
    /* Packing works within halves of a register; this puts groups of four back in order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    gm_block_q8_0 *b = out;
    for (int i = 0; i < n; i += GM_QK, b++, x += GM_QK) {
        /* Maxima forget a NaN. */
        __m256 top = _mm256_setzero_ps(), nan = top;
        for (int j = 0; j < GM_QK; j += LANES) {
            const __m256 v = _mm256_loadu_ps(x + j);
            top = _mm256_max_ps(magnitude(v), top);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        }
        float d = _mm256_movemask_ps(nan) ? NAN : reduce_max(top) / 127.0f;
        __m256 inverse = _mm256_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
        b->d = _cvtss_sh(d, _MM_FROUND_TO_NEAREST_INT);
        __m256i lo = _mm256_packs_epi32(to_ints(x, inverse), to_ints(x + 8, inverse));
        __m256i hi = _mm256_packs_epi32(to_ints(x + 16, inverse), to_ints(x + 24, inverse));
        __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
        _mm256_storeu_si256((__m256i *)b->q, q);
    }
}

static void from_q8_0_avx2(float *out, const void *x, int n) {
    const gm_block_q8_0 *b = x;
    for (int i = 0; i < n; i += GM_QK, b++) {
        __m256 d = _mm256_set1_ps(_cvtsh_ss(b->d));
        for (int j = 0; j < GM_QK; j += LANES) {
            __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(b->q + j)));
            _mm256_storeu_ps(out + i + j, _mm256_mul_ps(_mm256_cvtepi32_ps(q), d));
        }
    }
}

void gm_rows_fill_avx2(gm_row_fns *f) {
    *f = (gm_row_fns){
        .sum_squares = sum_squares_avx2,
        .scale = scale_avx2,
        .add_scaled = add_scaled_avx2,
        .rotate = rotate_avx2,
        .geglu = geglu_avx2,
        .softcap = softcap_avx2,
        .exp_sum = exp_sum_avx2,
        .max = max_avx2,
        .to_f16 = to_f16_avx2,
        .from_f16 = from_f16_avx2,
        .to_q8_0 = to_q8_0_avx2,
        .from_q8_0 = from_q8_0_avx2,
    };
}
