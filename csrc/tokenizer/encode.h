/* encode.h: text to token ids, exactly as the model was trained: special tokens cut out first
 * (only when asked), space to U+2581, byte-pair merging by rank over whole lines, bytes for
 * characters that have no token.
 *
 * Time is O(n log n) in the worst case, also for one line of megabytes.
 */
#pragma once

#include <stddef.h>
#include "base/buf.h"
#include "base/cancel.h"
#include "tokenizer/vocab.h"

enum {
    GM_ENC_SPECIAL = 1, /* texts of special tokens become these tokens (markup we wrote) */
    GM_ENC_BOS = 2,     /* put <bos> in front, unless the text begins with it already */
};

/* Appends the ids of text[n] (any bytes; invalid UTF-8 becomes byte tokens) to out. Without
 * GM_ENC_SPECIAL no special token can come out, whatever the text is.
 * 0; GM_ENOMEM or GM_ECANCELLED (cancel may be NULL) with out as it was. */
int gm_encode(const gm_vocab *v, const char *text, size_t n, unsigned flags,
              const gm_cancel *cancel, gm_ids *out);
