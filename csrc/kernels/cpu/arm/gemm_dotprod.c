/* gemm_dotprod.c: quantised tiles with the four-way products of ARMv8.2 (FEAT_DotProd). */
#define GM_NEON_TILE 1
#include "kernels/cpu/arm/gemm_neon.h"

void gm_tile_fill_dotprod(gm_tile_fns *f) { f->tile_quant = tile_quant; }
