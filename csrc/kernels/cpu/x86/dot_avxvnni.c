/* dot_avxvnni.c: decode with vpdpbusd, 256 bits wide, for CPUs without AVX-512. */
#define GM_YMM_VNNI 1
#include "kernels/cpu/x86/dot_ymm.h"

void gm_dot_fill_avxvnni(gm_dot_fns *f) { fill_dot(f); }
