/* gguf.h: header, metadata and tensor directory of a GGUF file, version 2 or 3.
 *
 * Everything that a file says is checked before it is used: counts against the bytes that
 * are left, names for duplicates, shapes for overflow, offsets for alignment and range. The
 * tensor data itself is never read here. Split files (NAME-00001-of-0000N.gguf) are opened
 * together from any of their parts and seen as one.
 *
 * A file with a tensor whose number format cannot be computed (dtype.h) is refused. Tensor data is
 * aligned as general.alignment says, which may be less than the size of a float: 8 or more in all
 * files that are known, but any power of two is accepted.
 *
 * A gm_gguf is immutable after open; any thread may read it. Pointers it hands out live until
 * close.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "tensor/dtype.h"

typedef enum {
    GM_GGUF_U8,
    GM_GGUF_I8,
    GM_GGUF_U16,
    GM_GGUF_I16,
    GM_GGUF_U32,
    GM_GGUF_I32,
    GM_GGUF_F32,
    GM_GGUF_BOOL,
    GM_GGUF_STR,
    GM_GGUF_ARR,
    GM_GGUF_U64,
    GM_GGUF_I64,
    GM_GGUF_F64
} gm_gguf_type;

typedef struct gm_gguf gm_gguf;

typedef struct {
    gm_str name;
    gm_dtype dtype;
    uint32_t n_dims; /* 1..4 */
    uint64_t ne[4];  /* unused are 1; none is 0 */
    const uint8_t *data;
    uint64_t bytes;
} gm_gguf_tensor;

int gm_gguf_open(gm_gguf **out, const char *path, char *err, size_t errlen);

/* The same from memory, which must outlive *out; one part only. For tests and fuzzing. */
int gm_gguf_open_memory(gm_gguf **out, const void *p, size_t n, char *err, size_t errlen);

void gm_gguf_close(gm_gguf **g);

uint32_t gm_gguf_version(const gm_gguf *g);
uint64_t gm_gguf_file_bytes(const gm_gguf *g); /* all parts */

/* Tensors in file order, by index or by name (NULL when there is none). */
uint64_t gm_gguf_n_tensor(const gm_gguf *g);
const gm_gguf_tensor *gm_gguf_tensor_at(const gm_gguf *g, uint64_t i);
const gm_gguf_tensor *gm_gguf_tensor_find(const gm_gguf *g, const char *name);

/* Metadata, in file order. */
uint64_t gm_gguf_n_key(const gm_gguf *g);
gm_str gm_gguf_key_at(const gm_gguf *g, uint64_t i);

/* Each returns 0, GM_ENOENT when there is no such key, or GM_EFORMAT when its type does not
 * convert (integers of any width convert to each other when the value fits). */
int gm_gguf_get_u64(const gm_gguf *g, const char *key, uint64_t *out);
int gm_gguf_get_i64(const gm_gguf *g, const char *key, int64_t *out);
int gm_gguf_get_f64(const gm_gguf *g, const char *key, double *out);
int gm_gguf_get_bool(const gm_gguf *g, const char *key, bool *out);
int gm_gguf_get_str(const gm_gguf *g, const char *key, gm_str *out);

/* Arrays. A scalar reads as an array of one. */
typedef struct {
    gm_gguf_type type; /* of the elements; never GM_GGUF_ARR */
    uint64_t n;
    const uint8_t *p;      /* packed elements (unaligned); for strings use gm_gguf_str_at */
    const gm_str *strings; /* for GM_GGUF_STR: n slices; else NULL */
} gm_gguf_array;

int gm_gguf_get_array(const gm_gguf *g, const char *key, gm_gguf_array *out);

/* Element i as an integer or float; 0 or GM_EFORMAT. Bool elements read as 0 and 1. */
int gm_gguf_array_i64(const gm_gguf_array *a, uint64_t i, int64_t *out);
int gm_gguf_array_f64(const gm_gguf_array *a, uint64_t i, double *out);
