/* map.h: a whole file, mapped read-only.
 *
 * What is no regular file (file.h) is refused with a message, and so are empty ones. The mapping
 * survives deletion of the file. Truncation of a mapped file by another process is the one thing
 * that cannot be caught without a signal handler, which a library inside an editor must not
 * install.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"

typedef struct gm_map gm_map;

int gm_map_open(gm_map **out, const char *path, char *err, size_t errlen);
void gm_map_close(gm_map **m);

/* A copy of the contents, at most max bytes of them. For files that other programs write: touching
 * a mapping of a file that became shorter ends the process. */
int gm_map_read(gm_map **out, const char *path, size_t max, const gm_cancel *cancel, char *err,
                size_t errlen);

/* Hands the contents to fn in pieces, all but the last of them a multiple of 8 bytes; an error of
 * fn ends it, and so does the flag: a disk takes seconds for a film. */
typedef int (*gm_bytes_fn)(void *ud, const uint8_t *p, size_t n);
int gm_map_each(const char *path, size_t max, gm_bytes_fn fn, void *ud, const gm_cancel *cancel,
                char *err, size_t errlen);

const uint8_t *gm_map_data(const gm_map *m);
size_t gm_map_size(const gm_map *m); /* bytes */
