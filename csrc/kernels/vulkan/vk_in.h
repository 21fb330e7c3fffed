/* vk_in.h: what the files of this backend share: a tensor's memory, the backend's state, and how an
 * op is bound and recorded.
 */
#pragma once

#include "kernels/backend.h"
#include "kernels/rope.h"
#include "kernels/vulkan/vk_cmd.h"

/* How products are computed; ROWS fits every device. */
typedef enum {
    GM_VK_WAY_AUTO,
    GM_VK_WAY_ROWS,   /* matmul.comp: few tokens, or software */
    GM_VK_WAY_TILE,   /* matmul_tile.comp */
    GM_VK_WAY_DOT,    /* the same with integer dot products */
    GM_VK_WAY_MATRIX, /* matmul_matrix.comp */
} gm_vk_way;

/* A tensor's memory. A weight is cut into pieces of whole tiles; anything else is one piece. */
struct gm_dmem {
    gm_dmem *next, *prev;
    gm_vk_access access;
    bool packed;               /* tiles of vk_repack.h */
    uint32_t row_words;        /* packed: of one row */
    int64_t n_tile, per_piece; /* packed: tiles in all, in each piece but the last */
    size_t row_bytes, stride;  /* rows as the caller counts them, and as they lie here */
    int32_t n_piece;
    gm_vk_span piece[];
};

typedef struct {
    gm_backend base; /* first */
    gm_vk v;
    gm_vk_heap heap;
    gm_vk_pipes pipes;
    gm_vk_cmd cmd;
    gm_dmem *first;
    gm_be_limits lim;
    gm_rope_keys rope;
    gm_tensor turns[GM_ROPE_TABLES]; /* [n_tok, 2, half]: cosines and sines of a token */
    gm_tensor part;                  /* sums of parts of keys, for attention */
    gm_vk_way way;                   /* asked for by GEMMA_VULKAN_MATMUL */
    gm_tensor packed;                /* x as pack_x.comp writes it; empty where no way needs it */
    gm_tensor top_stat, top_out;     /* of vk_top.c */
    uint32_t width;                  /* of workgroups that work on rows */
} gm_vk_backend;

/* 0, GM_EDEVICE or GM_ECANCELLED: whether another op may be recorded. */
int gm_vk_ready(const gm_vk_backend *k);

/* A piece of m from a byte on, as much as one binding can show. The offset of a binding has to be a
 * multiple of what the device wants; *word is what is left, in words. */
gm_vk_bind gm_vk_bind_piece(const gm_vk_backend *k, gm_dmem *m, int32_t piece, size_t at,
                            bool write, uint32_t *word);

/* All rows of t; of size 0 when one binding cannot show them, which gm_vk_record refuses. */
gm_vk_bind gm_vk_bind_rows(const gm_vk_backend *k, const gm_tensor *t, bool write, uint32_t *word);

/* *old becomes a float tensor of n_row rows of n_in; on failure it is what it was. */
int gm_vk_renew(gm_vk_backend *k, gm_tensor *old, int64_t n_in, int64_t n_row);

/* The smallest power of two that is not below n, or else `most`, which is one. */
static inline uint32_t gm_vk_power_of_two(uint32_t n, uint32_t most) {
    uint32_t p = 1;
    while (p < n && p < most) p *= 2;
    return p;
}

int gm_vk_record(gm_vk_backend *k, const char *shader, const uint32_t spec[GM_VK_SPECS],
                 const gm_vk_bind *binds, uint32_t n_bind, const void *push, size_t n_push,
                 uint32_t x, uint32_t y, uint32_t z, double cost);

/* "shader_Q4_0" in out */
const char *gm_vk_named(char *out, size_t n, const char *shader, gm_dtype t);

/* vk_matmul.c */
int gm_vk_matmul(gm_backend *b, const gm_op_matmul *op);
/* room for x as pack_x.comp writes it */
int gm_vk_matmul_reserve(gm_vk_backend *k, const gm_be_limits *lim);
int gm_vk_matmul_way(gm_vk_backend *k, char *err, size_t errlen); /* reads GEMMA_VULKAN_MATMUL */

/* vk_top.c */
int gm_vk_top(gm_backend *b, const gm_op_top *op);
int gm_vk_top_reserve(gm_vk_backend *k);
