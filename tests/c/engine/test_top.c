/* test_top.c: answers whose tokens are chosen from the best logits of a device are the answers that
 * whole rows give.
 *
 * On the CPU with a `top` that is made here, so that sessions and answers are tested everywhere,
 * and on Vulkan with its own where there is a device, in software too. TOP_DEVICE=vulkan runs that
 * one alone, and skips when it is not there: or the job that is to test it would pass on any
 * machine.
 */
#include "helper/cm.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/generate.h"
#include "helper/driver.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "tokenizer/encode.h"

enum { N_VOCAB = 4096, N_TOKEN = 12 };

static test_tmp tmp;
static gm_engine *engine;
static gm_heal_index *index_;
static char err[256];
static const gm_backend_vtable *own; /* of the device */
static gm_backend_vtable counting;
static int n_top, n_row;

/* ---- a device with `top`, and what is asked of it ---- */

/* Not the best but any bound does, as long as the list is complete. */
static int top_of_host(gm_backend *b, const gm_op_top *op) {
    (void)b;
    const float *x = op->x->data;
    gm_top *t = op->out;
    double sum = 0;
    *t = (gm_top){.n_row = (int32_t)op->x->ne[0], .max = -INFINITY};
    for (int32_t i = 0; i < t->n_row; i++) t->max = fmaxf(t->max, x[i]);
    for (int32_t i = 0; i < t->n_row; i++) sum += exp((double)x[i] - (double)t->max);
    t->sum = (float)sum;
    for (t->bound = t->max - 0.1f;; t->bound -= 0.05f) {
        t->n = 0;
        for (int32_t i = 0; i < t->n_row; i++) t->n += x[i] >= t->bound;
        if (t->n >= 200) break;
    }
    assert_true(t->n <= GM_TOP_ROOM);
    t->n = 0;
    for (int32_t i = t->n_row - 1; i >= 0; i--)
        if (x[i] >= t->bound) t->entry[t->n++] = (gm_top_entry){x[i], i};
    return GM_OK;
}

static int count_top(gm_backend *b, const gm_op_top *op) {
    n_top++;
    return own->top ? own->top(b, op) : top_of_host(b, op);
}

static int count_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n) {
    n_row += n == N_VOCAB * sizeof(float);
    return own->read(b, t, offset, dst, n);
}

static const char *device; /* of this group */

static int open_engine(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    const tiny_opts shape = {.seed = 3, .n_vocab = N_VOCAB};
    if (!tiny_model_write(tmp_path(&tmp, "tiny.gguf"), &shape)) return -1;
    gm_engine_opts o = {
        .model_path = tmp.path, .device = device, .n_ctx = 300, .n_threads = 1, .kv_type = -1};
    if (gm_engine_open(&engine, &o, err, sizeof err) != GM_OK) return -1;
    own = engine->backend->vt;
    counting = *own;
    counting.top = count_top;
    counting.read = count_read;
    engine->backend->vt = &counting;
    return gm_heal_index_create(&index_, engine->vocab);
}

static int close_engine(void **state) {
    (void)state;
    if (engine) engine->backend->vt = own;
    gm_heal_index_destroy(&index_);
    gm_engine_close(&engine);
    tmp_end(&tmp);
    return 0;
}

/* From now on: from the best logits, or from whole rows. */
static void choose_by(bool top) {
    engine->backend->top_pays = top;
    n_top = n_row = 0;
}

/* ---- answers ---- */

typedef struct {
    gm_session *s;
    gm_gen g;
    gm_ids ids;
    float logprob[N_TOKEN + 8];
    size_t n;
} answer;

static void begin_answer(answer *a, const char *prompt, gm_gen_opts o) {
    *a = (answer){0};
    assert_int_equal(gm_session_create(&a->s, engine, err, sizeof err), GM_OK);
    assert_int_equal(gm_encode(engine->vocab, prompt, strlen(prompt), GM_ENC_BOS, NULL, &a->ids),
                     GM_OK);
    gm_prompt p = {.ids = a->ids.v, .n = a->ids.n};
    o.max_tokens = N_TOKEN;
    o.ignore_eog = true;
    o.tail = (gm_str){prompt, strlen(prompt)};
    assert_int_equal(gm_gen_init(&a->g, a->s, engine->vocab, &p, &o, err, sizeof err), GM_OK);
}

static int step_answer(answer *a) {
    size_t before = a->g.tokens.n;
    int more = gm_gen_step(&a->g, 3);
    assert_true(more >= 0);
    if (a->g.tokens.n > before && a->n < N_TOKEN + 8) a->logprob[a->n++] = a->g.logprob;
    return more;
}

static void end_answer(answer *a) {
    gm_gen_finish(&a->g);
    gm_ids_finish(&a->ids);
    gm_session_destroy(&a->s);
}

static void same_answers(const char *name, const answer *a, const answer *b) {
    if (a->g.tokens.n != b->g.tokens.n)
        fail_msg("%s: %zu and %zu tokens", name, a->g.tokens.n, b->g.tokens.n);
    for (size_t i = 0; i < a->g.tokens.n; i++) {
        if (a->g.tokens.v[i] != b->g.tokens.v[i])
            fail_msg("%s: token %zu is %d, from whole rows %d", name, i, a->g.tokens.v[i],
                     b->g.tokens.v[i]);
        if (i < a->n && !(fabsf(a->logprob[i] - b->logprob[i]) <= 1e-4f))
            fail_msg("%s: log p of token %zu is %g, from whole rows %g", name, i,
                     (double)a->logprob[i], (double)b->logprob[i]);
    }
}

static const struct {
    const char *name;
    gm_sampler_opts o;
    bool heal;
    /* that may be fetched, the one after the prompt included; -1: as many as it takes */
    int most_rows;
} cases[] = {
    {"greedy", {.temperature = 0}, false, 1},
    {"greedy, healing", {.temperature = 0}, true, -1},
    {"greedy, penalty", {.repeat_penalty = 1.3f}, false, 1},
    {"top-k", {.temperature = 1, .top_k = 64}, false, 1},
    {"top-k, top-p", {.temperature = 1, .top_k = 64, .top_p = 0.95f}, false, 1},
    {"top-k, healing", {.temperature = 1.5f, .top_k = 20}, true, -1},
    {"top-k, penalty", {.temperature = 1, .top_k = 40, .repeat_penalty = 1.2f}, false, 1},
    {"top-k beyond the list", {.temperature = 1, .top_k = 1000}, false, -1},
    {"top-p", {.temperature = 1, .top_p = 0.5f}, false, -1},
    {"min-p", {.temperature = 2, .min_p = 0.7f}, false, -1},
    {"min-p, penalty", {.temperature = 2, .min_p = 0.7f, .repeat_penalty = 1.1f}, false, -1},
    {"top-p, penalty, heal", {.temperature = 1, .top_p = 0.3f, .repeat_penalty = 1.1f}, true, -1},
    {"no filter", {.temperature = 1}, false, -1},
};

static void the_best_logits_give_the_answers_of_whole_rows(void **state) {
    (void)state;
    static const char prompt[] = "local function zqjxkvwz"; /* in several tokens */
    size_t n_healed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t seed = 1; seed < (own->top ? 2 : 4); seed++) {
            gm_gen_opts o = {.sampling = cases[i].o, .heal = cases[i].heal ? index_ : NULL};
            o.sampling.seed = seed;
            answer a, b;
            choose_by(false);
            begin_answer(&b, prompt, o);
            while (step_answer(&b)) continue;
            assert_int_equal(n_top, 0);
            choose_by(true);
            begin_answer(&a, prompt, o);
            while (step_answer(&a)) continue;
            same_answers(cases[i].name, &a, &b);
            if (seed == 1) print_message("  %s: %d lists, %d rows\n", cases[i].name, n_top, n_row);
            bool plain = o.sampling.temperature > 0 && !o.sampling.top_k && o.sampling.top_p == 0 &&
                         o.sampling.min_p == 0;
            assert_int_equal(n_top, plain ? 0 : a.g.tokens.n - 1);
            if (cases[i].most_rows >= 0) assert_in_range(n_row, 1, cases[i].most_rows);
            n_healed += a.g.tokens.n - a.g.n_generated;
            end_answer(&a);
            end_answer(&b);
        }
    assert_true(n_healed >= 8); /* so masks come after the first token as well */
}

/* Ghost text comes between two tokens of a conversation: the row of the one is gone then, but no
 * token is chosen so late. */
static void answers_that_take_turns_are_as_they_would_be_alone(void **state) {
    (void)state;
    const gm_gen_opts o[2] = {{.sampling = {.temperature = 1, .top_k = 1000, .seed = 4}},
                              {.sampling = {.temperature = 1, .top_k = 40, .seed = 5}}};
    static const char *const prompts[2] = {"x = ", "foo(ba"};
    answer alone[2], turn[2];
    choose_by(false);
    for (int i = 0; i < 2; i++) begin_answer(&alone[i], prompts[i], o[i]);
    for (int i = 0; i < 2; i++)
        while (step_answer(&alone[i])) continue;
    choose_by(true);
    for (int i = 0; i < 2; i++) begin_answer(&turn[i], prompts[i], o[i]);
    for (bool more[2] = {true, true}; more[0] || more[1];)
        for (int i = 0; i < 2; i++)
            if (more[i]) more[i] = step_answer(&turn[i]) == 1;
    for (int i = 0; i < 2; i++) {
        same_answers(prompts[i], &turn[i], &alone[i]);
        end_answer(&turn[i]);
        end_answer(&alone[i]);
    }
}

/* ---- sessions ---- */

static void sync_to(gm_session *s, const gm_prompt *p, size_t *reused) {
    assert_int_equal(gm_session_begin(s, p, reused, err, sizeof err), GM_OK);
    while (gm_session_step(s, 0) > 0) continue;
}

static void the_row_can_be_fetched_until_something_else_is_computed(void **state) {
    (void)state;
    static float row[N_VOCAB];
    gm_session *s[2];
    const int32_t ids[] = {2, 30, 40, 50, 60};
    const gm_prompt p = {.ids = ids, .n = 4}, longer = {.ids = ids, .n = 5};
    size_t reused;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gm_session_create(&s[i], engine, err, sizeof err), GM_OK);
        sync_to(s[i], &p, &reused);
    }
    choose_by(true);
    assert_int_equal(gm_session_append(s[1], ids[4]), GM_OK);
    assert_int_equal(n_top, 0);
    assert_null(gm_session_top(s[1]));
    memcpy(row, gm_session_logits(s[1]), sizeof row);
    uint64_t before = gm_noalloc_violations();
    gm_noalloc_begin();
    assert_int_equal(gm_session_append_top(s[0], ids[4]), GM_OK);
    const gm_top *t = gm_session_top(s[0]);
    assert_non_null(t);
    assert_int_equal(t->n_row, N_VOCAB);
    assert_in_range(t->n, 200, GM_TOP_ROOM);
    assert_null(gm_session_logits(s[0]));
    assert_int_equal(gm_session_fetch(s[0]), GM_OK);
    gm_noalloc_end();
    assert_true(gm_noalloc_violations() == before);
    assert_memory_equal(gm_session_logits(s[0]), row, sizeof row);
    for (int32_t i = 0; i < t->n; i++) assert_true(t->entry[i].logit == row[t->entry[i].id]);

    /* The cache is cut back: nothing is known after its last position. */
    assert_int_equal(gm_session_rewind(s[0], 4), 4);
    assert_null(gm_session_top(s[0]));
    assert_null(gm_session_logits(s[0]));
    /* Another session computes in between. */
    assert_int_equal(gm_session_append_top(s[0], ids[4]), GM_OK);
    assert_int_equal(gm_session_append(s[1], ids[1]), GM_OK);
    assert_int_equal(gm_session_fetch(s[0]), GM_EINVAL);
    assert_null(gm_session_logits(s[0]));
    /* The same prompt later: its last position is computed again, whole. */
    sync_to(s[0], &longer, &reused);
    assert_int_equal(reused, 4);
    assert_memory_equal(gm_session_logits(s[0]), row, sizeof row);
    for (int i = 0; i < 2; i++) gm_session_destroy(&s[i]);
}

static int run_on(const char *name) {
    device = name;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_logits_give_the_answers_of_whole_rows),
        cmocka_unit_test(answers_that_take_turns_are_as_they_would_be_alone),
        cmocka_unit_test(the_row_can_be_fetched_until_something_else_is_computed),
    };
    return cmocka_run_group_tests_name(name, tests, open_engine, close_engine);
}

int main(void) {
    gm_log_set_sink(driver_hear, NULL);
    const char *only = getenv("TOP_DEVICE");
    const bool there = driver_there(err, sizeof err);
    if (!there) printf("%s: %s\n", only ? "skip" : "without Vulkan", err);
    if (!there && only) return 77;
    int failed = only ? 0 : run_on("cpu");
    if (there) failed += run_on(only ? only : "vulkan");
    return failed || driver_messages();
}
