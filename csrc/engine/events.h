/* events.h: the bounded ring through which the worker tells what happened.
 *
 * Text that follows text of the same job and kind is added to it, and progress replaces progress,
 * so that a reader who drains late finds few events rather than many. Every slot has room for a
 * message from the start: an error event never needs memory. No lock: the worker guards it with its
 * own.
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"

/* Values as GEMMA_EV_* of api/gemma.h. */
typedef enum {
    GM_EV_PROGRESS = 1,
    GM_EV_TEXT,
    GM_EV_DONE,
    GM_EV_ERROR,
    GM_EV_LOG,
    GM_EV_THOUGHT
} gm_event_kind;

typedef struct {
    int64_t job;
    gm_event_kind kind;
    int32_t code;
    gm_bytes text; /* zero-terminated; n without the zero */
    uint64_t done, total;
    float logprob;
    uint32_t stop_reason, n_prompt, n_reused, n_generated, n_media;
    double prefill_ms, decode_ms;
} gm_event;

enum {
    GM_EVENT_RING = 256,        /* slots */
    GM_EVENT_MESSAGE = 512,     /* bytes that every slot has from the start */
    GM_EVENT_TEXT_MAX = 1 << 16 /* text that joined events may hold */
};

typedef struct {
    gm_event slot[GM_EVENT_RING];
    size_t first, n;
} gm_events;

int gm_events_init(gm_events *r); /* 0 or GM_ENOMEM, then nothing is held */
void gm_events_finish(gm_events *r);

/* An event outside the ring, to pop into. */
int gm_event_init(gm_event *ev);
void gm_event_finish(gm_event *ev);

/* 1 when it was taken, 0 when the ring is full, or GM_ENOMEM (never for up to GM_EVENT_MESSAGE - 1
 * bytes of text). ev->text is not used. */
int gm_events_push(gm_events *r, const gm_event *ev, const char *text, size_t n);

/* Moves the oldest event into out, whose text buffer goes back to the ring; false: none. */
bool gm_events_pop(gm_events *r, gm_event *out);
