/* gemm_avx2.c: tiles of 256 bits, turning of panels, float formats. */
#define GM_YMM_VNNI 0
#include "kernels/cpu/x86/gemm_ymm.h"

/* ---- float tiles ----------------------------------------------------------------------------- */

INLINE void run_float(const gm_panel *p, const gm_xq *x, int tok, const int n, float *c) {
    const float *w = p->f, *xt[TOK_FLOAT];
    __m256 sum0[TOK_FLOAT], sum1[TOK_FLOAT];
    gm_ahead_step(p->ahead);
#pragma GCC unroll 6
    for (int t = 0; t < n; t++) {
        xt[t] = x->x + (size_t)(tok + t) * (size_t)x->n_in + p->k0;
        sum0[t] = sum1[t] = _mm256_setzero_ps();
    }
    for (int r = 0; r < GM_TILE_ROWS; r += 16, c += 16, w = p->f + 16) {
        for (int k = 0; k < p->kc; k++, w += GM_TILE_ROWS) {
            const __m256 w0 = _mm256_load_ps(w), w1 = _mm256_load_ps(w + 8);
#pragma GCC unroll 6
            for (int t = 0; t < n; t++) {
                const __m256 v = _mm256_set1_ps(xt[t][k]);
                sum0[t] = _mm256_fmadd_ps(w0, v, sum0[t]);
                sum1[t] = _mm256_fmadd_ps(w1, v, sum1[t]);
            }
        }
#pragma GCC unroll 6
        for (int t = 0; t < n; t++) {
            float *to = c + t * GM_TILE_ROWS;
            _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), sum0[t]));
            _mm256_storeu_ps(to + 8, _mm256_add_ps(_mm256_loadu_ps(to + 8), sum1[t]));
            sum0[t] = sum1[t] = _mm256_setzero_ps();
        }
    }
}

#define FLOAT_N(n)                                                                                 \
    static void tile_float_##n(const gm_panel *p, const gm_xq *x, int tok, float *c) {             \
        run_float(p, x, tok, n, c);                                                                \
    }
FLOAT_N(1)
FLOAT_N(2)
FLOAT_N(3)
FLOAT_N(4)
FLOAT_N(5)
FLOAT_N(6)

static void tile_float(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    static const gm_tile_n_fn fns[] = {NULL,         tile_float_1, tile_float_2, tile_float_3,
                                       tile_float_4, tile_float_5, tile_float_6};
    gm_split_tokens(fns, TOK_FLOAT, p, x, tok, n_tok, c);
}

/* ---- turning --------------------------------------------------------------------------------- */

INLINE __m256i pair(const gm_word *lo, const gm_word *hi) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)lo)),
                                   _mm_loadu_si128((const void *)hi), 1);
}

/* Four words of eight rows. Rows r and r + 4 share a register from the start, so that the two
 * rounds of unpacking end with all eight rows in order. */
INLINE void turn_4x8(const gm_word *src, size_t stride, gm_word *dst) {
    const __m256i a = pair(src, src + 4 * stride), b = pair(src + stride, src + 5 * stride),
                  c = pair(src + 2 * stride, src + 6 * stride),
                  d = pair(src + 3 * stride, src + 7 * stride);
    const __m256i ab_lo = _mm256_unpacklo_epi32(a, b), ab_hi = _mm256_unpackhi_epi32(a, b),
                  cd_lo = _mm256_unpacklo_epi32(c, d), cd_hi = _mm256_unpackhi_epi32(c, d);
    _mm256_storeu_si256((void *)dst, _mm256_unpacklo_epi64(ab_lo, cd_lo));
    _mm256_storeu_si256((void *)(dst + GM_TILE_ROWS), _mm256_unpackhi_epi64(ab_lo, cd_lo));
    _mm256_storeu_si256((void *)(dst + 2 * GM_TILE_ROWS), _mm256_unpacklo_epi64(ab_hi, cd_hi));
    _mm256_storeu_si256((void *)(dst + 3 * GM_TILE_ROWS), _mm256_unpackhi_epi64(ab_hi, cd_hi));
}

static void turn(const gm_word *src, size_t stride, int n, gm_word *dst) {
    int d = 0;
    for (; d + 4 <= n; d += 4) {
        turn_4x8(src + d, stride, dst + d * GM_TILE_ROWS);
        turn_4x8(src + 8 * stride + d, stride, dst + d * GM_TILE_ROWS + 8);
    }
    for (; d < n; d++)
        for (size_t r = 0; r < GM_TILE_PACK; r++)
            dst[(size_t)d * GM_TILE_ROWS + r] = src[r * stride + (size_t)d];
}

/* ---- widening -------------------------------------------------------------------------------- */

static void widen_f32(const uint8_t *src, int n, float *dst) { memcpy(dst, src, (size_t)n * 4); }

static void widen_f16(const uint8_t *src, int n, float *dst) {
    int i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(src + 2 * i))));
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        dst[i] = _cvtsh_ss(h);
    }
}

static void widen_bf16(const uint8_t *src, int n, float *dst) {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(src + 2 * i)));
        _mm256_storeu_si256((void *)(dst + i), _mm256_slli_epi32(v, 16));
    }
    for (; i < n; i++) {
        uint32_t u = (uint32_t)src[2 * i] << 16 | (uint32_t)src[2 * i + 1] << 24;
        memcpy(dst + i, &u, 4);
    }
}

void gm_tile_fill_avx2(gm_tile_fns *f) {
    f->tile_quant = tile_quant;
    f->tile_float = tile_float;
    /* Formats with a kernel of their own in dot_ymm.h that turns the weights. */
    static const gm_dtype quick[] = {GM_Q4_0, GM_Q8_0, GM_IQ4_NL, GM_IQ4_XS,
                                     GM_Q4_K, GM_Q5_K, GM_Q6_K};
    for (size_t i = 0; i < sizeof quick / sizeof *quick; i++) f->min_tok[quick[i]] = GM_XQ_FEW + 1;
    f->turn = turn;
    f->widen[GM_F32] = widen_f32;
    f->widen[GM_F16] = widen_f16;
    f->widen[GM_BF16] = widen_bf16;
}
