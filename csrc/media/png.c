/* png.c: chunks, passes and colours; see png.h. The row filters are in unfilter.c. */
#include "media/png.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/decode.h"
#include "media/inflate.h"
#include "media/unfilter.h"

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGBA = 6 };

typedef struct {
    int32_t w, h;
    int depth, color, channels;
    bool adam7;
    size_t pixel_bits;
    uint8_t palette[256][3]; /* black where the file has none */
    const uint8_t *file, *end;
    size_t n_idat; /* bytes of all IDAT chunks together */
} png;

/* One picture of an interlaced file, or the whole one. */
typedef struct {
    int32_t x, y, dx, dy; /* where its pixels are in the whole */
} pass;

static const pass whole = {0, 0, 1, 1};
static const pass adam7[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                              {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

static uint32_t big32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int damaged(char *err, size_t errlen) {
    return gm_fail(err, errlen, GM_EFORMAT, "picture: damaged or cut off");
}

/* ---- chunks -------------------------------------------------------------------------------- */

/* The chunk at *at; moves on behind it. A last chunk that is cut off is as long as there are
 * bytes. */
static const uint8_t *next_chunk(const png *f, const uint8_t **at, const char **id, size_t *n) {
    const uint8_t *p = *at;
    if (f->end - p < 8) return NULL;
    const size_t left = (size_t)(f->end - p) - 8, len = big32(p);
    *id = (const char *)p + 4;
    *n = len < left ? len : left;
    *at = left - *n >= 4 ? p + 8 + *n + 4 : f->end;
    return p + 8;
}

static int read_header(png *f, const uint8_t *p, size_t n, char *err, size_t errlen) {
    static const uint8_t channels[7] = {1, 0, 3, 1, 2, 0, 4};
    static const uint8_t depths[7] = {31, 0, 24, 15, 24, 0, 24}; /* sets of 1, 2, 4, 8, 16 */
    if (n < 13) return damaged(err, errlen);
    const uint32_t w = big32(p), h = big32(p + 4);
    f->depth = p[8];
    f->color = p[9];
    f->adam7 = p[12] == 1;
    const bool power = f->depth && f->depth <= 16 && (f->depth & (f->depth - 1)) == 0;
    if (w - 1 >= INT32_MAX || h - 1 >= INT32_MAX || !power || f->color > 6 || p[12] > 1 ||
        !(depths[f->color] & f->depth))
        return damaged(err, errlen);
    const int fits = gm_image_check((int32_t)w, (int32_t)h, err, errlen);
    if (fits) return fits;
    const uint64_t bits = (uint64_t)w * h * channels[f->color] * f->depth;
    if (bits >> 23 > GM_MEDIA_MAX_MIB) /* of deep pixels a thousandth of it may be the whole file */
        return gm_fail(err, errlen, GM_ETOOLONG, "a picture of %d x %d x %d bits is too large",
                       (int)w, (int)h, channels[f->color] * f->depth);
    f->w = (int32_t)w;
    f->h = (int32_t)h;
    f->channels = channels[f->color];
    f->pixel_bits = (size_t)f->channels * (size_t)f->depth;
    return 0;
}

static int read_chunks(png *f, const uint8_t *p, size_t n, char *err, size_t errlen) {
    f->file = p;
    f->end = p + n;
    const uint8_t *at = p + 8, *body;
    const char *id;
    size_t len;
    while ((body = next_chunk(f, &at, &id, &len))) {
        if (f->w == 0) { /* the header comes first */
            const int rc = memcmp(id, "IHDR", 4) == 0 ? read_header(f, body, len, err, errlen)
                                                      : damaged(err, errlen);
            if (rc) return rc;
        } else if (memcmp(id, "PLTE", 4) == 0) {
            memcpy(f->palette, body, len < sizeof f->palette ? len / 3 * 3 : sizeof f->palette);
        } else if (memcmp(id, "IDAT", 4) == 0) {
            f->n_idat += len;
        } else if (memcmp(id, "IEND", 4) == 0) {
            break;
        }
    }
    return f->n_idat ? 0 : damaged(err, errlen);
}

static void join_idat(const png *f, uint8_t *out) {
    const uint8_t *at = f->file + 8, *body;
    const char *id;
    size_t len, n = 0;
    while (n < f->n_idat && (body = next_chunk(f, &at, &id, &len))) {
        if (memcmp(id, "IDAT", 4) != 0) continue;
        memcpy(out + n, body, len);
        n += len;
    }
}

/* ---- passes -------------------------------------------------------------------------------- */

static int32_t pass_w(const png *f, const pass *s) { return (f->w - s->x + s->dx - 1) / s->dx; }
static int32_t pass_h(const png *f, const pass *s) { return (f->h - s->y + s->dy - 1) / s->dy; }
static size_t row_bytes(const png *f, int32_t w) { return ((size_t)w * f->pixel_bits + 7) / 8; }

/* Bytes of a pass in the stream: a filter in front of each row. 2^27 pixels of 8 bytes at most. */
static size_t pass_bytes(const png *f, const pass *s) {
    const int32_t w = pass_w(f, s), h = pass_h(f, s);
    return w < 1 || h < 1 ? 0 : (size_t)h * (1 + row_bytes(f, w));
}

/* RGB of the upper 8 bits of n pixels; `to` moves on by 3 * dx for each. */
static void row_to_rgb(const png *f, const uint8_t *row, int32_t n, uint8_t *to, int32_t dx) {
    const size_t step = (size_t)dx * 3;
    if (f->depth < 8) {
        const int depth = f->depth, max = (1 << depth) - 1;
        for (int32_t i = 0; i < n; i++, to += step) {
            const int64_t bit = (int64_t)i * depth;
            const int v = row[bit >> 3] >> (8 - depth - (bit & 7)) & max;
            if (f->color == PALETTE) memcpy(to, f->palette[v], 3);
            else memset(to, v * 255 / max, 3);
        }
        return;
    }
    const size_t wide = f->depth == 16 ? 2 : 1, pixel = f->pixel_bits / 8;
    for (int32_t i = 0; i < n; i++, row += pixel, to += step) {
        if (f->color == PALETTE) {
            memcpy(to, f->palette[row[0]], 3);
        } else if (f->color == GREY || f->color == GREY_ALPHA) {
            to[0] = to[1] = to[2] = row[0];
        } else {
            to[0] = row[0];
            to[1] = row[wide];
            to[2] = row[2 * wide];
        }
    }
}

/* The rows of a pass, unfiltered in place, into the picture. raw is GM_UNFILTER_PAD more than its
 * bytes. Rows of RGB may go to where raw is: they are shorter by the filter. */
static int read_pass(const png *f, const pass *s, uint8_t *raw, uint8_t *rgb,
                     const gm_cancel *cancel) {
    const int32_t w = pass_w(f, s), h = pass_h(f, s);
    const size_t n = row_bytes(f, w), pixel = f->pixel_bits < 8 ? 1 : f->pixel_bits / 8;
    const bool plain = f->color == RGB && f->depth == 8 && s->dx == 1;
    const uint8_t *above = NULL;
    for (int32_t y = 0; y < h; y++, raw += n + 1) {
        uint8_t *const to = rgb + ((size_t)(s->y + y * s->dy) * (size_t)f->w + (size_t)s->x) * 3;
        if (gm_unfilter(raw[0], raw + 1, above, n, pixel)) return GM_EFORMAT;
        if (plain) memmove(to, raw + 1, n);
        else row_to_rgb(f, raw + 1, w, to, s->dx);
        above = plain ? to : raw + 1;
        if ((y & 63) == 0 && gm_cancelled(cancel)) return GM_ECANCELLED;
    }
    return 0;
}

/* The compressed bytes become rows with their filters. */
static int inflate_rows(const png *f, size_t n_raw, uint8_t **raw, const gm_cancel *cancel) {
    if (f->n_idat < n_raw / GM_INFLATE_RATIO) return GM_EFORMAT; /* before anything is allocated */
    uint8_t *in = gm_malloc(f->n_idat, 1);
    *raw = gm_malloc(n_raw + GM_UNFILTER_PAD, 1);
    int rc = in && *raw ? 0 : GM_ENOMEM;
    if (!rc) {
        join_idat(f, in);
        rc = gm_inflate(in, f->n_idat, *raw, n_raw, cancel);
    }
    gm_free(in);
    return rc;
}

int gm_png_decode(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel, char *err,
                  size_t errlen) {
    png f = {0};
    uint8_t *raw = NULL;
    memset(out, 0, sizeof *out);
    if (n < 8) return damaged(err, errlen);
    int rc = read_chunks(&f, p, n, err, errlen);
    if (rc) return rc;
    const pass *const passes = f.adam7 ? adam7 : &whole;
    const int n_pass = f.adam7 ? 7 : 1;
    size_t n_raw = 0;
    for (int i = 0; i < n_pass; i++) n_raw += pass_bytes(&f, &passes[i]);
    rc = inflate_rows(&f, n_raw, &raw, cancel);
    const bool in_place = !f.adam7 && f.color == RGB && f.depth == 8;
    uint8_t *const rgb = in_place ? raw : gm_malloc((size_t)f.w * (size_t)f.h, 3);
    if (!rc && !rgb) rc = GM_ENOMEM;
    size_t at = 0;
    for (int i = 0; !rc && i < n_pass; i++) {
        if (pass_bytes(&f, &passes[i]) == 0) continue;
        rc = read_pass(&f, &passes[i], raw + at, rgb, cancel);
        at += pass_bytes(&f, &passes[i]);
    }
    if (!in_place) gm_free(raw);
    if (!rc) {
        *out = (gm_image){rgb, f.w, f.h};
        return 0;
    }
    gm_free(rgb);
    return rc == GM_EFORMAT ? damaged(err, errlen)
                            : gm_fail(err, errlen, rc, "picture: %s", gm_err_text(rc));
}
