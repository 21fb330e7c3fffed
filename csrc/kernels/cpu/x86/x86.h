/* x86.h: what the files of x86/ offer to the families, filled upward by level. */
#pragma once

#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/dot.h"

/* Puts the x86 variants up to `level` over what is in f. */
void gm_x86_fill_dot(gm_dot_fns *f, gm_cpu_level level);
