/* dtype.h: the number formats of weights, as a table.
 *
 * Values are the type ids of GGUF files. Formats that are known by size but not computed have
 * can_compute false: a file that uses one is refused by the tensor's name and the type's name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    GM_F32 = 0,
    GM_F16 = 1,
    GM_Q4_0 = 2,
    GM_Q4_1 = 3,
    GM_Q5_0 = 6,
    GM_Q5_1 = 7,
    GM_Q8_0 = 8,
    GM_Q2_K = 10,
    GM_Q3_K = 11,
    GM_Q4_K = 12,
    GM_Q5_K = 13,
    GM_Q6_K = 14,
    GM_IQ4_NL = 20,
    GM_IQ4_XS = 23,
    GM_BF16 = 30,
    GM_DTYPE_LIMIT = 64 /* one past the largest id that the table can hold */
} gm_dtype;

typedef struct {
    const char *name;     /* "Q4_K"; NULL for an unknown id */
    uint32_t block_elems; /* elements per block */
    uint32_t block_bytes; /* bytes per block */
    bool can_compute;
} gm_dtype_info;

/* Never NULL; an unknown id gives an entry whose name is NULL. */
const gm_dtype_info *gm_dtype_get(uint32_t id);

/* Bytes of a row of n elements; 0 when n is no multiple of the block or on overflow. */
size_t gm_dtype_row_bytes(gm_dtype t, uint64_t n);
