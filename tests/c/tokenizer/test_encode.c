/* Encoding: against golden ids, against a slow and obvious implementation, and its promises. */
#include "tokenizer/encode.h"

#include <time.h>
#include "base/err.h"
#include "base/mem.h"
#include "golden_text.h"
#include "make_vocab.h"
#include "tokenizer/detok.h"
#include "vectors.h"

static void assert_ids(const gm_ids *got, const int32_t *want, size_t n, const char *what) {
    for (size_t i = 0; i < got->n || i < n; i++) {
        if (i < got->n && i < n && got->v[i] == want[i]) continue;
        fail_msg("%s: id %zu is %d, expected %d (%zu ids, expected %zu)", what, i,
                 i < got->n ? got->v[i] : -1, i < n ? want[i] : -1, got->n, n);
    }
}

static void assert_encodes(const gm_vocab *v, const char *text, size_t n, unsigned flags,
                           const int32_t *want, size_t n_want, const char *what) {
    gm_ids ids = {0};
    assert_int_equal(gm_encode(v, text, n, flags, NULL, &ids), 0);
    assert_ids(&ids, want, n_want, what);
    gm_ids_finish(&ids);
}

static void assert_comes_back(const gm_vocab *v, const char *text, size_t n) {
    gm_ids ids = {0};
    gm_bytes back = {0};
    assert_int_equal(gm_encode(v, text, n, 0, NULL, &ids), 0);
    for (size_t i = 0; i < ids.n; i++) {
        gm_tok_type type = gm_vocab_type(v, ids.v[i]);
        if (type == GM_TOK_CONTROL || type == GM_TOK_USER_DEFINED) {
            fail_msg("plain text gave the special token %d", ids.v[i]);
        }
    }
    assert_int_equal(gm_detok_raw(v, ids.v, ids.n, true, &back), 0);
    assert_int_equal(back.n, n);
    if (n) assert_memory_equal(back.p, text, n);
    gm_ids_finish(&ids);
    gm_bytes_finish(&back);
}

/* ---- golden ids -------------------------------------------------------------------------- */

static void encode_gives_the_golden_ids_of_every_set(void **state) {
    (void)state;
    static const char *const sets[] = {"nano", "mid", "deep"};
    for (size_t s = 0; s < 3; s++) {
        golden_texts g;
        test_vocab t;
        read_golden_texts(&g, sets[s]);
        open_vocab_file(&t, g.model);
        for (size_t i = 0; i < g.n; i++) {
            const golden_text *x = &g.item[i];
            char what[64];
            snprintf(what, sizeof what, "%s, text %zu", sets[s], i);
            assert_encodes(t.v, x->text.p, x->text.n, GM_ENC_SPECIAL, x->special.v, x->special.n,
                           what);
            assert_encodes(t.v, x->text.p, x->text.n, 0, x->plain.v, x->plain.n, what);
            const gm_bytes *want = x->has_decoded ? &x->decoded : &x->text;
            gm_bytes back = {0};
            assert_int_equal(gm_detok_raw(t.v, x->plain.v, x->plain.n, true, &back), 0);
            assert_int_equal(back.n, want->n);
            if (back.n) assert_memory_equal(back.p, want->p, want->n);
            gm_bytes_finish(&back);
        }
        finish_golden_texts(&g);
        close_vocab(&t);
    }
}

static void encode_gives_the_real_ids_with_the_real_vocabulary(void **state) {
    (void)state;
    test_vocab t;
    open_real_vocab(&t);
    assert_int_equal(gm_vocab_size(t.v), 262144);
    for (size_t i = 0; i < N_REAL_VECTORS; i++) {
        const real_vector *x = &REAL_VECTORS[i];
        assert_encodes(t.v, x->text, x->n, x->special ? GM_ENC_SPECIAL : 0, x->id, x->n_id,
                       x->text);
    }
    close_vocab(&t);
}

/* ---- a slow and obvious implementation --------------------------------------------------- */

#define MAX_TOK 400
#define MAX_SYM 400
#define N_BYTES 256

/* A random vocabulary: 256 byte tokens, some characters, and pieces glued from smaller ones. */
typedef struct {
    char text[MAX_TOK][40];
    tok toks[MAX_TOK];
    int32_t n;
    int32_t rank[MAX_TOK][MAX_TOK]; /* -1: no merge */
    int32_t merged[MAX_TOK][MAX_TOK];
    char merge_text[3000][84];
    const char *merges[3000];
    int32_t n_merge;
} random_vocab;

static const char *const ALPHABET[] = {
    "a", "b", "c", "\n", SP, "\t", "\xC3\xA9", "\xC3\xA8", "\xE2\x96\x82", "\xF0\x9F\x99\x82"};
#define N_ALPHABET (sizeof ALPHABET / sizeof *ALPHABET)

static int32_t find_tok(const random_vocab *r, const char *text) {
    for (int32_t i = 0; i < r->n; i++) {
        if (strcmp(r->text[i], text) == 0) return i;
    }
    return -1;
}

static void add_tok(random_vocab *r, const char *text, int32_t type) {
    size_t size = strlen(text) + 1;
    assert_true(size <= sizeof r->text[0]);
    memcpy(r->text[r->n], text, size);
    r->toks[r->n] = (tok){r->text[r->n], type};
    r->n++;
}

/* A token that is no byte; made of letters only when that is asked for. */
static int32_t pick_tok(const random_vocab *r, test_rng *rng, bool letters) {
    for (;;) {
        int32_t id = N_BYTES + (int32_t)rng_below(rng, (uint64_t)(r->n - N_BYTES));
        const char *s = r->text[id];
        if (!letters || strspn(s, "abc") == strlen(s)) return id;
    }
}

/* Most ways to put a piece together from two others, in random order. */
static void add_random_merges(random_vocab *r, test_rng *rng) {
    for (int32_t c = N_BYTES; c < r->n; c++) {
        size_t len = strlen(r->text[c]);
        for (size_t cut = 1; cut < len && r->n_merge < 3000; cut++) {
            char *m = r->merge_text[r->n_merge];
            memcpy(m, r->text[c], cut);
            m[cut] = 0;
            if (find_tok(r, m) < 0 || find_tok(r, r->text[c] + cut) < 0) continue;
            if (rng_below(rng, 6) == 0) continue;
            m[cut] = ' ';
            memcpy(m + cut + 1, r->text[c] + cut, len - cut + 1);
            r->merges[r->n_merge++] = m;
        }
    }
    for (int32_t i = r->n_merge - 1; i > 0; i--) {
        int32_t k = (int32_t)rng_below(rng, (uint64_t)i + 1);
        const char *swap = r->merges[i];
        r->merges[i] = r->merges[k];
        r->merges[k] = swap;
    }
    for (int32_t i = 0; i < r->n_merge; i++) {
        char left[40], whole[80];
        const char *space = strchr(r->merges[i], ' ');
        snprintf(left, sizeof left, "%.*s", (int)(space - r->merges[i]), r->merges[i]);
        snprintf(whole, sizeof whole, "%s%s", left, space + 1);
        int32_t a = find_tok(r, left), b = find_tok(r, space + 1), c = find_tok(r, whole);
        if (r->toks[a].type != GM_TOK_NORMAL || r->toks[b].type != GM_TOK_NORMAL) continue;
        if (r->toks[c].type != GM_TOK_NORMAL) continue; /* text never becomes it */
        r->rank[a][b] = i;
        r->merged[a][b] = c;
    }
}

/* letters: pieces are short and of a, b and c alone, so that most pairs of pieces can merge and
 * the order decides. */
static void make_random_vocab(random_vocab *r, test_rng *rng, bool letters) {
    memset(r, 0, sizeof *r);
    memset(r->rank, 0xFF, sizeof r->rank);
    char s[80];
    for (int i = 0; i < N_BYTES; i++) {
        snprintf(s, sizeof s, "<0x%02X>", (unsigned)i);
        add_tok(r, s, GM_TOK_BYTE);
    }
    for (size_t i = 0; i < N_ALPHABET; i++) {
        if (i < 3 || rng_below(rng, 8)) add_tok(r, ALPHABET[i], GM_TOK_NORMAL);
    }
    /* Few pieces on some days, so that most characters never join; many on others. */
    int32_t pieces = letters ? 300 : (int32_t)rng_below(rng, 100);
    size_t longest = letters ? 4 : sizeof r->text[0] - 1;
    for (int32_t i = 0; i < pieces; i++) {
        const char *a = r->text[pick_tok(r, rng, letters)];
        const char *b = r->text[pick_tok(r, rng, letters)];
        if (strlen(a) + strlen(b) > longest) continue;
        snprintf(s, sizeof s, "%s%s", a, b);
        if (find_tok(r, s) >= 0) continue;
        add_tok(r, s, rng_below(rng, 12) ? GM_TOK_NORMAL : GM_TOK_USER_DEFINED);
    }
    add_random_merges(r, rng);
}

/* Characters of text made of ALPHABET, spaces and single bytes that are no characters. */
static size_t next_char(const char *p, size_t n) {
    for (size_t i = 0; i < N_ALPHABET; i++) {
        size_t len = strlen(ALPHABET[i]);
        if (len <= n && memcmp(p, ALPHABET[i], len) == 0) return len;
    }
    return 1;
}

/* Byte-pair merging as it is defined: over the whole text, again and again the lowest rank. */
static void encode_slowly(const random_vocab *r, const char *text, size_t n, gm_ids *out) {
    int32_t *id = malloc((n + 1) * sizeof *id);
    size_t n_sym = 0;
    assert_non_null(id);
    for (size_t i = 0; i < n;) {
        size_t len = next_char(text + i, n - i);
        char s[8] = {0};
        memcpy(s, text + i, len);
        int32_t found = find_tok(r, strcmp(s, " ") == 0 ? SP : s);
        if (found >= 0 && r->toks[found].type == GM_TOK_NORMAL) {
            id[n_sym++] = found;
        } else {
            for (size_t k = 0; k < len; k++) id[n_sym++] = (unsigned char)s[k];
        }
        i += len;
    }
    for (;;) {
        size_t best = n_sym;
        int32_t rank = INT32_MAX;
        for (size_t i = 0; i + 1 < n_sym; i++) {
            int32_t k = r->rank[id[i]][id[i + 1]];
            if (k >= 0 && k < rank) rank = k, best = i;
        }
        if (best == n_sym) break;
        id[best] = r->merged[id[best]][id[best + 1]];
        memmove(id + best + 1, id + best + 2, (n_sym - best - 2) * sizeof *id);
        n_sym--;
    }
    assert_int_equal(gm_ids_append(out, id, n_sym), 0);
    free(id);
}

/* Letters come in runs and words repeat, as in real text, so that all ways through the encoder
 * are taken: cuts, cache, short and long pieces. */
static size_t random_text(test_rng *rng, char *out, size_t cap) {
    size_t n = 0, want = rng_below(rng, cap - 40);
    while (n < want) {
        uint64_t kind = rng_below(rng, 10);
        if (kind == 0) {
            out[n++] = (char)(0x80 + rng_below(rng, 64)); /* never begins a character */
        } else if (kind < 3) {
            out[n++] = ' ';
        } else if (kind < 5 && n > 12) {
            size_t len = 1 + rng_below(rng, 12), from = rng_below(rng, n - len + 1);
            memcpy(out + n, out + from, len);
            n += len;
        } else {
            const char *s = ALPHABET[rng_below(rng, kind < 8 ? 3 : N_ALPHABET)];
            for (uint64_t k = 1 + rng_below(rng, 3); k-- > 0; n += strlen(s)) {
                memcpy(out + n, s, strlen(s));
            }
        }
    }
    return n;
}

static void encode_equals_plain_byte_pair_merging_on_random_vocabularies(void **state) {
    (void)state;
    test_rng rng = {7};
    random_vocab *r = malloc(sizeof *r);
    assert_non_null(r);
    for (int round = 0; round < 60; round++) {
        gguf_writer w;
        test_vocab t;
        make_random_vocab(r, &rng, round % 3 == 0);
        begin_vocab(&w, r->toks, (size_t)r->n);
        put_merges(&w, r->merges, (size_t)r->n_merge);
        assert_int_equal(open_writer(&t, &w), 0);
        for (int i = 0; i < 60; i++) {
            char text[MAX_SYM];
            size_t n = random_text(&rng, text, sizeof text);
            gm_ids want = {0};
            char what[64];
            snprintf(what, sizeof what, "round %d, text %d", round, i);
            encode_slowly(r, text, n, &want);
            assert_encodes(t.v, text, n, 0, want.v, want.n, what);
            gm_ids_finish(&want);
        }
        close_vocab(&t);
    }
    free(r);
}

/* Long enough for several windows of the encoder; few letters, so that everything joins, with
 * stretches of one letter and of one word, whose tokens depend on where they begin. */
static size_t long_word(test_rng *rng, char *out, size_t cap) {
    size_t n = 0;
    while (n + 700 < cap) {
        size_t word = 1 + rng_below(rng, 5), times = 1;
        if (rng_below(rng, 6) == 0) times = 1 + rng_below(rng, 600 / word);
        for (size_t i = 0; i < word; i++) out[n + i] = (char)('a' + rng_below(rng, 3));
        for (size_t i = word; i < word * times; i++) out[n + i] = out[n + i - word];
        n += word * times;
        if (rng_below(rng, 300) == 0) out[n++] = (char)0xFF;
    }
    return n;
}

static void encode_equals_plain_byte_pair_merging_on_very_long_words(void **state) {
    (void)state;
    test_rng rng = {19};
    random_vocab *r = malloc(sizeof *r);
    const size_t cap = 14000;
    char *text = malloc(cap);
    assert_non_null(r);
    assert_non_null(text);
    for (int round = 0; round < 6; round++) {
        gguf_writer w;
        test_vocab t;
        gm_ids want = {0};
        char what[32];
        make_random_vocab(r, &rng, true);
        begin_vocab(&w, r->toks, (size_t)r->n);
        put_merges(&w, r->merges, (size_t)r->n_merge);
        assert_int_equal(open_writer(&t, &w), 0);
        size_t n = long_word(&rng, text, cap);
        snprintf(what, sizeof what, "round %d", round);
        encode_slowly(r, text, n, &want);
        assert_encodes(t.v, text, n, 0, want.v, want.n, what);
        gm_ids_finish(&want);
        close_vocab(&t);
    }
    free(text);
    free(r);
}

/* A word in which each pair of letters occurs once and the merges come in order from its end to
 * its beginning: the last two letters merge, then the two before them, and so on. Whether the
 * first letters pair as 12 34 or as 1 23 45 depends on how far away the end is. */
static size_t make_chain(random_vocab *r, char *out) {
    enum { LETTERS = 18, LENGTH = LETTERS * LETTERS + 1 };
    bool used[LETTERS][LETTERS] = {0};
    memset(r, 0, sizeof *r);
    memset(r->rank, 0xFF, sizeof r->rank);
    for (int i = 0; i < LETTERS; i++) add_tok(r, (char[]){(char)('a' + i), 0}, GM_TOK_NORMAL);
    out[0] = 'a';
    for (size_t n = 1; n < LENGTH; n++) {
        int last = out[n - 1] - 'a', next = LETTERS - 1;
        while (next >= 0 && used[last][next]) next--;
        assert_true(next >= 0);
        used[last][next] = true;
        out[n] = (char)('a' + next);
        add_tok(r, (char[]){out[n - 1], out[n], 0}, GM_TOK_NORMAL);
    }
    for (size_t n = LENGTH - 1; n >= 1; n--) {
        int left = out[n - 1] - 'a', right = out[n] - 'a';
        char *m = r->merge_text[r->n_merge];
        memcpy(m, (char[]){out[n - 1], ' ', out[n], 0}, 4);
        r->merges[r->n_merge] = m;
        r->rank[left][right] = r->n_merge++;
        r->merged[left][right] = LETTERS + (int32_t)n - 1;
    }
    return LENGTH;
}

/* The end of a window changes tokens farther to its left than windows overlap. The encoder has to
 * notice that they do not fit together, and to take the whole piece at once. */
static void encode_notices_when_windows_do_not_fit_together(void **state) {
    (void)state;
    random_vocab *r = malloc(sizeof *r);
    char text[8000];
    gguf_writer w;
    test_vocab t;
    assert_non_null(r);
    size_t len = make_chain(r, text);
    begin_vocab(&w, r->toks, (size_t)r->n);
    put_merges(&w, r->merges, (size_t)r->n_merge);
    assert_int_equal(open_writer(&t, &w), 0);
    /* Moves the chain over the end of the first window, at 4,096 letters. */
    for (size_t filler = 3800; filler < 3900; filler += 7) {
        gm_ids want = {0};
        char what[32];
        make_chain(r, text + filler);
        for (size_t i = 0; i < filler; i++) text[i] = (char)('a' + i * i % 17);
        snprintf(what, sizeof what, "filler %zu", filler);
        encode_slowly(r, text, filler + len, &want);
        assert_encodes(t.v, text, filler + len, 0, want.v, want.n, what);
        gm_ids_finish(&want);
    }
    free(r);
    close_vocab(&t);
}

/* ---- promises ---------------------------------------------------------------------------- */

static void encode_of_plain_text_never_gives_a_special_token(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    gm_bytes all = {0};
    for (int32_t id = 0; id < gm_vocab_size(t.v); id++) {
        gm_str p = gm_vocab_piece(t.v, id);
        if (memmem(p.p, p.n, SP, 3)) continue;
        assert_comes_back(t.v, p.p, p.n);
        assert_int_equal(gm_bytes_append(&all, p.p, p.n), 0);
    }
    assert_comes_back(t.v, all.p, all.n);
    gm_bytes_finish(&all);
    close_vocab(&t);
}

/* A merge whose result is a marker of the model: text must stop short of it. */
static void encode_does_not_merge_into_special_tokens(void **state) {
    (void)state;
    static const tok toks[] = {{"<", GM_TOK_NORMAL},
                               {"x", GM_TOK_NORMAL},
                               {">", GM_TOK_NORMAL},
                               {"<x", GM_TOK_NORMAL},
                               {"<x>", GM_TOK_USER_DEFINED}};
    static const char *const merges[] = {"< x", "<x >"};
    static const int32_t plain[] = {3, 2}, special[] = {4};
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, toks, 5);
    put_merges(&w, merges, 2);
    assert_int_equal(open_writer(&t, &w), 0);
    assert_encodes(t.v, "<x>", 3, 0, plain, 2, "plain");
    assert_encodes(t.v, "<x>", 3, GM_ENC_SPECIAL, special, 1, "special");
    close_vocab(&t);
}

static void encode_keeps_all_bytes_of_any_input(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    test_rng rng = {3};
    char text[600];
    for (int round = 0; round < 300; round++) {
        size_t n = rng_below(&rng, sizeof text);
        for (size_t i = 0; i < n; i++) {
            uint64_t k = rng_u64(&rng);
            /* Mostly letters on even rounds, so that broken bytes stand among merges. */
            text[i] = round % 2 && k % 3 ? (char)('a' + k / 3 % 26) : (char)(k >> 32);
        }
        if (memmem(text, n, SP, 3)) continue;
        assert_comes_back(t.v, text, n);
    }
    assert_comes_back(t.v, NULL, 0);
    close_vocab(&t);
}

static void encode_gives_byte_tokens_for_broken_utf8_and_leaves_the_rest_alone(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    int32_t hello = gm_vocab_find(t.v, str("hello"));
    static const char *const broken[] = {
        "\x80",     "\xC3",     "\xC0\xAF",     "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
        "\xFF\xFE", "\xE2\x96", "\xF0\x9F\x99",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[32];
        int32_t want[16];
        size_t n = strlen(broken[i]), n_want = 0;
        snprintf(text, sizeof text, "hello%shello", broken[i]);
        want[n_want++] = hello;
        for (size_t k = 0; k < n; k++) want[n_want++] = TINY_BYTE + (unsigned char)broken[i][k];
        want[n_want++] = hello;
        assert_encodes(t.v, text, n + 10, 0, want, n_want, "broken");
    }
    close_vocab(&t);
}

static void encode_puts_bos_in_front_once(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    int32_t hello = gm_vocab_find(t.v, str("hello"));
    int32_t want[] = {TINY_BOS, hello}, twice[] = {TINY_BOS, TINY_EOS};
    assert_encodes(t.v, "hello", 5, GM_ENC_BOS, want, 2, "text");
    assert_encodes(t.v, "<bos>hello", 10, GM_ENC_BOS | GM_ENC_SPECIAL, want, 2, "has one");
    assert_encodes(t.v, "", 0, GM_ENC_BOS, want, 1, "empty");
    assert_encodes(t.v, "<eos>", 5, GM_ENC_BOS | GM_ENC_SPECIAL, twice, 2, "another special");
    gm_ids ids = {0};
    assert_int_equal(gm_encode(t.v, "<bos>", 5, GM_ENC_BOS, NULL, &ids), 0);
    assert_int_equal(ids.v[0], TINY_BOS);
    assert_true(ids.n > 2); /* the text is not a token */
    gm_ids_finish(&ids);
    close_vocab(&t);
}

static void encode_uses_unk_where_a_vocabulary_lacks_bytes(void **state) {
    (void)state;
    static const tok toks[] = {{"<unk>", GM_TOK_UNKNOWN}, {"a", GM_TOK_NORMAL}};
    static const int32_t want[] = {1, 0, 0, 1};
    gguf_writer w;
    test_vocab t;
    begin_vocab(&w, toks, 2);
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    assert_encodes(t.v,
                   "a\xC3\xA9\xFF"
                   "a",
                   5, 0, want, 4, "with unk");
    close_vocab(&t);
    begin_vocab(&w, toks + 1, 1);
    put_merges(&w, NULL, 0);
    assert_int_equal(open_writer(&t, &w), 0);
    static const int32_t alone[] = {0, 0};
    assert_encodes(t.v,
                   "a\xC3\xA9\xFF"
                   "a",
                   5, 0, alone, 2, "without");
    close_vocab(&t);
}

static void encode_appends_and_undoes_when_memory_runs_out(void **state) {
    (void)state;
    test_vocab t;
    open_tiny_vocab(&t);
    char text[4000];
    test_rng rng = {5};
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + rng_below(&rng, 26));
    memcpy(text + 50, "<bos> words here \xFF\n", 19);
    gm_ids ids = {0};
    assert_int_equal(gm_ids_push(&ids, 42), 0);
    gm_mem_fail_at(0);
    assert_int_equal(gm_encode(t.v, text, sizeof text, GM_ENC_SPECIAL | GM_ENC_BOS, NULL, &ids), 0);
    uint64_t n = gm_mem_fail_at(0);
    assert_true(n >= 3);
    assert_int_equal(ids.v[0], 42);
    for (uint64_t i = 1; i <= n; i++) {
        gm_ids_finish(&ids);
        assert_int_equal(gm_ids_push(&ids, 42), 0);
        gm_mem_fail_at(i);
        assert_int_equal(gm_encode(t.v, text, sizeof text, GM_ENC_SPECIAL | GM_ENC_BOS, NULL, &ids),
                         GM_ENOMEM);
        assert_int_equal(ids.n, 1);
        assert_int_equal(ids.v[0], 42);
    }
    gm_mem_fail_at(0);
    gm_ids_finish(&ids);
    close_vocab(&t);
}

/* One line of a megabyte. An encoder that looks for the best pair anew each time would take
 * hours; the limit only has to tell that from a slow machine under a sanitizer. */
static void encode_takes_no_quadratic_time_on_long_lines(void **state) {
    (void)state;
    const size_t n = 1 << 20;
    test_vocab t;
    open_tiny_vocab(&t);
    char *text = malloc(n);
    assert_non_null(text);
    test_rng rng = {11};
    for (int kind = 0; kind < 6; kind++) {
        for (size_t i = 0; i < n; i++) {
            uint64_t k = rng_u64(&rng) >> 20;
            text[i] = kind == 0   ? 'a'
                      : kind == 1 ? ' '
                      : kind == 2 ? '\n'
                      : kind == 3 ? (char)('a' + k % 26)
                      : kind == 4 ? (char)k
                                  : '<';
        }
        clock_t start = clock();
        gm_ids ids = {0};
        assert_int_equal(gm_encode(t.v, text, n, GM_ENC_SPECIAL, NULL, &ids), 0);
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s > 20) fail_msg("kind %d took %.1f s", kind, s);
        gm_ids_finish(&ids);
    }
    free(text);
    close_vocab(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_gives_the_golden_ids_of_every_set),
        cmocka_unit_test(encode_gives_the_real_ids_with_the_real_vocabulary),
        cmocka_unit_test(encode_equals_plain_byte_pair_merging_on_random_vocabularies),
        cmocka_unit_test(encode_equals_plain_byte_pair_merging_on_very_long_words),
        cmocka_unit_test(encode_notices_when_windows_do_not_fit_together),
        cmocka_unit_test(encode_of_plain_text_never_gives_a_special_token),
        cmocka_unit_test(encode_does_not_merge_into_special_tokens),
        cmocka_unit_test(encode_keeps_all_bytes_of_any_input),
        cmocka_unit_test(encode_gives_byte_tokens_for_broken_utf8_and_leaves_the_rest_alone),
        cmocka_unit_test(encode_puts_bos_in_front_once),
        cmocka_unit_test(encode_uses_unk_where_a_vocabulary_lacks_bytes),
        cmocka_unit_test(encode_appends_and_undoes_when_memory_runs_out),
        cmocka_unit_test(encode_takes_no_quadratic_time_on_long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
