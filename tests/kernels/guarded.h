/* guarded.h: memory that ends where a page that cannot be touched begins.
 *
 * A kernel that reads or writes one byte too far dies here, and blocks whose size is no multiple of
 * 64 begin at odd places, as rows of a file do. For test programs: failure ends them.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    void *p; /* n bytes */
    char *map;
    size_t map_bytes;
} guarded;

static inline guarded guarded_new(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.map_bytes = (n + 2 * page - 1) / page * page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || mprotect(g.map + g.map_bytes - page, page, PROT_NONE) != 0) {
        perror("guarded_new");
        exit(1);
    }
    g.p = g.map + g.map_bytes - page - n;
    return g;
}

static inline void guarded_free(guarded *g) { munmap(g->map, g->map_bytes); }
