/* tmp.h: a private folder for the files of one test program, and files with given bytes. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "helper/cm.h"

typedef struct {
    char dir[64];
    char path[512]; /* of the last tmp_path */
} test_tmp;

static inline int tmp_begin(test_tmp *t) {
    strcpy(t->dir, "/tmp/gemma-test-XXXXXX");
    return mkdtemp(t->dir) ? 0 : -1;
}

/* The full name of a file in the folder; valid until the next call. */
static inline const char *tmp_path(test_tmp *t, const char *name) {
    snprintf(t->path, sizeof t->path, "%s/%s", t->dir, name);
    return t->path;
}

/* A file of these bytes, or the running test fails. */
static inline void write_file(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The same in the folder; its full name, valid until the next call. */
static inline const char *tmp_write(test_tmp *t, const char *name, const void *p, size_t n) {
    const char *path = tmp_path(t, name);
    write_file(path, p, n);
    return path;
}

/* Removes the folder and the files in it. */
static inline void tmp_end(test_tmp *t) {
    DIR *d = opendir(t->dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        const char *path = tmp_path(t, e->d_name);
        if (unlink(path) != 0) rmdir(path);
    }
    closedir(d);
    rmdir(t->dir);
}
