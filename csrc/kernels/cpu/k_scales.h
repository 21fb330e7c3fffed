/* k_scales.h: the packed scales that blocks of Q4_K and Q5_K begin with.
 *
 * Twelve bytes hold eight scales and eight minima of six bits. Read as words they come apart four
 * at a time; quant.c reads them one by one, and everything is compared with that.
 */
#pragma once

#include <stdint.h>
#include <string.h>

/* A byte each, 0 .. 63, the first in the lowest bits. */
typedef struct {
    uint32_t scale[2], min[2];
} gm_k_scales;

static inline __attribute__((always_inline)) gm_k_scales gm_k_scales_read(const uint8_t sc[12]) {
    uint32_t a, b, c;
    memcpy(&a, sc, 4);
    memcpy(&b, sc + 4, 4);
    memcpy(&c, sc + 8, 4);
    const uint32_t six = 0x3f3f3f3f, nibble = 0x0f0f0f0f, two = 0x03030303;
    return (gm_k_scales){.scale = {a & six, (c & nibble) | (a >> 6 & two) << 4},
                         .min = {b & six, (c >> 4 & nibble) | (b >> 6 & two) << 4}};
}
