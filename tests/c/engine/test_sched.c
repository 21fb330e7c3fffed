/* test_sched.c: the order of jobs, and the ring of events: data without threads. */
#include "helper/cm.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/events.h"
#include "engine/sched.h"

static gm_job *add(gm_sched *s, gm_job_kind kind, int32_t session, int32_t priority) {
    gm_job *j = gm_job_create(kind);
    assert_non_null(j);
    j->session = session;
    j->priority = priority;
    assert_true(gm_sched_add(s, j) > 0);
    return j;
}

static void drop(gm_sched *s, gm_job *j) {
    gm_sched_remove(s, j);
    gm_job_destroy(&j);
}

static void the_most_urgent_runs_first_and_the_oldest_of_equals(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    assert_null(gm_sched_pick(&s, NULL));
    gm_job *background = add(&s, GM_JOB_GENERATE, 2, 2);
    gm_job *ask = add(&s, GM_JOB_GENERATE, 1, 1);
    gm_job *ask2 = add(&s, GM_JOB_GENERATE, 3, 1);
    assert_ptr_equal(gm_sched_pick(&s, NULL), ask);
    gm_job *typing = add(&s, GM_JOB_GENERATE, 0, 0);
    assert_ptr_equal(gm_sched_pick(&s, NULL), typing);
    drop(&s, typing);
    drop(&s, ask);
    assert_ptr_equal(gm_sched_pick(&s, NULL), ask2);
    drop(&s, ask2);
    assert_ptr_equal(gm_sched_pick(&s, NULL), background);
    gm_sched_finish(&s);
}

static void jobs_of_one_session_run_in_order_and_lend_their_urgency(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    gm_job *slow = add(&s, GM_JOB_GENERATE, 0, 2);
    gm_job *ask = add(&s, GM_JOB_GENERATE, 1, 1);
    assert_ptr_equal(gm_sched_pick(&s, NULL), ask);
    /* A typing request waits for `slow`, which must not wait for `ask` then. */
    gm_job *typing = add(&s, GM_JOB_GENERATE, 0, 0);
    int32_t priority = -1;
    assert_ptr_equal(gm_sched_pick(&s, &priority), slow);
    assert_int_equal(priority, GM_PRIO_TYPING);
    typing->cancelled = true; /* nobody waits for it any more */
    assert_ptr_equal(gm_sched_best(&s, &priority), ask);
    assert_int_equal(priority, GM_PRIO_ASK);
    typing->cancelled = false;
    drop(&s, slow);
    assert_ptr_equal(gm_sched_pick(&s, NULL), typing);
    gm_sched_finish(&s);
}

/* The lender's age counts: a typing request used to be interrupted by a later one whose session had
 * an older job of the background in front, and then waited for the whole of that. */
static void lent_urgency_is_as_old_as_the_request_that_lends_it(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    gm_job *slow = add(&s, GM_JOB_GENERATE, 5, 2);
    gm_job *running = add(&s, GM_JOB_GENERATE, 0, 0);
    gm_job *lender = add(&s, GM_JOB_GENERATE, 5, 0);
    gm_job *last = add(&s, GM_JOB_GENERATE, 1, 0);
    add(&s, GM_JOB_GENERATE, 5, 0);
    assert_ptr_equal(gm_sched_best(&s, NULL), running);
    drop(&s, running);
    assert_ptr_equal(gm_sched_best(&s, NULL), slow);
    drop(&s, slow);
    assert_ptr_equal(gm_sched_best(&s, NULL), lender);
    drop(&s, lender);
    assert_ptr_equal(gm_sched_best(&s, NULL), last);
    gm_sched_finish(&s);
}

static void load_and_unload_keep_their_place(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    gm_job *before = add(&s, GM_JOB_GENERATE, 1, 2);
    gm_job *load = add(&s, GM_JOB_LOAD, 0, 0);
    gm_job *after = add(&s, GM_JOB_GENERATE, 0, 0);
    gm_job *unload = add(&s, GM_JOB_UNLOAD, 0, 0);
    assert_ptr_equal(gm_sched_pick(&s, NULL), before);
    drop(&s, before);
    assert_ptr_equal(gm_sched_pick(&s, NULL), load);
    drop(&s, load);
    assert_ptr_equal(gm_sched_pick(&s, NULL), after);
    drop(&s, after);
    assert_ptr_equal(gm_sched_pick(&s, NULL), unload);
    gm_sched_finish(&s);
}

static void cancelled_jobs_end_first_but_interrupt_nobody(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    gm_job *typing = add(&s, GM_JOB_GENERATE, 0, 0);
    gm_job *late = add(&s, GM_JOB_GENERATE, 1, 2);
    late->cancelled = true;
    assert_ptr_equal(gm_sched_pick(&s, NULL), late);
    assert_ptr_equal(gm_sched_best(&s, NULL), typing);
    gm_sched_finish(&s);
}

static void a_hash_runs_last_and_nothing_waits_for_it(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    gm_job *hash = add(&s, GM_JOB_HASH, 0, 0);
    gm_job *second = add(&s, GM_JOB_HASH, 0, 0);
    assert_ptr_equal(gm_sched_pick(&s, NULL), hash);
    gm_job *load = add(&s, GM_JOB_LOAD, 0, 0);
    assert_ptr_equal(gm_sched_pick(&s, NULL), load);
    drop(&s, load);
    gm_job *background = add(&s, GM_JOB_GENERATE, 1, 2);
    assert_ptr_equal(gm_sched_pick(&s, NULL), background);
    drop(&s, background);
    assert_ptr_equal(gm_sched_pick(&s, NULL), hash);
    drop(&s, hash);
    assert_ptr_equal(gm_sched_pick(&s, NULL), second);
    gm_sched_finish(&s);
}

static void the_queue_is_bounded(void **state) {
    (void)state;
    gm_sched s;
    gm_sched_init(&s);
    for (int i = 0; i < GM_MAX_JOB; i++) add(&s, GM_JOB_GENERATE, i % GM_MAX_SESSION, 0);
    gm_job *j = gm_job_create(GM_JOB_GENERATE);
    assert_int_equal(gm_sched_add(&s, j), GM_EBUSY);
    gm_job_destroy(&j);
    gm_sched_finish(&s);
}

/* ---- events ---- */

static int push(gm_events *r, int64_t job, gm_event_kind kind, const char *text) {
    gm_event ev = {.job = job, .kind = kind, .n_generated = (uint32_t)strlen(text)};
    return gm_events_push(r, &ev, text, strlen(text));
}

static gm_events ring;

static void text_of_one_job_is_joined_but_never_reordered(void **state) {
    (void)state;
    gm_event ev;
    assert_int_equal(gm_events_init(&ring), GM_OK);
    assert_int_equal(gm_event_init(&ev), GM_OK);
    assert_int_equal(push(&ring, 1, GM_EV_TEXT, "ab"), 1);
    assert_int_equal(push(&ring, 1, GM_EV_TEXT, "cde"), 1);
    assert_int_equal(push(&ring, 2, GM_EV_TEXT, "x"), 1);
    assert_int_equal(push(&ring, 1, GM_EV_TEXT, "f"), 1);
    assert_int_equal(push(&ring, 1, GM_EV_DONE, ""), 1);
    const char *want[] = {"abcde", "x", "f", ""};
    for (int i = 0; i < 4; i++) {
        assert_true(gm_events_pop(&ring, &ev));
        assert_string_equal(ev.text.p, want[i]);
        assert_int_equal(ev.text.n, strlen(want[i]));
    }
    assert_int_equal(ev.kind, GM_EV_DONE);
    assert_false(gm_events_pop(&ring, &ev));
    gm_event_finish(&ev);
    gm_events_finish(&ring);
}

static void progress_replaces_progress(void **state) {
    (void)state;
    gm_event ev;
    assert_int_equal(gm_events_init(&ring), GM_OK);
    assert_int_equal(gm_event_init(&ev), GM_OK);
    for (uint64_t i = 1; i <= 1000; i++) {
        gm_event p = {.job = 1, .kind = GM_EV_PROGRESS, .done = i, .total = 1000};
        assert_int_equal(gm_events_push(&ring, &p, "", 0), 1);
    }
    assert_true(gm_events_pop(&ring, &ev));
    assert_int_equal(ev.done, 1000);
    assert_false(gm_events_pop(&ring, &ev));
    gm_event_finish(&ev);
    gm_events_finish(&ring);
}

static void a_full_ring_takes_nothing_and_messages_need_no_memory(void **state) {
    (void)state;
    gm_event ev;
    char message[GM_EVENT_MESSAGE];
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    assert_int_equal(gm_events_init(&ring), GM_OK);
    assert_int_equal(gm_event_init(&ev), GM_OK);
    for (int round = 0; round < 3; round++) {
        gm_mem_fail_at(1);
        for (int i = 0; i < GM_EVENT_RING; i++)
            assert_int_equal(push(&ring, i, GM_EV_ERROR, message), 1);
        assert_int_equal(push(&ring, 9999, GM_EV_ERROR, "one too many"), 0);
        for (int i = 0; i < GM_EVENT_RING; i++) {
            assert_true(gm_events_pop(&ring, &ev));
            assert_int_equal(ev.job, i);
            assert_string_equal(ev.text.p, message);
        }
        assert_int_equal(gm_mem_fail_at(0), 0);
    }
    /* Longer text may fail, and then the ring is as before. */
    char *big = gm_calloc(4096, 1);
    memset(big, 'b', 4095);
    gm_mem_fail_at(1);
    assert_int_equal(push(&ring, 1, GM_EV_TEXT, big), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_false(gm_events_pop(&ring, &ev));
    gm_free(big);
    gm_event_finish(&ev);
    gm_events_finish(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_urgent_runs_first_and_the_oldest_of_equals),
        cmocka_unit_test(jobs_of_one_session_run_in_order_and_lend_their_urgency),
        cmocka_unit_test(lent_urgency_is_as_old_as_the_request_that_lends_it),
        cmocka_unit_test(load_and_unload_keep_their_place),
        cmocka_unit_test(cancelled_jobs_end_first_but_interrupt_nobody),
        cmocka_unit_test(a_hash_runs_last_and_nothing_waits_for_it),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(text_of_one_job_is_joined_but_never_reordered),
        cmocka_unit_test(progress_replaces_progress),
        cmocka_unit_test(a_full_ring_takes_nothing_and_messages_need_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
