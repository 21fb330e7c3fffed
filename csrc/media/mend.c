/* mend.c: see mend.h. */
#include "media/mend.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/avlib.h"
#include "media/decode.h"
#include "media/exif.h"

/* Behind the blocks of data at i; beyond n when they are cut off. */
static size_t gif_blocks_end(const uint8_t *p, size_t n, size_t i) {
    while (i < n && p[i] != 0) i += 1 + (size_t)p[i];
    return i + 1;
}

/* Where the first picture of an animation lies on its canvas. w 0: there is no canvas. */
typedef struct {
    int32_t x, y, w, h;
    uint8_t around[3];
} place;

static int32_t u16(const uint8_t *p) { return (int32_t)gm_uint_at(p, 2, false); }

/* Makes the first picture of a GIF the whole of it, and takes its transparency away: its colours
 * count, as with alpha. Around it is the transparent colour or the first one, and a picture larger
 * than its canvas widens it, as the reference's reader has it. False: the picture is cut off, which
 * the decoder would not tell. */
static bool gif_first_frame(uint8_t *p, size_t n, place *at) {
    if (n < 13) return false;
    const uint8_t *colours = p + 13;
    size_t i = 13 + (p[10] & 0x80 ? (size_t)6 << (p[10] & 7) : 0), around = 0;
    size_t n_colour = (i - 13) / 3;
    while (i + 8 <= n && p[i] == 0x21) { /* extensions in front of it */
        if (p[i + 1] == 0xf9 && p[i + 3] & 1) around = p[i + 6];
        if (p[i + 1] == 0xf9) p[i + 3] &= 0xfe;
        i = gif_blocks_end(p, n, i + 2);
    }
    if (i + 11 > n || p[i] != 0x2c) return false;
    uint8_t *const box = p + i + 1; /* its place, two bytes each of x, y, width, height */
    i += 11;
    if (box[8] & 0x80) {
        n_colour = (size_t)2 << (box[8] & 7);
        colours = p + i - 1;
        i += 3 * n_colour;
    }
    if (gif_blocks_end(p, n, i) > n) return false;
    const int32_t w = u16(p + 6), h = u16(p + 8);
    *at = (place){.x = u16(box), .y = u16(box + 2)};
    at->w = at->x + u16(box + 4);
    at->h = at->y + u16(box + 6);
    if (at->w < w) at->w = w;
    if (at->h < h) at->h = h;
    if (around < n_colour) memcpy(at->around, colours + 3 * around, 3);
    memcpy(p + 6, box + 4, 4);
    memset(box, 0, 4);
    return true;
}

/* The picture of the first ANMF chunk as a file of its own, over p. Its alpha stays behind. Returns
 * the new length, or n when p holds no animation. */
static size_t webp_first_frame(uint8_t *p, size_t n, place *out) {
    place at = {0};
    for (size_t i = 12; i + 24 <= n;) {
        const size_t len = gm_uint_at(p + i + 4, 4, false), end = i + 8 + len;
        if (len > n - i - 8) return n;
        if (memcmp(p + i, "VP8X", 4) == 0) {
            at.w = 1 + (int32_t)gm_uint_at(p + i + 12, 3, false);
            at.h = 1 + (int32_t)gm_uint_at(p + i + 15, 3, false);
        }
        const bool anmf = memcmp(p + i, "ANMF", 4) == 0;
        /* of the chunk that is ANMF in the end */
        at.x = 2 * (int32_t)gm_uint_at(p + i + 8, 3, false);
        at.y = 2 * (int32_t)gm_uint_at(p + i + 11, 3, false);
        for (size_t k = i + 24; anmf && k + 8 <= end;) {
            const size_t size = gm_uint_at(p + k + 4, 4, false);
            if (size > end - k - 8) return n;
            if (memcmp(p + k, "VP8", 3) == 0) {
                memmove(p + 12, p + k, 8 + size);
                n = 12 + 8 + size;
                if (n & 1) p[n++] = 0; /* chunks begin at even places; there was a header more */
                for (int b = 0; b < 4; b++) p[4 + b] = (uint8_t)((n - 8) >> 8 * b);
                *out = at;
                return n;
            }
            k += 8 + size + (size & 1);
        }
        if (anmf) return n;
        i = end + (len & 1);
    }
    return n;
}

/* Encoders cut the first picture to what is not transparent. The rest of a WebP's canvas is
 * transparent black, as libwebp begins it, whatever the file's own background. */
static int put_on_canvas(gm_image *img, const place *at, char *err, size_t errlen) {
    if (at->w == 0 || (at->w == img->w && at->h == img->h)) return 0;
    const int fits = gm_image_check(at->w, at->h, err, errlen);
    if (fits) return fits;
    if (at->x > at->w - img->w || at->y > at->h - img->h)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "picture: damaged, a frame is larger than the animation");
    const size_t n = (size_t)at->w * (size_t)at->h;
    uint8_t *rgb = gm_malloc(n, 3);
    if (!rgb) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
    for (size_t i = 0; i < n; i++) memcpy(rgb + 3 * i, at->around, 3);
    for (int32_t y = 0; y < img->h; y++)
        memcpy(rgb + ((size_t)(at->y + y) * (size_t)at->w + (size_t)at->x) * 3,
               img->rgb + (size_t)y * (size_t)img->w * 3, (size_t)img->w * 3);
    gm_free(img->rgb);
    *img = (gm_image){rgb, at->w, at->h};
    return 0;
}

/* Bytes up to the end of the last row of an uncompressed BMP, its padding left out; FFmpeg reads
 * one that is shorter as if no row were padded. 0: another kind of BMP. */
static uint64_t bmp_bytes(const uint8_t *p, size_t n) {
    if (n < 34 || gm_uint_at(p + 14, 4, false) < 40) return 0;
    const uint32_t how = gm_uint_at(p + 30, 4, false), bits = gm_uint_at(p + 28, 2, false);
    const int32_t high = (int32_t)gm_uint_at(p + 22, 4, false);
    const uint64_t w = gm_uint_at(p + 18, 4, false),
                   h = (uint64_t)(high < 0 ? -(int64_t)high : high);
    if ((how != 0 && how != 3) || h == 0) return 0;
    return gm_uint_at(p + 10, 4, false) + (w * bits + 31) / 32 * 4 * (h - 1) + (w * bits + 7) / 8;
}

/* A copy in which that is put right. Not every decoder tells that a file is cut off. */
static int decode_mended(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                         const gm_cancel *cancel, char *err, size_t errlen) {
    enum { TAIL = 3 }; /* the padding of a BMP's last row, which some writers leave out */
    const bool gif = strcmp(codec, "gif") == 0, webp = strcmp(codec, "webp") == 0;
    uint8_t *copy = gm_calloc(n + TAIL, 1);
    if (!copy) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
    memcpy(copy, p, n);
    place at = {0};
    const bool whole = gif ? gif_first_frame(copy, n, &at) : webp || bmp_bytes(p, n) <= n;
    if (webp) n = webp_first_frame(copy, n, &at);
    else if (!gif) n += TAIL;
    const int rc = whole ? gm_avlib_image(codec, copy, n, out, cancel, err, errlen)
                         : gm_fail(err, errlen, GM_EFORMAT, "picture: damaged or cut off");
    gm_free(copy);
    return rc ? rc : put_on_canvas(out, &at, err, errlen);
}

static int decode_tiff(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel,
                       char *err, size_t errlen) {
    const int how = gm_tiff_tag(p, n, GM_TIFF_COMPRESSION, 1);
    if (how == 6 || how == 7) /* FFmpeg takes its colours for RGB */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF with a JPEG inside cannot be read; save it as PNG");
    const int bits = gm_tiff_tag(p, n, GM_TIFF_BITS, 1),
              format = gm_tiff_tag(p, n, GM_TIFF_SAMPLE_FORMAT, 1);
    if (format == 3 || (format == 2 && bits > 8)) /* it takes them for unsigned integers */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF with %s values cannot be read; save it as PNG",
                       format == 3 ? "floating-point" : "signed");
    if (gm_tiff_tag(p, n, GM_TIFF_TILE_WIDTH, 1) != 1) /* it makes them black */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF in tiles cannot be read; save it as PNG");
    const bool cmyk = gm_tiff_tag(p, n, GM_TIFF_PHOTOMETRIC, 1) == 5;
    if (cmyk && (gm_tiff_tag(p, n, GM_TIFF_PLANAR, 1) == 2 || (bits == 16 && p[0] == 'I')))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, /* it makes a negative of them */
                       "a TIFF with CMYK of this kind cannot be read; save it as PNG");
    const int rc = gm_avlib_image("tiff", p, n, out, cancel, err, errlen);
    if (rc != GM_EFORMAT || bits <= 16) return rc; /* the decoder calls more bits damage */
    return gm_fail(err, errlen, GM_EUNSUPPORTED,
                   "a TIFF with %d bits for each value cannot be read; save it as PNG", bits);
}

/* What a JPEG's markers tell. */
typedef struct {
    size_t scans, colours;
    bool adobe; /* what four colours are is told */
} jpeg_marks;

static bool is_frame(uint8_t mark) {
    return mark >= 0xc0 && mark <= 0xcf && mark != 0xc4 && mark != 0xc8 && mark != 0xcc;
}

/* A marker with a length follows each scan's bytes, in which 0xff stands before 0 or a restart
 * only. */
static jpeg_marks read_marks(const uint8_t *p, size_t n) {
    jpeg_marks m = {0};
    for (size_t i = 2; i + 4 <= n;) {
        const uint8_t mark = p[i + 1];
        if (p[i] != 0xff || mark == 0xff) {
            i++;
        } else if (mark == 0 || (mark >= 0xd0 && mark <= 0xd7)) {
            i += 2;
        } else if (mark == 0xd9) {
            break;
        } else {
            m.scans += mark == 0xda;
            if (is_frame(mark) && i + 9 < n) m.colours = p[i + 9];
            if (mark == 0xee && i + 9 <= n && memcmp(p + i + 4, "Adobe", 5) == 0) m.adobe = true;
            i += 2 + ((size_t)p[i + 2] << 8 | p[i + 3]);
        }
    }
    return m;
}

/* A scan of a few bytes can cost a pass over the whole picture, which nothing interrupts; encoders
 * write a dozen. */
enum { JPEG_MAX_SCANS = 128 };

/* FFmpeg takes four colours without Adobe's mark for luma, colour and alpha. The reference's reader
 * takes them for CMYK, and as with the mark. */
static int decode_marked(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel,
                         char *err, size_t errlen) {
    enum { BEGIN = 2 };
    static const uint8_t mark[] = {0xff, 0xee, 0,   14, 'A', 'd', 'o', 'b',
                                   'e',  0,    100, 0,  0,   0,   0,   0};
    uint8_t *copy = gm_malloc(n + sizeof mark, 1);
    if (!copy) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
    memcpy(copy, p, BEGIN);
    memcpy(copy + BEGIN, mark, sizeof mark);
    memcpy(copy + BEGIN + sizeof mark, p + BEGIN, n - BEGIN);
    const int rc = gm_avlib_image("mjpeg", copy, n + sizeof mark, out, cancel, err, errlen);
    gm_free(copy);
    return rc;
}

static int decode_jpeg(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel,
                       char *err, size_t errlen) {
    const jpeg_marks marks = read_marks(p, n);
    if (marks.scans > JPEG_MAX_SCANS)
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a JPEG of more than %d scans cannot be read; save it as PNG",
                       JPEG_MAX_SCANS);
    if (marks.colours == 4 && !marks.adobe) return decode_marked(p, n, out, cancel, err, errlen);
    return gm_avlib_image("mjpeg", p, n, out, cancel, err, errlen);
}

int gm_mend_image(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                  const gm_cancel *cancel, char *err, size_t errlen) {
    if (strcmp(codec, "mjpeg") == 0) return decode_jpeg(p, n, out, cancel, err, errlen);
    if (strcmp(codec, "tiff") == 0) return decode_tiff(p, n, out, cancel, err, errlen);
    if (strcmp(codec, "gif") == 0 || strcmp(codec, "webp") == 0 || strcmp(codec, "bmp") == 0)
        return decode_mended(codec, p, n, out, cancel, err, errlen);
    return gm_avlib_image(codec, p, n, out, cancel, err, errlen);
}
