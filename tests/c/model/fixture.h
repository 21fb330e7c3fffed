/* fixture.h: everything that a test of the decoder needs, opened in order and closed again. */
#pragma once

#include <stdio.h>
#include <string.h>
#include "helper/cm.h"

#include "base/err.h"
#include "model/decoder.h"

typedef struct {
    gm_gguf *g;
    gm_config c;
    gm_backend *b;
    gm_weights *w;
    gm_decoder *d;
    char err[256]; /* of what failed */
} fixture;

/* What is small is computed more exactly (GM_SMALL_MODEL_BYTES); a test of how the 12B is computed
 * has the decoder take a small model for a large one. */
typedef enum { FIXTURE_AS_IT_IS, FIXTURE_AS_LARGE } fixture_size;

static inline int32_t fixture_n_vocab(const gm_gguf *g) {
    gm_gguf_array tokens;
    return gm_gguf_get_array(g, "tokenizer.ggml.tokens", &tokens) ? 0 : (int32_t)tokens.n;
}

static inline void fixture_close(fixture *f) {
    gm_decoder_destroy(&f->d);
    if (f->b) gm_weights_free(&f->w, f->b);
    gm_config_finish(&f->c);
    gm_backend_close(&f->b);
    gm_gguf_close(&f->g);
}

static inline int fixture_build_as(fixture *f, const char *device, int32_t n_batch,
                                   fixture_size size) {
    char *err = f->err;
    size_t n = sizeof f->err;
    int rc = gm_config_read(&f->c, f->g, fixture_n_vocab(f->g), err, n);
    if (!rc) rc = gm_backend_open(&f->b, device, 2, err, n);
    if (!rc) rc = gm_weights_load(&f->w, f->g, &f->c, f->b, NULL, NULL, NULL, err, n);
    if (!rc && size == FIXTURE_AS_LARGE) f->w->n_bytes = GM_SMALL_MODEL_BYTES + 1;
    if (!rc) rc = gm_decoder_create(&f->d, &f->c, f->w, f->b, n_batch, err, n);
    return rc;
}

/* The rest, after f->g is open. */
static inline int fixture_build(fixture *f, const char *device, int32_t n_batch) {
    return fixture_build_as(f, device, n_batch, FIXTURE_AS_IT_IS);
}

static inline int fixture_open(fixture *f, const char *path, int32_t n_batch, fixture_size size) {
    memset(f, 0, sizeof *f);
    int rc = gm_gguf_open(&f->g, path, f->err, sizeof f->err);
    if (!rc) rc = fixture_build_as(f, "cpu", n_batch, size);
    if (rc) fixture_close(f);
    return rc;
}

static inline int fixture_open_memory(fixture *f, const gm_bytes *file, const char *device,
                                      int32_t n_batch) {
    memset(f, 0, sizeof *f);
    int rc = gm_gguf_open_memory(&f->g, file->p, file->n, f->err, sizeof f->err);
    if (!rc) rc = fixture_build(f, device, n_batch);
    if (rc) fixture_close(f);
    return rc;
}

static inline gm_kv *fixture_cache(fixture *f, int32_t n_ctx, int32_t n_slack, gm_dtype type) {
    gm_kv *kv = NULL;
    gm_kv_opts opts = {.n_ctx = n_ctx, .n_slack = n_slack, .type = type};
    int rc = gm_kv_create(&kv, &f->c, f->b, &opts, f->err, sizeof f->err);
    if (rc) print_message("%s\n", f->err);
    assert_int_equal(rc, 0);
    return kv;
}
