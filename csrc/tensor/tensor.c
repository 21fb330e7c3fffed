/* tensor.c: making views. */
#include "tensor/tensor.h"

gm_tensor gm_tensor_view(gm_dtype t, void *data, int64_t ne0, int64_t ne1) {
    return (gm_tensor){
        .dtype = t,
        .ne = {ne0, ne1, 1, 1},
        .row_bytes = ne0 > 0 ? gm_dtype_row_bytes(t, (uint64_t)ne0) : 0,
        .data = data,
    };
}
