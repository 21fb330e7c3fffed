/* file.h: descriptors of regular files, and what to tell people of those that cannot be opened.
 *
 * Directories, FIFOs, sockets and devices are refused with a message, without blocking.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* *fd is open for reading, close-on-exec, and the caller's to close; *size is in bytes and may be
 * 0. GM_EINVAL for what is no regular file; on failure *fd is -1. Any thread. */
int gm_file_open(const char *path, int *fd, uint64_t *size, char *err, size_t errlen);

/* Fills err with a sentence about the file `name` for a value of errno, with its cure if there is
 * one, and returns the code of ours for it. */
int gm_file_fail(const char *name, int os_error, char *err, size_t errlen);
