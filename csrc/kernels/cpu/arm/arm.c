/* arm.c: fills of the families for 64-bit ARM, from the lowest level upward. Plain C. */
#include "kernels/cpu/arm/arm.h"

void gm_arm_fill_dot(gm_dot_fns *f, gm_cpu_level level) {
    if (gm_cpu_uses(level, GM_CPU_NEON)) {
        gm_unpack_fill_neon(f);
        gm_dot_fill_neon(f);
    }
    if (gm_cpu_uses(level, GM_CPU_DOTPROD)) gm_dot_fill_dotprod(f);
}

void gm_arm_fill_tile(gm_tile_fns *f, gm_cpu_level level) {
    if (gm_cpu_uses(level, GM_CPU_NEON)) gm_tile_fill_neon(f);
    if (gm_cpu_uses(level, GM_CPU_DOTPROD)) gm_tile_fill_dotprod(f);
    if (gm_cpu_uses(level, GM_CPU_I8MM)) gm_tile_fill_i8mm(f);
}
