/* rows.c: the readable reference of the row kernels, and the choice of variants.
 *
 * Also what runs where there is nothing better, so loops are plain enough for a compiler to
 * vectorise.
 */
#include "kernels/cpu/rows.h"

#include <math.h>
#include "tensor/quant.h"

static double sum_squares_ref(const float *x, int n) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static void scale_ref(float *out, const float *x, const float *w, float r, int n) {
    if (w)
        for (int i = 0; i < n; i++) out[i] = x[i] * r * w[i];
    else
        for (int i = 0; i < n; i++) out[i] = x[i] * r;
}

static void add_scaled_ref(float *h, const float *x, const float *w, float r, float s, int n) {
    for (int i = 0; i < n; i++) h[i] = (h[i] + x[i] * r * w[i]) * s;
}

static void rotate_ref(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half], c = cosine[i], s = sine[i];
        x[i] = a * c - b * s;
        x[i + half] = b * c + a * s;
    }
}

/* 0.5 x (1 + tanh u) is x / (1 + exp(-2u)), which keeps its digits where tanh is close to -1 and
 * the sum would cancel. An infinite exponential gives the zero that it should. */
static void geglu_ref(float *out, const float *gate, const float *up, int n) {
    const float two_root = 1.59576912160573f; /* 2 sqrt(2 / pi) */
    for (int i = 0; i < n; i++) {
        float x = gate[i];
        float two_u = two_root * (x + 0.044715f * x * x * x);
        out[i] = x / (1.0f + expf(-two_u)) * up[i];
    }
}

static void softcap_ref(float *x, float cap, int n) {
    for (int i = 0; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

static float exp_sum_ref(float *x, float top, int n) {
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        x[i] = expf(x[i] - top);
        sum += x[i];
    }
    return sum;
}

static float max_ref(const float *x, int n) {
    float top = x[0];
    for (int i = 1; i < n; i++)
        if (x[i] > top) top = x[i];
    return top;
}

static void to_f16_ref(uint16_t *out, const float *x, int n) { gm_quant_row(GM_F16, x, out, n); }

static void from_f16_ref(float *out, const uint16_t *x, int n) {
    gm_dequant_row(GM_F16, x, out, n);
}

static void to_q8_0_ref(void *out, const float *x, int n) { gm_quant_row(GM_Q8_0, x, out, n); }

static void from_q8_0_ref(float *out, const void *x, int n) { gm_dequant_row(GM_Q8_0, x, out, n); }

void gm_rows_fill(gm_row_fns *f, gm_cpu_level level) {
    *f = (gm_row_fns){
        .sum_squares = sum_squares_ref,
        .scale = scale_ref,
        .add_scaled = add_scaled_ref,
        .rotate = rotate_ref,
        .geglu = geglu_ref,
        .softcap = softcap_ref,
        .exp_sum = exp_sum_ref,
        .max = max_ref,
        .to_f16 = to_f16_ref,
        .from_f16 = from_f16_ref,
        .to_q8_0 = to_q8_0_ref,
        .from_q8_0 = from_q8_0_ref,
    };
#ifdef __x86_64__
    if (gm_cpu_uses(level, GM_CPU_AVX2)) gm_rows_fill_avx2(f);
    if (gm_cpu_uses(level, GM_CPU_AVX512)) gm_rows_fill_avx512(f);
#elif defined(__aarch64__)
    if (gm_cpu_uses(level, GM_CPU_NEON)) gm_rows_fill_neon(f);
#else
    (void)level;
#endif
}
