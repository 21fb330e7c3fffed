/* test_without_ffmpeg.c: where FFmpeg's libraries are missing, everything that needs them gets the
 * line that names the packages, and PNG and WAV are read all the same.
 *
 * dlopen is replaced by one that finds none of FFmpeg's, so that this is tested where they are
 * installed, too.
 */
#include "helper/cm.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/avlib.h"
#include "media/decode.h"
#include "media/inflate.h"

static int n_refused;

void *dlopen(const char *name, int mode) {
    void *(*real)(const char *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "dlopen");
    const bool of_ffmpeg = name && (strstr(name, "av") || strstr(name, "swscale"));
    n_refused += of_ffmpeg;
    return of_ffmpeg ? NULL : real(name, mode);
}

static void assert_names_packages(int rc, const char *err) {
    assert_int_equal(rc, GM_EUNSUPPORTED);
    assert_non_null(strstr(err, "install ffmpeg"));
    assert_null(strchr(err, '\n'));
}

static void the_message_names_packages(void **state) {
    (void)state;
    char err[256] = "";
    assert_names_packages(gm_avlib_load(err, sizeof err), err);
    assert_string_equal(gm_decode_missing(), err);
    assert_true(n_refused > 0);
}

static void pictures_of_other_kinds_need_it(void **state) {
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } heads[] = {{"\xff\xd8\xff", 3},
                 {"RIFF    WEBP", 12},
                 {"BM", 2},
                 {"II*", 4},
                 {"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2", 25}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        gm_image img;
        char err[256] = "";
        assert_names_packages(
            gm_decode_picture((const uint8_t *)heads[i].p, heads[i].n, &img, NULL, err, sizeof err),
            err);
        assert_null(img.rgb);
    }
}

static int see_frame(void *ud, double seconds, const gm_image *img, char *err, size_t errlen) {
    (void)ud, (void)seconds, (void)img, (void)err, (void)errlen;
    fail();
    return 0;
}

static void tracks_and_compressed_wav_need_it(void **state) {
    (void)state;
    static const char *const files[] = {"tests/fuzz/media/adpcm.wav", "tests/fuzz/media/cut.mp4"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        gm_samples s;
        gm_video *v = NULL;
        char err[256] = "";
        if (access(files[i], R_OK) != 0) skip();
        assert_names_packages(gm_decode_sound(files[i], &s, NULL, err, sizeof err), err);
        assert_null(s.v);
        err[0] = '\0';
        assert_names_packages(
            gm_avlib_video(&v, files[i], 2, see_frame, NULL, NULL, err, sizeof err), err);
        assert_null(v);
    }
}

static void png_needs_none(void **state) {
    (void)state;
    static const char photo[] = "tests/golden/sets/nano/media/photo.png";
    if (access(photo, R_OK) != 0 || !gm_inflate_available()) skip();
    gm_image img;
    char err[256] = "";
    if (gm_decode_image(photo, &img, NULL, err, sizeof err) != 0) fail_msg("%s", err);
    assert_true(img.w > 0 && img.h > 0 && img.rgb);
    gm_free(img.rgb);
}

static void wav_needs_none(void **state) {
    (void)state;
    static const char tones[] = "tests/golden/sets/nano/media/tones.wav";
    if (access(tones, R_OK) != 0) skip();
    gm_samples s;
    char err[256] = "";
    if (gm_decode_sound(tones, &s, NULL, err, sizeof err) != 0) fail_msg("%s", err);
    assert_true(s.n > GM_SAMPLE_RATE); /* more than a second */
    gm_free(s.v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_message_names_packages),
        cmocka_unit_test(pictures_of_other_kinds_need_it),
        cmocka_unit_test(tracks_and_compressed_wav_need_it),
        cmocka_unit_test(png_needs_none),
        cmocka_unit_test(wav_needs_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
