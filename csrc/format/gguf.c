/* gguf.c: parsing and looking up.
 *
 * A file is walked once, front to back, through a bounded cursor:
 *
 *     "GGUF" version n_tensor n_key | keys ... | tensor infos ... | pad | tensor data
 *
 * Memory is asked for in proportion to counts only after the counts were compared with the
 * bytes that could hold them. Names are borrowed from the mapping; two hash tables find them.
 * Arrays of strings get one table of slices, built during the walk, which has to visit every
 * string anyway.
 */
#include "format/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/cursor.h"
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"

/* Far above any model (a 12B has 667 tensors and 60 keys) and low enough that a hostile header
 * cannot make the tables below cost more than a moment. */
#define MAX_KEYS 16384
#define MAX_TENSORS 16384
#define MAX_KEY_NAME 65535  /* bytes; the format's own limit */
#define MAX_TENSOR_NAME 255 /* bytes */
#define MAX_ALIGNMENT (1u << 20)
#define DEFAULT_ALIGNMENT 32
#define MAX_NESTING 4  /* arrays in arrays */
#define MAX_PROBES 256 /* of a name in the tables; in honest files a few dozen */
#define MAX_PARTS 9999 /* of a split file */
/* Strings in all arrays together. A sparse file of many gigabytes of zeros is a long list of empty
 * strings, whose table would fill the memory. The 12B has 0.8 million. */
#define MAX_STRINGS (1u << 24)

/* Smallest records: what a count must at least be paid for with. */
#define MIN_KEY_BYTES (8 + 1 + 4 + 1)
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8)

typedef struct {
    gm_str name; /* first, see name_at */
    gm_gguf_type type;
    gm_gguf_type elem; /* of an array, else same as type */
    uint64_t n;        /* elements; 1 for a scalar */
    const uint8_t *p;  /* first element; for strings, of the length field */
    gm_str *strings;   /* [n], owned; NULL unless elem is a string */
} key_entry;

/* Open addressing over the names of an array of structs that begin with a gm_str. */
typedef struct {
    uint32_t *slot; /* [mask + 1]: index + 1, or 0 */
    size_t mask;
} name_index;

typedef struct {
    gm_map *map; /* NULL when the caller owns the memory */
    const uint8_t *p;
    size_t n; /* bytes */
    uint32_t version;
    uint64_t n_tensor;
    key_entry *keys; /* [n_key] */
    uint64_t n_key;
    name_index key_index;
} part;

struct gm_gguf {
    part *parts; /* [n_part]; the metadata is that of the first */
    size_t n_part;
    gm_gguf_tensor *tensors; /* [n_tensor], of all parts */
    size_t n_tensor, cap_tensor;
    name_index tensor_index;
};

/* What the parser needs at hand: where it reads and where complaints go. */
typedef struct {
    const char *path; /* as shown to people */
    char *err;
    size_t errlen;
    gm_cursor c;
    uint64_t n_string; /* elements of variable size so far, see MAX_STRINGS */
} reader;

/* A name from the file, cut to a length that leaves room for the sentence. */
#define NAME_FMT "%.*s"
#define NAME_ARG(s) (int)((s).n < 80 ? (s).n : 80), (s).p

#define bad_file(r, ...) gm_fail((r)->err, (r)->errlen, GM_EFORMAT, __VA_ARGS__)

static int truncated(reader *r, const char *what) {
    return bad_file(r, "%s: the file ends inside %s; download it again", r->path, what);
}

static int no_memory(reader *r) {
    return gm_fail(r->err, r->errlen, GM_ENOMEM, "%s: out of memory", r->path);
}

static size_t bytes_left(const reader *r) { return r->c.n - r->c.pos; }

/* ---- names ------------------------------------------------------------------------------- */

static const gm_str *name_at(const void *base, size_t stride, size_t i) {
    return (const gm_str *)(const void *)((const char *)base + i * stride);
}

static bool same_name(gm_str a, gm_str b) { return a.n == b.n && memcmp(a.p, b.p, a.n) == 0; }

static size_t hash_name(gm_str s) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++) h = (h ^ (uint8_t)s.p[i]) * 0x100000001B3u;
    return (size_t)(h ^ h >> 32);
}

/* The slot that holds the name, or the empty one where it would go; the last that was looked at
 * when that is too far. */
static size_t probe_name(const name_index *ix, const void *base, size_t stride, gm_str name) {
    size_t at = hash_name(name) & ix->mask;
    for (int n = 0; n < MAX_PROBES && ix->slot[at] != 0; n++, at = (at + 1) & ix->mask)
        if (same_name(*name_at(base, stride, ix->slot[at] - 1), name)) break;
    return at;
}

/* 0, GM_ENOMEM, or GM_EFORMAT when a name comes twice; *twice is then its index. Names that were
 * chosen to collide are refused in the same way, since each would be compared with all. */
static int build_index(name_index *ix, const void *base, size_t stride, size_t n, size_t *twice) {
    size_t n_slot = 16;
    while (n_slot < 2 * n) n_slot *= 2;
    ix->slot = gm_calloc(n_slot, sizeof *ix->slot);
    if (!ix->slot) return GM_ENOMEM;
    ix->mask = n_slot - 1;
    for (size_t i = 0; i < n; i++) {
        size_t at = probe_name(ix, base, stride, *name_at(base, stride, i));
        if (ix->slot[at] != 0) {
            *twice = i;
            return GM_EFORMAT;
        }
        ix->slot[at] = (uint32_t)i + 1;
    }
    return GM_OK;
}

/* The struct with this name, or NULL. */
static const void *look_up(const name_index *ix, const void *base, size_t stride, const char *s) {
    gm_str name = {s, strlen(s)};
    uint32_t found = ix->slot[probe_name(ix, base, stride, name)];
    const gm_str *there = found ? name_at(base, stride, found - 1) : NULL;
    return there && same_name(*there, name) ? (const void *)there : NULL;
}

/* ---- metadata ---------------------------------------------------------------------------- */

/* Bytes of one element; 0 for strings, arrays and what is no type. */
static size_t elem_bytes(uint32_t type) {
    switch (type) {
    case GM_GGUF_U8:
    case GM_GGUF_I8:
    case GM_GGUF_BOOL: return 1;
    case GM_GGUF_U16:
    case GM_GGUF_I16: return 2;
    case GM_GGUF_U32:
    case GM_GGUF_I32:
    case GM_GGUF_F32: return 4;
    case GM_GGUF_U64:
    case GM_GGUF_I64:
    case GM_GGUF_F64: return 8;
    default: return 0;
    }
}

/* A length and that many bytes; sets bad when they are not there. */
static gm_str read_str(gm_cursor *c) {
    uint64_t n = gm_cursor_u64(c);
    const uint8_t *p = gm_cursor_take(c, n);
    return p ? (gm_str){(const char *)p, (size_t)n} : (gm_str){"", 0};
}

static int read_name(reader *r, gm_str *out, size_t max, const char *what) {
    uint64_t n = gm_cursor_u64(&r->c);
    if (!r->c.bad && (n == 0 || n > max))
        return bad_file(
            r, "%s: damaged: the name of a %s is %" PRIu64 " bytes long; download it again",
            r->path, what, n);
    const uint8_t *p = gm_cursor_take(&r->c, n);
    if (!p) return truncated(r, "its header");
    *out = (gm_str){(const char *)p, (size_t)n};
    return GM_OK;
}

/* Element type and count of the array that comes next. */
static int read_array_head(reader *r, const key_entry *k, uint32_t *type, uint64_t *n) {
    *type = gm_cursor_u32(&r->c);
    *n = gm_cursor_u64(&r->c);
    if (r->c.bad) return truncated(r, "its header");
    if (*type > GM_GGUF_F64)
        return bad_file(r, "%s: damaged: key " NAME_FMT " is an array of unknown type %" PRIu32,
                        r->path, NAME_ARG(k->name), *type);
    /* An array is at least a type and a count, a string at least a length. */
    size_t min = *type == GM_GGUF_ARR ? 12 : *type == GM_GGUF_STR ? 8 : elem_bytes(*type);
    if (*n > bytes_left(r) / min)
        return bad_file(r,
                        "%s: key " NAME_FMT " claims %" PRIu64
                        " elements, more than the file has room for; download it again",
                        r->path, NAME_ARG(k->name), *n);
    if (*type == GM_GGUF_ARR || *type == GM_GGUF_STR) r->n_string += *n;
    if (r->n_string > MAX_STRINGS)
        return bad_file(r,
                        "%s: damaged: key " NAME_FMT " has %" PRIu64 " elements; download it again",
                        r->path, NAME_ARG(k->name), *n);
    return GM_OK;
}

/* Steps over an array without keeping anything: how arrays in arrays are read. They are legal,
 * but no key that we know is one. */
static int skip_array(reader *r, const key_entry *k, uint32_t type, uint64_t n, int depth) {
    if (depth > MAX_NESTING)
        return bad_file(r, "%s: key " NAME_FMT " nests arrays deeper than %d", r->path,
                        NAME_ARG(k->name), MAX_NESTING);
    if (type != GM_GGUF_STR && type != GM_GGUF_ARR)
        gm_cursor_take(&r->c, n * elem_bytes(type)); /* fits, read_array_head has checked */
    for (uint64_t i = 0; type == GM_GGUF_STR && i < n && !r->c.bad; i++) read_str(&r->c);
    for (uint64_t i = 0; type == GM_GGUF_ARR && i < n; i++) {
        uint32_t inner;
        uint64_t n_inner;
        int rc = read_array_head(r, k, &inner, &n_inner);
        if (rc == GM_OK) rc = skip_array(r, k, inner, n_inner, depth + 1);
        if (rc < 0) return rc;
    }
    return r->c.bad ? truncated(r, "its header") : GM_OK;
}

static int read_strings(reader *r, key_entry *k) {
    /* The block is reserved for the count that the file claims, at most twice the bytes left,
     * but only what really is there gets touched. */
    k->strings = gm_malloc((size_t)k->n, sizeof *k->strings);
    if (!k->strings) return no_memory(r);
    for (uint64_t i = 0; i < k->n; i++) k->strings[i] = read_str(&r->c);
    return r->c.bad ? truncated(r, "a list of strings") : GM_OK;
}

static int read_array(reader *r, key_entry *k) {
    uint32_t type;
    int rc = read_array_head(r, k, &type, &k->n);
    if (rc < 0) return rc;
    k->elem = (gm_gguf_type)type;
    k->p = r->c.p + r->c.pos;
    if (type == GM_GGUF_STR) return read_strings(r, k);
    return skip_array(r, k, type, k->n, 1);
}

static int read_key(reader *r, key_entry *k) {
    int rc = read_name(r, &k->name, MAX_KEY_NAME, "key");
    if (rc < 0) return rc;
    uint32_t type = gm_cursor_u32(&r->c);
    if (r->c.bad) return truncated(r, "its header");
    if (type > GM_GGUF_F64)
        return bad_file(r, "%s: damaged: key " NAME_FMT " has unknown type %" PRIu32, r->path,
                        NAME_ARG(k->name), type);
    k->type = k->elem = (gm_gguf_type)type;
    if (type == GM_GGUF_ARR) return read_array(r, k);
    k->n = 1;
    k->p = r->c.p + r->c.pos;
    if (type == GM_GGUF_STR) return read_strings(r, k);
    if (!gm_cursor_take(&r->c, elem_bytes(type))) return truncated(r, "its header");
    return GM_OK;
}

static int read_keys(reader *r, part *p, uint64_t n_key) {
    if (n_key > bytes_left(r) / MIN_KEY_BYTES || n_key > MAX_KEYS)
        return bad_file(r, "%s: damaged: claims %" PRIu64 " metadata keys; download it again",
                        r->path, n_key);
    p->keys = gm_calloc((size_t)n_key, sizeof *p->keys);
    if (!p->keys) return no_memory(r);
    for (; p->n_key < n_key; p->n_key++) {
        int rc = read_key(r, &p->keys[p->n_key]);
        if (rc < 0) {
            p->n_key++; /* its strings are to be freed too */
            return rc;
        }
    }
    size_t twice;
    int rc = build_index(&p->key_index, p->keys, sizeof *p->keys, (size_t)n_key, &twice);
    if (rc == GM_ENOMEM) return no_memory(r);
    if (rc < 0)
        return bad_file(r, "%s: damaged: key " NAME_FMT " comes twice; download it again", r->path,
                        NAME_ARG(p->keys[twice].name));
    return GM_OK;
}

static const key_entry *find_key(const part *p, const char *key) {
    return look_up(&p->key_index, p->keys, sizeof *p->keys, key);
}

/* ---- values ------------------------------------------------------------------------------ */

static int entry_array(const key_entry *k, gm_gguf_array *out) {
    if (!k) return GM_ENOENT;
    if (k->elem == GM_GGUF_ARR) return GM_EFORMAT;
    *out = (gm_gguf_array){k->elem, k->n, k->p, k->strings};
    return GM_OK;
}

static int entry_scalar(const key_entry *k, gm_gguf_array *out) {
    if (!k) return GM_ENOENT;
    return k->type == GM_GGUF_ARR ? GM_EFORMAT : entry_array(k, out);
}

#define LOAD(type, p, i) load_##type((p) + (i) * sizeof(type))
#define DEFINE_LOAD(type)                                                                          \
    static type load_##type(const uint8_t *p) {                                                    \
        type v;                                                                                    \
        memcpy(&v, p, sizeof v);                                                                   \
        return v;                                                                                  \
    }
DEFINE_LOAD(int8_t)
DEFINE_LOAD(uint16_t)
DEFINE_LOAD(int16_t)
DEFINE_LOAD(uint32_t)
DEFINE_LOAD(int32_t)
DEFINE_LOAD(uint64_t)
DEFINE_LOAD(int64_t)
DEFINE_LOAD(float)
DEFINE_LOAD(double)

int gm_gguf_array_i64(const gm_gguf_array *a, uint64_t i, int64_t *out) {
    if (i >= a->n) return GM_EFORMAT;
    switch (a->type) {
    case GM_GGUF_U8: *out = a->p[i]; return GM_OK;
    case GM_GGUF_BOOL: *out = a->p[i] != 0; return GM_OK;
    case GM_GGUF_I8: *out = LOAD(int8_t, a->p, i); return GM_OK;
    case GM_GGUF_U16: *out = LOAD(uint16_t, a->p, i); return GM_OK;
    case GM_GGUF_I16: *out = LOAD(int16_t, a->p, i); return GM_OK;
    case GM_GGUF_U32: *out = LOAD(uint32_t, a->p, i); return GM_OK;
    case GM_GGUF_I32: *out = LOAD(int32_t, a->p, i); return GM_OK;
    case GM_GGUF_I64: *out = LOAD(int64_t, a->p, i); return GM_OK;
    case GM_GGUF_U64: {
        uint64_t v = LOAD(uint64_t, a->p, i);
        if (v > INT64_MAX) return GM_EFORMAT;
        *out = (int64_t)v;
        return GM_OK;
    }
    default: return GM_EFORMAT;
    }
}

int gm_gguf_array_f64(const gm_gguf_array *a, uint64_t i, double *out) {
    if (i >= a->n) return GM_EFORMAT;
    if (a->type == GM_GGUF_F32) {
        *out = (double)LOAD(float, a->p, i);
    } else if (a->type == GM_GGUF_F64) {
        *out = LOAD(double, a->p, i);
    } else if (a->type == GM_GGUF_U64) {
        *out = (double)LOAD(uint64_t, a->p, i);
    } else {
        int64_t v;
        int rc = gm_gguf_array_i64(a, i, &v);
        if (rc < 0) return rc;
        *out = (double)v;
    }
    return GM_OK;
}

static int entry_u64(const key_entry *k, uint64_t *out) {
    gm_gguf_array a;
    int64_t v;
    int rc = entry_scalar(k, &a);
    if (rc < 0) return rc;
    if (a.type == GM_GGUF_U64) {
        *out = LOAD(uint64_t, a.p, 0);
        return GM_OK;
    }
    rc = gm_gguf_array_i64(&a, 0, &v);
    if (rc < 0 || v < 0) return GM_EFORMAT;
    *out = (uint64_t)v;
    return GM_OK;
}

/* ---- tensors ----------------------------------------------------------------------------- */

static int check_dtype(reader *r, gm_str name, uint32_t type) {
    const gm_dtype_info *info = gm_dtype_get(type);
    if (!info->name)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s: tensor " NAME_FMT " has the unknown number format %" PRIu32
                       "; use a Q4_0, Q4_K_M, Q8_0 or BF16 file",
                       r->path, NAME_ARG(name), type);
    if (!info->can_compute)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s: tensor " NAME_FMT " has the number format %s, which is not supported"
                       "; use a Q4_0, Q4_K_M, Q8_0 or BF16 file",
                       r->path, NAME_ARG(name), info->name);
    return GM_OK;
}

/* The product of the dimensions is checked in elements as well as in bytes, because callers
 * multiply dimensions. */
static bool count_bytes(gm_gguf_tensor *t) {
    uint64_t elems = t->ne[0];
    size_t bytes = gm_dtype_row_bytes(t->dtype, t->ne[0]);
    if (bytes == 0) return false;
    for (uint32_t i = 1; i < t->n_dims; i++) {
        if (elems > INT64_MAX / t->ne[i]) return false;
        elems *= t->ne[i];
        if (!gm_mul_size(bytes, (size_t)t->ne[i], &bytes)) return false;
    }
    t->bytes = bytes;
    return bytes <= PTRDIFF_MAX;
}

/* Fills t->bytes from shape and type. */
static int check_shape(reader *r, gm_gguf_tensor *t) {
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (t->ne[i] == 0 || t->ne[i] > INT64_MAX)
            return bad_file(r, "%s: damaged: tensor " NAME_FMT " has a dimension of %" PRIu64,
                            r->path, NAME_ARG(t->name), t->ne[i]);
    const gm_dtype_info *info = gm_dtype_get((uint32_t)t->dtype);
    if (t->ne[0] % info->block_elems != 0)
        return bad_file(r,
                        "%s: damaged: tensor " NAME_FMT " has rows of %" PRIu64
                        " values, no multiple of the %" PRIu32 " of %s",
                        r->path, NAME_ARG(t->name), t->ne[0], info->block_elems, info->name);
    if (!count_bytes(t))
        return bad_file(r, "%s: damaged: the size of tensor " NAME_FMT " overflows", r->path,
                        NAME_ARG(t->name));
    return GM_OK;
}

/* One tensor info. *offset is relative to the data section, whose place is not known yet. */
static int read_tensor(reader *r, gm_gguf_tensor *t, uint64_t *offset) {
    int rc = read_name(r, &t->name, MAX_TENSOR_NAME, "tensor");
    if (rc < 0) return rc;
    t->n_dims = gm_cursor_u32(&r->c);
    if (r->c.bad) return truncated(r, "its list of tensors");
    if (t->n_dims < 1 || t->n_dims > 4)
        return bad_file(r, "%s: damaged: tensor " NAME_FMT " has %" PRIu32 " dimensions", r->path,
                        NAME_ARG(t->name), t->n_dims);
    for (uint32_t i = 0; i < 4; i++) t->ne[i] = i < t->n_dims ? gm_cursor_u64(&r->c) : 1;
    uint32_t type = gm_cursor_u32(&r->c);
    *offset = gm_cursor_u64(&r->c);
    if (r->c.bad) return truncated(r, "its list of tensors");
    rc = check_dtype(r, t->name, type);
    if (rc < 0) return rc;
    t->dtype = (gm_dtype)type;
    return check_shape(r, t);
}

static int read_alignment(reader *r, const part *p, uint64_t *alignment) {
    *alignment = DEFAULT_ALIGNMENT;
    int rc = entry_u64(find_key(p, "general.alignment"), alignment);
    if (rc == GM_ENOENT) return GM_OK;
    if (rc < 0)
        return bad_file(r, "%s: damaged: general.alignment is no positive integer", r->path);
    if (*alignment == 0 || *alignment > MAX_ALIGNMENT || (*alignment & (*alignment - 1)) != 0)
        return bad_file(
            r, "%s: damaged: general.alignment is %" PRIu64 ", not a power of two up to %u",
            r->path, *alignment, MAX_ALIGNMENT);
    return GM_OK;
}

/* Turns an offset into a pointer, once the end of the header is known. */
static int place_tensor(reader *r, gm_gguf_tensor *t, uint64_t offset, uint64_t data_start,
                        uint64_t alignment) {
    if (offset % alignment != 0)
        return bad_file(r,
                        "%s: damaged: tensor " NAME_FMT " starts at %" PRIu64
                        ", no multiple of the alignment %" PRIu64,
                        r->path, NAME_ARG(t->name), offset, alignment);
    uint64_t size = r->c.n;
    if (data_start > size || offset > size - data_start || t->bytes > size - data_start - offset)
        return bad_file(r,
                        "%s: the file is incomplete: tensor " NAME_FMT
                        " reaches beyond its end (%" PRIu64 " bytes); download it again",
                        r->path, NAME_ARG(t->name), size);
    t->data = r->c.p + data_start + offset;
    return GM_OK;
}

static int read_tensors(reader *r, gm_gguf *g, const part *p) {
    if (p->n_tensor > bytes_left(r) / MIN_TENSOR_BYTES || p->n_tensor > MAX_TENSORS)
        return bad_file(r, "%s: damaged: claims %" PRIu64 " tensors; download it again", r->path,
                        p->n_tensor);
    size_t n = (size_t)p->n_tensor, first = g->n_tensor;
    if (n > MAX_TENSORS - first)
        return bad_file(r, "%s: damaged: the parts claim more than %d tensors", r->path,
                        MAX_TENSORS);
    uint64_t alignment, *offset = gm_malloc(n, sizeof *offset);
    int rc = GM_OK;
    if (!offset || gm_grow(&g->tensors, &g->cap_tensor, first + n, sizeof *g->tensors) < 0) {
        rc = no_memory(r);
        goto done;
    }
    for (size_t i = 0; i < n && rc == GM_OK; i++)
        rc = read_tensor(r, &g->tensors[first + i], &offset[i]);
    if (rc == GM_OK) rc = read_alignment(r, p, &alignment);
    if (rc < 0) goto done;
    /* No overflow: pos is a size of something in memory, the alignment at most 2^20. */
    uint64_t data_start = ((uint64_t)r->c.pos + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < n && rc == GM_OK; i++)
        rc = place_tensor(r, &g->tensors[first + i], offset[i], data_start, alignment);
    if (rc == GM_OK) g->n_tensor += n;
done:
    gm_free(offset);
    return rc;
}

/* ---- header ------------------------------------------------------------------------------ */

static bool starts_with(const reader *r, const char *s) {
    size_t n = strlen(s);
    return r->c.n >= n && memcmp(r->c.p, s, n) == 0;
}

/* Says what the file is instead, since a wrong download is the usual reason. */
static int not_gguf(reader *r) {
    const char *is = NULL;
    if (starts_with(r, "FUGG")) is = "a big-endian GGUF file; get the little-endian one";
    else if (starts_with(r, "version https://git-lfs"))
        is = "a Git LFS pointer, not the model; download the file itself";
    else if (starts_with(r, "<")) is = "a web page, not a model; download the file itself";
    else if (starts_with(r, "PK\x03\x04")) is = "a ZIP archive; GGUF is needed";
    else if (r->c.n > 9 && memcmp(r->c.p + 8, "{\"", 2) == 0)
        is = "a safetensors file; GGUF is needed";
    else if (starts_with(r, "lmgg") || starts_with(r, "tjgg") || starts_with(r, "fmgg"))
        is = "an old GGML file; GGUF is needed";
    if (is) return bad_file(r, "%s is %s", r->path, is);
    return bad_file(r, "%s is not a GGUF file", r->path);
}

static int read_header(reader *r, part *p, uint64_t *n_key) {
    if (r->c.n >= 4 && !starts_with(r, "GGUF")) return not_gguf(r);
    gm_cursor_u32(&r->c);
    p->version = gm_cursor_u32(&r->c);
    p->n_tensor = gm_cursor_u64(&r->c);
    *n_key = gm_cursor_u64(&r->c);
    if (r->c.bad) return truncated(r, "its header");
    if (p->version != 0 && (p->version & 0xFFFF) == 0)
        return bad_file(r, "%s is a big-endian GGUF file; get the little-endian one", r->path);
    if (p->version < 2 || p->version > 3)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s has GGUF version %" PRIu32 "; versions 2 and 3 are supported", r->path,
                       p->version);
    return GM_OK;
}

/* Header and metadata of p, whose memory is set; the reader stops before the tensor infos. */
static int read_metadata(reader *r, part *p) {
    uint64_t n_key = 0;
    r->c = (gm_cursor){.p = p->p, .n = p->n};
    int rc = read_header(r, p, &n_key);
    return rc < 0 ? rc : read_keys(r, p, n_key);
}

static void part_close(part *p) {
    for (uint64_t i = 0; i < p->n_key; i++) gm_free(p->keys[i].strings);
    gm_free(p->keys);
    gm_free(p->key_index.slot);
    gm_map_close(&p->map);
    *p = (part){0};
}

/* ---- split files ------------------------------------------------------------------------- */

typedef struct {
    uint64_t no, count, n_tensor; /* this part from 0, parts, tensors of all parts */
} split_info;

static int read_split(reader *r, const part *p, split_info *s) {
    *s = (split_info){0, 1, p->n_tensor};
    int rc = entry_u64(find_key(p, "split.count"), &s->count);
    if (rc == GM_ENOENT) return GM_OK;
    if (rc == GM_OK && s->count <= 1) {
        s->count = 1;
        return GM_OK;
    }
    if (rc == GM_OK) rc = entry_u64(find_key(p, "split.no"), &s->no);
    if (rc == GM_OK) rc = entry_u64(find_key(p, "split.tensors.count"), &s->n_tensor);
    if (rc < 0 || s->count > MAX_PARTS || s->no >= s->count)
        return bad_file(r, "%s: damaged: its split.* keys make no sense; download it again",
                        r->path);
    return GM_OK;
}

/* Length of "-00001-of-00003.gguf". */
#define SUFFIX_BYTES 20

/* The path of part `no` of s->count, given the one of part s->no. Caller frees. */
static int part_path(reader *r, const char *path, const split_info *s, uint64_t no, char **out) {
    char suffix[SUFFIX_BYTES + 16];
    size_t n = strlen(path);
    snprintf(suffix, sizeof suffix, "-%05u-of-%05u.gguf", (unsigned)s->no + 1, (unsigned)s->count);
    if (n < SUFFIX_BYTES || strcmp(path + n - SUFFIX_BYTES, suffix) != 0)
        return bad_file(r,
                        "%s is part %u of %u, but its name does not end in %s; rename all parts so",
                        r->path, (unsigned)s->no + 1, (unsigned)s->count, suffix);
    *out = gm_strndup(path, n);
    if (!*out) return no_memory(r);
    snprintf(*out + n - SUFFIX_BYTES, SUFFIX_BYTES + 1, "-%05u-of-%05u.gguf", (unsigned)no + 1,
             (unsigned)s->count);
    return GM_OK;
}

/* Maps and reads one more part and appends its tensors. */
static int open_part(gm_gguf *g, const char *path, const split_info *whole, uint64_t no,
                     reader *outer) {
    reader r = {.path = gm_path_tail(path), .err = outer->err, .errlen = outer->errlen};
    part *p = &g->parts[no];
    split_info s;
    int rc = gm_map_open(&p->map, path, r.err, r.errlen);
    if (rc == GM_ENOENT)
        return gm_fail(r.err, r.errlen, rc, "%s is missing: part %u of %u of this model", r.path,
                       (unsigned)no + 1, (unsigned)whole->count);
    if (rc < 0) return rc;
    p->p = gm_map_data(p->map);
    p->n = gm_map_size(p->map);
    rc = read_metadata(&r, p);
    if (rc == GM_OK) rc = read_split(&r, p, &s);
    if (rc < 0) return rc;
    if (s.no != no || s.count != whole->count || s.n_tensor != whole->n_tensor)
        return bad_file(&r, "%s does not belong to the other parts; download it again", r.path);
    return read_tensors(&r, g, p);
}

/* All parts in order. The one that was opened first has told how many there are, and is read
 * again in its place: simpler than moving it, and cheap beside what follows. */
static int open_split(gm_gguf *g, const char *first, reader *r, const split_info *s) {
    part_close(&g->parts[0]);
    gm_free(g->parts);
    g->parts = gm_calloc((size_t)s->count, sizeof *g->parts);
    g->n_part = 0;
    if (!g->parts) return no_memory(r);
    g->n_part = (size_t)s->count;
    for (uint64_t no = 0; no < s->count; no++) {
        char *path = NULL;
        int rc = part_path(r, first, s, no, &path);
        if (rc == GM_OK) rc = open_part(g, path, s, no, r);
        gm_free(path);
        if (rc < 0) return rc;
    }
    if (g->n_tensor != s->n_tensor)
        return bad_file(
            r, "%s: the parts hold %zu tensors instead of %" PRIu64 "; download them again",
            r->path, g->n_tensor, s->n_tensor);
    return GM_OK;
}

/* ---- open and close ---------------------------------------------------------------------- */

/* parts[0] has its memory set. path is NULL for a file in memory. */
static int read_all(gm_gguf *g, const char *path, reader *r) {
    split_info s;
    int rc = read_metadata(r, &g->parts[0]);
    if (rc == GM_OK) rc = read_split(r, &g->parts[0], &s);
    if (rc < 0) return rc;
    if (s.count > 1 && !path)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED, "%s is only part %u of %u", r->path,
                       (unsigned)s.no + 1, (unsigned)s.count);
    rc = s.count > 1 ? open_split(g, path, r, &s) : read_tensors(r, g, &g->parts[0]);
    if (rc < 0) return rc;
    size_t twice;
    rc = build_index(&g->tensor_index, g->tensors, sizeof *g->tensors, g->n_tensor, &twice);
    if (rc == GM_ENOMEM) return no_memory(r);
    if (rc < 0)
        return bad_file(r, "%s: damaged: tensor " NAME_FMT " comes twice; download it again",
                        r->path, NAME_ARG(g->tensors[twice].name));
    return GM_OK;
}

/* An object with room for one part, or NULL. */
static gm_gguf *create(void) {
    gm_gguf *g = gm_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->parts = gm_calloc(1, sizeof *g->parts);
    if (!g->parts) gm_gguf_close(&g);
    else g->n_part = 1;
    return g;
}

int gm_gguf_open(gm_gguf **out, const char *path, char *err, size_t errlen) {
    *out = NULL;
    reader r = {.path = path ? gm_path_tail(path) : "", .err = err, .errlen = errlen};
    gm_gguf *g = create();
    if (!g) return no_memory(&r);
    int rc = gm_map_open(&g->parts[0].map, path, err, errlen);
    if (rc == GM_OK) {
        g->parts[0].p = gm_map_data(g->parts[0].map);
        g->parts[0].n = gm_map_size(g->parts[0].map);
        rc = read_all(g, path, &r);
    }
    if (rc < 0) gm_gguf_close(&g);
    *out = g;
    return rc;
}

int gm_gguf_open_memory(gm_gguf **out, const void *p, size_t n, char *err, size_t errlen) {
    *out = NULL;
    reader r = {.path = "model in memory", .err = err, .errlen = errlen};
    gm_gguf *g = create();
    if (!g) return no_memory(&r);
    g->parts[0].p = p;
    g->parts[0].n = n;
    int rc = read_all(g, NULL, &r);
    if (rc < 0) gm_gguf_close(&g);
    *out = g;
    return rc;
}

void gm_gguf_close(gm_gguf **g) {
    if (!g || !*g) return;
    for (size_t i = 0; i < (*g)->n_part; i++) part_close(&(*g)->parts[i]);
    gm_free((*g)->parts);
    gm_free((*g)->tensors);
    gm_free((*g)->tensor_index.slot);
    gm_free(*g);
    *g = NULL;
}

/* ---- looking up -------------------------------------------------------------------------- */

uint32_t gm_gguf_version(const gm_gguf *g) { return g->parts[0].version; }

uint64_t gm_gguf_file_bytes(const gm_gguf *g) {
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_part; i++) sum += g->parts[i].n;
    return sum;
}

uint64_t gm_gguf_n_tensor(const gm_gguf *g) { return g->n_tensor; }

const gm_gguf_tensor *gm_gguf_tensor_at(const gm_gguf *g, uint64_t i) {
    return i < g->n_tensor ? &g->tensors[i] : NULL;
}

const gm_gguf_tensor *gm_gguf_tensor_find(const gm_gguf *g, const char *name) {
    return look_up(&g->tensor_index, g->tensors, sizeof *g->tensors, name);
}

uint64_t gm_gguf_n_key(const gm_gguf *g) { return g->parts[0].n_key; }

gm_str gm_gguf_key_at(const gm_gguf *g, uint64_t i) {
    return i < g->parts[0].n_key ? g->parts[0].keys[i].name : (gm_str){"", 0};
}

int gm_gguf_get_u64(const gm_gguf *g, const char *key, uint64_t *out) {
    return entry_u64(find_key(&g->parts[0], key), out);
}

int gm_gguf_get_i64(const gm_gguf *g, const char *key, int64_t *out) {
    gm_gguf_array a;
    int rc = entry_scalar(find_key(&g->parts[0], key), &a);
    return rc < 0 ? rc : gm_gguf_array_i64(&a, 0, out);
}

int gm_gguf_get_f64(const gm_gguf *g, const char *key, double *out) {
    gm_gguf_array a;
    int rc = entry_scalar(find_key(&g->parts[0], key), &a);
    return rc < 0 ? rc : gm_gguf_array_f64(&a, 0, out);
}

int gm_gguf_get_bool(const gm_gguf *g, const char *key, bool *out) {
    int64_t v;
    int rc = gm_gguf_get_i64(g, key, &v);
    if (rc < 0) return rc;
    if (v != 0 && v != 1) return GM_EFORMAT;
    *out = v == 1;
    return GM_OK;
}

int gm_gguf_get_str(const gm_gguf *g, const char *key, gm_str *out) {
    gm_gguf_array a;
    int rc = entry_scalar(find_key(&g->parts[0], key), &a);
    if (rc < 0) return rc;
    if (a.type != GM_GGUF_STR) return GM_EFORMAT;
    *out = a.strings[0];
    return GM_OK;
}

int gm_gguf_get_array(const gm_gguf *g, const char *key, gm_gguf_array *out) {
    return entry_array(find_key(&g->parts[0], key), out);
}
