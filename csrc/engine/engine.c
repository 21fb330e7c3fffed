/* engine.c: opens a model file from bottom to top and closes it from top to bottom. */
#include "engine/engine.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/place.h"
#include "media/projector.h"

enum { MIN_SLACK = 512 }; /* positions of a sliding layer that stay for going back */

/* Rounding in a 16-bit cache is far below that of 8-bit activations, but far above that of the
 * float products of float weights and of small models. */
static gm_dtype cache_type(int32_t wanted, const gm_gguf *g) {
    if (wanted >= 0) return (gm_dtype)wanted;
    uint64_t n_bytes;
    gm_dtype type = gm_weights_main_type(g, &n_bytes);
    bool is_float = type == GM_F32 || type == GM_F16 || type == GM_BF16;
    return is_float || n_bytes <= GM_SMALL_MODEL_BYTES ? GM_F32 : GM_F16;
}

static int check_opts(const gm_engine_opts *o, char *err, size_t errlen) {
    if (!o->model_path) return gm_fail(err, errlen, GM_EINVAL, "no model file given");
    if (o->n_ctx < 0 || o->n_ctx > GM_MAX_CTX)
        return gm_fail(err, errlen, GM_EINVAL, "a context of %d positions is out of range",
                       (int)o->n_ctx);
    if (o->n_batch < 0) return gm_fail(err, errlen, GM_EINVAL, "a negative chunk size");
    bool known =
        o->kv_type < 0 || o->kv_type == GM_F32 || o->kv_type == GM_F16 || o->kv_type == GM_Q8_0;
    if (!known) return gm_fail(err, errlen, GM_EINVAL, "unknown number format for the cache");
    return GM_OK;
}

/* The sizes of cache and chunks, from the wishes of the caller and the model's own limits. */
static void choose_sizes(gm_engine *e, const gm_engine_opts *o, int32_t *n_batch) {
    int32_t n_ctx = o->n_ctx > 0 ? o->n_ctx : GM_DEFAULT_CTX;
    int32_t trained = e->config.n_ctx_train;
    if (o->n_ctx == 0 && trained > 0 && trained < n_ctx) n_ctx = trained;
    if (o->n_ctx == 0 && n_ctx < o->min_ctx) n_ctx = o->min_ctx;
    *n_batch = o->n_batch > 0 ? o->n_batch : GM_DEFAULT_BATCH;
    if (*n_batch > n_ctx) *n_batch = n_ctx;
    e->kv.n_ctx = n_ctx;
    e->kv.n_slack = *n_batch > MIN_SLACK ? *n_batch : MIN_SLACK;
    e->kv.type = cache_type(o->kv_type, e->gguf);
    if (trained > 0 && n_ctx > trained)
        gm_log(GM_LOG_WARN, "engine", "context of %d is longer than the %d the model was made for",
               (int)n_ctx, (int)trained);
}

/* The device, and what of the model it takes. */
static int open_device(gm_engine *e, const gm_engine_opts *o, gm_place_opts *place, char *err,
                       size_t errlen) {
    int rc = gm_backend_open(&e->backend, o->device, o->n_threads, err, errlen);
    if (rc < 0 && o->or_cpu && (rc == GM_EUNSUPPORTED || rc == GM_EDEVICE)) {
        char why[sizeof e->backend->note];
        snprintf(why, sizeof why, "%s", err);
        gm_log(GM_LOG_WARN, "engine", "on the CPU: %s", why);
        rc = gm_cpu_open(&e->backend, o->n_threads, err, errlen);
        if (!rc) memcpy(e->backend->note, why, sizeof why);
    }
    if (rc < 0) return rc;
    gm_be_set_cancel(e->backend, o->cancel);
    if (e->backend->may_split && o->mmproj_path)
        place->mmproj_bytes = gm_projector_bytes(o->mmproj_path, e->config.n_embd);
    return gm_place_layers(&e->backend, e->gguf, &e->config, place, err, errlen);
}

/* Adds the file's name and the cure to what was found wrong in it. */
static int bad_file(const char *path, int rc, char *err, size_t errlen) {
    if (rc != GM_EFORMAT) return rc;
    char what[256];
    snprintf(what, sizeof what, "%s", err);
    return gm_fail(err, errlen, rc, "%s: %s; download it again", gm_path_tail(path), what);
}

int gm_engine_read(gm_gguf **g, gm_vocab **v, gm_config *c, const char *path, char *err,
                   size_t errlen) {
    int rc = gm_gguf_open(g, path, err, errlen);
    if (rc < 0) return rc;
    /* The configuration needs to know only how many tokens there are, but it tells a file of
     * another architecture apart, and that message helps more than one about its vocabulary. So
     * the vocabulary's error counts only when the configuration is fine. */
    char vocab_err[256] = "";
    int vocab_rc = gm_vocab_create(v, *g, vocab_err, sizeof vocab_err);
    rc = gm_config_read(c, *g, vocab_rc < 0 ? 0 : gm_vocab_size(*v), err, errlen);
    if (vocab_rc < 0 && rc != GM_EUNSUPPORTED) rc = gm_fail(err, errlen, vocab_rc, "%s", vocab_err);
    return rc < 0 ? bad_file(path, rc, err, errlen) : GM_OK;
}

static void close_computing(gm_engine *e) {
    gm_projector_close(&e->projector);
    gm_decoder_destroy(&e->decoder);
    if (e->weights) gm_weights_free(&e->weights, e->backend);
}

/* Everything that takes memory of the device, which close_computing gives back. */
static int open_computing(gm_engine *e, const gm_engine_opts *o, int32_t n_batch, char *err,
                          size_t errlen) {
    int rc = gm_weights_load(&e->weights, e->gguf, &e->config, e->backend, o->progress, o->ud,
                             o->cancel, err, errlen);
    if (rc < 0) return bad_file(o->model_path, rc, err, errlen);
    rc = gm_decoder_create(&e->decoder, &e->config, e->weights, e->backend, n_batch, err, errlen);
    if (rc < 0 || !o->mmproj_path) return rc;
    return gm_projector_open(&e->projector, o->mmproj_path, e->backend, e->config.n_embd, err,
                             errlen);
}

static int open_model(gm_engine *e, const gm_engine_opts *o, char *err, size_t errlen) {
    int rc = gm_engine_read(&e->gguf, &e->vocab, &e->config, o->model_path, err, errlen);
    if (rc < 0) return rc;
    if (gm_cancelled(o->cancel)) return gm_fail_code(err, errlen, GM_ECANCELLED);
    gm_place_opts place = {.n_threads = o->n_threads};
    choose_sizes(e, o, &place.n_batch);
    place.kv = e->kv;
    rc = open_device(e, o, &place, err, errlen);
    if (rc < 0) return rc;
    /* Free memory is an estimate: other programs take theirs meanwhile, and drivers round up. */
    while ((rc = open_computing(e, o, place.n_batch, err, errlen)) == GM_ENOMEM &&
           e->backend->may_split) {
        close_computing(e);
        rc = gm_place_fewer(&e->backend, &e->config, &place, err, errlen);
        if (rc < 0) return rc;
    }
    if (!rc) gm_place_describe(e->backend, &e->config);
    return rc;
}

int gm_engine_open(gm_engine **out, const gm_engine_opts *opts, char *err, size_t errlen) {
    static atomic_uint_fast64_t serial;
    *out = NULL;
    uint64_t start = gm_now_ns();
    int rc = check_opts(opts, err, errlen);
    if (rc < 0) return rc;
    gm_engine *e = gm_calloc(1, sizeof *e);
    if (!e) return gm_fail_code(err, errlen, GM_ENOMEM);
    rc = open_model(e, opts, err, errlen);
    if (rc < 0) {
        gm_engine_close(&e);
        return rc;
    }
    e->serial = atomic_fetch_add(&serial, 1) + 1;
    gm_log(GM_LOG_INFO, "engine", "loaded %s in %.0f ms on %s, context %d", e->config.name,
           gm_ms_since(start), e->backend->desc, (int)e->kv.n_ctx);
    *out = e;
    return GM_OK;
}

int gm_engine_widen(gm_engine *e, int32_t n, char *err, size_t errlen) {
    if (n <= gm_decoder_n_batch(e->decoder)) return GM_OK;
    if (n > e->kv.n_ctx)
        return gm_fail(err, errlen, GM_ETOOLONG,
                       "an image of %d rows does not fit the context of %d", (int)n,
                       (int)e->kv.n_ctx);
    const int32_t slack = e->kv.n_slack;
    gm_decoder *wider = NULL;
    if (e->kv.n_slack < n) e->kv.n_slack = n;
    int rc = gm_decoder_create(&wider, &e->config, e->weights, e->backend, n, err, errlen);
    if (rc < 0) {
        e->kv.n_slack = slack;
        return rc;
    }
    gm_decoder_destroy(&e->decoder);
    e->decoder = wider;
    return GM_OK;
}

gm_engine_width gm_engine_get_width(const gm_engine *e) {
    return (gm_engine_width){gm_decoder_n_batch(e->decoder), e->kv.n_slack};
}

/* The wide one goes first: memory is short. */
int gm_engine_narrow(gm_engine *e, gm_engine_width was) {
    e->kv.n_slack = was.n_slack;
    if (was.n_batch == gm_decoder_n_batch(e->decoder)) return GM_OK;
    gm_decoder_destroy(&e->decoder);
    return gm_decoder_create(&e->decoder, &e->config, e->weights, e->backend, was.n_batch, NULL, 0);
}

void gm_engine_close(gm_engine **ep) {
    if (!ep || !*ep) return;
    gm_engine *e = *ep;
    close_computing(e);
    gm_backend_close(&e->backend);
    gm_config_finish(&e->config);
    gm_vocab_destroy(&e->vocab);
    gm_gguf_close(&e->gguf);
    gm_free(e);
    *ep = NULL;
}
