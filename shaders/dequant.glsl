// dequant.glsl: eight neighbouring weights of one row, for each number format.
//
// Rows lie interleaved in tiles of 32: word i of a row's data is followed by word i of the next row,
// so that 32 neighbouring invocations read 32 neighbouring words. A row is a list of blocks of 256
// values (BLOCK_WORDS words: scales first, then the values in order); floats are lists of words
// without blocks. vk_repack.c writes what this file reads.

layout(constant_id = 7) const uint ROW_STRIDE = 32; // 1: a single row, not interleaved

#if defined(TYPE_F32)
#define WORDS_FOR(n) (n)
#elif defined(TYPE_F16) || defined(TYPE_BF16)
#define WORDS_FOR(n) ((n) >> 1)
#else
#if defined(TYPE_Q4_0) || defined(TYPE_IQ4_NL) || defined(TYPE_Q4_K)
#define BLOCK_WORDS 36u
#elif defined(TYPE_Q4_1)
#define BLOCK_WORDS 40u
#elif defined(TYPE_Q5_0) || defined(TYPE_Q5_K)
#define BLOCK_WORDS 44u
#elif defined(TYPE_Q5_1)
#define BLOCK_WORDS 48u
#elif defined(TYPE_Q8_0)
#define BLOCK_WORDS 68u
#elif defined(TYPE_Q2_K)
#define BLOCK_WORDS 21u
#elif defined(TYPE_Q3_K)
#define BLOCK_WORDS 29u
#elif defined(TYPE_Q6_K)
#define BLOCK_WORDS 53u
#elif defined(TYPE_IQ4_XS)
#define BLOCK_WORDS 35u
#endif
#define WORDS_FOR(n) (((n) >> 8) * BLOCK_WORDS)
#endif

// at: index of the row's first word; word i follows i * ROW_STRIDE later.
#define WORD(i) w[at + (i) * ROW_STRIDE]

void nibbles(uint q, out vec4 a, out vec4 b) {
    a = vec4(q & 15u, (q >> 4) & 15u, (q >> 8) & 15u, (q >> 12) & 15u);
    b = vec4((q >> 16) & 15u, (q >> 20) & 15u, (q >> 24) & 15u, q >> 28);
}

// The fifth bits of eight values in the low bits of h, as 16 or 0.
void fifths(uint h, out vec4 a, out vec4 b) {
    a = vec4((h << 4) & 16u, (h << 3) & 16u, (h << 2) & 16u, (h << 1) & 16u);
    b = vec4(h & 16u, (h >> 1) & 16u, (h >> 2) & 16u, (h >> 3) & 16u);
}

void pairs(uint q, out vec4 a, out vec4 b) {
    a = vec4(q & 3u, (q >> 2) & 3u, (q >> 4) & 3u, (q >> 6) & 3u);
    b = vec4((q >> 8) & 3u, (q >> 10) & 3u, (q >> 12) & 3u, (q >> 14) & 3u);
}

vec4 signed_bytes(uint q) {
    int v = int(q);
    return vec4(bitfieldExtract(v, 0, 8), bitfieldExtract(v, 8, 8), bitfieldExtract(v, 16, 8), v >> 24);
}

#if defined(TYPE_IQ4_NL) || defined(TYPE_IQ4_XS)
const float iq4_level[16] = float[16](-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0,
                                      1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0);
void levels(uint q, out vec4 a, out vec4 b) {
    a = vec4(iq4_level[q & 15u], iq4_level[(q >> 4) & 15u], iq4_level[(q >> 8) & 15u],
             iq4_level[(q >> 12) & 15u]);
    b = vec4(iq4_level[(q >> 16) & 15u], iq4_level[(q >> 20) & 15u], iq4_level[(q >> 24) & 15u],
             iq4_level[q >> 28]);
}
#endif

// Values 32 s32 + 8 j .. 32 s32 + 8 j + 7 of the row whose first word is w[row]. In two numbers, so that a
// compiler sees what the four j of a step have in common.
void weights8(uint row, uint s32, uint j, out vec4 a, out vec4 b) {
#if defined(TYPE_F32)
    uint at = row + 8u * (4u * s32 + j) * ROW_STRIDE;
    a = vec4(uintBitsToFloat(WORD(0)), uintBitsToFloat(WORD(1)), uintBitsToFloat(WORD(2)),
             uintBitsToFloat(WORD(3)));
    b = vec4(uintBitsToFloat(WORD(4)), uintBitsToFloat(WORD(5)), uintBitsToFloat(WORD(6)),
             uintBitsToFloat(WORD(7)));
#elif defined(TYPE_F16)
    uint at = row + 4u * (4u * s32 + j) * ROW_STRIDE;
    a = vec4(unpackHalf2x16(WORD(0)), unpackHalf2x16(WORD(1)));
    b = vec4(unpackHalf2x16(WORD(2)), unpackHalf2x16(WORD(3)));
#elif defined(TYPE_BF16)
    uint at = row + 4u * (4u * s32 + j) * ROW_STRIDE;
    uvec4 q = uvec4(WORD(0), WORD(1), WORD(2), WORD(3));
    uvec4 low = q << 16, high = q & 0xFFFF0000u;
    a = uintBitsToFloat(uvec4(low.x, high.x, low.y, high.y));
    b = uintBitsToFloat(uvec4(low.z, high.z, low.w, high.w));
#else
    uint at = row + (s32 >> 3) * BLOCK_WORDS * ROW_STRIDE, g = s32 & 7u, i = 4u * g + j;
#if defined(TYPE_Q4_0)
    float s = half_bits(WORD(g >> 1) >> (16u * (g & 1u)));
    nibbles(WORD(4u + i), a, b);
    a = (a - 8.0) * s;
    b = (b - 8.0) * s;
#elif defined(TYPE_IQ4_NL)
    float s = half_bits(WORD(g >> 1) >> (16u * (g & 1u)));
    levels(WORD(4u + i), a, b);
    a *= s;
    b *= s;
#elif defined(TYPE_Q4_1)
    uint dm = WORD(g);
    float s = half_bits(dm), m = half_bits(dm >> 16);
    nibbles(WORD(8u + i), a, b);
    a = a * s + m;
    b = b * s + m;
#elif defined(TYPE_Q5_0)
    float s = half_bits(WORD(g >> 1) >> (16u * (g & 1u)));
    vec4 ha, hb;
    fifths(WORD(4u + g) >> (8u * j), ha, hb);
    nibbles(WORD(12u + i), a, b);
    a = (a + ha - 16.0) * s;
    b = (b + hb - 16.0) * s;
#elif defined(TYPE_Q5_1)
    uint dm = WORD(g);
    float s = half_bits(dm), m = half_bits(dm >> 16);
    vec4 ha, hb;
    fifths(WORD(8u + g) >> (8u * j), ha, hb);
    nibbles(WORD(16u + i), a, b);
    a = (a + ha) * s + m;
    b = (b + hb) * s + m;
#elif defined(TYPE_Q8_0)
    float s = half_bits(WORD(g >> 1) >> (16u * (g & 1u)));
    a = signed_bytes(WORD(4u + 2u * i)) * s;
    b = signed_bytes(WORD(5u + 2u * i)) * s;
#elif defined(TYPE_Q4_K) || defined(TYPE_Q5_K)
    uint dm = WORD(0), high = WORD(3);
    uint sc = ((WORD(1) >> (4u * g)) & 15u) | (((high >> (2u * g)) & 3u) << 4);
    uint mn = ((WORD(2) >> (4u * g)) & 15u) | (((high >> (16u + 2u * g)) & 3u) << 4);
    float s = half_bits(dm) * float(sc), m = half_bits(dm >> 16) * float(mn);
#if defined(TYPE_Q5_K)
    vec4 ha, hb;
    fifths(WORD(4u + g) >> (8u * j), ha, hb);
    nibbles(WORD(12u + i), a, b);
    a += ha;
    b += hb;
#else
    nibbles(WORD(4u + i), a, b);
#endif
    a = a * s - m;
    b = b * s - m;
#elif defined(TYPE_Q6_K)
    float s = half_bits(WORD(4)) *
              float(bitfieldExtract(int(WORD(g >> 1)), int(16u * (g & 1u) + 8u * (j >> 1)), 8));
    vec4 ha, hb;
    pairs(WORD(37u + 2u * g + (j >> 1)) >> (16u * (j & 1u)), ha, hb);
    nibbles(WORD(5u + i), a, b);
    a = (a + 16.0 * ha - 32.0) * s;
    b = (b + 16.0 * hb - 32.0) * s;
#elif defined(TYPE_Q2_K)
    uint dm = WORD(4), sc = (WORD(g >> 1) >> (16u * (g & 1u) + 8u * (j >> 1))) & 255u;
    float s = half_bits(dm) * float(sc & 15u), m = half_bits(dm >> 16) * float(sc >> 4);
    pairs(WORD(5u + 2u * g + (j >> 1)) >> (16u * (j & 1u)), a, b);
    a = a * s - m;
    b = b * s - m;
#elif defined(TYPE_Q3_K)
    float s = half_bits(WORD(4)) *
              float(bitfieldExtract(int(WORD(g >> 1)), int(16u * (g & 1u) + 8u * (j >> 1)), 8));
    vec4 ha, hb;
    fifths(WORD(21u + g) >> (8u * j), ha, hb);
    pairs(WORD(5u + 2u * g + (j >> 1)) >> (16u * (j & 1u)), a, b);
    a = (a + 0.25 * ha - 4.0) * s;
    b = (b + 0.25 * hb - 4.0) * s;
#elif defined(TYPE_IQ4_XS)
    float s = half_bits(WORD(0)) *
              float(bitfieldExtract(int(WORD(1u + (g >> 2))), int(8u * (g & 3u)), 8));
    levels(WORD(3u + i), a, b);
    a *= s;
    b *= s;
#endif
#endif
}
