/* place.c: see place.h. */
#include "engine/place.h"

#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "model/decoder.h"

enum {
    CACHES = 2,      /* ghost text and a question have one each */
    SCRATCH_MIB = 64 /* what a backend needs besides tensors, and the unused ends of its slabs */
};

/* What weights take more on a device than in the file: some formats get whole words there. */
static uint64_t on_device(uint64_t bytes) { return bytes + bytes / 16; }

/* Layer of a tensor "blk.N.*"; -1: another one. */
static int32_t layer_of(gm_str name) {
    int32_t n = 0;
    if (name.n < 6 || memcmp(name.p, "blk.", 4) != 0) return -1;
    size_t i = 4;
    for (; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && n < GM_MAX_LAYER; i++)
        n = n * 10 + (name.p[i] - '0');
    return i > 4 && i < name.n && name.p[i] == '.' ? n : -1;
}

/* Layers that fit; n_layer + 1 when the ends fit as well. */
static int32_t count_fitting(gm_backend *b, uint64_t there, const gm_gguf *g, const gm_config *c,
                             const gm_place_opts *o) {
    uint64_t layer[GM_MAX_LAYER] = {0};
    uint64_t ends = gm_decoder_end_bytes(c) + on_device(o->mmproj_bytes);
    uint64_t used = gm_decoder_layer_bytes(c, o->n_batch) + ((uint64_t)SCRATCH_MIB << 20);
    for (uint64_t i = 0; i < gm_gguf_n_tensor(g); i++) {
        const gm_gguf_tensor *t = gm_gguf_tensor_at(g, i);
        int32_t n = layer_of(t->name);
        if (n >= 0 && n < c->n_layer) layer[n] += on_device(t->bytes);
        else ends += on_device(t->bytes);
    }
    int32_t n = 0;
    for (; n < c->n_layer; n++) {
        const gm_kv_layer cache = gm_kv_layer_shape(c, n, &o->kv);
        used += layer[n] + CACHES * gm_kv_layer_bytes(c, n, &o->kv);
        if (used > there || !gm_be_can_hold(b, &cache.k)) return n;
    }
    return used + ends <= there ? n + 1 : n;
}

/* Nothing fits: the CPU does it all. note: why. */
static int give_up(gm_backend **b, const char *note, const gm_place_opts *o, char *err,
                   size_t errlen) {
    char devices[sizeof(*b)->devices];
    memcpy(devices, (*b)->devices, sizeof devices);
    gm_log(GM_LOG_WARN, "engine", "on the CPU: %s", note);
    const gm_cancel *cancel = (*b)->cancel;
    gm_backend_close(b);
    int rc = gm_cpu_open(b, o->n_threads, err, errlen);
    if (rc) return rc;
    gm_be_set_cancel(*b, cancel);
    snprintf((*b)->note, sizeof(*b)->note, "%s", note);
    memcpy((*b)->devices, devices, sizeof devices);
    return GM_OK;
}

int gm_place_layers(gm_backend **bp, const gm_gguf *g, const gm_config *c, const gm_place_opts *o,
                    char *err, size_t errlen) {
    gm_backend *b = *bp;
    if (!b->may_split) return GM_OK;
    if (!b->rest) {
        uint64_t there = gm_be_memory_free(b);
        int32_t n = count_fitting(b, there, g, c, o);
        if (n > c->n_layer) return GM_OK;
        if (n == 0) {
            char note[sizeof b->note];
            snprintf(note, sizeof note, "%.60s has only %llu MiB of memory left", b->desc,
                     (unsigned long long)(there >> 20));
            return give_up(bp, note, o, err, errlen);
        }
        int rc = gm_backend_split(b, n, o->n_threads, err, errlen);
        if (rc) return rc;
        snprintf(b->note, sizeof b->note, "%llu MiB of the device's memory hold %d of %d layers",
                 (unsigned long long)(there >> 20), n, c->n_layer);
    } else {
        b->may_split = false;
        if (b->n_layer >= c->n_layer) gm_backend_close(&b->rest); /* everything was asked for */
    }
    return GM_OK;
}

int gm_place_fewer(gm_backend **bp, const gm_config *c, const gm_place_opts *o, char *err,
                   size_t errlen) {
    gm_backend *b = *bp;
    const int32_t had = b->rest ? b->n_layer : c->n_layer, n = had / 2;
    char note[sizeof b->note];
    snprintf(note, sizeof note, "%.60s had no memory for %d of %d layers", b->desc, had,
             c->n_layer);
    if (n == 0) return give_up(bp, note, o, err, errlen);
    int rc = gm_backend_split(b, n, o->n_threads, err, errlen);
    if (rc) return rc;
    gm_log(GM_LOG_WARN, "engine", "%s", note);
    memcpy(b->note, note, sizeof note);
    return GM_OK;
}

void gm_place_describe(gm_backend *b, const gm_config *c) {
    if (!b->rest) return;
    char whole[sizeof b->desc];
    memcpy(whole, b->desc, sizeof whole);
    /* A long name is cut, or the layers would be. */
    snprintf(b->desc, sizeof b->desc, "%.36s (%d of %d layers)", whole, b->n_layer, c->n_layer);
    gm_log(GM_LOG_INFO, "engine", "%s; the others on %s", b->desc, b->rest->desc);
}
