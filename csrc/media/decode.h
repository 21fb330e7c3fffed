/* decode.h: files that users have, to pixels or samples.
 *
 * WAV is read by wav.c, PNG by png.c. Everything else is decoded by FFmpeg's libraries, which are
 * looked up at run time (avlib.h); without them the message says what to install. Limits hold
 * before anything is decoded. A malformed file is an error text, never more. Thread: the worker;
 * blocks on the disk.
 */
#pragma once

#include "base/cancel.h"
#include "media/audio.h"
#include "media/vision.h"

enum {
    GM_MEDIA_MAX_MIB = 512,     /* of a file */
    GM_IMAGE_MAX_MPIXEL = 128,  /* width x height / 2^20 */
    GM_SOUND_MAX_SECONDS = 600, /* longer recordings are refused, not cut */
    GM_VIDEO_MAX_SECONDS = 300,
    GM_VIDEO_MAX_MPIXEL = 16,
    GM_VIDEO_FRAMES = 32, /* that the model sees */
    GM_VIDEO_IMAGE_TOKENS = 70,
    GM_VIDEO_SOUND_SECONDS = 30 /* of the sound track, from its beginning */
};

/* NULL, or the line that says what to install for what needs FFmpeg; static. Any thread. */
const char *gm_decode_missing(void);

/* GM_ETOOLONG with a line for the user when a picture has more pixels than are read, or none. */
int gm_image_check(int32_t w, int32_t h, char *err, size_t errlen);

/* PNG, JPEG, WebP, GIF (first frame), BMP, TIFF; turned upright by EXIF. Alpha is dropped, not
 * blended, as the model's own preprocessing does. */
int gm_decode_image(const char *path, gm_image *out, const gm_cancel *cancel, char *err,
                    size_t errlen);

/* The same from memory. */
int gm_decode_picture(const uint8_t *p, size_t n, gm_image *out, const gm_cancel *cancel, char *err,
                      size_t errlen);

/* WAV, FLAC, Ogg, Opus, MP3, M4A and the first sound track of MP4, WebM and Matroska files: the
 * mean of the channels, at 16 kHz, resampled without delay. */
int gm_decode_sound(const char *path, gm_samples *out, const gm_cancel *cancel, char *err,
                    size_t errlen);

/* The sound track of a video, no more than GM_VIDEO_SOUND_SECONDS. GM_ENOENT: it has none. */
int gm_decode_track(const char *path, gm_samples *out, const gm_cancel *cancel, char *err,
                    size_t errlen);
