/* weights.h: tensor names to named fields, shapes checked, handed to the backend.
 *
 * Read-only after load. Matrices stay where they are in the mapped file: it must stay open.
 * Vectors (norms) are few and are copied, so that they are F32 and aligned whatever the file has.
 */
#pragma once

#include "kernels/backend.h"
#include "model/config.h"

typedef struct {
    gm_tensor attn_norm;                /* [n_embd] */
    gm_tensor q, k, v;                  /* [n_head * d, n_embd], [n_kv * d, n_embd]; v.ne[0] = 0
                                           where the layer has none */
    gm_tensor q_norm, k_norm;           /* [d] */
    gm_tensor o;                        /* [n_embd, n_head * d] */
    gm_tensor post_attn_norm, ffn_norm; /* [n_embd] */
    gm_tensor gate, up;                 /* [n_ffn, n_embd] */
    gm_tensor down;                     /* [n_embd, n_ffn] */
    gm_tensor post_ffw_norm;            /* [n_embd] */
    float out_scale;                    /* layer_output_scale; 1 where the file has none */
    const float *inv_freq;              /* [d / 2], shared between layers of one kind */
} gm_layer_weights;

/* Up to this size a model is small: it runs at hundreds of tokens a second even when accuracy costs
 * twice the arithmetic, and it feels the rounding of activations and caches most. */
#define GM_SMALL_MODEL_BYTES (UINT64_C(128) << 20)

typedef struct {
    gm_tensor token_embd;  /* [n_vocab, n_embd] */
    gm_tensor output;      /* the same unless the file has output.weight */
    gm_tensor output_norm; /* [n_embd] */
    gm_layer_weights *layer;
    uint64_t n_param, n_bytes;
    gm_dtype main_type; /* of most of the matrix bytes */
    int32_t n_layer;
    float *inv_freq[2]; /* owned: rotation of global [0] and of sliding [1] layers */
} gm_weights;

/* The type of most of the matrix bytes of a file, and the bytes of all its tensors: what has to be
 * known of the weights before they are loaded. */
gm_dtype gm_weights_main_type(const gm_gguf *g, uint64_t *n_bytes);

/* progress may be NULL; it is called with bytes done and total. */
typedef void (*gm_progress_fn)(void *ud, uint64_t done, uint64_t total);

int gm_weights_load(gm_weights **out, const gm_gguf *g, const gm_config *c, gm_backend *b,
                    gm_progress_fn progress, void *ud, const gm_cancel *cancel, char *err,
                    size_t errlen);
void gm_weights_free(gm_weights **w, gm_backend *b);
