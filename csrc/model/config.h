/* config.h: the hyper-parameters of a gemma4 file, read and validated once.
 *
 * Everything comes from the file; nothing is assumed from the published sizes. Read-only after
 * gm_config_read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "format/gguf.h"

enum { GM_MAX_LAYER = 512 };

typedef struct {
    bool sliding;     /* sees `window` positions only */
    int32_t n_head;   /* query heads */
    int32_t n_kv;     /* key/value heads; divides n_head */
    int32_t head_dim; /* even */
    int32_t n_ffn;
    float rope_base;
    bool has_v; /* false: v is the raw k projection */
} gm_layer_config;

typedef struct {
    int32_t n_layer, n_embd, n_vocab;
    int32_t n_ctx_train;
    int32_t window; /* sliding layers: key j is visible to i iff i - window < j <= i */
    float rms_eps;
    float softcap;                                          /* 0: none */
    float embed_scale;                                      /* sqrt(n_embd) */
    int32_t max_head, max_head_dim, max_ffn, max_q, max_kv; /* over all layers; q = heads * dim */
    float samp_temperature, samp_top_p; /* the file's own sampling defaults, or 1.0, 0.95 */
    int32_t samp_top_k;                 /* or 64 */
    char name[128];                     /* general.name */
    gm_layer_config *layer;             /* [n_layer] */
} gm_config;

/* n_vocab is the number of tokens of the vocabulary. On failure *c is zeroed. A file of another
 * architecture, with experts or with per-layer embeddings is refused, naming what was found. */
int gm_config_read(gm_config *c, const gm_gguf *g, int32_t n_vocab, char *err, size_t errlen);
void gm_config_finish(gm_config *c);
