/* swift.c: the small steps of training in one pass over memory each, for swift.py.
 *
 * Rows are tokens or heads; all matrices are dense, row-major float32. Nothing here allocates or
 * has state. Products of matrices are left to the BLAS of PyTorch. Compiled by the chain for the
 * machine that trains (-O3 -march=native -ffast-math), so plain loops become vectors.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* exp for |x| < 87: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], relative error 2e-7. */
static inline float quick_exp(float x) {
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t i;
        float f;
    } scale = {.i = ((int32_t)n + 127) << 23};
    return p * scale.f;
}

static inline float quick_tanh(float x) {
    return 1.0f - 2.0f / (quick_exp(2.0f * x) + 1.0f);
}

/* ---- norms: x / rms(x) * weight; weight may be NULL, inverse is 1 / rms ---------------------- */

static float inverse_rms(const float *x, long w, float eps) {
    float sum = 0;
    for (long i = 0; i < w; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)w + eps);
}

void norm_forward(const float *x, const float *weight, float *out, float *inverse, long n, long w,
                  float eps) {
    for (long r = 0; r < n; r++, x += w, out += w) {
        float k = inverse[r] = inverse_rms(x, w, eps);
        for (long i = 0; i < w; i++) out[i] = x[i] * k * weight[i];
    }
}

/* out = (before + norm(x)) * scale: how a branch joins the residual stream. */
void join_forward(const float *x, const float *weight, const float *before, float *out,
                  float *inverse, long n, long w, float eps, float scale) {
    for (long r = 0; r < n; r++, x += w, before += w, out += w) {
        float k = inverse[r] = inverse_rms(x, w, eps);
        for (long i = 0; i < w; i++) out[i] = (before[i] + x[i] * k * weight[i]) * scale;
    }
}

/* The gradient of one row: k * (p - unit * mean(p * unit)) with p = g * weight, unit = x * k. */
static inline void norm_row(const float *g, const float *x, float k, const float *weight, float *dx,
                            float *dweight, long w, float scale, int add) {
    float along = 0;
    for (long i = 0; i < w; i++) {
        float v = g[i] * scale * x[i] * k;
        along += v * weight[i];
        dweight[i] += v;
    }
    along /= (float)w;
    if (add) {
        for (long i = 0; i < w; i++) dx[i] += k * (g[i] * scale * weight[i] - x[i] * k * along);
    } else {
        for (long i = 0; i < w; i++) dx[i] = k * (g[i] * scale * weight[i] - x[i] * k * along);
    }
}

/* dx is set, or with `add` added to; dweight is always added to. The gradient counts `scale`
 * times. */
void norm_backward(const float *g, const float *x, const float *inverse, const float *weight,
                   float *dx, float *dweight, long n, long w, float scale, int add) {
    for (long r = 0; r < n; r++)
        norm_row(g + r * w, x + r * w, inverse[r], weight, dx + r * w, dweight, w, scale, add);
}

/* ---- heads: norms and rotation of queries, keys and values ----------------------------------- */

typedef struct {
    long batch, n;     /* sequences, positions of each */
    long heads, kv, d; /* query heads, key/value heads, their size */
    long columns;      /* of a row of the projection: heads, kv and, unless shared, kv times d */
    long shared;       /* values are the unweighted keys before the rotation */
} shape;

/* (a, b) -> (a cos - b sin, b cos + a sin) for each pair i, i + d/2; sign -1 turns back. */
static inline void turn(float *x, const float *cosine, const float *sine, long d, float sign) {
    long half = d / 2;
    for (long i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i] * sign;
        x[i + half] = b * cosine[i] + a * sine[i] * sign;
    }
}

/* projected: [batch * n, columns]; cosine, sine: [n, d / 2]
 * q: [batch * kv, n, heads / kv, d]; k, v: [batch * kv, n, d]; inverse: [batch * n, heads + 2 * kv]
 */
void heads_forward(const shape *s, const float *projected, const float *q_weight,
                   const float *k_weight, const float *cosine, const float *sine, float *q,
                   float *k, float *v, float *inverse, float eps) {
    long groups = s->heads / s->kv, d = s->d;
    for (long b = 0; b < s->batch; b++) {
        for (long t = 0; t < s->n; t++) {
            const float *row = projected + (b * s->n + t) * s->columns;
            float *inv = inverse + (b * s->n + t) * (s->heads + 2 * s->kv);
            const float *c = cosine + t * (d / 2), *si = sine + t * (d / 2);
            for (long h = 0; h < s->heads; h++, row += d) {
                float *to = q + (((b * s->kv + h / groups) * s->n + t) * groups + h % groups) * d;
                norm_forward(row, q_weight, to, inv + h, 1, d, eps);
                turn(to, c, si, d, 1.0f);
            }
            for (long h = 0; h < s->kv; h++) {
                const float *key = row + h * d, *value = s->shared ? key : key + s->kv * d;
                float *to = k + ((b * s->kv + h) * s->n + t) * d;
                float *to_v = v + ((b * s->kv + h) * s->n + t) * d;
                norm_forward(key, k_weight, to, inv + s->heads + h, 1, d, eps);
                turn(to, c, si, d, 1.0f);
                float f = inv[s->heads + s->kv + h] = inverse_rms(value, d, eps);
                for (long i = 0; i < d; i++) to_v[i] = value[i] * f;
            }
        }
    }
}

/* dq, dk are turned back in place. ones: d ones. scratch: d floats. */
void heads_backward(const shape *s, const float *projected, const float *q_weight,
                    const float *k_weight, const float *cosine, const float *sine, float *dq,
                    float *dk, const float *dv, const float *inverse, float *dprojected,
                    float *dq_weight, float *dk_weight, const float *ones, float *scratch) {
    long groups = s->heads / s->kv, d = s->d;
    for (long b = 0; b < s->batch; b++) {
        for (long t = 0; t < s->n; t++) {
            const float *row = projected + (b * s->n + t) * s->columns;
            float *out = dprojected + (b * s->n + t) * s->columns;
            const float *inv = inverse + (b * s->n + t) * (s->heads + 2 * s->kv);
            const float *c = cosine + t * (d / 2), *si = sine + t * (d / 2);
            for (long h = 0; h < s->heads; h++, row += d, out += d) {
                float *g = dq + (((b * s->kv + h / groups) * s->n + t) * groups + h % groups) * d;
                turn(g, c, si, d, -1.0f);
                norm_row(g, row, inv[h], q_weight, out, dq_weight, d, 1.0f, 0);
            }
            for (long h = 0; h < s->kv; h++) {
                float *g = dk + ((b * s->kv + h) * s->n + t) * d;
                const float *gv = dv + ((b * s->kv + h) * s->n + t) * d;
                long value = s->shared ? h * d : (s->kv + h) * d;
                turn(g, c, si, d, -1.0f);
                norm_row(g, row + h * d, inv[s->heads + h], k_weight, out + h * d, dk_weight, d,
                         1.0f, 0);
                norm_row(gv, row + value, inv[s->heads + s->kv + h], ones, out + value, scratch, d,
                         1.0f, s->shared != 0);
            }
        }
    }
}

/* ---- attention: rows of scores, of which each sees the keys from low to high --------------------
 */

/* scores: [batch * kv, rows * groups, keys]; low, high: [batch, n], of the positions from `first`
 * on; keys are counted from `base`. Keys in [gap, gap_end) are not seen, if these are given: they are
 * in [low, high). Softmax in place, zero elsewhere. */
void softmax_forward(float *scores, const int32_t *low, const int32_t *high, const int32_t *gap,
                     const int32_t *gap_end, long batch, long kv, long rows, long groups, long keys,
                     long n, long first, long base) {
    for (long b = 0; b < batch * kv; b++) {
        for (long r = 0; r < rows; r++) {
            long at = b / kv * n + first + r;
            long lo = low[at] - base, hi = high[at] - base;
            for (long j = 0; j < groups; j++, scores += keys) {
                if (gap)
                    for (long i = gap[at] - base; i < gap_end[at] - base; i++) scores[i] = -1e30f;
                float most = scores[lo], sum = 0;
                for (long i = lo; i < hi; i++) most = scores[i] > most ? scores[i] : most;
                for (long i = lo; i < hi; i++) {
                    float e = quick_exp(scores[i] - most);
                    scores[i] = e;
                    sum += e;
                }
                sum = 1.0f / sum;
                for (long i = lo; i < hi; i++) scores[i] *= sum;
                if (lo > 0) memset(scores, 0, (size_t)lo * sizeof *scores);
                if (hi < keys) memset(scores + hi, 0, (size_t)(keys - hi) * sizeof *scores);
            }
        }
    }
}

/* g becomes the gradient of the scores: p * (g - sum(g * p)). */
void softmax_backward(float *g, const float *p, long rows, long keys) {
    for (long r = 0; r < rows; r++, g += keys, p += keys) {
        float sum = 0;
        for (long i = 0; i < keys; i++) sum += g[i] * p[i];
        for (long i = 0; i < keys; i++) g[i] = p[i] * (g[i] - sum);
    }
}

/* ---- feed-forward: gelu_tanh(gate) * up, both in one row of 2 * w ------------------------------
 */

static const float GELU_K = 0.79788456f, GELU_C = 0.044715f; /* sqrt(2 / pi) */

void geglu_forward(const float *both, float *out, long n, long w) {
    for (long r = 0; r < n; r++, both += 2 * w, out += w) {
        for (long i = 0; i < w; i++) {
            float x = both[i];
            float t = quick_tanh(GELU_K * (x + GELU_C * x * x * x));
            out[i] = 0.5f * x * (1.0f + t) * both[w + i];
        }
    }
}

void geglu_backward(const float *g, const float *both, float *dboth, long n, long w) {
    for (long r = 0; r < n; r++, g += w, both += 2 * w, dboth += 2 * w) {
        for (long i = 0; i < w; i++) {
            float x = both[i];
            float t = quick_tanh(GELU_K * (x + GELU_C * x * x * x));
            float slope = 0.5f * (1.0f + t) +
                          0.5f * x * (1.0f - t * t) * GELU_K * (1.0f + 3.0f * GELU_C * x * x);
            dboth[i] = g[i] * both[w + i] * slope;
            dboth[w + i] = g[i] * 0.5f * x * (1.0f + t);
        }
    }
}

/* ---- loss -------------------------------------------------------------------------------------
 */

/* Cross entropy behind a soft cap. logits: [n, w], replaced by the gradient of the sum of losses.
 */
void loss_in_place(float *logits, const int64_t *target, float *losses, long n, long w, float cap) {
    float back = 1.0f / cap;
    for (long r = 0; r < n; r++, logits += w) {
        float sum = 0;
        /* Capped logits are at most `cap`, so no exponential can overflow. */
        for (long i = 0; i < w; i++) {
            float t = quick_tanh(logits[i] * back);
            logits[i] = t;
            sum += quick_exp(cap * (t - 1.0f));
        }
        float goal = logits[target[r]];
        losses[r] = logf(sum) - cap * (goal - 1.0f);
        float share = 1.0f / sum;
        for (long i = 0; i < w; i++) {
            float t = logits[i];
            logits[i] = quick_exp(cap * (t - 1.0f)) * share * (1.0f - t * t);
        }
        logits[target[r]] -= 1.0f - goal * goal;
    }
}
