/* encode.c: byte-pair merging, fast and exactly as the reference does it.
 *
 * The reference merges over a whole text: always the pair with the lowest rank, the leftmost one
 * first. Three things make the same result cheap:
 *
 * 1. Cutting. Two neighbouring characters that no merge ever joins (gm_vocab_joins) can never be
 *    in one token, so what is left and right of them may be merged apart. In the model's
 *    vocabulary this cuts source code into words and runs of punctuation.
 * 2. A cache of pieces, one per call. The ids of a piece depend on its bytes alone.
 * 3. For short pieces looking through an array for the best pair, for longer ones a heap over a
 *    linked list, for very long ones that in windows, so that it happens in the cache.
 *
 * A character without a token never merges and becomes the tokens of its bytes; so does a byte
 * that is not UTF-8. Everything a call needs is its own, the vocabulary is only read.
 */
#include "tokenizer/encode.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocab_in.h"

/* Symbols. Up to here looking through an array beats keeping a heap. */
#define SHORT_MAX 32

/* Symbols. A window and its heap fit into the second-level cache many times over. The overlap has
 * to be longer than the reach of a cut to the left; a few tokens in practice. */
#define WINDOW 4096
#define OVERLAP 128

#define CACHE_KEY 16    /* bytes of the longest piece that is cached: most words */
#define CACHE_IDS 10    /* its most ids; 64 bytes for an entry, one cache line */
#define CACHE_MIN 128   /* bytes; a shorter text repeats too little */
#define CACHE_MAX 8192u /* entries, 512 KB: stays in the second-level cache */

#define NO_RANK UINT32_MAX
#define NOBODY UINT32_MAX

typedef struct {
    uint64_t key[2]; /* the bytes, zeros behind them */
    uint8_t len;     /* 0: empty entry */
    uint8_t n;
    int32_t id[CACHE_IDS];
} cache_entry;

/* A symbol of a long piece. Dead ones have rank NO_RANK. */
typedef struct {
    int32_t id;
    uint32_t prev, next;
    uint32_t rank;  /* of the merge with the next one, NO_RANK when there is none */
    int32_t merged; /* its result */
} symbol;

typedef struct {
    const gm_vocab *v;
    gm_ids *out;
    const gm_cancel *cancel;
    cache_entry *cache; /* NULL for short texts */
    size_t cache_mask;
    symbol *sym; /* [sym_cap] */
    size_t sym_cap;
    uint64_t *heap; /* [heap_cap], rank in the upper half, position in the lower */
    size_t heap_cap, heap_n;
} encoder;

/* ---- symbols ----------------------------------------------------------------------------- */

/* Bytes of the character at p; 1 for a byte that is not UTF-8. */
static unsigned char_len(const unsigned char *p, size_t n) {
    uint32_t cp;
    unsigned len = gm_utf8_next(p, n, &cp);
    return len ? len : 1;
}

/* Reads the character at p. *id is its token, or a negative number when it has none. Returns its
 * length; 1 for a byte that is not UTF-8. */
static unsigned read_symbol(const gm_vocab *v, const unsigned char *p, size_t n, int32_t *id) {
    uint32_t cp;
    unsigned len = gm_utf8_next(p, n, &cp);
    *id = -1;
    if (len == 0) return 1;
    *id = gm_vocab_char(v, cp == ' ' ? GM_SPACE_CP : cp);
    return len;
}

static const gm_merge *merge_of(const gm_vocab *v, int32_t left, int32_t right) {
    return left < 0 || right < 0 ? NULL : gm_vocab_merge(v, left, right);
}

/* The bytes of a character without a token. A vocabulary that lacks one of them has <unk> in their
 * place, or nothing. */
static int push_bytes(encoder *e, const unsigned char *p, unsigned len) {
    for (unsigned i = 0; i < len; i++) {
        if (e->v->byte_id[p[i]] >= 0) continue;
        return e->v->ids.unk < 0 ? 0 : gm_ids_push(e->out, e->v->ids.unk);
    }
    for (unsigned i = 0; i < len; i++) {
        int rc = gm_ids_push(e->out, e->v->byte_id[p[i]]);
        if (rc) return rc;
    }
    return 0;
}

/* A symbol without a token is stored as -1 - its offset in the piece, so that its bytes can be
 * found again at the end. */
static int push_symbol(encoder *e, const unsigned char *p, size_t n, int32_t id) {
    if (id >= 0) return gm_ids_push(e->out, id);
    size_t at = (size_t)(-1 - (int64_t)id);
    int32_t none;
    return push_bytes(e, p + at, read_symbol(e->v, p + at, n - at, &none));
}

/* ---- short pieces ------------------------------------------------------------------------ */

typedef struct {
    int32_t id[SHORT_MAX];
    int32_t merged[SHORT_MAX];
    uint32_t rank[SHORT_MAX]; /* [i]: of symbols i and i + 1 */
    unsigned n;
} short_piece;

static void short_rank(const gm_vocab *v, short_piece *s, unsigned i) {
    const gm_merge *m = i + 1 < s->n ? merge_of(v, s->id[i], s->id[i + 1]) : NULL;
    s->rank[i] = m ? m->rank1 - 1 : NO_RANK;
    s->merged[i] = m ? m->merged : -1;
}

static void short_merge(const gm_vocab *v, short_piece *s) {
    for (unsigned i = 0; i < s->n; i++) short_rank(v, s, i);
    for (;;) {
        unsigned best = 0;
        for (unsigned i = 1; i < s->n; i++) {
            if (s->rank[i] < s->rank[best]) best = i;
        }
        if (s->rank[best] == NO_RANK) return;
        s->id[best] = s->merged[best];
        s->n--;
        for (unsigned i = best + 1; i < s->n; i++) {
            s->id[i] = s->id[i + 1];
            s->rank[i] = s->rank[i + 1];
            s->merged[i] = s->merged[i + 1];
        }
        short_rank(v, s, best);
        if (best > 0) short_rank(v, s, best - 1);
    }
}

/* ---- long pieces ------------------------------------------------------------------------- */

/* The heap is 4-ary: half the levels of a binary one, and the four children share a cache line.
 * An entry whose symbol has died or has another rank by now is stale and skipped when it comes
 * up; a rank belongs to one pair of tokens, so an equal rank means the same merge. */

static void heap_down(uint64_t *h, size_t n, size_t i) {
    uint64_t x = h[i];
    for (;;) {
        size_t first = 4 * i + 1, best = first;
        if (first + 4 <= n) {
            /* Sums instead of jumps: which child is least cannot be predicted. */
            size_t a = first + (h[first + 1] < h[first]);
            size_t b = first + 2 + (h[first + 3] < h[first + 2]);
            best = a + (b - a) * (h[b] < h[a]);
        } else {
            for (size_t c = first + 1; c < n; c++) {
                if (h[c] < h[best]) best = c;
            }
        }
        if (first >= n || h[best] >= x) break;
        h[i] = h[best];
        i = best;
    }
    h[i] = x;
}

static int heap_push(encoder *e, uint32_t rank, uint32_t pos) {
    if (e->heap_n == e->heap_cap) {
        int rc = gm_grow(&e->heap, &e->heap_cap, e->heap_n + 1, sizeof *e->heap);
        if (rc) return rc;
    }
    uint64_t *h = e->heap, x = (uint64_t)rank << 32 | pos;
    size_t i = e->heap_n++;
    while (i > 0 && h[(i - 1) / 4] > x) {
        h[i] = h[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    h[i] = x;
    return 0;
}

static uint64_t heap_pop(encoder *e) {
    uint64_t top = e->heap[0];
    e->heap[0] = e->heap[--e->heap_n];
    if (e->heap_n) heap_down(e->heap, e->heap_n, 0);
    return top;
}

static void long_rank(const gm_vocab *v, symbol *sym, uint32_t i) {
    symbol *s = &sym[i];
    const gm_merge *m = s->next == NOBODY ? NULL : merge_of(v, s->id, sym[s->next].id);
    s->rank = m ? m->rank1 - 1 : NO_RANK;
    s->merged = m ? m->merged : -1;
}

static int long_push(encoder *e, uint32_t i) {
    long_rank(e->v, e->sym, i);
    return e->sym[i].rank == NO_RANK ? 0 : heap_push(e, e->sym[i].rank, i);
}

/* Fills sym with the n_sym characters of the window and the heap with their merges. */
static int window_begin(encoder *e, const unsigned char *p, size_t n, size_t n_sym) {
    int rc = 0;
    if (n >= INT32_MAX) return GM_ENOMEM;
    if (n_sym > e->sym_cap && (rc = gm_grow(&e->sym, &e->sym_cap, n_sym, sizeof *e->sym)))
        return rc;
    if (n_sym > e->heap_cap && (rc = gm_grow(&e->heap, &e->heap_cap, n_sym, sizeof *e->heap))) {
        return rc;
    }
    size_t at = 0;
    for (size_t i = 0; i < n_sym; i++) {
        symbol *s = &e->sym[i];
        unsigned len = read_symbol(e->v, p + at, n - at, &s->id);
        if (s->id < 0) s->id = (int32_t)(-1 - (int64_t)at);
        s->prev = i ? (uint32_t)(i - 1) : NOBODY;
        s->next = i + 1 < n_sym ? (uint32_t)(i + 1) : NOBODY;
        at += len;
    }
    e->heap_n = 0;
    for (size_t i = 0; i < n_sym; i++) {
        long_rank(e->v, e->sym, (uint32_t)i);
        if (e->sym[i].rank == NO_RANK) continue;
        e->heap[e->heap_n++] = (uint64_t)e->sym[i].rank << 32 | i;
    }
    for (size_t i = e->heap_n / 4 + 1; i-- > 0;) {
        if (i < e->heap_n) heap_down(e->heap, e->heap_n, i);
    }
    return 0;
}

/* Merges a window as far as it goes; the result is the list that begins with symbol 0. */
static int window_merge(encoder *e, const unsigned char *p, size_t n, size_t n_sym) {
    int rc = window_begin(e, p, n, n_sym);
    if (rc) return rc;
    symbol *sym = e->sym;
    while (e->heap_n) {
        if (gm_cancelled(e->cancel)) return GM_ECANCELLED;
        uint64_t top = heap_pop(e);
        uint32_t i = (uint32_t)top;
        symbol *s = &sym[i];
        if (s->rank != (uint32_t)(top >> 32)) continue;
        symbol *gone = &sym[s->next];
        s->id = s->merged;
        s->next = gone->next;
        gone->rank = NO_RANK;
        if (s->next != NOBODY) sym[s->next].prev = i;
        if ((rc = long_push(e, i))) return rc;
        if (s->prev != NOBODY && (rc = long_push(e, s->prev))) return rc;
    }
    return 0;
}

/* Bytes of the first characters of p, at most max of them; *n_sym is their number. */
static size_t take_chars(const unsigned char *p, size_t n, size_t max, size_t *n_sym) {
    size_t at = 0, k = 0;
    for (; at < n && k < max; k++) at += char_len(p + at, n - at);
    *n_sym = k;
    return at;
}

/* Encodes a long piece window by window. *proved is false when the windows do not fit together;
 * what was appended is worthless then.
 *
 * Merging is local: as long as no merge crosses the ends of a stretch of text, what happens inside
 * does not depend on the rest. From this follows
 *   (1) a boundary that the window's result has at q cuts the window into two texts that are
 *       encoded apart, and
 *   (2) a row of tokens is the encoding of its text if each two neighbours are the encoding of
 *       theirs: the first merge across a boundary would have happened with these two alone.
 * So tokens at the end of a window, which the cut there may have changed, are thrown away, and the
 * next window begins at a boundary q before them. Its first token must be the one that stood
 * behind q before: these two are then known to be good neighbours, and by (2) all is. */
static int encode_windows(encoder *e, const unsigned char *p, size_t n, size_t max, bool *proved) {
    int32_t behind = 0; /* the token behind q */
    *proved = true;
    for (size_t q = 0; q < n;) {
        size_t n_sym, size = take_chars(p + q, n - q, max, &n_sym);
        int rc = window_merge(e, p + q, size, n_sym);
        if (rc) return rc;
        const symbol *sym = e->sym;
        /* Negative: a character without a token, the same one since it is at the same place. */
        bool fits = q == 0 || sym[0].id == behind || (sym[0].id < 0 && behind < 0);
        bool last = q + size == n;
        uint32_t i = 0;
        while (fits && i != NOBODY && (last || sym[i].next <= n_sym - OVERLAP)) {
            if ((rc = push_symbol(e, p + q, size, sym[i].id))) return rc;
            i = sym[i].next;
        }
        if (last && fits) return 0;
        if (!fits || i == 0) {
            *proved = false;
            return 0;
        }
        behind = sym[i].id;
        q += take_chars(p + q, size, i, &n_sym);
    }
    return 0;
}

static int encode_long(encoder *e, const unsigned char *p, size_t n) {
    size_t before = e->out->n;
    bool proved;
    int rc = encode_windows(e, p, n, WINDOW, &proved);
    if (rc || proved) return rc;
    e->out->n = before;
    return encode_windows(e, p, n, SIZE_MAX, &proved);
}

/* ---- pieces ------------------------------------------------------------------------------ */

/* Encodes a piece of n bytes and n_sym characters. */
static int encode_piece(encoder *e, const unsigned char *p, size_t n, size_t n_sym) {
    if (n_sym > SHORT_MAX) return encode_long(e, p, n);
    short_piece s;
    s.n = (unsigned)n_sym;
    size_t at = 0;
    for (unsigned i = 0; i < s.n; i++) {
        unsigned len = read_symbol(e->v, p + at, n - at, &s.id[i]);
        if (s.id[i] < 0) s.id[i] = (int32_t)(-1 - (int64_t)at);
        at += len;
    }
    short_merge(e->v, &s);
    for (unsigned i = 0; i < s.n; i++) {
        int rc = push_symbol(e, p, n, s.id[i]);
        if (rc) return rc;
    }
    return 0;
}

/* The same through the cache. `left` bytes are readable at p. */
static int encode_cached(encoder *e, const unsigned char *p, size_t n, size_t n_sym, size_t left) {
    uint64_t key[2] = {0, 0};
    if (left >= CACHE_KEY) {
        /* A copy of fixed size, then the bytes behind the piece cleared: a copy of n bytes
         * would be a call for every word. Little-endian, as the file format is. */
        memcpy(key, p, CACHE_KEY);
        if (n < 8) {
            key[0] &= ~(UINT64_MAX << 8 * n);
            key[1] = 0;
        } else if (n < 16) {
            key[1] &= ~(UINT64_MAX << 8 * (n - 8));
        }
    } else {
        memcpy(key, p, n);
    }
    uint64_t h =
        (key[0] ^ n) * UINT64_C(0x9E3779B97F4A7C15) + key[1] * UINT64_C(0xD6E8FEB86659FD93);
    cache_entry *c = &e->cache[(h ^ h >> 32) & e->cache_mask];
    if (c->len == n && c->key[0] == key[0] && c->key[1] == key[1]) {
        return gm_ids_append(e->out, c->id, c->n);
    }
    size_t before = e->out->n;
    int rc = encode_piece(e, p, n, n_sym);
    size_t got = e->out->n - before;
    if (rc || got > CACHE_IDS) return rc;
    *c = (cache_entry){.key = {key[0], key[1]}, .len = (uint8_t)n, .n = (uint8_t)got};
    memcpy(c->id, e->out->v + before, got * sizeof *c->id);
    return 0;
}

/* The class of a character on either side of a cut, see gm_vocab_joins. */
static unsigned class_at(const unsigned char *p, unsigned len, bool last) {
    if (len == 3 && memcmp(p, GM_SPACE_TEXT, 3) == 0) return ' ';
    return last ? p[len - 1] : p[0];
}

/* Encodes text without special tokens: finds the next piece, encodes it, goes on. */
static int encode_plain(encoder *e, const unsigned char *p, size_t n) {
    const gm_vocab *v = e->v;
    size_t start = 0;
    while (start < n) {
        if (gm_cancelled(e->cancel)) return GM_ECANCELLED;
        unsigned len = p[start] < 0x80 ? 1 : char_len(p + start, n - start);
        unsigned last = class_at(p + start, len, true);
        size_t at = start + len, n_sym = 1;
        while (at < n) {
            unsigned first = p[at];
            if (first < 0x80) {
                if (!gm_vocab_joins(v, last, first)) break;
                last = first;
                at++;
            } else {
                len = char_len(p + at, n - at);
                if (!gm_vocab_joins(v, last, class_at(p + at, len, false))) break;
                last = class_at(p + at, len, true);
                at += len;
            }
            n_sym++;
        }
        size_t size = at - start;
        int rc;
        int32_t id = -1;
        if (n_sym == 1) read_symbol(v, p + start, size, &id);
        if (id >= 0) {
            rc = gm_ids_push(e->out, id);
        } else if (e->cache && size <= CACHE_KEY) {
            rc = encode_cached(e, p + start, size, n_sym, n - start);
        } else {
            rc = encode_piece(e, p + start, size, n_sym);
        }
        if (rc) return rc;
        start = at;
    }
    return 0;
}

/* ---- texts ------------------------------------------------------------------------------- */

/* Encodes text in which special tokens are markup. */
static int encode_markup(encoder *e, const char *text, size_t n) {
    size_t from = 0, at, len;
    int rc = 0;
    while (from < n) {
        int32_t id = gm_vocab_next_special(e->v, text, n, from, &at, &len);
        if (id < 0) at = n;
        rc = encode_plain(e, (const unsigned char *)text + from, at - from);
        if (rc || id < 0) return rc;
        if ((rc = gm_ids_push(e->out, id))) return rc;
        from = at + len;
    }
    return 0;
}

static bool begins_with_bos(const gm_vocab *v, const char *text, size_t n) {
    size_t at, len;
    int32_t id = gm_vocab_next_special(v, text, n, 0, &at, &len);
    return id >= 0 && at == 0 && id == v->ids.bos;
}

static int encoder_init(encoder *e, const gm_vocab *v, size_t n, const gm_cancel *cancel,
                        gm_ids *out) {
    *e = (encoder){.v = v, .out = out, .cancel = cancel};
    if (n < CACHE_MIN) return 0;
    size_t entries = 64;
    while (entries < n / 8 && entries < CACHE_MAX) entries *= 2;
    e->cache = gm_calloc(entries, sizeof *e->cache);
    e->cache_mask = entries - 1;
    return e->cache ? 0 : GM_ENOMEM;
}

static void encoder_finish(encoder *e) {
    gm_free(e->cache);
    gm_free(e->sym);
    gm_free(e->heap);
}

int gm_encode(const gm_vocab *v, const char *text, size_t n, unsigned flags,
              const gm_cancel *cancel, gm_ids *out) {
    size_t before = out->n;
    bool special = flags & GM_ENC_SPECIAL;
    encoder e;
    int rc = encoder_init(&e, v, n, cancel, out);
    if (!rc && (flags & GM_ENC_BOS) && v->ids.bos >= 0 &&
        !(special && begins_with_bos(v, text, n))) {
        rc = gm_ids_push(out, v->ids.bos);
    }
    if (!rc) {
        rc =
            special ? encode_markup(&e, text, n) : encode_plain(&e, (const unsigned char *)text, n);
    }
    encoder_finish(&e);
    if (rc) out->n = before;
    return rc;
}
