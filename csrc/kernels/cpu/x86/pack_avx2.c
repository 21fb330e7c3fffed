/* pack_avx2.c: packing of panels, 8 rows at a time. */
#include <immintrin.h>
#include <stddef.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m256i vec;
enum { ROWS = 8 };

INLINE vec vec_bytes(int b) { return _mm256_set1_epi8((char)b); }
INLINE vec vec_and(vec a, vec b) { return _mm256_and_si256(a, b); }
INLINE vec vec_or(vec a, vec b) { return _mm256_or_si256(a, b); }
INLINE vec vec_xor(vec a, vec b) { return _mm256_xor_si256(a, b); }
INLINE vec vec_look_up(vec table, vec idx) { return _mm256_shuffle_epi8(table, idx); }
INLINE void vec_store(uint8_t *p, vec v) { _mm256_storeu_si256((void *)p, v); }
INLINE vec vec_repeat16(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(p)); }
/* Within 16 bits: callers mask what crosses a byte. */
#define vec_shift_right(v, n) _mm256_srli_epi16(v, n)
#define vec_shift_left(v, n) _mm256_slli_epi16(v, n)
INLINE void vec_store_halves(float *f, const uint16_t *d) {
    _mm256_storeu_ps(f, _mm256_cvtph_ps(_mm_loadu_si128((const void *)d)));
}

/* 16 bytes of rows r and r + 4. */
INLINE vec two_rows(const uint8_t *p, size_t stride) {
    return _mm256_set_m128i(_mm_loadu_si128((const void *)(p + 4 * stride)),
                            _mm_loadu_si128((const void *)p));
}

INLINE void turn_vectors(const uint8_t *p, size_t stride, vec v[4]) {
    const vec a = two_rows(p, stride), b = two_rows(p + stride, stride),
              c = two_rows(p + 2 * stride, stride), d = two_rows(p + 3 * stride, stride);
    const vec ab_lo = _mm256_unpacklo_epi32(a, b), ab_hi = _mm256_unpackhi_epi32(a, b),
              cd_lo = _mm256_unpacklo_epi32(c, d), cd_hi = _mm256_unpackhi_epi32(c, d);
    v[0] = _mm256_unpacklo_epi64(ab_lo, cd_lo);
    v[1] = _mm256_unpackhi_epi64(ab_lo, cd_lo);
    v[2] = _mm256_unpacklo_epi64(ab_hi, cd_hi);
    v[3] = _mm256_unpackhi_epi64(ab_hi, cd_hi);
}

#include "kernels/cpu/x86/pack_rows.h"

void gm_pack_fill_avx2(gm_tile_fns *f) { fill_pack(f); }
