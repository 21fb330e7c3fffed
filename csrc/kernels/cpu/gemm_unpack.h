/* gemm_unpack.h: one shape for all quantised formats.
 *
 * Every quantised row becomes unsigned bytes, one scale per group, and (for some formats) one
 * minimum per group:
 *
 *     w[k] = scale[k / group] * (q[k] - offset) + min[k / group]
 *
 * so that products need to be written once. q - offset always fits in 8 signed bits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "tensor/dtype.h"

typedef struct {
    uint8_t group;  /* 16 or 32 elements; 0: not a quantised format */
    uint8_t offset; /* 0 .. 128 */
    uint8_t bits;   /* q < 2^bits */
    bool has_min;
} gm_unpack_info;

const gm_unpack_info *gm_unpack_info_get(gm_dtype t);

/* Elements k0 .. k0 + n - 1 of a row; k0 and n are multiples of the format's block. q: [n],
 * scale, min: [n / group]; min is written only by formats that have one. */
typedef void (*gm_unpack_fn)(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                             float *min);

/* Plain C; NULL for float formats. */
gm_unpack_fn gm_unpack_ref(gm_dtype t);
