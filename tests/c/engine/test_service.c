/* test_service.c: what the worker does with jobs, one step at a time and without a thread.
 */
#include "helper/cm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/service.h"
#include "helper/driver.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "kernels/vulkan/vk.h"

enum { N_CTX = 2048, NO_DEVICE_MEMORY = -2, LOST = -4 };

static test_tmp tmp;
static char model[512];

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

/* ---- a worker without a queue ---- */

typedef struct {
    gm_event last;  /* DONE or ERROR */
    char text[512]; /* of the answer, or of the error */
    size_t n;
} answer;

static gm_service *service;
static gm_cancel interrupt;
static answer got; /* of the job that was stepped last */

static int take(void *ud, const gm_event *ev, const char *text, size_t n) {
    (void)ud;
    if (ev->kind == GM_EV_TEXT || ev->kind == GM_EV_ERROR) {
        assert_true(got.n + n < sizeof got.text);
        memcpy(got.text + got.n, text, n);
        got.n += n;
    }
    if (ev->kind == GM_EV_DONE || ev->kind == GM_EV_ERROR) got.last = *ev;
    return GM_OK;
}

/* One step; destroys the job that is over. */
static bool step(gm_job **j) {
    bool over = gm_service_step(service, *j, (*j)->priority, false);
    if (over) gm_job_destroy(j);
    return over;
}

static answer run(gm_job *j) {
    memset(&got, 0, sizeof got);
    while (!step(&j)) continue;
    return got;
}

static void load_on(const char *device, const char *path, const char *mmproj) {
    assert_int_equal(gm_service_create(&service, &interrupt, take, NULL), GM_OK);
    gm_job *j = gm_job_create(GM_JOB_LOAD);
    j->load.model_path = gm_strndup(path, strlen(path));
    if (mmproj) j->load.mmproj_path = gm_strndup(mmproj, strlen(mmproj));
    if (device) j->load.device = gm_strndup(device, strlen(device));
    j->load.n_ctx = N_CTX;
    j->load.n_threads = 1;
    j->load.kv_type = -1;
    assert_int_equal(run(j).last.kind, GM_EV_DONE);
}

static void load(const char *path, const char *mmproj) { load_on(NULL, path, mmproj); }

static gm_job *ask(int32_t session, gm_part_kind kind, const char *text) {
    gm_job *j = gm_job_create(GM_JOB_GENERATE);
    gm_generate_request *r = &j->gen;
    j->session = session;
    r->max_tokens = 8;
    r->ignore_eog = true;
    r->text = gm_strndup(text, strlen(text));
    r->parts = gm_calloc(1, sizeof *r->parts);
    r->parts[0] = (gm_part){.kind = kind, .text = {r->text, strlen(text)}};
    r->n_part = 1;
    return j;
}

static answer run_text(int32_t session, const char *text) {
    return run(ask(session, GM_PART_TEXT, text));
}

/* Allocations of the step that begins the job, of which the n-th fails (0: none). */
static uint64_t begin_with_failure(gm_job **j, uint64_t n) {
    memset(&got, 0, sizeof got);
    gm_mem_fail_at(n);
    step(j);
    return gm_mem_fail_at(0);
}

/* ---- sessions and memory ---- */

static const char first[] = "local function add(a, b)", second[] = "class Point:";

/* Session 3 is in the middle of an answer, 1 and 2 are idle, 2 was used last. */
static gm_job *fill_sessions(void) {
    gm_job *under_way = ask(3, GM_PART_TEXT, first);
    load(model, NULL);
    run_text(2, second);
    run_text(1, first);
    for (int i = 0; i < 4; i++) assert_false(step(&under_way));
    run_text(2, second);
    return under_way;
}

/* A device that was filled up to the second session refused the third one for as long as the model
 * was loaded, although nobody used the others. */
static void a_session_without_memory_gets_that_of_the_one_used_longest_ago(void **state) {
    (void)state;
    gm_job *under_way = fill_sessions();
    gm_job *j = ask(0, GM_PART_TEXT, first);
    const uint64_t n_alloc = begin_with_failure(&j, 0);
    const answer want = run(j);
    while (!step(&under_way)) continue;
    gm_service_destroy(&service);

    int n_ok = 0;
    for (uint64_t n = 1; n <= n_alloc; n++) {
        under_way = fill_sessions();
        j = ask(0, GM_PART_TEXT, first);
        begin_with_failure(&j, n);
        if (j) {
            const answer a = run(j);
            assert_int_equal(a.last.kind, GM_EV_DONE);
            assert_string_equal(a.text, want.text);
            assert_true(run_text(2, second).last.n_reused > 0);
            if (run_text(1, first).last.n_reused == 0) n_ok++;
        } else {
            assert_int_equal(got.last.code, GM_ENOMEM);
            assert_true(run_text(1, first).last.n_reused > 0);
        }
        const answer rest = run(under_way);
        assert_int_equal(rest.last.kind, GM_EV_DONE);
        gm_service_destroy(&service);
    }
    print_message("  %d of %d allocations\n", n_ok, (int)n_alloc);
    assert_true(n_ok >= 10); /* two for each of five layers */
}

/* What is to be forked from goes after the others, but it goes. */
static void the_session_to_fork_from_is_given_up_last(void **state) {
    (void)state;
    for (int others = 0; others < 2; others++) {
        int n_ok = 0;
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            load(model, NULL);
            run_text(1, first);
            if (others) run_text(2, second);
            gm_job *j = ask(0, GM_PART_TEXT, first);
            j->gen.fork_from = 1;
            failed = begin_with_failure(&j, n) >= n;
            const answer a = j ? run(j) : got;
            if (failed && a.last.kind == GM_EV_DONE) {
                assert_true(!others == (a.last.n_reused == 0));
                n_ok++;
            }
            gm_service_destroy(&service);
        }
        assert_true(n_ok >= 10);
    }
}

/* A picture that is longer than the chunks of its session needs a wider one. When both do not fit,
 * the old one goes first, and what it held is computed again. */
static void a_session_that_must_grow_gives_up_what_it_has(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    if (access(photo, R_OK) != 0) skip();
    uint64_t n_alloc = 0;
    int n_ok = 0;
    /* Most allocations are the picture's; those of the cache are among the last. */
    for (uint64_t back = 0; back < 60; back += n_alloc ? 4 : 0) {
        load("tests/golden/sets/nano/model-F16.gguf", "tests/golden/sets/nano/mmproj-BF16.gguf");
        run_text(1, first);
        gm_job *j = ask(1, GM_PART_IMAGE, photo);
        j->gen.image_tokens = 560;
        const uint64_t n = begin_with_failure(&j, n_alloc ? n_alloc - back : 0);
        if (n_alloc && j) n_ok++;
        if (!n_alloc) n_alloc = n;
        if (j) assert_int_equal(run(j).last.kind, GM_EV_DONE);
        gm_service_destroy(&service);
    }
    print_message("  %d of 15 allocations\n", n_ok);
    assert_true(n_ok >= 3);
}

/* A picture for which there was no memory left the engine wide: the sessions of text that came
 * after it were larger, and may have found no memory either. */
static void a_picture_without_memory_leaves_sessions_as_small_as_they_were(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    if (access(photo, R_OK) != 0) skip();
    uint64_t n_alloc = 0, want = 0;
    int n_failed = 0;
    gm_status st;
    for (uint64_t back = 0; back < 60; back += n_alloc ? 1 : 0) {
        load("tests/golden/sets/nano/model-F16.gguf", "tests/golden/sets/nano/mmproj-BF16.gguf");
        if (!n_alloc) {
            run_text(1, first);
            gm_service_describe(service, &st);
            want = st.cache_bytes;
            gm_service_destroy(&service);
            load("tests/golden/sets/nano/model-F16.gguf",
                 "tests/golden/sets/nano/mmproj-BF16.gguf");
        }
        gm_job *j = ask(1, GM_PART_IMAGE, photo);
        j->gen.image_tokens = 560;
        const uint64_t n = begin_with_failure(&j, n_alloc ? n_alloc - back : 0);
        if (!n_alloc) n_alloc = n;
        gm_service_describe(service, &st);
        if (j) {
            assert_true(gm_service_step(service, j, 0, true));
            gm_job_destroy(&j);
        } else if (st.cache_bytes == 0) { /* else it failed behind its session */
            assert_int_equal(got.last.code, GM_ENOMEM);
            assert_int_equal(run_text(1, first).last.kind, GM_EV_DONE);
            gm_service_describe(service, &st);
            assert_int_equal(st.cache_bytes, want);
            n_failed++;
        }
        gm_service_destroy(&service);
    }
    print_message("  %d failed\n", n_failed);
    assert_true(n_failed >= 10);
}

/* ---- devices ---- */

static bool has_vulkan(void) {
    char why[256];
    return driver_there(why, sizeof why);
}

/* The CPU that was to stand in was looked for where GEMMA_BACKEND says, too, and the load
 * failed. */
static void a_device_of_the_environment_that_is_not_there_is_replaced_by_the_cpu(void **state) {
    (void)state;
    gm_status st;
    has_vulkan();
    setenv("GEMMA_BACKEND", "vulkan:77", 1);
    gm_env_reload();
    load_on("vulkan:77", model, NULL);
    unsetenv("GEMMA_BACKEND");
    gm_env_reload();
    gm_service_describe(service, &st);
    assert_int_equal(strncmp(st.device, "cpu ", 4), 0);
    assert_non_null(strstr(st.device_note, "ulkan"));
    assert_int_equal(st.n_threads, 1);
    gm_service_destroy(&service);
}

/* Where the device had no memory, the host has none. */
static void hear(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud, (void)line;
    if (level == GM_LOG_ERROR && strcmp(room, "vulkan") == 0) gm_mem_fail_at(1);
}

/* A picture for which there was no memory, and then not even for sessions of text, took the model
 * with it. The other answers were told that the device had failed, and people read of a lost
 * driver. */
static void a_model_unloaded_for_want_of_memory_blames_no_device(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    if (access(photo, R_OK) != 0 || !has_vulkan()) skip();
    gm_log_set_sink(hear, NULL);
    gm_job *under_way = NULL;
    uint64_t n_call = 0;
    /* The calls of the new session are the last. */
    for (uint64_t back = 0; back < 8; back++) {
        load_on("vulkan", "tests/golden/sets/nano/model-F16.gguf",
                "tests/golden/sets/nano/mmproj-BF16.gguf");
        under_way = ask(3, GM_PART_TEXT, first);
        for (int i = 0; i < 4; i++) assert_false(step(&under_way));
        gm_job *j = ask(0, GM_PART_IMAGE, photo);
        j->gen.image_tokens = 560;
        memset(&got, 0, sizeof got);
        gm_vk_fail_at(n_call ? n_call - back : 0, NO_DEVICE_MEMORY);
        step(&j);
        gm_mem_fail_at(0);
        const uint64_t n = gm_vk_fail_at(0, 0);
        if (!n_call) n_call = n;
        if (!j && strstr(got.text, "unloaded")) break;
        if (j) assert_true(gm_service_step(service, j, 0, true));
        gm_job_destroy(&j);
        assert_true(gm_service_step(service, under_way, 0, true));
        gm_job_destroy(&under_way);
        gm_service_destroy(&service);
    }
    gm_log_set_sink(NULL, NULL);
    assert_non_null(under_way);
    assert_int_equal(got.last.code, GM_ENOMODEL);
    assert_string_equal(got.text, "out of memory; the model was unloaded");
    const answer other = run(under_way);
    assert_int_equal(other.last.code, GM_ENOMODEL);
    assert_string_equal(other.text, "the model was unloaded while it answered");
    assert_int_equal(run_text(1, first).last.code, GM_ENOMODEL);
    gm_service_destroy(&service);
}

/* A device that failed while it read a picture, or while a cache was copied, left the model loaded:
 * all its memory stayed taken, and every picture after it failed in the same way. */
static void a_device_lost_before_an_answer_begins_takes_the_model_with_it(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    if (access(photo, R_OK) != 0 || !has_vulkan()) skip();
    uint64_t n_call[2] = {0};
    int n_lost = 0;
    for (int round = 0; round < 10; round++) {
        const int fork = round % 2;
        load_on("vulkan", "tests/golden/sets/nano/model-F16.gguf",
                "tests/golden/sets/nano/mmproj-BF16.gguf");
        gm_job *under_way = ask(3, GM_PART_TEXT, first);
        for (int i = 0; i < 4; i++) assert_false(step(&under_way));
        gm_job *j = fork ? ask(0, GM_PART_TEXT, first) : ask(0, GM_PART_IMAGE, photo);
        if (fork) j->gen.fork_from = 3;
        memset(&got, 0, sizeof got);
        gm_vk_fail_at(n_call[fork] * (uint64_t)(round / 2) / 4, LOST);
        step(&j);
        const uint64_t n = gm_vk_fail_at(0, 0);
        if (round < 2) n_call[fork] = n;
        if (!j) {
            gm_status st;
            n_lost++;
            assert_int_equal(got.last.code, GM_EDEVICE);
            assert_string_equal(got.text, "the device failed; the model was unloaded");
            gm_service_describe(service, &st);
            assert_int_equal(st.n_ctx, 0);
            assert_int_equal(run(under_way).last.code, GM_ENOMODEL);
            assert_int_equal(run_text(1, first).last.code, GM_ENOMODEL);
        } else {
            run(j);
            run(under_way);
        }
        gm_service_destroy(&service);
    }
    print_message("  %d of 8\n", n_lost);
    assert_true(n_lost >= 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_without_memory_gets_that_of_the_one_used_longest_ago),
        cmocka_unit_test(the_session_to_fork_from_is_given_up_last),
        cmocka_unit_test(a_session_that_must_grow_gives_up_what_it_has),
        cmocka_unit_test(a_picture_without_memory_leaves_sessions_as_small_as_they_were),
        cmocka_unit_test(a_device_of_the_environment_that_is_not_there_is_replaced_by_the_cpu),
        cmocka_unit_test(a_model_unloaded_for_want_of_memory_blames_no_device),
        cmocka_unit_test(a_device_lost_before_an_answer_begins_takes_the_model_with_it),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
