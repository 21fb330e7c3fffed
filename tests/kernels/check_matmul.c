/* check_matmul.c: every variant of the matrix products against sums in double precision.
 *
 * Quantised formats are judged twice: tightly against the product of the dequantised weights with
 * the *rounded* activations (only the order of float32 sums may differ), and loosely against the
 * product with the activations as they were. Weights end at a page that cannot be read and begin
 * at odd places, as they do in a file.
 *
 *     check_matmul             the checks, as a cmocka program
 *     check_matmul --bench [TYPE] [--level L] [--threads N] [--tok N]
 */
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "guarded.h"
#include "helper/cm.h"
#include "helper/random.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_tile.h"
#include "tensor/blocks.h"
#include "tensor/quant.h"

static const gm_dtype types[] = {GM_F32,  GM_F16,  GM_BF16, GM_Q4_0,   GM_Q4_1,
                                 GM_Q5_0, GM_Q5_1, GM_Q8_0, GM_Q2_K,   GM_Q3_K,
                                 GM_Q4_K, GM_Q5_K, GM_Q6_K, GM_IQ4_NL, GM_IQ4_XS};
enum { N_TYPE = sizeof types / sizeof *types };

static bool is_float(gm_dtype t) { return t == GM_F32 || t == GM_F16 || t == GM_BF16; }

/* ---- seeded numbers ------------------------------------------------------------------------- */

static test_rng rng = {1};

static uint32_t random_u32(void) { return (uint32_t)(rng_u64(&rng) >> 32); }
static float random_float(void) { return 2 * rng_unit(&rng) - 1; } /* -1 .. 1 */

/* ---- weights --------------------------------------------------------------------------------- */

typedef enum { RANDOM, ZEROS, ONES, EXTREMES } fill;
static const char *const fill_names[] = {"random", "zeros", "all bits one", "extremes"};

static void put_half(uint8_t *p, float f) {
    uint16_t h = gm_f32_to_f16(f);
    memcpy(p, &h, sizeof h);
}

/* Random bits would make most scales infinite or huge: scales get sane numbers, the rest of the
 * block stays as it is. */
static void set_scales(gm_dtype t, uint8_t *b, fill how) {
    float d = how == ZEROS ? 0 : how == EXTREMES ? 1.0f : 0.05f * (random_float() + 1.2f);
    float m = how == ZEROS ? 0 : how == EXTREMES ? -1.0f : 0.05f * random_float();
    switch (t) {
    case GM_Q4_1:
    case GM_Q5_1:
        put_half(b + 2, m);
        put_half(b, d);
        break;
    case GM_Q4_K:
    case GM_Q5_K:
        put_half(b, d / 32);
        put_half(b + 2, m / 32);
        break;
    case GM_Q2_K:
        put_half(b + 80, d / 8);
        put_half(b + 82, m / 8);
        break;
    case GM_Q3_K: put_half(b + 108, d / 16); break;
    case GM_Q6_K: put_half(b + 208, d / 64); break;
    case GM_IQ4_XS: put_half(b, d / 64); break;
    default: put_half(b, d);
    }
}

static void fill_float(gm_dtype t, uint8_t *p, size_t n, fill how) {
    for (size_t i = 0; i < n; i++) {
        float f = how == ZEROS ? 0 : how == ONES ? 1 : random_float();
        if (how == EXTREMES) f = random_u32() & 1 ? 1000.0f : -1000.0f;
        uint16_t h = t == GM_F16 ? gm_f32_to_f16(f) : gm_f32_to_bf16(f);
        if (t == GM_F32) memcpy(p + 4 * i, &f, 4);
        else memcpy(p + 2 * i, &h, 2);
    }
}

static void fill_weights(gm_dtype t, uint8_t *p, size_t bytes, fill how) {
    const gm_dtype_info *info = gm_dtype_get(t);
    if (is_float(t)) {
        fill_float(t, p, bytes / info->block_bytes, how);
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        p[i] = how == ZEROS    ? 0
               : how == ONES   ? 0xff
               : how == RANDOM ? (uint8_t)random_u32()
                               : (uint8_t)(random_u32() & 1   ? 0x00
                                           : random_u32() & 1 ? 0xff
                                                              : 0x80);
    for (size_t i = 0; i < bytes; i += info->block_bytes) set_scales(t, p + i, how);
}

static void fill_x(float *x, size_t n, fill how) {
    for (size_t i = 0; i < n; i++)
        x[i] = how == ZEROS      ? 0
               : how == EXTREMES ? (random_u32() & 1 ? 50.0f : -50.0f)
               : how == ONES     ? -1.0f
                                 : random_float() * (random_u32() % 64 == 0 ? 20.0f : 1.0f);
}

/* ---- the judge ------------------------------------------------------------------------------- */

/* What an exact implementation of "8 bits per block of 32, nearest, amax / 127" sees of x. */
static void round_activations(const float *x, float *y, int n) {
    for (int b = 0; b < n; b += 32) {
        int end = b + 32 < n ? b + 32 : n;
        float amax = 0;
        for (int i = b; i < end; i++) amax = fmaxf(amax, fabsf(x[i]));
        for (int i = b; i < end; i++)
            y[i] = amax == 0 ? 0 : rintf(x[i] * (127.0f / amax)) * (amax / 127.0f);
    }
}

typedef struct {
    gm_dtype dtype;
    int n_in, n_out, n_tok;
    fill how;
} shape;

enum { PASS_TOK = 100 }; /* max_tok of reserve: more tokens go in passes */

/* Tokens of a pass from which on the level that is judged multiplies bfloat16. */
static int min_bf16;

typedef struct {
    guarded w;
    float *x, *rounded, *out, *row;
} operands;

static operands make_operands(const shape *s) {
    size_t bytes = gm_dtype_row_bytes(s->dtype, (uint64_t)s->n_in) * (size_t)s->n_out;
    operands o = {.w = guarded_new(bytes)};
    fill_weights(s->dtype, o.w.p, bytes, s->how);
    size_t n_x = (size_t)s->n_tok * (size_t)s->n_in;
    o.x = gm_malloc(n_x, sizeof *o.x);
    o.rounded = gm_malloc(n_x, sizeof *o.x);
    o.out = gm_malloc((size_t)s->n_tok * (size_t)s->n_out, sizeof *o.out);
    o.row = gm_malloc((size_t)s->n_in, sizeof *o.row);
    fill_x(o.x, n_x, s->how);
    for (int t = 0; t < s->n_tok; t++)
        round_activations(o.x + (size_t)t * s->n_in, o.rounded + (size_t)t * s->n_in, s->n_in);
    return o;
}

static const void *row_of(const shape *s, const operands *o, int r) {
    return (const char *)o->w.p + (size_t)r * gm_dtype_row_bytes(s->dtype, (uint64_t)s->n_in);
}

static void free_operands(operands *o) {
    guarded_free(&o->w);
    gm_free(o->x);
    gm_free(o->rounded);
    gm_free(o->out);
    gm_free(o->row);
}

/* What a product of bfloat16 sees of a number. */
static double as_bf16(float f) { return gm_bf16_to_f32(gm_f32_to_bf16(f)); }

/* By how much a product with w may be another one because w lies in the middle of two bfloat16, as
 * far as float32 sums of numbers up to `largest` can tell, and became the other one. */
static double tie(float w, float largest) {
    const double slack = 3e-5 * largest;
    return as_bf16((float)(w + slack)) - as_bf16((float)(w - slack));
}

static void judge(const shape *s, operands *o, const char *variant) {
    const bool quantised = !is_float(s->dtype);
    double square_diff = 0, square = 0;
    for (int r = 0; r < s->n_out; r++) {
        gm_dequant_row(s->dtype, row_of(s, o, r), o->row, s->n_in);
        float largest = 0;
        for (int k = 0; k < s->n_in; k++) largest = fmaxf(largest, fabsf(o->row[k]));
        for (int t = 0; t < s->n_tok; t++) {
            const float *x = o->x + (size_t)t * s->n_in, *y = o->rounded + (size_t)t * s->n_in;
            const int rest = s->n_tok - t / PASS_TOK * PASS_TOK;
            const bool bf16 = quantised && (rest < PASS_TOK ? rest : PASS_TOK) >= min_bf16;
            double tight = 0, loose = 0, size = 0, ties = 0;
            for (int k = 0; k < s->n_in; k++) {
                double p = bf16 ? as_bf16(o->row[k]) * as_bf16(x[k])
                                : (double)o->row[k] * (quantised ? y[k] : x[k]);
                tight += p;
                size += fabs(p);
                if (bf16) ties += tie(o->row[k], largest) * fabs(as_bf16(x[k]));
                loose += (double)o->row[k] * x[k];
            }
            double got = o->out[(size_t)t * s->n_out + r];
            square_diff += (got - loose) * (got - loose);
            square += loose * loose;
            if (!(fabs(got - tight) <= 2e-6 * size + ties + 1e-30)) {
                const gm_dtype_info *info = gm_dtype_get(s->dtype);
                fail_msg("%s %s: %d x %d, %d tokens, %s: row %d token %d is %.9g, not %.9g "
                         "(products up to %.3g in sum)",
                         variant, info->name, s->n_out, s->n_in, s->n_tok, fill_names[s->how], r, t,
                         got, tight, size);
            }
        }
    }
    if (sqrt(square_diff) > 0.05 * sqrt(square) && s->n_in * s->n_out > 4096)
        fail_msg("%s %s: rounding changes the result by %g", variant, gm_dtype_get(s->dtype)->name,
                 sqrt(square_diff / square));
}

static void check_shape(gm_matmul_ctx *m, const shape *s, const char *variant) {
    operands o = make_operands(s);
    gm_tensor w = gm_tensor_view(s->dtype, o.w.p, s->n_in, s->n_out);
    gm_tensor x = gm_tensor_view(GM_F32, o.x, s->n_in, s->n_tok);
    gm_tensor out = gm_tensor_view(GM_F32, o.out, s->n_out, s->n_tok);
    gm_op_matmul op = {.n_mat = 1, .w = {&w}, .x = &x, .n_tok = s->n_tok, .out = {&out}};
    memset(o.out, 0xff, (size_t)s->n_tok * (size_t)s->n_out * sizeof(float));
    assert_int_equal(gm_matmul_run(m, &op, NULL), GM_OK);
    judge(s, &o, variant);
    free_operands(&o);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static gm_team *team;

typedef void (*level_fn)(gm_matmul_ctx *m, const char *variant);

enum { MAX_IN = 13312 };

static void for_each_level(level_fn fn) {
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        if (!gm_cpu_has((gm_cpu_level)l)) continue;
        rng = (test_rng){1}; /* the same cases for all, on every machine */
        gm_matmul_ctx *m;
        char err[128];
        assert_int_equal(gm_matmul_create(&m, team, (gm_cpu_level)l, err, sizeof err), GM_OK);
        assert_int_equal(gm_matmul_reserve(m, PASS_TOK, MAX_IN), GM_OK);
        gm_tile_fns tile;
        gm_tile_fill(&tile, (gm_cpu_level)l);
        min_bf16 = tile.tile_bf16 ? tile.min_bf16 : INT_MAX;
        fn(m, gm_cpu_level_name((gm_cpu_level)l));
        gm_matmul_destroy(&m);
    }
}

/* A row of about n elements that the type can hold; float rows take odd sizes. */
static int fit(gm_dtype t, int n) {
    int block = (int)gm_dtype_get(t)->block_elems;
    return n <= block ? block : n / block * block;
}

static void tokens_and_rows(gm_matmul_ctx *m, const char *variant) {
    static const int toks[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  11, 12,
                               13, 16, 17, 31, 32, 33, 47, 48, 64, 65, 99};
    static const int rows[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 48, 65, 70};
    for (int i = 0; i < N_TYPE; i++)
        for (size_t j = 0; j < sizeof toks / sizeof *toks; j++) {
            shape s = {types[i], fit(types[i], 544), rows[(j * 5 + (size_t)i) % 16], toks[j],
                       RANDOM};
            check_shape(m, &s, variant);
        }
}

static void every_type_by_tokens_and_rows(void **state) {
    (void)state;
    for_each_level(tokens_and_rows);
}

static void widths(gm_matmul_ctx *m, const char *variant) {
    static const int ins[] = {1,   31,  32,  33,  64,  67,  96,   128,
                              160, 192, 224, 256, 288, 515, 1056, 4096};
    static const int toks[] = {1, 8, 15, 22, 40};
    for (int i = 0; i < N_TYPE; i++)
        for (size_t j = 0; j < sizeof ins / sizeof *ins; j++)
            for (size_t k = 0; k < sizeof toks / sizeof *toks; k++) {
                shape s = {types[i], fit(types[i], ins[j]), 19, toks[k], RANDOM};
                check_shape(m, &s, variant);
            }
    /* Rows so wide that a few tokens take them in stretches. */
    for (int i = 0; i < N_TYPE; i++)
        for (int n_tok = 1; n_tok <= 5; n_tok++) {
            shape s = {types[i], fit(types[i], MAX_IN - 32 * n_tok), 60 + n_tok, n_tok, RANDOM};
            check_shape(m, &s, variant);
        }
}

static void every_type_by_width(void **state) {
    (void)state;
    for_each_level(widths);
}

static void values(gm_matmul_ctx *m, const char *variant) {
    for (int i = 0; i < N_TYPE; i++)
        for (int how = ZEROS; how <= EXTREMES; how++)
            for (int n_tok = 1; n_tok <= 49; n_tok += n_tok < 21 ? 4 : 28) {
                shape s = {types[i], fit(types[i], 768), 34, n_tok, (fill)how};
                check_shape(m, &s, variant);
            }
}

static void zeros_and_extremes(void **state) {
    (void)state;
    for_each_level(values);
}

/* Query, key and value matrices of one layer may have three types. */
static void three_at_once(gm_matmul_ctx *m, const char *variant, const gm_dtype mix[3], int n_tok) {
    static const int rows[3] = {70, 3, 129};
    operands o[3];
    shape s[3];
    gm_tensor w[3], out[3], x;
    gm_op_matmul op = {.n_mat = 3, .n_tok = n_tok};
    for (int i = 0; i < 3; i++) {
        s[i] = (shape){mix[i], 512, rows[i], n_tok, RANDOM};
        o[i] = make_operands(&s[i]);
        if (i > 0) {
            memcpy(o[i].x, o[0].x, (size_t)n_tok * 512 * sizeof(float));
            memcpy(o[i].rounded, o[0].rounded, (size_t)n_tok * 512 * sizeof(float));
        }
        w[i] = gm_tensor_view(mix[i], o[i].w.p, 512, rows[i]);
        out[i] = gm_tensor_view(GM_F32, o[i].out, rows[i], n_tok);
        op.w[i] = &w[i];
        op.out[i] = &out[i];
    }
    x = gm_tensor_view(GM_F32, o[0].x, 512, n_tok);
    op.x = &x;
    assert_int_equal(gm_matmul_run(m, &op, NULL), GM_OK);
    for (int i = 0; i < 3; i++) {
        judge(&s[i], &o[i], variant);
        free_operands(&o[i]);
    }
}

/* Each type beside each, before and behind it: no kernel's order of activations may lie where
 * another's is. */
static void mixes(gm_matmul_ctx *m, const char *variant) {
    for (int i = 0; i < N_TYPE; i++)
        for (int k = 0; k < N_TYPE; k++)
            if (types[i] != types[k])
                three_at_once(m, variant, (const gm_dtype[]){types[i], types[k], types[i]}, 3);
    for (int n_tok = 1; n_tok <= 59; n_tok += 29) {
        three_at_once(m, variant, (const gm_dtype[]){GM_Q4_K, GM_F16, GM_Q6_K}, n_tok);
        /* an order each */
        three_at_once(m, variant, (const gm_dtype[]){GM_Q6_K, GM_Q4_0, GM_Q5_K}, n_tok);
        three_at_once(m, variant, (const gm_dtype[]){GM_Q8_0, GM_Q2_K, GM_IQ4_XS}, n_tok);
        three_at_once(m, variant, (const gm_dtype[]){GM_IQ4_NL, GM_Q4_0, GM_Q8_0}, n_tok);
    }
}

static void matrices_that_share_x_may_differ_in_type(void **state) {
    (void)state;
    for_each_level(mixes);
}

/* The last pass has 30. */
static void too_many_tokens(gm_matmul_ctx *m, const char *variant) {
    shape s = {GM_Q4_0, 256, 9, 230, RANDOM};
    check_shape(m, &s, variant);
}

static void more_tokens_than_reserved_go_in_passes(void **state) {
    (void)state;
    for_each_level(too_many_tokens);
}

static void cancelled(gm_matmul_ctx *m, const char *variant) {
    (void)variant;
    shape s = {GM_Q8_0, 256, 900, 3, RANDOM};
    operands o = make_operands(&s);
    gm_tensor w = gm_tensor_view(s.dtype, o.w.p, s.n_in, s.n_out);
    gm_tensor x = gm_tensor_view(GM_F32, o.x, s.n_in, s.n_tok);
    gm_tensor out = gm_tensor_view(GM_F32, o.out, s.n_out, s.n_tok);
    gm_op_matmul op = {.n_mat = 1, .w = {&w}, .x = &x, .n_tok = s.n_tok, .out = {&out}};
    gm_cancel flag;
    atomic_init(&flag.set, true);
    assert_int_equal(gm_matmul_run(m, &op, &flag), GM_ECANCELLED);
    atomic_store(&flag.set, false);
    assert_int_equal(gm_matmul_run(m, &op, &flag), GM_OK);
    free_operands(&o);
}

static void cancel_is_seen(void **state) {
    (void)state;
    for_each_level(cancelled);
}

/* Raises the flag when a page of the weights is touched. */
static struct {
    gm_cancel flag;
    char *page;
    size_t bytes;
} touch;

static void on_touch(int sig, siginfo_t *info, void *context) {
    (void)context;
    char *at = info->si_addr;
    if (at < touch.page || at >= touch.page + touch.bytes) {
        signal(sig, SIG_DFL); /* a real one, which comes again */
        return;
    }
    atomic_store(&touch.flag.set, true);
    mprotect(touch.page, touch.bytes, PROT_READ | PROT_WRITE);
}

/* All rows are one piece, and the page is the second one of the first of them, far from its end. A
 * piece that was given up writes no sums. */
static void cancelled_inside(gm_matmul_ctx *m, const char *variant, gm_dtype type) {
    enum { ROWS = 32, TOKENS = 20, UNTOUCHED = 0xff };
    const size_t row = gm_dtype_row_bytes(type, MAX_IN), page = (size_t)sysconf(_SC_PAGESIZE);
    if (row < 2 * page) skip();
    const size_t bytes = (ROWS * row + page - 1) / page * page, n_out = ROWS * TOKENS;
    uint8_t *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(data != MAP_FAILED);
    float *x_data = gm_calloc((size_t)TOKENS * MAX_IN, sizeof *x_data);
    uint8_t *out_data = gm_malloc(n_out, sizeof(float));
    memset(out_data, UNTOUCHED, n_out * sizeof(float));
    gm_tensor w = gm_tensor_view(type, data, MAX_IN, ROWS);
    gm_tensor x = gm_tensor_view(GM_F32, x_data, MAX_IN, TOKENS);
    gm_tensor out = gm_tensor_view(GM_F32, out_data, ROWS, TOKENS);
    gm_op_matmul op = {.n_mat = 1, .w = {&w}, .x = &x, .n_tok = TOKENS, .out = {&out}};
    atomic_init(&touch.flag.set, false);
    touch.page = (char *)data + page;
    touch.bytes = page;
    struct sigaction act = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO}, segv, bus;
    sigaction(SIGSEGV, &act, &segv);
    sigaction(SIGBUS, &act, &bus);
    mprotect(touch.page, touch.bytes, PROT_NONE);
    const int rc = gm_matmul_run(m, &op, &touch.flag);
    mprotect(touch.page, touch.bytes, PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    assert_int_equal(rc, GM_ECANCELLED);
    for (size_t i = 0; i < n_out * sizeof(float); i++)
        if (out_data[i] != UNTOUCHED)
            fail_msg("%s %s: went on to the end", variant, gm_dtype_get(type)->name);
    gm_free(x_data);
    gm_free(out_data);
    munmap(data, bytes);
}

static void cancelled_inside_a_piece(gm_matmul_ctx *m, const char *variant) {
    cancelled_inside(m, variant, GM_Q8_0);
    cancelled_inside(m, variant, GM_F32);
}

/* A piece of tiles went on to its end, which took half a second of plain C. */
static void cancel_is_seen_inside_a_piece(void **state) {
    (void)state;
    for_each_level(cancelled_inside_a_piece);
}

static void one_result(gm_matmul_ctx *m, const shape *s, operands *o, float *out_data) {
    gm_tensor w = gm_tensor_view(s->dtype, o->w.p, s->n_in, s->n_out);
    gm_tensor x = gm_tensor_view(GM_F32, o->x, s->n_in, s->n_tok);
    gm_tensor out = gm_tensor_view(GM_F32, out_data, s->n_out, s->n_tok);
    gm_op_matmul op = {.n_mat = 1, .w = {&w}, .x = &x, .n_tok = s->n_tok, .out = {&out}};
    assert_int_equal(gm_matmul_run(m, &op, NULL), GM_OK);
}

/* A cache filled token by token and one filled by a prompt must agree: the rounding of x may not
 * depend on how many tokens there are, apart from that of bfloat16. */
static void few_and_a_crowd(gm_matmul_ctx *m, const char *variant, int few, int crowd) {
    for (int i = 0; i < N_TYPE; i++) {
        shape s = {types[i], 512, 40, crowd, RANDOM}, one = s;
        one.n_tok = few;
        operands o = make_operands(&s);
        float *single = gm_malloc((size_t)few * (size_t)s.n_out, sizeof *single);
        one_result(m, &s, &o, o.out);
        one_result(m, &one, &o, single);
        for (int r = 0; r < s.n_out; r++) {
            double size = 0;
            gm_dequant_row(s.dtype, row_of(&s, &o, r), o.row, 512);
            for (int k = 0; k < 512; k++) size += fabs((double)o.row[k] * o.x[k]);
            if (fabs((double)single[r] - o.out[r]) > 1e-6 * size)
                fail_msg("%s %s: alone %.9g, in a crowd %.9g", variant, gm_dtype_get(s.dtype)->name,
                         single[r], o.out[r]);
        }
        gm_free(single);
        free_operands(&o);
    }
}

static void alone_and_in_a_crowd(gm_matmul_ctx *m, const char *variant) {
    few_and_a_crowd(m, variant, 1, min_bf16 < 40 ? min_bf16 - 1 : 40);
    if (min_bf16 < 40) few_and_a_crowd(m, variant, min_bf16, 83);
}

static void one_token_alone_equals_the_same_in_a_crowd(void **state) {
    (void)state;
    for_each_level(alone_and_in_a_crowd);
}

/* With activations quantised twice the product is that of the activations as they were. */
static void quantised_twice(gm_matmul_ctx *m, const char *variant) {
    static const int toks[] = {1, 3, 4, 5, 8, 9, 33};
    gm_matmul_set_fine(m);
    assert_int_equal(gm_matmul_reserve(m, 40, 1024), GM_OK);
    for (int i = 0; i < N_TYPE; i++)
        for (size_t j = 0; j < sizeof toks / sizeof *toks; j++) {
            shape s = {types[i], fit(types[i], 800), 37, toks[j], RANDOM};
            operands o = make_operands(&s);
            one_result(m, &s, &o, o.out);
            for (int k = 0; k < s.n_tok * s.n_out; k++) {
                const float *x = o.x + (size_t)(k / s.n_out) * (size_t)s.n_in;
                double want = 0, size = 0;
                gm_dequant_row(s.dtype, row_of(&s, &o, k % s.n_out), o.row, s.n_in);
                for (int e = 0; e < s.n_in; e++) {
                    want += (double)o.row[e] * x[e];
                    size += fabs((double)o.row[e] * x[e]);
                }
                if (!(fabs(o.out[k] - want) <= 5e-5 * size))
                    fail_msg("%s %s, %d tokens, number %d: %.9g, not %.9g", variant,
                             gm_dtype_get(s.dtype)->name, s.n_tok, k, (double)o.out[k], want);
            }
            free_operands(&o);
        }
}

static void activations_quantised_twice_lose_next_to_nothing(void **state) {
    (void)state;
    for_each_level(quantised_twice);
}

/* One NaN among the activations of a token makes all of its outputs NaN, and leaves those of the
 * other tokens as they were: a broken file must not end in numbers that look right. */
static void one_nan(gm_matmul_ctx *m, const char *variant, int n_tok) {
    static uint32_t turn;
    for (int i = 0; i < N_TYPE; i++, turn++) {
        shape s = {types[i], fit(types[i], 544), 37, n_tok, RANDOM};
        operands o = make_operands(&s);
        size_t n = (size_t)s.n_tok * (size_t)s.n_out;
        float *without = gm_malloc(n, sizeof *without);
        one_result(m, &s, &o, without);
        int bad = n_tok / 2;
        o.x[(size_t)bad * (size_t)s.n_in + turn * 37 % (uint32_t)s.n_in] = turn & 1 ? -NAN : NAN;
        one_result(m, &s, &o, o.out);
        for (size_t k = 0; k < n; k++)
            if (k / (size_t)s.n_out == (size_t)bad ? !isnan(o.out[k]) : o.out[k] != without[k])
                fail_msg("%s %s, %d tokens, NaN in token %d: number %zu is %.9g, was %.9g", variant,
                         gm_dtype_get(s.dtype)->name, n_tok, bad, k, (double)o.out[k],
                         (double)without[k]);
        gm_free(without);
        free_operands(&o);
    }
}

static void nan_in_one_token(gm_matmul_ctx *m, const char *variant) {
    static const int toks[] = {1, 3, 4, 9, 33, 40};
    for (int fine = 0; fine < 2; fine++) {
        if (fine) gm_matmul_set_fine(m);
        assert_int_equal(gm_matmul_reserve(m, 40, 1024), GM_OK);
        for (size_t j = 0; j < sizeof toks / sizeof *toks; j++) one_nan(m, variant, toks[j]);
    }
}

static void a_token_with_nan_gives_nan(void **state) {
    (void)state;
    for_each_level(nan_in_one_token);
}

enum { BLAS_M = 24, BLAS_N = 20, BLAS_K = 300 };

/* The same product again and again, beside others who do so. Returns how many were wrong. */
static void *products(void *ud) {
    static const float unit = 1.0f / 64;
    float a[BLAS_M * BLAS_K], b[BLAS_N * BLAS_K], want[BLAS_M * BLAS_N];
    const uint32_t which = (uint32_t)(uintptr_t)ud;
    for (uint32_t i = 0; i < BLAS_M * BLAS_K; i++) a[i] = unit * (float)((i * 7 + which) % 61);
    for (uint32_t i = 0; i < BLAS_N * BLAS_K; i++) b[i] = unit * (float)((i * 5 + which) % 53);
    for (int i = 0; i < BLAS_M * BLAS_N; i++) { /* exact in this order and in any other */
        want[i] = 0;
        for (int k = 0; k < BLAS_K; k++)
            want[i] += a[i / BLAS_N * BLAS_K + k] * b[i % BLAS_N * BLAS_K + k];
    }
    uintptr_t wrong = 0;
    for (int turn = 0; turn < 2000; turn++) {
        float c[BLAS_M * BLAS_N] = {0};
        gm_blas_add_product(BLAS_M, BLAS_N, BLAS_K, a, BLAS_K, b, BLAS_K, c, BLAS_N);
        wrong += memcmp(c, want, sizeof c) != 0;
    }
    return (void *)wrong;
}

/* A build of OpenBLAS without threads mixes them up (blas.c). */
static void products_of_several_threads_at_once_are_right(void **state) {
    (void)state;
    if (!gm_blas_available()) skip();
    pthread_t thread[4];
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, products, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
}

static int setup(void **state) {
    (void)state;
    char err[128];
    return gm_team_create(&team, 3, err, sizeof err);
}

static int teardown(void **state) {
    (void)state;
    gm_team_destroy(&team);
    return 0;
}

/* ---- bench ----------------------------------------------------------------------------------- */

/* Weights larger than the last-level cache, so that one token runs at the speed of memory. */
enum { BENCH_IN = 3840, BENCH_OUT = 15360, BENCH_MATS = 3, BENCH_RUNS = 5 };

typedef struct {
    double wall_ms, cpu_ms; /* best of the runs; cpu per thread: what a quiet machine would take */
} times;

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static times bench_one(gm_matmul_ctx *m, gm_dtype t, uint8_t *weights, const float *x_data,
                       float *out_data, int n_tok) {
    size_t bytes = gm_dtype_row_bytes(t, BENCH_IN) * BENCH_OUT;
    times best = {1e30, 1e30};
    for (int run = 0; run <= BENCH_RUNS; run++) {
        int mats = n_tok > 32 ? 1 : BENCH_MATS;
        uint64_t start = gm_now_ns();
        double start_cpu = cpu_ms();
        for (int i = 0; i < mats; i++) {
            gm_tensor w = gm_tensor_view(t, weights + (size_t)i * bytes, BENCH_IN, BENCH_OUT);
            gm_tensor x = gm_tensor_view(GM_F32, (void *)(uintptr_t)x_data, BENCH_IN, n_tok);
            gm_tensor out = gm_tensor_view(GM_F32, out_data, BENCH_OUT, n_tok);
            gm_op_matmul op = {.n_mat = 1, .w = {&w}, .x = &x, .n_tok = n_tok, .out = {&out}};
            gm_matmul_run(m, &op, NULL);
        }
        double ms = gm_ms_since(start) / mats,
               cpu = (cpu_ms() - start_cpu) / mats / gm_team_size(team);
        if (run > 0 && ms < best.wall_ms) best.wall_ms = ms;
        if (run > 0 && cpu < best.cpu_ms) best.cpu_ms = cpu;
    }
    return best;
}

static void bench_type(gm_dtype t, const char *only_level, int only_tok) {
    static const int toks[] = {1, 2, 4, 8, 16, 32, 128, 512};
    size_t bytes = gm_dtype_row_bytes(t, BENCH_IN) * BENCH_OUT;
    uint8_t *w = gm_malloc(bytes, BENCH_MATS);
    float *x = gm_malloc((size_t)512 * BENCH_IN, sizeof *x);
    float *out = gm_malloc((size_t)512 * BENCH_OUT, sizeof *out);
    fill_weights(t, w, bytes, RANDOM);
    for (int i = 1; i < BENCH_MATS; i++) memcpy(w + (size_t)i * bytes, w, bytes);
    fill_x(x, (size_t)512 * BENCH_IN, RANDOM);
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        const char *name = gm_cpu_level_name((gm_cpu_level)l);
        if (!gm_cpu_has((gm_cpu_level)l)) continue;
        if (only_level ? strcmp(only_level, name) != 0 : l == GM_CPU_REF) continue;
        gm_matmul_ctx *m;
        if (gm_matmul_create(&m, team, (gm_cpu_level)l, NULL, 0) != GM_OK) continue;
        gm_matmul_reserve(m, 512, BENCH_IN);
        for (size_t i = 0; i < sizeof toks / sizeof *toks; i++) {
            if (only_tok && only_tok != toks[i]) continue;
            times b = bench_one(m, t, w, x, out, toks[i]);
            double macs = (double)BENCH_IN * BENCH_OUT * toks[i];
            printf("%-8s %-11s tok %-4d %9.5f ms %8.1f GMAC/s %7.2f GB/s   cpu %9.3f ms %8.1f "
                   "GMAC/s\n",
                   gm_dtype_get(t)->name, name, toks[i], b.wall_ms, macs / b.wall_ms / 1e6,
                   (double)bytes / b.wall_ms / 1e6, b.cpu_ms, macs / b.cpu_ms / 1e6);
            fflush(stdout);
        }
        gm_matmul_destroy(&m);
    }
    gm_free(out);
    gm_free(x);
    gm_free(w);
}

static int bench(int argc, char **argv) {
    const char *type = NULL, *level = NULL;
    int threads = gm_cpu_physical_cores(), tok = 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) level = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--tok") == 0 && i + 1 < argc) tok = atoi(argv[++i]);
        else type = argv[i];
    }
    if (gm_team_create(&team, threads, NULL, 0) != GM_OK) return 1;
    for (int i = 0; i < N_TYPE; i++)
        if (!type || strcmp(type, gm_dtype_get(types[i])->name) == 0)
            bench_type(types[i], level, tok);
    gm_team_destroy(&team);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_by_tokens_and_rows),
        cmocka_unit_test(every_type_by_width),
        cmocka_unit_test(zeros_and_extremes),
        cmocka_unit_test(matrices_that_share_x_may_differ_in_type),
        cmocka_unit_test(more_tokens_than_reserved_go_in_passes),
        cmocka_unit_test(one_token_alone_equals_the_same_in_a_crowd),
        cmocka_unit_test(activations_quantised_twice_lose_next_to_nothing),
        cmocka_unit_test(a_token_with_nan_gives_nan),
        cmocka_unit_test(products_of_several_threads_at_once_are_right),
        cmocka_unit_test(cancel_is_seen),
        cmocka_unit_test(cancel_is_seen_inside_a_piece),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
