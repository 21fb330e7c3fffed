/* err.c: names and texts of the error codes, and the writer of one-line messages. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *gm_err_name(int code) {
    switch (code) {
    case GM_OK: return "OK";
#define GM_ERR_NAME(name, value, text)                                                             \
    case value: return #name;
        GM_ERR_LIST(GM_ERR_NAME)
#undef GM_ERR_NAME
    default: return "UNKNOWN";
    }
}

const char *gm_err_text(int code) {
    switch (code) {
    case GM_OK: return "success";
#define GM_ERR_TEXT(name, value, text)                                                             \
    case value: return text;
        GM_ERR_LIST(GM_ERR_TEXT)
#undef GM_ERR_TEXT
    default: return "unknown error";
    }
}

/* Length of s[0..n) without a UTF-8 sequence that was cut off at the end. */
static size_t whole_characters(const char *s, size_t n) {
    size_t back = 0;
    while (back < n && back < 3 && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80) back++;
    if (back == n) return n;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return want > back + 1 ? n - 1 - back : n;
}

int gm_fail(char *err, size_t errlen, int code, const char *fmt, ...) {
    if (!err || errlen == 0) return code;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    if (n < 0) {
        /* Only an impossible conversion gets here; the caller still deserves a sentence. */
        snprintf(err, errlen, "%s", gm_err_text(code));
        return code;
    }
    if ((size_t)n >= errlen) err[whole_characters(err, errlen - 1)] = '\0';
    for (unsigned char *p = (unsigned char *)err; *p; p++)
        if (*p < 0x20 || *p == 0x7F) *p = '?';
    return code;
}

int gm_fail_code(char *err, size_t errlen, int code) {
    return gm_fail(err, errlen, code, "%s", gm_err_text(code));
}

const char *gm_path_tail(const char *path) {
    enum { ENOUGH = 120 }; /* bytes */
    size_t n = strlen(path);
    if (n <= ENOUGH) return path;
    const char *tail = path + n - ENOUGH, *slash = strchr(tail, '/');
    if (slash && slash[1]) return slash + 1;
    while (((unsigned char)*tail & 0xC0) == 0x80) tail++; /* not inside a character */
    return tail;
}
