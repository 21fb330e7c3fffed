/* ffmpeg.h: what tests do where FFmpeg's libraries are missing. */
#pragma once

#include "helper/cm.h"
#include "media/avlib.h"

/* Skips the running test with the library's own message. */
static inline void need_ffmpeg(void) {
    char err[256];
    if (gm_avlib_load(err, sizeof err) == 0) return;
    print_message("skipped: %s\n", err);
    skip();
}
