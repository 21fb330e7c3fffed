/* session.h: one timeline of tokens and media rows with its cache.
 *
 * The caller always hands over the whole prompt; the session keeps the longest common prefix with
 * what its cache holds and computes only the rest, in chunks, so that the caller can do something
 * more urgent in between. Thread: the worker.
 */
#pragma once

#include "engine/engine.h"

/* A run of embedding rows (an image, a sound) inside a prompt. */
typedef struct {
    size_t start;       /* index of its first row among the positions */
    size_t n_row;
    const float *rows;  /* [n_row, n_embd]; borrowed until the sync that needs them is done */
    uint64_t hash;      /* of the contents: equal hash means equal rows */
    bool bidirectional; /* image: rows see one another on sliding layers */
} gm_media_rows;

typedef struct {
    const int32_t *ids; /* [n]; at media positions the soft token's id, not looked up */
    size_t n;
    const gm_media_rows *media; /* [n_media], ascending, not overlapping */
    size_t n_media;
} gm_prompt;

typedef struct gm_session gm_session;

int gm_session_create(gm_session **out, gm_engine *e, char *err, size_t errlen);
void gm_session_destroy(gm_session **s);

/* Begins a sync to prompt (copied, but not the media rows): compares, rewinds. *reused is how many
 * positions are kept; at least the last position is always computed again, so that its logits
 * exist. GM_ETOOLONG when it does not fit n_ctx, GM_EINVAL when it is empty. */
int gm_session_begin(gm_session *s, const gm_prompt *prompt, size_t *reused, char *err,
                     size_t errlen);

/* Computes at most max_tok further positions (0: as many as a chunk holds; media runs stay
 * whole). Returns how many positions are left, or an error; after an error the session is as
 * before the step and the step may be repeated. */
int64_t gm_session_step(gm_session *s, size_t max_tok);

/* One token more, after a finished sync. GM_ETOOLONG at the end of the context. */
int gm_session_append(gm_session *s, int32_t id);

/* Logits after the last position: [n_vocab], owned by the session, valid until the next step; the
 * sampler may overwrite them. NULL while a sync is unfinished. */
float *gm_session_logits(gm_session *s);

size_t gm_session_len(const gm_session *s);
size_t gm_session_media_rows(const gm_session *s); /* rows computed since creation */

/* Longest common prefix of the cache and a prompt, in positions. */
size_t gm_session_common(const gm_session *s, const gm_prompt *prompt);

/* Cuts back to n positions (n <= len); returns the length reached: n, or 0 when the sliding
 * window of that point is gone. */
size_t gm_session_rewind(gm_session *s, size_t n);

/* Makes dst continue from the first n positions of src; returns the length reached or an error. */
int64_t gm_session_fork(gm_session *dst, const gm_session *src, size_t n);
