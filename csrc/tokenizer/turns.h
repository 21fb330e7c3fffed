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
#include "base/cancel.h"
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
    GM_PART_VIDEO, /* pictures with the times they were taken at, then the sound track as AUDIO */
} gm_part_kind;

enum { GM_TURNS_MAX_FRAMES = 32 };

/* What a video has become. */
typedef struct {
    uint32_t n_frame;
    uint32_t n_row[GM_TURNS_MAX_FRAMES];   /* of each picture */
    uint32_t seconds[GM_TURNS_MAX_FRAMES]; /* from the beginning, rounded down */
    uint32_t n_sound;                      /* rows of the sound track; 0: none */
} gm_video_layout;

struct gm_sound_view;

typedef struct {
    gm_part_kind kind;
    gm_str text;    /* TEXT, MARKUP */
    uint32_t n_row; /* media but VIDEO: soft tokens */
    bool open;      /* SOUND: more rows will follow, so the prompt ends behind the rows there are */
    const struct gm_sound_view *sound; /* SOUND: for whoever counts the rows; not read here */
    const gm_video_layout *video;      /* VIDEO */
} gm_part;

typedef struct {
    bool think; /* thinking on: <|think|> in the system turn, no empty thought at the end */
    const gm_cancel *cancel; /* or NULL */
} gm_turns_opts;

/* Where rows of a media part came to stand: one run, or for a video one for each picture and one
 * for the sound. */
typedef struct {
    size_t part;  /* index in the list of parts */
    size_t start; /* index of its first soft token in out */
    size_t n_row;
} gm_media_span;

/* Whether soft tokens stand for it. */
bool gm_part_is_media(const gm_part *p);

/* Runs of rows that a part makes. */
size_t gm_part_runs(const gm_part *p);

/* Appends to out. spans (may be NULL when no media part is given) has room for gm_part_runs of all
 * parts; those in front of an open sound are filled in, in order. 0, GM_ENOMEM, GM_ECANCELLED,
 * GM_EINVAL (contents before the first role in a list with roles), or GM_EUNSUPPORTED when the
 * vocabulary lacks the tokens of the format. */
int gm_turns_encode(const gm_vocab *v, const gm_part *parts, size_t n_part,
                    const gm_turns_opts *opts, gm_ids *out, gm_media_span *spans, char *err,
                    size_t errlen);
