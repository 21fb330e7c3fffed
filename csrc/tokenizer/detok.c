/* detok.c: bytes of tokens in, whole characters out.
 *
 * Holds at most the three first bytes of a character. What it hands on is always valid UTF-8:
 * the longest beginning of a character that does not go on becomes one U+FFFD, as browsers do.
 */
#include "tokenizer/detok.h"

#include "base/err.h"
#include "tokenizer/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

void gm_detok_init(gm_detok *d, const gm_vocab *v, bool control) {
    *d = (gm_detok){.vocab = v, .control = control};
}

/* Whether b continues what is held. */
static bool continues(const gm_detok *d, unsigned char b) {
    if (d->n_held == 1) return gm_utf8_second(d->held[0], b);
    return (b & 0xC0) == 0x80;
}

/* Takes one byte. Writes at most 6 bytes to dst (a replacement and a character of one byte, or a
 * character of four) and returns how many. */
static size_t take(gm_detok *d, unsigned char b, char *dst) {
    size_t n = 0;
    if (d->n_held && !continues(d, b)) {
        for (int i = 0; i < 3; i++) dst[n++] = REPLACEMENT[i];
        d->n_held = 0;
    }
    if (d->n_held == 0) {
        unsigned need = gm_utf8_need(b);
        if (need == 1) {
            dst[n++] = (char)b;
        } else if (need == 0) {
            for (int i = 0; i < 3; i++) dst[n++] = REPLACEMENT[i];
        } else {
            d->held[d->n_held++] = b;
        }
        return n;
    }
    d->held[d->n_held++] = b;
    if (d->n_held == gm_utf8_need(d->held[0])) {
        for (unsigned i = 0; i < d->n_held; i++) dst[n++] = (char)d->held[i];
        d->n_held = 0;
    }
    return n;
}

/* Appends the bytes of one token as they are. */
static int append_raw(const gm_vocab *v, int32_t id, bool control, gm_bytes *out) {
    size_t n = gm_vocab_bytes(v, id, control, NULL, 0);
    if (n == 0) return 0; /* out->p may be NULL */
    int rc = gm_bytes_reserve(out, n);
    if (rc) return rc;
    out->n += gm_vocab_bytes(v, id, control, out->p + out->n, n);
    return 0;
}

int gm_detok_push(gm_detok *d, int32_t id, gm_bytes *out) {
    /* Fits every token of honest vocabularies; longer ones take the slower way below. */
    char text[256];
    size_t n = gm_vocab_bytes(d->vocab, id, d->control, text, sizeof text);
    gm_bytes big = {0};
    const char *p = text;
    int rc = 0;
    if (n > sizeof text) {
        if ((rc = append_raw(d->vocab, id, d->control, &big))) goto end;
        p = big.p;
    }
    /* Each byte gives at most itself or a replacement, and what was held one more. */
    if ((rc = gm_bytes_reserve(out, 3 * n + 6))) goto end;
    for (size_t i = 0; i < n; i++) out->n += take(d, (unsigned char)p[i], out->p + out->n);
end:
    gm_bytes_finish(&big);
    return rc;
}

int gm_detok_flush(gm_detok *d, gm_bytes *out) {
    if (d->n_held == 0) return 0;
    int rc = gm_bytes_append(out, REPLACEMENT, 3);
    if (!rc) d->n_held = 0;
    return rc;
}

int gm_detok_raw(const gm_vocab *v, const int32_t *ids, size_t n, bool control, gm_bytes *out) {
    size_t before = out->n;
    for (size_t i = 0; i < n; i++) {
        int rc = append_raw(v, ids[i], control, out);
        if (rc) {
            out->n = before;
            return rc;
        }
    }
    return 0;
}
