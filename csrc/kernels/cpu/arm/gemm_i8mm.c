/* gemm_i8mm.c: quantised tiles with the 2 x 8 by 8 x 2 products of ARMv8.6 (FEAT_I8MM). */
#define GM_NEON_TILE 2
#include "kernels/cpu/arm/gemm_neon.h"

void gm_tile_fill_i8mm(gm_tile_fns *f) { f->tile_quant = tile_quant; }
