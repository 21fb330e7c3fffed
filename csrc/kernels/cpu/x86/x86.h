/* x86.h: what the files of x86/ offer to the families, filled upward by level.
 *
 * The files that are compiled for an instruction set export nothing but these fills. Everything
 * else in them, and in the headers that only they include, is static: an inline function compiled
 * for AVX-512 must never be the copy that the linker keeps for the others.
 */
#pragma once

#include "base/cpuid.h"
#include "kernels/cpu/dot.h"
#include "kernels/cpu/gemm_tile.h"

/* A vector is computed where it says so. GCC would make all products of a long loop first and add them
 * up afterwards, which takes more registers than there are. */
#define GM_KEEP(vector) __asm__("" : "+x"(vector))

/* Puts the x86 variants up to `level` over what is in f. */
void gm_x86_fill_dot(gm_dot_fns *f, gm_cpu_level level);
void gm_x86_fill_tile(gm_tile_fns *f, gm_cpu_level level);

/* One level each; the CPU must have it. */
void gm_unpack_fill_avx2(gm_dot_fns *f);
void gm_dot_fill_avx2(gm_dot_fns *f);
void gm_dot_fill_avxvnni(gm_dot_fns *f);
void gm_dot_fill_avx512(gm_dot_fns *f);
void gm_dot_fill_avx512vnni(gm_dot_fns *f);
void gm_pack_fill_avx2(gm_tile_fns *f);
void gm_pack_fill_avx512(gm_tile_fns *f);
void gm_tile_fill_avx2(gm_tile_fns *f);
void gm_tile_fill_avxvnni(gm_tile_fns *f);
void gm_tile_fill_avx512(gm_tile_fns *f);
void gm_tile_fill_avx512vnni(gm_tile_fns *f);
