/* embed.c: the two ends of the pass: tokens and media rows to the stream, and the stream to
 * logits.
 */
#include "base/err.h"
#include "model/pass.h"
#include "model/probe.h"

/* Media rows go into the stream as they are; only looked-up rows are scaled. Runs of them are
 * copied at once. */
static int write_media_rows(gm_decoder *d, const gm_batch *batch) {
    const float *from = batch->embd;
    int32_t t = 0;
    while (t < batch->n_tok) {
        int32_t end = t;
        while (end < batch->n_tok && batch->ids[end] < 0) end++;
        if (end > t) {
            size_t bytes = (size_t)(end - t) * d->h.row_bytes;
            int rc = gm_be_write(d->b, &d->h, (size_t)t * d->h.row_bytes, from, bytes);
            if (rc) return rc;
            from += (size_t)(end - t) * (size_t)d->c->n_embd;
        }
        t = end + 1;
    }
    return GM_OK;
}

int gm_pass_embed(gm_decoder *d, const gm_pass *p, const gm_batch *batch) {
    gm_tensor h = gm_pass_rows(&d->h, 0, p->n_tok);
    int rc = gm_be_embed(d->b, &(gm_op_embed){.table = &d->w->token_embd,
                                              .ids = batch->ids,
                                              .n_tok = p->n_tok,
                                              .scale = d->c->embed_scale,
                                              .out = &h});
    if (!rc) rc = write_media_rows(d, batch);
    if (!rc) gm_probe_dump(d->b, "embd", -1, p->pos0, &h, p->n_tok);
    return rc;
}

/* y = output_norm of n wanted rows, copied together; neighbours in one call. */
static int gather_rows(gm_decoder *d, const int32_t *rows, int32_t n) {
    int32_t i = 0;
    while (i < n) {
        int32_t run = 1;
        while (i + run < n && rows[i + run] == rows[i] + run) run++;
        gm_tensor x = gm_pass_rows(&d->h, rows[i], run), y = gm_pass_rows(&d->y, i, run);
        int rc = gm_be_rms_norm(
            d->b,
            &(gm_op_rms_norm){
                .x = &x, .w = &d->w->output_norm, .eps = d->c->rms_eps, .n_tok = run, .out = &y});
        if (rc) return rc;
        i += run;
    }
    return GM_OK;
}

/* n rows to the host, or the best of one. */
static int compute_logits(gm_decoder *d, int32_t n, float *to, gm_top *top) {
    gm_tensor y = gm_pass_rows(&d->y, 0, n), logits = gm_pass_rows(&d->logits, 0, n);
    int rc = gm_be_matmul(
        d->b,
        &(gm_op_matmul){.n_mat = 1, .w = {&d->w->output}, .x = &y, .n_tok = n, .out = {&logits}});
    if (!rc && d->c->softcap > 0.0f)
        rc = gm_be_softcap(d->b, &(gm_op_softcap){.x = &logits, .n_tok = n, .cap = d->c->softcap});
    if (!rc && top) return gm_be_top(d->b, &(gm_op_top){.x = &logits, .out = top});
    if (!rc) rc = gm_be_sync(d->b);
    if (!rc) rc = gm_be_read(d->b, &logits, 0, to, (size_t)n * logits.row_bytes);
    return rc;
}

int gm_pass_head(gm_decoder *d, const gm_pass *p, const gm_batch *batch) {
    size_t n_vocab = (size_t)d->c->n_vocab;
    for (int32_t i = 0; i < batch->n_out; i += GM_HEAD_ROWS) {
        int32_t n = batch->n_out - i < GM_HEAD_ROWS ? batch->n_out - i : GM_HEAD_ROWS;
        int rc = gather_rows(d, batch->out_rows + i, n);
        float *to = batch->logits ? batch->logits + (size_t)i * n_vocab : NULL;
        if (!rc && (to || batch->top)) rc = compute_logits(d, n, to, batch->top);
        if (rc) return rc;
        for (int32_t j = 0; gm_probe_on() && (to || batch->top) && j < n; j++) {
            gm_tensor row = gm_pass_rows(&d->logits, j, 1);
            gm_probe_dump(d->b, "logits", -1, p->pos0 + batch->out_rows[i + j], &row, 1);
        }
    }
    return GM_OK;
}
