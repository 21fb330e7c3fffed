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
    size_t start; /* index of its first row among the positions */
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
 * positions are kept. The last position is computed again, so that its logits exist, unless the
 * session stands at exactly this prompt and nobody has asked for its logits since they were
 * computed (a warmed prompt). A cut never goes through a bidirectional run: its rows depend on
 * one another. GM_ETOOLONG when the prompt does not fit n_ctx or a bidirectional run does not fit
 * a chunk, GM_EINVAL when it is empty or inconsistent; then the session is as before, without a
 * sync under way. */
int gm_session_begin(gm_session *s, const gm_prompt *prompt, size_t *reused, char *err,
                     size_t errlen);

/* Computes at most max_tok further positions (0: as many as a chunk holds; media runs stay
 * whole). Returns how many positions are left, or an error; after an error the session is as
 * before the step and the step may be repeated. */
int64_t gm_session_step(gm_session *s, size_t max_tok);

/* One token more, after a finished sync. GM_ETOOLONG at the end of the context. On any error the
 * positions are as before and the call may be repeated; but the logits are gone once the pass has
 * begun, so that what was a warmed prompt computes its last position again. */
int gm_session_append(gm_session *s, int32_t id);

/* The same, but where a device can, only the best logits come from it (gm_session_top), which are
 * enough for most choices. Elsewhere it is gm_session_append. */
int gm_session_append_top(gm_session *s, int32_t id);

/* The best logits after the last position: owned by the session, valid until the next step; NULL
 * unless gm_session_append_top left them. */
const gm_top *gm_session_top(const gm_session *s);

/* Brings the row that gm_session_top is of, so that gm_session_logits has it; 0 at once where that
 * is so already. Only before the engine computes something else: GM_EINVAL then. */
int gm_session_fetch(gm_session *s);

/* n tokens more in one step, with the logits after each of them: what checking a draft needs.
 * n is at most gm_session_chunk; logits: [n, n_vocab], the caller's. Rejected tokens are taken
 * back with gm_session_rewind. */
int gm_session_append_many(gm_session *s, const int32_t *ids, size_t n, float *logits);

/* Logits after the last position: [n_vocab], owned by the session, valid until the next step; the
 * sampler may overwrite them. NULL while a sync is unfinished, and after gm_session_append_top
 * until gm_session_fetch. */
float *gm_session_logits(gm_session *s);

size_t gm_session_len(const gm_session *s);
size_t gm_session_media_rows(const gm_session *s); /* rows computed since creation */
size_t gm_session_chunk(const gm_session *s);      /* most positions in one step */
uint64_t gm_session_bytes(const gm_session *s);    /* reserved for the cache */

/* Logits in the middle of a prompt, for tools. While a tap is set, each step hands the rows of
 * those positions that it computes to fn, in order; an error from fn ends the step (which has
 * then been done). Costs n_vocab floats for every tapped position of a chunk. */
typedef struct {
    const size_t *pos; /* [n], ascending; borrowed while the tap is set */
    size_t n;
    int (*fn)(void *ud, size_t pos, const float *logits);
    void *ud;
} gm_logits_tap;

void gm_session_set_tap(gm_session *s, const gm_logits_tap *tap); /* NULL: none; copied */

/* Longest common prefix of the cache and a prompt, in positions. */
size_t gm_session_common(const gm_session *s, const gm_prompt *prompt);

/* How many positions of prompt this session could keep, or give to a fork: the common prefix, less
 * what the rules of gm_session_begin and the sliding window take away. */
size_t gm_session_reusable(const gm_session *s, const gm_prompt *prompt);

/* Cuts back to n positions (n <= len); returns the length reached: n, or 0 when the sliding
 * window of that point is gone. */
size_t gm_session_rewind(gm_session *s, size_t n);

/* Makes dst continue from the first n positions of src; returns the length reached or an error. */
int64_t gm_session_fork(gm_session *dst, const gm_session *src, size_t n);
