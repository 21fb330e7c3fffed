/* map.c: a read-only mapping of a regular file. */
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"

struct gm_map {
    uint8_t *p;
    size_t n; /* bytes; never 0 */
};

static int fail_open(const char *name, int os_error, char *err, size_t errlen) {
    switch (os_error) {
    case ENOENT:
    case ENOTDIR: return gm_fail(err, errlen, GM_ENOENT, "%s: no such file", name);
    case EACCES:
    case EPERM:
        return gm_fail(err, errlen, GM_EIO, "%s: permission denied; make the file readable", name);
    case ENOMEM: return gm_fail(err, errlen, GM_ENOMEM, "%s: out of memory", name);
    case ENXIO: /* what open(2) answers for a socket */
        return gm_fail(err, errlen, GM_EINVAL, "%s is a socket, not a file", name);
    default: return gm_fail(err, errlen, GM_EIO, "%s: %s", name, strerror(os_error));
    }
}

static int check_kind(const struct stat *st, const char *name, char *err, size_t errlen) {
    if (S_ISDIR(st->st_mode))
        return gm_fail(err, errlen, GM_EINVAL, "%s is a directory, not a file", name);
    if (S_ISFIFO(st->st_mode))
        return gm_fail(err, errlen, GM_EINVAL, "%s is a named pipe, not a file", name);
    if (!S_ISREG(st->st_mode))
        return gm_fail(err, errlen, GM_EINVAL, "%s is a device, not a file", name);
    if (st->st_size <= 0)
        return gm_fail(err, errlen, GM_EFORMAT, "%s is empty; download it again", name);
    if ((uint64_t)st->st_size > PTRDIFF_MAX)
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "%s is too large for this computer", name);
    return GM_OK;
}

int gm_map_open(gm_map **out, const char *path, char *err, size_t errlen) {
    *out = NULL;
    if (!path || !*path) return gm_fail(err, errlen, GM_EINVAL, "no file name given");
    const char *name = gm_path_tail(path);
    gm_map *m = NULL;
    int rc = GM_OK;
    /* O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return fail_open(name, errno, err, errlen);
    struct stat st;
    if (fstat(fd, &st) != 0) {
        rc = fail_open(name, errno, err, errlen);
        goto done;
    }
    rc = check_kind(&st, name, err, errlen);
    if (rc < 0) goto done;
    m = gm_calloc(1, sizeof *m);
    if (!m) {
        rc = gm_fail(err, errlen, GM_ENOMEM, "%s: out of memory", name);
        goto done;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        rc = fail_open(name, errno, err, errlen);
        goto done;
    }
    m->p = p;
    m->n = (size_t)st.st_size;
    *out = m;
    m = NULL;
done:
    close(fd);
    gm_map_close(&m);
    return rc;
}

void gm_map_close(gm_map **m) {
    if (!m || !*m) return;
    if ((*m)->p) munmap((*m)->p, (*m)->n);
    gm_free(*m);
    *m = NULL;
}

const uint8_t *gm_map_data(const gm_map *m) {
    return m->p;
}
size_t gm_map_size(const gm_map *m) {
    return m->n;
}

void gm_map_willneed(const gm_map *m, size_t offset, size_t n) {
    if (offset >= m->n) return;
    if (n > m->n - offset) n = m->n - offset;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t start = offset / page * page;
    (void)madvise(m->p + start, n + (offset - start), MADV_WILLNEED);
}
