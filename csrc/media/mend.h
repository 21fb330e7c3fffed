/* mend.h: pictures that FFmpeg's decoders would get wrong, put right in front of them or refused.
 *
 * Wrong is what differs from the reader of the model's own preprocessing: colours under
 * transparency, the place of an animation's first picture, kinds of TIFF, files that are cut off.
 * Thread: the worker; it takes as long as the decoder.
 */
#pragma once

#include "base/cancel.h"
#include "media/vision.h"

/* As gm_avlib_image, for any of its codecs. */
int gm_mend_image(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                  const gm_cancel *cancel, char *err, size_t errlen);
