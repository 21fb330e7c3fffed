/* chroma.c: see chroma.h. One sample at a time: a megapixel takes some ten milliseconds, and photos
 * are not what is asked about every second. */
#include "media/chroma.h"

static uint8_t clamp(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* Colour sample of plane k for pixel (x, y). near and far: 3 : 1 in each direction that is halved;
 * at the border the far one is the near one. */
static int32_t sample(const gm_chroma *c, int k, int32_t x, int32_t y) {
    if (c->quarter_x) return c->plane[k][(int64_t)y * c->line[k] + x / 4];
    const int32_t cw = c->half_x ? (c->w + 1) / 2 : c->w, ch = c->half_y ? (c->h + 1) / 2 : c->h;
    const int32_t nx = c->half_x ? x / 2 : x, ny = c->half_y ? y / 2 : y;
    int32_t fx = c->half_x ? nx + (x & 1 ? 1 : -1) : nx,
            fy = c->half_y ? ny + (y & 1 ? 1 : -1) : ny;
    /* libjpeg smooths no plane that is so narrow. */
    if (!c->webp && c->half_x && cw <= 2) return c->plane[k][(int64_t)ny * c->line[k] + nx];
    const bool edge = fx < 0 || fx >= cw;
    if (edge) fx = nx;
    if (fy < 0 || fy >= ch) fy = ny;
    const uint8_t *near_row = c->plane[k] + (int64_t)ny * c->line[k];
    const uint8_t *far_row = c->plane[k] + (int64_t)fy * c->line[k];
    const int32_t n = near_row[nx], h = near_row[fx], v = far_row[nx], d = far_row[fx];
    if (c->webp) return edge ? (3 * n + v + 2) >> 2 : (n + ((n + 3 * h + 3 * v + d + 8) >> 3)) >> 1;
    const bool right = x & 1;
    if (c->half_x && c->half_y) return (3 * (3 * n + v) + (3 * h + d) + (right ? 7 : 8)) >> 4;
    if (c->half_x) return edge ? n : (3 * n + h + (right ? 2 : 1)) >> 2;
    if (c->half_y) return (3 * n + v + (y & 1 ? 2 : 1)) >> 2;
    return n;
}

/* ITU-R BT.601 over the whole range, 16 bits of fraction. */
static void jpeg_pixel(int32_t y, int32_t cb, int32_t cr, uint8_t *out) {
    cb -= 128;
    cr -= 128;
    out[0] = clamp(y + ((91881 * cr + 32768) >> 16));
    out[1] = clamp(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = clamp(y + ((116130 * cb + 32768) >> 16));
}

/* The same over 16 .. 235, 14 bits, each product cut at 8. */
static void webp_pixel(int32_t y, int32_t u, int32_t v, uint8_t *out) {
    const int32_t base = y * 19077 >> 8;
    out[0] = clamp((base + (v * 26149 >> 8) - 14234) >> 6);
    out[1] = clamp((base - (u * 6419 >> 8) - (v * 13320 >> 8) + 8708) >> 6);
    out[2] = clamp((base + (u * 33050 >> 8) - 17685) >> 6);
}

void gm_chroma_to_rgb(const gm_chroma *c, uint8_t *out, const gm_cancel *cancel) {
    for (int32_t y = 0; y < c->h && !gm_cancelled(cancel); y++) {
        const uint8_t *luma = c->plane[0] + (int64_t)y * c->line[0];
        for (int32_t x = 0; x < c->w; x++, out += 3) {
            const int32_t cb = sample(c, 1, x, y), cr = sample(c, 2, x, y);
            if (c->webp) webp_pixel(luma[x], cb, cr, out);
            else jpeg_pixel(luma[x], cb, cr, out);
        }
    }
}
