/* stop.h: ends a stream of text before the first of some strings.
 *
 * Text that could still turn into a stop string is held back until the next piece decides, so
 * that nobody ever sees the beginning of one. Never cuts inside a UTF-8 character. Does not know
 * tokens. Thread: belongs to its job.
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"

typedef struct {
    gm_str *stop; /* [n_stop], not empty */
    size_t n_stop;
    gm_bytes copy; /* what stop points into */
    gm_bytes held;
    size_t skip; /* bytes of the stream that are dropped before anything else */
    bool hit;
} gm_stop;

/* Copies the strings; empty ones are ignored. skip: how many bytes at the beginning of the stream
 * are dropped unseen (what token healing takes back from the prompt). On failure *s is zeroed. */
int gm_stop_init(gm_stop *s, const gm_str *stops, size_t n_stop, size_t skip);
void gm_stop_finish(gm_stop *s);

/* Of n bytes of the stream that do not come here, how many are to be dropped. */
size_t gm_stop_pass(gm_stop *s, size_t n);

/* Takes a piece of whole characters and appends to out what may be shown. After s->hit nothing
 * comes out any more. 0 or GM_ENOMEM. */
int gm_stop_push(gm_stop *s, const char *p, size_t n, gm_bytes *out);

/* End of the stream: appends what was held back. */
int gm_stop_flush(gm_stop *s, gm_bytes *out);
