/* fuzz_encode.c: any bytes as text, and any bytes as a vocabulary.
 *
 * The first byte says which vocabulary: that of the tiny model, or a small one made of the input
 * itself (pieces up to a zero byte each, merges between neighbouring pieces). Whatever comes:
 * plain text gives no special token, its bytes come back, and what a stream shows is UTF-8.
 */
#include <string.h>

#include "fuzz.h"
#include "helper/gguf_writer.h"
#include "helper/tiny_model.h"
#include "tokenizer/detok.h"
#include "tokenizer/encode.h"
#include "tokenizer/utf8.h"

#define MAX_PIECE 64

typedef struct {
    gm_bytes file;
    gm_gguf *g;
    gm_vocab *v;
} vocab_file;

static void open_file(vocab_file *f) {
    char err[256];
    FUZZ_CHECK(gm_gguf_open_memory(&f->g, f->file.p, f->file.n, err, sizeof err) == 0);
    int rc = gm_vocab_create(&f->v, f->g, err, sizeof err);
    FUZZ_CHECK((rc == 0) == (f->v != NULL));
}

static void close_file(vocab_file *f) {
    gm_vocab_destroy(&f->v);
    gm_gguf_close(&f->g);
    gm_bytes_finish(&f->file);
}

/* Pieces and merges from the input; *used bytes of it. With all bytes, so that texts come back. */
static void make_vocab(vocab_file *f, const char *p, size_t n, size_t *used) {
    gm_str piece[MAX_PIECE + 256], merge[MAX_PIECE];
    int32_t type[MAX_PIECE + 256];
    char name[256][8];
    gm_bytes text = {0};
    size_t n_piece = 0, n_merge = 0, at = 0, cut[MAX_PIECE + 1] = {0};
    while (n_piece < MAX_PIECE && at < n) {
        const char *end = memchr(p + at, 0, n - at);
        size_t len = (end ? (size_t)(end - p) : n) - at;
        piece[n_piece] = (gm_str){p + at, len};
        type[n_piece] = len % 11 == 10 ? GM_TOK_USER_DEFINED : GM_TOK_NORMAL;
        n_piece++;
        at += len + (end != NULL);
        if (len == 0) break; /* an empty piece ends the list */
    }
    for (size_t i = 0; i + 1 < n_piece; i++) {
        gw_put(&text, piece[i].p, piece[i].n);
        gw_put(&text, " ", 1);
        gw_put(&text, piece[i + 1].p, piece[i + 1].n);
        cut[++n_merge] = text.n;
    }
    for (size_t i = 0; i < n_merge; i++) merge[i] = (gm_str){text.p + cut[i], cut[i + 1] - cut[i]};
    for (int i = 0; i < 256; i++) {
        snprintf(name[i], sizeof name[i], "<0x%02X>", (unsigned)i);
        piece[n_piece] = (gm_str){name[i], 6};
        type[n_piece++] = GM_TOK_BYTE;
    }
    gguf_writer w;
    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "gemma4");
    gw_strings(&w, "tokenizer.ggml.tokens", piece, n_piece);
    gw_array(&w, "tokenizer.ggml.token_type", GM_GGUF_I32, n_piece, type, n_piece * sizeof *type);
    gw_strings(&w, "tokenizer.ggml.merges", merge, n_merge);
    *f = (vocab_file){.file = gw_build(&w)};
    gw_finish(&w);
    gm_bytes_finish(&text);
    *used = at < n ? at : n;
    open_file(f);
}

static bool is_utf8(const gm_bytes *b) {
    uint32_t cp;
    for (size_t i = 0; i < b->n;) {
        unsigned len = gm_utf8_next((const unsigned char *)b->p + i, b->n - i, &cp);
        if (!len) return false;
        i += len;
    }
    return true;
}

static bool is_special(const gm_vocab *v, int32_t id) {
    gm_tok_type t = gm_vocab_type(v, id);
    return t == GM_TOK_CONTROL || t == GM_TOK_USER_DEFINED || t == GM_TOK_UNKNOWN;
}

static void check_text(const gm_vocab *v, const char *p, size_t n) {
    gm_ids ids = {0};
    gm_bytes out = {0};
    FUZZ_CHECK(gm_encode(v, p, n, 0, NULL, &ids) == 0);
    for (size_t i = 0; i < ids.n; i++) FUZZ_CHECK(!is_special(v, ids.v[i]));
    FUZZ_CHECK(gm_detok_raw(v, ids.v, ids.n, true, &out) == 0);
    if (!memmem(p, n, "\xE2\x96\x81", 3)) {
        FUZZ_CHECK(out.n == n && (n == 0 || memcmp(out.p, p, n) == 0));
    }
    ids.n = 0;
    FUZZ_CHECK(gm_encode(v, p, n, GM_ENC_SPECIAL | GM_ENC_BOS, NULL, &ids) == 0);
    gm_detok d;
    gm_detok_init(&d, v, n & 1);
    out.n = 0;
    for (size_t i = 0; i < ids.n; i++) FUZZ_CHECK(gm_detok_push(&d, ids.v[i], &out) == 0);
    bool pieces_are_utf8 = gm_vocab_special(v)->bos >= 0; /* those of the tiny model */
    if (pieces_are_utf8) FUZZ_CHECK(is_utf8(&out));
    FUZZ_CHECK(gm_detok_flush(&d, &out) == 0);
    FUZZ_CHECK(is_utf8(&out));
    gm_ids_finish(&ids);
    gm_bytes_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static vocab_file tiny; /* made once; the same for every input */
    if (!tiny.v) {
        tiny.file = tiny_model_build(&(tiny_opts){.n_vocab = 600});
        open_file(&tiny);
    }
    if (size == 0) return 0;
    const char *p = (const char *)data + 1;
    size_t n = size - 1;
    if (data[0] & 1) {
        vocab_file f;
        size_t used;
        make_vocab(&f, p, n, &used);
        if (f.v) check_text(f.v, p + used, n - used);
        close_file(&f);
    } else {
        check_text(tiny.v, p, n);
    }
    return 0;
}

static void seed(const char *s, size_t n) { fuzz_seed(s, n); }

void fuzz_seeds(void) {
#define SEED(s) seed(s, sizeof(s) - 1)
    SEED("0hello world\n\n\treturn  local x = \xC3\xA9\xE2\x96\x81\xFF<|turn>user\n<turn|>");
    SEED("0<bos><|channel>thought\n<channel|>\xF0\x9F\x99\x82 \xED\xA0\x80 <0x41><unused0>");
    SEED("1a\0b\0ab\0 \0\xE2\x96\x81\0\xC3\xA9\0a b\0\0abab a\xC3\xA9\xC3\xA9 ab\xC3");
    SEED("1<\0x\0>\0<x\0<x>3456789\0<|turn>\0\0<x><x>3456789");
    char line[5001] = "0";
    for (size_t i = 1; i < sizeof line; i++) line[i] = (char)('a' + i * i % 26);
    seed(line, sizeof line);
}
