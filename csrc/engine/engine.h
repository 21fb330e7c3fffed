/* engine.h: a loaded model: file, vocabulary, configuration, weights, backend.
 *
 * Belongs to the one thread that computes. After open nothing of it changes but the decoder's
 * buffers and the length of chunks (gm_engine_widen). Sessions borrow it and must be destroyed
 * before it.
 */
#pragma once

#include "base/cancel.h"
#include "format/gguf.h"
#include "model/decoder.h"
#include "tokenizer/vocab.h"

enum {
    GM_DEFAULT_CTX = 8192,  /* positions */
    GM_DEFAULT_BATCH = 512, /* tokens: where a prefill on the CPU stops getting faster */
    GM_MAX_CTX = 1 << 24,
    GM_MAX_THREADS = 1024 /* that callers may ask for; a team takes as many as it can use */
};

typedef struct {
    const char *model_path;
    const char *mmproj_path; /* weights for pictures and sounds; NULL: none */
    const char *device;      /* NULL: "cpu" */
    bool or_cpu;             /* a device that is not there is replaced by the CPU, with a note */
    int32_t n_threads;       /* 0: default */
    int32_t n_ctx;           /* 0: GM_DEFAULT_CTX, or the model's own if smaller */
    int32_t min_ctx;         /* no fewer when n_ctx is 0 */
    int32_t n_batch;         /* largest chunk; 0: GM_DEFAULT_BATCH */
    /* -1: auto (F32 for float weights and small models, else F16); else a gm_dtype */
    int32_t kv_type;
    gm_progress_fn progress;
    void *ud;
    const gm_cancel *cancel; /* borrowed for the life of the engine; NULL: never */
} gm_engine_opts;

struct gm_projector;

typedef struct {
    gm_gguf *gguf;
    gm_vocab *vocab;
    gm_config config;
    gm_backend *backend;
    gm_weights *weights;
    gm_decoder *decoder;
    struct gm_projector *projector; /* NULL: text only */
    gm_kv_opts kv;                  /* what sessions are given */
    uint64_t serial;                /* no other engine of this process has it */
} gm_engine;

/* What the file of a model tells besides its weights. On failure the three are to be freed all the
 * same; with a vocabulary it is only the configuration that is wrong. */
int gm_engine_read(gm_gguf **g, gm_vocab **v, gm_config *c, const char *path, char *err,
                   size_t errlen);

int gm_engine_open(gm_engine **out, const gm_engine_opts *opts, char *err, size_t errlen);
void gm_engine_close(gm_engine **e);

/* Makes chunks of n positions possible, for sessions that are created from now on: a large image is
 * computed in one piece. Costs memory for the activations of that many tokens, so it is done when
 * such an image comes and not before. On failure nothing has changed. */
int gm_engine_widen(gm_engine *e, int32_t n, char *err, size_t errlen);

/* What a widening changes, in positions. */
typedef struct {
    int32_t n_batch, n_slack; /* of the decoder, of kv */
} gm_engine_width;

gm_engine_width gm_engine_get_width(const gm_engine *e);

/* Undoes a widening for which no session was made. On failure the engine is only good for
 * closing. */
int gm_engine_narrow(gm_engine *e, gm_engine_width was);
