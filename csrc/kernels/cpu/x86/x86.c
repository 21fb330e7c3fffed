/* x86.c: fills of the families for x86, from the lowest level upward. Plain C. */
#include "kernels/cpu/x86/x86.h"

void gm_x86_fill_dot(gm_dot_fns *f, gm_cpu_level level) {
    if (gm_cpu_uses(level, GM_CPU_AVX2)) {
        gm_unpack_fill_avx2(f);
        gm_dot_fill_avx2(f);
    }
    if (gm_cpu_uses(level, GM_CPU_AVXVNNI)) gm_dot_fill_avxvnni(f);
    if (gm_cpu_uses(level, GM_CPU_AVX512)) gm_dot_fill_avx512(f);
    if (gm_cpu_uses(level, GM_CPU_AVX512VNNI)) gm_dot_fill_avx512vnni(f);
}

void gm_x86_fill_tile(gm_tile_fns *f, gm_cpu_level level) {
    if (gm_cpu_uses(level, GM_CPU_AVX2)) {
        gm_pack_fill_avx2(f);
        gm_tile_fill_avx2(f);
    }
    if (gm_cpu_uses(level, GM_CPU_AVXVNNI)) gm_tile_fill_avxvnni(f);
    if (gm_cpu_uses(level, GM_CPU_AVX512)) {
        gm_pack_fill_avx512(f);
        gm_tile_fill_avx512(f);
    }
    if (gm_cpu_uses(level, GM_CPU_AVX512VNNI)) gm_tile_fill_avx512vnni(f);
    if (gm_cpu_uses(level, GM_CPU_AMX)) gm_tile_fill_amx(f);
}
