/* Messages and names of errors. */
#include "base/err.h"

#include <string.h>
#include "helper/cm.h"

static void err_names_and_texts_come_from_one_list(void **state) {
    (void)state;
    assert_string_equal(gm_err_name(GM_ENOMEM), "ENOMEM");
    assert_string_equal(gm_err_text(GM_EFORMAT), "malformed file");
    assert_string_equal(gm_err_name(GM_OK), "OK");
    assert_string_equal(gm_err_name(-999), "UNKNOWN");
    assert_string_equal(gm_err_text(7), "unknown error");
}

static void err_fail_returns_the_code_and_fills_the_text(void **state) {
    (void)state;
    char err[32];
    assert_int_equal(gm_fail(err, sizeof err, GM_EIO, "%s: %d", "file", 5), GM_EIO);
    assert_string_equal(err, "file: 5");
}

static void err_fail_without_buffer_only_returns_the_code(void **state) {
    (void)state;
    assert_int_equal(gm_fail(NULL, 0, GM_EIO, "x"), GM_EIO);
    assert_int_equal(gm_fail(NULL, 10, GM_EIO, "x"), GM_EIO);
    char one[1] = {'x'};
    assert_int_equal(gm_fail(one, 1, GM_EIO, "text"), GM_EIO);
    assert_int_equal(one[0], 0);
}

/* A file name may hold a newline or an escape sequence; the message goes to a terminal. */
static void err_fail_makes_one_line_without_control_characters(void **state) {
    (void)state;
    char err[64];
    gm_fail(err, sizeof err, GM_EIO, "%s", "a\nb\x1b[31mc\x7f\td");
    assert_string_equal(err, "a?b?[31mc??d");
}

static void err_fail_cuts_long_text_between_characters(void **state) {
    (void)state;
    char err[6];
    gm_fail(err, sizeof err, GM_EIO, "%s", "abcd\xC3\xA9xyz"); /* e acute would be cut in half */
    assert_string_equal(err, "abcd");
    gm_fail(err, sizeof err, GM_EIO, "%s", "abc\xC3\xA9xyz");
    assert_string_equal(err, "abc\xC3\xA9");
    gm_fail(err, sizeof err, GM_EIO, "%s", "ab\xF0\x9F\x99\x82xyz");
    assert_string_equal(err, "ab");
    gm_fail(err, sizeof err, GM_EIO, "%s", "abcdefgh");
    assert_string_equal(err, "abcde");
}

static void err_path_tail_keeps_the_end_of_a_long_path(void **state) {
    (void)state;
    assert_string_equal(gm_path_tail("/a/b.gguf"), "/a/b.gguf");
    char path[500];
    memset(path, 'x', sizeof path);
    strcpy(path + 400, "/models/gemma.gguf");
    assert_string_equal(gm_path_tail(path), "models/gemma.gguf");
    memset(path, 'x', sizeof path);
    path[499] = '\0';
    assert_int_equal(strlen(gm_path_tail(path)), 120);
    memcpy(path + 378, "\xC3\xA9", 2); /* the cut would be inside */
    assert_int_equal(strlen(gm_path_tail(path)), 119);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_names_and_texts_come_from_one_list),
        cmocka_unit_test(err_fail_returns_the_code_and_fills_the_text),
        cmocka_unit_test(err_fail_without_buffer_only_returns_the_code),
        cmocka_unit_test(err_fail_makes_one_line_without_control_characters),
        cmocka_unit_test(err_fail_cuts_long_text_between_characters),
        cmocka_unit_test(err_path_tail_keeps_the_end_of_a_long_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
