/* test_hostile_media.c: broken files of every kind: an answer or one line, never more. The seeds
 * are the small files of tests/golden/pictures and tests/fuzz/media; the mutations are always the
 * same. */
#include "helper/cm.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "../../fuzz/media_input.h"
#include "helper/random.h"
#include "helper/tmp.h"

enum { MAX_SEED = 1 << 16, PICTURE_MUTATIONS = 130, TRACK_MUTATIONS = 160 };

static test_tmp tmp;
static int n_mutation;

static int begin(void **state) {
    (void)state;
    return tmp_begin(&tmp);
}

static int end(void **state) {
    (void)state;
    tmp_end(&tmp);
    return 0;
}

static void need_ffmpeg(void) {
    char err[256];
    if (gm_avlib_load(err, sizeof err) == 0) return;
    print_message("skipped: %s\n", err);
    skip();
}

/* One of: cut, bits, bytes, an extreme number, a piece of itself elsewhere. Returns the new
 * length. */
static size_t mutate(test_rng *r, uint8_t *p, size_t n) {
    static const uint32_t extreme[] = {0,          1,          0x7f,       0xff, 0xffff,
                                       0x7fffffff, 0x80000000, 0xffffffff, 60000};
    const uint64_t how = rng_below(r, 5);
    if (how == 0) return 1 + rng_below(r, n);
    const uint64_t times = 1 + rng_below(r, how == 4 ? 1 : 4);
    for (uint64_t i = 0; i < times; i++) {
        const size_t at = rng_below(r, 3) ? rng_below(r, n) : rng_below(r, n < 64 ? n : 64);
        if (how == 1) p[at] ^= (uint8_t)(1u << rng_below(r, 8));
        if (how == 2) p[at] = (uint8_t)rng_u64(r);
        if (how == 3) {
            const uint32_t v = extreme[rng_below(r, sizeof extreme / sizeof *extreme)];
            const bool big = rng_below(r, 2);
            for (size_t b = 0; b < 4 && at + b < n; b++)
                p[at + b] = (uint8_t)(v >> 8 * (big ? 3 - b : b));
        }
        if (how == 4) {
            const size_t from = rng_below(r, n), most = n - (at > from ? at : from);
            memmove(p + at, p + from, rng_below(r, most) + 1);
        }
    }
    return n;
}

static void mutate_file(const char *folder, const char *name, bool picture, int fd,
                        const char *path) {
    static uint8_t seed[MAX_SEED], bytes[MAX_SEED];
    char full[400];
    snprintf(full, sizeof full, "%s/%s", folder, name);
    FILE *f = fopen(full, "rb");
    assert_non_null(f);
    const size_t n = fread(seed, 1, sizeof seed, f);
    fclose(f);
    if (n == 0) return;
    test_rng r = {n};
    const int rounds = (picture ? PICTURE_MUTATIONS : TRACK_MUTATIONS) / (TEST_SANITIZED ? 4 : 1);
    for (int i = 0; i <= rounds; i++) {
        memcpy(bytes, seed, n);
        const size_t m = i ? mutate(&r, bytes, n) : n;
        if (picture) read_as_picture(bytes, m);
        else read_as_tracks(fd, path, bytes, m);
        n_mutation++;
    }
}

static void mutate_folder(const char *folder, bool picture) {
    DIR *d = opendir(folder);
    if (!d) skip();
    char path[512];
    snprintf(path, sizeof path, "%s", tmp_path(&tmp, "mutated"));
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && !strstr(e->d_name, ".txt") && !strstr(e->d_name, ".rgb"))
            mutate_file(folder, e->d_name, picture, fd, path);
    close(fd);
    closedir(d);
}

static void ten_thousand_broken_files_are_answers_or_errors(void **state) {
    (void)state;
    need_ffmpeg();
    mutate_folder("tests/golden/pictures", true);
    mutate_folder("tests/fuzz/media", false);
    print_message("%d files\n", n_mutation);
    assert_true(n_mutation >= (TEST_SANITIZED ? 2500 : 10000));
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    if (!TEST_SANITIZED) assert_true(use.ru_maxrss < 1400 << 10); /* KiB */
}

static int open_file(const char *name, const void *p, size_t n, char *err) {
    gm_image img;
    const char *path = tmp_path(&tmp, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
    const int rc = gm_decode_image(path, &img, NULL, err, 256);
    assert_null(img.rgb);
    check_message(rc, err);
    return rc;
}

static void what_is_no_picture_says_so_in_one_line(void **state) {
    (void)state;
    need_ffmpeg();
    char err[256];
    /* 60,000 x 60,000 pixels in 45 bytes */
    static const uint8_t bomb[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\2\0\0\0"
        "\x68\x9e\x5f\x2e\0\0\0\0IEND\xae\x42\x60\x82";
    assert_true(open_file("bomb.png", bomb, sizeof bomb - 1, err) < 0);
    assert_non_null(strstr(err, "too large"));
    assert_int_equal(open_file("text.png", "not a picture\n", 14, err), GM_EFORMAT);
    assert_non_null(strstr(err, "png, jpeg"));
    assert_int_equal(open_file("empty.png", "", 0, err), GM_EFORMAT);
    assert_non_null(strstr(err, "empty"));
    gm_image img;
    gm_samples s;
    gm_video *v = NULL;
    int n = 0;
    const char *fifo = tmp_path(&tmp, "fifo.png");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const char *paths[] = {fifo, tmp.dir, "/dev/zero", "/no/such/file.png", ""};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int rc = gm_decode_image(paths[i], &img, NULL, err, sizeof err);
        assert_true(rc < 0);
        check_message(rc, err);
        rc = gm_decode_sound(paths[i], &s, NULL, err, sizeof err);
        assert_true(rc < 0);
        check_message(rc, err);
        rc = i < 1 ? rc : gm_avlib_video(&v, paths[i], 32, see_frame, &n, NULL, err, sizeof err);
        assert_true(rc < 0);
        check_message(rc, err);
    }
}

/* FFmpeg would read it, as noise. */
static void a_big_endian_wav_is_refused(void **state) {
    (void)state;
    char err[256];
    const char *path = tmp_path(&tmp, "rifx.wav");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite("RIFX\0\0\0\x28WAVEfmt ", 1, 16, f), 16);
    fclose(f);
    gm_samples s;
    assert_int_equal(gm_decode_sound(path, &s, NULL, err, sizeof err), GM_EUNSUPPORTED);
    assert_non_null(strstr(err, "RIFX"));
    check_message(GM_EUNSUPPORTED, err);
}

/* Half a megabyte of empty scans kept the decoder busy for twelve seconds, in which nothing could
 * be cancelled. */
static void a_jpeg_of_endless_scans_is_refused(void **state) {
    (void)state;
    need_ffmpeg();
    static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xff, 0, 0x55};
    enum { SCANS = 100000 };
    FILE *f = fopen("tests/golden/pictures/grey.jpg", "rb");
    if (!f) skip();
    uint8_t *jpeg = gm_malloc(4096 + SCANS * sizeof scan, 1);
    assert_non_null(jpeg);
    size_t n = fread(jpeg, 1, 4096, f) - 2; /* without its end */
    fclose(f);
    for (int i = 0; i < SCANS; i++, n += sizeof scan) memcpy(jpeg + n, scan, sizeof scan);
    char err[256] = "";
    gm_image img;
    assert_int_equal(gm_decode_picture(jpeg, n, &img, NULL, err, sizeof err), GM_EUNSUPPORTED);
    assert_non_null(strstr(err, "more than 128 scans"));
    check_message(GM_EUNSUPPORTED, err);
    gm_free(jpeg);
}

/* A TIFF of 2 x 2 pixels with one value each. */
static size_t put_tiff(uint8_t *p, uint16_t bits, uint16_t photometric, uint16_t sample_format) {
    const uint16_t tags[][2] = {{256, 2},
                                {257, 2},
                                {258, bits},
                                {259, 1},
                                {262, photometric},
                                {273, 134},
                                {277, 1},
                                {278, 2},
                                {279, (uint16_t)(bits / 2)},
                                {339, sample_format}};
    memset(p, 0, 134 + bits / 2);
    memcpy(p, "II*\0\x08\0\0\0\x0a", 9);
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        const uint16_t entry[] = {tags[i][0], 3, 1, 0, tags[i][1]}; /* one SHORT */
        memcpy(p + 10 + 12 * i, entry, sizeof entry);
    }
    return 134 + bits / 2;
}

/* FFmpeg says that it has read them, and makes black of tiles and negatives of these CMYKs. */
static void a_tiff_that_would_be_misread_is_refused(void **state) {
    (void)state;
    need_ffmpeg();
    /* Bits, photometric interpretation (5: CMYK), and the tag that is there instead of the sample
     * format: 284 is the planes' order, 322 the width of tiles. */
    static const uint16_t kinds[][4] = {
        {8, 1, 322, 16}, {16, 5, 284, 1}, {16, 5, 284, 2}, {8, 5, 284, 2}, {8, 1, 284, 1}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint8_t tiff[256];
        char err[256] = "";
        gm_image img;
        const size_t n = put_tiff(tiff, kinds[i][0], kinds[i][1], 1);
        memcpy(tiff + 10 + 12 * 9, &kinds[i][2], sizeof kinds[i][2]);
        memcpy(tiff + 18 + 12 * 9, &kinds[i][3], sizeof kinds[i][3]);
        const int rc = gm_decode_picture(tiff, n, &img, NULL, err, sizeof err);
        assert_int_equal(rc, i == 4 ? 0 : GM_EUNSUPPORTED);
        if (rc) assert_non_null(strstr(err, kinds[i][2] == 322 ? "in tiles" : "CMYK"));
        gm_free(img.rgb);
    }
}

/* They are whole, so they were not to be called damaged. */
static void a_tiff_of_an_unknown_kind_is_not_called_damaged(void **state) {
    (void)state;
    need_ffmpeg();
    /* Bits, photometric interpretation (8: CIELab), sample format (2: signed, 3: float). The first
     * one is known, for comparison; the last two were read as grey of 16 bits. */
    static const uint16_t kinds[][3] = {{8, 1, 1}, {32, 1, 1}, {32, 1, 3},
                                        {8, 8, 1}, {16, 1, 3}, {16, 1, 2}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint8_t tiff[256];
        char err[256] = "";
        gm_image img;
        const size_t n = put_tiff(tiff, kinds[i][0], kinds[i][1], kinds[i][2]);
        const int rc = gm_decode_picture(tiff, n, &img, NULL, err, sizeof err);
        assert_int_equal(rc, i == 0 ? 0 : GM_EUNSUPPORTED);
        check_message(rc, err);
        if (rc) assert_non_null(strstr(err, "save it as PNG"));
        gm_free(img.rgb);
    }
}

/* A file that grows without end, or is larger than the limit, is not read to its end. */
static void an_endless_file_is_refused(void **state) {
    (void)state;
    char err[256];
    gm_image img;
    gm_samples s;
    const char *path = tmp_path(&tmp, "endless.png");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)1 << 40), 0);
    fclose(f);
    assert_int_equal(gm_decode_image(path, &img, NULL, err, sizeof err), GM_ETOOLONG);
    assert_non_null(strstr(err, "larger than 512 MiB"));
    assert_int_equal(gm_decode_sound(path, &s, NULL, err, sizeof err), GM_ETOOLONG);
}

/* Without FFmpeg's libraries the message for each kind is the one line that names the packages. */
static void without_ffmpeg_the_message_names_packages(void **state) {
    (void)state;
    char err[256] = "";
    if (gm_avlib_load(err, sizeof err) == 0) skip();
    assert_non_null(strstr(err, "install ffmpeg"));
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
        assert_int_equal(
            gm_decode_picture((const uint8_t *)heads[i].p, heads[i].n, &img, NULL, err, sizeof err),
            GM_EUNSUPPORTED);
        assert_non_null(strstr(err, "install ffmpeg"));
    }
    gm_samples s;
    assert_int_equal(gm_decode_sound("tests/fuzz/media/adpcm.wav", &s, NULL, err, sizeof err),
                     GM_EUNSUPPORTED);
    assert_non_null(strstr(err, "install ffmpeg"));
    check_message(GM_EUNSUPPORTED, err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_broken_files_are_answers_or_errors),
        cmocka_unit_test(what_is_no_picture_says_so_in_one_line),
        cmocka_unit_test(a_big_endian_wav_is_refused),
        cmocka_unit_test(a_jpeg_of_endless_scans_is_refused),
        cmocka_unit_test(a_tiff_that_would_be_misread_is_refused),
        cmocka_unit_test(a_tiff_of_an_unknown_kind_is_not_called_damaged),
        cmocka_unit_test(an_endless_file_is_refused),
        cmocka_unit_test(without_ffmpeg_the_message_names_packages),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
