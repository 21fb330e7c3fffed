/* events.c: ring of events with texts that are swapped, not copied, on the way out. */
#include "engine/events.h"

#include "base/err.h"

int gm_event_init(gm_event *ev) {
    *ev = (gm_event){0};
    int rc = gm_bytes_reserve(&ev->text, GM_EVENT_MESSAGE);
    if (rc == GM_OK) ev->text.p[0] = '\0';
    return rc;
}

void gm_event_finish(gm_event *ev) {
    gm_bytes_finish(&ev->text);
    *ev = (gm_event){0};
}

int gm_events_init(gm_events *r) {
    r->first = r->n = 0;
    int rc = GM_OK;
    for (size_t i = 0; i < GM_EVENT_RING; i++) r->slot[i] = (gm_event){0};
    for (size_t i = 0; rc == GM_OK && i < GM_EVENT_RING; i++) rc = gm_event_init(&r->slot[i]);
    if (rc < 0) gm_events_finish(r);
    return rc;
}

void gm_events_finish(gm_events *r) {
    for (size_t i = 0; i < GM_EVENT_RING; i++) gm_event_finish(&r->slot[i]);
    r->first = r->n = 0;
}

static int append_text(gm_bytes *b, const char *text, size_t n) {
    int rc = gm_bytes_reserve(b, n + 1);
    if (rc < 0) return rc;
    rc = gm_bytes_append(b, text, n);
    b->p[b->n] = '\0';
    return rc;
}

/* Copies everything but the text buffer, which belongs to the slot. */
static void set_fields(gm_event *slot, const gm_event *ev) {
    gm_bytes text = slot->text;
    *slot = *ev;
    slot->text = text;
}

/* Whether ev can become part of the newest event. */
static bool joins(const gm_event *last, const gm_event *ev, size_t n) {
    if (last->job != ev->job || last->kind != ev->kind) return false;
    if (ev->kind == GM_EV_TEXT || ev->kind == GM_EV_THOUGHT)
        return last->text.n + n <= GM_EVENT_TEXT_MAX;
    return ev->kind == GM_EV_PROGRESS;
}

int gm_events_push(gm_events *r, const gm_event *ev, const char *text, size_t n) {
    gm_event *slot = &r->slot[(r->first + r->n + GM_EVENT_RING - 1) % GM_EVENT_RING];
    bool join = r->n > 0 && joins(slot, ev, n);
    if (!join) {
        if (r->n == GM_EVENT_RING) return 0;
        slot = &r->slot[(r->first + r->n) % GM_EVENT_RING];
        slot->text.n = 0;
    }
    int rc = append_text(&slot->text, text, n);
    if (rc < 0) return rc;
    set_fields(slot, ev);
    if (!join) r->n++;
    return 1;
}

bool gm_events_pop(gm_events *r, gm_event *out) {
    if (r->n == 0) return false;
    gm_event *slot = &r->slot[r->first];
    gm_bytes text = out->text;
    *out = *slot;
    slot->text = text;
    r->first = (r->first + 1) % GM_EVENT_RING;
    r->n--;
    return true;
}
