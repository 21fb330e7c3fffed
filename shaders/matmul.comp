#version 450
// matmul.comp: out = x w^T for a range of tiles of 32 rows of w.
//
// An invocation owns ROWS rows (one of each of as many tiles) and TOKENS tokens, so weights are unpacked
// once for all tokens and x is read once for all rows. SLICES groups of 32 invocations share the sum
// over k. With SHARED_X each invocation reads one of eight neighbouring values of x and gets the others
// from its subgroup, which pays where every load costs the same, however close its neighbours are.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_ballot : require
#include "common.glsl"
layout(constant_id = 1) const uint SLICES = 1;
layout(constant_id = 2) const uint TOKENS = 1;
layout(constant_id = 3) const uint ALIGNED = 1; // x may be read four at a time
layout(constant_id = 4) const uint ROWS = 1;
layout(constant_id = 5) const uint SHARED_X = 0;
layout(binding = 0) readonly restrict buffer W { uint w[]; };
layout(binding = 1) readonly restrict buffer X { float x[]; };
layout(binding = 1) readonly restrict buffer X4 { vec4 x4[]; };
layout(binding = 2) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n_in, n_out, n_tok, row_words, x_at, out_at, row0, tile0, n_tile; // tile0, n_tile: of this piece
} p;
#include "dequant.glsl"

shared float part[SLICES * 32 * TOKENS * ROWS];

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
    uint tile = p.tile0 + gl_WorkGroupID.x * ROWS, t0 = gl_WorkGroupID.y * TOKENS;
    uint n8 = (p.n_in + 7u) >> 3, step4 = (n8 + 3u) >> 2, lane8 = gl_SubgroupInvocationID & 7u;
    uint row[ROWS], x_row[TOKENS];
    float acc[ROWS * TOKENS];
    [[unroll]] for (uint i = 0; i < ROWS; i++)
        row[i] = min(tile + i, p.n_tile - 1u) * p.row_words * ROW_STRIDE + (ROW_STRIDE == 1 ? 0u : r);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) x_row[t] = p.x_at + min(t0 + t, p.n_tok - 1u) * p.n_in;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    // Steps of 32 values, which share their scales.
    uint per = (step4 + SLICES - 1u) / SLICES;
    uint from = slice * per, to = min(from + per, step4);
    for (uint s = from; s < to; s++) {
        [[unroll]] for (uint j = 0; j < 4u; j++) {
            uint k = 4u * s + j;
#ifdef BLOCK_WORDS
            { // Blocks are whole. A branch would keep the four from sharing what they have in common.
#else
            if (k < n8) {
#endif
                vec4 a[ROWS], b[ROWS];
                [[unroll]] for (uint i = 0; i < ROWS; i++) weights8(row[i], s, j, a[i], b[i]);
                [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                    vec4 xa, xb;
                    if (SHARED_X != 0) {
                        float mine = x[x_row[t] + min(8u * k + lane8, p.n_in - 1u)];
                        xa = vec4(subgroupBroadcast(mine, 0), subgroupBroadcast(mine, 1),
                                  subgroupBroadcast(mine, 2), subgroupBroadcast(mine, 3));
                        xb = vec4(subgroupBroadcast(mine, 4), subgroupBroadcast(mine, 5),
                                  subgroupBroadcast(mine, 6), subgroupBroadcast(mine, 7));
                    } else {
                        xa = x_quad(x_row[t], 8u * k);
                        xb = x_quad(x_row[t], 8u * k + 4u);
                    }
                    [[unroll]] for (uint i = 0; i < ROWS; i++)
                        acc[i * TOKENS + t] += dot(a[i], xa) + dot(b[i], xb);
                }
            }
        }
    }
    if (SLICES > 1) {
        [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++) part[(slice * ROWS * TOKENS + i) * 32u + r] = acc[i];
        barrier();
        if (slice != 0u) return;
        [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
            for (uint k = 1; k < SLICES; k++) acc[i] += part[(k * ROWS * TOKENS + i) * 32u + r];
    }
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        uint out_row = p.row0 + (tile + i) * 32u + r;
        if (tile + i >= p.n_tile || out_row >= p.n_out) break;
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            if (t0 + t < p.n_tok) o[p.out_at + (t0 + t) * p.n_out + out_row] = acc[i * TOKENS + t];
    }
}
