/* test_null.c: the backend that counts instead of computing. */
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "helper/cm.h"
#include "kernels/backend.h"

static gm_backend *open_null(void) {
    gm_backend *b;
    char err[128] = "";
    assert_int_equal(gm_backend_open(&b, "null", 0, err, sizeof err), 0);
    assert_string_equal(b->vt->name, "null");
    return b;
}

static gm_tensor rows(gm_backend *b, int64_t n_row, int64_t n) {
    gm_tensor t = gm_tensor_view(GM_F32, NULL, n, n_row);
    assert_int_equal(gm_be_tensor_alloc(b, &t), 0);
    return t;
}

static void ops_are_counted_by_name_and_leave_outputs_zero(void **state) {
    (void)state;
    gm_backend *b = open_null();
    gm_tensor x = rows(b, 3, 8), out = rows(b, 3, 8);
    const float one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(gm_be_write(b, &x, 32, one, sizeof one), 0);
    gm_op_rms_norm op = {.x = &x, .eps = 1, .n_tok = 3, .out = &out};
    assert_int_equal(gm_be_rms_norm(b, &op), 0);
    assert_int_equal(gm_be_rms_norm(b, &op), 0);
    op.n_tok = 0;
    assert_int_equal(gm_be_rms_norm(b, &op), 0); /* nothing to do: never reaches the backend */
    assert_int_equal(gm_null_count(b, "rms_norm"), 2);
    assert_int_equal(gm_null_count(b, "matmul"), 0);
    assert_int_equal(gm_null_count(b, "tensor_alloc"), 2);
    assert_int_equal(gm_null_count(b, "no such op"), 0);
    float got[24], want[24] = {0};
    assert_int_equal(gm_be_read(b, &out, 0, got, sizeof got), 0);
    assert_memory_equal(got, want, sizeof got);
    memcpy(want + 8, one, sizeof one);
    assert_int_equal(gm_be_read(b, &x, 0, got, sizeof got), 0);
    assert_memory_equal(got, want, sizeof got); /* what was written can be read back */
    gm_be_tensor_free(b, &x);
    gm_be_tensor_free(b, &out);
    gm_backend_close(&b);
}

static void a_refused_op_is_not_counted(void **state) {
    (void)state;
    gm_backend *b = open_null();
    gm_tensor x = rows(b, 1, 8);
    gm_op_softcap op = {.x = &x, .n_tok = 2, .cap = 30};
    assert_int_equal(gm_be_softcap(b, &op), GM_EINVAL);
    assert_int_equal(gm_null_count(b, "softcap"), 0);
    gm_be_tensor_free(b, &x);
    gm_backend_close(&b);
}

static void a_raised_flag_cancels_any_op(void **state) {
    (void)state;
    gm_backend *b = open_null();
    gm_tensor x = rows(b, 1, 8);
    gm_cancel flag;
    atomic_init(&flag.set, true);
    gm_be_set_cancel(b, &flag);
    gm_op_softcap op = {.x = &x, .n_tok = 1, .cap = 30};
    assert_int_equal(gm_be_softcap(b, &op), GM_ECANCELLED);
    atomic_store(&flag.set, false);
    assert_int_equal(gm_be_softcap(b, &op), 0);
    gm_be_tensor_free(b, &x);
    gm_backend_close(&b);
}

static void closing_frees_tensors_that_nobody_freed(void **state) {
    (void)state;
    gm_backend *b = open_null();
    for (int i = 0; i < 100; i++) rows(b, 2, 1024); /* the leak check of the sanitizer judges */
    gm_backend_close(&b);
    assert_null(b);
}

static void opening_reports_that_memory_is_short(void **state) {
    (void)state;
    gm_backend *b;
    char err[128] = "";
    gm_mem_fail_at(1);
    assert_int_equal(gm_backend_open(&b, "null", 0, err, sizeof err), GM_ENOMEM);
    gm_mem_fail_at(0);
    assert_null(b);
    assert_string_not_equal(err, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_are_counted_by_name_and_leave_outputs_zero),
        cmocka_unit_test(a_refused_op_is_not_counted),
        cmocka_unit_test(a_raised_flag_cancels_any_op),
        cmocka_unit_test(closing_frees_tensors_that_nobody_freed),
        cmocka_unit_test(opening_reports_that_memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
