/* Log levels per room, and the environment they come from. */
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "helper/cm.h"

static char last_line[2048];
static char last_room[32];
static int n_line;

static void record(void *ud, gm_log_level level, const char *room, const char *line) {
    assert_ptr_equal(ud, &n_line);
    (void)level;
    n_line++;
    snprintf(last_line, sizeof last_line, "%s", line);
    snprintf(last_room, sizeof last_room, "%s", room);
}

/* Sets GEMMA_LOG (NULL: unset) and installs the sink anew. */
static void with_levels(const char *value) {
    if (value) setenv("GEMMA_LOG", value, 1);
    else unsetenv("GEMMA_LOG");
    gm_env_reload();
    gm_log_set_sink(record, &n_line);
    n_line = 0;
}

static void log_is_silent_without_a_sink(void **state) {
    (void)state;
    gm_log_set_sink(NULL, NULL);
    assert_false(gm_log_on(GM_LOG_ERROR, "base"));
    gm_log(GM_LOG_ERROR, "base", "nobody hears this");
}

static void log_default_level_is_info(void **state) {
    (void)state;
    with_levels(NULL);
    gm_log(GM_LOG_INFO, "model", "loaded %d", 7);
    assert_int_equal(n_line, 1);
    assert_string_equal(last_line, "loaded 7");
    assert_string_equal(last_room, "model");
    gm_log(GM_LOG_DEBUG, "model", "not this");
    assert_int_equal(n_line, 1);
}

static void log_levels_are_per_room(void **state) {
    (void)state;
    with_levels("error,vulkan=trace,engine=debug");
    assert_false(gm_log_on(GM_LOG_WARN, "model"));
    assert_true(gm_log_on(GM_LOG_ERROR, "model"));
    assert_true(gm_log_on(GM_LOG_TRACE, "vulkan"));
    assert_true(gm_log_on(GM_LOG_DEBUG, "engine"));
    assert_false(gm_log_on(GM_LOG_TRACE, "engine"));
}

static void log_ignores_nonsense_in_the_variable(void **state) {
    (void)state;
    with_levels(",,=,x=,=trace,loud,a_room_name_that_is_much_too_long=trace,warn,");
    assert_true(gm_log_on(GM_LOG_WARN, "x"));
    assert_false(gm_log_on(GM_LOG_INFO, "x"));
}

static void log_writes_one_line_of_bounded_length(void **state) {
    (void)state;
    with_levels("info");
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    text[3] = '\n';
    gm_log(GM_LOG_INFO, "base", "%s", text);
    assert_int_equal(strlen(last_line), 1023);
    assert_int_equal(last_line[3], ' ');
}

static void env_empty_is_unset_and_reload_reads_again(void **state) {
    (void)state;
    setenv("GEMMA_CPU", "avx2", 1);
    setenv("GEMMA_THREADS", "", 1);
    gm_env_reload();
    assert_string_equal(gm_env(GM_ENV_CPU), "avx2");
    assert_null(gm_env(GM_ENV_THREADS));
    setenv("GEMMA_CPU", "ref", 1);
    assert_string_equal(gm_env(GM_ENV_CPU), "avx2"); /* read once */
    gm_env_reload();
    assert_string_equal(gm_env(GM_ENV_CPU), "ref");
    unsetenv("GEMMA_CPU");
    gm_env_reload();
    assert_null(gm_env(GM_ENV_CPU));
    assert_null(gm_env(GM_ENV_COUNT));
}

/* It was asked for on the worker's thread, while the editor may change its environment. */
static void env_has_the_folder_of_the_cache(void **state) {
    (void)state;
    setenv("XDG_CACHE_HOME", "/some/cache", 1);
    setenv("HOME", "/some/home", 1);
    gm_env_reload();
    setenv("XDG_CACHE_HOME", "/other/cache", 1);
    unsetenv("HOME");
    assert_string_equal(gm_env(GM_ENV_CACHE_HOME), "/some/cache");
    assert_string_equal(gm_env(GM_ENV_HOME), "/some/home");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_is_silent_without_a_sink),
        cmocka_unit_test(log_default_level_is_info),
        cmocka_unit_test(log_levels_are_per_room),
        cmocka_unit_test(log_ignores_nonsense_in_the_variable),
        cmocka_unit_test(log_writes_one_line_of_bounded_length),
        cmocka_unit_test(env_empty_is_unset_and_reload_reads_again),
        cmocka_unit_test(env_has_the_folder_of_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
