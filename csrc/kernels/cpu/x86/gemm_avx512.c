/* gemm_avx512.c: float tiles of 32 rows by 8 tokens, 512 bits wide. Quantised formats stay with
 * 256 bits on CPUs without VNNI: the long way through 16 bits gains little from the width, and
 * such CPUs slow their clock down for it.
 */
#include <immintrin.h>
#include <stddef.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOK = 8 }; /* 16 sums: twice what the latency of a fused add needs */

INLINE void run_float(const gm_panel *p, const gm_xq *x, int tok, const int n, float *c) {
    const float *w = p->f, *xt[TOK];
    __m512 s0[TOK], s1[TOK];
    gm_ahead_step(p->ahead);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        xt[t] = x->x + (size_t)(tok + t) * (size_t)x->n_in + p->k0;
        s0[t] = s1[t] = _mm512_setzero_ps();
    }
    for (int k = 0; k < p->kc; k++, w += GM_TILE_ROWS) {
        const __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) {
            const __m512 v = _mm512_set1_ps(xt[t][k]);
            s0[t] = _mm512_fmadd_ps(w0, v, s0[t]);
            s1[t] = _mm512_fmadd_ps(w1, v, s1[t]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        float *to = c + t * GM_TILE_ROWS;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), s0[t]));
        _mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), s1[t]));
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
FLOAT_N(7)
FLOAT_N(8)

static void tile_float(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    static const gm_tile_n_fn fns[TOK + 1] = {NULL,         tile_float_1, tile_float_2,
                                              tile_float_3, tile_float_4, tile_float_5,
                                              tile_float_6, tile_float_7, tile_float_8};
    gm_split_tokens(fns, TOK, p, x, tok, n_tok, c);
}

void gm_tile_fill_avx512(gm_tile_fns *f) {
    f->tile_float = tile_float;
    for (int t = 0; t < GM_DTYPE_LIMIT; t++) f->min_tok[t] = GM_TILE_MIN_TOK;
}
