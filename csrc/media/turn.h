/* turn.h: pictures that a camera held sideways wrote as its sensor lay. */
#pragma once

#include "media/vision.h"

/* Turns and mirrors a picture by tag 274 of Exif 2.3, 1 to 8; 1 is upright. GM_ENOMEM leaves it. */
int gm_image_turn(gm_image *img, int orientation);

/* The same number for the display matrix of a film, ISO/IEC 14496-12: {a, b, u, c, d, v, x, y, w}
 * shows the point (p, q) at (a p + c q + x, b p + d q + y). Angles between are taken for the next
 * quarter. */
int gm_matrix_orientation(const int32_t m[9]);
