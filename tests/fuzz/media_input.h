/* media_input.h: hands bytes to every reader of pictures, sounds and videos, and checks what they
 * promise. Used by the fuzz target and by the test with mutations of its own. */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"
#include "fuzz.h"
#include "media/avlib.h"
#include "media/decode.h"

/* An error is one line that says something. */
static inline void check_message(int rc, const char *err) {
    FUZZ_CHECK(rc <= 0);
    if (rc == 0) return;
    FUZZ_CHECK(strlen(err) > 5 && strlen(err) < 255);
    for (const char *p = err; *p; p++) FUZZ_CHECK((unsigned char)*p >= 0x20);
}

static inline int read_as_picture(const uint8_t *data, size_t size) {
    gm_image img;
    char err[256] = "";
    const int rc = gm_decode_picture(data, size, &img, NULL, err, sizeof err);
    check_message(rc, err);
    FUZZ_CHECK((rc == 0) == (img.rgb != NULL));
    if (rc != 0) return rc;
    FUZZ_CHECK(img.w > 0 && img.h > 0 &&
               (int64_t)img.w * img.h <= (int64_t)GM_IMAGE_MAX_MPIXEL << 20);
    volatile uint8_t last = img.rgb[(size_t)img.w * (size_t)img.h * 3 - 1]; /* all of it is there */
    (void)last;
    gm_free(img.rgb);
    return 0;
}

static inline int see_frame(void *ud, double seconds, const gm_image *img, char *err,
                            size_t errlen) {
    int *n = ud;
    (void)err;
    (void)errlen;
    FUZZ_CHECK(seconds >= 0 && seconds <= 3600.0 * 24 && ++*n <= GM_VIDEO_FRAMES);
    FUZZ_CHECK(img->w > 0 && img->h > 0);
    return 0;
}

/* Sounds and videos are read from files; fd is one to be written over. */
static inline void read_as_tracks(int fd, const char *path, const uint8_t *data, size_t size) {
    gm_samples s;
    gm_video *v = NULL;
    char err[256] = "";
    FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    int rc = gm_decode_sound(path, &s, NULL, err, sizeof err), n = 0;
    check_message(rc, err);
    FUZZ_CHECK(s.n <= (size_t)(GM_SOUND_MAX_SECONDS + 1) * GM_SAMPLE_RATE);
    gm_free(s.v);
    err[0] = '\0';
    rc = gm_avlib_video(&v, path, GM_VIDEO_FRAMES, see_frame, &n, NULL, err, sizeof err);
    check_message(rc, err);
}
