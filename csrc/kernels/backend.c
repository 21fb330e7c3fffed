/* backend.c: choice of a backend, and the one place where arguments of ops are checked.
 *
 * Each wrapper refuses shapes that do not fit with GM_EINVAL and one log line that names the op and
 * the numbers, so that implementations need no checks of their own. Nothing here computes.
 */
#include "kernels/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/vulkan/vk.h"

/* ---- open and close ---------------------------------------------------------------------- */

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

enum { MAX_NUMBER = 9999 };

/* The number behind `prefix` in name; -1: there is none. */
static int number_behind(const char *name, const char *prefix) {
    if (!starts_with(name, prefix)) return -1;
    char *end;
    const char *digits = name + strlen(prefix);
    long n = strtol(digits, &end, 10);
    return *digits >= '0' && *digits <= '9' && *end == '\0' && n <= MAX_NUMBER ? (int)n : -1;
}

bool gm_backend_name_ok(const char *name) {
    return strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || strcmp(name, "vulkan") == 0 ||
           number_behind(name, "vulkan:") >= 0 || number_behind(name, "split:") >= 0;
}

/* A GPU, or the CPU and why. */
static int open_auto(gm_backend **out, int n_threads, char *err, size_t errlen) {
    char why[sizeof(*out)->note];
    if (gm_vk_open(out, -1, true, why, sizeof why) == GM_OK) return GM_OK;
    gm_log(GM_LOG_INFO, "kernels", "on the CPU: %s", why);
    int rc = gm_cpu_open(out, n_threads, err, errlen);
    if (!rc) snprintf((*out)->note, sizeof(*out)->note, "%s", why);
    return rc;
}

int gm_backend_split(gm_backend *b, int32_t n_layer, int n_threads, char *err, size_t errlen) {
    int rc = b->rest ? GM_OK : gm_cpu_open(&b->rest, n_threads, err, errlen);
    if (!rc) b->n_layer = n_layer;
    if (!rc) b->rest->cancel = b->cancel;
    return rc;
}

static int open_split(gm_backend **out, int n_layer, int n_threads, char *err, size_t errlen) {
    int rc = gm_vk_open(out, -1, false, err, errlen);
    if (!rc) rc = gm_backend_split(*out, n_layer, n_threads, err, errlen);
    if (rc) gm_backend_close(out);
    return rc;
}

int gm_backend_open(gm_backend **out, const char *device, int n_threads, char *err, size_t errlen) {
    *out = NULL;
    const char *forced = gm_env(GM_ENV_BACKEND);
    const char *name = forced ? forced : device ? device : "cpu";
    if (n_threads < 0)
        return gm_fail(err, errlen, GM_EINVAL, "number of threads is %d, must not be negative",
                       n_threads);
    if (strcmp(name, "cpu") == 0) return gm_cpu_open(out, n_threads, err, errlen);
    if (strcmp(name, "null") == 0) return gm_null_open(out, err, errlen);
    const char *from = forced ? " (from GEMMA_BACKEND)" : "";
    if (!gm_backend_name_ok(name))
        return gm_fail(err, errlen, GM_EINVAL,
                       "unknown device \"%s\"%s; use \"auto\", \"cpu\" or \"vulkan\"", name, from);
    if (strcmp(name, "auto") == 0) return open_auto(out, n_threads, err, errlen);
    int which = number_behind(name, "vulkan:"), n_layer = number_behind(name, "split:");
    if (n_layer >= 0) return open_split(out, n_layer, n_threads, err, errlen);
    return gm_vk_open(out, which, false, err, errlen);
}

void gm_backend_close(gm_backend **b) {
    if (!b || !*b) return;
    gm_backend_close(&(*b)->rest);
    (*b)->vt->destroy(*b);
    *b = NULL;
}

void gm_be_set_cancel(gm_backend *b, const gm_cancel *c) {
    b->cancel = c;
    if (b->rest) b->rest->cancel = c;
}

void gm_be_set_calm(gm_backend *b, bool calm) {
    if (b->vt->set_calm) b->vt->set_calm(b, calm);
    if (b->rest) gm_be_set_calm(b->rest, calm);
}

gm_backend *gm_be_layer(gm_backend *b, int32_t layer) {
    return b->rest && layer >= b->n_layer ? b->rest : b;
}

gm_backend *gm_be_ends(gm_backend *b) { return b->rest ? b->rest : b; }

/* The side of a split that a tensor lives on. */
static gm_backend *side(gm_backend *b, const gm_tensor *t) {
    return b->rest && !t->dmem ? b->rest : b;
}

/* ---- checks ------------------------------------------------------------------------------ */

#define REFUSE(...) (gm_log(GM_LOG_ERROR, "kernels", __VA_ARGS__), GM_EINVAL)

static bool in_memory(const gm_tensor *t) { return t && (t->data || t->dmem); }

/* Number of elements, or -1 for a shape that makes no sense or overflows. */
static int64_t n_elem(const gm_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < 4; i++) {
        if (t->ne[i] < 1 || n > INT64_MAX / t->ne[i]) return -1;
        n *= t->ne[i];
    }
    return n;
}

/* Dense float32 of at least n_row rows of n, however the axes are split. */
static bool is_rows(const gm_tensor *t, int64_t n_row, int64_t n) {
    return in_memory(t) && t->dtype == GM_F32 && n > 0 && t->ne[0] > 0 &&
           t->row_bytes == (size_t)t->ne[0] * sizeof(float) && n_elem(t) / n >= n_row;
}

/* A norm's weight of n floats. Where it may be NULL the caller looks first. */
static bool is_weight(const gm_tensor *w, int64_t n) { return is_rows(w, 1, n) && w->ne[0] == n; }

/* A matrix of any type that can be computed with. */
static bool is_matrix(const gm_tensor *w) {
    return in_memory(w) && gm_dtype_get((uint32_t)w->dtype)->can_compute && n_elem(w) > 0 &&
           w->row_bytes >= gm_dtype_row_bytes(w->dtype, (uint64_t)w->ne[0]) &&
           gm_dtype_row_bytes(w->dtype, (uint64_t)w->ne[0]) > 0;
}

static int check_embed(const gm_op_embed *op) {
    if (op->n_tok < 0 || !is_matrix(op->table) || (op->n_tok > 0 && !op->ids))
        return REFUSE("embed: bad table or ids, %d tokens", op->n_tok);
    if (!is_rows(op->out, op->n_tok, op->table->ne[0]))
        return REFUSE("embed: out does not hold %d rows of %lld", op->n_tok,
                      (long long)op->table->ne[0]);
    for (int32_t t = 0; t < op->n_tok; t++)
        if (op->ids[t] >= op->table->ne[1])
            return REFUSE("embed: ids[%d] is %d, the vocabulary has %lld", t, op->ids[t],
                          (long long)op->table->ne[1]);
    return GM_OK;
}

static int check_rms_norm(const gm_op_rms_norm *op) {
    if (op->n_tok < 0 || !in_memory(op->x) || !is_rows(op->x, op->n_tok, op->x->ne[0]) ||
        !is_rows(op->out, op->n_tok, op->x->ne[0]))
        return REFUSE("rms_norm: x or out does not hold %d rows", op->n_tok);
    if (op->w && !is_weight(op->w, op->x->ne[0]))
        return REFUSE("rms_norm: the weight has %lld values, x has rows of %lld",
                      (long long)op->w->ne[0], (long long)op->x->ne[0]);
    return GM_OK;
}

static int check_add_norm(const gm_op_add_norm *op) {
    if (op->n_tok < 0 || !in_memory(op->x) || !is_rows(op->x, op->n_tok, op->x->ne[0]) ||
        !is_rows(op->h, op->n_tok, op->x->ne[0]))
        return REFUSE("add_norm: x or h does not hold %d rows", op->n_tok);
    if (!is_weight(op->w, op->x->ne[0]))
        return REFUSE("add_norm: no weight of %lld values", (long long)op->x->ne[0]);
    return GM_OK;
}

static int check_matmul(const gm_op_matmul *op) {
    if (op->n_tok < 0 || op->n_mat < 1 || op->n_mat > GM_MATMUL_MAX || !in_memory(op->x))
        return REFUSE("matmul: %d matrices, %d tokens", op->n_mat, op->n_tok);
    for (int32_t i = 0; i < op->n_mat; i++) {
        const gm_tensor *w = op->w[i];
        if (!is_matrix(w)) return REFUSE("matmul: matrix %d is not usable", i);
        if (!is_rows(op->x, op->n_tok, w->ne[0]) || op->x->ne[0] != w->ne[0])
            return REFUSE("matmul: matrix %d reads rows of %lld, x does not hold %d of them", i,
                          (long long)w->ne[0], op->n_tok);
        if (!is_rows(op->out[i], op->n_tok, gm_tensor_rows(w)))
            return REFUSE("matmul: out %d does not hold %d rows of %lld", i, op->n_tok,
                          (long long)gm_tensor_rows(w));
    }
    return GM_OK;
}

static int check_head_norm_rope(const gm_op_head_norm_rope *op) {
    if (op->n_tok < 0 || op->n_head < 1 || op->head_dim < 2 || op->head_dim % 2 != 0 ||
        op->pos0 < 0 || op->pos0 > INT32_MAX - op->n_tok)
        return REFUSE("head_norm_rope: %d heads of %d, %d tokens from position %d", op->n_head,
                      op->head_dim, op->n_tok, op->pos0);
    if (!is_rows(op->x, op->n_tok, (int64_t)op->n_head * op->head_dim))
        return REFUSE("head_norm_rope: x does not hold %d rows of %d heads of %d", op->n_tok,
                      op->n_head, op->head_dim);
    if (op->w && !is_weight(op->w, op->head_dim))
        return REFUSE("head_norm_rope: the weight has %lld values, a head has %d",
                      (long long)op->w->ne[0], op->head_dim);
    return GM_OK;
}

/* One half of a cache: [n_kv, n_slot, head_dim], rows packed. */
static bool is_cache(const gm_tensor *t, const gm_kv_layer *c) {
    if (!in_memory(t) || t->ne[0] != c->head_dim || t->ne[1] != c->n_slot || t->ne[2] != c->n_kv)
        return false;
    if (t->dtype != GM_F32 && t->dtype != GM_F16 && t->dtype != GM_Q8_0) return false;
    size_t row_bytes = gm_dtype_row_bytes(t->dtype, (uint64_t)c->head_dim);
    return row_bytes > 0 && t->row_bytes == row_bytes;
}

static int check_cache(const char *op, const gm_kv_layer *c) {
    if (!c || c->n_slot < 1 || c->n_kv < 1 || c->head_dim < 2 || c->head_dim % 2 != 0)
        return REFUSE("%s: no usable cache", op);
    if (!is_cache(&c->k, c) || !is_cache(&c->v, c))
        return REFUSE("%s: the cache is not [%d, %d, %d] of a type it can have", op, c->n_kv,
                      c->n_slot, c->head_dim);
    return GM_OK;
}

static int check_kv_write(const gm_op_kv_write *op) {
    int e = check_cache("kv_write", op->cache);
    if (e) return e;
    const gm_kv_layer *c = op->cache;
    int64_t n = (int64_t)c->n_kv * c->head_dim;
    if (op->n_tok < 0 || op->n_tok > c->n_slot || op->pos0 < 0 || op->pos0 > INT32_MAX - op->n_tok)
        return REFUSE("kv_write: %d tokens from position %d into %d slots", op->n_tok, op->pos0,
                      c->n_slot);
    if (!is_rows(op->k, op->n_tok, n) || !is_rows(op->v, op->n_tok, n))
        return REFUSE("kv_write: k or v does not hold %d rows of %lld", op->n_tok, (long long)n);
    return GM_OK;
}

static int check_attention(const gm_op_attention *op) {
    int e = check_cache("attention", op->cache);
    if (e) return e;
    const gm_kv_layer *c = op->cache;
    if (op->n_tok < 0 || op->n_head < 1 || op->n_head % c->n_kv != 0 ||
        (op->n_tok > 0 && (!op->lo || !op->hi)))
        return REFUSE("attention: %d tokens, %d heads over %d key heads", op->n_tok, op->n_head,
                      c->n_kv);
    int64_t n = (int64_t)op->n_head * c->head_dim;
    if (!is_rows(op->q, op->n_tok, n) || !is_rows(op->out, op->n_tok, n))
        return REFUSE("attention: q or out does not hold %d rows of %lld", op->n_tok, (long long)n);
    for (int32_t t = 0; t < op->n_tok; t++)
        if (op->lo[t] < 0 || op->hi[t] < op->lo[t] || op->hi[t] - op->lo[t] >= c->n_slot)
            return REFUSE("attention: token %d sees positions %d to %d of %d slots", t, op->lo[t],
                          op->hi[t], c->n_slot);
    return GM_OK;
}

static int check_geglu(const gm_op_geglu *op) {
    if (op->n_tok < 0 || !in_memory(op->gate) || !is_rows(op->gate, op->n_tok, op->gate->ne[0]) ||
        !is_rows(op->up, op->n_tok, op->gate->ne[0]) ||
        !is_rows(op->out, op->n_tok, op->gate->ne[0]))
        return REFUSE("geglu: gate, up or out does not hold %d rows", op->n_tok);
    return GM_OK;
}

static int check_softcap(const gm_op_softcap *op) {
    if (op->n_tok < 0 || !in_memory(op->x) || !is_rows(op->x, op->n_tok, op->x->ne[0]))
        return REFUSE("softcap: x does not hold %d rows", op->n_tok);
    if (!(op->cap > 0.0f)) return REFUSE("softcap: the cap is %g", (double)op->cap);
    return GM_OK;
}

/* ---- memory ------------------------------------------------------------------------------ */

void gm_be_limits_grow(gm_be_limits *all, const gm_be_limits *lim) {
#define GROW(field) all->field = all->field > lim->field ? all->field : lim->field
    GROW(max_tok);
    GROW(max_in);
    GROW(max_head);
    GROW(max_head_dim);
    GROW(fine);
#undef GROW
}

int gm_be_reserve(gm_backend *b, const gm_be_limits *lim) {
    if (lim->max_tok < 1 || lim->max_in < 1 || lim->max_head < 1 || lim->max_head_dim < 2)
        return REFUSE("reserve: a limit is zero or negative");
    int e = b->vt->reserve(b, lim);
    return e || !b->rest ? e : b->rest->vt->reserve(b->rest, lim);
}

int gm_be_tensor_alloc(gm_backend *b, gm_tensor *t) {
    size_t row_bytes, n_byte;
    t->data = NULL;
    t->dmem = NULL;
    if (n_elem(t) < 0) return REFUSE("tensor_alloc: an axis is below 1, or the shape overflows");
    row_bytes = gm_dtype_row_bytes(t->dtype, (uint64_t)t->ne[0]);
    if (row_bytes == 0 || t->row_bytes < row_bytes)
        return REFUSE("tensor_alloc: rows of %lld elements in %zu bytes", (long long)t->ne[0],
                      t->row_bytes);
    if (!gm_mul_size((size_t)gm_tensor_rows(t), t->row_bytes, &n_byte)) return GM_ENOMEM;
    return b->vt->tensor_alloc(b, t);
}

void gm_be_tensor_free(gm_backend *b, gm_tensor *t) {
    if (!t) return;
    if (t->data || t->dmem) side(b, t)->vt->tensor_free(side(b, t), t);
    *t = (gm_tensor){0};
}

int gm_be_weight_import(gm_backend *b, const gm_tensor *host, gm_tensor *out) {
    *out = (gm_tensor){0};
    if (!host->data || !is_matrix(host)) return REFUSE("weight_import: no usable host tensor");
    return b->vt->weight_import(b, host, out);
}

/* Whether n bytes at offset lie inside t. */
static bool inside(const gm_tensor *t, size_t offset, size_t n) {
    size_t end, size;
    return in_memory(t) && n_elem(t) > 0 && gm_add_size(offset, n, &end) &&
           gm_mul_size((size_t)gm_tensor_rows(t), t->row_bytes, &size) && end <= size;
}

int gm_be_write(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n) {
    if (!inside(t, offset, n)) return REFUSE("write: %zu bytes at %zu do not fit", n, offset);
    return n == 0 ? GM_OK : side(b, t)->vt->write(side(b, t), t, offset, src, n);
}

int gm_be_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n) {
    if (!inside(t, offset, n)) return REFUSE("read: %zu bytes at %zu do not fit", n, offset);
    return n == 0 ? GM_OK : side(b, t)->vt->read(side(b, t), t, offset, dst, n);
}

int gm_be_copy(gm_backend *b, gm_tensor *dst, size_t dst_at, const gm_tensor *src, size_t src_at,
               size_t n) {
    if (!inside(dst, dst_at, n) || !inside(src, src_at, n))
        return REFUSE("copy: %zu bytes from %zu to %zu do not fit", n, src_at, dst_at);
    if (n == 0) return GM_OK;
    if (!dst->dmem || !src->dmem || !b->vt->copy) return GM_EUNSUPPORTED;
    return b->vt->copy(b, dst, dst_at, src, src_at, n);
}

uint64_t gm_be_memory_free(gm_backend *b) {
    return b->vt->memory_free ? b->vt->memory_free(b) : UINT64_MAX;
}

bool gm_be_can_hold(gm_backend *b, const gm_tensor *t) {
    return !b->vt->can_hold || b->vt->can_hold(b, t);
}

int gm_be_sync(gm_backend *b) {
    int e = b->vt->sync(b);
    return e || !b->rest ? e : b->rest->vt->sync(b->rest);
}

/* ---- ops --------------------------------------------------------------------------------- */

/* No tokens: nothing to do, on any backend. `by` is the operand that tells the side of a split. */
#define GM_BE_OP(name, by)                                                                         \
    int gm_be_##name(gm_backend *b, const gm_op_##name *op) {                                      \
        int e = check_##name(op);                                                                  \
        if (e || op->n_tok == 0) return e;                                                         \
        b = side(b, op->by);                                                                       \
        return b->vt->name(b, op);                                                                 \
    }
GM_BE_OP(embed, table)
GM_BE_OP(rms_norm, x)
GM_BE_OP(add_norm, x)
GM_BE_OP(matmul, w[0])
GM_BE_OP(head_norm_rope, x)
GM_BE_OP(kv_write, k)
GM_BE_OP(attention, q)
GM_BE_OP(geglu, gate)
GM_BE_OP(softcap, x)

bool gm_be_top_pays(gm_backend *b) {
    const gm_backend *head = gm_be_ends(b);
    return head->vt->top && head->top_pays;
}

int gm_be_top(gm_backend *b, const gm_op_top *op) {
    if (!in_memory(op->x) || op->x->ne[0] > INT32_MAX || !is_rows(op->x, 1, op->x->ne[0]))
        return REFUSE("top: x is no row of logits");
    b = side(b, op->x);
    return b->vt->top ? b->vt->top(b, op) : GM_EUNSUPPORTED;
}
