/* resample.h: to 16 kHz by a windowed sinc, centred: a sound keeps its place in time. */
#pragma once

#include "base/cancel.h"
#include "media/audio.h"

/* in: [n] mono at `rate` Hz (GM_SOUND_MIN_RATE .. GM_SOUND_MAX_RATE). out->v has ceil(n * 16000 /
 * rate) samples. 0, GM_EINVAL (rate), GM_ENOMEM or GM_ECANCELLED. */
int gm_resample(const float *in, size_t n, uint32_t rate, gm_samples *out, const gm_cancel *cancel);

/* The same for a sound that is still growing: each sample comes out as gm_resample on the whole
 * sound will make it. For one thread at a time. */
typedef struct gm_resampler gm_resampler;

int gm_resampler_create(gm_resampler **out, uint32_t rate);
void gm_resampler_destroy(gm_resampler **r);

/* How many output samples n inputs decide: those that later inputs cannot change, or, when the
 * sound has ended, all of them. */
size_t gm_resampler_ready(const gm_resampler *r, size_t n, bool ended);

/* Output samples from .. to - 1, of an input of which n samples are there. out: [to - from]. */
int gm_resampler_run(gm_resampler *r, const float *in, size_t n, size_t from, size_t to, float *out,
                     const gm_cancel *cancel);
