/* dot_dotprod.c: decode with the four-way products of ARMv8.2 (FEAT_DotProd). */
#define GM_NEON_DOTPROD 1
#include "kernels/cpu/arm/dot_neon.h"

void gm_dot_fill_dotprod(gm_dot_fns *f) { fill_dot(f); }
