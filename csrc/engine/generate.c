/* generate.c: from a prompt to text, a step at a time.
 *
 * A decode step first puts the token of the step before into the session and then samples the
 * next one. So a token's text is out before its forward pass runs, the last token of an answer
 * costs no pass at all, and a step that is cancelled inside the pass has changed nothing.
 */
#include "engine/generate.h"

#include <math.h>
#include "base/clock.h"
#include "base/err.h"

static int begin_healing(gm_gen *g, const gm_prompt *p, const gm_gen_opts *o, size_t *n) {
    /* Rows of media have no text, so healing ends where they do. */
    size_t from = 0;
    if (p->n_media > 0) {
        const gm_media_rows *m = &p->media[p->n_media - 1];
        from = m->start + m->n_row;
    }
    if (!o->heal || from >= p->n) return GM_OK;
    size_t n_text = p->n - from;
    int rc = gm_heal_init(&g->heal, o->heal, p->ids + from, &n_text, o->tail);
    *n = from + n_text;
    return rc;
}

static int begin(gm_gen *g, const gm_prompt *prompt, const gm_gen_opts *o, char *err,
                 size_t errlen) {
    gm_prompt p = *prompt;
    int rc = begin_healing(g, prompt, o, &p.n);
    if (rc == GM_OK) rc = gm_stop_init(&g->stop, o->stops, o->n_stop, g->heal.forced.n);
    if (rc == GM_OK && o->max_tokens > 0)
        rc = gm_sampler_create(&g->sampler, &o->sampling, gm_vocab_size(g->vocab));
    if (rc < 0) return gm_fail_code(err, errlen, rc);
    rc = gm_session_begin(g->session, &p, &g->n_reused, err, errlen);
    if (rc < 0) return rc;
    g->n_prompt = p.n;
    g->n_left = p.n - g->n_reused;
    g->prefilling = g->n_left > 0;
    for (size_t i = 0; g->sampler && i < p.n; i++) gm_sampler_accept(g->sampler, p.ids[i]);
    return GM_OK;
}

int gm_gen_init(gm_gen *g, gm_session *s, const gm_vocab *vocab, const gm_prompt *prompt,
                const gm_gen_opts *o, char *err, size_t errlen) {
    *g = (gm_gen){.session = s,
                  .vocab = vocab,
                  .max_tokens = o->max_tokens,
                  .ignore_eog = o->ignore_eog,
                  .thoughts = o->thoughts,
                  .pending = -1};
    gm_detok_init(&g->detok, vocab, false);
    if (o->thoughts) gm_channel_init(&g->channel, vocab, prompt->ids, prompt->n);
    int rc = begin(g, prompt, o, err, errlen);
    if (rc < 0) gm_gen_finish(g);
    return rc;
}

void gm_gen_finish(gm_gen *g) {
    gm_sampler_destroy(&g->sampler);
    gm_stop_finish(&g->stop);
    gm_heal_finish(&g->heal);
    gm_ids_finish(&g->tokens);
    gm_bytes_finish(&g->text);
    gm_bytes_finish(&g->thought);
    *g = (gm_gen){.pending = -1};
}

static int prefill(gm_gen *g, size_t max_tok) {
    size_t rows = gm_session_media_rows(g->session);
    int64_t left = gm_session_step(g->session, max_tok);
    if (left < 0) return (int)left;
    g->n_media += gm_session_media_rows(g->session) - rows;
    g->n_left = (size_t)left;
    g->prefilling = left > 0;
    return GM_OK;
}

const char *gm_gen_err_text(int code) {
    return code == GM_EFORMAT
               ? "the model computes no numbers: its file is damaged; download it again"
               : gm_err_text(code);
}

/* Where a piece belongs: to the thought that is open, or to the answer. */
static int put(gm_gen *g, bool thought, const gm_bytes *piece) {
    if (!thought) return gm_stop_push(&g->stop, piece->p, piece->n, &g->text);
    const size_t healed = gm_stop_pass(&g->stop, piece->n);
    if (healed == piece->n) return GM_OK;
    gm_str body = gm_channel_body(&g->channel, (gm_str){piece->p + healed, piece->n - healed});
    return gm_bytes_append(&g->thought, body.p, body.n);
}

/* Everything that was held back comes out, unless a stop string took it. */
static int end(gm_gen *g, gm_stop_reason why) {
    gm_bytes rest = {0};
    int rc = gm_detok_flush(&g->detok, &rest);
    if (rc == GM_OK) rc = put(g, g->channel.inside, &rest);
    if (rc == GM_OK) rc = gm_stop_flush(&g->stop, &g->text);
    gm_bytes_finish(&rest);
    g->stop_reason = g->stop.hit ? GM_STOP_STRING : why;
    return rc;
}

static int pick(gm_gen *g, int32_t *id) {
    size_t n_suppressed;
    const int32_t n_vocab = gm_vocab_size(g->vocab);
    const int32_t *suppressed = gm_vocab_suppressed(g->vocab, &n_suppressed);
    const uint32_t *mask = gm_heal_mask(&g->heal);
    const gm_top *top = gm_session_top(g->session);
    if (top && gm_sampler_pick_top(g->sampler, top, n_vocab, suppressed, n_suppressed, mask, id,
                                   &g->logprob))
        return GM_OK;
    int rc = gm_session_fetch(g->session);
    if (rc < 0) return rc;
    float *logits = gm_session_logits(g->session);
    if (!logits) return GM_EINTERNAL;
    /* Matrices are not looked through at load. One such value in them ends up in every logit. */
    if (isnan(logits[0]) && isnan(logits[n_vocab - 1])) return GM_EFORMAT;
    *id = gm_sampler_pick(g->sampler, logits, n_vocab, suppressed, n_suppressed, mask, &g->logprob);
    return *id < 0 ? GM_EINTERNAL : GM_OK;
}

/* Adds what a token says. A mark only ends what was held back before it. */
static int add_text(gm_gen *g, int32_t id) {
    gm_bytes piece = {0};
    bool thought = g->channel.inside;
    bool mark = g->thoughts && gm_channel_mark(&g->channel, id);
    int rc = mark ? gm_detok_flush(&g->detok, &piece) : gm_detok_push(&g->detok, id, &piece);
    if (rc == GM_OK) rc = put(g, thought, &piece);
    gm_bytes_finish(&piece);
    return rc;
}

/* Adds a sampled token to the answer. */
static int take(gm_gen *g, int32_t id) {
    int rc = gm_ids_push(&g->tokens, id);
    if (rc == GM_OK) rc = add_text(g, id);
    if (rc < 0) return rc;
    gm_sampler_accept(g->sampler, id);
    g->pending = id;
    gm_heal_accept(&g->heal, id);
    if (gm_heal_active(&g->heal)) return GM_OK; /* only puts back what the prompt had */
    g->n_generated++;
    g->logprob_sum += g->logprob;
    return GM_OK;
}

static int decode(gm_gen *g) {
    if (g->pending >= 0) {
        int rc = gm_sampler_takes_top(g->sampler) ? gm_session_append_top(g->session, g->pending)
                                                  : gm_session_append(g->session, g->pending);
        if (rc == GM_ETOOLONG) return end(g, GM_STOP_CONTEXT);
        if (rc < 0) return rc;
        g->pending = -1;
    }
    int32_t id;
    int rc = pick(g, &id);
    if (rc < 0) return rc;
    if (!g->ignore_eog && gm_vocab_is_eog(g->vocab, id)) return end(g, GM_STOP_EOG);
    rc = take(g, id);
    if (rc < 0) return rc;
    if (g->stop.hit) return end(g, GM_STOP_STRING);
    if (g->n_generated >= (uint32_t)g->max_tokens) return end(g, GM_STOP_LENGTH);
    return GM_OK;
}

int gm_gen_step(gm_gen *g, size_t max_tok) {
    g->text.n = g->thought.n = 0;
    if (g->stop_reason != GM_STOP_NONE) return 0;
    uint64_t start = gm_now_ns();
    bool prefilling = g->prefilling;
    int rc = GM_OK;
    if (prefilling) rc = prefill(g, max_tok);
    else if (g->max_tokens > 0) rc = decode(g);
    *(prefilling ? &g->prefill_ms : &g->decode_ms) += gm_ms_since(start);
    if (rc < 0) return rc;
    return g->prefilling || (g->max_tokens > 0 && g->stop_reason == GM_STOP_NONE);
}
