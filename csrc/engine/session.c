/* session.c: one timeline, compared, cut back and extended.
 *
 * Every position has a 64-bit key: the token's id, or for a row of a picture or a sound a number
 * made of the hash of its contents and the row. Two prompts agree as far as their keys agree, so
 * that asking a second question about the same picture computes only the question.
 *
 *     have   | system | file | picture ....... | old question |        keys of what the cache holds
 *     want   | system | file | picture ....... | new question ... |
 *                                              ^ common prefix: cut here, compute the rest
 */
#include "engine/session.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

/* A run of rows that see one another, so that none of them may be kept without the others. */
typedef struct {
    size_t start, end; /* positions */
} closed_run;

struct gm_session {
    gm_engine *e;
    gm_kv *kv;
    size_t n_ctx, n_vocab, n_embd, n_chunk;

    uint64_t *have;  /* [n_ctx] keys of the first gm_kv_len positions */
    closed_run *run; /* in the cache, ascending */
    size_t n_run, cap_run;

    bool syncing;
    size_t n_want;
    uint64_t *want; /* [n_ctx] keys */
    int32_t *ids;   /* [n_ctx]; -1 at rows of media */
    gm_media_rows *media;
    size_t n_media, cap_media;

    float *logits; /* [n_vocab] after the last position */
    bool has_logits;
    bool untouched; /* nobody was given the logits, so they are as computed */
    bool has_top;
    gm_top top; /* the best of the row, which the decoder still has */

    int32_t *see_to;   /* [n_chunk] */
    int32_t *out_rows; /* [n_chunk] */
    size_t n_media_computed;
    gm_logits_tap tap;
    float *tapped;     /* rows for the tap */
    size_t cap_tapped; /* in rows */
};

/* ---- creation -------------------------------------------------------------------------------- */

static int allocate(gm_session *s) {
    s->have = gm_calloc(s->n_ctx, sizeof *s->have);
    s->want = gm_calloc(s->n_ctx, sizeof *s->want);
    s->ids = gm_calloc(s->n_ctx, sizeof *s->ids);
    s->logits = gm_calloc(s->n_vocab, sizeof *s->logits);
    s->see_to = gm_calloc(s->n_chunk, sizeof *s->see_to);
    s->out_rows = gm_calloc(s->n_chunk, sizeof *s->out_rows);
    bool ok = s->have && s->want && s->ids && s->logits && s->see_to && s->out_rows;
    return ok ? GM_OK : GM_ENOMEM;
}

int gm_session_create(gm_session **out, gm_engine *e, char *err, size_t errlen) {
    *out = NULL;
    gm_session *s = gm_calloc(1, sizeof *s);
    if (!s) return gm_fail_code(err, errlen, GM_ENOMEM);
    s->e = e;
    s->n_ctx = (size_t)e->kv.n_ctx;
    s->n_vocab = (size_t)e->config.n_vocab;
    s->n_embd = (size_t)e->config.n_embd;
    int rc = gm_kv_create(&s->kv, &e->config, e->backend, &e->kv, err, errlen);
    if (rc < 0) goto fail;
    s->n_chunk = (size_t)gm_decoder_n_batch(e->decoder);
    if (s->n_chunk > (size_t)gm_kv_slack(s->kv)) s->n_chunk = (size_t)gm_kv_slack(s->kv);
    rc = allocate(s);
    if (rc < 0) {
        gm_fail(err, errlen, rc, "%s for a session of %zu positions", gm_err_text(rc), s->n_ctx);
        goto fail;
    }
    *out = s;
    return GM_OK;
fail:
    gm_session_destroy(&s);
    return rc;
}

void gm_session_destroy(gm_session **sp) {
    if (!sp || !*sp) return;
    gm_session *s = *sp;
    gm_kv_destroy(&s->kv);
    gm_free(s->have);
    gm_free(s->run);
    gm_free(s->want);
    gm_free(s->ids);
    gm_free(s->media);
    gm_free(s->logits);
    gm_free(s->see_to);
    gm_free(s->out_rows);
    gm_free(s->tapped);
    gm_free(s);
    *sp = NULL;
}

size_t gm_session_len(const gm_session *s) { return (size_t)gm_kv_len(s->kv); }
size_t gm_session_media_rows(const gm_session *s) { return s->n_media_computed; }
size_t gm_session_chunk(const gm_session *s) { return s->n_chunk; }
uint64_t gm_session_bytes(const gm_session *s) { return gm_kv_bytes(s->kv); }

void gm_session_set_tap(gm_session *s, const gm_logits_tap *tap) {
    s->tap = tap ? *tap : (gm_logits_tap){0};
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* The high bit keeps rows of media apart from tokens; the multiplication spreads the row number so
 * that two pictures with neighbouring hashes share nothing. */
static uint64_t media_key(const gm_media_rows *m, size_t row) {
    uint64_t k = m->hash ^ (m->bidirectional ? 0x5851F42D4C957F2Du : 0);
    k = (k + row) * 0x9E3779B97F4A7C15u;
    return (k ^ (k >> 29)) | (uint64_t)1 << 63;
}

/* Key of position i; *next is the first media run that does not end before i. */
static uint64_t key_at(const gm_prompt *p, size_t i, size_t *next) {
    while (*next < p->n_media && i >= p->media[*next].start + p->media[*next].n_row) (*next)++;
    if (*next < p->n_media && i >= p->media[*next].start)
        return media_key(&p->media[*next], i - p->media[*next].start);
    return (uint32_t)p->ids[i];
}

size_t gm_session_common(const gm_session *s, const gm_prompt *p) {
    size_t n = gm_session_len(s) < p->n ? gm_session_len(s) : p->n;
    size_t next = 0, i = 0;
    while (i < n && s->have[i] == key_at(p, i, &next)) i++;
    return i;
}

/* Moves a cut that would go through a closed run to its beginning. */
static size_t outside_runs(const gm_session *s, const gm_prompt *p, size_t n) {
    for (size_t i = 0; i < s->n_run; i++)
        if (s->run[i].start < n && n < s->run[i].end) n = s->run[i].start;
    for (size_t i = 0; p && i < p->n_media; i++) {
        const gm_media_rows *m = &p->media[i];
        if (m->bidirectional && m->start < n && n < m->start + m->n_row) n = m->start;
    }
    return n;
}

size_t gm_session_reusable(const gm_session *s, const gm_prompt *p) {
    if (p->n == 0) return 0;
    size_t n = gm_session_common(s, p);
    if (n == p->n) n--;
    n = outside_runs(s, p, n);
    return gm_kv_can_rewind(s->kv, (int32_t)n) ? n : 0;
}

/* ---- cutting --------------------------------------------------------------------------------- */

static void forget_logits(gm_session *s) {
    s->has_logits = false;
    s->untouched = false;
    s->has_top = false;
}

static size_t cut(gm_session *s, size_t n) {
    if (n < gm_session_len(s)) {
        n = (size_t)gm_kv_rewind(s->kv, (int32_t)n);
        forget_logits(s);
    }
    while (s->n_run > 0 && s->run[s->n_run - 1].end > n) s->n_run--;
    return n;
}

size_t gm_session_rewind(gm_session *s, size_t n) {
    s->syncing = false;
    if (n > gm_session_len(s)) n = gm_session_len(s);
    return cut(s, outside_runs(s, NULL, n));
}

int64_t gm_session_fork(gm_session *dst, const gm_session *src, size_t n) {
    if (dst == src || dst->e != src->e || n > gm_session_len(src)) return GM_EINVAL;
    if (gm_grow(&dst->run, &dst->cap_run, src->n_run, sizeof *dst->run) < 0) return GM_ENOMEM;
    n = outside_runs(src, NULL, n);
    dst->syncing = false;
    forget_logits(dst);
    int32_t rc = gm_kv_fork(dst->kv, src->kv, (int32_t)n);
    size_t len = rc < 0 ? 0 : (size_t)rc;
    if (rc < 0) gm_kv_rewind(dst->kv, 0);
    dst->n_run = 0;
    memcpy(dst->have, src->have, len * sizeof *dst->have);
    for (size_t i = 0; i < src->n_run && src->run[i].end <= len; i++)
        dst->run[dst->n_run++] = src->run[i];
    return rc;
}

/* ---- beginning a sync ------------------------------------------------------------------------ */

static int check_media(const gm_session *s, const gm_prompt *p, char *err, size_t errlen) {
    size_t free_from = 0;
    for (size_t i = 0; i < p->n_media; i++) {
        const gm_media_rows *m = &p->media[i];
        bool ok = m->rows && m->n_row > 0 && m->start >= free_from && m->start < p->n &&
                  m->n_row <= p->n - m->start;
        if (!ok) return gm_fail(err, errlen, GM_EINVAL, "media run %zu does not fit the prompt", i);
        if (m->bidirectional && m->n_row > s->n_chunk)
            return gm_fail(err, errlen, GM_ETOOLONG,
                           "an image of %zu rows is longer than a chunk of %zu", m->n_row,
                           s->n_chunk);
        free_from = m->start + m->n_row;
    }
    return GM_OK;
}

static int check_prompt(const gm_session *s, const gm_prompt *p, char *err, size_t errlen) {
    if (p->n == 0) return gm_fail(err, errlen, GM_EINVAL, "the prompt is empty");
    if (p->n > s->n_ctx)
        return gm_fail(err, errlen, GM_ETOOLONG,
                       "the prompt has %zu tokens, n_ctx is %zu; send less or raise it", p->n,
                       s->n_ctx);
    int rc = check_media(s, p, err, errlen);
    if (rc < 0) return rc;
    size_t next = 0;
    for (size_t i = 0; i < p->n; i++) {
        bool row = key_at(p, i, &next) >> 63;
        if (!row && (p->ids[i] < 0 || (size_t)p->ids[i] >= s->n_vocab))
            return gm_fail(err, errlen, GM_EINVAL, "token %d is not in the vocabulary of %zu",
                           (int)p->ids[i], s->n_vocab);
    }
    return GM_OK;
}

static int copy_prompt(gm_session *s, const gm_prompt *p) {
    size_t n_run = s->n_run + p->n_media;
    if (gm_grow(&s->media, &s->cap_media, p->n_media, sizeof *s->media) < 0) return GM_ENOMEM;
    if (gm_grow(&s->run, &s->cap_run, n_run, sizeof *s->run) < 0) return GM_ENOMEM;
    if (p->n_media > 0) memcpy(s->media, p->media, p->n_media * sizeof *s->media);
    s->n_media = p->n_media;
    size_t next = 0;
    for (size_t i = 0; i < p->n; i++) {
        s->want[i] = key_at(p, i, &next);
        s->ids[i] = s->want[i] >> 63 ? -1 : p->ids[i];
    }
    s->n_want = p->n;
    return GM_OK;
}

int gm_session_begin(gm_session *s, const gm_prompt *p, size_t *reused, char *err, size_t errlen) {
    *reused = 0;
    s->syncing = false;
    int rc = check_prompt(s, p, err, errlen);
    if (rc < 0) return rc;
    rc = copy_prompt(s, p);
    if (rc < 0) return gm_fail_code(err, errlen, rc);
    size_t len = gm_session_len(s);
    if (len == p->n && s->untouched && gm_session_common(s, p) == len) {
        *reused = len;
        return GM_OK;
    }
    forget_logits(s);
    *reused = cut(s, gm_session_reusable(s, p));
    s->syncing = true;
    return GM_OK;
}

/* ---- computing ------------------------------------------------------------------------------- */

/* Positions of the next step: at most max_tok, no closed run divided, and rows of one run only,
 * so that they lie together in memory. */
static size_t chunk_length(const gm_session *s, size_t pos, size_t max_tok) {
    size_t n = s->n_want - pos;
    if (n > s->n_chunk) n = s->n_chunk;
    if (max_tok > 0 && n > max_tok) n = max_tok;
    bool seen = false;
    for (size_t i = 0; i < s->n_media; i++) {
        const gm_media_rows *m = &s->media[i];
        size_t end = m->start + m->n_row;
        if (end <= pos) continue;
        if (m->start >= pos + n) break;
        if (seen) return m->start - pos;
        seen = true;
        if (m->bidirectional && end > pos + n) return m->start > pos ? m->start - pos : m->n_row;
    }
    return n;
}

/* The media run that has rows among positions pos .. pos + n - 1, or NULL. */
static const gm_media_rows *run_in(const gm_session *s, size_t pos, size_t n) {
    for (size_t i = 0; i < s->n_media; i++) {
        const gm_media_rows *m = &s->media[i];
        if (m->start < pos + n && m->start + m->n_row > pos) return m;
    }
    return NULL;
}

static const int32_t *visible_to(gm_session *s, const gm_media_rows *m, size_t pos, size_t n) {
    if (!m || !m->bidirectional) return NULL;
    size_t end = m->start + m->n_row;
    for (size_t i = 0; i < n; i++) {
        bool inside = pos + i >= m->start && pos + i < end;
        s->see_to[i] = (int32_t)(inside ? end - 1 : pos + i);
    }
    return s->see_to;
}

/* Runs the decoder on a batch of n and keeps keys and cache in step. keys: [n]. */
static int run_batch(gm_session *s, const gm_batch *b, const uint64_t *keys) {
    size_t pos = gm_session_len(s), n = (size_t)b->n_tok;
    forget_logits(s);
    int rc = gm_decoder_run(s->e->decoder, s->kv, b);
    if (rc < 0) return rc;
    memcpy(s->have + pos, keys, n * sizeof *keys);
    return GM_OK;
}

/* Rows of the batch whose logits are wanted: the tapped ones, and the last of the prompt. */
static size_t choose_outputs(gm_session *s, size_t pos, size_t n, bool last) {
    size_t n_out = 0;
    for (size_t i = 0; i < s->tap.n; i++)
        if (s->tap.pos[i] >= pos && s->tap.pos[i] < pos + n)
            s->out_rows[n_out++] = (int32_t)(s->tap.pos[i] - pos);
    bool has_last = n_out > 0 && (size_t)s->out_rows[n_out - 1] == n - 1;
    if (last && !has_last) s->out_rows[n_out++] = (int32_t)(n - 1);
    return n_out;
}

static int hand_to_tap(gm_session *s, size_t pos, size_t n_out) {
    size_t t = 0;
    for (size_t i = 0; i < n_out; i++) {
        size_t p = pos + (size_t)s->out_rows[i];
        while (t < s->tap.n && s->tap.pos[t] < p) t++;
        if (t == s->tap.n || s->tap.pos[t] != p) continue; /* the last one, not tapped */
        int rc = s->tap.fn(s->tap.ud, p, s->tapped + i * s->n_vocab);
        if (rc < 0) return rc;
    }
    return GM_OK;
}

static int reserve_tapped(gm_session *s, size_t n_out) {
    if (n_out <= s->cap_tapped) return GM_OK;
    size_t n;
    if (!gm_mul_size(n_out, s->n_vocab, &n)) return GM_ENOMEM;
    gm_free(s->tapped);
    s->tapped = gm_calloc(n, sizeof *s->tapped);
    s->cap_tapped = s->tapped ? n_out : 0;
    return s->tapped ? GM_OK : GM_ENOMEM;
}

static void note_media(gm_session *s, const gm_media_rows *m, size_t pos, size_t n) {
    if (!m) return;
    size_t from = m->start > pos ? m->start : pos, end = m->start + m->n_row;
    s->n_media_computed += (end < pos + n ? end : pos + n) - from;
    if (m->bidirectional) s->run[s->n_run++] = (closed_run){m->start, end};
}

int64_t gm_session_step(gm_session *s, size_t max_tok) {
    if (!s->syncing) return 0;
    size_t pos = gm_session_len(s), n = chunk_length(s, pos, max_tok);
    const gm_media_rows *m = run_in(s, pos, n);
    bool last = pos + n == s->n_want;
    size_t n_out = s->tap.fn ? choose_outputs(s, pos, n, last) : last;
    if (!s->tap.fn) s->out_rows[0] = (int32_t)(n - 1);
    int rc = s->tap.fn ? reserve_tapped(s, n_out) : GM_OK;
    if (rc < 0) return rc;
    gm_batch b = {
        .n_tok = (int32_t)n,
        .ids = s->ids + pos,
        .embd = m ? m->rows + (pos > m->start ? pos - m->start : 0) * s->n_embd : NULL,
        .see_to = visible_to(s, m, pos, n),
        .n_out = (int32_t)n_out,
        .out_rows = s->out_rows,
        .logits = s->tap.fn ? s->tapped : s->logits,
    };
    rc = run_batch(s, &b, s->want + pos);
    if (rc < 0) return rc;
    note_media(s, m, pos, n);
    if (last) {
        if (s->tap.fn)
            memcpy(s->logits, s->tapped + (n_out - 1) * s->n_vocab, s->n_vocab * sizeof(float));
        s->has_logits = s->untouched = true;
        s->syncing = false;
    }
    if (s->tap.fn) rc = hand_to_tap(s, pos, n_out);
    return rc < 0 ? rc : (int64_t)(s->n_want - pos - n);
}

static int append(gm_session *s, const int32_t *ids, size_t n, float *logits, gm_top *top) {
    if (s->syncing || n == 0 || n > s->n_chunk) return GM_EINVAL;
    size_t pos = gm_session_len(s);
    if (n > s->n_ctx - pos) return GM_ETOOLONG;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= s->n_vocab) return GM_EINVAL;
        s->want[pos + i] = (uint32_t)ids[i];
        s->out_rows[i] = (int32_t)i;
    }
    gm_batch b = {.n_tok = (int32_t)n,
                  .ids = ids,
                  .n_out = (int32_t)n,
                  .out_rows = s->out_rows,
                  .logits = logits,
                  .top = top};
    return run_batch(s, &b, s->want + pos);
}

int gm_session_append(gm_session *s, int32_t id) {
    int rc = append(s, &id, 1, s->logits, NULL);
    if (rc == GM_OK) s->has_logits = s->untouched = true;
    return rc;
}

int gm_session_append_top(gm_session *s, int32_t id) {
    if (!gm_decoder_top_pays(s->e->decoder)) return gm_session_append(s, id);
    int rc = append(s, &id, 1, NULL, &s->top);
    if (rc == GM_OK) s->has_top = true;
    return rc;
}

const gm_top *gm_session_top(const gm_session *s) { return s->has_top ? &s->top : NULL; }

int gm_session_fetch(gm_session *s) {
    if (s->has_logits || !s->has_top) return GM_OK;
    int rc = gm_decoder_row(s->e->decoder, s->kv, s->logits);
    if (rc == GM_OK) s->has_logits = true;
    return rc;
}

int gm_session_append_many(gm_session *s, const int32_t *ids, size_t n, float *logits) {
    return append(s, ids, n, logits, NULL);
}

float *gm_session_logits(gm_session *s) {
    if (s->syncing || !s->has_logits) return NULL;
    s->untouched = false;
    return s->logits;
}
