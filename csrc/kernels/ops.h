/* ops.h: one parameter struct per operation of the forward pass, with shapes.
 *
 * Shapes are written slowest axis first: [n_tok, n_embd] is n_tok rows of n_embd floats.
 * Activations are dense float32. Pointers marked host are read during the call only.
 * x and out never overlap unless the op says "in place".
 */
#pragma once

#include <stdint.h>
#include "tensor/tensor.h"

/* out[t] = table[ids[t]] * scale for ids[t] >= 0; other rows of out are left as they are. */
typedef struct {
    const gm_tensor *table; /* [n_vocab, n_embd], any weight type */
    const int32_t *ids;     /* host [n_tok] */
    int32_t n_tok;
    float scale;
    gm_tensor *out; /* [n_tok, n_embd] */
} gm_op_embed;

/* out = x / sqrt(mean(x^2) + eps) * w, per row. In place allowed (out == x). */
typedef struct {
    const gm_tensor *x; /* [n_tok, n] */
    const gm_tensor *w; /* [n], F32; NULL: no weight */
    float eps;
    int32_t n_tok;
    gm_tensor *out; /* [n_tok, n] */
} gm_op_rms_norm;

/* h = (h + rms_norm(x; w)) * scale, in place on h. The end of each half of a layer. */
typedef struct {
    const gm_tensor *x; /* [n_tok, n] */
    const gm_tensor *w; /* [n], F32 */
    float eps, scale;
    int32_t n_tok;
    gm_tensor *h; /* [n_tok, n] */
} gm_op_add_norm;

/* out[i] = x w[i]^T for up to three matrices that share x (q/k/v, gate/up), so that x is
 * quantised once and the matrices stream one after the other. */
enum { GM_MATMUL_MAX = 3 };
typedef struct {
    int32_t n_mat;
    const gm_tensor *w[GM_MATMUL_MAX]; /* [n_out_i, n_in]; same n_in, types may differ */
    const gm_tensor *x;                /* [n_tok, n_in] */
    int32_t n_tok;
    gm_tensor *out[GM_MATMUL_MAX]; /* [n_tok, n_out_i] */
} gm_op_matmul;

/* Per head: rms norm over head_dim (weight optional), then rotation of pairs (i, i + d/2) by
 * pos * inv_freq[i]. In place. */
typedef struct {
    gm_tensor *x; /* [n_tok, n_head, head_dim] */
    int32_t n_tok, n_head, head_dim;
    const gm_tensor *w; /* [head_dim], F32; NULL: no weight */
    float eps;
    const float *inv_freq; /* host [head_dim / 2], 0 where nothing turns; NULL: no rotation */
    int32_t pos0;          /* position of the first token; they count up by one */
} gm_op_head_norm_rope;

/* The cache of one layer. Row of position p, key/value head g: slot p % n_slot of g. */
typedef struct {
    gm_tensor k, v; /* [n_kv, n_slot, head_dim], F32, F16 or Q8_0 */
    int32_t n_slot, n_kv, head_dim;
} gm_kv_layer;

/* Stores rows of positions pos0 .. pos0 + n_tok - 1. */
typedef struct {
    const gm_tensor *k, *v; /* [n_tok, n_kv, head_dim], F32 */
    int32_t n_tok, pos0;
    gm_kv_layer *cache;
} gm_op_kv_write;

/* out[t, h] = sum_j softmax_j(q[t, h] . k[j]) v[j] over the positions lo[t] <= j <= hi[t] (all in
 * the cache), scale 1. Query head h reads key/value head h / (n_head / n_kv). Scores and sums
 * in float32. */
typedef struct {
    const gm_tensor *q; /* [n_tok, n_head, head_dim] */
    const gm_kv_layer *cache;
    int32_t n_tok, n_head;
    const int32_t *lo, *hi; /* host [n_tok], inclusive positions; hi - lo < n_slot */
    gm_tensor *out;         /* [n_tok, n_head, head_dim] */
} gm_op_attention;

/* out = gelu_tanh(gate) * up, elementwise. out may be gate. */
typedef struct {
    const gm_tensor *gate, *up; /* [n_tok, n] */
    int32_t n_tok;
    gm_tensor *out; /* [n_tok, n] */
} gm_op_geglu;

/* x = cap * tanh(x / cap), in place. */
typedef struct {
    gm_tensor *x; /* [n_tok, n] */
    int32_t n_tok;
    float cap;
} gm_op_softcap;

/* The best of one row of logits, from which most choices of a token can be made without the others:
 * all ids whose logit reaches a bound, which the device chooses so that there are some more than
 * GM_TOP_WANTED of them. Infinity counts as FLT_MAX, NaN as -INFINITY, and that is never listed. */
enum { GM_TOP_WANTED = 256, GM_TOP_ROOM = 512 };
typedef struct {
    float logit;
    int32_t id;
} gm_top_entry;

typedef struct {
    int32_t n_row; /* ids in the row */
    float max;     /* highest logit */
    float sum;     /* of exp(logit - max) over the row, within GM_TOP_SUM_ERROR of it */
    float bound;   /* whatever is not listed is below; -INFINITY: it is -INFINITY */
    int32_t n;     /* listed, in no order; -1: so many are alike that there is no room for them */
    gm_top_entry entry[GM_TOP_ROOM];
} gm_top;
#define GM_TOP_SUM_ERROR 3e-5

typedef struct {
    const gm_tensor *x; /* [1, n] */
    gm_top *out;        /* host, complete when the op returns */
} gm_op_top;
