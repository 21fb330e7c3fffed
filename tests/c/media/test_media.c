/* test_media.c: pictures and sounds against the golden files: resized pixels bit for bit, rows of
 * the embedders by relative error. Pictures but PNG need FFmpeg's libraries; without them that test
 * is skipped with the library's own message.
 */
#include "helper/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cpuid.h"
#include "base/err.h"
#include "base/mem.h"
#include "helper/compare.h"
#include "helper/ffmpeg.h"
#include "helper/random.h"
#include "kernels/backend.h"
#include "media/avlib.h"
#include "media/decode.h"
#include "media/resample.h"
#include "media/resize.h"
#include "media/turn.h"
#include "media/unfilter.h"
#include "media/wav.h"

enum { N_EMBD = 64 };
static char root[512]; /* the set "nano" */

static const char *in_set(const char *name) {
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static float *read_floats(const char *name, size_t *n) {
    FILE *f = fopen(in_set(name), "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f) / sizeof(float);
    rewind(f);
    float *v = malloc(*n * sizeof *v);
    assert_int_equal(fread(v, sizeof *v, *n, f), *n);
    fclose(f);
    return v;
}

typedef struct {
    gm_backend *b;
    gm_projector *p;
} setup_t;

static int setup(void **state) {
    static setup_t s;
    char err[256] = "";
    if (gm_backend_open(&s.b, "cpu", 1, err, sizeof err)) fail_msg("%s", err);
    if (gm_projector_open(&s.p, in_set("mmproj-BF16.gguf"), s.b, N_EMBD, err, sizeof err))
        fail_msg("%s", err);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    setup_t *s = *state;
    gm_projector_close(&s->p);
    gm_backend_close(&s->b);
    return 0;
}

static gm_image open_image(const char *name) {
    gm_image img;
    char err[256] = "";
    if (gm_decode_image(in_set(name), &img, NULL, err, sizeof err)) fail_msg("%s", err);
    return img;
}

static void resize_gives_the_reference_bytes(void **state) {
    (void)state;
    static const char *pairs[][2] = {{"media/photo.png", "media/photo.480x288.png"},
                                     {"media/tall.png", "media/tall.192x720.png"}};
    for (size_t i = 0; i < 2; i++) {
        gm_image a = open_image(pairs[i][0]), want = open_image(pairs[i][1]);
        const size_t n = (size_t)want.w * (size_t)want.h * 3;
        uint8_t *got = malloc(n);
        assert_int_equal(gm_resize_rgb(a.rgb, a.w, a.h, got, want.w, want.h, NULL), 0);
        assert_memory_equal(got, want.rgb, n);
        free(got);
        gm_free(a.rgb);
        gm_free(want.rgb);
    }
}

static int lose_device(gm_backend *b, const gm_be_limits *lim) {
    (void)b;
    (void)lim;
    return GM_EDEVICE;
}

/* Whatever went wrong was called a lack of memory. */
static void an_embedder_that_cannot_be_set_up_says_why(void **state) {
    (void)state;
    gm_backend *b;
    gm_projector *p;
    char err[256] = "";
    if (gm_backend_open(&b, "cpu", 1, err, sizeof err)) fail_msg("%s", err);
    const gm_backend_vtable *whole = b->vt;
    gm_backend_vtable broken = *whole;
    broken.reserve = lose_device;
    b->vt = &broken;
    assert_int_equal(gm_projector_open(&p, in_set("mmproj-BF16.gguf"), b, N_EMBD, err, sizeof err),
                     GM_EDEVICE);
    assert_string_equal(err, "mmproj: device failed");
    assert_null(p);
    b->vt = whole;
    gm_backend_close(&b);
}

/* Every kind of file, colour and orientation gives the bytes that the reference's reader sees
 * (tests/golden/pictures.py). */
static void pictures_of_every_kind_are_read_as_by_the_reference(void **state) {
    (void)state;
    need_ffmpeg();
    FILE *index = fopen("tests/golden/pictures/index.txt", "r");
    FILE *pixels = fopen("tests/golden/pictures/want.rgb", "rb");
    if (!index || !pixels) skip();
    char name[64], path[128], err[256];
    int w, h, tolerance, n = 0;
    while (fscanf(index, "%63s %d %d %d", name, &w, &h, &tolerance) == 4) {
        uint8_t want[64 * 64 * 3];
        gm_image img;
        const size_t bytes = (size_t)w * (size_t)h * 3;
        assert_true(bytes <= sizeof want && fread(want, 1, bytes, pixels) == bytes);
        snprintf(path, sizeof path, "tests/golden/pictures/%s", name);
        err[0] = '\0';
        if (gm_decode_image(path, &img, NULL, err, sizeof err)) fail_msg("%s: %s", name, err);
        assert_string_equal(err, ""); /* what is read says nothing */
        if (img.w != w || img.h != h)
            fail_msg("%s: %d x %d, want %d x %d", name, img.w, img.h, w, h);
        for (size_t i = 0; i < bytes; i++)
            if (abs(img.rgb[i] - want[i]) > tolerance)
                fail_msg("%s: byte %zu is %d, want %d", name, i, img.rgb[i], want[i]);
        gm_free(img.rgb);
        n++;
    }
    assert_true(n >= 70);
    fclose(index);
    fclose(pixels);
}

static int keep_frame(void *ud, double seconds, const gm_image *img, char *err, size_t errlen) {
    gm_image *kept = ud;
    (void)seconds;
    (void)err;
    (void)errlen;
    *kept = (gm_image){gm_malloc((size_t)img->w * (size_t)img->h, 3), img->w, img->h};
    memcpy(kept->rgb, img->rgb, (size_t)img->w * (size_t)img->h * 3);
    return 0;
}

/* turned.mp4: ffmpeg -f lavfi -i testsrc=s=48x32:r=2:d=1 -c:v libx264 -pix_fmt yuv420p -fflags
 * +bitexact. The first picture of it when its header shows a point (p, q) at (a p + c q, b p + d
 * q). */
static gm_image first_frame(int a, int b, int c, int d) {
    static uint8_t film[4096];
    char err[256] = "", path[] = "/tmp/gemma-test-XXXXXX";
    FILE *f = fopen("tests/fuzz/media/turned.mp4", "rb");
    assert_non_null(f);
    const size_t n = fread(film, 1, sizeof film, f);
    fclose(f);
    size_t at = 0;
    while (at + 80 < n && memcmp(film + at, "tkhd", 4) != 0) at++;
    assert_true(at + 80 < n);
    const int m[] = {a, b, 0, c, d}; /* big-endian, 16 bits behind the point */
    for (size_t i = 0; i < 5; i++) {
        film[at + 44 + 4 * i] = m[i] < 0 ? 0xff : 0;
        film[at + 45 + 4 * i] = (uint8_t)m[i];
    }
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, film, n), n);
    close(fd);
    gm_image img = {0};
    gm_video *video = NULL;
    const int rc = gm_avlib_video(&video, path, 1, keep_frame, &img, NULL, err, sizeof err);
    unlink(path);
    if (rc) fail_msg("%s", err);
    return img;
}

/* Telephones write films as their sensor lies and say in the header how they were held. */
static void films_are_turned_as_players_turn_them(void **state) {
    (void)state;
    need_ffmpeg();
    static const int turns[][4] = {{0, 1, -1, 0}, {-1, 0, 0, -1}, {0, -1, 1, 0}, {-1, 0, 0, 1},
                                   {1, 0, 0, -1}, {0, 1, 1, 0},   {0, -1, -1, 0}};
    gm_image plain = first_frame(1, 0, 0, 1);
    assert_int_equal(plain.w * 1000 + plain.h, 48032);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        const int a = turns[i][0], b = turns[i][1], c = turns[i][2], d = turns[i][3];
        gm_image img = first_frame(a, b, c, d);
        assert_int_equal(img.w, a ? plain.w : plain.h);
        assert_int_equal(img.h, a ? plain.h : plain.w);
        for (int q = 0; q < plain.h; q++) {
            for (int p = 0; p < plain.w; p++) {
                const int x = a * p + c * q + (a + c < 0 ? img.w - 1 : 0);
                const int y = b * p + d * q + (b + d < 0 ? img.h - 1 : 0);
                assert_memory_equal(img.rgb + 3 * (y * img.w + x),
                                    plain.rgb + 3 * (q * plain.w + p), 3);
            }
        }
        gm_free(img.rgb);
    }
    gm_free(plain.rgb);
}

/* full.webm (VP9, luma of 0 .. 255) and hd.mp4 (H.264, 16 .. 235) are red beside a dark grey in the
 * colours of BT.709, as screens are recorded: ffmpeg -f lavfi -i "color=c=0xff0000:s=16x32[a];
 * color=c=0x141414:s=16x32[b];[a][b]hstack,scale=out_color_matrix=bt709:out_range=pc,
 * format=yuv420p" -frames:v 1 -color_range pc -colorspace bt709. By the habits of smaller films the
 * red was 233, the grey 5. */
static void colours_of_a_film_are_those_that_its_stream_tells(void **state) {
    (void)state;
    need_ffmpeg();
    static const char *const films[] = {"tests/fuzz/media/full.webm", "tests/fuzz/media/hd.mp4"};
    for (size_t i = 0; i < 2; i++) {
        char err[256] = "";
        gm_image img = {0};
        gm_video *video = NULL;
        if (gm_avlib_video(&video, films[i], 1, keep_frame, &img, NULL, err, sizeof err))
            fail_msg("%s: %s", films[i], err);
        const uint8_t *red = img.rgb + 3 * (16 * 32 + 4), *grey = red + 3 * 22;
        assert_true(red[0] >= 250 && red[1] <= 5 && red[2] <= 5);
        for (int c = 0; c < 3; c++) assert_true(abs(grey[c] - 20) <= 4);
        gm_free(img.rgb);
    }
}

/* Angles that no camera writes go to the next quarter; a matrix of zeros is none. */
static void a_display_matrix_is_one_of_eight_orientations(void **state) {
    (void)state;
    static const int32_t cases[][5] = {{0, 0, 0, 0, 1},        {9, 3, -3, 9, 1},
                                       {3, 9, -9, 3, 6},       {3, -9, 9, 3, 8},
                                       {-9, 3, -3, -9, 3},     {INT32_MIN, 0, 0, INT32_MIN, 3},
                                       {0, INT32_MIN, 1, 0, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int32_t *k = cases[i], m[9] = {k[0], k[1], 0, k[2], k[3]};
        assert_int_equal(gm_matrix_orientation(m), k[4]);
    }
}

static uint8_t *put_size(uint8_t *p, size_t n) { /* of an EBML element */
    for (int i = 3; i >= 0; i--) *p++ = (uint8_t)(n >> 8 * i | (i == 3 ? 0x10 : 0));
    return p;
}

typedef struct {
    int n;
    double at[GM_VIDEO_FRAMES];
    char err[256];
} times;

static int keep_time(void *ud, double seconds, const gm_image *img, char *err, size_t errlen) {
    times *t = ud;
    (void)img;
    (void)err;
    (void)errlen;
    t->at[t->n++] = seconds;
    return 0;
}

/* What is told of a Matroska film of n times the same picture, which says that it has w x h; ms:
 * the time of number i. */
static int read_film(times *t, int n, uint32_t (*ms)(int i), uint32_t w, uint32_t h) {
    static const char head[] =
        "\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"                       /* EBML */
        "\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"               /* Segment */
        "\x16\x54\xae\x6b\x9f\xae\x9d\xd7\x81\1\x73\xc5\x81\1\x83\x81\1" /* Tracks */
        "\x86\x87V_MJPEG\xe0\x88";
    const uint8_t side[] = {(uint8_t)(w >> 8), (uint8_t)w, (uint8_t)(h >> 8), (uint8_t)h};
    const uint8_t track[] = {0xb0, 0x82, side[0], side[1], 0xba, 0x82, side[2], side[3]};
    const uint8_t frame[] = {side[2], side[3], side[0], side[1]};
    static const uint8_t cluster[] = {0x1f, 0x43, 0xb6, 0x75}, block[] = {0x81, 0, 0, 0x80};
    uint8_t jpeg[512], start[32];
    char path[] = "/tmp/gemma-test-XXXXXX";
    FILE *f = fopen("tests/golden/pictures/grey.jpg", "rb");
    if (!f) skip();
    const size_t size = fread(jpeg, 1, sizeof jpeg, f);
    fclose(f);
    for (size_t i = 0; i + 9 < size; i++)
        if (memcmp(jpeg + i, "\xff\xc0\0", 3) == 0) memcpy(jpeg + i + 5, frame, sizeof frame);
    f = fdopen(mkstemp(path), "wb");
    assert_non_null(f);
    fwrite(head, 1, sizeof head - 1, f);
    fwrite(track, 1, sizeof track, f);
    for (int i = 0; i < n; i++) {
        uint8_t *p = memcpy(start, cluster, sizeof cluster);
        p = put_size(p + sizeof cluster, 15 + size);
        *p++ = 0xe7; /* the time, of four bytes */
        *p++ = 0x84;
        for (int b = 3; b >= 0; b--) *p++ = (uint8_t)(ms(i) >> 8 * b);
        *p++ = 0xa3;
        p = put_size(p, sizeof block + size);
        memcpy(p, block, sizeof block);
        fwrite(start, 1, (size_t)(p - start) + sizeof block, f);
        fwrite(jpeg, 1, size, f);
    }
    assert_int_equal(fclose(f), 0);
    gm_video *video = NULL;
    *t = (times){0};
    const int rc =
        gm_avlib_video(&video, path, GM_VIDEO_FRAMES, keep_time, t, NULL, t->err, sizeof t->err);
    unlink(path);
    return rc;
}

/* Of a screen of 60 Hz only what changes, as recorders of screens write it: groups of four. */
static uint32_t each_half_second(int i) {
    static const uint32_t steps[] = {0, 17, 50, 67};
    return 500 * (uint32_t)(i / 4) + steps[i % 4];
}
static uint32_t each_five_seconds(int i) {
    return each_half_second(i % 4) + 5000 * (uint32_t)(i / 4);
}
static uint32_t thirty_a_second(int i) { return (uint32_t)(i * 1000 + 15) / 30; }

/* Forty seconds were told as five: each picture's number was divided by the rate of the finest
 * grid. */
static void pictures_of_an_uneven_film_come_at_their_time(void **state) {
    (void)state;
    need_ffmpeg();
    times t;
    if (read_film(&t, 321, each_half_second, 13, 9)) fail_msg("%s", t.err);
    assert_int_equal(t.n, GM_VIDEO_FRAMES);
    for (int k = 0; k < t.n; k++) assert_true(t.at[k] == k * 321 / 32 / 8.0);
}

/* Milliseconds are too coarse for thirty a second; their mean is 30.00094. */
static void rounded_times_do_not_move_an_even_film(void **state) {
    (void)state;
    need_ffmpeg();
    times t;
    if (read_film(&t, 321, thirty_a_second, 13, 9)) fail_msg("%s", t.err);
    assert_int_equal(t.n, GM_VIDEO_FRAMES);
    for (int k = 0; k < t.n; k++) assert_true(t.at[k] == k * 321 / 32 / 30.0);
}

/* By the same grid, twenty minutes were five. */
static void an_uneven_film_may_last_five_minutes(void **state) {
    (void)state;
    need_ffmpeg();
    times t;
    if (read_film(&t, 241, each_five_seconds, 13, 9)) fail_msg("%s", t.err);
    for (int k = 0; k < t.n; k++) assert_true(t.at[k] == k * 241 / 32 / (240 / 300.0));
    assert_int_equal(read_film(&t, 242, each_five_seconds, 13, 9), GM_ETOOLONG);
    assert_string_equal(t.err, "the video is longer than 300 seconds; cut it");
}

/* cut.mp4: a second of six, cut without a new encoding (ffmpeg -ss 4 -i whole.mp4 -t 1 -c copy). It
 * holds what stands before the cut as well, for the decoder only. */
static void what_was_cut_off_a_film_is_not_counted(void **state) {
    (void)state;
    need_ffmpeg();
    char err[256] = "";
    gm_video *video = NULL;
    times t = {0};
    if (gm_avlib_video(&video, "tests/fuzz/media/cut.mp4", 2, keep_time, &t, NULL, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(t.n, 2);
    assert_true(t.at[0] == 0.0 && t.at[1] == 0.5);
}

/* It was "not supported", without a reason. */
static void a_film_of_too_many_pixels_says_so(void **state) {
    (void)state;
    need_ffmpeg();
    times t;
    assert_int_equal(read_film(&t, 4, thirty_a_second, 7680, 4320), GM_ETOOLONG);
    assert_string_equal(t.err, "the video is larger than 16 million pixels; make it smaller");
}

/* Half a picture is not answered about as if it were whole. */
static void pictures_that_are_cut_off_are_errors(void **state) {
    (void)state;
    need_ffmpeg();
    FILE *index = fopen("tests/golden/pictures/index.txt", "r");
    if (!index) skip();
    char name[64], path[128], err[256];
    while (fscanf(index, "%63s %*d %*d %*d", name) == 1) {
        if (strncmp(name, "animated", 8) == 0) continue; /* the first picture may be whole */
        static uint8_t bytes[1 << 16];
        snprintf(path, sizeof path, "tests/golden/pictures/%s", name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        const size_t n = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        assert_true(n < sizeof bytes);
        gm_image img;
        if (gm_decode_picture(bytes, n * 3 / 4, &img, NULL, err, sizeof err) == 0)
            fail_msg("three quarters of %s are a picture", name);
        assert_null(strchr(err, '\n'));
    }
    fclose(index);
}

/* The vector instructions do what the plain loops do: sizes up and down, odd ones, one pixel, rows
 * that end where the memory does. */
static void resize_is_the_same_with_and_without_vectors(void **state) {
    (void)state;
    static const int32_t cases[][4] = {{1, 1, 48, 48},       {5, 7, 96, 144},   {640, 1, 48, 48},
                                       {1, 333, 48, 96},     {131, 67, 48, 48}, {67, 131, 96, 67},
                                       {1280, 33, 1008, 48}, {7, 6, 7, 5},      {2000, 90, 48, 48},
                                       {49, 50, 48, 49},     {100, 9, 101, 8},  {3, 2, 2, 3}};
    test_rng r = {5};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int32_t *c = cases[i];
        const size_t n = (size_t)c[0] * (size_t)c[1] * 3, m = (size_t)c[2] * (size_t)c[3] * 3;
        uint8_t *src = malloc(n), *got = malloc(m), *want = malloc(m);
        for (size_t k = 0; k < n; k++)
            src[k] = rng_below(&r, 3) ? (uint8_t)rng_u64(&r) : rng_below(&r, 2) ? 255 : 0;
        assert_int_equal(gm_resize_rgb(src, c[0], c[1], got, c[2], c[3], NULL), 0);
        const gm_cpu_level level = gm_cpu_level_get();
        gm_cpu_force(GM_CPU_REF);
        assert_int_equal(gm_resize_rgb(src, c[0], c[1], want, c[2], c[3], NULL), 0);
        gm_cpu_force(level);
        for (size_t k = 0; k < m; k++)
            if (got[k] != want[k])
                fail_msg("%d x %d to %d x %d: byte %zu is %d, want %d", c[0], c[1], c[2], c[3], k,
                         got[k], want[k]);
        free(src);
        free(got);
        free(want);
    }
}

/* A tall picture of 31 x 4000 was 28 steps away from the reference: its reader begins with the rows
 * when they lose more than twice as much as the columns. */
static void the_pass_that_shrinks_more_may_come_first(void **state) {
    (void)state;
    static const int32_t cases[][5] = {{17, 51, 16, 48, 1},   {17, 50, 16, 48, 0},
                                       {31, 400, 48, 336, 1}, {60, 91, 30, 30, 1},
                                       {60, 90, 30, 30, 0},   {31, 40, 48, 96, 0}};
    test_rng r = {9};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int32_t w = cases[i][0], h = cases[i][1], ow = cases[i][2], oh = cases[i][3];
        const size_t n = (size_t)w * (size_t)h * 3, m = (size_t)ow * (size_t)oh * 3;
        uint8_t *src = malloc(n), *mid = malloc(3 * 64 * 512), *rows = malloc(m),
                *columns = malloc(m), *got = malloc(m);
        for (size_t k = 0; k < n; k++) src[k] = rng_below(&r, 2) ? 255 : 0;
        assert_int_equal(gm_resize_rgb(src, w, h, mid, w, oh, NULL), 0);
        assert_int_equal(gm_resize_rgb(mid, w, oh, rows, ow, oh, NULL), 0);
        assert_int_equal(gm_resize_rgb(src, w, h, mid, ow, h, NULL), 0);
        assert_int_equal(gm_resize_rgb(mid, ow, h, columns, ow, oh, NULL), 0);
        assert_int_equal(gm_resize_rgb(src, w, h, got, ow, oh, NULL), 0);
        assert_memory_not_equal(rows, columns, m);
        assert_memory_equal(got, cases[i][4] ? rows : columns, m);
        free(src);
        free(mid);
        free(rows);
        free(columns);
        free(got);
    }
}

/* Rows of every filter and pixel size. */
static void check_filters(void) {
    enum { MOST = 200 };
    uint8_t row[MOST + GM_UNFILTER_PAD], above[MOST + GM_UNFILTER_PAD],
        want[MOST + GM_UNFILTER_PAD];
    test_rng r = {6};
    for (int i = 0; i < 3000; i++) {
        static const size_t sizes[] = {1, 2, 3, 4, 6, 8};
        const size_t pixel = sizes[i % 6], n = pixel * (1 + rng_below(&r, MOST / pixel));
        const int filter = (int)rng_below(&r, 5);
        const bool first = rng_below(&r, 4) == 0;
        for (size_t k = 0; k < sizeof row; k++) {
            want[k] = (uint8_t)rng_u64(&r);
            above[k] = first ? 0 : (uint8_t)rng_u64(&r);
        }
        memcpy(row, want, sizeof row);
        for (size_t k = 0; k < n; k++) {
            const int a = k < pixel ? 0 : want[k - pixel], b = above[k],
                      c = k < pixel ? 0 : above[k - pixel];
            const int p = a + b - c, da = abs(p - a), db = abs(p - b), dc = abs(p - c);
            const int near = da <= db && da <= dc ? a : db <= dc ? b : c;
            const int guess[] = {0, a, b, (a + b) / 2, near};
            row[k] = (uint8_t)(want[k] - guess[filter]);
        }
        assert_int_equal(gm_unfilter(filter, row, first ? NULL : above, n, pixel), 0);
        assert_memory_equal(row, want, sizeof row); /* and nothing behind it is touched */
    }
    assert_int_equal(gm_unfilter(5, row, above, 3, 3), GM_EFORMAT);
}

static void filters_of_rows_are_taken_back_as_written(void **state) {
    (void)state;
    const gm_cpu_level level = gm_cpu_level_get();
    check_filters();
    gm_cpu_force(GM_CPU_REF); /* byte by byte */
    check_filters();
    gm_cpu_force(level);
}

static void images_become_the_reference_rows(void **state) {
    setup_t *s = *state;
    static const char *cases[][2] = {{"media/exact.png", "data/image_exact.embd0.f32"},
                                     {"media/photo.png", "data/image_resized.embd0.f32"},
                                     {"media/tall.png", "data/two_images.embd1.f32"}};
    for (size_t i = 0; i < 3; i++) {
        gm_image img = open_image(cases[i][0]);
        float *rows;
        int32_t n_row;
        size_t n;
        char err[256] = "";
        if (gm_image_embed(s->p, &img, N_EMBD, 70, NULL, &rows, &n_row, err, sizeof err))
            fail_msg("%s", err);
        float *want = read_floats(cases[i][1], &n);
        assert_int_equal((size_t)n_row * N_EMBD, n);
        assert_rows_close(rows, want, (int64_t)n, 1e-4);
        free(want);
        gm_free(rows);
        gm_free(img.rgb);
    }
}

static void sounds_become_the_reference_rows(void **state) {
    setup_t *s = *state;
    static const char *cases[][2] = {{"media/tones.wav", "data/audio.embd0.f32"},
                                     {"media/click.wav", "data/audio_short.embd0.f32"}};
    for (size_t i = 0; i < 2; i++) {
        gm_samples wav;
        float *rows;
        int32_t n_row;
        size_t n;
        char err[256] = "";
        if (gm_decode_sound(in_set(cases[i][0]), &wav, NULL, err, sizeof err)) fail_msg("%s", err);
        if (gm_audio_embed(s->p, &wav, N_EMBD, NULL, &rows, &n_row, err, sizeof err))
            fail_msg("%s", err);
        float *want = read_floats(cases[i][1], &n);
        assert_int_equal((size_t)n_row * N_EMBD, n);
        assert_rows_close(rows, want, (int64_t)n, 1e-4);
        free(want);
        gm_free(rows);
        gm_free(wav.v);
    }
}

/* A file of the set with the name of a number that nobody reads, which is as long, changed to the
 * key in question, and the number with it. */
static int32_t image_tokens_of(uint32_t pixels) {
    static const char old[] = "clip.vision.embedding_length",
                      key[] = "clip.vision.image_max_pixels";
    _Static_assert(sizeof old == sizeof key, "the rest of the file stays where it is");
    char err[256] = "", path[] = "/tmp/gemma-test-XXXXXX";
    FILE *f = fopen(in_set("mmproj-BF16.gguf"), "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const size_t size = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(size);
    assert_int_equal(fread(bytes, 1, size, f), size);
    fclose(f);
    size_t at = 0;
    while (at + sizeof old < size && memcmp(bytes + at, old, sizeof old - 1) != 0) at++;
    assert_true(at + sizeof old < size);
    memcpy(bytes + at, key, sizeof key - 1);
    memcpy(bytes + at + sizeof key - 1 + 4, &pixels, 4); /* behind the type, which is uint32 */
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
    free(bytes);
    gm_backend *b = NULL;
    gm_projector *p = NULL;
    assert_int_equal(gm_backend_open(&b, "cpu", 1, err, sizeof err), 0);
    if (gm_projector_open(&p, path, b, N_EMBD, err, sizeof err)) fail_msg("%s", err);
    const int32_t n = gm_projector_image_tokens(p);
    gm_projector_close(&p);
    gm_backend_close(&b);
    unlink(path);
    return n;
}

static void a_file_may_ask_for_smaller_pictures(void **state) {
    setup_t *s = *state;
    assert_int_equal(gm_projector_image_tokens(s->p), 280);
    assert_int_equal(image_tokens_of(25 * 48 * 48), 25);
    assert_int_equal(image_tokens_of(25 * 48 * 48 - 1), 24);
    assert_int_equal(image_tokens_of(0), 1);
    assert_int_equal(image_tokens_of(UINT32_MAX), 280);
}

/* model/gemma4-unified.md 3.1: sizes of the published rule, in pixels. */
static void grid_follows_the_size_rule(void **state) {
    (void)state;
    static const int32_t cases[][5] = {
        {640, 480, 70, 432, 336},
        {640, 480, 280, 912, 672},
        {640, 480, 1120, 1824, 1344},
        {1920, 1080, 280, 1056, 576},
        {1024, 1024, 280, 768, 768},
        {100, 100, 280, 768, 768},
        {3000, 100, 280, 4368, 144},
        {97, 53, 280, 1056, 576},
        {230, 150, 280, 960, 624},
        /* Sides that are a whole number of patches only when divided last. */
        {100, 70, 70, 480, 336},
        {400, 280, 280, 960, 672},
        {175, 160, 280, 816, 768},
        {910, 325, 70, 624, 192},
        {5, 7, 280, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t c, r;
        assert_int_equal(gm_image_grid(cases[i][0], cases[i][1], cases[i][2], 1120, &c, &r), 0);
        assert_true(c >= 1 && r >= 1 && c * r <= cases[i][2]);
        if (cases[i][3] == 0) continue;
        assert_int_equal(c * GM_PATCH, cases[i][3]);
        assert_int_equal(r * GM_PATCH, cases[i][4]);
    }
    int32_t c, r;
    assert_int_equal(gm_image_grid(20000, 1, 280, 1120, &c, &r), 0);
    assert_int_equal(c * 1000 + r, 280001);
    assert_int_equal(gm_image_grid(0, 5, 280, 1120, &c, &r), GM_EINVAL);
    assert_int_equal(gm_image_grid(3000, 100, 280, 64, &c, &r), GM_EINVAL);
}

/* A tone keeps its phase through resampling: compare with the same tone made at 16 kHz. */
static void resampling_does_not_shift_a_tone(void **state) {
    (void)state;
    static const uint32_t rates[] = {8000, 11025, 22050, 44100, 48000, 96000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        const size_t n = rates[i] / 2;
        float *in = malloc(n * sizeof *in);
        for (size_t k = 0; k < n; k++)
            in[k] = sinf(6.2831853f * 440.0f * (float)k / (float)rates[i]);
        gm_samples out;
        assert_int_equal(gm_resample(in, n, rates[i], &out, NULL), 0);
        assert_in_range(out.n, 7999, 8001);
        for (size_t k = 500; k < 7500; k++) {
            const float want = sinf(6.2831853f * 440.0f * (float)k / 16000.0f);
            if (fabsf(out.v[k] - want) > 2e-4f)
                fail_msg("rate %u sample %zu: %g, want %g", rates[i], k, (double)out.v[k],
                         (double)want);
        }
        gm_free(out.v);
        free(in);
    }
}

/* A frame of samples at time t in one of the forms of WAV; channel c is louder than c + 1. */
static uint8_t *put_frame(uint8_t *p, double t, uint32_t n_ch, uint32_t format, uint32_t bits) {
    for (uint32_t c = 0; c < n_ch; c++) {
        const double v = 0.7 * sin(6.2831853 * 300.0 * t) / (1 + c);
        if (format == 3) {
            const float f = (float)v;
            memcpy(p, &f, 4);
        } else if (bits == 8) {
            *p = (uint8_t)lrint(v * 127 + 128);
        } else {
            const int64_t i = llrint(v * (double)((int64_t)1 << (bits - 1)));
            for (uint32_t b = 0; b < bits / 8; b++) p[b] = (uint8_t)(i >> 8 * b);
        }
        p += bits / 8;
    }
    return p;
}

static size_t put_wav(uint8_t *p, size_t n_frame, uint32_t rate, uint32_t n_ch, uint32_t format,
                      uint32_t bits) {
    const uint32_t block = n_ch * bits / 8, n = (uint32_t)n_frame * block;
    const uint32_t words[] = {rate, rate * block, block | bits << 16};
    const uint16_t head[] = {(uint16_t)format, (uint16_t)n_ch};
    memcpy(p, "RIFF\0\0\0\0WAVEfmt \x10\0\0\0", 20);
    memcpy(p + 20, head, 4);
    memcpy(p + 24, words, 12);
    memcpy(p + 36, "data", 4);
    memcpy(p + 40, &n, 4);
    uint8_t *end = p + 44;
    for (size_t i = 0; i < n_frame; i++) end = put_frame(end, (double)i / rate, n_ch, format, bits);
    return (size_t)(end - p);
}

/* The reader's own words about it do not stay behind. */
static void a_compressed_wav_is_read_without_a_word(void **state) {
    (void)state;
    need_ffmpeg();
    gm_samples s;
    char err[256] = "";
    if (gm_decode_sound("tests/fuzz/media/adpcm.wav", &s, NULL, err, sizeof err))
        fail_msg("%s", err);
    assert_string_equal(err, "");
    gm_free(s.v);
}

/* Rates from 8 to 48 kHz, one to six channels, all widths: always the same tone at 16 kHz. */
static void every_form_of_wav_gives_the_same_sound(void **state) {
    (void)state;
    static const uint32_t forms[][2] = {{1, 8}, {1, 16}, {1, 24}, {1, 32}, {3, 32}};
    static const uint32_t rates[] = {8000, 11025, 16000, 22050, 32000, 44100, 48000};
    uint8_t *wav = malloc(44 + 48000 / 4 * 6 * 4);
    for (size_t f = 0; f < 5; f++) {
        for (size_t r = 0; r < 7; r++) {
            const uint32_t n_ch = 1 + (uint32_t)(f + r) % 6, rate = rates[r];
            double mean = 0;
            for (uint32_t c = 0; c < n_ch; c++) mean += 0.7 / (1 + c) / n_ch;
            const size_t n = put_wav(wav, rate / 4, rate, n_ch, forms[f][0], forms[f][1]);
            gm_samples s;
            char err[256] = "";
            if (gm_wav_decode(wav, n, &s, NULL, err, sizeof err)) fail_msg("%s", err);
            assert_in_range(s.n, 3998, 4001);
            for (size_t i = 400; i < 3600; i++) {
                const double want = mean * sin(6.2831853 * 300.0 * (double)i / 16000.0);
                if (fabs((double)s.v[i] - want) > (forms[f][1] == 8 ? 0.02 : 3e-4))
                    fail_msg("%u Hz, %u channels, %u bits: sample %zu is %g, want %g", rate, n_ch,
                             forms[f][1], i, (double)s.v[i], want);
            }
            gm_free(s.v);
        }
    }
    free(wav);
}

/* One sample is a row; half a minute and more is no limit of the file reader. */
static void sounds_of_any_length_are_framed(void **state) {
    (void)state;
    static const size_t cases[][2] = {{1, 1},   {639, 1},      {640, 1},
                                      {641, 2}, {480000, 750}, {496000, 775}};
    uint8_t *wav = malloc(44 + 496000);
    for (size_t i = 0; i < 6; i++) {
        gm_samples s;
        char err[256] = "";
        const size_t n = put_wav(wav, cases[i][0], 16000, 1, 1, 8);
        if (gm_wav_decode(wav, n, &s, NULL, err, sizeof err)) fail_msg("%s", err);
        assert_int_equal(gm_audio_rows(s.n), cases[i][1]);
        gm_free(s.v);
    }
    free(wav);
}

/* Float files may hold anything. What is no sound is silence: one NaN would silence the model. */
static void numbers_that_are_no_sound_are_silence(void **state) {
    (void)state;
    const float strange[] = {NAN, INFINITY, -INFINITY, 3e38f};
    uint8_t wav[44 + 4 * 1600];
    const size_t n = put_wav(wav, 1600, 16000, 1, 3, 32);
    gm_samples plain, s;
    char err[256] = "";
    assert_int_equal(gm_wav_decode(wav, n, &plain, NULL, err, sizeof err), 0);
    for (size_t i = 0; i < 4; i++) memcpy(wav + 44 + 4 * (100 + i), &strange[i], 4);
    assert_int_equal(gm_wav_decode(wav, n, &s, NULL, err, sizeof err), 0);
    assert_int_equal(s.n, plain.n);
    for (size_t i = 0; i < s.n; i++)
        assert_true(s.v[i] == (i >= 100 && i < 104 ? 0.0f : plain.v[i]));
    gm_free(s.v);
    gm_free(plain.v);
}

static void ten_minutes_are_not_too_long(void **state) {
    (void)state;
    enum { RATE = 1000, N = 600 * RATE };
    uint8_t *wav = malloc(44 + N + 1);
    gm_samples s;
    char err[256] = "";
    if (gm_wav_decode(wav, put_wav(wav, N, RATE, 1, 1, 8), &s, NULL, err, sizeof err))
        fail_msg("%s", err);
    gm_free(s.v);
    assert_int_equal(
        gm_wav_decode(wav, put_wav(wav, N + 1, RATE, 1, 1, 8), &s, NULL, err, sizeof err),
        GM_ETOOLONG);
    free(wav);
}

/* A length of 0 is what a recorder leaves that was killed, or the truth: the file's own length
 * tells. */
static void a_wav_of_no_length_is_empty_or_unfinished(void **state) {
    (void)state;
    uint8_t wav[44 + 1600];
    const size_t n = put_wav(wav, 1600, 16000, 1, 1, 8);
    memset(wav + 40, 0, 4);
    gm_samples s;
    char err[256] = "";
    if (gm_wav_decode(wav, n, &s, NULL, err, sizeof err)) fail_msg("%s", err);
    assert_int_equal(s.n, 1600);
    gm_free(s.v);
    const uint32_t rest = (uint32_t)(n - 8);
    memcpy(wav + 4, &rest, 4);
    memcpy(wav + 44, "LIST", 4);
    assert_int_equal(gm_wav_decode(wav, n, &s, NULL, err, sizeof err), GM_EFORMAT);
    assert_string_equal(err, "the recording holds no sound");
}

/* What stands behind the samples of an RF64 (EBU Tech 3306) was heard as noise: their number is in
 * ds64. */
static void the_samples_of_a_long_wav_end_where_it_says(void **state) {
    (void)state;
    enum { N = 1600, AT = 12 + 8 + 28 };
    uint8_t plain[44 + N], wav[AT + 32 + N + 8 + 100];
    put_wav(plain, N, 16000, 1, 1, 8);
    memset(wav, 0x55, sizeof wav);
    memcpy(wav, "RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0", 20);
    memset(wav + 20, 0, 28);
    memcpy(wav + AT, plain + 12, 32 + N);
    memset(wav + AT + 28, 0xff, 4);
    memcpy(wav + AT + 32 + N, "LIST\x64\0\0\0", 8);
    static const uint64_t told[] = {N, 0, 1 + (uint64_t)UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        gm_samples s;
        char err[256] = "";
        memcpy(wav + 28, &told[i], 8);
        if (gm_wav_decode(wav, sizeof wav, &s, NULL, err, sizeof err)) fail_msg("%s", err);
        assert_int_equal(s.n, i == 0 ? N : N + 108); /* or all there is */
        gm_free(s.v);
    }
}

/* Bits in wider frames were read as if they were packed. */
static void pcm_with_gaps_is_refused(void **state) {
    (void)state;
    uint8_t wav[44 + 2 * 3 * 64];
    gm_samples s;
    char err[256] = "";
    const size_t n = put_wav(wav, 64, 16000, 2, 1, 24);
    for (uint8_t align = 0; align < 10; align++) {
        wav[32] = align;
        const int rc = gm_wav_decode(wav, n, &s, NULL, err, sizeof err);
        /* less than two samples is a slip of the pen */
        assert_int_equal(rc, align < 8 ? 0 : GM_EFORMAT);
        gm_free(s.v);
    }
    assert_string_equal(err, "WAV with 24 bits in 4 bytes is ambiguous; save it with 16 bits");
}

/* Every prefix of a WAV file, and every single damaged header byte, is an answer, not a crash. */
static void damaged_wav_is_an_error_or_sound(void **state) {
    (void)state;
    uint8_t wav[44 + 64];
    memset(wav, 0, sizeof wav);
    memcpy(wav,
           "RIFF\x64\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\x40\0\0\0",
           44);
    gm_samples s;
    char err[256];
    assert_int_equal(gm_wav_decode(wav, sizeof wav, &s, NULL, err, sizeof err), 0);
    assert_int_equal(s.n, 32);
    gm_free(s.v);
    for (size_t n = 0; n < sizeof wav; n++) {
        if (gm_wav_decode(wav, n, &s, NULL, err, sizeof err) == 0) gm_free(s.v);
        else assert_non_null(strchr(err, ' '));
    }
    for (size_t i = 0; i < 44; i++) {
        for (int bit = 0; bit < 8; bit++) {
            wav[i] ^= (uint8_t)(1 << bit);
            if (gm_wav_decode(wav, sizeof wav, &s, NULL, err, sizeof err) == 0) gm_free(s.v);
            wav[i] ^= (uint8_t)(1 << bit);
        }
    }
}

int main(void) {
    const char *golden = getenv("GEMMA_GOLDEN");
    snprintf(root, sizeof root, "%s/nano", golden ? golden : "tests/golden/sets");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_gives_the_reference_bytes),
        cmocka_unit_test(resize_is_the_same_with_and_without_vectors),
        cmocka_unit_test(the_pass_that_shrinks_more_may_come_first),
        cmocka_unit_test(filters_of_rows_are_taken_back_as_written),
        cmocka_unit_test_setup_teardown(images_become_the_reference_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(sounds_become_the_reference_rows, setup, teardown),
        cmocka_unit_test(an_embedder_that_cannot_be_set_up_says_why),
        cmocka_unit_test(pictures_of_every_kind_are_read_as_by_the_reference),
        cmocka_unit_test(films_are_turned_as_players_turn_them),
        cmocka_unit_test(pictures_of_an_uneven_film_come_at_their_time),
        cmocka_unit_test(rounded_times_do_not_move_an_even_film),
        cmocka_unit_test(an_uneven_film_may_last_five_minutes),
        cmocka_unit_test(a_film_of_too_many_pixels_says_so),
        cmocka_unit_test(colours_of_a_film_are_those_that_its_stream_tells),
        cmocka_unit_test(a_display_matrix_is_one_of_eight_orientations),
        cmocka_unit_test(what_was_cut_off_a_film_is_not_counted),
        cmocka_unit_test(pictures_that_are_cut_off_are_errors),
        cmocka_unit_test_setup_teardown(a_file_may_ask_for_smaller_pictures, setup, teardown),
        cmocka_unit_test(grid_follows_the_size_rule),
        cmocka_unit_test(resampling_does_not_shift_a_tone),
        cmocka_unit_test(every_form_of_wav_gives_the_same_sound),
        cmocka_unit_test(a_compressed_wav_is_read_without_a_word),
        cmocka_unit_test(sounds_of_any_length_are_framed),
        cmocka_unit_test(numbers_that_are_no_sound_are_silence),
        cmocka_unit_test(ten_minutes_are_not_too_long),
        cmocka_unit_test(a_wav_of_no_length_is_empty_or_unfinished),
        cmocka_unit_test(the_samples_of_a_long_wav_end_where_it_says),
        cmocka_unit_test(pcm_with_gaps_is_refused),
        cmocka_unit_test(damaged_wav_is_an_error_or_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
