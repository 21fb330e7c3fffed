/* attention.c: the first half of a layer.
 *
 *     a = rms(h; attn_norm)
 *     q = rope(rms(Wq a; q_norm))     by head
 *     k = rope(rms(Wk a; k_norm))     by head
 *     v = rms(Wv a)                   by head, no weight, no rotation; Wk a where there is no Wv
 *     h = h + rms(Wo attention(q, k, v); post_attention_norm)
 */
#include "base/err.h"
#include "model/pass.h"
#include "model/probe.h"

/* Offsets of the four parts in work, in floats, for n_batch tokens of the widest layer. */
typedef struct {
    int64_t q, out, k, v, end;
} layout;

static layout layout_of(const gm_config *c, int32_t n_batch) {
    layout l = {.q = 0};
    l.out = l.q + (int64_t)n_batch * c->max_q;
    l.k = l.out + (int64_t)n_batch * c->max_q;
    l.v = l.k + (int64_t)n_batch * c->max_kv;
    l.end = l.v + (int64_t)n_batch * c->max_kv;
    return l;
}

int64_t gm_attention_work(const gm_config *c, int32_t n_batch) { return layout_of(c, n_batch).end; }

/* q of rows from row0 on, k and v of all rows, as products only. All three share their input, so
 * they go in one call unless q is wanted for fewer rows. */
static int project(gm_decoder *d, const gm_pass *p, const gm_layer_weights *w, int32_t row0,
                   gm_tensor *q, gm_tensor *k, gm_tensor *v) {
    gm_tensor x = gm_pass_rows(&d->x, 0, p->n_tok);
    gm_op_matmul op = {.x = &x, .n_tok = p->n_tok};
    bool q_apart = row0 > 0;
    if (!q_apart) {
        op.w[op.n_mat] = &w->q;
        op.out[op.n_mat++] = q;
    }
    op.w[op.n_mat] = &w->k;
    op.out[op.n_mat++] = k;
    if (v) {
        op.w[op.n_mat] = &w->v;
        op.out[op.n_mat++] = v;
    }
    int rc = gm_be_matmul(d->b, &op);
    if (rc || !q_apart || row0 == p->n_tok) return rc;
    gm_tensor rest = gm_pass_rows(&d->x, row0, p->n_tok - row0);
    return gm_be_matmul(
        d->b, &(gm_op_matmul){
                  .n_mat = 1, .w = {&w->q}, .x = &rest, .n_tok = p->n_tok - row0, .out = {q}});
}

/* v = rms(v), or rms of the raw k where the layer has no v: the norm writes the copy that would be
 * needed anyway, before k's own norm and rotation destroy the raw values. */
static int norm_v(gm_decoder *d, const gm_layer_config *lc, int32_t n_tok, const gm_tensor *k,
                  gm_tensor *v) {
    int64_t n_row = (int64_t)n_tok * lc->n_kv;
    gm_tensor from = *(lc->has_v ? v : k), to = *v;
    from.ne[1] = to.ne[1] = n_row;
    from.ne[2] = to.ne[2] = 1;
    return gm_be_rms_norm(
        d->b,
        &(gm_op_rms_norm){.x = &from, .eps = d->c->rms_eps, .n_tok = (int32_t)n_row, .out = &to});
}

static int norm_and_turn(gm_decoder *d, const gm_layer_config *lc, const gm_layer_weights *w,
                         const gm_tensor *norm, gm_tensor *x, int32_t pos0) {
    return gm_be_head_norm_rope(d->b, &(gm_op_head_norm_rope){.x = x,
                                                              .n_tok = (int32_t)x->ne[2],
                                                              .n_head = (int32_t)x->ne[1],
                                                              .head_dim = lc->head_dim,
                                                              .w = norm,
                                                              .eps = d->c->rms_eps,
                                                              .inv_freq = w->inv_freq,
                                                              .pos0 = pos0});
}

/* Attention of rows from row0 on, its output product, and the residual. */
static int attend(gm_decoder *d, const gm_pass *p, int32_t layer, int32_t row0,
                  const gm_tensor *q) {
    const gm_layer_config *lc = &d->c->layer[layer];
    const gm_layer_weights *w = &d->w->layer[layer];
    int32_t n = p->n_tok - row0;
    layout at = layout_of(d->c, d->n_batch);
    gm_tensor out = gm_pass_work(d, at.out, lc->head_dim, lc->n_head, n);
    int rc = gm_be_attention(d->b, &(gm_op_attention){.q = q,
                                                      .cache = gm_kv_layer_at(p->kv, layer),
                                                      .n_tok = n,
                                                      .n_head = lc->n_head,
                                                      .lo = d->lo[lc->sliding] + row0,
                                                      .hi = d->hi[lc->sliding] + row0,
                                                      .out = &out});
    if (rc) return rc;
    gm_tensor flat = gm_pass_work(d, at.out, (int64_t)lc->n_head * lc->head_dim, n, 1);
    gm_probe_dump(d->b, "attn_out", layer, p->pos0 + row0, &flat, n);
    gm_tensor x = gm_pass_rows(&d->x, row0, n), h = gm_pass_rows(&d->h, row0, n);
    rc = gm_be_matmul(
        d->b, &(gm_op_matmul){.n_mat = 1, .w = {&w->o}, .x = &flat, .n_tok = n, .out = {&x}});
    if (!rc)
        rc = gm_be_add_norm(d->b, &(gm_op_add_norm){.x = &x,
                                                    .w = &w->post_attn_norm,
                                                    .eps = d->c->rms_eps,
                                                    .scale = 1.0f,
                                                    .n_tok = n,
                                                    .h = &h});
    if (!rc) gm_probe_dump(d->b, "h_mid", layer, p->pos0 + row0, &h, n);
    return rc;
}

int gm_pass_attention(gm_decoder *d, const gm_pass *p, int32_t layer, int32_t row0) {
    const gm_layer_config *lc = &d->c->layer[layer];
    const gm_layer_weights *w = &d->w->layer[layer];
    layout at = layout_of(d->c, d->n_batch);
    int32_t n_tok = p->n_tok, dim = lc->head_dim;
    gm_tensor h = gm_pass_rows(&d->h, 0, n_tok), x = gm_pass_rows(&d->x, 0, n_tok);
    int rc = gm_be_rms_norm(
        d->b, &(gm_op_rms_norm){
                  .x = &h, .w = &w->attn_norm, .eps = d->c->rms_eps, .n_tok = n_tok, .out = &x});
    if (rc) return rc;
    gm_probe_dump(d->b, "attn_norm", layer, p->pos0, &x, n_tok);

    int32_t n_q = n_tok - row0;
    gm_tensor q = gm_pass_work(d, at.q, dim, lc->n_head, n_q);
    gm_tensor k = gm_pass_work(d, at.k, dim, lc->n_kv, n_tok);
    gm_tensor v = gm_pass_work(d, at.v, dim, lc->n_kv, n_tok);
    gm_tensor q_flat = gm_pass_work(d, at.q, (int64_t)lc->n_head * dim, n_q, 1);
    gm_tensor k_flat = gm_pass_work(d, at.k, (int64_t)lc->n_kv * dim, n_tok, 1);
    gm_tensor v_flat = gm_pass_work(d, at.v, (int64_t)lc->n_kv * dim, n_tok, 1);
    rc = project(d, p, w, row0, &q_flat, &k_flat, lc->has_v ? &v_flat : NULL);
    if (!rc) rc = norm_v(d, lc, n_tok, &k, &v);
    if (!rc) rc = norm_and_turn(d, lc, w, &w->k_norm, &k, p->pos0);
    if (!rc)
        rc = gm_be_kv_write(d->b, &(gm_op_kv_write){.k = &k,
                                                    .v = &v,
                                                    .n_tok = n_tok,
                                                    .pos0 = p->pos0,
                                                    .cache = gm_kv_layer_at(p->kv, layer)});
    if (rc) return rc;
    gm_probe_dump(d->b, "k", layer, p->pos0, &k_flat, n_tok);
    gm_probe_dump(d->b, "v", layer, p->pos0, &v_flat, n_tok);
    if (n_q == 0) return GM_OK;
    rc = norm_and_turn(d, lc, w, &w->q_norm, &q, p->pos0 + row0);
    if (rc) return rc;
    gm_probe_dump(d->b, "q", layer, p->pos0 + row0, &q_flat, n_q);
    return attend(d, p, layer, row0, &q);
}
