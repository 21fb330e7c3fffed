/* attn.h: attention over the cache, blocked over keys with a running softmax.
 *
 * Nothing of size n_tok x n_key is ever stored. Scores and sums are float32 whatever the cache's
 * type is. Work is split over (token block, key/value head), and over ranges of keys when there
 * is only one token, so that decode at depth uses all threads.
 */
#pragma once

#include "kernels/cpu/cpu.h"

typedef struct gm_attn_ctx gm_attn_ctx;

int gm_attn_create(gm_attn_ctx **out, gm_team *team, gm_cpu_level level, char *err, size_t errlen);
void gm_attn_destroy(gm_attn_ctx **a);
int gm_attn_reserve(gm_attn_ctx *a, const gm_be_limits *lim);
int gm_attn_run(gm_attn_ctx *a, const gm_op_attention *op, const gm_cancel *cancel);
