/* unfilter.h: the row filters of PNG, taken back. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { GM_UNFILTER_PAD = 16 }; /* bytes behind a row that may be read */

/* row: [n], in place; above: the row before, already taken back, or NULL for the first. pixel:
 * bytes between a byte and its left neighbour, 1 to 8. Behind both rows GM_UNFILTER_PAD bytes can
 * be read. GM_EFORMAT: no such filter. */
int gm_unfilter(int filter, uint8_t *row, const uint8_t *above, size_t n, size_t pixel);
