/* resize.c: separable bicubic on interleaved RGB bytes; see resize.h for what it must equal. */
#include "media/resize.h"

#include <math.h>
#include <stdbool.h>
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

/* The two inner loops are written for the compiler's vectoriser: constant lengths, nothing but
 * integers. They are compiled twice, for any processor and for AVX2, and chosen at run time; the bits
 * are the same. */
#define ALWAYS static inline __attribute__((always_inline))

enum {
    ROWS = 8,     /* that the horizontal pass computes together: one vector for each colour */
    LANES = 3 * ROWS,
    COLUMNS = 32  /* that the vertical pass keeps in registers */
};

/* src: [n_in, 3, ROWS], dst: [n_out, 3, ROWS] */
ALWAYS void horizontal(const filter *f, const uint8_t *src, uint8_t *dst, int32_t n_out) {
    for (int32_t i = 0; i < n_out; i++, dst += LANES) {
        const int32_t *w = f->weight + (size_t)i * (size_t)f->width;
        const uint8_t *p = src + (size_t)f->first[i] * LANES;
        int32_t acc[LANES];
        for (int k = 0; k < LANES; k++) acc[k] = 1 << (FIXED_BITS - 1);
        for (int32_t j = 0; j < f->count[i]; j++, p += LANES) {
            const int32_t wj = w[j];
            for (int k = 0; k < LANES; k++) acc[k] += p[k] * wj;
        }
        for (int k = 0; k < LANES; k++) dst[k] = to_byte(acc[k]);
    }
}

/* Row i of the output from rows of the input. n: bytes of a row; may be read and written in whole
 * COLUMNS only, the rest singly. */
ALWAYS void vertical(const filter *f, const uint8_t *src, size_t n, uint8_t *dst, int32_t i) {
    const int32_t *w = f->weight + (size_t)i * (size_t)f->width;
    const int32_t count = f->count[i];
    const uint8_t *first = src + (size_t)f->first[i] * n;
    size_t x = 0;
    for (; x + COLUMNS <= n; x += COLUMNS) {
        int32_t acc[COLUMNS];
        for (int k = 0; k < COLUMNS; k++) acc[k] = 1 << (FIXED_BITS - 1);
        const uint8_t *p = first + x;
        for (int32_t j = 0; j < count; j++, p += n) {
            const int32_t wj = w[j];
            for (int k = 0; k < COLUMNS; k++) acc[k] += p[k] * wj;
        }
        for (int k = 0; k < COLUMNS; k++) dst[x + (size_t)k] = to_byte(acc[k]);
    }
    for (; x < n; x++) {
        int32_t acc = 1 << (FIXED_BITS - 1);
        for (int32_t j = 0; j < count; j++) acc += first[(size_t)j * n + x] * w[j];
        dst[x] = to_byte(acc);
    }
}

typedef void (*horizontal_fn)(const filter *f, const uint8_t *src, uint8_t *dst, int32_t n_out);
typedef void (*vertical_fn)(const filter *f, const uint8_t *src, size_t n, uint8_t *dst, int32_t i);

static void horizontal_any(const filter *f, const uint8_t *src, uint8_t *dst, int32_t n_out) {
    horizontal(f, src, dst, n_out);
}
static void vertical_any(const filter *f, const uint8_t *src, size_t n, uint8_t *dst, int32_t i) {
    vertical(f, src, n, dst, i);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void horizontal_avx2(const filter *f, const uint8_t *src,
                                                            uint8_t *dst, int32_t n_out) {
    horizontal(f, src, dst, n_out);
}
__attribute__((target("avx2"))) static void vertical_avx2(const filter *f, const uint8_t *src, size_t n,
                                                          uint8_t *dst, int32_t i) {
    vertical(f, src, n, dst, i);
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#else
#define horizontal_avx2 horizontal_any
#define vertical_avx2 vertical_any
static bool has_avx2(void) { return false; }
#endif

/* ROWS rows side by side for `horizontal`; rows beyond the last one repeat it. */
static void interleave(const uint8_t *src, size_t n, int32_t rows, uint8_t *out) {
    for (int32_t r = 0; r < ROWS; r++) {
        const uint8_t *p = src + (size_t)(r < rows ? r : rows - 1) * n;
        for (size_t x = 0; x < n; x++) out[x * ROWS + (size_t)r] = p[x];
    }
}

static void separate(const uint8_t *in, size_t n, int32_t rows, uint8_t *dst) {
    for (int32_t r = 0; r < rows; r++)
        for (size_t x = 0; x < n; x++) dst[(size_t)r * n + x] = in[x * ROWS + (size_t)r];
}

/* dst: [h, out_w, 3] */
static int pass_horizontal(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                           const gm_cancel *cancel) {
    const horizontal_fn run = has_avx2() ? horizontal_avx2 : horizontal_any;
    filter f = {0};
    uint8_t *in = gm_malloc((size_t)w, LANES), *out = gm_malloc((size_t)out_w, LANES);
    int rc = in && out ? filter_init(&f, w, out_w) : GM_ENOMEM;
    const size_t n_in = (size_t)w * 3, n_out = (size_t)out_w * 3;
    for (int32_t y = 0; !rc && y < h; y += ROWS) {
        const int32_t rows = h - y < ROWS ? h - y : ROWS;
        interleave(src + (size_t)y * n_in, n_in, rows, in);
        run(&f, in, out, out_w);
        separate(out, n_out, rows, dst + (size_t)y * n_out);
        if (gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    filter_finish(&f);
    gm_free(in);
    gm_free(out);
    return rc;
}

static int pass_vertical(const uint8_t *src, size_t n, int32_t h, uint8_t *dst, int32_t out_h,
                         const gm_cancel *cancel) {
    const vertical_fn run = has_avx2() ? vertical_avx2 : vertical_any;
    filter f = {0};
    int rc = filter_init(&f, h, out_h);
    for (int32_t y = 0; !rc && y < out_h; y++) {
        run(&f, src, n, dst + (size_t)y * n, y);
        if ((y & 63) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    filter_finish(&f);
    return rc;
}

/* A size that stays needs no pass: filtering with weight 1 would give the same bytes. */
int gm_resize_rgb(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                  int32_t out_h, const gm_cancel *cancel) {
    const size_t n = (size_t)out_w * 3;
    uint8_t *wide = NULL; /* [h, out_w, 3] after the horizontal pass */
    const uint8_t *mid = src;
    int rc = 0;
    if (out_w != w) {
        size_t bytes;
        mid = wide = gm_mul_size(n, (size_t)h, &bytes) ? gm_malloc(bytes, 1) : NULL;
        rc = wide ? pass_horizontal(src, w, h, wide, out_w, cancel) : GM_ENOMEM;
    }
    if (!rc && out_h == h) memcpy(dst, mid, n * (size_t)h);
    else if (!rc) rc = pass_vertical(mid, n, h, dst, out_h, cancel);
    gm_free(wide);
    return rc;
}
