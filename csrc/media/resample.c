/* resample.c: polyphase windowed-sinc resampling.
 *
 * 16000 / rate = up / down in lowest terms. Output i lies at input position i * down / up, whose
 * fraction takes only `up` values, so the filter is a table of `up` phases. The cut-off is the
 * lower of both Nyquist frequencies, the window is Kaiser's (Smith, "Digital Audio Resampling").
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
static double tap(double x, double cutoff, double half) {
    if (fabs(x) >= half) return 0.0;
    const double t = M_PI * x * cutoff;
    const double sinc = fabs(t) < 1e-9 ? 1.0 : sin(t) / t;
    const double r = x / half;
    return cutoff * sinc * bessel_i0(KAISER_BETA * sqrt(1.0 - r * r)) / bessel_i0(KAISER_BETA);
}

int gm_resample(const float *in, size_t n, uint32_t rate, gm_samples *out, const gm_cancel *cancel) {
    memset(out, 0, sizeof *out);
    if (rate < 1000 || rate > 768000 || n > SIZE_MAX / GM_SAMPLE_RATE) return GM_EINVAL;
    const uint32_t g = gcd(GM_SAMPLE_RATE, rate);
    const uint64_t up = GM_SAMPLE_RATE / g, down = rate / g;
    const uint64_t n_out = (n * up + down - 1) / down;
    out->v = gm_malloc(n_out ? n_out : 1, sizeof *out->v);
    if (!out->v) return GM_ENOMEM;
    out->n = n_out;
    if (up == down) {
        memcpy(out->v, in, n * sizeof *in);
        return 0;
    }
    const double cutoff = ROLL_OFF * (up < down ? (double)up / (double)down : 1.0);
    const double half = ZERO_CROSSINGS / cutoff;
    const int32_t reach = (int32_t)ceil(half);
    const size_t width = (size_t)(2 * reach + 1);
    float *table = gm_malloc((size_t)up * width, sizeof *table); /* [up, width] */
    int rc = table ? 0 : GM_ENOMEM;
    for (uint64_t phase = 0; !rc && phase < up; phase++) {
        float *row = table + phase * width;
        double sum = 0.0;
        for (int32_t j = -reach; j <= reach; j++)
            sum += tap(j - (double)phase / (double)up, cutoff, half);
        /* Each phase passes a constant unchanged. */
        for (int32_t j = -reach; j <= reach; j++)
            row[j + reach] = (float)(tap(j - (double)phase / (double)up, cutoff, half) / sum);
        if (gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    for (uint64_t i = 0; !rc && i < n_out; i++) {
        const int64_t center = (int64_t)(i * down / up);
        const float *row = table + (i * down % up) * width;
        const int64_t lo = center - reach > 0 ? center - reach : 0;
        const int64_t hi = center + reach < (int64_t)n - 1 ? center + reach : (int64_t)n - 1;
        float sum = 0.0f;
        for (int64_t j = lo; j <= hi; j++) sum += in[j] * row[j - center + reach];
        out->v[i] = sum;
        if ((i & 0xffff) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    gm_free(table);
    if (rc) {
        gm_free(out->v);
        memset(out, 0, sizeof *out);
    }
    return rc;
}
