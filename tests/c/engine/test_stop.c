/* test_stop.c: stop strings over a stream that arrives in pieces. */
#include "helper/cm.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/stop.h"

static gm_str str(const char *s) { return (gm_str){s, strlen(s)}; }

static void push(gm_stop *s, const char *piece, gm_bytes *out) {
    assert_int_equal(gm_stop_push(s, piece, strlen(piece), out), GM_OK);
}

static void expect(const gm_bytes *got, const char *want) {
    assert_int_equal(got->n, strlen(want));
    if (got->n) assert_memory_equal(got->p, want, got->n);
}

static void what_could_become_a_stop_string_is_held_back(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    assert_int_equal(gm_stop_init(&s, (gm_str[]){str("\n\n"), str("END")}, 2, 0), GM_OK);
    push(&s, "one\n", &out);
    expect(&out, "one");
    push(&s, "two E", &out);
    expect(&out, "one\ntwo ");
    push(&s, "N", &out);
    expect(&out, "one\ntwo ");
    push(&s, "O", &out);
    expect(&out, "one\ntwo ENO");
    push(&s, "EN", &out);
    push(&s, "D and more", &out);
    expect(&out, "one\ntwo ENO");
    assert_true(s.hit);
    push(&s, "never seen", &out);
    assert_int_equal(gm_stop_flush(&s, &out), GM_OK);
    expect(&out, "one\ntwo ENO");
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

static void the_earliest_stop_wins_and_overlaps_are_found(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    assert_int_equal(gm_stop_init(&s, (gm_str[]){str("bcd"), str("aab"), str("")}, 3, 0), GM_OK);
    push(&s, "xaa", &out);
    push(&s, "a", &out); /* "aaa": the last two may still begin "aab" */
    expect(&out, "xa");
    push(&s, "bcd", &out);
    expect(&out, "xa");
    assert_true(s.hit);
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

static void flush_gives_out_what_was_held(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    assert_int_equal(gm_stop_init(&s, (gm_str[]){str("stop")}, 1, 0), GM_OK);
    push(&s, "sto", &out);
    expect(&out, "");
    assert_int_equal(gm_stop_flush(&s, &out), GM_OK);
    expect(&out, "sto");
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

static void skipped_bytes_are_dropped_first_and_never_match(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    assert_int_equal(gm_stop_init(&s, (gm_str[]){str("ret")}, 1, 5), GM_OK);
    push(&s, "re", &out);
    push(&s, "turn x", &out);
    expect(&out, "n x");
    assert_false(s.hit);
    gm_stop_finish(&s);
    /* without stop strings as well */
    out.n = 0;
    assert_int_equal(gm_stop_init(&s, NULL, 0, 3), GM_OK);
    push(&s, "abcd", &out);
    push(&s, "e", &out);
    expect(&out, "de");
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

/* A stop string may begin inside a character; nobody may see half of one. */
static void a_character_is_never_cut(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    assert_int_equal(gm_stop_init(&s, (gm_str[]){{"\xA4!", 2}}, 1, 0), GM_OK);
    push(&s, "a\xC3\xA4", &out);
    expect(&out, "a");
    push(&s, "?", &out);
    expect(&out, "a\xC3\xA4?");
    push(&s, "\xC3\xA4!", &out);
    expect(&out, "a\xC3\xA4?");
    assert_true(s.hit);
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

/* Whatever the pieces, the same text comes out. */
static void pieces_do_not_matter(void **state) {
    (void)state;
    const char *text = "aababcabcdabcdeabcdef";
    for (size_t len = 1; len <= strlen(text); len++) {
        gm_stop s;
        gm_bytes out = {0};
        assert_int_equal(gm_stop_init(&s, (gm_str[]){str("abcde"), str("abd")}, 2, 0), GM_OK);
        for (size_t at = 0; at < strlen(text); at += len) {
            size_t n = strlen(text) - at < len ? strlen(text) - at : len;
            assert_int_equal(gm_stop_push(&s, text + at, n, &out), GM_OK);
        }
        assert_true(s.hit);
        expect(&out, "aababcabcd");
        gm_stop_finish(&s);
        gm_bytes_finish(&out);
    }
}

static void a_failed_allocation_is_an_error(void **state) {
    (void)state;
    gm_stop s;
    gm_bytes out = {0};
    for (uint64_t n = 1; n <= 2; n++) {
        gm_mem_fail_at(n);
        assert_int_equal(gm_stop_init(&s, (gm_str[]){str("x")}, 1, 0), GM_ENOMEM);
    }
    gm_mem_fail_at(0);
    assert_int_equal(gm_stop_init(&s, (gm_str[]){str("xy")}, 1, 0), GM_OK);
    gm_mem_fail_at(1);
    assert_int_equal(gm_stop_push(&s, "abc", 3, &out), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_int_equal(gm_stop_push(&s, "abc", 3, &out), GM_OK);
    expect(&out, "abc");
    gm_stop_finish(&s);
    gm_bytes_finish(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_could_become_a_stop_string_is_held_back),
        cmocka_unit_test(the_earliest_stop_wins_and_overlaps_are_found),
        cmocka_unit_test(flush_gives_out_what_was_held),
        cmocka_unit_test(skipped_bytes_are_dropped_first_and_never_match),
        cmocka_unit_test(a_character_is_never_cut),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(a_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
