/* quant.c: scalar conversion between blocks and floats, the reference for every kernel. */
#include "tensor/quant.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/err.h"
#include "tensor/blocks.h"

const int8_t gm_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

/* ---- half floats ------------------------------------------------------------------------- */

static float float_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float gm_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 0x1F, mantissa = h & 0x3FF;
    if (exponent == 0x1F) return float_of_bits(sign | 0x7F800000 | mantissa << 13);
    if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    /* Zero and subnormals are multiples of 2^-24; the product is exact. */
    float f = (float)mantissa * 0x1p-24f;
    return sign ? -f : f;
}

/* v / 2^shift, rounded to nearest, ties to even. shift 1..31 */
static uint32_t shift_round(uint32_t v, unsigned shift) {
    uint32_t half = (uint32_t)1 << (shift - 1), low = v & (half * 2 - 1), q = v >> shift;
    return q + (low > half || (low == half && (q & 1)));
}

uint16_t gm_f32_to_f16(float f) {
    uint32_t u = bits_of_float(f), magnitude = u & 0x7FFFFFFF;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x1FF));
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* 65536 and up */
    if (magnitude >= 0x38800000)                                   /* 2^-14: normal */
        /* A carry out of the mantissa moves into the exponent, up to infinity: just right. */
        return (uint16_t)(sign | shift_round(magnitude - (112u << 23), 13));
    if (magnitude < 0x33000000) return sign; /* below 2^-25: rounds to zero */
    uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
    return (uint16_t)(sign | shift_round(mantissa, 126 - (magnitude >> 23)));
}

float gm_bf16_to_f32(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

uint16_t gm_f32_to_bf16(float f) {
    uint32_t u = bits_of_float(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)shift_round(u, 16);
}

/* ---- blocks to floats -------------------------------------------------------------------- */

static int lo(uint8_t b) { return b & 15; }
static int hi(uint8_t b) { return b >> 4; }

static void dequant_f32(const void *src, float *y, int64_t n) { memcpy(y, src, (size_t)n * 4); }

static uint16_t half_at(const void *src, int64_t i) {
    uint16_t h;
    memcpy(&h, (const char *)src + 2 * i, sizeof h);
    return h;
}

static void dequant_f16(const void *src, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gm_f16_to_f32(half_at(src, i));
}

static void dequant_bf16(const void *src, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gm_bf16_to_f32(half_at(src, i));
}

static void dequant_q4_0(const void *src, float *y, int64_t n) {
    const gm_block_q4_0 *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)(lo(b->q[j]) - 8);
            y[j + 16] = d * (float)(hi(b->q[j]) - 8);
        }
    }
}

static void dequant_q4_1(const void *src, float *y, int64_t n) {
    const gm_block_q4_1 *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d), m = gm_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)lo(b->q[j]) + m;
            y[j + 16] = d * (float)hi(b->q[j]) + m;
        }
    }
}

/* Bit e of qh, in the place of the fifth bit. */
static int fifth(uint32_t qh, int e) { return (int)(qh >> e & 1) << 4; }

static void dequant_q5_0(const void *src, float *y, int64_t n) {
    const gm_block_q5_0 *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)((lo(b->q[j]) | fifth(b->qh, j)) - 16);
            y[j + 16] = d * (float)((hi(b->q[j]) | fifth(b->qh, j + 16)) - 16);
        }
    }
}

static void dequant_q5_1(const void *src, float *y, int64_t n) {
    const gm_block_q5_1 *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d), m = gm_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)(lo(b->q[j]) | fifth(b->qh, j)) + m;
            y[j + 16] = d * (float)(hi(b->q[j]) | fifth(b->qh, j + 16)) + m;
        }
    }
}

static void dequant_q8_0(const void *src, float *y, int64_t n) {
    const gm_block_q8_0 *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d);
        for (int j = 0; j < GM_QK; j++) y[j] = d * (float)b->q[j];
    }
}

static void dequant_iq4_nl(const void *src, float *y, int64_t n) {
    const gm_block_iq4_nl *b = src;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, y += GM_QK) {
        float d = gm_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)gm_iq4_values[lo(b->q[j])];
            y[j + 16] = d * (float)gm_iq4_values[hi(b->q[j])];
        }
    }
}

/* The K formats. Value e of a block lies in half h (128 values), plane s of it (32 values that
 * share a bit position), lane l: e = 128 h + 32 s + l. */

static void dequant_q2_k(const void *src, float *y, int64_t n) {
    const gm_block_q2_k *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d), dmin = gm_f16_to_f32(b->dmin);
        for (int e = 0; e < GM_QKK; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            int q = b->q[32 * h + l] >> (2 * s) & 3;
            uint8_t sc = b->sc[e / 16];
            y[e] = d * (float)lo(sc) * (float)q - dmin * (float)hi(sc);
        }
    }
}

/* Scale j of 16 six-bit numbers in 12 bytes: the low nibbles fill the first eight bytes, the
 * two high bits the last four. */
static int q3_k_scale(const uint8_t *sc, int j) {
    int low = j < 8 ? lo(sc[j]) : hi(sc[j - 8]);
    int high = sc[8 + j % 4] >> (2 * (j / 4)) & 3;
    return (low | high << 4) - 32;
}

static void dequant_q3_k(const void *src, float *y, int64_t n) {
    const gm_block_q3_k *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d);
        for (int e = 0; e < GM_QKK; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            int q = b->q[32 * h + l] >> (2 * s) & 3;
            if (!(b->hmask[l] >> (4 * h + s) & 1)) q -= 4;
            y[e] = d * (float)q3_k_scale(b->sc, e / 16) * (float)q;
        }
    }
}

/* Scale and minimum of group g of eight, six bits each, in 12 bytes: the first four of both
 * whole in the low bits of bytes 0..7; of the others the low nibbles in bytes 8..11 and the
 * high bits where the first ones left room. */
static void q4_k_scale(const uint8_t *sc, int g, int *scale, int *min) {
    if (g < 4) {
        *scale = sc[g] & 63;
        *min = sc[g + 4] & 63;
    } else {
        *scale = lo(sc[g + 4]) | (sc[g - 4] >> 6) << 4;
        *min = hi(sc[g + 4]) | (sc[g] >> 6) << 4;
    }
}

static void dequant_q4_k(const void *src, float *y, int64_t n) {
    const gm_block_q4_k *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d), dmin = gm_f16_to_f32(b->dmin);
        for (int g = 0; g < 8; g++) {
            int scale, min;
            q4_k_scale(b->sc, g, &scale, &min);
            float ds = d * (float)scale, dm = dmin * (float)min;
            for (int l = 0; l < 32; l++) {
                uint8_t q = b->q[32 * (g / 2) + l];
                y[32 * g + l] = ds * (float)(g % 2 ? hi(q) : lo(q)) - dm;
            }
        }
    }
}

static void dequant_q5_k(const void *src, float *y, int64_t n) {
    const gm_block_q5_k *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d), dmin = gm_f16_to_f32(b->dmin);
        for (int g = 0; g < 8; g++) {
            int scale, min;
            q4_k_scale(b->sc, g, &scale, &min);
            float ds = d * (float)scale, dm = dmin * (float)min;
            for (int l = 0; l < 32; l++) {
                uint8_t q = b->q[32 * (g / 2) + l];
                int v = (g % 2 ? hi(q) : lo(q)) | fifth(b->qh[l], g);
                y[32 * g + l] = ds * (float)v - dm;
            }
        }
    }
}

static void dequant_q6_k(const void *src, float *y, int64_t n) {
    const gm_block_q6_k *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d);
        for (int e = 0; e < GM_QKK; e++) {
            int h = e / 128, s = e / 32 % 4, l = e % 32;
            uint8_t low = b->ql[64 * h + 32 * (s & 1) + l];
            int high = b->qh[32 * h + l] >> (2 * s) & 3;
            int q = ((s < 2 ? lo(low) : hi(low)) | high << 4) - 32;
            y[e] = d * (float)b->sc[e / 16] * (float)q;
        }
    }
}

static void dequant_iq4_xs(const void *src, float *y, int64_t n) {
    const gm_block_iq4_xs *b = src;
    for (int64_t i = 0; i < n / GM_QKK; i++, b++, y += GM_QKK) {
        float d = gm_f16_to_f32(b->d);
        for (int g = 0; g < 8; g++) {
            int low = b->sl[g / 2] >> (4 * (g % 2)) & 15;
            int scale = (low | (b->sh >> (2 * g) & 3) << 4) - 32;
            float ds = d * (float)scale;
            for (int l = 0; l < 32; l++) {
                uint8_t q = b->q[16 * g + l % 16];
                y[32 * g + l] = ds * (float)gm_iq4_values[l < 16 ? lo(q) : hi(q)];
            }
        }
    }
}

int gm_dequant_row(gm_dtype t, const void *src, float *dst, int64_t n) {
    switch (t) {
    case GM_F32: dequant_f32(src, dst, n); return GM_OK;
    case GM_F16: dequant_f16(src, dst, n); return GM_OK;
    case GM_BF16: dequant_bf16(src, dst, n); return GM_OK;
    case GM_Q4_0: dequant_q4_0(src, dst, n); return GM_OK;
    case GM_Q4_1: dequant_q4_1(src, dst, n); return GM_OK;
    case GM_Q5_0: dequant_q5_0(src, dst, n); return GM_OK;
    case GM_Q5_1: dequant_q5_1(src, dst, n); return GM_OK;
    case GM_Q8_0: dequant_q8_0(src, dst, n); return GM_OK;
    case GM_Q2_K: dequant_q2_k(src, dst, n); return GM_OK;
    case GM_Q3_K: dequant_q3_k(src, dst, n); return GM_OK;
    case GM_Q4_K: dequant_q4_k(src, dst, n); return GM_OK;
    case GM_Q5_K: dequant_q5_k(src, dst, n); return GM_OK;
    case GM_Q6_K: dequant_q6_k(src, dst, n); return GM_OK;
    case GM_IQ4_NL: dequant_iq4_nl(src, dst, n); return GM_OK;
    case GM_IQ4_XS: dequant_iq4_xs(src, dst, n); return GM_OK;
    default: return GM_EUNSUPPORTED;
    }
}

/* ---- floats to blocks -------------------------------------------------------------------- */

/* Cuts v to a level 0..top; callers have added the half that makes it rounding. The comparison
 * is written so that NaN becomes level 0 instead of undefined. */
static uint8_t level(float v, int top) {
    if (!(v >= 0.0f)) return 0;
    return v >= (float)top ? (uint8_t)top : (uint8_t)v;
}

/* The value of largest magnitude, with its sign: the symmetric formats give it their lowest
 * level, the only one without a partner on the other side. */
static float signed_max(const float *x) {
    float max = 0.0f;
    for (int j = 0; j < GM_QK; j++)
        if (fabsf(x[j]) > fabsf(max)) max = x[j];
    return max;
}

static void range(const float *x, float *min, float *max) {
    *min = *max = x[0];
    for (int j = 1; j < GM_QK; j++) {
        if (x[j] < *min) *min = x[j];
        if (x[j] > *max) *max = x[j];
    }
}

static float inverse(float d) { return d != 0.0f ? 1.0f / d : 0.0f; }

static void quant_q4_0(const float *x, void *dst, int64_t n) {
    gm_block_q4_0 *b = dst;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, x += GM_QK) {
        float d = signed_max(x) / -8.0f, id = inverse(d);
        b->d = gm_f32_to_f16(d);
        for (int j = 0; j < 16; j++)
            b->q[j] =
                (uint8_t)(level(x[j] * id + 8.5f, 15) | level(x[j + 16] * id + 8.5f, 15) << 4);
    }
}

static void quant_q4_1(const float *x, void *dst, int64_t n) {
    gm_block_q4_1 *b = dst;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, x += GM_QK) {
        float min, max;
        range(x, &min, &max);
        float d = (max - min) / 15.0f, id = inverse(d);
        b->d = gm_f32_to_f16(d);
        b->m = gm_f32_to_f16(min);
        for (int j = 0; j < 16; j++)
            b->q[j] = (uint8_t)(level((x[j] - min) * id + 0.5f, 15) |
                                level((x[j + 16] - min) * id + 0.5f, 15) << 4);
    }
}

static void quant_q5_0(const float *x, void *dst, int64_t n) {
    gm_block_q5_0 *b = dst;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, x += GM_QK) {
        float d = signed_max(x) / -16.0f, id = inverse(d);
        uint32_t qh = 0;
        b->d = gm_f32_to_f16(d);
        for (int j = 0; j < 16; j++) {
            uint8_t q0 = level(x[j] * id + 16.5f, 31), q1 = level(x[j + 16] * id + 16.5f, 31);
            b->q[j] = (uint8_t)((q0 & 15) | (q1 & 15) << 4);
            qh |= (uint32_t)(q0 >> 4) << j | (uint32_t)(q1 >> 4) << (j + 16);
        }
        b->qh = qh;
    }
}

static void quant_q5_1(const float *x, void *dst, int64_t n) {
    gm_block_q5_1 *b = dst;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, x += GM_QK) {
        float min, max;
        range(x, &min, &max);
        float d = (max - min) / 31.0f, id = inverse(d);
        uint32_t qh = 0;
        b->d = gm_f32_to_f16(d);
        b->m = gm_f32_to_f16(min);
        for (int j = 0; j < 16; j++) {
            uint8_t q0 = level((x[j] - min) * id + 0.5f, 31),
                    q1 = level((x[j + 16] - min) * id + 0.5f, 31);
            b->q[j] = (uint8_t)((q0 & 15) | (q1 & 15) << 4);
            qh |= (uint32_t)(q0 >> 4) << j | (uint32_t)(q1 >> 4) << (j + 16);
        }
        b->qh = qh;
    }
}

static bool has_nan(const float *x) {
    for (int j = 0; j < GM_QK; j++)
        if (isnan(x[j])) return true;
    return false;
}

/* The one type that is written while computing, into caches: NaN in a block makes all of it NaN, or
 * what a damaged file computes would look like an answer. */
static void quant_q8_0(const float *x, void *dst, int64_t n) {
    gm_block_q8_0 *b = dst;
    for (int64_t i = 0; i < n / GM_QK; i++, b++, x += GM_QK) {
        float d = has_nan(x) ? NAN : fabsf(signed_max(x)) / 127.0f, id = inverse(d);
        b->d = gm_f32_to_f16(d);
        for (int j = 0; j < GM_QK; j++) {
            float v = roundf(x[j] * id);
            b->q[j] = v >= -127.0f && v <= 127.0f ? (int8_t)v : 0;
        }
    }
}

int gm_quant_row(gm_dtype t, const float *src, void *dst, int64_t n) {
    switch (t) {
    case GM_F32: memcpy(dst, src, (size_t)n * 4); return GM_OK;
    case GM_F16:
    case GM_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = t == GM_F16 ? gm_f32_to_f16(src[i]) : gm_f32_to_bf16(src[i]);
            memcpy((char *)dst + 2 * i, &h, sizeof h);
        }
        return GM_OK;
    case GM_Q4_0: quant_q4_0(src, dst, n); return GM_OK;
    case GM_Q4_1: quant_q4_1(src, dst, n); return GM_OK;
    case GM_Q5_0: quant_q5_0(src, dst, n); return GM_OK;
    case GM_Q5_1: quant_q5_1(src, dst, n); return GM_OK;
    case GM_Q8_0: quant_q8_0(src, dst, n); return GM_OK;
    default: return GM_EUNSUPPORTED;
    }
}
