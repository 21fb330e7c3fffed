/* test_ops.c: one list of op cases, run on every device and judged by ops_ref.h.
 *
 * A device is a backend as gm_backend_open makes it: the CPU at each level that this machine has,
 * with three threads, and at the best with one. OPS_DEVICE=vulkan (say) runs that one instead, and
 * skips when it is not there; what Vulkan's validation layer has to say, if GEMMA_VULKAN_CHECK
 * turned it on, is a failure. OPS_ONLY=matmul (say) leaves out the cases without that in their
 * names. Everything goes through backend.h.
 */
#include <float.h>
#include <stdio.h>
#include <string.h>
#include "base/cpuid.h"
#include "base/err.h"
#include "helper/cm.h"
#include "helper/compare.h"
#include "helper/driver.h"
#include "helper/random.h"
#include "kernels/backend.h"
#include "kernels/vulkan/vk.h"
#include "ops_ref.h"
#include "tensor/blocks.h"
#include "tensor/quant.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

enum { MAX_TOK = 80, MAX_IN = 1024, N_VOCAB = 262144 };

/* ---- memory on both sides ---------------------------------------------------------------- */

static void *host(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

static float *random_rows(uint64_t seed, size_t n, float scale) {
    test_rng rng = {seed};
    float *x = host(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = rng_gauss(&rng) * scale;
    return x;
}

/* Zeroed rows of n floats on the device. */
static gm_tensor dev_zero(gm_backend *b, int64_t n_row, int64_t n) {
    gm_tensor t = gm_tensor_view(GM_F32, NULL, n, n_row);
    assert_int_equal(gm_be_tensor_alloc(b, &t), 0);
    return t;
}

static gm_tensor dev_rows(gm_backend *b, const float *x, int64_t n_row, int64_t n) {
    gm_tensor t = dev_zero(b, n_row, n);
    assert_int_equal(gm_be_write(b, &t, 0, x, (size_t)(n_row * n) * sizeof *x), 0);
    return t;
}

static float *fetch(gm_backend *b, const gm_tensor *t) {
    size_t n = (size_t)(t->ne[0] * gm_tensor_rows(t));
    float *x = host(n, sizeof *x);
    assert_int_equal(gm_be_sync(b), 0);
    assert_int_equal(gm_be_read(b, t, 0, x, n * sizeof *x), 0);
    return x;
}

/* Compares a device tensor with double values, frees both. */
static void judge(gm_backend *b, gm_tensor *t, double *want, double limit) {
    size_t n = (size_t)(t->ne[0] * gm_tensor_rows(t));
    float *got = fetch(b, t), *w = host(n, sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = (float)want[i];
    assert_rows_close(got, w, (int64_t)n, limit);
    free(got);
    free(w);
    free(want);
    gm_be_tensor_free(b, t);
}

/* ---- weights of any type ----------------------------------------------------------------- */

typedef struct {
    void *bytes;  /* as in a file */
    float *value; /* what they mean */
    gm_tensor t;  /* imported */
} weight;

/* Formats without a quantiser here get random bits and a modest scale. */
static void random_blocks(test_rng *rng, gm_dtype type, void *bytes, size_t n_byte) {
    for (size_t i = 0; i < n_byte; i++) ((uint8_t *)bytes)[i] = (uint8_t)rng_u64(rng);
    uint16_t d = gm_f32_to_f16(0.003f), dmin = gm_f32_to_f16(0.01f), small = gm_f32_to_f16(0.0003f);
#define SET(type_id, block, field, value)                                                          \
    if (type == (type_id))                                                                         \
        for (gm_block_##block *k = bytes; (char *)k < (char *)bytes + n_byte; k++) k->field = value;
    SET(GM_Q2_K, q2_k, d, d)
    SET(GM_Q2_K, q2_k, dmin, dmin)
    SET(GM_Q3_K, q3_k, d, d)
    SET(GM_Q4_K, q4_k, d, d)
    SET(GM_Q4_K, q4_k, dmin, dmin)
    SET(GM_Q5_K, q5_k, d, d)
    SET(GM_Q5_K, q5_k, dmin, dmin)
    SET(GM_Q6_K, q6_k, d, small)
    SET(GM_IQ4_NL, iq4_nl, d, d)
    SET(GM_IQ4_XS, iq4_xs, d, small)
#undef SET
}

static weight make_weight(gm_backend *b, gm_dtype type, int64_t n_in, int64_t n_out,
                          uint64_t seed) {
    size_t row_bytes = gm_dtype_row_bytes(type, (uint64_t)n_in);
    assert_true(row_bytes > 0);
    weight w = {.bytes = host((size_t)n_out, row_bytes),
                .value = random_rows(seed, (size_t)(n_in * n_out), 0.3f)};
    if (gm_quant_row(type, w.value, w.bytes, n_in * n_out) != 0)
        random_blocks(&(test_rng){seed}, type, w.bytes, (size_t)n_out * row_bytes);
    assert_int_equal(gm_dequant_row(type, w.bytes, w.value, n_in * n_out), 0);
    gm_tensor view = gm_tensor_view(type, w.bytes, n_in, n_out);
    assert_int_equal(gm_be_weight_import(b, &view, &w.t), 0);
    return w;
}

static void drop_weight(gm_backend *b, weight *w) {
    gm_be_tensor_free(b, &w->t);
    free(w->bytes);
    free(w->value);
}

/* ---- embed ------------------------------------------------------------------------------- */

static void embed_takes_scaled_rows_of_every_type_and_leaves_the_others(void **state) {
    gm_backend *b = *state;
    static const gm_dtype types[] = {GM_F32,  GM_F16,  GM_BF16, GM_Q8_0,   GM_Q4_0,
                                     GM_Q4_1, GM_Q5_0, GM_Q5_1, GM_Q4_K,   GM_Q6_K,
                                     GM_Q2_K, GM_Q3_K, GM_Q5_K, GM_IQ4_NL, GM_IQ4_XS};
    enum { N = 512, ROWS = 40, TOKENS = 66 };
    for (size_t k = 0; k < LENGTH(types); k++) {
        weight w = make_weight(b, types[k], N, ROWS, 100 + k);
        float *before = random_rows(7, TOKENS * N, 1);
        gm_tensor out = dev_rows(b, before, TOKENS, N);
        int32_t ids[TOKENS];
        double *want = host(TOKENS * N, sizeof *want);
        for (int t = 0; t < TOKENS; t++) {
            ids[t] = t % 5 == 3 ? -1 : t * 7 % ROWS;
            for (int i = 0; i < N; i++)
                want[t * N + i] = ids[t] < 0 ? (double)before[t * N + i]
                                             : (double)w.value[ids[t] * N + i] * 22.6274;
        }
        gm_op_embed op = {
            .table = &w.t, .ids = ids, .n_tok = TOKENS, .scale = 22.6274f, .out = &out};
        assert_int_equal(gm_be_embed(b, &op), 0);
        judge(b, &out, want, 1e-6);
        free(before);
        drop_weight(b, &w);
    }
}

/* ---- norms ------------------------------------------------------------------------------- */

static const int norm_sizes[] = {1, 2, 3, 16, 24, 33, 63, 64, 65, 255, 768, 1000, 3840};

static void rms_norm_divides_by_the_root_mean_square(void **state) {
    gm_backend *b = *state;
    for (size_t k = 0; k < LENGTH(norm_sizes); k++)
        for (int n_tok = 1; n_tok <= 33; n_tok += 16)
            for (int weighted = 0; weighted < 2; weighted++) {
                int n = norm_sizes[k];
                size_t all = (size_t)n_tok * (size_t)n;
                float *x = random_rows(k, all, 4), *w = random_rows(k + 50, (size_t)n, 90);
                gm_tensor tx = dev_rows(b, x, n_tok, n), tw = dev_rows(b, w, 1, n);
                gm_tensor out = dev_zero(b, n_tok, n);
                double *want = host(all, sizeof *want);
                ref_rms_norm(x, weighted ? w : NULL, 1e-6, n_tok, n, want);
                gm_op_rms_norm op = {.x = &tx,
                                     .w = weighted ? &tw : NULL,
                                     .eps = 1e-6f,
                                     .n_tok = n_tok,
                                     .out = &out};
                assert_int_equal(gm_be_rms_norm(b, &op), 0);
                judge(b, &out, want, 1e-6);
                gm_be_tensor_free(b, &tx);
                gm_be_tensor_free(b, &tw);
                free(x);
                free(w);
            }
}

/* Squares of 1e25 leave float32; a row of zeros must not divide by zero. */
static void rms_norm_survives_huge_tiny_and_zero_rows_in_place(void **state) {
    gm_backend *b = *state;
    enum { N = 100, TOKENS = 4 };
    static const float scale[TOKENS] = {1e25f, 1e-25f, 0.0f, 1.0f};
    float *x = random_rows(3, TOKENS * N, 1);
    for (int i = 0; i < TOKENS * N; i++) x[i] *= scale[i / N];
    gm_tensor t = dev_rows(b, x, TOKENS, N);
    double *want = host(TOKENS * N, sizeof *want);
    ref_rms_norm(x, NULL, 1e-6, TOKENS, N, want);
    gm_op_rms_norm op = {.x = &t, .eps = 1e-6f, .n_tok = TOKENS, .out = &t};
    assert_int_equal(gm_be_rms_norm(b, &op), 0);
    free(x);
    judge(b, &t, want, 1e-6);
}

static void add_norm_adds_the_normalised_branch_and_scales_the_stream(void **state) {
    gm_backend *b = *state;
    for (size_t k = 0; k < LENGTH(norm_sizes); k++)
        for (int n_tok = 1; n_tok <= 33; n_tok += 16) {
            int n = norm_sizes[k];
            size_t all = (size_t)n_tok * (size_t)n;
            float *x = random_rows(k, all, 4), *h = random_rows(k + 9, all, 30);
            float *w = random_rows(k + 50, (size_t)n, 90);
            gm_tensor tx = dev_rows(b, x, n_tok, n), tw = dev_rows(b, w, 1, n);
            gm_tensor th = dev_rows(b, h, n_tok, n);
            double *want = host(all, sizeof *want);
            ref_rms_norm(x, w, 1e-5, n_tok, n, want);
            for (size_t i = 0; i < all; i++) want[i] = ((double)h[i] + want[i]) * 0.053;
            gm_op_add_norm op = {
                .x = &tx, .w = &tw, .eps = 1e-5f, .scale = 0.053f, .n_tok = n_tok, .h = &th};
            assert_int_equal(gm_be_add_norm(b, &op), 0);
            judge(b, &th, want, 1e-6);
            gm_be_tensor_free(b, &tx);
            gm_be_tensor_free(b, &tw);
            free(x);
            free(w);
            free(h);
        }
}

/* ---- matmul ------------------------------------------------------------------------------ */

static double *ref_matmul(const float *x, const weight *w, int n_tok, int64_t n_in, int64_t n_out) {
    double *out = host((size_t)(n_tok * n_out), sizeof *out);
    for (int t = 0; t < n_tok; t++)
        for (int64_t r = 0; r < n_out; r++)
            for (int64_t i = 0; i < n_in; i++)
                out[t * n_out + r] += (double)x[t * n_in + i] * (double)w->value[r * n_in + i];
    return out;
}

/* Quantised types round activations to 8 bits. */
static double matmul_limit(gm_dtype t) {
    return t == GM_F32 || t == GM_F16 || t == GM_BF16 ? 1e-5 : 2e-2;
}

static void matmul_gives_up_to_three_products_of_one_input(void **state) {
    gm_backend *b = *state;
    static const struct {
        int n_mat, n_tok;
        int64_t n_in, n_out[3];
        gm_dtype type[3];
    } cases[] = {
        {1, 1, 256, {7}, {GM_F32}},
        {1, 1, 512, {130}, {GM_Q4_0}},
        {2, 5, 256, {48, 33}, {GM_F16, GM_BF16}},
        {3, 1, 256, {64, 32, 16}, {GM_Q8_0, GM_Q6_K, GM_Q4_K}},
        {3, 70, 320, {40, 17, 17}, {GM_Q4_0, GM_Q8_0, GM_F32}},
        {2, 33, 1024, {96, 96}, {GM_Q4_0, GM_Q4_0}},
        {3, 2, 512, {33, 20, 64}, {GM_Q2_K, GM_Q3_K, GM_Q5_K}},
        {3, 3, 256, {40, 31, 64}, {GM_Q4_1, GM_Q5_0, GM_Q5_1}},
        {2, 9, 768, {65, 32}, {GM_IQ4_NL, GM_IQ4_XS}},
        {3, 2, 54, {9, 3, 1}, {GM_F32, GM_F16, GM_F32}},
        {3, 65, 288, {70, 65, 130}, {GM_Q4_0, GM_Q8_0, GM_Q5_0}},
        {3, 18, 512, {33, 97, 64}, {GM_Q4_K, GM_Q5_K, GM_Q6_K}},
    };
    for (size_t k = 0; k < LENGTH(cases); k++) {
        int n_tok = cases[k].n_tok;
        int64_t n_in = cases[k].n_in;
        float *x = random_rows(k, (size_t)(n_tok * n_in), 1);
        gm_tensor tx = dev_rows(b, x, n_tok, n_in), out[3];
        weight w[3];
        gm_op_matmul op = {.n_mat = cases[k].n_mat, .x = &tx, .n_tok = n_tok};
        for (int i = 0; i < op.n_mat; i++) {
            w[i] = make_weight(b, cases[k].type[i], n_in, cases[k].n_out[i], 10 * k + (size_t)i);
            out[i] = dev_zero(b, n_tok, cases[k].n_out[i]);
            op.w[i] = &w[i].t;
            op.out[i] = &out[i];
        }
        assert_int_equal(gm_be_matmul(b, &op), 0);
        for (int i = 0; i < op.n_mat; i++) {
            double *want = ref_matmul(x, &w[i], n_tok, n_in, cases[k].n_out[i]);
            judge(b, &out[i], want, matmul_limit(cases[k].type[i]));
            drop_weight(b, &w[i]);
        }
        gm_be_tensor_free(b, &tx);
        free(x);
    }
}

/* ---- heads ------------------------------------------------------------------------------- */

typedef struct {
    int n_tok, n_head, d, pos0, n_turning; /* pairs that turn */
    bool weighted, rope;
} head_case;

static void run_head_case(gm_backend *b, const head_case *c) {
    size_t n = (size_t)c->n_head * (size_t)c->d, all = n * (size_t)c->n_tok;
    float *x = random_rows(1, all, 3), *w = random_rows(2, (size_t)c->d, 1);
    float *inv_freq = host((size_t)c->d / 2, sizeof *inv_freq);
    for (int i = 0; i < c->n_turning; i++) inv_freq[i] = powf(10000.0f, -2.0f * i / c->d);
    gm_tensor tx = dev_rows(b, x, c->n_tok, (int64_t)n), tw = dev_rows(b, w, 1, c->d);
    double *want = host(all, sizeof *want);
    ref_rms_norm(x, c->weighted ? w : NULL, 1e-6, c->n_tok * c->n_head, c->d, want);
    for (size_t h = 0; c->rope && h < (size_t)(c->n_tok * c->n_head); h++)
        ref_rope(want + h * (size_t)c->d, inv_freq, c->d, c->pos0 + (int)h / c->n_head);
    gm_op_head_norm_rope op = {.x = &tx,
                               .n_tok = c->n_tok,
                               .n_head = c->n_head,
                               .head_dim = c->d,
                               .w = c->weighted ? &tw : NULL,
                               .eps = 1e-6f,
                               .inv_freq = c->rope ? inv_freq : NULL,
                               .pos0 = c->pos0};
    assert_int_equal(gm_be_head_norm_rope(b, &op), 0);
    /* The caller's frequencies are read during the call only. */
    memset(inv_freq, 0xFF, (size_t)c->d / 2 * sizeof *inv_freq);
    judge(b, &tx, want, 1e-6);
    gm_be_tensor_free(b, &tw);
    free(x);
    free(w);
    free(inv_freq);
}

static void head_norm_rope_normalises_and_turns_each_head(void **state) {
    static const head_case cases[] = {
        {1, 16, 256, 0, 128, true, true},     {1, 1, 512, 262143, 64, true, true},
        {33, 2, 256, 1000, 128, true, true},  {80, 8, 256, 7, 0, false, false},
        {3, 5, 2, 1, 1, true, true},          {7, 3, 6, 12345, 3, true, true},
        {5, 4, 24, 99999, 12, true, true},    {9, 2, 40, 31, 5, false, true},
        {4, 3, 34, 200000, 17, false, true},  {2, 2, 16, 0, 8, true, false},
        {80, 4, 512, 261000, 64, true, true},
    };
    for (size_t k = 0; k < LENGTH(cases); k++) run_head_case(*state, &cases[k]);
}

/* The tables of angles are kept from call to call: by position, by frequencies and by the size of
 * a head, any of which may change alone. */
static void head_norm_rope_is_right_when_kinds_of_layers_and_positions_alternate(void **state) {
    static const head_case cases[] = {
        {8, 2, 32, 10, 16, true, true}, {8, 2, 32, 10, 4, true, true},
        {3, 2, 32, 15, 16, true, true}, {3, 2, 32, 16, 16, true, true},
        {8, 2, 64, 10, 16, true, true}, {8, 2, 32, 10, 16, true, true},
        {8, 2, 32, 3, 16, true, true},  {8, 2, 32, 10, 4, true, true},
    };
    for (size_t k = 0; k < LENGTH(cases); k++) run_head_case(*state, &cases[k]);
}

/* ---- what is no number ------------------------------------------------------------------- */

/* Of all blocks of a row. */
static void damage(gm_dtype type, void *row, size_t n_byte, uint16_t scale) {
#define SET(type_id, block)                                                                        \
    if (type == (type_id))                                                                         \
        for (gm_block_##block *k = row; (char *)k < (char *)row + n_byte; k++) k->d = scale;
    SET(GM_Q4_0, q4_0)
    SET(GM_Q5_1, q5_1)
    SET(GM_Q8_0, q8_0)
    SET(GM_Q3_K, q3_k)
    SET(GM_Q4_K, q4_k)
    SET(GM_Q6_K, q6_k)
#undef SET
}

/* NaN and infinity in a scale, as a damaged file has them, became ordinary numbers on Vulkan: what
 * the CPU calls a damaged file answered there. */
static void matmul_and_embed_of_a_damaged_scale_are_no_numbers(void **state) {
    gm_backend *b = *state;
    static const gm_dtype types[] = {GM_Q4_0, GM_Q5_1, GM_Q8_0, GM_Q3_K, GM_Q4_K, GM_Q6_K};
    static const uint16_t scales[] = {0x7E00, 0xFE01, 0x7C00};
    enum { N = 512, ROWS = 70, BAD = 9, TOKENS = 18 };
    for (size_t k = 0; k < LENGTH(types) * LENGTH(scales); k++) {
        const gm_dtype type = types[k / LENGTH(scales)];
        const size_t row = gm_dtype_row_bytes(type, N);
        weight w = make_weight(b, type, N, ROWS, 100);
        gm_be_tensor_free(b, &w.t);
        damage(type, (char *)w.bytes + BAD * row, row, scales[k % LENGTH(scales)]);
        gm_tensor view = gm_tensor_view(type, w.bytes, N, ROWS), out = dev_zero(b, ROWS, N);
        assert_int_equal(gm_be_weight_import(b, &view, &w.t), 0);
        int32_t ids[ROWS];
        for (int r = 0; r < ROWS; r++) ids[r] = r;
        assert_int_equal(
            gm_be_embed(
                b,
                &(gm_op_embed){.table = &w.t, .ids = ids, .n_tok = ROWS, .scale = 1, .out = &out}),
            0);
        float *got = fetch(b, &out);
        for (int i = 0; i < ROWS; i++) assert_int_equal(!isfinite(got[i * N + 1]), i == BAD);
        free(got);
        gm_be_tensor_free(b, &out);
        for (int n_tok = 1; n_tok <= TOKENS; n_tok += TOKENS - 1) {
            float *x = random_rows(4, (size_t)n_tok * N, 1);
            gm_tensor tx = dev_rows(b, x, n_tok, N);
            out = dev_zero(b, n_tok, ROWS);
            gm_op_matmul op = {.n_mat = 1, .w = {&w.t}, .x = &tx, .n_tok = n_tok, .out = {&out}};
            assert_int_equal(gm_be_matmul(b, &op), 0);
            got = fetch(b, &out);
            for (int i = 0; i < n_tok * ROWS; i++)
                if (!isfinite(got[i]) != (i % ROWS == BAD))
                    fail_msg("type %d, scale %04x, %d tokens: number %d is %g", type,
                             scales[k % LENGTH(scales)], n_tok, i, (double)got[i]);
            free(got);
            free(x);
            gm_be_tensor_free(b, &tx);
            gm_be_tensor_free(b, &out);
        }
        drop_weight(b, &w);
    }
}

/* A NaN of the activations of a token is one in all of its products, and in no other's. */
static void matmul_of_a_token_with_nan_is_nan(void **state) {
    gm_backend *b = *state;
    static const gm_dtype types[] = {GM_F32, GM_Q4_0, GM_Q8_0, GM_Q6_K};
    enum { N = 512, ROWS = 70, TOKENS = 66, BAD = 3 };
    for (size_t k = 0; k < 2 * LENGTH(types); k++) {
        weight w = make_weight(b, types[k / 2], N, ROWS, 100);
        float *x = random_rows(4, TOKENS * N, 1);
        x[BAD * N + 77] = k % 2 ? -NAN : NAN;
        gm_tensor tx = dev_rows(b, x, TOKENS, N), out = dev_zero(b, TOKENS, ROWS);
        gm_op_matmul op = {.n_mat = 1, .w = {&w.t}, .x = &tx, .n_tok = TOKENS, .out = {&out}};
        assert_int_equal(gm_be_matmul(b, &op), 0);
        float *got = fetch(b, &out);
        for (int i = 0; i < TOKENS * ROWS; i++)
            if (!isfinite(got[i]) != (i / ROWS == BAD))
                fail_msg("type %d: number %d is %g", types[k / 2], i, (double)got[i]);
        free(got);
        free(x);
        gm_be_tensor_free(b, &tx);
        gm_be_tensor_free(b, &out);
        drop_weight(b, &w);
    }
}

/* ---- attention --------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int n_tok, n_head, n_kv, d;
    int pos0;   /* of the first query */
    int n_slot; /* of the cache */
    int window; /* keys that a token sees, itself included; 0: all */
    int image;  /* tokens of the batch, from its second on, that see to the end of the image */
    gm_dtype type;
    float q_scale;
} attn_case;

typedef struct {
    gm_kv_layer cache;
    float *k, *v; /* [n_pos, n_kv, d], rounded as the cache does */
} attn_cache;

static gm_tensor alloc_cache(gm_backend *b, const attn_case *c) {
    gm_tensor t = {.dtype = c->type,
                   .ne = {c->d, c->n_slot, c->n_kv, 1},
                   .row_bytes = gm_dtype_row_bytes(c->type, (uint64_t)c->d)};
    assert_int_equal(gm_be_tensor_alloc(b, &t), 0);
    return t;
}

static void round_rows(gm_dtype type, float *x, size_t n_row, int d) {
    void *packed = host(1, gm_dtype_row_bytes(type, (uint64_t)d));
    for (size_t r = 0; r < n_row; r++, x += d) {
        assert_int_equal(gm_quant_row(type, x, packed, d), 0);
        assert_int_equal(gm_dequant_row(type, packed, x, d), 0);
    }
    free(packed);
}

/* Writes positions 0 .. n_pos - 1 in uneven chunks, so that a ring goes round and chunks end in
 * the middle of it. */
static attn_cache fill_cache(gm_backend *b, const attn_case *c, int n_pos) {
    attn_cache a = {.cache = {.k = alloc_cache(b, c),
                              .v = alloc_cache(b, c),
                              .n_slot = c->n_slot,
                              .n_kv = c->n_kv,
                              .head_dim = c->d}};
    int n = c->n_kv * c->d;
    a.k = random_rows(11, (size_t)n_pos * (size_t)n, 1);
    a.v = random_rows(12, (size_t)n_pos * (size_t)n, 1);
    for (int pos = 0, chunk = 1; pos < n_pos; pos += chunk, chunk = chunk * 3 % 61) {
        if (chunk > n_pos - pos) chunk = n_pos - pos;
        if (chunk > c->n_slot) chunk = c->n_slot;
        gm_tensor k = dev_rows(b, a.k + (size_t)pos * (size_t)n, chunk, n);
        gm_tensor v = dev_rows(b, a.v + (size_t)pos * (size_t)n, chunk, n);
        gm_op_kv_write op = {.k = &k, .v = &v, .n_tok = chunk, .pos0 = pos, .cache = &a.cache};
        assert_int_equal(gm_be_kv_write(b, &op), 0);
        gm_be_tensor_free(b, &k);
        gm_be_tensor_free(b, &v);
    }
    round_rows(c->type, a.k, (size_t)n_pos * (size_t)c->n_kv, c->d);
    round_rows(c->type, a.v, (size_t)n_pos * (size_t)c->n_kv, c->d);
    return a;
}

static void drop_cache(gm_backend *b, attn_cache *a) {
    gm_be_tensor_free(b, &a->cache.k);
    gm_be_tensor_free(b, &a->cache.v);
    free(a->k);
    free(a->v);
}

/* A key or a value without a number was stored as zeros where blocks are of bytes: a damaged file
 * had something to answer. */
static void attention_to_a_row_with_nan_is_nan(void **state) {
    gm_backend *b = *state;
    static const gm_dtype types[] = {GM_F32, GM_F16, GM_Q8_0};
    enum { D = 64, POS = 5 };
    for (size_t i = 0; i < 2 * LENGTH(types); i++) {
        const attn_case c = {"", 1, 2, 2, D, POS, 8, 0, 0, types[i / 2], 1};
        attn_cache a = fill_cache(b, &c, POS);
        float *row = random_rows(3, 2 * D, 1);
        gm_tensor good = dev_rows(b, row, 1, 2 * D);
        row[D + 37] = i % 2 ? -NAN : NAN; /* of the second head */
        gm_tensor bad = dev_rows(b, row, 1, 2 * D), out = dev_zero(b, 1, 2 * D);
        gm_op_kv_write put = {.k = i % 2 ? &good : &bad,
                              .v = i % 2 ? &bad : &good,
                              .n_tok = 1,
                              .pos0 = POS,
                              .cache = &a.cache};
        assert_int_equal(gm_be_kv_write(b, &put), 0);
        gm_op_attention op = {.q = &good,
                              .cache = &a.cache,
                              .n_tok = 1,
                              .n_head = 2,
                              .lo = (int32_t[]){0},
                              .hi = (int32_t[]){POS},
                              .out = &out};
        assert_int_equal(gm_be_attention(b, &op), 0);
        float *got = fetch(b, &out);
        for (int k = 0; k < D; k++) assert_true(isfinite(got[k]));
        if (!isnan(got[D + 37])) fail_msg("type %d: %g", types[i / 2], (double)got[D + 37]);
        free(got);
        free(row);
        gm_tensor *all[] = {&good, &bad, &out};
        for (size_t k = 0; k < LENGTH(all); k++) gm_be_tensor_free(b, all[k]);
        drop_cache(b, &a);
    }
}

/* What token t of the batch sees. */
static void visible(const attn_case *c, int t, int32_t *lo, int32_t *hi) {
    int pos = c->pos0 + t;
    *lo = c->window > 0 && pos >= c->window ? pos - c->window + 1 : 0;
    *hi = t >= 1 && t <= c->image ? c->pos0 + c->image : pos;
}

/* slice: work of a submit on Vulkan, 0 for the usual. Returns how many submits there were. */
static uint64_t run_attn_case(gm_backend *b, const attn_case *c, uint64_t slice) {
    attn_cache a = fill_cache(b, c, c->pos0 + c->n_tok);
    size_t n = (size_t)c->n_head * (size_t)c->d, all = n * (size_t)c->n_tok;
    float *q = random_rows(5, all, c->q_scale);
    int32_t *lo = host((size_t)c->n_tok, sizeof *lo), *hi = host((size_t)c->n_tok, sizeof *hi);
    for (int t = 0; t < c->n_tok; t++) visible(c, t, &lo[t], &hi[t]);
    gm_tensor tq = dev_rows(b, q, c->n_tok, (int64_t)n), out = dev_zero(b, c->n_tok, (int64_t)n);
    double *want = host(all, sizeof *want);
    ref_attention(q, a.k, a.v, c->n_tok, c->n_head, c->n_kv, c->d, lo, hi, want);
    gm_op_attention op = {.q = &tq,
                          .cache = &a.cache,
                          .n_tok = c->n_tok,
                          .n_head = c->n_head,
                          .lo = lo,
                          .hi = hi,
                          .out = &out};
    assert_int_equal(gm_be_sync(b), 0);
    gm_vk_slice_at(slice);
    assert_int_equal(gm_be_attention(b, &op), 0);
    uint64_t n_submit = gm_vk_slice_at(0);
    /* Scores reach q_scale * d; their float32 rounding is what the exponential enlarges. */
    judge(b, &out, want, c->q_scale > 1 ? 2e-4 : 2e-6);
    gm_be_tensor_free(b, &tq);
    free(q);
    free(lo);
    free(hi);
    drop_cache(b, &a);
    return n_submit;
}

static const attn_case attn_cases[] = {
    {"first token alone", 1, 4, 2, 16, 0, 8, 0, 0, GM_F16, 0.3f},
    {"first chunk", 5, 4, 2, 16, 0, 8, 0, 0, GM_F32, 0.3f},
    {"sliding layer of the 12B, decode", 1, 16, 8, 256, 700, 520, 512, 0, GM_F16, 0.1f},
    {"sliding layer of the 12B, chunk", 40, 16, 8, 256, 300, 320, 256, 0, GM_F16, 0.1f},
    {"global layer of the 12B, decode", 1, 16, 1, 512, 1100, 1200, 0, 0, GM_F16, 0.05f},
    {"global layer of the 12B, chunk", 13, 16, 1, 512, 180, 256, 0, 0, GM_F16, 0.05f},
    {"deep, few heads: spans of keys", 1, 2, 1, 32, 5000, 5100, 0, 0, GM_F16, 0.2f},
    {"deep, three tokens", 3, 2, 1, 24, 3000, 3100, 0, 0, GM_F32, 0.2f},
    {"deep ring with a window", 2, 4, 1, 32, 4000, 1500, 1400, 0, GM_Q8_0, 0.2f},
    {"window of one", 3, 2, 2, 8, 9, 16, 1, 0, GM_F32, 1.0f},
    {"ring exactly as long as needed", 7, 6, 3, 10, 50, 16, 10, 0, GM_F32, 0.5f},
    {"ring wraps inside a block of keys", 33, 4, 2, 40, 200, 97, 64, 0, GM_F16, 0.3f},
    {"no sharing of key heads", 9, 5, 5, 6, 77, 100, 0, 0, GM_F32, 0.5f},
    {"one key head, odd number of heads", 6, 7, 1, 18, 130, 140, 0, 0, GM_F16, 0.3f},
    {"smallest head", 4, 3, 1, 2, 10, 20, 0, 0, GM_F32, 1.0f},
    {"q8_0 cache, chunk", 21, 8, 2, 64, 90, 128, 50, 0, GM_Q8_0, 0.2f},
    {"q8_0 cache, decode", 1, 8, 2, 96, 333, 512, 0, 0, GM_Q8_0, 0.2f},
    {"image in a chunk", 30, 4, 2, 32, 100, 128, 64, 20, GM_F16, 0.3f},
    {"image that fills the batch", 70, 4, 1, 32, 3, 200, 128, 69, GM_F32, 0.3f},
    {"more than a block of heads in a group", 2, 66, 1, 16, 70, 128, 0, 0, GM_F32, 0.3f},
    {"large scores", 17, 4, 2, 64, 150, 200, 0, 0, GM_F16, 8.0f},
    {"large scores, deep", 1, 4, 1, 64, 2500, 2600, 0, 0, GM_F16, 8.0f},
    {"eighty tokens", 80, 4, 2, 34, 61, 150, 0, 0, GM_F16, 0.3f},
};

static void attention_agrees_with_the_formula(void **state) {
    for (size_t k = 0; k < LENGTH(attn_cases); k++) {
        /* Seen only when the case fails: cmocka shows the last lines of the group. */
        if (getenv("OPS_VERBOSE")) print_message("  %s\n", attn_cases[k].name);
        run_attn_case(*state, &attn_cases[k], 0);
    }
}

/* One dispatch for a chunk at the end of a long context took seconds on a small GPU, whose driver
 * then reset it. */
static void attention_of_many_tokens_is_cut(void **state) {
    gm_backend *b = *state;
    if (strncmp(b->desc, "vulkan", 6) != 0) skip();
    for (size_t k = 0; k < LENGTH(attn_cases); k++) {
        const attn_case *c = &attn_cases[k];
        if (c->n_tok < 5) continue;
        if (run_attn_case(b, c, 1) < (uint64_t)(c->n_tok + 3) / 4)
            fail_msg("%s: %d tokens in blocks of more than four", c->name, c->n_tok);
        uint64_t n_key = (uint64_t)(c->window > 0 ? c->window + c->image : c->pos0 + c->n_tok);
        run_attn_case(b, c, 13 * n_key * (uint64_t)(c->n_head * c->d) / 2);
    }
}

/* Tokens of a batch may look at disjoint stretches, and a later call must not see leftovers of an
 * earlier one with larger heads. */
static void ranges_of_all_kinds(gm_backend *b, uint64_t slice) {
    attn_case c = {"", 6, 4, 2, 24, 300, 400, 0, 0, GM_F16, 0.5f};
    static const int32_t lo[6] = {0, 299, 64, 5, 130, 200}, hi[6] = {0, 305, 127, 70, 130, 263};
    attn_cache a = fill_cache(b, &c, c.pos0 + c.n_tok);
    size_t n = (size_t)c.n_head * (size_t)c.d, all = n * (size_t)c.n_tok;
    float *q = random_rows(5, all, c.q_scale);
    gm_tensor tq = dev_rows(b, q, c.n_tok, (int64_t)n), out = dev_zero(b, c.n_tok, (int64_t)n);
    double *want = host(all, sizeof *want);
    ref_attention(q, a.k, a.v, c.n_tok, c.n_head, c.n_kv, c.d, lo, hi, want);
    gm_op_attention op = {.q = &tq,
                          .cache = &a.cache,
                          .n_tok = c.n_tok,
                          .n_head = c.n_head,
                          .lo = lo,
                          .hi = hi,
                          .out = &out};
    gm_vk_slice_at(slice);
    assert_int_equal(gm_be_attention(b, &op), 0);
    gm_vk_slice_at(0);
    judge(b, &out, want, 2e-6);
    gm_be_tensor_free(b, &tq);
    free(q);
    drop_cache(b, &a);
}

static void attention_with_ranges_of_all_kinds_in_one_batch(void **state) {
    ranges_of_all_kinds(*state, 0);
    ranges_of_all_kinds(*state, 1);
}

/* ---- activations ------------------------------------------------------------------------- */

static void geglu_is_accurate_from_tiny_to_huge_gates(void **state) {
    gm_backend *b = *state;
    static const float edges[] = {0.0f,  -0.0f,  1e-30f, -1e-30f, 1e-4f, -1e-4f,
                                  3.0f,  -3.0f,  -5.5f,  -9.0f,   12.0f, -12.0f,
                                  50.0f, -50.0f, 1e4f,   -1e4f,   1e15f, -1e15f};
    static const int sizes[] = {1, 7, 16, 31, 1000, 15360};
    for (size_t k = 0; k < LENGTH(sizes); k++) {
        int n = sizes[k], n_tok = n > 10000 ? 3 : 9;
        size_t all = (size_t)n * (size_t)n_tok;
        float *gate = random_rows(k, all, 3), *up = random_rows(k + 1, all, 2);
        for (size_t i = 0; i < all; i += 3) gate[i] = edges[i / 3 % LENGTH(edges)];
        gm_tensor tg = dev_rows(b, gate, n_tok, n), tu = dev_rows(b, up, n_tok, n);
        gm_op_geglu op = {.gate = &tg, .up = &tu, .n_tok = n_tok, .out = &tg};
        assert_int_equal(gm_be_geglu(b, &op), 0);
        float *got = fetch(b, &tg);
        /* Element by element: beside 1e15 a relative error of the row would hide everything. The
         * float32 argument of the exponential loses digits as it grows, far down the tail. */
        for (size_t i = 0; i < all; i++) {
            double want = ref_gelu_tanh((double)gate[i]) * (double)up[i];
            double slack = 2e-6 * fabs(want) + 1e-9;
            if (!(fabs((double)got[i] - want) <= slack))
                fail_msg("gate %.9g, up %.9g: got %.9g, want %.9g", (double)gate[i], (double)up[i],
                         (double)got[i], want);
        }
        free(got);
        free(gate);
        free(up);
        gm_be_tensor_free(b, &tg);
        gm_be_tensor_free(b, &tu);
    }
}

/* The decoder's work is one long row of which ops see parts. With 1,120 rows of an image that of
 * the 12B is longer than what one binding shows on some devices, and was refused as "no memory". */
static void geglu_in_a_row_longer_than_a_binding(void **state) {
    gm_backend *b = *state;
    enum { N_TOK = 1120, N = 15360 };
    const size_t half = (size_t)N_TOK * N * sizeof(float), n = 100, last = half - n * sizeof(float);
    gm_tensor work = gm_tensor_view(GM_F32, NULL, 2 * (int64_t)N_TOK * N, 1), part[4];
    assert_int_equal(gm_be_tensor_alloc(b, &work), 0);
    float *x = random_rows(9, 4 * n, 3);
    const size_t at[] = {0, half, last, half + last}; /* gate, up; gate, up */
    for (size_t i = 0; i < LENGTH(at); i++) {
        assert_int_equal(gm_be_write(b, &work, at[i], x + i * n, n * sizeof *x), 0);
        part[i] =
            gm_tensor_view(GM_F32, work.data ? (char *)work.data + at[i] : NULL, (int64_t)n, 1);
        part[i].dmem = work.dmem;
        part[i].offset = at[i];
    }
    for (size_t i = 0; i < LENGTH(at); i += 2) {
        gm_op_geglu op = {.gate = &part[i], .up = &part[i + 1], .n_tok = 1, .out = &part[i]};
        assert_int_equal(gm_be_geglu(b, &op), 0);
        float *got = fetch(b, &part[i]), *want = x + i * n;
        for (size_t k = 0; k < n; k++)
            want[k] = (float)(ref_gelu_tanh((double)want[k]) * (double)want[n + k]);
        assert_rows_close(got, want, (int64_t)n, 2e-6);
        free(got);
    }
    free(x);
    gm_be_tensor_free(b, &work);
}

static void softcap_is_accurate_over_a_whole_vocabulary(void **state) {
    gm_backend *b = *state;
    static const int sizes[] = {1, 5, 16, 63, 4097, N_VOCAB};
    static const float caps[] = {30.0f, 2.5f, 50.0f, 30.0f, 30.0f, 30.0f};
    for (size_t k = 0; k < LENGTH(sizes); k++) {
        int n = sizes[k];
        float *x = random_rows(k, (size_t)n, 40);
        for (int i = 0; i < n; i += 5) x[i] *= 1e-4f;
        if (n > 10) {
            x[3] = 0.0f;
            x[4] = 1e30f;
            x[6] = -1e30f;
            x[7] = 1e-38f;
        }
        gm_tensor t = dev_rows(b, x, 1, n);
        gm_op_softcap op = {.x = &t, .n_tok = 1, .cap = caps[k]};
        assert_int_equal(gm_be_softcap(b, &op), 0);
        float *got = fetch(b, &t);
        for (int i = 0; i < n; i++) {
            double want = (double)caps[k] * tanh((double)x[i] / (double)caps[k]);
            /* x / cap may be subnormal, where a step is 1.4e-45. */
            if (!(fabs((double)got[i] - want) <= 5e-7 * fabs(want) + 1e-43))
                fail_msg("%d: x %.9g: got %.9g, want %.9g", i, (double)x[i], (double)got[i], want);
        }
        free(got);
        free(x);
        gm_be_tensor_free(b, &t);
    }
}

/* ---- the best of a row ------------------------------------------------------------------- */

/* What a logit counts as. */
static float comparable(float v) {
    if (isnan(v)) return -INFINITY;
    return v > FLT_MAX ? FLT_MAX : v;
}

/* Whatever was listed, and that nothing else had to be. Returns how many were; -1: no room. */
static int32_t check_top(gm_backend *b, const float *x, int32_t n) {
    static gm_top t;
    gm_tensor tx = dev_rows(b, x, 1, n);
    memset(&t, 0xFF, sizeof t);
    assert_int_equal(gm_be_top(b, &(gm_op_top){.x = &tx, .out = &t}), 0);
    gm_be_tensor_free(b, &tx);
    float max = -INFINITY;
    double sum = 0;
    int32_t n_finite = 0, n_reach = 0, seen = 0;
    for (int32_t i = 0; i < n; i++) max = fmaxf(max, comparable(x[i]));
    for (int32_t i = 0; i < n; i++) {
        float v = comparable(x[i]);
        n_finite += v > -INFINITY;
        n_reach += v >= t.bound && v > -INFINITY;
        if (v > -INFINITY) sum += exp((double)v - (double)max);
    }
    assert_int_equal(t.n_row, n);
    assert_true(t.max == max);
    if (!(fabs((double)t.sum - sum) <= GM_TOP_SUM_ERROR * sum))
        fail_msg("%d logits: sum %.9g, want %.9g", n, (double)t.sum, sum);
    if (t.n < 0) {
        assert_true(n_reach > GM_TOP_ROOM);
        return -1;
    }
    bool *listed = host((size_t)n, sizeof *listed);
    for (int32_t i = 0; i < t.n; i++) {
        const gm_top_entry *e = &t.entry[i];
        assert_in_range(e->id, 0, n - 1);
        assert_false(listed[e->id]);
        listed[e->id] = true;
        if (!(e->logit == comparable(x[e->id]) && e->logit >= t.bound && e->logit > -INFINITY))
            fail_msg("id %d: %.9g, listed as %.9g", e->id, (double)x[e->id], (double)e->logit);
        seen++;
    }
    free(listed);
    assert_int_equal(seen, n_reach); /* and so nobody is missing */
    assert_true(seen >= (n_finite < GM_TOP_WANTED ? n_finite : GM_TOP_WANTED));
    return seen;
}

static void the_best_of_a_row_are_all_that_reach_a_bound(void **state) {
    gm_backend *b = *state;
    if (!b->vt->top) skip();
    static const int sizes[] = {1, 2, 5, 255, 256, 257, 512, 513, 2047, 2048, 2049, 60013, N_VOCAB};
    for (size_t k = 0; k < LENGTH(sizes); k++) {
        int n = sizes[k];
        float *x = random_rows(k, (size_t)n, 5);
        assert_true(check_top(b, x, n) > 0);
        for (int i = 0; i < n; i++) x[i] -= 1e4f; /* all of them negative */
        assert_true(check_top(b, x, n) > 0);
        for (int i = 0; i < n; i++) x[i] = (float)i;
        assert_true(check_top(b, x, n) > 0);
        for (int i = 0; i < n; i++) x[i] = -(float)i * 1e-3f;
        assert_true(check_top(b, x, n) > 0);
        free(x);
    }
}

static void the_best_of_a_row_with_ties_and_without_numbers(void **state) {
    gm_backend *b = *state;
    if (!b->vt->top) skip();
    static const int sizes[] = {7, 300, 700, 5000, N_VOCAB};
    for (size_t k = 0; k < LENGTH(sizes); k++) {
        int n = sizes[k], few = n < 200 ? n / 2 : 100;
        float *x = random_rows(k + 70, (size_t)n, 5);
        for (int i = 0; i < n; i++) x[i] = rintf(x[i]); /* some twenty values, -0 among them */
        check_top(b, x, n);
        for (int i = 0; i < n; i++) x[i] = i % 2 ? 0.0f : -0.0f;
        assert_int_equal(check_top(b, x, n), n <= GM_TOP_ROOM ? n : -1);
        /* Behind a few good ones all are alike: no bound in between is asked for. */
        for (int i = 0; i < few; i++) x[(long)i * n / few] = 3.0f + (float)i;
        check_top(b, x, n);
        for (int i = 0; i < n; i++) x[i] = i % 3 ? NAN : -INFINITY;
        assert_int_equal(check_top(b, x, n), 0);
        for (int i = 0; i < few; i++) x[(long)i * n / few] = (float)(i % 4);
        assert_int_equal(check_top(b, x, n), few);
        x[n - 1] = INFINITY;
        x[n / 2] = -NAN;
        check_top(b, x, n);
        /* A thousand neighbours are the best: each is in a block of its own. */
        for (int i = 0; i < n; i++) x[i] = i < 1000 ? 1.0f + (float)i * 1e-3f : -(float)i;
        assert_true(check_top(b, x, n) > 0);
        /* The best are all in one block, the worst that can happen. */
        for (int i = 0; i < n; i++)
            x[i] = i % 2048 == 5 ? 10.0f + (float)(i / 2048) : -(float)(i % 2048);
        check_top(b, x, n);
        free(x);
    }
}

/* ---- cancelling, and nothing to do ------------------------------------------------------- */

static void a_raised_flag_cancels_and_a_lowered_one_lets_the_same_op_finish(void **state) {
    gm_backend *b = *state;
    float *x = random_rows(1, 4 * 64, 1);
    gm_tensor t = dev_rows(b, x, 4, 64);
    gm_cancel flag;
    atomic_init(&flag.set, true);
    weight w = make_weight(b, GM_F32, 64, 32, 3);
    gm_be_set_cancel(b, &flag);
    gm_op_softcap op = {.x = &t, .n_tok = 4, .cap = 30};
    assert_int_equal(gm_be_softcap(b, &op), GM_ECANCELLED);
    gm_tensor out = dev_zero(b, 4, 32);
    gm_op_matmul mm = {.n_mat = 1, .w = {&w.t}, .x = &t, .n_tok = 4, .out = {&out}};
    assert_int_equal(gm_be_matmul(b, &mm), GM_ECANCELLED);
    attn_case c = {"", 2, 2, 1, 16, 500, 600, 0, 0, GM_F32, 1};
    gm_be_set_cancel(b, NULL);
    attn_cache a = fill_cache(b, &c, 502);
    gm_be_set_cancel(b, &flag);
    gm_tensor q = dev_zero(b, 2, 32), ao = dev_zero(b, 2, 32);
    gm_op_attention at = {.q = &q,
                          .cache = &a.cache,
                          .n_tok = 2,
                          .n_head = 2,
                          .lo = (int32_t[]){0, 0},
                          .hi = (int32_t[]){500, 501},
                          .out = &ao};
    assert_int_equal(gm_be_attention(b, &at), GM_ECANCELLED);
    atomic_store(&flag.set, false);
    assert_int_equal(gm_be_attention(b, &at), 0);
    assert_int_equal(gm_be_matmul(b, &mm), 0);
    gm_be_set_cancel(b, NULL);
    drop_cache(b, &a);
    drop_weight(b, &w);
    gm_tensor *all[] = {&t, &out, &q, &ao};
    for (size_t i = 0; i < LENGTH(all); i++) gm_be_tensor_free(b, all[i]);
    free(x);
}

/* ---- what a device cannot do ------------------------------------------------------------- */

static bool is_vulkan(const gm_backend *b) { return strncmp(b->desc, "vulkan", 6) == 0; }

/* Shapes come from files: more workgroups than a device takes are undefined there. */
static void more_workgroups_than_the_device_takes_are_refused(void **state) {
    gm_backend *b = *state;
    if (!is_vulkan(b)) skip();
    enum { MANY = 70000, D = 2 };
    gm_tensor rows = dev_zero(b, 1, MANY * D), other = dev_zero(b, 1, MANY * D);
    gm_kv_layer cache = {.n_slot = 1, .n_kv = MANY, .head_dim = D};
    cache.k = cache.v =
        (gm_tensor){.dtype = GM_F32, .ne = {D, 1, MANY, 1}, .row_bytes = D * sizeof(float)};
    assert_int_equal(gm_be_tensor_alloc(b, &cache.k), 0);
    assert_int_equal(gm_be_tensor_alloc(b, &cache.v), 0);
    const int rc[] = {
        gm_be_head_norm_rope(
            b,
            &(gm_op_head_norm_rope){
                .x = &rows, .n_tok = 1, .n_head = MANY, .head_dim = D, .eps = 1e-6f}),
        gm_be_kv_write(b, &(gm_op_kv_write){.k = &rows, .v = &rows, .n_tok = 1, .cache = &cache}),
        gm_be_attention(b, &(gm_op_attention){.q = &rows,
                                              .cache = &cache,
                                              .n_tok = 1,
                                              .n_head = MANY,
                                              .lo = (int32_t[]){0},
                                              .hi = (int32_t[]){0},
                                              .out = &other})};
    /* Others may take more. */
    for (size_t i = 0; strstr(b->desc, "llvmpipe") && i < LENGTH(rc); i++)
        assert_int_equal(rc[i], GM_EUNSUPPORTED);
    assert_int_equal(gm_be_sync(b), 0);
    gm_tensor *all[] = {&rows, &other, &cache.k, &cache.v};
    for (size_t i = 0; i < LENGTH(all); i++) gm_be_tensor_free(b, all[i]);
}

/* The loops over the columns of a head are unrolled: those of a made file had no end. */
static void heads_larger_than_the_registers_are_refused(void **state) {
    gm_backend *b = *state;
    if (!is_vulkan(b)) skip();
    const gm_be_limits lim = {.max_tok = 1, .max_in = 1, .max_head = 1, .max_head_dim = 1026};
    assert_int_equal(gm_be_reserve(b, &lim), GM_EUNSUPPORTED);
    gm_tensor q = dev_zero(b, 1, 2048), out = dev_zero(b, 1, 2048);
    gm_kv_layer cache = {.n_slot = 1, .n_kv = 1, .head_dim = 2048};
    cache.k = cache.v =
        (gm_tensor){.dtype = GM_F16, .ne = {2048, 1, 1, 1}, .row_bytes = 2048 * sizeof(uint16_t)};
    assert_int_equal(gm_be_tensor_alloc(b, &cache.k), 0);
    assert_int_equal(gm_be_tensor_alloc(b, &cache.v), 0);
    gm_op_attention op = {.q = &q,
                          .cache = &cache,
                          .n_tok = 1,
                          .n_head = 1,
                          .lo = (int32_t[]){0},
                          .hi = (int32_t[]){0},
                          .out = &out};
    assert_int_equal(gm_be_attention(b, &op), GM_EUNSUPPORTED);
    gm_tensor *all[] = {&q, &out, &cache.k, &cache.v};
    for (size_t i = 0; i < LENGTH(all); i++) gm_be_tensor_free(b, all[i]);
}

/* Two GiB are more than any device binds here; nothing is allocated for it. */
static void rows_that_no_binding_shows_are_known_before_they_are_asked_for(void **state) {
    gm_backend *b = *state;
    if (!is_vulkan(b)) skip();
    gm_tensor small = gm_tensor_view(GM_F32, NULL, 1024, 512);
    gm_tensor large = gm_tensor_view(GM_F32, NULL, 1024, 1 << 19);
    assert_true(gm_be_can_hold(b, &small));
    assert_false(gm_be_can_hold(b, &large));
    assert_int_equal(gm_be_tensor_alloc(b, &large), GM_ENOMEM);
}

/* ---- devices ----------------------------------------------------------------------------- */

#define CASE(fn)                                                                                   \
    { #fn, fn }
static const struct {
    const char *name;
    void (*fn)(void **state);
} cases[] = {
    CASE(embed_takes_scaled_rows_of_every_type_and_leaves_the_others),
    CASE(rms_norm_divides_by_the_root_mean_square),
    CASE(rms_norm_survives_huge_tiny_and_zero_rows_in_place),
    CASE(add_norm_adds_the_normalised_branch_and_scales_the_stream),
    CASE(matmul_gives_up_to_three_products_of_one_input),
    CASE(head_norm_rope_normalises_and_turns_each_head),
    CASE(head_norm_rope_is_right_when_kinds_of_layers_and_positions_alternate),
    CASE(matmul_and_embed_of_a_damaged_scale_are_no_numbers),
    CASE(matmul_of_a_token_with_nan_is_nan),
    CASE(attention_agrees_with_the_formula),
    CASE(attention_to_a_row_with_nan_is_nan),
    CASE(attention_of_many_tokens_is_cut),
    CASE(attention_with_ranges_of_all_kinds_in_one_batch),
    CASE(geglu_is_accurate_from_tiny_to_huge_gates),
    CASE(geglu_in_a_row_longer_than_a_binding),
    CASE(softcap_is_accurate_over_a_whole_vocabulary),
    CASE(the_best_of_a_row_are_all_that_reach_a_bound),
    CASE(the_best_of_a_row_with_ties_and_without_numbers),
    CASE(more_workgroups_than_the_device_takes_are_refused),
    CASE(heads_larger_than_the_registers_are_refused),
    CASE(rows_that_no_binding_shows_are_known_before_they_are_asked_for),
    CASE(a_raised_flag_cancels_and_a_lowered_one_lets_the_same_op_finish),
};

enum { MAX_DEVICE = 2 * GM_CPU_LEVEL_COUNT };

static gm_backend *device[MAX_DEVICE];
static int n_device;

static void add_device(const char *name, int n_threads) {
    char err[256];
    gm_backend *b;
    int rc = gm_backend_open(&b, name, n_threads, err, sizeof err);
    if (rc == GM_EUNSUPPORTED) {
        printf("skip: %s\n", err);
        exit(77);
    }
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", name, err);
        exit(1);
    }
    const gm_be_limits lim = {
        .max_tok = MAX_TOK, .max_in = MAX_IN, .max_head = 80, .max_head_dim = 512};
    if (gm_be_reserve(b, &lim) != 0) exit(1);
    device[n_device++] = b;
}

/* One thread takes paths of its own (no spans), but the same ones at every level. */
static void open_devices(void) {
    const char *only = getenv("OPS_DEVICE");
    if (only) {
        add_device(only, 3);
        return;
    }
    gm_cpu_level best = gm_cpu_level_get();
    for (int level = GM_CPU_REF; level < GM_CPU_LEVEL_COUNT; level++) {
        if (!gm_cpu_has((gm_cpu_level)level)) continue;
        gm_cpu_force((gm_cpu_level)level);
        add_device("cpu", 3);
        if ((gm_cpu_level)level == best) add_device("cpu", 1);
    }
}

static void hear(void *ud, gm_log_level level, const char *room, const char *line) {
    if (level == GM_LOG_ERROR) fprintf(stderr, "%s: %s\n", room, line);
    driver_hear(ud, level, room, line);
}

int main(void) {
    gm_log_set_sink(hear, NULL);
    static struct CMUnitTest tests[MAX_DEVICE * LENGTH(cases)];
    static char names[MAX_DEVICE * LENGTH(cases)][160];
    const char *only = getenv("OPS_ONLY");
    size_t n = 0;
    open_devices();
    for (int d = 0; d < n_device; d++)
        for (size_t i = 0; i < LENGTH(cases); i++) {
            if (only && !strstr(cases[i].name, only)) continue;
            snprintf(names[n], sizeof names[n], "%s: %s", device[d]->desc, cases[i].name);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = cases[i].fn, .initial_state = device[d]};
            n++;
        }
    int failed = _cmocka_run_group_tests("ops", tests, n, NULL, NULL);
    for (int d = 0; d < n_device; d++) gm_backend_close(&device[d]);
    return failed || driver_messages();
}
