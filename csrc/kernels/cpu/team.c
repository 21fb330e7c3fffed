/* team.c: worker threads that take runs of items from one counter.
 *
 * A team has two crews. The caller works in the first; in the calm one it only waits, since a
 * thread that has made itself less urgent may not become urgent again without privileges.
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
#include <string.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/nice.h"

enum {
    /* How long a thread waits awake, in microseconds. Between two ops of a forward pass the helpers
     * must not fall asleep: waking one costs about as much as the op. */
    SPIN_HELPER_US = 100,
    /* The caller sleeps sooner: when the last run of items takes longer than this, its thread has
     * probably lost its core, and an idle core of ours is where the system can move it to. Where it
     * only waits it would be in the way of those who work. */
    SPIN_CALLER_US = 60,
    MIN_ROOM = 8, /* threads left to the editor where the system has a limit */
};

typedef struct crew crew;

typedef struct {
    crew *crew;
    pthread_t thread;
    int index; /* 0 .. n_threads - 1; 0 only in the calm crew */
} helper;

struct crew {
    bool calm;
    int n_threads; /* for whom the items are: the helpers and, in the first crew, the caller */
    int n_started;
    helper *helpers; /* NULL: not started */

    /* Each on a line of its own: the counter is written by everybody all the time. */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int n_done;
    _Alignas(64) _Atomic(gm_team_fn) fn;
    _Atomic(void *) ud;
    atomic_int n_item, grain, most;

    _Alignas(64) atomic_bool quit;
    atomic_int n_asleep;       /* helpers that wait on `wake` */
    atomic_bool caller_asleep; /* the caller waits on `done` */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
};

struct gm_team {
    crew first, calm;
    bool is_calm;
    bool wants_calm; /* as last asked for */
    bool is_limited; /* the system gave fewer threads than asked for */
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint32_t generation(uint64_t t) { return (uint32_t)(t >> 32); }

/* How many of the items that are left a thread takes: long runs first and short ones last, so that
 * the threads finish together. */
static int run_of(int left, int grain, int most, int n_threads) {
    int n = left / (2 * n_threads);
    n = n < grain ? grain : n > most ? most : n;
    return n < left ? n : left;
}

/* Takes and computes runs of items until the job of generation gen has none left. */
static void work(crew *c, uint32_t gen, int index) {
    uint64_t now = atomic_load_explicit(&c->ticket, memory_order_acquire);
    while (generation(now) == gen) {
        gm_team_fn fn = atomic_load_explicit(&c->fn, memory_order_acquire);
        void *ud = atomic_load_explicit(&c->ud, memory_order_acquire);
        int n_item = atomic_load_explicit(&c->n_item, memory_order_acquire);
        int grain = atomic_load_explicit(&c->grain, memory_order_acquire);
        int begin = (int)(uint32_t)now;
        if (begin >= n_item) return;
        int most = atomic_load_explicit(&c->most, memory_order_acquire);
        int end = begin + run_of(n_item - begin, grain, most, c->n_threads);
        uint64_t next = (uint64_t)gen << 32 | (uint32_t)end;
        if (!atomic_compare_exchange_weak_explicit(&c->ticket, &now, next, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        fn(ud, begin, end, index);
        /* Sequentially consistent, as is the caller's store of caller_asleep before it looks at
         * n_done again: one of the two sees the other. */
        int n = atomic_fetch_add(&c->n_done, end - begin) + end - begin;
        if (n == n_item && atomic_load(&c->caller_asleep)) {
            pthread_mutex_lock(&c->lock);
            pthread_cond_signal(&c->done);
            pthread_mutex_unlock(&c->lock);
        }
        now = atomic_load_explicit(&c->ticket, memory_order_acquire);
    }
}

static bool is_new(uint64_t ticket, uint32_t last) {
    uint32_t g = generation(ticket);
    return g != last && (g & 1) == 0;
}

/* Returns a generation other than last, or last when the team ends. */
static uint32_t wait_for_job(crew *c, uint32_t last) {
    uint64_t start = gm_now_ns();
    do {
        for (int i = 0; i < 64; i++) {
            uint64_t now = atomic_load_explicit(&c->ticket, memory_order_acquire);
            if (is_new(now, last)) return generation(now);
            relax();
        }
    } while (gm_now_ns() - start < SPIN_HELPER_US * 1000u &&
             !atomic_load_explicit(&c->quit, memory_order_relaxed));

    pthread_mutex_lock(&c->lock);
    atomic_fetch_add(&c->n_asleep, 1);
    uint64_t now = atomic_load(&c->ticket);
    while (!is_new(now, last) && !atomic_load(&c->quit)) {
        pthread_cond_wait(&c->wake, &c->lock);
        now = atomic_load(&c->ticket);
    }
    atomic_fetch_sub(&c->n_asleep, 1);
    pthread_mutex_unlock(&c->lock);
    return is_new(now, last) ? generation(now) : last;
}

static void *helper_main(void *arg) {
    helper *h = arg;
    if (h->crew->calm) gm_nice_thread();
    uint32_t gen = 0;
    for (;;) {
        uint32_t next = wait_for_job(h->crew, gen);
        if (next == gen) return NULL;
        gen = next;
        work(h->crew, gen, h->index);
    }
}

static void wait_until_done(crew *c, int n_item) {
    uint64_t start = gm_now_ns();
    const uint64_t spin = c->calm ? 0 : SPIN_CALLER_US * 1000u;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&c->n_done, memory_order_acquire) == n_item) return;
            relax();
        }
    } while (gm_now_ns() - start < spin);

    pthread_mutex_lock(&c->lock);
    atomic_store(&c->caller_asleep, true);
    while (atomic_load(&c->n_done) != n_item) pthread_cond_wait(&c->done, &c->lock);
    atomic_store(&c->caller_asleep, false);
    pthread_mutex_unlock(&c->lock);
}

void gm_team_run(gm_team *t, gm_team_fn fn, void *ud, int n_item, int grain, int most) {
    if (n_item <= 0) return;
    if (grain < 1) grain = 1;
    if (most < grain) most = grain;
    crew *c = t->is_calm ? &t->calm : &t->first;
    /* A calm crew gets what is one run too: on one thread that may be all of a matrix. */
    if (c->n_started == 0 || (n_item <= grain && !c->calm)) {
        for (int i = 0; i < n_item; i += most) fn(ud, i, n_item - i > most ? i + most : n_item, 0);
        return;
    }
    uint32_t gen = generation(atomic_load_explicit(&c->ticket, memory_order_relaxed)) + 2;
    /* Release stores and acquire loads of the fields: a thread that sees a new field sees the
     * closed ticket too, and its swap fails. */
    atomic_exchange(&c->ticket, (uint64_t)(gen - 1) << 32);
    atomic_store_explicit(&c->fn, fn, memory_order_release);
    atomic_store_explicit(&c->ud, ud, memory_order_release);
    atomic_store_explicit(&c->n_item, n_item, memory_order_release);
    atomic_store_explicit(&c->grain, grain, memory_order_release);
    atomic_store_explicit(&c->most, most, memory_order_release);
    atomic_store_explicit(&c->n_done, 0, memory_order_relaxed);
    /* Sequentially consistent against n_asleep, see wait_for_job. */
    atomic_store(&c->ticket, (uint64_t)gen << 32);
    if (atomic_load(&c->n_asleep) > 0) {
        pthread_mutex_lock(&c->lock);
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->lock);
    }
    if (!c->calm) work(c, gen, 0);
    wait_until_done(c, n_item);
}

int gm_team_size(const gm_team *t) { return t->first.n_threads; }

/* ---- life ------------------------------------------------------------------------------------ */

static void init_crew(crew *c, bool calm) {
    c->calm = calm;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->done, NULL);
}

/* Afterwards the crew is as before its start. */
static void end_helpers(crew *c) {
    pthread_mutex_lock(&c->lock);
    atomic_store(&c->quit, true);
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->n_started; i++) pthread_join(c->helpers[i].thread, NULL);
    atomic_store(&c->quit, false);
    c->n_started = 0;
    gm_free(c->helpers);
    c->helpers = NULL;
}

static void finish_crew(crew *c) {
    end_helpers(c);
    pthread_cond_destroy(&c->done);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
}

/* Helpers with the indices first .. end - 1, or fewer. 0, GM_ENOMEM, or what pthread_create says.
 * Signals belong to the host: they are started with all of them blocked. */
static int try_helpers(crew *c, int first, int end) {
    c->helpers = gm_calloc((size_t)(end - first) + 1, sizeof *c->helpers);
    if (!c->helpers) return GM_ENOMEM;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    for (int i = first; i < end && rc == 0; i++) {
        helper *h = &c->helpers[i - first];
        *h = (helper){.crew = c, .index = i};
        rc = pthread_create(&h->thread, NULL, helper_main, h);
        if (rc == 0) c->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    c->n_threads = first + c->n_started;
    return rc;
}

/* A container's limit may be lower than its host's number of cores: the items are for whoever
 * comes. A limit that is reached is the editor's too, which could start no shell and no language
 * server: a part is left to it. limited: it was reached before, and the first to come may be that
 * part. */
static int start_helpers(crew *c, int first, int end, bool limited) {
    int rc = try_helpers(c, first, limited ? end + MIN_ROOM : end);
    if (rc < 0 || (rc == 0 && !limited)) return rc;
    const int given = c->n_started, quarter = (given + 3) / 4;
    const int room = quarter > MIN_ROOM ? quarter : MIN_ROOM;
    const int n = given < room ? 0 : given - room < end - first ? given - room : end - first;
    end_helpers(c);
    const int again = try_helpers(c, first, first + n);
    if (again < 0) return again;
    if (rc > 0)
        gm_log(GM_LOG_WARN, "kernels", "of %d threads%s %d are used, as the system gives %d: %s",
               end, c->calm ? " for the background" : "", c->n_threads, first + given,
               strerror(rc));
    return GM_OK;
}

int gm_team_create(gm_team **out, int n_threads, char *err, size_t errlen) {
    *out = NULL;
    if (n_threads < 1) n_threads = 1;
    if (n_threads > GM_TEAM_MAX) n_threads = GM_TEAM_MAX;
    gm_team *t = gm_calloc(1, sizeof *t);
    if (!t) return gm_fail(err, errlen, GM_ENOMEM, "no memory for a team of threads");
    init_crew(&t->first, false);
    init_crew(&t->calm, true);
    if (start_helpers(&t->first, 1, n_threads, false) != GM_OK) {
        gm_team_destroy(&t);
        return gm_fail(err, errlen, GM_ENOMEM, "no memory for %d threads", n_threads);
    }
    t->is_limited = gm_team_size(t) < n_threads;
    *out = t;
    return GM_OK;
}

/* Helpers that were not to be had are tried again with the next work that is calm, not with each
 * token of this one. */
void gm_team_set_calm(gm_team *t, bool calm) {
    crew *c = &t->calm;
    if (calm && !t->wants_calm && c->n_started == 0) {
        if (start_helpers(c, 0, gm_team_size(t), t->is_limited) != GM_OK)
            gm_log(GM_LOG_WARN, "kernels", "no memory for %d threads for the background",
                   gm_team_size(t));
        if (c->n_started == 0) end_helpers(c);
    }
    t->wants_calm = calm;
    t->is_calm = calm && c->n_started > 0;
}

void gm_team_destroy(gm_team **team) {
    gm_team *t = *team;
    if (!t) return;
    finish_crew(&t->first);
    finish_crew(&t->calm);
    gm_free(t);
    *team = NULL;
}
