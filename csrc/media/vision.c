/* vision.c: see vision.h. */
#include "media/vision.h"

#include <math.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/resize.h"

bool gm_image_tokens_valid(int32_t budget) {
    return budget == 70 || budget == 140 || budget == 280 || budget == 560 || budget == 1120;
}

int gm_image_grid(int32_t w, int32_t h, int32_t budget, int32_t max_side, int32_t *cols,
                  int32_t *rows) {
    if (w < 1 || h < 1 || budget < 1) return GM_EINVAL;
    /* In the order of the reference: where a side is a whole number of patches, another order may
     * fall on the other side of it. */
    const double f = sqrt((double)budget * (GM_PATCH * GM_PATCH) / ((double)w * (double)h));
    int32_t c = (int32_t)floor(f * w / GM_PATCH), r = (int32_t)floor(f * h / GM_PATCH);
    if (c == 0 && r == 0) return GM_EINVAL;
    if (r == 0) {
        r = 1;
        c = w / h < budget ? w / h : budget;
    }
    if (c == 0) {
        c = 1;
        r = h / w < budget ? h / w : budget;
    }
    if (c > max_side || r > max_side) return GM_EINVAL;
    *cols = c;
    *rows = r;
    return 0;
}

void gm_image_patches(const uint8_t *rgb, int32_t cols, int32_t first, int32_t n, float *out) {
    const size_t stride = (size_t)cols * GM_PATCH * 3;
    float value[256];
    for (int i = 0; i < 256; i++) value[i] = (float)i / 255.0f;
    for (int32_t i = 0; i < n; i++, out += GM_PATCH_VALUES) {
        const int32_t col = (first + i) % cols, row = (first + i) / cols;
        const uint8_t *p = rgb + (size_t)row * GM_PATCH * stride + (size_t)col * GM_PATCH * 3;
        for (int32_t y = 0; y < GM_PATCH; y++, p += stride) {
            for (int32_t c = 0; c < 3; c++) {
                float *to = out + (c * GM_PATCH + y) * GM_PATCH;
                for (int32_t x = 0; x < GM_PATCH; x++) to[x] = value[p[3 * x + c]];
            }
        }
    }
}

int gm_image_embed(gm_projector *p, const gm_image *img, int32_t n_embd, int32_t budget,
                   const gm_cancel *cancel, float **out, int32_t *n_row, char *err, size_t errlen) {
    int32_t cols, rows, col[GM_PROJECTOR_CHUNK], row[GM_PROJECTOR_CHUNK];
    uint8_t *rgb = NULL;
    float *patches = NULL;
    *out = NULL;
    *n_row = 0;
    if (!gm_projector_has_vision(p))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "the mmproj file has no image weights");
    if (gm_image_grid(img->w, img->h, budget, gm_projector_n_pos(p), &cols, &rows))
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "an image of %d x %d pixels is too long for %d image tokens; crop it",
                       img->w, img->h, budget);
    if (img->w > GM_IMAGE_MAX_SIDE || img->h > GM_IMAGE_MAX_SIDE)
        return gm_fail(err, errlen, GM_ETOOLONG, "an image of %d x %d pixels is too long; crop it",
                       img->w, img->h);
    const int32_t n = cols * rows;
    rgb = gm_malloc((size_t)n, GM_PATCH_VALUES);
    patches = gm_malloc(GM_PROJECTOR_CHUNK * (size_t)GM_PATCH_VALUES, sizeof *patches);
    *out = gm_malloc((size_t)n * (size_t)n_embd, sizeof **out);
    int rc = rgb && patches && *out ? 0 : GM_ENOMEM;
    if (!rc)
        rc = gm_resize_rgb(img->rgb, img->w, img->h, rgb, cols * GM_PATCH, rows * GM_PATCH, cancel);
    for (int32_t first = 0; !rc && first < n; first += GM_PROJECTOR_CHUNK) {
        const int32_t m = n - first < GM_PROJECTOR_CHUNK ? n - first : GM_PROJECTOR_CHUNK;
        for (int32_t i = 0; i < m; i++) {
            col[i] = (first + i) % cols;
            row[i] = (first + i) / cols;
        }
        gm_image_patches(rgb, cols, first, m, patches);
        rc = gm_cancelled(cancel) ? GM_ECANCELLED
                                  : gm_projector_patches(p, patches, col, row, m,
                                                         *out + (size_t)first * (size_t)n_embd);
    }
    gm_free(rgb);
    gm_free(patches);
    if (rc) {
        gm_free(*out);
        *out = NULL;
        return gm_fail(err, errlen, rc, "image: %s", gm_err_text(rc));
    }
    *n_row = n;
    return 0;
}
