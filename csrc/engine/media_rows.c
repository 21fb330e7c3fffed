/* media_rows.c: see media_rows.h. */
#include "engine/media_rows.h"

#include <string.h>
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "media/avlib.h"
#include "media/decode.h"

_Static_assert((int)GM_VIDEO_FRAMES <= (int)GM_TURNS_MAX_FRAMES, "a layout holds every picture");

struct gm_rows {
    int count; /* references; one thread, so no atomics */
    gm_part_kind kind;
    int32_t image_tokens;
    uint64_t hash; /* of the file's bytes, the kind and the budget */
    int32_t n, n_embd;
    float *v; /* [n, n_embd] */
    gm_video_layout *video;
};

void gm_rows_release(gm_rows **r) {
    if (!r || !*r) return;
    if (--(*r)->count == 0) {
        gm_free((*r)->v);
        gm_free((*r)->video);
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

float *gm_rows_at(gm_rows *r, int32_t i) { return r->v + (size_t)i * (size_t)r->n_embd; }

const float *gm_rows_data(const gm_rows *r) { return r->v; }

int32_t gm_rows_n(const gm_rows *r) { return r->n; }

int32_t gm_rows_width(const gm_rows *r) { return r->n_embd; }

const gm_video_layout *gm_rows_video(const gm_rows *r) { return r->video; }

uint64_t gm_rows_hash(const gm_rows *r) { return r->hash; }

/* FNV-1a over words of 8 bytes (Fowler, Noll, Vo), finished by the mixer of splitmix64: the cache
 * must notice a changed file, not resist somebody who makes collisions of his own screenshots. */
static int hash_piece(void *ud, const uint8_t *p, size_t n) {
    uint64_t h = *(uint64_t *)ud, w;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x100000001b3u;
        h ^= h >> 29; /* the product alone carries nothing downwards */
    }
    for (; n > 0; n--, p++) h = (h ^ *p) * 0x100000001b3u;
    *(uint64_t *)ud = h;
    return GM_OK;
}

static uint64_t hash_begin(const gm_rows *r) {
    return 0xcbf29ce484222325u ^ ((uint64_t)r->kind << 32 | (uint32_t)r->image_tokens);
}

static uint64_t hash_end(uint64_t h) {
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

/* The rows that were attached last stay in memory: at most GM_RECENT_ROWS of them and, but for the
 * newest, no more than GM_RECENT_MIB, which is about sixty pictures of the default budget. A prompt
 * that holds rows keeps them for itself. */
static void drop_beyond(gm_media_store *m) {
    size_t bytes = 0;
    for (int i = 0; i < GM_RECENT_ROWS; i++) {
        gm_rows *r = m->recent[i];
        if (!r) continue;
        bytes += (size_t)r->n * (size_t)r->n_embd * sizeof *r->v;
        if (i > 0 && bytes > (size_t)GM_RECENT_MIB << 20) gm_rows_release(&m->recent[i]);
    }
}

/* Puts r, which is a reference to be kept, at place 0; those before place i move on by one. */
static void put_first(gm_media_store *m, gm_rows *r, int i) {
    memmove(m->recent + 1, m->recent, (size_t)i * sizeof *m->recent);
    m->recent[0] = r;
}

static gm_rows *find_recent(gm_media_store *m, const gm_rows *like) {
    for (int i = 0; m && i < GM_RECENT_ROWS; i++) {
        gm_rows *r = m->recent[i];
        if (r && r->hash == like->hash && r->kind == like->kind &&
            r->image_tokens == like->image_tokens) {
            put_first(m, r, i);
            return r;
        }
    }
    return NULL;
}

static void keep_recent(gm_media_store *m, gm_rows *r) {
    if (!m) return;
    gm_rows_release(&m->recent[GM_RECENT_ROWS - 1]);
    put_first(m, gm_rows_retain(r), GM_RECENT_ROWS - 1);
    drop_beyond(m);
}

static int embed_image(gm_rows *r, gm_engine *e, const gm_map *file, const gm_cancel *cancel,
                       char *err, size_t errlen) {
    gm_image img;
    int rc = gm_decode_picture(gm_map_data(file), gm_map_size(file), &img, cancel, err, errlen);
    if (rc) return rc;
    rc = gm_image_embed(e->projector, &img, e->config.n_embd, r->image_tokens, cancel, &r->v, &r->n,
                        err, errlen);
    gm_free(img.rgb);
    return rc;
}

static int embed_sound(gm_rows *r, gm_engine *e, const char *path, const gm_cancel *cancel,
                       char *err, size_t errlen) {
    gm_samples s;
    int rc = gm_decode_sound(path, &s, cancel, err, errlen);
    if (rc) return rc;
    rc = gm_audio_embed(e->projector, &s, e->config.n_embd, cancel, &r->v, &r->n, err, errlen);
    gm_free(s.v);
    return rc;
}

/* ---- video ----------------------------------------------------------------------------------- */

typedef struct {
    gm_rows *r;
    gm_engine *e;
    const gm_media_opts *o;
    size_t cap;
    gm_video *file; /* how far it has been read; NULL: to its end, or not at all */
} film;

/* One that was interrupted. */
struct gm_film {
    int64_t owner;
    gm_rows *r; /* of the pictures so far */
    size_t cap;
    gm_video *file;
};

static void free_film(gm_media_store *m) {
    if (!m->film) return;
    gm_rows_release(&m->film->r);
    gm_avlib_video_close(&m->film->file);
    gm_free(m->film);
    m->film = NULL;
}

void gm_film_drop(gm_media_store *m, int64_t owner) {
    if (m->film && m->film->owner == owner) free_film(m);
}

void gm_media_store_finish(gm_media_store *m) {
    for (int i = 0; i < GM_RECENT_ROWS; i++) gm_rows_release(&m->recent[i]);
    free_film(m);
}

static void film_keep(film *f) {
    struct gm_film *kept = f->o->store ? gm_calloc(1, sizeof *kept) : NULL;
    if (!kept) return;
    *kept = (struct gm_film){f->o->owner, gm_rows_retain(f->r), f->cap, f->file};
    f->file = NULL;
    f->o->store->film = kept;
}

/* Goes on with the same film, if that was interrupted; another one is given up for it. */
static void film_take_up(film *f) {
    if (!f->o->store) return;
    struct gm_film *kept = f->o->store->film;
    if (kept && kept->r->hash == f->r->hash) {
        gm_rows *was = kept->r;
        f->r->n = was->n;
        f->r->v = was->v;
        f->r->video = was->video;
        f->cap = kept->cap;
        f->file = kept->file;
        was->v = NULL;
        was->video = NULL;
        kept->file = NULL;
    }
    free_film(f->o->store);
}

/* Rows behind those that are there. Takes them over. */
static int append_rows(film *f, float *rows, int32_t n) {
    gm_rows *r = f->r;
    const size_t width = (size_t)r->n_embd;
    int rc = gm_grow(&r->v, &f->cap, (size_t)(r->n + n) * width, sizeof *r->v);
    if (rc == 0) {
        memcpy(gm_rows_at(r, r->n), rows, (size_t)n * width * sizeof *rows);
        r->n += n;
    }
    gm_free(rows);
    return rc;
}

static int add_picture(void *ud, double seconds, const gm_image *img, char *err, size_t errlen) {
    film *f = ud;
    gm_video_layout *v = f->r->video;
    float *rows;
    int32_t n;
    int rc = gm_image_embed(f->e->projector, img, f->r->n_embd, GM_VIDEO_IMAGE_TOKENS, f->o->cancel,
                            &rows, &n, err, errlen);
    if (rc) return rc;
    v->n_row[v->n_frame] = (uint32_t)n;
    v->seconds[v->n_frame++] = (uint32_t)seconds;
    rc = append_rows(f, rows, n);
    return rc ? gm_fail_code(err, errlen, rc) : 0;
}

static int add_sound(film *f, const char *path, char *err, size_t errlen) {
    gm_samples s;
    float *rows;
    int32_t n;
    if (!gm_projector_has_audio(f->e->projector)) return 0;
    int rc = gm_decode_track(path, &s, f->o->cancel, err, errlen);
    /* Many recordings of a screen are silent; pictures count without their sound. */
    if (rc) return rc == GM_ENOENT || rc == GM_EFORMAT || rc == GM_EUNSUPPORTED ? 0 : rc;
    rc = gm_audio_embed(f->e->projector, &s, f->r->n_embd, f->o->cancel, &rows, &n, err, errlen);
    gm_free(s.v);
    if (rc) return rc;
    f->r->video->n_sound = (uint32_t)n;
    rc = append_rows(f, rows, n);
    return rc ? gm_fail_code(err, errlen, rc) : 0;
}

static int embed_video(gm_rows *r, gm_engine *e, const char *path, const gm_media_opts *o,
                       char *err, size_t errlen) {
    film f = {.r = r, .e = e, .o = o};
    int rc = 0;
    if (!gm_projector_has_vision(e->projector))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "the mmproj file has no image weights");
    film_take_up(&f);
    const bool seen = r->video && !f.file;
    if (!r->video) r->video = gm_calloc(1, sizeof *r->video);
    if (!r->video) return gm_fail_code(err, errlen, GM_ENOMEM);
    if (!seen)
        rc =
            gm_avlib_video(&f.file, path, GM_VIDEO_FRAMES, add_picture, &f, o->cancel, err, errlen);
    if (!rc) rc = add_sound(&f, path, err, errlen);
    if (rc == GM_ECANCELLED) film_keep(&f);
    gm_avlib_video_close(&f.file);
    return rc;
}

/* A picture is read once: what was hashed is what is decoded, even when a program writes it anew in
 * between. */
static int open_picture(gm_rows *r, gm_engine *e, const char *path, const gm_media_opts *o,
                        gm_rows **known, char *err, size_t errlen) {
    gm_map *file = NULL;
    int rc = gm_map_read(&file, path, (size_t)GM_MEDIA_MAX_MIB << 20, o->cancel, err, errlen);
    if (rc) return rc;
    uint64_t h = hash_begin(r);
    hash_piece(&h, gm_map_data(file), gm_map_size(file));
    r->hash = hash_end(h);
    *known = find_recent(o->store, r);
    if (!*known) rc = embed_image(r, e, file, o->cancel, err, errlen);
    gm_map_close(&file);
    return rc;
}

/* Sounds and videos are read twice or more, and may be large: FFmpeg goes through them itself. */
static int open_path(gm_rows *r, gm_engine *e, const char *path, const gm_media_opts *o,
                     gm_rows **known, char *err, size_t errlen) {
    if (r->kind == GM_PART_IMAGE) return open_picture(r, e, path, o, known, err, errlen);
    uint64_t h = hash_begin(r);
    int rc =
        gm_map_each(path, (size_t)GM_MEDIA_MAX_MIB << 20, hash_piece, &h, o->cancel, err, errlen);
    r->hash = hash_end(h);
    if (rc || (*known = find_recent(o->store, r))) return rc;
    return r->kind == GM_PART_VIDEO ? embed_video(r, e, path, o, err, errlen)
                                    : embed_sound(r, e, path, o->cancel, err, errlen);
}

int gm_rows_open(gm_rows **out, gm_engine *e, gm_part_kind kind, gm_str path,
                 const gm_media_opts *o, char *err, size_t errlen) {
    gm_rows *known = NULL, *r = NULL;
    char *name = NULL;
    int32_t image_tokens = o->image_tokens;
    *out = NULL;
    if (!e->projector)
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "pictures and sounds need the model's mmproj file; none was loaded");
    if (image_tokens == 0) image_tokens = gm_projector_image_tokens(e->projector);
    else if (!gm_image_tokens_valid(image_tokens))
        return gm_fail(err, errlen, GM_EINVAL, "image tokens must be 70, 140, 280, 560 or 1120");
    if (path.n == 0 || memchr(path.p, 0, path.n))
        return gm_fail(err, errlen, GM_EINVAL, "a picture or sound without a file name");
    int rc = GM_ENOMEM;
    name = gm_strndup(path.p, path.n);
    r = gm_calloc(1, sizeof *r);
    if (!name || !r) {
        gm_fail_code(err, errlen, rc);
        goto done;
    }
    r->count = 1;
    r->kind = kind;
    r->image_tokens = kind == GM_PART_IMAGE ? image_tokens : 0;
    r->n_embd = e->config.n_embd;
    rc = open_path(r, e, name, o, &known, err, errlen);
    if (rc) goto done;
    if (!known) keep_recent(o->store, r);
    *out = gm_rows_retain(known ? known : r);
done:
    gm_rows_release(&r);
    gm_free(name);
    return rc;
}
