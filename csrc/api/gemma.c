/* gemma.c: the exported functions: check, copy, forward. */
#include "api/gemma.h"

#include <stdbool.h>
#include <string.h>
#include "base/cpuid.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/generate.h"
#include "engine/sound.h"
#include "engine/worker.h"
#include "media/decode.h"

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "the engine and gemma.h must agree");
#define SAME_ERROR(name, value, text) SAME(GEMMA_##name, GM_##name)
GM_ERR_LIST(SAME_ERROR)
SAME(GEMMA_PART_TEXT, GM_PART_TEXT)
SAME(GEMMA_PART_MARKUP, GM_PART_MARKUP)
SAME(GEMMA_PART_SYSTEM, GM_PART_SYSTEM)
SAME(GEMMA_PART_USER, GM_PART_USER)
SAME(GEMMA_PART_MODEL, GM_PART_MODEL)
SAME(GEMMA_PART_IMAGE, GM_PART_IMAGE)
SAME(GEMMA_PART_AUDIO, GM_PART_AUDIO)
SAME(GEMMA_PART_SOUND, GM_PART_SOUND)
SAME(GEMMA_PART_VIDEO, GM_PART_VIDEO)
SAME(GEMMA_SOUND_SECONDS, GM_SOUND_SECONDS)
SAME(GEMMA_PRIO_TYPING, GM_PRIO_TYPING)
SAME(GEMMA_PRIO_ASK, GM_PRIO_ASK)
SAME(GEMMA_PRIO_BACKGROUND, GM_PRIO_BACKGROUND)
SAME(GEMMA_EV_PROGRESS, GM_EV_PROGRESS)
SAME(GEMMA_EV_TEXT, GM_EV_TEXT)
SAME(GEMMA_EV_DONE, GM_EV_DONE)
SAME(GEMMA_EV_ERROR, GM_EV_ERROR)
SAME(GEMMA_EV_LOG, GM_EV_LOG)
SAME(GEMMA_EV_THOUGHT, GM_EV_THOUGHT)
SAME(GEMMA_STOP_EOG, GM_STOP_EOG)
SAME(GEMMA_STOP_LENGTH, GM_STOP_LENGTH)
SAME(GEMMA_STOP_STRING, GM_STOP_STRING)
SAME(GEMMA_STOP_CONTEXT, GM_STOP_CONTEXT)
SAME(GEMMA_STATE_EMPTY, GM_STATE_EMPTY)
SAME(GEMMA_STATE_LOADING, GM_STATE_LOADING)
SAME(GEMMA_STATE_READY, GM_STATE_READY)
SAME(GEMMA_STATE_PREFILL, GM_STATE_PREFILL)
SAME(GEMMA_STATE_DECODE, GM_STATE_DECODE)
SAME(GEMMA_SESSION_MAX, GM_MAX_SESSION)
#undef SAME_ERROR
#undef SAME

enum {
    MAX_TOKENS = 1 << 24,
    MAX_PARTS = 1 << 16,
    MAX_STOPS = 256,
    MAX_PATH_BYTES = 1 << 16,
    MAX_PROMPT_BYTES = 64 << 20, /* all parts and stop strings of one request */
    ALL_FLAGS = GEMMA_GEN_THINK | GEMMA_GEN_HEAL | GEMMA_GEN_IGNORE_EOG | GEMMA_GEN_MODEL_SAMPLING |
                GEMMA_GEN_THOUGHTS
};

struct gemma {
    gm_worker *worker;
    gm_event current; /* what the last gemma_next_event handed out */
    int64_t next_sound;
    struct {
        int64_t id; /* 0: free */
        gm_sound *sound;
    } sounds[GEMMA_SOUND_MAX];
};

uint32_t gemma_abi(void) { return GEMMA_ABI; }
const char *gemma_version(void) { return "0.1.0"; }
const char *gemma_err_name(int code) { return gm_err_name(code); }
const char *gemma_err_text(int code) { return gm_err_text(code); }
const char *gemma_cpu(void) { return gm_cpu_describe(); }
const char *gemma_media_missing(void) { return gm_decode_missing(); }

static int no_memory(char *err, size_t errlen) { return gm_fail_code(err, errlen, GM_ENOMEM); }

/* ---- life ------------------------------------------------------------------------------------ */

int gemma_create(gemma **out, char *err, size_t errlen) {
    if (!out) return gm_fail(err, errlen, GM_EINVAL, "gemma_create: out is NULL");
    *out = NULL;
    gemma *g = gm_calloc(1, sizeof *g);
    if (!g) return no_memory(err, errlen);
    int rc = gm_event_init(&g->current);
    if (rc < 0) no_memory(err, errlen);
    else rc = gm_worker_create(&g->worker, err, errlen);
    if (rc < 0) {
        gm_event_finish(&g->current);
        gm_free(g);
        return rc;
    }
    g->next_sound = 1;
    *out = g;
    return GM_OK;
}

int gemma_destroy(gemma **gp, uint32_t timeout_ms) {
    if (!gp || !*gp) return GM_OK;
    gemma *g = *gp;
    *gp = NULL;
    int rc = gm_worker_destroy(&g->worker, timeout_ms);
    for (int i = 0; i < GEMMA_SOUND_MAX; i++) gm_sound_release(&g->sounds[i].sound);
    gm_event_finish(&g->current);
    gm_free(g);
    return rc;
}

int gemma_wake_fd(const gemma *g) { return g ? gm_worker_wake_fd(g->worker) : -1; }

void gemma_wake_clear(gemma *g) {
    if (g) gm_worker_wake_clear(g->worker);
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Copies what the caller's version of a struct has of ours; the rest stays zero. needed: up to
 * where even the oldest caller must reach. */
static bool read_opts(void *to, size_t size, const void *from, size_t needed) {
    uint32_t theirs;
    if (!from) return false;
    memcpy(&theirs, from, sizeof theirs);
    if (theirs < needed) return false;
    memset(to, 0, size);
    memcpy(to, from, theirs < size ? theirs : size);
    return true;
}

static int copy_path(char **to, const char *from, char *err, size_t errlen) {
    if (!from) return GM_OK;
    size_t n = strnlen(from, MAX_PATH_BYTES + 1);
    if (n > MAX_PATH_BYTES) return gm_fail(err, errlen, GM_EINVAL, "a file name is too long");
    *to = gm_strndup(from, n);
    return *to ? GM_OK : no_memory(err, errlen);
}

static int fill_load(gm_load_request *r, const gemma_load_opts *o, char *err, size_t errlen) {
    static const int32_t type[] = {[GEMMA_KV_AUTO] = -1,
                                   [GEMMA_KV_F16] = GM_F16,
                                   [GEMMA_KV_Q8_0] = GM_Q8_0,
                                   [GEMMA_KV_F32] = GM_F32};
    if (!o->model_path || !*o->model_path)
        return gm_fail(err, errlen, GM_EINVAL, "no model file given");
    if (o->n_ctx > GM_MAX_CTX)
        return gm_fail(err, errlen, GM_EINVAL, "a context of %u positions is out of range",
                       o->n_ctx);
    if (o->n_threads > GM_MAX_THREADS)
        return gm_fail(err, errlen, GM_EINVAL, "%u threads are too many", o->n_threads);
    if (o->kv_type >= sizeof type / sizeof *type)
        return gm_fail(err, errlen, GM_EINVAL, "unknown number format %u for the cache",
                       o->kv_type);
    r->n_ctx = (int32_t)o->n_ctx;
    r->n_threads = (int32_t)o->n_threads;
    r->kv_type = type[o->kv_type];
    int rc = copy_path(&r->model_path, o->model_path, err, errlen);
    if (rc == GM_OK) rc = copy_path(&r->mmproj_path, o->mmproj_path, err, errlen);
    if (rc == GM_OK) rc = copy_path(&r->device, o->device, err, errlen);
    return rc;
}

/* Hands the job over, or frees it. */
static int64_t submit(gemma *g, gm_job *j, char *err, size_t errlen) {
    int64_t id = gm_worker_submit(g->worker, j);
    if (id > 0) return id;
    gm_job_destroy(&j);
    return gm_fail(err, errlen, (int)id, "%d requests are waiting already", GM_MAX_JOB);
}

int64_t gemma_load(gemma *g, const gemma_load_opts *opts, char *err, size_t errlen) {
    gemma_load_opts o;
    bool ok = g && read_opts(&o, sizeof o, opts, offsetof(gemma_load_opts, mmproj_path));
    if (!ok) return gm_fail(err, errlen, GM_EINVAL, "gemma_load: no handle or no options");
    gm_job *j = gm_job_create(GM_JOB_LOAD);
    if (!j) return no_memory(err, errlen);
    int rc = fill_load(&j->load, &o, err, errlen);
    if (rc < 0) {
        gm_job_destroy(&j);
        return rc;
    }
    return submit(g, j, err, errlen);
}

int64_t gemma_unload(gemma *g) {
    if (!g) return GM_EINVAL;
    gm_job *j = gm_job_create(GM_JOB_UNLOAD);
    return j ? submit(g, j, NULL, 0) : GM_ENOMEM;
}

/* ---- sounds ---------------------------------------------------------------------------------- */

/* Index of the sound, -1 when there is none of this number. */
static int find_sound(const gemma *g, int64_t id) {
    for (int i = 0; g && id > 0 && i < GEMMA_SOUND_MAX; i++)
        if (g->sounds[i].id == id) return i;
    return -1;
}

int64_t gemma_sound_create(gemma *g, uint32_t rate, uint32_t channels, char *err, size_t errlen) {
    if (!g) return gm_fail(err, errlen, GM_EINVAL, "gemma_sound_create: no handle");
    int i = 0;
    while (i < GEMMA_SOUND_MAX && g->sounds[i].id != 0) i++;
    if (i == GEMMA_SOUND_MAX || g->next_sound == INT32_MAX)
        return gm_fail(err, errlen, GM_EBUSY, "there are %d sounds already", (int)GEMMA_SOUND_MAX);
    int rc = gm_sound_create(&g->sounds[i].sound, rate, channels, err, errlen);
    if (rc < 0) return rc;
    return g->sounds[i].id = g->next_sound++;
}

int gemma_sound_append(gemma *g, int64_t sound, const void *data, size_t len) {
    int i = find_sound(g, sound);
    if (i < 0 || (len > 0 && !data)) return GM_EINVAL;
    return gm_sound_append(g->sounds[i].sound, data, len);
}

int gemma_sound_end(gemma *g, int64_t sound) {
    int i = find_sound(g, sound);
    if (i < 0) return GM_EINVAL;
    gm_sound_end(g->sounds[i].sound);
    return GM_OK;
}

void gemma_sound_destroy(gemma *g, int64_t sound) {
    int i = find_sound(g, sound);
    if (i < 0) return;
    g->sounds[i].id = 0;
    gm_sound_release(&g->sounds[i].sound);
}

/* ---- generating ------------------------------------------------------------------------------ */

static bool in_range(float v, float min, float max) { return v >= min && v <= max; } /* no NaN */

static int check_sampling(const gemma_generate_opts *o, char *err, size_t errlen) {
    if (!in_range(o->temperature, 0, 1000))
        return gm_fail(err, errlen, GM_EINVAL, "temperature is out of range");
    if (!in_range(o->top_p, 0, 1)) return gm_fail(err, errlen, GM_EINVAL, "top_p is out of range");
    if (!in_range(o->min_p, 0, 1)) return gm_fail(err, errlen, GM_EINVAL, "min_p is out of range");
    if (!in_range(o->repeat_penalty, 0, 1000))
        return gm_fail(err, errlen, GM_EINVAL, "repeat_penalty is out of range");
    if (o->top_k > INT32_MAX) return gm_fail(err, errlen, GM_EINVAL, "top_k is out of range");
    return GM_OK;
}

static int check_generate(const gemma_generate_opts *o, char *err, size_t errlen) {
    if (o->session >= GEMMA_SESSION_MAX)
        return gm_fail(err, errlen, GM_EINVAL, "session %u: there are %d", o->session,
                       (int)GEMMA_SESSION_MAX);
    if (o->fork_from > GEMMA_SESSION_MAX)
        return gm_fail(err, errlen, GM_EINVAL, "fork_from is out of range");
    if (o->priority > GEMMA_PRIO_BACKGROUND)
        return gm_fail(err, errlen, GM_EINVAL, "priority %u is unknown", o->priority);
    if (o->flags & ~(uint32_t)ALL_FLAGS)
        return gm_fail(err, errlen, GM_EINVAL, "unknown flags 0x%x", o->flags);
    if (o->image_tokens > INT32_MAX)
        return gm_fail(err, errlen, GM_EINVAL, "image_tokens is out of range");
    if (o->max_tokens > MAX_TOKENS)
        return gm_fail(err, errlen, GM_EINVAL, "max_tokens is out of range");
    if (o->n_part == 0 || o->n_part > MAX_PARTS || !o->parts)
        return gm_fail(err, errlen, GM_EINVAL, "a request needs 1 to %d parts", MAX_PARTS);
    if (o->n_stop > MAX_STOPS || (o->n_stop > 0 && !o->stops))
        return gm_fail(err, errlen, GM_EINVAL, "at most %d stop strings", MAX_STOPS);
    return check_sampling(o, err, errlen);
}

/* Bytes of all texts together. */
static int measure_texts(const gemma_generate_opts *o, size_t *total, char *err, size_t errlen) {
    *total = 0;
    for (uint32_t i = 0; i < o->n_part; i++) {
        const gemma_part *p = &o->parts[i];
        if (p->kind > GEMMA_PART_VIDEO)
            return gm_fail(err, errlen, GM_EINVAL, "part %u is of unknown kind %u", i, p->kind);
        if (p->len > 0 && !p->data)
            return gm_fail(err, errlen, GM_EINVAL, "part %u has no data", i);
        if (p->len > MAX_PROMPT_BYTES - *total)
            return gm_fail(err, errlen, GM_ETOOLONG, "the prompt is longer than %d MiB",
                           MAX_PROMPT_BYTES >> 20);
        *total += p->len;
    }
    for (uint32_t i = 0; i < o->n_stop; i++) {
        if (!o->stops[i]) return gm_fail(err, errlen, GM_EINVAL, "stop string %u is NULL", i);
        size_t n = strnlen(o->stops[i], (size_t)MAX_PROMPT_BYTES + 1);
        if (n > MAX_PROMPT_BYTES - *total)
            return gm_fail(err, errlen, GM_ETOOLONG, "the stop strings are too long");
        *total += n;
    }
    return GM_OK;
}

/* Takes what there is of the sounds now. */
static int copy_sounds(gemma *g, gm_generate_request *r, const gemma_generate_opts *o, char *err,
                       size_t errlen) {
    size_t n = 0;
    for (uint32_t i = 0; i < o->n_part; i++) n += o->parts[i].kind == GEMMA_PART_SOUND;
    if (n == 0) return GM_OK;
    r->sounds = gm_calloc(n, sizeof *r->sounds);
    if (!r->sounds) return no_memory(err, errlen);
    for (uint32_t i = 0; i < o->n_part; i++) {
        if (o->parts[i].kind != GEMMA_PART_SOUND) continue;
        int k = find_sound(g, o->parts[i].id);
        if (k < 0) return gm_fail(err, errlen, GM_EINVAL, "there is no sound %u", o->parts[i].id);
        gm_sound_view *v = &r->sounds[r->n_sound++];
        *v = gm_sound_look(g->sounds[k].sound);
        r->parts[i].sound = v;
        if (!v->ended && o->max_tokens > 0)
            return gm_fail(err, errlen, GM_EINVAL,
                           "sound %u has not ended; it can only be read ahead", o->parts[i].id);
    }
    return GM_OK;
}

static gm_str add_text(char **at, const char *data, size_t n) {
    gm_str s = {*at, n};
    if (n > 0) memcpy(*at, data, n);
    *at += n;
    return s;
}

static int copy_texts(gm_generate_request *r, const gemma_generate_opts *o, char *err,
                      size_t errlen) {
    size_t total;
    int rc = measure_texts(o, &total, err, errlen);
    if (rc < 0) return rc;
    r->parts = gm_calloc(o->n_part, sizeof *r->parts);
    r->stops = gm_calloc(o->n_stop, sizeof *r->stops);
    r->text = gm_malloc(total, 1);
    if (!r->parts || !r->stops || !r->text) return no_memory(err, errlen);
    char *at = r->text;
    for (uint32_t i = 0; i < o->n_part; i++)
        r->parts[r->n_part++] = (gm_part){.kind = (gm_part_kind)o->parts[i].kind,
                                          .text = add_text(&at, o->parts[i].data, o->parts[i].len)};
    for (uint32_t i = 0; i < o->n_stop; i++)
        r->stops[r->n_stop++] = add_text(&at, o->stops[i], strlen(o->stops[i]));
    return GM_OK;
}

static void fill_generate(gm_job *j, const gemma_generate_opts *o) {
    gm_generate_request *r = &j->gen;
    j->session = (int32_t)o->session;
    j->priority = (int32_t)o->priority;
    r->sampling = (gm_sampler_opts){.temperature = o->temperature,
                                    .top_k = (int32_t)o->top_k,
                                    .top_p = o->top_p,
                                    .min_p = o->min_p,
                                    .repeat_penalty = o->repeat_penalty,
                                    .seed = o->seed};
    r->model_sampling = o->flags & GEMMA_GEN_MODEL_SAMPLING;
    r->think = o->flags & GEMMA_GEN_THINK;
    r->heal = o->flags & GEMMA_GEN_HEAL;
    r->ignore_eog = o->flags & GEMMA_GEN_IGNORE_EOG;
    r->thoughts = o->flags & GEMMA_GEN_THOUGHTS;
    r->max_tokens = (int32_t)o->max_tokens;
    r->image_tokens = (int32_t)o->image_tokens;
    r->fork_from = (int32_t)o->fork_from - 1;
}

int64_t gemma_generate(gemma *g, const gemma_generate_opts *opts, char *err, size_t errlen) {
    gemma_generate_opts o;
    bool ok = g && read_opts(&o, sizeof o, opts, offsetof(gemma_generate_opts, fork_from));
    if (!ok) return gm_fail(err, errlen, GM_EINVAL, "gemma_generate: no handle or no options");
    int rc = check_generate(&o, err, errlen);
    if (rc < 0) return rc;
    gm_job *j = gm_job_create(GM_JOB_GENERATE);
    if (!j) return no_memory(err, errlen);
    fill_generate(j, &o);
    rc = copy_texts(&j->gen, &o, err, errlen);
    if (rc == GM_OK) rc = copy_sounds(g, &j->gen, &o, err, errlen);
    if (rc < 0) {
        gm_job_destroy(&j);
        return rc;
    }
    return submit(g, j, err, errlen);
}

int64_t gemma_hash_file(gemma *g, const char *path, char *err, size_t errlen) {
    if (!g || !path || !*path)
        return gm_fail(err, errlen, GM_EINVAL, "gemma_hash_file: no handle or no file name");
    gm_job *j = gm_job_create(GM_JOB_HASH);
    if (!j) return no_memory(err, errlen);
    int rc = copy_path(&j->hash_path, path, err, errlen);
    if (rc < 0) {
        gm_job_destroy(&j);
        return rc;
    }
    return submit(g, j, err, errlen);
}

void gemma_cancel(gemma *g, int64_t job) {
    if (g && job > 0) gm_worker_cancel(g->worker, job);
}

void gemma_cancel_all(gemma *g) {
    if (g) gm_worker_cancel(g->worker, 0);
}

/* ---- events and status ----------------------------------------------------------------------- */

int gemma_next_event(gemma *g, gemma_event *ev) {
    if (!g || !ev) return 0;
    gm_event *e = &g->current;
    if (!gm_worker_next_event(g->worker, e)) return 0;
    *ev = (gemma_event){.job = e->job,
                        .kind = (uint32_t)e->kind,
                        .code = e->code,
                        .text = e->text.p,
                        .len = e->text.n,
                        .done = e->done,
                        .total = e->total,
                        .logprob = e->logprob,
                        .stop_reason = e->stop_reason,
                        .n_prompt = e->n_prompt,
                        .n_reused = e->n_reused,
                        .n_generated = e->n_generated,
                        .n_media = e->n_media,
                        .prefill_ms = e->prefill_ms,
                        .decode_ms = e->decode_ms};
    return 1;
}

void gemma_get_status(const gemma *g, gemma_status *out) {
    if (!out || out->size < sizeof out->size) return;
    uint32_t size = out->size;
    gemma_status s = {.size = size};
    if (g) {
        gm_status st;
        gm_worker_get_status(g->worker, &st);
        s.state = (uint32_t)st.state;
        s.n_ctx = st.n_ctx;
        s.n_ctx_train = st.n_ctx_train;
        s.n_threads = st.n_threads;
        s.n_queued = st.n_queued;
        s.model_bytes = st.model_bytes;
        s.cache_bytes = st.cache_bytes;
        s.n_param = st.n_param;
        s.prefill_tok_s = st.prefill_tok_s;
        s.decode_tok_s = st.decode_tok_s;
        s.media_rows = st.media_rows;
        s.media = (st.sees ? GEMMA_MEDIA_IMAGE : 0) | (st.hears ? GEMMA_MEDIA_AUDIO : 0);
        s.image_tokens = st.image_tokens;
        for (int i = 0; i < GEMMA_SOUND_MAX; i++) s.n_sound += g->sounds[i].id != 0;
        memcpy(s.name, st.name, sizeof s.name);
        memcpy(s.type, st.type, sizeof s.type);
        memcpy(s.device, st.device, sizeof s.device);
        memcpy(s.device_note, st.device_note, sizeof s.device_note);
        memcpy(s.devices, st.devices, sizeof s.devices);
    }
    memcpy(out, &s, size < sizeof s ? size : sizeof s);
}
