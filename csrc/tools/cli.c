/* cli.c: options, messages, files and JSON for the commands. */
#include "tools/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"
#include "tokenizer/utf8.h"

enum { MAX_INPUT = 1 << 30 }; /* bytes read from a file or standard input */

/* ---- messages -------------------------------------------------------------------------------- */

/* One line whatever the arguments hold. */
static void complain(const char *fmt, va_list ap) {
    char line[1024];
    vsnprintf(line, sizeof line, fmt, ap);
    for (unsigned char *p = (unsigned char *)line; *p; p++)
        if (*p < 0x20 || *p == 0x7F) *p = '?';
    fprintf(stderr, "gemma: %s\n", line);
}

int cli_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    complain(fmt, ap);
    va_end(ap);
    return CLI_FAILED;
}

int cli_usage(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    complain(fmt, ap);
    va_end(ap);
    return CLI_USAGE;
}

/* ---- options --------------------------------------------------------------------------------- */

static int parse_i32(const cli_opt *o, const char *text) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool number = *text != '\0' && *text != ' ' && *text != '+' && *end == '\0';
    if (!number) return cli_usage("%s needs a whole number, not '%s'", o->name, text);
    if (errno || (double)v < o->min || (double)v > o->max)
        return cli_usage("%s must be between %.0f and %.0f", o->name, o->min, o->max);
    *(int32_t *)o->to = (int32_t)v;
    return CLI_OK;
}

static int parse_u64(const cli_opt *o, const char *text) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno)
        return cli_usage("%s needs a whole number from 0 to 2^64 - 1, not '%s'", o->name, text);
    *(uint64_t *)o->to = v;
    return CLI_OK;
}

static int parse_f32(const cli_opt *o, const char *text) {
    char *end;
    double v = strtod(text, &end);
    if (*text == '\0' || *text == ' ' || *end != '\0' || !isfinite(v))
        return cli_usage("%s needs a number, not '%s'", o->name, text);
    if (v < o->min || v > o->max)
        return cli_usage("%s must be between %g and %g", o->name, o->min, o->max);
    *(float *)o->to = (float)v;
    return CLI_OK;
}

static int set_option(const cli_opt *o, const char *value) {
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->to = true; return CLI_OK;
    case CLI_STR: *(const char **)o->to = value; return CLI_OK;
    case CLI_I32: return parse_i32(o, value);
    case CLI_U64: return parse_u64(o, value);
    case CLI_F32: return parse_f32(o, value);
    case CLI_LIST: {
        cli_list *l = o->to;
        if (l->n == CLI_MAX_LIST)
            return cli_usage("%s is given more than %d times", o->name, CLI_MAX_LIST);
        l->item[l->n++] = value;
        return CLI_OK;
    }
    }
    return CLI_USAGE;
}

int cli_parse(const char *command, const cli_opt *opts, int n, char **argv) {
    for (int i = 0; i < n; i++) {
        const cli_opt *o = opts;
        while (o->name && strcmp(o->name, argv[i]) != 0) o++;
        if (!o->name)
            return cli_usage("%s: unknown option '%s' (gemma --help shows all)", command, argv[i]);
        if (o->kind != CLI_FLAG && i + 1 == n)
            return cli_usage("%s: %s needs a value", command, o->name);
        int rc = set_option(o, o->kind == CLI_FLAG ? NULL : argv[++i]);
        if (rc) return rc;
    }
    return CLI_OK;
}

int cli_parse_ids(const char *what, const char *text, gm_ids *out) {
    for (const char *p = text;; p++) {
        if (*p < '0' || *p > '9') break;
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (errno || v > INT32_MAX) return cli_usage("%s: a number is too large", what);
        if (gm_ids_push(out, (int32_t)v) < 0) return cli_fail("out of memory");
        p = end;
        if (*p == '\0') return CLI_OK;
        if (*p != ',') break;
    }
    return cli_usage("%s needs whole numbers with commas between them", what);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int read_all(FILE *f, const char *name, gm_bytes *out) {
    for (;;) {
        if (gm_bytes_reserve(out, 1 << 16) < 0) return cli_fail("out of memory");
        size_t n = fread(out->p + out->n, 1, out->cap - out->n, f);
        out->n += n;
        if (ferror(f)) return cli_fail("cannot read %s: %s", name, strerror(errno));
        if (n == 0) return CLI_OK;
        if (out->n > MAX_INPUT) return cli_fail("%s is larger than 1 GiB", name);
    }
}

int cli_read(const char *path, gm_bytes *out) {
    if (!path) return read_all(stdin, "standard input", out);
    FILE *f = fopen(path, "rb");
    if (!f) return cli_fail("cannot open %s: %s", path, strerror(errno));
    int rc = read_all(f, path, out);
    fclose(f);
    return rc;
}

static bool same_file(const struct stat *a, const char *path) {
    struct stat b;
    return path && stat(path, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* Where the file is to stand: rename would replace a link, /dev/stdout even, not what it points
 * to. */
static const char *place_of(const cli_out *o) { return o->real ? o->real : o->path; }

/* Permissions of a file that is new. */
static mode_t usual_mode(void) {
    const mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* A sibling of it, so that the final rename stays within one file system. */
static int open_temp(cli_out *o, mode_t mode) {
    size_t n = strlen(place_of(o)) + 16;
    o->temp = gm_malloc(n, 1);
    if (!o->temp) return cli_fail("out of memory");
    snprintf(o->temp, n, "%s.XXXXXX", place_of(o));
    int fd = mkstemp(o->temp);
    if (fd < 0) {
        gm_free(o->temp);
        o->temp = NULL;
        return cli_fail("cannot write %s: %s", o->path, strerror(errno));
    }
    (void)fchmod(fd, mode);
    o->f = fdopen(fd, "wb");
    if (!o->f) close(fd);
    return o->f ? CLI_OK : cli_fail("out of memory");
}

static bool in_list(const struct stat *a, const cli_list *l) {
    for (size_t i = 0; l && i < l->n; i++)
        if (same_file(a, l->item[i])) return true;
    return false;
}

static bool is_read(const struct stat *a, const cli_model *m, const cli_prompt *p,
                    const char *input) {
    if (same_file(a, m->model) || same_file(a, m->mmproj) || same_file(a, input)) return true;
    return p && (same_file(a, p->file) || in_list(a, p->image) || in_list(a, p->audio) ||
                 in_list(a, p->video));
}

/* The standard stream that is this file; -1: none. */
static int stream_of(const struct stat *a) {
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        struct stat b;
        if (fstat(fd, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino) return fd;
    }
    return -1;
}

/* A shell's file stays the one that the shell has open, and keeps what others write there. */
static int open_stream(cli_out *o, int stream) {
    const int fd = dup(stream);
    o->shared = true;
    o->f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (o->f) return CLI_OK;
    const int why = errno;
    if (fd >= 0) close(fd);
    return cli_fail("cannot write %s: %s", o->path, strerror(why));
}

int cli_out_open(cli_out *o, const char *path, const cli_model *m, const cli_prompt *p,
                 const char *input) {
    *o = (cli_out){.path = path};
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) return cli_fail("%s is a directory", path);
    if (exists && is_read(&st, m, p, input))
        return cli_fail("%s is read from; choose another name for the output", path);
    const int stream = exists ? stream_of(&st) : -1;
    if (stream >= 0) return open_stream(o, stream);
    /* A file that is there but may not be written stays as it is: rename would not ask, and to root
     * everything is allowed. */
    if (exists && access(path, W_OK) != 0)
        return cli_fail("cannot write %s: %s", path, strerror(errno));
    if (exists && S_ISREG(st.st_mode) && !(st.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)))
        return cli_fail("%s is read-only; choose another name for the output", path);
    struct stat own;
    const bool link = lstat(path, &own) == 0 && S_ISLNK(own.st_mode);
    if (link && exists && S_ISREG(st.st_mode)) {
        o->real = realpath(path, NULL);
        if (!o->real) return cli_fail("cannot write %s: %s", path, strerror(errno));
    }
    if (exists ? S_ISREG(st.st_mode) : !link)
        return open_temp(o, exists ? st.st_mode & 07777 : usual_mode());
    o->f = fopen(path, "wb");
    return o->f ? CLI_OK : cli_fail("cannot write %s: %s", path, strerror(errno));
}

int cli_out_close(cli_out *o, int status) {
    if (o->f) {
        bool lost = ferror(o->f) != 0;
        if (fclose(o->f) != 0) lost = true;
        if (lost && status == CLI_OK)
            status = cli_fail("cannot write %s: %s", o->path, strerror(errno ? errno : EIO));
    }
    if (o->temp && status == CLI_OK && rename(o->temp, place_of(o)) != 0)
        status = cli_fail("cannot write %s: %s", o->path, strerror(errno));
    if (o->temp && status != CLI_OK) unlink(o->temp);
    gm_free(o->temp);
    free(o->real);
    *o = (cli_out){0};
    return status;
}

/* Bytes of the control character at p, of n bytes; 0: there is none. U+0080 to U+009F are such. */
static size_t control(const unsigned char *p, size_t n) {
    if (*p == '\t' || *p == '\n') return 0;
    if (*p < 0x20 || *p == 0x7F) return 1;
    return *p == 0xC2 && n > 1 && p[1] < 0xA0 ? 2 : 0;
}

int cli_print_text(const char *p, size_t n) {
    const bool obeyed = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < n;) {
        const size_t left_out = obeyed ? control((const unsigned char *)p + i, n - i) : 0;
        if (left_out == 0) putchar(p[i]);
        i += left_out ? left_out : 1;
    }
    return cli_flush();
}

int cli_flush(void) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return CLI_OK;
    return cli_fail("cannot write to standard output: %s", strerror(errno ? errno : EIO));
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_char(FILE *f, const char *s, unsigned len) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
    else if (c == '\n') fputs("\\n", f);
    else if (c < 0x20 || c == 0x7F) fprintf(f, "\\u%04x", c);
    else fwrite(s, 1, len, f);
}

void cli_json_string(FILE *f, const char *s, size_t n) {
    fputc('"', f);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = gm_utf8_next((const unsigned char *)s + i, n - i, &cp);
        if (len) json_char(f, s + i, len);
        else fputs("\xEF\xBF\xBD", f);
        i += len ? len : 1;
    }
    fputc('"', f);
}

void cli_json_ids(FILE *f, const int32_t *ids, size_t n) {
    fputc('[', f);
    for (size_t i = 0; i < n; i++) fprintf(f, i ? ", %d" : "%d", (int)ids[i]);
    fputc(']', f);
}
