/* make_vocab.h: vocabularies for tests: written on the spot, or the real one where it is given. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "helper/cm.h"
#include "helper/gguf_writer.h"
#include "helper/random.h"
#include "helper/tiny_model.h"
#include "tokenizer/vocab.h"

#define SP "\xE2\x96\x81"

typedef struct {
    const char *text;
    int32_t type;
} tok;

/* A vocabulary, the file it came from and the file's bytes. */
typedef struct {
    gm_bytes file;
    gm_gguf *g;
    gm_vocab *v;
    char err[256];
} test_vocab;

static inline gm_str str(const char *s) { return (gm_str){s, strlen(s)}; }

/* Opens what is in the writer and finishes it. Returns what gm_vocab_create returned. */
static inline int open_writer(test_vocab *t, gguf_writer *w) {
    *t = (test_vocab){.file = gw_build(w)};
    gw_finish(w);
    assert_int_equal(gm_gguf_open_memory(&t->g, t->file.p, t->file.n, t->err, sizeof t->err), 0);
    return gm_vocab_create(&t->v, t->g, t->err, sizeof t->err);
}

static inline void close_vocab(test_vocab *t) {
    gm_vocab_destroy(&t->v);
    gm_gguf_close(&t->g);
    gm_bytes_finish(&t->file);
}

/* Begins a file with these tokens; types are written unless the first one is 0. */
static inline void begin_vocab(gguf_writer *w, const tok *toks, size_t n) {
    gm_str *text = calloc(n, sizeof *text);
    int32_t *type = calloc(n, sizeof *type);
    assert_non_null(text);
    assert_non_null(type);
    for (size_t i = 0; i < n; i++) {
        text[i] = str(toks[i].text);
        type[i] = toks[i].type;
    }
    gw_init(w);
    gw_str(w, "tokenizer.ggml.model", "gemma4");
    gw_strings(w, "tokenizer.ggml.tokens", text, n);
    if (type[0]) {
        gw_array(w, "tokenizer.ggml.token_type", GM_GGUF_I32, n, type, n * sizeof *type);
    }
    free(text);
    free(type);
}

static inline void put_merges(gguf_writer *w, const char *const *merges, size_t n) {
    gm_str *text = calloc(n + 1, sizeof *text);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = str(merges[i]);
    gw_strings(w, "tokenizer.ggml.merges", text, n);
    free(text);
}

/* The vocabulary of the tiny model, which has everything that the real one has in small. */
static inline void open_tiny_vocab(test_vocab *t) {
    *t = (test_vocab){.file = tiny_model_build(&(tiny_opts){.n_vocab = 600})};
    assert_int_equal(gm_gguf_open_memory(&t->g, t->file.p, t->file.n, t->err, sizeof t->err), 0);
    assert_int_equal(gm_vocab_create(&t->v, t->g, t->err, sizeof t->err), 0);
}

/* The vocabulary of a file; fails the test when it cannot be opened. */
static inline void open_vocab_file(test_vocab *t, const char *path) {
    *t = (test_vocab){0};
    int rc = gm_gguf_open(&t->g, path, t->err, sizeof t->err);
    if (!rc) rc = gm_vocab_create(&t->v, t->g, t->err, sizeof t->err);
    if (rc) fail_msg("%s: %s", path, t->err);
}

/* The real vocabulary, or a skipped test with the reason printed. */
static inline void open_real_vocab(test_vocab *t) {
    const char *path = getenv("GEMMA_TEST_VOCAB");
    if (!path) {
        print_message("skipped: GEMMA_TEST_VOCAB names no file (tests/golden/make_vocab_gguf.py "
                      "makes one from the model's tokenizer.json)\n");
        skip();
        return;
    }
    open_vocab_file(t, path);
}
