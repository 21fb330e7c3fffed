/* pass.h: what the steps of one forward pass share. Private to decoder.c, embed.c, attention.c and
 * feedforward.c.
 *
 * A pass computes n_tok positions from pos0 on. Its steps read and write the buffers of the
 * decoder, of which each has a life of its own:
 *
 *     h     the residual stream, from the embedding to the head
 *     x     the normed input of a half layer; once that is dead, the output of that half
 *     work  inside one half: q, attention output, k, v  or  gate, up
 */
#pragma once

#include "model/decoder.h"

/* Rows of logits computed at once. Text needs one; asking for all of a prompt should not need
 * a buffer of n_batch vocabularies. */
enum { GM_HEAD_ROWS = 16 };

/* Activations of a layer that is computed on the other side of a split. */
typedef struct {
    gm_tensor h, x, work;
} gm_pass_side;

struct gm_decoder {
    const gm_config *c;
    const gm_weights *w;
    gm_backend *b;
    int32_t n_batch;
    gm_pass_side other; /* of a split: what is not in use now; else empty */
    gm_backend *here;   /* where h, x and work are now */
    gm_tensor h, x;     /* [n_batch, n_embd] */
    gm_tensor work;     /* [work floats] */
    gm_tensor y;        /* [GM_HEAD_ROWS, n_embd] */
    gm_tensor logits;   /* [GM_HEAD_ROWS, n_vocab] */
    /* The first row of logits is that of position row_len - 1 of this cache; NULL: of none. */
    const gm_kv *row_of;
    int32_t row_len;
    /* Visible positions by token, [n_batch] each, of global [0] and sliding [1] layers. */
    int32_t *lo[2], *hi[2];
    int32_t *visible; /* owns lo and hi */
};

typedef struct {
    gm_kv *kv;
    int32_t pos0, n_tok;
    /* First row whose output is wanted; n_tok when none is. On the last layer the rows before it
     * matter through their keys and values only. */
    int32_t first_out;
} gm_pass;

/* n rows of t from row0 on. */
gm_tensor gm_pass_rows(const gm_tensor *t, int64_t row0, int64_t n);

/* A dense float32 view [ne2, ne1, ne0] into work, at a number of floats from its begin. */
gm_tensor gm_pass_work(const gm_decoder *d, int64_t at, int64_t ne0, int64_t ne1, int64_t ne2);

/* Floats that the two halves of the widest layers keep in work. */
int64_t gm_attention_work(const gm_config *c, int32_t n_batch);
int64_t gm_feedforward_work(const gm_config *c, int32_t n_batch);

/* h = embedding rows, of tokens and of media. */
int gm_pass_embed(gm_decoder *d, const gm_pass *p, const gm_batch *batch);

/* h += norm(attention(norm(h))) for rows from row0 on; stores the keys and values of all rows. */
int gm_pass_attention(gm_decoder *d, const gm_pass *p, int32_t layer, int32_t row0);

/* h = (h + norm(ffn(norm(h)))) * scale for rows from row0 on. */
int gm_pass_feedforward(gm_decoder *d, const gm_pass *p, int32_t layer, int32_t row0);

/* The wanted rows of h to the caller's logits. */
int gm_pass_head(gm_decoder *d, const gm_pass *p, const gm_batch *batch);
