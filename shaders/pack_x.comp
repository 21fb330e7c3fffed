#version 450
// pack_x.comp: rows of x for matmul_tile.comp with integers and for matmul_matrix.comp. A workgroup a
// row; rows are padded with zeros to whole blocks of 32.
//
// HALVES 0: a block is 8 words of bytes, its scale, and the sums of its halves times the scale. One NaN
// makes the scale NaN and the bytes 0.
// HALVES 1: half floats, two to a word, brought near 1 by a power of two for the row, so that nothing
// leaves their range; the rows' factors to undo that follow the last row.
#define REDUCE
#include "common.glsl"
layout(constant_id = 1) const uint HALVES = 0;
layout(binding = 0) readonly restrict buffer X { float x[]; };
layout(binding = 1) writeonly restrict buffer Out { uint o[]; };
layout(push_constant) uniform Push { uint n, n_tok, x_at, out_at; } p;

const uint NAN_BITS = 0x7FC00000u;

float x_value(uint row, uint i) {
    return i < p.n ? x[row + i] : 0.0;
}

void pack_bytes(uint row, uint b, uint to) {
    float top = 0.0, sum[2] = float[2](0.0, 0.0);
    bool nan = false;
    for (uint i = 0; i < 32u; i++) {
        float v = x_value(row, 32u * b + i);
        top = max(top, abs(v));
        nan = nan || is_nan(v);
    }
    float scale = top / 127.0, inverse = scale > 0.0 ? 1.0 / scale : 0.0;
    for (uint j = 0; j < 8u; j++) {
        uint word = 0u;
        for (uint i = 0; i < 4u; i++) {
            int q = nan ? 0 : int(clamp(round(x_value(row, 32u * b + 4u * j + i) * inverse), -127.0, 127.0));
            word |= (uint(q) & 255u) << (8u * i);
            sum[j >> 2] += float(q);
        }
        o[to + j] = word;
    }
    o[to + 8u] = nan ? NAN_BITS : floatBitsToUint(scale);
    o[to + 9u] = nan ? NAN_BITS : floatBitsToUint(sum[0] * scale);
    o[to + 10u] = nan ? NAN_BITS : floatBitsToUint(sum[1] * scale);
}

void main() {
    uint t = gl_WorkGroupID.x, row = p.x_at + t * p.n, n32 = (p.n + 31u) >> 5, me = gl_LocalInvocationIndex;
    if (HALVES == 0) {
        for (uint b = me; b < n32; b += gl_WorkGroupSize.x) pack_bytes(row, b, p.out_at + (t * n32 + b) * 11u);
        return;
    }
    float top = 0.0;
    for (uint i = me; i < p.n; i += gl_WorkGroupSize.x) top = max(top, abs(x[row + i]));
    top = group_max(top);
    uint e = clamp(floatBitsToUint(top) >> 23, 1u, 253u);
    float down = uintBitsToFloat((254u - e) << 23);
    for (uint i = me; i < 16u * n32; i += gl_WorkGroupSize.x)
        o[p.out_at + t * 16u * n32 + i] =
            to_half_bits(x_value(row, 2u * i) * down) | (to_half_bits(x_value(row, 2u * i + 1u) * down) << 16);
    if (me == 0u) o[p.out_at + p.n_tok * 16u * n32 + t] = e << 23;
}
