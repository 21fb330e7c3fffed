/* rope.h: cosines and sines of the positions of a batch, as the backends keep them.
 *
 * They are the same for every head and for every layer of a kind, and too slow to compute for each,
 * so that a backend has a table for each of the two kinds of layers. Owns what is known about the
 * tables; where the numbers lie, and in which order, is the backend's.
 * Thread: the one that calls the backend.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "kernels/ops.h"

enum { GM_ROPE_TABLES = 2 }; /* sliding and global layers */

/* What a table holds. */
typedef struct {
    int32_t pos0, n_tok; /* positions pos0 .. pos0 + n_tok - 1; n_tok 0: empty */
    int32_t half;        /* of a head */
    float *inv_freq;     /* [half], a copy */
} gm_rope_key;

typedef struct {
    gm_rope_key key[GM_ROPE_TABLES];
    int next;   /* the one to overwrite when none fits */
} gm_rope_keys; /* zeroed: nothing is reserved */

/* Empty tables for heads of up to max_head_dim. 0, or GM_ENOMEM and *k is zeroed. */
int gm_rope_keys_init(gm_rope_keys *k, int32_t max_head_dim);
void gm_rope_keys_finish(gm_rope_keys *k);

/* The number of the table that has the op's positions and frequencies, which are not NULL. *fresh:
 * it was given to them by this call, and its numbers are still to be made; a backend that cannot
 * sets n_tok of the key to 0. */
int gm_rope_find(gm_rope_keys *k, const gm_op_head_norm_rope *op, bool *fresh);

/* The numbers of token t of a table: cosine, sine: [half]. */
void gm_rope_turn(const gm_rope_key *k, int32_t t, float *cosine, float *sine);
