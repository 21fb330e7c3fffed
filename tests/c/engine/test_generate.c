/* test_generate.c: token healing, and answers as machines of steps.
 *
 * Healing is checked against the plain definition over the whole vocabulary: a token may come when
 * its bytes begin with what is forced, or the other way round.
 */
#include "helper/cm.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/generate.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "tokenizer/encode.h"

static test_tmp tmp;
static gm_cancel cancel;
static gm_engine *engine;
static gm_heal_index *index_;
static char err[256];

static int open_engine(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    if (!tiny_model_write(tmp_path(&tmp, "tiny.gguf"), &(tiny_opts){.seed = 3})) return -1;
    gm_engine_opts o = {
        .model_path = tmp.path, .n_ctx = 300, .n_threads = 1, .kv_type = -1, .cancel = &cancel};
    if (gm_engine_open(&engine, &o, err, sizeof err) != GM_OK) return -1;
    return gm_heal_index_create(&index_, engine->vocab);
}

static int close_engine(void **state) {
    (void)state;
    gm_heal_index_destroy(&index_);
    gm_engine_close(&engine);
    tmp_end(&tmp);
    return 0;
}

static gm_str str(const char *s) { return (gm_str){s, strlen(s)}; }

static gm_ids encode(const char *text, unsigned flags) {
    gm_ids ids = {0};
    assert_int_equal(gm_encode(engine->vocab, text, strlen(text), flags, NULL, &ids), GM_OK);
    return ids;
}

/* ---- healing ---- */

static bool agrees(int32_t id, const char *forced, size_t n) {
    char b[512];
    size_t len = gm_vocab_bytes(engine->vocab, id, false, b, sizeof b);
    return gm_vocab_type(engine->vocab, id) == GM_TOK_NORMAL && len > 0 &&
           memcmp(b, forced, len < n ? len : n) == 0;
}

static void check_mask(gm_heal *h) {
    const uint32_t *mask = gm_heal_mask(h);
    const char *p = h->forced.p + h->used;
    size_t n = h->forced.n - h->used;
    assert_non_null(mask);
    int n_normal = 0, n_byte = 0;
    for (int32_t id = 0; id < gm_vocab_size(engine->vocab); id++) {
        bool allowed = mask[id / 32] >> (id % 32) & 1;
        if (agrees(id, p, n)) {
            assert_true(allowed);
            n_normal++;
        } else if (allowed) {
            assert_int_equal(id, TINY_BYTE + (unsigned char)*p);
            n_byte++;
        }
    }
    assert_int_equal(n_byte, n_normal == 0);
}

static void the_mask_allows_exactly_what_agrees(void **state) {
    (void)state;
    static const char *const tails[] = {"local function retur", "x = ",      "  \n", "a",
                                        "\xC3\xA4\xC3\xB6",     "foo.bar_b", "\t",   "(((",
                                        "\xF0\x9F\x99\x82"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        gm_ids ids = encode(tails[i], GM_ENC_BOS);
        size_t n = ids.n;
        gm_heal h;
        assert_int_equal(gm_heal_init(&h, index_, ids.v, &n, str(tails[i])), GM_OK);
        assert_true(n < ids.n && n >= 1);
        /* Walk along the original tokens: a path that always exists. */
        for (size_t t = n; t < ids.n; t++) {
            check_mask(&h);
            assert_true(gm_heal_active(&h));
            gm_heal_accept(&h, ids.v[t]);
        }
        assert_false(gm_heal_active(&h));
        assert_null(gm_heal_mask(&h));
        gm_heal_finish(&h);
        gm_ids_finish(&ids);
    }
}

static size_t taken_back(const char *prompt, unsigned flags, const char *tail, char *forced) {
    gm_ids ids = encode(prompt, flags);
    size_t n = ids.n;
    gm_heal h;
    assert_int_equal(gm_heal_init(&h, index_, ids.v, &n, str(tail)), GM_OK);
    memcpy(forced, h.forced.p ? h.forced.p : "", h.forced.n);
    forced[h.forced.n] = '\0';
    size_t taken = ids.n - n;
    gm_heal_finish(&h);
    gm_ids_finish(&ids);
    return taken;
}

static void healing_goes_back_to_where_a_word_begins(void **state) {
    (void)state;
    char forced[512];
    /* Which tokens the tiny vocabulary has is not the point: the forced text must be the word. */
    assert_true(taken_back("x = zqj", GM_ENC_BOS, "x = zqj", forced) >= 1);
    assert_true(strcmp(forced, "zqj") == 0 || strcmp(forced, " zqj") == 0);
    assert_true(taken_back("a.b", GM_ENC_BOS, "a.b", forced) == 1);
    assert_string_equal(forced, "b");
}

static void healing_never_takes_markup_or_what_lies_before_the_tail(void **state) {
    (void)state;
    char forced[512];
    /* The prompt ends with a control token: nothing of it is the user's text. */
    assert_int_equal(taken_back("hello<turn|>", GM_ENC_SPECIAL, "hello<turn|>", forced), 0);
    /* Only "c" was typed; the letters before it are another part. */
    assert_int_equal(taken_back("zqjc", GM_ENC_BOS, "c", forced), 1);
    assert_string_equal(forced, "c");
    assert_int_equal(taken_back("zqjc", GM_ENC_BOS, "", forced), 0);
    assert_int_equal(taken_back("zqjc", GM_ENC_BOS, "other", forced), 0);
    /* At least one token stays in front. */
    assert_int_equal(taken_back("c", 0, "c", forced), 0);
    /* A long run of word characters: a few tokens, not all of it. */
    assert_in_range(taken_back("zqjzqjzqjzqjzqjzqj", 0, "zqjzqjzqjzqjzqjzqj", forced), 1, 4);
}

/* Bytes that are no UTF-8 come out of the detokeniser as something longer, so their number could
 * not be taken off the text. */
static void invalid_utf8_is_not_healed(void **state) {
    (void)state;
    char forced[512];
    assert_int_equal(taken_back("ab \xFF", GM_ENC_BOS, "ab \xFF", forced), 0);
    assert_int_equal(taken_back("ab \xC3", GM_ENC_BOS, "ab \xC3", forced), 0);
}

/* ---- answers ---- */

static gm_session *new_session(void) {
    gm_session *s;
    assert_int_equal(gm_session_create(&s, engine, err, sizeof err), GM_OK);
    return s;
}

typedef struct {
    gm_bytes text;
    gm_ids tokens;
    uint32_t n_generated;
    gm_stop_reason reason;
} answer;

static answer finish_answer(gm_gen *g) {
    answer a = {0};
    int more = 1;
    while (more == 1) {
        more = gm_gen_step(g, 0);
        assert_int_equal(gm_bytes_append(&a.text, g->text.p, g->text.n), GM_OK);
    }
    assert_int_equal(more, 0);
    assert_int_equal(gm_gen_step(g, 0), 0); /* done stays done */
    assert_int_equal(gm_ids_append(&a.tokens, g->tokens.v, g->tokens.n), GM_OK);
    a.n_generated = g->n_generated;
    a.reason = g->stop_reason;
    return a;
}

static answer ask(gm_session *s, const char *prompt, const gm_gen_opts *o) {
    gm_ids ids = encode(prompt, GM_ENC_BOS);
    gm_gen g;
    gm_prompt p = {.ids = ids.v, .n = ids.n};
    if (gm_gen_init(&g, s, engine->vocab, &p, o, err, sizeof err) != GM_OK) fail_msg("%s", err);
    answer a = finish_answer(&g);
    gm_gen_finish(&g);
    gm_ids_finish(&ids);
    return a;
}

static void free_answer(answer *a) {
    gm_bytes_finish(&a->text);
    gm_ids_finish(&a->tokens);
}

static void an_answer_ends_at_its_length(void **state) {
    (void)state;
    gm_session *s = new_session();
    gm_gen_opts o = {.max_tokens = 20, .ignore_eog = true};
    answer a = ask(s, "hello", &o), b = ask(s, "hello", &o);
    assert_int_equal(a.n_generated, 20);
    assert_int_equal(a.tokens.n, 20);
    assert_int_equal(a.reason, GM_STOP_LENGTH);
    assert_int_equal(b.text.n, a.text.n);
    assert_memory_equal(a.text.p, b.text.p, a.text.n);
    free_answer(&a);
    free_answer(&b);
    o.max_tokens = 0; /* only warms the cache */
    a = ask(s, "hello and more", &o);
    assert_int_equal(a.reason, GM_STOP_NONE);
    assert_int_equal(a.n_generated, 0);
    free_answer(&a);
    gm_session_destroy(&s);
}

static void an_answer_ends_with_the_context(void **state) {
    (void)state;
    gm_session *s = new_session();
    answer a = ask(s, "hello", &(gm_gen_opts){.max_tokens = 5000, .ignore_eog = true});
    assert_int_equal(a.reason, GM_STOP_CONTEXT);
    assert_int_equal(gm_session_len(s), 300);
    free_answer(&a);
    gm_session_destroy(&s);
}

static void an_end_token_ends_the_answer_unless_ignored(void **state) {
    (void)state;
    gm_session *s = new_session();
    int seen = 0;
    for (uint64_t seed = 0; seed < 20 && !seen; seed++) {
        gm_gen_opts o = {.max_tokens = 250, .sampling = {.temperature = 30, .seed = seed}};
        answer a = ask(s, "hello", &o);
        if (a.reason == GM_STOP_EOG) {
            seen++;
            for (size_t i = 0; i < a.tokens.n; i++)
                assert_false(gm_vocab_is_eog(engine->vocab, a.tokens.v[i]));
            o.ignore_eog = true;
            answer b = ask(s, "hello", &o);
            assert_true(b.tokens.n > a.tokens.n);
            assert_true(gm_vocab_is_eog(engine->vocab, b.tokens.v[a.tokens.n]));
            free_answer(&b);
        }
        free_answer(&a);
    }
    assert_true(seen);
    gm_session_destroy(&s);
}

static void a_stop_string_cuts_the_text_wherever_it_falls(void **state) {
    (void)state;
    gm_session *s = new_session();
    answer all = ask(s, "hello", &(gm_gen_opts){.max_tokens = 40, .ignore_eog = true});
    assert_true(all.text.n > 20);
    for (size_t at = 1; at + 4 < all.text.n && at < 20; at++) {
        if (((unsigned char)all.text.p[at] & 0xC0) == 0x80) continue;
        gm_str stop = {all.text.p + at, 4};
        const char *first = memmem(all.text.p, all.text.n, stop.p, stop.n);
        answer a =
            ask(s, "hello",
                &(gm_gen_opts){.max_tokens = 40, .ignore_eog = true, .stops = &stop, .n_stop = 1});
        assert_int_equal(a.reason, GM_STOP_STRING);
        assert_int_equal(a.text.n, first - all.text.p);
        assert_memory_equal(a.text.p, all.text.p, a.text.n);
        free_answer(&a);
    }
    free_answer(&all);
    gm_session_destroy(&s);
}

/* The tokens are the same with and without; what comes out is the plain text without its marks. */
static void thoughts_come_apart_from_the_answer(void **state) {
    (void)state;
    int both = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        gm_session *s = new_session();
        gm_gen_opts o = {
            .max_tokens = 200, .ignore_eog = true, .sampling = {.temperature = 30, .seed = seed}};
        /* Left open in a thought, whose end is somewhere in a long random answer, or nowhere. */
        const char *prompt = "<|turn>model\n<|channel>thought\n";
        gm_ids ids = encode(prompt, GM_ENC_SPECIAL);
        gm_prompt p = {.ids = ids.v, .n = ids.n};
        gm_gen g;
        assert_int_equal(gm_gen_init(&g, s, engine->vocab, &p, &o, err, sizeof err), GM_OK);
        answer plain = finish_answer(&g);
        gm_gen_finish(&g);
        o.thoughts = true;
        assert_int_equal(gm_gen_init(&g, s, engine->vocab, &p, &o, err, sizeof err), GM_OK);
        gm_bytes thought = {0}, text = {0};
        for (int more = 1; more == 1;) {
            more = gm_gen_step(&g, 0);
            assert_true(more >= 0);
            assert_int_equal(gm_bytes_append(&thought, g.thought.p, g.thought.n), GM_OK);
            assert_int_equal(gm_bytes_append(&text, g.text.p, g.text.n), GM_OK);
        }
        assert_int_equal(g.tokens.n, plain.tokens.n);
        assert_memory_equal(g.tokens.v, plain.tokens.v, plain.tokens.n * sizeof *plain.tokens.v);
        assert_int_equal(g.n_generated, plain.n_generated);
        /* Up to the first mark all is thought; a random model seldom writes a second one. */
        const char *mark = memmem(plain.text.p, plain.text.n, "<channel|>", 10);
        const char *other = memmem(plain.text.p, plain.text.n, "<|channel>", 10);
        if (!other && mark) {
            size_t n = (size_t)(mark - plain.text.p), rest = plain.text.n - n - 10;
            bool once = !memmem(mark + 10, rest, "<channel|>", 10);
            assert_int_equal(thought.n, n);
            assert_memory_equal(thought.p, plain.text.p, n);
            if (once) assert_int_equal(text.n, rest);
            if (once) assert_memory_equal(text.p, mark + 10, rest);
            both += once && n > 0 && rest > 0;
        } else if (!other) {
            assert_int_equal(text.n, 0);
            assert_int_equal(thought.n, plain.text.n);
        }
        gm_bytes_finish(&thought);
        gm_bytes_finish(&text);
        free_answer(&plain);
        gm_gen_finish(&g);
        gm_ids_finish(&ids);
        gm_session_destroy(&s);
    }
    assert_true(both >= 3);
}

/* Whatever is sampled, what was typed plus what comes out begins with what was typed: the tokens
 * of the whole text spell prompt and answer. */
static void a_healed_answer_continues_the_typed_text(void **state) {
    (void)state;
    static const char *const prompts[] = {"local function zq", "x = ", "foo(ba",
                                          "\xC3\xA4\xC3\xB6"};
    for (size_t i = 0; i < 4; i++)
        for (uint64_t seed = 0; seed < 8; seed++) {
            gm_session *s = new_session();
            gm_ids ids = encode(prompts[i], GM_ENC_BOS), whole = {0};
            gm_prompt p = {.ids = ids.v, .n = ids.n};
            gm_gen_opts o = {.max_tokens = 12,
                             .ignore_eog = true,
                             .heal = index_,
                             .tail = str(prompts[i]),
                             .sampling = {.temperature = 2, .seed = seed}};
            gm_gen g;
            assert_int_equal(gm_gen_init(&g, s, engine->vocab, &p, &o, err, sizeof err), GM_OK);
            assert_true(g.n_prompt < ids.n);
            answer a = finish_answer(&g);
            /* kept prompt + sampled tokens, detokenised, against typed + shown */
            assert_int_equal(gm_ids_append(&whole, ids.v, g.n_prompt), GM_OK);
            assert_int_equal(gm_ids_append(&whole, a.tokens.v, a.tokens.n), GM_OK);
            gm_detok d;
            gm_bytes got = {0};
            gm_detok_init(&d, engine->vocab, false);
            for (size_t t = 0; t < whole.n; t++) gm_detok_push(&d, whole.v[t], &got);
            gm_detok_flush(&d, &got);
            size_t typed = strlen(prompts[i]);
            assert_int_equal(got.n, typed + a.text.n);
            assert_memory_equal(got.p, prompts[i], typed);
            assert_memory_equal(got.p + typed, a.text.p ? a.text.p : "", a.text.n);
            assert_int_equal(a.n_generated, 12);
            gm_bytes_finish(&got);
            gm_ids_finish(&whole);
            gm_ids_finish(&ids);
            free_answer(&a);
            gm_gen_finish(&g);
            gm_session_destroy(&s);
        }
}

/* A warmed prompt is cut where healing will cut it, so that the answer's first token waits for no
 * forward pass. */
static void a_prompt_warmed_with_healing_is_ready_for_the_answer(void **state) {
    (void)state;
    gm_session *s = new_session();
    gm_gen_opts o = {.heal = index_, .tail = str("local function zq"), .ignore_eog = true};
    answer warm = ask(s, "local function zq", &o);
    assert_int_equal(warm.n_generated, 0);
    free_answer(&warm);
    gm_ids ids = encode("local function zq", GM_ENC_BOS);
    gm_prompt p = {.ids = ids.v, .n = ids.n};
    o.max_tokens = 4;
    gm_gen g;
    assert_int_equal(gm_gen_init(&g, s, engine->vocab, &p, &o, err, sizeof err), GM_OK);
    assert_true(g.n_prompt < ids.n);
    assert_int_equal(g.n_left, 0);
    assert_int_equal(g.n_reused, g.n_prompt);
    answer a = finish_answer(&g);
    assert_int_equal(a.n_generated, 4);
    free_answer(&a);
    gm_gen_finish(&g);
    gm_ids_finish(&ids);
    gm_session_destroy(&s);
}

static void an_interrupted_answer_goes_on_as_if_nothing_had_happened(void **state) {
    (void)state;
    gm_session *s = new_session();
    gm_gen_opts o = {.max_tokens = 30, .ignore_eog = true, .sampling = {.temperature = 1}};
    answer want = ask(s, "hello, world", &o);
    gm_session *t = new_session();
    gm_ids ids = encode("hello, world", GM_ENC_BOS);
    gm_gen g;
    gm_prompt p = {.ids = ids.v, .n = ids.n};
    assert_int_equal(gm_gen_init(&g, t, engine->vocab, &p, &o, err, sizeof err), GM_OK);
    gm_bytes got = {0};
    int more = 1, cancelled = 0;
    for (int i = 0; more != 0; i++) {
        atomic_store(&cancel.set, i % 2 == 0);
        more = gm_gen_step(&g, 3);
        assert_true(more >= 0 || more == GM_ECANCELLED);
        cancelled += more < 0;
        assert_int_equal(gm_bytes_append(&got, g.text.p, g.text.n), GM_OK);
    }
    atomic_store(&cancel.set, false);
    assert_true(cancelled > 10);
    assert_int_equal(got.n, want.text.n);
    assert_memory_equal(got.p, want.text.p, got.n);
    gm_bytes_finish(&got);
    gm_ids_finish(&ids);
    gm_gen_finish(&g);
    free_answer(&want);
    gm_session_destroy(&s);
    gm_session_destroy(&t);
}

static void every_failed_allocation_is_an_error_and_no_leak(void **state) {
    (void)state;
    gm_session *s = new_session();
    gm_ids ids = encode("hello wo", GM_ENC_BOS);
    gm_prompt p = {.ids = ids.v, .n = ids.n};
    gm_str stop = str("\n\n");
    gm_gen_opts o = {.max_tokens = 3,
                     .ignore_eog = true,
                     .heal = index_,
                     .tail = str("hello wo"),
                     .stops = &stop,
                     .n_stop = 1};
    int failed = 0, rc = GM_ENOMEM;
    for (uint64_t n = 1; n < 100 && rc != 0; n++) {
        gm_gen g;
        gm_mem_fail_at(n);
        rc = gm_gen_init(&g, s, engine->vocab, &p, &o, err, sizeof err);
        if (rc == GM_OK) {
            while ((rc = gm_gen_step(&g, 0)) == 1) {
            }
            gm_gen_finish(&g);
        }
        gm_mem_fail_at(0);
        if (rc < 0) assert_int_equal(rc, GM_ENOMEM);
        failed += rc < 0;
    }
    assert_int_equal(rc, 0);
    assert_true(failed > 5);
    gm_ids_finish(&ids);
    gm_session_destroy(&s);
    gm_heal_index *x;
    for (uint64_t n = 1; n < 6; n++) {
        gm_mem_fail_at(n);
        assert_int_equal(gm_heal_index_create(&x, engine->vocab), GM_ENOMEM);
        assert_null(x);
    }
    gm_mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mask_allows_exactly_what_agrees),
        cmocka_unit_test(healing_goes_back_to_where_a_word_begins),
        cmocka_unit_test(healing_never_takes_markup_or_what_lies_before_the_tail),
        cmocka_unit_test(invalid_utf8_is_not_healed),
        cmocka_unit_test(an_answer_ends_at_its_length),
        cmocka_unit_test(an_answer_ends_with_the_context),
        cmocka_unit_test(an_end_token_ends_the_answer_unless_ignored),
        cmocka_unit_test(a_stop_string_cuts_the_text_wherever_it_falls),
        cmocka_unit_test(thoughts_come_apart_from_the_answer),
        cmocka_unit_test(a_healed_answer_continues_the_typed_text),
        cmocka_unit_test(a_prompt_warmed_with_healing_is_ready_for_the_answer),
        cmocka_unit_test(an_interrupted_answer_goes_on_as_if_nothing_had_happened),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_no_leak),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
