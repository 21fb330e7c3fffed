/* dot_ymm.h: rows times 1 to 4 tokens, 256 bits wide. A template for dot_avx2.c and dot_avxvnni.c.
 *
 * A lane of 32 bits has one group of weights, and only that. So the products of four weights each,
 * of which a lane gets a group's worth one after the other, are added up in whole numbers, and the
 * scale is multiplied in once for a group and token, not once for each product. The weights are
 * turned for this, four lanes at a time (turn4), for all tokens together; the activations lie ready
 * (fill).
 *
 * Formats without a kernel of their own are unpacked to a small buffer first, where a vector is a
 * group.
 *
 * Defines to set: GM_YMM_VNNI (1 or 0).
 */
#pragma once

#include <immintrin.h>
#include <string.h>
#include "kernels/cpu/k_scales.h"
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
INLINE void store_sums(const vec *v, const int n, float *const *to) {
    for (int t = 0; t < n; t++) *to[t] = vec_sum(v[t]);
}
/* Two rows and more than one token want more registers than there are. In stretches, four tokens by
 * rows of 15,360 took 70 ps a weight instead of 60 (Zen 5). */
enum { AT_ONCE = 2, TOGETHER_TOK = 1, IN_STRETCHES = 0 };
#include "kernels/cpu/dot_rows.h"

INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
INLINE __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }

/* dx, dw: the scales of the two factors. */
INLINE vec add_scaled(vec sum, vec dot, vec dx, vec dw) {
    return _mm256_fmadd_ps(_mm256_mul_ps(dot, dx), dw, sum);
}

/* ---- sums of products, a group in a lane ----------------------------------------------------- */

/* sum + the products of unsigned with signed bytes. Without VNNI two 16-bit sums in each lane: who
 * adds sees to it that they fit. */
INLINE __m256i add_products(__m256i sum, __m256i u, __m256i s) {
#if GM_YMM_VNNI
    return _mm256_dpbusd_avx_epi32(sum, u, s);
#else
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(u, s));
#endif
}

/* sum, 32 bits to a lane, + the products of signed bytes: w's sign goes over to x. size is |w|, of
 * which -128 has 128 and still fits, since x never is below -127. */
INLINE __m256i add_signed(__m256i sum, __m256i w, __m256i size, __m256i x) {
    const __m256i s = _mm256_sign_epi8(x, w);
#if GM_YMM_VNNI
    return _mm256_dpbusd_avx_epi32(sum, size, s);
#else
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(size, s), _mm256_set1_epi16(1)));
#endif
}

/* Integer scales of the lanes, as times() wants them. */
INLINE __m256i factors(__m256i scale) {
#if GM_YMM_VNNI
    return scale;
#else
    const __m256i low = _mm256_and_si256(scale, _mm256_set1_epi32(0xffff));
    return _mm256_or_si256(low, _mm256_slli_epi32(scale, 16));
#endif
}

/* The sums of add_products, times factors. */
INLINE __m256i times(__m256i sum, __m256i factors) {
#if GM_YMM_VNNI
    return _mm256_mullo_epi32(sum, factors);
#else
    return _mm256_madd_epi16(sum, factors);
#endif
}

/* The sums of add_products as floats. */
INLINE vec total(__m256i sum) {
#if !GM_YMM_VNNI
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
    return _mm256_cvtepi32_ps(sum);
}

GM_TURN4(256)

/* Of gm_xq_few.q: eight vectors for 256 elements, of eight lanes of four elements each. With word k
 * of a block for its elements 4 k .. 4 k + 3: */
enum {
    LANES = GM_ORDER_LANES_YMM, /* vector k: word k of blocks 0 .. 7 */
    /* vector 2 k + i: word k of blocks i, i + 2, i + 4, i + 6, then word k + 4 of these */
    PAIRS = GM_ORDER_PAIRS,
    /* vector 4 i + k: word k of blocks 4 i .. 4 i + 3, then word k + 4 of these */
    QUADS = GM_ORDER_QUADS,
    /* Of gm_xq_few.d: of each eight blocks d of those with even numbers, then of the others. */
    EVENS = 0
};

INLINE void fill(gm_xq *x, int32_t t, const int order) {
    const size_t row = (size_t)t * (size_t)x->n_pad;
    for (size_t e = row; e < row + (size_t)x->n_pad; e += 256) {
        uint32_t word[8][8], out[8][8]; /* of blocks; of vectors */
        memcpy(word, x->q + e, sizeof word);
        for (int k = 0; k < 8; k++)
            for (int b = 0; b < 8; b++) {
                const int vector = order == LANES   ? k
                                   : order == PAIRS ? 2 * (k % 4) + b % 2
                                                    : k % 4 + 4 * (b / 4);
                const int lane = order == LANES   ? b
                                 : order == PAIRS ? b / 2 + 4 * (k / 4)
                                                  : b % 4 + 4 * (k / 4);
                out[vector][lane] = word[b][k];
            }
        memcpy(x->few.q[order] + e, out, sizeof out);
        if (order != PAIRS) continue;
        const float *d = x->d + e / 32;
        float *evens = x->few.d[EVENS] + e / 32;
        for (int b = 0; b < 8; b++) evens[b / 2 + 4 * (b % 2)] = d[b];
    }
}

static void fill_lanes(gm_xq *x, int32_t t) { fill(x, t, LANES); }
static void fill_pairs(gm_xq *x, int32_t t) { fill(x, t, PAIRS); }
static void fill_quads(gm_xq *x, int32_t t) { fill(x, t, QUADS); }

/* ---- blocks of 32 with one scale: 8 blocks at a time ----------------------------------------- */

/* The half floats at the beginning of 8 blocks. Two are one load with what lies behind it, and an
 * insertion over that: fewer steps than by way of whole registers. */
INLINE vec scales_at(const uint8_t *b, int stride) {
    __m128i two[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int32_t even;
        uint16_t odd;
        memcpy(&even, b + stride * 2 * i, sizeof even);
        memcpy(&odd, b + stride * (2 * i + 1), sizeof odd);
        two[i] = _mm_insert_epi16(_mm_cvtsi32_si128(even), odd, 1);
    }
    return _mm256_cvtph_ps(
        _mm_unpacklo_epi64(_mm_unpacklo_epi32(two[0], two[1]), _mm_unpacklo_epi32(two[2], two[3])));
}

/* 16 bytes of each of 8 blocks, `stride` apart: lane b of v[i] is word i of block b's. */
INLINE void load_turned(const uint8_t *b, int stride, __m256i v[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_set_m128i(_mm_loadu_si128((const void *)(b + stride * (i + 4))),
                                _mm_loadu_si128((const void *)(b + stride * i)));
    turn4(v);
}

/* 8 products of at most 2 * 15 * 127 fit in 16 bits. */
INLINE void step_q4_0(const uint8_t *w, const tokens *k, int e, const int n, vec sum[MAX_TOK]) {
    const vec d = scales_at(w, 18), m = _mm256_mul_ps(d, _mm256_set1_ps(-8.0f));
    const size_t token = (size_t)k->x->n_pad;
    const int8_t *x = k->x->few.q[LANES] + at(k, 0, e);
    const float *dx = k->x->d + at(k, 0, e) / 32, *ds = k->x->ds32 + at(k, 0, e) / 32;
    __m256i v[4], dot[MAX_TOK];
    load_turned(w + 2, 18, v);
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) dot[t] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m256i lo = low_nibbles(v[i]), hi = high_nibbles(v[i]);
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            dot[t] = add_products(dot[t], lo, load(x + (size_t)t * token + 32 * i));
            dot[t] = add_products(dot[t], hi, load(x + (size_t)t * token + 32 * i + 128));
            GM_KEEP(dot[t]);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const size_t b = (size_t)t * (token / 32);
        sum[t] = _mm256_fmadd_ps(m, _mm256_loadu_ps(ds + b), sum[t]);
        sum[t] = add_scaled(sum[t], total(dot[t]), _mm256_loadu_ps(dx + b), d);
    }
}

/* The signed bytes that 4 bits stand for. */
INLINE __m256i iq4_levels(__m256i nibbles) {
    return _mm256_shuffle_epi8(
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)gm_iq4_values)), nibbles);
}

INLINE vec iq4_xs_scales(const gm_block_iq4_xs *b) {
    uint32_t low;
    memcpy(&low, b->sl, 4);
    const __m256i lo = _mm256_srlv_epi32(_mm256_set1_epi32((int)low),
                                         _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const __m256i hi =
        _mm256_srlv_epi32(_mm256_set1_epi32(b->sh), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    const __m256i six =
        _mm256_or_si256(_mm256_and_si256(lo, _mm256_set1_epi32(15)),
                        _mm256_slli_epi32(_mm256_and_si256(hi, _mm256_set1_epi32(3)), 4));
    const __m256i scale = _mm256_sub_epi32(six, _mm256_set1_epi32(32));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(scale), _mm256_set1_ps(_cvtsh_ss(b->d)));
}

/* 8 groups of Q8_0 or IQ4, whose weights are signed bytes: of their products no more than two fit
 * in 16 bits. */
INLINE void step_signed(gm_dtype type, const uint8_t *w, const tokens *k, int e, const int n,
                        vec sum[MAX_TOK]) {
    const gm_block_iq4_xs *xs = (const gm_block_iq4_xs *)w;
    const vec d = type == GM_IQ4_XS ? iq4_xs_scales(xs) : scales_at(w, type == GM_Q8_0 ? 34 : 18);
    const size_t token = (size_t)k->x->n_pad;
    const int8_t *x = k->x->few.q[LANES] + at(k, 0, e);
    const float *dx = k->x->d + at(k, 0, e) / 32;
    __m256i nibbles[4], dot[MAX_TOK];
    if (type == GM_IQ4_XS) load_turned(xs->q, 16, nibbles);
    if (type == GM_IQ4_NL) load_turned(w + 2, 18, nibbles);
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) dot[t] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256i v[4];
        if (type == GM_Q8_0) load_turned(w + 2 + 16 * h, 34, v);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            if (type != GM_Q8_0)
                v[i] = iq4_levels(h == 0 ? low_nibbles(nibbles[i]) : high_nibbles(nibbles[i]));
            const __m256i size = _mm256_abs_epi8(v[i]);
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                dot[t] =
                    add_signed(dot[t], v[i], size, load(x + (size_t)t * token + 128 * h + 32 * i));
                GM_KEEP(dot[t]);
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const vec scales = _mm256_mul_ps(d, _mm256_loadu_ps(dx + (size_t)t * (token / 32)));
        sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[t]), scales, sum[t]);
    }
}

/* ---- blocks of 256: their groups have integer scales ----------------------------------------- */

/* sum += dx * dot, dx: four scales for both halves. */
INLINE vec add_dotted(vec sum, __m256i dot, const float *dx) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_broadcast_ps((const __m128 *)dx), sum);
}

INLINE __m128i eight_bytes(uint32_t lo, uint32_t hi) {
    return _mm_cvtsi64_si128((long long)((uint64_t)hi << 32 | lo));
}

/* Bit 2 j + odd of the bytes of group 2 j + odd, as 16. high: qh, word i on the lanes of one half,
 * word i + 4 on those of the other. */
INLINE __m256i fifth_bits(__m256i high, int odd) {
    const __m256i shift =
        _mm256_setr_epi32(odd, odd + 2, odd + 4, odd + 6, odd, odd + 2, odd + 4, odd + 6);
    const __m256i bit = _mm256_and_si256(_mm256_srlv_epi32(high, shift), _mm256_set1_epi8(1));
    return _mm256_slli_epi16(bit, 4);
}

/* One block of Q4_K or (qh given) Q5_K. head: the fields that both begin with; q: the nibbles.
 * Groups with even numbers are in the low nibbles, the others in the high ones. 4 products of at
 * most 2 * 31 * 127 fit in 16 bits. */
INLINE void step_k(const gm_block_q4_k *head, const uint8_t *q, const uint8_t *qh, const tokens *k,
                   int e, const int n, vec sum[MAX_TOK]) {
    const gm_k_scales six = gm_k_scales_read(head->sc);
    const __m128i sc = eight_bytes(six.scale[0], six.scale[1]);
    const __m128i min = eight_bytes(six.min[0], six.min[1]);
    const vec m = _mm256_mul_ps(_mm256_set1_ps(-_cvtsh_ss(head->dmin)),
                                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(min)));
    const size_t token = (size_t)k->x->n_pad;
    const int8_t *x = k->x->few.q[PAIRS] + at(k, 0, e);
    const float *evens = k->x->few.d[EVENS] + at(k, 0, e) / 32, *ds = k->x->ds32 + at(k, 0, e) / 32;
    __m256i v[4], even[MAX_TOK], odd[MAX_TOK];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) v[i] = load(q + 32 * i);
    turn4(v);
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) even[t] = odd[t] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256i lo = low_nibbles(v[i]), hi = high_nibbles(v[i]);
        if (qh) {
            uint32_t first, second;
            memcpy(&first, qh + 4 * i, 4);
            memcpy(&second, qh + 4 * i + 16, 4);
            const __m256i high =
                _mm256_set_m128i(_mm_set1_epi32((int)second), _mm_set1_epi32((int)first));
            lo = _mm256_or_si256(lo, fifth_bits(high, 0));
            hi = _mm256_or_si256(hi, fifth_bits(high, 1));
        }
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const int8_t *xt = x + (size_t)t * token + 64 * i;
            even[t] = add_products(even[t], lo, load(xt));
            odd[t] = add_products(odd[t], hi, load(xt + 32));
            GM_KEEP(even[t]);
            GM_KEEP(odd[t]);
        }
    }
    const __m256i scale = _mm256_cvtepu8_epi32(sc);
    const __m256i s0 =
        factors(_mm256_permutevar8x32_epi32(scale, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
    const __m256i s1 =
        factors(_mm256_permutevar8x32_epi32(scale, _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7)));
    const vec d = _mm256_set1_ps(_cvtsh_ss(head->d));
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const float *dx = evens + (size_t)t * (token / 32);
        const vec dot =
            add_dotted(add_dotted(vec_zero(), times(even[t], s0), dx), times(odd[t], s1), dx + 4);
        sum[t] = _mm256_fmadd_ps(m, _mm256_loadu_ps(ds + (size_t)t * (token / 32)), sum[t]);
        sum[t] = _mm256_fmadd_ps(d, dot, sum[t]);
    }
}

/* Groups of 16, so the halves of a vector are two of them. 2 products of at most 2 * 63 * 127 fit
 * in 16 bits, 4 do not. */
INLINE void step_q6_k(const gm_block_q6_k *b, const tokens *k, int e, const int n,
                      vec sum[MAX_TOK]) {
    const vec d = _mm256_set1_ps(_cvtsh_ss(b->d));
    const size_t token = (size_t)k->x->n_pad;
    const int8_t *x = k->x->few.q[QUADS] + at(k, 0, e);
    const float *dx = k->x->d + at(k, 0, e) / 32, *ds = k->x->ds16 + at(k, 0, e) / 16;
    vec part[MAX_TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) part[t] = vec_zero();
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256i sc = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b->sc + 8 * h)));
        const vec shift = _mm256_mul_ps(_mm256_set1_ps(-32.0f), _mm256_cvtepi32_ps(sc));
        const __m256i scale =
            factors(_mm256_permutevar8x32_epi32(sc, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));
        const __m256i high = load(b->qh + 32 * h), two = _mm256_set1_epi8(0x30);
        __m256i v[4], dot[MAX_TOK];
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            const __m256i low = load(b->ql + 64 * h + 32 * (s & 1));
            const __m256i up = s == 0   ? _mm256_slli_epi16(high, 4)
                               : s == 1 ? _mm256_slli_epi16(high, 2)
                               : s == 2 ? high
                                        : _mm256_srli_epi16(high, 2);
            v[s] = _mm256_or_si256(s < 2 ? low_nibbles(low) : high_nibbles(low),
                                   _mm256_and_si256(up, two));
        }
        turn4(v);
#pragma GCC unroll 2
        for (int i = 0; i < 4; i += 2) {
#pragma GCC unroll 4
            for (int t = 0; t < n; t++) {
                const int8_t *xt = x + (size_t)t * token + 128 * h + 32 * i;
                const __m256i two_products = add_products(
                    add_products(_mm256_setzero_si256(), v[i], load(xt)), v[i + 1], load(xt + 32));
                const __m256i scaled = times(two_products, scale);
                dot[t] = i == 0 ? scaled : _mm256_add_epi32(dot[t], scaled);
                GM_KEEP(dot[t]);
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            part[t] = _mm256_fmadd_ps(shift, _mm256_loadu_ps(ds + (size_t)t * (token / 16) + 8 * h),
                                      part[t]);
            part[t] = add_dotted(part[t], dot[t], dx + (size_t)t * (token / 32) + 4 * h);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) sum[t] = _mm256_fmadd_ps(d, part[t], sum[t]);
}

/* ---- any format, unpacked first -------------------------------------------------------------- */

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
        const vec dw =
            wide ? _mm256_set1_ps(u->scale[j])
                 : _mm256_set_m128(_mm_set1_ps(u->scale[2 * j + 1]), _mm_set1_ps(u->scale[2 * j]));
        for (int t = 0; t < n; t++) {
            const __m256i x = load(k->x->q + at(k, t, e + 32 * j));
            const vec dx = _mm256_set1_ps(k->x->d[at(k, t, e) / 32 + (size_t)j]);
            const __m256i dot = add_signed(_mm256_setzero_si256(), w, _mm256_abs_epi8(w), x);
            sum[t] = add_scaled(sum[t], _mm256_cvtepi32_ps(dot), dx, dw);
        }
    }
}

ROW_ANY

/* ---- rows ------------------------------------------------------------------------------------ */

ROW(q4_0, 144, 256, step_q4_0(w, k, e, n, sum))
ROW(q8_0, 272, 256, step_signed(GM_Q8_0, w, k, e, n, sum))
ROW(iq4_nl, 144, 256, step_signed(GM_IQ4_NL, w, k, e, n, sum))
ROW(iq4_xs, 136, 256, step_signed(GM_IQ4_XS, w, k, e, n, sum))
ROW(q4_k, 144, 256, const gm_block_q4_k *b = (const gm_block_q4_k *)w;
    step_k(b, b->q, NULL, k, e, n, sum))
ROW(q5_k, 176, 256, const gm_block_q5_k *b = (const gm_block_q5_k *)w;
    step_k((const gm_block_q4_k *)w, b->q, b->qh, k, e, n, sum))
ROW(q6_k, 210, 256, step_q6_k((const gm_block_q6_k *)w, k, e, n, sum))

DOT(q4_0)
DOT(q8_0)
DOT(iq4_nl)
DOT(iq4_xs)
DOT(q4_k)
DOT(q5_k)
DOT(q6_k)
DOT(any)

INLINE void fill_dot(gm_dot_fns *f) {
    for (int t = 0; t < GM_DTYPE_LIMIT; t++)
        if (f->unpack[t]) f->dot[t] = dot_any;
    f->fill_few[GM_Q4_0] = f->fill_few[GM_Q8_0] = f->fill_few[GM_IQ4_NL] = f->fill_few[GM_IQ4_XS] =
        fill_lanes;
    f->fill_few[GM_Q4_K] = f->fill_few[GM_Q5_K] = fill_pairs;
    f->fill_few[GM_Q6_K] = fill_quads;
    f->dot[GM_Q4_0] = dot_q4_0;
    f->dot[GM_Q8_0] = dot_q8_0;
    f->dot[GM_IQ4_NL] = dot_iq4_nl;
    f->dot[GM_IQ4_XS] = dot_iq4_xs;
    f->dot[GM_Q4_K] = dot_q4_k;
    f->dot[GM_Q5_K] = dot_q5_k;
    f->dot[GM_Q6_K] = dot_q6_k;
}
