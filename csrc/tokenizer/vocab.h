/* vocab.h: pieces, types, merges and special ids of a model's vocabulary.
 *
 * Built once from the file's metadata; immutable afterwards, so any thread may use it. Pieces
 * are borrowed from the file, which must stay open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "format/gguf.h"

typedef enum {
    GM_TOK_NORMAL = 1,
    GM_TOK_UNKNOWN = 2,
    GM_TOK_CONTROL = 3,
    GM_TOK_USER_DEFINED = 4,
    GM_TOK_UNUSED = 5,
    GM_TOK_BYTE = 6
} gm_tok_type;

typedef struct gm_vocab gm_vocab;

/* Ids of the tokens that the chat format needs, found by their texts; -1 when missing. */
typedef struct {
    int32_t bos, eos, unk;
    int32_t turn_begin, turn_end;       /* <|turn> <turn|> */
    int32_t think;                      /* <|think|> */
    int32_t channel_begin, channel_end; /* <|channel> <channel|> */
    int32_t tool_response;              /* <|tool_response> */
    int32_t image_begin, image, image_end;
    int32_t audio_begin, audio, audio_end;
    int32_t video;
} gm_special_ids;

int gm_vocab_create(gm_vocab **out, const gm_gguf *g, char *err, size_t errlen);
void gm_vocab_destroy(gm_vocab **v);

int32_t gm_vocab_size(const gm_vocab *v);
const gm_special_ids *gm_vocab_special(const gm_vocab *v);

/* The piece as stored (U+2581 for a space, "<0x41>" for a byte); empty for a bad id. */
gm_str gm_vocab_piece(const gm_vocab *v, int32_t id);
gm_tok_type gm_vocab_type(const gm_vocab *v, int32_t id);

/* The id whose stored text is exactly s, or -1. */
int32_t gm_vocab_find(const gm_vocab *v, gm_str s);

/* End of generation: eos, <turn|>, <|tool_response> and what the file names as such. */
bool gm_vocab_is_eog(const gm_vocab *v, int32_t id);

/* Tokens that must never be sampled, ascending; from the file, else the defaults of the model
 * family (<audio|>, <image|>). *n is their count. */
const int32_t *gm_vocab_suppressed(const gm_vocab *v, size_t *n);

/* The bytes that token id stands for in text: U+2581 becomes a space, a byte token its byte.
 * Control tokens give their text when `control` is set, else nothing. Writes at most cap bytes
 * to dst and returns the full length. */
size_t gm_vocab_bytes(const gm_vocab *v, int32_t id, bool control, char *dst, size_t cap);

/* The first special token whose text occurs in text[n] at or after `from`: leftmost, then longest.
 * Its id, with *at its place and *len its length in bytes; -1 when there is none. */
int32_t gm_vocab_next_special(const gm_vocab *v, const char *text, size_t n, size_t from,
                              size_t *at, size_t *len);
