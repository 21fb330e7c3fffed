/* unpack_avx2.c: the unpackers of gemm_unpack.h and the rounding of activations, 32 bytes at a
 * time. One file for all x86 levels: wider vectors gain nothing on blocks of 32.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels/cpu/k_scales.h"
#include "kernels/cpu/x86/x86.h"
#include "tensor/blocks.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float half(uint16_t h) { return _cvtsh_ss(h); }
INLINE __m256i load32(const void *p) { return _mm256_loadu_si256(p); }
INLINE void store32(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }

/* 16 bytes to 32 values: low nibbles, then high nibbles. */
INLINE __m256i nibbles(const uint8_t *src) {
    const __m128i b = _mm_loadu_si128((const void *)src);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(b, 4), b), _mm256_set1_epi8(15));
}

/* 32 bits to 32 bytes of `value` or 0. */
INLINE __m256i spread_bits(uint32_t bits, int value) {
    const __m256i pick = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                          2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), pick);
    v = _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
    return _mm256_and_si256(v, _mm256_set1_epi8((char)value));
}

INLINE __m256i iq4_table(void) {
    __m128i t = _mm_loadu_si128((const void *)gm_iq4_values);
    t = _mm_xor_si128(t, _mm_set1_epi8((char)0x80)); /* + 128 */
    return _mm256_broadcastsi128_si256(t);
}

static void unpack_q4_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q4_0 *b = (const gm_block_q4_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, nibbles(b[i].q));
        scale[i] = half(b[i].d);
    }
}

static void unpack_q4_1(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q4_1 *b = (const gm_block_q4_1 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, nibbles(b[i].q));
        scale[i] = half(b[i].d);
        min[i] = half(b[i].m);
    }
}

static void unpack_q5_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q5_0 *b = (const gm_block_q5_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, _mm256_or_si256(nibbles(b[i].q), spread_bits(b[i].qh, 16)));
        scale[i] = half(b[i].d);
    }
}

static void unpack_q5_1(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q5_1 *b = (const gm_block_q5_1 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, _mm256_or_si256(nibbles(b[i].q), spread_bits(b[i].qh, 16)));
        scale[i] = half(b[i].d);
        min[i] = half(b[i].m);
    }
}

static void unpack_q8_0(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q8_0 *b = (const gm_block_q8_0 *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, _mm256_xor_si256(load32(b[i].q), _mm256_set1_epi8((char)0x80)));
        scale[i] = half(b[i].d);
    }
}

static void unpack_iq4_nl(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                          float *min) {
    (void)min;
    const gm_block_iq4_nl *b = (const gm_block_iq4_nl *)row + k0 / 32;
    for (int i = 0; i < n / 32; i++) {
        store32(q + 32 * i, _mm256_shuffle_epi8(iq4_table(), nibbles(b[i].q)));
        scale[i] = half(b[i].d);
    }
}

static void unpack_iq4_xs(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                          float *min) {
    (void)min;
    const gm_block_iq4_xs *b = (const gm_block_iq4_xs *)row + k0 / 256;
    const __m256i table = iq4_table();
    for (int i = 0; i < n / 256; i++) {
        float d = half(b[i].d);
        for (int g = 0; g < 8; g++) {
            store32(q + 256 * i + 32 * g, _mm256_shuffle_epi8(table, nibbles(b[i].q + 16 * g)));
            scale[8 * i + g] = d * (float)gm_iq4_xs_scale(&b[i], g);
        }
    }
}

/* Two bits at position 2 s of each byte. */
INLINE __m256i two_bits(__m256i v, int s) {
    return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(2 * s)), _mm256_set1_epi8(3));
}

/* f[j] = d * b[j] for 16 signed bytes. */
INLINE void scales16(float *f, __m128i b, float d) {
    const __m256 v = _mm256_set1_ps(d);
    _mm256_storeu_ps(f, _mm256_mul_ps(v, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b))));
    b = _mm_unpackhi_epi64(b, b);
    _mm256_storeu_ps(f + 8, _mm256_mul_ps(v, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b))));
}

static void unpack_q2_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q2_k *b = (const gm_block_q2_k *)row + k0 / 256;
    const __m128i low = _mm_set1_epi8(15);
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int h = 0; h < 2; h++) {
            const __m256i v = load32(b[i].q + 32 * h);
            for (int s = 0; s < 4; s++) store32(q + 128 * h + 32 * s, two_bits(v, s));
        }
        const __m128i sc = _mm_loadu_si128((const void *)b[i].sc);
        scales16(scale + 16 * i, _mm_and_si128(sc, low), half(b[i].d));
        scales16(min + 16 * i, _mm_and_si128(_mm_srli_epi16(sc, 4), low), -half(b[i].dmin));
    }
}

/* The 16 six-bit scales of Q3_K, minus 32: low nibbles of bytes 0..7, their high nibbles, and two
 * bits each from bytes 8..11. */
INLINE __m128i q3_k_scales(const uint8_t *sc) {
    uint32_t a, b, c, w[4];
    memcpy(&a, sc, 4);
    memcpy(&b, sc + 4, 4);
    memcpy(&c, sc + 8, 4);
    const uint32_t nibble = 0x0f0f0f0f, two = 0x03030303;
    w[0] = (a & nibble) | (c & two) << 4;
    w[1] = (b & nibble) | (c >> 2 & two) << 4;
    w[2] = (a >> 4 & nibble) | (c >> 4 & two) << 4;
    w[3] = (b >> 4 & nibble) | (c >> 6 & two) << 4;
    return _mm_sub_epi8(_mm_loadu_si128((const void *)w), _mm_set1_epi8(32));
}

static void unpack_q3_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q3_k *b = (const gm_block_q3_k *)row + k0 / 256;
    for (int i = 0; i < n / 256; i++, q += 256) {
        const __m256i high = load32(b[i].hmask);
        for (int h = 0; h < 2; h++) {
            const __m256i v = load32(b[i].q + 32 * h);
            for (int s = 0; s < 4; s++) {
                const __m256i bit = _mm256_set1_epi8((char)(1 << (4 * h + s)));
                const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
                store32(
                    q + 128 * h + 32 * s,
                    _mm256_or_si256(two_bits(v, s), _mm256_and_si256(set, _mm256_set1_epi8(4))));
            }
        }
        scales16(scale + 16 * i, q3_k_scales(b[i].sc), half(b[i].d));
    }
}

/* f[j] = d * b[j] for 8 bytes. */
INLINE void scales8(float *f, uint32_t lo, uint32_t hi, float d) {
    const __m128i b = _mm_cvtsi64_si128((long long)((uint64_t)hi << 32 | lo));
    _mm256_storeu_ps(f,
                     _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b))));
}

/* Scales and minima of Q4_K and Q5_K. */
INLINE void k_scales(const uint8_t *sc, float d, float dmin, float *scale, float *min) {
    const gm_k_scales six = gm_k_scales_read(sc);
    scales8(scale, six.scale[0], six.scale[1], d);
    scales8(min, six.min[0], six.min[1], -dmin);
}

static void unpack_q4_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q4_k *b = (const gm_block_q4_k *)row + k0 / 256;
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int j = 0; j < 4; j++) {
            const __m256i v = load32(b[i].q + 32 * j);
            store32(q + 64 * j, _mm256_and_si256(v, low));
            store32(q + 64 * j + 32, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
        }
        k_scales(b[i].sc, half(b[i].d), half(b[i].dmin), scale + 8 * i, min + 8 * i);
    }
}

static void unpack_q5_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    const gm_block_q5_k *b = (const gm_block_q5_k *)row + k0 / 256;
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    for (int i = 0; i < n / 256; i++, q += 256) {
        __m256i high = load32(b[i].qh);
        for (int j = 0; j < 4; j++) {
            const __m256i v = load32(b[i].q + 32 * j);
            const __m256i h0 = _mm256_slli_epi16(_mm256_and_si256(high, one), 4);
            const __m256i h1 =
                _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, 1), one), 4);
            store32(q + 64 * j, _mm256_or_si256(_mm256_and_si256(v, low), h0));
            store32(q + 64 * j + 32,
                    _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(v, 4), low), h1));
            high = _mm256_srli_epi16(high, 2);
        }
        k_scales(b[i].sc, half(b[i].d), half(b[i].dmin), scale + 8 * i, min + 8 * i);
    }
}

static void unpack_q6_k(const uint8_t *row, int64_t k0, int n, uint8_t *q, float *scale,
                        float *min) {
    (void)min;
    const gm_block_q6_k *b = (const gm_block_q6_k *)row + k0 / 256;
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < n / 256; i++, q += 256) {
        for (int h = 0; h < 2; h++) {
            const __m256i high = load32(b[i].qh + 32 * h);
            for (int s = 0; s < 4; s++) {
                __m256i v = load32(b[i].ql + 64 * h + 32 * (s & 1));
                if (s >= 2) v = _mm256_srli_epi16(v, 4);
                store32(q + 128 * h + 32 * s,
                        _mm256_or_si256(_mm256_and_si256(v, low),
                                        _mm256_slli_epi16(two_bits(high, s), 4)));
            }
        }
        scales16(scale + 16 * i, _mm_loadu_si128((const void *)b[i].sc), half(b[i].d));
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

INLINE float max8(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

INLINE __m256i round8(__m256 v, __m256 inv) {
    v = _mm256_mul_ps(v, inv);
    /* A NaN becomes 127: the second operand is taken. Its scale carries the NaN on. */
    v = _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
    return _mm256_cvtps_epi32(v);
}

/* One block; s16: the sums of its halves. Returns the scale. */
INLINE float quantise_block(const float *src, int8_t *q, int32_t *s16) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 v[4], m = _mm256_setzero_ps();
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(src + 8 * i);
        m = _mm256_max_ps(m, _mm256_andnot_ps(sign, v[i]));
    }
    /* Maxima forget a NaN. */
    const __m256 nan = _mm256_or_ps(_mm256_cmp_ps(v[0], v[1], _CMP_UNORD_Q),
                                    _mm256_cmp_ps(v[2], v[3], _CMP_UNORD_Q));
    float amax = _mm256_movemask_ps(nan) ? NAN : max8(m);
    bool zero = amax < GM_XQ_LEAST;
    const __m256 inv = _mm256_set1_ps(zero ? 0 : 127.0f / amax);
    const __m256i a = _mm256_packs_epi32(round8(v[0], inv), round8(v[1], inv));
    const __m256i b = _mm256_packs_epi32(round8(v[2], inv), round8(v[3], inv));
    /* The packs work within halves of the register; this puts groups of four back in order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i p = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    _mm256_storeu_si256((__m256i *)(void *)q, p);
    __m256i s =
        _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), p), _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xb1));
    s16[0] = _mm256_extract_epi32(s, 0);
    s16[1] = _mm256_extract_epi32(s, 4);
    return zero ? 0 : amax / 127.0f;
}

static void quantise_avx2(gm_xq *x, int32_t t) {
    const float *src = x->x + (size_t)t * (size_t)x->n_in;
    int8_t *q = x->q + (size_t)t * (size_t)x->n_pad;
    float *d = x->d + (size_t)t * (size_t)(x->n_pad / 32);
    int32_t *s16 = x->s16 + (size_t)t * (size_t)(x->n_pad / 16);
    int b = 0;
    for (; b < x->n_in / 32; b++) d[b] = quantise_block(src + 32 * b, q + 32 * b, s16 + 2 * b);
    for (; b < x->n_pad / 32; b++) {
        float last[32] = {0};
        int left = x->n_in - 32 * b;
        if (left > 0) memcpy(last, src + 32 * b, (size_t)left * sizeof *last);
        d[b] = quantise_block(last, q + 32 * b, s16 + 2 * b);
    }
    gm_xq_finish(x, t);
}

void gm_unpack_fill_avx2(gm_dot_fns *f) {
    f->quantise = quantise_avx2;
    f->unpack[GM_Q4_0] = unpack_q4_0;
    f->unpack[GM_Q4_1] = unpack_q4_1;
    f->unpack[GM_Q5_0] = unpack_q5_0;
    f->unpack[GM_Q5_1] = unpack_q5_1;
    f->unpack[GM_Q8_0] = unpack_q8_0;
    f->unpack[GM_IQ4_NL] = unpack_iq4_nl;
    f->unpack[GM_IQ4_XS] = unpack_iq4_xs;
    f->unpack[GM_Q2_K] = unpack_q2_k;
    f->unpack[GM_Q3_K] = unpack_q3_k;
    f->unpack[GM_Q4_K] = unpack_q4_k;
    f->unpack[GM_Q5_K] = unpack_q5_k;
    f->unpack[GM_Q6_K] = unpack_q6_k;
}
