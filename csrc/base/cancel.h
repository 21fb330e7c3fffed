/* cancel.h: a flag that one thread sets and another polls inside long loops. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
    atomic_bool set;
} gm_cancel;

/* c may be NULL: never cancelled. */
static inline bool gm_cancelled(const gm_cancel *c) {
    return c && atomic_load_explicit(&c->set, memory_order_relaxed);
}
