/* decode.c: sniffing, the WAV reader, what EXIF says of orientation; see decode.h. */
#include "media/decode.h"

#include <string.h>
#include "base/cursor.h"
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "media/avlib.h"
#include "media/inflate.h"
#include "media/png.h"
#include "media/resample.h"
#include "media/turn.h"

int gm_image_check(int32_t w, int32_t h, char *err, size_t errlen) {
    if (w > 0 && h > 0 && (int64_t)w * h <= (int64_t)GM_IMAGE_MAX_MPIXEL << 20) return 0;
    return gm_fail(err, errlen, GM_ETOOLONG, "a picture of %d x %d pixels is too large (%d Mpx)", w,
                   h, GM_IMAGE_MAX_MPIXEL);
}

/* ---- WAV --------------------------------------------------------------------------------- */

typedef struct {
    uint32_t format, n_ch, rate, align, bits; /* align: bytes of a frame */
} wav_format;

enum { WAV_PCM = 1, WAV_FLOAT = 3, WAV_EXTENSIBLE = 0xfffe };

static void read_format(gm_cursor c, wav_format *f) {
    f->format = gm_cursor_u16(&c);
    f->n_ch = gm_cursor_u16(&c);
    f->rate = gm_cursor_u32(&c);
    gm_cursor_u32(&c); /* bytes per second */
    f->align = gm_cursor_u16(&c);
    f->bits = gm_cursor_u16(&c);
    if (f->format == WAV_EXTENSIBLE) {
        gm_cursor_take(&c, 8);         /* extension size, valid bits, channel mask */
        f->format = gm_cursor_u16(&c); /* the sub-format's GUID begins with the old number */
    }
    if (c.bad) f->format = 0;
}

static float wav_sample(const wav_format *f, const uint8_t *p) {
    if (f->format == WAV_FLOAT) {
        float v;
        double d;
        if (f->bits == 32) return memcpy(&v, p, sizeof v), v;
        return memcpy(&d, p, sizeof d), (float)d;
    }
    if (f->bits == 8) return (float)(p[0] - 128) / 128.0f; /* the one unsigned width */
    uint32_t u = 0; /* left-justified, so that the sign comes by itself */
    for (uint32_t i = 0; i < f->bits / 8; i++) u |= (uint32_t)p[i] << (32 - f->bits + 8 * i);
    return (float)(int32_t)u / 2147483648.0f;
}

static bool wav_supported(const wav_format *f) {
    if (f->n_ch < 1 || f->n_ch > 64) return false;
    if (f->format == WAV_PCM)
        return f->bits == 8 || f->bits == 16 || f->bits == 24 || f->bits == 32;
    return f->format == WAV_FLOAT && (f->bits == 32 || f->bits == 64);
}

/* 64-bit sizes of RF64 (EBU Tech 3306): of the file, of the samples. 0: not told. */
static uint64_t read_long_size(gm_cursor c) {
    gm_cursor_take(&c, 8);
    return gm_cursor_u64(&c);
}

static int too_long(char *err, size_t errlen) {
    return gm_fail(err, errlen, GM_ETOOLONG, "the recording is longer than %d seconds; cut it",
                   GM_SOUND_MAX_SECONDS);
}

int gm_decode_wav(const uint8_t *p, size_t n, gm_samples *out, const gm_cancel *cancel, char *err,
                  size_t errlen) {
    gm_cursor c = {.p = p, .n = n};
    wav_format f = {0};
    const uint8_t *data = NULL;
    size_t n_data = 0;
    uint64_t n_long = 0;
    memset(out, 0, sizeof *out);
    gm_cursor_take(&c, 4); /* RIFF and WAVE were seen by the caller */
    const bool closed = gm_cursor_u32(&c) == n - 8;
    gm_cursor_take(&c, 4);
    while (!data && !c.bad && c.n - c.pos >= 8) {
        const uint8_t *id = gm_cursor_take(&c, 4);
        uint32_t size = gm_cursor_u32(&c);
        const size_t left = c.n - c.pos;
        if (memcmp(id, "data", 4) == 0) {
            /* Recorders that were killed leave 0 or 2^32 - 1 here: take what there is. Where the
             * file's own size is right, so is the 0. RF64 tells in front what lies behind its 2^32
             * - 1. */
            const uint64_t told = size == UINT32_MAX && n_long > 0 ? n_long : size;
            data = c.p + c.pos;
            n_data = (told == 0 && !closed) || told > left ? left : (size_t)told;
        } else {
            if (memcmp(id, "fmt ", 4) == 0 && size <= left)
                read_format((gm_cursor){.p = c.p + c.pos, .n = size}, &f);
            if (memcmp(id, "ds64", 4) == 0 && size <= left)
                n_long = read_long_size((gm_cursor){.p = c.p + c.pos, .n = size});
            gm_cursor_take(&c, (uint64_t)size + (size & 1));
        }
    }
    if (!data || !wav_supported(&f))
        return gm_fail(err, errlen, data ? GM_EUNSUPPORTED : GM_EFORMAT,
                       data ? "WAV format %u with %u bits is not supported"
                            : "no sound in the file",
                       f.format, f.bits);
    /* FFmpeg takes them for the floats of an old editor, other readers for integers: noise to one
     * of them. */
    if (f.format == WAV_PCM && f.align / f.n_ch > f.bits / 8)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "WAV with %u bits in %u bytes is ambiguous; save it with 16 bits", f.bits,
                       f.align / f.n_ch);
    if (f.rate < GM_SOUND_MIN_RATE || f.rate > GM_SOUND_MAX_RATE)
        return gm_fail(err, errlen, GM_EFORMAT, "WAV sample rate %u is out of range", f.rate);
    const size_t width = f.bits / 8, frames = n_data / (width * f.n_ch);
    if (frames > (size_t)f.rate * GM_SOUND_MAX_SECONDS) return too_long(err, errlen);
    if (frames == 0) return gm_fail(err, errlen, GM_EFORMAT, "the recording holds no sound");
    float *mono = gm_malloc(frames, sizeof *mono);
    if (!mono) return gm_fail(err, errlen, GM_ENOMEM, "out of memory");
    for (size_t i = 0; i < frames; i++) {
        float sum = 0.0f;
        for (uint32_t ch = 0; ch < f.n_ch; ch++)
            sum += wav_sample(&f, data + (i * f.n_ch + ch) * width);
        mono[i] = gm_sample_sane(sum / (float)f.n_ch);
    }
    const int rc = gm_resample(mono, frames, f.rate, out, cancel);
    gm_free(mono);
    return rc ? gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc)) : 0;
}

static int decode_track(const char *path, double seconds, gm_samples *out, const gm_cancel *cancel,
                        char *err, size_t errlen) {
    gm_samples raw = {0};
    uint32_t rate = 0;
    int rc = gm_avlib_sound(path, seconds, &raw, &rate, cancel, err, errlen);
    if (!rc && (double)raw.n > seconds * rate) raw.n = (size_t)(seconds * rate);
    if (!rc && (rc = gm_resample(raw.v, raw.n, rate, out, cancel)))
        rc = gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc));
    gm_free(raw.v);
    return rc;
}

int gm_decode_track(const char *path, gm_samples *out, const gm_cancel *cancel, char *err,
                    size_t errlen) {
    memset(out, 0, sizeof *out);
    return decode_track(path, GM_VIDEO_SOUND_SECONDS, out, cancel, err, errlen);
}

static bool is_wav(const uint8_t *p, size_t n) {
    const bool outer = n >= 12 && (memcmp(p, "RIFF", 4) == 0 || memcmp(p, "RF64", 4) == 0 ||
                                   memcmp(p, "BW64", 4) == 0);
    return outer && memcmp(p + 8, "WAVE", 4) == 0;
}

typedef struct {
    bool wav, rifx;
} sound_kind;

static int sniff_sound(void *ud, const uint8_t *p, size_t n) {
    *(sound_kind *)ud = (sound_kind){is_wav(p, n), n >= 4 && memcmp(p, "RIFX", 4) == 0};
    return 1; /* the first piece is enough */
}

int gm_decode_sound(const char *path, gm_samples *out, const gm_cancel *cancel, char *err,
                    size_t errlen) {
    const size_t max = (size_t)GM_MEDIA_MAX_MIB << 20;
    sound_kind kind = {0};
    memset(out, 0, sizeof *out);
    int rc = gm_map_each(path, max, sniff_sound, &kind, cancel, err, errlen);
    if (rc < 0) return rc;
    /* FFmpeg 5.1 takes its bytes in the wrong order, which sounds like noise. */
    if (kind.rifx)
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "big-endian WAV (RIFX) is not read; save it as WAV or FLAC");
    if (kind.wav) {
        gm_map *m = NULL;
        rc = gm_map_read(&m, path, max, cancel, err, errlen);
        if (rc) return rc;
        char what[96], why[160];
        rc = gm_decode_wav(gm_map_data(m), gm_map_size(m), out, cancel, what, sizeof what);
        gm_map_close(&m);
        if (rc != GM_EUNSUPPORTED) return rc ? gm_fail(err, errlen, rc, "%s", what) : 0;
        /* Compressed WAV (ADPCM, A-law) is FFmpeg's business. */
        if (gm_avlib_load(why, sizeof why)) return gm_fail(err, errlen, rc, "%s: %s", what, why);
    }
    return decode_track(path, 2 * GM_SOUND_MAX_SECONDS, out, cancel, err, errlen);
}

/* ---- pictures ---------------------------------------------------------------------------- */

/* The decoder for the bytes, or NULL. By content: names lie. */
static const char *sniff(const uint8_t *p, size_t n) {
    static const struct {
        const char *magic;
        size_t at, len;
        const char *codec;
    } known[] = {
        {"\x89PNG\r\n\x1a\n", 0, 8, "png"},
        {"\xff\xd8\xff", 0, 3, "mjpeg"},
        {"WEBP", 8, 4, "webp"},
        {"GIF8", 0, 4, "gif"},
        {"BM", 0, 2, "bmp"},
        {"II*\0", 0, 4, "tiff"},
        {"MM\0*", 0, 4, "tiff"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (n >= known[i].at + known[i].len &&
            memcmp(p + known[i].at, known[i].magic, known[i].len) == 0)
            return known[i].codec;
    }
    return NULL;
}

static uint32_t tiff_read(const uint8_t *p, int bytes, bool big) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint32_t)p[i] << 8 * (big ? bytes - 1 - i : i);
    return v;
}

enum {
    TIFF_BITS = 258,
    TIFF_COMPRESSION = 259,
    TIFF_PHOTOMETRIC = 262,
    TIFF_ORIENTATION = 274,
    TIFF_PLANAR = 284,
    TIFF_TILE_WIDTH = 322,
    TIFF_SAMPLE_FORMAT = 339
};

/* The first value of a tag in the first directory of a TIFF block; 1 when it is no SHORT or LONG,
 * and `absent` when it is not there. */
static uint32_t tiff_tag(const uint8_t *p, size_t n, uint32_t tag, uint32_t absent) {
    if (n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return absent;
    const bool big = p[0] == 'M';
    const size_t ifd = tiff_read(p + 4, 4, big);
    if (ifd > n - 2) return absent;
    const size_t count = tiff_read(p + ifd, 2, big);
    for (size_t i = 0; i < count && ifd + 2 + 12 * (i + 1) <= n; i++) {
        const uint8_t *e = p + ifd + 2 + 12 * i;
        if (tiff_read(e, 2, big) != tag) continue;
        const uint32_t type = tiff_read(e + 2, 2, big);
        const bool half = type == 3 || type == 8, whole = type == 4 || type == 9; /* or signed */
        if (!half && !whole) return 1;
        const int bytes = half ? 2 : 4;
        if (tiff_read(e + 4, 4, big) <= 4u / (unsigned)bytes) return tiff_read(e + 8, bytes, big);
        const size_t at = tiff_read(e + 8, 4, big); /* more do not fit into the entry */
        return at > n - (size_t)bytes ? absent : tiff_read(p + at, bytes, big);
    }
    return absent;
}

/* How a picture is turned, as far as it has been read: Exif counts, and XMP where that does not
 * say. */
typedef struct {
    uint32_t exif, xmp; /* 0: not told */
} turned;

static void read_exif(turned *t, const uint8_t *p, size_t n) {
    if (t->exif == 0) t->exif = tiff_tag(p, n, TIFF_ORIENTATION, 0);
}

/* The reference's reader looks for no more in the XML either (PIL.Image.Image.getexif). */
static void read_xmp(turned *t, const uint8_t *p, size_t n) {
    static const char name[] = "tiff:Orientation";
    const size_t len = sizeof name - 1;
    for (size_t i = 0; i + len + 3 <= n; i++) {
        if (memcmp(p + i, name, len) != 0) continue;
        const uint8_t *v = p + i + len;
        v += v[0] == '>' ? 1 : v[0] == '=' && v[1] == '"' ? 2 : 0;
        if (v == p + i + len || *v < '0' || *v > '9') continue;
        t->xmp = *v - '0';
        return;
    }
}

/* Walks the segments of a JPEG up to the scan. */
static void jpeg_turned(turned *t, const uint8_t *p, size_t n) {
    static const char xmp[] = "http://ns.adobe.com/xap/1.0/"; /* with the NUL behind it */
    for (size_t i = 2; i + 4 <= n && p[i] == 0xff && p[i + 1] != 0xda;) {
        if (p[i + 1] == 0xff) { /* a fill byte */
            i++;
            continue;
        }
        const size_t len = (size_t)p[i + 2] << 8 | p[i + 3];
        if (len < 2 || len > n - i - 2) break;
        const uint8_t *body = p + i + 4;
        if (p[i + 1] == 0xe1 && len >= 8 && memcmp(body, "Exif\0\0", 6) == 0)
            read_exif(t, body + 6, len - 8);
        if (p[i + 1] == 0xe1 && len - 2 > sizeof xmp && memcmp(body, xmp, sizeof xmp) == 0)
            read_xmp(t, body + sizeof xmp, len - 2 - sizeof xmp);
        i += 2 + len;
    }
}

/* Walks the chunks of a PNG (length before the four letters, CRC behind) or of RIFF (length after).
 */
static void chunks_turned(turned *t, const uint8_t *p, size_t n, bool png) {
    static const char xmp[] = "XML:com.adobe.xmp"; /* of a PNG's text; it may be compressed */
    for (size_t i = png ? 8 : 12; i + 12 <= n;) {
        const size_t len = tiff_read(p + i + (png ? 0 : 4), 4, png);
        const uint8_t *id = p + i + (png ? 4 : 0);
        if (len > n - i - 8) break;
        const uint8_t *body = p + i + 8;
        if (memcmp(id, png ? "eXIf" : "EXIF", 4) == 0) {
            const size_t skip = len >= 6 && memcmp(body, "Exif\0\0", 6) == 0 ? 6 : 0;
            read_exif(t, body + skip, len - skip);
        }
        if (!png && memcmp(id, "XMP ", 4) == 0) read_xmp(t, body, len);
        if (png && memcmp(id, "iTXt", 4) == 0 && len > sizeof xmp &&
            memcmp(body, xmp, sizeof xmp) == 0)
            read_xmp(t, body, len);
        i += 8 + len + (png ? 4 : len & 1);
    }
}

/* 1..8; 1 is upright. */
static int orientation(const char *codec, const uint8_t *p, size_t n) {
    turned t = {0};
    if (strcmp(codec, "mjpeg") == 0) jpeg_turned(&t, p, n);
    if (strcmp(codec, "png") == 0) chunks_turned(&t, p, n, true);
    if (strcmp(codec, "webp") == 0) chunks_turned(&t, p, n, false);
    if (strcmp(codec, "tiff") == 0) read_exif(&t, p, n);
    const uint32_t v = t.exif != 0 ? t.exif : t.xmp;
    return v >= 1 && v <= 8 ? (int)v : 1;
}

/* ---- what the decoders would get wrong ------------------------------------------------------- */

/* Behind the blocks of data at i; beyond n when they are cut off. */
static size_t gif_blocks_end(const uint8_t *p, size_t n, size_t i) {
    while (i < n && p[i] != 0) i += 1 + (size_t)p[i];
    return i + 1;
}

/* Takes the transparency of the first picture of a GIF away: its colours count, as with alpha.
 * False: the picture is cut off, which the decoder would not tell. */
static bool gif_make_opaque(uint8_t *p, size_t n) {
    if (n < 13) return false;
    size_t i = 13 + (p[10] & 0x80 ? (size_t)6 << (p[10] & 7) : 0);
    while (i + 4 <= n && p[i] == 0x21) { /* extensions in front of it */
        if (p[i + 1] == 0xf9) p[i + 3] &= 0xfe;
        i = gif_blocks_end(p, n, i + 2);
    }
    if (i + 11 > n || p[i] != 0x2c) return false;
    i += 11 + (p[i + 9] & 0x80 ? (size_t)6 << (p[i + 9] & 7) : 0);
    return gif_blocks_end(p, n, i) <= n;
}

/* Where the first picture of an animation lies on its canvas. w 0: there is no animation. */
typedef struct {
    int32_t x, y, w, h;
} webp_place;

/* The picture of the first ANMF chunk as a file of its own, over p. Its alpha stays behind. Returns
 * the new length, or n when p holds no animation. */
static size_t webp_first_frame(uint8_t *p, size_t n, webp_place *place) {
    webp_place at = {0};
    for (size_t i = 12; i + 24 <= n;) {
        const size_t len = tiff_read(p + i + 4, 4, false), end = i + 8 + len;
        if (len > n - i - 8) return n;
        if (memcmp(p + i, "VP8X", 4) == 0) {
            at.w = 1 + (int32_t)tiff_read(p + i + 12, 3, false);
            at.h = 1 + (int32_t)tiff_read(p + i + 15, 3, false);
        }
        const bool anmf = memcmp(p + i, "ANMF", 4) == 0;
        /* of the chunk that is ANMF in the end */
        at.x = 2 * (int32_t)tiff_read(p + i + 8, 3, false);
        at.y = 2 * (int32_t)tiff_read(p + i + 11, 3, false);
        for (size_t k = i + 24; anmf && k + 8 <= end;) {
            const size_t size = tiff_read(p + k + 4, 4, false);
            if (size > end - k - 8) return n;
            if (memcmp(p + k, "VP8", 3) == 0) {
                memmove(p + 12, p + k, 8 + size);
                n = 12 + 8 + size;
                if (n & 1) p[n++] = 0; /* chunks begin at even places; there was a header more */
                for (int b = 0; b < 4; b++) p[4 + b] = (uint8_t)((n - 8) >> 8 * b);
                *place = at;
                return n;
            }
            k += 8 + size + (size & 1);
        }
        if (anmf) return n;
        i = end + (len & 1);
    }
    return n;
}

/* Encoders cut the first picture to what is not transparent. The rest of the canvas is transparent
 * black, as libwebp begins it, whatever the file's own background. */
static int put_on_canvas(gm_image *img, const webp_place *at, char *err, size_t errlen) {
    if (at->w == 0 || (at->w == img->w && at->h == img->h)) return 0;
    const int fits = gm_image_check(at->w, at->h, err, errlen);
    if (fits) return fits;
    if (at->x > at->w - img->w || at->y > at->h - img->h)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "picture: damaged, a frame is larger than the animation");
    uint8_t *rgb = gm_calloc((size_t)at->w * (size_t)at->h, 3);
    if (!rgb) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
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
    if (n < 34 || tiff_read(p + 14, 4, false) < 40) return 0;
    const uint32_t how = tiff_read(p + 30, 4, false), bits = tiff_read(p + 28, 2, false);
    const int32_t high = (int32_t)tiff_read(p + 22, 4, false);
    const uint64_t w = tiff_read(p + 18, 4, false),
                   h = (uint64_t)(high < 0 ? -(int64_t)high : high);
    if ((how != 0 && how != 3) || h == 0) return 0;
    return tiff_read(p + 10, 4, false) + (w * bits + 31) / 32 * 4 * (h - 1) + (w * bits + 7) / 8;
}

/* A copy in which that is put right. Not every decoder tells that a file is cut off. */
static int decode_mended(const char *codec, const uint8_t *p, size_t n, gm_image *out, char *err,
                         size_t errlen) {
    enum { TAIL = 3 }; /* the padding of a BMP's last row, which some writers leave out */
    const bool gif = strcmp(codec, "gif") == 0, webp = strcmp(codec, "webp") == 0;
    uint8_t *copy = gm_calloc(n + TAIL, 1);
    if (!copy) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
    memcpy(copy, p, n);
    const bool whole = gif ? gif_make_opaque(copy, n) : webp || bmp_bytes(p, n) <= n;
    webp_place place = {0};
    if (webp) n = webp_first_frame(copy, n, &place);
    else if (!gif) n += TAIL;
    const int rc = whole ? gm_avlib_image(codec, copy, n, out, err, errlen)
                         : gm_fail(err, errlen, GM_EFORMAT, "picture: damaged or cut off");
    gm_free(copy);
    return rc ? rc : put_on_canvas(out, &place, err, errlen);
}

static int decode_tiff(const uint8_t *p, size_t n, gm_image *out, char *err, size_t errlen) {
    const int how = tiff_tag(p, n, TIFF_COMPRESSION, 1);
    if (how == 6 || how == 7) /* FFmpeg takes its colours for RGB */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF with a JPEG inside cannot be read; save it as PNG");
    const int bits = tiff_tag(p, n, TIFF_BITS, 1), format = tiff_tag(p, n, TIFF_SAMPLE_FORMAT, 1);
    if (format == 3 || (format == 2 && bits > 8)) /* it takes them for unsigned integers */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF with %s values cannot be read; save it as PNG",
                       format == 3 ? "floating-point" : "signed");
    if (tiff_tag(p, n, TIFF_TILE_WIDTH, 1) != 1) /* it makes them black */
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a TIFF in tiles cannot be read; save it as PNG");
    const bool cmyk = tiff_tag(p, n, TIFF_PHOTOMETRIC, 1) == 5;
    if (cmyk && (tiff_tag(p, n, TIFF_PLANAR, 1) == 2 || (bits == 16 && p[0] == 'I')))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, /* it makes a negative of them */
                       "a TIFF with CMYK of this kind cannot be read; save it as PNG");
    const int rc = gm_avlib_image("tiff", p, n, out, err, errlen);
    if (rc != GM_EFORMAT || bits <= 16) return rc; /* the decoder calls more bits damage */
    return gm_fail(err, errlen, GM_EUNSUPPORTED,
                   "a TIFF with %d bits for each value cannot be read; save it as PNG", bits);
}

/* Scans of a JPEG. A marker with a length follows each scan's bytes, in which 0xff stands before 0
 * or a restart only. */
static size_t jpeg_scans(const uint8_t *p, size_t n) {
    size_t scans = 0;
    for (size_t i = 2; i + 4 <= n;) {
        const uint8_t mark = p[i + 1];
        if (p[i] != 0xff || mark == 0xff) {
            i++;
        } else if (mark == 0 || (mark >= 0xd0 && mark <= 0xd7)) {
            i += 2;
        } else if (mark == 0xd9) {
            break;
        } else {
            scans += mark == 0xda;
            i += 2 + ((size_t)p[i + 2] << 8 | p[i + 3]);
        }
    }
    return scans;
}

/* A scan of a few bytes can cost a pass over the whole picture, which nothing interrupts; encoders
 * write a dozen. */
enum { JPEG_MAX_SCANS = 128 };

static int decode_jpeg(const uint8_t *p, size_t n, gm_image *out, char *err, size_t errlen) {
    if (jpeg_scans(p, n) > JPEG_MAX_SCANS)
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "a JPEG of more than %d scans cannot be read; save it as PNG",
                       JPEG_MAX_SCANS);
    return gm_avlib_image("mjpeg", p, n, out, err, errlen);
}

static int decode_with(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                       const gm_cancel *cancel, char *err, size_t errlen) {
    if (strcmp(codec, "png") == 0 && gm_inflate_available())
        return gm_png_decode(p, n, out, cancel, err, errlen);
    if (strcmp(codec, "mjpeg") == 0) return decode_jpeg(p, n, out, err, errlen);
    if (strcmp(codec, "tiff") == 0) return decode_tiff(p, n, out, err, errlen);
    if (strcmp(codec, "gif") == 0 || strcmp(codec, "webp") == 0 || strcmp(codec, "bmp") == 0)
        return decode_mended(codec, p, n, out, err, errlen);
    return gm_avlib_image(codec, p, n, out, err, errlen);
}

int gm_decode_picture(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel, char *err,
                      size_t errlen) {
    memset(out, 0, sizeof *out);
    const char *codec = sniff(p, n);
    if (!codec)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "no picture of a known kind (png, jpeg, webp, gif, bmp, tiff)");
    int rc = decode_with(codec, p, n, out, cancel, err, errlen);
    if (!rc && gm_cancelled(cancel)) rc = gm_fail(err, errlen, GM_ECANCELLED, "cancelled");
    if (!rc && gm_image_turn(out, orientation(codec, p, n)))
        rc = gm_fail(err, errlen, GM_ENOMEM, "out of memory for the picture");
    if (rc) {
        gm_free(out->rgb);
        memset(out, 0, sizeof *out);
    }
    return rc;
}

int gm_decode_image(const char *path, gm_image *out, const gm_cancel *cancel, char *err,
                    size_t errlen) {
    gm_map *m = NULL;
    memset(out, 0, sizeof *out);
    int rc = gm_map_read(&m, path, (size_t)GM_MEDIA_MAX_MIB << 20, cancel, err, errlen);
    if (!rc) rc = gm_decode_picture(gm_map_data(m), gm_map_size(m), out, cancel, err, errlen);
    gm_map_close(&m);
    return rc;
}
