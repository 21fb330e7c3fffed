/* kv.h: the K/V cache of one session.
 *
 * Sliding layers are rings of window + slack positions: going back up to `slack` positions from
 * the furthest point ever written is a rewind; further back the window is gone and the session
 * recomputes from the start. Global layers keep every position up to n_ctx. Memory is reserved
 * at creation; on the host it becomes resident as it is written, a device's is cleared at once.
 */
#pragma once

#include "kernels/backend.h"
#include "model/config.h"

typedef struct {
    int32_t n_ctx;   /* positions, > 0 */
    int32_t n_slack; /* extra ring positions, at least the largest chunk; 0: 512 */
    gm_dtype type;   /* F32, F16 or Q8_0 (head sizes that are no multiple of 32 fall back to F16) */
} gm_kv_opts;

typedef struct gm_kv gm_kv;

int gm_kv_create(gm_kv **out, const gm_config *c, gm_backend *b, const gm_kv_opts *opts, char *err,
                 size_t errlen);
void gm_kv_destroy(gm_kv **kv);

/* Layer i of such a cache without its memory, and what that takes, for those who must know before
 * there is one. */
gm_kv_layer gm_kv_layer_shape(const gm_config *c, int32_t i, const gm_kv_opts *opts);
uint64_t gm_kv_layer_bytes(const gm_config *c, int32_t i, const gm_kv_opts *opts);

int32_t gm_kv_len(const gm_kv *kv); /* positions stored */
int32_t gm_kv_n_ctx(const gm_kv *kv);
int32_t gm_kv_slack(const gm_kv *kv);  /* largest chunk that may be written at once */
uint64_t gm_kv_bytes(const gm_kv *kv); /* reserved */
gm_kv_layer *gm_kv_layer_at(gm_kv *kv, int32_t layer);

/* The decoder is about to write the rows of n positions behind the length. From here on the oldest
 * rows of the rings are gone, even when the writing fails half way. */
void gm_kv_begin_write(gm_kv *kv, int32_t n);

/* The decoder wrote n positions. */
void gm_kv_advance(gm_kv *kv, int32_t n);

/* Whether the cache can be cut back to len positions and go on correctly from there. */
bool gm_kv_can_rewind(const gm_kv *kv, int32_t len);

/* Cuts back to len when that is possible, else to 0. Returns the new length. */
int32_t gm_kv_rewind(gm_kv *kv, int32_t len);

/* Makes dst hold the first len positions of src (same model, same type); when src can not be
 * rewound to len, dst becomes empty. Returns the new length of dst or an error. */
int32_t gm_kv_fork(gm_kv *dst, const gm_kv *src, int32_t len);
