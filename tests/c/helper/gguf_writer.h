/* gguf_writer.h: makes GGUF files in memory, right ones and wrong ones.
 *
 *     gguf_writer w;
 *     gw_init(&w);
 *     gw_str(&w, "general.architecture", "gemma4");
 *     gw_tensor_f32(&w, "a.weight", GM_Q8_0, 32, 2, values);
 *     gm_bytes file = gw_build(&w);      // caller finishes
 *     gw_finish(&w);
 *
 * Sections are kept apart until gw_build, so that tests can put raw bytes in any of them and
 * lie about counts. Not for production: running out of memory ends the test program.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "format/gguf.h"

typedef struct {
    gm_bytes keys, infos, data;
    uint64_t n_key, n_tensor; /* as written in the header; tests may change them */
    uint32_t version;         /* 3 */
    char magic[4];            /* "GGUF" */
    uint64_t alignment;       /* of the data; gw_alignment also writes the key */
    bool no_padding;          /* leave the gap before the data out */
} gguf_writer;

void gw_init(gguf_writer *w);
void gw_finish(gguf_writer *w);

/* Writes general.alignment and uses it from here on. Before the first tensor. */
void gw_alignment(gguf_writer *w, uint32_t alignment);

void gw_u8(gguf_writer *w, const char *key, uint8_t v);
void gw_i8(gguf_writer *w, const char *key, int8_t v);
void gw_u16(gguf_writer *w, const char *key, uint16_t v);
void gw_i16(gguf_writer *w, const char *key, int16_t v);
void gw_u32(gguf_writer *w, const char *key, uint32_t v);
void gw_i32(gguf_writer *w, const char *key, int32_t v);
void gw_u64(gguf_writer *w, const char *key, uint64_t v);
void gw_i64(gguf_writer *w, const char *key, int64_t v);
void gw_f32(gguf_writer *w, const char *key, float v);
void gw_f64(gguf_writer *w, const char *key, double v);
void gw_bool(gguf_writer *w, const char *key, bool v);
void gw_str(gguf_writer *w, const char *key, const char *v);

/* n packed elements, n_bytes in all. */
void gw_array(gguf_writer *w, const char *key, gm_gguf_type elem, uint64_t n, const void *elems,
              size_t n_bytes);
void gw_strings(gguf_writer *w, const char *key, const gm_str *v, uint64_t n);

/* Name and type only; the test appends the value to w->keys itself. */
void gw_key(gguf_writer *w, const char *key, uint32_t type);

/* Appends info and data (padded to the alignment). */
void gw_tensor(gguf_writer *w, const char *name, uint32_t dtype, uint32_t n_dims,
               const uint64_t *ne, const void *data, size_t n_bytes);

/* A matrix of ne0 x ne1 (one dimension when ne1 is 0) from floats, converted by gm_quant_row. */
void gw_tensor_f32(gguf_writer *w, const char *name, gm_dtype dtype, uint64_t ne0, uint64_t ne1,
                   const float *values);

/* Info only, with any offset. */
void gw_tensor_info(gguf_writer *w, const char *name, uint32_t dtype, uint32_t n_dims,
                    const uint64_t *ne, uint64_t offset);

/* Little pieces for hostile files. */
void gw_put(gm_bytes *b, const void *p, size_t n);
void gw_put_u32(gm_bytes *b, uint32_t v);
void gw_put_u64(gm_bytes *b, uint64_t v);
void gw_put_str(gm_bytes *b, const char *s); /* length and bytes */

/* The whole file. The writer stays usable. */
gm_bytes gw_build(const gguf_writer *w);

/* Writes bytes to a file; false with errno set on failure. */
bool gw_save(const char *path, const gm_bytes *file);
