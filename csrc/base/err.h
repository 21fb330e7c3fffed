/* err.h: error codes, their names, and the one way to fill a caller's error text.
 *
 * Success is 0, everything else is negative; there is no second convention. The codes are
 * the exported GEMMA_E* of api/gemma.h, which asserts that both lists agree.
 */
#pragma once

#include <stddef.h>

/* X(name, value, text for people) */
#define GM_ERR_LIST(X)                                                                             \
    X(ENOMEM, -1, "out of memory")                                                                 \
    X(EINVAL, -2, "invalid argument")                                                              \
    X(ENOENT, -3, "no such file")                                                                  \
    X(EIO, -4, "input/output error")                                                               \
    X(EFORMAT, -5, "malformed file")                                                               \
    X(EUNSUPPORTED, -6, "not supported")                                                           \
    X(ECANCELLED, -7, "cancelled")                                                                 \
    X(ETOOLONG, -8, "prompt does not fit the context")                                             \
    X(EBUSY, -9, "busy")                                                                           \
    X(ENOMODEL, -10, "no model loaded")                                                            \
    X(EDEVICE, -11, "device failed")                                                               \
    X(EINTERNAL, -12, "internal error")

enum {
    GM_OK = 0,
#define GM_ERR_ENUM(name, value, text) GM_##name = value,
    GM_ERR_LIST(GM_ERR_ENUM)
#undef GM_ERR_ENUM
};

/* "ENOMEM", or "UNKNOWN"; static storage. */
const char *gm_err_name(int code);

/* "out of memory", or "unknown error"; static storage. */
const char *gm_err_text(int code);

/* Writes a one-line, always terminated message to err (which may be NULL when errlen is 0)
 * and returns code, so that callers can `return gm_fail(err, errlen, GM_EFORMAT, ...)`.
 * Control characters that came in through arguments (file names, keys) are written as '?'. */
int gm_fail(char *err, size_t errlen, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with the text of the code itself. */
int gm_fail_code(char *err, size_t errlen, int code);

/* The end of a long path, for messages that must leave room for a sentence; a pointer into path,
 * whole when it is short. */
const char *gm_path_tail(const char *path);

/* For our own mistakes only, never for file contents or memory: stops in builds with GM_DEBUG, is
 * nothing in release builds. */
#ifdef GM_DEBUG
#include <assert.h>
#define gm_assert(cond) assert(cond)
#else
#define gm_assert(cond) ((void)0)
#endif
