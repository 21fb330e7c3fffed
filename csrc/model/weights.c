/* weights.c: finds every tensor of the decoder by name, compares its shape with the
 * configuration and hands it to the backend.
 *
 * Nothing here reads matrix data. What a file has besides these tensors is left alone.
 */
#include "model/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "tensor/quant.h"

typedef struct {
    const gm_gguf *g;
    const gm_config *c;
    gm_backend *b;  /* of the whole model */
    gm_backend *to; /* of what is being loaded */
    gm_weights *w;
    gm_progress_fn progress;
    void *ud;
    const gm_cancel *cancel;
    uint64_t n_used;      /* tensors */
    uint64_t done, total; /* bytes of tensor data */
    char *err;
    size_t errlen;
} loader;

/* ---- finding a tensor and judging its shape ---- */

static int wrong_shape(const loader *l, const char *name, const gm_gguf_tensor *t, int64_t ne0,
                       int64_t ne1) {
    char found[96];
    int n = snprintf(found, sizeof found, "[%" PRIu64 ", %" PRIu64, t->ne[0], t->ne[1]);
    if (t->ne[2] != 1 || t->ne[3] != 1)
        n += snprintf(found + n, sizeof found - (size_t)n, ", %" PRIu64 ", %" PRIu64, t->ne[2],
                      t->ne[3]);
    return gm_fail(l->err, l->errlen, GM_EFORMAT,
                   "the tensor %s has shape %s], expected [%" PRId64 ", %" PRId64 "]", name, found,
                   ne0, ne1);
}

/* The tensor if it is there and has the shape; NULL and GM_OK when it is absent and optional. A
 * vector is a matrix of one row. That its type can be computed and its bytes are there was checked
 * when the file was opened. */
static int find(loader *l, const char *name, int64_t ne0, int64_t ne1, bool optional,
                const gm_gguf_tensor **out) {
    const gm_gguf_tensor *t = gm_gguf_tensor_find(l->g, name);
    *out = t;
    if (!t && optional) return GM_OK;
    if (!t) return gm_fail(l->err, l->errlen, GM_EFORMAT, "the model file has no tensor %s", name);
    if (t->ne[0] != (uint64_t)ne0 || t->ne[1] != (uint64_t)ne1 || t->ne[2] != 1 || t->ne[3] != 1)
        return wrong_shape(l, name, t, ne0, ne1);
    l->n_used++;
    l->w->n_param += t->ne[0] * t->ne[1];
    l->w->n_bytes += t->bytes;
    l->done += t->bytes;
    return GM_OK;
}

static int not_loaded(const loader *l, const char *name, int rc) {
    return gm_fail(l->err, l->errlen, rc, "the tensor %s could not be loaded: %s", name,
                   gm_err_text(rc));
}

/* ---- one tensor to the backend ---- */

static int take_matrix(loader *l, const char *name, int64_t n_in, int64_t n_out, bool optional,
                       gm_tensor *out) {
    const gm_gguf_tensor *t;
    int rc = find(l, name, n_in, n_out, optional, &t);
    if (rc || !t) return rc;
    /* Weights are never written: the view only has no const of its own. */
    gm_tensor host = gm_tensor_view(t->dtype, (void *)(uintptr_t)t->data, n_in, n_out);
    rc = gm_be_weight_import(l->to, &host, out);
    return rc ? not_loaded(l, name, rc) : GM_OK;
}

static int take_vector(loader *l, const char *name, int64_t n, gm_tensor *out) {
    const gm_gguf_tensor *t;
    int rc = find(l, name, n, 1, false, &t);
    if (rc) return rc;
    float *copy = gm_malloc((size_t)n, sizeof *copy);
    if (!copy) return not_loaded(l, name, GM_ENOMEM);
    gm_tensor host = gm_tensor_view(GM_F32, copy, n, 1);
    rc = gm_dequant_row(t->dtype, t->data, copy, n);
    for (int64_t i = 0; !rc && i < n; i++)
        if (!isfinite(copy[i])) {
            gm_free(copy);
            return gm_fail(l->err, l->errlen, GM_EFORMAT, "the tensor %s holds what is no number",
                           name);
        }
    if (!rc) rc = gm_be_weight_import(l->to, &host, out);
    if (rc) memset(out, 0, sizeof *out);
    if (out->data != copy) gm_free(copy); /* the device has its own now */
    return rc ? not_loaded(l, name, rc) : GM_OK;
}

static int take_scalar(loader *l, const char *name, float *out) {
    const gm_gguf_tensor *t;
    int rc = find(l, name, 1, 1, true, &t);
    if (rc || !t) return rc;
    rc = gm_dequant_row(t->dtype, t->data, out, 1);
    if (rc) return not_loaded(l, name, rc);
    if (!isfinite(*out))
        return gm_fail(l->err, l->errlen, GM_EFORMAT, "the tensor %s is not a finite number", name);
    return GM_OK;
}

/* ---- rotation ---- */

/* Factors of the global layers divide the angle. Huge ones say "does not turn", which is written
 * as an exact 0, so that a kernel can skip the pair. */
static int apply_factors(loader *l, int32_t n_pair, float *inv_freq) {
    static const char name[] = "rope_freqs.weight";
    const gm_gguf_tensor *t;
    int rc = find(l, name, n_pair, 1, true, &t);
    if (rc || !t) return rc;
    float *factor = gm_malloc((size_t)n_pair, sizeof *factor);
    if (!factor) return not_loaded(l, name, GM_ENOMEM);
    rc = gm_dequant_row(t->dtype, t->data, factor, n_pair);
    if (rc) rc = not_loaded(l, name, rc);
    for (int32_t i = 0; rc == GM_OK && i < n_pair; i++) {
        if (!(factor[i] > 1e-20f))
            rc = gm_fail(l->err, l->errlen, GM_EFORMAT, "the tensor %s has the factor %g at %d",
                         name, (double)factor[i], i);
        else inv_freq[i] = factor[i] > 1e20f ? 0.0f : inv_freq[i] / factor[i];
    }
    gm_free(factor);
    return rc;
}

/* One table for each kind of layer that occurs; all layers of a kind agree (config.c). */
static int make_rotations(loader *l) {
    for (int32_t i = 0; i < l->c->n_layer; i++) {
        const gm_layer_config *lc = &l->c->layer[i];
        float **table = &l->w->inv_freq[lc->sliding];
        if (!*table) {
            int32_t n_pair = lc->head_dim / 2;
            *table = gm_malloc((size_t)n_pair, sizeof **table);
            if (!*table)
                return gm_fail(l->err, l->errlen, GM_ENOMEM,
                               "out of memory while loading the model");
            for (int32_t p = 0; p < n_pair; p++)
                (*table)[p] = (float)pow((double)lc->rope_base, -2.0 * p / lc->head_dim);
            int rc = lc->sliding ? GM_OK : apply_factors(l, n_pair, *table);
            if (rc) return rc;
        }
        l->w->layer[i].inv_freq = *table;
    }
    return GM_OK;
}

/* ---- all of them ---- */

typedef struct {
    char s[64];
} tensor_name;

static tensor_name name_of(int32_t layer, const char *part) {
    tensor_name n;
    snprintf(n.s, sizeof n.s, "blk.%d.%s.weight", layer, part);
    return n;
}

static int load_attention(loader *l, int32_t i) {
    const gm_layer_config *lc = &l->c->layer[i];
    gm_layer_weights *w = &l->w->layer[i];
    int64_t n_embd = l->c->n_embd, d = lc->head_dim;
    int64_t n_q = lc->n_head * d, n_kv = lc->n_kv * d;
    int rc = take_vector(l, name_of(i, "attn_norm").s, n_embd, &w->attn_norm);
    if (!rc) rc = take_matrix(l, name_of(i, "attn_q").s, n_embd, n_q, false, &w->q);
    if (!rc) rc = take_matrix(l, name_of(i, "attn_k").s, n_embd, n_kv, false, &w->k);
    if (!rc) rc = take_matrix(l, name_of(i, "attn_v").s, n_embd, n_kv, !lc->has_v, &w->v);
    if (!rc) rc = take_vector(l, name_of(i, "attn_q_norm").s, d, &w->q_norm);
    if (!rc) rc = take_vector(l, name_of(i, "attn_k_norm").s, d, &w->k_norm);
    if (!rc) rc = take_matrix(l, name_of(i, "attn_output").s, n_q, n_embd, false, &w->o);
    if (!rc) rc = take_vector(l, name_of(i, "post_attention_norm").s, n_embd, &w->post_attn_norm);
    return rc;
}

static int load_feedforward(loader *l, int32_t i) {
    gm_layer_weights *w = &l->w->layer[i];
    int64_t n_embd = l->c->n_embd, n_ffn = l->c->layer[i].n_ffn;
    int rc = take_vector(l, name_of(i, "ffn_norm").s, n_embd, &w->ffn_norm);
    if (!rc) rc = take_matrix(l, name_of(i, "ffn_gate").s, n_embd, n_ffn, false, &w->gate);
    if (!rc) rc = take_matrix(l, name_of(i, "ffn_up").s, n_embd, n_ffn, false, &w->up);
    if (!rc) rc = take_matrix(l, name_of(i, "ffn_down").s, n_ffn, n_embd, false, &w->down);
    if (!rc) rc = take_vector(l, name_of(i, "post_ffw_norm").s, n_embd, &w->post_ffw_norm);
    w->out_scale = 1.0f;
    if (!rc) rc = take_scalar(l, name_of(i, "layer_output_scale").s, &w->out_scale);
    return rc;
}

/* The embedding is the head as well, unless the file has a head of its own. */
static int load_ends(loader *l) {
    gm_weights *w = l->w;
    int64_t n_embd = l->c->n_embd, n_vocab = l->c->n_vocab;
    int rc = take_matrix(l, "token_embd.weight", n_embd, n_vocab, false, &w->token_embd);
    if (!rc) rc = take_vector(l, "output_norm.weight", n_embd, &w->output_norm);
    if (!rc) rc = take_matrix(l, "output.weight", n_embd, n_vocab, true, &w->output);
    if (!rc && w->output.ne[0] == 0) w->output = w->token_embd;
    return rc;
}

static int report(const loader *l, uint64_t done) {
    if (gm_cancelled(l->cancel))
        return gm_fail(l->err, l->errlen, GM_ECANCELLED, "loading was cancelled");
    if (l->progress) l->progress(l->ud, done, l->total);
    return GM_OK;
}

static int load_all(loader *l) {
    l->to = gm_be_ends(l->b);
    int rc = load_ends(l);
    if (!rc) rc = report(l, l->done);
    for (int32_t i = 0; rc == GM_OK && i < l->c->n_layer; i++) {
        l->to = gm_be_layer(l->b, i);
        rc = load_attention(l, i);
        if (!rc) rc = load_feedforward(l, i);
        if (!rc) rc = report(l, l->done);
    }
    if (!rc) rc = make_rotations(l);
    if (!rc) rc = report(l, l->total); /* tensors that nobody wants are done as well */
    if (rc) return rc;
    uint64_t n_tensor = gm_gguf_n_tensor(l->g);
    if (n_tensor > l->n_used)
        gm_log(GM_LOG_DEBUG, "model", "%" PRIu64 " of %" PRIu64 " tensors are not used",
               n_tensor - l->n_used, n_tensor);
    return GM_OK;
}

gm_dtype gm_weights_main_type(const gm_gguf *g, uint64_t *n_bytes) {
    uint64_t of_type[GM_DTYPE_LIMIT] = {0}; /* bytes of matrices */
    int most = 0;
    *n_bytes = 0;
    for (uint64_t i = 0; i < gm_gguf_n_tensor(g); i++) {
        const gm_gguf_tensor *t = gm_gguf_tensor_at(g, i);
        *n_bytes += t->bytes;
        if (t->n_dims >= 2) of_type[t->dtype] += t->bytes;
    }
    for (int t = 1; t < GM_DTYPE_LIMIT; t++)
        if (of_type[t] > of_type[most]) most = t;
    return (gm_dtype)most;
}

int gm_weights_load(gm_weights **out, const gm_gguf *g, const gm_config *c, gm_backend *b,
                    gm_progress_fn progress, void *ud, const gm_cancel *cancel, char *err,
                    size_t errlen) {
    *out = NULL;
    gm_weights *w = gm_calloc(1, sizeof *w);
    if (w) w->layer = gm_calloc((size_t)c->n_layer, sizeof *w->layer);
    if (!w || !w->layer) {
        gm_weights_free(&w, b);
        return gm_fail(err, errlen, GM_ENOMEM, "out of memory while loading the model");
    }
    w->n_layer = c->n_layer;
    loader l = {.g = g,
                .c = c,
                .b = b,
                .w = w,
                .progress = progress,
                .ud = ud,
                .cancel = cancel,
                .err = err,
                .errlen = errlen};
    w->main_type = gm_weights_main_type(g, &l.total);
    int rc = load_all(&l);
    if (rc) gm_weights_free(&w, b);
    *out = w;
    return rc;
}

/* ---- and back ---- */

static void free_matrix(gm_tensor *t, gm_backend *b) {
    if (t->dmem) gm_be_tensor_free(b, t);
    memset(t, 0, sizeof *t);
}

static void free_vector(gm_tensor *t, gm_backend *b) {
    if (!t->dmem) gm_free(t->data);
    free_matrix(t, b);
}

static void free_layer(gm_layer_weights *w, gm_backend *b) {
    gm_tensor *vectors[] = {&w->attn_norm,      &w->q_norm,   &w->k_norm,
                            &w->post_attn_norm, &w->ffn_norm, &w->post_ffw_norm};
    gm_tensor *matrices[] = {&w->q, &w->k, &w->v, &w->o, &w->gate, &w->up, &w->down};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) free_vector(vectors[i], b);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) free_matrix(matrices[i], b);
}

void gm_weights_free(gm_weights **w, gm_backend *b) {
    gm_weights *x = *w;
    if (!x) return;
    for (int32_t i = 0; i < x->n_layer; i++) free_layer(&x->layer[i], b);
    bool tied = x->output.data == x->token_embd.data && x->output.dmem == x->token_embd.dmem;
    if (!tied) free_matrix(&x->output, b);
    free_matrix(&x->token_embd, b);
    free_vector(&x->output_norm, b);
    gm_free(x->inv_freq[0]);
    gm_free(x->inv_freq[1]);
    gm_free(x->layer);
    gm_free(x);
    *w = NULL;
}
