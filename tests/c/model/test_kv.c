/* test_kv.c: rings, how far back they go, and copies, without any arithmetic.
 *
 * The null backend gives real memory; the tests write each position's number into its rows.
 */
#include <stdio.h>
#include <string.h>
#include "helper/cm.h"

#include "base/err.h"
#include "base/mem.h"
#include "helper/random.h"
#include "model/kv.h"

enum { WINDOW = 8, SLACK = 6, N_CTX = 64, N_KV = 2, DIM = 4 };

typedef struct {
    gm_layer_config layer[2]; /* sliding, global */
    gm_config c;
    gm_backend *b;
} room;

static room *setup(void) {
    static room r;
    char err[128];
    memset(&r, 0, sizeof r);
    for (int i = 0; i < 2; i++)
        r.layer[i] =
            (gm_layer_config){.sliding = i == 0, .n_head = 4, .n_kv = N_KV, .head_dim = DIM};
    r.c = (gm_config){.n_layer = 2, .window = WINDOW, .layer = r.layer};
    assert_int_equal(gm_null_open(&r.b, err, sizeof err), 0);
    return &r;
}

static void teardown(room *r) { gm_backend_close(&r->b); }

static gm_kv *make(room *r, int32_t n_ctx, int32_t n_slack, gm_dtype type) {
    gm_kv *kv = NULL;
    char err[128] = "";
    gm_kv_opts o = {.n_ctx = n_ctx, .n_slack = n_slack, .type = type};
    int rc = gm_kv_create(&kv, &r->c, r->b, &o, err, sizeof err);
    if (rc) print_message("%s\n", err);
    assert_int_equal(rc, 0);
    return kv;
}

/* ---- rows that tell which position they hold ---- */

static float *row_of(gm_kv *kv, int layer, bool value, int32_t head, int32_t pos) {
    gm_kv_layer *l = gm_kv_layer_at(kv, layer);
    const gm_tensor *t = value ? &l->v : &l->k;
    return (float *)((char *)t->data +
                     ((size_t)head * l->n_slot + (size_t)(pos % l->n_slot)) * t->row_bytes);
}

static float mark(int layer, bool value, int32_t head, int32_t pos) {
    return (float)(pos * 100 + layer * 20 + head * 2 + value + 1);
}

static void put_rows(gm_kv *kv, int32_t from, int32_t n) {
    for (int32_t p = from; p < from + n; p++)
        for (int i = 0; i < 8; i++)
            for (int d = 0; d < DIM; d++)
                row_of(kv, i >> 2, i & 1, i >> 1 & 1, p)[d] = mark(i >> 2, i & 1, i >> 1 & 1, p);
}

/* n positions behind the length, as the decoder does it; a failed write does not advance. */
static void write_rows(gm_kv *kv, int32_t n, bool fails) {
    gm_kv_begin_write(kv, n);
    put_rows(kv, gm_kv_len(kv), n);
    if (!fails) gm_kv_advance(kv, n);
}

static bool holds(gm_kv *kv, int layer, int32_t pos) {
    for (int i = 0; i < 4; i++)
        for (int d = 0; d < DIM; d++)
            if (row_of(kv, layer, i & 1, i >> 1, pos)[d] != mark(layer, i & 1, i >> 1, pos))
                return false;
    return true;
}

/* Whether all that position len would look at is there. */
static bool can_go_on(gm_kv *kv, int32_t len) {
    for (int32_t p = 0; p < len; p++) {
        if (p > len - WINDOW && !holds(kv, 0, p)) return false;
        if (!holds(kv, 1, p)) return false;
    }
    return true;
}

/* ---- tests ---- */

static void sliding_layers_are_rings_and_global_ones_hold_the_context(void **state) {
    (void)state;
    room *r = setup();
    gm_kv *kv = make(r, N_CTX, SLACK, GM_F32);
    assert_int_equal(gm_kv_layer_at(kv, 0)->n_slot, WINDOW + SLACK);
    assert_int_equal(gm_kv_layer_at(kv, 1)->n_slot, N_CTX);
    assert_int_equal(gm_kv_slack(kv), SLACK);
    assert_int_equal(gm_kv_len(kv), 0);
    uint64_t rows = 2 * N_KV * (WINDOW + SLACK + N_CTX);
    assert_int_equal(gm_kv_bytes(kv), rows * DIM * sizeof(float));
    gm_kv_destroy(&kv);
    assert_null(kv);

    kv = make(r, 10, SLACK, GM_F32); /* a short context needs no longer ring */
    assert_int_equal(gm_kv_layer_at(kv, 0)->n_slot, 10);
    gm_kv_destroy(&kv);
    kv = make(r, 4096, 0, GM_F16);
    assert_int_equal(gm_kv_slack(kv), 512);
    assert_int_equal(gm_kv_layer_at(kv, 0)->n_slot, WINDOW + 512);
    assert_int_equal(gm_kv_layer_at(kv, 0)->k.dtype, GM_F16);
    gm_kv_destroy(&kv);
    teardown(r);
}

static void q8_0_falls_back_to_f16_where_heads_are_no_whole_blocks(void **state) {
    (void)state;
    room *r = setup();
    r->layer[0].head_dim = 48;
    r->layer[1].head_dim = 64;
    gm_kv *kv = make(r, N_CTX, SLACK, GM_Q8_0);
    assert_int_equal(gm_kv_layer_at(kv, 0)->k.dtype, GM_F16);
    assert_int_equal(gm_kv_layer_at(kv, 1)->v.dtype, GM_Q8_0);
    assert_int_equal(gm_kv_layer_at(kv, 1)->v.row_bytes, 68);
    gm_kv_destroy(&kv);
    teardown(r);
}

static void options_that_make_no_sense_are_refused(void **state) {
    (void)state;
    room *r = setup();
    static const gm_kv_opts bad[] = {
        {.n_ctx = 0, .type = GM_F16},
        {.n_ctx = -5, .type = GM_F16},
        {.n_ctx = 8, .n_slack = -1, .type = GM_F16},
        {.n_ctx = 8, .type = GM_Q4_0},
        {.n_ctx = 8, .type = (gm_dtype)63},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gm_kv *kv = NULL;
        char err[128] = "";
        assert_int_equal(gm_kv_create(&kv, &r->c, r->b, &bad[i], err, sizeof err), GM_EINVAL);
        assert_null(kv);
        assert_true(err[0] != '\0');
    }
    teardown(r);
}

static void rewind_works_inside_the_slack_and_empties_beyond_it(void **state) {
    (void)state;
    room *r = setup();
    gm_kv *kv = make(r, N_CTX, SLACK, GM_F32);
    for (int i = 0; i < 10; i++) write_rows(kv, 4, false);
    assert_int_equal(gm_kv_len(kv), 40);
    /* 26..39 are kept; going on from 33 looks at 26..32, from 32 it would need 25 */
    assert_true(gm_kv_can_rewind(kv, 40));
    assert_true(gm_kv_can_rewind(kv, 33));
    assert_false(gm_kv_can_rewind(kv, 32));
    assert_true(gm_kv_can_rewind(kv, 0));
    assert_false(gm_kv_can_rewind(kv, 41));
    assert_false(gm_kv_can_rewind(kv, -1));
    assert_int_equal(gm_kv_rewind(kv, 35), 35);
    assert_int_equal(gm_kv_len(kv), 35);
    /* what 36..39 overwrote stays gone */
    assert_false(gm_kv_can_rewind(kv, 32));
    assert_int_equal(gm_kv_rewind(kv, 32), 0);
    assert_int_equal(gm_kv_len(kv), 0);
    gm_kv_destroy(&kv);
    teardown(r);
}

/* A chunk that fails half way has overwritten the oldest rows although the length stays. */
static void failed_write_counts_for_what_is_gone(void **state) {
    (void)state;
    room *r = setup();
    gm_kv *kv = make(r, N_CTX, SLACK, GM_F32);
    for (int i = 0; i < 5; i++) write_rows(kv, 6, false);
    assert_true(gm_kv_can_rewind(kv, 24));
    write_rows(kv, 6, true);
    assert_int_equal(gm_kv_len(kv), 30);
    assert_true(gm_kv_can_rewind(kv, 30)); /* the same chunk may be tried again */
    assert_true(can_go_on(kv, 30));
    assert_false(gm_kv_can_rewind(kv, 24));
    assert_false(can_go_on(kv, 24));
    gm_kv_destroy(&kv);
    teardown(r);
}

/* Random writes, failed writes and rewinds: can_rewind says yes exactly when every row that going
 * on would look at is still there. */
static void can_rewind_is_exactly_whether_the_rows_are_there(void **state) {
    (void)state;
    room *r = setup();
    static const int32_t contexts[] = {N_CTX, 12, WINDOW + SLACK, WINDOW + SLACK + 1, 5};
    int yes = 0, no = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        test_rng rng = {seed};
        int32_t n_ctx = contexts[seed % 5];
        gm_kv *kv = make(r, n_ctx, SLACK, GM_F32);
        for (int step = 0; step < 60; step++) {
            int32_t n = 1 + (int32_t)rng_below(&rng, SLACK);
            if (n > n_ctx - gm_kv_len(kv) || rng_below(&rng, 4) == 0) {
                int32_t len = gm_kv_len(kv) - (int32_t)rng_below(&rng, 10);
                bool can = len >= 0 && gm_kv_can_rewind(kv, len);
                assert_int_equal(gm_kv_rewind(kv, len), can ? len : 0);
            } else {
                write_rows(kv, n, rng_below(&rng, 5) == 0);
            }
            for (int32_t len = 1; len <= gm_kv_len(kv); len++) {
                bool can = gm_kv_can_rewind(kv, len);
                if (can != can_go_on(kv, len))
                    print_message("seed %llu step %d len %d of %d\n", (unsigned long long)seed,
                                  step, len, gm_kv_len(kv));
                assert_int_equal(can, can_go_on(kv, len));
                *(can ? &yes : &no) += 1;
            }
        }
        gm_kv_destroy(&kv);
    }
    assert_true(yes > 1000 && no > 1000);
    teardown(r);
}

/* The same judge for copies, between rings of different size; the copy may know less, never more.
 */
static void fork_holds_what_it_says(void **state) {
    (void)state;
    room *r = setup();
    for (uint64_t seed = 0; seed < 200; seed++) {
        test_rng rng = {seed};
        gm_kv *src = make(r, N_CTX, SLACK, GM_F32);
        gm_kv *dst =
            make(r, 40 + (int32_t)rng_below(&rng, 40), 1 + (int32_t)rng_below(&rng, 20), GM_F32);
        int32_t chunks = (int32_t)rng_below(&rng, 7);
        for (int32_t i = 0; i < chunks; i++)
            write_rows(src, 1 + (int32_t)rng_below(&rng, SLACK), false);
        write_rows(dst, 1, false); /* what the copy had before goes */
        int32_t len = gm_kv_len(src) - (int32_t)rng_below(&rng, 5);
        if (len < 0) len = 0;
        bool can = gm_kv_can_rewind(src, len);
        assert_int_equal(gm_kv_fork(dst, src, len), can ? len : 0);
        assert_int_equal(gm_kv_len(dst), can ? len : 0);
        for (int32_t l = 0; l <= gm_kv_len(dst); l++)
            if (gm_kv_can_rewind(dst, l)) assert_true(can_go_on(dst, l));
        if (can && gm_kv_slack(dst) >= SLACK) /* no room lost: it goes back as far as the source */
            for (int32_t l = 1; l <= len; l++)
                assert_int_equal(gm_kv_can_rewind(dst, l), gm_kv_can_rewind(src, l));
        /* both go on independently */
        if (gm_kv_len(dst) > 0) {
            int32_t before = gm_kv_len(src);
            write_rows(dst, 1, false);
            assert_int_equal(gm_kv_len(src), before);
            assert_true(can_go_on(dst, gm_kv_len(dst)));
        }
        gm_kv_destroy(&src);
        gm_kv_destroy(&dst);
    }
    teardown(r);
}

static void fork_refuses_what_does_not_fit(void **state) {
    (void)state;
    room *r = setup();
    gm_kv *src = make(r, N_CTX, SLACK, GM_F32), *half = make(r, N_CTX, SLACK, GM_F16),
          *little = make(r, 10, SLACK, GM_F32);
    for (int i = 0; i < 3; i++) write_rows(src, 6, false);
    assert_int_equal(gm_kv_fork(half, src, 18), GM_EINVAL);
    assert_int_equal(gm_kv_fork(src, src, 18), GM_EINVAL);
    assert_int_equal(gm_kv_fork(little, src, 19), GM_EINVAL);
    assert_int_equal(gm_kv_fork(little, src, -1), GM_EINVAL);
    assert_int_equal(gm_kv_fork(little, src, 18), GM_ETOOLONG);
    assert_int_equal(gm_kv_fork(little, src, 5), 0); /* 5 is behind the slack of src */
    gm_kv_destroy(&src);
    gm_kv_destroy(&half);
    gm_kv_destroy(&little);
    teardown(r);
}

static void creation_survives_every_failing_allocation(void **state) {
    (void)state;
    room *r = setup();
    int rc = GM_ENOMEM;
    for (uint64_t n = 1; rc && n < 50; n++) {
        gm_kv *kv = NULL;
        char err[128] = "";
        gm_kv_opts o = {.n_ctx = N_CTX, .type = GM_F32};
        gm_mem_fail_at(n);
        rc = gm_kv_create(&kv, &r->c, r->b, &o, err, sizeof err);
        gm_mem_fail_at(0);
        if (rc) assert_int_equal(rc, GM_ENOMEM);
        if (rc) assert_null(kv);
        gm_kv_destroy(&kv);
    }
    assert_int_equal(rc, 0);
    teardown(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sliding_layers_are_rings_and_global_ones_hold_the_context),
        cmocka_unit_test(q8_0_falls_back_to_f16_where_heads_are_no_whole_blocks),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(rewind_works_inside_the_slack_and_empties_beyond_it),
        cmocka_unit_test(failed_write_counts_for_what_is_gone),
        cmocka_unit_test(can_rewind_is_exactly_whether_the_rows_are_there),
        cmocka_unit_test(fork_holds_what_it_says),
        cmocka_unit_test(fork_refuses_what_does_not_fit),
        cmocka_unit_test(creation_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
