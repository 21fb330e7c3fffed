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
#include "helper/ffmpeg.h"
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
    const char *path = tmp_write(&tmp, name, p, n);
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
    /* 10,000 x 10,000 pixels of 64 bits */
    static const uint8_t deep[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x27\x10\0\0\x27\x10\x10\6\0\0\0"
        "\0\0\0\0\0\0\0\0IEND\xae\x42\x60\x82";
    assert_int_equal(open_file("deep.png", deep, sizeof deep - 1, err), GM_ETOOLONG);
    assert_non_null(strstr(err, "a picture of 10000 x 10000 x 64 bits is too large"));
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
    const char *path = tmp_write(&tmp, "rifx.wav", "RIFX\0\0\0\x28WAVEfmt ", 16);
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

/* ---- a small film of large pictures ---------------------------------------------------------- */

typedef struct {
    uint8_t *p;
    size_t n;
    uint32_t bits; /* of the byte under way, the first in the lowest place */
    int n_bit;
} bytes;

static void put(bytes *b, const void *p, size_t n) {
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put32(bytes *b, uint32_t v) {
    const uint8_t big[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    put(b, big, 4);
}

static void put_zeros(bytes *b, size_t n) {
    memset(b->p + b->n, 0, n);
    b->n += n;
}

/* A code of RFC 1951, its first bit first. */
static void put_code(bytes *b, uint32_t code, int n_bit) {
    while (n_bit-- > 0) {
        b->bits |= (code >> n_bit & 1) << b->n_bit;
        if (++b->n_bit < 8) continue;
        b->p[b->n++] = (uint8_t)b->bits;
        b->bits = 0;
        b->n_bit = 0;
    }
}

/* A black picture of w x h x 8 bits: 258 bytes of it in 13 bits. */
static void put_png(bytes *b, uint32_t w, uint32_t h) {
    put(b, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
    put32(b, w);
    put32(b, h);
    put(b, "\x8\0\0\0\0\0\0\0\0", 9); /* nobody looks at the sums */
    const size_t at = b->n;
    put(b, "\0\0\0\0IDAT\x78\x1", 10);
    put_code(b, 6, 3);    /* the last block, of fixed codes */
    put_code(b, 0x30, 8); /* 0 */
    uint64_t n = 1;
    for (; n < (uint64_t)(w + 1) * h; n += 258) put_code(b, 0xc5 << 5, 13);
    put_code(b, 0, 7 + (7 - (b->n_bit + 6) % 8)); /* the end, and the rest of a byte */
    put32(b, (uint32_t)(n % 65521) << 16 | 1);    /* Adler-32 */
    bytes length = {.p = b->p + at};
    put32(&length, (uint32_t)(b->n - at - 8));
    put(b, "\0\0\0\0\0\0\0\0IEND\0\0\0\0", 16);
}

/* Begins a box; end_box() writes its length. */
static size_t begin_box(bytes *b, const char *type) {
    put32(b, 0);
    put(b, type, 4);
    return b->n - 8;
}

static void end_box(bytes *b, size_t at) {
    bytes length = {.p = b->p + at};
    put32(&length, (uint32_t)(b->n - at));
}

static void put_box(bytes *b, const char *type, const uint32_t *words, size_t n) {
    const size_t at = begin_box(b, type);
    for (size_t i = 0; i < n; i++) put32(b, words[i]);
    end_box(b, at);
}

/* A track of one picture of `size` bytes at `from`, of which the header says 64 x 64. */
static void put_track(bytes *b, uint32_t id, uint32_t from, uint32_t size) {
    const size_t trak = begin_box(b, "trak");
    put_box(b, "tkhd", (uint32_t[21]){7, 0, 0, id, 0, 1000, [19] = 64 << 16, 64 << 16}, 21);
    const size_t mdia = begin_box(b, "mdia");
    put_box(b, "mdhd", (uint32_t[]){0, 0, 0, 1000, 1000, 0}, 6);
    put_box(b, "hdlr", (uint32_t[7]){0, 0x6d686c72, 0x76696465}, 7); /* mhlr, vide */
    const size_t minf = begin_box(b, "minf"), stbl = begin_box(b, "stbl"),
                 stsd = begin_box(b, "stsd");
    put32(b, 0);
    put32(b, 1);
    const size_t entry = begin_box(b, "png ");
    put(b, "\0\0\0\0\0\0\0\1", 8);
    put_zeros(b, 16);
    put32(b, 64 << 16 | 64);
    put_zeros(b, 12);
    put(b, "\0\1", 2);
    put_zeros(b, 32);
    put(b, "\0\x18\xff\xff", 4);
    end_box(b, entry);
    end_box(b, stsd);
    put_box(b, "stts", (uint32_t[]){0, 1, 1, 1000}, 4);
    put_box(b, "stsc", (uint32_t[]){0, 1, 1, 1, 1}, 5);
    put_box(b, "stsz", (uint32_t[]){0, 0, 1, size}, 4);
    put_box(b, "stco", (uint32_t[]){0, 1, from}, 3);
    end_box(b, stbl);
    end_box(b, minf);
    end_box(b, mdia);
    end_box(b, trak);
}

static const char *write_mov(uint32_t w, uint32_t h, uint32_t n_track) {
    bytes b = {.p = malloc((size_t)w * h / 150 + 4096 + n_track * 1024)};
    assert_non_null(b.p);
    put_box(&b, "ftyp", (uint32_t[]){0x71742020, 0, 0x71742020}, 3); /* qt */
    const size_t mdat = begin_box(&b, "mdat"), from = b.n;
    put_png(&b, w, h);
    const size_t size = b.n - from;
    end_box(&b, mdat);
    const size_t moov = begin_box(&b, "moov");
    put_box(&b, "mvhd", (uint32_t[25]){0, 0, 0, 1000, 1000, 0x10000, [24] = n_track + 1}, 25);
    for (uint32_t i = 1; i <= n_track; i++) put_track(&b, i, (uint32_t)from, (uint32_t)size);
    end_box(&b, moov);
    const char *path = tmp_write(&tmp, "film.mov", b.p, b.n);
    free(b.p);
    return path;
}

/* KiB of address space at most so far; 0 where the system does not say. */
static long peak(void) {
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmPeak: %ld", &kib) == 1) break;
    if (f) fclose(f);
    return kib;
}

static int film_error(uint32_t w, uint32_t h, uint32_t n_track, int *sound) {
    char err[256];
    gm_video *v = NULL;
    int n = 0;
    gm_samples s;
    const char *path = write_mov(w, h, n_track);
    const int rc = gm_avlib_video(&v, path, 32, see_frame, &n, NULL, err, sizeof err);
    if (rc) check_message(rc, err);
    *sound = gm_decode_sound(path, &s, NULL, err, sizeof err);
    check_message(*sound, err);
    return rc;
}

/* FFmpeg decodes pictures of each track to look into a file, before anybody else sees how large
 * they are; it did so for sound too. */
static void a_small_film_does_not_fill_the_memory(void **state) {
    (void)state;
    need_ffmpeg();
    int sound;
    assert_int_equal(film_error(640, 480, 1, &sound), 0);
    assert_int_equal(sound, GM_ENOENT);
    const long before = peak();
    assert_int_equal(film_error(20000, 8000, 1, &sound), GM_EFORMAT); /* 153 MiB in a megabyte */
    assert_int_equal(sound, GM_ENOENT);
    if (!TEST_SANITIZED) assert_true(peak() - before < 100 << 10);
    assert_int_equal(film_error(640, 480, 5, &sound), GM_EFORMAT);
    assert_int_equal(film_error(64, 64, 65, &sound), GM_EFORMAT);
    assert_int_equal(sound, GM_EFORMAT);
}

/* A file that grows without end, or is larger than the limit, is not read to its end. */
static void an_endless_file_is_refused(void **state) {
    (void)state;
    char err[256];
    gm_image img;
    gm_samples s;
    const char *path = tmp_write(&tmp, "endless.png", "", 0);
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    assert_int_equal(gm_decode_image(path, &img, NULL, err, sizeof err), GM_ETOOLONG);
    assert_non_null(strstr(err, "larger than 512 MiB"));
    assert_int_equal(gm_decode_sound(path, &s, NULL, err, sizeof err), GM_ETOOLONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_broken_files_are_answers_or_errors),
        cmocka_unit_test(what_is_no_picture_says_so_in_one_line),
        cmocka_unit_test(a_big_endian_wav_is_refused),
        cmocka_unit_test(a_jpeg_of_endless_scans_is_refused),
        cmocka_unit_test(a_tiff_that_would_be_misread_is_refused),
        cmocka_unit_test(a_tiff_of_an_unknown_kind_is_not_called_damaged),
        cmocka_unit_test(a_small_film_does_not_fill_the_memory),
        cmocka_unit_test(an_endless_file_is_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
