/* inflate.c: libdeflate and zlib; see inflate.h. */
#include "media/inflate.h"

#include <limits.h>
#include <pthread.h>
#include "base/dynlib.h"
#include "base/err.h"
#include "base/log.h"

/* Of libdeflate.h, 1.0 and later. */
enum { SUCCESS = 0 };
static struct {
    void *(*alloc)(void);
    void (*free)(void *);
    int (*decompress)(void *, const void *in, size_t n_in, void *out, size_t n_out, size_t *got);
} fast;

/* Of zlib.h, whose interface has been the same since 1.0. */
typedef struct {
    const uint8_t *next_in;
    unsigned avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned avail_out;
    unsigned long total_out;
    const char *msg;
    void *state, *alloc, *free, *opaque;
    int data_type;
    unsigned long adler, reserved;
} z_stream;
enum { Z_NO_FLUSH = 0, Z_OK = 0, Z_MEM_ERROR = -4 };
static struct {
    int (*init)(z_stream *, const char *version, int size);
    int (*inflate)(z_stream *, int flush);
    int (*end)(z_stream *);
} zlib;

/* libdeflate cannot be stopped on its way: a fifth of a second at most. zlib is asked to come back
 * after so much. */
enum { FAST_MAX = 64 << 20, PIECE = 4 << 20 };

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Both stay open for the life of the process. */
static void load(void) {
    static const char *const deflate_names[] = {"libdeflate.so.0", "libdeflate.0.dylib",
                                                "libdeflate.dll"};
    static const char *const zlib_names[] = {"libz.so.1", "libz.1.dylib", "zlib1.dll"};
    void *lib = gm_dynlib_open(deflate_names, sizeof deflate_names / sizeof *deflate_names);
    if (!gm_dynlib_find(lib, "libdeflate_alloc_decompressor", &fast.alloc) ||
        !gm_dynlib_find(lib, "libdeflate_free_decompressor", &fast.free) ||
        !gm_dynlib_find(lib, "libdeflate_zlib_decompress", &fast.decompress))
        fast.decompress = NULL;
    lib = gm_dynlib_open(zlib_names, sizeof zlib_names / sizeof *zlib_names);
    if (!gm_dynlib_find(lib, "inflateInit_", &zlib.init) ||
        !gm_dynlib_find(lib, "inflateEnd", &zlib.end) ||
        !gm_dynlib_find(lib, "inflate", &zlib.inflate))
        zlib.inflate = NULL;
    const char *which = fast.decompress ? "libdeflate" : zlib.inflate ? "zlib" : "none";
    gm_log(GM_LOG_INFO, "media", "inflate: %s", which);
}

bool gm_inflate_available(void) {
    pthread_once(&once, load);
    return fast.decompress || zlib.inflate;
}

static int inflate_fast(const uint8_t *in, size_t n, uint8_t *out, size_t n_out) {
    void *d = fast.alloc();
    if (!d) return GM_ENOMEM;
    size_t got = 0;
    const int rc = fast.decompress(d, in, n, out, n_out, &got);
    fast.free(d);
    return rc == SUCCESS && got == n_out ? 0 : GM_EFORMAT;
}

static int inflate_pieces(z_stream *z, size_t n, size_t n_out, const gm_cancel *cancel) {
    int rc = Z_OK;
    while (rc == Z_OK && (n_out > 0 || z->avail_out > 0)) {
        if (gm_cancelled(cancel)) return GM_ECANCELLED;
        const unsigned more_in = n < UINT_MAX - z->avail_in ? (unsigned)n : UINT_MAX - z->avail_in;
        const unsigned more_out = n_out < PIECE ? (unsigned)n_out : PIECE;
        z->avail_in += more_in;
        n -= more_in;
        if (z->avail_out == 0) {
            z->avail_out = more_out;
            n_out -= more_out;
        }
        rc = zlib.inflate(z, Z_NO_FLUSH); /* Z_BUF_ERROR when nothing came of it */
    }
    if (rc == Z_MEM_ERROR) return GM_ENOMEM;
    return n_out == 0 && z->avail_out == 0 ? 0 : GM_EFORMAT;
}

int gm_inflate_zlib(const uint8_t *in, size_t n, uint8_t *out, size_t n_out,
                    const gm_cancel *cancel) {
    if (!gm_inflate_available() || !zlib.inflate) return GM_EUNSUPPORTED;
    z_stream z = {.next_in = in, .next_out = out};
    if (zlib.init(&z, "1", (int)sizeof z) != Z_OK) return GM_ENOMEM;
    const int rc = inflate_pieces(&z, n, n_out, cancel);
    zlib.end(&z);
    return rc;
}

int gm_inflate(const uint8_t *in, size_t n, uint8_t *out, size_t n_out, const gm_cancel *cancel) {
    if (!gm_inflate_available()) return GM_EUNSUPPORTED;
    if (gm_cancelled(cancel)) return GM_ECANCELLED;
    int rc = GM_EFORMAT;
    if (fast.decompress && (n_out <= FAST_MAX || !zlib.inflate))
        rc = inflate_fast(in, n, out, n_out);
    /* A stream that goes on, or one with a wrong check sum, has given zlib the bytes by then. */
    return rc == GM_EFORMAT && zlib.inflate ? gm_inflate_zlib(in, n, out, n_out, cancel) : rc;
}
