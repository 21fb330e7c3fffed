/* ops_ref.h: what the operations of kernels/ops.h mean, in double precision.
 *
 * Straight from the formulas and slow: the judge of every backend. Host arrays in, host arrays out;
 * shapes as in ops.h.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* out = x / rms(x) * w; w NULL: no weight */
static inline void ref_rms_norm(const float *x, const float *w, double eps, int n_tok, int n,
                                double *out) {
    for (int t = 0; t < n_tok; t++, x += n, out += n) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
        double r = 1.0 / sqrt(sum / n + eps);
        for (int i = 0; i < n; i++) out[i] = (double)x[i] * r * (w ? (double)w[i] : 1.0);
    }
}

/* Rotates pairs (i, i + d/2) of one head. */
static inline void ref_rope(double *x, const float *inv_freq, int d, int pos) {
    for (int i = 0; i < d / 2; i++) {
        double angle = pos * (double)inv_freq[i], c = cos(angle), s = sin(angle);
        double a = x[i], b = x[i + d / 2];
        x[i] = a * c - b * s;
        x[i + d / 2] = b * c + a * s;
    }
}

static inline double ref_gelu_tanh(double x) {
    double u = sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-2.0 * u)); /* the same as 0.5 x (1 + tanh u), without cancelling */
}

/* Keys and values of position p are rows p of k and v: [n_pos, n_kv, d]. */
static inline void ref_attention(const float *q, const float *k, const float *v, int n_tok,
                                 int n_head, int n_kv, int d, const int32_t *lo, const int32_t *hi,
                                 double *out) {
    for (int t = 0; t < n_tok; t++)
        for (int h = 0; h < n_head; h++) {
            int g = h / (n_head / n_kv), n = hi[t] - lo[t] + 1;
            const float *row = q + ((size_t)t * n_head + h) * d;
            double *o = out + ((size_t)t * n_head + h) * d, top = -INFINITY, sum = 0;
            double *s = malloc((size_t)n * sizeof *s);
            for (int j = 0; j < n; j++) {
                const float *key = k + ((size_t)(lo[t] + j) * n_kv + g) * d;
                s[j] = 0;
                for (int i = 0; i < d; i++) s[j] += (double)row[i] * (double)key[i];
                top = fmax(top, s[j]);
            }
            for (int i = 0; i < d; i++) o[i] = 0;
            for (int j = 0; j < n; j++) {
                const float *value = v + ((size_t)(lo[t] + j) * n_kv + g) * d;
                double w = exp(s[j] - top);
                sum += w;
                for (int i = 0; i < d; i++) o[i] += w * (double)value[i];
            }
            for (int i = 0; i < d; i++) o[i] /= sum;
            free(s);
        }
}
