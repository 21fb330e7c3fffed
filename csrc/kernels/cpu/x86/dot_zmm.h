/* dot_zmm.h: two rows at a time times 1 to 4 tokens, 512 bits wide. A template for dot_avx512.c
 * (products of 8-bit numbers through 16 bits) and dot_avx512vnni.c.
 *
 * All but Q8_0: a lane of 32 bits has one group of weights, and only that. The products of
 * four weights each, of which a lane gets a group's worth one after the other, are added up in
 * whole numbers, and the scales are multiplied in once for 16 groups and a token. The weights are
 * turned for this, four lanes at a time (turn4), for all tokens together.
 *
 * Q8_0: a vector holds 64 weights of two groups, in the order of the file. One product
 * instruction leaves 16 partial sums, 8 lanes for each group. They become floats and are multiplied
 * by a vector that repeats each group's scale (weights' times activations') over its lanes.
 *
 * The activations lie ready in the order of the lanes (fill_lanes and others), and so do the
 * offsets of the weights times sum(x), with which sums begin. Minima are one multiply-add per 16
 * groups with d * sum(x).
 *
 * On Zen 5 time is steps over four ports, of which products and multiply-adds take two: what counts
 * is how few there are. Two rows share the loads of activations.
 *
 * Lanes are added up only at the end of a row.
 *
 * Defines to set: GM_ZMM_VNNI (1 or 0).
 */
#pragma once

#include <immintrin.h>
#include <string.h>
#include "kernels/cpu/k_scales.h"
#include "kernels/cpu/x86/x86.h"
#include "tensor/blocks.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m512 vec;
INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }

/* The upper half of each added to its lower one: a's, then b's. */
INLINE vec add_halves(vec a, vec b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

/* *to[t] = the sum over the lanes of v[t], for n <= 4. All are added up together, in the
 * order of a sum for itself. */
INLINE void store_sums(const vec *v, const int n, float *const *to) {
    const vec ab = add_halves(v[0], v[n > 1 ? 1 : 0]),
              cd = add_halves(v[n > 2 ? 2 : 0], v[n > 3 ? 3 : 0]);
    vec s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
    *to[0] = _mm512_cvtss_f32(s);
    if (n > 1) *to[1] = _mm_cvtss_f32(_mm512_extractf32x4_ps(s, 1));
    if (n > 2) *to[2] = _mm_cvtss_f32(_mm512_extractf32x4_ps(s, 2));
    if (n > 3) *to[3] = _mm_cvtss_f32(_mm512_extractf32x4_ps(s, 3));
}

enum { AT_ONCE = 2, TOGETHER_TOK = GM_DOT_TOK, IN_STRETCHES = 1 };
#include "kernels/cpu/dot_rows.h"

INLINE __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
INLINE __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }

/* sum + the products, as total() wants it: u is at most 15, or there is VNNI, and there are at
 * most 8. */
INLINE __m512i add_products(__m512i sum, __m512i u, __m512i s) {
#if GM_ZMM_VNNI
    return _mm512_dpbusd_epi32(sum, u, s);
#else
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(u, s));
#endif
}

INLINE __m512i total(__m512i sum) {
#if GM_ZMM_VNNI
    return sum;
#else
    return _mm512_madd_epi16(sum, _mm512_set1_epi16(1));
#endif
}

/* A sum of products, plus a whole number for each lane: with VNNI, products are added to it and it
 * costs nothing. */
INLINE __m512i start_of_sum(__m512i plus) { return GM_ZMM_VNNI ? plus : _mm512_setzero_si512(); }
INLINE __m512i end_of_sum(__m512i sum, __m512i plus) {
    return GM_ZMM_VNNI ? sum : _mm512_add_epi32(total(sum), plus);
}

/* Two products, of at most 2 * 63 * 127 each: they fit in 16 bits. */
INLINE __m512i pair(__m512i u0, __m512i s0, __m512i u1, __m512i s1) {
    return total(add_products(add_products(_mm512_setzero_si512(), u0, s0), u1, s1));
}

GM_TURN4(512)

/* Group a on the lower 8 lanes, group b on the upper ones. */
INLINE __m512i lanes8(int a, int b) {
    return _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b);
}

/* sum += dot * the scales that idx picks. */
INLINE __m512 add_scaled(__m512 sum, __m512i dot, __m512i idx, __m512 scales) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(idx, scales), sum);
}

INLINE __m512i load(const int8_t *p) { return _mm512_loadu_si512(p); }

/* The same once for all rows: the compiler would load it again for each. */
INLINE __m512i load_shared(const int8_t *p) {
    __m512i v = load(p);
    GM_KEEP(v);
    return v;
}

/* 256 activations. */
INLINE void load_block(const int8_t *p, __m512i v[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) v[i] = load_shared(p + 64 * i);
}

/* ---- activations in the order of the weights ------------------------------------------------- */

/* Of gm_xq_few.q and gm_xq_few.d. A word is four elements. */
enum {
    /* Of 16 blocks of 32: vector k has word k of the blocks of quad_group. */
    LANES = GM_ORDER_LANES_ZMM,
    /* Of 8 blocks of 32: vector k has word k of the blocks of pair_block, in every other quarter
     * word k + 4. */
    PAIRS = GM_ORDER_PAIRS,
    /* Of 16 groups of 16: vector k has word k of the groups of quad_group. */
    QUADS = GM_ORDER_QUADS,
    D_QUADS = 0, /* d of the block of each lane of QUADS */
    D_PAIRS = 1, /* the same of PAIRS */
    /* the same of LANES; after each 16 of them, -8 * s32 of those blocks, whole numbers */
    D_LANES = 2,
    OFFSET_QUADS = 3 /* of each lane of QUADS, -32 * s16, a whole number */
};

/* Lane n of a vector of QUADS. */
INLINE int quad_group(int n) { return 4 * (n % 4) + n / 4; }

/* Lane n of a vector of PAIRS: turn4 of the low nibbles of two vectors, then their high ones, of
 * which the blocks lie 0 2, 4 6 and 1 3, 5 7, two quarters each. */
INLINE int pair_block(int n) { return n / 8 * 2 + n % 2 * 4 + n % 4 / 2; }

static void fill_lanes(gm_xq *x, int32_t t) {
    const size_t row = (size_t)t * (size_t)x->n_pad;
    for (size_t e = row; e < row + (size_t)x->n_pad; e += 512) {
        uint32_t word[16][8], lanes[8][16];
        /* A half step is one of two rows: both meet the first eight blocks. */
        const int blocks = row + (size_t)x->n_in <= e + 256 ? 8 : 16;
        memcpy(word, x->q + e, sizeof word);
        for (int b = 0; b < 16; b++)
            for (int k = 0; k < 8; k++) lanes[k][b] = word[quad_group(b) % blocks][k];
        memcpy(x->few.q[LANES] + e, lanes, sizeof lanes);
        for (int b = 0; b < 16; b++) {
            const size_t block = e / 32 + (size_t)(quad_group(b) % blocks);
            const size_t at = e / 16 + (size_t)b;
            const int32_t offset = -8 * x->s32[block];
            x->few.d[D_LANES][at] = x->d[block];
            memcpy(&x->few.d[D_LANES][at + 16], &offset, sizeof offset);
        }
    }
}

static void fill_pairs(gm_xq *x, int32_t t) {
    const size_t row = (size_t)t * (size_t)x->n_pad;
    for (size_t e = row; e < row + (size_t)x->n_pad; e += 256) {
        uint32_t word[8][8], pairs[4][16];
        memcpy(word, x->q + e, sizeof word);
        for (int k = 0; k < 4; k++)
            for (int n = 0; n < 16; n++) pairs[k][n] = word[pair_block(n)][k + 4 * (n / 4 % 2)];
        memcpy(x->few.q[PAIRS] + e, pairs, sizeof pairs);
        for (int n = 0; n < 16; n++)
            x->few.d[D_PAIRS][e / 16 + (size_t)n] = x->d[e / 32 + (size_t)pair_block(n)];
    }
}

static void fill_quads(gm_xq *x, int32_t t) {
    const size_t row = (size_t)t * (size_t)x->n_pad;
    for (size_t e = row; e < row + (size_t)x->n_pad; e += 256) {
        uint32_t word[16][4], quads[4][16];
        memcpy(word, x->q + e, sizeof word);
        for (int k = 0; k < 4; k++)
            for (int n = 0; n < 16; n++) quads[k][n] = word[quad_group(n)][k];
        memcpy(x->few.q[QUADS] + e, quads, sizeof quads);
        for (int n = 0; n < 16; n++) {
            const size_t group = e / 16 + (size_t)quad_group(n);
            const int32_t offset = -32 * x->s16[group];
            x->few.d[D_QUADS][e / 16 + (size_t)n] = x->d[group / 2];
            memcpy(&x->few.d[OFFSET_QUADS][e / 16 + (size_t)n], &offset, sizeof offset);
        }
    }
}

/* ---- blocks of 32 with one scale: 16 blocks at a time ---------------------------------------- */

/* Nibbles and scales of 16 groups, as the file has them: groups 4 i .. 4 i + 3 in the quarters of
 * vector i and, of all vectors, in the lanes that quad_group names. */
typedef struct {
    __m512i v[4];
    __m512 d;
} groups;

/* Twice 8 blocks of 9 words of 16 bits, a half float and 32 nibbles: Q4_0 and IQ4_NL. All loads
 * stay within their 144 bytes. Loads are what there is most of: each block for itself would be
 * twice as many. (A second wide load in place of the fourth block's saves a step but waits longer
 * for memory.)
 *
 * The scales of vector i are its words 0, 9, 18 and 27. Turned around within 128 bits, by another
 * pattern for each i, they lie in 16 different lanes, so that one permutation is enough for all:
 * permutations share a port with products, turning within 128 bits does not. */
INLINE groups groups_of_9_words(const uint8_t *first, const uint8_t *second) {
    const __m512i nibbles =
        _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 26, 25, 24, 23, 22, 21, 20, 19, 17, 16, 15, 14, 13,
                         12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m512i scales = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 4, 2, 6, 9, 13, 11, 15, 18, 22, 16, 20, 27, 31, 25, 29));
    groups g;
    __m512i three[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const uint8_t *w = (i < 2 ? first : second) + 72 * (i % 2);
        three[i] = _mm512_loadu_si512(w); /* and the scale of the fourth */
        /* loaded once: it mostly lies in two lines of the cache */
        GM_KEEP(three[i]);
        const __m128i fourth = _mm_loadu_si128((const void *)(w + 56));
        g.v[i] = _mm512_mask_broadcast_i32x4(_mm512_permutexvar_epi16(nibbles, three[i]), 0xf000,
                                             fourth);
    }
    __m512i d = _mm512_mask_shuffle_epi32(three[0], 0x8844, three[1], 0x4e);
    d = _mm512_mask_shuffle_epi32(d, 0x1122, three[2], 0xb1);
    d = _mm512_mask_shuffle_epi32(d, 0x4488, three[3], 0x1b);
    d = _mm512_permutexvar_epi16(scales, d);
    g.d = _mm512_cvtph_ps(_mm512_castsi512_si256(d));
    return g;
}

enum { FIRST = 0x3333, SECOND = 0xcccc }; /* lanes of groups 0 .. 7 and 8 .. 15, by quad_group */

/* Two blocks of IQ4_XS. */
INLINE groups groups_of_iq4_xs(const gm_block_iq4_xs *first, const gm_block_iq4_xs *second) {
    groups g;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        g.v[i] = _mm512_loadu_si512((i < 2 ? first : second)->q + 64 * (i % 2));
    uint32_t low[2];
    memcpy(&low[0], first->sl, 4);
    memcpy(&low[1], second->sl, 4);
    const __m512i by4 = _mm512_setr_epi32(0, 16, 0, 16, 4, 20, 4, 20, 8, 24, 8, 24, 12, 28, 12, 28);
    const __m512i lo = _mm512_mask_set1_epi32(_mm512_set1_epi32((int)low[0]), SECOND, (int)low[1]);
    const __m512i hi = _mm512_mask_set1_epi32(_mm512_set1_epi32(first->sh), SECOND, second->sh);
    const __m512i two =
        _mm512_and_si512(_mm512_srlv_epi32(hi, _mm512_srli_epi32(by4, 1)), _mm512_set1_epi32(3));
    const __m512i four = _mm512_and_si512(_mm512_srlv_epi32(lo, by4), _mm512_set1_epi32(15));
    const __m512i six = _mm512_or_si512(four, _mm512_slli_epi32(two, 4));
    const __m512 d = _mm512_mask_blend_ps(SECOND, _mm512_set1_ps(_cvtsh_ss(first->d)),
                                          _mm512_set1_ps(_cvtsh_ss(second->d)));
    g.d = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(six, _mm512_set1_epi32(32))));
    return g;
}

/* 16 groups of 32 of each row, Q4_0 or IQ4, from w on; elements e .. e + 511. The rows share the
 * loads of activations, which would be the most there are. half: 8 groups of each row, which are
 * taken as the 16 of one (of a single row twice its own). */
INLINE void step_nibbles(gm_dtype type, const uint8_t *w, size_t stride, const int rows,
                         const bool half, const tokens *k, int e, const int n,
                         vec (*sum)[MAX_TOK]) {
    const size_t token = (size_t)k->x->n_pad;
    const size_t block = type == GM_IQ4_XS ? sizeof(gm_block_iq4_xs) : 144; /* of 256 elements */
    const int8_t *x = k->x->few.q[LANES] + at(k, 0, e);
    const int steps = half ? 1 : rows;
    groups g[AT_ONCE];
    __m512i dot[AT_ONCE][MAX_TOK], offset[MAX_TOK];
#pragma GCC unroll 2
    for (int r = 0; r < steps; r++) {
        const uint8_t *a = w + (size_t)r * stride;
        const uint8_t *b = !half ? a + block : rows == 2 ? a + stride : a;
        g[r] = type == GM_IQ4_XS
                   ? groups_of_iq4_xs((const gm_block_iq4_xs *)a, (const gm_block_iq4_xs *)b)
                   : groups_of_9_words(a, b);
        turn4(g[r].v);
    }
    const float *dx = k->x->few.d[D_LANES] + at(k, 0, e) / 16;
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        offset[t] = _mm512_loadu_si512(dx + (size_t)t * (token / 16) + 16);
        if (type != GM_Q4_0) offset[t] = _mm512_slli_epi32(offset[t], 4); /* 128 for 8 */
#pragma GCC unroll 2
        for (int r = 0; r < steps; r++) dot[r][t] = start_of_sum(offset[t]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i lo[AT_ONCE], hi[AT_ONCE];
#pragma GCC unroll 2
        for (int r = 0; r < steps; r++) {
            lo[r] = low_nibbles(g[r].v[i]), hi[r] = high_nibbles(g[r].v[i]);
            if (type == GM_Q4_0) continue;
            const __m512i table = _mm512_xor_si512(
                _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)gm_iq4_values)),
                _mm512_set1_epi8((char)0x80));
            lo[r] = _mm512_shuffle_epi8(table, lo[r]);
            hi[r] = _mm512_shuffle_epi8(table, hi[r]);
        }
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const __m512i x_lo = load_shared(x + (size_t)t * token + 64 * i);
            const __m512i x_hi = load_shared(x + (size_t)t * token + 64 * i + 256);
#pragma GCC unroll 2
            for (int r = 0; r < steps; r++) {
                dot[r][t] = add_products(dot[r][t], lo[r], x_lo);
                dot[r][t] = add_products(dot[r][t], hi[r], x_hi);
            }
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < steps; r++) {
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            const __m512 scales =
                _mm512_mul_ps(g[r].d, _mm512_loadu_ps(dx + (size_t)t * (token / 16)));
            const __m512 whole = _mm512_cvtepi32_ps(end_of_sum(dot[r][t], offset[t]));
            if (half) {
                sum[0][t] = _mm512_mask3_fmadd_ps(whole, scales, sum[0][t], FIRST);
                if (rows == 2) sum[1][t] = _mm512_mask3_fmadd_ps(whole, scales, sum[1][t], SECOND);
            } else {
                sum[r][t] = _mm512_fmadd_ps(whole, scales, sum[r][t]);
            }
        }
    }
}

/* Of 8 blocks of Q8_0. */
INLINE __m128i scales_of_q8_0(const uint8_t *b) {
    uint16_t d[8];
    for (int i = 0; i < 8; i++) memcpy(&d[i], b + 34 * i, 2);
    return _mm_setr_epi16((short)d[0], (short)d[1], (short)d[2], (short)d[3], (short)d[4],
                          (short)d[5], (short)d[6], (short)d[7]);
}

/* 16 blocks of Q8_0, or 8: 544 bytes, or 272. */
INLINE void step_q8_0(const uint8_t *w, const bool half, const tokens *k, int e, const int n,
                      vec sum[MAX_TOK]) {
    const __m128i lo = scales_of_q8_0(w), hi = half ? lo : scales_of_q8_0(w + 272);
    const __m512 d = _mm512_cvtph_ps(_mm256_set_m128i(hi, lo));
    const int vectors = half ? 4 : 8;
    __m512 scales[MAX_TOK];
#pragma GCC unroll 4
    for (int t = 0; t < n; t++)
        scales[t] = _mm512_mul_ps(d, _mm512_loadu_ps(k->x->d + at(k, t, e) / 32));
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
        __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)(w + 68 * j + 2)));
        v = _mm512_inserti64x4(v, _mm256_loadu_si256((const void *)(w + 68 * j + 36)), 1);
        /* Magnitudes times activations with the weights' signs: an offset of 128 would be taken
         * out of the sum in float, where small weights drown in it. */
        const __mmask64 negative = _mm512_movepi8_mask(v);
        v = _mm512_abs_epi8(v); /* 128 for -128, as it is read without a sign */
#pragma GCC unroll 4
        for (int t = 0; t < n; t++) {
            __m512i x = load(k->x->q + at(k, t, e + 64 * j)); /* from -127 on */
            x = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
            sum[t] = add_scaled(sum[t], add_products(_mm512_setzero_si512(), v, x),
                                lanes8(2 * j, 2 * j + 1), scales[t]);
        }
    }
}

/* ---- blocks of 256 --------------------------------------------------------------------------- */

/* Q4_K and Q5_K: d times the 8 scales, then -dmin times the 8 minima. */
INLINE __m512 k_scales(const gm_block_q4_k *b) {
    const gm_k_scales six = gm_k_scales_read(b->sc);
    const __m128i v =
        _mm_setr_epi32((int)six.scale[0], (int)six.scale[1], (int)six.min[0], (int)six.min[1]);
    const __m256 d = _mm256_set1_ps(_cvtsh_ss(b->d)), m = _mm256_set1_ps(-_cvtsh_ss(b->dmin));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v)),
                         _mm512_insertf32x8(_mm512_castps256_ps512(d), m, 1));
}

/* Bit `a` of the lower 32 bytes of v and bit `b` of the upper ones, as 16 in u. */
INLINE __m512i add_fifth_bit(__m512i u, __m512i v, int a, int b) {
    const __m512i bits =
        _mm512_inserti64x4(_mm512_set1_epi8((char)(1 << a)), _mm256_set1_epi8((char)(1 << b)), 1);
    return _mm512_mask_add_epi8(u, _mm512_test_epi8_mask(v, bits), u, _mm512_set1_epi8(16));
}

/* A block of Q4_K or Q5_K: its weights as turn4 leaves them, and the scales of the lanes. min: the
 * eight minima, then nothing that matters. (The fields in front of Q5_K's qh are those of Q4_K.) */
INLINE groups groups_of_k(gm_dtype type, const uint8_t *w, __m512 *min) {
    const gm_block_q5_k *five = (const gm_block_q5_k *)w;
    const gm_block_q4_k *four = (const gm_block_q4_k *)w;
    const uint8_t *q = type == GM_Q5_K ? five->q : four->q;
    const __m512i blocks = _mm512_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5, 2, 6, 3, 7, 2, 6, 3, 7);
    const __m512 scale_min = k_scales(four);
    groups g;
    g.d = _mm512_permutexvar_ps(blocks, scale_min);
    *min = _mm512_shuffle_f32x4(scale_min, scale_min, 0xee); /* the upper half */
    __m512i high = _mm512_setzero_si512();
    if (type == GM_Q5_K) high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)five->qh));
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m512i nibbles = _mm512_loadu_si512(q + 64 * j);
        g.v[j] = low_nibbles(nibbles);
        g.v[2 + j] = high_nibbles(nibbles);
        if (type == GM_Q5_K) {
            g.v[j] = add_fifth_bit(g.v[j], high, 4 * j, 4 * j + 2);
            g.v[2 + j] = add_fifth_bit(g.v[2 + j], high, 4 * j + 1, 4 * j + 3);
        }
    }
    turn4(g.v);
    return g;
}

/* One block of each row. 4 products of at most 2 * 31 * 127 fit in 16 bits. */
INLINE void step_k(gm_dtype type, const uint8_t *w, size_t stride, const int rows, const tokens *k,
                   int e, const int n, vec (*sum)[MAX_TOK]) {
    groups g[AT_ONCE];
    __m512 min[AT_ONCE];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) g[r] = groups_of_k(type, w + (size_t)r * stride, &min[r]);
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const __m512 d = _mm512_loadu_ps(k->x->few.d[D_PAIRS] + at(k, t, e) / 16);
        const __m512 ds = _mm512_maskz_loadu_ps(0x00ff, k->x->ds32 + at(k, t, e) / 32);
        __m512i part[4];
        load_block(k->x->few.q[PAIRS] + at(k, t, e), part);
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            __m512i dot = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) dot = add_products(dot, g[r].v[i], part[i]);
            sum[r][t] = _mm512_fmadd_ps(min[r], ds, sum[r][t]);
            sum[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total(dot)), _mm512_mul_ps(g[r].d, d),
                                        sum[r][t]);
        }
    }
}

/* A block of Q6_K: its weights as turn4 leaves them, and the scales of the lanes. */
INLINE groups groups_of_q6_k(const gm_block_q6_k *b) {
    const __m128i quads = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m128i sc = _mm_shuffle_epi8(_mm_loadu_si128((const void *)b->sc), quads);
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    const __m512i mask = _mm512_set1_epi8(0x30);
    groups g;
    g.d = _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(b->d)),
                        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m512i low = _mm512_loadu_si512(b->ql + 64 * h);
        const __m512i qh =
            _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(b->qh + 32 * h)));
        enum { A_AND_B_OR_C = 0xea };
        g.v[2 * h] = _mm512_ternarylogic_epi32(_mm512_sllv_epi16(qh, left), mask, low_nibbles(low),
                                               A_AND_B_OR_C);
        g.v[2 * h + 1] = _mm512_ternarylogic_epi32(_mm512_srlv_epi16(qh, right), mask,
                                                   high_nibbles(low), A_AND_B_OR_C);
    }
    turn4(g.v);
    return g;
}

/* One block of each row. */
INLINE void step_q6_k(const uint8_t *w, size_t stride, const int rows, const tokens *k, int e,
                      const int n, vec (*sum)[MAX_TOK]) {
    groups g[AT_ONCE];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        g[r] = groups_of_q6_k((const gm_block_q6_k *)(w + (size_t)r * stride));
#pragma GCC unroll 4
    for (int t = 0; t < n; t++) {
        const size_t group = at(k, t, e) / 16;
        const __m512 d = _mm512_loadu_ps(k->x->few.d[D_QUADS] + group);
        const __m512i offset = _mm512_loadu_si512(k->x->few.d[OFFSET_QUADS] + group);
        __m512i part[4], dot[AT_ONCE];
        load_block(k->x->few.q[QUADS] + at(k, t, e), part);
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
#if GM_ZMM_VNNI
            dot[r] = offset;
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) dot[r] = add_products(dot[r], g[r].v[i], part[i]);
#else
            dot[r] = _mm512_add_epi32(offset, pair(g[r].v[0], part[0], g[r].v[1], part[1]));
            dot[r] = _mm512_add_epi32(dot[r], pair(g[r].v[2], part[2], g[r].v[3], part[3]));
#endif
            sum[r][t] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r]), _mm512_mul_ps(g[r].d, d), sum[r][t]);
        }
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

ROWS_TOGETHER_OR_HALF(q4_0, 288, 512, step_nibbles(GM_Q4_0, w, stride, rows, halved, &k, e, n, sum))
ROW_OR_HALF(q8_0, 544, 512, step_q8_0(w, halved, k, e, n, sum))
ROWS_TOGETHER(q4_k, 144, 256, step_k(GM_Q4_K, w, stride, rows, &k, e, n, sum))
ROWS_TOGETHER(q5_k, 176, 256, step_k(GM_Q5_K, w, stride, rows, &k, e, n, sum))
ROWS_TOGETHER(q6_k, 210, 256, step_q6_k(w, stride, rows, &k, e, n, sum))
#if GM_ZMM_VNNI
ROWS_TOGETHER_OR_HALF(iq4_nl, 288, 512,
                      step_nibbles(GM_IQ4_NL, w, stride, rows, halved, &k, e, n, sum))
ROWS_TOGETHER_OR_HALF(iq4_xs, 272, 512,
                      step_nibbles(GM_IQ4_XS, w, stride, rows, halved, &k, e, n, sum))
#endif

DOT(q4_0)
DOT(q4_k)
DOT(q5_k)
DOT(q6_k)
#if GM_ZMM_VNNI
/* Weights of eight bits overflow the 16-bit sums of the other variant. */
DOT(q8_0)
DOT(iq4_nl)
DOT(iq4_xs)
#endif
