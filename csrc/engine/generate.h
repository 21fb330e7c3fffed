/* generate.h: one answer, as a machine of small steps.
 *
 * Prefill in chunks, then token by token: sampling, detokenising, stop strings, token healing. A
 * step that fails with GM_ECANCELLED may be repeated, so a scheduler can interrupt an answer at
 * any point and take it up again later. Borrows the session, in which nothing else may happen
 * until the answer is done or given up. Thread: the worker.
 */
#pragma once

#include "engine/channel.h"
#include "engine/heal.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/stop.h"
#include "tokenizer/detok.h"

/* Values as GEMMA_STOP_* of api/gemma.h. */
typedef enum {
    GM_STOP_NONE,
    GM_STOP_EOG,
    GM_STOP_LENGTH,
    GM_STOP_STRING,
    GM_STOP_CONTEXT
} gm_stop_reason;

typedef struct {
    gm_sampler_opts sampling;
    int32_t max_tokens; /* 0: prefill only */
    bool ignore_eog;
    bool thoughts;       /* thoughts apart from the text, without their marks; else as written */
    const gm_str *stops; /* [n_stop]; copied */
    size_t n_stop;
    const gm_heal_index *heal; /* NULL: no healing */
    gm_str tail; /* with heal: the text at the very end of the prompt; borrowed for the call */
} gm_gen_opts;

typedef struct {
    gm_session *session;
    const gm_vocab *vocab;
    gm_sampler *sampler;
    gm_detok detok;
    bool thoughts;
    gm_channel channel;
    gm_stop stop;
    gm_heal heal;
    int32_t max_tokens;
    bool ignore_eog;
    int32_t pending; /* sampled, but not yet in the session; -1: none */

    /* For callers to read. Tokens that healing only puts back are not counted. */
    bool prefilling;
    gm_stop_reason stop_reason; /* GM_STOP_NONE while there is more to do, and after prefill only */
    size_t n_prompt, n_reused, n_left; /* positions */
    size_t n_media;                    /* media rows computed */
    gm_ids tokens;                     /* all that was sampled, an end token excepted */
    uint32_t n_generated;
    gm_bytes text;                /* what the last step added; not terminated */
    gm_bytes thought;             /* the same of thoughts; stop strings do not apply to them */
    float logprob;                /* of the last token */
    double logprob_sum;           /* over n_generated */
    double prefill_ms, decode_ms; /* spent in steps */
} gm_gen;

/* Compares the prompt with the session and cuts it back; computes nothing yet. Media rows of the
 * prompt are borrowed until prefilling is false. On failure *g is zeroed. */
int gm_gen_init(gm_gen *g, gm_session *s, const gm_vocab *vocab, const gm_prompt *prompt,
                const gm_gen_opts *opts, char *err, size_t errlen);
void gm_gen_finish(gm_gen *g);

/* One chunk of at most max_tok positions (0: as many as a chunk holds), or one token. 1 while there
 * is more to do, 0 when the answer is complete, or an error; GM_EFORMAT when no logit is a
 * number. */
int gm_gen_step(gm_gen *g, size_t max_tok);

/* What to tell a user of a step's error. */
const char *gm_gen_err_text(int code);
