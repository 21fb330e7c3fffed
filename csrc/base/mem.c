/* mem.c: the library's only user of malloc, free and anonymous mappings.
 *
 * Each block has a header of one cache line in front, which says how it was obtained:
 *
 *     |  size, mapped  |  user bytes ...
 *     ^ raw            ^ what callers hold, GM_ALIGN aligned
 *
 * Small blocks come from posix_memalign. Large ones are anonymous mappings: zero without being
 * touched, so that a cache for a quarter of a million positions costs nothing before it is used,
 * and really given back when freed. Under AddressSanitizer all blocks come from its allocator,
 * since it does not watch the ends of mappings.
 */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/err.h"

#if defined(__SANITIZE_ADDRESS__)
#define GM_HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GM_HAVE_ASAN 1
#endif
#endif
#ifdef GM_HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define MAP_FROM SIZE_MAX
#define poison(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
/* Bytes. Below this the price of a mapping (two system calls and fresh page faults) is more than
 * that of clearing. */
#define MAP_FROM ((size_t)1 << 20)
#define poison(p, n) ((void)0)
#define unpoison(p, n) ((void)0)
#ifdef __linux__
#define GM_HAVE_REMAP 1
#endif
#endif

typedef struct {
    size_t raw_bytes; /* header included */
    bool mapped;
} header;

_Static_assert(sizeof(header) <= GM_ALIGN, "the header must fit in front of the block");

static _Atomic uint64_t n_alloc;     /* since the last gm_mem_fail_at */
static _Atomic uint64_t fail_number; /* 0: never */
static _Atomic uint64_t n_violation;
static _Thread_local unsigned noalloc_depth;

/* Counts one allocation; false when it is the one that a test wants to fail. */
static bool admit(void) {
    if (noalloc_depth > 0) {
        atomic_fetch_add_explicit(&n_violation, 1, memory_order_relaxed);
        gm_assert(!"allocation inside gm_noalloc_begin/end");
    }
    uint64_t number = atomic_fetch_add_explicit(&n_alloc, 1, memory_order_relaxed) + 1;
    return number != atomic_load_explicit(&fail_number, memory_order_relaxed);
}

static header *header_of(void *p) { return (header *)((char *)p - GM_ALIGN); }

static void *obtain(size_t bytes, bool zero) {
    size_t raw_bytes;
    if (!gm_add_size(bytes, GM_ALIGN, &raw_bytes) || raw_bytes > PTRDIFF_MAX) return NULL;
    void *raw = NULL;
    bool mapped = raw_bytes >= MAP_FROM;
    if (mapped) {
        raw = mmap(NULL, raw_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED) return NULL;
#ifdef MADV_DONTFORK
        /* The editor starts programs, by fork: that would copy the page tables of gigabytes while
         * it waits (2 GB: 48 ms on a Zen 3), and each page would cost a fault afterwards. */
        (void)madvise(raw, raw_bytes, MADV_DONTFORK);
#endif
    } else {
        if (posix_memalign(&raw, GM_ALIGN, raw_bytes) != 0) return NULL;
        if (zero) memset((char *)raw + GM_ALIGN, 0, bytes);
    }
    *(header *)raw = (header){.raw_bytes = raw_bytes, .mapped = mapped};
    poison(raw, GM_ALIGN);
    return (char *)raw + GM_ALIGN;
}

static void give_back(void *p) {
    header *h = header_of(p);
    unpoison(h, GM_ALIGN);
    if (h->mapped) munmap(h, h->raw_bytes);
    else free(h);
}

void *gm_calloc(size_t n, size_t size) {
    size_t bytes;
    if (!admit() || !gm_mul_size(n, size, &bytes)) return NULL;
    return obtain(bytes, true);
}

void *gm_malloc(size_t n, size_t size) {
    size_t bytes;
    if (!admit() || !gm_mul_size(n, size, &bytes)) return NULL;
    return obtain(bytes, false);
}

#ifdef GM_HAVE_REMAP
/* A mapping grows by moving page tables instead of bytes. */
static void *remap(void *p, size_t bytes) {
    size_t raw_bytes;
    if (!gm_add_size(bytes, GM_ALIGN, &raw_bytes) || raw_bytes > PTRDIFF_MAX) return NULL;
    header *h = header_of(p);
    h = mremap(h, h->raw_bytes, raw_bytes, MREMAP_MAYMOVE);
    if ((void *)h == MAP_FAILED) return NULL;
    h->raw_bytes = raw_bytes;
    return (char *)h + GM_ALIGN;
}
#endif

void *gm_realloc(void *p, size_t old_bytes, size_t n, size_t size) {
    size_t bytes;
    if (!admit() || !gm_mul_size(n, size, &bytes)) return NULL;
#ifdef GM_HAVE_REMAP
    if (p && header_of(p)->mapped && bytes >= MAP_FROM) return remap(p, bytes);
#endif
    void *q = obtain(bytes, false);
    if (!q || !p) return q;
    memcpy(q, p, old_bytes < bytes ? old_bytes : bytes);
    give_back(p);
    return q;
}

void gm_free(void *p) {
    if (p) give_back(p);
}

char *gm_strndup(const char *s, size_t n) {
    size_t bytes;
    if (!gm_add_size(n, 1, &bytes)) return NULL;
    char *copy = gm_malloc(bytes, 1);
    if (!copy) return NULL;
    if (n > 0) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

int gm_grow(void *p, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return GM_OK;
    size_t want = *cap > SIZE_MAX / 2 ? need : *cap * 2;
    if (want < need) want = need;
    if (want < 16) want = 16;
    /* p points at a pointer of the caller's own type, so it is read and written as bytes. */
    void *old, *grown;
    memcpy(&old, p, sizeof old);
    grown = gm_realloc(old, *cap * size, want, size);
    if (!grown) return GM_ENOMEM;
    memcpy(p, &grown, sizeof grown);
    *cap = want;
    return GM_OK;
}

uint64_t gm_mem_fail_at(uint64_t n) {
    atomic_store(&fail_number, n);
    return atomic_exchange(&n_alloc, 0);
}

void gm_noalloc_begin(void) { noalloc_depth++; }

void gm_noalloc_end(void) {
    gm_assert(noalloc_depth > 0);
    noalloc_depth--;
}

uint64_t gm_noalloc_violations(void) { return atomic_load(&n_violation); }
