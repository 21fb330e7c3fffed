/* resize.h: the image resize that the model was trained with.
 *
 * Bicubic (a = -0.5), the kernel widened when shrinking, two passes, each rounded and clamped to 8
 * bits, coefficients in 22-bit fixed point: bit for bit what Pillow's resize does with BICUBIC,
 * which is what Google's preprocessing calls. Pillow before 13 always begins with the columns; that
 * can differ where a picture is hard black and white noise.
 */
#pragma once

#include <stdint.h>
#include "base/cancel.h"

/* src: [h, w, 3] RGB bytes; dst: [out_h, out_w, 3]. All sizes > 0. 0, GM_ENOMEM or
 * GM_ECANCELLED. */
int gm_resize_rgb(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                  int32_t out_h, const gm_cancel *cancel);
