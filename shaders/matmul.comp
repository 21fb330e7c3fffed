#version 450
// matmul.comp: out = x w^T for a range of tiles of 32 rows of w.
//
// An invocation owns one row and TOKENS tokens, so weights are unpacked once for all of them and x is
// the same for all invocations of a subgroup. SLICES groups of 32 invocations share the sum over k.
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
layout(constant_id = 1) const uint SLICES = 1;
layout(constant_id = 2) const uint TOKENS = 1;
layout(constant_id = 3) const uint ALIGNED = 1; // x may be read four at a time
layout(binding = 0) readonly restrict buffer W { uint w[]; };
layout(binding = 1) readonly restrict buffer X { float x[]; };
layout(binding = 1) readonly restrict buffer X4 { vec4 x4[]; };
layout(binding = 2) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n_in, n_out, n_tok, row_words, x_at, out_at, row0, tile0;
} p;
#include "dequant.glsl"

shared float part[SLICES * 32 * TOKENS];

// Behind the end of a row the weights are zero, x only has to be something finite.
vec4 x_quad(uint row, uint i) {
    if (ALIGNED != 0) return x4[(row + i) >> 2];
    uint last = p.n_in - 1u;
    return vec4(x[row + min(i, last)], x[row + min(i + 1u, last)], x[row + min(i + 2u, last)],
                x[row + min(i + 3u, last)]);
}

void main() {
    uint r = SLICES == 1 ? gl_LocalInvocationIndex : gl_LocalInvocationIndex % 32u;
    uint slice = SLICES == 1 ? 0u : gl_LocalInvocationIndex / 32u;
    uint tile = p.tile0 + gl_WorkGroupID.x, t0 = gl_WorkGroupID.y * TOKENS;
    uint row = tile * p.row_words * ROW_STRIDE + (ROW_STRIDE == 1 ? 0u : r);
    uint n8 = (p.n_in + 7u) >> 3, step4 = (n8 + 3u) >> 2;
    uint x_row[TOKENS];
    float acc[TOKENS];
    for (uint t = 0; t < TOKENS; t++) {
        acc[t] = 0.0;
        x_row[t] = p.x_at + min(t0 + t, p.n_tok - 1u) * p.n_in;
    }
    // Steps of 32 values, which share their scales.
    uint per = (step4 + SLICES - 1u) / SLICES;
    uint from = slice * per, to = min(from + per, step4);
    for (uint s = from; s < to; s++) {
        [[unroll]] for (uint j = 0; j < 4u; j++) {
            uint k = 4u * s + j;
            if (k < n8) {
                vec4 a, b;
                weights8(row, k, a, b);
                for (uint t = 0; t < TOKENS; t++)
                    acc[t] += dot(a, x_quad(x_row[t], 8u * k)) + dot(b, x_quad(x_row[t], 8u * k + 4u));
            }
        }
    }
    if (SLICES > 1) {
        for (uint t = 0; t < TOKENS; t++) part[(slice * TOKENS + t) * 32u + r] = acc[t];
        barrier();
        if (slice != 0u) return;
        for (uint t = 0; t < TOKENS; t++)
            for (uint i = 1; i < SLICES; i++) acc[t] += part[(i * TOKENS + t) * 32u + r];
    }
    uint out_row = p.row0 + tile * 32u + r;
    if (out_row >= p.n_out) return;
    for (uint t = 0; t < TOKENS; t++)
        if (t0 + t < p.n_tok) o[p.out_at + (t0 + t) * p.n_out + out_row] = acc[t];
}
