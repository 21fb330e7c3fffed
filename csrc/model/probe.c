/* probe.c: writes rows of activations to files when GEMMA_PROBE asks for them.
 *
 * Never allocates: rows go through a small buffer on the stack, so that probing works inside the
 * decoder, which must not allocate.
 */
#include "model/probe.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"

#define ANY (-2) /* of layer and position; -1 is a layer of its own */

static struct {
    char dir[512];
    char name[32]; /* "*": all */
    long layer, pos;
} want;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_bool on;

/* "*" or a number. */
static bool parse_number(const char *s, long *out) {
    *out = ANY;
    if (strcmp(s, "*") == 0) return true;
    char *end;
    *out = strtol(s, &end, 10);
    return *s && !*end && *out >= -1;
}

/* dir:name:layer:pos; a folder may contain colons, so it is taken apart from the end. */
static bool parse(const char *spec) {
    char text[sizeof want.dir];
    if (strlen(spec) >= sizeof text) return false;
    strcpy(text, spec);
    char *part[3];
    for (int i = 2; i >= 0; i--) {
        char *colon = strrchr(text, ':');
        if (!colon) return false;
        *colon = '\0';
        part[i] = colon + 1;
    }
    if (!*text || strlen(part[0]) >= sizeof want.name) return false;
    strcpy(want.dir, text);
    strcpy(want.name, part[0]);
    return parse_number(part[1], &want.layer) && parse_number(part[2], &want.pos);
}

static void read_spec(void) {
    pthread_mutex_lock(&lock);
    const char *spec = gm_env(GM_ENV_PROBE);
    bool ok = spec && parse(spec);
    if (spec && !ok)
        gm_log(GM_LOG_WARN, "model", "GEMMA_PROBE '%s' is not dir:name:layer:pos", spec);
    atomic_store(&on, ok);
    pthread_mutex_unlock(&lock);
}

void gm_probe_reload(void) { read_spec(); }

bool gm_probe_on(void) {
    pthread_once(&once, read_spec);
    return atomic_load_explicit(&on, memory_order_relaxed);
}

/* Row `row` of x to one file; 0 or an error code. */
static int dump_row(gm_backend *b, const char *path, const gm_tensor *x, int64_t row) {
    FILE *f = fopen(path, "wbe");
    if (!f) return GM_EIO;
    char bytes[4096];
    size_t n = (size_t)x->ne[0] * sizeof(float), at = (size_t)row * x->row_bytes;
    int rc = GM_OK;
    for (size_t done = 0; rc == GM_OK && done < n; done += sizeof bytes) {
        size_t part = n - done < sizeof bytes ? n - done : sizeof bytes;
        rc = gm_be_read(b, x, at + done, bytes, part);
        if (rc == GM_OK && fwrite(bytes, 1, part, f) != part) rc = GM_EIO;
    }
    if (fclose(f) != 0 && rc == GM_OK) rc = GM_EIO;
    return rc;
}

void gm_probe_dump(gm_backend *b, const char *name, int32_t layer, int32_t pos0, const gm_tensor *x,
                   int32_t n_tok) {
    if (!gm_probe_on()) return;
    pthread_mutex_lock(&lock);
    bool wanted = strcmp(want.name, "*") == 0 || strcmp(want.name, name) == 0;
    wanted = wanted && (want.layer == ANY || want.layer == layer);
    int rc = wanted ? gm_be_sync(b) : GM_OK;
    for (int32_t t = 0; wanted && rc == GM_OK && t < n_tok; t++) {
        if (want.pos != ANY && want.pos != pos0 + t) continue;
        char path[sizeof want.dir + 80];
        snprintf(path, sizeof path, "%s/%s.%" PRId32 ".%" PRId32 ".f32", want.dir, name, layer,
                 pos0 + t);
        rc = dump_row(b, path, x, t);
        if (rc) gm_log(GM_LOG_WARN, "model", "probe: %s: %s", path, gm_err_text(rc));
    }
    pthread_mutex_unlock(&lock);
}
