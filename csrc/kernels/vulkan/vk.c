/* vk.c: the Vulkan backend: backend.h by recording commands.
 *
 * Ops choose a shader and its numbers and record; nothing waits before sync and read. Weights are
 * repacked on the way in (vk_repack.h) and lie in pieces that one binding can show. Activations and
 * caches are one piece each.
 */
#include "kernels/vulkan/vk.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/vulkan/vk_in.h"
#include "kernels/vulkan/vk_repack.h"
#include "kernels/vulkan/vk_util.h"

enum {
    MAX_PART_ROWS = 1024,
    MAX_HEAD_DIM = 1024 /* attention.comp keeps columns of a head in registers */
};

static gm_vk_backend *of(gm_backend *b) { return (gm_vk_backend *)b; }

int gm_vk_ready(const gm_vk_backend *k) {
    if (k->v.lost) return GM_EDEVICE;
    return gm_cancelled(k->base.cancel) ? GM_ECANCELLED : GM_OK;
}

/* ---- memory ------------------------------------------------------------------------------ */

static gm_dmem *new_dmem(gm_vk_backend *k, int32_t n_piece) {
    gm_dmem *m = gm_calloc(1, sizeof *m + (size_t)n_piece * sizeof *m->piece);
    if (!m) return NULL;
    m->next = k->first;
    if (k->first) k->first->prev = m;
    k->first = m;
    return m;
}

static void free_dmem(gm_vk_backend *k, gm_dmem *m) {
    if (!k->v.lost && !gm_vk_cmd_idle(&k->cmd, &m->access)) gm_vk_cmd_wait(&k->cmd);
    for (int32_t i = 0; i < m->n_piece; i++) gm_vk_give(&k->heap, &m->piece[i]);
    if (m->prev) m->prev->next = m->next;
    else k->first = m->next;
    if (m->next) m->next->prev = m->prev;
    gm_free(m);
}

static void vk_tensor_free(gm_backend *b, gm_tensor *t) {
    if (t->dmem) free_dmem(of(b), t->dmem);
}

gm_vk_bind gm_vk_bind_piece(const gm_vk_backend *k, gm_dmem *m, int32_t piece, size_t at,
                            bool write, uint32_t *word) {
    const gm_vk_span *s = &m->piece[piece];
    VkDeviceSize from = (s->at + at) / k->v.align * k->v.align;
    VkDeviceSize size = s->at + s->size - from, most = gm_vk_max_bind(&k->v);
    *word = (uint32_t)((s->at + at - from) / 4);
    return (gm_vk_bind){s->buffer, from, size < most ? size : most, &m->access, write};
}

static size_t place(const gm_tensor *t) {
    const gm_dmem *m = t->dmem;
    return m->stride == m->row_bytes ? t->offset : t->offset / m->row_bytes * m->stride;
}

gm_vk_bind gm_vk_bind_rows(const gm_vk_backend *k, const gm_tensor *t, bool write, uint32_t *word) {
    gm_dmem *m = t->dmem;
    gm_vk_bind b = gm_vk_bind_piece(k, m, 0, place(t), write, word);
    VkDeviceSize row = m->stride == m->row_bytes ? t->row_bytes : m->stride;
    if (*word * 4 + (VkDeviceSize)gm_tensor_rows(t) * row > b.size) b.size = 0;
    return b;
}

/* Rows of caches begin with a word. A row of Q8_0 is its values and then its scales. */
static size_t stride_of(const gm_tensor *t) {
    if (t->dtype == GM_Q8_0) return (size_t)t->ne[0] + (size_t)((t->ne[0] + 63) / 64) * 4;
    return (t->row_bytes + 3) / 4 * 4;
}

/* Rows are bound together. A single long one is memory for views, which are bound one by one. */
static bool vk_can_hold(gm_backend *b, const gm_tensor *t) {
    size_t n;
    return gm_mul_size((size_t)gm_tensor_rows(t), stride_of(t), &n) &&
           (gm_tensor_rows(t) == 1 || n <= gm_vk_max_bind(&of(b)->v));
}

static int vk_tensor_alloc(gm_backend *b, gm_tensor *t) {
    gm_vk_backend *k = of(b);
    if (k->v.lost) return GM_EDEVICE;
    if (!vk_can_hold(b, t)) {
        gm_log(GM_LOG_ERROR, "vulkan", "a tensor of more than the %llu MiB that %s can bind",
               (unsigned long long)(gm_vk_max_bind(&k->v) >> 20), k->v.name);
        return GM_ENOMEM;
    }
    gm_dmem *m = new_dmem(k, 1);
    if (!m) return GM_ENOMEM;
    m->row_bytes = t->row_bytes;
    m->stride = stride_of(t);
    const size_t n = (size_t)gm_tensor_rows(t) * m->stride;
    int rc = gm_vk_take(&k->heap, GM_VK_LOCAL, n, &m->piece[0]);
    if (!rc) {
        m->n_piece = 1;
        gm_vk_bind all = {m->piece[0].buffer, m->piece[0].at, m->piece[0].size, &m->access, true};
        if (m->piece[0].host) memset(m->piece[0].host, 0, m->piece[0].size);
        else rc = gm_vk_cmd_zero(&k->cmd, &all, all.size);
    }
    if (rc) {
        free_dmem(k, m);
        return rc;
    }
    t->dmem = m;
    t->offset = 0;
    return GM_OK;
}

static int vk_write(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n) {
    gm_vk_backend *k = of(b);
    gm_dmem *m = t->dmem;
    if (m->packed || m->stride != m->row_bytes) return GM_EUNSUPPORTED;
    size_t at = t->offset + offset;
    if (k->v.lost) return GM_EDEVICE;
    if (m->piece[0].host && gm_vk_cmd_idle(&k->cmd, &m->access)) {
        memcpy(m->piece[0].host + at, src, n);
        return GM_OK;
    }
    for (size_t done = 0; done < n;) {
        size_t part = n - done < GM_VK_UPLOAD_BYTES ? n - done : GM_VK_UPLOAD_BYTES;
        gm_vk_bind from,
            to = {m->piece[0].buffer, m->piece[0].at + at + done, part, &m->access, true};
        void *host;
        int rc = gm_vk_cmd_space(&k->cmd, part, &host, &from);
        if (rc) return rc;
        memcpy(host, (const char *)src + done, part);
        if ((rc = gm_vk_cmd_copy(&k->cmd, &from, &to, part))) return rc;
        done += part;
    }
    return GM_OK;
}

static int vk_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n) {
    gm_vk_backend *k = of(b);
    gm_dmem *m = t->dmem;
    if (m->packed || m->stride != m->row_bytes) return GM_EUNSUPPORTED;
    size_t at = t->offset + offset;
    if (m->piece[0].host) {
        int rc = gm_vk_cmd_wait(&k->cmd);
        if (!rc) memcpy(dst, m->piece[0].host + at, n);
        return rc;
    }
    for (size_t done = 0; done < n;) {
        size_t part = n - done < k->cmd.readback.size ? n - done : (size_t)k->cmd.readback.size;
        gm_vk_bind from = {m->piece[0].buffer, m->piece[0].at + at + done, part, &m->access, false};
        gm_vk_bind to = {k->cmd.readback.buffer, k->cmd.readback.at, part, NULL, true};
        int rc = gm_vk_cmd_copy(&k->cmd, &from, &to, part);
        if (!rc) rc = gm_vk_cmd_wait(&k->cmd);
        if (rc) return rc;
        memcpy((char *)dst + done, k->cmd.readback.host, part);
        done += part;
    }
    return GM_OK;
}

static int vk_copy(gm_backend *b, gm_tensor *dst, size_t dst_at, const gm_tensor *src,
                   size_t src_at, size_t n) {
    gm_vk_backend *k = of(b);
    gm_dmem *d = dst->dmem, *s = src->dmem;
    size_t row = d->row_bytes;
    if (d->packed || s->packed || row != s->row_bytes || d->stride != s->stride)
        return GM_EUNSUPPORTED;
    if (d->stride != row) { /* whole rows only */
        if (dst_at % row || src_at % row || n % row) return GM_EUNSUPPORTED;
        dst_at = dst_at / row * d->stride;
        src_at = src_at / row * d->stride;
        n = n / row * d->stride;
    }
    gm_vk_bind from = {s->piece[0].buffer, s->piece[0].at + place(src) + src_at, n, &s->access,
                       false};
    gm_vk_bind to = {d->piece[0].buffer, d->piece[0].at + place(dst) + dst_at, n, &d->access, true};
    return gm_vk_cmd_copy(&k->cmd, &from, &to, n);
}

static int vk_sync(gm_backend *b) {
    gm_vk_backend *k = of(b);
    int rc = gm_vk_cmd_wait(&k->cmd);
    if (!rc) gm_vk_pipes_rest(&k->pipes);
    return rc;
}

static uint64_t vk_memory_free(gm_backend *b) { return gm_vk_device_free(&of(b)->v); }

/* ---- weights ----------------------------------------------------------------------------- */

/* Vectors stay as they are: norms read them from first to last. */
static int import_vector(gm_vk_backend *k, const gm_tensor *host, gm_tensor *out) {
    *out = *host;
    out->data = NULL;
    int rc = vk_tensor_alloc(&k->base, out);
    return rc ? rc : vk_write(&k->base, out, 0, host->data, host->row_bytes);
}

static int fill_piece(gm_vk_backend *k, gm_dmem *m, int32_t piece, const gm_tensor *host) {
    gm_vk_span *s = &m->piece[piece];
    size_t tile_bytes = (size_t)m->row_words * GM_VK_TILE * 4;
    int64_t tile = piece * m->per_piece, end = tile + m->per_piece, n_row = gm_tensor_rows(host);
    if (end > m->n_tile) end = m->n_tile;
    for (size_t at = 0; tile < end; tile++, at += tile_bytes) {
        if (gm_cancelled(k->base.cancel)) return GM_ECANCELLED;
        gm_vk_bind from, to = {s->buffer, s->at + at, tile_bytes, &m->access, true};
        void *to_host = s->host ? s->host + at : NULL;
        int rc = to_host ? GM_OK : gm_vk_cmd_space(&k->cmd, tile_bytes, &to_host, &from);
        if (rc) return rc;
        gm_vk_repack_tile(host->dtype, host->data, host->row_bytes, host->ne[0], tile * GM_VK_TILE,
                          n_row, to_host);
        if (!s->host && (rc = gm_vk_cmd_copy(&k->cmd, &from, &to, tile_bytes))) return rc;
    }
    return GM_OK;
}

static int vk_weight_import(gm_backend *b, const gm_tensor *host, gm_tensor *out) {
    gm_vk_backend *k = of(b);
    if (k->v.lost) return GM_EDEVICE;
    if (host->dtype == GM_F32 && gm_tensor_rows(host) == 1) return import_vector(k, host, out);
    uint32_t row_words = gm_vk_row_words(host->dtype, host->ne[0]);
    size_t tile_bytes = (size_t)row_words * GM_VK_TILE * 4;
    if (row_words == 0 || tile_bytes > GM_VK_UPLOAD_BYTES) {
        gm_log(GM_LOG_ERROR, "vulkan", "rows of %lld values are too long", (long long)host->ne[0]);
        return GM_EUNSUPPORTED;
    }
    int64_t n_tile = (gm_tensor_rows(host) + GM_VK_TILE - 1) / GM_VK_TILE;
    int64_t per_piece = (int64_t)(gm_vk_max_bind(&k->v) / tile_bytes);
    int64_t n_piece = (n_tile + per_piece - 1) / per_piece;
    if (n_piece > 4096) return GM_ENOMEM;
    gm_dmem *m = new_dmem(k, (int32_t)n_piece);
    if (!m) return GM_ENOMEM;
    m->packed = true;
    m->row_words = row_words;
    m->n_tile = n_tile;
    m->per_piece = per_piece;
    int rc = GM_OK;
    for (int32_t i = 0; !rc && i < n_piece; i++) {
        int64_t left = n_tile - i * per_piece;
        rc = gm_vk_take(&k->heap, GM_VK_LOCAL,
                        (VkDeviceSize)(left < per_piece ? left : per_piece) * tile_bytes,
                        &m->piece[i]);
        if (rc) break;
        m->n_piece++;
        rc = fill_piece(k, m, i, host);
    }
    if (rc) {
        free_dmem(k, m);
        return rc;
    }
    *out = *host;
    out->data = NULL;
    out->dmem = m;
    out->offset = 0;
    return GM_OK;
}

/* ---- reserve ----------------------------------------------------------------------------- */

static void free_turns(gm_vk_backend *k, gm_tensor *turns) {
    for (int i = 0; i < GM_ROPE_TABLES; i++) gm_be_tensor_free(&k->base, &turns[i]);
}

static int reserve_rope(gm_vk_backend *k, const gm_be_limits *lim) {
    gm_rope_keys keys;
    gm_tensor turns[GM_ROPE_TABLES] = {{0}};
    int rc = gm_rope_keys_init(&keys, lim->max_head_dim);
    for (int i = 0; !rc && i < GM_ROPE_TABLES; i++) {
        turns[i] = gm_tensor_view(GM_F32, NULL, lim->max_head_dim, lim->max_tok);
        rc = vk_tensor_alloc(&k->base, &turns[i]);
    }
    if (rc) {
        gm_rope_keys_finish(&keys);
        free_turns(k, turns);
        return rc;
    }
    gm_rope_keys_finish(&k->rope);
    free_turns(k, k->turns);
    k->rope = keys;
    memcpy(k->turns, turns, sizeof turns);
    return GM_OK;
}

int gm_vk_renew(gm_vk_backend *k, gm_tensor *old, int64_t n_in, int64_t n_row) {
    gm_tensor t = gm_tensor_view(GM_F32, NULL, n_in, n_row);
    int rc = vk_tensor_alloc(&k->base, &t);
    if (rc) return rc;
    gm_be_tensor_free(&k->base, old);
    *old = t;
    return GM_OK;
}

static int vk_reserve(gm_backend *b, const gm_be_limits *lim) {
    gm_vk_backend *k = of(b);
    gm_be_limits all = k->lim;
    gm_be_limits_grow(&all, lim);
    if (all.max_head_dim > MAX_HEAD_DIM) {
        gm_log(GM_LOG_ERROR, "vulkan", "heads of %d are too large", all.max_head_dim);
        return GM_EUNSUPPORTED;
    }
    /* More heads alone ask for no other scratch space. */
    if (all.max_tok == k->lim.max_tok && all.max_in == k->lim.max_in &&
        all.max_head_dim == k->lim.max_head_dim && all.fine == k->lim.fine)
        return GM_OK;
    int rc = reserve_rope(k, &all);
    if (!rc) rc = gm_vk_matmul_reserve(k, &all);
    if (!rc) rc = gm_vk_top_reserve(k);
    if (!rc) rc = gm_vk_renew(k, &k->part, all.max_head_dim + 2, MAX_PART_ROWS);
    if (!rc) k->lim = all;
    return rc;
}

/* ---- rows -------------------------------------------------------------------------------- */

int gm_vk_record(gm_vk_backend *k, const char *shader, const uint32_t spec[GM_VK_SPECS],
                 const gm_vk_bind *binds, uint32_t n_bind, const void *push, size_t n_push,
                 uint32_t x, uint32_t y, uint32_t z, double cost) {
    for (uint32_t i = 0; i < n_bind; i++)
        if (binds[i].size == 0) {
            gm_log(GM_LOG_ERROR, "vulkan", "%s: rows of more than %llu MiB", shader,
                   (unsigned long long)(gm_vk_max_bind(&k->v) >> 20));
            return GM_ENOMEM;
        }
    const uint32_t groups[3] = {x, y, z};
    for (int i = 0; i < 3; i++)
        if (groups[i] > k->v.max_count[i]) {
            gm_log(GM_LOG_ERROR, "vulkan", "%s: %u x %u x %u workgroups, %s takes %u x %u x %u",
                   shader, x, y, z, k->v.name, k->v.max_count[0], k->v.max_count[1],
                   k->v.max_count[2]);
            return GM_EUNSUPPORTED;
        }
    gm_vk_pipe *pipe;
    int rc = gm_vk_pipes_get(&k->pipes, shader, spec, &pipe);
    if (rc) return rc == GM_EINTERNAL ? rc : GM_EDEVICE;
    return gm_vk_cmd_dispatch(&k->cmd, pipe, binds, n_bind, push, n_push, groups, cost);
}

const char *gm_vk_named(char *out, size_t n, const char *shader, gm_dtype t) {
    snprintf(out, n, "%s_%s", shader, gm_dtype_get((uint32_t)t)->name);
    return out;
}

/* Both norms. add: what is in out is added to, and the sum scaled. */
static int norm(gm_vk_backend *k, const gm_tensor *x, const gm_tensor *w, float eps, float scale,
                int32_t n_tok, const gm_tensor *out, bool add) {
    struct {
        uint32_t n, x_at, w_at, out_at, weighted;
        float eps, scale;
    } p = {.n = (uint32_t)x->ne[0], .weighted = w != NULL, .eps = eps, .scale = scale};
    gm_vk_bind b[3] = {gm_vk_bind_rows(k, x, false, &p.x_at),
                       gm_vk_bind_rows(k, w ? w : x, false, &p.w_at),
                       gm_vk_bind_rows(k, out, true, &p.out_at)};
    const uint32_t spec[GM_VK_SPECS] = {k->width, add};
    return gm_vk_record(k, "norm", spec, b, 3, &p, sizeof p, (uint32_t)n_tok, 1, 1,
                        (double)n_tok * (double)p.n * 3);
}

static int vk_rms_norm(gm_backend *b, const gm_op_rms_norm *op) {
    int rc = gm_vk_ready(of(b));
    return rc ? rc : norm(of(b), op->x, op->w, op->eps, 1, op->n_tok, op->out, false);
}

static int vk_add_norm(gm_backend *b, const gm_op_add_norm *op) {
    int rc = gm_vk_ready(of(b));
    return rc ? rc : norm(of(b), op->x, op->w, op->eps, op->scale, op->n_tok, op->h, true);
}

static int vk_embed(gm_backend *b, const gm_op_embed *op) {
    gm_vk_backend *k = of(b);
    gm_dmem *m = op->table->dmem;
    int rc = gm_vk_ready(k);
    char name[32];
    bool linear = !m->packed; /* a table of one row */
    struct {
        uint32_t n_in, row_words, ids_at, out_at, row0, n_row;
        float scale;
    } p = {.n_in = (uint32_t)op->table->ne[0], .row_words = m->row_words, .scale = op->scale};
    const uint32_t spec[GM_VK_SPECS] = {64, [7] = linear ? 1 : GM_VK_TILE};
    for (int32_t i = 0; !rc && i < m->n_piece; i++) {
        void *ids;
        gm_vk_bind binds[3];
        p.row0 = (uint32_t)(i * m->per_piece * GM_VK_TILE);
        p.n_row = linear ? 1 : (uint32_t)(m->per_piece * GM_VK_TILE);
        if (p.row0 + (int64_t)p.n_row > op->table->ne[1])
            p.n_row = (uint32_t)op->table->ne[1] - p.row0;
        if ((rc = gm_vk_cmd_space(&k->cmd, (size_t)op->n_tok * sizeof *op->ids, &ids, &binds[1])))
            break;
        memcpy(ids, op->ids, (size_t)op->n_tok * sizeof *op->ids);
        uint32_t word = 0;
        binds[0] = gm_vk_bind_piece(k, m, i, 0, false, &word);
        binds[2] = gm_vk_bind_rows(k, op->out, true, &p.out_at);
        rc = gm_vk_record(k, gm_vk_named(name, sizeof name, "embed", op->table->dtype), spec, binds,
                          3, &p, sizeof p, (p.n_in / 8 + 64) / 64, (uint32_t)op->n_tok, 1,
                          (double)op->n_tok * p.n_in);
    }
    return rc;
}

static int flat(gm_vk_backend *k, const char *shader, gm_vk_bind *b, uint32_t n_bind, void *push,
                size_t n_push, uint32_t *per, double n) {
    const uint32_t spec[GM_VK_SPECS] = {k->width};
    double groups = ceil(n / k->width);
    *per = (uint32_t)ceil(groups / 32768);
    return gm_vk_record(k, shader, spec, b, n_bind, push, n_push, (uint32_t)ceil(groups / *per), 1,
                        1, n * 8);
}

static int vk_geglu(gm_backend *b, const gm_op_geglu *op) {
    gm_vk_backend *k = of(b);
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    double n = (double)op->n_tok * (double)op->gate->ne[0];
    struct {
        uint32_t n, gate_at, up_at, out_at, per;
    } p = {.n = (uint32_t)n};
    gm_vk_bind binds[3] = {gm_vk_bind_rows(k, op->gate, false, &p.gate_at),
                           gm_vk_bind_rows(k, op->up, false, &p.up_at),
                           gm_vk_bind_rows(k, op->out, true, &p.out_at)};
    return flat(k, "geglu", binds, 3, &p, sizeof p, &p.per, n);
}

static int vk_softcap(gm_backend *b, const gm_op_softcap *op) {
    gm_vk_backend *k = of(b);
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    double n = (double)op->n_tok * (double)op->x->ne[0];
    struct {
        uint32_t n, x_at, per;
        float cap;
    } p = {.n = (uint32_t)n, .cap = op->cap};
    gm_vk_bind x = gm_vk_bind_rows(k, op->x, true, &p.x_at);
    return flat(k, "softcap", &x, 1, &p, sizeof p, &p.per, n);
}

/* ---- heads and cache --------------------------------------------------------------------- */

static int upload_turns(gm_vk_backend *k, const gm_rope_key *r, const gm_tensor *turns) {
    gm_dmem *m = turns->dmem;
    size_t row = (size_t)r->half * 2 * sizeof(float);
    int32_t most = (int32_t)((GM_VK_UPLOAD_BYTES / 4) / row);
    for (int32_t t = 0; t < r->n_tok; t += most) {
        int32_t n = r->n_tok - t < most ? r->n_tok - t : most;
        gm_vk_bind from, to = {m->piece[0].buffer, m->piece[0].at + (size_t)t * row,
                               (size_t)n * row, &m->access, true};
        void *host;
        int rc = gm_vk_cmd_space(&k->cmd, (size_t)n * row, &host, &from);
        if (rc) return rc;
        float *turn = host;
        for (int32_t i = 0; i < n; i++, turn += 2 * r->half)
            gm_rope_turn(r, t + i, turn, turn + r->half);
        if ((rc = gm_vk_cmd_copy(&k->cmd, &from, &to, (size_t)n * row))) return rc;
    }
    return GM_OK;
}

/* *i: the number of the table for the op. */
static int find_turns(gm_vk_backend *k, const gm_op_head_norm_rope *op, int *i) {
    bool fresh;
    *i = gm_rope_find(&k->rope, op, &fresh);
    gm_rope_key *r = &k->rope.key[*i];
    int rc = fresh ? upload_turns(k, r, &k->turns[*i]) : GM_OK;
    if (rc) r->n_tok = 0;
    return rc;
}

static int vk_head_norm_rope(gm_backend *b, const gm_op_head_norm_rope *op) {
    gm_vk_backend *k = of(b);
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    if (op->inv_freq && (op->n_tok > k->lim.max_tok || op->head_dim > k->lim.max_head_dim)) {
        gm_log(GM_LOG_ERROR, "vulkan", "head_norm_rope: %d tokens, heads of %d: never reserved",
               op->n_tok, op->head_dim);
        return GM_EINVAL;
    }
    int table = 0;
    const bool turning = op->inv_freq != NULL;
    if (turning && (rc = find_turns(k, op, &table))) return rc;
    struct {
        uint32_t d, n_head, x_at, w_at, turn_at, weighted, turning;
        float eps;
    } p = {.d = (uint32_t)op->head_dim,
           .n_head = (uint32_t)op->n_head,
           .weighted = op->w != NULL,
           .turning = turning,
           .eps = op->eps};
    uint32_t turn_word = 0;
    gm_vk_bind binds[3] = {
        gm_vk_bind_rows(k, op->x, true, &p.x_at),
        gm_vk_bind_rows(k, op->w ? op->w : op->x, false, &p.w_at),
        gm_vk_bind_rows(k, turning ? &k->turns[table] : op->x, false, &turn_word)};
    if (turning) p.turn_at = turn_word + (uint32_t)(op->pos0 - k->rope.key[table].pos0) * p.d;
    const uint32_t spec[GM_VK_SPECS] = {k->v.software ? 32 : 64};
    return gm_vk_record(k, "heads", spec, binds, 3, &p, sizeof p, p.n_head, (uint32_t)op->n_tok, 1,
                        (double)op->n_tok * p.n_head * p.d * 4);
}

static uint32_t cache_units(gm_dtype t, uint32_t d) {
    return t == GM_F32 ? d : t == GM_F16 ? d / 2 : (d + 63) / 64;
}

static int vk_kv_write(gm_backend *b, const gm_op_kv_write *op) {
    gm_vk_backend *k = of(b);
    gm_kv_layer *c = op->cache;
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    char name[32];
    struct {
        uint32_t d, n_kv, n_tok, n_slot, pos0, k_at, v_at, kc_at, vc_at, stride;
    } p = {.d = (uint32_t)c->head_dim,
           .n_kv = (uint32_t)c->n_kv,
           .n_tok = (uint32_t)op->n_tok,
           .n_slot = (uint32_t)c->n_slot,
           .pos0 = (uint32_t)op->pos0,
           .stride = (uint32_t)(c->k.dmem->stride / 4)};
    gm_vk_bind binds[4] = {
        gm_vk_bind_rows(k, op->k, false, &p.k_at), gm_vk_bind_rows(k, op->v, false, &p.v_at),
        gm_vk_bind_rows(k, &c->k, true, &p.kc_at), gm_vk_bind_rows(k, &c->v, true, &p.vc_at)};
    const uint32_t spec[GM_VK_SPECS] = {32};
    return gm_vk_record(k, gm_vk_named(name, sizeof name, "kv_write", c->k.dtype), spec, binds, 4,
                        &p, sizeof p, (cache_units(c->k.dtype, p.d) + 31) / 32, p.n_kv, p.n_tok,
                        (double)p.n_tok * p.n_kv * p.d * 2);
}

/* ---- attention --------------------------------------------------------------------------- */

/* How an op is cut. */
typedef struct {
    uint32_t width, tokens; /* of a workgroup: its invocations, one key each, and its tokens */
    int32_t most;           /* tokens of a dispatch */
    int32_t n_key;          /* that a token sees at most */
    /* what the tokens see lies close enough together to be walked over as one */
    bool near;
} attn_plan;

typedef struct {
    uint32_t d, n_head, group, n_tok, n_slot, q_at, kc_at, vc_at, range_at, out_at, stride, n_part;
} attn_push;

/* Tokens that one dispatch may take without being late for the desktop: whole workgroups. */
static int32_t most_tokens(const gm_vk_backend *k, double token_cost, uint32_t tokens) {
    double most = gm_vk_cmd_budget(&k->cmd) / token_cost;
    int32_t n = most < 60000 ? (int32_t)most / (int32_t)tokens * (int32_t)tokens : 60000;
    return n > 0 ? n : (int32_t)tokens;
}

static double token_cost(const gm_op_attention *op, int32_t n_key) {
    return (double)op->n_head * n_key * op->cache->head_dim / 2;
}

static attn_plan plan_attention(const gm_vk_backend *k, const gm_op_attention *op) {
    attn_plan a = {.width = k->v.software ? 32 : 64,
                   .tokens = gm_vk_power_of_two((uint32_t)op->n_tok, 4)};
    int32_t first = op->lo[0], last = op->hi[0];
    for (int32_t t = 0; t < op->n_tok; t++) {
        if (op->hi[t] - op->lo[t] + 1 > a.n_key) a.n_key = op->hi[t] - op->lo[t] + 1;
        if (op->lo[t] < first) first = op->lo[t];
        if (op->hi[t] > last) last = op->hi[t];
    }
    /* Tokens that see stretches far apart would walk over what lies between, and a ring does not
     * hold that. */
    a.near = last - first < op->cache->n_slot;
    if (!a.near) a.tokens = 1;
    a.most = most_tokens(k, token_cost(op, a.n_key), a.tokens);
    return a;
}

/* Tokens t0 .. t0 + n_tok - 1 of the op's q or out. */
static gm_tensor tokens_of(const gm_op_attention *op, const gm_tensor *x, int32_t t0,
                           int32_t n_tok) {
    gm_tensor some = gm_tensor_view(GM_F32, NULL, (int64_t)op->n_head * op->cache->head_dim, n_tok);
    some.dmem = x->dmem;
    some.offset = x->offset + (size_t)t0 * some.row_bytes;
    return some;
}

static int join_parts(gm_vk_backend *k, const gm_tensor *out, const attn_push *a) {
    struct {
        uint32_t d, n_part, part_at, out_at;
    } p = {.d = a->d, .n_part = a->n_part};
    gm_vk_bind b[2] = {gm_vk_bind_rows(k, &k->part, false, &p.part_at),
                       gm_vk_bind_rows(k, out, true, &p.out_at)};
    const uint32_t spec[GM_VK_SPECS] = {64};
    return gm_vk_record(k, "attention_join", spec, b, 2, &p, sizeof p, a->n_tok * a->n_head, 1, 1,
                        (double)a->n_tok * a->n_head * a->d * a->n_part);
}

/* Few heads over many keys would leave a device idle: then the keys are shared as well. */
static uint32_t count_parts(const gm_vk_backend *k, uint32_t rows, int32_t n_key, uint32_t width) {
    uint32_t blocks = ((uint32_t)n_key + width - 1) / width, parts = 1;
    uint32_t wanted = k->v.software ? 16 : 256;
    while (parts * 2 <= blocks && rows * parts < wanted && rows * parts * 2 <= MAX_PART_ROWS)
        parts *= 2;
    return parts;
}

/* Tokens t0 .. t0 + n_tok - 1. */
static int attend(gm_vk_backend *k, const gm_op_attention *op, const attn_plan *a, int32_t t0,
                  int32_t n_tok) {
    const gm_kv_layer *c = op->cache;
    char name[32];
    attn_push p = {.d = (uint32_t)c->head_dim,
                   .n_head = (uint32_t)op->n_head,
                   .group = (uint32_t)(op->n_head / c->n_kv),
                   .n_tok = (uint32_t)n_tok,
                   .n_slot = (uint32_t)c->n_slot,
                   .stride = (uint32_t)(c->k.dmem->stride / 4)};
    const bool room = c->head_dim <= k->lim.max_head_dim;
    p.n_part = room && a->near ? count_parts(k, p.n_tok * p.n_head, a->n_key, a->width) : 1;
    size_t n = (size_t)n_tok * sizeof(int32_t);
    void *range;
    gm_vk_bind binds[5];
    int rc = gm_vk_cmd_space(&k->cmd, 2 * n, &range, &binds[3]);
    if (rc) return rc;
    memcpy(range, op->lo + t0, n);
    memcpy((char *)range + n, op->hi + t0, n);
    const gm_tensor q = tokens_of(op, op->q, t0, n_tok), out = tokens_of(op, op->out, t0, n_tok);
    binds[0] = gm_vk_bind_rows(k, &q, false, &p.q_at);
    binds[1] = gm_vk_bind_rows(k, &c->k, false, &p.kc_at);
    binds[2] = gm_vk_bind_rows(k, &c->v, false, &p.vc_at);
    binds[4] = gm_vk_bind_rows(k, p.n_part > 1 ? &k->part : &out, true, &p.out_at);
    const uint32_t spec[GM_VK_SPECS] = {a->width, (p.d / 2 + a->width - 1) / a->width, a->tokens};
    rc = gm_vk_record(k, gm_vk_named(name, sizeof name, "attention", c->k.dtype), spec, binds, 5,
                      &p, sizeof p, p.n_head, (p.n_tok + a->tokens - 1) / a->tokens, p.n_part,
                      n_tok * token_cost(op, a->n_key));
    return rc || p.n_part == 1 ? rc : join_parts(k, &out, &p);
}

static int vk_attention(gm_backend *b, const gm_op_attention *op) {
    gm_vk_backend *k = of(b);
    int rc = gm_vk_ready(k);
    if (rc) return rc;
    if (op->cache->head_dim > MAX_HEAD_DIM) {
        gm_log(GM_LOG_ERROR, "vulkan", "attention: heads of %d are too large", op->cache->head_dim);
        return GM_EUNSUPPORTED;
    }
    const attn_plan a = plan_attention(k, op);
    for (int32_t t = 0; !rc && t < op->n_tok; t += a.most) {
        rc = attend(k, op, &a, t, op->n_tok - t < a.most ? op->n_tok - t : a.most);
        if (!rc) rc = gm_vk_ready(k);
    }
    return rc;
}

/* ---- life -------------------------------------------------------------------------------- */

static void vk_destroy(gm_backend *b) {
    gm_vk_backend *k = of(b);
    gm_vk_pipes_keep(&k->pipes); /* first: an editor that ends may not wait for the rest */
    if (k->v.device && !k->v.hung) k->v.fn.DeviceWaitIdle(k->v.device);
    k->cmd.finished = UINT64_MAX; /* nothing is waited for any more */
    gm_rope_keys_finish(&k->rope);
    free_turns(k, k->turns);
    gm_be_tensor_free(b, &k->part);
    gm_be_tensor_free(b, &k->packed);
    gm_be_tensor_free(b, &k->top_stat);
    gm_be_tensor_free(b, &k->top_out);
    while (k->first) free_dmem(k, k->first);
    gm_vk_cmd_finish(&k->cmd);
    gm_vk_pipes_finish(&k->pipes);
    gm_vk_heap_finish(&k->heap);
    gm_vk_device_close(&k->v);
    gm_free(k);
}

static const gm_backend_vtable vk_vtable = {
    .name = "vulkan",
    .destroy = vk_destroy,
    .reserve = vk_reserve,
    .tensor_alloc = vk_tensor_alloc,
    .tensor_free = vk_tensor_free,
    .weight_import = vk_weight_import,
    .write = vk_write,
    .read = vk_read,
    .sync = vk_sync,
    .copy = vk_copy,
    .memory_free = vk_memory_free,
    .can_hold = vk_can_hold,
    .top = gm_vk_top,
    .embed = vk_embed,
    .rms_norm = vk_rms_norm,
    .add_norm = vk_add_norm,
    .matmul = gm_vk_matmul,
    .head_norm_rope = vk_head_norm_rope,
    .kv_write = vk_kv_write,
    .attention = vk_attention,
    .geglu = vk_geglu,
    .softcap = vk_softcap,
};

int gm_vk_open(gm_backend **out, int which, bool real_only, char *err, size_t errlen) {
    *out = NULL;
    gm_vk_backend *k = gm_calloc(1, sizeof *k);
    if (!k) return gm_fail(err, errlen, GM_ENOMEM, "out of memory");
    k->base.vt = &vk_vtable;
    k->base.may_split = true;
    int rc = gm_vk_matmul_way(k, err, errlen);
    if (!rc) rc = gm_vk_device_open(&k->v, which, real_only, err, errlen);
    if (rc) {
        gm_free(k);
        return rc;
    }
    k->heap.v = &k->v;
    rc = gm_vk_pipes_init(&k->pipes, &k->v);
    if (!rc) rc = gm_vk_cmd_init(&k->cmd, &k->v, &k->heap, &k->pipes);
    if (rc) {
        gm_fail(err, errlen, rc, "the device %s could not be set up (%s)", k->v.name,
                gm_vk_result_name(k->v.result));
        vk_destroy(&k->base);
        return rc;
    }
    k->base.top_pays = !k->v.software; /* there its memory is the host's, and so are its cores */
    k->width = k->v.software ? 64 : 256 < k->v.max_group ? 256 : k->v.max_group;
    memcpy(k->base.devices, k->v.devices, sizeof k->base.devices);
    snprintf(k->base.desc, sizeof k->base.desc, "vulkan %.50s", k->v.name);
    *out = &k->base;
    return GM_OK;
}
