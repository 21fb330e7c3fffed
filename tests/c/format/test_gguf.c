/* Reading well-formed GGUF files: every type, both versions, alignments, split files, speed. */
#include "format/gguf.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include "base/err.h"
#include "base/mem.h"
#include "helper/cm.h"
#include "helper/gguf_touch.h"
#include "helper/gguf_writer.h"
#include "helper/random.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"

static test_tmp tmp;

static int setup(void **state) {
    (void)state;
    return tmp_begin(&tmp);
}

static int teardown(void **state) {
    (void)state;
    tmp_end(&tmp);
    return 0;
}

/* Opens a file that must open; both are to be closed by the caller. */
static gm_gguf *open_built(const gguf_writer *w, gm_bytes *file) {
    char err[256] = "";
    gm_gguf *g;
    *file = gw_build(w);
    if (gm_gguf_open_memory(&g, file->p, file->n, err, sizeof err) < 0) fail_msg("%s", err);
    return g;
}

static void assert_str(gm_str got, const char *want) {
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

static void gguf_reads_scalars_of_every_type(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_u8(&w, "u8", 200);
    gw_i8(&w, "i8", -100);
    gw_u16(&w, "u16", 60000);
    gw_i16(&w, "i16", -30000);
    gw_u32(&w, "u32", 4000000000u);
    gw_i32(&w, "i32", -2000000000);
    gw_u64(&w, "u64", UINT64_MAX);
    gw_i64(&w, "i64", INT64_MIN);
    gw_f32(&w, "f32", 0.5f);
    gw_f64(&w, "f64", 1e300);
    gw_bool(&w, "yes", true);
    gw_bool(&w, "no", false);
    gw_str(&w, "str", "text");
    gw_str(&w, "empty", "");
    gm_bytes file;
    gm_gguf *g = open_built(&w, &file);
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},         {"i8", -100},         {"u16", 60000},     {"i16", -30000},
                {"u32", 4000000000}, {"i32", -2000000000}, {"i64", INT64_MIN}, {"yes", 1}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t v = 0;
        uint64_t u = 0;
        assert_int_equal(gm_gguf_get_i64(g, ints[i].key, &v), 0);
        assert_true(v == ints[i].value);
        int rc = gm_gguf_get_u64(g, ints[i].key, &u);
        assert_int_equal(rc, ints[i].value < 0 ? GM_EFORMAT : 0);
        if (rc == 0) assert_true(u == (uint64_t)ints[i].value);
    }
    uint64_t u;
    int64_t v;
    double f;
    bool b;
    gm_str s;
    assert_int_equal(gm_gguf_get_u64(g, "u64", &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(gm_gguf_get_i64(g, "u64", &v), GM_EFORMAT); /* does not fit */
    assert_int_equal(gm_gguf_get_f64(g, "f32", &f), 0);
    assert_true(f == 0.5);
    assert_int_equal(gm_gguf_get_f64(g, "f64", &f), 0);
    assert_true(f == 1e300);
    assert_int_equal(gm_gguf_get_f64(g, "i8", &f), 0);
    assert_true(f == -100);
    assert_int_equal(gm_gguf_get_i64(g, "f32", &v), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_bool(g, "yes", &b), 0);
    assert_true(b);
    assert_int_equal(gm_gguf_get_bool(g, "no", &b), 0);
    assert_false(b);
    assert_int_equal(gm_gguf_get_bool(g, "u8", &b), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_str(g, "str", &s), 0);
    assert_str(s, "text");
    assert_int_equal(gm_gguf_get_str(g, "empty", &s), 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(gm_gguf_get_str(g, "u8", &s), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_u64(g, "str", &u), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_u64(g, "nothing", &u), GM_ENOENT);
    assert_int_equal(gm_gguf_get_str(g, "", &s), GM_ENOENT);
    assert_int_equal(gm_gguf_n_key(g), 14);
    assert_str(gm_gguf_key_at(g, 3), "i16");
    gguf_touch(g);
    gm_gguf_close(&g);
    assert_null(g);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
}

static void gguf_reads_arrays_of_every_type(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_str(&w, "x", "y"); /* makes what follows unaligned */
    gw_array(&w, "i32", GM_GGUF_I32, 3, (int32_t[]){8, -1, 1}, 12);
    gw_array(&w, "u16", GM_GGUF_U16, 2, (uint16_t[]){1, 65535}, 4);
    gw_array(&w, "f32", GM_GGUF_F32, 2, (float[]){1.5f, -2}, 8);
    gw_array(&w, "f64", GM_GGUF_F64, 1, (double[]){0.1}, 8);
    gw_array(&w, "bool", GM_GGUF_BOOL, 3, (uint8_t[]){1, 0, 1}, 3);
    gw_array(&w, "none", GM_GGUF_U64, 0, NULL, 0);
    gw_strings(&w, "str", (gm_str[]){{"a", 1}, {"", 0}, {"long\0one", 8}}, 3);
    gw_strings(&w, "nostr", NULL, 0);
    gw_u32(&w, "scalar", 7);
    gm_bytes file;
    gm_gguf *g = open_built(&w, &file);
    gm_gguf_array a;
    int64_t v;
    double f;
    uint64_t u;
    assert_int_equal(gm_gguf_get_array(g, "i32", &a), 0);
    assert_int_equal(a.type, GM_GGUF_I32);
    assert_int_equal(a.n, 3);
    assert_int_equal(gm_gguf_array_i64(&a, 1, &v), 0);
    assert_int_equal(v, -1);
    assert_int_equal(gm_gguf_array_i64(&a, 3, &v), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_u64(g, "i32", &u), GM_EFORMAT); /* an array is no scalar */
    assert_int_equal(gm_gguf_get_array(g, "u16", &a), 0);
    assert_int_equal(gm_gguf_array_i64(&a, 1, &v), 0);
    assert_int_equal(v, 65535);
    assert_int_equal(gm_gguf_get_array(g, "f32", &a), 0);
    assert_int_equal(gm_gguf_array_f64(&a, 1, &f), 0);
    assert_true(f == -2);
    assert_int_equal(gm_gguf_array_i64(&a, 1, &v), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_array(g, "f64", &a), 0);
    assert_int_equal(gm_gguf_array_f64(&a, 0, &f), 0);
    assert_true(f == 0.1);
    assert_int_equal(gm_gguf_get_array(g, "bool", &a), 0);
    assert_int_equal(gm_gguf_array_i64(&a, 2, &v), 0);
    assert_int_equal(v, 1);
    assert_int_equal(gm_gguf_get_array(g, "none", &a), 0);
    assert_int_equal(a.n, 0);
    assert_int_equal(gm_gguf_get_array(g, "str", &a), 0);
    assert_int_equal(a.n, 3);
    assert_str(a.strings[0], "a");
    assert_int_equal(a.strings[1].n, 0);
    assert_memory_equal(a.strings[2].p, "long\0one", 8);
    assert_int_equal(gm_gguf_array_i64(&a, 0, &v), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_array(g, "nostr", &a), 0);
    assert_int_equal(gm_gguf_get_array(g, "scalar", &a), 0); /* an array of one */
    assert_int_equal(a.n, 1);
    assert_int_equal(gm_gguf_array_i64(&a, 0, &v), 0);
    assert_int_equal(v, 7);
    assert_int_equal(gm_gguf_get_array(g, "nothing", &a), GM_ENOENT);
    gguf_touch(g);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
}

/* Legal in the format, used by no model: read over, keys behind them are found. */
static void gguf_steps_over_arrays_of_arrays(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_array(&w, "nested", GM_GGUF_ARR, 2, NULL, 0);
    gw_put_u32(&w.keys, GM_GGUF_STR);
    gw_put_u64(&w.keys, 1);
    gw_put_str(&w.keys, "inner");
    gw_put_u32(&w.keys, GM_GGUF_U16);
    gw_put_u64(&w.keys, 3);
    gw_put(&w.keys, "abcdef", 6);
    gw_u32(&w, "behind", 5);
    gm_bytes file;
    gm_gguf *g = open_built(&w, &file);
    gm_gguf_array a;
    uint64_t u;
    assert_int_equal(gm_gguf_get_array(g, "nested", &a), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_u64(g, "nested", &u), GM_EFORMAT);
    assert_int_equal(gm_gguf_get_u64(g, "behind", &u), 0);
    assert_int_equal(u, 5);
    gguf_touch(g);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
}

static void check_tensors(uint32_t version, uint32_t alignment) {
    static const float values[96] = {1, 2, 3, [32] = 4, [64] = 5};
    gguf_writer w;
    gw_init(&w);
    w.version = version;
    if (alignment) gw_alignment(&w, alignment);
    gw_str(&w, "odd", "length");
    gw_tensor_f32(&w, "first", GM_F32, 3, 0, values);
    gw_tensor_f32(&w, "second.weight", GM_Q8_0, 32, 3, values);
    gw_tensor(&w, "third", GM_F16, 4, (uint64_t[]){2, 1, 3, 1}, "abcdefghijkl", 12);
    gm_bytes file;
    gm_gguf *g = open_built(&w, &file);
    assert_int_equal(gm_gguf_version(g), version);
    assert_int_equal(gm_gguf_n_tensor(g), 3);
    const gm_gguf_tensor *t = gm_gguf_tensor_find(g, "second.weight");
    assert_ptr_equal(t, gm_gguf_tensor_at(g, 1));
    assert_str(t->name, "second.weight");
    assert_int_equal(t->dtype, GM_Q8_0);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 32);
    assert_int_equal(t->ne[1], 3);
    assert_int_equal(t->ne[2], 1);
    assert_int_equal(t->bytes, 3 * 34);
    assert_int_equal((size_t)(t->data - (uint8_t *)file.p) % (alignment ? alignment : 32), 0);
    t = gm_gguf_tensor_find(g, "third");
    assert_int_equal(t->n_dims, 4);
    assert_memory_equal(t->data, "abcdefghijkl", 12);
    t = gm_gguf_tensor_find(g, "first");
    assert_memory_equal(t->data, values, 12);
    assert_null(gm_gguf_tensor_find(g, "second"));
    assert_null(gm_gguf_tensor_at(g, 3));
    assert_int_equal(gm_gguf_file_bytes(g), file.n);
    gguf_touch(g);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
}

static void gguf_finds_tensors_in_both_versions_and_any_alignment(void **state) {
    (void)state;
    check_tensors(2, 0);
    check_tensors(3, 0);
    for (uint32_t a = 1; a <= 1u << 16; a *= 2) check_tensors(3, a);
}

static void gguf_opens_a_file_without_tensors_or_keys(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    w.no_padding = true;
    gm_bytes file;
    gm_gguf *g = open_built(&w, &file);
    assert_int_equal(file.n, 24);
    assert_int_equal(gm_gguf_n_key(g), 0);
    assert_int_equal(gm_gguf_n_tensor(g), 0);
    assert_null(gm_gguf_tensor_find(g, "a"));
    gguf_touch(g);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
}

/* The order of tensors in the file says nothing. */
static void gguf_tiny_model_is_the_same_in_any_order(void **state) {
    (void)state;
    gm_bytes a = tiny_model_build(&(tiny_opts){.seed = 3, .dtype = GM_Q4_0});
    gm_bytes b = tiny_model_build(
        &(tiny_opts){.seed = 3, .dtype = GM_Q4_0, .shuffle = true, .alignment = 128});
    gm_gguf *ga, *gb;
    assert_int_equal(gm_gguf_open_memory(&ga, a.p, a.n, NULL, 0), 0);
    assert_int_equal(gm_gguf_open_memory(&gb, b.p, b.n, NULL, 0), 0);
    assert_int_equal(gm_gguf_n_tensor(ga), gm_gguf_n_tensor(gb));
    int moved = 0;
    for (uint64_t i = 0; i < gm_gguf_n_tensor(ga); i++) {
        const gm_gguf_tensor *t = gm_gguf_tensor_at(ga, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        const gm_gguf_tensor *u = gm_gguf_tensor_find(gb, name);
        assert_non_null(u);
        assert_int_equal(u->bytes, t->bytes);
        assert_memory_equal(u->data, t->data, t->bytes);
        moved += u != gm_gguf_tensor_at(gb, i);
    }
    assert_true(moved > 10);
    gm_gguf_close(&ga);
    gm_gguf_close(&gb);
    gm_bytes_finish(&a);
    gm_bytes_finish(&b);
}

/* ---- split files ------------------------------------------------------------------------- */

/* Part no (from 0) of count, with one tensor that holds its number, saved under its name.
 * claim_* are what its keys say. */
static void save_part(const char *stem, unsigned no, unsigned count, unsigned claim_no,
                      unsigned claim_tensors, const char *tensor) {
    gguf_writer w;
    char name[128];
    float value = (float)no;
    gw_init(&w);
    if (no == 0) gw_str(&w, "general.architecture", "gemma4");
    gw_u16(&w, "split.no", (uint16_t)claim_no);
    gw_u16(&w, "split.count", (uint16_t)count);
    gw_i32(&w, "split.tensors.count", (int32_t)claim_tensors);
    gw_tensor_f32(&w, tensor, GM_F32, 1, 0, &value);
    gm_bytes file = gw_build(&w);
    snprintf(name, sizeof name, "%s-%05u-of-%05u.gguf", stem, no + 1, count);
    assert_true(gw_save(tmp_path(&tmp, name), &file));
    gm_bytes_finish(&file);
    gw_finish(&w);
}

static void save_three(const char *stem) {
    save_part(stem, 0, 3, 0, 3, "t0");
    save_part(stem, 1, 3, 1, 3, "t1");
    save_part(stem, 2, 3, 2, 3, "t2");
}

/* Opening must fail with this text in the message. */
static void split_refused(const char *name, int code, const char *text) {
    char err[512] = "";
    gm_gguf *g = (gm_gguf *)&tmp;
    assert_int_equal(gm_gguf_open(&g, tmp_path(&tmp, name), err, sizeof err), code);
    assert_null(g);
    if (!strstr(err, text)) fail_msg("'%s' is not in '%s'", text, err);
}

static void gguf_opens_a_split_file_from_any_part(void **state) {
    (void)state;
    save_three("split");
    for (unsigned from = 1; from <= 3; from++) {
        char name[64], err[256] = "";
        gm_gguf *g;
        gm_str s;
        snprintf(name, sizeof name, "split-%05u-of-00003.gguf", from);
        if (gm_gguf_open(&g, tmp_path(&tmp, name), err, sizeof err) < 0) fail_msg("%s", err);
        assert_int_equal(gm_gguf_n_tensor(g), 3);
        assert_int_equal(gm_gguf_get_str(g, "general.architecture", &s), 0);
        const gm_gguf_tensor *t = gm_gguf_tensor_find(g, "t2");
        float v;
        memcpy(&v, t->data, sizeof v);
        assert_true(v == 2.0f);
        uint64_t one = gm_gguf_file_bytes(g) / 3;
        assert_true(one > 100 && one < 400);
        gguf_touch(g);
        gm_gguf_close(&g);
    }
}

static void gguf_names_the_part_that_is_missing(void **state) {
    (void)state;
    save_three("hole");
    unlink(tmp_path(&tmp, "hole-00002-of-00003.gguf"));
    split_refused("hole-00001-of-00003.gguf", GM_ENOENT,
                  "hole-00002-of-00003.gguf is missing: part 2 of 3");
    split_refused("hole-00003-of-00003.gguf", GM_ENOENT, "hole-00002-of-00003.gguf is missing");
}

static void gguf_refuses_a_part_with_another_name(void **state) {
    (void)state;
    save_three("renamed");
    char to[512];
    snprintf(to, sizeof to, "%s", tmp_path(&tmp, "my-model.gguf"));
    assert_int_equal(rename(tmp_path(&tmp, "renamed-00002-of-00003.gguf"), to), 0);
    split_refused("my-model.gguf", GM_EFORMAT, "does not end in -00002-of-00003.gguf");
}

static void gguf_refuses_parts_that_do_not_belong_together(void **state) {
    (void)state;
    save_three("mixed");
    save_part("mixed", 1, 3, 1, 9, "t1"); /* of a model with nine tensors */
    split_refused("mixed-00001-of-00003.gguf", GM_EFORMAT, "does not belong");
    save_part("mixed", 1, 3, 2, 3, "t1"); /* says it is the third */
    split_refused("mixed-00001-of-00003.gguf", GM_EFORMAT, "does not belong");
    save_part("mixed", 1, 3, 1, 3, "t0"); /* a tensor of the first part again */
    split_refused("mixed-00001-of-00003.gguf", GM_EFORMAT, "t0 comes twice");
    save_part("few", 0, 2, 0, 5, "t0");
    save_part("few", 1, 2, 1, 5, "t1");
    split_refused("few-00001-of-00002.gguf", GM_EFORMAT, "2 tensors instead of 5");
    save_part("wild", 0, 2, 7, 2, "t0"); /* part 8 of 2 */
    split_refused("wild-00001-of-00002.gguf", GM_EFORMAT, "make no sense");
}

static void gguf_split_opening_survives_every_failed_allocation(void **state) {
    (void)state;
    save_three("oom");
    const char *path = tmp_path(&tmp, "oom-00002-of-00003.gguf");
    for (uint64_t n = 1;; n++) {
        gm_gguf *g;
        char err[256] = "";
        gm_mem_fail_at(n);
        int rc = gm_gguf_open(&g, path, err, sizeof err);
        uint64_t used = gm_mem_fail_at(0);
        if (rc == 0) {
            assert_true(n > used);
            gm_gguf_close(&g);
            break;
        }
        assert_int_equal(rc, GM_ENOMEM);
        assert_null(g);
        assert_non_null(strstr(err, "out of memory"));
    }
}

/* ---- size -------------------------------------------------------------------------------- */

/* The vocabulary of the 12B: 262,144 pieces and 514,906 merges. Opening it took 15 ms where this
 * was written; the limit leaves room for slow machines, not for quadratic work. Processor time,
 * since other programs may run. */
static void gguf_opens_half_a_million_strings_at_once(void **state) {
    (void)state;
    enum { N = 777050 };
    char text[] = "abcdefghijklmnopqrst";
    gm_str *strings = gm_malloc(N, sizeof *strings);
    assert_non_null(strings);
    for (size_t i = 0; i < N; i++) strings[i] = (gm_str){text, i % 20};
    gguf_writer w;
    gw_init(&w);
    gw_strings(&w, "tokens", strings, N);
    for (int i = 0; i < 667; i++) {
        char name[32];
        float v = (float)i;
        snprintf(name, sizeof name, "blk.%d.weight", i);
        gw_tensor_f32(&w, name, GM_F32, 1, 0, &v);
    }
    gm_bytes file = gw_build(&w);
    clock_t start = clock();
    gm_gguf *g;
    assert_int_equal(gm_gguf_open_memory(&g, file.p, file.n, NULL, 0), 0);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 0.5);
    gm_gguf_array a;
    assert_int_equal(gm_gguf_get_array(g, "tokens", &a), 0);
    assert_int_equal(a.n, N);
    assert_int_equal(a.strings[N - 1].n, (N - 1) % 20);
    assert_int_equal(gm_gguf_n_tensor(g), 667);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    gw_finish(&w);
    gm_free(strings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reads_scalars_of_every_type),
        cmocka_unit_test(gguf_reads_arrays_of_every_type),
        cmocka_unit_test(gguf_steps_over_arrays_of_arrays),
        cmocka_unit_test(gguf_finds_tensors_in_both_versions_and_any_alignment),
        cmocka_unit_test(gguf_opens_a_file_without_tensors_or_keys),
        cmocka_unit_test(gguf_tiny_model_is_the_same_in_any_order),
        cmocka_unit_test(gguf_opens_a_split_file_from_any_part),
        cmocka_unit_test(gguf_names_the_part_that_is_missing),
        cmocka_unit_test(gguf_refuses_a_part_with_another_name),
        cmocka_unit_test(gguf_refuses_parts_that_do_not_belong_together),
        cmocka_unit_test(gguf_split_opening_survives_every_failed_allocation),
        cmocka_unit_test(gguf_opens_half_a_million_strings_at_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
