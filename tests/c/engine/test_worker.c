/* test_worker.c: which steps the worker interrupts, with a service that computes nothing.
 */
#include "helper/cm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/err.h"
#include "engine/worker.h"

/* ---- a service in place of the engine's ---- */

struct gm_service {
    const gm_cancel *interrupt;
};

static struct gm_service service;
static atomic_int n_step, n_interrupted;
static atomic_int last_priority;
static int step_ms; /* the first step takes as long unless it is interrupted */

int gm_service_create(gm_service **out, const gm_cancel *interrupt, gm_emit_fn emit, void *ud) {
    (void)emit, (void)ud;
    service.interrupt = interrupt;
    *out = &service;
    return GM_OK;
}

void gm_service_destroy(gm_service **s) { *s = NULL; }

bool gm_service_step(gm_service *s, gm_job *j, int32_t priority, bool cancelled) {
    (void)j;
    atomic_store(&last_priority, priority);
    if (atomic_fetch_add(&n_step, 1) > 0 || cancelled) return true;
    const uint64_t start = gm_now_ns();
    while (gm_ms_since(start) < step_ms) {
        if (atomic_load(&s->interrupt->set)) {
            atomic_fetch_add(&n_interrupted, 1);
            return false;
        }
        usleep(1000);
    }
    return false;
}

static bool asks, answered_in_time;
static atomic_bool dropping, answered;

/* Waits for who asks meanwhile, or seconds where nobody does. */
void gm_service_drop(gm_job *j) {
    (void)j;
    const uint64_t start = gm_now_ns();
    atomic_store(&dropping, true);
    while (asks && !atomic_load(&answered) && gm_ms_since(start) < 5000) usleep(1000);
    answered_in_time = atomic_load(&answered);
}

gm_state gm_service_state(const gm_service *s, const gm_job *j) {
    (void)s, (void)j;
    return GM_STATE_READY;
}

void gm_service_describe(const gm_service *s, gm_status *out) {
    (void)s;
    *out = (gm_status){0};
}

/* ---- */

static void submit(gm_worker *w, int32_t priority) {
    gm_job *j = gm_job_create(GM_JOB_GENERATE);
    j->session = 2;
    j->priority = priority;
    assert_true(gm_worker_submit(w, j) > 0);
}

static void wait_for_step(int n) {
    while (atomic_load(&n_step) < n) usleep(1000);
}

/* Whether the first step of a job is interrupted when a more urgent one of its session comes. */
static bool is_interrupted(int32_t priority, int32_t by, int ms) {
    gm_worker *w;
    char err[128];
    atomic_store(&n_step, 0);
    atomic_store(&n_interrupted, 0);
    step_ms = ms;
    assert_int_equal(gm_worker_create(&w, err, sizeof err), 0);
    submit(w, priority);
    wait_for_step(1);
    assert_int_equal(atomic_load(&last_priority), priority);
    submit(w, by);
    wait_for_step(2);
    const bool interrupted = atomic_load(&n_interrupted) > 0;
    if (interrupted) assert_int_equal(atomic_load(&last_priority), by);
    wait_for_step(3);
    assert_int_equal(gm_worker_destroy(&w, 10000), 0);
    return interrupted;
}

/* Pictures that were embedded for nobody in particular went on in the slow threads, to their end,
 * when somebody asked about them. */
static void a_calm_step_ends_when_somebody_waits_for_it(void **state) {
    (void)state;
    assert_true(is_interrupted(GM_PRIO_BACKGROUND, GM_PRIO_ASK, 10000));
    assert_true(is_interrupted(GM_PRIO_BACKGROUND, GM_PRIO_TYPING, 10000));
    assert_false(is_interrupted(GM_PRIO_BACKGROUND, GM_PRIO_BACKGROUND, 50));
    assert_false(is_interrupted(GM_PRIO_ASK, GM_PRIO_TYPING, 50));
}

static void *ask_while_dropping(void *ud) {
    gm_status st;
    while (!atomic_load(&dropping)) usleep(1000);
    gm_worker_get_status(ud, &st);
    atomic_store(&answered, true);
    return NULL;
}

/* Freeing what a job has, a video even, takes a while, and who asks for the status does not wait
 * for it. */
static void the_lock_is_free_while_the_jobs_of_a_worker_that_ends_are_dropped(void **state) {
    (void)state;
    gm_worker *w;
    char err[128];
    pthread_t thread;
    atomic_store(&n_step, 0);
    step_ms = 10000;
    assert_int_equal(gm_worker_create(&w, err, sizeof err), 0);
    submit(w, GM_PRIO_ASK);
    wait_for_step(1);
    asks = true;
    assert_int_equal(pthread_create(&thread, NULL, ask_while_dropping, w), 0);
    gm_worker *ended = w;
    assert_int_equal(gm_worker_destroy(&ended, 20000), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    asks = false;
    assert_true(answered_in_time);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calm_step_ends_when_somebody_waits_for_it),
        cmocka_unit_test(the_lock_is_free_while_the_jobs_of_a_worker_that_ends_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
