/* png.h: PNG, to RGB bytes.
 *
 * Read here and not by FFmpeg, because it is what screenshots and plots are: decoding is most of
 * what a picture costs before the model sees it, and a user without FFmpeg has PNG all the same.
 * All colour types, depths and Adam7. Alpha is dropped, of 16 bits the upper 8 count, gamma and
 * profiles are ignored, as the model's own preprocessing does. Check sums are not looked at.
 * Thread: any.
 */
#pragma once

#include "base/cancel.h"
#include "media/vision.h"

/* p: [n] a whole file. out->rgb is the caller's to free; NULL after an error. */
int gm_png_decode(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel, char *err,
                  size_t errlen);
