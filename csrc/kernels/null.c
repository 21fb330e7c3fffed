/* null.c: a backend that computes nothing and counts what it was asked to do.
 *
 * Tensors are real memory, zeroed, so writes can be read back and logits are all zero: the layers
 * above run at full speed without arithmetic. For tests of sessions, cancel and the scheduler.
 */
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "kernels/backend.h"
#include "kernels/hostmem.h"

/* clang-format off */
#define NULL_OPS(X)                                                                                \
    X(embed) X(rms_norm) X(add_norm) X(matmul) X(head_norm_rope) X(kv_write) X(attention)          \
    X(geglu) X(softcap)
#define NULL_CALLS(X)                                                                              \
    X(reserve) X(tensor_alloc) X(tensor_free) X(weight_import) X(write) X(read) X(sync)
/* clang-format on */

enum {
#define COUNT_ID(name) COUNT_##name,
    NULL_OPS(COUNT_ID) NULL_CALLS(COUNT_ID) N_COUNT
#undef COUNT_ID
};

static const char *const count_names[N_COUNT] = {
#define COUNT_NAME(name) [COUNT_##name] = #name,
    NULL_OPS(COUNT_NAME) NULL_CALLS(COUNT_NAME)
#undef COUNT_NAME
};

typedef struct {
    gm_backend base; /* first */
    gm_hostmem mem;
    uint64_t count[N_COUNT];
} null_backend;

static null_backend *of(gm_backend *b, int which) {
    null_backend *n = (null_backend *)b;
    n->count[which]++;
    return n;
}

static void null_destroy(gm_backend *b) {
    null_backend *n = (null_backend *)b;
    gm_hostmem_finish(&n->mem);
    gm_free(n);
}

static int null_reserve(gm_backend *b, const gm_be_limits *lim) {
    (void)lim;
    of(b, COUNT_reserve);
    return GM_OK;
}

static int null_tensor_alloc(gm_backend *b, gm_tensor *t) {
    return gm_hostmem_alloc(&of(b, COUNT_tensor_alloc)->mem, t);
}

static void null_tensor_free(gm_backend *b, gm_tensor *t) {
    gm_hostmem_free(&of(b, COUNT_tensor_free)->mem, t);
}

static int null_weight_import(gm_backend *b, const gm_tensor *host, gm_tensor *out) {
    of(b, COUNT_weight_import);
    *out = *host;
    return GM_OK;
}

static int null_write(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n) {
    of(b, COUNT_write);
    memcpy((char *)t->data + offset, src, n);
    return GM_OK;
}

static int null_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n) {
    of(b, COUNT_read);
    memcpy(dst, (const char *)t->data + offset, n);
    return GM_OK;
}

static int null_sync(gm_backend *b) {
    of(b, COUNT_sync);
    return GM_OK;
}

/* The flag is looked at as every backend does, so that tests of cancelling need no arithmetic. */
#define NULL_OP(name)                                                                              \
    static int null_##name(gm_backend *b, const gm_op_##name *op) {                                \
        (void)op;                                                                                  \
        of(b, COUNT_##name);                                                                       \
        return gm_cancelled(b->cancel) ? GM_ECANCELLED : GM_OK;                                    \
    }
NULL_OPS(NULL_OP)

/* clang-format off */
static const gm_backend_vtable null_vtable = {
    .name = "null",
    .destroy = null_destroy,
#define NULL_ENTRY(name) .name = null_##name,
    NULL_CALLS(NULL_ENTRY) NULL_OPS(NULL_ENTRY)
#undef NULL_ENTRY
};
/* clang-format on */

int gm_null_open(gm_backend **out, char *err, size_t errlen) {
    *out = NULL;
    null_backend *n = gm_calloc(1, sizeof *n);
    if (!n) return gm_fail(err, errlen, GM_ENOMEM, "out of memory");
    n->base.vt = &null_vtable;
    snprintf(n->base.desc, sizeof n->base.desc, "null, computes nothing");
    *out = &n->base;
    return GM_OK;
}

uint64_t gm_null_count(const gm_backend *b, const char *op) {
    if (!b || b->vt != &null_vtable) return 0;
    const null_backend *n = (const null_backend *)b;
    for (int i = 0; i < N_COUNT; i++)
        if (strcmp(count_names[i], op) == 0) return n->count[i];
    return 0;
}
