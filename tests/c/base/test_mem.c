/* Memory: alignment, overflow, laziness of large blocks, failure injection, the no-alloc guard. */
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "helper/cm.h"

#define MIB ((size_t)1 << 20)

static void mem_blocks_are_aligned_and_zeroed(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 3 * MIB, 3 * MIB + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = gm_calloc(sizes[i], 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % GM_ALIGN, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            if (p[j] != 0) fail_msg("byte %zu of %zu is %d", j, sizes[i], p[j]);
        memset(p, 0xAB, sizes[i]); /* all of it belongs to us */
        gm_free(p);
    }
    gm_free(NULL);
}

static void mem_refuses_sizes_that_overflow(void **state) {
    (void)state;
    assert_null(gm_calloc(SIZE_MAX / 2, 3));
    assert_null(gm_malloc(SIZE_MAX, 1));
    assert_null(gm_malloc(SIZE_MAX - 32, 1));
    assert_null(gm_realloc(NULL, 0, SIZE_MAX / 8, 16));
    size_t v;
    assert_false(gm_mul_size(SIZE_MAX / 2, 3, &v));
    assert_true(gm_mul_size(SIZE_MAX, 0, &v));
    assert_false(gm_add_size(SIZE_MAX, 1, &v));
}

static size_t resident_bytes(void) {
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    int n = fscanf(f, "%ld %ld", &size, &resident);
    fclose(f);
    return n == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* The cache of a long context is reserved at once; if that touched pages, opening a session
 * would take the memory of a full one. */
static void mem_large_blocks_are_only_reserved(void **state) {
    (void)state;
    if (TEST_SANITIZED) skip();
    size_t before = resident_bytes();
    if (before == 0) skip();
    char *p = gm_calloc(512 * MIB, 1);
    assert_non_null(p);
    assert_true(resident_bytes() < before + 16 * MIB);
    p[300 * MIB] = 1;
    assert_int_equal(p[300 * MIB - 1], 0);
    gm_free(p);
    assert_true(resident_bytes() < before + 16 * MIB);
}

static void mem_realloc_keeps_contents_small_and_large(void **state) {
    (void)state;
    static const size_t steps[] = {10, 100, 2 * MIB, 5 * MIB, 3 * MIB, 50};
    unsigned char *p = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        unsigned char *q = gm_realloc(p, n, steps[i], 1);
        assert_non_null(q);
        assert_int_equal((uintptr_t)q % GM_ALIGN, 0);
        size_t kept = n < steps[i] ? n : steps[i];
        for (size_t j = 0; j < kept; j++)
            if (q[j] != (unsigned char)(j * 7 % 251)) fail_msg("byte %zu lost in step %zu", j, i);
        for (size_t j = 0; j < steps[i]; j++) q[j] = (unsigned char)(j * 7 % 251);
        p = q;
        n = steps[i];
    }
    gm_free(p);
}

static void mem_grow_at_least_doubles_and_leaves_all_on_failure(void **state) {
    (void)state;
    int32_t *v = NULL;
    size_t cap = 0;
    assert_int_equal(gm_grow(&v, &cap, 1, sizeof *v), 0);
    size_t first = cap;
    v[0] = 42;
    assert_int_equal(gm_grow(&v, &cap, first + 1, sizeof *v), 0);
    assert_true(cap >= 2 * first);
    assert_int_equal(v[0], 42);

    int32_t *old = v;
    size_t old_cap = cap;
    gm_mem_fail_at(1);
    assert_int_equal(gm_grow(&v, &cap, cap + 1, sizeof *v), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_ptr_equal(v, old);
    assert_int_equal(cap, old_cap);
    assert_int_equal(gm_grow(&v, &cap, SIZE_MAX / 2, sizeof *v), GM_ENOMEM);
    assert_int_equal(v[0], 42);
    gm_free(v);
}

static void mem_strndup_copies_and_terminates(void **state) {
    (void)state;
    char *s = gm_strndup("hello", 3);
    assert_string_equal(s, "hel");
    gm_free(s);
    s = gm_strndup(NULL, 0);
    assert_string_equal(s, "");
    gm_free(s);
    assert_null(gm_strndup("x", SIZE_MAX));
}

static void mem_fails_exactly_the_allocation_asked_for(void **state) {
    (void)state;
    gm_mem_fail_at(2);
    void *a = gm_malloc(1, 1), *b = gm_malloc(1, 1), *c = gm_malloc(1, 1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_int_equal(gm_mem_fail_at(0), 3);
    gm_free(a);
    gm_free(c);
}

static void mem_counts_allocations_inside_the_guard(void **state) {
    (void)state;
#ifdef GM_DEBUG
    skip(); /* the guard asserts in these builds */
#else
    uint64_t before = gm_noalloc_violations();
    gm_noalloc_begin();
    gm_noalloc_begin();
    gm_noalloc_end();
    gm_free(gm_malloc(1, 1));
    gm_noalloc_end();
    assert_int_equal(gm_noalloc_violations(), before + 1);
    gm_free(gm_malloc(1, 1));
    assert_int_equal(gm_noalloc_violations(), before + 1);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_blocks_are_aligned_and_zeroed),
        cmocka_unit_test(mem_refuses_sizes_that_overflow),
        cmocka_unit_test(mem_large_blocks_are_only_reserved),
        cmocka_unit_test(mem_realloc_keeps_contents_small_and_large),
        cmocka_unit_test(mem_grow_at_least_doubles_and_leaves_all_on_failure),
        cmocka_unit_test(mem_strndup_copies_and_terminates),
        cmocka_unit_test(mem_fails_exactly_the_allocation_asked_for),
        cmocka_unit_test(mem_counts_allocations_inside_the_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
