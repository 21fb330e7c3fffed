/* x86.h: what the files of x86/ offer to the families, filled upward by level.
 *
 * The files that are compiled for an instruction set export nothing but these fills. Everything
 * else in them, and in the headers that only they include, is static: an inline function compiled
 * for AVX-512 must never be the copy that the linker keeps for the others.
 */
#pragma once

#include "base/cpuid.h"
#include "kernels/cpu/dot.h"
#include "kernels/cpu/gemm_tile.h"

/* A vector is computed where it says so. GCC would make all products of a long loop first and add
 * them up afterwards, which takes more registers than there are. */
#define GM_KEEP(vector) __asm__("" : "+v"(vector))

/* turn4 for vectors of BITS: in each 128 of them v[i] becomes lane i of all four. */
#define GM_TURN4(BITS)                                                                             \
    static inline __attribute__((always_inline)) void turn4(__m##BITS##i v[4]) {                   \
        const __m##BITS##i a = _mm##BITS##_unpacklo_epi32(v[0], v[1]);                             \
        const __m##BITS##i b = _mm##BITS##_unpackhi_epi32(v[0], v[1]);                             \
        const __m##BITS##i c = _mm##BITS##_unpacklo_epi32(v[2], v[3]);                             \
        const __m##BITS##i d = _mm##BITS##_unpackhi_epi32(v[2], v[3]);                             \
        v[0] = _mm##BITS##_unpacklo_epi64(a, c);                                                   \
        v[1] = _mm##BITS##_unpackhi_epi64(a, c);                                                   \
        v[2] = _mm##BITS##_unpacklo_epi64(b, d);                                                   \
        v[3] = _mm##BITS##_unpackhi_epi64(b, d);                                                   \
    }

/* Where the kernels find their orders of activations, in gm_xq_few.q. A level has kernels of both
 * widths, for different formats, and a matmul may have matrices of both: what they read lies apart.
 * PAIRS and QUADS are of one width at each level, since whoever has a kernel for one of their
 * formats has them all. */
enum { GM_ORDER_LANES_YMM, GM_ORDER_LANES_ZMM, GM_ORDER_PAIRS, GM_ORDER_QUADS };

/* A gm_tile_fn for one number of tokens. */
typedef void (*gm_tile_n_fn)(const gm_panel *p, const gm_xq *x, int tok, float *c);

/* n_tok tokens in tiles of up to max, evenly: 10 tokens are 5 + 5 rather than 8 + 2, since short
 * tiles leave ports idle. fns: [max + 1], by number of tokens. */
static inline __attribute__((always_inline)) void gm_split_tokens(const gm_tile_n_fn *fns, int max,
                                                                  const gm_panel *p, const gm_xq *x,
                                                                  int tok, int n_tok, float *c) {
    for (int left = (n_tok + max - 1) / max; left > 0; left--) {
        int n = (n_tok + left - 1) / left;
        fns[n](p, x, tok, c);
        tok += n;
        n_tok -= n;
        c += n * GM_TILE_ROWS;
    }
}

/* Puts the x86 variants up to `level` over what is in f. */
void gm_x86_fill_dot(gm_dot_fns *f, gm_cpu_level level);
void gm_x86_fill_tile(gm_tile_fns *f, gm_cpu_level level);

/* One level each; the CPU must have it. */
void gm_unpack_fill_avx2(gm_dot_fns *f);
void gm_dot_fill_avx2(gm_dot_fns *f);
void gm_dot_fill_avxvnni(gm_dot_fns *f);
void gm_dot_fill_avx512(gm_dot_fns *f);
void gm_dot_fill_avx512vnni(gm_dot_fns *f);
void gm_pack_fill_avx2(gm_tile_fns *f);
void gm_pack_fill_avx512(gm_tile_fns *f);
void gm_tile_fill_avx2(gm_tile_fns *f);
void gm_tile_fill_avxvnni(gm_tile_fns *f);
void gm_tile_fill_avx512(gm_tile_fns *f);
void gm_tile_fill_avx512vnni(gm_tile_fns *f);
void gm_tile_fill_amx(gm_tile_fns *f);
