/* worker.c: the thread, the lock, the wake descriptor. The only user of uv.h.
 *
 * One lock guards queue, ring and status, and nobody holds it while computing, waiting or
 * freeing. The worker looks at the queue before every step; a submission that changes what should
 * run raises `interrupt`, which ends the running step within a layer, and so does cancelling.
 * `interrupt` is lowered under the lock at the start of each step, so none is lost: whoever raises
 * it has changed the queue under the lock before.
 */
#include "engine/worker.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif
#include "base/cancel.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/sched.h"

enum { STACK_BYTES = 8 << 20 }; /* some systems give new threads half a megabyte */

struct gm_worker {
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t work;  /* the queue changed, or stop */
    uv_cond_t space; /* the ring has room, or nobody waits for the event any more, or stop */
    uv_cond_t left;  /* the thread is done */
    gm_cancel interrupt;
    gm_service *service; /* the thread's own */

    /* guarded by lock */
    bool stop, ended, awake;
    gm_sched sched;
    gm_events events;
    gm_job *running;  /* in a step right now */
    int32_t priority; /* of that step */
    gm_status status;
    int wake_read, wake_write;
    gm_worker *younger; /* the next one for the log */
};

/* ---- the log goes to the oldest worker ------------------------------------------------------- */

static uv_once_t log_once = UV_ONCE_INIT;
static uv_mutex_t log_lock;
static gm_worker *log_workers; /* oldest first; guarded by log_lock */

static void wake(gm_worker *w);

/* May be called by any thread. Drops the line rather than wait or crowd out what jobs say. */
static void log_sink(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud;
    char text[GM_EVENT_MESSAGE];
    int n = snprintf(text, sizeof text, "%s: %s", room, line);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    gm_event ev = {.kind = GM_EV_LOG, .code = (int32_t)level};
    uv_mutex_lock(&log_lock);
    gm_worker *w = log_workers;
    if (w) {
        uv_mutex_lock(&w->lock);
        if (w->events.n < GM_EVENT_RING / 2 && gm_events_push(&w->events, &ev, text, len) == 1)
            wake(w);
        uv_mutex_unlock(&w->lock);
    }
    uv_mutex_unlock(&log_lock);
}

/* Reads the environment as well, which no worker may do: the editor may change it meanwhile. */
static void log_begin(void) {
    if (uv_mutex_init(&log_lock) != 0) return;
    gm_log_set_sink(log_sink, NULL);
}

static void log_attach(gm_worker *w) {
    uv_once(&log_once, log_begin);
    uv_mutex_lock(&log_lock);
    gm_worker **end = &log_workers;
    while (*end) end = &(*end)->younger;
    *end = w;
    uv_mutex_unlock(&log_lock);
}

static void log_detach(const gm_worker *w) {
    uv_mutex_lock(&log_lock);
    gm_worker **at = &log_workers;
    while (*at && *at != w) at = &(*at)->younger;
    if (*at) *at = w->younger;
    uv_mutex_unlock(&log_lock);
}

/* ---- waking the reader ----------------------------------------------------------------------- */

static int open_wake(gm_worker *w) {
#ifdef __linux__
    w->wake_read = w->wake_write = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->wake_read < 0 ? GM_EIO : GM_OK;
#else
    int fd[2];
    if (pipe(fd) != 0) return GM_EIO;
    for (int i = 0; i < 2; i++) {
        fcntl(fd[i], F_SETFD, FD_CLOEXEC);
        fcntl(fd[i], F_SETFL, O_NONBLOCK);
    }
    w->wake_read = fd[0];
    w->wake_write = fd[1];
    return GM_OK;
#endif
}

static void close_wake(gm_worker *w) {
    if (w->wake_write >= 0 && w->wake_write != w->wake_read) close(w->wake_write);
    if (w->wake_read >= 0) close(w->wake_read);
}

/* Under the lock. Once is enough until the reader has answered. */
static void wake(gm_worker *w) {
    if (w->awake) return;
    w->awake = true;
    uint64_t one = 1;
    ssize_t n = write(w->wake_write, &one, sizeof one);
    (void)n; /* full means readable, which is all that is wanted */
}

int gm_worker_wake_fd(const gm_worker *w) { return w->wake_read; }

void gm_worker_wake_clear(gm_worker *w) {
    uint64_t sink[8];
    uv_mutex_lock(&w->lock);
    while (read(w->wake_read, sink, sizeof sink) == (ssize_t)sizeof sink) {
    }
    w->awake = false;
    uv_mutex_unlock(&w->lock);
}

/* ---- events ---------------------------------------------------------------------------------- */

/* From the worker thread. When the ring is full it waits for the reader; text of a job that was
 * cancelled meanwhile is given up, the last event of a job is not. Whoever sees that last event
 * must also see its effect: the status changes with it, not a moment later. */
static int emit(void *ud, const gm_event *ev, const char *text, size_t n) {
    gm_worker *w = ud;
    bool last = ev->kind == GM_EV_DONE || ev->kind == GM_EV_ERROR;
    gm_status after = {0};
    if (last) {
        gm_service_describe(w->service, &after);
        after.state = gm_service_state(w->service, NULL);
    }
    uv_mutex_lock(&w->lock);
    int rc;
    for (;;) {
        rc = w->stop ? GM_ECANCELLED : gm_events_push(&w->events, ev, text, n);
        if (rc != 0 || ev->kind == GM_EV_PROGRESS) break;
        if (!last && w->running && w->running->cancelled) {
            rc = GM_ECANCELLED;
            break;
        }
        uv_cond_wait(&w->space, &w->lock);
    }
    if (rc == 1) {
        if (last) w->status = after;
        wake(w);
    }
    uv_mutex_unlock(&w->lock);
    return rc < 0 ? rc : GM_OK;
}

bool gm_worker_next_event(gm_worker *w, gm_event *ev) {
    uv_mutex_lock(&w->lock);
    bool any = gm_events_pop(&w->events, ev);
    if (any) uv_cond_signal(&w->space);
    uv_mutex_unlock(&w->lock);
    return any;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void lower(gm_cancel *c) { atomic_store_explicit(&c->set, false, memory_order_relaxed); }
static void raise_flag(gm_cancel *c) { atomic_store_explicit(&c->set, true, memory_order_relaxed); }

/* Under the lock. While a model is loaded, nothing of the old one is shown. */
static void set_state(gm_worker *w, const gm_job *j) {
    gm_status *st = &w->status;
    if (j && j->kind == GM_JOB_LOAD) *st = (gm_status){0};
    st->state = gm_service_state(w->service, j);
}

static void take_description(gm_worker *w) {
    gm_status st;
    gm_service_describe(w->service, &st);
    uv_mutex_lock(&w->lock);
    st.state = w->status.state;
    w->status = st;
    uv_mutex_unlock(&w->lock);
}

/* Called and left with the lock held, which is given up for the step itself. */
static void step(gm_worker *w, gm_job *j, int32_t priority) {
    bool cancelled = j->cancelled;
    lower(&w->interrupt);
    w->running = j;
    w->priority = priority;
    set_state(w, j);
    uv_mutex_unlock(&w->lock);

    bool over = gm_service_step(w->service, j, priority, cancelled);
    take_description(w);

    uv_mutex_lock(&w->lock);
    w->running = NULL;
    if (over) {
        gm_sched_remove(&w->sched, j);
        uv_mutex_unlock(&w->lock);
        gm_job_destroy(&j);
        uv_mutex_lock(&w->lock);
    }
}

static void leave(gm_worker *w) {
    gm_sched left = w->sched;
    gm_sched_init(&w->sched);
    uv_mutex_unlock(&w->lock);
    for (gm_job *j = left.first; j; j = j->next) gm_service_drop(j);
    gm_sched_finish(&left);
    gm_service_destroy(&w->service);
    uv_mutex_lock(&w->lock);
}

static void thread_main(void *ud) {
    gm_worker *w = ud;
    /* The editor's signals belong to the editor's thread; compute threads inherit this. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);

    uv_mutex_lock(&w->lock);
    while (!w->stop) {
        int32_t priority = GM_PRIO_TYPING;
        gm_job *j = gm_sched_pick(&w->sched, &priority);
        if (j) {
            step(w, j, priority);
        } else {
            set_state(w, NULL);
            uv_cond_wait(&w->work, &w->lock);
        }
    }
    leave(w);
    w->ended = true;
    uv_cond_broadcast(&w->left);
    uv_mutex_unlock(&w->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int start_thread(gm_worker *w) {
    uv_thread_options_t o = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    return uv_thread_create_ex(&w->thread, &o, thread_main, w) == 0 ? GM_OK : GM_ENOMEM;
}

/* Locks and conditions either all exist or none does. */
static int init_sync(gm_worker *w) {
    if (uv_mutex_init(&w->lock) != 0) return GM_ENOMEM;
    uv_cond_t *cond[] = {&w->work, &w->space, &w->left};
    for (int i = 0; i < 3; i++) {
        if (uv_cond_init(cond[i]) == 0) continue;
        while (i-- > 0) uv_cond_destroy(cond[i]);
        uv_mutex_destroy(&w->lock);
        return GM_ENOMEM;
    }
    return GM_OK;
}

static void finish_sync(gm_worker *w) {
    uv_cond_destroy(&w->left);
    uv_cond_destroy(&w->space);
    uv_cond_destroy(&w->work);
    uv_mutex_destroy(&w->lock);
}

/* Everything but the thread, which is not there or has left. */
static void free_worker(gm_worker *w) {
    gm_sched_finish(&w->sched);
    gm_service_destroy(&w->service);
    gm_events_finish(&w->events);
    close_wake(w);
    finish_sync(w);
    gm_free(w);
}

int gm_worker_create(gm_worker **out, char *err, size_t errlen) {
    *out = NULL;
    gm_worker *w = gm_calloc(1, sizeof *w);
    if (!w || init_sync(w) < 0) {
        gm_free(w);
        return gm_fail_code(err, errlen, GM_ENOMEM);
    }
    w->wake_read = w->wake_write = -1;
    gm_sched_init(&w->sched);
    int rc = gm_events_init(&w->events);
    if (rc == GM_OK) rc = gm_service_create(&w->service, &w->interrupt, emit, w);
    if (rc == GM_OK) rc = open_wake(w);
    if (rc == GM_OK) rc = start_thread(w);
    if (rc < 0) {
        free_worker(w);
        return gm_fail(err, errlen, rc, "cannot start the worker: %s", gm_err_text(rc));
    }
    log_attach(w);
    *out = w;
    return GM_OK;
}

/* Under the lock. uv_cond_timedwait may return early. */
static bool wait_for_end(gm_worker *w, uint32_t timeout_ms) {
    uint64_t start = gm_now_ns(), limit = (uint64_t)timeout_ms * 1000000u;
    while (!w->ended) {
        uint64_t spent = gm_now_ns() - start;
        if (spent >= limit) return false;
        uv_cond_timedwait(&w->left, &w->lock, limit - spent);
    }
    return true;
}

int gm_worker_destroy(gm_worker **wp, uint32_t timeout_ms) {
    if (!wp || !*wp) return GM_OK;
    gm_worker *w = *wp;
    *wp = NULL;
    log_detach(w);
    uv_mutex_lock(&w->lock);
    w->stop = true;
    raise_flag(&w->interrupt);
    uv_cond_broadcast(&w->work);
    uv_cond_broadcast(&w->space);
    bool ended = wait_for_end(w, timeout_ms);
    uv_mutex_unlock(&w->lock);
    if (!ended) return GM_EBUSY;
    uv_thread_join(&w->thread);
    free_worker(w);
    return GM_OK;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

/* Under the lock. A calm step may be all media of a prompt: it is not left to its slow threads when
 * somebody begins to wait for it. */
static void reconsider(gm_worker *w) {
    int32_t priority = GM_PRIO_TYPING;
    const gm_job *best = gm_sched_best(&w->sched, &priority);
    const bool urgent = w->priority >= GM_PRIO_BACKGROUND && priority < w->priority;
    if (w->running && (best != w->running || urgent)) raise_flag(&w->interrupt);
    uv_cond_signal(&w->work);
}

int64_t gm_worker_submit(gm_worker *w, gm_job *j) {
    uv_mutex_lock(&w->lock);
    int64_t id = gm_sched_add(&w->sched, j);
    if (id > 0) reconsider(w);
    uv_mutex_unlock(&w->lock);
    return id;
}

void gm_worker_cancel(gm_worker *w, int64_t id) {
    uv_mutex_lock(&w->lock);
    for (gm_job *j = w->sched.first; j; j = j->next) {
        if (id != 0 && j->id != id) continue;
        j->cancelled = true;
        if (j == w->running) raise_flag(&w->interrupt);
    }
    uv_cond_signal(&w->work);
    uv_cond_signal(&w->space);
    uv_mutex_unlock(&w->lock);
}

void gm_worker_get_status(gm_worker *w, gm_status *out) {
    uv_mutex_lock(&w->lock);
    *out = w->status;
    out->n_queued = (uint32_t)(w->sched.n - (w->running ? 1 : 0));
    uv_mutex_unlock(&w->lock);
}
