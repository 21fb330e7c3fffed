/* check_attn.c: every variant of the products of attention against sums in double precision.
 *
 * All tilings of rows and keys, heads of every size class, zeros and extremes; operands end at a
 * page that cannot be read, and what lies between rows must stay as it was. Whole calls, with
 * caches, are judged by tests/ops; here is also that threads do not change a result.
 *
 *     check_attn                      the checks, as a cmocka program
 *     check_attn --bench [threads]    layers of the 12B: decode and prefill at depth
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "guarded.h"
#include "helper/cm.h"
#include "helper/random.h"
#include "kernels/cpu/attn.h"
#include "tensor/quant.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

static const int dims[] = {16, 32, 48, 64, 80, 112, 256, 512};
static const int rows[] = {4, 8, 12, 64};
static const int keys[] = {1, 2, 3, 4, 5, 7, 8, 17, 31, 32, 63, 64};

typedef enum { RANDOM, ZEROS, LARGE, N_FILL } fill;

/* n rows of d floats, ld apart; the gaps and the end hold what must not be used. */
static guarded matrix(int n, int d, int ld, fill how, uint64_t seed) {
    test_rng rng = {seed};
    /* The last row has no gap behind it: reading on is caught. */
    size_t n_float = (size_t)(n - 1) * (size_t)ld + (size_t)d;
    guarded g = guarded_new(n_float * sizeof(float));
    for (size_t i = 0; i < n_float; i++) {
        float v = rng_gauss(&rng);
        if (how == ZEROS) v = 0.0f;
        if (how == LARGE) v *= rng_below(&rng, 2) ? 1e12f : 1e-12f;
        ((float *)g.p)[i] = (int)(i % (size_t)ld) < d ? v : NAN;
    }
    return g;
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* A cache of n rows of d halves without gaps; *as_float gets what they mean, ld apart. */
static guarded half_rows(int n, int d, int ld, fill how, uint64_t seed, guarded *as_float) {
    guarded half = guarded_new((size_t)n * (size_t)d * sizeof(uint16_t));
    *as_float = matrix(n, d, ld, how, seed);
    for (int r = 0; r < n; r++)
        for (int x = 0; x < d; x++) {
            float *v = (float *)as_float->p + r * ld + x;
            uint16_t *h = (uint16_t *)half.p + r * d + x;
            *h = gm_f32_to_f16(how == LARGE ? (*v > 0 ? 60000.0f : -6e-8f) : *v);
            *v = gm_f16_to_f32(*h);
        }
    return half;
}

static void check_scores(const gm_attn_fns *f, bool f16, int n_q, int n_k, int d, fill how) {
    int ld = d + GM_ATTN_LANES;
    guarded q = matrix(n_q, d, ld, how, 1), k, half = {0};
    if (f16) half = half_rows(n_k, d, ld, how, 2, &k);
    else k = matrix(round_up(n_k, GM_ATTN_TILE), d, ld, how, 2);
    guarded s = guarded_new((size_t)n_q * GM_ATTN_KEYS * sizeof(float));
    float *got = s.p;
    for (int i = 0; i < n_q * GM_ATTN_KEYS; i++) got[i] = 77.0f;
    if (f16) f->scores_f16(got, q.p, half.p, n_q, n_k, d, ld);
    else f->scores(got, q.p, k.p, n_q, n_k, d, ld);
    for (int i = 0; i < n_q; i++)
        for (int j = 0; j < GM_ATTN_KEYS; j++) {
            float value = got[i * GM_ATTN_KEYS + j];
            double want = 0, size = 0;
            const float *a = (float *)q.p + i * ld, *b = (float *)k.p + j * ld;
            for (int x = 0; j < n_k && x < d; x++) {
                want += (double)a[x] * (double)b[x];
                size += fabs((double)a[x] * (double)b[x]);
            }
            if (j >= round_up(n_k, GM_ATTN_TILE)) want = 77;
            if (j >= n_k && j < round_up(n_k, GM_ATTN_TILE)) continue;
            if (!(fabs((double)value - want) <= 1e-6 * size))
                fail_msg("scores%s, %d rows, %d keys, d %d, row %d, key %d: got %.9g, want %.9g",
                         f16 ? "_f16" : "", n_q, n_k, d, i, j, (double)value, want);
        }
    if (f16) guarded_free(&half);
    guarded_free(&q);
    guarded_free(&k);
    guarded_free(&s);
}

static void check_mix(const gm_attn_fns *f, bool f16, int n_q, int n_k, int d, fill how) {
    int ld = d + GM_ATTN_LANES;
    size_t n_out = (size_t)(n_q - 1) * (size_t)ld + (size_t)d;
    guarded v, half = {0}, o = matrix(n_q, d, ld, RANDOM, 4);
    if (f16) half = half_rows(n_k, d, ld, how, 3, &v);
    else v = matrix(n_k, d, ld, how, 3);
    guarded s = matrix(n_q, n_k, GM_ATTN_KEYS, RANDOM, 5);
    float *before = malloc(n_out * sizeof *before), *got = o.p;
    memcpy(before, got, n_out * sizeof *before);
    if (f16) f->mix_f16(got, s.p, half.p, n_q, n_k, d, ld);
    else f->mix(got, s.p, v.p, n_q, n_k, d, ld);
    for (size_t i = 0; i < n_out; i++) {
        int row = (int)(i / (size_t)ld), x = (int)(i % (size_t)ld);
        if (x >= d) {
            assert_true(isnan(got[i]));
            continue;
        }
        double want = (double)before[i], size = fabs(want);
        for (int j = 0; j < n_k; j++) {
            double add = (double)((float *)s.p)[row * GM_ATTN_KEYS + j] *
                         (double)((float *)v.p)[(size_t)j * (size_t)ld + (size_t)x];
            want += add;
            size += fabs(add);
        }
        if (!(fabs((double)got[i] - want) <= 1e-6 * size))
            fail_msg("mix%s, %d rows, %d keys, d %d, row %d, column %d: got %.9g, want %.9g",
                     f16 ? "_f16" : "", n_q, n_k, d, row, x, (double)got[i], want);
    }
    free(before);
    if (f16) guarded_free(&half);
    guarded_free(&v);
    guarded_free(&o);
    guarded_free(&s);
}

static void scores_are_the_products_for_every_tiling(void **state) {
    const gm_attn_fns *f = *state;
    for (size_t d = 0; d < LENGTH(dims); d++)
        for (size_t r = 0; r < LENGTH(rows); r++)
            for (size_t k = 0; k < LENGTH(keys); k++) {
                fill how = (fill)((d + r + k) % N_FILL);
                check_scores(f, false, rows[r], keys[k], dims[d], how);
                if (f->scores_f16) check_scores(f, true, rows[r], keys[k], dims[d], how);
            }
}

static void mix_adds_weighted_rows_for_every_tiling(void **state) {
    const gm_attn_fns *f = *state;
    for (size_t d = 0; d < LENGTH(dims); d++)
        for (size_t r = 0; r < LENGTH(rows); r++)
            for (size_t k = 0; k < LENGTH(keys); k++) {
                fill how = (fill)((d + r + k) % N_FILL);
                check_mix(f, false, rows[r], keys[k], dims[d], how);
                if (f->mix_f16) check_mix(f, true, rows[r], keys[k], dims[d], how);
            }
}

/* ---- whole calls ------------------------------------------------------------------------- */

typedef struct {
    int n_tok, n_head, n_kv, d, n_slot, pos0, window;
    gm_dtype type;
} shape;

typedef struct {
    gm_kv_layer cache;
    gm_tensor q, out;
    int32_t *lo, *hi;
    gm_op_attention op; /* of the job's own members: the job must not move */
} job;

static void fill_rows(gm_tensor *t, uint64_t seed) {
    test_rng rng = {seed};
    float *row = malloc((size_t)t->ne[0] * sizeof *row);
    for (int64_t r = 0; r < gm_tensor_rows(t); r++) {
        for (int64_t i = 0; i < t->ne[0]; i++) row[i] = (rng_unit(&rng) - 0.5f) * 0.3f;
        gm_quant_row(t->dtype, row, (char *)t->data + (size_t)r * t->row_bytes, t->ne[0]);
    }
    free(row);
}

static gm_tensor tensor3(gm_dtype type, int64_t a, int64_t b, int64_t c) {
    gm_tensor t = {
        .dtype = type, .ne = {a, b, c, 1}, .row_bytes = gm_dtype_row_bytes(type, (uint64_t)a)};
    t.data = gm_calloc((size_t)(b * c), t.row_bytes);
    return t;
}

static void job_init(job *j, const shape *s) {
    j->cache = (gm_kv_layer){.n_slot = s->n_slot, .n_kv = s->n_kv, .head_dim = s->d};
    j->cache.k = tensor3(s->type, s->d, s->n_slot, s->n_kv);
    j->cache.v = tensor3(s->type, s->d, s->n_slot, s->n_kv);
    j->q = tensor3(GM_F32, s->d, s->n_head, s->n_tok);
    j->out = tensor3(GM_F32, s->d, s->n_head, s->n_tok);
    fill_rows(&j->cache.k, 1);
    fill_rows(&j->cache.v, 2);
    fill_rows(&j->q, 3);
    j->lo = calloc((size_t)s->n_tok, sizeof *j->lo);
    j->hi = calloc((size_t)s->n_tok, sizeof *j->hi);
    for (int t = 0; t < s->n_tok; t++) {
        j->hi[t] = s->pos0 + t;
        j->lo[t] = s->window && j->hi[t] >= s->window ? j->hi[t] - s->window + 1 : 0;
    }
    j->op = (gm_op_attention){.q = &j->q,
                              .cache = &j->cache,
                              .n_tok = s->n_tok,
                              .n_head = s->n_head,
                              .lo = j->lo,
                              .hi = j->hi,
                              .out = &j->out};
}

static void job_finish(job *j) {
    gm_free(j->cache.k.data);
    gm_free(j->cache.v.data);
    gm_free(j->q.data);
    gm_free(j->out.data);
    free(j->lo);
    free(j->hi);
}

typedef struct {
    gm_team *team;
    gm_attn_ctx *attn;
} engine;

static engine engine_new(gm_cpu_level level, int n_threads) {
    engine e;
    const gm_be_limits lim = {.max_tok = 512, .max_in = 1, .max_head = 16, .max_head_dim = 512};
    if (gm_team_create(&e.team, n_threads, NULL, 0) != 0 ||
        gm_attn_create(&e.attn, e.team, level, NULL, 0) != 0 ||
        gm_attn_reserve(e.attn, &lim) != 0) {
        fprintf(stderr, "no memory for a team of %d\n", n_threads);
        exit(1);
    }
    return e;
}

static void engine_finish(engine *e) {
    gm_attn_destroy(&e->attn);
    gm_team_destroy(&e->team);
}

/* With spans the sums are joined in another order; without them every thread count must give the
 * same bits, and any of them the same bits twice. */
static void threads_do_not_change_the_result(void **state) {
    (void)state;
    static const shape shapes[] = {{70, 4, 2, 32, 300, 150, 100, GM_F16},
                                   {1, 4, 1, 32, 2100, 2000, 0, GM_F16},
                                   {5, 4, 2, 16, 2100, 2050, 0, GM_F32}};
    for (size_t k = 0; k < LENGTH(shapes); k++) {
        job j;
        job_init(&j, &shapes[k]);
        size_t n = (size_t)(j.out.ne[0] * gm_tensor_rows(&j.out));
        float *alone = malloc(n * sizeof *alone), *first = malloc(n * sizeof *first);
        for (int threads = 1; threads <= 4; threads++) {
            engine e = engine_new(gm_cpu_level_get(), threads);
            for (int run = 0; run < 5; run++) {
                assert_int_equal(gm_attn_run(e.attn, &j.op, NULL), 0);
                if (run == 0) memcpy(first, j.out.data, n * sizeof *first);
                assert_memory_equal(first, j.out.data, n * sizeof *first);
            }
            if (threads == 1) memcpy(alone, first, n * sizeof *first);
            for (size_t i = 0; i < n; i++)
                if (!(fabsf(first[i] - alone[i]) <= 1e-6f))
                    fail_msg("%d threads, element %zu: got %.9g, alone %.9g", threads, i,
                             (double)first[i], (double)alone[i]);
            if (k == 0) assert_memory_equal(first, alone, n * sizeof *first);
            engine_finish(&e);
        }
        free(alone);
        free(first);
        job_finish(&j);
    }
}

static void shapes_beyond_reserve_are_refused_and_reserve_grows(void **state) {
    (void)state;
    job j;
    job_init(&j, &(shape){2, 4, 1, 32, 50, 40, 0, GM_F32});
    engine e = engine_new(GM_CPU_REF, 2);
    gm_attn_ctx *small;
    assert_int_equal(gm_attn_create(&small, e.team, GM_CPU_REF, NULL, 0), 0);
    assert_int_equal(gm_attn_run(small, &j.op, NULL), GM_EINVAL);
    gm_be_limits lim = {.max_head = 4, .max_head_dim = 16};
    assert_int_equal(gm_attn_reserve(small, &lim), 0);
    assert_int_equal(gm_attn_run(small, &j.op, NULL), GM_EINVAL);
    lim.max_head_dim = 32;
    assert_int_equal(gm_attn_reserve(small, &lim), 0);
    gm_noalloc_begin();
    assert_int_equal(gm_attn_run(small, &j.op, NULL), 0);
    gm_noalloc_end();
    gm_attn_destroy(&small);
    engine_finish(&e);
    job_finish(&j);
}

static void a_failed_reserve_leaves_a_context_that_can_be_destroyed_or_tried_again(void **state) {
    (void)state;
    engine e = engine_new(GM_CPU_REF, 3);
    const gm_be_limits lim = {.max_head = 4, .max_head_dim = 16};
    for (uint64_t n = 1;; n++) {
        gm_attn_ctx *a;
        gm_mem_fail_at(n);
        char err[64] = "";
        int created = gm_attn_create(&a, e.team, GM_CPU_REF, err, sizeof err);
        int reserved = created ? created : gm_attn_reserve(a, &lim);
        gm_mem_fail_at(0);
        if (created) {
            assert_null(a);
            assert_string_not_equal(err, "");
        } else if (reserved) {
            assert_int_equal(reserved, GM_ENOMEM);
            assert_int_equal(gm_attn_reserve(a, &lim), 0);
        }
        gm_attn_destroy(&a);
        if (!created && !reserved) {
            assert_true(n > 4);
            break;
        }
    }
    engine_finish(&e);
}

/* ---- bench ------------------------------------------------------------------------------- */

static void bench_shape(const char *name, const shape *s, int n_threads) {
    job j;
    job_init(&j, s);
    double n_pair = 0;
    for (int t = 0; t < s->n_tok; t++) n_pair += j.hi[t] - j.lo[t] + 1;
    double flop = n_pair * s->n_head * s->d * 4;
    double bytes =
        (double)(j.hi[s->n_tok - 1] - j.lo[0] + 1) * s->n_kv * (double)j.cache.k.row_bytes * 2;
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        if (!gm_cpu_has((gm_cpu_level)l) || l == GM_CPU_AVX512VNNI) continue;
        if (l == GM_CPU_REF && flop > 2e9) continue;
        engine e = engine_new((gm_cpu_level)l, n_threads);
        double best = INFINITY;
        for (int run = 0; run < 15; run++) {
            uint64_t start = gm_now_ns();
            gm_attn_run(e.attn, &j.op, NULL);
            best = fmin(best, gm_ms_since(start));
        }
        printf("%-36s %-8s %d threads %9.3f ms %7.1f GFLOP/s %6.2f GB/s\n", name,
               gm_cpu_level_name((gm_cpu_level)l), n_threads, best, flop / best / 1e6,
               bytes / best / 1e6);
        engine_finish(&e);
    }
    job_finish(&j);
}

static int bench(int n_threads) {
    static const struct {
        const char *name;
        shape s;
    } benches[] = {
        {"decode, sliding, 1024 keys", {1, 16, 8, 256, 1536, 5000, 1024, GM_F16}},
        {"decode, sliding, 1024 keys, q8_0", {1, 16, 8, 256, 1536, 5000, 1024, GM_Q8_0}},
        {"decode, global, 4096 keys", {1, 16, 1, 512, 8192, 4095, 0, GM_F16}},
        {"decode, global, 32768 keys", {1, 16, 1, 512, 40000, 32767, 0, GM_F16}},
        {"prefill 512, sliding, 1024 keys", {512, 16, 8, 256, 1536, 5000, 1024, GM_F16}},
        {"prefill 512, global, 4096 keys", {512, 16, 1, 512, 8192, 4096, 0, GM_F16}},
    };
    for (size_t i = 0; i < LENGTH(benches); i++)
        bench_shape(benches[i].name, &benches[i].s, n_threads);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc > 2 ? atoi(argv[2]) : 1);
    static struct CMUnitTest tests[2 * GM_CPU_LEVEL_COUNT + 3];
    static char names[2 * GM_CPU_LEVEL_COUNT][120];
    static gm_attn_fns fns[GM_CPU_LEVEL_COUNT];
    static const struct {
        const char *name;
        void (*fn)(void **state);
    } checks[2] = {
        {"scores are the products for every tiling", scores_are_the_products_for_every_tiling},
        {"mix adds weighted rows for every tiling", mix_adds_weighted_rows_for_every_tiling},
    };
    size_t n = 0;
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        if (!gm_cpu_has((gm_cpu_level)l)) continue;
        gm_attn_fill(&fns[l], (gm_cpu_level)l);
        for (size_t i = 0; i < LENGTH(checks); i++, n++) {
            snprintf(names[n], sizeof names[n], "%s: %s", gm_cpu_level_name((gm_cpu_level)l),
                     checks[i].name);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = checks[i].fn, .initial_state = &fns[l]};
        }
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(threads_do_not_change_the_result);
    tests[n++] =
        (struct CMUnitTest)cmocka_unit_test(shapes_beyond_reserve_are_refused_and_reserve_grows);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(
        a_failed_reserve_leaves_a_context_that_can_be_destroyed_or_tried_again);
    return _cmocka_run_group_tests("attn", tests, n, NULL, NULL);
}
