/* cpu.h: what the files of the CPU backend share. Private to kernels/cpu.
 *
 * Each family (matmul; attention; rows: norm, rope, activation) has a header with its table of
 * functions and a fill that picks variants for a CPU level; cpu.c holds the backend.
 */
#pragma once

#include "base/cpuid.h"
#include "kernels/backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/team.h"
#include "kernels/hostmem.h"
#include "kernels/rope.h"

struct gm_matmul_ctx; /* gemm.h: function tables and scratch of the matrix products */
struct gm_attn_ctx;   /* attn.h */

/* The numbers of a rope table. */
typedef struct {
    float *cosine, *sine; /* [n_tok, half] */
} gm_cpu_turns;

typedef struct {
    gm_backend base; /* first */
    gm_team *team;
    gm_cpu_level level;
    struct gm_matmul_ctx *matmul;
    struct gm_attn_ctx *attn;
    gm_row_fns rows;
    gm_hostmem mem;
    gm_be_limits lim; /* zeroed before the first reserve */
    gm_rope_keys rope;
    gm_cpu_turns turns[GM_ROPE_TABLES];
} gm_cpu;

/* Ops of the rows family, in cpu_rows.c. Arguments are checked. */
int gm_cpu_rope_reserve(gm_cpu *c, const gm_be_limits *lim);
void gm_cpu_rope_finish(gm_cpu *c);
int gm_cpu_embed(gm_backend *b, const gm_op_embed *op);
int gm_cpu_rms_norm(gm_backend *b, const gm_op_rms_norm *op);
int gm_cpu_add_norm(gm_backend *b, const gm_op_add_norm *op);
int gm_cpu_head_norm_rope(gm_backend *b, const gm_op_head_norm_rope *op);
int gm_cpu_kv_write(gm_backend *b, const gm_op_kv_write *op);
int gm_cpu_geglu(gm_backend *b, const gm_op_geglu *op);
int gm_cpu_softcap(gm_backend *b, const gm_op_softcap *op);
