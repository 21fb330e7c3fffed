/* attach.h: pictures and sounds of a prompt: files to rows, kept for the next question.
 *
 * Rows are counted references: the engine keeps the last few, and every prompt holds its own until
 * its prefill is done. Thread: the worker.
 */
#pragma once

#include "engine/session.h"
#include "tokenizer/turns.h"

typedef struct gm_rows gm_rows;

/* The rows of a file, from memory when the same contents were attached before. kind: GM_PART_IMAGE,
 * GM_PART_AUDIO or GM_PART_VIDEO; image_tokens: the budget of an image, 0 for the model's default.
 * A video has the rows of its pictures, then those of its sound. */
int gm_rows_open(gm_rows **out, gm_engine *e, gm_part_kind kind, gm_str path, int32_t image_tokens,
                 const gm_cancel *cancel, char *err, size_t errlen);
void gm_rows_release(gm_rows **r);

/* After GM_ECANCELLED a video is kept as far as it has come, for who asks for it again: it takes
 * seconds, and somebody who types interrupts several times in each. This gives it up. */
void gm_film_drop(gm_engine *e);

/* Rows that somebody else fills in: room for n of n_embd floats, none of them set. */
int gm_rows_create(gm_rows **out, int32_t n, int32_t n_embd, uint64_t hash);
float *gm_rows_at(gm_rows *r, int32_t i);
gm_rows *gm_rows_retain(gm_rows *r);

const float *gm_rows_data(const gm_rows *r); /* [n_row, n_embd] */
int32_t gm_rows_n(const gm_rows *r);
const gm_video_layout *gm_rows_video(const gm_rows *r); /* NULL: no video */

/* The media of one prompt. Zeroed: none. */
typedef struct {
    gm_rows **rows; /* [n_rows] */
    size_t n_rows;
    gm_media_rows *media; /* [n] runs, for gm_prompt */
    size_t n;
} gm_attachments;

/* Opens a part and keeps its rows; fills in what gm_turns_encode must know of it. */
int gm_attachments_open(gm_attachments *a, gm_engine *e, gm_part *part, int32_t image_tokens,
                        const gm_cancel *cancel, char *err, size_t errlen);

/* Opens the media parts (whose text is a path, or which have a view of a sound), fills in their
 * number of rows, and encodes the whole list to ids. Behind a sound that has not ended nothing is
 * opened and nothing encoded. turns (may be NULL) has the flag that cancels both. On failure *a is
 * empty and ids as it was. */
int gm_attachments_encode(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                          const gm_turns_opts *turns, int32_t image_tokens, gm_ids *ids, char *err,
                          size_t errlen);
void gm_attachments_finish(gm_attachments *a);

/* The last step of the encoding: runs for the rows of the opened parts, which came to stand at
 * spans. 0 or GM_ENOMEM. */
int gm_attachments_place(gm_attachments *a, const gm_part *parts, size_t n_part,
                         const gm_media_span *spans, size_t n_run);

/* Rows of the longest run that must be computed in one piece, because its rows see one another; 0:
 * none. */
int32_t gm_attachments_longest(const gm_attachments *a);
