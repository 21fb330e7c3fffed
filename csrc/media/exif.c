/* exif.c: see exif.h. */
#include "media/exif.h"

#include <string.h>

uint32_t gm_tiff_tag(const uint8_t *p, size_t n, uint32_t tag, uint32_t absent) {
    if (n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return absent;
    const bool big = p[0] == 'M';
    const size_t ifd = gm_uint_at(p + 4, 4, big);
    if (ifd > n - 2) return absent;
    const size_t count = gm_uint_at(p + ifd, 2, big);
    for (size_t i = 0; i < count && ifd + 2 + 12 * (i + 1) <= n; i++) {
        const uint8_t *e = p + ifd + 2 + 12 * i;
        if (gm_uint_at(e, 2, big) != tag) continue;
        const uint32_t type = gm_uint_at(e + 2, 2, big);
        const bool half = type == 3 || type == 8, whole = type == 4 || type == 9; /* or signed */
        if (!half && !whole) return 1;
        const int bytes = half ? 2 : 4;
        if (gm_uint_at(e + 4, 4, big) <= 4u / (unsigned)bytes) return gm_uint_at(e + 8, bytes, big);
        const size_t at = gm_uint_at(e + 8, 4, big); /* more do not fit into the entry */
        return at > n - (size_t)bytes ? absent : gm_uint_at(p + at, bytes, big);
    }
    return absent;
}

/* How a picture is turned, as far as it has been read: Exif counts, and XMP where that does not
 * say. */
typedef struct {
    uint32_t exif, xmp; /* 0: not told */
} turned;

static void read_exif(turned *t, const uint8_t *p, size_t n) {
    if (t->exif == 0) t->exif = gm_tiff_tag(p, n, GM_TIFF_ORIENTATION, 0);
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
        const size_t len = gm_uint_at(p + i + (png ? 0 : 4), 4, png);
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

int gm_exif_orientation(const char *codec, const uint8_t *p, size_t n) {
    turned t = {0};
    if (strcmp(codec, "mjpeg") == 0) jpeg_turned(&t, p, n);
    if (strcmp(codec, "png") == 0) chunks_turned(&t, p, n, true);
    if (strcmp(codec, "webp") == 0) chunks_turned(&t, p, n, false);
    if (strcmp(codec, "tiff") == 0) read_exif(&t, p, n);
    const uint32_t v = t.exif != 0 ? t.exif : t.xmp;
    return v >= 1 && v <= 8 ? (int)v : 1;
}
