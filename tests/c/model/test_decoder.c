/* test_decoder.c: what must hold between runs of the forward pass, whatever its numbers are.
 *
 * The numbers themselves are judged by test_golden.c.
 */
#include <math.h>
#include <stdlib.h>
#include "model/fixture.h"

#include "base/mem.h"
#include "helper/compare.h"
#include "helper/random.h"
#include "helper/tiny_model.h"
#include "tensor/quant.h"

enum { N_VOCAB = 512, N_EMBD = 64, N_BATCH = 64, N_CTX = 256, N_LONG = 120 };

/* The decoder points into f, so f stays where it is. */
static void open_tiny(fixture *f, const tiny_opts *o, const char *device) {
    static gm_bytes file; /* the last one; a model borrows its bytes */
    gm_bytes_finish(&file);
    file = tiny_model_build(o);
    int rc = fixture_open_memory(f, &file, device, N_BATCH);
    if (rc) print_message("%s\n", f->err);
    assert_int_equal(rc, 0);
}

static void random_ids(int32_t *ids, int32_t n, uint64_t seed) {
    test_rng r = {seed};
    ids[0] = TINY_BOS;
    for (int32_t i = 1; i < n; i++) ids[i] = (int32_t)rng_below(&r, N_VOCAB);
}

static float *rows(int32_t n, int32_t width) {
    float *v = calloc((size_t)n * (size_t)width, sizeof *v);
    assert_non_null(v);
    return v;
}

/* n tokens behind the cache's length, all logits wanted. */
static int run_rows(fixture *f, gm_kv *kv, const int32_t *ids, const float *embd,
                    const int32_t *see_to, int32_t n, float *logits) {
    int32_t all[N_BATCH];
    for (int32_t i = 0; i < n && i < N_BATCH; i++) all[i] = i;
    gm_batch b = {.n_tok = n,
                  .ids = ids,
                  .embd = embd,
                  .see_to = see_to,
                  .n_out = n,
                  .out_rows = all,
                  .logits = logits};
    return gm_decoder_run(f->d, kv, &b);
}

/* ids[from..to-1] in chunks; logits: [to][N_VOCAB], rows from.. are written. */
static void run_chunks(fixture *f, gm_kv *kv, const int32_t *ids, int32_t from, int32_t to,
                       int32_t chunk, float *logits) {
    assert_int_equal(gm_kv_len(kv), from);
    for (int32_t at = from; at < to; at += chunk) {
        int32_t n = at + chunk < to ? chunk : to - at;
        int rc = run_rows(f, kv, ids + at, NULL, NULL, n, logits + (size_t)at * N_VOCAB);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(gm_kv_len(kv), to);
}

/* ---- equality of all ways to the same position ---- */

typedef struct {
    gm_dtype weights, cache;
    double limit;
} precision;

/* Rounding of an activation or of a cached row can fall to the other side when sums are taken in
 * another order; a random network makes about ten times as much of it. The most that AVX2 and plain
 * C make of it is 1.5e-6, 2.6e-4, 1.1e-3, 1.7e-4 and 4.3e-4; other instruction sets add in other
 * orders. */
static const precision precisions[] = {
    {GM_F32, GM_F32, 1e-5},  {GM_F32, GM_F16, 2e-3},  {GM_F32, GM_Q8_0, 1e-2},
    {GM_Q8_0, GM_F32, 2e-3}, {GM_Q4_0, GM_F16, 4e-3},
};

/* Head sizes of 32 and 64, so that the cache can be Q8_0; the window wraps the ring many times. */
static void open_for(fixture *f, const precision *p) {
    open_tiny(f,
              &(tiny_opts){.seed = 7,
                           .pattern = "ssgsg",
                           .dtype = p->weights,
                           .head_dim = 32,
                           .head_dim_global = 64},
              "cpu");
}

static void pieces_of_any_size_give_the_same_logits(void **state) {
    (void)state;
    static const int32_t chunks[] = {1, 3, 7, 64};
    int32_t ids[N_LONG];
    random_ids(ids, N_LONG, 1);
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        const precision *p = &precisions[i];
        fixture f;
        open_for(&f, p);
        float *want = rows(N_LONG, N_VOCAB), *got = rows(N_LONG, N_VOCAB);
        gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, p->cache);
        run_chunks(&f, kv, ids, 0, N_LONG, 24, want);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            assert_int_equal(gm_kv_rewind(kv, 0), 0);
            run_chunks(&f, kv, ids, 0, N_LONG, chunks[c], got);
            assert_rows_close(got, want, N_LONG * N_VOCAB, p->limit);
        }
        gm_kv_destroy(&kv);
        free(want);
        free(got);
        fixture_close(&f);
    }
}

/* The whole sequence in one batch without any ring to wrap is the simplest form of the pass. */
static void ring_and_full_cache_give_the_same_logits(void **state) {
    (void)state;
    int32_t ids[N_LONG];
    random_ids(ids, N_LONG, 2);
    fixture f;
    open_for(&f, &precisions[0]);
    float *want = rows(N_LONG, N_VOCAB), *got = rows(N_LONG, N_VOCAB);
    gm_kv *full = fixture_cache(&f, N_CTX, N_CTX, GM_F32),
          *ring = fixture_cache(&f, N_CTX, 5, GM_F32);
    assert_int_equal(gm_kv_layer_at(ring, 0)->n_slot, 24 + 5);
    assert_int_equal(gm_kv_layer_at(full, 0)->n_slot, N_CTX);
    run_chunks(&f, full, ids, 0, N_LONG, 60, want);
    run_chunks(&f, ring, ids, 0, N_LONG, 5, got);
    assert_rows_close(got, want, N_LONG * N_VOCAB, 1e-5);
    gm_kv_destroy(&full);
    gm_kv_destroy(&ring);
    free(want);
    free(got);
    fixture_close(&f);
}

static void rewound_and_forked_caches_go_on_as_if_nothing_had_been(void **state) {
    (void)state;
    int32_t ids[N_LONG], other[N_LONG];
    random_ids(ids, N_LONG, 3);
    random_ids(other, N_LONG, 4);
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        const precision *p = &precisions[i];
        fixture f;
        open_for(&f, p);
        float *want = rows(N_LONG, N_VOCAB), *got = rows(N_LONG, N_VOCAB),
              *waste = rows(N_LONG, N_VOCAB);
        gm_kv *kv = fixture_cache(&f, N_CTX, 30, p->cache),
              *copy = fixture_cache(&f, N_CTX, 40, p->cache);
        run_chunks(&f, kv, ids, 0, N_LONG, 30, want);
        gm_kv_rewind(kv, 0);

        /* 80 right ones, 25 wrong ones, back, and on from 80 */
        run_chunks(&f, kv, ids, 0, 80, 30, got);
        run_chunks(&f, kv, other, 80, 105, 9, waste);
        assert_int_equal(gm_kv_rewind(kv, 80), 80);
        run_chunks(&f, kv, ids, 80, N_LONG, 10, got);
        assert_rows_close(got + 80 * N_VOCAB, want + 80 * N_VOCAB, 40 * N_VOCAB, p->limit);

        /* a copy of the first 100, while the original goes elsewhere */
        assert_int_equal(gm_kv_fork(copy, kv, 100), 100);
        assert_int_equal(gm_kv_rewind(kv, 100), 100);
        run_chunks(&f, kv, other, 100, N_LONG, 10, waste);
        memset(got, 0, sizeof(float) * N_LONG * N_VOCAB);
        run_chunks(&f, copy, ids, 100, N_LONG, 7, got);
        assert_rows_close(got + 100 * N_VOCAB, want + 100 * N_VOCAB, 20 * N_VOCAB, p->limit);
        gm_kv_destroy(&kv);
        gm_kv_destroy(&copy);
        free(want);
        free(got);
        free(waste);
        fixture_close(&f);
    }
}

/* On the last layer rows before the first wanted one are not computed. */
static void wanted_rows_do_not_depend_on_which_others_are_wanted(void **state) {
    (void)state;
    enum { N = 40 };
    int32_t ids[N], last = N - 1, some[] = {5, 6, 7, 20, 38};
    random_ids(ids, N, 5);
    static const char *const patterns[] = {"ssgsg", "ggs", "s"};
    for (size_t i = 0; i < 3; i++) {
        fixture f;
        open_tiny(&f, &(tiny_opts){.seed = 8, .pattern = patterns[i]}, "cpu");
        float *want = rows(N, N_VOCAB), *got = rows(N, N_VOCAB);
        gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F32);
        run_chunks(&f, kv, ids, 0, N, N, want);

        gm_kv_rewind(kv, 0);
        gm_batch b = {.n_tok = N, .ids = ids, .n_out = 1, .out_rows = &last, .logits = got};
        assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
        assert_rows_close(got, want + last * N_VOCAB, N_VOCAB, 1e-5);

        gm_kv_rewind(kv, 0);
        b.n_out = 5;
        b.out_rows = some;
        assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
        for (int j = 0; j < 5; j++)
            assert_rows_close(got + j * N_VOCAB, want + some[j] * N_VOCAB, N_VOCAB, 1e-5);

        /* none at all, then one token more: the cache is complete */
        gm_kv_rewind(kv, 0);
        b = (gm_batch){.n_tok = last, .ids = ids};
        assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
        assert_int_equal(gm_kv_len(kv), last);
        assert_int_equal(run_rows(&f, kv, ids + last, NULL, NULL, 1, got), 0);
        assert_rows_close(got, want + last * N_VOCAB, N_VOCAB, 1e-5);
        gm_kv_destroy(&kv);
        free(want);
        free(got);
        fixture_close(&f);
    }
}

/* ---- who sees whom ---- */

/* Whether the logits of row `seen_by` change when the token at `changed` does; one batch of n. */
static bool reaches(fixture *f, int32_t n, int32_t changed, int32_t seen_by) {
    int32_t ids[N_BATCH];
    float *a = rows(n, N_VOCAB), *b = rows(n, N_VOCAB);
    gm_kv *kv = fixture_cache(f, N_CTX, N_BATCH, GM_F32);
    random_ids(ids, n, 6);
    assert_int_equal(run_rows(f, kv, ids, NULL, NULL, n, a), 0);
    gm_kv_rewind(kv, 0);
    ids[changed] = (ids[changed] + 100) % N_VOCAB;
    assert_int_equal(run_rows(f, kv, ids, NULL, NULL, n, b), 0);
    double e = rel_error(a + seen_by * N_VOCAB, b + seen_by * N_VOCAB, N_VOCAB);
    gm_kv_destroy(&kv);
    free(a);
    free(b);
    return e > 1e-5;
}

static void sliding_layer_sees_exactly_its_window(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 9, .pattern = "s", .window = 10}, "cpu");
    assert_true(reaches(&f, 40, 30, 30));
    assert_true(reaches(&f, 40, 21, 30));  /* 30 - 9: the window is 10 with itself */
    assert_false(reaches(&f, 40, 20, 30)); /* 30 - 10 */
    assert_false(reaches(&f, 40, 31, 30)); /* what comes later */
    fixture_close(&f);
    open_tiny(&f, &(tiny_opts){.seed = 9, .pattern = "ss", .window = 10}, "cpu");
    assert_true(reaches(&f, 40, 12, 30)); /* two layers reach twice as far */
    assert_false(reaches(&f, 40, 11, 30));
    fixture_close(&f);
}

static void global_layer_sees_everything_before_it(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 9, .pattern = "g", .window = 10}, "cpu");
    assert_true(reaches(&f, 60, 0, 59));
    assert_false(reaches(&f, 60, 59, 58));
    fixture_close(&f);
}

/* ---- media rows ---- */

enum { IMG_FROM = 6, IMG_TO = 16, IMG_N = IMG_TO - IMG_FROM, N_MIX = 24 };

typedef struct {
    int32_t ids[N_MIX], see_to[N_MIX];
    float embd[IMG_N * N_EMBD];
} mixture;

/* Ten rows of an image (or of a sound, which is causal) among tokens. */
static void make_mixture(mixture *m, bool image) {
    test_rng r = {11};
    random_ids(m->ids, N_MIX, 12);
    for (int32_t t = 0; t < N_MIX; t++) {
        bool inside = t >= IMG_FROM && t < IMG_TO;
        m->see_to[t] = inside && image ? IMG_TO - 1 : t;
        if (inside) m->ids[t] = -1;
    }
    for (int i = 0; i < IMG_N * N_EMBD; i++) m->embd[i] = rng_gauss(&r);
}

/* Which rows of logits change with the embedding row `changed` of the mixture. */
static void changed_rows(fixture *f, bool image, int32_t changed, bool *out) {
    mixture m;
    make_mixture(&m, image);
    float *a = rows(N_MIX, N_VOCAB), *b = rows(N_MIX, N_VOCAB);
    gm_kv *kv = fixture_cache(f, N_CTX, N_BATCH, GM_F32);
    assert_int_equal(run_rows(f, kv, m.ids, m.embd, m.see_to, N_MIX, a), 0);
    gm_kv_rewind(kv, 0);
    for (int i = 0; i < N_EMBD; i++) m.embd[(changed - IMG_FROM) * N_EMBD + i] *= -1.0f;
    assert_int_equal(run_rows(f, kv, m.ids, m.embd, m.see_to, N_MIX, b), 0);
    for (int32_t t = 0; t < N_MIX; t++)
        out[t] = rel_error(a + t * N_VOCAB, b + t * N_VOCAB, N_VOCAB) > 1e-5;
    gm_kv_destroy(&kv);
    free(a);
    free(b);
}

static void image_rows_see_later_ones_on_sliding_layers_only(void **state) {
    (void)state;
    bool changed[N_MIX];
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 13, .pattern = "s"}, "cpu");
    changed_rows(&f, true, 12, changed);
    for (int32_t t = 0; t < N_MIX; t++) assert_int_equal(changed[t], t >= IMG_FROM);
    changed_rows(&f, false, 12, changed); /* a sound is causal */
    for (int32_t t = 0; t < N_MIX; t++) assert_int_equal(changed[t], t >= 12);
    fixture_close(&f);

    open_tiny(&f, &(tiny_opts){.seed = 13, .pattern = "g"}, "cpu");
    changed_rows(&f, true, 12, changed);
    for (int32_t t = 0; t < N_MIX; t++) assert_int_equal(changed[t], t >= 12);
    fixture_close(&f);

    /* An image longer than the window: forward as far as it goes, backward only the window. */
    open_tiny(&f, &(tiny_opts){.seed = 13, .pattern = "s", .window = 4}, "cpu");
    changed_rows(&f, true, 12, changed);
    for (int32_t t = 0; t < N_MIX; t++) assert_int_equal(changed[t], t >= IMG_FROM && t < IMG_TO);
    changed_rows(&f, true, 8, changed);
    for (int32_t t = 0; t < N_MIX; t++) assert_int_equal(changed[t], t >= IMG_FROM && t < 12);
    fixture_close(&f);
}

static void image_behind_other_chunks_gives_the_same_logits(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 14, .window = 8}, "cpu");
    mixture m;
    make_mixture(&m, true);
    float *want = rows(N_MIX, N_VOCAB), *got = rows(N_MIX, N_VOCAB);
    gm_kv *kv = fixture_cache(&f, N_CTX, 12, GM_F32),
          *full = fixture_cache(&f, N_CTX, N_CTX, GM_F32);
    assert_int_equal(run_rows(&f, full, m.ids, m.embd, m.see_to, N_MIX, want), 0);
    static const int32_t cut[] = {0, 5, 16, 17, N_MIX};
    for (int i = 0; i < 4; i++) {
        int32_t a = cut[i], n = cut[i + 1] - a;
        assert_int_equal(run_rows(&f, kv, m.ids + a, m.embd, m.see_to + a, n, got + a * N_VOCAB),
                         0);
    }
    assert_rows_close(got, want, N_MIX * N_VOCAB, 1e-5);
    gm_kv_destroy(&kv);
    gm_kv_destroy(&full);
    free(want);
    free(got);
    fixture_close(&f);
}

/* A row that equals the scaled embedding of a token is that token: nothing is scaled twice. */
static void media_rows_are_taken_as_they_are(void **state) {
    (void)state;
    enum { N = 9 };
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 15}, "cpu");
    int32_t ids[N];
    random_ids(ids, N, 16);
    float *want = rows(N, N_VOCAB), *got = rows(N, N_VOCAB), embd[3 * N_EMBD];
    gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F32);
    run_chunks(&f, kv, ids, 0, N, N, want);
    static const int32_t at[] = {2, 3, 7};
    for (int i = 0; i < 3; i++) {
        gm_dequant_row(f.w->token_embd.dtype, gm_tensor_row(&f.w->token_embd, ids[at[i]]),
                       embd + i * N_EMBD, N_EMBD);
        for (int j = 0; j < N_EMBD; j++) embd[i * N_EMBD + j] *= 8.0f; /* sqrt(64) */
        ids[at[i]] = -1;
    }
    gm_kv_rewind(kv, 0);
    assert_int_equal(run_rows(&f, kv, ids, embd, NULL, N, got), 0);
    assert_rows_close(got, want, N * N_VOCAB, 1e-6);
    gm_kv_destroy(&kv);
    free(want);
    free(got);
    fixture_close(&f);
}

/* ---- the head ---- */

static void logits_of(float softcap, const int32_t *ids, int32_t n, float *logits) {
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 17, .softcap = softcap}, "cpu");
    int32_t all[N_CTX];
    for (int32_t i = 0; i < n; i++) all[i] = i;
    gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F32);
    gm_batch b = {.n_tok = n, .ids = ids, .n_out = n, .out_rows = all, .logits = logits};
    assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
    gm_kv_destroy(&kv);
    fixture_close(&f);
}

/* More rows than the head computes at once. */
static void the_softcap_bends_the_logits_of_every_row(void **state) {
    (void)state;
    enum { N = 20 };
    int32_t ids[N];
    random_ids(ids, N, 18);
    float *logits = rows(N, N_VOCAB), *want = rows(N, N_VOCAB);
    logits_of(12.0f, ids, N, logits);
    logits_of(1e6f, ids, N, want); /* as good as none */
    for (int32_t i = 0; i < N * N_VOCAB; i++) want[i] = 12.0f * tanhf(want[i] / 12.0f);
    assert_rows_close(logits, want, N * N_VOCAB, 1e-5);
    free(logits);
    free(want);
}

/* ---- files that say the same in another way ---- */

static void order_and_alignment_of_the_file_do_not_matter(void **state) {
    (void)state;
    enum { N = 30 };
    static const tiny_opts variants[] = {
        {.seed = 19, .shuffle = true},
        {.seed = 19, .alignment = 8},
        {.seed = 19, .alignment = 4096, .shuffle = true},
        {.seed = 19, .dtype = GM_F16},
        {.seed = 19, .dtype = GM_BF16, .alignment = 8},
        {.seed = 19, .alignment = 1}, /* floats at odd addresses */
        {.seed = 19, .dtype = GM_F16, .alignment = 1},
    };
    int32_t ids[N];
    random_ids(ids, N, 20);
    float *want = rows(N, N_VOCAB), *got = rows(N, N_VOCAB);
    for (int i = -1; i < (int)(sizeof variants / sizeof *variants); i++) {
        fixture f;
        open_tiny(&f, i < 0 ? &(tiny_opts){.seed = 19} : &variants[i], "cpu");
        gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F32);
        run_chunks(&f, kv, ids, 0, N, N, i < 0 ? want : got);
        if (i >= 0) assert_rows_close(got, want, N * N_VOCAB, 1e-5);
        gm_kv_destroy(&kv);
        fixture_close(&f);
    }
    free(want);
    free(got);
}

/* ---- failing and allocating ---- */

static void running_allocates_nothing(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 21, .dtype = GM_Q8_0}, "cpu");
    int32_t ids[N_LONG];
    random_ids(ids, N_LONG, 22);
    float *logits = rows(N_LONG, N_VOCAB);
    gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F16);
    uint64_t before = gm_noalloc_violations();
    gm_mem_fail_at(0);
    run_chunks(&f, kv, ids, 0, 64, 64, logits);
    run_chunks(&f, kv, ids, 64, N_LONG, 1, logits);
    assert_int_equal(gm_mem_fail_at(0), 0); /* on no thread */
    assert_int_equal(gm_noalloc_violations(), before);
    gm_kv_destroy(&kv);
    free(logits);
    fixture_close(&f);
}

static void batches_that_make_no_sense_are_refused_and_change_nothing(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 23}, "cpu");
    gm_kv *kv = fixture_cache(&f, 70, 60, GM_F32);
    int32_t ids[80], rows_up[] = {0, 1}, rows_down[] = {1, 0}, twice[] = {1, 1}, far[] = {0, 4};
    int32_t see[4] = {0, 1, 2, 4}, unknown[] = {1, N_VOCAB, 2, 3}, negative[] = {1, -2, 2, 3},
            media[] = {1, -1, 2, 3};
    float *logits = rows(80, N_VOCAB), embd[N_EMBD] = {0};
    random_ids(ids, 80, 24);
    const struct {
        gm_batch b;
        int code;
    } bad[] = {
        {{.n_tok = 0, .ids = ids}, GM_EINVAL},
        {{.n_tok = 65, .ids = ids}, GM_EINVAL}, /* more than n_batch */
        {{.n_tok = 61, .ids = ids}, GM_EINVAL}, /* more than the slack */
        {{.n_tok = 4, .ids = unknown}, GM_EINVAL},
        {{.n_tok = 4, .ids = negative, .embd = embd}, GM_EINVAL},
        {{.n_tok = 4, .ids = media}, GM_EINVAL}, /* without rows */
        {{.n_tok = 4, .ids = ids, .n_out = 2, .out_rows = rows_down, .logits = logits}, GM_EINVAL},
        {{.n_tok = 4, .ids = ids, .n_out = 2, .out_rows = twice, .logits = logits}, GM_EINVAL},
        {{.n_tok = 4, .ids = ids, .n_out = 2, .out_rows = far, .logits = logits}, GM_EINVAL},
        {{.n_tok = 4, .ids = ids, .n_out = -1, .out_rows = rows_up}, GM_EINVAL},
        {{.n_tok = 4, .ids = ids, .see_to = see}, GM_EINVAL}, /* beyond the batch */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(gm_decoder_run(f.d, kv, &bad[i].b), bad[i].code);
        assert_int_equal(gm_kv_len(kv), 0);
    }
    run_chunks(&f, kv, ids, 0, 66, 60, logits);
    gm_batch over = {.n_tok = 5, .ids = ids};
    assert_int_equal(gm_decoder_run(f.d, kv, &over), GM_ETOOLONG);
    assert_int_equal(gm_kv_len(kv), 66);
    over.n_tok = 4;
    assert_int_equal(gm_decoder_run(f.d, kv, &over), 0);
    assert_int_equal(gm_kv_len(kv), 70);
    gm_kv_destroy(&kv);
    free(logits);
    fixture_close(&f);
}

/* The CPU backend with one matmul that goes wrong: its number counts down to 0, then the flag rises
 * or the device fails. */
static const gm_backend_vtable *cpu;
static int countdown;
static gm_cancel *to_raise; /* NULL: the device fails instead */

static int failing_matmul(gm_backend *b, const gm_op_matmul *op) {
    if (countdown-- == 0) {
        if (!to_raise) return GM_EDEVICE;
        atomic_store(&to_raise->set, true);
    }
    return cpu->matmul(b, op);
}

static void check_stops(bool cancels) {
    int32_t ids[60];
    random_ids(ids, 60, 25);
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 26}, "cpu");
    float *want = rows(60, N_VOCAB), *got = rows(60, N_VOCAB);
    gm_kv *kv = fixture_cache(&f, N_CTX, 20, GM_F32);
    run_chunks(&f, kv, ids, 0, 60, 20, want);
    gm_kv_rewind(kv, 0);
    run_chunks(&f, kv, ids, 0, 40, 20, got);

    gm_backend_vtable broken = *f.b->vt;
    gm_cancel cancel = {false};
    cpu = f.b->vt;
    broken.matmul = failing_matmul;
    f.b->vt = &broken;
    to_raise = cancels ? &cancel : NULL;
    gm_be_set_cancel(f.b, &cancel);
    assert_true(gm_kv_can_rewind(kv, 30));
    int stops = 0, rc = 1;
    for (int n = 0; rc != 0; n++) {
        countdown = n;
        rc = run_rows(&f, kv, ids + 40, NULL, NULL, 20, got + 40 * N_VOCAB);
        atomic_store(&cancel.set, false);
        if (rc == 0) break;
        assert_int_equal(rc, cancels ? GM_ECANCELLED : GM_EDEVICE);
        assert_int_equal(gm_kv_len(kv), 40);
        assert_false(gm_kv_can_rewind(kv, 30)); /* the ring lost what it would need */
        stops++;
    }
    assert_true(stops >= 4 * f.c.n_layer - 1); /* everywhere in the pass */
    assert_rows_close(got, want, 60 * N_VOCAB, 1e-5);
    gm_be_set_cancel(f.b, NULL);
    f.b->vt = cpu;
    gm_kv_destroy(&kv);
    free(want);
    free(got);
    fixture_close(&f);
}

static void cancelled_batch_can_be_run_again(void **state) {
    (void)state;
    check_stops(true);
}

static void failed_batch_can_be_run_again(void **state) {
    (void)state;
    check_stops(false);
}

/* Products that share their input go in one call, so that it is quantised once. */
static void one_token_takes_four_products_a_layer(void **state) {
    (void)state;
    fixture f;
    open_tiny(&f, &(tiny_opts){.seed = 27, .pattern = "ssg"}, "null");
    gm_kv *kv = fixture_cache(&f, N_CTX, N_BATCH, GM_F16);
    int32_t id = 5, zero = 0;
    float *logits = rows(1, N_VOCAB);
    gm_batch b = {.n_tok = 1, .ids = &id, .n_out = 1, .out_rows = &zero, .logits = logits};
    assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
    assert_int_equal(gm_null_count(f.b, "matmul"), 4 * 3 + 1);
    assert_int_equal(gm_null_count(f.b, "attention"), 3);
    assert_int_equal(gm_null_count(f.b, "kv_write"), 3);
    gm_kv_destroy(&kv);
    free(logits);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_any_size_give_the_same_logits),
        cmocka_unit_test(ring_and_full_cache_give_the_same_logits),
        cmocka_unit_test(rewound_and_forked_caches_go_on_as_if_nothing_had_been),
        cmocka_unit_test(wanted_rows_do_not_depend_on_which_others_are_wanted),
        cmocka_unit_test(sliding_layer_sees_exactly_its_window),
        cmocka_unit_test(global_layer_sees_everything_before_it),
        cmocka_unit_test(image_rows_see_later_ones_on_sliding_layers_only),
        cmocka_unit_test(image_behind_other_chunks_gives_the_same_logits),
        cmocka_unit_test(media_rows_are_taken_as_they_are),
        cmocka_unit_test(the_softcap_bends_the_logits_of_every_row),
        cmocka_unit_test(order_and_alignment_of_the_file_do_not_matter),
        cmocka_unit_test(running_allocates_nothing),
        cmocka_unit_test(batches_that_make_no_sense_are_refused_and_change_nothing),
        cmocka_unit_test(cancelled_batch_can_be_run_again),
        cmocka_unit_test(failed_batch_can_be_run_again),
        cmocka_unit_test(one_token_takes_four_products_a_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
