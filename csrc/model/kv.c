/* kv.c: rings and plain rows of keys and values, and how far back they can go.
 *
 * A ring of n_slot rows keeps position p in slot p % n_slot. With `high` one past the furthest
 * position ever written, every position from high - n_slot on is still there:
 *
 *          high - n_slot                  len              high
 *     ...gone |------------ kept ----------|---- stale -----|
 *
 * Going on from len needs the window in front of it, len - window + 1 .. len - 1, so cutting back
 * to len works as long as that begins inside `kept`. Writing n positions at len may only overwrite
 * what lies in front of the window of the first of them, which is why n_slot is window + slack and
 * a chunk is at most slack.
 */
#include "model/kv.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum { DEFAULT_SLACK = 512 };

struct gm_kv {
    gm_backend *b; /* borrowed */
    const gm_config *c;
    int32_t n_ctx, n_slack;
    int32_t n_ring; /* slots of sliding layers; 0 when there are none */
    int32_t len;    /* positions stored */
    int64_t high;   /* see above */
    uint64_t bytes;
    gm_dtype type;      /* as asked for */
    gm_kv_layer *layer; /* [c->n_layer] */
};

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static int32_t slack_of(const gm_kv_opts *o) { return o->n_slack ? o->n_slack : DEFAULT_SLACK; }

gm_kv_layer gm_kv_layer_shape(const gm_config *c, int32_t i, const gm_kv_opts *o) {
    const gm_layer_config *lc = &c->layer[i];
    int64_t n_slot = lc->sliding ? (int64_t)c->window + slack_of(o) : o->n_ctx;
    gm_kv_layer l = {
        .n_slot = (int32_t)min64(n_slot, o->n_ctx), .n_kv = lc->n_kv, .head_dim = lc->head_dim};
    bool blocks = (uint32_t)l.head_dim % gm_dtype_get((uint32_t)o->type)->block_elems == 0;
    gm_dtype type = blocks ? o->type : GM_F16;
    l.k = l.v = (gm_tensor){
        .dtype = type,
        .ne = {l.head_dim, l.n_slot, l.n_kv, 1},
        .row_bytes = gm_dtype_row_bytes(type, (uint64_t)l.head_dim),
    };
    return l;
}

static uint64_t layer_bytes(const gm_kv_layer *l) {
    return 2 * (uint64_t)gm_tensor_rows(&l->k) * l->k.row_bytes;
}

uint64_t gm_kv_layer_bytes(const gm_config *c, int32_t i, const gm_kv_opts *opts) {
    const gm_kv_layer l = gm_kv_layer_shape(c, i, opts);
    return layer_bytes(&l);
}

static int alloc_layer(gm_kv *kv, int32_t i, const gm_kv_opts *opts) {
    gm_kv_layer *l = &kv->layer[i];
    gm_backend *b = gm_be_layer(kv->b, i);
    *l = gm_kv_layer_shape(kv->c, i, opts);
    if (kv->c->layer[i].sliding) kv->n_ring = l->n_slot;
    kv->bytes += layer_bytes(l);
    int rc = gm_be_tensor_alloc(b, &l->k);
    return rc ? rc : gm_be_tensor_alloc(b, &l->v);
}

int gm_kv_create(gm_kv **out, const gm_config *c, gm_backend *b, const gm_kv_opts *opts, char *err,
                 size_t errlen) {
    *out = NULL;
    bool known = opts->type == GM_F32 || opts->type == GM_F16 || opts->type == GM_Q8_0;
    if (opts->n_ctx < 1 || opts->n_slack < 0 || !known)
        return gm_fail(err, errlen, GM_EINVAL,
                       "a cache of %d positions, slack %d, type %d is not possible", opts->n_ctx,
                       opts->n_slack, (int)opts->type);
    gm_kv *kv = gm_calloc(1, sizeof *kv);
    if (!kv) return gm_fail(err, errlen, GM_ENOMEM, "out of memory for the cache");
    kv->b = b;
    kv->c = c;
    kv->n_ctx = opts->n_ctx;
    kv->n_slack = slack_of(opts);
    kv->type = opts->type;
    kv->layer = gm_calloc((size_t)c->n_layer, sizeof *kv->layer);
    int rc = kv->layer ? GM_OK : GM_ENOMEM;
    for (int32_t i = 0; rc == GM_OK && i < c->n_layer; i++) rc = alloc_layer(kv, i, opts);
    if (rc) {
        unsigned long long mib = kv->bytes >> 20;
        gm_kv_destroy(&kv);
        return gm_fail(err, errlen, rc, "no memory for a cache of %d positions (at least %llu MiB)",
                       opts->n_ctx, mib);
    }
    *out = kv;
    return GM_OK;
}

void gm_kv_destroy(gm_kv **kv) {
    gm_kv *x = *kv;
    if (!x) return;
    for (int32_t i = 0; x->layer && i < x->c->n_layer; i++) {
        gm_be_tensor_free(x->b, &x->layer[i].k);
        gm_be_tensor_free(x->b, &x->layer[i].v);
    }
    gm_free(x->layer);
    gm_free(x);
    *kv = NULL;
}

int32_t gm_kv_len(const gm_kv *kv) { return kv->len; }
int32_t gm_kv_n_ctx(const gm_kv *kv) { return kv->n_ctx; }
int32_t gm_kv_slack(const gm_kv *kv) { return kv->n_slack; }
uint64_t gm_kv_bytes(const gm_kv *kv) { return kv->bytes; }
gm_kv_layer *gm_kv_layer_at(gm_kv *kv, int32_t layer) { return &kv->layer[layer]; }

void gm_kv_begin_write(gm_kv *kv, int32_t n) {
    gm_assert(n >= 0 && n <= kv->n_slack && n <= kv->n_ctx - kv->len);
    kv->high = max64(kv->high, (int64_t)kv->len + n);
}

void gm_kv_advance(gm_kv *kv, int32_t n) {
    gm_kv_begin_write(kv, n);
    kv->len += n;
}

/* The oldest position whose rows sliding layers still hold. */
static int64_t oldest(const gm_kv *kv) {
    return kv->n_ring > 0 ? max64(0, kv->high - kv->n_ring) : 0;
}

bool gm_kv_can_rewind(const gm_kv *kv, int32_t len) {
    if (len < 0 || len > kv->len) return false;
    return len == 0 || max64(0, (int64_t)len - kv->c->window + 1) >= oldest(kv);
}

int32_t gm_kv_rewind(gm_kv *kv, int32_t len) {
    kv->len = gm_kv_can_rewind(kv, len) ? len : 0;
    if (kv->len == 0) kv->high = 0; /* an empty ring has nothing to lose */
    return kv->len;
}

/* ---- fork ---- */

/* n bytes from one tensor of the backend to another, at byte offsets. */
static int copy_bytes(gm_backend *b, gm_tensor *dst, size_t dst_at, const gm_tensor *src,
                      size_t src_at, size_t n) {
    if (dst->data && src->data) {
        memcpy((char *)dst->data + dst_at, (const char *)src->data + src_at, n);
        return GM_OK;
    }
    int rc = gm_be_copy(b, dst, dst_at, src, src_at, n);
    if (rc != GM_EUNSUPPORTED) return rc;
    char bounce[4096];
    rc = GM_OK;
    for (size_t done = 0; rc == GM_OK && done < n; done += sizeof bounce) {
        size_t part = n - done < sizeof bounce ? n - done : sizeof bounce;
        rc = gm_be_read(b, src, src_at + done, bounce, part);
        if (!rc) rc = gm_be_write(b, dst, dst_at + done, bounce, part);
    }
    return rc;
}

/* Positions from .. to - 1 of one head. The rings may differ in size, so runs end where either of
 * them wraps. */
static int copy_head(gm_kv *dst, gm_tensor *d, const gm_tensor *s, int32_t head, int64_t from,
                     int64_t to) {
    int64_t d_slots = d->ne[1], s_slots = s->ne[1];
    while (from < to) {
        int64_t d_slot = from % d_slots, s_slot = from % s_slots;
        int64_t run = min64(to - from, min64(d_slots - d_slot, s_slots - s_slot));
        int rc = copy_bytes(dst->b, d, (size_t)(head * d_slots + d_slot) * d->row_bytes, s,
                            (size_t)(head * s_slots + s_slot) * s->row_bytes,
                            (size_t)run * d->row_bytes);
        if (rc) return rc;
        from += run;
    }
    return GM_OK;
}

static int copy_layer(gm_kv *dst, const gm_kv *src, int32_t i, int64_t from, int64_t to) {
    gm_kv_layer *d = &dst->layer[i];
    const gm_kv_layer *s = &src->layer[i];
    int rc = GM_OK;
    for (int32_t g = 0; rc == GM_OK && g < d->n_kv; g++) {
        rc = copy_head(dst, &d->k, &s->k, g, from, to);
        if (!rc) rc = copy_head(dst, &d->v, &s->v, g, from, to);
    }
    return rc;
}

int32_t gm_kv_fork(gm_kv *dst, const gm_kv *src, int32_t len) {
    if (dst == src || dst->c != src->c || dst->type != src->type) return GM_EINVAL;
    if (len < 0 || len > src->len) return GM_EINVAL;
    if (len > dst->n_ctx) return GM_ETOOLONG;
    gm_kv_rewind(dst, 0);
    if (!gm_kv_can_rewind(src, len)) return 0;

    /* Rows behind the window come along as far as both rings hold them, so that the copy can be
     * cut back like the original. */
    int64_t kept = dst->n_ring > 0 ? max64(oldest(src), (int64_t)len - dst->n_ring) : 0;
    int rc = gm_be_sync(dst->b);
    for (int32_t i = 0; rc == GM_OK && i < dst->c->n_layer; i++)
        rc = copy_layer(dst, src, i, dst->c->layer[i].sliding ? min64(kept, len) : 0, len);
    if (rc) return rc;
    dst->len = len;
    dst->high = kept > 0 ? max64(len, kept + dst->n_ring) : len;
    return len;
}
