/* test_team.c: the team computes each item once, whatever the sizes, and costs nothing when
 * idle. */
#include "helper/cm.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/team.h"

enum { MAX_ITEM = 5000 };

/* How many more threads the system gives; negative: it has no limit. */
static int threads_left = -1;

/* In front of the C library's. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (threads_left == 0) return EAGAIN;
    if (threads_left > 0) threads_left--;
    return real(thread, attr, fn, arg);
}

int pthread_join(pthread_t thread, void **result) {
    int (*real)(pthread_t, void **);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_join");
    if (threads_left >= 0) threads_left++;
    return real(thread, result);
}

typedef struct {
    atomic_int seen[MAX_ITEM];
    atomic_int max_run, bad_thread;
    int n_threads;
} tally;

static tally *counts;

static void count(void *ud, int begin, int end, int thread) {
    tally *c = ud;
    if (thread < 0 || thread >= c->n_threads) atomic_store(&c->bad_thread, 1);
    int old = atomic_load(&c->max_run);
    while (end - begin > old && !atomic_compare_exchange_weak(&c->max_run, &old, end - begin)) {
    }
    for (int i = begin; i < end; i++) atomic_fetch_add(&c->seen[i], 1);
}

static void check_run(gm_team *t, int n_item, int grain, int most) {
    memset(counts, 0, sizeof *counts);
    counts->n_threads = gm_team_size(t);
    gm_team_run(t, count, counts, n_item, grain, most);
    for (int i = 0; i < MAX_ITEM; i++)
        if (atomic_load(&counts->seen[i]) != (i < n_item))
            fail_msg("item %d of %d was done %d times", i, n_item, atomic_load(&counts->seen[i]));
    assert_int_equal(atomic_load(&counts->bad_thread), 0);
    const int longest = most > grain ? most : grain;
    assert_true(atomic_load(&counts->max_run) <= (longest < 1 ? 1 : longest));
}

static gm_team *team_of(int n) {
    gm_team *t;
    char err[128];
    assert_int_equal(gm_team_create(&t, n, err, sizeof err), 0);
    assert_int_equal(gm_team_size(t), n < 1 ? 1 : n);
    return t;
}

static void every_item_is_done_exactly_once(void **state) {
    (void)state;
    static const int items[] = {0, 1, 2, 3, 7, 8, 64, 1000, MAX_ITEM};
    static const int grains[] = {0, 1, 2, 3, 16, 10000};
    for (int n = 0; n <= 5; n++) {
        gm_team *t = team_of(n);
        for (size_t i = 0; i < sizeof items / sizeof *items; i++)
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++)
                for (size_t m = 0; m < sizeof grains / sizeof *grains; m++)
                    check_run(t, items[i], grains[g], grains[m]);
        gm_team_destroy(&t);
        assert_null(t);
    }
}

/* A forward pass is thousands of short jobs one after the other; a helper that is late for one
 * must not take part in the next with the old function. */
static void add_one(void *ud, int begin, int end, int thread) {
    (void)thread;
    for (int i = begin; i < end; i++) ((int *)ud)[i] += 1;
}
static void add_hundred(void *ud, int begin, int end, int thread) {
    (void)thread;
    for (int i = begin; i < end; i++) ((int *)ud)[i] += 100;
}

static void thousands_of_short_jobs_do_not_mix(void **state) {
    (void)state;
    enum { RUNS = 20000, N = 12 };
    int a[N] = {0}, b[2 * N] = {0};
    gm_team *t = team_of(4);
    for (int i = 0; i < RUNS; i++) {
        gm_team_run(t, add_one, a, N, 1, 1);
        gm_team_run(t, add_hundred, b, 2 * N, 2, 2);
    }
    for (int i = 0; i < N; i++) assert_int_equal(a[i], RUNS);
    for (int i = 0; i < 2 * N; i++) assert_int_equal(b[i], 100 * RUNS);
    gm_team_destroy(&t);
}

/* Jobs with pauses in between find the helpers asleep and must wake them. The plain array shows
 * that results are visible to the caller, which ThreadSanitizer checks. */
static void a_sleeping_team_wakes_up(void **state) {
    (void)state;
    int a[40] = {0};
    gm_team *t = team_of(3);
    for (int i = 0; i < 20; i++) {
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
        gm_team_run(t, add_one, a, 40, 1, 1);
    }
    for (int i = 0; i < 40; i++) assert_int_equal(a[i], 20);
    gm_team_destroy(&t);
}

static void slow_item(void *ud, int begin, int end, int thread) {
    (void)thread;
    for (int i = begin; i < end; i++) {
        struct timespec pause = {.tv_nsec = i == 0 ? 5000000 : 0};
        nanosleep(&pause, NULL);
        ((int *)ud)[i]++;
    }
}

/* The caller gives up spinning, sleeps, and is woken by whoever finishes last. */
static void the_caller_waits_for_the_slowest_item(void **state) {
    (void)state;
    gm_team *t = team_of(3);
    for (int run = 0; run < 10; run++) {
        int a[8] = {0};
        gm_team_run(t, slow_item, a, 8, 1, 1);
        for (int i = 0; i < 8; i++) assert_int_equal(a[i], 1);
    }
    gm_team_destroy(&t);
}

static double process_cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void an_idle_team_uses_no_cpu(void **state) {
    (void)state;
    gm_team *t = team_of(4);
    int a[40] = {0};
    gm_team_run(t, add_one, a, 40, 1, 1);
    double start = process_cpu_ms();
    struct timespec pause = {.tv_nsec = 200000000};
    nanosleep(&pause, NULL);
    double used = process_cpu_ms() - start;
    /* Three helpers that spin 0.1 ms each before they sleep, and a margin for sanitizers; spinning
     * on would be 600 ms. */
    if (used > 20) fail_msg("an idle team used %.1f ms of CPU in 200 ms", used);
    gm_team_destroy(&t);
}

/* Where everything has the lowest priority already, none is lower. */
#define NEEDS_A_LOWER_PRIORITY                                                                     \
    if (getpriority(PRIO_PROCESS, 0) >= 19) skip()

typedef struct {
    int usual;       /* niceness of this thread */
    atomic_int calm; /* runs of items in threads that are less urgent */
    atomic_int runs;
} priorities;

static void note_priority(void *ud, int begin, int end, int thread) {
    (void)begin, (void)end, (void)thread;
    priorities *p = ud;
    atomic_fetch_add(&p->runs, 1);
    if (getpriority(PRIO_PROCESS, 0) > p->usual) atomic_fetch_add(&p->calm, 1);
}

static int calm_runs_of(gm_team *t, int n_item) {
    priorities p = {.usual = getpriority(PRIO_PROCESS, 0)};
    gm_team_run(t, note_priority, &p, n_item, 1, 1);
    assert_int_equal(atomic_load(&p.runs), n_item);
    return atomic_load(&p.calm);
}

/* In turns, as when typing interrupts what is read in the background; the caller's own priority is
 * never lost. */
static void calm_work_is_done_by_threads_of_lower_priority(void **state) {
    (void)state;
    NEEDS_A_LOWER_PRIORITY;
    for (int n = 1; n <= 3; n++) {
        gm_team *t = team_of(n);
        int a[40] = {0};
        for (int i = 0; i < 50; i++) {
            gm_team_set_calm(t, i % 2 == 0);
            assert_int_equal(calm_runs_of(t, 40), i % 2 == 0 ? 40 : 0);
            gm_team_run(t, add_one, a, 40, 3, 3);
            check_run(t, 1000, 7, 20);
        }
        for (int i = 0; i < 40; i++) assert_int_equal(a[i], 50);
        gm_team_destroy(&t);
    }
}

static void without_calm_threads_the_others_do_it(void **state) {
    (void)state;
    NEEDS_A_LOWER_PRIORITY;
    gm_team *t = team_of(2);
    gm_mem_fail_at(1);
    gm_team_set_calm(t, true);
    gm_mem_fail_at(0);
    assert_int_equal(calm_runs_of(t, 40), 0);
    gm_team_set_calm(t, false);
    threads_left = 0;
    gm_team_set_calm(t, true);
    assert_int_equal(calm_runs_of(t, 40), 0);
    /* Nor for the next token, but for the next answer. */
    threads_left = -1;
    gm_team_set_calm(t, true);
    assert_int_equal(calm_runs_of(t, 40), 0);
    gm_team_set_calm(t, false);
    gm_team_set_calm(t, true);
    assert_int_equal(calm_runs_of(t, 40), 40);
    gm_team_destroy(&t);
}

/* A container with a limit of 32 threads on a host with 64 cores gave an error, and no model; then
 * a team that took all of them, and an editor that could not start a shell. */
static void a_team_leaves_room_where_threads_are_limited(void **state) {
    (void)state;
    NEEDS_A_LOWER_PRIORITY;
    enum { WANTED = 48 };
    static const int limits[] = {0, 1, 8, 9, 12, 40};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const int limit = limits[i], room = limit < 8 ? limit : limit < 32 ? 8 : limit / 4;
        gm_team *t;
        char err[128];
        threads_left = limit;
        assert_int_equal(gm_team_create(&t, WANTED, err, sizeof err), 0);
        assert_int_equal(gm_team_size(t), 1 + limit - room);
        assert_int_equal(threads_left, room);
        check_run(t, 1000, 7, 20);
        gm_team_set_calm(t, true);
        assert_true(threads_left >= (room < 8 ? room : 8));
        assert_int_equal(calm_runs_of(t, 40), room > 8 ? 40 : 0);
        check_run(t, 1000, 7, 20);
        gm_team_destroy(&t);
        assert_int_equal(threads_left, limit);
        threads_left = -1;
    }
}

static void destroy_accepts_nothing_and_unused_teams(void **state) {
    (void)state;
    gm_team *t = NULL;
    gm_team_destroy(&t);
    for (int i = 0; i < 20; i++) {
        t = team_of(3);
        gm_team_destroy(&t);
    }
}

static void failing_allocations_give_an_error(void **state) {
    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        gm_team *t = (gm_team *)(uintptr_t)1;
        char err[128] = "";
        gm_mem_fail_at(n);
        assert_int_not_equal(gm_team_create(&t, 3, err, sizeof err), 0);
        gm_mem_fail_at(0);
        assert_null(t);
        assert_true(err[0] != 0);
    }
}

static void nothing_is_allocated_in_a_run(void **state) {
    (void)state;
    gm_team *t = team_of(2);
    int a[40] = {0};
    gm_team_set_calm(t, true);
    gm_mem_fail_at(0);
    for (int i = 0; i < 10; i++) {
        gm_team_set_calm(t, i % 2 == 0);
        gm_team_run(t, add_one, a, 40, 1, 1);
    }
    assert_int_equal(gm_mem_fail_at(0), 0);
    gm_team_destroy(&t);
}

int main(void) {
    counts = calloc(1, sizeof *counts);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_done_exactly_once),
        cmocka_unit_test(thousands_of_short_jobs_do_not_mix),
        cmocka_unit_test(a_sleeping_team_wakes_up),
        cmocka_unit_test(the_caller_waits_for_the_slowest_item),
        cmocka_unit_test(an_idle_team_uses_no_cpu),
        cmocka_unit_test(calm_work_is_done_by_threads_of_lower_priority),
        cmocka_unit_test(without_calm_threads_the_others_do_it),
        cmocka_unit_test(a_team_leaves_room_where_threads_are_limited),
        cmocka_unit_test(destroy_accepts_nothing_and_unused_teams),
        cmocka_unit_test(failing_allocations_give_an_error),
        cmocka_unit_test(nothing_is_allocated_in_a_run),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(counts);
    return rc;
}
