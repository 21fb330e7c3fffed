/* hostmem.h: tensor memory of the backends that compute on the host.
 *
 * Owns the blocks that were allocated and knows them by address, so that freeing a view of a
 * mapped weight is harmless and closing a backend leaks nothing. Does not know any op.
 * Thread: the one that calls the backend.
 */
#pragma once

#include <stddef.h>
#include "tensor/tensor.h"

typedef struct {
    void **block;
    size_t n, cap;
} gm_hostmem; /* zeroed: empty */

/* Zeroed memory for t, by its shape and row_bytes; fills t->data. 0 or GM_ENOMEM. */
int gm_hostmem_alloc(gm_hostmem *m, gm_tensor *t);

/* Frees t->data when it came from gm_hostmem_alloc; leaves it alone otherwise. */
void gm_hostmem_free(gm_hostmem *m, gm_tensor *t);

void gm_hostmem_finish(gm_hostmem *m);
