/* unfilter.c: see unfilter.h. Filters 1, 3 and 4 lean on the pixel to the left, so only the
 * channels of a pixel can be computed together: one vector is one pixel.
 */
#include "media/unfilter.h"

#include <string.h>
#include "base/cpuid.h"
#include "base/err.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_AVX2 1
#endif

enum { NONE = 0, SUB = 1, UP = 2, AVERAGE = 3, PAETH = 4 };

static int paeth(int a, int b, int c) {
    const int pa = b > c ? b - c : c - b, pb = a > c ? a - c : c - a;
    const int sum = a + b - 2 * c, pc = sum < 0 ? -sum : sum;
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* above is never NULL here. */
static void plain(int filter, uint8_t *row, const uint8_t *above, size_t n, size_t pixel) {
    for (size_t x = 0; x < n; x++) {
        const int a = x < pixel ? 0 : row[x - pixel], b = above[x],
                  c = x < pixel ? 0 : above[x - pixel];
        const int guess = filter == SUB ? a : filter == AVERAGE ? (a + b) >> 1 : paeth(a, b, c);
        row[x] = (uint8_t)(row[x] + guess);
    }
}

#ifdef HAVE_AVX2
#define FOR_AVX2 __attribute__((target("avx2"), always_inline)) static inline

/* A pixel as 16-bit numbers. Reads 4 or 8 bytes, writes what belongs to it. */
FOR_AVX2 __m128i load(const uint8_t *p, size_t pixel) {
    if (pixel > 4) return _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
    int32_t v;
    memcpy(&v, p, 4);
    return _mm_cvtepu8_epi16(_mm_cvtsi32_si128(v));
}

FOR_AVX2 void store(uint8_t *p, size_t pixel, __m128i v) {
    const uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(v, v));
    memcpy(p, &bytes, pixel);
}

FOR_AVX2 void pixels(int filter, uint8_t *row, const uint8_t *above, size_t n, size_t pixel) {
    const __m128i low = _mm_set1_epi16(255);
    __m128i a = _mm_setzero_si128(), c = a;
    for (size_t x = 0; x + pixel <= n; x += pixel) {
        const __m128i v = load(row + x, pixel), b = load(above + x, pixel);
        __m128i guess = a;
        if (filter == AVERAGE) guess = _mm_srli_epi16(_mm_add_epi16(a, b), 1);
        if (filter == PAETH) {
            /* a + b - c less a, b and c; only what holds a waits for the pixel before */
            const __m128i da = _mm_sub_epi16(b, c), db = _mm_sub_epi16(a, c);
            const __m128i pa = _mm_abs_epi16(da), pb = _mm_abs_epi16(db);
            const __m128i pc = _mm_abs_epi16(_mm_add_epi16(da, db));
            const __m128i least = _mm_min_epi16(pc, _mm_min_epi16(pa, pb));
            guess = _mm_blendv_epi8(c, b, _mm_cmpeq_epi16(least, pb));
            guess = _mm_blendv_epi8(guess, a, _mm_cmpeq_epi16(least, pa));
        }
        a = _mm_and_si128(_mm_add_epi16(v, guess), low);
        c = b;
        store(row + x, pixel, a);
    }
}

/* Constant sizes and filters, so that each becomes a loop of its own. */
#define EACH_FILTER(pixel)                                                                         \
    if (filter == SUB) pixels(SUB, row, above, n, pixel);                                          \
    else if (filter == AVERAGE) pixels(AVERAGE, row, above, n, pixel);                             \
    else pixels(PAETH, row, above, n, pixel)

__attribute__((target("avx2"))) static void vector(int filter, uint8_t *row, const uint8_t *above,
                                                   size_t n, size_t pixel) {
    switch (pixel) {
    case 1: EACH_FILTER(1); break;
    case 2: EACH_FILTER(2); break;
    case 3: EACH_FILTER(3); break;
    case 4: EACH_FILTER(4); break;
    case 6: EACH_FILTER(6); break;
    default: EACH_FILTER(8); break;
    }
}
#endif

/* The row above the first one is zero. */
static void first_row(int filter, uint8_t *row, size_t n, size_t pixel) {
    for (size_t x = pixel; x < n && (filter == SUB || filter == PAETH); x++)
        row[x] = (uint8_t)(row[x] + row[x - pixel]);
    for (size_t x = pixel; x < n && filter == AVERAGE; x++)
        row[x] = (uint8_t)(row[x] + (row[x - pixel] >> 1));
}

int gm_unfilter(int filter, uint8_t *row, const uint8_t *above, size_t n, size_t pixel) {
    if (filter < NONE || filter > PAETH) return GM_EFORMAT;
    if (filter == NONE) return 0;
    if (!above) return first_row(filter, row, n, pixel), 0;
    if (filter == UP) {
        for (size_t x = 0; x < n; x++) row[x] = (uint8_t)(row[x] + above[x]);
        return 0;
    }
#ifdef HAVE_AVX2
    if (gm_cpu_uses(gm_cpu_level_get(), GM_CPU_AVX2)) {
        vector(filter, row, above, n, pixel);
        return 0;
    }
#endif
    plain(filter, row, above, n, pixel);
    return 0;
}
