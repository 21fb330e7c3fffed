/* buf.c: growing arrays. */
#include "base/buf.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

int gm_bytes_reserve(gm_bytes *b, size_t extra) {
    size_t need;
    if (!gm_add_size(b->n, extra, &need)) return GM_ENOMEM;
    return gm_grow(&b->p, &b->cap, need, 1);
}

int gm_bytes_append(gm_bytes *b, const void *p, size_t n) {
    int rc = gm_bytes_reserve(b, n);
    if (rc < 0) return rc;
    if (n > 0) memcpy(b->p + b->n, p, n);
    b->n += n;
    return GM_OK;
}

void gm_bytes_finish(gm_bytes *b) {
    gm_free(b->p);
    *b = (gm_bytes){0};
}

int gm_ids_reserve(gm_ids *a, size_t extra) {
    size_t need;
    if (!gm_add_size(a->n, extra, &need)) return GM_ENOMEM;
    return gm_grow(&a->v, &a->cap, need, sizeof *a->v);
}

int gm_ids_push(gm_ids *a, int32_t v) {
    int rc = gm_ids_reserve(a, 1);
    if (rc < 0) return rc;
    a->v[a->n++] = v;
    return GM_OK;
}

int gm_ids_append(gm_ids *a, const int32_t *v, size_t n) {
    int rc = gm_ids_reserve(a, n);
    if (rc < 0) return rc;
    if (n > 0) memcpy(a->v + a->n, v, n * sizeof *v);
    a->n += n;
    return GM_OK;
}

void gm_ids_finish(gm_ids *a) {
    gm_free(a->v);
    *a = (gm_ids){0};
}
