/* test_weights.c: tensors found, converted, and refused when they do not fit the configuration.
 *
 * Wrong files are made from a right one by changing the directory entry of one tensor.
 */
#include "model/fixture.h"

#include "base/mem.h"
#include "helper/tiny_model.h"
#include "tensor/quant.h"

/* ---- directory entries: u64 length, name, u32 axes, u64 sizes, u32 type, u64 offset ---- */

static uint8_t *entry_of(gm_bytes *file, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 8; i + n + 32 < file->n; i++) {
        uint64_t len;
        memcpy(&len, file->p + i - 8, 8);
        if (len == n && memcmp(file->p + i, name, n) == 0) return (uint8_t *)file->p + i;
    }
    fail_msg("no tensor %s in the file", name);
    return NULL;
}

static void set_size(gm_bytes *file, const char *name, int axis, uint64_t v) {
    memcpy(entry_of(file, name) + strlen(name) + 4 + 8 * axis, &v, 8);
}

static void set_type(gm_bytes *file, const char *name, uint32_t type) {
    uint8_t *e = entry_of(file, name) + strlen(name);
    uint32_t n_dims;
    memcpy(&n_dims, e, 4);
    memcpy(e + 4 + 8 * n_dims, &type, 4);
}

/* The data of a tensor, inside the file. */
static uint8_t *data_of(gm_bytes *file, const char *name) {
    gm_gguf *g = NULL;
    char err[256] = "";
    assert_int_equal(gm_gguf_open_memory(&g, file->p, file->n, err, sizeof err), 0);
    const gm_gguf_tensor *t = gm_gguf_tensor_find(g, name);
    assert_non_null(t);
    size_t at = (size_t)(t->data - (const uint8_t *)file->p);
    gm_gguf_close(&g);
    return (uint8_t *)file->p + at;
}

static gm_bytes tiny(const char *pattern, gm_dtype type) {
    return tiny_model_build(&(tiny_opts){.seed = 3, .pattern = pattern, .dtype = type});
}

static void refuses(gm_bytes *file, int code, const char *text, const char *text2) {
    fixture f;
    int rc = fixture_open_memory(&f, file, "null", 8);
    if (rc != code || !strstr(f.err, text) || !strstr(f.err, text2))
        print_message("%d \"%s\", expected %d with \"%s\" and \"%s\"\n", rc, f.err, code, text,
                      text2);
    assert_int_equal(rc, code);
    assert_non_null(strstr(f.err, text));
    assert_non_null(strstr(f.err, text2));
    gm_bytes_finish(file);
}

/* ---- right files ---- */

static void tensors_become_named_fields(void **state) {
    (void)state;
    gm_bytes file = tiny("sg", GM_Q8_0);
    fixture f;
    assert_int_equal(fixture_open_memory(&f, &file, "null", 8), 0);
    const gm_layer_weights *s = &f.w->layer[0], *g = &f.w->layer[1];
    assert_int_equal(f.w->token_embd.ne[0], 64);
    assert_int_equal(f.w->token_embd.ne[1], 512);
    assert_ptr_equal(f.w->output.data, f.w->token_embd.data);
    assert_int_equal(s->q.ne[1], 4 * 16);
    assert_int_equal(s->v.ne[1], 2 * 16);
    assert_int_equal(g->q.ne[1], 4 * 32);
    assert_int_equal(g->k.ne[1], 32);
    assert_int_equal(g->v.ne[0], 0);
    assert_int_equal(g->o.ne[0], 4 * 32);
    assert_int_equal(s->q_norm.ne[0], 16);
    assert_int_equal(s->down.ne[0], 128);
    assert_int_equal(f.w->main_type, GM_Q8_0);
    /* vectors are F32 copies, matrices views into the file */
    assert_int_equal(s->attn_norm.dtype, GM_F32);
    assert_ptr_equal(s->q.data, data_of(&file, "blk.0.attn_q.weight"));
    assert_memory_equal(s->attn_norm.data, data_of(&file, "blk.0.attn_norm.weight"), 64 * 4);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

static void rotation_tables_follow_base_and_factors(void **state) {
    (void)state;
    gm_bytes file = tiny("sgsg", GM_F32);
    static const float factor[16] = {1,     1,     2,     1,     1e30f, 1e30f, 1e30f, 1e30f,
                                     1e30f, 1e30f, 1e30f, 1e30f, 1e30f, 1e30f, 1e30f, 1e30f};
    memcpy(data_of(&file, "rope_freqs.weight"), factor, sizeof factor);
    fixture f;
    assert_int_equal(fixture_open_memory(&f, &file, "null", 8), 0);
    const float *s = f.w->layer[0].inv_freq, *g = f.w->layer[1].inv_freq;
    assert_ptr_equal(s, f.w->layer[2].inv_freq);
    assert_ptr_equal(g, f.w->layer[3].inv_freq);
    /* sliding: 10000^(-2i/16), all pairs turn */
    assert_float_equal(s[0], 1.0f, 0);
    assert_float_equal(s[1], 0.31622777f, 1e-7);
    assert_float_equal(s[4], 0.01f, 1e-8);
    assert_float_equal(s[7], 0.00031622777f, 1e-9);
    /* global: (1e6)^(-2i/32) / factor, exactly 0 behind the first four */
    assert_float_equal(g[0], 1.0f, 0);
    assert_float_equal(g[1], 0.42169650f, 1e-7);
    assert_float_equal(g[2], 0.17782794f / 2, 1e-7);
    assert_float_equal(g[3], 0.07498942f, 1e-7);
    for (int i = 4; i < 16; i++) assert_true(g[i] == 0.0f);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

static void optional_tensors_may_be_missing(void **state) {
    (void)state;
    gm_bytes file = tiny("sg", GM_F32);
    entry_of(&file, "rope_freqs.weight")[0] = 'x';
    entry_of(&file, "blk.1.layer_output_scale.weight")[0] = 'x';
    fixture f;
    assert_int_equal(fixture_open_memory(&f, &file, "null", 8), 0);
    assert_true(f.w->layer[0].out_scale != 1.0f); /* the file has this one */
    assert_float_equal(f.w->layer[1].out_scale, 1.0f, 0);
    assert_float_equal(f.w->layer[1].inv_freq[15], 2.3713737e-6f, 1e-12);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

/* A file whose head is not its embedding: the values of a layer, which may be missing, are renamed
 * to it, and the model's name takes up the bytes that this saves, so that all offsets stay. */
static void own_head_is_used_when_there_is_one(void **state) {
    (void)state;
    static const char from[] = "blk.0.attn_v.weight", to[] = "output.weight";
    gm_bytes file = tiny_model_build(&(tiny_opts){.pattern = "s", .n_head = 32, .n_kv = 32});
    uint8_t *name = entry_of(&file, from);
    uint64_t len = sizeof to - 1, cut = sizeof from - sizeof to, model_len;
    memcpy(name - 8, &len, 8);
    memcpy(name, to, len);
    uint8_t *model = entry_of(&file, "general.name") + strlen("general.name") + 4;
    memcpy(&model_len, model, 8);
    model_len += cut;
    memcpy(model, &model_len, 8);
    memmove(model + 8 + cut, model + 8, (size_t)(name + len - (model + 8)));
    fixture f;
    int rc = fixture_open_memory(&f, &file, "null", 8);
    if (rc) print_message("%s\n", f.err);
    assert_int_equal(rc, 0);
    assert_int_equal(f.w->output.ne[1], 512);
    assert_ptr_equal(f.w->output.data, data_of(&file, to));
    assert_ptr_not_equal(f.w->output.data, f.w->token_embd.data);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

typedef struct {
    uint64_t last, total;
    int calls;
    gm_cancel *cancel; /* raised at the second call */
} seen;

static void on_progress(void *ud, uint64_t done, uint64_t total) {
    seen *s = ud;
    assert_true(done >= s->last && done <= total);
    s->last = done;
    s->total = total;
    if (++s->calls == 2 && s->cancel) atomic_store(&s->cancel->set, true);
}

static int load(fixture *f, gm_bytes *file, seen *s) {
    memset(f, 0, sizeof *f);
    assert_int_equal(gm_gguf_open_memory(&f->g, file->p, file->n, f->err, sizeof f->err), 0);
    assert_int_equal(gm_config_read(&f->c, f->g, 512, f->err, sizeof f->err), 0);
    assert_int_equal(gm_backend_open(&f->b, "null", 1, f->err, sizeof f->err), 0);
    return gm_weights_load(&f->w, f->g, &f->c, f->b, on_progress, s, s->cancel, f->err,
                           sizeof f->err);
}

static void progress_ends_at_the_sum_of_all_tensors(void **state) {
    (void)state;
    gm_bytes file = tiny("ssg", GM_F16);
    fixture f;
    seen s = {0};
    assert_int_equal(load(&f, &file, &s), 0);
    assert_int_equal(s.calls, 5); /* both ends, then each layer, then the end */
    assert_true(s.last == s.total);
    assert_true(f.w->n_bytes == s.total);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

static void loading_stops_when_cancelled(void **state) {
    (void)state;
    gm_bytes file = tiny("ssssg", GM_F16);
    fixture f;
    gm_cancel cancel = {false};
    seen s = {.cancel = &cancel};
    assert_int_equal(load(&f, &file, &s), GM_ECANCELLED);
    assert_int_equal(s.calls, 2);
    assert_null(f.w);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

/* The n-th allocation fails, for every n: no crash, no leak (sanitizer builds see that), and the
 * code for memory. */
static void loading_survives_every_failing_allocation(void **state) {
    (void)state;
    gm_bytes file = tiny("sg", GM_F32);
    int rc = GM_ENOMEM;
    uint64_t n = 1;
    for (; rc != GM_OK && n < 500; n++) {
        fixture f = {0};
        gm_mem_fail_at(0);
        assert_int_equal(gm_gguf_open_memory(&f.g, file.p, file.n, f.err, sizeof f.err), 0);
        gm_mem_fail_at(n);
        rc = fixture_build(&f, "null", 8);
        gm_mem_fail_at(0);
        if (rc) assert_int_equal(rc, GM_ENOMEM);
        if (rc) assert_true(f.err[0] != '\0');
        fixture_close(&f);
    }
    assert_int_equal(rc, GM_OK);
    assert_true(n > 10);
    gm_bytes_finish(&file);
}

/* ---- wrong files ---- */

static void missing_tensors_are_named(void **state) {
    (void)state;
    static const char *const names[] = {
        "token_embd.weight",        "output_norm.weight",        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",      "blk.1.attn_k.weight",       "blk.0.attn_q_norm.weight",
        "blk.1.attn_k_norm.weight", "blk.0.attn_output.weight",  "blk.1.post_attention_norm.weight",
        "blk.0.ffn_norm.weight",    "blk.0.ffn_gate.weight",     "blk.1.ffn_up.weight",
        "blk.0.ffn_down.weight",    "blk.1.post_ffw_norm.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gm_bytes file = tiny("sg", GM_F32);
        entry_of(&file, names[i])[0] = 'x';
        refuses(&file, GM_EFORMAT, "no tensor", names[i]);
    }
}

/* On a layer without v, v is the raw k: the presence of the tensor decides, on either kind. */
static void sliding_layer_without_v_uses_k(void **state) {
    (void)state;
    gm_bytes file = tiny("sg", GM_F32);
    entry_of(&file, "blk.0.attn_v.weight")[0] = 'x';
    fixture f;
    assert_int_equal(fixture_open_memory(&f, &file, "null", 8), 0);
    assert_false(f.c.layer[0].has_v);
    assert_int_equal(f.w->layer[0].v.ne[0], 0);
    fixture_close(&f);
    gm_bytes_finish(&file);
}

static void wrong_shapes_are_named_with_both_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int axis;
        uint64_t size;
        const char *text;
    } bad[] = {
        {"token_embd.weight", 1, 511, "[64, 511], expected [64, 512]"},
        {"blk.0.attn_norm.weight", 0, 32, "[32, 1], expected [64, 1]"},
        {"blk.0.attn_q.weight", 1, 63, "[64, 63], expected [64, 64]"},
        {"blk.1.attn_q.weight", 1, 64, "[64, 64], expected [64, 128]"},
        {"blk.0.attn_v.weight", 1, 16, "[64, 16], expected [64, 32]"},
        {"blk.1.attn_output.weight", 0, 64, "[64, 64], expected [128, 64]"},
        {"blk.1.attn_k_norm.weight", 0, 16, "[16, 1], expected [32, 1]"},
        {"blk.0.ffn_down.weight", 0, 64, "[64, 64], expected [128, 64]"},
        {"rope_freqs.weight", 0, 8, "[8, 1], expected [16, 1]"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gm_bytes file = tiny("sg", GM_F32);
        set_size(&file, bad[i].name, bad[i].axis, bad[i].size);
        refuses(&file, GM_EFORMAT, bad[i].name, bad[i].text);
    }
}

/* IQ2_XXS blocks are smaller than F32 rows, so the data is in range and only the type is wrong. */
static void types_without_kernels_are_named(void **state) {
    (void)state;
    gm_bytes file = tiny_model_build(&(tiny_opts){.pattern = "sg", .n_embd = 256});
    set_type(&file, "blk.1.ffn_gate.weight", 16);
    refuses(&file, GM_EUNSUPPORTED, "blk.1.ffn_gate.weight", "IQ2_XXS");
}

static void numbers_that_would_poison_everything_are_refused(void **state) {
    (void)state;
    static const float nan_bits = 0.0f / 0.0f, zero;
    gm_bytes file = tiny("sg", GM_F32);
    memcpy(data_of(&file, "blk.0.layer_output_scale.weight"), &nan_bits, 4);
    refuses(&file, GM_EFORMAT, "blk.0.layer_output_scale.weight", "finite");
    file = tiny("sg", GM_F32);
    memcpy(data_of(&file, "rope_freqs.weight") + 4, &zero, 4);
    refuses(&file, GM_EFORMAT, "rope_freqs.weight", "factor 0 at 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_become_named_fields),
        cmocka_unit_test(rotation_tables_follow_base_and_factors),
        cmocka_unit_test(optional_tensors_may_be_missing),
        cmocka_unit_test(own_head_is_used_when_there_is_one),
        cmocka_unit_test(progress_ends_at_the_sum_of_all_tensors),
        cmocka_unit_test(loading_stops_when_cancelled),
        cmocka_unit_test(loading_survives_every_failing_allocation),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(sliding_layer_without_v_uses_k),
        cmocka_unit_test(wrong_shapes_are_named_with_both_shapes),
        cmocka_unit_test(types_without_kernels_are_named),
        cmocka_unit_test(numbers_that_would_poison_everything_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
