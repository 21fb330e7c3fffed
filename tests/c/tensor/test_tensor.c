/* The table of number formats, and views. */
#include "tensor/tensor.h"

#include "base/err.h"
#include "helper/cm.h"
#include "tensor/quant.h"

static void dtype_unknown_ids_have_no_name(void **state) {
    (void)state;
    static const uint32_t unknown[] = {4, 5, 31, 63, 64, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        const gm_dtype_info *info = gm_dtype_get(unknown[i]);
        assert_non_null(info);
        assert_null(info->name);
        assert_false(info->can_compute);
    }
    assert_string_equal(gm_dtype_get(GM_Q4_K)->name, "Q4_K");
    assert_string_equal(gm_dtype_get(16)->name, "IQ2_XXS");
    assert_false(gm_dtype_get(16)->can_compute);
}

/* What the table promises, quant.c keeps, and the other way round. */
static void dtype_can_compute_means_that_rows_can_be_converted(void **state) {
    (void)state;
    float y[256];
    uint8_t raw[2048] = {0};
    int n_computed = 0;
    for (uint32_t id = 0; id < GM_DTYPE_LIMIT; id++) {
        const gm_dtype_info *info = gm_dtype_get(id);
        int rc = gm_dequant_row((gm_dtype)id, raw, y, 256);
        assert_int_equal(rc, info->can_compute ? 0 : GM_EUNSUPPORTED);
        n_computed += info->can_compute;
        if (!info->name) continue;
        assert_true(info->block_elems > 0 && info->block_bytes > 0);
    }
    assert_int_equal(n_computed, 15);
}

static void dtype_row_bytes_refuses_partial_blocks_and_overflow(void **state) {
    (void)state;
    assert_int_equal(gm_dtype_row_bytes(GM_Q4_0, 64), 36);
    assert_int_equal(gm_dtype_row_bytes(GM_Q6_K, 3840), 15 * 210);
    assert_int_equal(gm_dtype_row_bytes(GM_F32, 3), 12);
    assert_int_equal(gm_dtype_row_bytes(GM_Q4_0, 33), 0);
    assert_int_equal(gm_dtype_row_bytes(GM_Q4_K, 32), 0);
    assert_int_equal(gm_dtype_row_bytes(GM_F32, UINT64_MAX), 0);
    assert_int_equal(gm_dtype_row_bytes((gm_dtype)63, 32), 0);
}

static void tensor_view_is_dense(void **state) {
    (void)state;
    float data[6];
    gm_tensor t = gm_tensor_view(GM_F32, data, 3, 2);
    assert_int_equal(t.row_bytes, 12);
    assert_int_equal(gm_tensor_rows(&t), 2);
    assert_ptr_equal(gm_tensor_row(&t, 1), data + 3);
    assert_null(t.dmem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_unknown_ids_have_no_name),
        cmocka_unit_test(dtype_can_compute_means_that_rows_can_be_converted),
        cmocka_unit_test(dtype_row_bytes_refuses_partial_blocks_and_overflow),
        cmocka_unit_test(tensor_view_is_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
