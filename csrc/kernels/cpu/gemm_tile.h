/* gemm_tile.h: many tokens times a panel of rows: the kernels of prefill, bound by arithmetic.
 *
 * A panel is GM_TILE_ROWS rows of weights, a stretch of K long, unpacked and turned so that one
 * vector load gives four consecutive elements of each of 16 (8) rows:
 *
 *     q:  k 0..3 of row 0, k 0..3 of row 1, ... k 0..3 of row 31, k 4..7 of row 0, ...
 *
 * A product instruction multiplies that with four activations of one token, repeated over the
 * vector, so that each lane is the sum of one row: nothing has to be added across lanes. The panel
 * fits the first-level cache beside the activations of a few tokens, and is used for all tokens
 * before the next one is unpacked.
 *
 * The activations of the tokens of one tile are interleaved, word by word (four of q, or one of the
 * other arrays of gm_xq): what a step of a tile takes lies together, and one address with constant
 * distances serves all its tokens. Tiles have gm_xq.tile_tok tokens, the last one what is left:
 *
 *     word 0 of token 0, word 0 of token 1, ... word 0 of token n - 1, word 1 of token 0, ...
 *
 * Where the CPU multiplies matrices of bfloat16, many tokens are rounded to that instead of being
 * quantised. Those of 16 tokens lie together (gm_xq.bf), 32 elements of one after 32 of the other:
 *
 *     k 0..31 of token 0, k 0..31 of token 1, ... k 0..31 of token 15, k 32..63 of token 0, ...
 */
#pragma once

#include "kernels/cpu/dot.h"

enum {
    GM_TILE_ROWS = 32,
    GM_TILE_PACK = 16,     /* rows turned at a time */
    GM_TILE_K = 512,       /* stretch of K of a quantised panel */
    GM_TILE_K_FLOAT = 128, /* of a float panel */
    GM_TILE_K_BF16 = 256,  /* of one of bfloat16; all are 16 KiB */
    GM_TILE_MIN_TOK = 7,   /* min_tok of gm_tile_fns where nothing else was measured */
    GM_TILE_TOK = 6,       /* tokens of a tile of interleaved rows, at most */
    GM_TILE_BF16_TOK = 16, /* tokens whose bfloat16 lie together */
};

/* Weights that a later panel is made of, called for while tiles compute. A few lines of the cache
 * at a time: a core can wait for some dozens at once, and a burst of more stops everything else. */
typedef struct {
    /* of the row's part: its first byte, the next line, its last byte + 1 */
    const uint8_t *row, *line, *end;
    size_t row_bytes, part_bytes;
    int n_row;    /* rows after this one */
    int skip;     /* 63: a first line that is not whole came with the part before; else 0 */
    int per_step; /* lines */
} gm_ahead;

/* Goes on to the part of the row that begins at `row`. */
static inline void gm_ahead_row(gm_ahead *a, const uint8_t *row) {
    a->row = row;
    a->line = row + a->skip - (uintptr_t)(row + a->skip) % 64;
    a->end = row + a->part_bytes;
}

/* One step of a tile: a group of its weights (float tiles: all). */
static inline void gm_ahead_step(gm_ahead *a) {
    for (int i = 0; i < a->per_step; i++, a->line += 64) {
        if (a->line >= a->end) {
            if (a->n_row == 0) return;
            a->n_row--;
            gm_ahead_row(a, a->row + a->row_bytes);
        }
        __builtin_prefetch(a->line);
    }
}

typedef struct {
    const gm_unpack_info *info; /* group 0: a float panel */
    int k0, kc;                 /* elements k0 .. k0 + kc - 1 of the rows */
    /* Quantised: */
    uint8_t *q;         /* [kc / 4, GM_TILE_ROWS, 4] */
    float *scale, *min; /* [kc / group, GM_TILE_ROWS] */
    uint16_t *bf;       /* [kc, GM_TILE_ROWS], for tile_bf16 to fill */
    /* Float: */
    float *f; /* [kc, GM_TILE_ROWS] */
    /* Not the tile's own: */
    gm_ahead *ahead; /* what it calls for while it computes; gm_tile_pack leaves it to the caller */
} gm_panel;

/* c[t, r] += x[tok + t] . panel row r, for n_tok tokens. c: [n_tok, GM_TILE_ROWS]. For quantised
 * panels a tile begins at tok. */
typedef void (*gm_tile_fn)(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c);

/* 32 bits that are moved whatever they mean: four bytes of q, a scale or a whole number. Compilers
 * may take a plain uint32_t for something that no float is stored in. */
typedef uint32_t __attribute__((may_alias)) gm_word;

/* dst[d * GM_TILE_ROWS + r] = src[r * stride + d] for GM_TILE_PACK rows r and n words d. */
typedef void (*gm_turn_fn)(const gm_word *src, size_t stride, int n, gm_word *dst);

/* n floats from a row of F32, F16 or BF16 (src is the first of them). */
typedef void (*gm_widen_fn)(const uint8_t *src, int n, float *dst);

/* k0 .. k0 + kc - 1 of GM_TILE_PACK whole rows, straight into their half of a panel: what
 * gm_unpack_fn and gm_turn_fn do together. q, scale, min: as in gm_panel, from the half's first
 * row on. */
typedef void (*gm_pack_fn)(const uint8_t *w, size_t row_bytes, int k0, int kc, uint8_t *q,
                           float *scale, float *min);

typedef struct {
    gm_tile_fn tile_quant, tile_float;
    int tok; /* tokens of a tile of tile_quant at most; 0: it takes rows */
    /* Quantised panels times gm_xq.bf; NULL: the CPU has no unit for it. tok: a multiple of
     * GM_TILE_BF16_TOK. */
    gm_tile_fn tile_bf16;
    gm_xq_fn round_bf16;             /* row t of gm_xq.bf, from x */
    int min_bf16;                    /* tokens from which on tile_bf16 is faster than tile_quant */
    gm_pack_fn pack[GM_DTYPE_LIMIT]; /* NULL: unpack, then turn */
    gm_turn_fn turn;
    gm_widen_fn widen[GM_DTYPE_LIMIT]; /* float formats only */
    bool slow_float; /* tile_float is the plain C one: a BLAS is faster, if there is one */
    int min_tok[GM_DTYPE_LIMIT]; /* from this many tokens on, tiles beat the kernels of dot.h, as
                                    measured; at most GM_XQ_FEW + 1 */
} gm_tile_fns;

void gm_tile_fill(gm_tile_fns *f, gm_cpu_level level);

/* Tokens of a tile, so that all tiles are nearly full: 8 tokens are 4 + 4 rather than 6 + 2, since
 * short tiles leave ports idle. 0 if rows are wanted. */
int gm_tile_width(const gm_tile_fns *f, int n_tok);

/* Interleaves the rows tok .. tok + n - 1 of x, n <= GM_TILE_TOK. scratch: n * n_pad bytes. */
void gm_tile_interleave(gm_xq *x, int tok, int n, uint32_t *scratch);

/* Scratch of one thread for packing. */
typedef struct {
    _Alignas(64) uint8_t q[GM_TILE_ROWS * GM_TILE_K];
    _Alignas(64) float scale[GM_TILE_ROWS * GM_TILE_K / 16];
    _Alignas(64) float min[GM_TILE_ROWS * GM_TILE_K / 16];
    _Alignas(64) uint16_t bf[GM_TILE_ROWS * GM_TILE_K_BF16];
    /* As unpacked, before turning. */
    _Alignas(64) uint8_t row_q[GM_TILE_PACK * GM_TILE_K];
    _Alignas(64) float row_scale[GM_TILE_PACK * GM_TILE_K / 16];
    _Alignas(64) float row_min[GM_TILE_PACK * GM_TILE_K / 16];
} gm_tile_scratch;

/* Elements k0 .. k0 + kc - 1 of n_row rows (up to GM_TILE_ROWS; the rest become zero) as a panel
 * in s. kc is at most GM_TILE_K, GM_TILE_K_FLOAT for float formats, GM_TILE_K_BF16 for tile_bf16.
 */
gm_panel gm_tile_pack(const gm_tile_fns *f, const gm_dot_fns *dot, gm_dtype t, const uint8_t *w,
                      size_t row_bytes, int n_row, int k0, int kc, gm_tile_scratch *s);

/* The bytes of such a panel, to be called for in n_step steps or more: its rows lie too far apart
 * for the hardware to see it coming. */
gm_ahead gm_tile_ahead(gm_dtype t, const uint8_t *w, size_t row_bytes, int n_row, int k0, int kc,
                       int n_step);
