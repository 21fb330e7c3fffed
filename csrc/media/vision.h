/* vision.h: pixels to decoder rows: size rule, resize, patches, projection. */
#pragma once

#include "media/projector.h"

/* Pixels. Resizing keeps weights for each pixel of a side, whatever the other side is. */
enum { GM_IMAGE_MAX_SIDE = 1 << 20 };

/* RGB bytes, [h, w, 3]. */
typedef struct {
    uint8_t *rgb; /* owned; gm_free */
    int32_t w, h;
} gm_image;

/* 70, 140, 280, 560 or 1120: the budgets that the model knows. */
bool gm_image_tokens_valid(int32_t budget);

/* The size in patches that a w x h image is stretched to: the largest grid of 48-pixel patches
 * within the budget that keeps the aspect ratio, at least one patch each way, as the model
 * was trained. max_side: entries of the position tables. 0 or GM_EINVAL. */
int gm_image_grid(int32_t w, int32_t h, int32_t budget, int32_t max_side, int32_t *cols,
                  int32_t *rows);

/* Patches first .. first + n - 1 of a resized picture, in raster order: out: [n, GM_PATCH_VALUES],
 * as planes of 0..1 floats. rgb: [.., cols * GM_PATCH, 3]. */
void gm_image_patches(const uint8_t *rgb, int32_t cols, int32_t first, int32_t n, float *out);

/* The image as rows: *out is [*n_row, n_embd], to be freed with gm_free. */
int gm_image_embed(gm_projector *p, const gm_image *img, int32_t n_embd, int32_t budget,
                   const gm_cancel *cancel, float **out, int32_t *n_row, char *err, size_t errlen);
