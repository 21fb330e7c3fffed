/* attn.h: attention over the cache, blocked over keys with a running softmax.
 *
 * Nothing of size n_tok x n_key is ever stored. Scores and sums are float32 whatever the cache's
 * type is. Work is split over (token block, key/value head), and over ranges of keys when there
 * are few tokens, so that decode at depth uses all threads.
 */
#pragma once

#include "kernels/cpu/cpu.h"

typedef struct gm_attn_ctx gm_attn_ctx;

int gm_attn_create(gm_attn_ctx **out, gm_team *team, gm_cpu_level level, char *err, size_t errlen);
void gm_attn_destroy(gm_attn_ctx **a);

/* Scratch for the largest shapes. 0 or GM_ENOMEM. */
int gm_attn_reserve(gm_attn_ctx *a, const gm_be_limits *lim);

/* 0, GM_ECANCELLED, or GM_EINVAL for shapes beyond reserve. Never allocates. */
int gm_attn_run(gm_attn_ctx *a, const gm_op_attention *op, const gm_cancel *cancel);

/* The two small matrix products inside, a family of kernels. Rows of q, k, v and o lie `ld` floats
 * apart and are zero-filled from the head's size up to d. Checked by tests/kernels/check_attn.c. */
enum {
    GM_ATTN_TILE = 4,   /* n_q is a multiple of this; k has readable rows up to one of n_k */
    GM_ATTN_LANES = 16, /* d is a multiple of this */
    GM_ATTN_KEYS = 64   /* keys of a block; rows of s lie this far apart; n_k is at most this */
};

typedef struct {
    /* s[i][j] = q[i] . k[j]. Columns from n_k to the next multiple of GM_ATTN_TILE may be
     * overwritten with anything. */
    void (*scores)(float *s, const float *q, const float *k, int n_q, int n_k, int d, int ld);

    /* o[i] += sum over j of s[i][j] v[j] */
    void (*mix)(float *o, const float *s, const float *v, int n_q, int n_k, int d, int ld);

    /* The same from n_k rows of a float16 cache as they lie, d halves each, without reading past
     * them. For few rows of q, where converted keys would not be used often enough to pay for
     * storing them. NULL: this level has none. */
    void (*scores_f16)(float *s, const float *q, const uint16_t *k, int n_q, int n_k, int d,
                       int ld);
    void (*mix_f16)(float *o, const float *s, const uint16_t *v, int n_q, int n_k, int d, int ld);
} gm_attn_fns;

/* Four rows of a float16 cache, for the kernels that read it as it lies. */
typedef struct {
    const uint16_t *row[4];
} gm_attn_quad;

/* Rows j .. j + 3 of n_k rows of d halves; where the cache ends, its last row again. */
static inline gm_attn_quad gm_attn_quad_at(const uint16_t *p, int j, int n_k, int d) {
    gm_attn_quad q;
    for (int i = 0; i < 4; i++) q.row[i] = p + (size_t)(j + i < n_k ? j + i : n_k - 1) * (size_t)d;
    return q;
}

void gm_attn_fill(gm_attn_fns *f, gm_cpu_level level);
void gm_attn_fill_avx2(gm_attn_fns *f);
void gm_attn_fill_avx512(gm_attn_fns *f);
void gm_attn_fill_neon(gm_attn_fns *f);
