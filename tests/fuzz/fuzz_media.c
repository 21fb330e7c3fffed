/* fuzz_media.c: any bytes as a picture, or else as a sound and as a video. Seeds are the small
 * files of tests/golden/pictures and tests/fuzz/media. Without FFmpeg's libraries only WAV is read.
 */
#include <stdio.h>

#include "media_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("media", MFD_CLOEXEC);
        FUZZ_CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (size == 0) return 0;
    const int rc = read_as_picture(data, size);
    if (rc == GM_EFORMAT || rc == GM_EUNSUPPORTED) read_as_tracks(fd, path, data, size);
    return 0;
}

void fuzz_seeds(void) {}
