/* vocab.c: builds the tables of a vocabulary from the file's metadata.
 *
 * Opening a model waits for this, so the 262,144 pieces and 514,906 merges of the real file are
 * taken up without copying them and without one allocation per token: pieces stay slices of the
 * file, and the hash of a merge's result comes from hashing its two halves in one go.
 *
 * What the file says is checked here once: counts against each other, ids against the number
 * of tokens, and that no merge leads from ordinary text to a special token. Merges that name
 * unknown pieces are left out, since they can never apply.
 */
#include "tokenizer/vocab_in.h"

#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "tokenizer/utf8.h"

#define MAX_TOKEN ((uint64_t)1 << 24)
#define MAX_MERGE ((uint64_t)1 << 26)

/* Bytes. Longer texts are not looked for in markup: it would make the search slow, and the
 * longest special token of the model has 18. */
#define MAX_SPECIAL_TEXT 256

/* Taking up half a million merges means some two million lookups in tables larger than the cache.
 * So pieces and merges go through in blocks, and each step asks for the memory of the next one for
 * the whole block before any of it is waited for. */
#define BLOCK 32

/* ---- hashing ----------------------------------------------------------------------------- */

/* A polynomial, because it can be continued: the hash of a joined pair needs no joined copy. */
static uint64_t hash_more(uint64_t h, gm_str s) {
    for (size_t i = 0; i < s.n; i++) {
        h = h * UINT64_C(0x9E3779B97F4A7C15) + (unsigned char)s.p[i] + 1;
    }
    return h;
}

static uint64_t hash_end(uint64_t h) {
    h ^= h >> 32;
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

/* Whether token id is a followed by b. */
static bool piece_is(const gm_vocab *v, int32_t id, gm_str a, gm_str b) {
    gm_str s = v->piece[id];
    return s.n == a.n + b.n && memcmp(s.p, a.p, a.n) == 0 &&
           (b.n == 0 || memcmp(s.p + a.n, b.p, b.n) == 0);
}

/* The id of the text a b, whose finished hash is h, or -1. */
static int32_t find_pair(const gm_vocab *v, uint64_t h, gm_str a, gm_str b) {
    uint32_t tag = (uint32_t)(h >> 32);
    for (unsigned probe = 0; probe <= GM_PROBE_MAX; probe++) {
        const gm_piece_slot *s = &v->slot[(h + probe) & v->slot_mask];
        if (!s->id1) return -1;
        if (s->tag == tag && piece_is(v, s->id1 - 1, a, b)) return s->id1 - 1;
    }
    return -1;
}

static int32_t find_text(const gm_vocab *v, const char *text) {
    return gm_vocab_find(v, (gm_str){text, strlen(text)});
}

/* A power of two, at least twice n, so that tables stay half empty. */
static size_t table_size(uint64_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* ---- pieces ------------------------------------------------------------------------------ */

static int check_model(const gm_gguf *g, char *err, size_t errlen) {
    gm_str model, pre = {"", 0};
    int rc = gm_gguf_get_str(g, "tokenizer.ggml.model", &model);
    if (rc) return gm_fail(err, errlen, GM_EFORMAT, "the file names no tokenizer");
    gm_gguf_get_str(g, "tokenizer.ggml.pre", &pre);
    bool gemma = model.n == 6 && memcmp(model.p, "gemma4", 6) == 0;
    /* Files made by Ollama. */
    bool ollama = model.n == 5 && memcmp(model.p, "llama", 5) == 0 && pre.n == 6 &&
                  memcmp(pre.p, "gemma4", 6) == 0;
    if (gemma || ollama) return 0;
    return gm_fail(err, errlen, GM_EUNSUPPORTED,
                   "tokenizer '%.*s'%s%.*s%s is not supported (gemma4 is)",
                   (int)(model.n < 64 ? model.n : 64), model.p, pre.n ? " (pre '" : "",
                   (int)(pre.n < 64 ? pre.n : 64), pre.p, pre.n ? "')" : "");
}

/* Takes up the pieces from id begin to end - 1, at most BLOCK of them; false when the table is
 * degenerate. Of equal pieces the first one counts, empty ones are never found. */
static bool add_pieces(gm_vocab *v, int32_t begin, int32_t end) {
    uint64_t hash[BLOCK];
    for (int32_t id = begin; id < end; id++) {
        uint64_t h = hash_end(hash_more(0, v->piece[id]));
        hash[id - begin] = h;
        __builtin_prefetch(&v->slot[h & v->slot_mask]);
    }
    for (int32_t id = begin; id < end; id++) {
        gm_str s = v->piece[id];
        uint64_t h = hash[id - begin];
        uint32_t tag = (uint32_t)(h >> 32);
        gm_piece_slot *slot = &v->slot[h & v->slot_mask];
        if (s.n == 0) continue;
        for (unsigned probe = 1; slot->id1; probe++) {
            if (slot->tag == tag && piece_is(v, slot->id1 - 1, s, (gm_str){"", 0})) break;
            if (probe > GM_PROBE_MAX) return false;
            slot = &v->slot[(h + probe) & v->slot_mask];
        }
        if (!slot->id1) *slot = (gm_piece_slot){tag, id + 1};
    }
    return true;
}

static int read_pieces(gm_vocab *v, const gm_gguf *g, char *err, size_t errlen) {
    gm_gguf_array a;
    if (gm_gguf_get_array(g, "tokenizer.ggml.tokens", &a) || !a.strings || a.n == 0) {
        return gm_fail(err, errlen, GM_EFORMAT, "the file has no list of tokens");
    }
    if (a.n > MAX_TOKEN) {
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "vocabulary of %llu tokens is too large",
                       (unsigned long long)a.n);
    }
    v->piece = a.strings;
    v->n = (int32_t)a.n;
    size_t size = table_size(a.n);
    v->slot = gm_calloc(size, sizeof *v->slot);
    if (!v->slot) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    v->slot_mask = size - 1;
    for (int32_t id = 0; id < v->n; id += BLOCK) {
        int32_t end = v->n - id < BLOCK ? v->n : id + BLOCK;
        if (!add_pieces(v, id, end)) {
            return gm_fail(err, errlen, GM_EFORMAT, "the list of tokens is degenerate");
        }
    }
    return 0;
}

/* ---- types ------------------------------------------------------------------------------- */

/* The special tokens of the model family. A file that calls one of them ordinary (published ones
 * do that to <|video|>, those without types to all) is put right, because ordinary means
 * that text may become it. */
static const struct {
    const char *text;
    gm_tok_type type;
} KNOWN[] = {
    {"<pad>", GM_TOK_CONTROL},
    {"<eos>", GM_TOK_CONTROL},
    {"<bos>", GM_TOK_CONTROL},
    {"<unk>", GM_TOK_CONTROL},
    {"<mask>", GM_TOK_CONTROL},
    {"<|tool>", GM_TOK_CONTROL},
    {"<tool|>", GM_TOK_CONTROL},
    {"<|tool_call>", GM_TOK_USER_DEFINED},
    {"<tool_call|>", GM_TOK_USER_DEFINED},
    {"<|tool_response>", GM_TOK_USER_DEFINED},
    {"<tool_response|>", GM_TOK_USER_DEFINED},
    {"<|\"|>", GM_TOK_USER_DEFINED},
    {"<|think|>", GM_TOK_CONTROL},
    {"<|channel>", GM_TOK_USER_DEFINED},
    {"<channel|>", GM_TOK_USER_DEFINED},
    {"<|turn>", GM_TOK_CONTROL},
    {"<turn|>", GM_TOK_CONTROL},
    {"<|image>", GM_TOK_CONTROL},
    {"<|audio>", GM_TOK_CONTROL},
    {"<|image|>", GM_TOK_CONTROL},
    {"<|audio|>", GM_TOK_CONTROL},
    {"<image|>", GM_TOK_CONTROL},
    {"<audio|>", GM_TOK_CONTROL},
    {"<|video|>", GM_TOK_CONTROL},
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* The byte that "<0x41>" names, or -1. */
static int byte_of(gm_str s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    int hi = hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
    return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

/* Finds the token of each byte. Files without types, and those that call every token normal,
 * have byte tokens all the same, by name. */
static void find_bytes(gm_vocab *v) {
    bool typed = memchr(v->type, GM_TOK_BYTE, (size_t)v->n) != NULL;
    for (int i = 0; i < 256; i++) v->byte_id[i] = -1;
    for (int32_t id = 0; id < v->n; id++) {
        if (v->type[id] != GM_TOK_BYTE && (typed || v->type[id] != GM_TOK_NORMAL)) continue;
        int b = byte_of(v->piece[id]);
        if (b >= 0) {
            v->type[id] = GM_TOK_BYTE;
            if (v->byte_id[b] < 0) v->byte_id[b] = id;
        } else if (v->type[id] == GM_TOK_BYTE) {
            v->type[id] = GM_TOK_UNUSED; /* names no byte; kept as its text */
        }
    }
}

static int read_types(gm_vocab *v, const gm_gguf *g, char *err, size_t errlen) {
    v->type = gm_malloc((size_t)v->n, 1);
    if (!v->type) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    memset(v->type, GM_TOK_NORMAL, (size_t)v->n);
    gm_gguf_array a;
    int rc = gm_gguf_get_array(g, "tokenizer.ggml.token_type", &a);
    if (rc == 0 && a.n != (uint64_t)v->n) {
        return gm_fail(err, errlen, GM_EFORMAT, "%llu token types for %d tokens",
                       (unsigned long long)a.n, (int)v->n);
    }
    for (int32_t id = 0; rc == 0 && id < v->n; id++) {
        int64_t t;
        if (gm_gguf_array_i64(&a, (uint64_t)id, &t)) {
            return gm_fail(err, errlen, GM_EFORMAT, "token types are not integers");
        }
        if (t >= GM_TOK_NORMAL && t <= GM_TOK_BYTE) v->type[id] = (uint8_t)t;
    }
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        int32_t id = find_text(v, KNOWN[i].text);
        if (id >= 0 && gm_vocab_ordinary(v, id)) v->type[id] = (uint8_t)KNOWN[i].type;
    }
    find_bytes(v);
    return 0;
}

/* ---- characters and merges --------------------------------------------------------------- */

/* The character that the token is, if it is one and text may become it. */
static bool is_char(const gm_vocab *v, int32_t id, uint32_t *cp) {
    gm_str s = v->piece[id];
    return s.n > 0 && s.n <= 4 && gm_vocab_ordinary(v, id) &&
           gm_utf8_next((const unsigned char *)s.p, s.n, cp) == s.n;
}

static int find_chars(gm_vocab *v, char *err, size_t errlen) {
    size_t n_page = 1;
    uint32_t cp;
    for (int32_t id = 0; id < v->n; id++) {
        if (!is_char(v, id, &cp) || v->char_page[cp >> 8]) continue;
        v->char_page[cp >> 8] = (uint16_t)n_page++;
    }
    v->char_id = gm_calloc(n_page, 256 * sizeof *v->char_id);
    if (!v->char_id) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    for (int32_t id = 0; id < v->n; id++) {
        if (!is_char(v, id, &cp)) continue;
        int32_t *slot = &v->char_id[(size_t)v->char_page[cp >> 8] << 8 | (cp & 255)];
        if (!*slot) *slot = id + 1;
    }
    return 0;
}

/* The classes of gm_vocab_joins for the two ends of a piece. A plain space in a piece never
 * matches anything, since texts have none left; its class does no harm. */
static unsigned class_first(gm_str s) {
    if (s.n >= 3 && memcmp(s.p, GM_SPACE_TEXT, 3) == 0) return ' ';
    return (unsigned char)s.p[0];
}

static unsigned class_last(gm_str s) {
    if (s.n >= 3 && memcmp(s.p + s.n - 3, GM_SPACE_TEXT, 3) == 0) return ' ';
    return (unsigned char)s.p[s.n - 1];
}

typedef struct {
    gm_str part[2];
    uint64_t hash[3]; /* left, right, both together */
    int32_t id[3];
    uint32_t rank;
} pending_merge;

/* Splits "left right"; false when it is not that. A left part can begin with any character, so
 * the separator is looked for from 1 on. */
static bool split_merge(pending_merge *m, gm_str text) {
    const char *space = text.n > 2 ? memchr(text.p + 1, ' ', text.n - 1) : NULL;
    if (!space || space + 1 == text.p + text.n) return false;
    m->part[0] = (gm_str){text.p, (size_t)(space - text.p)};
    m->part[1] = (gm_str){space + 1, text.n - m->part[0].n - 1};
    return true;
}

static void hash_merge(const gm_vocab *v, pending_merge *m) {
    uint64_t left = hash_more(0, m->part[0]);
    m->hash[0] = hash_end(left);
    m->hash[1] = hash_end(hash_more(0, m->part[1]));
    m->hash[2] = hash_end(hash_more(left, m->part[1]));
    for (int k = 0; k < 3; k++) __builtin_prefetch(&v->slot[m->hash[k] & v->slot_mask]);
}

/* Guesses that the first slot is the right one; find_merge does not rely on it. */
static void prefetch_piece(const gm_vocab *v, pending_merge *m) {
    for (int k = 0; k < 3; k++) {
        m->id[k] = v->slot[m->hash[k] & v->slot_mask].id1 - 1;
        if (m->id[k] >= 0) __builtin_prefetch(&v->piece[m->id[k]]);
    }
}

static void prefetch_text(const gm_vocab *v, const pending_merge *m) {
    for (int k = 0; k < 3; k++) {
        if (m->id[k] >= 0) __builtin_prefetch(v->piece[m->id[k]].p);
    }
}

/* Whether the merge can ever happen: all three pieces exist, and ordinary text can be them. */
static bool find_merge(const gm_vocab *v, pending_merge *m) {
    const gm_str none = {"", 0};
    m->id[0] = find_pair(v, m->hash[0], m->part[0], none);
    m->id[1] = find_pair(v, m->hash[1], m->part[1], none);
    m->id[2] = find_pair(v, m->hash[2], m->part[0], m->part[1]);
    for (int k = 0; k < 3; k++) {
        if (m->id[k] < 0 || !gm_vocab_ordinary(v, m->id[k])) return false;
    }
    __builtin_prefetch(
        &v->merge[gm_merge_hash((uint32_t)m->id[0], (uint32_t)m->id[1]) & v->merge_mask]);
    return true;
}

/* Of merges of the same two tokens the first one counts. False when the table is degenerate. */
static bool add_merge(gm_vocab *v, const pending_merge *m) {
    uint32_t left = (uint32_t)m->id[0], right = (uint32_t)m->id[1];
    size_t at = gm_merge_hash(left, right);
    gm_merge *slot = &v->merge[at & v->merge_mask];
    for (unsigned probe = 0; slot->rank1; slot = &v->merge[++at & v->merge_mask]) {
        if (slot->left == left && slot->right == right) return true;
        if (++probe > GM_PROBE_MAX) return false;
    }
    *slot = (gm_merge){left, right, m->rank + 1, m->id[2]};
    unsigned a = class_last(m->part[0]), b = class_first(m->part[1]);
    v->join[a][b >> 6] |= UINT64_C(1) << (b & 63);
    return true;
}

static bool add_block(gm_vocab *v, const gm_str *text, uint32_t rank, unsigned count) {
    pending_merge block[BLOCK];
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++) {
        block[n].rank = rank + i;
        if (split_merge(&block[n], text[i])) n++;
    }
    for (unsigned i = 0; i < n; i++) hash_merge(v, &block[i]);
    for (unsigned i = 0; i < n; i++) prefetch_piece(v, &block[i]);
    for (unsigned i = 0; i < n; i++) prefetch_text(v, &block[i]);
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        if (find_merge(v, &block[i])) block[kept++] = block[i];
    }
    for (unsigned i = 0; i < kept; i++) {
        if (!add_merge(v, &block[i])) return false;
    }
    return true;
}

static int read_merges(gm_vocab *v, const gm_gguf *g, char *err, size_t errlen) {
    gm_gguf_array a;
    if (gm_gguf_get_array(g, "tokenizer.ggml.merges", &a) || (a.n && !a.strings)) {
        return gm_fail(err, errlen, GM_EFORMAT, "the file has no list of merges");
    }
    if (a.n > MAX_MERGE) {
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "%llu merges are too many",
                       (unsigned long long)a.n);
    }
    size_t size = table_size(a.n);
    v->merge = gm_calloc(size, sizeof *v->merge);
    if (!v->merge) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    v->merge_mask = size - 1;
    for (uint64_t i = 0; i < a.n; i += BLOCK) {
        unsigned count = a.n - i < BLOCK ? (unsigned)(a.n - i) : BLOCK;
        if (!add_block(v, a.strings + i, (uint32_t)i, count)) {
            return gm_fail(err, errlen, GM_EFORMAT, "the list of merges is degenerate");
        }
    }
    return 0;
}

/* ---- special tokens ---------------------------------------------------------------------- */

static bool is_special(const gm_vocab *v, int32_t id) {
    return v->type[id] == GM_TOK_CONTROL || v->type[id] == GM_TOK_USER_DEFINED ||
           v->type[id] == GM_TOK_UNKNOWN;
}

static int compare_special(const void *pa, const void *pb) {
    const gm_special *a = pa, *b = pb;
    size_t n = a->text.n < b->text.n ? a->text.n : b->text.n;
    int c = memcmp(a->text.p, b->text.p, n);
    if (c) return c;
    if (a->text.n != b->text.n) return a->text.n < b->text.n ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static int list_special(gm_vocab *v, char *err, size_t errlen) {
    size_t n = 0;
    for (int32_t id = 0; id < v->n; id++) n += is_special(v, id);
    v->special = gm_malloc(n, sizeof *v->special);
    if (!v->special) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    v->special_only = -1;
    unsigned n_first = 0;
    for (int32_t id = 0; id < v->n; id++) {
        gm_str s = v->piece[id];
        if (!is_special(v, id) || s.n == 0 || s.n > MAX_SPECIAL_TEXT) continue;
        v->special[v->n_special++] = (gm_special){s, id};
        unsigned first = (unsigned char)s.p[0];
        if (!v->special_first[first]) n_first++;
        v->special_first[first] = true;
        v->special_only = (int)first;
    }
    if (n_first != 1) v->special_only = -1;
    qsort(v->special, v->n_special, sizeof *v->special, compare_special);
    return 0;
}

/* Reads a token id. *out stays when the key is missing or says "none". */
static int read_id(const gm_vocab *v, const gm_gguf *g, const char *key, int32_t *out, char *err,
                   size_t errlen) {
    int64_t id;
    int rc = gm_gguf_get_i64(g, key, &id);
    if (rc == GM_ENOENT || (rc == 0 && (id == -1 || id == UINT32_MAX))) return 0;
    if (rc || id < 0 || id >= v->n) {
        return gm_fail(err, errlen, GM_EFORMAT, "%s is no token of this vocabulary", key);
    }
    *out = (int32_t)id;
    return 0;
}

static void add_eog(gm_vocab *v, int32_t id) {
    if (id >= 0 && !gm_vocab_is_eog(v, id)) v->eog[v->n_eog++] = id;
}

static int32_t find_special(const gm_vocab *v, const char *text) {
    int32_t id = find_text(v, text);
    return id >= 0 && is_special(v, id) ? id : -1;
}

static int read_special(gm_vocab *v, const gm_gguf *g, char *err, size_t errlen) {
    v->ids = (gm_special_ids){
        .bos = find_special(v, "<bos>"),
        .eos = find_special(v, "<eos>"),
        .unk = find_special(v, "<unk>"),
        .turn_begin = find_special(v, "<|turn>"),
        .turn_end = find_special(v, "<turn|>"),
        .think = find_special(v, "<|think|>"),
        .channel_begin = find_special(v, "<|channel>"),
        .channel_end = find_special(v, "<channel|>"),
        .tool_response = find_special(v, "<|tool_response>"),
        .image_begin = find_special(v, "<|image>"),
        .image = find_special(v, "<|image|>"),
        .image_end = find_special(v, "<image|>"),
        .audio_begin = find_special(v, "<|audio>"),
        .audio = find_special(v, "<|audio|>"),
        .audio_end = find_special(v, "<audio|>"),
        .video = find_special(v, "<|video|>"),
    };
    /* The file's own eos can be <turn|>; <eos> ends the text all the same. */
    add_eog(v, v->ids.eos);
    add_eog(v, v->ids.turn_end);
    add_eog(v, v->ids.tool_response);
    int32_t eot = -1, eom = -1;
    const struct {
        const char *key;
        int32_t *id;
    } keys[] = {
        {"tokenizer.ggml.bos_token_id", &v->ids.bos},
        {"tokenizer.ggml.eos_token_id", &v->ids.eos},
        {"tokenizer.ggml.unknown_token_id", &v->ids.unk},
        {"tokenizer.ggml.eot_token_id", &eot},
        {"tokenizer.ggml.eom_token_id", &eom},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int rc = read_id(v, g, keys[i].key, keys[i].id, err, errlen);
        if (rc) return rc;
    }
    add_eog(v, v->ids.eos);
    add_eog(v, eot);
    add_eog(v, eom);
    return 0;
}

static int compare_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static int read_suppressed(gm_vocab *v, const gm_gguf *g, char *err, size_t errlen) {
    gm_gguf_array a;
    int rc = gm_gguf_get_array(g, "tokenizer.ggml.suppress_tokens", &a);
    bool named = rc != GM_ENOENT;
    if (named && (rc || a.n > (uint64_t)v->n)) {
        return gm_fail(err, errlen, GM_EFORMAT, "tokenizer.ggml.suppress_tokens is malformed");
    }
    /* Older files lack the key. The model would show these two where it should not. */
    const int32_t family[] = {v->ids.image_end, v->ids.audio_end};
    size_t n = named ? (size_t)a.n : sizeof family / sizeof *family;
    v->suppressed = gm_malloc(n, sizeof *v->suppressed);
    if (!v->suppressed) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    for (size_t i = 0; i < n; i++) {
        int64_t id = named ? -1 : family[i];
        if (named && (gm_gguf_array_i64(&a, i, &id) || id < 0 || id >= v->n)) {
            return gm_fail(err, errlen, GM_EFORMAT,
                           "tokenizer.ggml.suppress_tokens names no token of this vocabulary");
        }
        if (id >= 0) v->suppressed[v->n_suppressed++] = (int32_t)id;
    }
    qsort(v->suppressed, v->n_suppressed, sizeof *v->suppressed, compare_id);
    size_t kept = 0;
    for (size_t i = 0; i < v->n_suppressed; i++) {
        if (i && v->suppressed[i] == v->suppressed[i - 1]) continue;
        v->suppressed[kept++] = v->suppressed[i];
    }
    v->n_suppressed = kept;
    if (kept == (size_t)v->n)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "tokenizer.ggml.suppress_tokens leaves no token to say");
    return 0;
}

/* ---- the whole --------------------------------------------------------------------------- */

int gm_vocab_create(gm_vocab **out, const gm_gguf *g, char *err, size_t errlen) {
    *out = NULL;
    int rc = check_model(g, err, errlen);
    if (rc) return rc;
    gm_vocab *v = gm_calloc(1, sizeof *v);
    if (!v) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the vocabulary");
    if ((rc = read_pieces(v, g, err, errlen)) || (rc = read_types(v, g, err, errlen)) ||
        (rc = find_chars(v, err, errlen)) || (rc = read_merges(v, g, err, errlen)) ||
        (rc = list_special(v, err, errlen)) || (rc = read_special(v, g, err, errlen)) ||
        (rc = read_suppressed(v, g, err, errlen))) {
        gm_vocab_destroy(&v);
        return rc;
    }
    *out = v;
    return 0;
}

void gm_vocab_destroy(gm_vocab **out) {
    gm_vocab *v = *out;
    if (!v) return;
    gm_free(v->type);
    gm_free(v->slot);
    gm_free(v->merge);
    gm_free(v->char_id);
    gm_free(v->special);
    gm_free(v->suppressed);
    gm_free(v);
    *out = NULL;
}

/* ---- questions --------------------------------------------------------------------------- */

static bool valid(const gm_vocab *v, int32_t id) { return id >= 0 && id < v->n; }

int32_t gm_vocab_size(const gm_vocab *v) { return v->n; }

const gm_special_ids *gm_vocab_special(const gm_vocab *v) { return &v->ids; }

gm_str gm_vocab_piece(const gm_vocab *v, int32_t id) {
    return valid(v, id) ? v->piece[id] : (gm_str){"", 0};
}

gm_tok_type gm_vocab_type(const gm_vocab *v, int32_t id) {
    return valid(v, id) ? (gm_tok_type)v->type[id] : GM_TOK_UNUSED;
}

int32_t gm_vocab_find(const gm_vocab *v, gm_str s) {
    if (s.n == 0) return -1;
    return find_pair(v, hash_end(hash_more(0, s)), s, (gm_str){"", 0});
}

bool gm_vocab_is_eog(const gm_vocab *v, int32_t id) {
    for (unsigned i = 0; i < v->n_eog; i++) {
        if (v->eog[i] == id) return true;
    }
    return false;
}

const int32_t *gm_vocab_suppressed(const gm_vocab *v, size_t *n) {
    *n = v->n_suppressed;
    return v->suppressed;
}

size_t gm_vocab_bytes(const gm_vocab *v, int32_t id, bool control, char *dst, size_t cap) {
    if (!valid(v, id)) return 0;
    gm_str s = v->piece[id];
    gm_tok_type type = (gm_tok_type)v->type[id];
    if (type == GM_TOK_BYTE) {
        if (cap) dst[0] = (char)byte_of(s);
        return 1;
    }
    if ((type == GM_TOK_CONTROL || type == GM_TOK_UNKNOWN) && !control) return 0;
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) {
        bool space = s.n - i >= 3 && memcmp(s.p + i, GM_SPACE_TEXT, 3) == 0;
        if (n < cap) dst[n] = space ? ' ' : s.p[i];
        i += space ? 3 : 1;
    }
    return n;
}

/* The longest special token that text[n] begins with. Narrows the sorted list byte by byte: all
 * entries in [lo, hi) begin with the first d bytes of the text, and shorter ones come first. */
static int32_t longest_special(const gm_vocab *v, const char *text, size_t n, size_t *len) {
    const gm_special *s = v->special;
    size_t lo = 0, hi = v->n_special;
    int32_t found = -1;
    for (size_t d = 0;; d++) {
        if (d && s[lo].text.n == d) {
            found = s[lo].id;
            *len = d;
            while (lo < hi && s[lo].text.n == d) lo++;
        }
        if (d == n || lo == hi) return found;
        unsigned char c = (unsigned char)text[d];
        size_t end = hi;
        for (size_t a = lo; a < end;) {
            size_t mid = a + (end - a) / 2;
            if ((unsigned char)s[mid].text.p[d] < c) {
                a = lo = mid + 1;
            } else {
                end = mid;
            }
        }
        size_t top = hi;
        for (size_t a = lo; a < top;) {
            size_t mid = a + (top - a) / 2;
            if ((unsigned char)s[mid].text.p[d] <= c) {
                a = mid + 1;
            } else {
                top = mid;
            }
        }
        hi = top;
        if (lo == hi) return found;
    }
}

int32_t gm_vocab_next_special(const gm_vocab *v, const char *text, size_t n, size_t from,
                              size_t *at, size_t *len) {
    if (v->n_special == 0) return -1;
    for (size_t i = from; i < n; i++) {
        if (v->special_only >= 0) {
            const char *p = memchr(text + i, v->special_only, n - i);
            if (!p) return -1;
            i = (size_t)(p - text);
        } else if (!v->special_first[(unsigned char)text[i]]) {
            continue;
        }
        int32_t id = longest_special(v, text + i, n - i, len);
        if (id >= 0) {
            *at = i;
            return id;
        }
    }
    return -1;
}
