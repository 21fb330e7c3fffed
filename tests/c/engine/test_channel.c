/* test_channel.c: which tokens are thoughts, on sequences as models write them. */
#include "helper/cm.h"

#include <string.h>
#include "base/err.h"
#include "engine/channel.h"
#include "engine/engine.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "tokenizer/detok.h"
#include "tokenizer/encode.h"

static test_tmp tmp;
static gm_cancel cancel;
static gm_engine *engine;
static char err[256];

static int open_engine(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    if (!tiny_model_write(tmp_path(&tmp, "tiny.gguf"), &(tiny_opts){.seed = 3})) return -1;
    gm_engine_opts o = {
        .model_path = tmp.path, .n_ctx = 64, .n_threads = 1, .kv_type = -1, .cancel = &cancel};
    return gm_engine_open(&engine, &o, err, sizeof err);
}

static int close_engine(void **state) {
    (void)state;
    gm_engine_close(&engine);
    tmp_end(&tmp);
    return 0;
}

static gm_ids encode(const char *text) {
    gm_ids ids = {0};
    assert_int_equal(gm_encode(engine->vocab, text, strlen(text), GM_ENC_SPECIAL, NULL, &ids),
                     GM_OK);
    return ids;
}

/* Runs the tokens of `answer` through a channel that begins after `prompt`. */
static void split(const char *prompt, const char *answer, gm_bytes *thought, gm_bytes *text) {
    gm_ids before = encode(prompt), ids = encode(answer);
    gm_channel c;
    gm_channel_init(&c, engine->vocab, before.v, before.n);
    for (size_t i = 0; i < ids.n; i++) {
        bool inside = c.inside;
        gm_bytes piece = {0};
        if (!gm_channel_mark(&c, ids.v[i]))
            assert_int_equal(gm_detok_raw(engine->vocab, &ids.v[i], 1, false, &piece), 0);
        gm_str s = {piece.p, piece.n};
        if (inside) s = gm_channel_body(&c, s);
        assert_int_equal(gm_bytes_append(inside ? thought : text, s.p, s.n), 0);
        gm_bytes_finish(&piece);
    }
    assert_int_equal(gm_bytes_append(thought, "", 1), 0);
    assert_int_equal(gm_bytes_append(text, "", 1), 0);
    gm_ids_finish(&before);
    gm_ids_finish(&ids);
}

static void thoughts_are_what_stands_between_the_two_marks(void **state) {
    (void)state;
    static const struct {
        const char *prompt, *answer, *thought, *text;
    } rows[] = {
        {"<|turn>model\n", "hello", "", "hello"},
        {"<|turn>model\n", "<|channel>thought\nhmm\n<channel|>yes", "hmm\n", "yes"},
        /* An empty thought, and what is left of one. */
        {"<|turn>model\n", "<|channel>thought\n<channel|>yes", "", "yes"},
        {"<|turn>model\n<|channel>thought\n<channel|>", "yes<channel|> no", "", "yes no"},
        /* A second one, and one that never ends. */
        {"<|turn>model\n", "<|channel>thought\na<channel|>b<|channel>thought\nc<channel|>d", "ac",
         "bd"},
        {"<|turn>model\n", "a<|channel>thought\nb", "b", "a"},
        {"<|turn>model\n", "<|channel>thought\na<|channel>thought\nb<channel|>c", "ab", "c"},
        /* The prompt ends inside a thought, with its name or before it. */
        {"<|turn>model\n<|channel>thought\n", "hm<channel|>a", "hm", "a"},
        {"<|turn>model\n<|channel>", "thought\nhm<channel|>a", "hm", "a"},
        /* A thought of an older turn is over. */
        {"<|channel>thought\nx<turn|>\n<|turn>model\n", "a", "", "a"},
        /* No name, but a long first line: it is thought. */
        {"<|turn>model\n<|channel>", "abcdefghijklmnopqrstuvwxyz0123456789", "", ""},
    };
    size_t n = sizeof rows / sizeof *rows;
    for (size_t i = 0; i < n; i++) {
        gm_bytes thought = {0}, text = {0};
        split(rows[i].prompt, rows[i].answer, &thought, &text);
        if (i + 1 < n) {
            assert_string_equal(thought.p, rows[i].thought);
            assert_string_equal(text.p, rows[i].text);
        } else {
            /* At most the first 32 bytes are taken for a name. */
            assert_true(thought.n > 4 && strstr(rows[i].answer, thought.p));
            assert_string_equal(text.p, "");
        }
        gm_bytes_finish(&thought);
        gm_bytes_finish(&text);
    }
}

static void the_same_characters_as_plain_text_are_text(void **state) {
    (void)state;
    const char *text = "<|channel>thought\n<channel|>";
    gm_ids ids = {0};
    gm_channel c;
    assert_int_equal(gm_encode(engine->vocab, text, strlen(text), 0, NULL, &ids), GM_OK);
    gm_channel_init(&c, engine->vocab, NULL, 0);
    for (size_t i = 0; i < ids.n; i++) assert_false(gm_channel_mark(&c, ids.v[i]));
    assert_false(c.inside);
    gm_ids_finish(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thoughts_are_what_stands_between_the_two_marks),
        cmocka_unit_test(the_same_characters_as_plain_text_are_text),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
