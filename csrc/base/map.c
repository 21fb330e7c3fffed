/* map.c: a read-only mapping of a regular file. */
#include "base/map.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

struct gm_map {
    uint8_t *p;
    size_t n; /* bytes; never 0 */
    bool is_copy;
};

/* A descriptor of a regular file that holds something. */
static int open_filled(const char *path, int *fd, size_t *size, char *err, size_t errlen) {
    uint64_t n;
    int rc = gm_file_open(path, fd, &n, err, errlen);
    if (rc < 0) return rc;
    if (n == 0)
        rc = gm_fail(err, errlen, GM_EFORMAT, "%s is empty; download it again", gm_path_tail(path));
    if (n > PTRDIFF_MAX)
        rc = gm_fail(err, errlen, GM_EUNSUPPORTED, "%s is too large for this computer",
                     gm_path_tail(path));
    if (rc < 0) close(*fd);
    else *size = (size_t)n;
    return rc;
}

int gm_map_open(gm_map **out, const char *path, char *err, size_t errlen) {
    *out = NULL;
    int fd;
    size_t n;
    int rc = open_filled(path, &fd, &n, err, errlen);
    if (rc < 0) return rc;
    const char *name = gm_path_tail(path);
    gm_map *m = gm_calloc(1, sizeof *m);
    if (!m) {
        rc = gm_fail(err, errlen, GM_ENOMEM, "%s: out of memory", name);
        goto done;
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        rc = gm_file_fail(name, errno, err, errlen);
        goto done;
    }
#ifdef MADV_HUGEPAGE
    /* From pages of 4 KiB a few tokens at a time take an eighth longer, one token hardly. File
     * systems that know no larger pages take no notice. */
    (void)madvise(p, n, MADV_HUGEPAGE);
#endif
    m->p = p;
    m->n = n;
    *out = m;
    m = NULL;
done:
    close(fd);
    gm_map_close(&m);
    return rc;
}

int gm_map_each(const char *path, size_t max, gm_bytes_fn fn, void *ud, const gm_cancel *cancel,
                char *err, size_t errlen) {
    enum { PIECE = 1 << 20 };
    int fd;
    size_t size, total = 0, n = 0;
    int rc = open_filled(path, &fd, &size, err, errlen);
    if (rc < 0) return rc;
    const char *name = gm_path_tail(path);
    uint8_t *piece = gm_malloc(PIECE, 1);
    if (size > max)
        rc = gm_fail(err, errlen, GM_ETOOLONG, "%s is larger than %zu MiB", name, max >> 20);
    else if (!piece) rc = gm_fail(err, errlen, GM_ENOMEM, "%s: out of memory", name);
    ssize_t got = 1;
    while (rc == GM_OK && got > 0) {
        got = read(fd, piece + n, PIECE - n);
        if (got < 0 && errno == EINTR) got = 1;
        else if (got < 0) rc = gm_file_fail(name, errno, err, errlen);
        else n += (size_t)got;
        if (rc == GM_OK && n > 0 && (n == PIECE || got == 0)) {
            total += n;
            /* It may still be growing. */
            rc = total > max ? gm_fail(err, errlen, GM_ETOOLONG, "%s is larger than %zu MiB", name,
                                       max >> 20)
                             : fn(ud, piece, n);
            n = 0;
        }
        if (rc == GM_OK && gm_cancelled(cancel)) rc = gm_fail_code(err, errlen, GM_ECANCELLED);
    }
    gm_free(piece);
    close(fd);
    return rc;
}

typedef struct {
    gm_map *m;
    size_t cap;
} copy;

static int append(void *ud, const uint8_t *p, size_t n) {
    copy *c = ud;
    if (gm_grow(&c->m->p, &c->cap, c->m->n + n, 1)) return GM_ENOMEM;
    memcpy(c->m->p + c->m->n, p, n);
    c->m->n += n;
    return GM_OK;
}

int gm_map_read(gm_map **out, const char *path, size_t max, const gm_cancel *cancel, char *err,
                size_t errlen) {
    copy c = {.m = gm_calloc(1, sizeof *c.m)};
    *out = NULL;
    if (!c.m) return gm_fail_code(err, errlen, GM_ENOMEM);
    c.m->is_copy = true;
    int rc = gm_map_each(path, max, append, &c, cancel, err, errlen);
    if (rc == GM_ENOMEM) gm_fail(err, errlen, rc, "%s: out of memory", gm_path_tail(path));
    if (rc == GM_OK && c.m->n == 0)
        rc = gm_fail(err, errlen, GM_EFORMAT, "%s is empty", gm_path_tail(path));
    if (rc < 0) gm_map_close(&c.m);
    *out = c.m;
    return rc;
}

void gm_map_close(gm_map **m) {
    if (!m || !*m) return;
    if ((*m)->is_copy) gm_free((*m)->p);
    else if ((*m)->p) munmap((*m)->p, (*m)->n);
    gm_free(*m);
    *m = NULL;
}

const uint8_t *gm_map_data(const gm_map *m) { return m->p; }
size_t gm_map_size(const gm_map *m) { return m->n; }
