/* check_rows.c: every variant of the row kernels against formulas in double precision.
 *
 * Lengths from 1 to past several registers, rows that end at a page which cannot be read, zeros,
 * extremes, infinities. Conversions are compared bit by bit with tensor/quant.h.
 *
 *     check_rows            the checks, as a cmocka program
 *     check_rows --bench    nanoseconds per 1,000 elements
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "guarded.h"
#include "helper/cm.h"
#include "helper/random.h"
#include "kernels/cpu/rows.h"
#include "tensor/blocks.h"
#include "tensor/quant.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

enum { MAX_N = 300 };

/* Numbers that break careless code; kernels see them mixed with ordinary ones. */
static const float edges[] = {0.0f,    -0.0f,  1e-45f,  -1e-45f, FLT_MIN, 1e-30f, -1e-30f, 1e-10f,
                              -1e-4f,  0.624f, 0.6251f, -0.625f, 1.0f,    -1.0f,  9.0f,    -9.0f,
                              20.0f,   -20.0f, 87.5f,   -87.5f,  89.0f,   -89.0f, 104.0f,  -104.0f,
                              1000.0f, -1e4f,  1e10f,   -1e10f,  1e15f,   -1e15f, 1e30f,   -1e30f};

/* A row of n floats that ends at the guard: ordinary numbers, every third one an edge. */
static guarded row_of_edges(int n, uint64_t seed, float scale, bool with_edges) {
    test_rng rng = {seed * 1000 + (uint64_t)n};
    guarded g = guarded_new((size_t)n * sizeof(float));
    for (int i = 0; i < n; i++) {
        ((float *)g.p)[i] = rng_gauss(&rng) * scale;
        if (with_edges && rng_below(&rng, 3) == 0)
            ((float *)g.p)[i] = edges[rng_below(&rng, LENGTH(edges))];
    }
    return g;
}

static guarded copy_of(const guarded *from, int n) {
    guarded g = guarded_new((size_t)n * sizeof(float));
    memcpy(g.p, from->p, (size_t)n * sizeof(float));
    return g;
}

/* |got - want| within relative and absolute slack; both sides are printed otherwise. */
static void close_to(const char *what, int n, int i, float got, double want, double rel,
                     double slack) {
    if (isnan(want) && isnan(got)) return;
    if (isinf(want) || fabs(want) > FLT_MAX) {
        if (isinf(got) && (got > 0) == (want > 0)) return;
        if (isfinite(want) && fabs((double)got) >= FLT_MAX * (1 - rel)) return;
    } else if (fabs((double)got - want) <= rel * fabs(want) + slack) {
        return;
    }
    fail_msg("%s, length %d, element %d: got %.9g, want %.9g", what, n, i, (double)got, want);
}

/* ---- the checks: each gets one variant --------------------------------------------------- */

static void sum_squares_is_exact_to_double(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++) {
        guarded x = row_of_edges(n, 1, 3, true);
        double want = 0;
        for (int i = 0; i < n; i++) want += (double)((float *)x.p)[i] * (double)((float *)x.p)[i];
        double got = f->sum_squares(x.p, n);
        if (!(fabs(got - want) <= 1e-13 * want))
            fail_msg("length %d: got %.17g, want %.17g", n, got, want);
        guarded_free(&x);
    }
}

static void scale_multiplies_with_and_without_a_weight_also_in_place(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++)
        for (int weighted = 0; weighted < 2; weighted++) {
            guarded x = row_of_edges(n, 1, 3, true), w = row_of_edges(n, 2, 90, false);
            guarded out = copy_of(&x, n);
            f->scale(out.p, x.p, weighted ? w.p : NULL, 0.37f, n);
            for (int i = 0; i < n; i++) {
                double k = weighted ? (double)((float *)w.p)[i] : 1.0;
                close_to("scale", n, i, ((float *)out.p)[i],
                         (double)((float *)x.p)[i] * (double)0.37f * k, 2e-7, 1e-42);
            }
            f->scale(x.p, x.p, weighted ? w.p : NULL, 0.37f, n);
            assert_memory_equal(x.p, out.p, (size_t)n * sizeof(float));
            guarded_free(&x);
            guarded_free(&w);
            guarded_free(&out);
        }
}

static void add_scaled_adds_then_scales(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++) {
        guarded x = row_of_edges(n, 1, 3, false), w = row_of_edges(n, 2, 90, false);
        guarded h = row_of_edges(n, 3, 50, true), before = copy_of(&h, n);
        f->add_scaled(h.p, x.p, w.p, 0.37f, 0.053f, n);
        for (int i = 0; i < n; i++) {
            double add = (double)((float *)x.p)[i] * (double)0.37f * (double)((float *)w.p)[i];
            double was = (double)((float *)before.p)[i];
            /* Relative to the parts: their sum may cancel. */
            close_to("add_scaled", n, i, ((float *)h.p)[i], (was + add) * (double)0.053f, 2e-7,
                     3e-7 * (fabs(was) + fabs(add)) * 0.053);
        }
        guarded_free(&x);
        guarded_free(&w);
        guarded_free(&h);
        guarded_free(&before);
    }
}

static void rotate_turns_pairs_half_a_row_apart(void **state) {
    const gm_row_fns *f = *state;
    for (int half = 1; half <= MAX_N / 2; half++) {
        guarded x = row_of_edges(2 * half, 1, 3, false), before = copy_of(&x, 2 * half);
        guarded c = guarded_new((size_t)half * sizeof(float)), s = copy_of(&c, half);
        for (int i = 0; i < half; i++) {
            ((float *)c.p)[i] = (float)cos(0.7 * i);
            ((float *)s.p)[i] = (float)sin(0.7 * i);
        }
        f->rotate(x.p, c.p, s.p, half);
        for (int i = 0; i < half; i++) {
            double a = (double)((float *)before.p)[i], b = (double)((float *)before.p)[i + half];
            double co = (double)((float *)c.p)[i], si = (double)((float *)s.p)[i];
            double slack = 2e-7 * (fabs(a) + fabs(b));
            close_to("rotate", half, i, ((float *)x.p)[i], a * co - b * si, 0, slack);
            close_to("rotate", half, i + half, ((float *)x.p)[i + half], b * co + a * si, 0, slack);
        }
        guarded_free(&x);
        guarded_free(&before);
        guarded_free(&c);
        guarded_free(&s);
    }
}

static void geglu_is_accurate_everywhere(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++) {
        guarded gate = row_of_edges(n, 1, 4, true), up = row_of_edges(n, 2, 2, false);
        guarded out = copy_of(&gate, n);
        f->geglu(out.p, gate.p, up.p, n);
        for (int i = 0; i < n; i++) {
            double x = (double)((float *)gate.p)[i], u = (double)((float *)up.p)[i];
            double arg = 2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
            close_to("geglu", n, i, ((float *)out.p)[i], x / (1 + exp(-arg)) * u, 2e-6,
                     1e-9 * fabs(u));
        }
        f->geglu(gate.p, gate.p, up.p, n); /* in place, as the model calls it */
        assert_memory_equal(gate.p, out.p, (size_t)n * sizeof(float));
        guarded_free(&gate);
        guarded_free(&up);
        guarded_free(&out);
    }
}

static void geglu_passes_infinity_and_nan_on(void **state) {
    const gm_row_fns *f = *state;
    float gate[3] = {INFINITY, NAN, -1e38f}, up[3] = {2, 2, 2}, out[3];
    f->geglu(out, gate, up, 3);
    assert_true(isinf(out[0]) && out[0] > 0);
    assert_true(isnan(out[1]));
    assert_true(out[2] == 0.0f);
}

static void softcap_is_accurate_everywhere_and_never_exceeds_the_cap(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++) {
        guarded x = row_of_edges(n, 1, 30, true), before = copy_of(&x, n);
        f->softcap(x.p, 30, n);
        for (int i = 0; i < n; i++) {
            double was = (double)((float *)before.p)[i];
            close_to("softcap", n, i, ((float *)x.p)[i], 30 * tanh(was / 30), 5e-7, 1e-43);
            assert_true(fabsf(((float *)x.p)[i]) <= 30);
        }
        guarded_free(&x);
        guarded_free(&before);
    }
    float odd[3] = {INFINITY, -INFINITY, NAN};
    f->softcap(odd, 30, 3);
    assert_true(odd[0] == 30 && odd[1] == -30 && isnan(odd[2]));
}

/* 20,000 points between -104 and 0: relative error where results are normal. */
static void exp_sum_is_accurate_over_its_whole_range(void **state) {
    const gm_row_fns *f = *state;
    enum { N = 20000 };
    static float x[N];
    for (int i = 0; i < N; i++) x[i] = 7.0f - 104.0f * (float)i / N;
    static double arg[N];
    for (int i = 0; i < N; i++) arg[i] = (double)(x[i] - 7.0f);
    double sum = 0;
    float got = f->exp_sum(x, 7.0f, N);
    for (int i = 0; i < N; i++) {
        close_to("exp_sum", N, i, x[i], exp(arg[i]), 2e-7, FLT_MIN);
        sum += (double)x[i];
    }
    close_to("sum of exp_sum", N, 0, got, sum, 1e-5, 0);
}

static void exp_sum_counts_exactly_the_row(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= MAX_N; n++) {
        guarded x = guarded_new((size_t)n * sizeof(float));
        for (int i = 0; i < n; i++) ((float *)x.p)[i] = i % 7 == 6 ? -INFINITY : 2.5f;
        float want = (float)(n - n / 7), got = f->exp_sum(x.p, 2.5f, n);
        close_to("exp_sum", n, 0, got, (double)want, 1e-6, 0);
        for (int i = 0; i < n; i++) assert_true(((float *)x.p)[i] == (i % 7 == 6 ? 0.0f : 1.0f));
        guarded_free(&x);
    }
}

static void max_finds_the_largest_wherever_it_is(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= 70; n++)
        for (int at = 0; at < n; at++) {
            guarded x = row_of_edges(n, 1, 3, false);
            for (int i = 0; i < n; i++) ((float *)x.p)[i] -= 1e6f;
            ((float *)x.p)[at] = -5e5f;
            float got = f->max(x.p, n);
            if (got != -5e5f) fail_msg("length %d, at %d: got %.9g", n, at, (double)got);
            guarded_free(&x);
        }
}

/* Every half, the floats on both sides of it and halfway to the next one. */
static void f16_conversions_have_the_bits_of_the_reference(void **state) {
    const gm_row_fns *f = *state;
    enum { N = 65536 };
    static uint16_t half[N], back[N], want[N];
    static float value[N], near[N];
    for (int i = 0; i < N; i++) half[i] = (uint16_t)i;
    f->from_f16(value, half, N);
    for (int i = 0; i < N; i++) {
        float w = gm_f16_to_f32(half[i]);
        if (isnan(w) ? !isnan(value[i]) : memcmp(&w, &value[i], sizeof w) != 0)
            fail_msg("half 0x%04x: got %.9g, want %.9g", (unsigned)i, (double)value[i], (double)w);
    }
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < N; i++) {
            float next = gm_f16_to_f32((uint16_t)(i + 1)), mid = (value[i] + next) / 2;
            const float to[5] = {value[i], mid, nextafterf(mid, INFINITY), nextafterf(mid, 0),
                                 nextafterf(value[i], -INFINITY)};
            near[i] = isnan(to[k]) ? 0.0f : to[k];
            want[i] = gm_f32_to_f16(near[i]);
        }
        f->to_f16(back, near, N);
        for (int i = 0; i < N; i++)
            if (back[i] != want[i])
                fail_msg("%.9g: got 0x%04x, want 0x%04x", (double)near[i], back[i], want[i]);
    }
}

static void f16_rows_of_any_length_stay_inside(void **state) {
    const gm_row_fns *f = *state;
    for (int n = 1; n <= 70; n++) {
        guarded x = row_of_edges(n, 1, 3, false), back = guarded_new((size_t)n * sizeof(float));
        guarded half = guarded_new((size_t)n * sizeof(uint16_t));
        f->to_f16(half.p, x.p, n);
        f->from_f16(back.p, half.p, n);
        for (int i = 0; i < n; i++)
            close_to("f16", n, i, ((float *)back.p)[i], (double)((float *)x.p)[i], 5e-4, 1e-7);
        guarded_free(&x);
        guarded_free(&back);
        guarded_free(&half);
    }
}

/* One block each: ordinary, zeros, exact halves between levels, huge, subnormal, infinite, NaN. */
static void fill_block(float *x, int kind, test_rng *rng) {
    for (int j = 0; j < GM_QK; j++) {
        float g = rng_gauss(rng);
        switch (kind) {
        case 0: x[j] = g; break;
        case 1: x[j] = 0; break;
        case 2: x[j] = j == 0 ? 127.0f : (float)(j - 16) + 0.5f; break;
        case 3: x[j] = g * 1e37f; break;
        case 4: x[j] = g * 1e-42f; break;
        case 5: x[j] = j == 9 ? INFINITY : g; break;
        case 6: x[j] = j % 11 == 0 ? NAN : g; break;
        case 7: x[j] = j == 0 ? 127.0f : nextafterf((float)(j - 16) + 0.5f, 0.0f); break;
        default: x[j] = edges[rng_below(rng, LENGTH(edges))]; break;
        }
    }
}

static void q8_0_conversions_have_the_bits_of_the_reference(void **state) {
    const gm_row_fns *f = *state;
    test_rng rng = {5};
    for (int n_block = 1; n_block <= 40; n_block++) {
        int n = n_block * GM_QK;
        guarded x = guarded_new((size_t)n * sizeof(float)), back = copy_of(&x, n);
        guarded q = guarded_new((size_t)n_block * sizeof(gm_block_q8_0));
        static gm_block_q8_0 want[40];
        static float want_back[40 * GM_QK];
        for (int i = 0; i < n_block; i++)
            fill_block((float *)x.p + i * GM_QK, (i + n_block) % 10, &rng);
        f->to_q8_0(q.p, x.p, n);
        gm_quant_row(GM_Q8_0, x.p, want, n);
        for (int i = 0; i < n_block; i++) {
            const gm_block_q8_0 *got = (gm_block_q8_0 *)q.p + i;
            if (got->d != want[i].d)
                fail_msg("block %d: scale 0x%04x, want 0x%04x", i, got->d, want[i].d);
            for (int j = 0; j < GM_QK; j++)
                if (got->q[j] != want[i].q[j])
                    fail_msg("%.9g: level %d, want %d", (double)((float *)x.p)[i * GM_QK + j],
                             got->q[j], want[i].q[j]);
        }
        f->from_q8_0(back.p, q.p, n);
        gm_dequant_row(GM_Q8_0, q.p, want_back, n);
        for (int i = 0; i < n; i++)
            close_to("from_q8_0", n, i, ((float *)back.p)[i], (double)want_back[i], 0, 0);
        guarded_free(&x);
        guarded_free(&back);
        guarded_free(&q);
    }
}

/* ---- bench ------------------------------------------------------------------------------- */

enum { BENCH_N = 3840 };

static struct {
    float x[BENCH_N], w[BENCH_N], y[BENCH_N];
    float cosine[BENCH_N], sine[BENCH_N]; /* true ones: repeated turns must not grow or fade */
    uint16_t half[BENCH_N];
    gm_block_q8_0 q8[BENCH_N / GM_QK];
} b;

static float sink; /* keeps results alive */

static void bench_sum_squares(const gm_row_fns *f) { sink += (float)f->sum_squares(b.x, BENCH_N); }
static void bench_scale(const gm_row_fns *f) { f->scale(b.y, b.x, b.w, 0.9f, BENCH_N); }
static void bench_add_scaled(const gm_row_fns *f) {
    f->add_scaled(b.y, b.x, b.w, 0.9f, 0.5f, BENCH_N);
}
static void bench_rotate(const gm_row_fns *f) { f->rotate(b.y, b.cosine, b.sine, BENCH_N / 2); }
static void bench_geglu(const gm_row_fns *f) { f->geglu(b.y, b.x, b.w, BENCH_N); }
static void bench_softcap(const gm_row_fns *f) {
    memcpy(b.y, b.x, sizeof b.y);
    f->softcap(b.y, 30, BENCH_N);
}
static void bench_exp_sum(const gm_row_fns *f) {
    memcpy(b.y, b.x, sizeof b.y);
    sink += f->exp_sum(b.y, 5, BENCH_N);
}
static void bench_max(const gm_row_fns *f) { sink += f->max(b.x, BENCH_N); }
static void bench_to_f16(const gm_row_fns *f) { f->to_f16(b.half, b.x, BENCH_N); }
static void bench_from_f16(const gm_row_fns *f) { f->from_f16(b.y, b.half, BENCH_N); }
static void bench_to_q8_0(const gm_row_fns *f) { f->to_q8_0(b.q8, b.x, BENCH_N); }
static void bench_from_q8_0(const gm_row_fns *f) { f->from_q8_0(b.y, b.q8, BENCH_N); }

#define BENCH(name)                                                                                \
    { #name, bench_##name }
static const struct {
    const char *name;
    void (*fn)(const gm_row_fns *f);
} benches[] = {
    BENCH(sum_squares), BENCH(scale),    BENCH(add_scaled), BENCH(rotate),
    BENCH(geglu),       BENCH(softcap),  BENCH(exp_sum),    BENCH(max),
    BENCH(to_f16),      BENCH(from_f16), BENCH(to_q8_0),    BENCH(from_q8_0),
};

/* The best of several short runs: the others had to share the machine. */
static double best_ns(void (*fn)(const gm_row_fns *f), const gm_row_fns *f) {
    double best = INFINITY;
    for (int run = 0; run < 20; run++) {
        uint64_t start = gm_now_ns();
        for (int i = 0; i < 20; i++) fn(f);
        best = fmin(best, (double)(gm_now_ns() - start) / 20);
    }
    return best;
}

static int bench(void) {
    test_rng rng = {1};
    for (int i = 0; i < BENCH_N; i++) {
        b.x[i] = rng_gauss(&rng);
        b.w[i] = rng_gauss(&rng);
        b.cosine[i] = (float)cos(i);
        b.sine[i] = (float)sin(i);
    }
    printf("%-12s nanoseconds per 1,000 elements\n", "");
    for (size_t k = 0; k < LENGTH(benches); k++) {
        printf("%-12s", benches[k].name);
        for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
            if (!gm_cpu_has((gm_cpu_level)l)) continue;
            gm_row_fns f;
            gm_rows_fill(&f, (gm_cpu_level)l);
            printf("  %s %8.1f", gm_cpu_level_name((gm_cpu_level)l),
                   best_ns(benches[k].fn, &f) * 1000 / BENCH_N);
        }
        printf("\n");
    }
    return sink == 12345.0f; /* read, so that no compiler may leave the work out */
}

/* ---- all levels -------------------------------------------------------------------------- */

#define CHECK(fn)                                                                                  \
    { #fn, fn }
static const struct {
    const char *name;
    void (*fn)(void **state);
} checks[] = {
    CHECK(sum_squares_is_exact_to_double),
    CHECK(scale_multiplies_with_and_without_a_weight_also_in_place),
    CHECK(add_scaled_adds_then_scales),
    CHECK(rotate_turns_pairs_half_a_row_apart),
    CHECK(geglu_is_accurate_everywhere),
    CHECK(geglu_passes_infinity_and_nan_on),
    CHECK(softcap_is_accurate_everywhere_and_never_exceeds_the_cap),
    CHECK(exp_sum_is_accurate_over_its_whole_range),
    CHECK(exp_sum_counts_exactly_the_row),
    CHECK(max_finds_the_largest_wherever_it_is),
    CHECK(f16_conversions_have_the_bits_of_the_reference),
    CHECK(f16_rows_of_any_length_stay_inside),
    CHECK(q8_0_conversions_have_the_bits_of_the_reference),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench();
    enum { MAX_TEST = GM_CPU_LEVEL_COUNT * LENGTH(checks) };
    static struct CMUnitTest tests[MAX_TEST];
    static char names[MAX_TEST][120];
    static gm_row_fns fns[GM_CPU_LEVEL_COUNT];
    size_t n = 0;
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        if (!gm_cpu_has((gm_cpu_level)l)) continue;
        gm_rows_fill(&fns[l], (gm_cpu_level)l);
        for (size_t i = 0; i < LENGTH(checks); i++, n++) {
            snprintf(names[n], sizeof names[n], "%s: %s", gm_cpu_level_name((gm_cpu_level)l),
                     checks[i].name);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = checks[i].fn, .initial_state = &fns[l]};
        }
    }
    return _cmocka_run_group_tests("rows", tests, n, NULL, NULL);
}
