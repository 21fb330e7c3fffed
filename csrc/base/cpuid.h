/* cpuid.h: which instruction sets this CPU has, and which level the kernels may use. */
#pragma once

#include <stdbool.h>

/* From low to high within an architecture. A CPU that has a level has the ones before it, apart
 * from AVX-VNNI, which those with AVX-512 may lack. */
typedef enum {
    GM_CPU_REF,        /* plain C */
    GM_CPU_AVX2,       /* avx2 fma f16c */
    GM_CPU_AVXVNNI,    /* + avx_vnni (256 bit) */
    GM_CPU_AVX512,     /* avx512 f bw dq vl */
    GM_CPU_AVX512VNNI, /* + avx512_vnni */
    GM_CPU_AMX,        /* + avx512_bf16, amx_tile, amx_bf16 */
    GM_CPU_NEON,       /* armv8-a */
    GM_CPU_DOTPROD,    /* + dotprod (armv8.2-a) */
    GM_CPU_I8MM,       /* + i8mm (armv8.6-a) */
    GM_CPU_LEVEL_COUNT
} gm_cpu_level;

/* The best level that the CPU and the operating system support, lowered by GEMMA_CPU. Cached. */
gm_cpu_level gm_cpu_level_get(void);

/* Whether this CPU can run code of level l, whatever GEMMA_CPU says. */
bool gm_cpu_has(gm_cpu_level l);

/* Whether code of level l belongs to level `top`: it is not above it, and this CPU can run it. */
bool gm_cpu_uses(gm_cpu_level top, gm_cpu_level l);

const char *gm_cpu_level_name(gm_cpu_level l);

/* "avx512vnni (avx2 fma f16c avx512f ...)"; static storage. */
const char *gm_cpu_describe(void);

/* Physical cores that this process may run on, no more than its container may use; at least 1. */
int gm_cpu_physical_cores(void);

/* Forces a level for tests (as GEMMA_CPU does); a level the CPU lacks is lowered. Tables that were
 * filled before keep their functions. */
void gm_cpu_force(gm_cpu_level l);
