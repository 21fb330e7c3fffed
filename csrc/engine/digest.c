/* digest.c: see digest.h. */
#include "engine/digest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

enum { PIECE = 256 << 10 }; /* bytes of one read: about a millisecond of work */

static const double STEP_MS = 30; /* between two looks at the queue */

struct gm_digest {
    int fd;
    char *name; /* for messages */
    uint64_t done, total;
    gm_sha256 hash;
    uint8_t piece[PIECE];
};

void gm_digest_close(gm_digest **dp) {
    if (!dp || !*dp) return;
    gm_digest *d = *dp;
    *dp = NULL;
    if (d->fd >= 0) close(d->fd);
    gm_free(d->name);
    gm_free(d);
}

int gm_digest_open(gm_digest **out, const char *path, char *err, size_t errlen) {
    *out = NULL;
    const char *name = gm_path_tail(path);
    gm_digest *d = gm_calloc(1, sizeof *d);
    if (!d) return gm_fail_code(err, errlen, GM_ENOMEM);
    d->fd = -1;
    gm_sha256_begin(&d->hash);
    d->name = gm_strndup(name, strlen(name));
    int rc = d->name ? gm_file_open(path, &d->fd, &d->total, err, errlen)
                     : gm_fail_code(err, errlen, GM_ENOMEM);
    if (rc < 0) gm_digest_close(&d);
    *out = d;
    return rc;
}

int gm_digest_step(gm_digest *d, const gm_cancel *cancel, char *err, size_t errlen) {
    uint64_t start = gm_now_ns();
    while (!gm_cancelled(cancel) && gm_ms_since(start) < STEP_MS) {
        ssize_t n = read(d->fd, d->piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return gm_file_fail(d->name, errno, err, errlen);
        if (n == 0 && d->done == d->total) return 0;
        d->done += (uint64_t)n;
        if (n == 0 || d->done > d->total)
            return gm_fail(err, errlen, GM_EIO, "%s changed while it was read", d->name);
        gm_sha256_add(&d->hash, d->piece, (size_t)n);
    }
    return 1;
}

uint64_t gm_digest_done(const gm_digest *d) { return d->done; }
uint64_t gm_digest_total(const gm_digest *d) { return d->total; }

void gm_digest_hex(gm_digest *d, char hex[GM_SHA256_HEX + 1]) { gm_sha256_end(&d->hash, hex); }
