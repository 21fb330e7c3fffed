/* sound.h: a sound that is being recorded: bytes come in on one thread, rows go out on another.
 *
 * The recording thread appends; the worker turns what a job saw of it into rows, each row once,
 * while the recording goes on. The bytes lie in blocks that never move, and a view says how many of
 * them a job may read, so neither side waits for the other.
 *
 * References are counted: the owner has one, every job with a view one more. Threads: create,
 * append, end, view by the owner's; rows by the worker's; release by any.
 */
#pragma once

#include "engine/engine.h"

/* What the model was trained for; a longer recording is given in pieces. */
enum { GM_SOUND_SECONDS = 30, GM_SOUND_MAX_CHANNELS = 8 };

typedef struct gm_sound gm_sound;

/* What of a sound was there at one moment. */
typedef struct gm_sound_view {
    gm_sound *sound; /* a reference; NULL: none */
    size_t n_frame;  /* samples per channel */
    bool ended;
} gm_sound_view;

/* rate in Hz, GM_SOUND_MIN_RATE .. GM_SOUND_MAX_RATE. Samples are signed 16-bit little-endian,
 * channels interleaved. */
int gm_sound_create(gm_sound **out, uint32_t rate, uint32_t channels, char *err, size_t errlen);
void gm_sound_release(gm_sound **s);

/* Any number of bytes, also half a sample. GM_ETOOLONG when the sound is full (what fits was
 * taken), GM_EINVAL after the end, GM_ENOMEM (nothing was taken). */
int gm_sound_append(gm_sound *s, const void *p, size_t n);
void gm_sound_end(gm_sound *s);

gm_sound_view gm_sound_look(gm_sound *s); /* takes a reference */
void gm_sound_view_finish(gm_sound_view *v);

/* Rows that the view decides: all of an ended sound, else the complete frames that later samples
 * cannot change. *rows is a reference whose first *n rows are valid; NULL and 0 when there are none
 * yet. */
struct gm_rows;
int gm_sound_rows(const gm_sound_view *v, gm_engine *e, struct gm_rows **rows, int32_t *n,
                  const gm_cancel *cancel, char *err, size_t errlen);
