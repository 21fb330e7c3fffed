/* decode.c: which reader a file is for; see decode.h. */
#include "media/decode.h"

#include <string.h>
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "media/avlib.h"
#include "media/exif.h"
#include "media/inflate.h"
#include "media/mend.h"
#include "media/png.h"
#include "media/resample.h"
#include "media/turn.h"
#include "media/wav.h"

/* ---- sounds ------------------------------------------------------------------------------ */

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

typedef struct {
    bool wav, rifx;
} sound_kind;

static int sniff_sound(void *ud, const uint8_t *p, size_t n) {
    *(sound_kind *)ud = (sound_kind){gm_is_wav(p, n), n >= 4 && memcmp(p, "RIFX", 4) == 0};
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
        rc = gm_wav_decode(gm_map_data(m), gm_map_size(m), out, cancel, what, sizeof what);
        gm_map_close(&m);
        if (rc != GM_EUNSUPPORTED) return rc ? gm_fail(err, errlen, rc, "%s", what) : 0;
        /* Compressed WAV (ADPCM, A-law) is FFmpeg's business. */
        if (gm_avlib_load(why, sizeof why)) return gm_fail(err, errlen, rc, "%s: %s", what, why);
    }
    /* More than are taken, so that a longer recording is refused by its reader and not cut. */
    return decode_track(path, 2 * GM_SOUND_MAX_SECONDS, out, cancel, err, errlen);
}

/* ---- pictures ---------------------------------------------------------------------------- */

int gm_image_check(int32_t w, int32_t h, char *err, size_t errlen) {
    if (w > 0 && h > 0 && (int64_t)w * h <= (int64_t)GM_IMAGE_MAX_MPIXEL << 20) return 0;
    return gm_fail(err, errlen, GM_ETOOLONG, "a picture of %d x %d pixels is too large (%d Mpx)", w,
                   h, GM_IMAGE_MAX_MPIXEL);
}

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

static int decode_with(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                       const gm_cancel *cancel, char *err, size_t errlen) {
    if (strcmp(codec, "png") == 0 && gm_inflate_available())
        return gm_png_decode(p, n, out, cancel, err, errlen);
    return gm_mend_image(codec, p, n, out, cancel, err, errlen);
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
    if (!rc && gm_image_turn(out, gm_exif_orientation(codec, p, n)))
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
