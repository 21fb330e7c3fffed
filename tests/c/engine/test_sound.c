/* test_sound.c: a sound that grows gives the rows of the finished file, each of them once. */
#include "helper/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/attach.h"
#include "engine/sound.h"
#include "helper/compare.h"
#include "helper/random.h"
#include "helper/tmp.h"

enum { N_EMBD = 64 };
static const char set[] = "tests/golden/sets/nano/";
static gm_engine *engine;
static test_tmp tmp;
static char err[256];

static int open_engine(void **state) {
    (void)state;
    if (access(set, R_OK) != 0) return 0;
    gm_engine_opts o = {.model_path = "tests/golden/sets/nano/model-F16.gguf",
                        .mmproj_path = "tests/golden/sets/nano/mmproj-BF16.gguf",
                        .n_threads = 1,
                        .n_ctx = 256,
                        .kv_type = -1};
    if (tmp_begin(&tmp) != 0) return -1;
    return gm_engine_open(&engine, &o, err, sizeof err);
}

static int close_engine(void **state) {
    (void)state;
    gm_engine_close(&engine);
    if (tmp.dir[0]) tmp_end(&tmp);
    return 0;
}

/* ---- a recording and the file of it ---- */

typedef struct {
    uint32_t rate, channels;
    int16_t *pcm; /* [n_frame, channels] */
    size_t n_frame;
} recording;

/* Two tones, some noise, another level on each channel. */
static recording record(uint32_t rate, uint32_t channels, size_t n_frame) {
    recording r = {rate, channels, malloc(n_frame * channels * 2 + 1), n_frame};
    test_rng rng = {rate + channels};
    for (size_t i = 0; i < n_frame; i++) {
        const double t = (double)i / rate;
        const double v =
            sin(t * 2764.6) + sin(t * 1193.8 * (1 + t)) + 0.1 * (double)rng_gauss(&rng);
        for (uint32_t c = 0; c < channels; c++)
            r.pcm[i * channels + c] = (int16_t)(v * 9000 / (1 + c));
    }
    return r;
}

static void put(uint8_t **p, uint32_t v, int bytes) {
    while (bytes-- > 0) {
        *(*p)++ = (uint8_t)v;
        v >>= 8;
    }
}

static const char *write_wav(const recording *r) {
    uint8_t head[44], *p = head;
    const uint32_t n = (uint32_t)(r->n_frame * r->channels * 2);
    const char *path = tmp_path(&tmp, "sound.wav");
    memcpy(p, "RIFF", 4), p += 4;
    put(&p, n + 36, 4);
    memcpy(p, "WAVEfmt ", 8), p += 8;
    put(&p, 16, 4);
    put(&p, 1, 2);
    put(&p, r->channels, 2);
    put(&p, r->rate, 4);
    put(&p, r->rate * r->channels * 2, 4);
    put(&p, r->channels * 2, 2);
    put(&p, 16, 2);
    memcpy(p, "data", 4), p += 4;
    put(&p, n, 4);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, sizeof head, f), sizeof head);
    assert_int_equal(fwrite(r->pcm, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static gm_rows *rows_of_file(const recording *r) {
    gm_rows *rows = NULL;
    const char *path = write_wav(r);
    gm_str name = {path, strlen(path)};
    if (gm_rows_open(&rows, engine, GM_PART_AUDIO, name, &(gm_media_opts){0}, err, sizeof err) < 0)
        fail_msg("%s", err);
    return rows;
}

/* ---- */

/* Appends in pieces of odd sizes, looks in between, and compares every look with the file. */
static void compare_with_file(uint32_t rate, uint32_t channels, size_t n_frame) {
    recording r = record(rate, channels, n_frame);
    gm_rows *want = rows_of_file(&r), *got;
    gm_sound *s;
    const uint8_t *bytes = (const uint8_t *)r.pcm;
    const size_t n_byte = n_frame * channels * 2;
    int32_t n = 0, before = 0;
    test_rng rng = {7};
    assert_int_equal(gm_sound_create(&s, rate, channels, err, sizeof err), GM_OK);
    for (size_t at = 0; at < n_byte;) {
        size_t piece = 1 + rng_below(&rng, rate * channels / 2);
        if (piece > n_byte - at) piece = n_byte - at;
        assert_int_equal(gm_sound_append(s, bytes + at, piece), GM_OK);
        at += piece;
        gm_sound_view v = gm_sound_look(s);
        assert_int_equal(gm_sound_rows(&v, engine, &got, &n, NULL, err, sizeof err), GM_OK);
        assert_true(n >= before && n <= gm_rows_n(want));
        /* All but a few hundredths of a second of what was heard. */
        assert_true((size_t)(n + 3) * 640 >= at / 2 / channels * 16000 / rate);
        before = n;
        if (n > 0) assert_rows_close(gm_rows_data(got), gm_rows_data(want), n * N_EMBD, 1e-6);
        gm_rows_release(&got);
        gm_sound_view_finish(&v);
    }
    gm_sound_end(s);
    assert_int_equal(gm_sound_append(s, bytes, 2), GM_EINVAL);
    gm_sound_view v = gm_sound_look(s);
    assert_int_equal(gm_sound_rows(&v, engine, &got, &n, NULL, err, sizeof err), GM_OK);
    assert_int_equal(n, gm_rows_n(want));
    assert_rows_close(gm_rows_data(got), gm_rows_data(want), n * N_EMBD, 1e-6);
    gm_rows_release(&got);
    gm_sound_view_finish(&v);
    gm_sound_release(&s);
    gm_rows_release(&want);
    free(r.pcm);
}

static void a_growing_sound_gives_the_rows_of_its_file(void **state) {
    (void)state;
    if (!engine) skip();
    static const struct {
        uint32_t rate, channels;
        size_t n_frame;
    } cases[] = {{16000, 1, 1},     {16000, 1, 640},   {16000, 2, 641},
                 {8000, 1, 12345},  {44100, 2, 70000}, {48000, 1, 100000},
                 {22050, 6, 30001}, {11025, 1, 3},     {16000, 1, 480000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare_with_file(cases[i].rate, cases[i].channels, cases[i].n_frame);
}

/* An earlier look may be used after a later one: it still has only its own rows. */
static void an_earlier_look_keeps_its_end(void **state) {
    (void)state;
    if (!engine) skip();
    recording r = record(44100, 1, 44100);
    gm_sound *s;
    gm_rows *rows;
    int32_t n, n_all;
    assert_int_equal(gm_sound_create(&s, 44100, 1, err, sizeof err), GM_OK);
    assert_int_equal(gm_sound_append(s, r.pcm, 44100), GM_OK);
    gm_sound_view early = gm_sound_look(s);
    assert_int_equal(gm_sound_append(s, r.pcm + 22050, 44100), GM_OK);
    gm_sound_end(s);
    gm_sound_view late = gm_sound_look(s);
    gm_sound_release(&s); /* the looks keep it alive */
    assert_int_equal(gm_sound_rows(&late, engine, &rows, &n_all, NULL, err, sizeof err), GM_OK);
    const float *kept = gm_rows_data(rows);
    gm_rows_release(&rows);
    assert_int_equal(n_all, 25);
    assert_int_equal(gm_sound_rows(&early, engine, &rows, &n, NULL, err, sizeof err), GM_OK);
    assert_int_equal(n, 12);
    assert_ptr_equal(gm_rows_data(rows), kept); /* rows never move */
    gm_rows_release(&rows);
    gm_sound_view_finish(&early);
    gm_sound_view_finish(&late);
    free(r.pcm);
}

static void a_sound_is_full_after_thirty_seconds(void **state) {
    (void)state;
    static uint8_t bytes[8000 * 2 * 31];
    gm_sound *s;
    assert_int_equal(gm_sound_create(&s, 8000, 1, err, sizeof err), GM_OK);
    assert_int_equal(gm_sound_append(s, bytes, 8000 * 2 * 30 - 1), GM_OK);
    assert_int_equal(gm_sound_append(s, bytes, 2), GM_ETOOLONG);
    assert_int_equal(gm_sound_append(s, bytes, 0), GM_OK);
    assert_int_equal(gm_sound_append(s, bytes, 1), GM_ETOOLONG);
    gm_sound_view v = gm_sound_look(s);
    assert_int_equal(v.n_frame, 8000 * 30);
    gm_sound_view_finish(&v);
    gm_sound_release(&s);
    assert_int_equal(gm_sound_create(&s, 999, 1, err, sizeof err), GM_EINVAL);
    assert_int_equal(gm_sound_create(&s, 8000, 0, err, sizeof err), GM_EINVAL);
    assert_int_equal(gm_sound_create(&s, 8000, 9, err, sizeof err), GM_EINVAL);
    assert_null(s);
}

static void a_sound_without_samples_is_an_error(void **state) {
    (void)state;
    if (!engine) skip();
    gm_sound *s;
    gm_rows *rows;
    int32_t n;
    assert_int_equal(gm_sound_create(&s, 16000, 1, err, sizeof err), GM_OK);
    for (int ended = 0; ended < 2; ended++) {
        gm_sound_view v = gm_sound_look(s);
        int rc = gm_sound_rows(&v, engine, &rows, &n, NULL, err, sizeof err);
        assert_int_equal(rc, ended ? GM_EFORMAT : GM_OK);
        assert_int_equal(n, 0);
        assert_null(rows);
        gm_sound_view_finish(&v);
        gm_sound_end(s);
    }
    gm_sound_release(&s);
}

static void memory_may_run_out_anywhere(void **state) {
    (void)state;
    if (!engine) skip();
    recording r = record(44100, 2, 30000);
    for (uint64_t fail = 1;; fail++) {
        gm_sound *s = NULL;
        gm_rows *rows = NULL;
        int32_t n = 0;
        gm_mem_fail_at(fail);
        int rc = gm_sound_create(&s, 44100, 2, err, sizeof err);
        if (!rc) rc = gm_sound_append(s, r.pcm, r.n_frame * 4);
        if (!rc) {
            gm_sound_view v = gm_sound_look(s);
            rc = gm_sound_rows(&v, engine, &rows, &n, NULL, err, sizeof err);
            gm_sound_view_finish(&v);
        }
        gm_rows_release(&rows);
        gm_sound_release(&s);
        uint64_t used = gm_mem_fail_at(0);
        assert_true(rc == GM_OK || rc == GM_ENOMEM);
        if (used < fail) {
            assert_int_equal(rc, GM_OK);
            assert_int_equal(n, 16);
            break;
        }
        assert_int_equal(rc, GM_ENOMEM);
    }
    free(r.pcm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_growing_sound_gives_the_rows_of_its_file),
        cmocka_unit_test(an_earlier_look_keeps_its_end),
        cmocka_unit_test(a_sound_is_full_after_thirty_seconds),
        cmocka_unit_test(a_sound_without_samples_is_an_error),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
