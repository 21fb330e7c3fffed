/* gguf_writer.c: see gguf_writer.h. */
#include "helper/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "tensor/quant.h"

static void need(bool ok) {
    if (ok) return;
    fprintf(stderr, "gguf_writer: out of memory\n");
    abort();
}

void gw_put(gm_bytes *b, const void *p, size_t n) { need(gm_bytes_append(b, p, n) == 0); }
void gw_put_u32(gm_bytes *b, uint32_t v) { gw_put(b, &v, sizeof v); }
void gw_put_u64(gm_bytes *b, uint64_t v) { gw_put(b, &v, sizeof v); }

static void put_str(gm_bytes *b, gm_str s) {
    gw_put_u64(b, s.n);
    gw_put(b, s.p, s.n);
}

void gw_put_str(gm_bytes *b, const char *s) { put_str(b, (gm_str){s, strlen(s)}); }

static void pad(gm_bytes *b, uint64_t alignment, size_t from) {
    while ((b->n - from) % alignment != 0) gw_put(b, "", 1);
}

void gw_init(gguf_writer *w) {
    *w = (gguf_writer){.version = 3, .alignment = 32};
    memcpy(w->magic, "GGUF", 4);
}

void gw_finish(gguf_writer *w) {
    gm_bytes_finish(&w->keys);
    gm_bytes_finish(&w->infos);
    gm_bytes_finish(&w->data);
}

void gw_alignment(gguf_writer *w, uint32_t alignment) {
    gw_u32(w, "general.alignment", alignment);
    w->alignment = alignment;
}

void gw_key(gguf_writer *w, const char *key, uint32_t type) {
    gw_put_str(&w->keys, key);
    gw_put_u32(&w->keys, type);
    w->n_key++;
}

static void scalar(gguf_writer *w, const char *key, uint32_t type, const void *v, size_t n) {
    gw_key(w, key, type);
    gw_put(&w->keys, v, n);
}

void gw_u8(gguf_writer *w, const char *key, uint8_t v) { scalar(w, key, GM_GGUF_U8, &v, 1); }
void gw_i8(gguf_writer *w, const char *key, int8_t v) { scalar(w, key, GM_GGUF_I8, &v, 1); }
void gw_u16(gguf_writer *w, const char *key, uint16_t v) { scalar(w, key, GM_GGUF_U16, &v, 2); }
void gw_i16(gguf_writer *w, const char *key, int16_t v) { scalar(w, key, GM_GGUF_I16, &v, 2); }
void gw_u32(gguf_writer *w, const char *key, uint32_t v) { scalar(w, key, GM_GGUF_U32, &v, 4); }
void gw_i32(gguf_writer *w, const char *key, int32_t v) { scalar(w, key, GM_GGUF_I32, &v, 4); }
void gw_u64(gguf_writer *w, const char *key, uint64_t v) { scalar(w, key, GM_GGUF_U64, &v, 8); }
void gw_i64(gguf_writer *w, const char *key, int64_t v) { scalar(w, key, GM_GGUF_I64, &v, 8); }
void gw_f32(gguf_writer *w, const char *key, float v) { scalar(w, key, GM_GGUF_F32, &v, 4); }
void gw_f64(gguf_writer *w, const char *key, double v) { scalar(w, key, GM_GGUF_F64, &v, 8); }

void gw_bool(gguf_writer *w, const char *key, bool v) {
    uint8_t byte = v;
    scalar(w, key, GM_GGUF_BOOL, &byte, 1);
}

void gw_str(gguf_writer *w, const char *key, const char *v) {
    gw_key(w, key, GM_GGUF_STR);
    gw_put_str(&w->keys, v);
}

void gw_array(gguf_writer *w, const char *key, gm_gguf_type elem, uint64_t n, const void *elems,
              size_t n_bytes) {
    gw_key(w, key, GM_GGUF_ARR);
    gw_put_u32(&w->keys, elem);
    gw_put_u64(&w->keys, n);
    gw_put(&w->keys, elems, n_bytes);
}

void gw_strings(gguf_writer *w, const char *key, const gm_str *v, uint64_t n) {
    gw_array(w, key, GM_GGUF_STR, n, NULL, 0);
    for (uint64_t i = 0; i < n; i++) put_str(&w->keys, v[i]);
}

void gw_tensor_info(gguf_writer *w, const char *name, uint32_t dtype, uint32_t n_dims,
                    const uint64_t *ne, uint64_t offset) {
    gw_put_str(&w->infos, name);
    gw_put_u32(&w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) gw_put_u64(&w->infos, ne[i]);
    gw_put_u32(&w->infos, dtype);
    gw_put_u64(&w->infos, offset);
    w->n_tensor++;
}

void gw_tensor(gguf_writer *w, const char *name, uint32_t dtype, uint32_t n_dims,
               const uint64_t *ne, const void *data, size_t n_bytes) {
    pad(&w->data, w->alignment, 0);
    gw_tensor_info(w, name, dtype, n_dims, ne, w->data.n);
    gw_put(&w->data, data, n_bytes);
}

void gw_tensor_f32(gguf_writer *w, const char *name, gm_dtype dtype, uint64_t ne0, uint64_t ne1,
                   const float *values) {
    uint64_t ne[2] = {ne0, ne1}, rows = ne1 ? ne1 : 1;
    size_t row_bytes = gm_dtype_row_bytes(dtype, ne0);
    char *packed = gm_malloc(rows, row_bytes);
    need(packed != NULL);
    for (uint64_t i = 0; i < rows; i++)
        need(gm_quant_row(dtype, values + i * ne0, packed + i * row_bytes, (int64_t)ne0) == 0);
    gw_tensor(w, name, dtype, ne1 ? 2 : 1, ne, packed, rows * row_bytes);
    gm_free(packed);
}

gm_bytes gw_build(const gguf_writer *w) {
    gm_bytes out = {0};
    gw_put(&out, w->magic, 4);
    gw_put_u32(&out, w->version);
    gw_put_u64(&out, w->n_tensor);
    gw_put_u64(&out, w->n_key);
    gw_put(&out, w->keys.p, w->keys.n);
    gw_put(&out, w->infos.p, w->infos.n);
    if (!w->no_padding) pad(&out, w->alignment, 0);
    gw_put(&out, w->data.p, w->data.n);
    return out;
}

bool gw_save(const char *path, const gm_bytes *file) {
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    bool ok = file->n == 0 || fwrite(file->p, 1, file->n, f) == file->n;
    return fclose(f) == 0 && ok;
}
