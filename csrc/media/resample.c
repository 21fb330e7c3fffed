/* resample.c: polyphase windowed-sinc resampling.
 *
 * 16000 / rate = up / down in lowest terms. Output i lies at input position i * down / up, whose
 * fraction takes only `up` values, so the filter is a table of `up` phases, each made when it is
 * first met: of an odd rate there are more than a short sound has samples. The cut-off is the lower
 * of both Nyquist frequencies, the window is Kaiser's (Smith, "Digital Audio Resampling").
 */
#include "media/resample.h"

#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum { ZERO_CROSSINGS = 32 };
static const double KAISER_BETA = 9.0; /* about 90 dB of stop band */
static const double ROLL_OFF = 0.95;   /* pass band edge, share of the lower Nyquist frequency */

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b) {
        const uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Modified Bessel function of the first kind, order 0, by its power series. */
static double bessel_i0(double x) {
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 64 && term > sum * 1e-17; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

/* Filter value at distance x (in input samples) from its centre. */
static double tap(double x, double cutoff, double half, double i0_beta) {
    if (fabs(x) >= half) return 0.0;
    const double t = M_PI * x * cutoff;
    const double sinc = fabs(t) < 1e-9 ? 1.0 : sin(t) / t;
    const double r = x / half;
    return cutoff * sinc * bessel_i0(KAISER_BETA * sqrt(1.0 - r * r)) / i0_beta;
}

struct gm_resampler {
    uint64_t up, down;
    double cutoff, half, i0_beta;
    int32_t reach; /* inputs on either side of the centre */
    float *table;  /* [up, 2 * reach + 1]; NULL when nothing is to be done */
    bool *made;    /* [up]: which rows of it there are */
    double *taps;  /* [2 * reach + 1] */
};

static int make_table(gm_resampler *r) {
    r->cutoff = ROLL_OFF * (r->up < r->down ? (double)r->up / (double)r->down : 1.0);
    r->half = ZERO_CROSSINGS / r->cutoff;
    r->i0_beta = bessel_i0(KAISER_BETA);
    r->reach = (int32_t)ceil(r->half);
    const size_t width = (size_t)(2 * r->reach + 1);
    r->table = gm_malloc((size_t)r->up * width, sizeof *r->table);
    r->made = gm_calloc((size_t)r->up, sizeof *r->made);
    r->taps = gm_malloc(width, sizeof *r->taps);
    return r->table && r->made && r->taps ? 0 : GM_ENOMEM;
}

/* The filter of a phase: [2 * reach + 1]. */
static const float *row_of(gm_resampler *r, uint64_t phase) {
    const int32_t reach = r->reach;
    float *row = r->table + phase * (size_t)(2 * reach + 1);
    if (r->made[phase]) return row;
    const double at = (double)phase / (double)r->up;
    double sum = 0.0;
    for (int32_t j = -reach; j <= reach; j++)
        sum += r->taps[j + reach] = tap(j - at, r->cutoff, r->half, r->i0_beta);
    /* Each phase passes a constant unchanged. */
    for (int32_t j = -reach; j <= reach; j++) row[j + reach] = (float)(r->taps[j + reach] / sum);
    r->made[phase] = true;
    return row;
}

int gm_resampler_create(gm_resampler **out, uint32_t rate) {
    *out = NULL;
    if (rate < GM_SOUND_MIN_RATE || rate > GM_SOUND_MAX_RATE) return GM_EINVAL;
    gm_resampler *r = gm_calloc(1, sizeof *r);
    if (!r) return GM_ENOMEM;
    const uint32_t g = gcd(GM_SAMPLE_RATE, rate);
    r->up = GM_SAMPLE_RATE / g;
    r->down = rate / g;
    const int rc = r->up == r->down ? 0 : make_table(r);
    if (rc) gm_resampler_destroy(&r);
    *out = r;
    return rc;
}

void gm_resampler_destroy(gm_resampler **r) {
    if (!r || !*r) return;
    gm_free((*r)->table);
    gm_free((*r)->made);
    gm_free((*r)->taps);
    gm_free(*r);
    *r = NULL;
}

size_t gm_resampler_ready(const gm_resampler *r, size_t n, bool ended) {
    if (!ended && r->table) n = n > (size_t)r->reach ? n - (size_t)r->reach : 0;
    return (size_t)(((uint64_t)n * r->up + r->down - 1) / r->down);
}

int gm_resampler_run(gm_resampler *r, const float *in, size_t n, size_t from, size_t to, float *out,
                     const gm_cancel *cancel) {
    if (!r->table) {
        memcpy(out, in + from, (to - from) * sizeof *out);
        return 0;
    }
    const int64_t reach = r->reach;
    for (uint64_t i = from; i < to; i++) {
        const int64_t center = (int64_t)(i * r->down / r->up);
        const uint64_t phase = i * r->down % r->up;
        if ((!r->made[phase] || (i & 0xffff) == 0) && gm_cancelled(cancel)) return GM_ECANCELLED;
        const float *row = row_of(r, phase);
        const int64_t lo = center - reach > 0 ? center - reach : 0;
        const int64_t hi = center + reach < (int64_t)n - 1 ? center + reach : (int64_t)n - 1;
        float sum = 0.0f;
        for (int64_t j = lo; j <= hi; j++) sum += in[j] * row[j - center + reach];
        out[i - from] = sum;
    }
    return 0;
}

int gm_resample(const float *in, size_t n, uint32_t rate, gm_samples *out,
                const gm_cancel *cancel) {
    gm_resampler *r = NULL;
    memset(out, 0, sizeof *out);
    if (n > SIZE_MAX / GM_SAMPLE_RATE) return GM_EINVAL;
    int rc = gm_resampler_create(&r, rate);
    if (rc) return rc;
    const size_t n_out = gm_resampler_ready(r, n, true);
    out->v = gm_malloc(n_out ? n_out : 1, sizeof *out->v);
    out->n = n_out;
    rc = out->v ? gm_resampler_run(r, in, n, 0, n_out, out->v, cancel) : GM_ENOMEM;
    gm_resampler_destroy(&r);
    if (rc) {
        gm_free(out->v);
        memset(out, 0, sizeof *out);
    }
    return rc;
}
