/* service.h: what the worker does with a job, one step at a time.
 *
 * Owns the engine, the sessions and the healing index. Knows nothing of threads, queues or locks:
 * it is told which job to work on and hands events to a function. Thread: one at a time.
 */
#pragma once

#include "base/cancel.h"
#include "engine/events.h"
#include "engine/job.h"

typedef struct gm_service gm_service;

/* Values as GEMMA_STATE_* of api/gemma.h. */
typedef enum {
    GM_STATE_EMPTY,
    GM_STATE_LOADING,
    GM_STATE_READY,
    GM_STATE_PREFILL,
    GM_STATE_DECODE
} gm_state;

typedef struct {
    gm_state state;
    uint32_t n_ctx, n_ctx_train, n_threads, n_queued;
    bool sees, hears;      /* pictures, sounds */
    uint32_t image_tokens; /* default budget of a picture; 0: sees none */
    uint64_t model_bytes, cache_bytes, n_param, media_rows;
    double prefill_tok_s, decode_tok_s;
    char name[128], type[32], device[64], device_note[160], devices[256];
} gm_status;

/* Takes an event; text is n bytes. 0, GM_ECANCELLED (nobody wants it any more) or GM_ENOMEM.
 * DONE and ERROR are always taken; PROGRESS may be dropped. */
typedef int (*gm_emit_fn)(void *ud, const gm_event *ev, const char *text, size_t n);

/* interrupt: raised by another thread to end the running step early; borrowed. */
int gm_service_create(gm_service **out, const gm_cancel *interrupt, gm_emit_fn emit, void *ud);
void gm_service_destroy(gm_service **s);

/* A step of the job: a load, a chunk, a token. True when the job is over, its DONE or ERROR event
 * being out and its work gone; false when it should be called again, be it because there is more
 * to do or because the step was interrupted. priority: how urgent it is to generate now, which may
 * be more than when the job was made (sched.h). cancelled: only end it. */
bool gm_service_step(gm_service *s, gm_job *j, int32_t priority, bool cancelled);

/* Gives up what was done for a job; for jobs that are dropped without a word. */
void gm_service_drop(gm_job *j);

/* What the next step of the job will be. */
gm_state gm_service_state(const gm_service *s, const gm_job *j);

/* Fills in everything but state and n_queued. */
void gm_service_describe(const gm_service *s, gm_status *out);
