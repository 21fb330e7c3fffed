/* stop.c: a window over the end of the stream, as long as the longest stop string. */
#include "engine/stop.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

int gm_stop_init(gm_stop *s, const gm_str *stops, size_t n_stop, size_t skip) {
    *s = (gm_stop){.skip = skip};
    s->stop = gm_calloc(n_stop, sizeof *s->stop);
    int rc = s->stop ? GM_OK : GM_ENOMEM;
    for (size_t i = 0; rc == GM_OK && i < n_stop; i++)
        rc = gm_bytes_append(&s->copy, stops[i].p, stops[i].n);
    if (rc < 0) {
        gm_stop_finish(s);
        return rc;
    }
    const char *p = s->copy.p; /* only now does the block stay where it is */
    for (size_t i = 0; i < n_stop; i++) {
        if (stops[i].n > 0) s->stop[s->n_stop++] = (gm_str){p, stops[i].n};
        p += stops[i].n;
    }
    return GM_OK;
}

void gm_stop_finish(gm_stop *s) {
    gm_free(s->stop);
    gm_bytes_finish(&s->copy);
    gm_bytes_finish(&s->held);
    *s = (gm_stop){0};
}

/* Where the first stop string begins, or n. */
static size_t first_stop(const gm_stop *s) {
    size_t first = s->held.n;
    for (size_t i = 0; i < s->n_stop; i++) {
        const char *at = memmem(s->held.p, s->held.n, s->stop[i].p, s->stop[i].n);
        if (at && (size_t)(at - s->held.p) < first) first = (size_t)(at - s->held.p);
    }
    return first;
}

/* Length of the longest end of the held text that is the beginning of a stop string. */
static size_t undecided(const gm_stop *s) {
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stop; i++) {
        gm_str stop = s->stop[i];
        size_t n = stop.n - 1 < s->held.n ? stop.n - 1 : s->held.n;
        for (; n > longest; n--)
            if (memcmp(s->held.p + s->held.n - n, stop.p, n) == 0) longest = n;
    }
    return longest;
}

static int emit(gm_stop *s, size_t n, gm_bytes *out) {
    /* A stop string may begin with the second byte of a character. */
    while (n < s->held.n && n > 0 && ((unsigned char)s->held.p[n] & 0xC0) == 0x80) n--;
    int rc = gm_bytes_append(out, s->held.p, n);
    if (rc < 0) return rc;
    memmove(s->held.p, s->held.p + n, s->held.n - n);
    s->held.n -= n;
    return GM_OK;
}

static size_t to_drop(const gm_stop *s, size_t n) { return n < s->skip ? n : s->skip; }

size_t gm_stop_pass(gm_stop *s, size_t n) {
    size_t dropped = to_drop(s, n);
    s->skip -= dropped;
    return dropped;
}

int gm_stop_push(gm_stop *s, const char *p, size_t n, gm_bytes *out) {
    size_t dropped = to_drop(s, n);
    if (s->hit || n == dropped) {
        s->skip -= dropped;
        return GM_OK;
    }
    if (s->n_stop == 0 && s->held.n == 0) {
        int rc = gm_bytes_append(out, p + dropped, n - dropped);
        if (rc == GM_OK) s->skip -= dropped;
        return rc;
    }
    int rc = gm_bytes_append(&s->held, p + dropped, n - dropped);
    if (rc < 0) return rc;
    s->skip -= dropped;
    size_t at = first_stop(s);
    if (at == s->held.n) return emit(s, s->held.n - undecided(s), out);
    s->hit = true;
    return emit(s, at, out);
}

int gm_stop_flush(gm_stop *s, gm_bytes *out) {
    if (s->hit || s->held.n == 0) return GM_OK;
    return emit(s, s->held.n, out);
}
