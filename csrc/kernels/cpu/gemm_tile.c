/* gemm_tile.c: packing of panels, the plain C tiles, and the choice of variants. */
#include "kernels/cpu/gemm_tile.h"

#include <string.h>
#include "tensor/quant.h"
#if defined(__x86_64__)
#include "kernels/cpu/x86/x86.h"
#elif defined(__aarch64__)
#include "kernels/cpu/arm/arm.h"
#endif

static void tile_quant_ref(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    const gm_unpack_info *u = p->info;
    int steps = u->group / 4;
    for (int t = 0; t < n_tok; t++, c += GM_TILE_ROWS) {
        const int8_t *q = x->q + (size_t)(tok + t) * x->n_pad + p->k0;
        size_t g16 = (size_t)(tok + t) * (x->n_pad / 16) + (size_t)p->k0 / 16;
        for (int g = 0; g < p->kc / u->group; g++) {
            size_t at = g16 + (size_t)(g * u->group / 16);
            int sx = u->group == 32 ? x->s32[at / 2] : x->s16[at];
            int32_t sum[GM_TILE_ROWS];
            gm_ahead_step(p->ahead);
            for (int r = 0; r < GM_TILE_ROWS; r++) sum[r] = -u->offset * sx;
            for (int s = 0; s < steps; s++, q += 4) {
                const uint8_t *w = p->q + (size_t)(g * steps + s) * GM_TILE_ROWS * 4;
                for (int r = 0; r < GM_TILE_ROWS; r++, w += 4)
                    sum[r] += w[0] * q[0] + w[1] * q[1] + w[2] * q[2] + w[3] * q[3];
            }
            const float *scale = p->scale + g * GM_TILE_ROWS, *min = p->min + g * GM_TILE_ROWS;
            float d = x->d[at / 2];
            for (int r = 0; r < GM_TILE_ROWS; r++) c[r] += scale[r] * d * (float)sum[r];
            if (!u->has_min) continue;
            for (int r = 0; r < GM_TILE_ROWS; r++) c[r] += min[r] * d * (float)sx;
        }
    }
}

static void tile_float_ref(const gm_panel *p, const gm_xq *x, int tok, int n_tok, float *c) {
    for (int t = 0; t < n_tok; t++, c += GM_TILE_ROWS) {
        const float *xt = x->x + (size_t)(tok + t) * (size_t)x->n_in + p->k0;
        float sum[GM_TILE_ROWS] = {0};
        gm_ahead_step(p->ahead);
        for (int k = 0; k < p->kc; k++)
            for (int r = 0; r < GM_TILE_ROWS; r++) sum[r] += p->f[k * GM_TILE_ROWS + r] * xt[k];
        for (int r = 0; r < GM_TILE_ROWS; r++) c[r] += sum[r];
    }
}

static void turn_ref(const gm_word *src, size_t stride, int n, gm_word *dst) {
    for (int d = 0; d < n; d++)
        for (int r = 0; r < GM_TILE_PACK; r++)
            dst[d * GM_TILE_ROWS + r] = src[(size_t)r * stride + (size_t)d];
}

static void widen_f32(const uint8_t *src, int n, float *dst) {
    gm_dequant_row(GM_F32, src, dst, n);
}
static void widen_f16(const uint8_t *src, int n, float *dst) {
    gm_dequant_row(GM_F16, src, dst, n);
}
static void widen_bf16(const uint8_t *src, int n, float *dst) {
    gm_dequant_row(GM_BF16, src, dst, n);
}

void gm_tile_fill(gm_tile_fns *f, gm_cpu_level level) {
    memset(f, 0, sizeof *f);
    f->tile_quant = tile_quant_ref;
    f->tile_float = tile_float_ref;
    f->turn = turn_ref;
    f->widen[GM_F32] = widen_f32;
    f->widen[GM_F16] = widen_f16;
    f->widen[GM_BF16] = widen_bf16;
    for (int t = 0; t < GM_DTYPE_LIMIT; t++) f->min_tok[t] = GM_TILE_MIN_TOK;
#if defined(__x86_64__)
    gm_x86_fill_tile(f, level);
#elif defined(__aarch64__)
    gm_arm_fill_tile(f, level);
#else
    (void)level;
#endif
    f->slow_float = f->tile_float == tile_float_ref;
}

int gm_tile_width(const gm_tile_fns *f, int n_tok) {
    if (f->tok == 0) return 0;
    const int n_tile = (n_tok + f->tok - 1) / f->tok;
    return (n_tok + n_tile - 1) / n_tile;
}

static inline void interleave_n(const gm_word *rows, size_t words, int n, uint32_t *to) {
    for (size_t w = 0; w < words; w++)
        for (int t = 0; t < n; t++) *to++ = rows[(size_t)t * words + w];
}

/* rows: [n, words], of 32 bits each */
static void interleave(void *rows, size_t words, int n, uint32_t *scratch) {
    if (n == GM_TILE_TOK)
        interleave_n(rows, words, GM_TILE_TOK, scratch); /* a constant is twice as fast */
    else interleave_n(rows, words, n, scratch);
    memcpy(rows, scratch, words * (size_t)n * sizeof *scratch);
}

void gm_tile_interleave(gm_xq *x, int tok, int n, uint32_t *scratch) {
    const size_t row = (size_t)x->n_pad, t = (size_t)tok;
    interleave(x->q + t * row, row / 4, n, scratch);
    interleave(x->d + t * (row / 32), row / 32, n, scratch);
    interleave(x->s32 + t * (row / 32), row / 32, n, scratch);
    interleave(x->s16 + t * (row / 16), row / 16, n, scratch);
    interleave(x->ds32 + t * (row / 32), row / 32, n, scratch);
    interleave(x->ds16 + t * (row / 16), row / 16, n, scratch);
}

gm_ahead gm_tile_ahead(gm_dtype t, const uint8_t *w, size_t row_bytes, int n_row, int k0, int kc,
                       int n_step) {
    const gm_dtype_info *info = gm_dtype_get(t);
    gm_ahead a = {
        .row_bytes = row_bytes,
        .part_bytes = (size_t)kc / info->block_elems * info->block_bytes,
        .n_row = n_row - 1,
        .skip = k0 == 0 ? 0 : 63,
    };
    const int lines = n_row * (int)((a.part_bytes + 63 + 63) / 64);
    a.per_step = (lines + n_step - 1) / n_step;
    gm_ahead_row(&a, w + (size_t)k0 / info->block_elems * info->block_bytes);
    return a;
}

static gm_panel pack_float(const gm_tile_fns *f, gm_dtype t, const uint8_t *w, size_t row_bytes,
                           int n_row, int k0, int kc, gm_tile_scratch *s) {
    size_t elem = gm_dtype_get(t)->block_bytes;
    float *rows = (float *)(void *)s->row_q, *panel = (float *)(void *)s->q;
    for (int h = 0; h < GM_TILE_ROWS; h += GM_TILE_PACK) {
        for (int r = 0; r < GM_TILE_PACK; r++) {
            float *row = rows + r * GM_TILE_K_FLOAT;
            const uint8_t *src = w + (size_t)(h + r) * row_bytes + (size_t)k0 * elem;
            if (h + r < n_row) f->widen[t](src, kc, row);
            else memset(row, 0, (size_t)kc * sizeof *row);
        }
        f->turn((const gm_word *)rows, GM_TILE_K_FLOAT, kc, (gm_word *)(panel + h));
    }
    return (gm_panel){.info = gm_unpack_info_get(t), .k0 = k0, .kc = kc, .f = panel};
}

/* Half h of a quantised panel by way of rows of bytes; rows from n_row on become zero. */
static void pack_slowly(const gm_tile_fns *f, gm_unpack_fn unpack, const gm_unpack_info *u,
                        const uint8_t *w, size_t row_bytes, int h, int n_row, int k0, int kc,
                        gm_tile_scratch *s) {
    int n_group = kc / u->group;
    enum { STRIDE = GM_TILE_K / 16 };
    for (int r = 0; r < GM_TILE_PACK; r++) {
        uint8_t *q = s->row_q + r * GM_TILE_K;
        float *scale = s->row_scale + r * STRIDE, *min = s->row_min + r * STRIDE;
        if (h + r < n_row) {
            unpack(w + (size_t)(h + r) * row_bytes, k0, kc, q, scale, min);
        } else {
            memset(q, 0, (size_t)kc);
            memset(scale, 0, (size_t)n_group * sizeof *scale);
            memset(min, 0, (size_t)n_group * sizeof *min);
        }
    }
    f->turn((const gm_word *)(const void *)s->row_q, GM_TILE_K / 4, kc / 4,
            (gm_word *)(void *)s->q + h);
    f->turn((const gm_word *)s->row_scale, STRIDE, n_group, (gm_word *)s->scale + h);
    if (u->has_min) f->turn((const gm_word *)s->row_min, STRIDE, n_group, (gm_word *)s->min + h);
}

gm_panel gm_tile_pack(const gm_tile_fns *f, const gm_dot_fns *dot, gm_dtype t, const uint8_t *w,
                      size_t row_bytes, int n_row, int k0, int kc, gm_tile_scratch *s) {
    const gm_unpack_info *u = gm_unpack_info_get(t);
    if (u->group == 0) return pack_float(f, t, w, row_bytes, n_row, k0, kc, s);
    for (int h = 0; h < GM_TILE_ROWS; h += GM_TILE_PACK) {
        if (f->pack[t] && h + GM_TILE_PACK <= n_row)
            f->pack[t](w + (size_t)h * row_bytes, row_bytes, k0, kc, s->q + 4 * h, s->scale + h,
                       s->min + h);
        else pack_slowly(f, dot->unpack[t], u, w, row_bytes, h, n_row, k0, kc, s);
    }
    return (gm_panel){
        .info = u, .k0 = k0, .kc = kc, .q = s->q, .scale = s->scale, .min = s->min, .bf = s->bf};
}
