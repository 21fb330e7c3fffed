/* test_place.c: how many layers a device of a given memory takes, without a device.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "helper/cm.h"

#include "base/env.h"
#include "base/err.h"
#include "engine/place.h"
#include "helper/tiny_model.h"
#include "media/projector.h"
#include "model/decoder.h"

enum { N_CTX = 2000 };

#define MMPROJ "tests/golden/sets/nano/mmproj-BF16.gguf"

static gm_gguf *file;
static gm_config config;
static gm_bytes bytes;
static char err[256];

static int begin(void **state) {
    (void)state;
    bytes = tiny_model_build(&(tiny_opts){.seed = 3});
    if (gm_gguf_open_memory(&file, bytes.p, bytes.n, err, sizeof err) != 0) return -1;
    return gm_config_read(&config, file, 512, err, sizeof err);
}

static int end(void **state) {
    (void)state;
    gm_config_finish(&config);
    gm_gguf_close(&file);
    gm_bytes_finish(&bytes);
    return 0;
}

/* The null backend as a device of so much memory. */
static uint64_t memory;

static uint64_t memory_free(gm_backend *b) {
    (void)b;
    return memory;
}

static gm_backend_vtable vt;

static gm_backend *place_in(uint64_t there, const gm_place_opts *o) {
    gm_backend *b;
    assert_int_equal(gm_null_open(&b, err, sizeof err), GM_OK);
    vt = *b->vt;
    vt.memory_free = memory_free;
    b->vt = &vt;
    b->may_split = true;
    memory = there;
    assert_int_equal(gm_place_layers(&b, file, &config, o, err, sizeof err), GM_OK);
    return b;
}

/* Layers on a device of that memory; one more than there are: the ends as well. */
static int32_t layers_in(uint64_t there, const gm_place_opts *o) {
    gm_backend *b = place_in(there, o);
    int32_t n = b->rest ? b->n_layer : b->vt == &vt ? config.n_layer + 1 : 0;
    gm_backend_close(&b);
    return n;
}

static gm_place_opts opts_of(gm_dtype type) {
    return (gm_place_opts){
        .kv = {.n_ctx = N_CTX, .n_slack = 512, .type = type}, .n_batch = 64, .n_threads = 1};
}

/* The least memory that takes n layers. */
static uint64_t memory_with(int32_t n, gm_place_opts o) {
    uint64_t low = 0, high = UINT64_C(1) << 30;
    assert_int_equal(layers_in(high, &o), config.n_layer + 1);
    while (high - low > 1) {
        uint64_t mid = low + (high - low) / 2;
        if (layers_in(mid, &o) >= n) high = mid;
        else low = mid;
    }
    return high;
}

static uint64_t memory_for(int32_t n, gm_dtype type) { return memory_with(n, opts_of(type)); }

static uint64_t cache_bytes(gm_dtype type) {
    gm_backend *b;
    gm_kv *kv;
    const gm_kv_opts o = {.n_ctx = N_CTX, .n_slack = 512, .type = type};
    assert_int_equal(gm_null_open(&b, err, sizeof err), GM_OK);
    assert_int_equal(gm_kv_create(&kv, &config, b, &o, err, sizeof err), GM_OK);
    uint64_t n = gm_kv_bytes(kv);
    gm_kv_destroy(&kv);
    gm_backend_close(&b);
    return n;
}

/* A cache of floats was taken for one of half its size, and the second session of a model with
 * float weights found no memory. */
static void layers_leave_room_for_two_caches_of_the_type_that_they_get(void **state) {
    (void)state;
    static const gm_dtype types[] = {GM_F32, GM_Q8_0};
    const uint64_t half = memory_for(config.n_layer, GM_F16), cache = cache_bytes(GM_F16);
    for (size_t i = 0; i < 2; i++) {
        const int64_t more = (int64_t)(memory_for(config.n_layer, types[i]) - half);
        assert_int_equal(more, 2 * (int64_t)(cache_bytes(types[i]) - cache));
        assert_true(types[i] == GM_F32 ? more > 0 : more < 0);
    }
}

static void each_layer_needs_memory_and_the_ends_come_last(void **state) {
    (void)state;
    uint64_t before = 0;
    for (int32_t n = 1; n <= config.n_layer + 1; n++) {
        uint64_t needed = memory_for(n, GM_F16);
        assert_true(needed > before);
        before = needed;
    }
}

static const gm_backend_vtable *null_vt;
static uint64_t allocated;

static int count_bytes(gm_backend *b, gm_tensor *t) {
    allocated += (uint64_t)gm_tensor_rows(t) * t->row_bytes;
    return null_vt->tensor_alloc(b, t);
}

/* The buffers of the decoder were guessed, half as large again as they are. */
static void a_decoder_takes_as_many_bytes_as_were_counted_for_it(void **state) {
    (void)state;
    for (int32_t n_batch = 1; n_batch < 100; n_batch += 33) {
        gm_backend *b;
        gm_decoder *d;
        const gm_weights w = {0};
        assert_int_equal(gm_null_open(&b, err, sizeof err), GM_OK);
        null_vt = b->vt;
        vt = *null_vt;
        vt.tensor_alloc = count_bytes;
        b->vt = &vt;
        allocated = 0;
        assert_int_equal(gm_decoder_create(&d, &config, &w, b, n_batch, err, sizeof err), 0);
        assert_int_equal(allocated,
                         gm_decoder_layer_bytes(&config, n_batch) + gm_decoder_end_bytes(&config));
        gm_decoder_destroy(&d);
        gm_backend_close(&b);
    }
}

/* GEMMA_BACKEND=vulkan opened Vulkan again in place of the CPU, and nothing was placed there. */
static void what_takes_no_layer_is_replaced_by_the_cpu_whatever_the_environment_says(void **state) {
    (void)state;
    const gm_place_opts o = opts_of(GM_F16);
    setenv("GEMMA_BACKEND", "null", 1);
    gm_env_reload();
    gm_backend *b = place_in(1, &o);
    unsetenv("GEMMA_BACKEND");
    gm_env_reload();
    assert_string_equal(b->vt->name, "cpu");
    assert_non_null(strstr(b->note, "memory"));
    gm_backend_close(&b);
}

/* The model fitted, and then there was no room for the embedders, which are where the head is. */
static void a_whole_model_leaves_room_for_its_embedders(void **state) {
    (void)state;
    enum { BYTES = 1600 };
    gm_place_opts o = opts_of(GM_F16);
    const uint64_t layers = memory_with(config.n_layer, o),
                   whole = memory_with(config.n_layer + 1, o);
    o.mmproj_bytes = BYTES;
    assert_int_equal(memory_with(config.n_layer, o), layers);
    assert_int_equal(memory_with(config.n_layer + 1, o), whole + BYTES + BYTES / 16);
}

static int import_far(gm_backend *b, const gm_tensor *host, gm_tensor *out) {
    (void)b;
    *out = *host;
    out->data = NULL;
    out->dmem = (gm_dmem *)out; /* only that there is some counts */
    allocated += (uint64_t)gm_tensor_rows(host) * host->row_bytes;
    return GM_OK;
}

static void free_far(gm_backend *b, gm_tensor *t) {
    if (t->data) null_vt->tensor_free(b, t);
}

static void embedders_take_as_many_bytes_as_were_counted_for_them(void **state) {
    (void)state;
    enum { N_EMBD = 64 };
    gm_backend *b;
    gm_projector *p;
    assert_int_equal(gm_null_open(&b, err, sizeof err), GM_OK);
    null_vt = b->vt;
    vt = *null_vt;
    vt.tensor_alloc = count_bytes;
    vt.weight_import = import_far;
    vt.tensor_free = free_far;
    b->vt = &vt;
    allocated = 0;
    if (gm_projector_open(&p, MMPROJ, b, N_EMBD, err, sizeof err)) fail_msg("%s", err);
    assert_int_equal(allocated, gm_projector_bytes(MMPROJ, N_EMBD));
    assert_int_equal(gm_projector_bytes("/nowhere", N_EMBD), 0);
    gm_projector_close(&p);
    gm_backend_close(&b);
}

static uint64_t longest; /* bytes of a tensor */

static bool can_hold(gm_backend *b, const gm_tensor *t) {
    (void)b;
    return (uint64_t)gm_tensor_rows(t) * t->row_bytes <= longest;
}

/* A long cache of a global layer is more than some devices bind: the model loaded, and then every
 * session was refused for a lack of memory. */
static void a_layer_whose_cache_the_device_cannot_hold_stays_with_the_cpu(void **state) {
    (void)state;
    const gm_place_opts o = opts_of(GM_F16);
    const int32_t first = 2; /* global layer, which has a longer cache */
    const gm_kv_layer ring = gm_kv_layer_shape(&config, 0, &o.kv),
                      all = gm_kv_layer_shape(&config, first, &o.kv);
    longest = (uint64_t)gm_tensor_rows(&all.k) * all.k.row_bytes;
    assert_true(longest > (uint64_t)gm_tensor_rows(&ring.k) * ring.k.row_bytes);
    const uint64_t much = UINT64_C(1) << 30;
    for (int too_long = 0; too_long < 2; too_long++, longest--) {
        gm_backend *b;
        assert_int_equal(gm_null_open(&b, err, sizeof err), GM_OK);
        vt = *b->vt;
        vt.can_hold = can_hold;
        vt.memory_free = memory_free;
        memory = much;
        b->vt = &vt;
        b->may_split = true;
        assert_int_equal(gm_place_layers(&b, file, &config, &o, err, sizeof err), GM_OK);
        if (too_long) assert_int_equal(b->n_layer, first);
        else assert_null(b->rest);
        gm_backend_close(&b);
    }
}

static void a_device_without_memory_after_all_gets_half_as_many_layers_and_then_none(void **state) {
    (void)state;
    const gm_place_opts o = opts_of(GM_F16);
    gm_backend *b = place_in(UINT64_C(1) << 30, &o);
    assert_null(b->rest);
    snprintf(b->desc, sizeof b->desc, "null (of some kind)");
    snprintf(b->devices, sizeof b->devices, "null:0");
    assert_int_equal(config.n_layer, 5);
    assert_int_equal(gm_place_fewer(&b, &config, &o, err, sizeof err), GM_OK);
    assert_int_equal(b->n_layer, 2);
    assert_string_equal(b->desc, "null (of some kind)");
    assert_string_equal(b->note, "null (of some kind) had no memory for 5 of 5 layers");
    assert_int_equal(gm_place_fewer(&b, &config, &o, err, sizeof err), GM_OK);
    assert_int_equal(b->n_layer, 1);
    assert_string_equal(b->note, "null (of some kind) had no memory for 2 of 5 layers");
    assert_int_equal(gm_place_fewer(&b, &config, &o, err, sizeof err), GM_OK);
    assert_string_equal(b->vt->name, "cpu");
    assert_false(b->may_split);
    assert_string_equal(b->devices, "null:0");
    assert_string_equal(b->note, "null (of some kind) had no memory for 1 of 5 layers");
    gm_backend_close(&b);
}

static void a_split_is_described_and_a_whole_model_is_not(void **state) {
    (void)state;
    const gm_place_opts o = opts_of(GM_F16);
    gm_backend *b = place_in(UINT64_C(1) << 30, &o);
    snprintf(b->desc, sizeof b->desc, "null (of some kind) with a name that is longer than most");
    gm_place_describe(b, &config);
    assert_string_equal(b->desc, "null (of some kind) with a name that is longer than most");
    assert_int_equal(gm_place_fewer(&b, &config, &o, err, sizeof err), GM_OK);
    gm_place_describe(b, &config);
    assert_string_equal(b->desc, "null (of some kind) with a name that (2 of 5 layers)");
    gm_backend_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_leave_room_for_two_caches_of_the_type_that_they_get),
        cmocka_unit_test(each_layer_needs_memory_and_the_ends_come_last),
        cmocka_unit_test(a_decoder_takes_as_many_bytes_as_were_counted_for_it),
        cmocka_unit_test(a_whole_model_leaves_room_for_its_embedders),
        cmocka_unit_test(embedders_take_as_many_bytes_as_were_counted_for_them),
        cmocka_unit_test(a_layer_whose_cache_the_device_cannot_hold_stays_with_the_cpu),
        cmocka_unit_test(a_split_is_described_and_a_whole_model_is_not),
        cmocka_unit_test(a_device_without_memory_after_all_gets_half_as_many_layers_and_then_none),
        cmocka_unit_test(what_takes_no_layer_is_replaced_by_the_cpu_whatever_the_environment_says),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
