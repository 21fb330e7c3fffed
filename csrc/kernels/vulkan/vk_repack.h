/* vk_repack.h: weights from the order of the file to the order of shaders/dequant.glsl.
 *
 * Values stay what they are, bit for bit; only their places change: words instead of odd bytes,
 * neighbouring values in one word, scales in front, and tiles of 32 rows of which word i of all
 * rows comes before word i + 1.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "tensor/dtype.h"

enum { GM_VK_TILE = 32 }; /* rows */

/* Words of a row of n values; 0 for a type that cannot be repacked. */
uint32_t gm_vk_row_words(gm_dtype t, int64_t n);

/* One tile: rows row0 .. row0 + GM_VK_TILE - 1 of n values, row_bytes apart at src; those from
 * n_row on are zero. out: row_words * GM_VK_TILE words. */
void gm_vk_repack_tile(gm_dtype t, const void *src, size_t row_bytes, int64_t n, int64_t row0,
                       int64_t n_row, uint32_t *out);
