/* blocks.h: how quantised blocks lie in a file, byte for byte.
 *
 * Little-endian. The structs are packed, so that a pointer into a mapped file of any alignment
 * may be cast to them. d, m, dmin are half floats (gm_f16_to_f32). What the fields mean:
 *
 *   Q4_0   x = d * (q - 8)             q[j] holds value j (low nibble) and j + 16 (high)
 *   Q4_1   x = d * q + m               same order
 *   Q5_0   x = d * (q - 16)            bit 4 of value e is bit e of qh
 *   Q5_1   x = d * q + m               same
 *   Q8_0   x = d * q
 *   IQ4_NL x = d * gm_iq4_values[q]    order of Q4_0
 *
 * The other formats hold 256 values in groups of 16 or 32, each group with a small integer scale;
 * quant.c spells out their order.
 */
#pragma once

#include <stdint.h>

#define GM_QK 32   /* values in a small block */
#define GM_QKK 256 /* values in a block of the K formats */

#define GM_BLOCK(name, bytes, ...)                                                                 \
    typedef struct __attribute__((packed)) {                                                       \
        __VA_ARGS__                                                                                \
    } gm_block_##name;                                                                             \
    _Static_assert(sizeof(gm_block_##name) == (bytes), "on-disk size of " #name)

/* clang-format off */
GM_BLOCK(q4_0, 18, uint16_t d; uint8_t q[16];);
GM_BLOCK(q4_1, 20, uint16_t d; uint16_t m; uint8_t q[16];);
GM_BLOCK(q5_0, 22, uint16_t d; uint32_t qh; uint8_t q[16];);
GM_BLOCK(q5_1, 24, uint16_t d; uint16_t m; uint32_t qh; uint8_t q[16];);
GM_BLOCK(q8_0, 34, uint16_t d; int8_t q[32];);
GM_BLOCK(q2_k, 84, uint8_t sc[16]; uint8_t q[64]; uint16_t d; uint16_t dmin;);
GM_BLOCK(q3_k, 110, uint8_t hmask[32]; uint8_t q[64]; uint8_t sc[12]; uint16_t d;);
GM_BLOCK(q4_k, 144, uint16_t d; uint16_t dmin; uint8_t sc[12]; uint8_t q[128];);
GM_BLOCK(q5_k, 176, uint16_t d; uint16_t dmin; uint8_t sc[12]; uint8_t qh[32]; uint8_t q[128];);
GM_BLOCK(q6_k, 210, uint8_t ql[128]; uint8_t qh[64]; int8_t sc[16]; uint16_t d;);
GM_BLOCK(iq4_nl, 18, uint16_t d; uint8_t q[16];);
GM_BLOCK(iq4_xs, 136, uint16_t d; uint16_t sh; uint8_t sl[4]; uint8_t q[128];);
/* clang-format on */

/* The 16 levels of IQ4_NL and IQ4_XS, ascending. */
extern const int8_t gm_iq4_values[16];

/* Packed scales, one at a time. quant.c reads them by itself: everything is compared with it. */

/* Of group g of eight in a block of IQ4_XS: -32 .. 31. */
static inline int gm_iq4_xs_scale(const gm_block_iq4_xs *b, int g) {
    return ((b->sl[g / 2] >> 4 * (g & 1) & 15) | (b->sh >> 2 * g & 3) << 4) - 32;
}

/* Of group j of 16 in a block of Q3_K: -32 .. 31. */
static inline int gm_q3_k_scale(const gm_block_q3_k *b, int j) {
    const int low = j < 8 ? b->sc[j] & 15 : b->sc[j - 8] >> 4;
    return (low | (b->sc[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}
