/* gguf_touch.c: see gguf_touch.h. */
#include "helper/gguf_touch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define PROMISE(cond)                                                                              \
    do {                                                                                           \
        if (cond) break;                                                                           \
        fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #cond);                 \
        abort();                                                                                   \
    } while (0)

static uint64_t mix(uint64_t h, const void *p, size_t n) {
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001B3u;
    return h;
}

/* Names from files are not terminated and may hold zeros; such a name cannot be asked for. */
static char *c_name(gm_str s) {
    if (memchr(s.p, 0, s.n)) return NULL;
    return gm_strndup(s.p, s.n);
}

static uint64_t touch_array(const gm_gguf_array *a, uint64_t h) {
    for (uint64_t i = 0; i < a->n; i++) {
        int64_t v = 0;
        double f = 0;
        int rc_i = gm_gguf_array_i64(a, i, &v), rc_f = gm_gguf_array_f64(a, i, &f);
        if (a->type == GM_GGUF_STR) {
            PROMISE(rc_i < 0 && rc_f < 0 && a->strings);
            h = mix(h, a->strings[i].p, a->strings[i].n);
        } else {
            PROMISE(!a->strings && (rc_i == 0 || rc_f == 0));
            h = mix(mix(h, &v, sizeof v), &f, sizeof f);
        }
    }
    int64_t v;
    PROMISE(gm_gguf_array_i64(a, a->n, &v) < 0);
    return h;
}

static uint64_t touch_key(const gm_gguf *g, gm_str name, uint64_t h) {
    char *key = c_name(name);
    if (!key) return h;
    gm_gguf_array a;
    gm_str s;
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    bool b = false;
    int rc = gm_gguf_get_array(g, key, &a);
    PROMISE(rc == 0 || rc == -5 /* GM_EFORMAT: an array of arrays */);
    if (rc == 0) h = touch_array(&a, h);
    if (gm_gguf_get_str(g, key, &s) == 0) h = mix(h, s.p, s.n);
    (void)gm_gguf_get_u64(g, key, &u);
    (void)gm_gguf_get_i64(g, key, &i);
    (void)gm_gguf_get_f64(g, key, &f);
    (void)gm_gguf_get_bool(g, key, &b);
    gm_free(key);
    return mix(mix(h, &u, sizeof u), &i, sizeof i) ^ (uint64_t)b;
}

static uint64_t touch_tensor(const gm_gguf *g, const gm_gguf_tensor *t, uint64_t h) {
    char *name = c_name(t->name);
    if (name) PROMISE(gm_gguf_tensor_find(g, name) == t);
    gm_free(name);
    PROMISE(t->n_dims >= 1 && t->n_dims <= 4);
    uint64_t rows = 1;
    for (int i = 0; i < 4; i++) {
        PROMISE(t->ne[i] > 0 && t->ne[i] <= INT64_MAX);
        if (i > 0) rows *= t->ne[i];
    }
    PROMISE(t->bytes == rows * gm_dtype_row_bytes(t->dtype, t->ne[0]));
    PROMISE(t->bytes > 0 && t->bytes <= gm_gguf_file_bytes(g));
    if (t->bytes <= 65536) return mix(h, t->data, t->bytes);
    return mix(mix(h, t->data, 64), t->data + t->bytes - 64, 64);
}

uint64_t gguf_touch(const gm_gguf *g) {
    uint64_t h = gm_gguf_version(g);
    PROMISE(h == 2 || h == 3);
    for (uint64_t i = 0; i < gm_gguf_n_key(g); i++) {
        gm_str name = gm_gguf_key_at(g, i);
        PROMISE(name.n > 0);
        h = touch_key(g, name, mix(h, name.p, name.n));
    }
    PROMISE(gm_gguf_key_at(g, gm_gguf_n_key(g)).n == 0);
    for (uint64_t i = 0; i < gm_gguf_n_tensor(g); i++)
        h = touch_tensor(g, gm_gguf_tensor_at(g, i), h);
    PROMISE(gm_gguf_tensor_at(g, gm_gguf_n_tensor(g)) == NULL);
    PROMISE(gm_gguf_tensor_find(g, "there is no such tensor \x01") == NULL);
    return h;
}
