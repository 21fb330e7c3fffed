/* test_sampler.c: choosing a token. Expected choices and shares are worked out by hand or by the
 * plain definition in double precision. */
#include "helper/cm.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/sampler.h"
#include "helper/random.h"

enum { MAX_N = 70000 };

static int32_t pick(const gm_sampler_opts *o, const float *logits, int32_t n) {
    gm_sampler *s;
    static float copy[MAX_N];
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    assert_int_equal(gm_sampler_create(&s, o, n), GM_OK);
    int32_t id = gm_sampler_pick(s, copy, n, NULL, 0, NULL, NULL);
    gm_sampler_destroy(&s);
    assert_null(s);
    return id;
}

static int32_t greedy(const float *logits, int32_t n, const int32_t *suppressed, size_t n_supp,
                      const uint32_t *mask) {
    gm_sampler *s;
    float copy[64];
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    assert_int_equal(gm_sampler_create(&s, &(gm_sampler_opts){0}, n), GM_OK);
    int32_t id = gm_sampler_pick(s, copy, n, suppressed, n_supp, mask, NULL);
    gm_sampler_destroy(&s);
    return id;
}

/* How often each of n tokens comes out in `draws` draws. */
static void histogram(const gm_sampler_opts *o, const float *logits, int32_t n, int draws,
                      int *count) {
    gm_sampler *s;
    float copy[64];
    memset(count, 0, (size_t)n * sizeof *count);
    assert_int_equal(gm_sampler_create(&s, o, n), GM_OK);
    for (int i = 0; i < draws; i++) {
        memcpy(copy, logits, (size_t)n * sizeof *copy);
        int32_t id = gm_sampler_pick(s, copy, n, NULL, 0, NULL, NULL);
        assert_in_range(id, 0, n - 1);
        count[id]++;
    }
    gm_sampler_destroy(&s);
}

static void greedy_takes_the_highest_and_the_lowest_id_on_a_tie(void **state) {
    (void)state;
    float tail[37] = {0};
    assert_int_equal(greedy((float[]){1, 5, 3}, 3, NULL, 0, NULL), 1);
    assert_int_equal(greedy((float[]){5, 5, 5}, 3, NULL, 0, NULL), 0);
    assert_int_equal(greedy((float[]){-2, -1, -1}, 3, NULL, 0, NULL), 1);
    assert_int_equal(greedy((float[]){0, -0.0f}, 2, NULL, 0, NULL), 0);
    tail[36] = 1; /* behind the last whole block */
    assert_int_equal(greedy(tail, 37, NULL, 0, NULL), 36);
    tail[20] = 1;
    assert_int_equal(greedy(tail, 37, NULL, 0, NULL), 20);
}

static void nan_counts_as_lowest_and_infinity_as_highest(void **state) {
    (void)state;
    assert_int_equal(greedy((float[]){NAN, -7, NAN}, 3, NULL, 0, NULL), 1);
    assert_int_equal(greedy((float[]){1, INFINITY, 3}, 3, NULL, 0, NULL), 1);
    assert_int_equal(greedy((float[]){NAN, NAN}, 2, NULL, 0, NULL), 0);
    float bad[4] = {NAN, INFINITY, -INFINITY, 2};
    assert_int_equal(pick(&(gm_sampler_opts){.temperature = 1}, bad, 4), 1);
    float none[3] = {-INFINITY, NAN, -INFINITY};
    assert_in_range(pick(&(gm_sampler_opts){.temperature = 1, .top_p = 0.5f}, none, 3), 0, 2);
}

static void suppressed_tokens_never_come_out(void **state) {
    (void)state;
    assert_int_equal(greedy((float[]){1, 5, 3}, 3, (int32_t[]){1}, 1, NULL), 2);
    assert_int_equal(greedy((float[]){NAN, NAN, NAN}, 3, (int32_t[]){0, 1}, 2, NULL), 2);
    assert_int_equal(greedy((float[]){1, 2}, 2, (int32_t[]){0, 1}, 2, NULL), -1);
    assert_int_equal(greedy((float[]){1, 2}, 2, (int32_t[]){-5, 99}, 2, NULL), 1);
}

static void a_mask_limits_the_choice_unless_it_allows_nothing(void **state) {
    (void)state;
    float x[40] = {0};
    x[3] = 9;
    x[33] = 5;
    assert_int_equal(greedy(x, 40, NULL, 0, (uint32_t[]){0xFFFFFFF7u, 0xFFu}), 33);
    assert_int_equal(greedy(x, 40, NULL, 0, (uint32_t[]){0, 1u << 7}), 39);
    assert_int_equal(greedy(x, 40, NULL, 0, (uint32_t[]){0, 0}), 3);
    /* All that the mask allows is suppressed: it counts as none. */
    assert_int_equal(greedy(x, 40, (int32_t[]){33}, 1, (uint32_t[]){0, 2}), 3);
    /* Bits behind the vocabulary are no tokens. */
    assert_int_equal(greedy(x, 40, NULL, 0, (uint32_t[]){0, 0xFFFFFF00u}), 3);
}

static void logprob_is_the_share_before_any_filter(void **state) {
    (void)state;
    gm_sampler *s;
    float x[4] = {logf(0.5f), logf(0.25f), logf(0.125f), logf(0.125f)}, lp;
    gm_sampler_opts o = {.repeat_penalty = 3};
    assert_int_equal(gm_sampler_create(&s, &o, 4), GM_OK);
    gm_sampler_accept(s, 1);
    int32_t id = gm_sampler_pick(s, x, 4, (int32_t[]){0}, 1, (uint32_t[]){2}, &lp);
    assert_int_equal(id, 1);
    assert_float_equal(lp, logf(0.25f), 1e-5);
    gm_sampler_destroy(&s);
}

static void draws_follow_the_distribution(void **state) {
    (void)state;
    float x[4] = {logf(0.4f) + 7, logf(0.3f) + 7, logf(0.2f) + 7, logf(0.1f) + 7};
    int c[4];
    histogram(&(gm_sampler_opts){.temperature = 1, .seed = 5}, x, 4, 20000, c);
    for (int i = 0; i < 4; i++) assert_in_range(c[i], 7650 - 2000 * i, 8350 - 2000 * i);
    /* Temperature 1/2 squares the odds: 16, 9, 4, 1 of 30. */
    histogram(&(gm_sampler_opts){.temperature = 0.5f, .seed = 5}, x, 4, 30000, c);
    int want[4] = {16000, 9000, 4000, 1000};
    for (int i = 0; i < 4; i++) assert_in_range(c[i], want[i] - 400, want[i] + 400);
    /* A temperature that cannot be divided by is greedy, not NaN. */
    histogram(&(gm_sampler_opts){.temperature = 1e-40f, .seed = 5}, x, 4, 100, c);
    assert_int_equal(c[0], 100);
}

static void filters_keep_what_their_definition_says(void **state) {
    (void)state;
    const float x[6] = {logf(0.05f), logf(0.3f), logf(0.02f), logf(0.4f), logf(0.15f), logf(0.08f)};
    static const struct {
        gm_sampler_opts o;
        bool kept[6];
    } table[] = {
        {{.temperature = 1, .top_k = 1}, {0, 0, 0, 1, 0, 0}},
        {{.temperature = 1, .top_k = 3}, {0, 1, 0, 1, 1, 0}},
        {{.temperature = 1, .top_k = 100}, {1, 1, 1, 1, 1, 1}},
        {{.temperature = 1, .top_p = 0.39f}, {0, 0, 0, 1, 0, 0}},
        {{.temperature = 1, .top_p = 0.41f}, {0, 1, 0, 1, 0, 0}},
        {{.temperature = 1, .top_p = 0.86f}, {0, 1, 0, 1, 1, 1}},
        {{.temperature = 1, .top_p = 1}, {1, 1, 1, 1, 1, 1}},
        {{.temperature = 1, .min_p = 0.5f}, {0, 1, 0, 1, 0, 0}},
        {{.temperature = 1, .min_p = 0.12f}, {1, 1, 0, 1, 1, 1}},
        /* top-p over what top-k left: 0.4 of 0.7 is 0.571 */
        {{.temperature = 1, .top_k = 2, .top_p = 0.57f}, {0, 0, 0, 1, 0, 0}},
        {{.temperature = 1, .top_k = 2, .top_p = 0.58f}, {0, 1, 0, 1, 0, 0}},
        {{.temperature = 1, .top_k = 4, .min_p = 0.3f}, {0, 1, 0, 1, 1, 0}},
        /* filters see the model's distribution, not the heated one */
        {{.temperature = 50, .top_p = 0.41f}, {0, 1, 0, 1, 0, 0}},
    };
    for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
        int c[6];
        histogram(&table[t].o, x, 6, 3000, c);
        for (int i = 0; i < 6; i++)
            if ((c[i] > 0) != table[t].kept[i]) fail_msg("row %zu, token %d: %d", t, i, c[i]);
    }
}

static void repetition_penalty_divides_or_multiplies_once(void **state) {
    (void)state;
    gm_sampler *s;
    gm_sampler_opts o = {.repeat_penalty = 2, .repeat_last = 3};
    assert_int_equal(gm_sampler_create(&s, &o, 4), GM_OK);
    gm_sampler_accept(s, 3);
    gm_sampler_accept(s, 3);
    gm_sampler_accept(s, -1); /* no token: ignored */
    assert_int_equal(gm_sampler_pick(s, (float[]){1, 2, 3, 5}, 4, NULL, 0, NULL, NULL), 2);
    assert_int_equal(gm_sampler_pick(s, (float[]){1, 2, 3, 6.5f}, 4, NULL, 0, NULL, NULL), 3);
    assert_int_equal(gm_sampler_pick(s, (float[]){-7, -6, -5, -3}, 4, NULL, 0, NULL, NULL), 2);
    for (int i = 0; i < 3; i++) gm_sampler_accept(s, 0); /* 3 is out of the window now */
    assert_int_equal(gm_sampler_pick(s, (float[]){1, 2, 3, 5}, 4, NULL, 0, NULL, NULL), 3);
    gm_sampler_destroy(&s);
}

static void same_seed_same_choices(void **state) {
    (void)state;
    float x[50], y[50];
    test_rng r = {1};
    for (int i = 0; i < 50; i++) x[i] = rng_gauss(&r);
    int32_t first[2][200];
    for (int round = 0; round < 2; round++) {
        gm_sampler *s;
        gm_sampler_opts o = {.temperature = 1.2f, .top_k = 40, .top_p = 0.95f, .seed = 42};
        assert_int_equal(gm_sampler_create(&s, &o, 50), GM_OK);
        for (int i = 0; i < 200; i++) {
            memcpy(y, x, sizeof x);
            first[round][i] = gm_sampler_pick(s, y, 50, NULL, 0, NULL, NULL);
        }
        gm_sampler_destroy(&s);
    }
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    bool differs = false;
    gm_sampler *s;
    assert_int_equal(gm_sampler_create(&s, &(gm_sampler_opts){.temperature = 1.2f, .seed = 43}, 50),
                     GM_OK);
    for (int i = 0; i < 200; i++) {
        memcpy(y, x, sizeof x);
        differs |= gm_sampler_pick(s, y, 50, NULL, 0, NULL, NULL) != first[0][i];
    }
    gm_sampler_destroy(&s);
    assert_true(differs);
}

/* Over a large vocabulary the selection passes over most blocks; what it leaves must be exactly
 * what sorting everything leaves. Checked by drawing often from very few survivors. */
static void top_k_of_a_large_row_is_exact(void **state) {
    (void)state;
    enum { N = 60013, K = 5 };
    static float x[N], copy[N];
    test_rng r = {7};
    for (int i = 0; i < N; i++) x[i] = rng_gauss(&r);
    int32_t best[K];
    bool taken[N] = {0};
    for (int k = 0; k < K; k++) {
        int b = -1;
        for (int i = 0; i < N; i++)
            if (!taken[i] && (b < 0 || x[i] > x[b])) b = i;
        best[k] = b;
        taken[b] = true;
    }
    gm_sampler *s;
    assert_int_equal(gm_sampler_create(&s, &(gm_sampler_opts){.temperature = 5, .top_k = K}, N),
                     GM_OK);
    bool seen[K] = {0};
    for (int i = 0; i < 300; i++) {
        memcpy(copy, x, sizeof x);
        int32_t id = gm_sampler_pick(s, copy, N, NULL, 0, NULL, NULL);
        int at = -1;
        for (int k = 0; k < K; k++)
            if (best[k] == id) at = k;
        assert_true(at >= 0);
        seen[at] = true;
    }
    for (int k = 0; k < K; k++) assert_true(seen[k]);
    gm_sampler_destroy(&s);
}

/* A flat row: a thousand candidates do not hold half of the sum, so all must be sorted. */
static void top_p_of_a_flat_row_keeps_its_share(void **state) {
    (void)state;
    enum { N = 8000 };
    static float x[N], copy[N];
    for (int i = 0; i < N; i++) x[i] = i % 2 ? 0.0f : 1e-3f;
    gm_sampler *s;
    assert_int_equal(gm_sampler_create(&s, &(gm_sampler_opts){.temperature = 1, .top_p = 0.25f}, N),
                     GM_OK);
    int32_t highest = 0;
    for (int i = 0; i < 2000; i++) {
        memcpy(copy, x, sizeof x);
        int32_t id = gm_sampler_pick(s, copy, N, NULL, 0, NULL, NULL);
        assert_int_equal(id % 2, 0);
        if (id > highest) highest = id;
    }
    /* A quarter of the mass are the first 2,000 even ids, give or take rounding. */
    assert_in_range(highest, 3900, 4002);
    gm_sampler_destroy(&s);
}

/* ---- from the best of a row ---- */

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* What a device may say about x: all that reach the wanted-th highest logit, in no order, and a sum
 * that is off by no more than allowed. */
static void make_top(test_rng *r, const float *x, int32_t n, int32_t wanted, gm_top *t) {
    static float sorted[MAX_N];
    int32_t n_finite = 0;
    double sum = 0;
    *t = (gm_top){.n_row = n, .bound = -INFINITY};
    for (int32_t i = 0; i < n; i++)
        if (x[i] > -INFINITY) sorted[n_finite++] = x[i] < FLT_MAX ? x[i] : FLT_MAX; /* NaN is not */
    qsort(sorted, (size_t)n_finite, sizeof *sorted, descending);
    t->max = n_finite > 0 ? sorted[0] : -INFINITY;
    for (int32_t i = 0; i < n_finite; i++) sum += exp((double)sorted[i] - (double)t->max);
    t->sum = (float)(sum * (1 + GM_TOP_SUM_ERROR * ((double)(rng_u64(r) % 19) / 10 - 0.9)));
    if (wanted < n_finite) t->bound = sorted[wanted - 1];
    for (int32_t k = 0; k < n && t->n >= 0; k++) {
        int32_t i = n - 1 - k;
        float v = x[i] < FLT_MAX ? x[i] : FLT_MAX;
        if (!(x[i] > -INFINITY) || v < t->bound) continue;
        if (t->n == GM_TOP_ROOM) t->n = -1;
        else t->entry[t->n++] = (gm_top_entry){v, i};
    }
}

typedef struct {
    const char *name;
    gm_sampler_opts o;
    int32_t n, wanted;
    float scale;    /* of the logits */
    bool ties, odd; /* equal logits; infinities and NaN */
    int n_suppressed;
    int mask;  /* one token in so many is allowed; 0: no mask */
    int least; /* of 50 choices, how many must come from the best alone */
} top_case;

/* clang-format off */
static const top_case top_cases[] = {
    {"greedy", {.temperature = 0}, 3000, 256, 4, 0, 0, 3, 0, 50},
    {"greedy, ties", {.temperature = 0}, 3000, 30, 4, 1, 0, 3, 0, 25},
    {"greedy, not numbers", {.temperature = 0}, 3000, 256, 4, 0, 1, 3, 0, 40},
    {"greedy, masked", {.temperature = 0}, 3000, 256, 4, 0, 0, 3, 20, 47},
    {"greedy, nearly all masked", {.temperature = 0}, 3000, 256, 4, 0, 0, 3, 900, 1},
    {"greedy, penalty", {.repeat_penalty = 1.3f}, 900, 40, 2, 0, 0, 3, 0, 30},
    {"greedy, huge penalty", {.repeat_penalty = 1e30f}, 300, 20, 2, 0, 0, 1, 0, 1},
    {"greedy, penalty and mask", {.repeat_penalty = 1.3f}, 900, 100, 2, 0, 0, 3, 5, 30},
    {"top-k", {.temperature = 1, .top_k = 40}, 3000, 256, 4, 0, 0, 3, 0, 50},
    {"top-k, ties", {.temperature = 1, .top_k = 40}, 3000, 60, 4, 1, 0, 3, 0, 1},
    {"top-k, more than listed", {.temperature = 1, .top_k = 300}, 3000, 256, 4, 0, 0, 0, 0, 0},
    {"top-k, more than there are", {.temperature = 1, .top_k = 300}, 200, 256, 4, 0, 0, 5, 0, 50},
    {"top-k, top-p", {.temperature = 1, .top_k = 64, .top_p = 0.95f}, 3000, 256, 4, 0, 0, 3, 0, 50},
    {"top-k, top-p, penalty",
     {.temperature = 1, .top_k = 64, .top_p = 0.95f, .repeat_penalty = 1.2f}, 3000, 256, 4, 0, 0, 3, 0, 45},
    {"top-k, min-p", {.temperature = 1, .top_k = 64, .min_p = 0.05f}, 3000, 40, 6, 0, 0, 3, 0, 40},
    {"top-k, masked", {.temperature = 1, .top_k = 5}, 3000, 256, 4, 0, 0, 3, 10, 45},
    {"top-p", {.temperature = 0.8f, .top_p = 0.9f}, 3000, 256, 6, 0, 0, 3, 0, 40},
    {"top-p, most of it suppressed", {.temperature = 0.8f, .top_p = 0.9f}, 3000, 256, 9, 0, 0, 40, 0, 2},
    {"top-p, flat", {.temperature = 1, .top_p = 0.9f}, 3000, 256, 0.1f, 0, 0, 3, 0, 0},
    {"top-p, ties", {.temperature = 1, .top_p = 0.9f}, 3000, 60, 6, 1, 0, 3, 0, 1},
    {"top-p, penalty", {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1.2f}, 3000, 256, 6, 0, 0, 3, 0, 25},
    {"top-p, masked", {.temperature = 1, .top_p = 0.9f}, 3000, 256, 6, 0, 0, 3, 10, 0},
    {"top-p, all listed", {.temperature = 1, .top_p = 0.9f}, 200, 256, 4, 0, 1, 3, 0, 25},
    {"top-p, min-p", {.temperature = 1, .top_p = 0.95f, .min_p = 0.05f}, 3000, 256, 6, 0, 0, 3, 0, 40},
    {"min-p", {.temperature = 1.5f, .min_p = 0.05f}, 3000, 256, 6, 0, 0, 3, 0, 50},
    {"min-p, beyond the list", {.temperature = 1.5f, .min_p = 0.5f}, 3000, 40, 0.2f, 0, 0, 3, 0, 0},
    {"min-p, masked", {.temperature = 1.5f, .min_p = 0.3f}, 3000, 256, 4, 0, 0, 3, 10, 25},
    {"no filter", {.temperature = 1}, 3000, 256, 4, 0, 0, 3, 0, 0},
    {"a penalty that lifts", {.repeat_penalty = 0.7f}, 3000, 256, 4, 0, 0, 3, 0, 0},
};
/* clang-format on */

static void fill_row(test_rng *r, const top_case *c, float *x) {
    for (int32_t i = 0; i < c->n; i++) {
        x[i] = rng_gauss(r) * c->scale;
        if (c->ties) x[i] = rintf(x[i] * 4) / 4;
        if (c->odd && rng_u64(r) % 40 == 0) x[i] = rng_u64(r) % 2 ? NAN : -INFINITY;
        if (c->odd && rng_u64(r) % 9000 == 0) x[i] = INFINITY;
    }
}

/* Two samplers with the same past; one sees the best alone as often as that is enough. */
static void compare_choices(const top_case *c) {
    static float x[MAX_N], copy[MAX_N];
    static uint32_t mask[MAX_N / 32 + 1];
    static gm_top top;
    test_rng r = {11};
    gm_sampler *a, *b;
    gm_sampler_opts o = c->o;
    o.seed = 5;
    assert_int_equal(gm_sampler_create(&a, &o, c->n), GM_OK);
    assert_int_equal(gm_sampler_create(&b, &o, c->n), GM_OK);
    int enough = 0;
    fill_row(&r, c, x);
    for (int step = 0; step < 50; step++) {
        int32_t suppressed[64], got = -1, want;
        float got_p = 0, want_p;
        /* Some rows stay for a while, so that a penalty goes through all that were listed. */
        if (step % (c->o.repeat_penalty > 0 ? 25 : 3) == 0) fill_row(&r, c, x);
        for (int i = 0; i < c->n_suppressed; i++) {
            suppressed[i] = (int32_t)(rng_u64(&r) % (uint64_t)c->n);
            if (i % 2) x[suppressed[i]] = 3 * c->scale + (float)i * 0.1f; /* it would come out */
        }
        memset(mask, 0, sizeof mask);
        for (int32_t i = 0; c->mask && i < c->n; i++)
            if (rng_u64(&r) % (uint64_t)c->mask == 0) mask[i / 32] |= 1u << (i % 32);
        const uint32_t *m = c->mask ? mask : NULL;
        make_top(&r, x, c->n, c->wanted, &top);
        memcpy(copy, x, sizeof copy);
        want = gm_sampler_pick(b, copy, c->n, suppressed, (size_t)c->n_suppressed, m, &want_p);
        if (gm_sampler_pick_top(a, &top, c->n, suppressed, (size_t)c->n_suppressed, m, &got,
                                &got_p)) {
            enough++;
        } else {
            memcpy(copy, x, sizeof copy);
            got = gm_sampler_pick(a, copy, c->n, suppressed, (size_t)c->n_suppressed, m, &got_p);
        }
        if (got != want) fail_msg("%s, step %d: %d, the row says %d", c->name, step, got, want);
        if (!(fabsf(got_p - want_p) <= 1e-4f) && got_p != want_p)
            fail_msg("%s, step %d: log p %g and %g", c->name, step, (double)got_p, (double)want_p);
        gm_sampler_accept(a, got);
        gm_sampler_accept(b, got);
    }
    if (getenv("SAMPLER_VERBOSE")) print_message("  %s: %d\n", c->name, enough);
    if (enough < c->least) fail_msg("%s: only %d of 50 from the best alone", c->name, enough);
    if (c->least == 0) assert_int_equal(enough, 0);
    gm_sampler_destroy(&a);
    gm_sampler_destroy(&b);
}

static void the_best_of_a_row_give_the_choice_of_the_whole_row_or_none(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof top_cases / sizeof *top_cases; i++)
        compare_choices(&top_cases[i]);
}

static void a_list_of_another_row_or_without_room_is_not_used(void **state) {
    (void)state;
    static gm_top t = {
        .n_row = 10, .max = 1, .sum = 2, .bound = -INFINITY, .n = 2, .entry = {{1, 3}, {0, 4}}};
    gm_sampler *s;
    int32_t id = -1;
    assert_int_equal(gm_sampler_create(&s, &(gm_sampler_opts){0}, 10), GM_OK);
    assert_true(gm_sampler_pick_top(s, &t, 10, NULL, 0, NULL, &id, NULL));
    assert_int_equal(id, 3);
    assert_false(gm_sampler_pick_top(s, &t, 9, NULL, 0, NULL, &id, NULL));
    t.n = -1;
    assert_false(gm_sampler_pick_top(s, &t, 10, NULL, 0, NULL, &id, NULL));
    gm_sampler_destroy(&s);
}

static void picking_allocates_nothing(void **state) {
    (void)state;
    gm_sampler *s;
    float x[100] = {0}, lp;
    gm_sampler_opts o = {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1.1f};
    assert_int_equal(gm_sampler_create(&s, &o, 100), GM_OK);
    uint64_t before = gm_noalloc_violations();
    gm_noalloc_begin();
    for (int i = 0; i < 10; i++)
        gm_sampler_accept(s, gm_sampler_pick(s, x, 100, NULL, 0, NULL, &lp));
    gm_noalloc_end();
    assert_true(gm_noalloc_violations() == before);
    gm_sampler_destroy(&s);
}

static void creation_survives_every_failed_allocation(void **state) {
    (void)state;
    gm_sampler *s;
    gm_sampler_opts o = {.repeat_penalty = 1.1f};
    int failed = 0;
    for (uint64_t n = 1; n < 20; n++) {
        gm_mem_fail_at(n);
        int rc = gm_sampler_create(&s, &o, 100);
        gm_mem_fail_at(0);
        if (rc == GM_OK) break;
        assert_int_equal(rc, GM_ENOMEM);
        assert_null(s);
        failed++;
    }
    assert_int_equal(failed, 4);
    gm_sampler_destroy(&s);
    assert_int_equal(gm_sampler_create(&s, &o, 0), GM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_highest_and_the_lowest_id_on_a_tie),
        cmocka_unit_test(nan_counts_as_lowest_and_infinity_as_highest),
        cmocka_unit_test(suppressed_tokens_never_come_out),
        cmocka_unit_test(a_mask_limits_the_choice_unless_it_allows_nothing),
        cmocka_unit_test(logprob_is_the_share_before_any_filter),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(filters_keep_what_their_definition_says),
        cmocka_unit_test(repetition_penalty_divides_or_multiplies_once),
        cmocka_unit_test(same_seed_same_choices),
        cmocka_unit_test(top_k_of_a_large_row_is_exact),
        cmocka_unit_test(top_p_of_a_flat_row_keeps_its_share),
        cmocka_unit_test(the_best_of_a_row_give_the_choice_of_the_whole_row_or_none),
        cmocka_unit_test(a_list_of_another_row_or_without_room_is_not_used),
        cmocka_unit_test(picking_allocates_nothing),
        cmocka_unit_test(creation_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
