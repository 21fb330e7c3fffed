/* pack_avx512.c: packing of panels, 16 rows at a time. */
#include <immintrin.h>
#include <stddef.h>
#include "kernels/cpu/x86/x86.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m512i vec;
enum { ROWS = 16 };

INLINE vec vec_bytes(int b) { return _mm512_set1_epi8((char)b); }
INLINE vec vec_and(vec a, vec b) { return _mm512_and_si512(a, b); }
INLINE vec vec_or(vec a, vec b) { return _mm512_or_si512(a, b); }
INLINE vec vec_xor(vec a, vec b) { return _mm512_xor_si512(a, b); }
INLINE vec vec_look_up(vec table, vec idx) { return _mm512_shuffle_epi8(table, idx); }
INLINE void vec_store(uint8_t *p, vec v) { _mm512_storeu_si512(p, v); }
INLINE vec vec_repeat16(const void *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(p)); }
/* Within 16 bits: callers mask what crosses a byte. */
#define vec_shift_right(v, n) _mm512_srli_epi16(v, n)
#define vec_shift_left(v, n) _mm512_slli_epi16(v, n)
INLINE void vec_store_halves(float *f, const uint16_t *d) {
    _mm512_storeu_ps(f, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)d)));
}

/* 16 bytes of rows r, r + 4, r + 8, r + 12, one in each quarter. */
INLINE vec every_fourth(const uint8_t *p, size_t stride) {
    vec v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * stride)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 12 * stride)), 3);
}

INLINE void turn_vectors(const uint8_t *p, size_t stride, vec v[4]) {
    const vec a = every_fourth(p, stride), b = every_fourth(p + stride, stride),
              c = every_fourth(p + 2 * stride, stride), d = every_fourth(p + 3 * stride, stride);
    const vec ab_lo = _mm512_unpacklo_epi32(a, b), ab_hi = _mm512_unpackhi_epi32(a, b),
              cd_lo = _mm512_unpacklo_epi32(c, d), cd_hi = _mm512_unpackhi_epi32(c, d);
    v[0] = _mm512_unpacklo_epi64(ab_lo, cd_lo);
    v[1] = _mm512_unpackhi_epi64(ab_lo, cd_lo);
    v[2] = _mm512_unpacklo_epi64(ab_hi, cd_hi);
    v[3] = _mm512_unpackhi_epi64(ab_hi, cd_hi);
}
#include "kernels/cpu/x86/pack_rows.h"

void gm_pack_fill_avx512(gm_tile_fns *f) { fill_pack(f); }
