/* quant.h: scalar quantisation and dequantisation, the reference for every other kernel.
 *
 * Written to be read: one function per format, formulas as in the format descriptions of
 * GGUF (blocks.h). Not fast, never called in a hot path except for formats without kernel.
 */
#pragma once

#include <stdint.h>
#include "tensor/dtype.h"

float gm_f16_to_f32(uint16_t h);
uint16_t gm_f32_to_f16(float f); /* round to nearest even; overflow gives infinity */
float gm_bf16_to_f32(uint16_t h);
uint16_t gm_f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */

/* One row of n elements (a multiple of the block) from src to dst[n]. Returns 0, or
 * GM_EUNSUPPORTED for a type that cannot be computed. src needs no alignment. */
int gm_dequant_row(gm_dtype t, const void *src, float *dst, int64_t n);

/* One row of n floats to blocks; for F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 (simple
 * rounding, used by tests and by the q8_0 cache). GM_EUNSUPPORTED for the others. */
int gm_quant_row(gm_dtype t, const float *src, void *dst, int64_t n);
