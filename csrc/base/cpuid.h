/* cpuid.h: which instruction sets this CPU has, and which level the kernels may use. */
#pragma once

#include <stdbool.h>

/* Each level includes the ones before it on its own architecture. */
typedef enum {
    GM_CPU_REF,        /* plain C */
    GM_CPU_AVX2,       /* avx2 fma f16c */
    GM_CPU_AVXVNNI,    /* + avx_vnni (256 bit) */
    GM_CPU_AVX512,     /* avx512 f bw dq vl */
    GM_CPU_AVX512VNNI, /* + avx512_vnni */
    GM_CPU_NEON,       /* armv8-a */
    GM_CPU_DOTPROD,    /* + dotprod (armv8.2-a) */
    GM_CPU_I8MM,       /* + i8mm (armv8.6-a) */
    GM_CPU_LEVEL_COUNT
} gm_cpu_level;

/* The best level that the CPU and the operating system support, lowered by GEMMA_CPU. A CPU
 * without AVX-VNNI reaches AVX512 from AVX2. Cached. */
gm_cpu_level gm_cpu_level_get(void);

/* Whether kernels of level l may run here (true for every level on the way to the best). */
bool gm_cpu_has(gm_cpu_level l);

const char *gm_cpu_level_name(gm_cpu_level l);

/* "avx512vnni (avx2 fma f16c avx512f ...)"; static storage. */
const char *gm_cpu_describe(void);

/* Physical cores that this process may run on; at least 1. */
int gm_cpu_physical_cores(void);

/* Forces a level for tests (as GEMMA_CPU does); a level the CPU lacks is lowered. Tables that were
 * filled before keep their functions. */
void gm_cpu_force(gm_cpu_level l);
