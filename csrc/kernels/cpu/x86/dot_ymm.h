/* dot_ymm.h: rows times 1 to 4 tokens, 256 bits wide. A template for dot_avx2.c and dot_avxvnni.c.
 *
 * The way of dot_zmm.h, with half the lanes. Formats without a kernel of their own are unpacked to
 * a small buffer and take the way of Q8_0 from there.
 *
 * Defines to set: GM_YMM_VNNI (1 or 0).
 */
#pragma once

#include <immintrin.h>
#include <string.h>
#include "kernels/cpu/x86/x86.h"
#include "tensor/blocks.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m256 vec;
INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
INLINE float vec_sum(vec v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#include "kernels/cpu/dot_rows.h"

/* Products of up to 7 bits (u) with 8 signed bits, four to a lane. */
INLINE __m256i dot4(__m256i u, __m256i s) {
#if GM_YMM_VNNI
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, s);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
#endif
}

/* The same with two pairs in one sum; u up to 5 bits: 31 * 127 * 4 fits in 16. */
INLINE __m256i dot8(__m256i u0, __m256i s0, __m256i u1, __m256i s1) {
#if GM_YMM_VNNI
    return _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u0, s0), u1, s1);
#else
    const __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(u0, s0), _mm256_maddubs_epi16(u1, s1));
    return _mm256_madd_epi16(p, _mm256_set1_epi16(1));
#endif
}

/* Eight signed bits each: the sign goes over to the other factor. -128 as magnitude is 128 and
 * still fits, since the other factor never is below -127. */
INLINE __m256i dot4_signed(__m256i w, __m256i x) {
    return dot4(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
INLINE __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }

/* Group a on the lower four lanes, group b on the upper ones. */
INLINE __m256i lanes4(int a, int b) { return _mm256_setr_epi32(a, a, a, a, b, b, b, b); }

/* dx, dw: the scales of the two factors. Apart, since that of the weights is the same for all tokens and
 * that of x lies in memory as it is needed: their product would have to be spread over the lanes for
 * every token, which takes longer than multiplying twice. */
INLINE vec add_scaled(vec sum, __m256i dot, vec dx, vec dw) {
    return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), dx), dw, sum);
}

INLINE vec spread(vec v, __m256i idx) { return _mm256_permutevar8x32_ps(v, idx); }

/* ---- blocks of 32 with one scale: 8 blocks at a time ---------------------------------------------- */

/* The half floats at the beginning of 8 blocks. */
INLINE vec scales_at(const uint8_t *b, int stride) {
    uint16_t d[8];
    for (int i = 0; i < 8; i++) memcpy(&d[i], b + stride * i, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)d[0], (short)d[1], (short)d[2], (short)d[3],
                                          (short)d[4], (short)d[5], (short)d[6], (short)d[7]));
}

INLINE void step_q4_0(const uint8_t *w, const tokens *k, int e, const int n, vec sum[MAX_TOK]) {
    const vec d = scales_at(w, 18), m = _mm256_mul_ps(d, _mm256_set1_ps(-8.0f));
#pragma GCC unroll 4
    for (int t = 0; t < n; t++)
        sum[t] = _mm256_fmadd_ps(m, _mm256_loadu_ps(k->x->ds32 + at(k, t, e) / 32), sum[t]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const uint8_t *b = w + 36 * j + 2;
        const __m256i v = _mm256_set_m128i(_mm_loadu_si128((const void *)(b + 18)),
                                           _mm_loadu_si128((const void *)b));
        const __m256i lo = low_nibbles(v), hi = high_nibbles(v);
        const vec dw = spread(d, lanes4(2 * j, 2 * j + 1));
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const int8_t *x = k->x->few.halves + at(k, t, e + 128 * (j / 2)) + 32 * (j % 2);
            const vec dx = _mm256_loadu_ps(k->x->few.d4 + at(k, t, e) / 8 + 8 * j);
            sum[t] = add_scaled(sum[t], dot8(lo, load(x), hi, load(x + 64)), dx, dw);
        }
    }
}

/* Here the scales are multiplied first: with so few operations for a product that is not slower, and
 * faster for one token. */
INLINE void step_q8_0(const uint8_t *w, const tokens *k, int e, const int n, vec sum[MAX_TOK]) {
    const vec d = scales_at(w, 34);
    vec scales[MAX_TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) scales[t] = _mm256_mul_ps(d, _mm256_loadu_ps(k->x->d + at(k, t, e) / 32));
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const __m256i v = load(w + 34 * j + 2), idx = _mm256_set1_epi32(j);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const vec dot = _mm256_cvtepi32_ps(dot4_signed(v, load(k->x->q + at(k, t, e + 32 * j))));
            sum[t] = _mm256_fmadd_ps(dot, spread(scales[t], idx), sum[t]);
        }
    }
}

/* ---- blocks of 256 -------------------------------------------------------------------------------
 *
 * Their groups have integer scales, which are multiplied in where the products are summed: the factor
 * of the second step would be one otherwise. 63 * 127 * 2 fits in 16 bits, that * 128 * 2 in 32. */

/* sum += dx * (scale of the group * products), of 32 elements with one dx. */
INLINE vec add_group(vec sum, __m256i u, __m256i x, __m256i scale, float dx) {
    const __m256i dot = _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), scale);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(dx), sum);
}

/* Eight 16-bit numbers, on both halves: number a on all of the lower half, b on all of the upper. */
INLINE __m256i spread16(__m256i v, int a, int b) {
    const short lo = (short)((2 * a + 1) << 8 | 2 * a), hi = (short)((2 * b + 1) << 8 | 2 * b);
    return _mm256_shuffle_epi8(v, _mm256_set_m128i(_mm_set1_epi16(hi), _mm_set1_epi16(lo)));
}

INLINE __m128i eight_bytes(uint32_t lo, uint32_t hi) {
    return _mm_cvtsi64_si128((long long)((uint64_t)hi << 32 | lo));
}

/* One block of Q4_K or (qh given) Q5_K. head: the fields that both begin with; q: the nibbles. */
INLINE void step_k(const gm_block_q4_k *head, const uint8_t *q, const uint8_t *qh, const tokens *k,
                   int e, const int n, vec sum[MAX_TOK]) {
    uint32_t a, b, c;
    memcpy(&a, head->sc, 4);
    memcpy(&b, head->sc + 4, 4);
    memcpy(&c, head->sc + 8, 4);
    const uint32_t six = 0x3f3f3f3f, nibble = 0x0f0f0f0f, two = 0x03030303;
    const __m128i sc = eight_bytes(a & six, (c & nibble) | (a >> 6 & two) << 4);
    const __m128i min = eight_bytes(b & six, (c >> 4 & nibble) | (b >> 6 & two) << 4);
    const vec m = _mm256_mul_ps(_mm256_set1_ps(-_cvtsh_ss(head->dmin)),
                                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(min)));
    const __m256i scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(sc));
    vec part[MAX_TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        sum[t] = _mm256_fmadd_ps(m, _mm256_loadu_ps(k->x->ds32 + at(k, t, e) / 32), sum[t]);
        part[t] = vec_zero();
    }
    __m256i high = qh ? load(qh) : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m256i v = load(q + 32 * j);
        __m256i lo = low_nibbles(v), hi = high_nibbles(v);
        if (qh) {
            const __m256i one = _mm256_set1_epi8(1), next = _mm256_srli_epi16(high, 1);
            lo = _mm256_or_si256(lo, _mm256_slli_epi16(_mm256_and_si256(high, one), 4));
            hi = _mm256_or_si256(hi, _mm256_slli_epi16(_mm256_and_si256(next, one), 4));
            high = _mm256_srli_epi16(high, 2);
        }
        const __m256i s0 = spread16(scales, 2 * j, 2 * j), s1 = spread16(scales, 2 * j + 1, 2 * j + 1);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const int8_t *x = k->x->q + at(k, t, e + 64 * j);
            const float *dx = k->x->d + at(k, t, e) / 32 + 2 * j;
            part[t] = add_group(part[t], lo, load(x), s0, dx[0]);
            part[t] = add_group(part[t], hi, load(x + 32), s1, dx[1]);
        }
    }
    const vec d = _mm256_set1_ps(_cvtsh_ss(head->d));
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) sum[t] = _mm256_fmadd_ps(d, part[t], sum[t]);
}

INLINE void step_q6_k(const gm_block_q6_k *b, const tokens *k, int e, const int n,
                      vec sum[MAX_TOK]) {
    const vec d = _mm256_set1_ps(_cvtsh_ss(b->d));
    vec part[MAX_TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) part[t] = vec_zero();
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m128i sc = _mm_cvtepi8_epi16(_mm_loadl_epi64((const void *)(b->sc + 8 * h)));
        const __m256i scales = _mm256_broadcastsi128_si256(sc);
        const vec shift = _mm256_mul_ps(_mm256_set1_ps(-32.0f),
                                        _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sc)));
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const float *ds = k->x->ds16 + at(k, t, e) / 16 + 8 * h;
            part[t] = _mm256_fmadd_ps(shift, _mm256_loadu_ps(ds), part[t]);
        }
        const __m256i high = load(b->qh + 32 * h), two = _mm256_set1_epi8(0x30);
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            const __m256i v = load(b->ql + 64 * h + 32 * (s & 1));
            const __m256i up = s == 0   ? _mm256_slli_epi16(high, 4)
                               : s == 1 ? _mm256_slli_epi16(high, 2)
                               : s == 2 ? high
                                        : _mm256_srli_epi16(high, 2);
            const __m256i u = _mm256_or_si256(s < 2 ? low_nibbles(v) : high_nibbles(v),
                                              _mm256_and_si256(up, two));
            const __m256i scale = spread16(scales, 2 * s, 2 * s + 1);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const __m256i x = load(k->x->q + at(k, t, e + 128 * h + 32 * s));
                const float dx = k->x->d[at(k, t, e) / 32 + (size_t)(4 * h + s)];
                part[t] = add_group(part[t], u, x, scale, dx);
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) sum[t] = _mm256_fmadd_ps(d, part[t], sum[t]);
}

/* ---- any format, unpacked first ----------------------------------------------------------------- */

INLINE void step_unpacked(const unpacked *u, const gm_unpack_info *info, const tokens *k, int e,
                          const int n, vec sum[MAX_TOK]) {
    const bool wide = info->group == 32;
    const __m256i offset = _mm256_set1_epi8((char)info->offset);
    for (int h = 0; info->has_min && h < (wide ? 1 : 2); h++)
        for (int t = 0; t < n; t++) {
            const float *ds = wide ? k->x->ds32 + at(k, t, e) / 32 : k->x->ds16 + at(k, t, e) / 16;
            sum[t] = _mm256_fmadd_ps(_mm256_loadu_ps(u->min + 8 * h), _mm256_loadu_ps(ds + 8 * h),
                                     sum[t]);
        }
    for (int j = 0; j < 8; j++) {
        const __m256i w = _mm256_sub_epi8(load(u->q + 32 * j), offset);
        const vec dw = wide ? _mm256_set1_ps(u->scale[j])
                            : _mm256_set_m128(_mm_set1_ps(u->scale[2 * j + 1]),
                                              _mm_set1_ps(u->scale[2 * j]));
        for (int t = 0; t < n; t++) {
            const __m256i x = load(k->x->q + at(k, t, e + 32 * j));
            const vec dx = _mm256_set1_ps(k->x->d[at(k, t, e) / 32 + (size_t)j]);
            sum[t] = add_scaled(sum[t], dot4_signed(w, x), dx, dw);
        }
    }
}

ROW_ANY

/* ---- rows ------------------------------------------------------------------------------------------ */

ROW(q4_0, 144, 256, step_q4_0(w, &k, e, n, sum))
ROW(q8_0, 272, 256, step_q8_0(w, &k, e, n, sum))
ROW(q4_k, 144, 256, const gm_block_q4_k *b = (const gm_block_q4_k *)w;
    step_k(b, b->q, NULL, &k, e, n, sum))
ROW(q5_k, 176, 256, const gm_block_q5_k *b = (const gm_block_q5_k *)w;
    step_k((const gm_block_q4_k *)w, b->q, b->qh, &k, e, n, sum))
ROW(q6_k, 210, 256, step_q6_k((const gm_block_q6_k *)w, &k, e, n, sum))

DOT(q4_0)
DOT(q8_0)
DOT(q4_k)
DOT(q5_k)
DOT(q6_k)
DOT(any)

INLINE void fill_dot(gm_dot_fns *f) {
    for (int t = 0; t < GM_DTYPE_LIMIT; t++)
        if (f->unpack[t]) f->dot[t] = dot_any;
    f->dot[GM_Q4_0] = dot_q4_0;
    f->dot[GM_Q8_0] = dot_q8_0;
    f->dot[GM_Q4_K] = dot_q4_k;
    f->dot[GM_Q5_K] = dot_q5_k;
    f->dot[GM_Q6_K] = dot_q6_k;
}
