/* turn.c: see turn.h. */
#include "media/turn.h"

#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

/* Orientation o: bit 2 of o-1 swaps the axes; the rest mirrors. Exif 2.3, tag 274. */
int gm_image_turn(gm_image *img, int o) {
    if (o == 1) return 0;
    const bool swap = o >= 5, flip_x = o == 2 || o == 3 || o == 7 || o == 8;
    const bool flip_y = o == 3 || o == 4 || o == 6 || o == 7;
    /* (x, y) of the upright picture reads source (sx, sy), before mirroring of source axes. */
    const int32_t w = swap ? img->h : img->w, h = swap ? img->w : img->h;
    uint8_t *rgb = gm_malloc((size_t)w * (size_t)h, 3);
    if (!rgb) return GM_ENOMEM;
    for (int32_t y = 0; y < h; y++) {
        for (int32_t x = 0; x < w; x++) {
            int32_t sx = swap ? y : x, sy = swap ? x : y;
            if (flip_x) sx = img->w - 1 - sx;
            if (flip_y) sy = img->h - 1 - sy;
            memcpy(rgb + ((size_t)y * (size_t)w + (size_t)x) * 3,
                   img->rgb + ((size_t)sy * (size_t)img->w + (size_t)sx) * 3, 3);
        }
    }
    gm_free(img->rgb);
    *img = (gm_image){rgb, w, h};
    return 0;
}

int gm_matrix_orientation(const int32_t m[9]) {
    const int64_t a = m[0], b = m[1], c = m[3], d = m[4];
    if (llabs(b) + llabs(c) > llabs(a) + llabs(d)) return c < 0 ? (b < 0 ? 7 : 6) : b < 0 ? 8 : 5;
    return a < 0 ? (d < 0 ? 3 : 2) : d < 0 ? 4 : 1;
}
