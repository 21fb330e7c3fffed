/* backend.h: the contract between the model and whatever computes it.
 *
 * A backend is a table of functions over the structs of ops.h. Calls come from one thread at a
 * time (the worker). On the CPU a call returns when its work is done; a GPU backend may record
 * and return, and finishes everything in `sync`. Arguments are checked once, in the gm_be_*
 * wrappers of backend.c, so that implementations may trust them.
 *
 * An op returns 0, GM_ECANCELLED (when the flag given to gm_be_set_cancel rose; its outputs are
 * then undefined), GM_EDEVICE, GM_ENOMEM, GM_EINVAL (shapes that do not fit, or that nothing was
 * reserved for), GM_EUNSUPPORTED (more than the device can do) or GM_EINTERNAL. No op allocates
 * after `reserve`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "kernels/ops.h"

typedef struct gm_backend gm_backend;
typedef struct gm_dmem gm_dmem; /* a block of a device's memory; NULL on the CPU */

/* The largest shapes that ops will be called with, so that scratch space exists before. */
typedef struct {
    int32_t max_tok;  /* rows of x */
    int32_t max_in;   /* widest n_in of a matmul */
    int32_t max_head; /* most query heads */
    int32_t max_head_dim;
    bool fine; /* spend arithmetic on accuracy: products with quantised weights within
                  1e-3 of those with float32 activations */
} gm_be_limits;

/* All of both: limits only grow, so that decoders may share a backend. */
void gm_be_limits_grow(gm_be_limits *all, const gm_be_limits *lim);

typedef struct {
    /* required */
    const char *name; /* "cpu" */
    void (*destroy)(gm_backend *b);
    int (*reserve)(gm_backend *b, const gm_be_limits *lim);
    /* Zeroed memory for activations and caches; fills t->data or t->dmem (t has dtype, ne and
     * row_bytes). On the host large blocks become resident when touched. */
    int (*tensor_alloc)(gm_backend *b, gm_tensor *t);
    void (*tensor_free)(gm_backend *b, gm_tensor *t);
    /* Makes a weight usable by ops: host is a view into the mapped file. The CPU keeps the
     * view (no copy). */
    int (*weight_import)(gm_backend *b, const gm_tensor *host, gm_tensor *out);
    int (*write)(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n);
    int (*read)(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n);
    int (*sync)(gm_backend *b);
    /* optional */
    /* n bytes from one tensor of this backend to another, whole rows. NULL: through the host. */
    int (*copy)(gm_backend *b, gm_tensor *dst, size_t dst_at, const gm_tensor *src, size_t src_at,
                size_t n);
    /* Bytes that weights and caches may still take. NULL: as much as there is. */
    uint64_t (*memory_free)(gm_backend *b);
    /* Whether such rows (dtype, ne, row_bytes) can be one tensor, however much memory there is.
     * NULL: always. */
    bool (*can_hold)(gm_backend *b, const gm_tensor *t);
    /* Whether the next ops give way to other work of the machine. NULL: they do not take it
     * away. */
    void (*set_calm)(gm_backend *b, bool calm);
    /* NULL: logits are read and looked through on the host. */
    int (*top)(gm_backend *b, const gm_op_top *op);

    /* required */
    int (*embed)(gm_backend *b, const gm_op_embed *op);
    int (*rms_norm)(gm_backend *b, const gm_op_rms_norm *op);
    int (*add_norm)(gm_backend *b, const gm_op_add_norm *op);
    int (*matmul)(gm_backend *b, const gm_op_matmul *op);
    int (*head_norm_rope)(gm_backend *b, const gm_op_head_norm_rope *op);
    int (*kv_write)(gm_backend *b, const gm_op_kv_write *op);
    int (*attention)(gm_backend *b, const gm_op_attention *op);
    int (*geglu)(gm_backend *b, const gm_op_geglu *op);
    int (*softcap)(gm_backend *b, const gm_op_softcap *op);
} gm_backend_vtable;

/* First member of every backend's own struct. */
struct gm_backend {
    const gm_backend_vtable *vt;
    const gm_cancel *cancel; /* borrowed; NULL: never */
    /* A split: layers from n_layer on, the embedding and the head belong to `rest`, which is owned
     * and computes on the host. NULL: everything is here. */
    gm_backend *rest;
    int32_t n_layer;
    int32_t n_threads; /* of the CPU; 0: none */
    bool may_split;    /* its memory may be too small for a model: the engine decides */
    bool top_pays;     /* it has `top`, and that costs less than reading a row of logits */
    char desc[64];     /* "cpu avx512vnni, 2 threads" */
    /* "vulkan:0 NAME, vulkan:1 NAME": what there was to choose from; empty: not looked */
    char devices[256];
    char note[160]; /* why it is not what "auto" hoped for; empty: it is */
};

/* device: "cpu", "vulkan", "vulkan:n", "split:K" (K layers on the best Vulkan device), "auto" (a
 * GPU if there is one, never software, else the CPU with a note) or "null"; NULL: "cpu".
 * GEMMA_BACKEND overrides. n_threads 0: the default. On failure *out is NULL. */
int gm_backend_open(gm_backend **out, const char *device, int n_threads, char *err, size_t errlen);

/* Whether that is how a device is called which computes; it need not be there. */
bool gm_backend_name_ok(const char *name);
void gm_backend_close(gm_backend **b);

/* Gives the layers from n_layer on, and both ends, to the CPU. */
int gm_backend_split(gm_backend *b, int32_t n_layer, int n_threads, char *err, size_t errlen);

void gm_be_set_cancel(gm_backend *b, const gm_cancel *c);

/* Whether nobody waits for what is asked next: it is then computed at a lower priority. Between
 * ops. */
void gm_be_set_calm(gm_backend *b, bool calm);

/* Where a layer's weights, cache and activations are allocated. Everything else finds its side of
 * a split by its tensors. */
gm_backend *gm_be_layer(gm_backend *b, int32_t layer);
gm_backend *gm_be_ends(gm_backend *b); /* embedding and head */

/* Checked forwarders; shapes that do not fit give GM_EINVAL and a log line. */
int gm_be_reserve(gm_backend *b, const gm_be_limits *lim);
int gm_be_tensor_alloc(gm_backend *b, gm_tensor *t);
void gm_be_tensor_free(gm_backend *b, gm_tensor *t); /* accepts a zeroed tensor; clears it */
int gm_be_weight_import(gm_backend *b, const gm_tensor *host, gm_tensor *out);
int gm_be_write(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n);
int gm_be_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n);
int gm_be_copy(gm_backend *b, gm_tensor *dst, size_t dst_at, const gm_tensor *src, size_t src_at,
               size_t n);                  /* GM_EUNSUPPORTED: go through the host */
uint64_t gm_be_memory_free(gm_backend *b); /* UINT64_MAX: as much as there is */
bool gm_be_can_hold(gm_backend *b, const gm_tensor *t);
int gm_be_sync(gm_backend *b);
int gm_be_embed(gm_backend *b, const gm_op_embed *op);
int gm_be_rms_norm(gm_backend *b, const gm_op_rms_norm *op);
int gm_be_add_norm(gm_backend *b, const gm_op_add_norm *op);
int gm_be_matmul(gm_backend *b, const gm_op_matmul *op);
int gm_be_head_norm_rope(gm_backend *b, const gm_op_head_norm_rope *op);
int gm_be_kv_write(gm_backend *b, const gm_op_kv_write *op);
int gm_be_attention(gm_backend *b, const gm_op_attention *op);
int gm_be_geglu(gm_backend *b, const gm_op_geglu *op);
int gm_be_softcap(gm_backend *b, const gm_op_softcap *op);
bool gm_be_top_pays(gm_backend *b);                /* where the head is */
int gm_be_top(gm_backend *b, const gm_op_top *op); /* GM_EUNSUPPORTED without it */

/* Constructors of the backends; called by gm_backend_open. */
int gm_cpu_open(gm_backend **out, int n_threads, char *err, size_t errlen);
int gm_null_open(gm_backend **out, char *err, size_t errlen);

/* Ops counted by the null backend since it was opened, by name of the vtable member; 0 for an
 * unknown name or another backend. For tests of the layers above. */
uint64_t gm_null_count(const gm_backend *b, const char *op);
