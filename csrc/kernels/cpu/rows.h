/* rows.h: everything that works on one row of floats: norm, rotation, activations, conversions.
 *
 * A family of kernels: the table, its plain C reference (rows.c), and one file per instruction
 * set (x86/rows_avx2.c, ...). Rows have any length and any alignment of their element type; out may
 * be x where both are floats. Checked against the reference by tests/kernels/check_rows.c.
 */
#pragma once

#include <stdint.h>
#include "base/cpuid.h"

typedef struct gm_row_fns {
    /* Sum of x[i]^2. In double: activations reach magnitudes whose squares leave float32. */
    double (*sum_squares)(const float *x, int n);

    /* out = x * r * w; w NULL: no weight. */
    void (*scale)(float *out, const float *x, const float *w, float r, int n);

    /* h = (h + x * r * w) * s */
    void (*add_scaled)(float *h, const float *x, const float *w, float r, float s, int n);

    /* Turns the pairs (x[i], x[i + half]) by the angles whose cosines and sines are given. */
    void (*rotate)(float *x, const float *cosine, const float *sine, int half);

    /* out = gelu_tanh(gate) * up, within 2e-6 of its size and 1e-9 of up. */
    void (*geglu)(float *out, const float *gate, const float *up, int n);

    /* x = cap * tanh(x / cap) */
    void (*softcap)(float *x, float cap, int n);

    /* x[i] = exp(x[i] - top), returns their sum. x[i] <= top. */
    float (*exp_sum)(float *x, float top, int n);

    /* The largest x[i]; n >= 1. */
    float (*max)(const float *x, int n);

    /* Conversions of the cache. Rounding is that of tensor/quant.h, bit for bit; q8_0 rows are a
     * multiple of 32 long and need no alignment. */
    void (*to_f16)(uint16_t *out, const float *x, int n);
    void (*from_f16)(float *out, const uint16_t *x, int n);
    void (*to_q8_0)(void *out, const float *x, int n);
    void (*from_q8_0)(float *out, const void *x, int n);
} gm_row_fns;

/* The best variant of every function for a level that this CPU has. */
void gm_rows_fill(gm_row_fns *f, gm_cpu_level level);

/* Replace what an instruction set does better; called by gm_rows_fill, which owns the order. */
void gm_rows_fill_avx2(gm_row_fns *f);
void gm_rows_fill_avx512(gm_row_fns *f);
void gm_rows_fill_neon(gm_row_fns *f);
