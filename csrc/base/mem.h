/* mem.h: aligned memory, overflow-checked sizes, failure injection and the no-alloc guard.
 *
 * Every heap block of the library comes from here, so that tests can make the n-th one fail
 * and decode can prove that it allocates nothing. Thread: all functions, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_ALIGN 64 /* bytes: one cache line, and the widest vector we use */

/* Zeroed, aligned to GM_ALIGN; NULL on failure or when n * size overflows. n*size 0 gives a
 * valid block. Large blocks are only reserved: pages become resident when touched. */
void *gm_calloc(size_t n, size_t size);

/* Same, contents undefined. */
void *gm_malloc(size_t n, size_t size);

/* Grows or shrinks a block from this file, keeping old_bytes of its contents. The old block
 * stays valid when NULL is returned. */
void *gm_realloc(void *p, size_t old_bytes, size_t n, size_t size);

/* Accepts NULL. */
void gm_free(void *p);

/* Copies n bytes and adds a terminating zero. */
char *gm_strndup(const char *s, size_t n);

/* Grows *p (elements of `size` bytes, *cap of them) so that `need` fit; at least doubles.
 * 0 or GM_ENOMEM, in which case *p and *cap are unchanged. */
int gm_grow(void *p, size_t *cap, size_t need, size_t size);

/* Overflow-checked arithmetic: false when the result does not fit. */
static inline bool gm_mul_size(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}
static inline bool gm_add_size(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

/* Makes the n-th allocation from now on (1 = the next) fail, once; 0 switches it off. Returns
 * how many allocations happened since the last call. Process-wide, for tests. */
uint64_t gm_mem_fail_at(uint64_t n);

/* Between begin and end an allocation on this thread is a bug: it is counted (and asserts in
 * GM_DEBUG builds). Nests. */
void gm_noalloc_begin(void);
void gm_noalloc_end(void);
uint64_t gm_noalloc_violations(void); /* process-wide total */
