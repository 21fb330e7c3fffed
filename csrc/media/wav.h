/* wav.h: WAV (PCM 8 to 32 bit, float 32 and 64, extensible, RF64), to samples.
 *
 * Read here and not by FFmpeg, so that a user without it can record and ask. Thread: any.
 */
#pragma once

#include "base/cancel.h"
#include "media/audio.h"

/* Whether a file that begins with these bytes is a WAV; the first 12 tell. */
bool gm_is_wav(const uint8_t *p, size_t n);

/* p: [n] a whole file, which gm_is_wav. The mean of the channels at 16 kHz; out->v is the caller's
 * to free. GM_EUNSUPPORTED: a kind that FFmpeg may know. */
int gm_wav_decode(const uint8_t *p, size_t n, gm_samples *out, const gm_cancel *cancel, char *err,
                  size_t errlen);
