/* avlib.h: FFmpeg's libraries, found at run time.
 *
 * No header of theirs is used, so one build serves several of their major versions. Only
 * functions, AVOptions and the struct fields whose places avlib.c lists are touched. Private to
 * media/.
 */
#pragma once

#include "base/cancel.h"
#include "media/audio.h"
#include "media/vision.h"

/* A picture of a video, seconds after its beginning. An error ends the reading. */
typedef int (*gm_frame_fn)(void *ud, double seconds, const gm_image *img, char *err, size_t errlen);

/* 0, or GM_EUNSUPPORTED with a message that names what to install. Cached; any thread. The message
 * alone is gm_decode_missing's (decode.h). */
int gm_avlib_load(char *err, size_t errlen);

/* One still picture from the bytes of a file. codec: FFmpeg's name of the decoder. Cancelled, it
 * may return 0 and a part of the picture: who asked asks cancel. */
int gm_avlib_image(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                   const gm_cancel *cancel, char *err, size_t errlen);

/* Mono samples of the first sound stream of a local file, at the file's own rate; nothing is read
 * beyond so many seconds. GM_ENOENT when there is no such stream. */
int gm_avlib_sound(const char *path, double seconds, gm_samples *out, uint32_t *rate,
                   const gm_cancel *cancel, char *err, size_t errlen);

/* At most n pictures of the first video stream, evenly spread over it: number k is frame
 * k * frames / n, or each frame when there are fewer. *v is NULL at first and in the end; after
 * GM_ECANCELLED, which fn may return for a picture that it did not take, it is where the same call
 * goes on. */
typedef struct gm_video gm_video;
int gm_avlib_video(gm_video **v, const char *path, int32_t n, gm_frame_fn fn, void *ud,
                   const gm_cancel *cancel, char *err, size_t errlen);
void gm_avlib_video_close(gm_video **v);
