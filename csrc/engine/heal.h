/* heal.h: token healing: the prompt may end in the middle of a token.
 *
 * Somebody types "retur"; as tokens that is perhaps "ret" + "ur", after which the model has never
 * seen "n". So the last tokens of the prompt are taken back, and what is sampled instead must
 * agree with their bytes until these are used up:
 *
 *     prompt   ... | ret | ur |         typed so far
 *     kept     ...                      forced: "retur"
 *     sampled        | return |         agrees: begins with all that is forced; "n" is new text
 *
 * The index is built once per engine, at the first use, and is immutable then. A gm_heal belongs
 * to one job.
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"
#include "tokenizer/vocab.h"

typedef struct gm_heal_index gm_heal_index;

/* Takes some 5 MB and 0.1 s for a quarter of a million tokens. vocab is borrowed. */
int gm_heal_index_create(gm_heal_index **out, const gm_vocab *vocab);
void gm_heal_index_destroy(gm_heal_index **x);

typedef struct {
    const gm_heal_index *index;
    gm_bytes forced; /* bytes that sampled tokens must reproduce */
    size_t used;     /* of these, how many they have */
    uint32_t *mask;  /* [(n_vocab + 31) / 32], for gm_sampler_pick */
} gm_heal;

/* Takes tokens back from the end of ids[*n]: back to where a word begins, at least one and at most
 * a few, and only as long as they spell the end of tail, the text that the caller put there. What
 * comes before the tail stays, and so does at least one token. When there is nothing to heal,
 * *n stays as it is and h->forced is empty. 0 or GM_ENOMEM; *h is zeroed on failure. */
int gm_heal_init(gm_heal *h, const gm_heal_index *index, const int32_t *ids, size_t *n,
                 gm_str tail);
void gm_heal_finish(gm_heal *h);

static inline bool gm_heal_active(const gm_heal *h) { return h->used < h->forced.n; }

/* Mask of the tokens that agree with what is still forced; NULL when nothing is. */
const uint32_t *gm_heal_mask(gm_heal *h);

/* The token that was chosen. */
void gm_heal_accept(gm_heal *h, int32_t id);
