/* gemm_avxvnni.c: tiles of 256 bits with vpdpbusd, for CPUs without AVX-512. */
#define GM_YMM_VNNI 1
#include "kernels/cpu/x86/gemm_ymm.h"

void gm_tile_fill_avxvnni(gm_tile_fns *f) { f->tile_quant = tile_quant; }
