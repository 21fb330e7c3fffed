/* Files that are damaged, truncated or made to hurt: a one-line message, never more. */
#include "format/gguf.h"

#include <string.h>
#include <sys/stat.h>
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

/* Opens a copy that ends exactly with its block, so that sanitizers see every byte too many. */
static int open_copy(const void *p, size_t n, char *err, size_t errlen, uint64_t *sum) {
    void *copy = gm_malloc(n, 1);
    assert_non_null(copy);
    if (n > 0) memcpy(copy, p, n);
    gm_gguf *g = NULL;
    int rc = gm_gguf_open_memory(&g, copy, n, err, errlen);
    assert_true((rc == 0) == (g != NULL));
    uint64_t h = g ? gguf_touch(g) : 0;
    if (sum) *sum = h;
    gm_gguf_close(&g);
    gm_free(copy);
    return rc;
}

static void bytes_refused(const void *p, size_t n, int code, const char *text) {
    char err[512] = "";
    int rc = open_copy(p, n, err, sizeof err, NULL);
    if (rc != code || !strstr(err, text))
        fail_msg("%s '%s' instead of %s '... %s ...'", gm_err_name(rc), err, gm_err_name(code),
                 text);
    assert_null(strchr(err, '\n'));
}

/* Builds, must be refused, finishes the writer. */
static void refused(gguf_writer *w, int code, const char *text) {
    gm_bytes file = gw_build(w);
    bytes_refused(file.p, file.n, code, text);
    gm_bytes_finish(&file);
    gw_finish(w);
}

/* One key of every kind and three tensors, about 900 bytes. */
static gm_bytes small_file(void) {
    static const float values[64] = {1, 2, 3};
    gguf_writer w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "gemma4");
    gw_alignment(&w, 16);
    gw_u8(&w, "u8", 1);
    gw_i64(&w, "i64", -5);
    gw_f64(&w, "f64", 0.5);
    gw_bool(&w, "bool", true);
    gw_array(&w, "ints", GM_GGUF_I32, 4, (int32_t[]){1, 2, 3, 4}, 16);
    gw_strings(&w, "strings", (gm_str[]){{"one", 3}, {"", 0}, {"three", 5}}, 3);
    gw_array(&w, "nested", GM_GGUF_ARR, 1, NULL, 0);
    gw_put_u32(&w.keys, GM_GGUF_U8);
    gw_put_u64(&w.keys, 2);
    gw_put(&w.keys, "ab", 2);
    gw_tensor_f32(&w, "a.weight", GM_F32, 3, 0, values);
    gw_tensor_f32(&w, "b.weight", GM_Q8_0, 32, 2, values);
    gw_tensor_f32(&w, "c.weight", GM_F16, 4, 5, values);
    gm_bytes file = gw_build(&w);
    gw_finish(&w);
    return file;
}

/* ---- what is no model at all ------------------------------------------------------------- */

static void gguf_says_what_a_wrong_file_is(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"},
        {"<!DOCTYPE html><html><body>404</body></html>", "web page"},
        {"PK\x03\x04________________", "ZIP archive"},
        {"\x10\x20\x01\x01\x01\x01\x01\x01{\"__metadata__\":1}", "safetensors"},
        {"tjgg____________________", "old GGML"},
        {"FUGG____________________", "big-endian"},
        {"just some text", "is not a GGUF file"},
        {"GGU", "ends inside its header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        bytes_refused(cases[i].bytes, strlen(cases[i].bytes), GM_EFORMAT, cases[i].text);
    bytes_refused("", 0, GM_EFORMAT, "ends inside its header");
}

static void path_refused(const char *path, int code, const char *text) {
    char err[512] = "";
    gm_gguf *g = (gm_gguf *)&tmp;
    assert_int_equal(gm_gguf_open(&g, path, err, sizeof err), code);
    assert_null(g);
    if (!strstr(err, text)) fail_msg("'%s' is not in '%s'", text, err);
    assert_null(strchr(err, '\n'));
}

static void gguf_refuses_directories_pipes_and_empty_files(void **state) {
    (void)state;
    alarm(20);
    path_refused(tmp.dir, GM_EINVAL, "is a directory");
    assert_int_equal(mkfifo(tmp_path(&tmp, "fifo"), 0600), 0);
    path_refused(tmp.path, GM_EINVAL, "is a named pipe");
    alarm(0);
    assert_true(gw_save(tmp_path(&tmp, "empty.gguf"), &(gm_bytes){0}));
    path_refused(tmp.path, GM_EFORMAT, "is empty");
    path_refused(tmp_path(&tmp, "missing.gguf"), GM_ENOENT, "no such file");
    path_refused("", GM_EINVAL, "no file name");
    path_refused(NULL, GM_EINVAL, "no file name");
    path_refused("/tmp/a\nb", GM_ENOENT, "/tmp/a?b");
}

static void gguf_refuses_other_versions_by_number(void **state) {
    (void)state;
    static const uint32_t versions[] = {0, 1, 4, 77};
    for (size_t i = 0; i < 4; i++) {
        gguf_writer w;
        gw_init(&w);
        w.version = versions[i];
        char text[32];
        snprintf(text, sizeof text, "version %u;", versions[i]);
        refused(&w, GM_EUNSUPPORTED, text);
    }
    gguf_writer w;
    gw_init(&w);
    w.version = 0x03000000;
    refused(&w, GM_EFORMAT, "big-endian");
}

/* ---- damage ------------------------------------------------------------------------------ */

static void gguf_refuses_every_truncation(void **state) {
    (void)state;
    gm_bytes file = small_file();
    uint64_t sum;
    assert_int_equal(open_copy(file.p, file.n, NULL, 0, &sum), 0);
    for (size_t n = 0; n < file.n; n++) {
        char err[256] = "";
        assert_int_equal(open_copy(file.p, n, err, sizeof err, NULL), GM_EFORMAT);
        if (!strstr(err, "download it again")) fail_msg("at %zu: %s", n, err);
    }
    gm_bytes_finish(&file);
}

static void gguf_survives_every_flipped_bit(void **state) {
    (void)state;
    gm_bytes file = small_file();
    int n_open = 0;
    for (size_t bit = 0; bit < file.n * 8; bit++) {
        char err[256] = "";
        file.p[bit / 8] ^= (char)(1 << bit % 8);
        int rc = open_copy(file.p, file.n, err, sizeof err, NULL);
        file.p[bit / 8] ^= (char)(1 << bit % 8);
        n_open += rc == 0;
        assert_true(rc == 0 || rc == GM_EFORMAT || rc == GM_EUNSUPPORTED);
        assert_true(rc == 0 || (err[0] && !strchr(err, '\n')));
    }
    assert_true(n_open > 100); /* names and weights may be anything */
    gm_bytes_finish(&file);
}

static void gguf_survives_random_bytes_in_the_header(void **state) {
    (void)state;
    gm_bytes file = small_file();
    test_rng r = {11};
    char *copy = gm_malloc(file.n, 1);
    assert_non_null(copy);
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, file.p, file.n);
        size_t n = 1 + rng_below(&r, 4);
        for (size_t i = 0; i < n; i++) copy[4 + rng_below(&r, file.n - 4)] = (char)rng_u64(&r);
        int rc = open_copy(copy, file.n, NULL, 0, NULL);
        assert_true(rc == 0 || rc == GM_EFORMAT || rc == GM_EUNSUPPORTED);
    }
    gm_free(copy);
    gm_bytes_finish(&file);
}

static void gguf_open_survives_every_failed_allocation(void **state) {
    (void)state;
    gm_bytes file = small_file();
    uint64_t n = 1;
    for (;; n++) {
        gm_gguf *g;
        char err[256] = "";
        gm_mem_fail_at(n);
        int rc = gm_gguf_open_memory(&g, file.p, file.n, err, sizeof err);
        gm_mem_fail_at(0);
        if (rc == 0) {
            gm_gguf_close(&g);
            break;
        }
        assert_int_equal(rc, GM_ENOMEM);
        assert_null(g);
        assert_non_null(strstr(err, "out of memory"));
    }
    assert_true(n > 8); /* all of them were walked */
    assert_true(gw_save(tmp_path(&tmp, "oom.gguf"), &file));
    gm_mem_fail_at(3); /* the mapping */
    path_refused(tmp.path, GM_ENOMEM, "out of memory");
    gm_mem_fail_at(0);
    gm_bytes_finish(&file);
}

/* ---- lies about sizes -------------------------------------------------------------------- */

static const uint64_t huge[] = {UINT64_MAX,        (uint64_t)1 << 63,
                                (uint64_t)1 << 61, ((uint64_t)1 << 62) + 1,
                                (uint64_t)1 << 32, 1000000000};

static void gguf_refuses_counts_that_the_file_has_no_room_for(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        gguf_writer w;
        gw_init(&w);
        gw_u32(&w, "a", 1);
        w.n_key = huge[i];
        refused(&w, GM_EFORMAT, "metadata keys");

        gw_init(&w);
        w.n_tensor = huge[i];
        refused(&w, GM_EFORMAT, "tensors");

        static const gm_gguf_type types[] = {GM_GGUF_U8, GM_GGUF_F64, GM_GGUF_STR, GM_GGUF_ARR};
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            gw_init(&w);
            gw_array(&w, "numbers", types[t], huge[i], "12345678", 8);
            refused(&w, GM_EFORMAT, "key numbers claims");
        }
    }
}

/* Counts that the bytes would allow (or nearly), but no model has. */
static void gguf_refuses_more_keys_and_tensors_than_any_model_has(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_u32(&w, "a", 1);
    w.n_key = 10000;
    refused(&w, GM_EFORMAT, "claims 10000 metadata keys");
    gw_init(&w);
    w.n_tensor = 10000;
    refused(&w, GM_EFORMAT, "claims 10000 tensors");
    gw_init(&w);
    for (int i = 0; i < 20000; i++) {
        char name[16];
        snprintf(name, sizeof name, "key%d", i);
        gw_u8(&w, name, 0);
    }
    refused(&w, GM_EFORMAT, "claims 20000 metadata keys");
    gw_init(&w);
    for (int i = 0; i < 20000; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        gw_tensor_info(&w, name, GM_F32, 1, (uint64_t[]){1}, 0);
    }
    refused(&w, GM_EFORMAT, "claims 20000 tensors");
}

/* Zeros are empty strings, and a sparse file of zeros costs an attacker nothing: a list of a
 * billion of them must not become a table of sixteen gigabytes. */
static void gguf_refuses_a_list_of_too_many_empty_strings(void **state) {
    (void)state;
    uint64_t n = ((uint64_t)1 << 24) + 1;
    gguf_writer w;
    gw_init(&w);
    gw_array(&w, "tokens", GM_GGUF_STR, n, NULL, 0);
    gm_bytes head = gw_build(&w);
    size_t size = head.n + n * 8;
    char *p = gm_calloc(size, 1);
    assert_non_null(p);
    memcpy(p, head.p, head.n);
    gm_gguf *g;
    char err[256] = "";
    assert_int_equal(gm_gguf_open_memory(&g, p, size, err, sizeof err), GM_EFORMAT);
    assert_non_null(strstr(err, "key tokens has 16777217 elements"));
    gm_free(p);
    gm_bytes_finish(&head);
    gw_finish(&w);
}

static void gguf_refuses_lengths_that_the_file_has_no_room_for(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        gguf_writer w;
        gw_init(&w);
        gw_key(&w, "text", GM_GGUF_STR);
        gw_put_u64(&w.keys, huge[i]);
        gw_put(&w.keys, "abc", 3);
        refused(&w, GM_EFORMAT, "ends inside");

        gw_init(&w);
        gw_strings(&w, "texts", (gm_str[]){{"a", 1}}, 1);
        memcpy(w.keys.p + w.keys.n - 9, &huge[i], 8);
        refused(&w, GM_EFORMAT, "ends inside");

        gw_init(&w);
        gw_put_u64(&w.keys, huge[i]); /* length of a key's name */
        gw_put(&w.keys, "abcdefghijkl", 12);
        w.n_key = 1;
        refused(&w, GM_EFORMAT, "name of a key");

        gw_init(&w);
        gw_put_u64(&w.infos, huge[i]);
        gw_put(&w.infos, "abcdefghijklmnopqrstuvwxyz0123456789", 36);
        w.n_tensor = 1;
        refused(&w, GM_EFORMAT, "name of a tensor");
    }
}

static void gguf_refuses_empty_names(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_u32(&w, "", 1);
    refused(&w, GM_EFORMAT, "name of a key is 0 bytes");
    gw_init(&w);
    gw_tensor(&w, "", GM_F32, 4, (uint64_t[]){1, 1, 1, 1}, "1234", 4);
    refused(&w, GM_EFORMAT, "name of a tensor is 0 bytes");
}

static void gguf_refuses_deep_nesting(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_array(&w, "deep", GM_GGUF_ARR, 1, NULL, 0);
    for (int i = 0; i < 100000; i++) {
        gw_put_u32(&w.keys, GM_GGUF_ARR);
        gw_put_u64(&w.keys, 1);
    }
    refused(&w, GM_EFORMAT, "nests arrays");
}

static void gguf_refuses_unknown_value_types(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_key(&w, "odd", 13);
    gw_put_u64(&w.keys, 0);
    refused(&w, GM_EFORMAT, "key odd has unknown type 13");
    gw_init(&w);
    gw_array(&w, "odd", (gm_gguf_type)99, 1, "1", 1);
    refused(&w, GM_EFORMAT, "key odd is an array of unknown type 99");
}

static void gguf_refuses_names_that_come_twice(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_u32(&w, "same", 1);
    gw_u32(&w, "other", 1);
    gw_str(&w, "same", "x");
    refused(&w, GM_EFORMAT, "key same comes twice");
    float v = 1;
    gw_init(&w);
    gw_tensor_f32(&w, "t", GM_F32, 1, 0, &v);
    gw_tensor_f32(&w, "t", GM_F32, 1, 0, &v);
    refused(&w, GM_EFORMAT, "tensor t comes twice");
}

/* Each would be compared with all before it: a file of 16 MB took half a minute. */
static void gguf_refuses_names_that_were_made_to_collide(void **state) {
    (void)state;
    enum { N = 300, SLOTS = 1024 }; /* of the table for so many keys */
    gguf_writer w;
    gw_init(&w);
    for (unsigned i = 0, n = 0; n < N; i++) {
        char name[16];
        uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a, as in gguf.c */
        snprintf(name, sizeof name, "k%u", i);
        for (const char *p = name; *p; p++) hash = (hash ^ (uint8_t)*p) * 0x100000001B3u;
        if (((hash ^ hash >> 32) & (SLOTS - 1)) != 0) continue;
        gw_u32(&w, name, 1);
        n++;
    }
    refused(&w, GM_EFORMAT, "comes twice");
}

/* ---- tensors that cannot be -------------------------------------------------------------- */

/* One tensor info with 64 bytes of data behind it. */
static void tensor_refused(uint32_t dtype, uint32_t n_dims, const uint64_t *ne, uint64_t offset,
                           int code, const char *text) {
    static const char data[64];
    gguf_writer w;
    gw_init(&w);
    gw_tensor_info(&w, "blk.0.w", dtype, n_dims, ne, offset);
    gw_put(&w.infos, data, 64); /* so that the list of tensors never ends too early */
    gw_put(&w.data, data, sizeof data);
    refused(&w, code, text);
}

static void gguf_refuses_shapes_that_cannot_be(void **state) {
    (void)state;
    uint64_t one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    tensor_refused(GM_F32, 0, one, 0, GM_EFORMAT, "blk.0.w has 0 dimensions");
    tensor_refused(GM_F32, 5, one, 0, GM_EFORMAT, "blk.0.w has 5 dimensions");
    tensor_refused(GM_F32, UINT32_MAX & 7, one, 0, GM_EFORMAT, "7 dimensions");
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t ne[4] = {1, 1, 1, 1};
        ne[i] = 0;
        tensor_refused(GM_F32, 4, ne, 0, GM_EFORMAT, "dimension of 0");
        ne[i] = UINT64_MAX;
        tensor_refused(GM_F32, 4, ne, 0, GM_EFORMAT, "dimension of 18446744073709551615");
        ne[i] = (uint64_t)1 << 62;
        tensor_refused(GM_F32, 4, ne, 0, GM_EFORMAT, "overflows");
    }
    /* Products that wrap around to something small. */
    tensor_refused(GM_F32, 2, (uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32}, 0, GM_EFORMAT,
                   "overflows");
    tensor_refused(GM_F32, 3, (uint64_t[]){1, (uint64_t)1 << 32, (uint64_t)1 << 32}, 0, GM_EFORMAT,
                   "overflows");
    tensor_refused(GM_F32, 2, (uint64_t[]){4, ((uint64_t)1 << 60) + 1}, 0, GM_EFORMAT, "overflows");
    tensor_refused(GM_Q8_0, 2, (uint64_t[]){32, (uint64_t)1 << 58}, 0, GM_EFORMAT, "overflows");
    /* The bytes would fit in 63 bits, the number of values does not. */
    tensor_refused(GM_Q2_K, 2, (uint64_t[]){256, (uint64_t)1 << 55}, 0, GM_EFORMAT, "overflows");
    tensor_refused(GM_Q8_0, 1, (uint64_t[]){33}, 0, GM_EFORMAT, "no multiple of the 32 of Q8_0");
    tensor_refused(GM_Q4_K, 1, (uint64_t[]){32}, 0, GM_EFORMAT, "no multiple of the 256 of Q4_K");
}

static void gguf_refuses_offsets_out_of_place(void **state) {
    (void)state;
    uint64_t ne[1] = {4};
    tensor_refused(GM_F32, 1, ne, 1, GM_EFORMAT, "no multiple of the alignment 32");
    tensor_refused(GM_F32, 1, ne, 16, GM_EFORMAT, "no multiple of the alignment 32");
    tensor_refused(GM_F32, 1, ne, 1024, GM_EFORMAT, "incomplete");
    tensor_refused(GM_F32, 1, ne, (uint64_t)1 << 63, GM_EFORMAT, "incomplete");
    tensor_refused(GM_F32, 1, ne, UINT64_MAX - 31, GM_EFORMAT, "incomplete"); /* would wrap */
    tensor_refused(GM_F32, 1, (uint64_t[]){(uint64_t)1 << 60}, 0, GM_EFORMAT, "incomplete");
}

static void gguf_refuses_number_formats_by_name_or_number(void **state) {
    (void)state;
    uint64_t ne[1] = {256};
    tensor_refused(16, 1, ne, 0, GM_EUNSUPPORTED, "blk.0.w has the number format IQ2_XXS");
    tensor_refused(4, 1, ne, 0, GM_EUNSUPPORTED, "unknown number format 4");
    tensor_refused(63, 1, ne, 0, GM_EUNSUPPORTED, "unknown number format 63");
    tensor_refused(UINT32_MAX, 1, ne, 0, GM_EUNSUPPORTED, "unknown number format 4294967295");
}

static void gguf_refuses_alignments_that_cannot_be(void **state) {
    (void)state;
    static const uint32_t wrong[] = {0, 3, 33, 48, (1u << 20) + 1, 1u << 21, UINT32_MAX};
    float v = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gguf_writer w;
        gw_init(&w);
        gw_u32(&w, "general.alignment", wrong[i]);
        gw_tensor_f32(&w, "t", GM_F32, 1, 0, &v);
        refused(&w, GM_EFORMAT, "not a power of two");
    }
    gguf_writer w;
    gw_init(&w);
    gw_str(&w, "general.alignment", "32");
    refused(&w, GM_EFORMAT, "no positive integer");
    gw_init(&w);
    gw_i32(&w, "general.alignment", -32);
    refused(&w, GM_EFORMAT, "no positive integer");
}

static void gguf_refuses_one_part_in_memory(void **state) {
    (void)state;
    gguf_writer w;
    gw_init(&w);
    gw_u16(&w, "split.no", 1);
    gw_u16(&w, "split.count", 3);
    gw_u16(&w, "split.tensors.count", 3);
    refused(&w, GM_EUNSUPPORTED, "only part 2 of 3");
    gw_init(&w);
    gw_u16(&w, "split.count", 3);
    refused(&w, GM_EFORMAT, "make no sense");
    gw_init(&w);
    gw_u64(&w, "split.count", UINT64_MAX);
    gw_u64(&w, "split.no", 0);
    gw_u64(&w, "split.tensors.count", 0);
    refused(&w, GM_EFORMAT, "make no sense");
}

/* Names come from the file: the message must not carry an escape sequence to a terminal, and
 * must stay short. */
static void gguf_messages_are_short_and_printable(void **state) {
    (void)state;
    char name[256], err[1024] = "";
    memset(name, '\x1b', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    gguf_writer w;
    gw_init(&w);
    gw_tensor_info(&w, name, 99, 1, (uint64_t[]){1}, 0);
    gm_bytes file = gw_build(&w);
    assert_int_equal(open_copy(file.p, file.n, err, sizeof err, NULL), GM_EUNSUPPORTED);
    assert_true(strlen(err) < 250);
    assert_null(strchr(err, '\x1b'));
    gm_bytes_finish(&file);
    gw_finish(&w);
}

/* A download that is still running, of a real layout: cut anywhere it is refused in no time. */
static void gguf_refuses_a_model_cut_anywhere(void **state) {
    (void)state;
    gm_bytes file = tiny_model_build(&(tiny_opts){.seed = 1, .dtype = GM_Q8_0});
    assert_int_equal(open_copy(file.p, file.n, NULL, 0, NULL), 0);
    test_rng r = {5};
    for (int i = 0; i < 300; i++) {
        size_t n = rng_below(&r, file.n);
        bytes_refused(file.p, n, GM_EFORMAT, "download it again");
    }
    gm_bytes_finish(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_says_what_a_wrong_file_is),
        cmocka_unit_test(gguf_refuses_directories_pipes_and_empty_files),
        cmocka_unit_test(gguf_refuses_other_versions_by_number),
        cmocka_unit_test(gguf_refuses_every_truncation),
        cmocka_unit_test(gguf_survives_every_flipped_bit),
        cmocka_unit_test(gguf_survives_random_bytes_in_the_header),
        cmocka_unit_test(gguf_open_survives_every_failed_allocation),
        cmocka_unit_test(gguf_refuses_counts_that_the_file_has_no_room_for),
        cmocka_unit_test(gguf_refuses_more_keys_and_tensors_than_any_model_has),
        cmocka_unit_test(gguf_refuses_a_list_of_too_many_empty_strings),
        cmocka_unit_test(gguf_refuses_lengths_that_the_file_has_no_room_for),
        cmocka_unit_test(gguf_refuses_empty_names),
        cmocka_unit_test(gguf_refuses_deep_nesting),
        cmocka_unit_test(gguf_refuses_unknown_value_types),
        cmocka_unit_test(gguf_refuses_names_that_come_twice),
        cmocka_unit_test(gguf_refuses_names_that_were_made_to_collide),
        cmocka_unit_test(gguf_refuses_shapes_that_cannot_be),
        cmocka_unit_test(gguf_refuses_offsets_out_of_place),
        cmocka_unit_test(gguf_refuses_number_formats_by_name_or_number),
        cmocka_unit_test(gguf_refuses_alignments_that_cannot_be),
        cmocka_unit_test(gguf_refuses_one_part_in_memory),
        cmocka_unit_test(gguf_messages_are_short_and_printable),
        cmocka_unit_test(gguf_refuses_a_model_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
