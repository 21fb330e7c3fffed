/* wav.c: see wav.h. Sizes that recorders left wrong are put right by what is there. */
#include "media/wav.h"

#include <string.h>
#include "base/cursor.h"
#include "base/err.h"
#include "base/mem.h"
#include "media/decode.h"
#include "media/resample.h"

bool gm_is_wav(const uint8_t *p, size_t n) {
    const bool outer = n >= 12 && (memcmp(p, "RIFF", 4) == 0 || memcmp(p, "RF64", 4) == 0 ||
                                   memcmp(p, "BW64", 4) == 0);
    return outer && memcmp(p + 8, "WAVE", 4) == 0;
}

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

/* Samples as the file has them. */
typedef struct {
    wav_format format;   /* zeroed: not told */
    const uint8_t *data; /* NULL: there are none */
    size_t n;
} wav_sound;

static wav_sound find_sound(const uint8_t *p, size_t n) {
    gm_cursor c = {.p = p, .n = n};
    wav_sound s = {0};
    uint64_t n_long = 0;
    gm_cursor_take(&c, 4); /* RIFF and WAVE were seen by the caller */
    const bool closed = gm_cursor_u32(&c) == n - 8;
    gm_cursor_take(&c, 4);
    while (!s.data && !c.bad && c.n - c.pos >= 8) {
        const uint8_t *id = gm_cursor_take(&c, 4);
        const uint32_t size = gm_cursor_u32(&c);
        const size_t left = c.n - c.pos;
        if (memcmp(id, "data", 4) == 0) {
            /* Recorders that were killed leave 0 or 2^32 - 1 here: take what there is. Where the
             * file's own size is right, so is the 0. RF64 tells in front what lies behind its 2^32
             * - 1. */
            const uint64_t told = size == UINT32_MAX && n_long > 0 ? n_long : size;
            s.data = c.p + c.pos;
            s.n = (told == 0 && !closed) || told > left ? left : (size_t)told;
        } else {
            if (memcmp(id, "fmt ", 4) == 0 && size <= left)
                read_format((gm_cursor){.p = c.p + c.pos, .n = size}, &s.format);
            if (memcmp(id, "ds64", 4) == 0 && size <= left)
                n_long = read_long_size((gm_cursor){.p = c.p + c.pos, .n = size});
            gm_cursor_take(&c, (uint64_t)size + (size & 1));
        }
    }
    return s;
}

static size_t n_frame(const wav_sound *s) {
    return s->n / ((size_t)s->format.bits / 8 * s->format.n_ch);
}

static int check_sound(const wav_sound *s, char *err, size_t errlen) {
    const wav_format *f = &s->format;
    if (!s->data) return gm_fail(err, errlen, GM_EFORMAT, "no sound in the file");
    if (!wav_supported(f))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "WAV format %u with %u bits is not supported",
                       f->format, f->bits);
    /* FFmpeg takes them for the floats of an old editor, other readers for integers: noise to one
     * of them. */
    if (f->format == WAV_PCM && f->align / f->n_ch > f->bits / 8)
        return gm_fail(err, errlen, GM_EFORMAT,
                       "WAV with %u bits in %u bytes is ambiguous; save it with 16 bits", f->bits,
                       f->align / f->n_ch);
    if (f->rate < GM_SOUND_MIN_RATE || f->rate > GM_SOUND_MAX_RATE)
        return gm_fail(err, errlen, GM_EFORMAT, "WAV sample rate %u is out of range", f->rate);
    if (n_frame(s) > (size_t)f->rate * GM_SOUND_MAX_SECONDS)
        return gm_fail(err, errlen, GM_ETOOLONG, "the recording is longer than %d seconds; cut it",
                       GM_SOUND_MAX_SECONDS);
    if (n_frame(s) == 0) return gm_fail(err, errlen, GM_EFORMAT, "the recording holds no sound");
    return 0;
}

/* The mean of the channels: mono: [n_frame]. */
static void to_mono(const wav_sound *s, float *mono) {
    const wav_format *f = &s->format;
    const size_t width = f->bits / 8, n = n_frame(s);
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (uint32_t ch = 0; ch < f->n_ch; ch++)
            sum += wav_sample(f, s->data + (i * f->n_ch + ch) * width);
        mono[i] = gm_sample_sane(sum / (float)f->n_ch);
    }
}

int gm_wav_decode(const uint8_t *p, size_t n, gm_samples *out, const gm_cancel *cancel, char *err,
                  size_t errlen) {
    memset(out, 0, sizeof *out);
    const wav_sound s = find_sound(p, n);
    int rc = check_sound(&s, err, errlen);
    if (rc) return rc;
    float *mono = gm_malloc(n_frame(&s), sizeof *mono);
    if (!mono) return gm_fail(err, errlen, GM_ENOMEM, "out of memory");
    to_mono(&s, mono);
    rc = gm_resample(mono, n_frame(&s), s.format.rate, out, cancel);
    gm_free(mono);
    return rc ? gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc)) : 0;
}
