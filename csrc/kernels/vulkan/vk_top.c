/* vk_top.c: the best of a row of logits, so that a step of decoding sends back a few kilobytes and
 * not a vocabulary.
 *
 * Three shaders: what each of 2048 blocks of the row has at most (top_blocks.comp), from that a
 * bound which enough ids reach (top_bound.comp), and these ids (top_list.comp). No sorting: the
 * bound makes the list exact however many are alike, and the host sorts a few hundred in no time.
 */
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "kernels/vulkan/vk_in.h"

enum {
    BLOCKS = 2048, /* as in top.glsl */
    HEAD = 4,      /* words before the pairs: max, sum, bound, count */
    OUT_WORDS = HEAD + 2 * GM_TOP_ROOM
};

int gm_vk_top_reserve(gm_vk_backend *k) {
    if (k->top_out.dmem) return GM_OK;
    gm_be_tensor_free(&k->base, &k->top_stat); /* of an attempt that failed half way */
    k->top_stat = gm_tensor_view(GM_F32, NULL, 2 * BLOCKS, 1);
    k->top_out = gm_tensor_view(GM_F32, NULL, OUT_WORDS, 1);
    int rc = gm_be_tensor_alloc(&k->base, &k->top_stat);
    return rc ? rc : gm_be_tensor_alloc(&k->base, &k->top_out);
}

static int find_bound(gm_vk_backend *k, const gm_tensor *x, uint32_t groups) {
    struct {
        uint32_t n, x_at, stat_at;
    } a = {.n = (uint32_t)x->ne[0]};
    struct {
        uint32_t n_block, wanted, stat_at, out_at;
    } b = {.n_block = a.n < BLOCKS ? a.n : BLOCKS};
    b.wanted = b.n_block < GM_TOP_WANTED ? b.n_block : GM_TOP_WANTED;
    const uint32_t spec[GM_VK_SPECS] = {k->width};
    gm_vk_bind blocks[2] = {gm_vk_bind_rows(k, x, false, &a.x_at),
                            gm_vk_bind_rows(k, &k->top_stat, true, &a.stat_at)};
    int rc = gm_vk_record(k, "top_blocks", spec, blocks, 2, &a, sizeof a, groups, 1, 1, 2.0 * a.n);
    if (rc) return rc;
    gm_vk_bind bound[2] = {gm_vk_bind_rows(k, &k->top_stat, false, &b.stat_at),
                           gm_vk_bind_rows(k, &k->top_out, true, &b.out_at)};
    return gm_vk_record(k, "top_bound", spec, bound, 2, &b, sizeof b, 1, 1, 1, 34.0 * BLOCKS);
}

static int list_best(gm_vk_backend *k, const gm_tensor *x, uint32_t groups) {
    struct {
        uint32_t n, room, x_at, stat_at, out_at;
    } p = {.n = (uint32_t)x->ne[0], .room = GM_TOP_ROOM};
    const uint32_t spec[GM_VK_SPECS] = {k->width};
    gm_vk_bind binds[3] = {gm_vk_bind_rows(k, x, false, &p.x_at),
                           gm_vk_bind_rows(k, &k->top_stat, false, &p.stat_at),
                           gm_vk_bind_rows(k, &k->top_out, true, &p.out_at)};
    return gm_vk_record(k, "top_list", spec, binds, 3, &p, sizeof p, groups, 1, 1, p.n / 4.0);
}

static float as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

int gm_vk_top(gm_backend *base, const gm_op_top *op) {
    gm_vk_backend *k = (gm_vk_backend *)base;
    gm_top *t = op->out;
    uint32_t word[OUT_WORDS], groups = (BLOCKS + k->width - 1) / k->width;
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    if (!k->top_out.dmem) {
        gm_log(GM_LOG_ERROR, "vulkan", "top: never reserved");
        return GM_EINVAL;
    }
    rc = find_bound(k, op->x, groups);
    if (!rc) rc = list_best(k, op->x, groups);
    if (!rc) rc = gm_be_read(base, &k->top_out, 0, word, sizeof word);
    if (rc) return rc;
    t->n_row = (int32_t)op->x->ne[0];
    t->max = as_float(word[0]);
    t->sum = as_float(word[1]);
    t->bound = as_float(word[2]);
    t->n = word[3] <= GM_TOP_ROOM ? (int32_t)word[3] : -1;
    for (int32_t i = 0; i < t->n; i++)
        t->entry[i] = (gm_top_entry){as_float(word[HEAD + 2 * i]), (int32_t)word[HEAD + 2 * i + 1]};
    return GM_OK;
}
