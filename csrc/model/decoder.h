/* decoder.h: the forward pass.
 *
 * Owns the activation buffers for n_batch tokens; borrows config, weights and backend. One
 * decoder serves all sessions of a worker in turn. Never allocates after creation.
 */
#pragma once

#include "model/kv.h"
#include "model/weights.h"

typedef struct gm_decoder gm_decoder;

typedef struct {
    int32_t n_tok;
    const int32_t *ids; /* [n_tok]; -1: the row comes from embd */
    const float *embd;  /* [number of -1, n_embd] in order, unscaled; NULL when there are none */
    /* [n_tok] or NULL: absolute position of the last token that this one sees on sliding layers;
     * beyond its own position inside an image, whose tokens see one another. The whole image must
     * be in this batch. */
    const int32_t *see_to;
    int32_t n_out;           /* rows of logits wanted */
    const int32_t *out_rows; /* [n_out] indices into the batch, ascending */
    float *logits;           /* host [n_out, n_vocab], after the softcap */
    /* NULL, or host: the best of one row (n_out is 1) in place of logits, which may be NULL then.
     * Where gm_decoder_top_pays. */
    gm_top *top;
} gm_batch;

int gm_decoder_create(gm_decoder **out, const gm_config *c, const gm_weights *w, gm_backend *b,
                      int32_t n_batch, char *err, size_t errlen);
void gm_decoder_destroy(gm_decoder **d);

/* Bytes that a decoder takes of a backend which computes layers, and what is added where the
 * embedding and the head are; for those who must know before there is one. */
uint64_t gm_decoder_layer_bytes(const gm_config *c, int32_t n_batch);
uint64_t gm_decoder_end_bytes(const gm_config *c);

int32_t gm_decoder_n_batch(const gm_decoder *d);
bool gm_decoder_top_pays(const gm_decoder *d);

/* Computes the batch at positions gm_kv_len(kv) .. + n_tok - 1 and advances the cache. n_tok is at
 * most n_batch and gm_kv_slack. On any error (GM_ECANCELLED, GM_EDEVICE, GM_EINVAL, GM_ETOOLONG)
 * the cache keeps its length, so the same batch may be tried again. */
int gm_decoder_run(gm_decoder *d, gm_kv *kv, const gm_batch *batch);

/* The whole row of which the last batch gave the best: host [n_vocab]. GM_EINVAL once the decoder
 * has run for anything else, or when the cache was cut back. */
int gm_decoder_row(gm_decoder *d, const gm_kv *kv, float *logits);
