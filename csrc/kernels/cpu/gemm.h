/* gemm.h: matrix products over quantised and float weights.
 *
 * out[t, r] = sum_k x[t, k] * w[r, k]. Quantised weights stay as they are in the file;
 * x is quantised to 8 bits per block of 32 and the products are integer. Float weights (F32, F16,
 * BF16) multiply with float32 activations. One token streams the weights once (bound by memory);
 * many tokens go through tiles that keep a panel of unpacked weights in cache (bound by
 * arithmetic). Where the CPU has a matrix unit, x and the panels of quantised weights are rounded
 * to bfloat16 for these, which loses less than the 8 bits; so a token in a prompt gives not quite
 * the same numbers there as one that is decoded.
 */
#pragma once

#include "kernels/cpu/cpu.h"

typedef struct gm_matmul_ctx gm_matmul_ctx;

int gm_matmul_create(gm_matmul_ctx **out, gm_team *team, gm_cpu_level level, char *err,
                     size_t errlen);
void gm_matmul_destroy(gm_matmul_ctx **m);

/* From now on products lose next to nothing of the activations: for models so small that what this
 * costs cannot be felt. Activations are quantised twice, what 8 bits lose being quantised again and
 * multiplied too; few tokens stay float32 where there is a kernel for that. To be called before
 * reserve. */
void gm_matmul_set_fine(gm_matmul_ctx *m);

/* Scratch for the largest shapes. 0 or GM_ENOMEM. */
int gm_matmul_reserve(gm_matmul_ctx *m, int32_t max_tok, int32_t max_in);

/* 0 or GM_ECANCELLED. Never allocates after reserve. */
int gm_matmul_run(gm_matmul_ctx *m, const gm_op_matmul *op, const gm_cancel *cancel);
