/* x86.c: fills of the families for x86, from the lowest level upward. Plain C. */
#include "kernels/cpu/x86/x86.h"

void gm_x86_fill_dot(gm_dot_fns *f, gm_cpu_level level) {
    (void)f;
    (void)level;
}
