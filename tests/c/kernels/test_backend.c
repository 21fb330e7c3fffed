/* test_backend.c: choosing a backend, and what the wrappers refuse.
 *
 * Refusals run on the null backend: a count of zero proves that nothing got through. What ops
 * compute is judged in tests/ops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "helper/cm.h"
#include "kernels/backend.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* ---- choice ------------------------------------------------------------------------------ */

static void set_env(const char *name, const char *value) {
    if (value) setenv(name, value, 1);
    else unsetenv(name);
    gm_env_reload();
}

static void no_device_means_cpu_and_desc_tells_level_and_threads(void **state) {
    (void)state;
    gm_backend *b;
    char err[128] = "";
    assert_int_equal(gm_backend_open(&b, NULL, 2, err, sizeof err), 0);
    assert_string_equal(b->vt->name, "cpu");
    assert_non_null(strstr(b->desc, ", 2 threads"));
    assert_int_equal(b->n_threads, 2);
    assert_int_equal(strncmp(b->desc, "cpu ", 4), 0);
    gm_backend_close(&b);
    assert_null(b);
    gm_backend_close(&b); /* twice is harmless */
    assert_int_equal(gm_backend_open(&b, "cpu", 1, err, sizeof err), 0);
    assert_non_null(strstr(b->desc, ", 1 thread"));
    assert_null(strstr(b->desc, "threads"));
    gm_backend_close(&b);
}

static void the_environment_overrides_device_and_threads(void **state) {
    (void)state;
    gm_backend *b;
    char err[128] = "";
    set_env("GEMMA_BACKEND", "null");
    assert_int_equal(gm_backend_open(&b, "cpu", 2, err, sizeof err), 0);
    assert_string_equal(b->vt->name, "null");
    assert_int_equal(b->n_threads, 0);
    gm_backend_close(&b);
    set_env("GEMMA_BACKEND", NULL);
    set_env("GEMMA_THREADS", "3");
    assert_int_equal(gm_backend_open(&b, "cpu", 2, err, sizeof err), 0);
    assert_non_null(strstr(b->desc, ", 3 threads"));
    assert_int_equal(b->n_threads, 3);
    gm_backend_close(&b);
    static const char *const bad[] = {"0", "-1", "x", "2x", "99999999999999999999"};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        set_env("GEMMA_THREADS", bad[i]);
        assert_int_equal(gm_backend_open(&b, "cpu", 2, err, sizeof err), 0);
        assert_non_null(strstr(b->desc, ", 2 threads"));
        gm_backend_close(&b);
    }
    set_env("GEMMA_THREADS", NULL);
}

static void unknown_devices_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int code;
    } cases[] = {{"toaster", GM_EINVAL}, {"vulkan:", GM_EINVAL}, {"vulkan:x", GM_EINVAL},
                 {"vulkan0", GM_EINVAL}, {"split:", GM_EINVAL},  {"split:-1", GM_EINVAL},
                 {"", GM_EINVAL},        {"CPU", GM_EINVAL}};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        gm_backend *b;
        char err[128] = "", quoted[32];
        snprintf(quoted, sizeof quoted, "\"%s\"", cases[i].name);
        assert_int_equal(gm_backend_open(&b, cases[i].name, 0, err, sizeof err), cases[i].code);
        assert_null(b);
        assert_non_null(strstr(err, quoted));
    }
    gm_backend *b;
    char err[128] = "";
    set_env("GEMMA_BACKEND", "toaster");
    assert_int_equal(gm_backend_open(&b, "cpu", 0, err, sizeof err), GM_EINVAL);
    assert_non_null(strstr(err, "GEMMA_BACKEND")); /* or the user looks in the wrong place */
    set_env("GEMMA_BACKEND", NULL);
    assert_int_equal(gm_backend_open(&b, "cpu", -1, err, sizeof err), GM_EINVAL);
}

static gm_be_limits limits(void) {
    return (gm_be_limits){.max_tok = 32, .max_in = 64, .max_head = 4, .max_head_dim = 16};
}

static void opening_the_cpu_survives_failure_of_every_allocation(void **state) {
    (void)state;
    int n_failed = 0;
    for (uint64_t n = 1; n < 1000; n++) {
        gm_backend *b;
        char err[128] = "";
        gm_mem_fail_at(n);
        int e = gm_backend_open(&b, "cpu", 2, err, sizeof err);
        const gm_be_limits lim = limits();
        int r = e ? e : gm_be_reserve(b, &lim);
        gm_mem_fail_at(0);
        if (e) {
            assert_int_equal(e, GM_ENOMEM);
            assert_null(b);
            assert_string_not_equal(err, "");
        } else if (r) {
            assert_int_equal(r, GM_ENOMEM);
            assert_int_equal(gm_be_reserve(b, &lim), 0);
        }
        gm_backend_close(&b);
        if (!e && !r) break;
        n_failed++;
    }
    assert_in_range(n_failed, 10, 900);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void tensors_are_zeroed_freed_once_and_imported_views_are_left_alone(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "null"};
    for (size_t k = 0; k < LENGTH(devices); k++) {
        gm_backend *b;
        assert_int_equal(gm_backend_open(&b, devices[k], 1, NULL, 0), 0);
        gm_tensor t = gm_tensor_view(GM_Q8_0, NULL, 64, 3);
        assert_int_equal(gm_be_tensor_alloc(b, &t), 0);
        uint8_t got[3 * 68], zero[3 * 68] = {0};
        assert_int_equal(gm_be_read(b, &t, 0, got, sizeof got), 0);
        assert_memory_equal(got, zero, sizeof got);
        assert_int_equal(gm_be_read(b, &t, 1, got, sizeof got), GM_EINVAL);
        assert_int_equal(gm_be_write(b, &t, SIZE_MAX, got, 2), GM_EINVAL);
        gm_be_tensor_free(b, &t);
        assert_null(t.data);
        gm_be_tensor_free(b, &t); /* zeroed now */
        gm_be_tensor_free(b, NULL);
        float on_the_stack[32] = {1};
        gm_tensor view = gm_tensor_view(GM_F32, on_the_stack, 32, 1), w;
        assert_int_equal(gm_be_weight_import(b, &view, &w), 0);
        assert_ptr_equal(w.data, on_the_stack);
        gm_be_tensor_free(b, &w);
        assert_true(on_the_stack[0] == 1);
        gm_backend_close(&b);
    }
}

static void shapes_that_overflow_or_make_no_sense_get_no_memory(void **state) {
    (void)state;
    gm_backend *b;
    assert_int_equal(gm_backend_open(&b, "cpu", 1, NULL, 0), 0);
    gm_tensor bad[] = {
        gm_tensor_view(GM_F32, NULL, 0, 1),
        gm_tensor_view(GM_F32, NULL, 4, -1),
        gm_tensor_view(GM_Q8_0, NULL, 33, 1),
        gm_tensor_view((gm_dtype)63, NULL, 32, 1),
        gm_tensor_view(GM_F32, NULL, 1 << 30, (int64_t)1 << 40),
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        assert_int_not_equal(gm_be_tensor_alloc(b, &bad[i]), 0);
        assert_null(bad[i].data);
    }
    gm_tensor narrow = gm_tensor_view(GM_F32, NULL, 64, 2);
    narrow.row_bytes = 255;
    assert_int_equal(gm_be_tensor_alloc(b, &narrow), GM_EINVAL);
    gm_backend_close(&b);
}

/* ---- refusals ---------------------------------------------------------------------------- */

static char last_line[256];
static int n_line;

static void keep_line(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud;
    if (level != GM_LOG_ERROR || strcmp(room, "kernels") != 0) return;
    snprintf(last_line, sizeof last_line, "%s", line);
    n_line++;
}

/* Runs fn on the null backend: it must refuse, with one line that begins with the op's name. */
static void refused(int code, const char *op) {
    assert_int_equal(code, GM_EINVAL);
    if (n_line != 1 || strncmp(last_line, op, strlen(op)) != 0)
        fail_msg("%d lines for %s, the last one \"%s\"", n_line, op, last_line);
    n_line = 0;
}

typedef struct {
    gm_backend *b;
    gm_tensor x, y, z, w; /* [2, 64] rows three times, [64] */
    gm_tensor matrix;     /* [10, 64] Q8_0 */
    uint8_t bytes[10 * 68];
    gm_kv_layer cache; /* [2, 8, 16] F16 */
} bench;

static gm_tensor rows(gm_backend *b, int64_t n_row, int64_t n) {
    gm_tensor t = gm_tensor_view(GM_F32, NULL, n, n_row);
    assert_int_equal(gm_be_tensor_alloc(b, &t), 0);
    return t;
}

static int setup(void **state) {
    bench *s = calloc(1, sizeof *s);
    if (!s || gm_backend_open(&s->b, "null", 0, NULL, 0) != 0) return -1;
    s->x = rows(s->b, 2, 64);
    s->y = rows(s->b, 2, 64);
    s->z = rows(s->b, 2, 64);
    s->w = rows(s->b, 1, 64);
    gm_tensor host = gm_tensor_view(GM_Q8_0, s->bytes, 64, 10);
    gm_be_weight_import(s->b, &host, &s->matrix);
    gm_tensor half = {.dtype = GM_F16, .ne = {16, 8, 2, 1}, .row_bytes = 32};
    s->cache = (gm_kv_layer){.k = half, .v = half, .n_slot = 8, .n_kv = 2, .head_dim = 16};
    gm_be_tensor_alloc(s->b, &s->cache.k);
    gm_be_tensor_alloc(s->b, &s->cache.v);
    gm_log_set_sink(keep_line, NULL);
    n_line = 0;
    *state = s;
    return 0;
}

static int teardown(void **state) {
    bench *s = *state;
    gm_log_set_sink(NULL, NULL);
    gm_backend_close(&s->b);
    free(s);
    return 0;
}

/* Each line changes one thing of a good op, which is tried first. */
#define GOOD(name, ...)                                                                            \
    gm_op_##name good_##name = {__VA_ARGS__};                                                      \
    assert_int_equal(gm_be_##name(s->b, &good_##name), 0)
#define BAD(name, ...)                                                                             \
    do {                                                                                           \
        gm_op_##name op = good_##name;                                                             \
        __VA_ARGS__;                                                                               \
        refused(gm_be_##name(s->b, &op), #name ":");                                               \
    } while (0)

static void embed_refuses_ids_outside_the_table(void **state) {
    bench *s = *state;
    const int32_t ids[2] = {9, -1}, over[2] = {3, 10};
    gm_tensor half_row = gm_tensor_view(GM_F32, s->x.data, 32, 2);
    GOOD(embed, .table = &s->matrix, .ids = ids, .n_tok = 2, .scale = 1, .out = &s->x);
    BAD(embed, op.ids = over);
    BAD(embed, op.ids = NULL);
    BAD(embed, op.n_tok = 3);
    BAD(embed, op.n_tok = -1);
    BAD(embed, op.table = NULL);
    BAD(embed, op.out = &half_row);
    assert_int_equal(gm_null_count(s->b, "embed"), 1);
}

static void norms_refuse_rows_and_weights_that_do_not_fit(void **state) {
    bench *s = *state;
    gm_tensor empty = {0}, half = gm_tensor_view(GM_F16, s->x.data, 64, 2);
    gm_tensor short_w = gm_tensor_view(GM_F32, s->w.data, 32, 1);
    GOOD(rms_norm, .x = &s->x, .w = &s->w, .n_tok = 2, .out = &s->y);
    BAD(rms_norm, op.x = &empty);
    BAD(rms_norm, op.x = NULL);
    BAD(rms_norm, op.x = &half);
    BAD(rms_norm, op.out = &empty);
    BAD(rms_norm, op.w = &short_w);
    BAD(rms_norm, op.n_tok = 3);
    GOOD(add_norm, .x = &s->x, .w = &s->w, .scale = 1, .n_tok = 2, .h = &s->y);
    BAD(add_norm, op.w = NULL);
    BAD(add_norm, op.w = &short_w);
    BAD(add_norm, op.h = &empty);
    BAD(add_norm, op.n_tok = 3);
    assert_int_equal(gm_null_count(s->b, "rms_norm"), 1);
    assert_int_equal(gm_null_count(s->b, "add_norm"), 1);
}

static void matmul_refuses_matrices_that_do_not_match(void **state) {
    bench *s = *state;
    gm_tensor out = gm_tensor_view(GM_F32, s->y.data, 10, 2), small = out, wide = s->matrix;
    small.ne[1] = 1;
    wide.ne[0] = 32;
    wide.row_bytes = 34;
    gm_tensor unknown = s->matrix;
    unknown.dtype = (gm_dtype)9; /* Q8_1: known, not computed with */
    GOOD(matmul, .n_mat = 2, .w = {&s->matrix, &s->matrix}, .x = &s->x, .n_tok = 2,
         .out = {&out, &s->z});
    BAD(matmul, op.n_mat = 0);
    BAD(matmul, op.n_mat = 4);
    BAD(matmul, op.n_mat = 3);
    BAD(matmul, op.w[1] = &wide);
    BAD(matmul, op.w[1] = &unknown);
    BAD(matmul, op.out[0] = &small);
    BAD(matmul, op.x = NULL);
    BAD(matmul, op.n_tok = 3);
    assert_int_equal(gm_null_count(s->b, "matmul"), 1);
}

static void head_norm_rope_refuses_odd_heads_and_negative_positions(void **state) {
    bench *s = *state;
    gm_tensor w = gm_tensor_view(GM_F32, s->w.data, 16, 1);
    GOOD(head_norm_rope, .x = &s->x, .n_tok = 2, .n_head = 4, .head_dim = 16, .w = &w);
    BAD(head_norm_rope, op.head_dim = 15);
    BAD(head_norm_rope, op.head_dim = 0);
    BAD(head_norm_rope, op.n_head = 5);
    BAD(head_norm_rope, op.n_tok = 3);
    BAD(head_norm_rope, op.pos0 = -1);
    BAD(head_norm_rope, op.pos0 = INT32_MAX - 1);
    BAD(head_norm_rope, op.w = &s->w);
    assert_int_equal(gm_null_count(s->b, "head_norm_rope"), 1);
}

static void cache_ops_refuse_caches_and_ranges_that_do_not_fit(void **state) {
    bench *s = *state;
    gm_tensor k = gm_tensor_view(GM_F32, s->x.data, 32, 2);
    gm_kv_layer wrong = s->cache, types = s->cache, none = {0};
    wrong.n_slot = 9;
    types.v.dtype = GM_Q4_0;
    GOOD(kv_write, .k = &k, .v = &k, .n_tok = 2, .pos0 = 7, .cache = &s->cache);
    BAD(kv_write, op.cache = &wrong);
    BAD(kv_write, op.cache = &types);
    BAD(kv_write, op.cache = &none);
    BAD(kv_write, op.cache = NULL);
    BAD(kv_write, op.n_tok = 9);
    BAD(kv_write, op.pos0 = -1);
    BAD(kv_write, op.pos0 = INT32_MAX);
    BAD(kv_write, op.v = NULL);
    const int32_t lo[2] = {0, 1}, hi[2] = {7, 8}, below[2] = {0, 0}, negative[2] = {-1, 0};
    GOOD(attention, .q = &s->x, .cache = &s->cache, .n_tok = 2, .n_head = 4, .lo = lo, .hi = hi,
         .out = &s->y);
    BAD(attention, op.n_head = 3);
    BAD(attention, op.n_head = 6);
    BAD(attention, op.lo = below); /* nine positions of eight slots */
    BAD(attention, op.lo = negative);
    BAD(attention, op.hi = negative); /* nothing to see */
    BAD(attention, op.lo = NULL);
    BAD(attention, op.cache = &wrong);
    BAD(attention, op.out = NULL);
    assert_int_equal(gm_null_count(s->b, "kv_write"), 1);
    assert_int_equal(gm_null_count(s->b, "attention"), 1);
}

static void activations_refuse_rows_that_do_not_fit(void **state) {
    bench *s = *state;
    gm_tensor one = gm_tensor_view(GM_F32, s->x.data, 64, 1);
    GOOD(geglu, .gate = &s->x, .up = &s->y, .n_tok = 2, .out = &s->x);
    BAD(geglu, op.up = &one);
    BAD(geglu, op.out = NULL);
    BAD(geglu, op.n_tok = 3);
    GOOD(softcap, .x = &s->x, .n_tok = 2, .cap = 30);
    BAD(softcap, op.cap = 0);
    BAD(softcap, op.cap = -1);
    BAD(softcap, op.x = &one);
    assert_int_equal(gm_null_count(s->b, "geglu"), 1);
    assert_int_equal(gm_null_count(s->b, "softcap"), 1);
}

static void ops_beyond_what_was_reserved_are_refused_by_the_cpu(void **state) {
    bench *s = *state;
    gm_backend *cpu;
    assert_int_equal(gm_backend_open(&cpu, "cpu", 1, NULL, 0), 0);
    const float inv_freq[8] = {1};
    gm_op_head_norm_rope op = {
        .x = &s->x, .n_tok = 2, .n_head = 4, .head_dim = 16, .inv_freq = inv_freq};
    refused(gm_be_head_norm_rope(cpu, &op), "head_norm_rope:");
    const int32_t lo[1] = {0};
    gm_op_attention at = {
        .q = &s->x, .cache = &s->cache, .n_tok = 1, .n_head = 4, .lo = lo, .hi = lo, .out = &s->y};
    refused(gm_be_attention(cpu, &at), "attention:");
    const gm_be_limits lim = limits();
    assert_int_equal(gm_be_reserve(cpu, &lim), 0);
    gm_noalloc_begin();
    assert_int_equal(gm_be_head_norm_rope(cpu, &op), 0);
    assert_int_equal(gm_be_attention(cpu, &at), 0);
    gm_noalloc_end();
    assert_int_equal(gm_noalloc_violations(), 0);
    gm_backend_close(&cpu);
}

#define FIXTURE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_device_means_cpu_and_desc_tells_level_and_threads),
        cmocka_unit_test(the_environment_overrides_device_and_threads),
        cmocka_unit_test(unknown_devices_are_refused_by_name),
        cmocka_unit_test(opening_the_cpu_survives_failure_of_every_allocation),
        cmocka_unit_test(tensors_are_zeroed_freed_once_and_imported_views_are_left_alone),
        cmocka_unit_test(shapes_that_overflow_or_make_no_sense_get_no_memory),
        FIXTURE(embed_refuses_ids_outside_the_table),
        FIXTURE(norms_refuse_rows_and_weights_that_do_not_fit),
        FIXTURE(matmul_refuses_matrices_that_do_not_match),
        FIXTURE(head_norm_rope_refuses_odd_heads_and_negative_positions),
        FIXTURE(cache_ops_refuse_caches_and_ranges_that_do_not_fit),
        FIXTURE(activations_refuse_rows_that_do_not_fit),
        FIXTURE(ops_beyond_what_was_reserved_are_refused_by_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
