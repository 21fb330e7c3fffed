/* gemm_unpack.c: plain C unpackers, one per format. Formulas are told in tensor/blocks.h. */
#include "kernels/cpu/gemm_unpack.h"

#include <stddef.h>
#include "kernels/cpu/k_scales.h"
#include "tensor/blocks.h"
#include "tensor/quant.h"

static const gm_unpack_info infos[GM_DTYPE_LIMIT] = {
    [GM_Q4_0] = {32, 8, 4, false},     [GM_Q4_1] = {32, 0, 4, true},
    [GM_Q5_0] = {32, 16, 5, false},    [GM_Q5_1] = {32, 0, 5, true},
    [GM_Q8_0] = {32, 128, 8, false},   [GM_IQ4_NL] = {32, 128, 8, false},
    [GM_IQ4_XS] = {32, 128, 8, false}, [GM_Q2_K] = {16, 0, 2, true},
    [GM_Q3_K] = {16, 4, 3, false},     [GM_Q4_K] = {32, 0, 4, true},
    [GM_Q5_K] = {32, 0, 5, true},      [GM_Q6_K] = {16, 32, 6, false},
};

const gm_unpack_info *gm_unpack_info_get(gm_dtype t) {
    static const gm_unpack_info none;
    return (unsigned)t < GM_DTYPE_LIMIT ? &infos[t] : &none;
}

/* Nibbles of 16 bytes: low halves first, then high halves. */
static void split(const uint8_t *src, uint8_t *q) {
    for (int j = 0; j < 16; j++) {
        q[j] = src[j] & 15;
        q[j + 16] = src[j] >> 4;
    }
}

static void add_fifth_bits(uint32_t qh, uint8_t *q) {
    for (int e = 0; e < 32; e++) q[e] = (uint8_t)(q[e] | (qh >> e & 1) << 4);
}

static void unpack_q4_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q4_0 *b = (const gm_block_q4_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        split(b[i].q, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

static void unpack_q4_1(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q4_1 *b = (const gm_block_q4_1 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        split(b[i].q, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
        min[i] = gm_f16_to_f32(b[i].m);
    }
}

static void unpack_q5_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q5_0 *b = (const gm_block_q5_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        split(b[i].q, q + 32 * i);
        add_fifth_bits(b[i].qh, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

static void unpack_q5_1(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q5_1 *b = (const gm_block_q5_1 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        split(b[i].q, q + 32 * i);
        add_fifth_bits(b[i].qh, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
        min[i] = gm_f16_to_f32(b[i].m);
    }
}

static void unpack_q8_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q8_0 *b = (const gm_block_q8_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        for (int j = 0; j < 32; j++) q[32 * i + j] = (uint8_t)(b[i].q[j] + 128);
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

/* Group g of a nibble format with a table. */
static void look_up(const uint8_t *src, uint8_t *q) {
    for (int j = 0; j < 16; j++) {
        q[j] = (uint8_t)(gm_iq4_values[src[j] & 15] + 128);
        q[j + 16] = (uint8_t)(gm_iq4_values[src[j] >> 4] + 128);
    }
}

static void unpack_iq4_nl(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                          float *min) {
    (void)min;
    const gm_block_iq4_nl *b = (const gm_block_iq4_nl *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        look_up(b[i].q, q + 32 * i);
        scale[i] = gm_f16_to_f32(b[i].d);
    }
}

static void unpack_iq4_xs(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                          float *min) {
    (void)min;
    const gm_block_iq4_xs *b = (const gm_block_iq4_xs *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        float d = gm_f16_to_f32(b[i].d);
        for (int g = 0; g < 8; g++) {
            look_up(b[i].q + 16 * g, q + 256 * i + 32 * g);
            scale[8 * i + g] = d * (float)gm_iq4_xs_scale(&b[i], g);
        }
    }
}

static void unpack_q2_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q2_k *b = (const gm_block_q2_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        float d = gm_f16_to_f32(b[i].d), dmin = gm_f16_to_f32(b[i].dmin);
        for (int e = 0; e < 256; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            q[256 * i + e] = b[i].q[32 * h + l] >> 2 * s & 3;
        }
        for (int j = 0; j < 16; j++) {
            scale[16 * i + j] = d * (float)(b[i].sc[j] & 15);
            min[16 * i + j] = -dmin * (float)(b[i].sc[j] >> 4);
        }
    }
}

static void unpack_q3_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q3_k *b = (const gm_block_q3_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        float d = gm_f16_to_f32(b[i].d);
        for (int e = 0; e < 256; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            q[256 * i + e] = (uint8_t)((b[i].q[32 * h + l] >> 2 * s & 3) |
                                       (b[i].hmask[l] >> (4 * h + s) & 1) << 2);
        }
        for (int j = 0; j < 16; j++) scale[16 * i + j] = d * (float)gm_q3_k_scale(&b[i], j);
    }
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K. */
static void unpack_k_scales(const uint8_t *sc, float d, float dmin, float *scale, float *min) {
    const gm_k_scales six = gm_k_scales_read(sc);
    for (int j = 0; j < 8; j++) {
        scale[j] = d * (float)(six.scale[j / 4] >> 8 * (j % 4) & 63);
        min[j] = -dmin * (float)(six.min[j / 4] >> 8 * (j % 4) & 63);
    }
}

static void unpack_k_nibbles(const uint8_t *src, uint8_t *q) {
    for (int j = 0; j < 128; j++) {
        q[64 * (j / 32) + j % 32] = src[j] & 15;
        q[64 * (j / 32) + 32 + j % 32] = src[j] >> 4;
    }
}

static void unpack_q4_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q4_k *b = (const gm_block_q4_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        unpack_k_nibbles(b[i].q, q + 256 * i);
        unpack_k_scales(b[i].sc, gm_f16_to_f32(b[i].d), gm_f16_to_f32(b[i].dmin), scale + 8 * i,
                        min + 8 * i);
    }
}

static void unpack_q5_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q5_k *b = (const gm_block_q5_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        unpack_k_nibbles(b[i].q, q + 256 * i);
        for (int e = 0; e < 256; e++)
            q[256 * i + e] = (uint8_t)(q[256 * i + e] | (b[i].qh[e % 32] >> e / 32 & 1) << 4);
        unpack_k_scales(b[i].sc, gm_f16_to_f32(b[i].d), gm_f16_to_f32(b[i].dmin), scale + 8 * i,
                        min + 8 * i);
    }
}

static void unpack_q6_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q6_k *b = (const gm_block_q6_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++) {
        float d = gm_f16_to_f32(b[i].d);
        for (int e = 0; e < 256; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            int low = b[i].ql[64 * h + 32 * (s & 1) + l] >> 4 * (s / 2) & 15;
            q[256 * i + e] = (uint8_t)(low | (b[i].qh[32 * h + l] >> 2 * s & 3) << 4);
        }
        for (int j = 0; j < 16; j++) scale[16 * i + j] = d * (float)b[i].sc[j];
    }
}

gm_unpack_fn gm_unpack_ref(gm_dtype t) {
    switch (t) {
    case GM_Q4_0: return unpack_q4_0;
    case GM_Q4_1: return unpack_q4_1;
    case GM_Q5_0: return unpack_q5_0;
    case GM_Q5_1: return unpack_q5_1;
    case GM_Q8_0: return unpack_q8_0;
    case GM_IQ4_NL: return unpack_iq4_nl;
    case GM_IQ4_XS: return unpack_iq4_xs;
    case GM_Q2_K: return unpack_q2_k;
    case GM_Q3_K: return unpack_q3_k;
    case GM_Q4_K: return unpack_q4_k;
    case GM_Q5_K: return unpack_q5_k;
    case GM_Q6_K: return unpack_q6_k;
    default: return NULL;
    }
}
