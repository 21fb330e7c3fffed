/* turns.h: a conversation to token ids, in the model's own chat format.
 *
 * The caller gives a list of parts. A role part opens a turn and closes the one before it;
 * the parts after it are its contents. Text parts are user text and can never make a control
 * token. A list without any role part is raw: <bos> and the contents, nothing else.
 *
 * When the last role is USER (or SYSTEM), the model's turn is opened at the end, with an empty
 * thought unless opts.think. When the last role is MODEL, that turn stays open: its text is
 * already in the model's mouth, is not trimmed, and generation continues it. Everything else
 * (trimming, dropped thoughts of earlier answers, <|think|>) is as in the published template;
 * see the rules in the C file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "tokenizer/vocab.h"

typedef enum {
    GM_PART_TEXT,   /* text of a user or of a buffer; no control tokens come out of it */
    GM_PART_MARKUP, /* text written by us; control tokens in it are parsed */
    GM_PART_SYSTEM, /* opens a turn; text.p unused */
    GM_PART_USER,
    GM_PART_MODEL,
    GM_PART_IMAGE, /* placeholder: begin token, n_rows soft tokens, end token */
    GM_PART_AUDIO,
    GM_PART_SOUND, /* as AUDIO, of a sound that may still be growing */
} gm_part_kind;

struct gm_sound_view;


typedef struct {
    gm_part_kind kind;
    gm_str text;    /* TEXT, MARKUP */
    uint32_t n_row; /* media: soft tokens */
    bool open;      /* SOUND: more rows will follow, so the prompt ends behind the rows there are */
    const struct gm_sound_view *sound; /* SOUND: for whoever counts the rows; not read here */
} gm_part;

typedef struct {
    bool think; /* thinking on: <|think|> in the system turn, no empty thought at the end */
} gm_turns_opts;

/* Where a media part's rows came to stand. */
typedef struct {
    size_t part;  /* index in the list of parts */
    size_t start; /* index of its first soft token in out */
    size_t n_row;
} gm_media_span;

/* Appends to out. spans (may be NULL when no media part is given) has room for one entry per
 * media part. 0, GM_ENOMEM, GM_EINVAL (contents before the first role in a list with roles), or
 * GM_EUNSUPPORTED when the vocabulary lacks the tokens of the format. */
int gm_turns_encode(const gm_vocab *v, const gm_part *parts, size_t n_part,
                    const gm_turns_opts *opts, gm_ids *out, gm_media_span *spans, char *err,
                    size_t errlen);
