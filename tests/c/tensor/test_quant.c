/* Conversion between blocks and floats, against values of the reference implementation. */
#include "tensor/quant.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "helper/cm.h"
#include "helper/compare.h"
#include "helper/random.h"
#include "tensor/blocks.h"

/* Two blocks of a fixed byte pattern, byte i = 37 i + 11 (i / 7) + 5, with the half-float factors
 * at `at` set to 0.1 and 0.25 in the first block, -0.03 and 1.5 in the second. The expected values
 * (elements 0, n/2+1, n-1 of the first block, 0 and n-1 of the second, and FNV-1a over all bytes
 * of the result) were computed with the Python package gguf 0.19. */
typedef struct {
    gm_dtype type;
    int at[2];
    float picked[5];
    uint64_t hash;
} vector;

/* clang-format off */
static const vector vectors[] = {
    {GM_Q4_0, {0, -1}, {0x1.665p-1f, -0x1.998p-4f, 0x1.998p-4f, -0x1.ae1p-3f, 0x1.eb8p-4f}, 0x465BDE261C5C3443u},
    {GM_Q4_1, {0, 2}, {0x1.2658p+0f, 0x1.5988p+0f, 0x1.8cb8p+0f, 0x1.147cp+0f, 0x1.1c2ap+0f}, 0x910651F590DEDBEAu},
    {GM_Q5_0, {0, -1}, {0x1.332p-2f, -0x1.7fe8p+0f, 0x1.998p-3f, 0x1.70ap-4f, 0x1.1478p-2f}, 0xFBDE624D09BB6DCBu},
    {GM_Q5_1, {0, 2}, {0x1.532p+1f, 0x1.2cbcp+1f, 0x1.e65p-1f, 0x1.fae4p-1f, 0x1.fae4p-1f}, 0xAEE0D35C96732791u},
    {GM_Q8_0, {0, -1}, {0x1.f97ap+2f, -0x1.e648p+1f, -0x1.ffep-1f, -0x1.ae1p+1f, -0x1.6144p-1f}, 0x421A6C7CF5BA6C7Eu},
    {GM_Q2_K, {80, 82}, {0x1.7fe8p+0f, 0x1.a64p+0f, 0x1.996p-1f, -0x1.02b82p+4f, -0x1.5d708p+4f}, 0x8CB82859AD878F3Au},
    {GM_Q3_K, {108, -1}, {0x1.ffep+0f, -0x1.0cbcp+1f, -0x1.332p+1f, -0x1.70ap-3f, 0x1.eb8p-6f}, 0xD60768E1AB8674D8u},
    {GM_Q4_K, {0, 2}, {0x1.afc9p+3f, 0x1.464cp+3f, -0x1.0cep+2f, -0x1.cae1p+5f, -0x1.94a38p+5f}, 0xE792D264E0FE6F6Cu},
    {GM_Q5_K, {0, 2}, {0x1.5be34p+5f, 0x1.bd7dp+6f, -0x1.59a8p+2f, -0x1.72ccap+6f, -0x1.b7302p+5f}, 0xE4A3FCFA1A618EF2u},
    {GM_Q6_K, {208, -1}, {-0x1.2e538p+5f, 0x1.7eb4ep+6f, 0x1.52514p+6f, 0x1.49fc9p+6f, -0x1.5996p+2f}, 0xEA72BB9FB2A353F4u},
    {GM_IQ4_NL, {0, -1}, {0x1.6983p+3f, -0x1.ffep-1f, 0x1.4cb8p+0f, -0x1.b1e7p+1f, 0x1.784ep+0f}, 0xB15E540A490A9BB3u},
    {GM_IQ4_XS, {0, -1}, {0x1.3fecp+1f, 0x1.7035c8p+8f, 0x1.a3e5cp+5f, -0x1.da388p+5f, -0x1.8d6c8p+5f}, 0xD49E03C7F3A5ADFAu},
};
/* clang-format on */

static void make_blocks(const vector *v, uint8_t *raw, size_t block_bytes) {
    static const float factors[2][2] = {{0.1f, 0.25f}, {-0.03f, 1.5f}};
    for (size_t i = 0; i < 2 * block_bytes; i++) raw[i] = (uint8_t)(i * 37 + i / 7 * 11 + 5);
    for (size_t b = 0; b < 2; b++)
        for (int k = 0; k < 2 && v->at[k] >= 0; k++) {
            uint16_t h = gm_f32_to_f16(factors[b][k]);
            memcpy(raw + b * block_bytes + v->at[k], &h, 2);
        }
}

static void quant_dequantises_every_block_format_like_the_reference(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const vector *v = &vectors[i];
        const gm_dtype_info *info = gm_dtype_get((uint32_t)v->type);
        uint8_t raw[2 * 256 + 1];
        float y[512];
        int64_t n = info->block_elems;
        make_blocks(v, raw + 1, info->block_bytes); /* no alignment is promised */
        assert_int_equal(gm_dequant_row(v->type, raw + 1, y, 2 * n), 0);
        float picked[5] = {y[0], y[n / 2 + 1], y[n - 1], y[n], y[2 * n - 1]};
        if (memcmp(picked, v->picked, sizeof picked) != 0) print_error("%s:\n", info->name);
        assert_rows_equal(picked, v->picked, 5);
        uint64_t h = 0xCBF29CE484222325u;
        const uint8_t *p = (const uint8_t *)y;
        for (int64_t k = 0; k < 2 * n * 4; k++) h = (h ^ p[k]) * 0x100000001B3u;
        if (h != v->hash) fail_msg("some values of %s differ", info->name);
    }
}

static void bytes_of_hex(const char *hex, uint8_t *out) {
    for (; *hex; hex += 2) {
        unsigned byte = 0;
        sscanf(hex, "%2x", &byte);
        *out++ = (uint8_t)byte;
    }
}

static void quant_quantises_a_ramp_like_the_reference(void **state) {
    (void)state;
    static const struct {
        gm_dtype type;
        const char *hex;
    } want[] = {
        {GM_Q4_0, "3332809191a2a2b3b3c4c4d5d5e6e6f7f7f8"},
        {GM_Q4_1, "9d3233be80809191a2a2b3b3c4c4d5d5e6e6f7f7"},
        {GM_Q5_0, "332e0000ffff102132435465768798a9bacbdcedfeff"},
        {GM_Q5_1, "662e33be0000ffff00112233445566778899aabbccddeeff"},
        {GM_Q8_0, "40228189919aa2aab2bac3cbd3dbe3ecf4fc040c141d252d353d464e565e666f777f"},
    };
    float x[32];
    for (int i = 0; i < 32; i++) x[i] = ((float)i - 15.5f) * 0.1f;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        uint8_t got[64], expected[64];
        size_t n = gm_dtype_row_bytes(want[i].type, 32);
        assert_int_equal(strlen(want[i].hex), 2 * n);
        bytes_of_hex(want[i].hex, expected);
        assert_int_equal(gm_quant_row(want[i].type, x, got, 32), 0);
        assert_memory_equal(got, expected, n);
    }
}

static void quant_round_trip_stays_within_the_step_of_the_format(void **state) {
    (void)state;
    static const struct {
        gm_dtype type;
        double limit; /* relative rms on normal values */
    } cases[] = {{GM_F32, 0},       {GM_F16, 4e-4},  {GM_BF16, 3e-3}, {GM_Q8_0, 6e-3},
                 {GM_Q5_0, 5.5e-2}, {GM_Q5_1, 5e-2}, {GM_Q4_0, 0.11}, {GM_Q4_1, 0.1}};
    float x[1024], y[1024];
    uint8_t packed[4096];
    test_rng r = {1};
    for (int i = 0; i < 1024; i++) x[i] = rng_gauss(&r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(gm_quant_row(cases[i].type, x, packed, 1024), 0);
        assert_int_equal(gm_dequant_row(cases[i].type, packed, y, 1024), 0);
        assert_rows_close(y, x, 1024, cases[i].limit);
    }
}

static void quant_zeros_stay_zero_and_nothing_is_undefined(void **state) {
    (void)state;
    static const gm_dtype types[] = {GM_Q4_0, GM_Q4_1, GM_Q5_0, GM_Q5_1, GM_Q8_0, GM_F16, GM_BF16};
    static const float zeros[32];
    float wild[32] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f}, y[32];
    uint8_t packed[128];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_int_equal(gm_quant_row(types[i], zeros, packed, 32), 0);
        assert_int_equal(gm_dequant_row(types[i], packed, y, 32), 0);
        for (int k = 0; k < 32; k++) assert_true(y[k] == 0.0f);
        assert_int_equal(gm_quant_row(types[i], wild, packed, 32), 0); /* for the sanitizers */
    }
}

/* A cache of this type must not hide that a damaged file computes no numbers. */
static void quant_nan_makes_a_block_of_q8_0_nan(void **state) {
    (void)state;
    for (int at = 0; at < 32; at++) {
        float x[64], y[64];
        uint8_t packed[128];
        for (int i = 0; i < 64; i++) x[i] = (float)(i - 20);
        x[at] = at % 2 ? -NAN : NAN;
        assert_int_equal(gm_quant_row(GM_Q8_0, x, packed, 64), 0);
        assert_int_equal(gm_dequant_row(GM_Q8_0, packed, y, 64), 0);
        for (int i = 0; i < 64; i++) assert_int_equal(isnan(y[i]) != 0, i < 32);
    }
}

static void quant_half_floats_round_trip_and_round_to_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = gm_f16_to_f32((uint16_t)h);
        if (isnan(f)) assert_true(isnan(gm_f16_to_f32(gm_f32_to_f16(f))));
        else assert_int_equal(gm_f32_to_f16(f), h);
        float b = gm_bf16_to_f32((uint16_t)h);
        if (isnan(b)) assert_true(isnan(gm_bf16_to_f32(gm_f32_to_bf16(b))));
        else assert_int_equal(gm_f32_to_bf16(b), h);
    }
    assert_true(gm_f16_to_f32(0x3C00) == 1.0f);
    assert_true(gm_f16_to_f32(0x7BFF) == 65504.0f);
    assert_true(gm_f16_to_f32(0x0001) == 0x1p-24f);
    assert_int_equal(gm_f32_to_f16(1.0f + 0x1p-11f), 0x3C00);            /* tie: even below */
    assert_int_equal(gm_f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02);        /* tie: even above */
    assert_int_equal(gm_f32_to_f16(1.0f + 0x1p-11f + 0x1p-20f), 0x3C01); /* above the tie */
    assert_int_equal(gm_f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(gm_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(gm_f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(gm_f32_to_f16(0x1p-25f), 0x0000);
    assert_int_equal(gm_f32_to_f16(0x1.8p-24f), 0x0002);
    assert_int_equal(gm_f32_to_f16(0x1.8p-25f), 0x0001);
    assert_int_equal(gm_f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);
    assert_int_equal(gm_f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3F82);
}

static void quant_refuses_types_that_it_cannot_convert(void **state) {
    (void)state;
    float x[256] = {0};
    uint8_t raw[512] = {0};
    assert_int_equal(gm_dequant_row((gm_dtype)16, raw, x, 256), GM_EUNSUPPORTED);
    assert_int_equal(gm_dequant_row((gm_dtype)63, raw, x, 256), GM_EUNSUPPORTED);
    assert_int_equal(gm_quant_row(GM_Q4_K, x, raw, 256), GM_EUNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quant_dequantises_every_block_format_like_the_reference),
        cmocka_unit_test(quant_quantises_a_ramp_like_the_reference),
        cmocka_unit_test(quant_round_trip_stays_within_the_step_of_the_format),
        cmocka_unit_test(quant_zeros_stay_zero_and_nothing_is_undefined),
        cmocka_unit_test(quant_nan_makes_a_block_of_q8_0_nan),
        cmocka_unit_test(quant_half_floats_round_trip_and_round_to_even),
        cmocka_unit_test(quant_refuses_types_that_it_cannot_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
