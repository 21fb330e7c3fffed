/* team.c: worker threads that take runs of items from one counter.
 *
 * How a job is handed over. `ticket` holds a generation (high half) and the next item (low half).
 * An even generation is open, an odd one is being written:
 *
 *     caller  ticket = (g+1, 0)    closed: no compare-and-swap on an old ticket can succeed
 *             job fields = ...
 *             ticket = (g+2, 0)    open
 *     anyone  t = ticket; read the fields; swap t for t + grain; the fields were t's own if the
 *             swap succeeds, since they change only after the ticket has changed
 *
 * So a thread that slept through the end of a job can never take items of the next one with the
 * function of the last, and the caller need not wait for threads that found nothing to do: it
 * waits until `n_done` items are done, nothing else.
 */
#include "kernels/cpu/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

enum {
    MAX_THREADS = 256,
    /* How long a thread waits awake, in microseconds. Between two ops of a forward pass the helpers
     * must not fall asleep: waking one costs about as much as the op. */
    SPIN_HELPER_US = 100,
    /* The caller sleeps sooner: when the last run of items takes longer than this, its thread has
     * probably lost its core, and an idle core of ours is where the system can move it to. */
    SPIN_CALLER_US = 60,
};

typedef struct {
    gm_team *team;
    pthread_t thread;
    int index; /* 1 .. n_threads - 1 */
} helper;

struct gm_team {
    int n_threads, n_started;
    helper *helpers;

    /* Each on a line of its own: the counter is written by everybody all the time. */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int n_done;
    _Alignas(64) _Atomic(gm_team_fn) fn;
    _Atomic(void *) ud;
    atomic_int n_item, grain;

    _Alignas(64) atomic_bool quit;
    atomic_int n_asleep;       /* helpers that wait on `wake` */
    atomic_bool caller_asleep; /* the caller waits on `done` */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint32_t generation(uint64_t t) { return (uint32_t)(t >> 32); }

/* Takes and computes runs of items until the job of generation gen has none left. */
static void work(gm_team *t, uint32_t gen, int index) {
    uint64_t now = atomic_load_explicit(&t->ticket, memory_order_acquire);
    while (generation(now) == gen) {
        gm_team_fn fn = atomic_load_explicit(&t->fn, memory_order_acquire);
        void *ud = atomic_load_explicit(&t->ud, memory_order_acquire);
        int n_item = atomic_load_explicit(&t->n_item, memory_order_acquire);
        int grain = atomic_load_explicit(&t->grain, memory_order_acquire);
        int begin = (int)(uint32_t)now;
        if (begin >= n_item) return;
        int end = n_item - begin > grain ? begin + grain : n_item;
        uint64_t next = (uint64_t)gen << 32 | (uint32_t)end;
        if (!atomic_compare_exchange_weak_explicit(&t->ticket, &now, next, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        fn(ud, begin, end, index);
        /* Sequentially consistent, as is the caller's store of caller_asleep before it looks at
         * n_done again: one of the two sees the other. */
        int n = atomic_fetch_add(&t->n_done, end - begin) + end - begin;
        if (n == n_item && atomic_load(&t->caller_asleep)) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->done);
            pthread_mutex_unlock(&t->lock);
        }
        now = atomic_load_explicit(&t->ticket, memory_order_acquire);
    }
}

static bool is_new(uint64_t ticket, uint32_t last) {
    uint32_t g = generation(ticket);
    return g != last && (g & 1) == 0;
}

/* Returns a generation other than last, or last when the team ends. */
static uint32_t wait_for_job(gm_team *t, uint32_t last) {
    uint64_t start = gm_now_ns();
    do {
        for (int i = 0; i < 64; i++) {
            uint64_t now = atomic_load_explicit(&t->ticket, memory_order_acquire);
            if (is_new(now, last)) return generation(now);
            relax();
        }
    } while (gm_now_ns() - start < SPIN_HELPER_US * 1000u &&
             !atomic_load_explicit(&t->quit, memory_order_relaxed));

    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_asleep, 1);
    uint64_t now = atomic_load(&t->ticket);
    while (!is_new(now, last) && !atomic_load(&t->quit)) {
        pthread_cond_wait(&t->wake, &t->lock);
        now = atomic_load(&t->ticket);
    }
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->lock);
    return is_new(now, last) ? generation(now) : last;
}

static void *helper_main(void *arg) {
    helper *h = arg;
    uint32_t gen = 0;
    for (;;) {
        uint32_t next = wait_for_job(h->team, gen);
        if (next == gen) return NULL;
        gen = next;
        work(h->team, gen, h->index);
    }
}

static void wait_until_done(gm_team *t, int n_item) {
    uint64_t start = gm_now_ns();
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&t->n_done, memory_order_acquire) == n_item) return;
            relax();
        }
    } while (gm_now_ns() - start < SPIN_CALLER_US * 1000u);

    pthread_mutex_lock(&t->lock);
    atomic_store(&t->caller_asleep, true);
    while (atomic_load(&t->n_done) != n_item) pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->caller_asleep, false);
    pthread_mutex_unlock(&t->lock);
}

void gm_team_run(gm_team *t, gm_team_fn fn, void *ud, int n_item, int grain) {
    if (n_item <= 0) return;
    if (grain < 1) grain = 1;
    if (t->n_started == 0 || n_item <= grain) {
        for (int i = 0; i < n_item; i += grain)
            fn(ud, i, n_item - i > grain ? i + grain : n_item, 0);
        return;
    }
    uint32_t gen = generation(atomic_load_explicit(&t->ticket, memory_order_relaxed)) + 2;
    /* Release stores and acquire loads of the fields: a thread that sees a new field sees the
     * closed ticket too, and its swap fails. */
    atomic_exchange(&t->ticket, (uint64_t)(gen - 1) << 32);
    atomic_store_explicit(&t->fn, fn, memory_order_release);
    atomic_store_explicit(&t->ud, ud, memory_order_release);
    atomic_store_explicit(&t->n_item, n_item, memory_order_release);
    atomic_store_explicit(&t->grain, grain, memory_order_release);
    atomic_store_explicit(&t->n_done, 0, memory_order_relaxed);
    /* Sequentially consistent against n_asleep, see wait_for_job. */
    atomic_store(&t->ticket, (uint64_t)gen << 32);
    if (atomic_load(&t->n_asleep) > 0) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->lock);
    }
    work(t, gen, 0);
    wait_until_done(t, n_item);
}

int gm_team_size(const gm_team *t) { return t->n_started + 1; }

/* Signals belong to the host: helpers are started with all of them blocked. */
static int start_helpers(gm_team *t) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    for (int i = 0; i < t->n_threads - 1; i++) {
        t->helpers[i] = (helper){.team = t, .index = i + 1};
        rc = pthread_create(&t->helpers[i].thread, NULL, helper_main, &t->helpers[i]);
        if (rc != 0) break;
        t->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

int gm_team_create(gm_team **out, int n_threads, char *err, size_t errlen) {
    *out = NULL;
    if (n_threads < 1) n_threads = 1;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    gm_team *t = gm_calloc(1, sizeof *t);
    if (!t) return gm_fail(err, errlen, GM_ENOMEM, "no memory for a team of threads");
    t->n_threads = n_threads;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->done, NULL);
    int rc = GM_OK;
    t->helpers = gm_calloc((size_t)n_threads, sizeof *t->helpers);
    if (!t->helpers)
        rc = gm_fail(err, errlen, GM_ENOMEM, "no memory for %d threads", n_threads);
    else if (start_helpers(t) != 0)
        rc = gm_fail(err, errlen, GM_ENOMEM, "the system gives no more than %d threads",
                     t->n_started + 1);
    if (rc != GM_OK)
        gm_team_destroy(&t);
    *out = t;
    return rc;
}

void gm_team_destroy(gm_team **team) {
    gm_team *t = *team;
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->quit, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n_started; i++) pthread_join(t->helpers[i].thread, NULL);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    gm_free(t->helpers);
    gm_free(t);
    *team = NULL;
}
