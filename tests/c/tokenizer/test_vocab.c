/* Vocabularies: what is taken from the file, what is put right, what is refused. */
#include "tokenizer/vocab.h"

#include "base/err.h"
#include "base/mem.h"
#include "make_vocab.h"
#include "tokenizer/encode.h"

enum {
    N = GM_TOK_NORMAL,
    UNK = GM_TOK_UNKNOWN,
    C = GM_TOK_CONTROL,
    U = GM_TOK_USER_DEFINED,
    B = GM_TOK_BYTE
};

/* Ids are positions. */
static const tok SMALL[] = {
    {"<pad>", C},      {"<eos>", C},      {"<bos>", C},
    {"<unk>", UNK},    {"<|turn>", C},    {"<turn|>", C},
    {"<|channel>", U}, {"<channel|>", U}, {"<|tool_response>", U},
    {"<|image>", C},   {"<image|>", C},   {"<audio|>", C},
    {"<|video|>", N},  {"<0x41>", B},     {SP, N},
    {"a", N},          {"b", N},          {"ab", N},
    {SP "a", N},       {"</s>", N},
};
#define N_SMALL (sizeof SMALL / sizeof *SMALL)
enum {
    PAD,
    EOS,
    BOS,
    UNKNOWN,
    TURN,
    TURN_END,
    CHANNEL,
    CHANNEL_END,
    TOOL_RESPONSE,
    IMAGE_BEGIN,
    IMAGE_END,
    AUDIO_END,
    VIDEO,
    BYTE_A,
    SPACE,
    A,
    B_,
    AB,
    SPACE_A,
    S_END
};
static const char *const SMALL_MERGES[] = {"a b", SP " a"};

static int32_t id_of(const gm_vocab *v, const char *s) { return gm_vocab_find(v, str(s)); }

static void vocab_finds_pieces_by_their_exact_text(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    assert_int_equal(gm_vocab_size(t.v), N_SMALL);
    for (int32_t i = 0; i < (int32_t)N_SMALL; i++) {
        assert_int_equal(id_of(t.v, SMALL[i].text), i);
        gm_str p = gm_vocab_piece(t.v, i);
        assert_int_equal(p.n, strlen(SMALL[i].text));
        assert_memory_equal(p.p, SMALL[i].text, p.n);
    }
    assert_int_equal(id_of(t.v, "abc"), -1);
    assert_int_equal(id_of(t.v, ""), -1);
    assert_int_equal(gm_vocab_piece(t.v, -1).n, 0);
    assert_int_equal(gm_vocab_piece(t.v, (int32_t)N_SMALL).n, 0);
    close_vocab(&t);
}

static void vocab_knows_the_special_tokens_by_name(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    const gm_special_ids *s = gm_vocab_special(t.v);
    assert_int_equal(s->bos, BOS);
    assert_int_equal(s->eos, EOS);
    assert_int_equal(s->unk, UNKNOWN);
    assert_int_equal(s->turn_begin, TURN);
    assert_int_equal(s->turn_end, TURN_END);
    assert_int_equal(s->channel_begin, CHANNEL);
    assert_int_equal(s->channel_end, CHANNEL_END);
    assert_int_equal(s->tool_response, TOOL_RESPONSE);
    assert_int_equal(s->image_begin, IMAGE_BEGIN);
    assert_int_equal(s->image, -1);
    assert_int_equal(s->think, -1);
    assert_int_equal(s->video, VIDEO);
    /* Ordinary in published files, special in the reference. */
    assert_int_equal(gm_vocab_type(t.v, VIDEO), GM_TOK_CONTROL);
    close_vocab(&t);
}

/* Published files have <eos> or <turn|> as eos; generation ends at both, and at a tool's answer,
 * but not at "</s>", which is a piece of HTML. */
static void vocab_ends_generation_at_every_end_token(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    gw_u32(&w, "tokenizer.ggml.eos_token_id", TURN_END);
    gw_u32(&w, "tokenizer.ggml.eot_token_id", AB);
    gw_u32(&w, "tokenizer.ggml.unknown_token_id", UINT32_MAX); /* "none" of some converters */
    assert_int_equal(open_writer(&t, &w), 0);
    assert_int_equal(gm_vocab_special(t.v)->eos, TURN_END);
    assert_int_equal(gm_vocab_special(t.v)->unk, UNKNOWN);
    for (int32_t i = -1; i <= (int32_t)N_SMALL; i++) {
        bool end = i == EOS || i == TURN_END || i == TOOL_RESPONSE || i == AB;
        assert_int_equal(gm_vocab_is_eog(t.v, i), end);
    }
    close_vocab(&t);
}

static void vocab_suppresses_what_the_file_names_or_the_family_needs(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    size_t n;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    const int32_t *ids = gm_vocab_suppressed(t.v, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], IMAGE_END);
    assert_int_equal(ids[1], AUDIO_END);
    close_vocab(&t);

    int32_t named[] = {B_, PAD, B_, A};
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    gw_array(&w, "tokenizer.ggml.suppress_tokens", GM_GGUF_I32, 4, named, sizeof named);
    assert_int_equal(open_writer(&t, &w), 0);
    ids = gm_vocab_suppressed(t.v, &n);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], PAD);
    assert_int_equal(ids[1], A);
    assert_int_equal(ids[2], B_);
    close_vocab(&t);
}

static void vocab_gives_the_bytes_of_tokens(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    char s[16];
    assert_int_equal(gm_vocab_bytes(t.v, SPACE_A, false, s, sizeof s), 2);
    assert_memory_equal(s, " a", 2);
    assert_int_equal(gm_vocab_bytes(t.v, BYTE_A, false, s, sizeof s), 1);
    assert_int_equal(s[0], 'A');
    assert_int_equal(gm_vocab_bytes(t.v, TURN, false, s, sizeof s), 0);
    assert_int_equal(gm_vocab_bytes(t.v, TURN, true, s, sizeof s), 7);
    assert_memory_equal(s, "<|turn>", 7);
    /* Markers of thoughts and tools stay visible: whoever shows the text has to see them. */
    assert_int_equal(gm_vocab_bytes(t.v, CHANNEL, false, s, sizeof s), 10);
    s[1] = '#';
    assert_int_equal(gm_vocab_bytes(t.v, SPACE_A, false, s, 1), 2);
    assert_int_equal(s[1], '#'); /* not written beyond cap */
    assert_int_equal(gm_vocab_bytes(t.v, 1000, true, s, sizeof s), 0);
    close_vocab(&t);
}

static void vocab_takes_the_first_of_equal_pieces_and_bytes_by_name(void **state) {
    (void)state;
    static const tok toks[] = {{"a", 0},     {"a", 0}, {"<0x0a>", 0}, {"<0x0A>", 0},
                               {"<bos>", 0}, {"", 0},  {"<0xZZ>", 0}};
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, toks, 7); /* no types in the file */
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    assert_int_equal(id_of(t.v, "a"), 0);
    assert_int_equal(gm_vocab_type(t.v, 2), GM_TOK_BYTE);
    assert_int_equal(gm_vocab_type(t.v, 3), GM_TOK_BYTE);
    assert_int_equal(gm_vocab_type(t.v, 4), GM_TOK_CONTROL);
    assert_int_equal(gm_vocab_type(t.v, 6), GM_TOK_NORMAL);
    assert_int_equal(gm_vocab_special(t.v)->bos, 4);
    close_vocab(&t);
}

static void vocab_keeps_pieces_with_nul_in_them_apart(void **state) {
    (void)state;
    gm_str text[] = {{"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"\0", 1}};
    gguf_writer w;
    test_vocab t;
    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "gemma4");
    gw_strings(&w, "tokenizer.ggml.tokens", text, 4);
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    for (int32_t i = 0; i < 4; i++) assert_int_equal(gm_vocab_find(t.v, text[i]), i);
    close_vocab(&t);
}

static void vocab_finds_special_texts_leftmost_then_longest(void **state) {
    (void)state;
    static const tok toks[] = {{"<a", C}, {"<a>", U}, {"<ab>", C}, {"x", C}, {"a>", C}, {"b", N}};
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, toks, 6);
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    static const struct {
        const char *text;
        size_t from;
        int32_t id;
        size_t at, len;
    } want[] = {
        {"bb<a>", 0, 1, 2, 3}, {"<a<a>", 0, 0, 0, 2}, {"<a<a>", 1, 1, 2, 3}, {"<ab>", 0, 2, 0, 4},
        {"<abx", 0, 0, 0, 2},  {"ba>", 0, 4, 1, 2},   {"<a>", 1, 4, 1, 2},   {"bx", 0, 3, 1, 1},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        size_t at = 99, len = 99;
        const char *s = want[i].text;
        assert_int_equal(gm_vocab_next_special(t.v, s, strlen(s), want[i].from, &at, &len),
                         want[i].id);
        assert_int_equal(at, want[i].at);
        assert_int_equal(len, want[i].len);
    }
    size_t at, len;
    assert_int_equal(gm_vocab_next_special(t.v, "<<b", 3, 0, &at, &len), -1);
    assert_int_equal(gm_vocab_next_special(t.v, "<", 1, 0, &at, &len), -1);
    assert_int_equal(gm_vocab_next_special(t.v, "x", 1, 1, &at, &len), -1);
    assert_int_equal(gm_vocab_next_special(t.v, NULL, 0, 0, &at, &len), -1);
    close_vocab(&t);
}

/* ---- refusals ---------------------------------------------------------------------------- */

static void assert_refused(gguf_writer *w, int code, const char *part_of_message) {
    test_vocab t;
    int rc = open_writer(&t, w);
    assert_int_equal(rc, code);
    assert_null(t.v);
    if (!strstr(t.err, part_of_message)) {
        fail_msg("\"%s\" does not say \"%s\"", t.err, part_of_message);
    }
    close_vocab(&t);
}

static void begin_model(gguf_writer *w, const char *model, const char *pre) {
    gm_str text[] = {{"a", 1}};
    gw_init(w);
    if (model) gw_str(w, "tokenizer.ggml.model", model);
    if (pre) gw_str(w, "tokenizer.ggml.pre", pre);
    gw_strings(w, "tokenizer.ggml.tokens", text, 1);
    put_merges(w, NULL, 0);
}

static void vocab_refuses_other_tokenizers_by_name(void **state) {
    (void)state;
    gguf_writer w;
    begin_model(&w, "gpt2", "qwen2");
    assert_refused(&w, GM_EUNSUPPORTED, "'gpt2' (pre 'qwen2')");
    begin_model(&w, "llama", NULL);
    assert_refused(&w, GM_EUNSUPPORTED, "'llama' is not supported");
    begin_model(&w, "llama", "default");
    assert_refused(&w, GM_EUNSUPPORTED, "'llama' (pre 'default')");
    begin_model(&w, NULL, NULL);
    assert_refused(&w, GM_EFORMAT, "no tokenizer");
    test_vocab t;
    begin_model(&w, "llama", "gemma4"); /* as Ollama writes it */
    assert_int_equal(open_writer(&t, &w), 0);
    close_vocab(&t);
}

static void vocab_refuses_lists_that_contradict_each_other(void **state) {
    (void)state;
    gguf_writer w;
    int32_t types[3] = {1, 1, 1}, big[] = {1000};

    begin_vocab(&w, (const tok[]){{"a", 0}, {"b", 0}}, 2);
    put_merges(&w, NULL, 0);
    gw_array(&w, "tokenizer.ggml.token_type", GM_GGUF_I32, 3, types, sizeof types);
    assert_refused(&w, GM_EFORMAT, "3 token types for 2 tokens");

    begin_vocab(&w, SMALL, N_SMALL);
    assert_refused(&w, GM_EFORMAT, "no list of merges");

    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "gemma4");
    assert_refused(&w, GM_EFORMAT, "no list of tokens");

    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "gemma4");
    gw_array(&w, "tokenizer.ggml.tokens", GM_GGUF_I32, 3, types, sizeof types);
    assert_refused(&w, GM_EFORMAT, "no list of tokens");

    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, NULL, 0);
    gw_u32(&w, "tokenizer.ggml.eos_token_id", N_SMALL);
    assert_refused(&w, GM_EFORMAT, "eos_token_id");

    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, NULL, 0);
    gw_array(&w, "tokenizer.ggml.suppress_tokens", GM_GGUF_I32, 1, big, sizeof big);
    assert_refused(&w, GM_EFORMAT, "suppress_tokens");
}

static void assert_pieces(const test_vocab *t, const char *text, const int32_t *want, size_t n) {
    gm_ids ids = {0};
    assert_int_equal(gm_encode(t->v, text, strlen(text), 0, NULL, &ids), 0);
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.v, want, n * sizeof *want);
    gm_ids_finish(&ids);
}

static void vocab_leaves_out_merges_that_can_never_apply(void **state) {
    (void)state;
    static const char *const merges[] = {"",   " ",   "a",   "a ",  " a",
                                         "  ", "a z", "z a", "b a", "a b"};
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, merges, sizeof merges / sizeof *merges);
    assert_int_equal(open_writer(&t, &w), 0);
    /* The last one is the only one of these whose result is a piece. */
    assert_pieces(&t, "ab", (const int32_t[]){AB}, 1);
    assert_pieces(&t, "ba", (const int32_t[]){B_, A}, 2);
    assert_pieces(&t, "bab", (const int32_t[]){B_, AB}, 2);
    assert_pieces(&t, "az", (const int32_t[]){A, UNKNOWN}, 2);
    close_vocab(&t);
}

static void vocab_survives_every_failing_allocation(void **state) {
    (void)state;
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, SMALL, N_SMALL);
    put_merges(&w, SMALL_MERGES, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    gm_mem_fail_at(0);
    gm_vocab *v;
    assert_int_equal(gm_vocab_create(&v, t.g, t.err, sizeof t.err), 0);
    uint64_t n = gm_mem_fail_at(0);
    gm_vocab_destroy(&v);
    assert_true(n >= 6);
    for (uint64_t i = 1; i <= n; i++) {
        gm_mem_fail_at(i);
        assert_int_equal(gm_vocab_create(&v, t.g, t.err, sizeof t.err), GM_ENOMEM);
        assert_null(v);
    }
    gm_mem_fail_at(0);
    gm_vocab_destroy(&v);
    close_vocab(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_finds_pieces_by_their_exact_text),
        cmocka_unit_test(vocab_knows_the_special_tokens_by_name),
        cmocka_unit_test(vocab_ends_generation_at_every_end_token),
        cmocka_unit_test(vocab_suppresses_what_the_file_names_or_the_family_needs),
        cmocka_unit_test(vocab_gives_the_bytes_of_tokens),
        cmocka_unit_test(vocab_takes_the_first_of_equal_pieces_and_bytes_by_name),
        cmocka_unit_test(vocab_keeps_pieces_with_nul_in_them_apart),
        cmocka_unit_test(vocab_finds_special_texts_leftmost_then_longest),
        cmocka_unit_test(vocab_refuses_other_tokenizers_by_name),
        cmocka_unit_test(vocab_refuses_lists_that_contradict_each_other),
        cmocka_unit_test(vocab_leaves_out_merges_that_can_never_apply),
        cmocka_unit_test(vocab_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
