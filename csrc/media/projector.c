/* projector.c: see projector.h. Norms and sums run here in plain C (they are a percent of the
 * work); the products go through the backend. */
#include "media/projector.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum { MAX_SIDE = 1 << 20 }; /* of tensors; far above any model's */

/* PyTorch's LayerNorm default. The epsilon in the file belongs to the RMS norms only. */
static const float LAYER_NORM_EPS = 1e-5f;

typedef struct {
    const float *w, *b; /* [n] in the file; F32, 4-byte aligned by the container */
} layer_norm;

struct gm_projector {
    gm_gguf *gguf;
    gm_backend *backend; /* borrowed */
    int32_t n_embd;      /* of the decoder */
    bool vision, audio;
    /* vision */
    int32_t n_mm; /* width between the two products */
    int32_t n_pos;
    int32_t image_tokens; /* default budget */
    layer_norm norm1, norm2, norm3;
    const float *patch_bias; /* [n_mm] */
    const float *pos;        /* [2, n_pos, n_mm]: columns, then rows */
    gm_tensor patch, out;    /* [n_mm, GM_PATCH_VALUES], [n_embd, n_mm] */
    float eps;
    /* audio */
    gm_tensor audio_out; /* [n_embd, GM_FRAME] */
    float audio_eps;
    /* scratch: [GM_PROJECTOR_CHUNK, n_mm] */
    float *mid;
    gm_tensor in_rows, out_rows; /* of a product on a device; empty on the host */
};

/* ---- loading ----------------------------------------------------------------------------- */

typedef struct {
    gm_projector *p;
    char *err;
    size_t errlen;
} loader;

/* A tensor of exactly this shape, or NULL with a message. ne1, ne2 1 where unused. */
static const gm_gguf_tensor *need(loader *l, const char *name, uint64_t ne0, uint64_t ne1,
                                  uint64_t ne2) {
    const gm_gguf_tensor *t = gm_gguf_tensor_find(l->p->gguf, name);
    if (!t) {
        gm_fail(l->err, l->errlen, GM_EFORMAT, "mmproj: tensor %s is missing", name);
        return NULL;
    }
    if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != ne2 || t->ne[3] != 1) {
        gm_fail(l->err, l->errlen, GM_EFORMAT,
                "mmproj: tensor %s is %llu x %llu x %llu, expected %llu x %llu x %llu", name,
                (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                (unsigned long long)t->ne[2], (unsigned long long)ne0, (unsigned long long)ne1,
                (unsigned long long)ne2);
        return NULL;
    }
    return t;
}

/* Vectors and tables are used as floats in place, so they must be stored as such. */
static int need_f32(loader *l, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2,
                    const float **out) {
    const gm_gguf_tensor *t = need(l, name, ne0, ne1, ne2);
    if (!t) return GM_EFORMAT;
    if (t->dtype != GM_F32 || (uintptr_t)t->data % sizeof(float) != 0)
        return gm_fail(l->err, l->errlen, GM_EUNSUPPORTED, "mmproj: tensor %s is not plain F32",
                       name);
    *out = (const float *)(const void *)t->data;
    return 0;
}

static int need_matrix(loader *l, const char *name, uint64_t n_in, uint64_t n_out, gm_tensor *out) {
    const gm_gguf_tensor *t = need(l, name, n_in, n_out, 1);
    if (!t) return GM_EFORMAT;
    const gm_tensor host = {
        .dtype = t->dtype,
        .ne = {(int64_t)n_in, (int64_t)n_out, 1, 1},
        .row_bytes = gm_dtype_row_bytes(t->dtype, n_in),
        .data = (void *)(uintptr_t)t->data, /* read-only mapping; nothing writes weights */
    };
    const int rc = gm_be_weight_import(l->p->backend, &host, out);
    return rc ? gm_fail(l->err, l->errlen, rc, "mmproj: tensor %s: %s", name, gm_err_text(rc)) : 0;
}

static int need_norm(loader *l, const char *name, uint64_t n, layer_norm *out) {
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    int rc = need_f32(l, full, n, 1, 1, &out->w);
    snprintf(full, sizeof full, "%s.bias", name);
    return rc ? rc : need_f32(l, full, n, 1, 1, &out->b);
}

/* A part of the file whose projector is of another kind is a file for another model. */
static int check_kind(loader *l, const char *key, const char *kind) {
    gm_str s;
    if (gm_gguf_get_str(l->p->gguf, key, &s))
        return gm_fail(l->err, l->errlen, GM_EFORMAT, "mmproj: key %s is missing", key);
    if (s.n != strlen(kind) || memcmp(s.p, kind, s.n) != 0)
        return gm_fail(l->err, l->errlen, GM_EUNSUPPORTED,
                       "mmproj: %s is \"%.*s\", need \"%s\": this file belongs to another model",
                       key, (int)(s.n < 64 ? s.n : 64), s.p, kind);
    return 0;
}

static float read_eps(const gm_gguf *g, const char *key) {
    double v;
    return gm_gguf_get_f64(g, key, &v) == 0 && v > 0 && v < 1 ? (float)v : 1e-6f;
}

static int32_t read_image_tokens(const gm_gguf *g) {
    uint64_t pixels;
    if (gm_gguf_get_u64(g, "clip.vision.image_max_pixels", &pixels)) return GM_IMAGE_TOKENS_DEFAULT;
    const uint64_t n = pixels / (GM_PATCH * GM_PATCH);
    return n < 1 ? 1 : n < GM_IMAGE_TOKENS_DEFAULT ? (int32_t)n : GM_IMAGE_TOKENS_DEFAULT;
}

static int load_vision(loader *l) {
    gm_projector *p = l->p;
    int rc = check_kind(l, "clip.vision.projector_type", "gemma4uv");
    if (rc) return rc;
    const gm_gguf_tensor *patch = gm_gguf_tensor_find(p->gguf, "v.patch_embd.weight");
    const gm_gguf_tensor *pos = gm_gguf_tensor_find(p->gguf, "v.position_embd.weight");
    if (!patch || !pos)
        return gm_fail(l->err, l->errlen, GM_EFORMAT, "mmproj: tensor %s is missing",
                       patch ? "v.position_embd.weight" : "v.patch_embd.weight");
    if (patch->ne[1] > MAX_SIDE || pos->ne[1] > MAX_SIDE)
        return gm_fail(l->err, l->errlen, GM_EFORMAT, "mmproj: absurd sizes");
    const uint64_t n_mm = patch->ne[1], n_pos = pos->ne[1];
    p->n_mm = (int32_t)n_mm;
    p->n_pos = (int32_t)n_pos;
    p->image_tokens = read_image_tokens(p->gguf);
    p->eps = read_eps(p->gguf, "clip.vision.attention.layer_norm_epsilon");
    if ((rc = need_norm(l, "v.patch_norm.1", GM_PATCH_VALUES, &p->norm1)) ||
        (rc = need_norm(l, "v.patch_norm.2", n_mm, &p->norm2)) ||
        (rc = need_norm(l, "v.patch_norm.3", n_mm, &p->norm3)) ||
        (rc = need_f32(l, "v.patch_embd.bias", n_mm, 1, 1, &p->patch_bias)) ||
        (rc = need_f32(l, "v.position_embd.weight", n_mm, n_pos, 2, &p->pos)) ||
        (rc = need_matrix(l, "v.patch_embd.weight", GM_PATCH_VALUES, n_mm, &p->patch)) ||
        (rc = need_matrix(l, "mm.input_projection.weight", n_mm, (uint64_t)p->n_embd, &p->out)))
        return rc;
    p->vision = true;
    return 0;
}

static int load_audio(loader *l) {
    gm_projector *p = l->p;
    int rc = check_kind(l, "clip.audio.projector_type", "gemma4ua");
    if (rc) return rc;
    p->audio_eps = read_eps(p->gguf, "clip.audio.attention.layer_norm_epsilon");
    rc = need_matrix(l, "mm.a.input_projection.weight", GM_FRAME, (uint64_t)p->n_embd,
                     &p->audio_out);
    p->audio = rc == 0;
    return rc;
}

static bool flag(const gm_gguf *g, const char *key) {
    bool v = false;
    return gm_gguf_get_bool(g, key, &v) == 0 && v;
}

/* The longest rows that go into a product and come out of one. */
static int32_t widest_in(int32_t n_mm) { return n_mm > GM_PATCH_VALUES ? n_mm : GM_PATCH_VALUES; }
static int32_t widest_out(int32_t n_mm, int32_t n_embd) { return n_mm > n_embd ? n_mm : n_embd; }

/* Where weights live on a device, so do the rows of a product. */
static int alloc_rows(gm_projector *p) {
    if (!p->patch.dmem && !p->audio_out.dmem) return 0;
    p->in_rows = gm_tensor_view(GM_F32, NULL, widest_in(p->n_mm), GM_PROJECTOR_CHUNK);
    p->out_rows = gm_tensor_view(GM_F32, NULL, widest_out(p->n_mm, p->n_embd), GM_PROJECTOR_CHUNK);
    int rc = gm_be_tensor_alloc(p->backend, &p->in_rows);
    return rc ? rc : gm_be_tensor_alloc(p->backend, &p->out_rows);
}

bool gm_is_projector(const gm_gguf *g) {
    gm_str arch;
    return gm_gguf_get_str(g, "general.architecture", &arch) == GM_OK && arch.n == 4 &&
           memcmp(arch.p, "clip", 4) == 0;
}

int gm_projector_open(gm_projector **out, const char *path, gm_backend *b, int32_t n_embd,
                      char *err, size_t errlen) {
    *out = NULL;
    gm_projector *p = gm_calloc(1, sizeof *p);
    if (!p) return gm_fail(err, errlen, GM_ENOMEM, "mmproj: out of memory");
    p->backend = b = gm_be_ends(b);
    p->n_embd = n_embd;
    loader l = {p, err, errlen};
    int rc = gm_gguf_open(&p->gguf, path, err, errlen);
    if (rc) goto done;
    if (!gm_is_projector(p->gguf)) {
        gm_str arch = {"", 0};
        (void)gm_gguf_get_str(p->gguf, "general.architecture", &arch);
        rc = gm_fail(err, errlen, GM_EUNSUPPORTED, "%s is no mmproj file (architecture \"%.*s\")",
                     path, (int)(arch.n < 64 ? arch.n : 64), arch.p);
        goto done;
    }
    if (flag(p->gguf, "clip.has_vision_encoder")) rc = load_vision(&l);
    if (!rc && flag(p->gguf, "clip.has_audio_encoder")) rc = load_audio(&l);
    if (!rc && !p->vision && !p->audio)
        rc =
            gm_fail(err, errlen, GM_EUNSUPPORTED, "%s holds neither image nor sound weights", path);
    if (rc) goto done;
    const gm_be_limits lim = {
        .max_tok = GM_PROJECTOR_CHUNK,
        .max_in = widest_in(p->n_mm),
        .max_head = 1, /* the least: heads belong to the decoder, and limits only grow */
        .max_head_dim = 2,
    };
    rc = gm_be_reserve(b, &lim);
    p->mid = gm_malloc((size_t)GM_PROJECTOR_CHUNK * (size_t)(p->n_mm + 1), sizeof *p->mid);
    if (!rc) rc = p->mid ? alloc_rows(p) : GM_ENOMEM;
    if (rc) gm_fail(err, errlen, rc, "mmproj: %s", gm_err_text(rc));
done:
    if (rc) gm_projector_close(&p);
    *out = p;
    return rc;
}

uint64_t gm_projector_bytes(const char *path, int32_t n_embd) {
    static const char *const matrices[] = {"v.patch_embd.weight", "mm.input_projection.weight",
                                           "mm.a.input_projection.weight"};
    gm_gguf *g;
    if (gm_gguf_open(&g, path, NULL, 0)) return 0;
    int32_t n_mm = 0;
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        const gm_gguf_tensor *t = gm_gguf_tensor_find(g, matrices[i]);
        n += t ? t->bytes : 0;
        if (t && i == 0 && t->ne[1] <= MAX_SIDE) n_mm = (int32_t)t->ne[1];
    }
    gm_gguf_close(&g);
    return n + GM_PROJECTOR_CHUNK * sizeof(float) *
                   ((uint64_t)widest_in(n_mm) + (uint64_t)widest_out(n_mm, n_embd));
}

void gm_projector_close(gm_projector **p) {
    if (!p || !*p) return;
    if ((*p)->backend) {
        gm_be_tensor_free((*p)->backend, &(*p)->patch);
        gm_be_tensor_free((*p)->backend, &(*p)->out);
        gm_be_tensor_free((*p)->backend, &(*p)->audio_out);
        gm_be_tensor_free((*p)->backend, &(*p)->in_rows);
        gm_be_tensor_free((*p)->backend, &(*p)->out_rows);
    }
    gm_gguf_close(&(*p)->gguf);
    gm_free((*p)->mid);
    gm_free(*p);
    *p = NULL;
}

bool gm_projector_has_vision(const gm_projector *p) { return p && p->vision; }

bool gm_projector_has_audio(const gm_projector *p) { return p && p->audio; }

int32_t gm_projector_n_pos(const gm_projector *p) { return p->n_pos; }

int32_t gm_projector_image_tokens(const gm_projector *p) { return p->image_tokens; }

/* ---- computing --------------------------------------------------------------------------- */

/* Double sums: a patch of one colour has a variance near zero, where LAYER_NORM_EPS decides. */
static void layer_norm_row(const layer_norm *ln, float *x, int32_t n) {
    double sum = 0.0, sq = 0.0;
    for (int32_t i = 0; i < n; i++) sum += x[i];
    const double mean = sum / n;
    for (int32_t i = 0; i < n; i++) sq += (x[i] - mean) * (x[i] - mean);
    const float scale = (float)(1.0 / sqrt(sq / n + (double)LAYER_NORM_EPS));
    for (int32_t i = 0; i < n; i++) x[i] = (float)(x[i] - mean) * scale * ln->w[i] + ln->b[i];
}

static void rms_row(float *x, int32_t n, float eps) {
    double sq = 0.0;
    for (int32_t i = 0; i < n; i++) sq += (double)x[i] * x[i];
    const float scale = (float)(1.0 / sqrt(sq / n + (double)eps));
    for (int32_t i = 0; i < n; i++) x[i] *= scale;
}

static int product(gm_projector *p, const gm_tensor *w, float *x, int32_t n, float *out) {
    gm_tensor tx = gm_tensor_view(GM_F32, x, w->ne[0], n);
    gm_tensor to = gm_tensor_view(GM_F32, out, w->ne[1], n);
    const size_t x_bytes = (size_t)n * tx.row_bytes, out_bytes = (size_t)n * to.row_bytes;
    const bool away = p->in_rows.dmem != NULL;
    int rc = 0;
    if (away) {
        tx.data = to.data = NULL;
        tx.dmem = p->in_rows.dmem;
        to.dmem = p->out_rows.dmem;
        rc = gm_be_write(p->backend, &tx, 0, x, x_bytes);
    }
    const gm_op_matmul op = {.n_mat = 1, .w = {w}, .x = &tx, .n_tok = n, .out = {&to}};
    if (!rc) rc = gm_be_matmul(p->backend, &op);
    if (!rc) rc = gm_be_sync(p->backend);
    return rc || !away ? rc : gm_be_read(p->backend, &to, 0, out, out_bytes);
}

int gm_projector_patches(gm_projector *p, float *patches, const int32_t *col, const int32_t *row,
                         int32_t n, float *out) {
    const size_t n_mm = (size_t)p->n_mm;
    for (int32_t i = 0; i < n; i++)
        layer_norm_row(&p->norm1, patches + (size_t)i * GM_PATCH_VALUES, GM_PATCH_VALUES);
    const int rc = product(p, &p->patch, patches, n, p->mid);
    if (rc) return rc;
    for (int32_t i = 0; i < n; i++) {
        float *x = p->mid + (size_t)i * n_mm;
        const float *px = p->pos + (size_t)col[i] * n_mm;
        const float *py = p->pos + ((size_t)p->n_pos + (size_t)row[i]) * n_mm;
        for (size_t j = 0; j < n_mm; j++) x[j] += p->patch_bias[j];
        layer_norm_row(&p->norm2, x, p->n_mm);
        for (size_t j = 0; j < n_mm; j++) x[j] += px[j] + py[j];
        layer_norm_row(&p->norm3, x, p->n_mm);
        rms_row(x, p->n_mm, p->eps);
    }
    return product(p, &p->out, p->mid, n, out);
}

int gm_projector_frames(gm_projector *p, float *frames, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i++) rms_row(frames + (size_t)i * GM_FRAME, GM_FRAME, p->audio_eps);
    return product(p, &p->audio_out, frames, n, out);
}
