/* gemm_amx.c: tiles of 32 rows by 32 tokens in the matrix unit of Xeons (AMX), which multiplies
 * bfloat16.
 *
 * It has products of bytes as well, twice as many at a time, but their sums would have to leave it
 * after each group of 32 elements to be scaled, which takes longer than the products. So the scales
 * go into the weights: each panel is widened once, to scale * (q - offset) + min rounded to 8 bits
 * of mantissa, and used for all tokens. Activations are rounded the same way. What that loses is
 * less than what activations of 8 bits per block lose.
 *
 * A tile register holds 16 rows of 64 bytes. A step is 32 elements: two registers of activations,
 * 16 tokens by 32 elements each; two of weights, 16 pairs of elements by 16 rows; four of sums.
 */
#include <immintrin.h>
#include <string.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TOK = GM_TILE_BF16_TOK,
    STEP = 32,        /* elements */
    TILE = 16 * STEP, /* numbers in a register */
    ROW_BYTES = 64,   /* of a register */
    SUM_BYTES = GM_TILE_ROWS * 4,
    MIN_TOK = 32, /* as measured with Q4_0: below, widening costs more than is gained */
};

/* What was stored before is in memory: GCC's intrinsics do not say that they read it. */
#define STORED() __asm__ volatile("" : : : "memory")

/* Palette 1 of the architecture; rows and bytes a row of each register. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Registers: sums 0 to 3, activations 4 and 5, weights 6 and 7. */
static void configure(int tok0, int tok1) {
    tile_config c = {.palette = 1};
    const int rows[8] = {tok0, tok0, tok1, tok1, tok0, tok1, STEP / 2, STEP / 2};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)rows[i];
        c.row_bytes[i] = rows[i] ? ROW_BYTES : 0;
    }
    STORED();
    _tile_loadconfig(&c);
}

/* 256 + one byte of each word, which is moved to the upper bits of the mantissa of 256. */
#define BYTE_AS_FLOAT(moved)                                                                       \
    _mm512_castsi512_ps(_mm512_ternarylogic_epi32(moved, _mm512_set1_epi32(0xff << 15),            \
                                                  _mm512_set1_epi32(0x43800000), 0xea))

/* Pairs of bfloat16, the lower ones from lo; ties away from zero. */
INLINE __m512i pairs(__m512 lo, __m512 hi) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i l = _mm512_add_epi32(_mm512_castps_si512(lo), half),
                  h = _mm512_add_epi32(_mm512_castps_si512(hi), half);
    return _mm512_ternarylogic_epi32(h, _mm512_set1_epi32((int)0xffff0000),
                                     _mm512_srli_epi32(l, 16), 0xea); /* h & mask | l */
}

/* The panel as bfloat16: [kc / STEP, 2 halves of the rows, STEP / 2 pairs, 16 rows, 2]. */
INLINE void widen_groups(const gm_panel *p, const int words, const bool has_min) {
    const __m512 minus = _mm512_set1_ps(-256.0f - (float)p->info->offset);
    const uint8_t *q = p->q;
    uint16_t *to = p->bf;
    for (int g = 0; g < p->kc / (4 * words); g++) {
        __m512 s[2], base[2];
        for (int h = 0; h < 2; h++) {
            const int at = g * GM_TILE_ROWS + 16 * h;
            s[h] = _mm512_load_ps(p->scale + at);
            base[h] = has_min ? _mm512_fmadd_ps(minus, s[h], _mm512_load_ps(p->min + at))
                              : _mm512_mul_ps(minus, s[h]);
        }
        for (int w = 0; w < words; w++, q += 4 * GM_TILE_ROWS, to += 2 * STEP) {
            for (int h = 0; h < 2; h++) {
                const __m512i v = _mm512_load_si512(q + ROW_BYTES * h);
                const __m512 a = _mm512_fmadd_ps(BYTE_AS_FLOAT(_mm512_slli_epi32(v, 15)), s[h],
                                                 base[h]),
                             b = _mm512_fmadd_ps(BYTE_AS_FLOAT(_mm512_slli_epi32(v, 7)), s[h],
                                                 base[h]),
                             c = _mm512_fmadd_ps(BYTE_AS_FLOAT(_mm512_srli_epi32(v, 1)), s[h],
                                                 base[h]),
                             d = _mm512_fmadd_ps(BYTE_AS_FLOAT(_mm512_srli_epi32(v, 9)), s[h],
                                                 base[h]);
                _mm512_store_si512(to + TILE * h, pairs(a, b));
                _mm512_store_si512(to + TILE * h + STEP, pairs(c, d));
            }
        }
        if ((g + 1) * words % (STEP / 4) == 0) to += TILE; /* past the other half */
    }
}

static void widen_panel(const gm_panel *p) {
    if (p->info->group == 32)
        p->info->has_min ? widen_groups(p, 8, true) : widen_groups(p, 8, false);
    else p->info->has_min ? widen_groups(p, 4, true) : widen_groups(p, 4, false);
}

/* c += x . w for up to 32 tokens, those of x0 and, if there are `two` tiles of them, of x1. */
INLINE void multiply(const gm_panel *p, const uint16_t *x0, const uint16_t *x1, const bool two,
                     float *c) {
    const uint16_t *w = p->bf;
    float *c1 = c + TOK * GM_TILE_ROWS;
    _tile_loadd(0, c, SUM_BYTES);
    _tile_loadd(1, c + 16, SUM_BYTES);
    if (two) {
        _tile_loadd(2, c1, SUM_BYTES);
        _tile_loadd(3, c1 + 16, SUM_BYTES);
    }
    for (int k = 0; k < p->kc; k += STEP, x0 += TILE, x1 += TILE, w += 2 * TILE) {
        gm_ahead_step(p->ahead);
        _tile_loadd(4, x0, ROW_BYTES);
        _tile_loadd(6, w, ROW_BYTES);
        _tile_loadd(7, w + TILE, ROW_BYTES);
        if (two) _tile_loadd(5, x1, ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (!two) continue;
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, SUM_BYTES);
    _tile_stored(1, c + 16, SUM_BYTES);
    if (!two) return;
    _tile_stored(2, c1, SUM_BYTES);
    _tile_stored(3, c1 + 16, SUM_BYTES);
}

static void tile_bf16(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    const size_t group = (size_t)x->n_pad * TOK; /* numbers of 16 tokens */
    const uint16_t *at = x->bf + (size_t)(tok / TOK) * group + (size_t)(p->k0 / STEP) * TILE;
    widen_panel(p);
    configure(TOK, TOK);
    for (; n_tok >= 2 * TOK; n_tok -= 2 * TOK, at += 2 * group, c += 2 * TOK * GM_TILE_ROWS)
        multiply(p, at, at + group, true, c);
    if (n_tok > TOK) {
        configure(TOK, n_tok - TOK);
        multiply(p, at, at + group, true, c);
    } else if (n_tok > 0) {
        configure(n_tok, 0);
        multiply(p, at, at, false, c);
    }
    _tile_release(); /* else switches of threads would save the registers */
}

static void round_bf16(gm_xq *x, int32_t t) {
    const float *src = x->x + (size_t)t * (size_t)x->n_in;
    uint16_t *to = x->bf + (size_t)(t / TOK * TOK) * (size_t)x->n_pad + (size_t)(t % TOK) * STEP;
    for (int k = 0; k < x->n_in; k += STEP, to += TILE) {
        const __m512bh v =
            _mm512_cvtne2ps_pbh(_mm512_loadu_ps(src + k + 16), _mm512_loadu_ps(src + k));
        memcpy(to, &v, sizeof v);
    }
}

void gm_tile_fill_amx(gm_tile_fns *f) {
    f->tile_bf16 = tile_bf16;
    f->round_bf16 = round_bf16;
    f->min_bf16 = MIN_TOK;
}
