/* service.c: loading, answering in slices, and hashing files in the time that is left. */
#include "engine/service.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/attach.h"
#include "engine/digest.h"
#include "engine/generate.h"
#include "media/projector.h"

enum {
    MESSAGE = GM_EVENT_MESSAGE, /* bytes */
    FIRST_CHUNK = 32,           /* tokens, while nothing has been measured */
    MIN_CHUNK = 32,             /* fewer would read all weights for too little work */
    MAX_CHUNK = 512,
    MIN_MEASURED = 16 /* tokens: shorter chunks say little about the rate of long ones */
};

static const double CHUNK_SECONDS = 0.25; /* what an interruption may cost at most */
static const double PROGRESS_MS = 30;     /* between two progress events of a load or a hash */

struct gm_service {
    const gm_cancel *interrupt;
    gm_emit_fn emit;
    void *ud;
    gm_engine *engine;
    gm_media_store store; /* of the engine's media */
    gm_session *session[GM_MAX_SESSION];
    struct gm_work *begun[GM_MAX_SESSION]; /* the answer under way in it; NULL: none */
    uint64_t used[GM_MAX_SESSION];         /* at which step last */
    uint64_t n_step;
    gm_heal_index *heal;
    uint64_t media_rows; /* computed by sessions that are gone */
    uint64_t epoch;      /* counts unloads, so that work begun before one is recognised */
    double prefill_tok_s, decode_tok_s; /* moving averages; 0: not measured */
    int64_t loading;                    /* job */
    uint64_t last_progress;             /* ns */
};

/* What a generation has between its steps, or a hash. */
struct gm_work {
    gm_digest *digest;
    gm_gen gen;
    gm_ids ids;
    gm_attachments media;
    uint64_t epoch;
};

int gm_service_create(gm_service **out, const gm_cancel *interrupt, gm_emit_fn emit, void *ud) {
    gm_service *s = *out = gm_calloc(1, sizeof *s);
    if (!s) return GM_ENOMEM;
    s->interrupt = interrupt;
    s->emit = emit;
    s->ud = ud;
    return GM_OK;
}

static void unload(gm_service *s) {
    for (int i = 0; i < GM_MAX_SESSION; i++) {
        gm_session_destroy(&s->session[i]);
        s->begun[i] = NULL;
    }
    gm_heal_index_destroy(&s->heal);
    gm_media_store_finish(&s->store);
    gm_engine_close(&s->engine);
    s->prefill_tok_s = s->decode_tok_s = 0;
    s->media_rows = 0;
    s->epoch++;
}

void gm_service_destroy(gm_service **s) {
    if (!s || !*s) return;
    unload(*s);
    gm_free(*s);
    *s = NULL;
}

void gm_service_drop(gm_job *j) {
    if (!j->work) return;
    gm_gen_finish(&j->work->gen);
    gm_attachments_finish(&j->work->media);
    gm_ids_finish(&j->work->ids);
    gm_digest_close(&j->work->digest);
    gm_free(j->work);
    j->work = NULL;
}

static void end_work(gm_service *s, gm_job *j) {
    if (s->begun[j->session] == j->work) s->begun[j->session] = NULL;
    gm_service_drop(j);
}

/* ---- ends of jobs ---------------------------------------------------------------------------- */

/* Both return true: the job is over. */
static bool fail(gm_service *s, gm_job *j, int code, const char *text) {
    if (!text || !*text) text = gm_err_text(code);
    gm_event ev = {.job = j->id, .kind = GM_EV_ERROR, .code = code};
    end_work(s, j);
    gm_film_drop(&s->store, j->id); /* nobody waits for it any more */
    s->emit(s->ud, &ev, text, strnlen(text, MESSAGE - 1));
    return true;
}

static bool done(gm_service *s, gm_job *j) {
    gm_event ev = {.job = j->id, .kind = GM_EV_DONE};
    char hex[GM_SHA256_HEX + 1] = "";
    if (j->work && j->work->digest) gm_digest_hex(j->work->digest, hex);
    if (j->work) {
        const gm_gen *g = &j->work->gen;
        ev.stop_reason = (uint32_t)g->stop_reason;
        ev.n_prompt = (uint32_t)g->n_prompt;
        ev.n_reused = (uint32_t)g->n_reused;
        ev.n_generated = g->n_generated;
        ev.n_media = (uint32_t)g->n_media;
        ev.logprob = g->n_generated ? (float)(g->logprob_sum / g->n_generated) : 0;
        ev.prefill_ms = g->prefill_ms;
        ev.decode_ms = g->decode_ms;
    }
    end_work(s, j);
    s->emit(s->ud, &ev, hex, strlen(hex));
    return true;
}

/* ---- loading --------------------------------------------------------------------------------- */

static void on_progress(void *ud, uint64_t n, uint64_t total) {
    gm_service *s = ud;
    if (n < total && gm_ms_since(s->last_progress) < PROGRESS_MS) return;
    s->last_progress = gm_now_ns();
    gm_event ev = {.job = s->loading, .kind = GM_EV_PROGRESS, .done = n, .total = total};
    s->emit(s->ud, &ev, "", 0);
}

static bool load(gm_service *s, gm_job *j) {
    const gm_load_request *r = &j->load;
    char err[MESSAGE] = "";
    unload(s); /* first: two models of this size would not fit */
    s->loading = j->id;
    gm_engine_opts o = {.model_path = r->model_path,
                        .mmproj_path = r->mmproj_path,
                        .device = r->device,
                        .or_cpu = true,
                        .n_threads = r->n_threads,
                        .n_ctx = r->n_ctx,
                        .kv_type = r->kv_type,
                        .progress = on_progress,
                        .ud = s,
                        .cancel = s->interrupt};
    int rc = gm_engine_open(&s->engine, &o, err, sizeof err);
    if (rc == GM_ECANCELLED) return false; /* comes again, as cancelled */
    if (rc < 0) return fail(s, j, rc, err);
    return done(s, j);
}

/* ---- beginning to generate ------------------------------------------------------------------- */

/* Media files are read and embedded here: tens of milliseconds for a picture, seconds for a video.
 * What was interrupted begins again, but the rows of finished files are still there, and so is what
 * a video has become (media_rows.h). */
static int encode(gm_service *s, const gm_job *j, char *err, size_t errlen) {
    const gm_generate_request *r = &j->gen;
    const gm_media_opts media = {.store = &s->store,
                                 .owner = j->id,
                                 .image_tokens = r->image_tokens,
                                 .cancel = s->interrupt};
    const gm_turns_opts turns = {.think = r->think, .cancel = s->interrupt};
    return gm_attachments_encode(&j->work->media, s->engine, r->parts, r->n_part, &media, &turns,
                                 &j->work->ids, err, errlen);
}

/* Continues from another session when that has more of the prompt than the job's own. */
static int fork_if_better(gm_service *s, const gm_job *j, const gm_prompt *p) {
    int32_t from = j->gen.fork_from;
    if (from < 0 || from >= GM_MAX_SESSION || from == j->session || !s->session[from]) return GM_OK;
    gm_session *mine = s->session[j->session];
    size_t n = gm_session_reusable(s->session[from], p);
    if (n <= gm_session_reusable(mine, p)) return GM_OK;
    int64_t rc = gm_session_fork(mine, s->session[from], n);
    return rc < 0 ? (int)rc : GM_OK;
}

static void close_session(gm_service *s, int i) {
    s->media_rows += gm_session_media_rows(s->session[i]);
    gm_session_destroy(&s->session[i]);
}

/* Gives up what can be computed again: of the sessions without an answer under way the one that was
 * used longest ago, then the one to fork from, and at last the job's own. False: there is none. */
static bool make_room(gm_service *s, const gm_job *j) {
    int oldest = -1;
    for (int i = 0; i < GM_MAX_SESSION; i++) {
        if (!s->session[i] || s->begun[i] || i == j->session || i == j->gen.fork_from) continue;
        if (oldest < 0 || s->used[i] < s->used[oldest]) oldest = i;
    }
    const int last[] = {j->gen.fork_from, j->session};
    for (int k = 0; k < 2 && oldest < 0; k++)
        if (last[k] >= 0 && s->session[last[k]] && !s->begun[last[k]]) oldest = last[k];
    if (oldest < 0) return false;
    gm_log(GM_LOG_INFO, "engine", "memory is short: session %d gives its cache to session %d",
           oldest, (int)j->session);
    close_session(s, oldest);
    return true;
}

static int create_session(gm_session **out, gm_engine *e, int32_t longest, char *err,
                          size_t errlen) {
    int rc = gm_engine_widen(e, longest, err, errlen);
    return rc < 0 ? rc : gm_session_create(out, e, err, errlen);
}

/* The job's session, made when it is first asked for, and again, with what it holds, when an image
 * needs longer chunks than it was made for. No other answer of this session is under way. A device
 * may have room for fewer sessions than there are. */
static int open_session(gm_service *s, const gm_job *j, char *err, size_t errlen) {
    gm_session **mine = &s->session[j->session], *wider = NULL;
    const int32_t longest = gm_attachments_longest(&j->work->media);
    if (*mine && gm_session_chunk(*mine) >= (size_t)longest) return GM_OK;
    const gm_engine_width was = gm_engine_get_width(s->engine);
    int rc = create_session(&wider, s->engine, longest, err, errlen);
    while (rc == GM_ENOMEM && make_room(s, j))
        rc = create_session(&wider, s->engine, longest, err, errlen);
    if (rc == GM_EDEVICE) return rc; /* the model goes with it */
    if (rc < 0) {
        const char *why = gm_err_text(rc);
        /* Or sessions for text would not fit either. */
        if (gm_engine_narrow(s->engine, was) == GM_OK) return rc;
        unload(s);
        return gm_fail(err, errlen, GM_ENOMODEL, "%s; the model was unloaded", why);
    }
    if (*mine) {
        /* Without memory for the copy it begins empty. */
        int64_t n = gm_session_fork(wider, *mine, gm_session_len(*mine));
        if (n == GM_EDEVICE) rc = (int)n;
        close_session(s, j->session);
    }
    *mine = wider;
    return rc;
}

static gm_gen_opts gen_options(const gm_service *s, const gm_generate_request *r) {
    gm_gen_opts o = {.sampling = r->sampling,
                     .max_tokens = r->max_tokens,
                     .ignore_eog = r->ignore_eog,
                     .thoughts = r->thoughts,
                     .stops = r->stops,
                     .n_stop = r->n_stop};
    if (r->model_sampling) {
        const gm_config *c = &s->engine->config;
        o.sampling.temperature = c->samp_temperature;
        o.sampling.top_k = c->samp_top_k;
        o.sampling.top_p = c->samp_top_p;
    }
    const gm_part *last = r->n_part > 0 ? &r->parts[r->n_part - 1] : NULL;
    if (r->heal && last && last->kind == GM_PART_TEXT) {
        o.heal = s->heal;
        o.tail = last->text;
    }
    return o;
}

static int begin(gm_service *s, gm_job *j, char *err, size_t errlen) {
    if (!s->engine) return gm_fail_code(err, errlen, GM_ENOMODEL);
    struct gm_work *w = j->work = gm_calloc(1, sizeof *j->work);
    if (!w) return gm_fail_code(err, errlen, GM_ENOMEM);
    w->epoch = s->epoch;
    int rc = encode(s, j, err, errlen);
    if (rc == GM_OK) rc = open_session(s, j, err, errlen);
    if (rc == GM_OK && j->gen.heal && !s->heal) {
        rc = gm_heal_index_create(&s->heal, s->engine->vocab);
        if (rc < 0) gm_fail_code(err, errlen, rc);
    }
    if (rc < 0) return rc;
    gm_prompt p = {.ids = w->ids.v, .n = w->ids.n, .media = w->media.media, .n_media = w->media.n};
    rc = fork_if_better(s, j, &p);
    if (rc < 0) return gm_fail_code(err, errlen, rc);
    gm_gen_opts o = gen_options(s, &j->gen);
    s->begun[j->session] = w;
    return gm_gen_init(&w->gen, s->session[j->session], s->engine->vocab, &p, &o, err, errlen);
}

/* ---- generating ------------------------------------------------------------------------------ */

static void measure(double *tok_s, size_t n, double ms) {
    if (ms <= 0) return;
    double now = (double)n * 1e3 / ms;
    *tok_s = *tok_s > 0 ? *tok_s * 0.8 + now * 0.2 : now;
}

/* Positions in the next chunk. What somebody waits for at the cursor goes in the largest chunks,
 * which are the fastest; anything else in such that an interruption throws little away. */
static size_t chunk_for(const gm_service *s, int32_t priority) {
    if (priority == GM_PRIO_TYPING) return 0;
    if (s->prefill_tok_s <= 0) return FIRST_CHUNK;
    double n = s->prefill_tok_s * CHUNK_SECONDS;
    return n < MIN_CHUNK ? MIN_CHUNK : n > MAX_CHUNK ? MAX_CHUNK : (size_t)n;
}

static int emit_piece(gm_service *s, const gm_job *j, const gm_gen *g, gm_event_kind kind,
                      const gm_bytes *piece) {
    if (piece->n == 0) return GM_OK;
    gm_event ev = {
        .job = j->id, .kind = kind, .logprob = g->logprob, .n_generated = g->n_generated};
    return s->emit(s->ud, &ev, piece->p, piece->n);
}

static int emit_text(gm_service *s, const gm_job *j, const gm_gen *g) {
    int rc = emit_piece(s, j, g, GM_EV_THOUGHT, &g->thought);
    return rc < 0 ? rc : emit_piece(s, j, g, GM_EV_TEXT, &g->text);
}

static int emit_progress(gm_service *s, const gm_job *j, const gm_gen *g) {
    gm_event ev = {.job = j->id,
                   .kind = GM_EV_PROGRESS,
                   .done = g->n_prompt - g->n_left,
                   .total = g->n_prompt};
    return s->emit(s->ud, &ev, "", 0);
}

static int step_gen(gm_service *s, const gm_job *j, int32_t priority, gm_gen *g) {
    bool prefilling = g->prefilling;
    size_t left = g->n_left;
    double prefill_ms = g->prefill_ms, decode_ms = g->decode_ms;
    bool computes = prefilling || g->pending >= 0;
    int more = gm_gen_step(g, chunk_for(s, priority));
    if (more < 0) return more;
    size_t n = left - g->n_left;
    if (prefilling && n >= MIN_MEASURED) measure(&s->prefill_tok_s, n, g->prefill_ms - prefill_ms);
    if (!prefilling && computes) measure(&s->decode_tok_s, 1, g->decode_ms - decode_ms);
    int rc = prefilling ? emit_progress(s, j, g) : emit_text(s, j, g);
    return rc < 0 ? rc : more;
}

/* A device that failed takes the model with it, in whatever it failed; the editor lives. */
static bool lost_device(gm_service *s, gm_job *j) {
    unload(s);
    return fail(s, j, GM_EDEVICE, "the device failed; the model was unloaded");
}

static bool generate(gm_service *s, gm_job *j, int32_t priority) {
    char err[MESSAGE] = "";
    int rc = GM_OK;
    s->used[j->session] = ++s->n_step;
    if (s->engine) gm_be_set_calm(s->engine->backend, priority >= GM_PRIO_BACKGROUND);
    if (!j->work) {
        rc = begin(s, j, err, sizeof err);
        if (rc == GM_ECANCELLED) {
            end_work(s, j);
            return false; /* comes again: later, or as cancelled */
        }
        if (rc == GM_EDEVICE) return lost_device(s, j);
        return rc < 0 ? fail(s, j, rc, err) : false;
    }
    if (j->work->epoch != s->epoch)
        return fail(s, j, GM_ENOMODEL, "the model was unloaded while it answered");
    int more = step_gen(s, j, priority, &j->work->gen);
    if (more == GM_ECANCELLED) return false; /* comes again: later, or as cancelled */
    if (more == GM_EDEVICE) return lost_device(s, j);
    if (more < 0) return fail(s, j, more, gm_gen_err_text(more));
    return more == 0 ? done(s, j) : false;
}

/* ---- hashing --------------------------------------------------------------------------------- */

static bool hash(gm_service *s, gm_job *j) {
    char err[MESSAGE] = "";
    if (!j->work) {
        j->work = gm_calloc(1, sizeof *j->work);
        int rc =
            j->work ? gm_digest_open(&j->work->digest, j->hash_path, err, sizeof err) : GM_ENOMEM;
        return rc < 0 ? fail(s, j, rc, err) : false;
    }
    gm_digest *d = j->work->digest;
    int rc = gm_digest_step(d, s->interrupt, err, sizeof err);
    if (rc < 0) return fail(s, j, rc, err);
    gm_event ev = {.job = j->id,
                   .kind = GM_EV_PROGRESS,
                   .done = gm_digest_done(d),
                   .total = gm_digest_total(d)};
    s->emit(s->ud, &ev, "", 0);
    return rc == 0 ? done(s, j) : false;
}

bool gm_service_step(gm_service *s, gm_job *j, int32_t priority, bool cancelled) {
    if (cancelled) return fail(s, j, GM_ECANCELLED, NULL);
    switch (j->kind) {
    case GM_JOB_LOAD: return load(s, j);
    case GM_JOB_UNLOAD: unload(s); return done(s, j);
    case GM_JOB_GENERATE: return generate(s, j, priority);
    case GM_JOB_HASH: return hash(s, j);
    }
    return fail(s, j, GM_EINTERNAL, NULL);
}

/* ---- status ---------------------------------------------------------------------------------- */

gm_state gm_service_state(const gm_service *s, const gm_job *j) {
    if (j && j->kind == GM_JOB_LOAD) return GM_STATE_LOADING;
    if (!s->engine) return GM_STATE_EMPTY;
    if (!j || j->kind != GM_JOB_GENERATE) return GM_STATE_READY;
    return j->work && !j->work->gen.prefilling ? GM_STATE_DECODE : GM_STATE_PREFILL;
}

void gm_service_describe(const gm_service *s, gm_status *out) {
    *out = (gm_status){.prefill_tok_s = s->prefill_tok_s, .decode_tok_s = s->decode_tok_s};
    const gm_engine *e = s->engine;
    if (!e) return;
    out->n_ctx = (uint32_t)e->kv.n_ctx;
    out->n_ctx_train = (uint32_t)e->config.n_ctx_train;
    out->n_threads = (uint32_t)gm_be_ends(e->backend)->n_threads;
    out->sees = gm_projector_has_vision(e->projector);
    out->hears = gm_projector_has_audio(e->projector);
    if (out->sees) out->image_tokens = (uint32_t)gm_projector_image_tokens(e->projector);
    out->model_bytes = gm_gguf_file_bytes(e->gguf);
    out->n_param = e->weights->n_param;
    out->media_rows = s->media_rows;
    for (int i = 0; i < GM_MAX_SESSION; i++) {
        if (!s->session[i]) continue;
        out->cache_bytes += gm_session_bytes(s->session[i]);
        out->media_rows += gm_session_media_rows(s->session[i]);
    }
    const char *type = gm_dtype_get((uint32_t)e->weights->main_type)->name;
    snprintf(out->name, sizeof out->name, "%s", e->config.name);
    snprintf(out->type, sizeof out->type, "%s", type ? type : "");
    snprintf(out->device, sizeof out->device, "%s", e->backend->desc);
    snprintf(out->device_note, sizeof out->device_note, "%s", e->backend->note);
    snprintf(out->devices, sizeof out->devices, "%s", e->backend->devices);
}
