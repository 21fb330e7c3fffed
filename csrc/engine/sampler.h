/* sampler.h: from logits to one token.
 *
 * Owns the random state and scratch for the vocabulary. Borrows logits for the call. Does not
 * know the vocabulary's texts. Thread: belongs to its job, no locking inside.
 *
 * Order of the filters: mask and suppression, repetition penalty, top-k, top-p (over what top-k
 * left), min-p, and temperature last. So the filters judge the model's own distribution, and
 * temperature only changes how the draw spreads over the tokens that survived.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/ops.h"

typedef struct gm_sampler gm_sampler;

typedef struct {
    float temperature;    /* 0: greedy */
    int32_t top_k;        /* 0: off */
    float top_p;          /* 0 or 1: off */
    float min_p;          /* relative to the best token; 0: off */
    float repeat_penalty; /* 0 or 1: off; divides positive, multiplies negative logits */
    int32_t repeat_last;  /* tokens looked back at; 0: 64 */
    uint64_t seed;        /* same seed, same text */
} gm_sampler_opts;

/* On failure *out is NULL. */
int gm_sampler_create(gm_sampler **out, const gm_sampler_opts *opts, int32_t n_vocab);
void gm_sampler_destroy(gm_sampler **s);

/* Picks a token. logits: [n_vocab], overwritten. suppressed: ids that never come out. mask: one bit
 * per token (bit set: allowed), or NULL; a mask without any allowed token counts as none. Greedy:
 * highest logit, lowest id on a tie. *logprob (may be NULL): natural log of the token's softmax
 * probability at temperature 1 before any filter. NaN logits count as lowest. Never allocates. */
int32_t gm_sampler_pick(gm_sampler *s, float *logits, int32_t n_vocab, const int32_t *suppressed,
                        size_t n_suppressed, const uint32_t *mask, float *logprob);

/* Whether the best logits can be enough at all. */
bool gm_sampler_takes_top(const gm_sampler *s);

/* The same choice from the best of a row, if it can be made from them: *id and the random state are
 * then exactly what gm_sampler_pick would have made of the row, *logprob is that up to rounding.
 * False: it takes the whole row, and nothing has changed. */
bool gm_sampler_pick_top(gm_sampler *s, const gm_top *top, int32_t n_vocab,
                         const int32_t *suppressed, size_t n_suppressed, const uint32_t *mask,
                         int32_t *id, float *logprob);

/* Tells the repetition penalty what came before. */
void gm_sampler_accept(gm_sampler *s, int32_t id);
