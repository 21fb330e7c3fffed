/* worker.h: the thread that owns the model, the device and all sessions.
 *
 * Other threads submit jobs, cancel them and take events; every function here holds the lock for
 * a moment only and never waits for computing (destroy excepted, which waits as long as it is
 * told). Work is done in small steps, and between them, or inside one that is interrupted, a more
 * urgent job comes first:
 *
 *     submit/cancel -> queue (sched.h) -> steps (generate.h) -> ring (events.h) -> wake fd
 */
#pragma once

#include "engine/events.h"
#include "engine/service.h"

typedef struct gm_worker gm_worker;

/* On failure *out is NULL. */
int gm_worker_create(gm_worker **out, char *err, size_t errlen);

/* Cancels everything and waits at most timeout_ms for the thread to leave. GM_EBUSY when it did
 * not: then it goes on by itself and its memory is never freed. *w is NULL in every case. */
int gm_worker_destroy(gm_worker **w, uint32_t timeout_ms);

/* Readable when there are events; cleared by gm_worker_wake_clear. */
int gm_worker_wake_fd(const gm_worker *w);
void gm_worker_wake_clear(gm_worker *w);

/* Takes the job and returns its id, or GM_EBUSY, in which case it is still the caller's. */
int64_t gm_worker_submit(gm_worker *w, gm_job *j);

void gm_worker_cancel(gm_worker *w, int64_t id); /* 0: all */

/* Moves the oldest event into ev (from gm_event_init); false: none. */
bool gm_worker_next_event(gm_worker *w, gm_event *ev);

void gm_worker_get_status(gm_worker *w, gm_status *out);
