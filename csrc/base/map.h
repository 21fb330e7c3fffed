/* map.h: a whole file, mapped read-only.
 *
 * Directories, FIFOs, devices and empty files are refused with a message, without blocking.
 * The mapping survives deletion of the file. Truncation of a mapped file by another process
 * is the one thing that cannot be caught without a signal handler (which a library inside an
 * editor must not install); see doc/gemma-dev.txt.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct gm_map gm_map;

int gm_map_open(gm_map **out, const char *path, char *err, size_t errlen);
void gm_map_close(gm_map **m);

const uint8_t *gm_map_data(const gm_map *m);
size_t gm_map_size(const gm_map *m); /* bytes */

/* Hints, never errors. offset and n in bytes, clamped to the map. */
void gm_map_willneed(const gm_map *m, size_t offset, size_t n);
