/* vk_matmul.c: products with weights: which way, and how they are cut.
 *
 * Few tokens are bound by reading weights, many by arithmetic, so there is a shader for the one and
 * three for the other; the best one that device and type allow is taken. Rows are taken in pieces
 * that one binding can show and in runs that keep a submit short.
 */
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "kernels/vulkan/vk_in.h"
#include "kernels/vulkan/vk_repack.h"

enum { TILE_ROWS = 64, TILE_WIDTH = 128, FEW_TOKENS = 16 };

/* Shared memory of matmul_tile.comp. */
static const uint32_t TILE_SHARED = 18432;

static const char *const way_names[] = {"auto", "rows", "tile", "dot", "matrix"};

typedef struct {
    uint32_t n_in, n_out, n_tok, row_words, x_at, out_at, row0, tile0, n_tile;
} push_product;

/* What pack_x.comp made of the op's x. */
typedef enum { AS_IT_IS, AS_BYTES, AS_HALVES } packing;

int gm_vk_matmul_way(gm_vk_backend *k, char *err, size_t errlen) {
    const char *name = gm_env(GM_ENV_VULKAN_MATMUL);
    if (!name) return GM_OK;
    for (size_t i = 0; i < sizeof way_names / sizeof *way_names; i++)
        if (strcmp(name, way_names[i]) == 0) {
            k->way = (gm_vk_way)i;
            return GM_OK;
        }
    return gm_fail(err, errlen, GM_EINVAL,
                   "GEMMA_VULKAN_MATMUL is \"%.20s\"; use rows, tile, dot or matrix", name);
}

/* ---- choice ------------------------------------------------------------------------------ */

static bool has_tile(const gm_vk_backend *k) {
    return k->v.max_shared >= TILE_SHARED && k->v.max_group >= TILE_WIDTH;
}

static bool has_dot(const gm_vk_backend *k, gm_dtype t) {
    bool type = t == GM_Q4_0 || t == GM_Q5_0 || t == GM_Q8_0 || t == GM_Q4_K || t == GM_Q5_K ||
                t == GM_Q6_K;
    return k->v.dot && type && has_tile(k);
}

static bool has_matrix(const gm_vk_backend *k, gm_dtype t) {
    return k->v.matrix[0] && has_tile(k) && t != GM_F32 && t != GM_F16 && t != GM_BF16 &&
           gm_vk_pipes_has("matrix_Q4_0");
}

static gm_vk_way choose(const gm_vk_backend *k, gm_dtype t, int32_t n_tok, bool linear) {
    if (linear || k->way == GM_VK_WAY_ROWS || !has_tile(k)) return GM_VK_WAY_ROWS;
    if (k->way != GM_VK_WAY_AUTO) {
        bool can = k->way == GM_VK_WAY_MATRIX ? has_matrix(k, t)
                                              : k->way == GM_VK_WAY_DOT && has_dot(k, t);
        return can ? k->way : GM_VK_WAY_TILE;
    }
    if (k->v.software || n_tok <= FEW_TOKENS) return GM_VK_WAY_ROWS;
    if (!k->lim.fine && has_matrix(k, t)) return GM_VK_WAY_MATRIX;
    if (!k->lim.fine && k->v.dot_fast && has_dot(k, t)) return GM_VK_WAY_DOT;
    return GM_VK_WAY_TILE;
}

/* ---- x ----------------------------------------------------------------------------------- */

int gm_vk_matmul_reserve(gm_vk_backend *k, const gm_be_limits *lim) {
    bool wanted = k->way == GM_VK_WAY_AUTO ? !k->v.software && !lim->fine : k->way >= GM_VK_WAY_DOT;
    if (!wanted || (!k->v.dot && !k->v.matrix[0])) return GM_OK;
    /* 16 words of halves or 11 with bytes for 32 values, and the row's factor. */
    return gm_vk_renew(k, &k->packed, (lim->max_in + 31) / 32 * 16 + 1, lim->max_tok);
}

static int pack_x(gm_vk_backend *k, const gm_tensor *x, int32_t n_tok, packing as) {
    struct {
        uint32_t n, n_tok, x_at, out_at;
    } p = {.n = (uint32_t)x->ne[0], .n_tok = (uint32_t)n_tok};
    if (!k->packed.dmem || (x->ne[0] + 31) / 32 * 16 + 1 > k->packed.ne[0] ||
        n_tok > k->packed.ne[1]) {
        gm_log(GM_LOG_ERROR, "vulkan", "matmul: %d rows of %u were never reserved", n_tok, p.n);
        return GM_EINVAL;
    }
    gm_vk_bind b[2] = {gm_vk_bind_rows(k, x, false, &p.x_at),
                       gm_vk_bind_rows(k, &k->packed, true, &p.out_at)};
    const uint32_t spec[GM_VK_SPECS] = {as == AS_HALVES ? k->width : 32, as == AS_HALVES};
    return gm_vk_record(k, "pack_x", spec, b, 2, &p, sizeof p, p.n_tok, 1, 1,
                        (double)n_tok * p.n * 3);
}

/* ---- cutting ----------------------------------------------------------------------------- */

typedef struct {
    const char *shader;
    uint32_t spec[GM_VK_SPECS];
    uint32_t tiles, tokens; /* of a workgroup */
    packing as;
} cut;

/* More invocations share a sum where there are few rows of x to keep a device busy. Software has
 * few cores, and subgroups for which everything but the weights is the same; its registers hold two
 * rows. */
static cut plan_rows(const gm_vk_backend *k, int32_t n_tok, bool aligned, bool linear) {
    uint32_t tokens = gm_vk_power_of_two((uint32_t)n_tok, k->v.software ? 4 : 16);
    uint32_t slices = k->v.software ? 1 : tokens <= 4 ? 8 : 4;
    while (slices * GM_VK_TILE > k->v.max_group) slices /= 2;
    uint32_t rows = k->v.software && !linear ? 2 : 1;
    return (cut){.shader = "matmul",
                 .spec = {slices * GM_VK_TILE, slices, tokens, aligned, rows,
                          k->v.software, [7] = linear ? 1 : GM_VK_TILE},
                 .tiles = rows,
                 .tokens = tokens};
}

static cut plan_product(const gm_vk_backend *k, gm_vk_way way, int32_t n_tok, bool aligned,
                        bool linear) {
    uint32_t tokens = n_tok <= 32 ? 2 : 4;
    switch (way) {
    case GM_VK_WAY_TILE:
    case GM_VK_WAY_DOT:
        return (cut){.shader = way == GM_VK_WAY_DOT ? "dot" : "tile",
                     .spec = {TILE_WIDTH, aligned, tokens, [7] = GM_VK_TILE},
                     .tiles = TILE_ROWS / GM_VK_TILE,
                     .tokens = 16 * tokens,
                     .as = way == GM_VK_WAY_DOT ? AS_BYTES : AS_IT_IS};
    case GM_VK_WAY_MATRIX:
        return (cut){.shader = "matrix",
                     .spec = {TILE_WIDTH, k->v.matrix[0], k->v.matrix[1], k->v.matrix[2],
                              TILE_WIDTH / k->v.subgroup, [7] = GM_VK_TILE},
                     .tiles = TILE_ROWS / GM_VK_TILE,
                     .tokens = 64,
                     .as = AS_HALVES};
    default: return plan_rows(k, n_tok, aligned, linear);
    }
}

/* Tiles that one dispatch may take without being late for the desktop. */
static int64_t most_tiles(const gm_vk_backend *k, double tile_cost) {
    double most = tile_cost > 0 ? gm_vk_cmd_budget(&k->cmd) / tile_cost : 60000;
    /* Fewer than 16 would leave a device idle. */
    return most < 16 ? 16 : most < 60000 ? (int64_t)most : 60000;
}

/* *packed: how x lies in k->packed, kept from matrix to matrix of an op. */
static int product(gm_vk_backend *k, const gm_tensor *w, const gm_tensor *x, const gm_tensor *out,
                   int32_t n_tok, packing *packed) {
    gm_dmem *m = w->dmem;
    char name[32];
    push_product p = {.n_in = (uint32_t)w->ne[0],
                      .n_out = (uint32_t)gm_tensor_rows(w),
                      .n_tok = (uint32_t)n_tok,
                      .row_words = m->row_words};
    uint32_t word = 0;
    gm_vk_bind b[3] = {
        {0}, gm_vk_bind_rows(k, x, false, &p.x_at), gm_vk_bind_rows(k, out, true, &p.out_at)};
    gm_vk_way way = choose(k, w->dtype, n_tok, !m->packed);
    cut plan = plan_product(k, way, n_tok, p.n_in % 8 == 0 && p.x_at % 4 == 0, !m->packed);
    if (plan.as != AS_IT_IS) {
        int rc = plan.as == *packed ? GM_OK : pack_x(k, x, n_tok, plan.as);
        if (rc) return rc;
        *packed = plan.as;
        b[1] = gm_vk_bind_rows(k, &k->packed, false, &p.x_at);
    }
    gm_vk_named(name, sizeof name, plan.shader, w->dtype);
    double tile_cost = (double)m->row_words * GM_VK_TILE * n_tok;
    int64_t n_tile = m->packed ? m->n_tile : 1, per_piece = m->packed ? m->per_piece : 1;
    int64_t most = most_tiles(k, tile_cost);
    for (int64_t tile = 0; tile < n_tile;) {
        int32_t piece = (int32_t)(tile / per_piece);
        int64_t end = (piece + 1) * per_piece;
        if (end > n_tile) end = n_tile;
        if (end > tile + most) end = tile + most;
        b[0] = gm_vk_bind_piece(k, m, piece, 0, false, &word);
        p.row0 = (uint32_t)(piece * per_piece * GM_VK_TILE);
        p.tile0 = (uint32_t)(tile - piece * per_piece);
        p.n_tile = (uint32_t)(end - piece * per_piece);
        int rc = gm_vk_record(k, name, plan.spec, b, 3, &p, sizeof p,
                              ((uint32_t)(end - tile) + plan.tiles - 1) / plan.tiles,
                              (p.n_tok + plan.tokens - 1) / plan.tokens, 1,
                              tile_cost * (double)(end - tile));
        if (!rc) rc = gm_vk_ready(k);
        if (rc) return rc;
        tile = end;
    }
    return GM_OK;
}

int gm_vk_matmul(gm_backend *b, const gm_op_matmul *op) {
    gm_vk_backend *k = (gm_vk_backend *)b;
    int rc = gm_vk_ready(k);
    packing packed = AS_IT_IS;
    for (int32_t i = 0; !rc && i < op->n_mat; i++)
        rc = product(k, op->w[i], op->x, op->out[i], op->n_tok, &packed);
    return rc;
}
