/* Decoding: whole characters only, nothing lost, nothing invented. */
#include "tokenizer/detok.h"

#include "base/err.h"
#include "base/mem.h"
#include "make_vocab.h"
#include "tokenizer/encode.h"

#define FFFD "\xEF\xBF\xBD"

/* Strict check, written apart from the code under test. */
static bool is_utf8(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        unsigned char b = p[i++];
        unsigned more = b < 0x80 ? 0 : b >= 0xC2 && b <= 0xDF ? 1 : (b & 0xF0) == 0xE0 ? 2 : 3;
        if ((b >= 0x80 && b < 0xC2) || b > 0xF4 || n - i < more) return false;
        for (unsigned k = 0; k < more; k++, i++) {
            unsigned lo = 0x80, hi = 0xBF;
            if (k == 0 && b == 0xE0) lo = 0xA0;
            if (k == 0 && b == 0xED) hi = 0x9F;
            if (k == 0 && b == 0xF0) lo = 0x90;
            if (k == 0 && b == 0xF4) hi = 0x8F;
            if (p[i] < lo || p[i] > hi) return false;
        }
    }
    return true;
}

static void assert_text(const gm_bytes *got, const char *want) {
    if (got->n != strlen(want) || (got->n && memcmp(got->p, want, got->n) != 0)) {
        fail_msg("got \"%.*s\", expected \"%s\"", (int)got->n, got->n ? got->p : "", want);
    }
}

/* Pushes byte tokens and flushes. */
static void assert_bytes_become(const gm_vocab *v, const char *bytes, const char *want) {
    gm_detok d;
    gm_bytes out = {0};
    gm_detok_init(&d, v, false);
    for (; *bytes; bytes++) {
        assert_int_equal(gm_detok_push(&d, TINY_BYTE + (unsigned char)*bytes, &out), 0);
        assert_true(is_utf8(out.p, out.n));
    }
    assert_int_equal(gm_detok_flush(&d, &out), 0);
    assert_text(&out, want);
    gm_bytes_finish(&out);
}

static void detok_waits_for_the_rest_of_a_character(void **state) {
    (void)state;
    test_vocab t;
    gm_detok d;
    gm_bytes out = {0};
    open_tiny_vocab(&t);
    gm_detok_init(&d, t.v, false);
    static const unsigned char smile[] = {0xF0, 0x9F, 0x99, 0x82};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gm_detok_push(&d, TINY_BYTE + smile[i], &out), 0);
        assert_int_equal(out.n, 0);
    }
    assert_int_equal(gm_detok_push(&d, TINY_BYTE + smile[3], &out), 0);
    assert_text(&out, "\xF0\x9F\x99\x82");
    assert_int_equal(gm_detok_flush(&d, &out), 0);
    assert_text(&out, "\xF0\x9F\x99\x82");
    gm_bytes_finish(&out);
    close_vocab(&t);
}

static void detok_replaces_what_can_be_no_character(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    assert_bytes_become(t.v, "\x80", FFFD);
    assert_bytes_become(t.v, "\xC3", FFFD);
    assert_bytes_become(t.v, "\xC3(", FFFD "(");
    assert_bytes_become(t.v, "\xE2\x96\xE2\x96\x82", FFFD "\xE2\x96\x82");
    assert_bytes_become(t.v, "\xC0\xAF", FFFD FFFD);
    assert_bytes_become(t.v, "\xE0\x80\xAF", FFFD FFFD FFFD);
    assert_bytes_become(t.v, "\xED\xA0\x80", FFFD FFFD FFFD);
    assert_bytes_become(t.v, "\xF4\x90\x80\x80", FFFD FFFD FFFD FFFD);
    assert_bytes_become(t.v,
                        "\xF0\x9F\x99"
                        "x",
                        FFFD "x");
    assert_bytes_become(t.v, "\xFF", FFFD);
    close_vocab(&t);
}

static void detok_shows_control_tokens_only_when_asked(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    int32_t hello = gm_vocab_find(t.v, str("hello")),
            channel = gm_vocab_find(t.v, str("<|channel>"));
    int32_t ids[] = {TINY_BOS, hello, channel, TINY_TURN_END, -5, 100000};
    for (int control = 0; control < 2; control++) {
        gm_detok d;
        gm_bytes out = {0}, raw = {0};
        gm_detok_init(&d, t.v, control);
        for (size_t i = 0; i < 6; i++) assert_int_equal(gm_detok_push(&d, ids[i], &out), 0);
        assert_int_equal(gm_detok_raw(t.v, ids, 6, control, &raw), 0);
        const char *want = control ? "<bos>hello<|channel><turn|>" : "hello<|channel>";
        assert_text(&out, want);
        assert_text(&raw, want);
        gm_bytes_finish(&out);
        gm_bytes_finish(&raw);
    }
    close_vocab(&t);
}

/* A token that is not shown does not break up the character around it. */
static void detok_goes_on_with_a_character_after_a_hidden_token(void **state) {
    (void)state;
    test_vocab t;
    gm_detok d;
    gm_bytes out = {0};
    open_tiny_vocab(&t);
    gm_detok_init(&d, t.v, false);
    int32_t ids[] = {TINY_BYTE + 0xC3, TINY_TURN_END, TINY_BYTE + 0xA9};
    for (int i = 0; i < 3; i++) assert_int_equal(gm_detok_push(&d, ids[i], &out), 0);
    assert_text(&out, "\xC3\xA9");
    gm_bytes_finish(&out);
    close_vocab(&t);
}

static void detok_gives_valid_utf8_for_any_ids(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    test_rng rng = {1};
    for (int round = 0; round < 200; round++) {
        gm_detok d;
        gm_bytes out = {0};
        gm_detok_init(&d, t.v, round & 1);
        for (int i = 0; i < 200; i++) {
            bool byte = rng_below(&rng, 3) > 0;
            int32_t id = byte ? TINY_BYTE + 0x80 + (int32_t)rng_below(&rng, 128)
                              : (int32_t)rng_below(&rng, 620) - 10;
            assert_int_equal(gm_detok_push(&d, id, &out), 0);
            assert_true(is_utf8(out.p, out.n));
        }
        assert_int_equal(gm_detok_flush(&d, &out), 0);
        assert_true(is_utf8(out.p, out.n));
        gm_bytes_finish(&out);
    }
    close_vocab(&t);
}

static void detok_stream_equals_the_text_that_was_encoded(void **state) {
    (void)state;
    static const char text[] = "Gr\xC3\xBC\xC3\x9F"
                               "e \xE4\xB8\x96\xE7\x95\x8C \xF0\x9F\x99\x82  return hello\n\tend";
    test_vocab t;
    gm_ids ids = {0};
    gm_detok d;
    gm_bytes out = {0};
    open_tiny_vocab(&t);
    assert_int_equal(gm_encode(t.v, text, sizeof text - 1, 0, NULL, &ids), 0);
    gm_detok_init(&d, t.v, false);
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(gm_detok_push(&d, ids.v[i], &out), 0);
        assert_true(is_utf8(out.p, out.n));
    }
    assert_text(&out, text);
    gm_ids_finish(&ids);
    gm_bytes_finish(&out);
    close_vocab(&t);
}

/* No published token is longer than 93 bytes, but a file can say anything. */
static void detok_takes_tokens_of_any_length(void **state) {
    (void)state;
    enum { LONG = 5000 };
    char *text = malloc(LONG + 1);
    assert_non_null(text);
    memset(text, 'x', LONG);
    text[LONG] = 0;
    memcpy(text + 100, SP, 3);
    gguf_writer w;
    test_vocab t;
    gm_detok d;
    gm_bytes out = {0};
    begin_vocab(&w, (const tok[]){{text, GM_TOK_NORMAL}}, 1);
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    gm_detok_init(&d, t.v, false);
    assert_int_equal(gm_detok_push(&d, 0, &out), 0);
    assert_int_equal(out.n, LONG - 2);
    assert_int_equal(out.p[100], ' ');
    gm_bytes_finish(&out);
    free(text);
    close_vocab(&t);
}

static void detok_reports_lack_of_memory_and_loses_nothing(void **state) {
    (void)state;
    test_vocab t;
    gm_detok d;
    gm_bytes out = {0};
    open_tiny_vocab(&t);
    gm_detok_init(&d, t.v, false);
    assert_int_equal(gm_detok_push(&d, TINY_BYTE + 0xC3, &out), 0);
    gm_bytes_finish(&out);
    gm_mem_fail_at(1);
    assert_int_equal(gm_detok_push(&d, TINY_BYTE + 0xA9, &out), GM_ENOMEM);
    assert_int_equal(out.n, 0);
    assert_int_equal(gm_detok_push(&d, TINY_BYTE + 0xA9, &out), 0);
    assert_text(&out, "\xC3\xA9");
    gm_bytes_finish(&out);
    int32_t id = TINY_NEWLINE;
    gm_mem_fail_at(1);
    assert_int_equal(gm_detok_raw(t.v, &id, 1, false, &out), GM_ENOMEM);
    gm_mem_fail_at(0);
    gm_bytes_finish(&out);
    close_vocab(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detok_waits_for_the_rest_of_a_character),
        cmocka_unit_test(detok_replaces_what_can_be_no_character),
        cmocka_unit_test(detok_shows_control_tokens_only_when_asked),
        cmocka_unit_test(detok_goes_on_with_a_character_after_a_hidden_token),
        cmocka_unit_test(detok_gives_valid_utf8_for_any_ids),
        cmocka_unit_test(detok_stream_equals_the_text_that_was_encoded),
        cmocka_unit_test(detok_takes_tokens_of_any_length),
        cmocka_unit_test(detok_reports_lack_of_memory_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
