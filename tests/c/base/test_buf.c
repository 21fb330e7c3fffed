/* Growing arrays and the bounded cursor. */
#include "base/buf.h"

#include <string.h>
#include "base/cursor.h"
#include "base/err.h"
#include "base/mem.h"
#include "helper/cm.h"

static void buf_bytes_append_and_finish(void **state) {
    (void)state;
    gm_bytes b = {0};
    for (int i = 0; i < 1000; i++) assert_int_equal(gm_bytes_append(&b, "abc", 3), 0);
    assert_int_equal(gm_bytes_append(&b, NULL, 0), 0);
    assert_int_equal(b.n, 3000);
    assert_memory_equal(b.p + 2997, "abc", 3);
    gm_bytes_finish(&b);
    assert_null(b.p);
    assert_int_equal(b.n, 0);
    gm_bytes_finish(&b);
}

static void buf_ids_push_and_append(void **state) {
    (void)state;
    gm_ids a = {0};
    for (int32_t i = 0; i < 100; i++) assert_int_equal(gm_ids_push(&a, i), 0);
    assert_int_equal(gm_ids_append(&a, (int32_t[]){-1, -2}, 2), 0);
    assert_int_equal(a.n, 102);
    assert_int_equal(a.v[99], 99);
    assert_int_equal(a.v[101], -2);
    gm_ids_finish(&a);
}

static void buf_is_unchanged_when_memory_runs_out(void **state) {
    (void)state;
    gm_bytes b = {0};
    assert_int_equal(gm_bytes_append(&b, "x", 1), 0);
    size_t cap = b.cap;
    gm_mem_fail_at(1);
    assert_int_equal(gm_bytes_reserve(&b, cap), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_int_equal(gm_bytes_reserve(&b, SIZE_MAX), GM_ENOMEM);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.cap, cap);
    gm_bytes_finish(&b);
    gm_ids a = {0};
    gm_mem_fail_at(1);
    assert_int_equal(gm_ids_push(&a, 1), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_int_equal(a.n, 0);
    assert_int_equal(gm_ids_reserve(&a, SIZE_MAX / 2), GM_ENOMEM);
    gm_ids_finish(&a);
}

static void cursor_reads_little_endian_and_never_passes_the_end(void **state) {
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7};
    gm_cursor c = {.p = bytes, .n = sizeof bytes};
    assert_int_equal(gm_cursor_u8(&c), 1);
    assert_int_equal(gm_cursor_u16(&c), 0x0302);
    assert_int_equal(gm_cursor_u32(&c), 0x07060504);
    assert_false(c.bad);
    assert_non_null(gm_cursor_take(&c, 0));
    assert_int_equal(gm_cursor_u8(&c), 0);
    assert_true(c.bad);
    assert_int_equal(c.pos, 7);
}

static void cursor_stays_bad_after_the_first_read_that_does_not_fit(void **state) {
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    gm_cursor c = {.p = bytes, .n = sizeof bytes};
    assert_null(gm_cursor_take(&c, UINT64_MAX));
    assert_int_equal(gm_cursor_u8(&c), 0); /* although there are bytes left */
    assert_int_equal(c.pos, 0);
    assert_true(c.bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_bytes_append_and_finish),
        cmocka_unit_test(buf_ids_push_and_append),
        cmocka_unit_test(buf_is_unchanged_when_memory_runs_out),
        cmocka_unit_test(cursor_reads_little_endian_and_never_passes_the_end),
        cmocka_unit_test(cursor_stays_bad_after_the_first_read_that_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
