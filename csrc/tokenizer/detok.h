/* detok.h: token ids to a stream of UTF-8 that never ends in the middle of a character.
 *
 * Byte tokens can split a character over several tokens; such bytes are held back until the
 * character is complete. Bytes that cannot become a character any more come out as U+FFFD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "tokenizer/vocab.h"

typedef struct {
    const gm_vocab *vocab; /* borrowed */
    bool control;          /* write control tokens as their text */
    unsigned char held[4]; /* bytes of an unfinished character */
    unsigned n_held;
} gm_detok;

void gm_detok_init(gm_detok *d, const gm_vocab *v, bool control);

/* Appends what token id adds to the text. 0 or GM_ENOMEM. */
int gm_detok_push(gm_detok *d, int32_t id, gm_bytes *out);

/* End of the text: appends what is still held (as U+FFFD). */
int gm_detok_flush(gm_detok *d, gm_bytes *out);

/* All bytes of ids as they are, nothing repaired: gm_encode's inverse, byte for byte, for
 * text without U+2581. */
int gm_detok_raw(const gm_vocab *v, const int32_t *ids, size_t n, bool control, gm_bytes *out);
