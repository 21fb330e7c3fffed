/* tensor.h: a view of numbers: type, shape, and where they live.
 *
 * A view owns nothing. ne[0] is the contiguous axis (as in GGUF): a matrix [n_in, n_out] has
 * n_out rows of n_in. Rows lie row_bytes apart.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "tensor/dtype.h"

struct gm_dmem; /* memory of a device, see kernels/backend.h */

typedef struct {
    gm_dtype dtype;
    int64_t ne[4];        /* unused axes are 1 */
    size_t row_bytes;     /* from one row (ne[0] elements) to the next */
    void *data;           /* host pointer; NULL when it lives on a device */
    struct gm_dmem *dmem; /* NULL on the host */
    size_t offset;        /* bytes into dmem */
} gm_tensor;

/* Product of ne[1..3]. */
static inline int64_t gm_tensor_rows(const gm_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

static inline const void *gm_tensor_row(const gm_tensor *t, int64_t row) {
    return (const char *)t->data + (size_t)row * t->row_bytes;
}

/* A dense host view over existing memory. */
gm_tensor gm_tensor_view(gm_dtype t, void *data, int64_t ne0, int64_t ne1);
