// integers.glsl: eight neighbouring weights of one row as bytes, and their scales. After dequant.glsl,
// whose order of words this is.
//
// A weight is scale * byte + offset. Offsets (of formats that store what is above their least value)
// meet sums of x, so that no byte has to be moved into its sign.
#extension GL_EXT_spirv_intrinsics : require

// Packed signed bytes: written as the instruction, because older compilers have no name for it.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int signed_dot(uint a, uint b, spirv_literal int packed_bytes);
#define dot8(a, b) signed_dot(a, b, 0)

// Eight nibbles to the low halves of eight bytes.
uint spread(uint q) {
    q = (q | (q << 8)) & 0x00FF00FFu;
    return (q | (q << 4)) & 0x0F0F0F0Fu;
}
uvec2 nibble_bytes(uint q) {
    return uvec2(spread(q & 0xFFFFu), spread(q >> 16));
}

// Bit i of h to bit 4 of byte i.
uint spread_bit(uint h) {
    return ((h & 1u) << 4) | ((h & 2u) << 11) | ((h & 4u) << 18) | ((h & 8u) << 25);
}

// Pair i of h to bits 4 and 5 of byte i.
uint spread_pair(uint h) {
    return ((h & 3u) << 4) | ((h & 12u) << 10) | ((h & 48u) << 16) | ((h & 192u) << 22);
}

uvec2 integers8(uint row, uint k) {
    uint at = row + (k >> 5) * BLOCK_WORDS * ROW_STRIDE, i = k & 31u;
#if defined(TYPE_Q4_0) || defined(TYPE_Q4_K)
    return nibble_bytes(WORD(4u + i));
#elif defined(TYPE_Q8_0)
    return uvec2(WORD(4u + 2u * i), WORD(5u + 2u * i));
#elif defined(TYPE_Q5_0) || defined(TYPE_Q5_K)
    uint h = WORD(4u + (i >> 2)) >> (8u * (i & 3u));
    return nibble_bytes(WORD(12u + i)) | uvec2(spread_bit(h), spread_bit(h >> 4));
#elif defined(TYPE_Q6_K)
    uint h = WORD(37u + (i >> 1)) >> (16u * (i & 1u));
    return nibble_bytes(WORD(5u + i)) | uvec2(spread_pair(h), spread_pair(h >> 8));
#endif
}

// Of step s of 32 values: scales of its halves, then offsets.
vec4 scales32(uint row, uint s) {
    uint at = row + (s >> 3) * BLOCK_WORDS * ROW_STRIDE, g = s & 7u;
#if defined(TYPE_Q4_0) || defined(TYPE_Q5_0) || defined(TYPE_Q8_0)
    float d = half_bits(WORD(g >> 1) >> (16u * (g & 1u)));
#if defined(TYPE_Q4_0)
    float m = -8.0 * d;
#elif defined(TYPE_Q5_0)
    float m = -16.0 * d;
#else
    float m = 0.0;
#endif
    return vec4(d, d, m, m);
#elif defined(TYPE_Q4_K) || defined(TYPE_Q5_K)
    uint dm = WORD(0), high = WORD(3);
    uint sc = ((WORD(1) >> (4u * g)) & 15u) | (((high >> (2u * g)) & 3u) << 4);
    uint mn = ((WORD(2) >> (4u * g)) & 15u) | (((high >> (16u + 2u * g)) & 3u) << 4);
    float d = half_bits(dm) * float(sc), m = -half_bits(dm >> 16) * float(mn);
    return vec4(d, d, m, m);
#elif defined(TYPE_Q6_K)
    int sc = int(WORD(g >> 1)) >> (16u * (g & 1u));
    vec2 d = half_bits(WORD(4)) * vec2(bitfieldExtract(sc, 0, 8), bitfieldExtract(sc, 8, 8));
    return vec4(d, -32.0 * d);
#endif
}
