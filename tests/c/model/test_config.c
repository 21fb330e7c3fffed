/* test_config.c: the keys of a model file, right ones, odd ones and wrong ones.
 *
 * Every test starts from the keys of a complete file and changes some of them by name.
 */
#include <stdio.h>
#include <string.h>
#include "helper/cm.h"

#include "base/err.h"
#include "helper/gguf_writer.h"
#include "model/config.h"

enum { N_LAYER = 4, N_VOCAB = 300 };

/* One key of the file: replaced, left out, or as it is. */
typedef struct {
    const char *skip;              /* key that is left out; "" with a writer adds only */
    void (*write)(gguf_writer *w); /* writes instead of it; NULL: nothing */
    const char *skip2;             /* a second one to leave out */
} change;

static bool skipped(const change *c, const char *key) {
    return (c->skip && strcmp(c->skip, key) == 0) || (c->skip2 && strcmp(c->skip2, key) == 0);
}

#define PUT(fn, key, ...)                                                                          \
    do {                                                                                           \
        if (!skipped(c, key)) fn(&w, key, __VA_ARGS__);                                            \
    } while (0)

/* Four layers: sliding, sliding, global, sliding; the third has no v. */
static gm_bytes build(const change *c) {
    static const int32_t n_kv[N_LAYER] = {2, 2, 1, 2};
    static const uint8_t sliding[N_LAYER] = {1, 1, 0, 1};
    gguf_writer w;
    gw_init(&w);
    PUT(gw_str, "general.architecture", "gemma4");
    PUT(gw_str, "general.name", "A model");
    PUT(gw_u32, "gemma4.block_count", N_LAYER);
    PUT(gw_u32, "gemma4.context_length", 4096);
    PUT(gw_u32, "gemma4.embedding_length", 64);
    PUT(gw_u32, "gemma4.feed_forward_length", 96);
    PUT(gw_u32, "gemma4.attention.head_count", 4);
    PUT(gw_array, "gemma4.attention.head_count_kv", GM_GGUF_I32, N_LAYER, n_kv, sizeof n_kv);
    PUT(gw_f32, "gemma4.attention.layer_norm_rms_epsilon", 1e-6f);
    PUT(gw_u32, "gemma4.attention.key_length", 32);
    PUT(gw_u32, "gemma4.attention.value_length", 32);
    PUT(gw_u32, "gemma4.attention.key_length_swa", 16);
    PUT(gw_u32, "gemma4.attention.value_length_swa", 16);
    PUT(gw_u32, "gemma4.attention.sliding_window", 24);
    PUT(gw_array, "gemma4.attention.sliding_window_pattern", GM_GGUF_BOOL, N_LAYER, sliding,
        sizeof sliding);
    PUT(gw_f32, "gemma4.rope.freq_base", 1e6f);
    PUT(gw_f32, "gemma4.rope.freq_base_swa", 1e4f);
    PUT(gw_u32, "gemma4.rope.dimension_count", 32);
    PUT(gw_u32, "gemma4.rope.dimension_count_swa", 16);
    PUT(gw_f32, "gemma4.final_logit_softcapping", 30.0f);
    if (c->write) c->write(&w);
    static const float zero[4];
    for (int i = 0; i < N_LAYER; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        if (i != 2) gw_tensor_f32(&w, name, GM_F32, 2, 2, zero);
    }
    gm_bytes file = gw_build(&w);
    gw_finish(&w);
    return file;
}

static int read_changed(const change *ch, gm_config *c, char *err, size_t errlen) {
    gm_bytes file = build(ch);
    gm_gguf *g = NULL;
    assert_int_equal(gm_gguf_open_memory(&g, file.p, file.n, err, errlen), 0);
    int rc = gm_config_read(c, g, N_VOCAB, err, errlen);
    gm_gguf_close(&g);
    gm_bytes_finish(&file);
    return rc;
}

static gm_config read_good(const change *ch) {
    gm_config c;
    char err[256] = "";
    int rc = read_changed(ch, &c, err, sizeof err);
    if (rc) print_message("%s\n", err);
    assert_int_equal(rc, 0);
    return c;
}

/* Refused with this code, and a message that holds both texts. */
static void refuses(const change *ch, int code, const char *text, const char *text2) {
    gm_config c;
    char err[256] = "";
    int rc = read_changed(ch, &c, err, sizeof err);
    if (rc != code || !strstr(err, text) || !strstr(err, text2))
        print_message("%d \"%s\", expected %d with \"%s\" and \"%s\"\n", rc, err, code, text,
                      text2);
    assert_int_equal(rc, code);
    assert_non_null(strstr(err, text));
    assert_non_null(strstr(err, text2));
    assert_null(c.layer);
    assert_int_equal(c.n_layer, 0);
}

static void config_holds_what_the_file_says(void **state) {
    (void)state;
    gm_config c = read_good(&(change){0});
    assert_int_equal(c.n_layer, 4);
    assert_int_equal(c.n_embd, 64);
    assert_int_equal(c.n_vocab, N_VOCAB);
    assert_int_equal(c.n_ctx_train, 4096);
    assert_int_equal(c.window, 24);
    assert_float_equal(c.rms_eps, 1e-6f, 0);
    assert_float_equal(c.softcap, 30.0f, 0);
    assert_float_equal(c.embed_scale, 8.0f, 0);
    assert_string_equal(c.name, "A model");
    for (int i = 0; i < 4; i++) {
        const gm_layer_config *l = &c.layer[i];
        bool global = i == 2;
        assert_int_equal(l->sliding, !global);
        assert_int_equal(l->has_v, !global);
        assert_int_equal(l->n_head, 4);
        assert_int_equal(l->n_kv, global ? 1 : 2);
        assert_int_equal(l->head_dim, global ? 32 : 16);
        assert_float_equal(l->rope_base, global ? 1e6f : 1e4f, 0);
        assert_int_equal(l->n_ffn, 96);
    }
    assert_int_equal(c.max_head, 4);
    assert_int_equal(c.max_head_dim, 32);
    assert_int_equal(c.max_q, 128);
    assert_int_equal(c.max_kv, 32);
    assert_int_equal(c.max_ffn, 96);
    gm_config_finish(&c);
    assert_null(c.layer);
}

static void write_arrays(gguf_writer *w) {
    static const uint8_t heads[N_LAYER] = {2, 4, 6, 8};
    static const int64_t ffn[N_LAYER] = {32, 64, 96, 128};
    gw_array(w, "gemma4.attention.head_count", GM_GGUF_U8, N_LAYER, heads, sizeof heads);
    gw_array(w, "gemma4.feed_forward_length", GM_GGUF_I64, N_LAYER, ffn, sizeof ffn);
}

static void sizes_may_be_arrays_of_any_integer_type(void **state) {
    (void)state;
    gm_config c = read_good(&(change){.skip = "gemma4.attention.head_count",
                                      .write = write_arrays,
                                      .skip2 = "gemma4.feed_forward_length"});
    for (int i = 0; i < 4; i++) {
        assert_int_equal(c.layer[i].n_head, 2 * (i + 1));
        assert_int_equal(c.layer[i].n_ffn, 32 * (i + 1));
    }
    assert_int_equal(c.max_head, 8);
    assert_int_equal(c.max_q, 6 * 32); /* the global layer has six heads of 32 */
    assert_int_equal(c.max_ffn, 128);
    gm_config_finish(&c);
}

static void write_scalar_kv(gguf_writer *w) { gw_u64(w, "gemma4.attention.head_count_kv", 2); }

static void key_value_heads_may_be_a_scalar_or_missing(void **state) {
    (void)state;
    gm_config c =
        read_good(&(change){.skip = "gemma4.attention.head_count_kv", .write = write_scalar_kv});
    for (int i = 0; i < 4; i++) assert_int_equal(c.layer[i].n_kv, 2);
    gm_config_finish(&c);
    c = read_good(&(change){.skip = "gemma4.attention.head_count_kv"});
    for (int i = 0; i < 4; i++) assert_int_equal(c.layer[i].n_kv, 4);
    gm_config_finish(&c);
}

static void write_period(gguf_writer *w) {
    gw_u32(w, "gemma4.attention.sliding_window_pattern", 3);
}
static void write_flag(gguf_writer *w) {
    gw_bool(w, "gemma4.attention.sliding_window_pattern", false);
}
static void write_int_flags(gguf_writer *w) {
    static const int32_t flags[N_LAYER] = {0, 1, 0, 1};
    gw_array(w, "gemma4.attention.sliding_window_pattern", GM_GGUF_I32, N_LAYER, flags,
             sizeof flags);
}
static void write_short_pattern(gguf_writer *w) {
    static const uint8_t flags[3] = {1, 1, 0};
    gw_array(w, "gemma4.attention.sliding_window_pattern", GM_GGUF_BOOL, 3, flags, sizeof flags);
}

static void pattern_may_be_flags_a_flag_or_a_period(void **state) {
    (void)state;
    static const char key[] = "gemma4.attention.sliding_window_pattern";
    gm_config c = read_good(&(change){.skip = key, .write = write_period});
    for (int i = 0; i < 4; i++) assert_int_equal(c.layer[i].sliding, i != 2);
    gm_config_finish(&c);
    c = read_good(&(change){.skip = key, .write = write_flag});
    for (int i = 0; i < 4; i++) assert_false(c.layer[i].sliding);
    gm_config_finish(&c);
    c = read_good(&(change){.skip = key, .write = write_int_flags});
    for (int i = 0; i < 4; i++) assert_int_equal(c.layer[i].sliding, i % 2);
    gm_config_finish(&c);
    refuses(&(change){.skip = key, .write = write_short_pattern}, GM_EFORMAT, key, "3 elements");
    refuses(&(change){.skip = key}, GM_EFORMAT, "no key", key);
}

static void without_a_window_all_layers_are_global(void **state) {
    (void)state;
    gm_config c = read_good(&(change){.skip = "gemma4.attention.sliding_window_pattern",
                                      .skip2 = "gemma4.attention.sliding_window"});
    for (int i = 0; i < 4; i++) assert_false(c.layer[i].sliding);
    gm_config_finish(&c);
}

static void optional_keys_have_the_only_possible_default(void **state) {
    (void)state;
    gm_config c = read_good(&(change){.skip = "gemma4.attention.value_length",
                                      .skip2 = "gemma4.rope.dimension_count_swa"});
    assert_int_equal(c.layer[0].head_dim, 16);
    gm_config_finish(&c);
    c = read_good(&(change){.skip = "gemma4.final_logit_softcapping", .skip2 = "general.name"});
    assert_float_equal(c.softcap, 0, 0);
    assert_string_equal(c.name, "");
    gm_config_finish(&c);
}

static void required_keys_are_named_when_they_are_missing(void **state) {
    (void)state;
    static const char *const keys[] = {
        "general.architecture",        "gemma4.block_count",
        "gemma4.context_length",       "gemma4.embedding_length",
        "gemma4.attention.head_count", "gemma4.attention.layer_norm_rms_epsilon",
        "gemma4.attention.key_length", "gemma4.attention.sliding_window",
        "gemma4.rope.freq_base",       "gemma4.rope.freq_base_swa",
        "gemma4.feed_forward_length"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        refuses(&(change){.skip = keys[i]}, GM_EFORMAT, "no key", keys[i]);
}

static void write_llama(gguf_writer *w) { gw_str(w, "general.architecture", "llama"); }
static void write_assistant(gguf_writer *w) {
    gw_str(w, "general.architecture", "gemma4-assistant");
}
static void write_number(gguf_writer *w) { gw_u32(w, "general.architecture", 4); }

static void other_architectures_are_refused_by_name(void **state) {
    (void)state;
    static const char key[] = "general.architecture";
    refuses(&(change){.skip = key, .write = write_llama}, GM_EUNSUPPORTED, "'llama'", "gemma4");
    refuses(&(change){.skip = key, .write = write_assistant}, GM_EUNSUPPORTED, "'gemma4-assistant'",
            "only gemma4");
    refuses(&(change){.skip = key, .write = write_number}, GM_EFORMAT, key, "string");
}

static void write_experts(gguf_writer *w) { gw_u32(w, "gemma4.expert_count", 8); }
static void write_per_layer(gguf_writer *w) {
    gw_u32(w, "gemma4.embedding_length_per_layer_input", 256);
}
static void write_shared(gguf_writer *w) { gw_u32(w, "gemma4.attention.shared_kv_layers", 20); }
static void write_score_cap(gguf_writer *w) { gw_f32(w, "gemma4.attn_logit_softcapping", 50.0f); }
static void write_scaling(gguf_writer *w) { gw_str(w, "gemma4.rope.scaling.type", "yarn"); }
static void write_zeros(gguf_writer *w) {
    gw_u32(w, "gemma4.expert_count", 0);
    gw_u32(w, "gemma4.embedding_length_per_layer_input", 0);
    gw_i64(w, "gemma4.attention.shared_kv_layers", 0);
    gw_str(w, "gemma4.rope.scaling.type", "none");
}
static void write_expert_tensor(gguf_writer *w) {
    static const float zero[4];
    gw_tensor_f32(w, "blk.0.ffn_gate_inp.weight", GM_F32, 2, 2, zero);
}

static void sibling_models_are_refused_by_feature(void **state) {
    (void)state;
    refuses(&(change){.write = write_experts}, GM_EUNSUPPORTED, "expert_count is 8", "experts");
    refuses(&(change){.write = write_per_layer}, GM_EUNSUPPORTED,
            "embedding_length_per_layer_input is 256", "per-layer embeddings");
    refuses(&(change){.write = write_shared}, GM_EUNSUPPORTED, "shared_kv_layers is 20", "share");
    refuses(&(change){.write = write_score_cap}, GM_EUNSUPPORTED, "attn_logit_softcapping", "50");
    refuses(&(change){.write = write_scaling}, GM_EUNSUPPORTED, "rope.scaling.type", "yarn");
    refuses(&(change){.write = write_expert_tensor}, GM_EUNSUPPORTED, "ffn_gate_inp", "experts");
    gm_config c = read_good(&(change){.write = write_zeros});
    gm_config_finish(&c);
}

static void write_value_length(gguf_writer *w) { gw_u32(w, "gemma4.attention.value_length", 48); }
static void write_partial_rope(gguf_writer *w) { gw_u32(w, "gemma4.rope.dimension_count", 8); }
static void write_odd_head(gguf_writer *w) { gw_u32(w, "gemma4.attention.key_length_swa", 15); }

static void heads_that_the_pass_cannot_turn_are_refused(void **state) {
    (void)state;
    refuses(&(change){.skip = "gemma4.attention.value_length", .write = write_value_length},
            GM_EUNSUPPORTED, "value_length is 48", "key length 32");
    refuses(&(change){.skip = "gemma4.rope.dimension_count", .write = write_partial_rope},
            GM_EUNSUPPORTED, "dimension_count is 8", "head size 32");
    refuses(&(change){.skip = "gemma4.attention.key_length_swa", .write = write_odd_head},
            GM_EUNSUPPORTED, "key_length_swa is 15", "odd");
}

static void write_many_layers(gguf_writer *w) { gw_u32(w, "gemma4.block_count", 513); }
static void write_no_layers(gguf_writer *w) { gw_u32(w, "gemma4.block_count", 0); }
static void write_negative(gguf_writer *w) { gw_i32(w, "gemma4.embedding_length", -64); }
static void write_huge(gguf_writer *w) { gw_u64(w, "gemma4.embedding_length", UINT64_MAX); }
static void write_text(gguf_writer *w) { gw_str(w, "gemma4.embedding_length", "64"); }
static void write_nan(gguf_writer *w) { gw_f32(w, "gemma4.rope.freq_base", 0.0f / 0.0f); }
static void write_no_eps(gguf_writer *w) {
    gw_f32(w, "gemma4.attention.layer_norm_rms_epsilon", 0.0f);
}
static void write_minus_cap(gguf_writer *w) { gw_f32(w, "gemma4.final_logit_softcapping", -30.0f); }
static void write_three_heads(gguf_writer *w) { gw_u32(w, "gemma4.attention.head_count", 3); }
static void write_no_heads(gguf_writer *w) { gw_u32(w, "gemma4.attention.head_count", 0); }
static void write_million_heads(gguf_writer *w) {
    gw_u32(w, "gemma4.attention.head_count", 1 << 20);
}

static void numbers_out_of_range_are_refused_with_key_and_value(void **state) {
    (void)state;
    static const struct {
        const char *key;
        void (*write)(gguf_writer *w);
        const char *text;
    } bad[] = {
        {"gemma4.block_count", write_many_layers, "is 513"},
        {"gemma4.block_count", write_no_layers, "is 0"},
        {"gemma4.embedding_length", write_negative, "is -64"},
        {"gemma4.embedding_length", write_huge, "embedding_length"},
        {"gemma4.embedding_length", write_text, "not an integer"},
        {"gemma4.rope.freq_base", write_nan, "nan"},
        {"gemma4.attention.layer_norm_rms_epsilon", write_no_eps, "is 0"},
        {"gemma4.final_logit_softcapping", write_minus_cap, "is -30"},
        {"gemma4.attention.head_count", write_three_heads, "3 heads"},
        {"gemma4.attention.head_count", write_no_heads, "is 0"},
        {"gemma4.attention.head_count", write_million_heads, "too many"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(&(change){.skip = bad[i].key, .write = bad[i].write}, GM_EFORMAT, bad[i].text, "");
}

static void write_sampling(gguf_writer *w) {
    gw_i32(w, "general.sampling.top_k", 20);
    gw_f32(w, "general.sampling.top_p", 0.5f);
    gw_f32(w, "general.sampling.temp", 0.75f);
}
static void write_wild_sampling(gguf_writer *w) {
    gw_i32(w, "general.sampling.top_k", -1);
    gw_f32(w, "general.sampling.top_p", 7.0f);
    gw_str(w, "general.sampling.temp", "warm");
    gw_str(w, "general.name", "two\nlines and \x7f");
}

static void sampling_defaults_come_from_the_file_when_they_make_sense(void **state) {
    (void)state;
    gm_config c = read_good(&(change){.write = write_sampling});
    assert_int_equal(c.samp_top_k, 20);
    assert_float_equal(c.samp_top_p, 0.5f, 0);
    assert_float_equal(c.samp_temperature, 0.75f, 0);
    gm_config_finish(&c);
    c = read_good(&(change){.skip = "general.name", .write = write_wild_sampling});
    assert_int_equal(c.samp_top_k, 64);
    assert_float_equal(c.samp_top_p, 0.95f, 0);
    assert_float_equal(c.samp_temperature, 1.0f, 0);
    assert_string_equal(c.name, "two?lines and ?");
    gm_config_finish(&c);
}

static void write_long_name(gguf_writer *w) {
    char name[200];
    memset(name, 'x', sizeof name);
    memcpy(name + 126, "\xe2\x82\xac", 3); /* begins inside and ends outside of the room */
    name[199] = '\0';
    gw_str(w, "general.name", name);
}

static void long_names_are_cut_between_characters(void **state) {
    (void)state;
    gm_config c = read_good(&(change){.skip = "general.name", .write = write_long_name});
    assert_int_equal(strlen(c.name), 126);
    gm_config_finish(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_holds_what_the_file_says),
        cmocka_unit_test(sizes_may_be_arrays_of_any_integer_type),
        cmocka_unit_test(key_value_heads_may_be_a_scalar_or_missing),
        cmocka_unit_test(pattern_may_be_flags_a_flag_or_a_period),
        cmocka_unit_test(without_a_window_all_layers_are_global),
        cmocka_unit_test(optional_keys_have_the_only_possible_default),
        cmocka_unit_test(required_keys_are_named_when_they_are_missing),
        cmocka_unit_test(other_architectures_are_refused_by_name),
        cmocka_unit_test(sibling_models_are_refused_by_feature),
        cmocka_unit_test(heads_that_the_pass_cannot_turn_are_refused),
        cmocka_unit_test(numbers_out_of_range_are_refused_with_key_and_value),
        cmocka_unit_test(sampling_defaults_come_from_the_file_when_they_make_sense),
        cmocka_unit_test(long_names_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
