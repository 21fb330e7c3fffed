/* dot_avx2.c: decode 256 bits wide; float formats. */
#define GM_YMM_VNNI 0
#include "kernels/cpu/x86/dot_ymm.h"

/* Eight weights as floats. */
INLINE vec wide(gm_dtype t, const uint8_t *w) {
    if (t == GM_F32) return _mm256_loadu_ps((const float *)(const void *)w);
    const __m128i h = _mm_loadu_si128((const void *)w);
    if (t == GM_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE vec eight(const uint8_t *w) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)w)));
}

/* Two sums per token; with eight lanes 16 partial ones, as in the plain C reference. */
INLINE void rows_float(const gm_dot_args *a, gm_dtype type, const int n) {
    const int n_in = a->x->n_in, whole = n_in / 16 * 16;
    const size_t elem = type == GM_F32 ? 4 : 2;
    const float *x = a->x->x + (size_t)a->tok * (size_t)n_in;
    for (int r = 0; r < a->n_row; r++) {
        const uint8_t *w = a->w + (size_t)r * a->row_bytes;
        vec s0[MAX_TOK], s1[MAX_TOK];
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) s0[t] = s1[t] = vec_zero();
        for (int e = 0; e < whole; e += 16) {
            prefetch(w + (size_t)e * elem, a->ahead, 1);
            const vec w0 = wide(type, w + (size_t)e * elem);
            const vec w1 = wide(type, w + (size_t)(e + 8) * elem);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const float *xt = x + (size_t)t * (size_t)n_in + e;
                s0[t] = _mm256_fmadd_ps(w0, _mm256_loadu_ps(xt), s0[t]);
                s1[t] = _mm256_fmadd_ps(w1, _mm256_loadu_ps(xt + 8), s1[t]);
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
            s0[t] = _mm256_fmadd_ps(wide(type, last_w), _mm256_loadu_ps(last_x), s0[t]);
            s1[t] =
                _mm256_fmadd_ps(wide(type, last_w + 8 * elem), _mm256_loadu_ps(last_x + 8), s1[t]);
            a->out[(size_t)t * a->out_stride + (size_t)r] = vec_sum(_mm256_add_ps(s0[t], s1[t]));
        }
    }
}

/* Q8_0 with float activations: about the instructions of one go with 8 bits, which would need two.
 * A model that is small enough for this lies in the caches, where they are what takes the time. */
static void exact_q8_0(const gm_dot_args *a) {
    for (int r = 0; r < a->n_row; r++) {
        const float *x = a->x->x + (size_t)a->tok * (size_t)a->x->n_in;
        for (int t = 0; t < a->n_tok; t++) {
            const uint8_t *w = a->w + (size_t)r * a->row_bytes;
            vec sum = vec_zero();
            for (int e = 0; e < a->x->n_in; e += 32, w += 34, x += 32) {
                vec s = _mm256_mul_ps(eight(w + 2), _mm256_loadu_ps(x));
                s = _mm256_fmadd_ps(eight(w + 10), _mm256_loadu_ps(x + 8), s);
                s = _mm256_fmadd_ps(eight(w + 18), _mm256_loadu_ps(x + 16), s);
                s = _mm256_fmadd_ps(eight(w + 26), _mm256_loadu_ps(x + 24), s);
                const __m128 d = _mm_cvtph_ps(_mm_loadl_epi64((const void *)w));
                sum = _mm256_fmadd_ps(_mm256_broadcastss_ps(d), s, sum);
            }
            a->out[(size_t)t * a->out_stride + (size_t)r] = vec_sum(sum);
        }
    }
}

DOT_FLOAT(f32, GM_F32)
DOT_FLOAT(f16, GM_F16)
DOT_FLOAT(bf16, GM_BF16)

void gm_dot_fill_avx2(gm_dot_fns *f) {
    fill_dot(f);
    f->dot[GM_F32] = dot_f32;
    f->dot[GM_F16] = dot_f16;
    f->dot[GM_BF16] = dot_bf16;
    f->exact[GM_Q8_0] = exact_q8_0;
}
