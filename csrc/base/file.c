/* file.c: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/err.h"

int gm_file_fail(const char *name, int os_error, char *err, size_t errlen) {
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
    if (!S_ISREG(st->st_mode) || st->st_size < 0)
        return gm_fail(err, errlen, GM_EINVAL, "%s is a device, not a file", name);
    return GM_OK;
}

int gm_file_open(const char *path, int *fd, uint64_t *size, char *err, size_t errlen) {
    *fd = -1;
    *size = 0;
    if (!path || !*path) return gm_fail(err, errlen, GM_EINVAL, "no file name given");
    const char *name = gm_path_tail(path);
    /* O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) return gm_file_fail(name, errno, err, errlen);
    struct stat st;
    int rc = fstat(*fd, &st) != 0 ? gm_file_fail(name, errno, err, errlen)
                                  : check_kind(&st, name, err, errlen);
    if (rc == GM_OK) {
        *size = (uint64_t)st.st_size;
        return GM_OK;
    }
    close(*fd);
    *fd = -1;
    return rc;
}
