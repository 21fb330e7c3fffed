/* fuzz_turns.c: any list of parts as a conversation.
 *
 * The input is a row of records: kind, length, bytes. Whatever comes: a clear answer, special
 * tokens only from markup and from the format itself, media rows where the spans say.
 */
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "helper/tiny_model.h"
#include "tokenizer/turns.h"

#define MAX_PART 64

static bool is_special(const gm_vocab *v, int32_t id) {
    gm_tok_type t = gm_vocab_type(v, id);
    return t == GM_TOK_CONTROL || t == GM_TOK_USER_DEFINED;
}

/* The parts of the input; *markup when any of them is markup. */
static size_t read_parts(const uint8_t *p, size_t n, gm_part *parts, bool *markup) {
    size_t n_part = 0;
    while (n >= 2 && n_part < MAX_PART) {
        gm_part_kind kind = (gm_part_kind)(p[0] % 10); /* 9 is no kind */
        size_t len = p[1];
        p += 2, n -= 2;
        if (len > n) len = n;
        parts[n_part] = (gm_part){.kind = kind, .n_row = (uint32_t)len};
        parts[n_part].open = kind == GM_PART_SOUND && n > 0 && p[0] >= 128;
        if (kind == GM_PART_TEXT || kind == GM_PART_MARKUP) {
            parts[n_part].text = (gm_str){(const char *)p, len};
            p += len, n -= len;
        }
        *markup |= kind == GM_PART_MARKUP;
        n_part++;
    }
    return n_part;
}

/* Special tokens that the format writes for these parts. */
static size_t most_special(const gm_part *parts, size_t n_part) {
    size_t most = 8; /* bos, system turn with think, the model's turn with its thought */
    for (size_t i = 0; i < n_part; i++)
        most += 4 + parts[i].n_row * (parts[i].kind >= GM_PART_IMAGE);
    return most;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gm_gguf *g;
    static gm_vocab *v;
    static gm_bytes file;
    char err[256] = "";
    if (!v) {
        file = tiny_model_build(&(tiny_opts){.n_vocab = 600});
        FUZZ_CHECK(gm_gguf_open_memory(&g, file.p, file.n, err, sizeof err) == 0);
        FUZZ_CHECK(gm_vocab_create(&v, g, err, sizeof err) == 0);
    }
    if (size == 0) return 0;
    gm_part parts[MAX_PART];
    gm_media_span spans[MAX_PART];
    gm_ids ids = {0};
    bool markup = false;
    size_t n_part = read_parts(data + 1, size - 1, parts, &markup), n_span = 0;
    int rc = gm_turns_encode(v, parts, n_part, &(gm_turns_opts){.think = data[0] & 1}, &ids, spans,
                             err, sizeof err);
    FUZZ_CHECK(rc == 0 || rc == GM_EINVAL);
    FUZZ_CHECK(rc == 0 || (err[0] && ids.n == 0));
    if (rc == 0) {
        size_t n_special = 0;
        for (size_t i = 0; i < ids.n; i++) n_special += is_special(v, ids.v[i]);
        FUZZ_CHECK(ids.n >= 1 && is_special(v, ids.v[0]));
        FUZZ_CHECK(markup || n_special <= most_special(parts, n_part));
        for (size_t i = 0; i < n_part; i++) {
            if (parts[i].kind < GM_PART_IMAGE) continue;
            if (parts[i].open) { /* the prompt ends behind its rows */
                FUZZ_CHECK(ids.v[ids.n - parts[i].n_row - 1] == gm_vocab_special(v)->audio_begin);
                break;
            }
            const gm_media_span *s = &spans[n_span++];
            const gm_special_ids *id = gm_vocab_special(v);
            int32_t soft = parts[i].kind == GM_PART_IMAGE ? id->image : id->audio;
            FUZZ_CHECK(s->part == i && s->n_row == parts[i].n_row);
            FUZZ_CHECK(s->start + s->n_row < ids.n);
            for (size_t k = 0; k < s->n_row; k++) FUZZ_CHECK(ids.v[s->start + k] == soft);
        }
    }
    gm_ids_finish(&ids);
    return 0;
}

void fuzz_seeds(void) {
#define SEED(s) fuzz_seed(s, sizeof(s) - 1)
    SEED("0\x02\0\0\x05rules\x03\0\0\x07 hello \x04\0\0\x03 x=");
    SEED("1\x03\0\x05\x04\0\x06 the \x06\x03\0\x05\xC2\xA0 it\n\x04\0\0\x18<|channel>a\n<channel|> "
         "b\n");
    SEED("0\x01\x0C<bos><|turn>\0\x05hello\x01\x08<image|>");
    SEED("0\x04\0\0\x03"
         "one\x04\0\0\x03two\x03\0\0\x06<|turn");
    SEED("0\x07\0"); /* ends with the head of a sound */
}
