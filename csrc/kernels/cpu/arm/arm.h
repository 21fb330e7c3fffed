/* arm.h: what the files of arm/ offer to the families, filled upward by level.
 *
 * As in x86.h, the files that are compiled for more than the baseline export nothing but these
 * fills; everything else in them and in the headers that only they include is static.
 */
#pragma once

#include "base/cpuid.h"
#include "kernels/cpu/dot.h"
#include "kernels/cpu/gemm_tile.h"

/* Puts the ARM variants up to `level` over what is in f. */
void gm_arm_fill_dot(gm_dot_fns *f, gm_cpu_level level);
void gm_arm_fill_tile(gm_tile_fns *f, gm_cpu_level level);

/* One level each; the CPU must have it. */
void gm_unpack_fill_neon(gm_dot_fns *f);
void gm_dot_fill_neon(gm_dot_fns *f);
void gm_dot_fill_dotprod(gm_dot_fns *f);
void gm_tile_fill_neon(gm_tile_fns *f);
void gm_tile_fill_dotprod(gm_tile_fns *f);
void gm_tile_fill_i8mm(gm_tile_fns *f);
