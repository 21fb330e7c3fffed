/* dtype.c: the table of number formats. */
#include "tensor/dtype.h"

#include "base/mem.h"

/* Ids that are missing here were withdrawn or never given out. */
static const gm_dtype_info table[GM_DTYPE_LIMIT] = {
    [GM_F32] = {"F32", 1, 4, true},
    [GM_F16] = {"F16", 1, 2, true},
    [GM_Q4_0] = {"Q4_0", 32, 18, true},
    [GM_Q4_1] = {"Q4_1", 32, 20, true},
    [GM_Q5_0] = {"Q5_0", 32, 22, true},
    [GM_Q5_1] = {"Q5_1", 32, 24, true},
    [GM_Q8_0] = {"Q8_0", 32, 34, true},
    [9] = {"Q8_1", 32, 36, false},
    [GM_Q2_K] = {"Q2_K", 256, 84, true},
    [GM_Q3_K] = {"Q3_K", 256, 110, true},
    [GM_Q4_K] = {"Q4_K", 256, 144, true},
    [GM_Q5_K] = {"Q5_K", 256, 176, true},
    [GM_Q6_K] = {"Q6_K", 256, 210, true},
    [15] = {"Q8_K", 256, 292, false},
    [16] = {"IQ2_XXS", 256, 66, false},
    [17] = {"IQ2_XS", 256, 74, false},
    [18] = {"IQ3_XXS", 256, 98, false},
    [19] = {"IQ1_S", 256, 50, false},
    [GM_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [21] = {"IQ3_S", 256, 110, false},
    [22] = {"IQ2_S", 256, 82, false},
    [GM_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [24] = {"I8", 1, 1, false},
    [25] = {"I16", 1, 2, false},
    [26] = {"I32", 1, 4, false},
    [27] = {"I64", 1, 8, false},
    [28] = {"F64", 1, 8, false},
    [29] = {"IQ1_M", 256, 56, false},
    [GM_BF16] = {"BF16", 1, 2, true},
    [34] = {"TQ1_0", 256, 54, false},
    [35] = {"TQ2_0", 256, 66, false},
    [39] = {"MXFP4", 32, 17, false},
    [40] = {"NVFP4", 64, 36, false},
    [41] = {"Q1_0", 128, 18, false},
    [42] = {"Q2_0", 64, 18, false},
};

const gm_dtype_info *gm_dtype_get(uint32_t id) {
    static const gm_dtype_info unknown = {NULL, 1, 0, false};
    if (id >= GM_DTYPE_LIMIT || !table[id].name) return &unknown;
    return &table[id];
}

size_t gm_dtype_row_bytes(gm_dtype t, uint64_t n) {
    const gm_dtype_info *info = gm_dtype_get((uint32_t)t);
    size_t bytes;
    if (!info->name || n % info->block_elems != 0) return 0;
    uint64_t n_block = n / info->block_elems;
    if (n_block > SIZE_MAX || !gm_mul_size((size_t)n_block, info->block_bytes, &bytes)) return 0;
    return bytes;
}
