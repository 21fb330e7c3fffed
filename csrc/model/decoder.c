/* decoder.c: the forward pass, top to bottom.
 *
 * Owns the buffers and the order of the steps; the steps themselves are in embed.c, attention.c
 * and feedforward.c.
 */
#include "model/decoder.h"

#include "base/err.h"
#include "base/mem.h"
#include "model/pass.h"

gm_tensor gm_pass_rows(const gm_tensor *t, int64_t row0, int64_t n) {
    gm_tensor r = *t;
    size_t at = (size_t)row0 * t->row_bytes;
    if (r.data) r.data = (char *)r.data + at;
    r.offset += at;
    r.ne[1] = n;
    return r;
}

gm_tensor gm_pass_work(const gm_decoder *d, int64_t at, int64_t ne0, int64_t ne1, int64_t ne2) {
    gm_tensor r = d->work;
    size_t bytes = (size_t)at * sizeof(float);
    if (r.data) r.data = (char *)r.data + bytes;
    r.offset += bytes;
    r.ne[0] = ne0;
    r.ne[1] = ne1;
    r.ne[2] = ne2;
    r.row_bytes = (size_t)ne0 * sizeof(float);
    return r;
}

/* ---- life ---- */

static int alloc_rows(gm_backend *b, gm_tensor *t, int64_t ne0, int64_t ne1) {
    *t = gm_tensor_view(GM_F32, NULL, ne0, ne1);
    return gm_be_tensor_alloc(b, t);
}

/* The cause of what a backend refused. */
static int refused(const gm_config *c, const gm_backend *b, int32_t n_batch, int rc, char *err,
                   size_t errlen) {
    if (rc == GM_ENOMEM)
        return gm_fail(err, errlen, rc, "no memory for the buffers of %d tokens", n_batch);
    if (rc == GM_EUNSUPPORTED)
        return gm_fail(err, errlen, rc, "%s cannot compute heads of up to %d values", b->desc,
                       c->max_head_dim);
    return gm_fail(err, errlen, rc, "the buffers of %d tokens: %s", n_batch, gm_err_text(rc));
}

/* Floats of work: its two halves never live at once. */
static int64_t work_size(const gm_config *c, int32_t n_batch) {
    int64_t attention = gm_attention_work(c, n_batch), ffn = gm_feedforward_work(c, n_batch);
    return attention > ffn ? attention : ffn;
}

static int alloc_side(const gm_decoder *d, gm_backend *b, gm_pass_side *s) {
    int rc = alloc_rows(b, &s->h, d->c->n_embd, d->n_batch);
    if (!rc) rc = alloc_rows(b, &s->x, d->c->n_embd, d->n_batch);
    return rc ? rc : alloc_rows(b, &s->work, work_size(d->c, d->n_batch), 1);
}

uint64_t gm_decoder_layer_bytes(const gm_config *c, int32_t n_batch) {
    return (2 * (uint64_t)n_batch * (uint64_t)c->n_embd + (uint64_t)work_size(c, n_batch)) *
           sizeof(float);
}

uint64_t gm_decoder_end_bytes(const gm_config *c) {
    return GM_HEAD_ROWS * ((uint64_t)c->n_embd + (uint64_t)c->n_vocab) * sizeof(float);
}

static void free_side(gm_backend *b, gm_pass_side *s) {
    gm_be_tensor_free(b, &s->h);
    gm_be_tensor_free(b, &s->x);
    gm_be_tensor_free(b, &s->work);
}

/* What is in use becomes the other side and the other way round. */
static void swap_sides(gm_decoder *d) {
    gm_pass_side now = {d->h, d->x, d->work};
    d->h = d->other.h;
    d->x = d->other.x;
    d->work = d->other.work;
    d->other = now;
}

static int alloc_buffers(gm_decoder *d) {
    int64_t n = d->n_batch;
    d->here = gm_be_ends(d->b);
    int rc = alloc_side(d, d->here, &d->other);
    swap_sides(d);
    if (!rc && d->here != d->b) rc = alloc_side(d, d->b, &d->other);
    if (!rc) rc = alloc_rows(d->here, &d->y, d->c->n_embd, GM_HEAD_ROWS);
    if (!rc) rc = alloc_rows(d->here, &d->logits, d->c->n_vocab, GM_HEAD_ROWS);
    if (rc) return rc;
    d->visible = gm_calloc(4 * (size_t)n, sizeof *d->visible);
    if (!d->visible) return GM_ENOMEM;
    for (int i = 0; i < 2; i++) {
        d->lo[i] = d->visible + 2 * i * n;
        d->hi[i] = d->lo[i] + n;
    }
    return GM_OK;
}

static int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

int gm_decoder_create(gm_decoder **out, const gm_config *c, const gm_weights *w, gm_backend *b,
                      int32_t n_batch, char *err, size_t errlen) {
    *out = NULL;
    if (n_batch < 1)
        return gm_fail(err, errlen, GM_EINVAL, "a batch of %d is not possible", n_batch);
    gm_decoder *d = gm_calloc(1, sizeof *d);
    if (!d) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the decoder");
    d->c = c;
    d->w = w;
    d->b = b;
    d->n_batch = n_batch;
    gm_be_limits lim = {
        .max_tok = max32(n_batch, GM_HEAD_ROWS),
        .max_in = max32(c->n_embd, max32(c->max_q, c->max_ffn)),
        .max_head = c->max_head,
        .max_head_dim = c->max_head_dim,
        .fine = w->n_bytes <= GM_SMALL_MODEL_BYTES,
    };
    int rc = gm_be_reserve(b, &lim);
    if (!rc) rc = alloc_buffers(d);
    if (rc) {
        gm_decoder_destroy(&d);
        return refused(c, b, n_batch, rc, err, errlen);
    }
    *out = d;
    return GM_OK;
}

void gm_decoder_destroy(gm_decoder **d) {
    gm_decoder *x = *d;
    if (!x) return;
    free_side(x->b, &x->other);
    swap_sides(x);
    free_side(x->b, &x->other);
    gm_be_tensor_free(x->b, &x->y);
    gm_be_tensor_free(x->b, &x->logits);
    gm_free(x->visible);
    gm_free(x);
    *d = NULL;
}

int32_t gm_decoder_n_batch(const gm_decoder *d) { return d->n_batch; }

bool gm_decoder_top_pays(const gm_decoder *d) { return gm_be_top_pays(d->b); }

int gm_decoder_row(gm_decoder *d, const gm_kv *kv, float *logits) {
    if (d->row_of != kv || d->row_len != gm_kv_len(kv)) return GM_EINVAL;
    return gm_be_read(d->b, &d->logits, 0, logits, d->logits.row_bytes);
}

/* ---- the pass ---- */

/* Everything that a caller can get wrong, before anything is written. */
static int check_batch(const gm_decoder *d, const gm_kv *kv, const gm_batch *batch) {
    int32_t n = batch->n_tok, len = gm_kv_len(kv);
    if (n < 1 || n > d->n_batch || n > gm_kv_slack(kv) || batch->n_out < 0) return GM_EINVAL;
    if (batch->top && (batch->n_out != 1 || !gm_decoder_top_pays(d))) return GM_EINVAL;
    if (n > gm_kv_n_ctx(kv) - len) return GM_ETOOLONG;
    for (int32_t t = 0; t < n; t++) {
        if (batch->ids[t] >= d->c->n_vocab || batch->ids[t] < (batch->embd ? -1 : 0))
            return GM_EINVAL;
        if (batch->see_to && batch->see_to[t] >= len + n) return GM_EINVAL;
    }
    for (int32_t i = 0; i < batch->n_out; i++) {
        int32_t least = i > 0 ? batch->out_rows[i - 1] + 1 : 0;
        if (batch->out_rows[i] < least || batch->out_rows[i] >= n) return GM_EINVAL;
    }
    return GM_OK;
}

/* Global layers see everything up to themselves. Sliding ones see the window up to themselves and,
 * inside an image, also its later rows; those bend the end of what is visible, never the begin. */
static void set_visible(gm_decoder *d, const gm_pass *p, const int32_t *see_to) {
    for (int32_t t = 0; t < p->n_tok; t++) {
        int32_t pos = p->pos0 + t;
        d->lo[0][t] = 0;
        d->hi[0][t] = pos;
        d->lo[1][t] = max32(0, pos - d->c->window + 1);
        d->hi[1][t] = see_to ? max32(pos, see_to[t]) : pos;
    }
}

/* Brings the stream to where the next step computes. One of the sides is the host. */
static int go_to(gm_decoder *d, gm_backend *b, int32_t n_tok) {
    if (d->here == b) return GM_OK;
    size_t bytes = (size_t)n_tok * d->h.row_bytes;
    swap_sides(d);
    d->here = b;
    gm_tensor *from = &d->other.h, *to = &d->h;
    return from->data ? gm_be_write(d->b, to, 0, from->data, bytes)
                      : gm_be_read(d->b, from, 0, to->data, bytes);
}

static int run_layers(gm_decoder *d, const gm_pass *p) {
    for (int32_t i = 0; i < d->c->n_layer; i++) {
        if (gm_cancelled(d->b->cancel)) return GM_ECANCELLED;
        int32_t row0 = i == d->c->n_layer - 1 ? p->first_out : 0;
        int rc = go_to(d, gm_be_layer(d->b, i), p->n_tok);
        if (!rc) rc = gm_pass_attention(d, p, i, row0);
        if (!rc) rc = gm_pass_feedforward(d, p, i, row0);
        if (rc) return rc;
    }
    return go_to(d, gm_be_ends(d->b), p->n_tok);
}

/* An earlier pass may have ended half way. */
static void go_to_begin(gm_decoder *d) {
    if (d->here == gm_be_ends(d->b)) return;
    swap_sides(d);
    d->here = gm_be_ends(d->b);
}

int gm_decoder_run(gm_decoder *d, gm_kv *kv, const gm_batch *batch) {
    int rc = check_batch(d, kv, batch);
    if (rc) return rc;
    gm_pass p = {
        .kv = kv,
        .pos0 = gm_kv_len(kv),
        .n_tok = batch->n_tok,
        .first_out = batch->n_out > 0 ? batch->out_rows[0] : batch->n_tok,
    };
    gm_noalloc_begin();
    d->row_of = NULL;
    set_visible(d, &p, batch->see_to);
    gm_kv_begin_write(kv, p.n_tok);
    go_to_begin(d);
    rc = gm_pass_embed(d, &p, batch);
    if (!rc) rc = run_layers(d, &p);
    if (!rc) rc = gm_pass_head(d, &p, batch);
    if (!rc) rc = gm_be_sync(d->b);
    if (!rc) gm_kv_advance(kv, p.n_tok);
    if (!rc && batch->top) {
        d->row_of = kv;
        d->row_len = gm_kv_len(kv);
    }
    gm_noalloc_end();
    return rc;
}
