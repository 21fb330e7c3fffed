/* buf.h: growing arrays of bytes and of 32-bit integers, and borrowed slices.
 *
 * Owns its memory through mem.h. A zeroed struct is an empty array.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes, not terminated. */
typedef struct {
    const char *p;
    size_t n;
} gm_str;

typedef struct {
    char *p;
    size_t n, cap; /* bytes */
} gm_bytes;

typedef struct {
    int32_t *v;
    size_t n, cap; /* elements */
} gm_ids;

/* 0 or GM_ENOMEM; the array is unchanged on failure. */
int gm_bytes_append(gm_bytes *b, const void *p, size_t n);
int gm_bytes_reserve(gm_bytes *b, size_t extra);
void gm_bytes_finish(gm_bytes *b);

int gm_ids_push(gm_ids *a, int32_t v);
int gm_ids_append(gm_ids *a, const int32_t *v, size_t n);
int gm_ids_reserve(gm_ids *a, size_t extra);
void gm_ids_finish(gm_ids *a);
