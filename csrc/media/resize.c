/* resize.c: separable bicubic on interleaved RGB bytes; see resize.h for what it must equal. */
#include "media/resize.h"

#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum { FIXED_BITS = 32 - 8 - 2 }; /* 8 bits of pixel and 2 of overshoot leave 22 of 32 */

/* For each output index: the first input index, how many inputs, and their weights. */
typedef struct {
    int32_t *first, *count; /* [n_out] */
    int32_t *weight;        /* [n_out, width] fixed point */
    int32_t width;          /* weights per output */
} filter;

static void filter_finish(filter *f) {
    gm_free(f->first);
    gm_free(f->count);
    gm_free(f->weight);
    memset(f, 0, sizeof *f);
}

/* Keys' cubic with a = -0.5. */
static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static int filter_init(filter *f, int32_t n_in, int32_t n_out) {
    const double scale = (double)n_in / n_out;
    const double stretch = scale < 1.0 ? 1.0 : scale; /* the kernel widens only when shrinking */
    const double support = 2.0 * stretch;
    f->width = (int32_t)ceil(support) * 2 + 1;
    f->first = gm_calloc((size_t)n_out, sizeof *f->first);
    f->count = gm_calloc((size_t)n_out, sizeof *f->count);
    size_t n_weight;
    if (gm_mul_size((size_t)n_out, (size_t)f->width, &n_weight))
        f->weight = gm_calloc(n_weight, sizeof *f->weight);
    double *w = gm_calloc((size_t)f->width, sizeof *w);
    if (!f->first || !f->count || !f->weight || !w) {
        gm_free(w);
        filter_finish(f);
        return GM_ENOMEM;
    }
    for (int32_t i = 0; i < n_out; i++) {
        const double center = (i + 0.5) * scale;
        int32_t lo = (int32_t)(center - support + 0.5);
        int32_t hi = (int32_t)(center + support + 0.5);
        if (lo < 0) lo = 0;
        if (hi > n_in) hi = n_in;
        double sum = 0.0;
        for (int32_t j = lo; j < hi; j++) {
            w[j - lo] = cubic((j - center + 0.5) / stretch);
            sum += w[j - lo];
        }
        f->first[i] = lo;
        f->count[i] = hi - lo;
        for (int32_t j = 0; j < hi - lo; j++) {
            const double v = (sum != 0.0 ? w[j] / sum : 0.0) * (1 << FIXED_BITS);
            f->weight[(size_t)i * (size_t)f->width + (size_t)j] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    gm_free(w);
    return 0;
}

static inline uint8_t to_byte(int32_t fixed) {
    const int32_t v = fixed >> FIXED_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void row_horizontal(const filter *f, const uint8_t *src, uint8_t *dst, int32_t n_out) {
    for (int32_t i = 0; i < n_out; i++) {
        const int32_t *w = f->weight + (size_t)i * (size_t)f->width;
        const uint8_t *p = src + (size_t)f->first[i] * 3;
        int32_t r = 1 << (FIXED_BITS - 1), g = r, b = r;
        for (int32_t j = 0; j < f->count[i]; j++, p += 3) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        dst[3 * i] = to_byte(r);
        dst[3 * i + 1] = to_byte(g);
        dst[3 * i + 2] = to_byte(b);
    }
}

/* acc: scratch [stride]. Row by row, so that the inner loop runs over neighbouring bytes. */
static void row_vertical(const filter *f, const uint8_t *src, size_t stride, uint8_t *dst,
                         int32_t i, int32_t *acc) {
    const int32_t *w = f->weight + (size_t)i * (size_t)f->width;
    for (size_t x = 0; x < stride; x++) acc[x] = 1 << (FIXED_BITS - 1);
    for (int32_t j = 0; j < f->count[i]; j++) {
        const uint8_t *row = src + (size_t)(f->first[i] + j) * stride;
        const int32_t wj = w[j];
        for (size_t x = 0; x < stride; x++) acc[x] += row[x] * wj;
    }
    for (size_t x = 0; x < stride; x++) dst[x] = to_byte(acc[x]);
}

/* A size that stays needs no pass: filtering with weight 1 would give the same bytes. */
int gm_resize_rgb(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                  int32_t out_h, const gm_cancel *cancel) {
    filter fx = {0}, fy = {0};
    const size_t stride = (size_t)out_w * 3;
    uint8_t *wide = NULL; /* [h, out_w, 3] after the horizontal pass */
    int32_t *acc = NULL;
    int rc = 0;
    const uint8_t *mid = src;

    if (out_w != w) {
        size_t n;
        if (!gm_mul_size(stride, (size_t)h, &n) || !(wide = gm_malloc(n, 1))) rc = GM_ENOMEM;
        if (!rc) rc = filter_init(&fx, w, out_w);
        for (int32_t y = 0; !rc && y < h; y++) {
            row_horizontal(&fx, src + (size_t)y * (size_t)w * 3, wide + (size_t)y * stride, out_w);
            if ((y & 63) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
        }
        mid = wide;
    }
    if (!rc && out_h == h) {
        memcpy(dst, mid, stride * (size_t)h);
    } else if (!rc) {
        acc = gm_malloc(stride, sizeof *acc);
        rc = acc ? filter_init(&fy, h, out_h) : GM_ENOMEM;
        for (int32_t y = 0; !rc && y < out_h; y++) {
            row_vertical(&fy, mid, stride, dst + (size_t)y * stride, y, acc);
            if ((y & 63) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
        }
    }
    filter_finish(&fx);
    filter_finish(&fy);
    gm_free(wide);
    gm_free(acc);
    return rc;
}
