/* config.c: reads the keys of a gemma4 file and refuses what the forward pass cannot compute.
 *
 * A key is either required, or it has a default that no file could mean differently. Shapes of
 * tensors are compared with the result in weights.c.
 */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

#define ARCH "gemma4"

/* Elements of one axis. Larger than any published model by a factor of four, small enough that
 * the product of two axes and an element size cannot overflow 64 bits. */
#define MAX_DIM ((int64_t)1 << 20)

typedef struct {
    const gm_gguf *g;
    char *err;
    size_t errlen;
} reader;

typedef struct {
    char s[96];
} key_name;

static key_name key_of(const char *name) {
    key_name k;
    snprintf(k.s, sizeof k.s, ARCH ".%s", name);
    return k;
}

static int missing(const reader *r, const char *key) {
    return gm_fail(r->err, r->errlen, GM_EFORMAT, "the model file has no key %s", key);
}

static int wrong_type(const reader *r, const char *key, const char *wanted) {
    return gm_fail(r->err, r->errlen, GM_EFORMAT, "the key %s is not %s", key, wanted);
}

static int out_of_range(const reader *r, const char *key, int64_t v, int64_t lo, int64_t hi) {
    return gm_fail(r->err, r->errlen, GM_EFORMAT, "%s is %lld, expected %lld to %lld", key,
                   (long long)v, (long long)lo, (long long)hi);
}

/* *out keeps its value when the key is absent and *out is in range already (an optional key with
 * its default); a default out of range makes the key required. */
static int read_int(const reader *r, const char *name, int64_t lo, int64_t hi, int32_t *out) {
    key_name k = key_of(name);
    int64_t v = 0;
    int rc = gm_gguf_get_i64(r->g, k.s, &v);
    if (rc == GM_ENOENT) return *out >= lo && *out <= hi ? GM_OK : missing(r, k.s);
    if (rc) return wrong_type(r, k.s, "an integer");
    if (v < lo || v > hi) return out_of_range(r, k.s, v, lo, hi);
    *out = (int32_t)v;
    return GM_OK;
}

/* The same for a float in (lo, hi). */
static int read_float(const reader *r, const char *name, double lo, double hi, float *out) {
    key_name k = key_of(name);
    double v = 0;
    int rc = gm_gguf_get_f64(r->g, k.s, &v);
    if (rc == GM_ENOENT) return *out > lo && *out < hi ? GM_OK : missing(r, k.s);
    if (rc) return wrong_type(r, k.s, "a number");
    if (!(v > lo && v < hi))
        return gm_fail(r->err, r->errlen, GM_EFORMAT,
                       "%s is %g, expected a number between %g and %g", k.s, v, lo, hi);
    *out = (float)v;
    return GM_OK;
}

/* ---- values by layer: a scalar for all layers, or an array with one element for each ---- */

typedef struct {
    key_name key;
    gm_gguf_array a;
} layer_list;

/* GM_ENOENT without a message when the key is absent. */
static int open_list(const reader *r, const char *name, int32_t n_layer, layer_list *list) {
    list->key = key_of(name);
    int rc = gm_gguf_get_array(r->g, list->key.s, &list->a);
    if (rc == GM_ENOENT) return rc;
    if (rc) return wrong_type(r, list->key.s, "a number or an array of numbers");
    if (list->a.n != 1 && list->a.n != (uint64_t)n_layer)
        return gm_fail(r->err, r->errlen, GM_EFORMAT, "%s has %llu elements for %d layers",
                       list->key.s, (unsigned long long)list->a.n, n_layer);
    return GM_OK;
}

static int list_at(const reader *r, const layer_list *list, int32_t layer, int64_t lo, int64_t hi,
                   int32_t *out) {
    int64_t v = 0;
    if (gm_gguf_array_i64(&list->a, list->a.n == 1 ? 0 : (uint64_t)layer, &v))
        return wrong_type(r, list->key.s, "an integer or an array of integers");
    if (v < lo || v > hi) return out_of_range(r, list->key.s, v, lo, hi);
    *out = (int32_t)v;
    return GM_OK;
}

/* Writes one int32 member of every layer: first points at layer 0's, which is 0 when the key is
 * required and the default otherwise. */
static int read_by_layer(const reader *r, gm_config *c, const char *name, int32_t *first) {
    layer_list list;
    int rc = open_list(r, name, c->n_layer, &list);
    if (rc == GM_ENOENT) return *first > 0 ? GM_OK : missing(r, list.key.s);
    for (int32_t i = 0; rc == GM_OK && i < c->n_layer; i++) {
        char *member = (char *)first + (size_t)i * sizeof *c->layer;
        rc = list_at(r, &list, i, 1, MAX_DIM, (int32_t *)member);
    }
    return rc;
}

/* ---- what is refused by name ---- */

static int check_architecture(const reader *r) {
    gm_str arch;
    int rc = gm_gguf_get_str(r->g, "general.architecture", &arch);
    if (rc == GM_ENOENT) return missing(r, "general.architecture");
    if (rc) return wrong_type(r, "general.architecture", "a string");
    if (arch.n == strlen(ARCH) && memcmp(arch.p, ARCH, arch.n) == 0) return GM_OK;
    return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                   "the file holds a model of architecture '%.*s'; only %s is supported",
                   (int)(arch.n < 64 ? arch.n : 64), arch.p, ARCH);
}

/* Features of sibling models (E2B, E4B, 26B) that change the forward pass. */
static int check_features(const reader *r) {
    static const struct {
        const char *key, *what;
    } refused[] = {
        {"attention.shared_kv_layers", "layers that share one K/V cache"},
        {"embedding_length_per_layer_input", "per-layer embeddings"},
        {"expert_count", "experts"},
        {"attn_logit_softcapping", "a softcap on attention scores"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        key_name k = key_of(refused[i].key);
        double v = 0;
        int rc = gm_gguf_get_f64(r->g, k.s, &v);
        if (rc == GM_ENOENT || (rc == GM_OK && v == 0)) continue;
        if (rc) return wrong_type(r, k.s, "a number");
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s is %g: %s are not supported, only the dense gemma4 decoder (12B)", k.s,
                       v, refused[i].what);
    }
    /* The same, found by what only such models carry, in case a key got lost. */
    static const char *const tensors[] = {"per_layer_token_embd.weight",
                                          "blk.0.ffn_gate_inp.weight"};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (gm_gguf_tensor_find(r->g, tensors[i]))
            return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                           "the tensor %s belongs to a model with experts or per-layer embeddings, "
                           "which is not supported",
                           tensors[i]);
    return GM_OK;
}

/* Stretched positions. No published gemma4 file has them, and how they would apply to the two
 * kinds of layers is nowhere defined. */
static int check_rope_scaling(const reader *r) {
    key_name k = key_of("rope.scaling.type");
    gm_str type;
    int rc = gm_gguf_get_str(r->g, k.s, &type);
    if (rc == GM_ENOENT) return GM_OK;
    if (rc) return wrong_type(r, k.s, "a string");
    if (type.n == 0 || (type.n == 4 && memcmp(type.p, "none", 4) == 0)) return GM_OK;
    return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED, "%s '%.*s' is not supported", k.s,
                   (int)(type.n < 32 ? type.n : 32), type.p);
}

/* ---- the parts of the configuration ---- */

static int read_sizes(const reader *r, gm_config *c, int32_t n_vocab) {
    if (n_vocab < 1 || n_vocab > MAX_DIM)
        return out_of_range(r, "the number of tokens", n_vocab, 1, MAX_DIM);
    c->n_vocab = n_vocab;
    c->rms_eps = -1.0f;
    c->softcap = 0.0f;
    int rc = read_int(r, "block_count", 1, GM_MAX_LAYER, &c->n_layer);
    if (!rc) rc = read_int(r, "embedding_length", 1, MAX_DIM, &c->n_embd);
    if (!rc) rc = read_int(r, "context_length", 1, INT32_MAX, &c->n_ctx_train);
    if (!rc) rc = read_float(r, "attention.layer_norm_rms_epsilon", 0, 1, &c->rms_eps);
    /* 0 stands for none, so the open interval begins below it. */
    if (!rc) rc = read_float(r, "final_logit_softcapping", -1e-30, 1e30, &c->softcap);
    c->embed_scale = (float)sqrt((double)c->n_embd);
    return rc;
}

/* An array of flags, one for all, or N for "every N-th layer is global", as in older conversions.
 * Without it a model without window has only global layers; otherwise nobody can tell. */
static int read_pattern(const reader *r, gm_config *c) {
    layer_list list;
    int rc = open_list(r, "attention.sliding_window_pattern", c->n_layer, &list);
    if (rc == GM_ENOENT) {
        int32_t window = 0;
        rc = read_int(r, "attention.sliding_window", 0, INT32_MAX, &window);
        return rc == GM_OK && window > 0 ? missing(r, list.key.s) : rc;
    }
    bool period = list.a.n == 1 && c->n_layer > 1 && list.a.type != GM_GGUF_BOOL;
    for (int32_t i = 0; rc == GM_OK && i < c->n_layer; i++) {
        int32_t v = 0;
        rc = list_at(r, &list, i, period ? 1 : 0, period ? MAX_DIM : 1, &v);
        c->layer[i].sliding = period ? (i + 1) % (v > 0 ? v : 1) != 0 : v != 0;
    }
    return rc;
}

/* What all layers of one kind have in common. */
typedef struct {
    int32_t head_dim;
    float rope_base;
} kind_config;

/* suffix: "" for global layers, "_swa" for sliding ones. fallback: the head size to take when the
 * file gives none for this kind; 0: the key is required. */
static int read_kind(const reader *r, const char *suffix, int32_t fallback, kind_config *k) {
    char name[64];
    k->head_dim = fallback;
    snprintf(name, sizeof name, "attention.key_length%s", suffix);
    int rc = read_int(r, name, 2, MAX_DIM, &k->head_dim);
    if (rc) return rc;
    if (k->head_dim % 2)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s.%s is %d; odd head sizes cannot rotate", ARCH, name, k->head_dim);

    int32_t value_dim = k->head_dim;
    snprintf(name, sizeof name, "attention.value_length%s", suffix);
    rc = read_int(r, name, 1, MAX_DIM, &value_dim);
    if (rc) return rc;
    if (value_dim != k->head_dim)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s.%s is %d and differs from the key length %d", ARCH, name, value_dim,
                       k->head_dim);

    int32_t rope_dim = k->head_dim;
    snprintf(name, sizeof name, "rope.dimension_count%s", suffix);
    rc = read_int(r, name, 1, MAX_DIM, &rope_dim);
    if (rc) return rc;
    /* Fewer dimensions would pair (i, i + rope_dim / 2); gemma4 files rotate the whole head and
     * switch pairs off by factors instead (rope_freqs). */
    if (rope_dim != k->head_dim)
        return gm_fail(r->err, r->errlen, GM_EUNSUPPORTED,
                       "%s.%s is %d and differs from the head size %d", ARCH, name, rope_dim,
                       k->head_dim);

    k->rope_base = 0;
    snprintf(name, sizeof name, "rope.freq_base%s", suffix);
    return read_float(r, name, 0, 1e30, &k->rope_base);
}

/* Head size and rotation, by kind of layer; only kinds that occur need their keys. */
static int read_kinds(const reader *r, gm_config *c) {
    bool any[2] = {false, false};
    for (int32_t i = 0; i < c->n_layer; i++) any[c->layer[i].sliding] = true;

    kind_config kind[2] = {{0}, {0}};
    int rc = GM_OK;
    if (any[false]) rc = read_kind(r, "", 0, &kind[false]);
    if (rc == GM_OK && any[true]) {
        /* A file with one head size for all layers names it once. */
        int32_t both = 0;
        rc = read_int(r, "attention.key_length", 0, MAX_DIM, &both);
        if (rc == GM_OK) rc = read_kind(r, "_swa", both, &kind[true]);
        if (rc == GM_OK) rc = read_int(r, "attention.sliding_window", 1, 1 << 30, &c->window);
    }
    for (int32_t i = 0; rc == GM_OK && i < c->n_layer; i++) {
        gm_layer_config *l = &c->layer[i];
        l->head_dim = kind[l->sliding].head_dim;
        l->rope_base = kind[l->sliding].rope_base;
    }
    return rc;
}

static void grow_to(int32_t *max, int32_t v) {
    if (v > *max) *max = v;
}

/* Head counts, widths, and which layers project v. A file without head_count_kv has one
 * key/value head for each query head; the shape of attn_k would contradict anything else. */
static int read_layers(const reader *r, gm_config *c) {
    int rc = read_by_layer(r, c, "attention.head_count", &c->layer->n_head);
    for (int32_t i = 0; i < c->n_layer; i++) c->layer[i].n_kv = c->layer[i].n_head;
    if (!rc) rc = read_by_layer(r, c, "attention.head_count_kv", &c->layer->n_kv);
    if (!rc) rc = read_by_layer(r, c, "feed_forward_length", &c->layer->n_ffn);
    for (int32_t i = 0; rc == GM_OK && i < c->n_layer; i++) {
        gm_layer_config *l = &c->layer[i];
        if (l->n_head % l->n_kv != 0)
            return gm_fail(r->err, r->errlen, GM_EFORMAT,
                           "layer %d has %d heads, which %d key/value heads cannot share evenly", i,
                           l->n_head, l->n_kv);
        if ((int64_t)l->n_head * l->head_dim > MAX_DIM)
            return gm_fail(r->err, r->errlen, GM_EFORMAT, "layer %d has %d heads of %d, too many",
                           i, l->n_head, l->head_dim);
        char name[48];
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        l->has_v = gm_gguf_tensor_find(r->g, name) != NULL;
        grow_to(&c->max_head, l->n_head);
        grow_to(&c->max_head_dim, l->head_dim);
        grow_to(&c->max_ffn, l->n_ffn);
        grow_to(&c->max_q, l->n_head * l->head_dim);
        grow_to(&c->max_kv, l->n_kv * l->head_dim);
    }
    return rc;
}

/* Informational keys: a strange value means the default, not a refusal. */
static void read_extras(const reader *r, gm_config *c) {
    double v;
    int64_t k;
    c->samp_temperature = 1.0f;
    c->samp_top_p = 0.95f;
    c->samp_top_k = 64;
    if (!gm_gguf_get_f64(r->g, "general.sampling.temp", &v) && v >= 0 && v <= 100)
        c->samp_temperature = (float)v;
    if (!gm_gguf_get_f64(r->g, "general.sampling.top_p", &v) && v > 0 && v <= 1)
        c->samp_top_p = (float)v;
    if (!gm_gguf_get_i64(r->g, "general.sampling.top_k", &k) && k >= 0 && k <= MAX_DIM)
        c->samp_top_k = (int32_t)k;

    gm_str name;
    if (gm_gguf_get_str(r->g, "general.name", &name)) return;
    size_t n = name.n < sizeof c->name - 1 ? name.n : sizeof c->name - 1;
    while (n > 0 && n < name.n && ((unsigned char)name.p[n] & 0xC0) == 0x80)
        n--; /* whole characters */
    for (size_t i = 0; i < n; i++)
        c->name[i] = (unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7F ? '?' : name.p[i];
}

int gm_config_read(gm_config *c, const gm_gguf *g, int32_t n_vocab, char *err, size_t errlen) {
    memset(c, 0, sizeof *c);
    reader r = {.g = g, .err = err, .errlen = errlen};
    int rc = check_architecture(&r);
    if (!rc) rc = check_features(&r);
    if (!rc) rc = check_rope_scaling(&r);
    if (!rc) rc = read_sizes(&r, c, n_vocab);
    if (rc) goto out;
    c->layer = gm_calloc((size_t)c->n_layer, sizeof *c->layer);
    if (!c->layer) {
        rc = gm_fail(err, errlen, GM_ENOMEM,
                     "out of memory while reading the model's configuration");
        goto out;
    }
    rc = read_pattern(&r, c);
    if (!rc) rc = read_kinds(&r, c);
    if (!rc) rc = read_layers(&r, c);
    if (!rc) read_extras(&r, c);
out:
    if (rc) gm_config_finish(c);
    return rc;
}

void gm_config_finish(gm_config *c) {
    gm_free(c->layer);
    memset(c, 0, sizeof *c);
}
