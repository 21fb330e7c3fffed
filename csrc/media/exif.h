/* exif.h: tags of TIFF blocks, and what Exif and XMP say of how a picture is turned.
 *
 * Every offset comes from the file and is checked. Nothing is decoded. Thread: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GM_TIFF_BITS = 258,
    GM_TIFF_COMPRESSION = 259,
    GM_TIFF_PHOTOMETRIC = 262,
    GM_TIFF_ORIENTATION = 274,
    GM_TIFF_PLANAR = 284,
    GM_TIFF_TILE_WIDTH = 322,
    GM_TIFF_SAMPLE_FORMAT = 339
};

/* A number of 1 to 4 bytes. */
static inline uint32_t gm_uint_at(const uint8_t *p, int bytes, bool big) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint32_t)p[i] << 8 * (big ? bytes - 1 - i : i);
    return v;
}

/* The first value of a tag in the first directory of a TIFF block; 1 when it is no SHORT or LONG,
 * and `absent` when it is not there. */
uint32_t gm_tiff_tag(const uint8_t *p, size_t n, uint32_t tag, uint32_t absent);

/* How the picture in a file of [n] bytes is turned: 1 to 8 as gm_image_turn takes it; 1 where
 * nothing is said. codec: FFmpeg's name of the file's kind. */
int gm_exif_orientation(const char *codec, const uint8_t *p, size_t n);
