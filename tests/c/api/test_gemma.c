/* test_gemma.c: the exported functions, as an editor uses them: submit, watch the descriptor,
 * drain, cancel, leave. Every wait is for an event; a minute without one fails the test.
 *
 * API_QUICK=1 leaves out the tests of every_... case, which take most of the time and say least
 * about threads.
 */
#include "helper/cm.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "api/gemma.h"
#include "base/clock.h"
#include "base/mem.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "helper/user.h"
#include "media/avlib.h"

enum { MAX_JOB = 2048, N_CTX = 8192 };

static test_tmp tmp;
static char model[512];
static char err[256];

static int begin(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    strcpy(model, tmp_path(&tmp, "tiny.gguf"));
    return tiny_model_write(model, &(tiny_opts){.seed = 3}) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    tmp_end(&tmp);
    return 0;
}

/* ---- an editor ---- */

typedef struct {
    int ended; /* DONE and ERROR events */
    int order; /* place of the last event among all */
    int n_text, n_progress, n_thought;
    uint64_t done; /* of the last progress */
    gemma_event last;
    char text[1 << 17];
    size_t n;
    char error[512];
} record;

static record *records; /* [MAX_JOB], by id */
static int n_event;

static gemma *open_editor(void) {
    gemma *g = NULL;
    free(records);
    records = calloc(MAX_JOB, sizeof *records);
    assert_non_null(records);
    n_event = 0;
    if (gemma_create(&g, err, sizeof err) != 0) fail_msg("%s", err);
    return g;
}

static void close_editor(gemma *g) {
    assert_int_equal(gemma_destroy(&g, 60000), GEMMA_OK);
    assert_null(g);
    free(records);
    records = NULL;
}

static void note(const gemma_event *ev) {
    n_event++;
    if (ev->kind == GEMMA_EV_LOG) {
        assert_int_equal(ev->job, 0);
        return;
    }
    assert_in_range(ev->job, 1, MAX_JOB - 1);
    record *r = &records[ev->job];
    assert_int_equal(r->ended, 0); /* the end is always the last event of a job */
    assert_int_equal(ev->text[ev->len], '\0');
    r->order = n_event;
    r->last = *ev;
    if (ev->kind == GEMMA_EV_PROGRESS) {
        r->n_progress++;
        r->done = ev->done;
    }
    r->n_thought += ev->kind == GEMMA_EV_THOUGHT;
    if (ev->kind == GEMMA_EV_TEXT || ev->kind == GEMMA_EV_THOUGHT) {
        assert_true(ev->len > 0 && r->n + ev->len < sizeof r->text);
        memcpy(r->text + r->n, ev->text, ev->len);
        r->n += ev->len;
        r->n_text += ev->kind == GEMMA_EV_TEXT;
    }
    if (ev->kind == GEMMA_EV_DONE && ev->len > 0) {
        assert_true(ev->len < sizeof r->text);
        memcpy(r->text, ev->text, ev->len + 1);
    }
    if (ev->kind == GEMMA_EV_ERROR) snprintf(r->error, sizeof r->error, "%s", ev->text);
    r->ended += ev->kind == GEMMA_EV_DONE || ev->kind == GEMMA_EV_ERROR;
}

static void drain(gemma *g) {
    gemma_event ev;
    gemma_wake_clear(g);
    while (gemma_next_event(g, &ev)) note(&ev);
}

static void wait_for_events(gemma *g) {
    struct pollfd p = {.fd = gemma_wake_fd(g), .events = POLLIN};
    if (poll(&p, 1, 60000) != 1) fail_msg("no event for a minute");
    drain(g);
}

static record *wait_end(gemma *g, int64_t job) {
    if (job <= 0) fail_msg("not submitted: %s", err);
    while (!records[job].ended) wait_for_events(g);
    return &records[job];
}

static int64_t load(gemma *g, const char *path) {
    return gemma_load(
        g,
        &(gemma_load_opts){
            .size = sizeof(gemma_load_opts), .model_path = path, .n_ctx = N_CTX, .n_threads = 1},
        err, sizeof err);
}

static gemma *open_loaded(void) {
    gemma *g = open_editor();
    record *r = wait_end(g, load(g, model));
    if (r->last.kind != GEMMA_EV_DONE) fail_msg("%s", r->error);
    return g;
}

static int64_t generate(gemma *g, const char *text, uint32_t session, uint32_t priority,
                        uint32_t max_tokens, uint32_t flags) {
    gemma_part part = {.kind = GEMMA_PART_TEXT, .data = text, .len = strlen(text)};
    gemma_generate_opts o = {.size = sizeof o,
                             .flags = flags,
                             .session = session,
                             .priority = priority,
                             .max_tokens = max_tokens,
                             .n_part = 1,
                             .parts = &part};
    return gemma_generate(g, &o, err, sizeof err);
}

static gemma_status status(const gemma *g) {
    gemma_status s = {.size = sizeof s};
    gemma_get_status(g, &s);
    return s;
}

/* ---- tests ---- */

static void nonsense_arguments_are_errors(void **state) {
    (void)state;
    gemma *none = NULL;
    gemma_event ev;
    gemma_status st = {.size = sizeof st, .state = 77};
    assert_int_equal(gemma_abi(), GEMMA_ABI);
    assert_string_equal(gemma_err_name(GEMMA_EFORMAT), "EFORMAT");
    assert_true(strlen(gemma_cpu()) > 0);
    const char *missing = gemma_media_missing();
    assert_true(!missing || strstr(missing, "FFmpeg"));
    assert_int_equal(gemma_create(NULL, err, sizeof err), GEMMA_EINVAL);
    assert_int_equal(gemma_destroy(NULL, 0), 0);
    assert_int_equal(gemma_destroy(&none, 0), 0);
    assert_int_equal(gemma_wake_fd(NULL), -1);
    gemma_wake_clear(NULL);
    gemma_cancel(NULL, 1);
    gemma_cancel_all(NULL);
    assert_int_equal(gemma_next_event(NULL, &ev), 0);
    gemma_get_status(NULL, NULL);
    gemma_get_status(NULL, &st);
    assert_int_equal(st.state, GEMMA_STATE_EMPTY);
    assert_int_equal(gemma_load(NULL, NULL, NULL, 0), GEMMA_EINVAL);
    assert_int_equal(gemma_unload(NULL), GEMMA_EINVAL);
    assert_int_equal(gemma_generate(NULL, NULL, NULL, 0), GEMMA_EINVAL);
    assert_int_equal(gemma_hash_file(NULL, model, NULL, 0), GEMMA_EINVAL);

    gemma *g = open_editor();
    assert_int_equal(gemma_next_event(g, NULL), 0);
    assert_int_equal(gemma_load(g, NULL, err, sizeof err), GEMMA_EINVAL);
    gemma_load_opts l = {.size = 4, .model_path = model};
    assert_int_equal(gemma_load(g, &l, err, sizeof err), GEMMA_EINVAL);
    l.size = sizeof l;
    l.model_path = NULL;
    assert_int_equal(gemma_load(g, &l, err, sizeof err), GEMMA_EINVAL);
    l.model_path = model;
    l.kv_type = 9;
    assert_int_equal(gemma_load(g, &l, err, sizeof err), GEMMA_EINVAL);
    l = (gemma_load_opts){.size = sizeof l, .model_path = model, .n_ctx = UINT32_MAX};
    assert_int_equal(gemma_load(g, &l, err, sizeof err), GEMMA_EINVAL);
    l = (gemma_load_opts){.size = sizeof l, .model_path = model, .n_threads = UINT32_MAX};
    assert_int_equal(gemma_load(g, &l, err, sizeof err), GEMMA_EINVAL);
    assert_int_equal(gemma_hash_file(g, NULL, err, sizeof err), GEMMA_EINVAL);
    assert_int_equal(gemma_hash_file(g, "", err, sizeof err), GEMMA_EINVAL);
    close_editor(g);
}

static void bad_requests_are_refused_with_a_reason(void **state) {
    (void)state;
    gemma *g = open_editor();
    gemma_part part = {.kind = GEMMA_PART_TEXT, .data = "a", .len = 1};
    const char *no_stop[] = {NULL};
    const gemma_generate_opts good = {.size = sizeof good, .n_part = 1, .parts = &part};
    gemma_generate_opts bad[16];
    int n = 0;
#define BAD(field, value) (bad[n] = good, bad[n].field = (value), n++)
    BAD(size, 8);
    BAD(session, GEMMA_SESSION_MAX);
    BAD(priority, 3);
    BAD(flags, 1u << 20);
    BAD(n_part, 0);
    BAD(n_part, UINT32_MAX);
    BAD(parts, NULL);
    BAD(temperature, NAN);
    BAD(temperature, -1);
    BAD(top_p, 1.5f);
    BAD(min_p, INFINITY);
    BAD(repeat_penalty, -2);
    BAD(max_tokens, UINT32_MAX);
    BAD(fork_from, 99);
    BAD(n_stop, 1);
#undef BAD
    for (int i = 0; i < n; i++) {
        err[0] = '\0';
        if (gemma_generate(g, &bad[i], err, sizeof err) != GEMMA_EINVAL) fail_msg("row %d", i);
        assert_true(strlen(err) > 0);
    }
    gemma_generate_opts o = good;
    o.n_stop = 1;
    o.stops = no_stop;
    assert_int_equal(gemma_generate(g, &o, err, sizeof err), GEMMA_EINVAL);
    part.kind = 77;
    assert_int_equal(gemma_generate(g, &good, err, sizeof err), GEMMA_EINVAL);
    part = (gemma_part){.kind = GEMMA_PART_TEXT, .data = NULL, .len = 5};
    assert_int_equal(gemma_generate(g, &good, err, sizeof err), GEMMA_EINVAL);
    part = (gemma_part){.kind = GEMMA_PART_TEXT, .data = "a", .len = SIZE_MAX};
    assert_int_equal(gemma_generate(g, &good, err, sizeof err), GEMMA_ETOOLONG);
    /* A stop string longer than all texts may be was measured as long as they may be, and copied
     * whole. */
    part = (gemma_part){.kind = GEMMA_PART_USER};
    const size_t too_long = ((size_t)64 << 20) + 1;
    char *stop = malloc(too_long + 1);
    assert_non_null(stop);
    memset(stop, 's', too_long);
    stop[too_long] = '\0';
    o.stops = (const char *const[]){stop};
    assert_int_equal(gemma_generate(g, &o, err, sizeof err), GEMMA_ETOOLONG);
    free(stop);
    assert_int_equal(status(g).n_queued, 0);
    close_editor(g);
}

static void load_generate_unload(void **state) {
    (void)state;
    gemma *g = open_editor();
    assert_int_equal(status(g).state, GEMMA_STATE_EMPTY);
    record *r = wait_end(g, generate(g, "hello", 0, 0, 5, 0));
    assert_int_equal(r->last.code, GEMMA_ENOMODEL);

    r = wait_end(g, load(g, model));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    assert_true(r->n_progress > 0);
    r = wait_end(g, generate(g, "hello", 0, 0, 12, GEMMA_GEN_IGNORE_EOG));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    assert_int_equal(r->last.stop_reason, GEMMA_STOP_LENGTH);
    assert_int_equal(r->last.n_generated, 12);
    assert_true(r->last.n_prompt > 0);
    assert_int_equal(r->last.n_reused, 0);
    assert_true(r->last.logprob < 0);
    assert_true(r->n > 0);
    /* The end of a job used to be out before the status told of it: a reader who asked at once
     * saw a model still answering. */
    gemma_status s = status(g);
    assert_int_equal(s.state, GEMMA_STATE_READY);
    assert_int_equal(s.n_ctx, N_CTX);
    assert_int_equal(s.n_threads, 1);
    assert_true(s.model_bytes > 0 && s.cache_bytes > 0 && s.n_param > 0);
    assert_string_equal(s.type, "F32");
    assert_int_equal(strncmp(s.device, "cpu", 3), 0);

    r = wait_end(g, gemma_unload(g));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    assert_int_equal(status(g).state, GEMMA_STATE_EMPTY);
    assert_int_equal(status(g).model_bytes, 0);
    r = wait_end(g, generate(g, "hello", 0, 0, 5, 0));
    assert_int_equal(r->last.code, GEMMA_ENOMODEL);
    close_editor(g);
}

/* After an answer with a cache of this kind. */
static uint64_t cache_bytes(gemma *g, const tiny_opts *o, uint32_t kv_type) {
    const char *path = tmp_path(&tmp, "cache.gguf");
    unlink(path); /* the one before is mapped */
    assert_true(tiny_model_write(path, o));
    const gemma_load_opts l = {
        .size = sizeof l, .model_path = path, .n_ctx = N_CTX, .n_threads = 1, .kv_type = kv_type};
    assert_int_equal(wait_end(g, gemma_load(g, &l, err, sizeof err))->last.kind, GEMMA_EV_DONE);
    const record *r = wait_end(g, generate(g, "hello", 0, 0, 3, GEMMA_GEN_IGNORE_EOG));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    return status(g).cache_bytes;
}

static void a_cache_is_as_large_as_its_number_format_says(void **state) {
    (void)state;
    gemma *g = open_editor();
    /* Heads of whole blocks of Q8_0, which are 34 bytes for 32 values. */
    const tiny_opts floats = {.seed = 3, .head_dim = 32, .head_dim_global = 64};
    tiny_opts small = floats;
    small.dtype = GM_Q8_0;
    tiny_opts large = small;
    large.unused = (uint64_t)129 << 20;
    const uint64_t half = cache_bytes(g, &floats, GEMMA_KV_F16);
    assert_true(half > 0);
    assert_int_equal(cache_bytes(g, &floats, GEMMA_KV_F32), 2 * half);
    assert_int_equal(cache_bytes(g, &floats, GEMMA_KV_Q8_0), half / 64 * 34);
    assert_int_equal(cache_bytes(g, &floats, GEMMA_KV_AUTO), 2 * half);
    assert_int_equal(cache_bytes(g, &small, GEMMA_KV_AUTO), 2 * half);
    assert_int_equal(cache_bytes(g, &large, GEMMA_KV_AUTO), half); /* as the 12B's */
    assert_int_equal(cache_bytes(g, &large, GEMMA_KV_F32), 2 * half);
    close_editor(g);
}

static void an_older_caller_with_smaller_structs_is_served(void **state) {
    (void)state;
    gemma *g = open_loaded();
    gemma_part part = {.kind = GEMMA_PART_TEXT, .data = "hello", .len = 5};
    gemma_generate_opts o = {.n_part = 1, .parts = &part, .max_tokens = 2, .fork_from = 0xDEAD};
    o.size = offsetof(gemma_generate_opts, fork_from); /* what follows is not the caller's */
    record *r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    gemma_status s;
    memset(&s, 0x55, sizeof s);
    s.size = offsetof(gemma_status, model_bytes);
    gemma_get_status(g, &s);
    assert_int_equal(s.n_ctx, N_CTX);
    assert_true(s.model_bytes == 0x5555555555555555u);
    close_editor(g);
}

static void a_prompt_is_computed_once(void **state) {
    (void)state;
    gemma *g = open_loaded();
    const char *text = "local function add(a, b)";
    record *warm = wait_end(g, generate(g, text, 0, 2, 0, 0));
    assert_int_equal(warm->last.stop_reason, GEMMA_STOP_NONE);
    assert_int_equal(warm->n, 0);
    record *r = wait_end(g, generate(g, text, 0, 0, 3, GEMMA_GEN_IGNORE_EOG));
    assert_int_equal(r->last.n_reused, r->last.n_prompt);
    /* Another session starts from this one's cache when asked to. */
    gemma_part part = {.kind = GEMMA_PART_TEXT, .data = text, .len = strlen(text)};
    gemma_generate_opts o = {.size = sizeof o, .session = 1, .n_part = 1, .parts = &part};
    record *f;
    o.fork_from = 0 + 1;
    f = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(f->last.n_reused, f->last.n_prompt - 1);
    o.session = 2;
    o.fork_from = 7 + 1; /* a session that was never used */
    f = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(f->last.n_reused, 0);
    close_editor(g);
}

static void stops_and_healing_work_through_the_api(void **state) {
    (void)state;
    gemma *g = open_loaded();
    record *all = wait_end(g, generate(g, "local fun", 0, 0, 30, GEMMA_GEN_IGNORE_EOG));
    assert_true(all->n > 10);
    size_t from = 5, to = 8; /* some whole characters */
    while ((all->text[from] & 0xC0) == 0x80) from++;
    while (to <= from || (all->text[to] & 0xC0) == 0x80) to++;
    char stop[16] = {0};
    memcpy(stop, all->text + from, to - from);
    const char *stops[] = {stop}, *first = strstr(all->text, stop);
    assert_non_null(first);
    gemma_part part = {.kind = GEMMA_PART_TEXT, .data = "local fun", .len = 9};
    gemma_generate_opts o = {.size = sizeof o,
                             .n_part = 1,
                             .parts = &part,
                             .max_tokens = 30,
                             .flags = GEMMA_GEN_IGNORE_EOG,
                             .stops = stops,
                             .n_stop = 1};
    record *r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.stop_reason, GEMMA_STOP_STRING);
    assert_int_equal(r->n, first - all->text);
    assert_true(r->n > 0);
    assert_memory_equal(r->text, all->text, r->n);
    o.n_stop = 0;
    o.flags |= GEMMA_GEN_HEAL;
    r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    assert_true(r->last.n_prompt < all->last.n_prompt);
    assert_int_equal(r->last.n_generated, 30);
    /* Healing is about text: after a turn was opened there is nothing to heal. */
    gemma_part turn[] = {{.kind = GEMMA_PART_USER}, part, {.kind = GEMMA_PART_MODEL}};
    o.parts = turn;
    o.n_part = 3;
    r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    close_editor(g);
}

/* ---- sampling ---- */

static const char *sample(gemma *g, gemma_generate_opts o) {
    const gemma_part part = {.kind = GEMMA_PART_TEXT, .data = "local x", .len = 7};
    o.size = sizeof o;
    o.flags |= GEMMA_GEN_IGNORE_EOG;
    o.max_tokens = 30;
    o.n_part = 1;
    o.parts = &part;
    const record *r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    if (r->last.kind != GEMMA_EV_DONE) fail_msg("%s", r->error);
    assert_int_equal(r->last.n_generated, 30);
    return r->text;
}

static void a_seed_decides_what_is_drawn(void **state) {
    (void)state;
    gemma *g = open_loaded();
    const gemma_generate_opts seven = {.temperature = 1.5f, .seed = 7},
                              eight = {.temperature = 1.5f, .seed = 8};
    const char *want = sample(g, seven);
    assert_string_equal(sample(g, seven), want);
    assert_string_not_equal(sample(g, eight), want);
    assert_string_not_equal(sample(g, (gemma_generate_opts){.seed = 7}), want);
    close_editor(g);
}

/* Each filter that leaves nothing but the best token makes greedy of any temperature. In `more` are
 * values that would do so in the field of another filter. */
static void each_sampling_option_reaches_the_sampler(void **state) {
    (void)state;
    gemma *g = open_loaded();
    const gemma_generate_opts only_best[] = {{.temperature = 1.5f, .top_k = 1, .seed = 7},
                                             {.temperature = 1.5f, .top_p = 1e-6f, .seed = 7},
                                             {.temperature = 1.5f, .min_p = 1, .seed = 7}},
                              more[] = {{.temperature = 1.5f, .top_k = 2, .seed = 7},
                                        {.temperature = 1.5f, .top_p = 1, .seed = 7},
                                        {.temperature = 1.5f, .min_p = 1e-6f, .seed = 7},
                                        {.repeat_penalty = 1000}};
    const char *greedy = sample(g, (gemma_generate_opts){0});
    for (int i = 0; i < 3; i++) assert_string_equal(sample(g, only_best[i]), greedy);
    for (int i = 0; i < 4; i++) assert_string_not_equal(sample(g, more[i]), greedy);
    close_editor(g);
}

/* The file's own values count instead of the caller's, the other fields of the caller beside them.
 */
static void the_sampling_of_the_model_is_that_of_its_file(void **state) {
    (void)state;
    const tiny_opts files[] = {
        {.seed = 3},
        {.seed = 3, .sampling_temp = 1.5f, .sampling_top_k = 3, .sampling_top_p = 0.9f}};
    const gemma_generate_opts same[] = {
        {.temperature = 1, .top_k = 64, .top_p = 0.95f, .seed = 7},
        {.temperature = 1.5f, .top_k = 3, .top_p = 0.9f, .seed = 7}};
    gemma_generate_opts o = {.flags = GEMMA_GEN_MODEL_SAMPLING, .top_k = 1, .seed = 7};
    gemma *g = open_editor();
    const char *got[2];
    for (int i = 0; i < 2; i++) {
        const char *path = tmp_path(&tmp, i ? "keys.gguf" : "no-keys.gguf");
        assert_true(tiny_model_write(path, &files[i]));
        assert_int_equal(wait_end(g, load(g, path))->last.kind, GEMMA_EV_DONE);
        o.min_p = 0;
        got[i] = sample(g, o);
        assert_string_equal(got[i], sample(g, same[i]));
        const char *greedy = sample(g, (gemma_generate_opts){0});
        assert_string_not_equal(got[i], greedy);
        o.min_p = 1;
        assert_string_equal(sample(g, o), greedy);
    }
    assert_string_not_equal(got[0], got[1]);
    close_editor(g);
}

/* The model's turn is left open in a thought: all of it is thought until its end mark. */
static void thoughts_are_events_of_their_own_when_asked_for(void **state) {
    (void)state;
    gemma *g = open_loaded();
    static const char markup[] = "<|channel>thought\n";
    gemma_part parts[] = {{.kind = GEMMA_PART_USER},
                          {.kind = GEMMA_PART_TEXT, .data = "hello", .len = 5},
                          {.kind = GEMMA_PART_MODEL},
                          {.kind = GEMMA_PART_MARKUP, .data = markup, .len = sizeof markup - 1}};
    gemma_generate_opts o = {.size = sizeof o,
                             .flags = GEMMA_GEN_IGNORE_EOG | GEMMA_GEN_THINK,
                             .max_tokens = 20,
                             .n_part = 4,
                             .parts = parts};
    record *plain = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    o.flags |= GEMMA_GEN_THOUGHTS;
    record *apart = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(plain->last.kind, GEMMA_EV_DONE);
    assert_int_equal(apart->last.kind, GEMMA_EV_DONE);
    assert_int_equal(plain->n_thought, 0);
    assert_int_equal(apart->n_text, 0);
    assert_true(apart->n_thought > 0);
    assert_true(apart->n > 0);
    assert_string_equal(apart->text, plain->text);
    /* What heals is the prompt's own text, in a thought too. */
    gemma_part open[] = {parts[0],
                         parts[1],
                         parts[2],
                         parts[3],
                         {.kind = GEMMA_PART_TEXT, .data = "The functio", .len = 11}};
    o.parts = open;
    o.n_part = 5;
    o.flags = GEMMA_GEN_IGNORE_EOG | GEMMA_GEN_THINK | GEMMA_GEN_HEAL;
    plain = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    o.flags |= GEMMA_GEN_THOUGHTS;
    apart = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(plain->last.n_generated, 20);
    assert_true(apart->n_thought > 0);
    assert_string_equal(apart->text, plain->text);
    close_editor(g);
}

static void a_picture_without_an_embedder_says_so(void **state) {
    (void)state;
    gemma *g = open_loaded();
    gemma_part part = {.kind = GEMMA_PART_IMAGE, .data = "/x.png", .len = 6};
    gemma_generate_opts o = {.size = sizeof o, .n_part = 1, .parts = &part, .max_tokens = 3};
    record *r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.code, GEMMA_EUNSUPPORTED);
    assert_non_null(strstr(r->error, "mmproj"));
    close_editor(g);
}

static char *long_prompt(size_t n) {
    char *p = malloc(n + 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = (char)('!' + i * 7 % 90);
    p[n] = '\0';
    return p;
}

static void a_prompt_beyond_the_context_is_refused(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char *p = long_prompt(200000);
    record *r = wait_end(g, generate(g, p, 0, 0, 1, 0));
    assert_int_equal(r->last.code, GEMMA_ETOOLONG);
    free(p);
    r = wait_end(g, generate(g, "short", 0, 0, 1, 0));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    close_editor(g);
}

static void cancel_ends_a_running_answer_and_the_session_lives(void **state) {
    (void)state;
    gemma *g = open_loaded();
    int64_t job = generate(g, "hello", 1, 1, N_CTX, GEMMA_GEN_IGNORE_EOG);
    while (records[job].n_text == 0) wait_for_events(g);
    gemma_cancel(g, job);
    record *r = wait_end(g, job);
    assert_int_equal(r->last.kind, GEMMA_EV_ERROR);
    assert_int_equal(r->last.code, GEMMA_ECANCELLED);
    gemma_cancel(g, job); /* long gone: ignored */
    gemma_cancel(g, 0);
    gemma_cancel(g, -5);
    gemma_cancel(g, INT64_MAX);
    record *a = wait_end(g, generate(g, "hello", 1, 1, 40, GEMMA_GEN_IGNORE_EOG));
    record *b = wait_end(g, generate(g, "hello", 2, 1, 40, GEMMA_GEN_IGNORE_EOG));
    assert_int_equal(a->last.kind, GEMMA_EV_DONE);
    assert_true(a->last.n_reused > 0);
    assert_string_equal(a->text, b->text);
    close_editor(g);
}

static void cancel_ends_a_prefill_and_waiting_jobs(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char *p = long_prompt(7000);
    int64_t running = generate(g, p, 1, 1, 10, 0);
    int64_t waiting = generate(g, p, 1, 1, 10, 0);
    int64_t other = generate(g, p, 2, 2, 10, 0);
    gemma_cancel(g, waiting);
    assert_int_equal(wait_end(g, waiting)->last.code, GEMMA_ECANCELLED);
    gemma_cancel_all(g);
    assert_int_equal(wait_end(g, running)->last.code, GEMMA_ECANCELLED);
    assert_int_equal(wait_end(g, other)->last.code, GEMMA_ECANCELLED);
    free(p);
    close_editor(g);
}

/* The order that matters to somebody who types while a long answer is being written. */
static void typing_comes_before_a_running_answer(void **state) {
    (void)state;
    gemma *g = open_loaded();
    int64_t ask = generate(g, "explain", 1, GEMMA_PRIO_ASK, N_CTX, GEMMA_GEN_IGNORE_EOG);
    while (records[ask].n_text == 0) wait_for_events(g);
    int64_t typing = generate(g, "local x", 0, GEMMA_PRIO_TYPING, 8, GEMMA_GEN_IGNORE_EOG);
    wait_end(g, typing);
    assert_int_equal(records[ask].ended, 0);
    int before = records[ask].n_text;
    while (records[ask].n_text == before) wait_for_events(g); /* and goes on afterwards */
    gemma_cancel(g, ask);
    assert_int_equal(wait_end(g, ask)->last.code, GEMMA_ECANCELLED);
    close_editor(g);
}

static void typing_comes_before_a_running_prefill(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char *p = long_prompt(7000);
    int64_t ask = generate(g, p, 1, GEMMA_PRIO_BACKGROUND, 4, GEMMA_GEN_IGNORE_EOG);
    while (records[ask].n_progress == 0) wait_for_events(g);
    int64_t typing = generate(g, "local x", 0, GEMMA_PRIO_TYPING, 8, GEMMA_GEN_IGNORE_EOG);
    wait_end(g, ask);
    assert_int_equal(records[typing].ended, 1);
    assert_true(records[typing].order < records[ask].order);
    free(p);
    close_editor(g);
}

/* A model whose steps take long enough to be caught in the middle of one. */
static const char *slow_model(void) {
    static char path[600];
    tiny_opts o = {.seed = 5, .pattern = "sgsgsgsg", .n_embd = 256, .n_ff = 2048, .dtype = GM_F16};
    if (TEST_SANITIZED) o = (tiny_opts){.seed = 5, .n_embd = 128, .dtype = GM_F16};
    snprintf(path, sizeof path, "%s.slow", model);
    assert_true(access(path, F_OK) == 0 || tiny_model_write(path, &o));
    return path;
}

/* Progress is told after each chunk. So a job that is stopped after the first one, while the second
 * is under way, and tells of no other, was stopped inside it. That the second is under way nothing
 * tells; a quarter of the time that the first one took is waited for it. A busy machine may wait
 * too long, hence several tries of which some must succeed; without interruption hardly one
 * does. */
enum { TRIES = 10, ENOUGH = 4 };

static void wait_into_second_chunk(gemma *g, int64_t job) {
    uint64_t start = gm_now_ns();
    while (records[job].n_progress == 0 && !records[job].ended) wait_for_events(g);
    poll(NULL, 0, (int)(gm_ms_since(start) / 4) + 1);
    drain(g);
}

static void cancel_takes_effect_inside_a_chunk(void **state) {
    (void)state;
    gemma *g = open_editor();
    assert_int_equal(wait_end(g, load(g, slow_model()))->last.kind, GEMMA_EV_DONE);
    char *p = long_prompt(3000);
    int inside = 0;
    for (int i = 0; i < TRIES; i++) {
        p[0] = (char)('A' + i); /* nothing in common with the prompt before */
        int64_t job = generate(g, p, 0, GEMMA_PRIO_TYPING, 1, 0);
        wait_into_second_chunk(g, job);
        uint64_t done = records[job].done;
        gemma_cancel(g, job);
        assert_int_equal(wait_end(g, job)->last.code, GEMMA_ECANCELLED);
        inside += records[job].done == done;
    }
    assert_true(inside >= ENOUGH);
    free(p);
    close_editor(g);
}

static void typing_interrupts_a_chunk_and_does_not_wait_for_its_end(void **state) {
    (void)state;
    gemma *g = open_editor();
    assert_int_equal(wait_end(g, load(g, slow_model()))->last.kind, GEMMA_EV_DONE);
    char *p = long_prompt(3000);
    int inside = 0;
    for (int i = 0; i < TRIES; i++) {
        p[0] = (char)('A' + i);
        int64_t ask = generate(g, p, 1, GEMMA_PRIO_BACKGROUND, 1, 0);
        wait_into_second_chunk(g, ask);
        uint64_t done = records[ask].done;
        wait_end(g, generate(g, "x", 0, GEMMA_PRIO_TYPING, 1, GEMMA_GEN_IGNORE_EOG));
        inside += records[ask].done == done;
        gemma_cancel(g, ask);
        wait_end(g, ask);
    }
    assert_true(inside >= ENOUGH);
    free(p);
    close_editor(g);
}

/* CPU time of this process's threads in ticks: those of its own priority, and less urgent ones. */
typedef struct {
    long usual, calm;
} cpu_time;

static cpu_time cpu_by_priority(void) {
    cpu_time sum = {0};
    const int mine = getpriority(PRIO_PROCESS, 0);
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[300], line[1024];
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", e->d_name);
        FILE *f = fopen(path, "r");
        if (!f) continue; /* gone */
        const char *after = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        long user, system, nice;
        /* Fields 14, 15 and 19 of proc(5); 3 comes after the name. */
        if (after && sscanf(after + 1,
                            " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld %*d %*d %*d %ld",
                            &user, &system, &nice) == 3)
            *(nice > mine ? &sum.calm : &sum.usual) += user + system;
        fclose(f);
    }
    closedir(d);
    return sum;
}

static void what_nobody_waits_for_is_computed_at_a_lower_priority(void **state) {
    (void)state;
    if (getpriority(PRIO_PROCESS, 0) >= 19) skip(); /* none is lower */
    gemma *g = open_editor();
    assert_int_equal(wait_end(g, load(g, slow_model()))->last.kind, GEMMA_EV_DONE);
    char *p = long_prompt(3000);
    const cpu_time before = cpu_by_priority();
    wait_end(g, generate(g, p, 0, GEMMA_PRIO_BACKGROUND, 1, 0));
    const cpu_time between = cpu_by_priority();
    p[0] = 'A';
    wait_end(g, generate(g, p, 0, GEMMA_PRIO_TYPING, 1, 0));
    const cpu_time after = cpu_by_priority();
    assert_true(between.calm - before.calm > 4 * (between.usual - before.usual));
    assert_true(after.usual - between.usual > 4 * (after.calm - between.calm));
    free(p);
    close_editor(g);
}

/* What was begun for nobody was computed in the calm threads to its end, although a question had
 * come that needs its session and waited for it. */
static void what_an_urgent_request_waits_for_is_not_computed_at_a_lower_priority(void **state) {
    (void)state;
    gemma *g = open_editor();
    assert_int_equal(wait_end(g, load(g, slow_model()))->last.kind, GEMMA_EV_DONE);
    char *p = long_prompt(3000);
    const cpu_time before = cpu_by_priority();
    int64_t ahead = generate(g, p, 0, GEMMA_PRIO_BACKGROUND, 0, 0);
    wait_end(g, generate(g, p, 0, GEMMA_PRIO_ASK, 1, 0));
    assert_int_equal(records[ahead].ended, 1);
    const cpu_time after = cpu_by_priority();
    assert_true(after.usual - before.usual > 4 * (after.calm - before.calm));
    free(p);
    close_editor(g);
}

/* Interrupting must not change what is answered: each chat answer is interrupted by a stream of
 * typing requests and equals the one that nobody interrupted. */
static void interruptions_leave_no_trace_in_the_answer(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char *p = long_prompt(600);
    record *calm = wait_end(g, generate(g, p, 2, 1, 60, GEMMA_GEN_IGNORE_EOG));
    int64_t ask = generate(g, p, 1, 1, 60, GEMMA_GEN_IGNORE_EOG);
    int n = 0;
    while (!records[ask].ended && n < 300) {
        char typed[32];
        snprintf(typed, sizeof typed, "local x%d", n++);
        int64_t job = generate(g, typed, 0, 0, 2, GEMMA_GEN_IGNORE_EOG);
        if (n % 3 == 0) gemma_cancel(g, job);
        wait_end(g, job);
    }
    wait_end(g, ask);
    assert_int_equal(records[ask].last.kind, GEMMA_EV_DONE);
    assert_string_equal(records[ask].text, calm->text);
    assert_int_equal(records[ask].last.n_generated, 60);
    free(p);
    close_editor(g);
}

static void loading_again_replaces_the_model_and_its_sessions(void **state) {
    (void)state;
    gemma *g = open_loaded();
    record *a = wait_end(g, generate(g, "hello", 0, 0, 20, GEMMA_GEN_IGNORE_EOG));
    char other[600];
    snprintf(other, sizeof other, "%s.other", model);
    assert_true(tiny_model_write(other, &(tiny_opts){.seed = 4, .pattern = "sg", .n_embd = 128}));
    int64_t first = load(g, other);
    int64_t job = generate(g, "hello", 0, 0, 20, GEMMA_GEN_IGNORE_EOG); /* for the new model */
    record *b = wait_end(g, job);
    assert_int_equal(records[first].last.kind, GEMMA_EV_DONE);
    assert_int_equal(b->last.kind, GEMMA_EV_DONE);
    assert_int_equal(b->last.n_reused, 0);
    assert_string_not_equal(a->text, b->text);
    wait_end(g, load(g, model));
    record *c = wait_end(g, generate(g, "hello", 0, 0, 20, GEMMA_GEN_IGNORE_EOG));
    assert_string_equal(a->text, c->text);
    unlink(other);
    close_editor(g);
}

static void files_that_are_no_model_leave_a_message_and_no_model(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char path[5][600];
    gm_bytes good = tiny_model_build(&(tiny_opts){.seed = 3});
    const char *name[] = {"missing", "folder", "pipe", "empty", "cut"};
    for (int i = 0; i < 5; i++) snprintf(path[i], sizeof *path, "%s", tmp_path(&tmp, name[i]));
    assert_int_equal(mkdir(path[1], 0700), 0);
    assert_int_equal(mkfifo(path[2], 0600), 0);
    write_file(path[3], "", 0);
    write_file(path[4], good.p, good.n * 2 / 3);
    for (int i = 0; i < 5; i++) {
        record *r = wait_end(g, load(g, path[i]));
        assert_int_equal(r->last.kind, GEMMA_EV_ERROR);
        assert_true(r->last.code < 0 && r->last.code != GEMMA_ECANCELLED);
        assert_true(strlen(r->error) > 5);
        assert_null(strchr(r->error, '\n'));
        assert_int_equal(status(g).state, GEMMA_STATE_EMPTY);
        r = wait_end(g, generate(g, "hello", 0, 0, 3, 0));
        assert_int_equal(r->last.code, GEMMA_ENOMODEL);
    }
    gemma_load_opts o = {.size = sizeof o, .model_path = model, .device = "warp-drive"};
    record *r = wait_end(g, gemma_load(g, &o, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_ERROR);
    assert_int_equal(wait_end(g, load(g, model))->last.kind, GEMMA_EV_DONE);
    gm_bytes_finish(&good);
    close_editor(g);
}

static void a_model_that_is_deleted_while_loaded_goes_on(void **state) {
    (void)state;
    gemma *g = open_editor();
    char path[600];
    snprintf(path, sizeof path, "%s", tmp_path(&tmp, "short-lived"));
    assert_true(tiny_model_write(path, &(tiny_opts){.seed = 9}));
    assert_int_equal(wait_end(g, load(g, path))->last.kind, GEMMA_EV_DONE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(wait_end(g, generate(g, "hello", 0, 0, 9, 0))->last.kind, GEMMA_EV_DONE);
    close_editor(g);
}

static void a_cancelled_load_ends_and_another_works(void **state) {
    (void)state;
    gemma *g = open_editor();
    for (int i = 0; i < 20; i++) {
        int64_t job = load(g, model);
        if (i % 2) wait_for_events(g);
        gemma_cancel(g, job);
        record *r = wait_end(g, job);
        bool cancelled = r->last.kind == GEMMA_EV_ERROR && r->last.code == GEMMA_ECANCELLED;
        assert_true(cancelled || r->last.kind == GEMMA_EV_DONE);
    }
    assert_int_equal(wait_end(g, load(g, model))->last.kind, GEMMA_EV_DONE);
    close_editor(g);
}

/* Nobody drains: the worker stops at a full ring instead of losing or hoarding events, and goes on
 * when somebody does. */
static void a_full_ring_makes_the_worker_wait(void **state) {
    (void)state;
    enum { N = 250 };
    gemma *g = open_loaded();
    int64_t job[N];
    for (int i = 0; i < N; i++)
        job[i] = generate(g, "hello", (uint32_t)i % 8, 1, 3, GEMMA_GEN_IGNORE_EOG);
    assert_true(job[N - 1] > 0);
    /* Each job makes up to three events, so some 85 jobs fill the 256 slots. That it stops there
     * shows by a queue that never empties; that it got so far, by one that is not full. */
    uint64_t start = gm_now_ns();
    while (status(g).n_queued > N - 80 && gm_ms_since(start) < 60000) {
    }
    assert_true(status(g).n_queued > 0);
    for (int i = 0; i < N; i++) assert_int_equal(wait_end(g, job[i])->last.kind, GEMMA_EV_DONE);
    for (int i = 1; i < N; i++) assert_string_equal(records[job[i]].text, records[job[0]].text);
    close_editor(g);
}

static void too_many_waiting_jobs_are_refused(void **state) {
    (void)state;
    gemma *g = open_loaded();
    char *p = long_prompt(7000);
    int64_t blocker = generate(g, p, 0, 0, N_CTX, GEMMA_GEN_IGNORE_EOG), last = 1;
    for (int i = 0; i < 1000 && last > 0; i++) last = generate(g, "x", 1, 1, 1, 0);
    assert_int_equal(last, GEMMA_EBUSY);
    assert_true(strlen(err) > 0);
    const int64_t unload = gemma_unload(g);
    assert_true(unload > 0);
    gemma_cancel_all(g);
    wait_end(g, blocker);
    free(p);
    close_editor(g);
}

static void leaving_is_quick_whatever_goes_on(void **state) {
    (void)state;
    char *p = long_prompt(7000);
    for (int i = 0; i < 6; i++) {
        gemma *g = i == 0 ? open_editor() : open_loaded();
        int64_t job = 0;
        if (i == 1) job = generate(g, "hello", 1, 1, N_CTX, GEMMA_GEN_IGNORE_EOG);
        if (i == 2) job = generate(g, p, 1, 1, 5, 0);
        if (i == 3) job = load(g, model);
        for (int k = 0; i == 4 && k < 250; k++)
            job = generate(g, "hi", 1, 1, 3, GEMMA_GEN_IGNORE_EOG); /* the ring fills */
        if (i == 1)                                                 /* in the middle of it */
            while (records[job].n_text == 0) wait_for_events(g);
        uint64_t start = gm_now_ns();
        assert_int_equal(gemma_destroy(&g, 30000), GEMMA_OK);
        assert_null(g);
        if (!TEST_SANITIZED) assert_true(gm_ms_since(start) < 2000);
        free(records);
        records = NULL;
    }
    free(p);
}

/* Two handles at once: nothing is shared but the log. */
static void two_handles_do_not_disturb_each_other(void **state) {
    (void)state;
    gemma *a = open_loaded(), *b = NULL;
    record *want = wait_end(a, generate(a, "hello", 0, 0, 30, GEMMA_GEN_IGNORE_EOG));
    char text[256];
    snprintf(text, sizeof text, "%.255s", want->text);
    assert_int_equal(gemma_create(&b, err, sizeof err), GEMMA_OK);
    int64_t on_a = generate(a, "hello", 1, 0, 3000, GEMMA_GEN_IGNORE_EOG);
    int64_t load_b = load(b, model);
    int64_t on_b = generate(b, "hello", 0, 0, 30, GEMMA_GEN_IGNORE_EOG);
    size_t n = 0;
    char got[256] = "";
    bool over = false;
    while (!over) {
        struct pollfd fd = {.fd = gemma_wake_fd(b), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 60000), 1);
        gemma_event ev;
        gemma_wake_clear(b);
        while (gemma_next_event(b, &ev)) {
            if (ev.job == load_b) assert_int_not_equal(ev.kind, GEMMA_EV_ERROR);
            if (ev.job != on_b) continue;
            if (ev.kind == GEMMA_EV_TEXT && n + ev.len < sizeof got) {
                memcpy(got + n, ev.text, ev.len);
                n += ev.len;
            }
            over |= ev.kind == GEMMA_EV_DONE || ev.kind == GEMMA_EV_ERROR;
        }
    }
    assert_string_equal(got, text);
    assert_int_equal(gemma_destroy(&b, 60000), GEMMA_OK);
    gemma_cancel(a, on_a);
    wait_end(a, on_a);
    close_editor(a);
}

/* One round with the n-th allocation failing; false when there were fewer than n. */
static bool round_with_failure(uint64_t n) {
    gemma *g = NULL;
    gm_mem_fail_at(n);
    free(records);
    records = calloc(MAX_JOB, sizeof *records);
    n_event = 0;
    int rc = gemma_create(&g, err, sizeof err);
    if (rc == GEMMA_OK) {
        int64_t job = load(g, model);
        if (job > 0) wait_end(g, job);
        else assert_int_equal(job, GEMMA_ENOMEM);
        const char *stops[] = {"\n\n"};
        gemma_part part[] = {{.kind = GEMMA_PART_USER},
                             {.kind = GEMMA_PART_TEXT, .data = "local fun", .len = 9}};
        gemma_generate_opts o = {.size = sizeof o,
                                 .n_part = 2,
                                 .parts = part,
                                 .max_tokens = 4,
                                 .flags = GEMMA_GEN_IGNORE_EOG | GEMMA_GEN_HEAL,
                                 .stops = stops,
                                 .n_stop = 1,
                                 .repeat_penalty = 1.1f};
        job = gemma_generate(g, &o, err, sizeof err);
        if (job > 0) wait_end(g, job);
        else assert_int_equal(job, GEMMA_ENOMEM);
        if (job > 0 && records[job].last.kind == GEMMA_EV_ERROR) {
            int code = records[job].last.code;
            assert_true(code == GEMMA_ENOMEM || code == GEMMA_ENOMODEL);
        }
        job = gemma_hash_file(g, model, err, sizeof err);
        if (job > 0) wait_end(g, job);
        else assert_int_equal(job, GEMMA_ENOMEM);
        assert_int_equal(gemma_destroy(&g, 60000), GEMMA_OK);
    } else {
        assert_int_equal(rc, GEMMA_ENOMEM);
        assert_null(g);
    }
    return gm_mem_fail_at(0) >= n;
}

static void every_failed_allocation_ends_in_an_event(void **state) {
    (void)state;
    uint64_t n = 1;
    /* Under a sanitizer every seventh, or it would take minutes. */
    while (round_with_failure(n)) n += TEST_SANITIZED ? 7 : 1;
    assert_true(n > 300);
    free(records);
    records = NULL;
}

/* A sound is 34 rows in the cache; the second question about the same recording finds them there,
 * under another name of the file too. */
static void a_second_question_about_a_sound_computes_no_row_again(void **state) {
    (void)state;
    static const char set[] = "tests/golden/sets/nano/";
    static const char *const names[] = {"tests/golden/sets/nano/media/tones.wav",
                                        "./tests/golden/sets/nano/media/tones.wav"};
    if (access(set, R_OK) != 0) skip();
    gemma *g = open_editor();
    gemma_load_opts l = {.size = sizeof l,
                         .n_threads = 1,
                         .n_ctx = N_CTX,
                         .model_path = "tests/golden/sets/nano/model-F16.gguf",
                         .mmproj_path = "tests/golden/sets/nano/mmproj-BF16.gguf"};
    assert_int_equal(wait_end(g, gemma_load(g, &l, err, sizeof err))->last.kind, GEMMA_EV_DONE);
    for (int i = 0; i < 2; i++) {
        const char *question = i ? "Again?" : "What is it?";
        const gemma_part parts[] = {
            {.kind = GEMMA_PART_USER},
            {.kind = GEMMA_PART_AUDIO, .data = names[i], .len = strlen(names[i])},
            {.kind = GEMMA_PART_TEXT, .data = question, .len = strlen(question)}};
        gemma_generate_opts o = {
            .size = sizeof o, .session = 1, .max_tokens = 2, .n_part = 3, .parts = parts};
        const gemma_event *e = &wait_end(g, gemma_generate(g, &o, err, sizeof err))->last;
        assert_int_equal(e->kind, GEMMA_EV_DONE);
        assert_int_equal(e->n_media, i ? 0 : 34);
        assert_true(e->n_prompt > 34);
    }
    assert_int_equal(status(g).media_rows, 34);
    /* Other questions in other sessions take nothing away, nor does a new session decode the file
     * again; but it has to prefill its rows. */
    for (uint32_t session = 0; session < 4; session++) {
        const gemma_part parts[] = {{.kind = GEMMA_PART_USER},
                                    {.kind = session == 0 ? GEMMA_PART_TEXT : GEMMA_PART_AUDIO,
                                     .data = session == 0 ? "no sound" : names[0],
                                     .len = session == 0 ? 8 : strlen(names[0])},
                                    {.kind = GEMMA_PART_TEXT, .data = "Once more?", .len = 10}};
        static const uint32_t want[] = {0, 0, 34, 0}; /* the last one asks session 1 again */
        gemma_generate_opts o = {.size = sizeof o,
                                 .session = session % 3 + session / 3,
                                 .max_tokens = 2,
                                 .n_part = 3,
                                 .parts = parts};
        assert_int_equal(wait_end(g, gemma_generate(g, &o, err, sizeof err))->last.n_media,
                         want[session]);
    }
    const gemma_part missing[] = {{.kind = GEMMA_PART_USER},
                                  {.kind = GEMMA_PART_IMAGE, .data = "no/such.png", .len = 11}};
    gemma_generate_opts o = {.size = sizeof o, .max_tokens = 2, .n_part = 2, .parts = missing};
    const record *r = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_ERROR);
    assert_int_equal(r->last.code, GEMMA_ENOENT);
    close_editor(g);
}

/* ---- hashing ---- */

/* A hole of this many bytes: nothing on the disk, seconds of work. */
static const char *long_file(off_t n) {
    static char path[600];
    snprintf(path, sizeof path, "%s.long", model);
    write_file(path, "", 0);
    assert_int_equal(truncate(path, n), 0);
    return path;
}

static void the_hash_of_a_file_needs_no_model(void **state) {
    (void)state;
    gemma *g = open_editor();
    char path[600];
    snprintf(path, sizeof path, "%s.abc", model);
    write_file(path, "abc", 3);
    const record *r = wait_end(g, gemma_hash_file(g, path, err, sizeof err));
    assert_int_equal(r->last.kind, GEMMA_EV_DONE);
    assert_string_equal(r->text,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(r->done, 3);
    write_file(path, "", 0);
    r = wait_end(g, gemma_hash_file(g, path, err, sizeof err));
    assert_string_equal(r->text,
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(status(g).state, GEMMA_STATE_EMPTY);
    close_editor(g);
}

static void what_cannot_be_hashed_says_why(void **state) {
    (void)state;
    gemma *g = open_editor();
    const char *names[] = {"/no/such/file", tmp.dir, "/dev/null"};
    const int codes[] = {GEMMA_ENOENT, GEMMA_EINVAL, GEMMA_EINVAL};
    for (int i = 0; i < 3; i++) {
        const record *r = wait_end(g, gemma_hash_file(g, names[i], err, sizeof err));
        assert_int_equal(r->last.kind, GEMMA_EV_ERROR);
        assert_int_equal(r->last.code, codes[i]);
        assert_non_null(strstr(r->error, i == 1 ? "gemma-test" : strrchr(names[i], '/') + 1));
    }
    close_editor(g);
}

/* What may be done about it was told of models only. */
static void a_file_that_may_not_be_read_says_what_to_do(void **state) {
    (void)state;
    const char *path = long_file(1);
    assert_int_equal(chmod(tmp.dir, 0711), 0); /* the file is refused, not the folder */
    assert_int_equal(chmod(path, 0), 0);
    gemma *g = open_editor();
    if (!user_begin()) {
        close_editor(g);
        skip();
    }
    const int64_t load_job = load(g, path), hash_job = gemma_hash_file(g, path, err, sizeof err);
    const record *r[] = {wait_end(g, load_job), wait_end(g, hash_job)};
    user_end();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r[i]->last.code, GEMMA_EIO);
        assert_non_null(strstr(r[i]->error, "make the file readable"));
    }
    assert_int_equal(remove(path), 0);
    close_editor(g);
}

static void hashing_waits_for_everything_else_and_can_be_cancelled(void **state) {
    (void)state;
    gemma *g = open_editor();
    int64_t hash = gemma_hash_file(g, long_file((off_t)64 << 30), err, sizeof err);
    while (records[hash].n_progress == 0) wait_for_events(g);
    wait_end(g, load(g, model));
    wait_end(g, generate(g, "local x", 0, GEMMA_PRIO_BACKGROUND, 8, GEMMA_GEN_IGNORE_EOG));
    wait_end(g, gemma_unload(g));
    assert_int_equal(records[hash].ended, 0);
    int before = records[hash].n_progress;
    while (records[hash].n_progress == before) wait_for_events(g); /* and goes on afterwards */
    gemma_cancel(g, hash);
    assert_int_equal(wait_end(g, hash)->last.code, GEMMA_ECANCELLED);
    close_editor(g);
}

static void a_file_that_shrinks_while_it_is_hashed_is_an_error(void **state) {
    (void)state;
    gemma *g = open_editor();
    const char *path = long_file((off_t)64 << 30);
    int64_t hash = gemma_hash_file(g, path, err, sizeof err);
    while (records[hash].n_progress == 0) wait_for_events(g);
    assert_int_equal(truncate(path, 10), 0);
    const record *r = wait_end(g, hash);
    assert_int_equal(r->last.code, GEMMA_EIO);
    assert_non_null(strstr(r->error, "changed while it was read"));
    close_editor(g);
}

/* The samples of the golden sound: 16 kHz, mono, 16 bit, behind a header of 44 bytes. */
static size_t read_tones(uint8_t *p, size_t n) {
    FILE *f = fopen("tests/golden/sets/nano/media/tones.wav", "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 44, SEEK_SET), 0);
    n = fread(p, 1, n, f);
    fclose(f);
    return n;
}

static gemma *open_nano(const char *weights) {
    char path[128];
    gemma *g = open_editor();
    snprintf(path, sizeof path, "tests/golden/sets/nano/model-%s.gguf", weights);
    gemma_load_opts l = {.size = sizeof l,
                         .n_threads = 1,
                         .n_ctx = N_CTX,
                         .model_path = path,
                         .mmproj_path = "tests/golden/sets/nano/mmproj-BF16.gguf"};
    assert_int_equal(wait_end(g, gemma_load(g, &l, err, sizeof err))->last.kind, GEMMA_EV_DONE);
    return g;
}

/* While a sound is recorded, each job computes only the rows that have come since; after the end
 * only the last rows and the question are left, and the answer is that to the file. */
static void a_sound_is_heard_while_it_is_recorded(void **state) {
    (void)state;
    static uint8_t pcm[1 << 17];
    static const char name[] = "tests/golden/sets/nano/media/tones.wav";
    if (access(name, R_OK) != 0) skip();
    const size_t n = read_tones(pcm, sizeof pcm);
    gemma *g = open_nano("F16");
    assert_int_equal(status(g).media, GEMMA_MEDIA_IMAGE | GEMMA_MEDIA_AUDIO);
    assert_int_equal(status(g).image_tokens, 280);
    int64_t sound = gemma_sound_create(g, 16000, 1, err, sizeof err);
    assert_true(sound > 0);
    assert_int_equal(status(g).n_sound, 1);
    gemma_part parts[] = {{.kind = GEMMA_PART_USER},
                          {.kind = GEMMA_PART_TEXT, .data = "Listen: ", .len = 8},
                          {.kind = GEMMA_PART_SOUND, .id = (uint32_t)sound},
                          {.kind = GEMMA_PART_TEXT, .data = "What is it?", .len = 11}};
    gemma_generate_opts o = {.size = sizeof o, .session = 1, .n_part = 4, .parts = parts};
    uint32_t prompt = 0;
    for (size_t at = 0; at < n; at += n / 4 + 1) {
        const size_t piece = n - at < n / 4 + 1 ? n - at : n / 4 + 1;
        const gemma_event *e = &wait_end(g, gemma_generate(g, &o, err, sizeof err))->last;
        assert_int_equal(e->kind, GEMMA_EV_DONE);
        const uint32_t rows = (uint32_t)(at / 2 / 640);
        assert_true(at == 0 || e->n_prompt == prompt + rows);
        if (at == 0) prompt = e->n_prompt; /* up to the begin token */
        assert_in_range(e->n_media, at ? 8 : 0, at ? 9 : 0);
        assert_int_equal(status(g).media_rows, rows);
        assert_int_equal(gemma_sound_append(g, sound, pcm + at, piece), GEMMA_OK);
    }
    o.max_tokens = 6;
    assert_int_equal(gemma_generate(g, &o, err, sizeof err), GEMMA_EINVAL);
    assert_non_null(strstr(err, "not ended"));
    assert_int_equal(gemma_sound_end(g, sound), GEMMA_OK);
    int64_t job = gemma_generate(g, &o, err, sizeof err);
    gemma_sound_destroy(g, sound); /* the job has what it needs */
    const record *heard = wait_end(g, job);
    assert_int_equal(heard->last.kind, GEMMA_EV_DONE);
    assert_in_range(heard->last.n_media, 1, 10);
    assert_int_equal(status(g).media_rows, 34);

    parts[2] = (gemma_part){.kind = GEMMA_PART_AUDIO, .data = name, .len = sizeof name - 1};
    const record *file = wait_end(g, gemma_generate(g, &o, err, sizeof err));
    assert_int_equal(file->last.n_prompt, heard->last.n_prompt);
    assert_string_equal(file->text, heard->text);
    close_editor(g);
}

static const record *ask_about(gemma *g, uint32_t session, const char *image, uint32_t budget,
                               const char *question) {
    const gemma_part parts[] = {
        {.kind = GEMMA_PART_USER},
        {.kind = GEMMA_PART_TEXT, .data = "A picture: ", .len = 11},
        {.kind = GEMMA_PART_IMAGE, .data = image, .len = strlen(image)},
        {.kind = GEMMA_PART_TEXT, .data = question, .len = strlen(question)}};
    gemma_generate_opts o = {.size = sizeof o,
                             .session = session,
                             .max_tokens = 4,
                             .image_tokens = budget,
                             .n_part = 4,
                             .parts = parts};
    return wait_end(g, gemma_generate(g, &o, err, sizeof err));
}

/* Chunks hold 512 positions until an image is longer; then the session is made anew with room for
 * it and keeps what it had. */
static void every_image_budget_works(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    static const uint32_t budgets[] = {70, 1120, 0, 560, 140, 280, 1120};
    static const uint32_t rows[] = {60, 1107, 260, 551, 126, 260, 1107};
    if (access(photo, R_OK) != 0 || gm_avlib_load(NULL, 0) != 0) skip();
    gemma *g = open_nano("F16");
    for (int i = 0; i < 7; i++) {
        const record *r = ask_about(g, 1, photo, budgets[i], "What?");
        if (r->last.kind != GEMMA_EV_DONE) fail_msg("%s", r->error);
        assert_int_equal(r->last.n_media, rows[i]);
        assert_true(i == 0 || r->last.n_reused > 4); /* the text in front of it */
        r = ask_about(g, 1, photo, budgets[i], "And?");
        assert_int_equal(r->last.n_media, 0);
    }
    assert_int_equal(status(g).media_rows, 60 + 1107 + 260 + 551 + 126 + 260 + 1107);
    assert_int_equal(ask_about(g, 1, photo, 99, "What?")->last.code, GEMMA_EINVAL);
    close_editor(g);
}

static void sounds_have_limits(void **state) {
    (void)state;
    gemma *g = open_editor();
    int64_t sound[GEMMA_SOUND_MAX];
    for (int i = 0; i < GEMMA_SOUND_MAX; i++) {
        sound[i] = gemma_sound_create(g, 16000, 1, err, sizeof err);
        assert_true(sound[i] > 0);
    }
    assert_int_equal(gemma_sound_create(g, 16000, 1, err, sizeof err), GEMMA_EBUSY);
    gemma_sound_destroy(g, sound[3]);
    assert_int_equal(gemma_sound_append(g, sound[3], "ab", 2), GEMMA_EINVAL);
    assert_int_equal(gemma_sound_end(g, sound[3]), GEMMA_EINVAL);
    gemma_sound_destroy(g, sound[3]);
    gemma_sound_destroy(g, -1);
    assert_true(gemma_sound_create(g, 16000, 1, err, sizeof err) > 0);
    assert_int_equal(gemma_sound_append(g, sound[0], NULL, 2), GEMMA_EINVAL);
    gemma_sound_destroy(g, sound[5]);
    assert_int_equal(gemma_sound_create(g, 0, 1, err, sizeof err), GEMMA_EINVAL);
    assert_int_equal(gemma_sound_create(NULL, 16000, 1, err, sizeof err), GEMMA_EINVAL);
    gemma_part part = {.kind = GEMMA_PART_SOUND, .id = (uint32_t)sound[3]};
    gemma_generate_opts o = {.size = sizeof o, .n_part = 1, .parts = &part};
    assert_int_equal(gemma_generate(g, &o, err, sizeof err), GEMMA_EINVAL);
    assert_non_null(strstr(err, "no sound"));
    close_editor(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_of_a_file_needs_no_model),
        cmocka_unit_test(what_cannot_be_hashed_says_why),
        cmocka_unit_test(a_file_that_may_not_be_read_says_what_to_do),
        cmocka_unit_test(hashing_waits_for_everything_else_and_can_be_cancelled),
        cmocka_unit_test(a_file_that_shrinks_while_it_is_hashed_is_an_error),
        cmocka_unit_test(nonsense_arguments_are_errors),
        cmocka_unit_test(a_sound_is_heard_while_it_is_recorded),
        cmocka_unit_test(every_image_budget_works),
        cmocka_unit_test(sounds_have_limits),
        cmocka_unit_test(a_second_question_about_a_sound_computes_no_row_again),
        cmocka_unit_test(bad_requests_are_refused_with_a_reason),
        cmocka_unit_test(load_generate_unload),
        cmocka_unit_test(a_cache_is_as_large_as_its_number_format_says),
        cmocka_unit_test(an_older_caller_with_smaller_structs_is_served),
        cmocka_unit_test(a_prompt_is_computed_once),
        cmocka_unit_test(stops_and_healing_work_through_the_api),
        cmocka_unit_test(a_seed_decides_what_is_drawn),
        cmocka_unit_test(each_sampling_option_reaches_the_sampler),
        cmocka_unit_test(the_sampling_of_the_model_is_that_of_its_file),
        cmocka_unit_test(thoughts_are_events_of_their_own_when_asked_for),
        cmocka_unit_test(a_picture_without_an_embedder_says_so),
        cmocka_unit_test(a_prompt_beyond_the_context_is_refused),
        cmocka_unit_test(cancel_ends_a_running_answer_and_the_session_lives),
        cmocka_unit_test(cancel_ends_a_prefill_and_waiting_jobs),
        cmocka_unit_test(typing_comes_before_a_running_answer),
        cmocka_unit_test(typing_comes_before_a_running_prefill),
        cmocka_unit_test(cancel_takes_effect_inside_a_chunk),
        cmocka_unit_test(typing_interrupts_a_chunk_and_does_not_wait_for_its_end),
        cmocka_unit_test(what_nobody_waits_for_is_computed_at_a_lower_priority),
        cmocka_unit_test(what_an_urgent_request_waits_for_is_not_computed_at_a_lower_priority),
        cmocka_unit_test(interruptions_leave_no_trace_in_the_answer),
        cmocka_unit_test(loading_again_replaces_the_model_and_its_sessions),
        cmocka_unit_test(files_that_are_no_model_leave_a_message_and_no_model),
        cmocka_unit_test(a_model_that_is_deleted_while_loaded_goes_on),
        cmocka_unit_test(a_cancelled_load_ends_and_another_works),
        cmocka_unit_test(a_full_ring_makes_the_worker_wait),
        cmocka_unit_test(too_many_waiting_jobs_are_refused),
        cmocka_unit_test(leaving_is_quick_whatever_goes_on),
        cmocka_unit_test(two_handles_do_not_disturb_each_other),
        cmocka_unit_test(every_failed_allocation_ends_in_an_event),
    };
    if (getenv("API_QUICK")) cmocka_set_skip_filter("every_*");
    return cmocka_run_group_tests(tests, begin, end);
}
