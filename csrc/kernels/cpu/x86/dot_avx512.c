/* dot_avx512.c: decode 512 bits wide on CPUs without VNNI; float formats. */
#define GM_ZMM_VNNI 0
#include "kernels/cpu/x86/dot_zmm.h"

/* Sixteen weights as floats; left: how many of them exist. */
INLINE __m512 wide(gm_dtype t, const uint8_t *w, __mmask16 left) {
    if (t == GM_F32) return _mm512_maskz_loadu_ps(left, w);
    const __m256i h = _mm256_maskz_loadu_epi16(left, w);
    if (t == GM_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Two sums per token (32 partial ones in all): enough for the latency of an addition, and the
 * rounding of a sum of 15,360 stays near that of its parts. */
INLINE void rows_float(const gm_dot_args *a, gm_dtype type, const int n) {
    const int n_in = a->x->n_in;
    const size_t elem = type == GM_F32 ? 4 : 2;
    const float *x = a->x->x + (size_t)a->tok * (size_t)n_in;
    for (int r = 0; r < a->n_row; r++) {
        const uint8_t *w = a->w + (size_t)r * a->row_bytes;
        __m512 s0[MAX_TOK], s1[MAX_TOK];
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) s0[t] = s1[t] = _mm512_setzero_ps();
        int e = 0;
        for (; e + 32 <= n_in; e += 32) {
            prefetch(w + (size_t)e * elem, a->ahead, (int)(32 * elem));
            const __m512 w0 = wide(type, w + (size_t)e * elem, 0xffff);
            const __m512 w1 = wide(type, w + (size_t)(e + 16) * elem, 0xffff);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const float *xt = x + (size_t)t * (size_t)n_in + e;
                s0[t] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(xt), s0[t]);
                s1[t] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(xt + 16), s1[t]);
            }
        }
        for (; e < n_in; e += 16) {
            const __mmask16 left = (__mmask16)(n_in - e >= 16 ? 0xffff : (1u << (n_in - e)) - 1);
            const __m512 w0 = wide(type, w + (size_t)e * elem, left);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const float *xt = x + (size_t)t * (size_t)n_in + e;
                s0[t] = _mm512_fmadd_ps(w0, _mm512_maskz_loadu_ps(left, xt), s0[t]);
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < n; t++)
            a->out[(size_t)t * a->out_stride + (size_t)r] =
                _mm512_reduce_add_ps(_mm512_add_ps(s0[t], s1[t]));
    }
}

INLINE __m512 sixteen(const uint8_t *w) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)w)));
}

/* As in dot_avx2.c. */
static void exact_q8_0(const gm_dot_args *a) {
    for (int r = 0; r < a->n_row; r++) {
        const float *x = a->x->x + (size_t)a->tok * (size_t)a->x->n_in;
        for (int t = 0; t < a->n_tok; t++) {
            const uint8_t *w = a->w + (size_t)r * a->row_bytes;
            __m512 sum = _mm512_setzero_ps();
            for (int e = 0; e < a->x->n_in; e += 32, w += 34, x += 32) {
                __m512 s = _mm512_mul_ps(sixteen(w + 2), _mm512_loadu_ps(x));
                s = _mm512_fmadd_ps(sixteen(w + 18), _mm512_loadu_ps(x + 16), s);
                const __m128 d = _mm_cvtph_ps(_mm_loadl_epi64((const void *)w));
                sum = _mm512_fmadd_ps(_mm512_broadcastss_ps(d), s, sum);
            }
            a->out[(size_t)t * a->out_stride + (size_t)r] = _mm512_reduce_add_ps(sum);
        }
    }
}

DOT_FLOAT(f32, GM_F32)
DOT_FLOAT(f16, GM_F16)
DOT_FLOAT(bf16, GM_BF16)

void gm_dot_fill_avx512(gm_dot_fns *f) {
    f->dot[GM_F32] = dot_f32;
    f->dot[GM_F16] = dot_f16;
    f->dot[GM_BF16] = dot_bf16;
    f->exact[GM_Q8_0] = exact_q8_0;
    f->dot[GM_Q4_0] = dot_q4_0;
    f->dot[GM_Q4_K] = dot_q4_k;
    f->dot[GM_Q5_K] = dot_q5_k;
    f->dot[GM_Q6_K] = dot_q6_k;
    f->fill_few[GM_Q4_0] = fill_lanes;
    f->fill_few[GM_Q4_K] = f->fill_few[GM_Q5_K] = fill_pairs;
    f->fill_few[GM_Q6_K] = fill_quads;
}
