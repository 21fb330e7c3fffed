/* feedforward.c: the second half of a layer.
 *
 *     f = rms(h; ffn_norm)
 *     f = Wdown(gelu_tanh(Wgate f) * (Wup f))
 *     h = (h + rms(f; post_ffw_norm)) * layer_output_scale
 */
#include "base/err.h"
#include "model/pass.h"
#include "model/probe.h"

int64_t gm_feedforward_work(const gm_config *c, int32_t n_batch) {
    return 2 * (int64_t)n_batch * c->max_ffn;
}

int gm_pass_feedforward(gm_decoder *d, const gm_pass *p, int32_t layer, int32_t row0) {
    const gm_layer_weights *w = &d->w->layer[layer];
    int32_t n = p->n_tok - row0, pos = p->pos0 + row0, n_ffn = d->c->layer[layer].n_ffn;
    if (n == 0) return GM_OK;
    gm_tensor h = gm_pass_rows(&d->h, row0, n), x = gm_pass_rows(&d->x, row0, n);
    gm_tensor gate = gm_pass_work(d, 0, n_ffn, n, 1);
    gm_tensor up = gm_pass_work(d, (int64_t)d->n_batch * d->c->max_ffn, n_ffn, n, 1);

    int rc = gm_be_rms_norm(
        d->b,
        &(gm_op_rms_norm){.x = &h, .w = &w->ffn_norm, .eps = d->c->rms_eps, .n_tok = n, .out = &x});
    if (!rc) gm_probe_dump(d->b, "ffn_norm", layer, pos, &x, n);
    if (!rc)
        rc = gm_be_matmul(
            d->b,
            &(gm_op_matmul){
                .n_mat = 2, .w = {&w->gate, &w->up}, .x = &x, .n_tok = n, .out = {&gate, &up}});
    if (!rc)
        rc = gm_be_geglu(d->b, &(gm_op_geglu){.gate = &gate, .up = &up, .n_tok = n, .out = &gate});
    if (!rc)
        rc = gm_be_matmul(
            d->b,
            &(gm_op_matmul){.n_mat = 1, .w = {&w->down}, .x = &gate, .n_tok = n, .out = {&x}});
    if (!rc) gm_probe_dump(d->b, "ffn_out", layer, pos, &x, n);
    if (!rc)
        rc = gm_be_add_norm(d->b, &(gm_op_add_norm){.x = &x,
                                                    .w = &w->post_ffw_norm,
                                                    .eps = d->c->rms_eps,
                                                    .scale = w->out_scale,
                                                    .n_tok = n,
                                                    .h = &h});
    if (!rc) gm_probe_dump(d->b, "h", layer, pos, &h, n);
    return rc;
}
