/* heal.c: tokens in the order of their bytes, so that all that begin alike stand together. */
#include "engine/heal.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "tokenizer/utf8.h"

enum {
    MAX_BACK = 4,        /* tokens taken back: an identifier in several pieces, not a line */
    MAX_BACK_BYTES = 256 /* what they may spell together */
};

typedef struct {
    uint32_t at; /* offset into text */
    uint32_t n;  /* bytes, > 0 */
    int32_t id;
} entry;

struct gm_heal_index {
    const gm_vocab *vocab;
    gm_bytes text;
    entry *e; /* [n], by bytes */
    size_t n;
    size_t longest;       /* bytes */
    int32_t byte_id[256]; /* byte tokens; -1 where there is none */
};

static int compare(const char *a, size_t na, const char *b, size_t nb) {
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static int by_bytes(const void *va, const void *vb, void *text) {
    const entry *a = va, *b = vb;
    const char *t = text;
    int c = compare(t + a->at, a->n, t + b->at, b->n);
    return c ? c : (a->id > b->id) - (a->id < b->id);
}

/* Merge sort over a second array: the C library's qsort takes no argument and its qsort_r is not
 * everywhere. src and dst hold the same entries; the sorted ones come to stand in dst. */
static void sort_entries(entry *dst, entry *src, size_t n, char *text) {
    if (n < 2) return;
    size_t half = n / 2;
    sort_entries(src, dst, half, text);
    sort_entries(src + half, dst + half, n - half, text);
    size_t a = 0, b = half;
    for (size_t i = 0; i < n; i++) {
        bool first = b == n || (a < half && by_bytes(&src[a], &src[b], text) <= 0);
        dst[i] = first ? src[a++] : src[b++];
    }
}

/* Only ordinary tokens can be part of what somebody types; byte tokens are the last resort and
 * kept apart, since the model does not use them for characters that have a token. */
static int add_token(gm_heal_index *x, int32_t id) {
    char buf[512];
    size_t n = gm_vocab_bytes(x->vocab, id, false, buf, sizeof buf);
    gm_tok_type type = gm_vocab_type(x->vocab, id);
    if (type == GM_TOK_BYTE && n == 1) x->byte_id[(unsigned char)buf[0]] = id;
    if (type != GM_TOK_NORMAL || n == 0 || n > sizeof buf) return GM_OK;
    if (x->text.n + n > UINT32_MAX) return GM_EUNSUPPORTED;
    x->e[x->n++] = (entry){(uint32_t)x->text.n, (uint32_t)n, id};
    if (n > x->longest) x->longest = n;
    return gm_bytes_append(&x->text, buf, n);
}

int gm_heal_index_create(gm_heal_index **out, const gm_vocab *vocab) {
    *out = NULL;
    int32_t n_vocab = gm_vocab_size(vocab);
    entry *copy = NULL;
    gm_heal_index *x = gm_calloc(1, sizeof *x);
    if (!x) return GM_ENOMEM;
    int rc = GM_OK;
    x->vocab = vocab;
    for (int b = 0; b < 256; b++) x->byte_id[b] = -1;
    x->e = gm_malloc((size_t)n_vocab, sizeof *x->e);
    if (!x->e) rc = GM_ENOMEM;
    for (int32_t id = 0; rc == GM_OK && id < n_vocab; id++) rc = add_token(x, id);
    if (rc == GM_OK && !(copy = gm_malloc(x->n, sizeof *copy))) rc = GM_ENOMEM;
    if (rc == GM_OK) {
        memcpy(copy, x->e, x->n * sizeof *copy);
        sort_entries(x->e, copy, x->n, x->text.p);
        *out = x;
        x = NULL;
    }
    gm_free(copy);
    gm_heal_index_destroy(&x);
    return rc;
}

void gm_heal_index_destroy(gm_heal_index **x) {
    if (!x || !*x) return;
    gm_bytes_finish(&(*x)->text);
    gm_free((*x)->e);
    gm_free(*x);
    *x = NULL;
}

/* ---- taking back ----------------------------------------------------------------------------- */

static bool is_word(unsigned char c) {
    return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
}

/* Complete UTF-8. The detokeniser repairs anything else, and then bytes could not be counted off
 * its output. */
static bool whole_utf8(const char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = gm_utf8_next((const unsigned char *)p + i, n - i, &cp);
        if (len == 0) return false;
        i += len;
    }
    return true;
}

/* Whether a cut before text.p[at] is one between words. */
static bool word_begins(gm_str text, size_t at) {
    return at == 0 || !is_word((unsigned char)text.p[at - 1]) ||
           !is_word((unsigned char)text.p[at]);
}

/* Bytes of tail that the last `back` tokens spell, or SIZE_MAX when they do not. */
static size_t spelled(const gm_heal_index *x, const int32_t *ids, size_t n, gm_str tail) {
    char buf[MAX_BACK_BYTES];
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        gm_tok_type type = gm_vocab_type(x->vocab, ids[i]);
        if (type != GM_TOK_NORMAL && type != GM_TOK_BYTE) return SIZE_MAX;
        size_t len = gm_vocab_bytes(x->vocab, ids[i], false, buf + total, sizeof buf - total);
        if (len > sizeof buf - total) return SIZE_MAX;
        total += len;
    }
    bool same = total <= tail.n && total > 0 && memcmp(tail.p + tail.n - total, buf, total) == 0;
    return same ? total : SIZE_MAX;
}

int gm_heal_init(gm_heal *h, const gm_heal_index *index, const int32_t *ids, size_t *n,
                 gm_str tail) {
    *h = (gm_heal){.index = index};
    size_t take = 0, bytes = 0;
    for (size_t back = 1; back <= MAX_BACK && back < *n; back++) {
        size_t b = spelled(index, ids + *n - back, back, tail);
        if (b == SIZE_MAX) break;
        if (!whole_utf8(tail.p + tail.n - b, b)) continue;
        take = back;
        bytes = b;
        if (word_begins(tail, tail.n - b)) break;
    }
    if (take == 0) return GM_OK;
    size_t words = ((size_t)gm_vocab_size(index->vocab) + 31) / 32;
    h->mask = gm_calloc(words, sizeof *h->mask);
    int rc = h->mask ? gm_bytes_append(&h->forced, tail.p + tail.n - bytes, bytes) : GM_ENOMEM;
    if (rc < 0) {
        gm_heal_finish(h);
        return rc;
    }
    *n -= take;
    return GM_OK;
}

void gm_heal_finish(gm_heal *h) {
    gm_bytes_finish(&h->forced);
    gm_free(h->mask);
    *h = (gm_heal){0};
}

/* ---- masks ----------------------------------------------------------------------------------- */

static void allow(uint32_t *mask, int32_t id) { mask[id / 32] |= 1u << (id % 32); }

/* First entry that is not before p[n]; with `past`, first that does not begin with it either. */
static size_t lower_bound(const gm_heal_index *x, const char *p, size_t n, bool past) {
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const entry *e = &x->e[mid];
        const char *t = x->text.p + e->at;
        int c = compare(t, past && e->n > n ? n : e->n, p, n);
        if (c < 0 || (past && c == 0)) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

const uint32_t *gm_heal_mask(gm_heal *h) {
    if (!gm_heal_active(h)) return NULL;
    const gm_heal_index *x = h->index;
    const char *p = h->forced.p + h->used;
    size_t n = h->forced.n - h->used;
    memset(h->mask, 0, ((size_t)gm_vocab_size(x->vocab) + 31) / 32 * sizeof *h->mask);
    size_t from = lower_bound(x, p, n, false), to = lower_bound(x, p, n, true);
    size_t found = to - from;
    for (size_t i = from; i < to; i++) allow(h->mask, x->e[i].id);
    for (size_t len = 1; len < n && len <= x->longest; len++)
        for (size_t i = lower_bound(x, p, len, false); i < x->n && x->e[i].n == len; i++) {
            if (memcmp(x->text.p + x->e[i].at, p, len) != 0) break;
            allow(h->mask, x->e[i].id);
            found++;
        }
    int32_t byte = x->byte_id[(unsigned char)p[0]];
    if (found == 0 && byte >= 0) allow(h->mask, byte);
    return h->mask;
}

void gm_heal_accept(gm_heal *h, int32_t id) {
    char buf[512];
    if (!gm_heal_active(h)) return;
    size_t n = gm_vocab_bytes(h->index->vocab, id, false, buf, sizeof buf);
    size_t left = h->forced.n - h->used;
    h->used += n < left ? n : left;
    /* A token without bytes can only come where no token agrees; healing ends rather than wait
     * for ever. */
    if (n == 0) h->used = h->forced.n;
}
