/* channel.h: which of a model's tokens are thoughts and which are its answer.
 *
 * A thought stands between the control tokens <|channel> and <channel|> and begins with the name
 * of its channel on a line of its own. Only the tokens decide: the same characters in a text are
 * text. Knows nothing of how the parts are shown. Thread: belongs to its job.
 */
#pragma once

#include <stdbool.h>
#include "tokenizer/vocab.h"

typedef struct {
    int32_t begin, end; /* ids of the two tokens; -1: the vocabulary has none */
    bool inside;        /* what comes now is thought */
    bool naming;        /* the line with the name is not over yet */
    size_t n_name;      /* bytes of it so far */
} gm_channel;

/* Begins where a prompt ends: inside when the model's turn was left open in a thought. */
void gm_channel_init(gm_channel *c, const gm_vocab *v, const int32_t *prompt, size_t n);

/* Takes a token; true when it is one of the two marks, which are no text themselves. As when old
 * thoughts are removed from a prompt, an end without a beginning and a beginning inside a thought
 * are passed over. */
bool gm_channel_mark(gm_channel *c, int32_t id);

/* What of a piece of a thought is not its channel's name. */
gm_str gm_channel_body(gm_channel *c, gm_str piece);
