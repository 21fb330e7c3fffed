/* resample.h: to 16 kHz by a windowed sinc, centred: a sound keeps its place in time. */
#pragma once

#include "base/cancel.h"
#include "media/audio.h"

/* in: [n] mono at `rate` Hz (1000 .. 768000). out->v has ceil(n * 16000 / rate) samples. 0,
 * GM_EINVAL (rate), GM_ENOMEM or GM_ECANCELLED. */
int gm_resample(const float *in, size_t n, uint32_t rate, gm_samples *out, const gm_cancel *cancel);
