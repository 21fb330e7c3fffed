/* cpu.h: what the files of the CPU backend share. Private to kernels/cpu.
 *
 * Each family (matmul; attention; norm, rope, activation) has a header with its table of
 * functions and a fill that picks variants for a CPU level; cpu.c holds the backend.
 */
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/team.h"

struct gm_matmul_ctx; /* gemm.h: function tables and scratch of the matrix products */
struct gm_attn_ctx;   /* attn.h */
struct gm_row_fns;    /* rows.h: norm, rope, activations, conversions */

typedef struct {
    gm_backend base; /* first */
    gm_team *team;
    gm_cpu_level level;
    struct gm_matmul_ctx *matmul;
    struct gm_attn_ctx *attn;
    const struct gm_row_fns *rows;
    gm_be_limits lim;
} gm_cpu;
