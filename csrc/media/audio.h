/* audio.h: samples to decoder rows, one row per 40 ms. */
#pragma once

#include "media/projector.h"

enum { GM_SAMPLE_RATE = 16000, GM_SOUND_MIN_RATE = 1000, GM_SOUND_MAX_RATE = 192000 };

/* Mono, 16 kHz, nominally -1..1. */
typedef struct {
    float *v; /* owned; gm_free */
    size_t n;
} gm_samples;

/* Float files may hold anything; one NaN in the cache of a session would silence what comes after
 * it. */
static inline float gm_sample_sane(float v) { return v > -1e30f && v < 1e30f ? v : 0.0f; }

/* Soft tokens of n samples: the last frame is filled with silence. */
static inline size_t gm_audio_rows(size_t n) { return n / GM_FRAME + (n % GM_FRAME != 0); }

/* The sound as rows: *out is [*n_row, n_embd], to be freed with gm_free. An empty sound is
 * refused. */
int gm_audio_embed(gm_projector *p, const gm_samples *s, int32_t n_embd, const gm_cancel *cancel,
                   float **out, int32_t *n_row, char *err, size_t errlen);

/* The same into memory of the caller: out: [gm_audio_rows(s->n), n_embd]. */
int gm_audio_embed_into(gm_projector *p, const gm_samples *s, int32_t n_embd,
                        const gm_cancel *cancel, float *out, char *err, size_t errlen);
