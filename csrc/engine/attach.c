/* attach.c: see attach.h. */
#include "engine/attach.h"

#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/sound.h"

void gm_attachments_finish(gm_attachments *a) {
    for (size_t i = 0; i < a->n_rows; i++) gm_rows_release(&a->rows[i]);
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

/* Most messages are about the contents; which file that was is said in front. */
static int name_file(int rc, gm_str path, char *err, size_t errlen) {
    const char *name = path.p + path.n;
    while (name > path.p && name[-1] != '/') name--;
    const size_t n = (size_t)(path.p + path.n - name);
    if (rc == 0 || rc == GM_ECANCELLED || n == 0 || n > 64 || errlen == 0) return rc;
    if (memmem(err, strlen(err), name, n)) return rc;
    char what[256];
    snprintf(what, sizeof what, "%s", err);
    return gm_fail(err, errlen, rc, "%.*s: %s", (int)n, name, what);
}

int gm_attachments_open(gm_attachments *a, gm_engine *e, gm_part *p, const gm_media_opts *o,
                        char *err, size_t errlen) {
    gm_rows *r = NULL;
    int32_t n = 0;
    int rc;
    if (gm_grow(&a->rows, &a->cap_rows, a->n_rows + 1, sizeof *a->rows))
        return gm_fail_code(err, errlen, GM_ENOMEM);
    p->open = false;
    p->video = NULL;
    if (p->kind == GM_PART_SOUND) {
        if (!p->sound) return gm_fail(err, errlen, GM_EINVAL, "a sound part without a sound");
        rc = gm_sound_rows(p->sound, e, &r, &n, o->cancel, err, errlen);
        p->open = !p->sound->ended;
    } else {
        rc = gm_rows_open(&r, e, p->kind, p->text, o, err, errlen);
        rc = name_file(rc, p->text, err, errlen);
    }
    if (rc) return rc;
    if (r) a->rows[a->n_rows++] = r;
    if (r && p->kind != GM_PART_SOUND) n = gm_rows_n(r);
    p->n_row = (uint32_t)n;
    p->video = r ? gm_rows_video(r) : NULL;
    return 0;
}

/* Opens what is in front of the first open sound, that sound included. *n_run: runs of rows. */
static int open_parts(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                      const gm_media_opts *o, size_t *n_run, char *err, size_t errlen) {
    *n_run = 0;
    for (size_t i = 0; i < n_part; i++) {
        if (!gm_part_is_media(&parts[i])) continue;
        int rc = gm_attachments_open(a, e, &parts[i], o, err, errlen);
        if (rc) return rc;
        *n_run += gm_part_runs(&parts[i]);
        if (parts[i].open) return 0;
    }
    return 0;
}

/* The runs of a part, which stand at spans[0 ..] and lie one behind the other in r. */
static const gm_media_span *place_part(gm_attachments *a, const gm_part *p, const gm_rows *r,
                                       const gm_media_span *spans) {
    const size_t n = gm_part_runs(p), width = (size_t)gm_rows_width(r);
    const float *rows = gm_rows_data(r);
    for (size_t i = 0; i < n; i++, spans++) {
        const bool picture = p->kind == GM_PART_IMAGE || (p->video && i < p->video->n_frame);
        a->media[a->n++] = (gm_media_rows){.start = spans->start,
                                           .n_row = spans->n_row,
                                           .rows = rows,
                                           .hash = gm_rows_hash(r) + i * 0xd6e8feb86659fd93u,
                                           .bidirectional = picture};
        rows += spans->n_row * width;
    }
    return spans;
}

/* The last step of the encoding: runs for the rows of the opened parts, which came to stand at
 * spans. 0 or GM_ENOMEM. */
static int place(gm_attachments *a, const gm_part *parts, size_t n_part, const gm_media_span *spans,
                 size_t n_run) {
    a->media = gm_calloc(n_run, sizeof *a->media);
    if (!a->media) return GM_ENOMEM;
    for (size_t i = 0, k = 0; i < n_part && k < a->n_rows; i++)
        if (gm_part_is_media(&parts[i])) spans = place_part(a, &parts[i], a->rows[k++], spans);
    return 0;
}

int gm_attachments_encode(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                          const gm_media_opts *o, const gm_turns_opts *turns, gm_ids *ids,
                          char *err, size_t errlen) {
    gm_media_span *spans = NULL;
    const size_t n_before = ids->n;
    size_t n_run = 0;
    memset(a, 0, sizeof *a);
    int rc = open_parts(a, e, parts, n_part, o, &n_run, err, errlen);
    if (!rc) {
        spans = gm_calloc(n_run, sizeof *spans);
        rc = spans ? gm_turns_encode(e->vocab, parts, n_part, turns, ids, spans, err, errlen)
                   : gm_fail_code(err, errlen, GM_ENOMEM);
    }
    if (!rc && place(a, parts, n_part, spans, n_run)) rc = gm_fail_code(err, errlen, GM_ENOMEM);
    if (rc) {
        gm_attachments_finish(a);
        ids->n = n_before;
    }
    gm_free(spans);
    return rc;
}
