/* attach.c: see attach.h. */
#include "engine/attach.h"

#include <string.h>
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "engine/sound.h"
#include "media/decode.h"

struct gm_rows {
    int count; /* references; one thread, so no atomics */
    gm_part_kind kind;
    int32_t image_tokens;
    uint64_t hash; /* of the file's bytes, the kind and the budget */
    int32_t n, n_embd;
    float *v; /* [n, n_embd] */
};

void gm_rows_release(gm_rows **r) {
    if (!r || !*r) return;
    if (--(*r)->count == 0) {
        gm_free((*r)->v);
        gm_free(*r);
    }
    *r = NULL;
}

gm_rows *gm_rows_retain(gm_rows *r) {
    r->count++;
    return r;
}

int gm_rows_create(gm_rows **out, int32_t n, int32_t n_embd, uint64_t hash) {
    gm_rows *r = *out = gm_calloc(1, sizeof *r);
    if (!r) return GM_ENOMEM;
    *r = (gm_rows){.count = 1, .kind = GM_PART_SOUND, .hash = hash, .n = n, .n_embd = n_embd};
    r->v = gm_malloc((size_t)n * (size_t)n_embd, sizeof *r->v);
    if (!r->v) gm_rows_release(out);
    return *out ? 0 : GM_ENOMEM;
}

float *gm_rows_at(gm_rows *r, int32_t i) {
    return r->v + (size_t)i * (size_t)r->n_embd;
}

const float *gm_rows_data(const gm_rows *r) {
    return r->v;
}

int32_t gm_rows_n(const gm_rows *r) {
    return r->n;
}

/* FNV-1a over words of 8 bytes (Fowler, Noll, Vo), finished by the mixer of splitmix64: the cache
 * must notice a changed file, not resist somebody who makes collisions of his own screenshots. */
static uint64_t hash_bytes(const uint8_t *p, size_t n, uint64_t seed) {
    uint64_t h = 0xcbf29ce484222325u ^ seed, w;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x100000001b3u;
        h ^= h >> 29; /* the product alone carries nothing downwards */
    }
    for (; n > 0; n--, p++) h = (h ^ *p) * 0x100000001b3u;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

static gm_rows *find_recent(gm_engine *e, const gm_rows *like) {
    for (int i = 0; i < GM_RECENT_ROWS; i++) {
        gm_rows *r = e->recent[i];
        if (r && r->hash == like->hash && r->kind == like->kind &&
            r->image_tokens == like->image_tokens)
            return r;
    }
    return NULL;
}

static void keep_recent(gm_engine *e, gm_rows *r) {
    gm_rows_release(&e->recent[GM_RECENT_ROWS - 1]);
    memmove(e->recent + 1, e->recent, (GM_RECENT_ROWS - 1) * sizeof *e->recent);
    e->recent[0] = r;
    r->count++;
}

static int embed_image(gm_rows *r, gm_engine *e, const char *path, const gm_cancel *cancel, char *err,
                       size_t errlen) {
    gm_image img;
    int rc = gm_decode_image(path, &img, cancel, err, errlen);
    if (rc) return rc;
    rc = gm_image_embed(e->projector, &img, e->config.n_embd, r->image_tokens, cancel, &r->v, &r->n,
                        err, errlen);
    gm_free(img.rgb);
    return rc;
}

static int embed_sound(gm_rows *r, gm_engine *e, const char *path, const gm_cancel *cancel, char *err,
                       size_t errlen) {
    gm_samples s;
    int rc = gm_decode_sound(path, &s, cancel, err, errlen);
    if (rc) return rc;
    rc = gm_audio_embed(e->projector, &s, e->config.n_embd, cancel, &r->v, &r->n, err, errlen);
    gm_free(s.v);
    return rc;
}

/* Reads the file twice, once for the hash: the second read comes from the page cache, and a
 * picture that was attached before is not decoded again. */
static int open_path(gm_rows *r, gm_engine *e, const char *path, const gm_cancel *cancel,
                     gm_rows **known, char *err, size_t errlen) {
    gm_map *m = NULL;
    int rc = gm_map_open(&m, path, err, errlen);
    if (rc) return rc;
    if (gm_map_size(m) > (size_t)GM_MEDIA_MAX_MIB << 20)
        rc = gm_fail(err, errlen, GM_ETOOLONG, "%s is larger than %d MiB", gm_path_tail(path),
                     GM_MEDIA_MAX_MIB);
    else
        r->hash = hash_bytes(gm_map_data(m), gm_map_size(m),
                             (uint64_t)r->kind << 32 | (uint32_t)r->image_tokens);
    gm_map_close(&m);
    if (rc || (*known = find_recent(e, r))) return rc;
    return r->kind == GM_PART_IMAGE ? embed_image(r, e, path, cancel, err, errlen)
                                    : embed_sound(r, e, path, cancel, err, errlen);
}

int gm_rows_open(gm_rows **out, gm_engine *e, gm_part_kind kind, gm_str path, int32_t image_tokens,
                 const gm_cancel *cancel, char *err, size_t errlen) {
    gm_rows *known = NULL, *r = NULL;
    char *name = NULL;
    *out = NULL;
    if (!e->projector)
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "pictures and sounds need the model's mmproj file; none was loaded");
    if (image_tokens == 0) image_tokens = GM_IMAGE_TOKENS_DEFAULT;
    if (!gm_image_tokens_valid(image_tokens))
        return gm_fail(err, errlen, GM_EINVAL, "image tokens must be 70, 140, 280, 560 or 1120");
    if (path.n == 0 || memchr(path.p, 0, path.n))
        return gm_fail(err, errlen, GM_EINVAL, "a picture or sound without a file name");
    int rc = GM_ENOMEM;
    name = gm_strndup(path.p, path.n);
    r = gm_calloc(1, sizeof *r);
    if (!name || !r) {
        gm_fail(err, errlen, rc, "%s", gm_err_text(rc));
        goto done;
    }
    r->count = 1;
    r->kind = kind;
    r->image_tokens = kind == GM_PART_IMAGE ? image_tokens : 0;
    r->n_embd = e->config.n_embd;
    rc = open_path(r, e, name, cancel, &known, err, errlen);
    if (rc) goto done;
    if (known) {
        known->count++;
        *out = known;
    } else {
        keep_recent(e, r);
        *out = r;
        r = NULL;
    }
done:
    gm_rows_release(&r);
    gm_free(name);
    return rc;
}

/* ---- the media of a prompt ----------------------------------------------------------------- */

static bool is_media(const gm_part *p) {
    return p->kind == GM_PART_IMAGE || p->kind == GM_PART_AUDIO || p->kind == GM_PART_SOUND;
}

void gm_attachments_finish(gm_attachments *a) {
    for (size_t i = 0; a->rows && i < a->n; i++) gm_rows_release(&a->rows[i]);
    gm_free(a->rows);
    gm_free(a->media);
    memset(a, 0, sizeof *a);
}

int32_t gm_attachments_longest(const gm_attachments *a) {
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        if (a->media[i].bidirectional && a->media[i].n_row > n) n = a->media[i].n_row;
    return (int32_t)n;
}

static int open_part(gm_attachments *a, gm_engine *e, gm_part *p, int32_t image_tokens,
                     const gm_cancel *cancel, char *err, size_t errlen) {
    gm_rows *r = NULL;
    int32_t n = 0;
    int rc;
    p->open = false;
    if (p->kind == GM_PART_SOUND) {
        if (!p->sound) return gm_fail(err, errlen, GM_EINVAL, "a sound part without a sound");
        rc = gm_sound_rows(p->sound, e, &r, &n, cancel, err, errlen);
        p->open = !p->sound->ended;
    } else {
        rc = gm_rows_open(&r, e, p->kind, p->text, image_tokens, cancel, err, errlen);
        if (rc == 0) n = r->n;
    }
    p->n_row = (uint32_t)n;
    if (rc == 0 && r) a->rows[a->n++] = r;
    return rc;
}

/* Opens what is in front of the first open sound, that sound included. */
static int open_parts(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                      int32_t image_tokens, const gm_cancel *cancel, char *err, size_t errlen) {
    for (size_t i = 0; i < n_part; i++) {
        if (!is_media(&parts[i])) continue;
        int rc = open_part(a, e, &parts[i], image_tokens, cancel, err, errlen);
        if (rc || parts[i].open) return rc;
    }
    return 0;
}

/* One run for each part that has rows, in order. */
static void place_rows(gm_attachments *a, const gm_media_span *spans) {
    for (size_t k = 0; k < a->n; k++, spans++) {
        const gm_rows *r = a->rows[k];
        a->media[k] = (gm_media_rows){.start = spans->start,
                                      .n_row = spans->n_row,
                                      .rows = r->v,
                                      .hash = r->hash,
                                      .bidirectional = r->kind == GM_PART_IMAGE};
    }
}

int gm_attachments_encode(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                          const gm_turns_opts *turns, int32_t image_tokens, const gm_cancel *cancel,
                          gm_ids *ids, char *err, size_t errlen) {
    gm_media_span *spans = NULL;
    const size_t n_before = ids->n;
    size_t n_media = 0;
    int rc = 0;
    memset(a, 0, sizeof *a);
    for (size_t i = 0; i < n_part; i++) n_media += is_media(&parts[i]);
    if (n_media > 0) {
        a->rows = gm_calloc(n_media, sizeof *a->rows);
        a->media = gm_calloc(n_media, sizeof *a->media);
        spans = gm_calloc(n_media, sizeof *spans);
        if (!a->rows || !a->media || !spans)
            rc = gm_fail(err, errlen, GM_ENOMEM, "%s", gm_err_text(GM_ENOMEM));
    }
    if (!rc) rc = open_parts(a, e, parts, n_part, image_tokens, cancel, err, errlen);
    if (!rc) rc = gm_turns_encode(e->vocab, parts, n_part, turns, ids, spans, err, errlen);
    if (!rc) place_rows(a, spans);
    if (rc) {
        gm_attachments_finish(a);
        ids->n = n_before;
    }
    gm_free(spans);
    return rc;
}
