/* test_session.c: whatever way a prompt came into a session, its logits are the same.
 *
 * A tiny random model with sliding layers (window 24, 512 positions of slack) and a cache of
 * float32, so that two ways may differ by the order of additions only.
 */
#include "helper/cm.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/session.h"
#include "helper/compare.h"
#include "helper/random.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"

enum { N_CTX = 2000, N_BATCH = 64, N_MAX = 1600, N_ROW = 20 };
static const double CLOSE = 2e-5; /* relative */

static test_tmp tmp;
static gm_cancel cancel;
static gm_engine *engine;
static int32_t text[N_MAX];       /* some prompt */
static float rows[2][N_ROW * 64]; /* two pictures, [N_ROW, n_embd] */
static char err[256];

static int open_engine(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    if (!tiny_model_write(tmp_path(&tmp, "tiny.gguf"), &(tiny_opts){.seed = 3})) return -1;
    gm_engine_opts o = {.model_path = tmp.path,
                        .n_ctx = N_CTX,
                        .n_batch = N_BATCH,
                        .n_threads = 1,
                        .kv_type = -1,
                        .cancel = &cancel};
    if (gm_engine_open(&engine, &o, err, sizeof err) != GM_OK) return -1;
    test_rng r = {11};
    for (int i = 0; i < N_MAX; i++)
        text[i] = (int32_t)rng_below(&r, (uint64_t)engine->config.n_vocab);
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < N_ROW * 64; i++) rows[p][i] = rng_gauss(&r);
    return 0;
}

static int close_engine(void **state) {
    (void)state;
    gm_engine_close(&engine);
    tmp_end(&tmp);
    return 0;
}

static gm_session *new_session(void) {
    gm_session *s;
    assert_int_equal(gm_session_create(&s, engine, err, sizeof err), GM_OK);
    return s;
}

/* Syncs to p in chunks and returns how many positions were kept. */
static size_t sync_to(gm_session *s, const gm_prompt *p, size_t chunk) {
    size_t reused;
    if (gm_session_begin(s, p, &reused, err, sizeof err) != GM_OK) fail_msg("%s", err);
    int64_t left = 1;
    while (left > 0) left = gm_session_step(s, chunk);
    assert_int_equal(left, 0);
    assert_int_equal(gm_session_len(s), p->n);
    return reused;
}

static size_t sync_text(gm_session *s, const int32_t *ids, size_t n, size_t chunk) {
    return sync_to(s, &(gm_prompt){.ids = ids, .n = n}, chunk);
}

/* The logits of s are those that a new session computes for p. */
static void assert_like_fresh(gm_session *s, const gm_prompt *p) {
    gm_session *fresh = new_session();
    sync_to(fresh, p, 0);
    assert_non_null(gm_session_logits(s));
    assert_rows_close(gm_session_logits(s), gm_session_logits(fresh), engine->config.n_vocab,
                      CLOSE);
    gm_session_destroy(&fresh);
}

static void assert_like_fresh_text(gm_session *s, const int32_t *ids, size_t n) {
    assert_like_fresh(s, &(gm_prompt){.ids = ids, .n = n});
}

static void chunks_of_any_size_give_the_same_logits(void **state) {
    (void)state;
    size_t chunks[] = {1, 7, 33, 64};
    for (size_t i = 0; i < 4; i++) {
        gm_session *s = new_session();
        assert_int_equal(sync_text(s, text, 150, chunks[i]), 0);
        assert_like_fresh_text(s, text, 150);
        gm_session_destroy(&s);
    }
}

static void appended_tokens_equal_a_longer_prompt(void **state) {
    (void)state;
    gm_session *s = new_session();
    sync_text(s, text, 40, 0);
    for (size_t i = 40; i < 100; i++) assert_int_equal(gm_session_append(s, text[i]), GM_OK);
    assert_like_fresh_text(s, text, 100);
    gm_session_destroy(&s);
}

static void many_appended_at_once_give_the_logits_of_each(void **state) {
    (void)state;
    enum { N = 6 };
    size_t n_vocab = (size_t)engine->config.n_vocab;
    float *many = gm_calloc(N * n_vocab, sizeof *many);
    gm_session *s = new_session(), *t = new_session();
    sync_text(s, text, 40, 0);
    sync_text(t, text, 40, 0);
    assert_int_equal(gm_session_append_many(s, text + 40, N, many), GM_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(gm_session_append(t, text[40 + i]), GM_OK);
        assert_rows_close(many + i * n_vocab, gm_session_logits(t), (int64_t)n_vocab, CLOSE);
    }
    /* Two of the six are rejected: taken back, and another token comes instead. */
    assert_int_equal(gm_session_rewind(s, 44), 44);
    assert_null(gm_session_logits(s));
    assert_int_equal(gm_session_append(s, 7), GM_OK);
    int32_t ids[45];
    memcpy(ids, text, sizeof ids);
    ids[44] = 7;
    assert_like_fresh_text(s, ids, 45);
    gm_session_destroy(&s);
    gm_session_destroy(&t);
    gm_free(many);
}

static void the_common_prefix_is_kept(void **state) {
    (void)state;
    int32_t other[300];
    memcpy(other, text, sizeof other);
    other[200]++;
    gm_session *s = new_session();
    assert_int_equal(sync_text(s, text, 300, 0), 0);
    assert_int_equal(gm_session_common(s, &(gm_prompt){.ids = other, .n = 300}), 200);
    assert_int_equal(sync_text(s, other, 300, 0), 200);
    assert_like_fresh_text(s, other, 300);
    /* shorter, longer, and back again */
    assert_int_equal(sync_text(s, other, 120, 0), 119);
    assert_like_fresh_text(s, other, 120);
    assert_int_equal(sync_text(s, text, 160, 0), 120);
    assert_like_fresh_text(s, text, 160);
    gm_session_destroy(&s);
}

static void a_warmed_prompt_needs_no_step_until_its_logits_were_taken(void **state) {
    (void)state;
    gm_session *s = new_session();
    sync_text(s, text, 50, 0);
    size_t reused;
    gm_prompt p = {.ids = text, .n = 50};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_OK);
    assert_int_equal(reused, 50);
    assert_int_equal(gm_session_step(s, 0), 0);
    assert_like_fresh_text(s, text, 50);
    /* A sampler may have overwritten them now. */
    memset(gm_session_logits(s), 0, 64);
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_OK);
    assert_int_equal(reused, 49);
    assert_null(gm_session_logits(s));
    assert_int_equal(gm_session_step(s, 0), 0);
    assert_like_fresh_text(s, text, 50);
    gm_session_destroy(&s);
}

static void going_back_within_the_slack_is_a_rewind_and_further_a_recompute(void **state) {
    (void)state;
    gm_session *s = new_session();
    sync_text(s, text, 1200, 0);
    gm_prompt near = {.ids = text, .n = 900}, far = {.ids = text, .n = 300};
    assert_int_equal(gm_session_reusable(s, &near), 899);
    assert_int_equal(gm_session_reusable(s, &far), 0);
    assert_int_equal(sync_to(s, &near, 0), 899);
    assert_like_fresh(s, &near);
    assert_int_equal(sync_to(s, &far, 0), 0);
    assert_like_fresh(s, &far);
    gm_session_destroy(&s);
}

static void rewind_then_append_continues_correctly(void **state) {
    (void)state;
    gm_session *s = new_session();
    sync_text(s, text, 500, 0);
    assert_int_equal(gm_session_rewind(s, 400), 400);
    assert_int_equal(gm_session_append(s, text[400]), GM_OK);
    assert_like_fresh_text(s, text, 401);
    assert_int_equal(gm_session_rewind(s, 9999), 401); /* not forward */
    assert_int_equal(gm_session_rewind(s, 0), 0);
    sync_text(s, text, 30, 0);
    assert_like_fresh_text(s, text, 30);
    gm_session_destroy(&s);
}

static void a_fork_continues_where_the_other_stood(void **state) {
    (void)state;
    gm_session *a = new_session(), *b = new_session();
    sync_text(a, text, 700, 0);
    sync_text(b, text + 50, 90, 0); /* something else that goes away */
    assert_int_equal(gm_session_fork(b, a, 600), 600);
    assert_null(gm_session_logits(b));
    int32_t ids[650];
    memcpy(ids, text, sizeof ids);
    for (int i = 600; i < 650; i++) ids[i] = 5;
    assert_int_equal(sync_text(b, ids, 650, 0), 600);
    assert_like_fresh_text(b, ids, 650);
    /* the original is untouched */
    assert_like_fresh_text(a, text, 700);
    /* a point whose window is gone gives an empty fork that works */
    sync_text(a, text, 1400, 0);
    assert_int_equal(gm_session_fork(b, a, 300), 0);
    assert_int_equal(gm_session_len(b), 0);
    sync_text(b, text, 60, 0);
    assert_like_fresh_text(b, text, 60);
    assert_int_equal(gm_session_fork(b, b, 1), GM_EINVAL);
    assert_int_equal(gm_session_fork(b, a, 1401), GM_EINVAL);
    gm_session_destroy(&a);
    gm_session_destroy(&b);
}

static void impossible_prompts_are_refused_and_leave_the_session_alone(void **state) {
    (void)state;
    gm_session *s = new_session();
    sync_text(s, text, 50, 0);
    static int32_t zeros[N_CTX + 1];
    int32_t bad[3] = {1, engine->config.n_vocab, 2}, negative[2] = {1, -1};
    size_t reused;
    gm_prompt p = {.ids = zeros, .n = N_CTX + 1};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_ETOOLONG);
    p = (gm_prompt){.ids = zeros, .n = 0};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    p = (gm_prompt){.ids = bad, .n = 3};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    p = (gm_prompt){.ids = negative, .n = 2};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    assert_int_equal(gm_session_append(s, -1), GM_EINVAL);
    assert_int_equal(gm_session_append(s, engine->config.n_vocab), GM_EINVAL);
    assert_int_equal(gm_session_len(s), 50);
    assert_int_equal(sync_text(s, text, 51, 0), 50);
    gm_session_destroy(&s);
}

static void the_last_position_of_the_context_can_be_used(void **state) {
    (void)state;
    static int32_t ids[N_CTX];
    for (int i = 0; i < N_CTX; i++) ids[i] = text[i % N_MAX];
    gm_session *s = new_session();
    sync_text(s, ids, N_CTX - 1, 0);
    assert_int_equal(gm_session_append(s, ids[N_CTX - 1]), GM_OK);
    assert_like_fresh_text(s, ids, N_CTX);
    assert_int_equal(gm_session_append(s, 1), GM_ETOOLONG);
    assert_int_equal(gm_session_len(s), N_CTX);
    gm_session_destroy(&s);
}

/* ---- cancelling ---- */

static const gm_backend_vtable *real_vt;
static int calls_until_cancel;

static int attention_then_cancel(gm_backend *b, const gm_op_attention *op) {
    int rc = real_vt->attention(b, op);
    if (--calls_until_cancel == 0) atomic_store(&cancel.set, true);
    return rc;
}

/* The flag rises after the n-th attention of a step, that is between two layers. */
static void a_cancelled_step_can_be_repeated(void **state) {
    (void)state;
    gm_backend_vtable vt = *engine->backend->vt;
    real_vt = engine->backend->vt;
    vt.attention = attention_then_cancel;
    for (int n = 1; n <= 4; n++) {
        gm_session *s = new_session();
        sync_text(s, text, 600, 0);
        size_t reused;
        gm_prompt p = {.ids = text, .n = 700};
        assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_OK);
        assert_true(gm_session_step(s, 40) > 0);
        calls_until_cancel = n;
        engine->backend->vt = &vt;
        assert_int_equal(gm_session_step(s, 40), GM_ECANCELLED);
        assert_int_equal(gm_session_len(s), 640);
        assert_null(gm_session_logits(s));
        engine->backend->vt = real_vt;
        atomic_store(&cancel.set, false);
        int64_t left;
        while ((left = gm_session_step(s, 40)) > 0) {
        }
        assert_int_equal(left, 0);
        assert_like_fresh_text(s, text, 700);
        /* and so can an appended token */
        calls_until_cancel = n;
        engine->backend->vt = &vt;
        assert_int_equal(gm_session_append(s, text[700]), GM_ECANCELLED);
        engine->backend->vt = real_vt;
        atomic_store(&cancel.set, false);
        assert_int_equal(gm_session_append(s, text[700]), GM_OK);
        assert_like_fresh_text(s, text, 701);
        gm_session_destroy(&s);
    }
}

/* A step that is cancelled has already written into the rings, up to position 1060 here. They keep
 * the 24 + 512 positions before that, from 524 on, and position n needs 23 before itself: 547 and
 * later ones can be gone back to. As far back as the finished positions alone would allow, 487,
 * must not read what was overwritten. A fork that is empty would be right each time, but useless.
 */
static void going_back_after_a_cancelled_step_is_correct(void **state) {
    (void)state;
    gm_backend_vtable vt = *engine->backend->vt;
    real_vt = engine->backend->vt;
    vt.attention = attention_then_cancel;
    gm_session *s = new_session();
    sync_text(s, text, 1000, 0);
    size_t reused;
    gm_prompt p = {.ids = text, .n = 1060};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_OK);
    calls_until_cancel = 4;
    engine->backend->vt = &vt;
    assert_int_equal(gm_session_step(s, 0), GM_ECANCELLED);
    engine->backend->vt = real_vt;
    atomic_store(&cancel.set, false);
    const size_t back[] = {990, 548, 547, 540, 500, 490, 488};
    for (size_t i = 0; i < sizeof back / sizeof *back; i++) {
        gm_session *f = new_session();
        gm_prompt q = {.ids = text, .n = back[i]};
        int64_t n = gm_session_fork(f, s, back[i] - 1);
        assert_int_equal(n, back[i] >= 548 ? (int64_t)back[i] - 1 : 0);
        sync_to(f, &q, 0);
        assert_like_fresh(f, &q);
        gm_session_destroy(&f);
    }
    gm_session_destroy(&s);
}

/* ---- rows of media ---- */

/* 30 tokens, a run of N_ROW rows, 15 tokens, another run, the rest text. */
static gm_prompt picture_prompt(gm_media_rows *m, int first, int second, bool bidirectional) {
    m[0] = (gm_media_rows){30, N_ROW, rows[first], (uint64_t)first + 1, bidirectional};
    m[1] = (gm_media_rows){65, N_ROW, rows[second], (uint64_t)second + 1, bidirectional};
    return (gm_prompt){.ids = text, .n = 120, .media = m, .n_media = 2};
}

static void pictures_stay_whole_and_chunks_do_not_matter(void **state) {
    (void)state;
    size_t chunks[] = {1, 7, 25, 64};
    for (int bidirectional = 0; bidirectional < 2; bidirectional++)
        for (size_t i = 0; i < 4; i++) {
            gm_media_rows m[2];
            gm_prompt p = picture_prompt(m, 0, 1, bidirectional);
            gm_session *s = new_session();
            sync_to(s, &p, chunks[i]);
            assert_int_equal(gm_session_media_rows(s), 2 * N_ROW);
            assert_like_fresh(s, &p);
            gm_session_destroy(&s);
        }
}

/* Rows of two runs do not lie together in memory, so no step may hold both. */
static void two_runs_close_together_keep_their_own_rows(void **state) {
    (void)state;
    size_t chunks[] = {3, 50, 64};
    int64_t n_vocab = engine->config.n_vocab;
    for (int bidirectional = 0; bidirectional < 2; bidirectional++) {
        gm_media_rows m[2] = {{4, N_ROW, rows[0], 1, bidirectional},
                              {28, N_ROW, rows[1], 2, bidirectional}};
        gm_prompt p = {.ids = text, .n = 60, .media = m, .n_media = 2};
        gm_session *one = new_session(); /* one token a step where that is possible */
        sync_to(one, &p, 1);
        for (size_t i = 0; i < 3; i++) {
            gm_session *s = new_session();
            sync_to(s, &p, chunks[i]);
            assert_rows_close(gm_session_logits(s), gm_session_logits(one), n_vocab, CLOSE);
            gm_session_destroy(&s);
        }
        gm_session_destroy(&one);
    }
}

static void rows_matter_and_so_does_seeing_both_ways(void **state) {
    (void)state;
    gm_media_rows m[2];
    int64_t n_vocab = engine->config.n_vocab;
    gm_session *a = new_session(), *b = new_session(), *c = new_session();
    gm_prompt p = picture_prompt(m, 0, 1, true);
    sync_to(a, &p, 0);
    p = picture_prompt(m, 1, 0, true);
    sync_to(b, &p, 0);
    p = picture_prompt(m, 0, 1, false);
    sync_to(c, &p, 0);
    assert_true(rel_error(gm_session_logits(a), gm_session_logits(b), n_vocab) > 1e-3);
    assert_true(rel_error(gm_session_logits(a), gm_session_logits(c), n_vocab) > 1e-3);
    gm_session_destroy(&a);
    gm_session_destroy(&b);
    gm_session_destroy(&c);
}

static void the_same_picture_is_computed_once(void **state) {
    (void)state;
    gm_media_rows m[2];
    gm_prompt p = picture_prompt(m, 0, 1, true);
    gm_session *s = new_session();
    sync_to(s, &p, 0);
    int32_t ids[120];
    memcpy(ids, text, sizeof ids);
    for (int i = 100; i < 120; i++) ids[i] = 3; /* another question */
    p.ids = ids;
    assert_int_equal(sync_to(s, &p, 0), 100);
    assert_int_equal(gm_session_media_rows(s), 2 * N_ROW);
    assert_like_fresh(s, &p);
    p = picture_prompt(m, 0, 0, true); /* another second picture */
    assert_int_equal(sync_to(s, &p, 0), 65);
    assert_int_equal(gm_session_media_rows(s), 3 * N_ROW);
    assert_like_fresh(s, &p);
    gm_session_destroy(&s);
}

/* Its rows saw one another, so half a picture in the cache is not what half a picture would be. */
static void a_cut_never_goes_through_a_picture(void **state) {
    (void)state;
    gm_media_rows m[2];
    gm_prompt p = picture_prompt(m, 0, 1, true);
    gm_session *s = new_session();
    sync_to(s, &p, 0);
    assert_int_equal(gm_session_rewind(s, 70), 65);
    sync_to(s, &p, 0);
    gm_prompt ends_in_picture = p;
    ends_in_picture.n = 85; /* the last position is computed again, and with it the whole run */
    assert_int_equal(sync_to(s, &ends_in_picture, 0), 65);
    assert_like_fresh(s, &ends_in_picture);
    /* Sound is causal and may be cut anywhere. */
    p = picture_prompt(m, 0, 1, false);
    sync_to(s, &p, 0);
    assert_int_equal(gm_session_rewind(s, 70), 70);
    sync_to(s, &p, 3);
    assert_like_fresh(s, &p);
    gm_session_destroy(&s);
}

static void media_that_do_not_fit_are_refused(void **state) {
    (void)state;
    gm_session *s = new_session();
    size_t reused;
    static float long_rows[(N_BATCH + 1) * 64];
    gm_media_rows m[2] = {{10, N_BATCH + 1, long_rows, 1, true}};
    gm_prompt p = {.ids = text, .n = 200, .media = m, .n_media = 1};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_ETOOLONG);
    m[0].bidirectional = false; /* a sound may be longer than a chunk */
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_OK);
    m[0] = (gm_media_rows){190, 20, long_rows, 1, true}; /* past the end */
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    m[0] = (gm_media_rows){10, 20, long_rows, 1, true};
    m[1] = (gm_media_rows){20, 20, long_rows, 2, true}; /* overlapping */
    p.n_media = 2;
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    m[1] = (gm_media_rows){40, SIZE_MAX, long_rows, 2, true};
    assert_int_equal(gm_session_begin(s, &p, &reused, err, sizeof err), GM_EINVAL);
    gm_session_destroy(&s);
}

/* ---- taps ---- */

typedef struct {
    size_t n, pos[16];
    float *rows;
} tapped;

static int on_logits(void *ud, size_t pos, const float *logits) {
    tapped *t = ud;
    size_t n_vocab = (size_t)engine->config.n_vocab;
    assert_true(t->n < 16);
    memcpy(t->rows + t->n * n_vocab, logits, n_vocab * sizeof *logits);
    t->pos[t->n++] = pos;
    return GM_OK;
}

static void a_tap_sees_the_logits_of_its_positions(void **state) {
    (void)state;
    const size_t want[] = {0, 3, 62, 63, 64, 99};
    size_t n_vocab = (size_t)engine->config.n_vocab;
    for (size_t chunk = 0; chunk < 10; chunk += 3) {
        tapped t = {.rows = gm_calloc(16 * n_vocab, sizeof(float))};
        gm_session *s = new_session();
        gm_session_set_tap(s, &(gm_logits_tap){want, 6, on_logits, &t});
        sync_text(s, text, 110, chunk);
        assert_int_equal(t.n, 6);
        assert_like_fresh_text(s, text, 110);
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(t.pos[i], want[i]);
            gm_session *f = new_session();
            sync_text(f, text, want[i] + 1, 0);
            assert_rows_close(t.rows + i * n_vocab, gm_session_logits(f), (int64_t)n_vocab, CLOSE);
            gm_session_destroy(&f);
        }
        gm_session_destroy(&s);
        gm_free(t.rows);
    }
}

static void creation_survives_every_failed_allocation(void **state) {
    (void)state;
    int failed = 0;
    for (uint64_t n = 1; n < 200; n++) {
        gm_session *s;
        gm_mem_fail_at(n);
        int rc = gm_session_create(&s, engine, err, sizeof err);
        gm_mem_fail_at(0);
        if (rc == GM_OK) {
            gm_session_destroy(&s);
            break;
        }
        assert_int_equal(rc, GM_ENOMEM);
        assert_null(s);
        failed++;
    }
    assert_true(failed > 8);
}

/* A large image that finds no memory costs that question, not the model. */
static void a_widening_that_fails_changes_nothing(void **state) {
    (void)state;
    gm_engine *wide;
    gm_engine_opts o = {
        .model_path = tmp.path, .n_ctx = N_CTX, .n_batch = N_BATCH, .n_threads = 1, .kv_type = -1};
    assert_int_equal(gm_engine_open(&wide, &o, err, sizeof err), GM_OK);
    int failed = 0;
    for (uint64_t n = 1;; n++) {
        gm_mem_fail_at(n);
        int rc = gm_engine_widen(wide, N_BATCH + 100, err, sizeof err);
        gm_mem_fail_at(0);
        gm_session *s;
        assert_int_equal(gm_session_create(&s, wide, err, sizeof err), GM_OK);
        sync_text(s, text, 100, N_BATCH);
        assert_like_fresh(s, &(gm_prompt){.ids = text, .n = 100});
        gm_session_destroy(&s);
        if (rc == GM_OK) break;
        assert_int_equal(rc, GM_ENOMEM);
        failed++;
    }
    assert_true(failed > 8);
    gm_engine_close(&wide);
}

/* Random edits of a prompt, as somebody types: never a wrong logit. */
static void random_edits_always_give_fresh_logits(void **state) {
    (void)state;
    test_rng r = {99};
    int32_t ids[300];
    size_t n = 200;
    memcpy(ids, text, sizeof ids);
    gm_session *s = new_session();
    for (int round = 0; round < 40; round++) {
        size_t at = rng_below(&r, n);
        switch (rng_below(&r, 4)) {
        case 0: ids[at] = (int32_t)rng_below(&r, 400); break;
        case 1: n = at + 1; break;
        case 2:
            while (n < 290 && rng_below(&r, 8)) ids[n++] = (int32_t)rng_below(&r, 400);
            break;
        default: gm_session_rewind(s, at); break;
        }
        sync_text(s, ids, n, 1 + rng_below(&r, 64));
        assert_like_fresh_text(s, ids, n);
    }
    gm_session_destroy(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_of_any_size_give_the_same_logits),
        cmocka_unit_test(appended_tokens_equal_a_longer_prompt),
        cmocka_unit_test(many_appended_at_once_give_the_logits_of_each),
        cmocka_unit_test(the_common_prefix_is_kept),
        cmocka_unit_test(a_warmed_prompt_needs_no_step_until_its_logits_were_taken),
        cmocka_unit_test(going_back_within_the_slack_is_a_rewind_and_further_a_recompute),
        cmocka_unit_test(rewind_then_append_continues_correctly),
        cmocka_unit_test(a_fork_continues_where_the_other_stood),
        cmocka_unit_test(impossible_prompts_are_refused_and_leave_the_session_alone),
        cmocka_unit_test(the_last_position_of_the_context_can_be_used),
        cmocka_unit_test(a_cancelled_step_can_be_repeated),
        cmocka_unit_test(going_back_after_a_cancelled_step_is_correct),
        cmocka_unit_test(pictures_stay_whole_and_chunks_do_not_matter),
        cmocka_unit_test(two_runs_close_together_keep_their_own_rows),
        cmocka_unit_test(rows_matter_and_so_does_seeing_both_ways),
        cmocka_unit_test(the_same_picture_is_computed_once),
        cmocka_unit_test(a_cut_never_goes_through_a_picture),
        cmocka_unit_test(media_that_do_not_fit_are_refused),
        cmocka_unit_test(a_tap_sees_the_logits_of_its_positions),
        cmocka_unit_test(creation_survives_every_failed_allocation),
        cmocka_unit_test(a_widening_that_fails_changes_nothing),
        cmocka_unit_test(random_edits_always_give_fresh_logits),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
