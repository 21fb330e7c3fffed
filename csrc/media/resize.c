/* resize.c: separable bicubic on interleaved RGB bytes; see resize.h for what it must equal. */
#include "media/resize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/cpuid.h"
#include "base/err.h"
#include "base/mem.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

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
            f->weight[(size_t)i * (size_t)f->width + (size_t)j] =
                (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    gm_free(w);
    return 0;
}

static inline uint8_t to_byte(int32_t fixed) {
    const int32_t v = fixed >> FIXED_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* The plain loops are written for the compiler's vectoriser: constant lengths, nothing but
 * integers. With AVX2 there are others. The bits are the same. */
enum {
    ROWS = 8, /* that the plain horizontal pass computes together: one vector for each colour */
    LANES = 3 * ROWS,
    COLUMNS = 32 /* that the vertical pass keeps in registers */
};

/* src: [n_in, 3, ROWS], dst: [n_out, 3, ROWS] */
static void horizontal(const filter *f, const uint8_t *src, uint8_t *dst, int32_t n_out) {
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

/* Row i of the output from rows of the input, from byte x on. n: bytes of a row. */
static void vertical(const filter *f, const uint8_t *src, size_t n, uint8_t *dst, int32_t i,
                     size_t x) {
    const int32_t *w = f->weight + (size_t)i * (size_t)f->width;
    const int32_t count = f->count[i];
    const uint8_t *first = src + (size_t)f->first[i] * n;
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
static int pass_horizontal(const filter *f, const uint8_t *src, int32_t w, int32_t h, uint8_t *dst,
                           int32_t out_w, const gm_cancel *cancel) {
    uint8_t *in = gm_malloc((size_t)w, LANES), *out = gm_malloc((size_t)out_w, LANES);
    int rc = in && out ? 0 : GM_ENOMEM;
    const size_t n_in = (size_t)w * 3, n_out = (size_t)out_w * 3;
    for (int32_t y = 0; !rc && y < h; y += ROWS) {
        const int32_t rows = h - y < ROWS ? h - y : ROWS;
        interleave(src + (size_t)y * n_in, n_in, rows, in);
        horizontal(f, in, out, out_w);
        separate(out, n_out, rows, dst + (size_t)y * n_out);
        if (gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    gm_free(in);
    gm_free(out);
    return rc;
}

static int pass_vertical(const filter *f, const uint8_t *src, size_t n, uint8_t *dst, int32_t out_h,
                         const gm_cancel *cancel) {
    for (int32_t y = 0; y < out_h; y++) {
        vertical(f, src, n, dst + (size_t)y * n, y, 0);
        if ((y & 63) == 0 && gm_cancelled(cancel)) return GM_ECANCELLED;
    }
    return 0;
}

/* ---- AVX2 --------------------------------------------------------------------------------- */

/* One instruction multiplies 16 pairs of 16-bit numbers and adds neighbours. A weight has 23 bits,
 * so it is cut into an upper part and a lower one of LOW_BITS: the sum of the upper products,
 * shifted, plus that of the lower ones is exactly the sum of the whole. Two weights of one part
 * stand together as a pair; an odd last one has a zero beside it. */
enum { LOW_BITS = 11, TAPS = 4 }; /* the horizontal pass takes four pixels at a time */

typedef struct {
    int16_t high[2], low[2];
} pair;

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline

static bool use_avx2(void) { return gm_cpu_uses(gm_cpu_level_get(), GM_CPU_AVX2); }

static void split_weight(pair *p, int side, int32_t w) {
    p->high[side] = (int16_t)(w >> LOW_BITS);
    p->low[side] = (int16_t)(w & ((1 << LOW_BITS) - 1));
}

AVX2_INLINE __m256i spread(const int16_t *two) {
    int32_t v;
    memcpy(&v, two, sizeof v);
    return _mm256_set1_epi32(v);
}

AVX2_INLINE __m256i to_fixed(__m256i high, __m256i low) {
    const __m256i half = _mm256_set1_epi32(1 << (FIXED_BITS - 1));
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, half), FIXED_BITS);
}

enum { AT_ONCE = 4 }; /* rows that the horizontal pass computes together, two in a vector */

/* Two rows of 16 bytes each, as the two halves. */
AVX2_INLINE __m256i two_rows(const uint8_t *p, const uint8_t *q) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)),
                                   _mm_loadu_si128((const __m128i *)q), 1);
}

/* Adds two pixels, picked out of the rows as 16-bit numbers: their reds, greens, blues, nothing. */
AVX2_INLINE void add_pair(__m256i *high, __m256i *low, __m256i rows, __m256i pick, __m256i wh,
                          __m256i wl) {
    const __m256i v = _mm256_shuffle_epi8(rows, pick);
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(v, wh));
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(v, wl));
}

/* Four bytes for a pixel of each of two rows. */
AVX2_INLINE void put_pixels(__m256i fixed, uint8_t *p, uint8_t *q, size_t n) {
    const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(fixed, fixed), fixed);
    const int32_t a = _mm256_extract_epi32(bytes, 0), b = _mm256_extract_epi32(bytes, 4);
    memcpy(p, &a, n);
    memcpy(q, &b, n);
}

/* The pixels of one place in AT_ONCE rows. n: bytes to write, 3 or 4. */
AVX2_INLINE void one_place(const filter *f, const pair *w, const uint8_t *const src[AT_ONCE],
                           uint8_t *const dst[AT_ONCE], int32_t i, size_t n) {
    /* Pixels 0 and 1, 2 and 3: red, red, green, green, blue, blue, each with an upper byte of
     * zero. */
    const __m256i first =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 0, -1, 3, -1, 1,
                         -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m256i second =
        _mm256_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1, 6, -1, 9, -1,
                         7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    __m256i high[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()}, low[2] = {high[0], high[0]};
    size_t at = (size_t)f->first[i] * 3;
    for (int32_t taps = f->count[i]; taps > 0; taps -= TAPS, at += 3 * TAPS, w += 2) {
        const __m256i a = two_rows(src[0] + at, src[1] + at),
                      b = two_rows(src[2] + at, src[3] + at);
        const __m256i h0 = spread(w[0].high), l0 = spread(w[0].low);
        const __m256i h1 = spread(w[1].high), l1 = spread(w[1].low);
        add_pair(&high[0], &low[0], a, first, h0, l0);
        add_pair(&high[1], &low[1], b, first, h0, l0);
        add_pair(&high[0], &low[0], a, second, h1, l1);
        add_pair(&high[1], &low[1], b, second, h1, l1);
    }
    const size_t to = (size_t)i * 3;
    put_pixels(to_fixed(high[0], low[0]), dst[0] + to, dst[1] + to, n);
    put_pixels(to_fixed(high[1], low[1]), dst[2] + to, dst[3] + to, n);
}

/* AT_ONCE rows. src has 16 bytes behind each that may be read; w: [n_out, per_out]. */
AVX2 static void horizontal_avx2(const filter *f, const pair *w, size_t per_out,
                                 const uint8_t *const src[AT_ONCE], uint8_t *const dst[AT_ONCE],
                                 int32_t n_out) {
    for (int32_t i = 0; i < n_out - 1; i++) one_place(f, w + (size_t)i * per_out, src, dst, i, 4);
    /* a fourth is the next row's */
    one_place(f, w + (size_t)(n_out - 1) * per_out, src, dst, n_out - 1, 3);
}

/* As `vertical`, but whole COLUMNS only: returns the byte where they end. w: pairs of rows. */
AVX2 static size_t vertical_avx2(const filter *f, const pair *w, const uint8_t *src, size_t n,
                                 uint8_t *dst, int32_t i) {
    const __m256i zero = _mm256_setzero_si256();
    const uint8_t *first = src + (size_t)f->first[i] * n;
    const int32_t count = f->count[i];
    size_t x = 0;
    for (; x + COLUMNS <= n; x += COLUMNS) {
        __m256i high[4] = {zero, zero, zero, zero}, low[4] = {zero, zero, zero, zero};
        const uint8_t *p = first + x;
        for (int32_t j = 0; j < count; j += 2, p += 2 * n) {
            const pair *const wj = &w[j / 2];
            const __m256i a = _mm256_loadu_si256((const __m256i *)p);
            const __m256i b = j + 1 < count ? _mm256_loadu_si256((const __m256i *)(p + n)) : zero;
            const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
            const __m256i wh = spread(wj->high), wl = spread(wj->low);
            for (int k = 0; k < 4; k++) {
                const __m256i v = k & 1 ? _mm256_unpackhi_epi8(ab[k / 2], zero)
                                        : _mm256_unpacklo_epi8(ab[k / 2], zero);
                high[k] = _mm256_add_epi32(high[k], _mm256_madd_epi16(v, wh));
                low[k] = _mm256_add_epi32(low[k], _mm256_madd_epi16(v, wl));
            }
        }
        for (int k = 0; k < 4; k++) high[k] = to_fixed(high[k], low[k]);
        /* The packing undoes the unpacking: both work in halves of the vector. */
        const __m256i lo = _mm256_packs_epi32(high[0], high[1]),
                      hi = _mm256_packs_epi32(high[2], high[3]);
        _mm256_storeu_si256((__m256i *)(dst + x), _mm256_packus_epi16(lo, hi));
    }
    return x;
}
/* Weights as pairs: [n_out, *per_out], so many taps rounded up to a multiple of `step`. */
static pair *split_weights(const filter *f, int32_t n_out, int32_t step, size_t *per_out) {
    const int32_t taps = (f->width + step - 1) / step * step;
    *per_out = (size_t)taps / 2;
    size_t n;
    pair *w = gm_mul_size((size_t)n_out, *per_out, &n) ? gm_calloc(n, sizeof *w) : NULL;
    for (int32_t i = 0; w && i < n_out; i++)
        for (int32_t j = 0; j < f->count[i]; j++)
            split_weight(&w[(size_t)i * *per_out + (size_t)j / 2], j & 1,
                         f->weight[(size_t)i * (size_t)f->width + (size_t)j]);
    return w;
}

static int pass_horizontal_avx2(const filter *f, const uint8_t *src, int32_t w, int32_t h,
                                uint8_t *dst, int32_t out_w, const gm_cancel *cancel) {
    enum { PAD = 16 };
    const size_t n_in = (size_t)w * 3, n_out = (size_t)out_w * 3;
    size_t per_out;
    pair *weight = split_weights(f, out_w, TAPS, &per_out);
    /* The last rows, since nothing may be read behind them, and a row that nobody wants. Of a
     * picture that is narrower than a vector that can be more than AT_ONCE rows. */
    uint8_t *room = gm_malloc(AT_ONCE * (n_in + PAD) + n_out, 1);
    int rc = weight && room ? 0 : GM_ENOMEM;
    for (int32_t y = 0; !rc && y < h; y += AT_ONCE) {
        const uint8_t *from[AT_ONCE];
        uint8_t *to[AT_ONCE];
        for (int32_t k = 0; k < AT_ONCE; k++) {
            const size_t row = (size_t)(y + k < h ? y + k : h - 1);
            from[k] = src + row * n_in;
            to[k] = y + k < h ? dst + row * n_out : room + AT_ONCE * (n_in + PAD);
            if ((row + 1) * n_in + PAD <= (size_t)h * n_in) continue;
            uint8_t *copy = room + (size_t)k * (n_in + PAD);
            memset(copy + n_in, 0, PAD);
            from[k] = memcpy(copy, from[k], n_in);
        }
        horizontal_avx2(f, weight, per_out, from, to, out_w);
        if ((y & 60) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    gm_free(weight);
    gm_free(room);
    return rc;
}

static int pass_vertical_avx2(const filter *f, const uint8_t *src, size_t n, uint8_t *dst,
                              int32_t out_h, const gm_cancel *cancel) {
    size_t per_out;
    pair *weight = split_weights(f, out_h, 2, &per_out);
    if (!weight) return GM_ENOMEM;
    int rc = 0;
    for (int32_t y = 0; !rc && y < out_h; y++) {
        uint8_t *const to = dst + (size_t)y * n;
        const size_t x = vertical_avx2(f, weight + (size_t)y * per_out, src, n, to, y);
        vertical(f, src, n, to, y, x);
        if ((y & 63) == 0 && gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    gm_free(weight);
    return rc;
}
#else
#define pass_horizontal_avx2 pass_horizontal
#define pass_vertical_avx2 pass_vertical
static bool use_avx2(void) { return false; }
#endif

/* A size that stays needs no pass: filtering with weight 1 would give the same bytes. */
static int resize_rows(const uint8_t *src, size_t n, int32_t h, uint8_t *dst, int32_t out_h,
                       const gm_cancel *cancel) {
    filter f = {0};
    if (out_h == h) return memcpy(dst, src, n * (size_t)h), 0;
    int rc = filter_init(&f, h, out_h);
    if (!rc) rc = (use_avx2() ? pass_vertical_avx2 : pass_vertical)(&f, src, n, dst, out_h, cancel);
    filter_finish(&f);
    return rc;
}

static int resize_columns(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                          const gm_cancel *cancel) {
    filter f = {0};
    if (out_w == w) return memcpy(dst, src, (size_t)w * 3 * (size_t)h), 0;
    int rc = filter_init(&f, w, out_w);
    if (!rc)
        rc = (use_avx2() ? pass_horizontal_avx2 : pass_horizontal)(&f, src, w, h, dst, out_w,
                                                                   cancel);
    filter_finish(&f);
    return rc;
}

/* Each pass rounds and clamps, so their order shows. Pillow 13 begins with the rows when they lose
 * more than twice as much as the columns do; found by trying sizes, exact on both sides. */
static bool rows_first(int32_t w, int32_t h, int32_t out_w, int32_t out_h) {
    return out_h < h && (int64_t)h - out_h > 2 * ((int64_t)w - out_w);
}

int gm_resize_rgb(const uint8_t *src, int32_t w, int32_t h, uint8_t *dst, int32_t out_w,
                  int32_t out_h, const gm_cancel *cancel) {
    const bool rows = rows_first(w, h, out_w, out_h);
    const size_t mid_w = (size_t)(rows ? w : out_w) * 3, mid_h = (size_t)(rows ? out_h : h);
    if (out_w == w) return resize_rows(src, mid_w, h, dst, out_h, cancel);
    if (out_h == h) return resize_columns(src, w, h, dst, out_w, cancel);
    size_t n;
    uint8_t *mid = gm_mul_size(mid_w, mid_h, &n) ? gm_malloc(n, 1) : NULL; /* between the passes */
    int rc = mid ? 0 : GM_ENOMEM;
    if (!rc && rows) rc = resize_rows(src, mid_w, h, mid, out_h, cancel);
    if (!rc && rows) rc = resize_columns(mid, w, out_h, dst, out_w, cancel);
    if (!rc && !rows) rc = resize_columns(src, w, h, mid, out_w, cancel);
    if (!rc && !rows) rc = resize_rows(mid, mid_w, h, dst, out_h, cancel);
    gm_free(mid);
    return rc;
}
