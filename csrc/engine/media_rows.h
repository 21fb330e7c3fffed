/* media_rows.h: what a file of pictures or sounds is for the model: its rows, kept for the next
 * question.
 *
 * Rows are counted references: a store keeps the last few, and every prompt holds its own until its
 * prefill is done. Thread: the worker.
 */
#pragma once

#include "base/cancel.h"
#include "engine/engine.h"
#include "tokenizer/turns.h"

typedef struct gm_rows gm_rows;

enum { GM_RECENT_ROWS = 16, GM_RECENT_MIB = 256 };

/* Rows of one engine's media that may be asked for again. Zeroed: empty. */
typedef struct {
    gm_rows *recent[GM_RECENT_ROWS]; /* used last, newest first */
    struct gm_film *film;            /* whose reading was interrupted; NULL: none */
} gm_media_store;

void gm_media_store_finish(gm_media_store *m);

/* After GM_ECANCELLED a video is kept as far as it has come, for who asks for it again: it takes
 * seconds, and somebody who types interrupts several times in each. This gives it up if it is that
 * of the owner. */
void gm_film_drop(gm_media_store *m, int64_t owner);

typedef struct {
    gm_media_store *store;   /* where rows are looked for and kept; NULL: nowhere */
    int64_t owner;           /* of a video that is interrupted */
    int32_t image_tokens;    /* budget of an image; 0: the model's default */
    const gm_cancel *cancel; /* NULL: never */
} gm_media_opts;

/* The rows of a file, from the store when the same contents were attached before. kind:
 * GM_PART_IMAGE, GM_PART_AUDIO or GM_PART_VIDEO. A video has the rows of its pictures, then those
 * of its sound. On failure *out is NULL. */
int gm_rows_open(gm_rows **out, gm_engine *e, gm_part_kind kind, gm_str path,
                 const gm_media_opts *o, char *err, size_t errlen);
void gm_rows_release(gm_rows **r);

/* Rows that somebody else fills in: room for n of n_embd floats, none of them set. */
int gm_rows_create(gm_rows **out, int32_t n, int32_t n_embd, uint64_t hash);
float *gm_rows_at(gm_rows *r, int32_t i);
gm_rows *gm_rows_retain(gm_rows *r);

const float *gm_rows_data(const gm_rows *r); /* [n_row, n_embd] */
int32_t gm_rows_n(const gm_rows *r);
int32_t gm_rows_width(const gm_rows *r); /* n_embd */
uint64_t gm_rows_hash(const gm_rows *r); /* of what they are the rows of, and how it was read */
const gm_video_layout *gm_rows_video(const gm_rows *r); /* NULL: no video */
