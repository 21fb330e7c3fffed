/* dot.h: weight rows times a few tokens: the kernels of decode, bound by memory.
 *
 * A kernel reads every byte of its rows once, in file layout, and multiplies with 1 to
 * GM_DOT_TOK tokens. Quantised formats multiply with activations of 8 bits (gm_xq), float formats
 * with the float32 activations themselves. The table holds one kernel per format; the fill walks
 * from plain C up to the CPU's level.
 */
#pragma once

#include <stddef.h>
#include "base/cpuid.h"
#include "kernels/cpu/gemm_unpack.h"

enum {
    GM_DOT_TOK = 4,   /* tokens per call at most */
    GM_XQ_BLOCK = 32, /* activations per scale */
    GM_XQ_PAD = 512,  /* rows of quantised activations end in zeros up to a multiple of this */
    GM_XQ_FEW = 16    /* tokens for which the orders of gm_xq_few exist */
};

/* A block whose largest activation is below this is zero, at every level: 127 / amax would
 * overflow. */
#define GM_XQ_LEAST 1e-30f

typedef struct gm_xq gm_xq;

/* Fills row t of x->q and what belongs to it from x->x. */
typedef void (*gm_xq_fn)(gm_xq *x, int32_t t);

/* What the kernels of a level read between them, at most. */
enum { GM_XQ_ORDERS = 4, GM_XQ_SCALES = 4 };

/* The same activations in the orders in which the kernels of a level meet the weights. What lies
 * where is their own business: x86/x86.h. */
typedef struct {
    /* row t of what is wanted, from the other arrays of gm_xq; then NULL */
    gm_xq_fn fill[GM_XQ_ORDERS];
    int8_t *q[GM_XQ_ORDERS]; /* [n_tok, n_pad] each */
    float *d[GM_XQ_SCALES];  /* [n_tok, n_pad / 16] each; whole numbers of 32 bits in places */
} gm_xq_few;

/* The activations of one matmul: x = d * q per block of 32. Views into scratch. */
struct gm_xq {
    int32_t n_tok, n_in;
    int32_t n_pad;    /* n_in rounded up to GM_XQ_PAD */
    int32_t tile_tok; /* 0, or tokens whose rows are interleaved (gemm_tile.h) */
    const float *x;   /* [n_tok, n_in] */
    int8_t *q;        /* [n_tok, n_pad], -127 .. 127 */
    float *d;         /* [n_tok, n_pad / 32] */
    int32_t *s32;     /* [n_tok, n_pad / 32], sums of q */
    int32_t *s16;     /* [n_tok, n_pad / 16] */
    float *ds32;      /* d * s32 */
    float *ds16;      /* d * s16 */
    uint16_t *bf;     /* instead of all these: bfloat16, as gemm_tile.h says */
    gm_xq_few few;    /* zeroed for tiles */
};

typedef struct {
    gm_dtype dtype;
    gm_unpack_fn unpack; /* of dtype; NULL for float formats */
    const uint8_t *w;    /* [n_row, n_in] in file layout, any alignment */
    size_t row_bytes;
    int n_row;
    int ahead; /* bytes from the weights that are computed to those that are called for */
    const gm_xq *x;
    int tok, n_tok; /* tokens tok .. tok + n_tok - 1; n_tok <= GM_DOT_TOK */
    float *out;     /* [n_tok, n_row], rows out_stride floats apart; out[0] is token tok */
    size_t out_stride;
} gm_dot_args;

typedef void (*gm_dot_fn)(const gm_dot_args *a);

typedef struct {
    gm_xq_fn quantise;
    gm_dot_fn dot[GM_DTYPE_LIMIT];
    gm_xq_fn fill_few[GM_DTYPE_LIMIT]; /* of gm_xq_few what `dot` reads; NULL: nothing */
    gm_dot_fn exact[GM_DTYPE_LIMIT];   /* quantised formats with the float32 activations themselves,
                                          for gm_matmul_set_fine; NULL: dot does it in two goes */
    gm_unpack_fn unpack[GM_DTYPE_LIMIT]; /* quantised formats only */
    int ahead;                           /* what gm_dot_args want */
} gm_dot_fns;

void gm_dot_fill(gm_dot_fns *f, gm_cpu_level level);

/* Builds the rest of row t from q, d and s16; shared by all variants, since it is a small part of
 * the work. */
void gm_xq_finish(gm_xq *x, int32_t t);
