/* digest.h: the SHA-256 of a file, a piece at a time.
 *
 * Reads rather than maps: a file that shrinks meanwhile is an error message, not a signal. Knows
 * nothing of models. Thread: one at a time.
 */
#pragma once

#include "base/cancel.h"
#include "base/sha256.h"

typedef struct gm_digest gm_digest;

/* Opens a regular file. On failure *out is NULL. */
int gm_digest_open(gm_digest **out, const char *path, char *err, size_t errlen);
void gm_digest_close(gm_digest **d);

/* Reads on for some tens of milliseconds, less when it is cancelled. 1: there is more; 0: the
 * end; or an error. */
int gm_digest_step(gm_digest *d, const gm_cancel *cancel, char *err, size_t errlen);

uint64_t gm_digest_done(const gm_digest *d);  /* bytes */
uint64_t gm_digest_total(const gm_digest *d); /* of the file when it was opened */

/* After a step has returned 0, once. */
void gm_digest_hex(gm_digest *d, char hex[GM_SHA256_HEX + 1]);
