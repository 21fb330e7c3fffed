/* swift.c: the small steps of training in one pass over memory each, for swift.py.
 *
 * Rows are tokens or heads; all matrices are dense and row-major. Nothing here allocates or
 * has state. Products of matrices are left to the BLAS of PyTorch. Compiled by the chain for the
 * machine that trains (-O3 -march=native -ffast-math), so plain loops become vectors; twice, with
 * HALF for processors that multiply bfloat16. The residual stream, its gradient, scores and logits
 * are float32 in both: only what goes into a product, or comes out of one, is `num`.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WIDEST = 4096 }; /* row of `num` that is not taken one by one; swift.py checks it */

#ifdef HALF
typedef uint16_t num; /* bfloat16: the upper half of a float32 */

static inline float get(num x) {
    union {
        uint32_t i;
        float f;
    } u = {.i = (uint32_t)x << 16};
    return u.f;
}

/* To the nearest, of two equally near ones to the even one. */
static inline num put(float x) {
    union {
        float f;
        uint32_t i;
    } u = {.f = x};
    return (num)((u.i + 0x7fff + (u.i >> 16 & 1)) >> 16);
}
#else
typedef float num;

static inline float get(num x) { return x; }

static inline num put(float x) { return x; }
#endif

/* A row as floats: itself, or a copy in `room`. */
static inline float *wide(num *x, long w, float *room) {
#ifdef HALF
    for (long i = 0; i < w; i++) room[i] = get(x[i]);
    return room;
#else
    (void)w, (void)room;
    return x;
#endif
}

static inline const float *wide_const(const num *x, long w, float *room) {
    return wide((num *)x, w, room);
}

/* Where a row is worked out that `narrow` puts into x. */
static inline float *draft(num *x, float *room) {
#ifdef HALF
    (void)x;
    return room;
#else
    (void)room;
    return x;
#endif
}

static inline void narrow(num *x, const float *from, long w) {
#ifdef HALF
    for (long i = 0; i < w; i++) x[i] = put(from[i]);
#else
    (void)x, (void)from, (void)w;
#endif
}

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

static inline float quick_tanh(float x) { return 1.0f - 2.0f / (quick_exp(2.0f * x) + 1.0f); }

/* ---- norms: x / rms(x) * weight; weight may be NULL, inverse is 1 / rms ---------------------- */

static float inverse_rms(const float *x, long w, float eps) {
    float sum = 0;
    for (long i = 0; i < w; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)w + eps);
}

static inline void norm_row(const float *x, const float *weight, float *out, float *inverse, long w,
                            float eps) {
    float k = *inverse = inverse_rms(x, w, eps);
    for (long i = 0; i < w; i++) out[i] = x[i] * k * weight[i];
}

void norm_forward(const float *x, const float *weight, num *out, float *inverse, long n, long w,
                  float eps) {
    float room[WIDEST];
    for (long r = 0; r < n; r++, x += w, out += w) {
        float *to = draft(out, room);
        norm_row(x, weight, to, inverse + r, w, eps);
        narrow(out, to, w);
    }
}

void last_norm_forward(const float *x, const float *weight, float *out, float *inverse, long n,
                       long w, float eps) {
    for (long r = 0; r < n; r++) norm_row(x + r * w, weight, out + r * w, inverse + r, w, eps);
}

/* out = (before + norm(x)) * scale: how a branch joins the residual stream. */
void join_forward(const num *x, const float *weight, const float *before, float *out,
                  float *inverse, long n, long w, float eps, float scale) {
    float room[WIDEST];
    for (long r = 0; r < n; r++, x += w, before += w, out += w) {
        const float *from = wide_const(x, w, room);
        float k = inverse[r] = inverse_rms(from, w, eps);
        for (long i = 0; i < w; i++) out[i] = (before[i] + from[i] * k * weight[i]) * scale;
    }
}

/* The gradient of one row: k * (p - unit * mean(p * unit)) with p = g * weight, unit = x * k. */
static inline void slope_row(const float *g, const float *x, float k, const float *weight,
                             float *dx, float *dweight, long w, float scale, int add) {
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

/* Of the norm before a branch. dx and dweight are added to. */
void norm_backward(const num *g, const float *x, const float *inverse, const float *weight,
                   float *dx, float *dweight, long n, long w) {
    float room[WIDEST];
    for (long r = 0; r < n; r++)
        slope_row(wide_const(g + r * w, w, room), x + r * w, inverse[r], weight, dx + r * w,
                  dweight, w, 1.0f, 1);
}

/* Of the norm behind a branch, whose gradient counts `scale` times. dweight is added to. */
void join_backward(const float *g, const num *x, const float *inverse, const float *weight, num *dx,
                   float *dweight, long n, long w, float scale) {
    float room[WIDEST], out[WIDEST];
    for (long r = 0; r < n; r++, g += w, x += w, dx += w) {
        float *to = draft(dx, out);
        slope_row(g, wide_const(x, w, room), inverse[r], weight, to, dweight, w, scale, 0);
        narrow(dx, to, w);
    }
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
void heads_forward(const shape *s, const num *projected, const float *q_weight,
                   const float *k_weight, const float *cosine, const float *sine, float *q,
                   float *k, num *v, float *inverse, float eps) {
    long groups = s->heads / s->kv, d = s->d;
    float room[WIDEST];
    for (long b = 0; b < s->batch; b++) {
        for (long t = 0; t < s->n; t++) {
            const num *row = projected + (b * s->n + t) * s->columns;
            float *inv = inverse + (b * s->n + t) * (s->heads + 2 * s->kv);
            const float *c = cosine + t * (d / 2), *si = sine + t * (d / 2);
            for (long h = 0; h < s->heads; h++, row += d) {
                float *to = q + (((b * s->kv + h / groups) * s->n + t) * groups + h % groups) * d;
                norm_row(wide_const(row, d, room), q_weight, to, inv + h, d, eps);
                turn(to, c, si, d, 1.0f);
            }
            for (long h = 0; h < s->kv; h++) {
                const num *key = row + h * d, *value = s->shared ? key : key + s->kv * d;
                float *to = k + ((b * s->kv + h) * s->n + t) * d;
                num *to_v = v + ((b * s->kv + h) * s->n + t) * d;
                norm_row(wide_const(key, d, room), k_weight, to, inv + s->heads + h, d, eps);
                turn(to, c, si, d, 1.0f);
                const float *from = wide_const(value, d, room);
                float f = inv[s->heads + s->kv + h] = inverse_rms(from, d, eps);
                for (long i = 0; i < d; i++) to_v[i] = put(from[i] * f);
            }
        }
    }
}

/* dq, dk are turned back in place unless they are halves. ones: d ones. scratch: d floats. */
void heads_backward(const shape *s, const num *projected, const float *q_weight,
                    const float *k_weight, const float *cosine, const float *sine, num *dq,
                    float *dk, const float *dv, const float *inverse, num *dprojected,
                    float *dq_weight, float *dk_weight, const float *ones, float *scratch) {
    long groups = s->heads / s->kv, d = s->d;
    float room[WIDEST], slope[WIDEST], out_room[WIDEST];
    for (long b = 0; b < s->batch; b++) {
        for (long t = 0; t < s->n; t++) {
            const num *row = projected + (b * s->n + t) * s->columns;
            num *out = dprojected + (b * s->n + t) * s->columns;
            const float *inv = inverse + (b * s->n + t) * (s->heads + 2 * s->kv);
            const float *c = cosine + t * (d / 2), *si = sine + t * (d / 2);
            for (long h = 0; h < s->heads; h++, row += d, out += d) {
                long at = ((b * s->kv + h / groups) * s->n + t) * groups + h % groups;
                float *g = wide(dq + at * d, d, slope), *to = draft(out, out_room);
                turn(g, c, si, d, -1.0f);
                slope_row(g, wide_const(row, d, room), inv[h], q_weight, to, dq_weight, d, 1.0f, 0);
                narrow(out, to, d);
            }
            for (long h = 0; h < s->kv; h++) {
                float *g = dk + ((b * s->kv + h) * s->n + t) * d;
                const float *gv = dv + ((b * s->kv + h) * s->n + t) * d;
                const float *key = wide_const(row + h * d, d, room);
                num *out_k = out + h * d, *out_v = out + (s->kv + h) * d;
                float inv_v = inv[s->heads + s->kv + h], *to = draft(out_k, out_room);
                turn(g, c, si, d, -1.0f);
                slope_row(g, key, inv[s->heads + h], k_weight, to, dk_weight, d, 1.0f, 0);
                if (s->shared) slope_row(gv, key, inv_v, ones, to, scratch, d, 1.0f, 1);
                narrow(out_k, to, d);
                if (s->shared) continue;
                to = draft(out_v, out_room);
                slope_row(gv, wide_const(row + (s->kv + h) * d, d, room), inv_v, ones, to, scratch,
                          d, 1.0f, 0);
                narrow(out_v, to, d);
            }
        }
    }
}

/* ---- attention: rows of scores, of which each sees the keys from low to high --------------------
 */

/* scores: [batch * kv, rows * groups, keys]; low, high: [batch, n], of the positions from `first`
 * on; keys are counted from `base`. Keys in [gap, gap_end) are not seen, if these are given: they
 * are in [low, high). weights: their softmax, zero elsewhere; may be the scores themselves. */
void softmax_forward(float *scores, num *weights, const int32_t *low, const int32_t *high,
                     const int32_t *gap, const int32_t *gap_end, long batch, long kv, long rows,
                     long groups, long keys, long n, long first, long base) {
    for (long b = 0; b < batch * kv; b++) {
        for (long r = 0; r < rows; r++) {
            long at = b / kv * n + first + r;
            long lo = low[at] - base, hi = high[at] - base;
            for (long j = 0; j < groups; j++, scores += keys, weights += keys) {
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
                for (long i = lo; i < hi; i++) weights[i] = put(scores[i] * sum);
                if (lo > 0) memset(weights, 0, (size_t)lo * sizeof *weights);
                if (hi < keys) memset(weights + hi, 0, (size_t)(keys - hi) * sizeof *weights);
            }
        }
    }
}

/* g becomes the gradient of the scores: p * (g - sum(g * p)). */
void softmax_backward(num *g, const num *p, long rows, long keys) {
    for (long r = 0; r < rows; r++, g += keys, p += keys) {
        float sum = 0;
        for (long i = 0; i < keys; i++) sum += get(g[i]) * get(p[i]);
        for (long i = 0; i < keys; i++) g[i] = put(get(p[i]) * (get(g[i]) - sum));
    }
}

/* ---- feed-forward: gelu_tanh(gate) * up, both in one row of 2 * w ------------------------------
 */

static const float GELU_K = 0.79788456f, GELU_C = 0.044715f; /* sqrt(2 / pi) */

void geglu_forward(const num *both, num *out, long n, long w) {
    for (long r = 0; r < n; r++, both += 2 * w, out += w) {
        for (long i = 0; i < w; i++) {
            float x = get(both[i]);
            float t = quick_tanh(GELU_K * (x + GELU_C * x * x * x));
            out[i] = put(0.5f * x * (1.0f + t) * get(both[w + i]));
        }
    }
}

void geglu_backward(const num *g, const num *both, num *dboth, long n, long w) {
    for (long r = 0; r < n; r++, g += w, both += 2 * w, dboth += 2 * w) {
        for (long i = 0; i < w; i++) {
            float x = get(both[i]);
            float t = quick_tanh(GELU_K * (x + GELU_C * x * x * x));
            float slope = 0.5f * (1.0f + t) +
                          0.5f * x * (1.0f - t * t) * GELU_K * (1.0f + 3.0f * GELU_C * x * x);
            dboth[i] = put(get(g[i]) * get(both[w + i]) * slope);
            dboth[w + i] = put(get(g[i]) * 0.5f * x * (1.0f + t));
        }
    }
}

/* ---- loss -------------------------------------------------------------------------------------
 */

/* Cross entropy behind a soft cap. logits: [n, w], lost; slope: the gradient of the sum of the
 * losses, each counted `count` times; may be the logits themselves. */
void loss_of_rows(float *logits, num *slope, const int64_t *target, const float *count,
                  float *losses, long n, long w, float cap) {
    float back = 1.0f / cap;
    for (long r = 0; r < n; r++, logits += w, slope += w) {
        float sum = 0;
        /* Capped logits are at most `cap`, so no exponential can overflow. */
        for (long i = 0; i < w; i++) {
            float t = quick_tanh(logits[i] * back);
            logits[i] = t;
            sum += quick_exp(cap * (t - 1.0f));
        }
        float goal = logits[target[r]], share = count[r] / sum;
        losses[r] = logf(sum) - cap * (goal - 1.0f);
        for (long i = 0; i < w; i++) {
            float t = logits[i];
            slope[i] = put(quick_exp(cap * (t - 1.0f)) * share * (1.0f - t * t));
        }
        slope[target[r]] =
            put((quick_exp(cap * (goal - 1.0f)) * share - count[r]) * (1.0f - goal * goal));
    }
}
