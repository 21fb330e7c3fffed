/* attach.h: the media of a prompt: its parts opened, its list encoded. Thread: the worker. */
#pragma once

#include "engine/media_rows.h"
#include "engine/session.h"

/* The media of one prompt. Zeroed: none. */
typedef struct {
    gm_rows **rows; /* [n_rows] */
    size_t n_rows, cap_rows;
    gm_media_rows *media; /* [n] runs, for gm_prompt */
    size_t n;
} gm_attachments;

/* Opens a part and keeps its rows; fills in what gm_turns_encode must know of it. */
int gm_attachments_open(gm_attachments *a, gm_engine *e, gm_part *part, const gm_media_opts *o,
                        char *err, size_t errlen);

/* Opens the media parts (whose text is a path, or which have a view of a sound), fills in their
 * number of rows, and encodes the whole list to ids. Behind a sound that has not ended nothing is
 * opened and nothing encoded. turns may be NULL. On failure *a is empty and ids as it was. */
int gm_attachments_encode(gm_attachments *a, gm_engine *e, gm_part *parts, size_t n_part,
                          const gm_media_opts *o, const gm_turns_opts *turns, gm_ids *ids,
                          char *err, size_t errlen);
void gm_attachments_finish(gm_attachments *a);

/* Rows of the longest run that must be computed in one piece, because its rows see one another; 0:
 * none. */
int32_t gm_attachments_longest(const gm_attachments *a);
