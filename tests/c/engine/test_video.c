/* test_video.c: a video as pictures with times and a sound, against the reference, which chose the
 * frames and wrote the times (tests/golden/video.py). Needs FFmpeg's libraries.
 */
#include "helper/cm.h"

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/attach.h"
#include "engine/service.h"
#include "helper/compare.h"
#include "media/avlib.h"

#define SET "tests/golden/sets/nano/"
static gm_engine *engine;
static gm_media_store store;
static char err[512];

static int open_engine(void **state) {
    (void)state;
    if (access(SET, R_OK) != 0 || gm_avlib_load(err, sizeof err) != 0) return 0;
    gm_engine_opts o = {.model_path = SET "model-F16.gguf",
                        .mmproj_path = SET "mmproj-BF16.gguf",
                        .n_threads = 1,
                        .n_ctx = 4096,
                        .kv_type = -1};
    return gm_engine_open(&engine, &o, err, sizeof err);
}

static int close_engine(void **state) {
    (void)state;
    gm_media_store_finish(&store);
    gm_engine_close(&engine);
    return 0;
}

static void need_engine(void) {
    if (engine) return;
    print_message("skipped: %s\n", err);
    skip();
}

static gm_part part(gm_part_kind kind, const char *text) {
    return (gm_part){.kind = kind, .text = {text, strlen(text)}};
}

static int open_rows(gm_rows **r, gm_part_kind kind, gm_str path, int32_t image_tokens,
                     const gm_cancel *cancel) {
    const gm_media_opts o = {.store = &store, .image_tokens = image_tokens, .cancel = cancel};
    return gm_rows_open(r, engine, kind, path, &o, err, sizeof err);
}

static int encode(gm_attachments *a, gm_ids *ids, const char *before, const char *file,
                  const char *after) {
    gm_part parts[] = {part(GM_PART_MARKUP, before), part(GM_PART_VIDEO, file),
                       part(GM_PART_MARKUP, after)};
    const gm_media_opts o = {.store = &store};
    return gm_attachments_encode(a, engine, parts, 3, &o, NULL, ids, err, sizeof err);
}

static void a_video_gives_the_logits_of_the_reference(void **state) {
    (void)state;
    need_engine();
    gm_attachments a;
    gm_ids ids = {0};
    if (encode(&a, &ids, "See: ", SET "media/clip.webm", "\nWhat happens?")) fail_msg("%s", err);
    assert_int_equal(ids.n, 2381);
    assert_int_equal(a.n, 32);
    gm_session *s;
    size_t reused;
    const gm_prompt p = {.ids = ids.v, .n = ids.n, .media = a.media, .n_media = a.n};
    assert_int_equal(gm_session_create(&s, engine, err, sizeof err), 0);
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), 0);
    int64_t left = 1;
    while (left > 0) left = gm_session_step(s, 0);
    assert_int_equal(left, 0);
    const size_t n_vocab = (size_t)engine->config.n_vocab;
    float *want = calloc(n_vocab, sizeof *want);
    FILE *f = fopen(SET "media/clip.last.f32", "rb");
    assert_non_null(f);
    assert_int_equal(fread(want, sizeof *want, n_vocab, f), n_vocab);
    fclose(f);
    /* Versions of FFmpeg may differ by a step of 255 in how they turn YUV into RGB. */
    assert_rows_close(gm_session_logits(s), want, (int64_t)n_vocab, 5e-3);
    free(want);
    gm_session_destroy(&s);
    gm_attachments_finish(&a);
    gm_ids_finish(&ids);
}

/* Forty frames at eight a second: number 1.25 k is seen, with the second it lies in. */
static void the_sound_track_follows_the_pictures(void **state) {
    (void)state;
    need_engine();
    gm_attachments a;
    gm_ids ids = {0};
    if (encode(&a, &ids, "", SET "media/clip_sound.webm", "")) fail_msg("%s", err);
    const gm_video_layout *v = gm_rows_video(a.rows[0]);
    assert_int_equal(v->n_frame, 32);
    for (uint32_t k = 0; k < 32; k++) {
        assert_int_equal(v->n_row[k], 66);
        assert_int_equal(v->seconds[k], k * 40 / 32 / 8);
    }
    assert_in_range(v->n_sound, 37, 39); /* 1.5 s, the codec rounds up to its frames */
    assert_int_equal(a.n, 33);
    const gm_special_ids *sp = gm_vocab_special(engine->vocab);
    for (size_t i = 0; i < 33; i++) {
        const gm_media_rows *m = &a.media[i];
        assert_int_equal(m->bidirectional, i < 32);
        assert_int_equal(ids.v[m->start - 1], i < 32 ? sp->image_begin : sp->audio_begin);
        assert_int_equal(ids.v[m->start], i < 32 ? sp->video : sp->audio);
        assert_int_equal(ids.v[m->start + m->n_row], i < 32 ? sp->image_end : sp->audio_end);
        if (i == 0) continue;
        assert_ptr_equal(m->rows, m[-1].rows + m[-1].n_row * (size_t)engine->config.n_embd);
        assert_true(m->hash != m[-1].hash);
    }
    assert_int_equal(a.media[32].start + a.media[32].n_row + 1, ids.n);
    gm_attachments_finish(&a);
    gm_ids_finish(&ids);
}

static void what_is_no_video_says_so(void **state) {
    (void)state;
    need_engine();
    static const char *const files[][2] = {{SET "media/photo.png", "no video"},
                                           {SET "media/tones.wav", "no video"},
                                           {SET "cases.txt", "no video"},
                                           {SET "no/such.mp4", "no such file"},
                                           {SET, "directory"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        gm_attachments a;
        gm_ids ids = {0};
        assert_true(encode(&a, &ids, "", files[i][0], "") < 0);
        assert_non_null(strstr(err, files[i][1]));
        assert_null(strchr(err, '\n'));
        assert_int_equal(ids.n, 0);
        gm_ids_finish(&ids);
    }
    /* A silent video is none for those who ask for its sound. */
    gm_rows *r;
    const char *clip = SET "media/clip.webm";
    assert_int_equal(open_rows(&r, GM_PART_AUDIO, (gm_str){clip, strlen(clip)}, 0, NULL),
                     GM_ENOENT);
    assert_non_null(strstr(err, "no sound track"));
}

/* What is kept is bounded, the least recently used goes first, and a prompt keeps its own. */
static void rows_are_kept_by_content_and_given_up_by_age(void **state) {
    (void)state;
    need_engine();
    gm_rows *photo, *again, *r;
    const gm_str name = {SET "media/photo.png", strlen(SET "media/photo.png")};
    const gm_str other = {SET "media/tall.png", strlen(SET "media/tall.png")};
    static const int32_t budget[] = {70, 140, 280, 560, 1120};
    assert_int_equal(open_rows(&photo, GM_PART_IMAGE, name, 70, NULL), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(open_rows(&r, GM_PART_IMAGE, other, budget[i], NULL), 0);
        gm_rows_release(&r);
        assert_int_equal(open_rows(&again, GM_PART_IMAGE, name, 70, NULL), 0);
        assert_ptr_equal(again, photo);
        gm_rows_release(&again);
    }
    int n = 0;
    for (int i = 0; i < GM_RECENT_ROWS; i++) n += store.recent[i] != NULL;
    assert_true(n >= 6 && n <= GM_RECENT_ROWS);
    assert_ptr_equal(store.recent[0], photo);
    gm_rows_release(&photo);
}

/* The flag is looked at while the file is hashed, so before FFmpeg could say anything about it. */
static void a_cancelled_request_does_not_read_the_file_to_its_end(void **state) {
    (void)state;
    need_engine();
    static gm_cancel cancel = {.set = true};
    static const gm_part_kind kinds[] = {GM_PART_IMAGE, GM_PART_AUDIO, GM_PART_VIDEO};
    const gm_str name = {SET "cases.txt", strlen(SET "cases.txt")};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        gm_rows *r;
        assert_int_equal(open_rows(&r, kinds[i], name, 0, &cancel), GM_ECANCELLED);
        assert_null(r);
    }
}

static void forget_rows(void) {
    for (int k = 0; k < GM_RECENT_ROWS; k++) gm_rows_release(&store.recent[k]);
}

static gm_cancel typed;

static void type(int signal) {
    (void)signal;
    atomic_store(&typed.set, true);
}

static void type_every(double ms) {
    const struct sigaction act = {.sa_handler = type, .sa_flags = SA_RESTART};
    const suseconds_t us = (suseconds_t)(ms * 1000);
    const struct itimerval t = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}};
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

/* A question about a video did not begin as long as somebody typed: each key threw away what it had
 * read. */
static void an_interrupted_video_goes_on_where_it_was(void **state) {
    (void)state;
    need_engine();
    static const char *const files[] = {SET "media/clip.webm", SET "media/clip_sound.webm"};
    for (size_t i = 0; i < 2; i++) {
        const gm_str name = {files[i], strlen(files[i])};
        gm_rows *want, *r = NULL;
        forget_rows();
        const uint64_t start = gm_now_ns();
        assert_int_equal(open_rows(&want, GM_PART_VIDEO, name, 0, NULL), 0);
        const double whole = gm_ms_since(start);
        forget_rows();
        int n = 0, rc = GM_ECANCELLED;
        type_every(whole / 8);
        while (rc == GM_ECANCELLED && ++n < 300) {
            atomic_store(&typed.set, false);
            rc = open_rows(&r, GM_PART_VIDEO, name, 0, &typed);
        }
        type_every(0);
        print_message("  %.0f ms, interrupted %d times\n", whole, n - 1);
        assert_int_equal(rc, 0);
        assert_null(store.film);
        assert_int_equal(gm_rows_n(r), gm_rows_n(want));
        assert_memory_equal(gm_rows_video(r), gm_rows_video(want), sizeof *gm_rows_video(r));
        assert_memory_equal(gm_rows_data(r), gm_rows_data(want),
                            (size_t)gm_rows_n(r) * (size_t)engine->config.n_embd * sizeof(float));
        gm_rows_release(&want);
        gm_rows_release(&r);
    }
}

/* Until somebody asks for another one, or for none. */
static void one_interrupted_video_is_kept(void **state) {
    (void)state;
    need_engine();
    const gm_str clip = {SET "media/clip.webm", strlen(SET "media/clip.webm")};
    const gm_str other = {SET "media/clip_sound.webm", strlen(SET "media/clip_sound.webm")};
    gm_rows *r;
    forget_rows();
    for (int n = 0; n < 1000 && !store.film; n++) {
        forget_rows();
        atomic_store(&typed.set, false);
        type_every(1 + n % 50);
        if (open_rows(&r, GM_PART_VIDEO, clip, 0, &typed) == 0) gm_rows_release(&r);
        type_every(0);
    }
    assert_non_null(store.film);
    gm_film_drop(&store, 1);
    assert_non_null(store.film); /* it is nobody's */
    assert_int_equal(open_rows(&r, GM_PART_VIDEO, other, 0, NULL), 0);
    gm_rows_release(&r);
    assert_null(store.film);
}

/* ---- jobs ---- */

static int ended; /* code of the last job that ended */

static int take(void *ud, const gm_event *ev, const char *text, size_t n) {
    (void)ud, (void)text, (void)n;
    if (ev->kind == GM_EV_DONE || ev->kind == GM_EV_ERROR) ended = ev->code;
    return GM_OK;
}

static gm_job *ask_about(const char *file, int64_t id, int32_t session) {
    gm_job *j = gm_job_create(GM_JOB_GENERATE);
    gm_generate_request *r = &j->gen;
    j->id = id;
    j->session = session;
    r->max_tokens = 1;
    r->text = gm_strndup(file, strlen(file));
    r->parts = gm_calloc(1, sizeof *r->parts);
    r->parts[0] = part(GM_PART_VIDEO, r->text);
    r->n_part = 1;
    return j;
}

static gm_service *serve(void) {
    gm_service *s;
    atomic_store(&typed.set, false);
    assert_int_equal(gm_service_create(&s, &typed, take, NULL), GM_OK);
    gm_job *j = gm_job_create(GM_JOB_LOAD);
    j->load.model_path = gm_strndup(SET "model-F16.gguf", strlen(SET "model-F16.gguf"));
    j->load.mmproj_path = gm_strndup(SET "mmproj-BF16.gguf", strlen(SET "mmproj-BF16.gguf"));
    j->load.n_ctx = 4096;
    j->load.n_threads = 1;
    j->load.kv_type = -1;
    while (!gm_service_step(s, j, 0, false)) continue;
    assert_int_equal(ended, 0);
    gm_job_destroy(&j);
    return s;
}

/* A question about another video that failed or was cancelled threw away what one had read of
 * this. */
static void the_end_of_another_job_leaves_an_interrupted_video(void **state) {
    (void)state;
    need_engine();
    gm_service *s = serve();
    const uint64_t start = gm_now_ns();
    gm_rows *r;
    const gm_str name = {SET "media/clip.webm", strlen(SET "media/clip.webm")};
    forget_rows();
    assert_int_equal(open_rows(&r, GM_PART_VIDEO, name, 0, NULL), 0);
    gm_rows_release(&r);
    const double whole = gm_ms_since(start);
    gm_job *j = ask_about(name.p, 7, 0);
    int n = 0;
    while (!j->work && ++n < 40) {
        atomic_store(&typed.set, false);
        type_every(whole / 4);
        assert_false(gm_service_step(s, j, 0, false));
        type_every(0);
        atomic_store(&typed.set, false);
        gm_job *other = ask_about(SET "no/such.mp4", 8 + n, 1);
        assert_true(gm_service_step(s, other, 0, n & 1));
        assert_int_equal(ended, n & 1 ? GM_ECANCELLED : GM_ENOENT);
        gm_job_destroy(&other);
    }
    print_message("  interrupted %d times\n", n - 1);
    assert_non_null(j->work);
    assert_true(gm_service_step(s, j, 0, true));
    gm_job_destroy(&j);
    gm_service_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_video_gives_the_logits_of_the_reference),
        cmocka_unit_test(the_sound_track_follows_the_pictures),
        cmocka_unit_test(what_is_no_video_says_so),
        cmocka_unit_test(rows_are_kept_by_content_and_given_up_by_age),
        cmocka_unit_test(a_cancelled_request_does_not_read_the_file_to_its_end),
        cmocka_unit_test(an_interrupted_video_goes_on_where_it_was),
        cmocka_unit_test(one_interrupted_video_is_kept),
        cmocka_unit_test(the_end_of_another_job_leaves_an_interrupted_video),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
