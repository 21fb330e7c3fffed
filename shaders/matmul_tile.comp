#version 450
// matmul_tile.comp: out = x w^T for many tokens: 64 rows of w by 16 * TOKENS tokens a workgroup.
//
// Both operands go through shared memory in steps of 32 values, so that a weight is unpacked once for
// all tokens of the workgroup and x read once for all rows. Each of 128 invocations owns ROWS rows by
// TOKENS tokens, eight and sixteen apart: neighbours read neighbouring rows. With DOT the weights stay
// integers (integers.glsl), x is in blocks of 8 bits (pack_x.comp) and products are integer dots.
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
layout(constant_id = 1) const uint ALIGNED = 1; // x may be read four at a time
layout(constant_id = 2) const uint TOKENS = 4;
const uint ROWS = 8, WIDTH = 128, LINE = 9; // of shared memory: eight quads and one against conflicts
layout(binding = 0) readonly restrict buffer W { uint w[]; };
#ifdef DOT
layout(binding = 1) readonly restrict buffer X { uint x[]; };
#else
layout(binding = 1) readonly restrict buffer X { float x[]; };
layout(binding = 1) readonly restrict buffer X4 { vec4 x4[]; };
#endif
layout(binding = 2) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n_in, n_out, n_tok, row_words, x_at, out_at, row0, tile0, n_tile; // as in matmul.comp
} p;
#include "dequant.glsl"

float acc[ROWS * TOKENS];

// Where row `row` of the workgroup begins.
uint row_at(uint row) {
    return min(p.tile0 + gl_WorkGroupID.x * 2u + row / 32u, p.n_tile - 1u) * p.row_words * ROW_STRIDE + row % 32u;
}

#ifdef DOT
#include "integers.glsl"
shared uint ws[64 * LINE], xs[16 * TOKENS * LINE];
shared vec4 w_scale[64];           // scale of each half of the step, and what each half adds per x
shared vec4 x_scale[16 * TOKENS];  // scale, sum of each half

void fill(uint s, uint t0, uint me) {
    uint n8 = (p.n_in + 7u) >> 3, n32 = (p.n_in + 31u) >> 5;
    for (uint i = me; i < 256u; i += WIDTH) {
        uint row = i & 63u, k = 4u * s + (i >> 6), at = row * LINE + 2u * (i >> 6);
        uvec2 q = k < n8 ? integers8(row_at(row), k) : uvec2(0u);
        ws[at] = q.x;
        ws[at + 1u] = q.y;
    }
    if (me < 64u) w_scale[me] = scales32(row_at(me), s);
    for (uint i = me; i < 16u * TOKENS * 8u; i += WIDTH)
        xs[(i >> 3) * LINE + (i & 7u)] = x[p.x_at + (min(t0 + (i >> 3), p.n_tok - 1u) * n32 + s) * 11u + (i & 7u)];
    if (me < 16u * TOKENS) {
        uint at = p.x_at + (min(t0 + me, p.n_tok - 1u) * n32 + s) * 11u + 8u;
        x_scale[me] = vec4(uintBitsToFloat(x[at]), uintBitsToFloat(x[at + 1u]), uintBitsToFloat(x[at + 2u]), 0.0);
    }
}

void multiply(uint y, uint z) {
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint token = z + 16u * t;
        uint q[8];
        vec4 sx = x_scale[token];
        [[unroll]] for (uint i = 0; i < 8; i++) q[i] = xs[token * LINE + i];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint row = y + 8u * r, at = row * LINE;
            int low = 0, high = 0;
            [[unroll]] for (uint i = 0; i < 4; i++) {
                low += dot8(ws[at + i], q[i]);
                high += dot8(ws[at + 4u + i], q[4u + i]);
            }
            vec4 sw = w_scale[row];
            acc[r * TOKENS + t] += sx.x * (sw.x * float(low) + sw.y * float(high)) + sw.z * sx.y + sw.w * sx.z;
        }
    }
}
#else
shared vec4 ws[64 * LINE], xs[16 * TOKENS * LINE];

// Behind the end of a row the weights are zero, and so is x.
vec4 x_quad(uint row, uint i) {
    if (i >= p.n_in) return vec4(0.0);
    if (ALIGNED != 0) return x4[(row + i) >> 2];
    uint last = p.n_in - 1u;
    return vec4(x[row + i], x[row + min(i + 1u, last)], x[row + min(i + 2u, last)], x[row + min(i + 3u, last)]);
}

void fill(uint s, uint t0, uint me) {
    uint n8 = (p.n_in + 7u) >> 3;
    for (uint i = me; i < 256u; i += WIDTH) {
        uint row = i & 63u, k = 4u * s + (i >> 6), at = row * LINE + 2u * (i >> 6);
        vec4 a = vec4(0.0), b = vec4(0.0);
        if (k < n8) weights8(row_at(row), k >> 2, k & 3u, a, b);
        ws[at] = a;
        ws[at + 1u] = b;
    }
    for (uint i = me; i < 16u * TOKENS * 8u; i += WIDTH)
        xs[(i >> 3) * LINE + (i & 7u)] =
            x_quad(p.x_at + min(t0 + (i >> 3), p.n_tok - 1u) * p.n_in, 32u * s + 4u * (i & 7u));
}

void multiply(uint y, uint z) {
    for (uint q = 0; q < 8u; q++) {
        vec4 b[TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) b[t] = xs[(z + 16u * t) * LINE + q];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            vec4 a = ws[(y + 8u * r) * LINE + q];
            [[unroll]] for (uint t = 0; t < TOKENS; t++) acc[r * TOKENS + t] += dot(a, b[t]);
        }
    }
}
#endif

void main() {
    uint me = gl_LocalInvocationIndex, y = me & 7u, z = me >> 3, t0 = gl_WorkGroupID.y * 16u * TOKENS;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++) acc[i] = 0.0;
    uint n32 = (p.n_in + 31u) >> 5;
    for (uint s = 0; s < n32; s++) {
        fill(s, t0, me);
        barrier();
        multiply(y, z);
        barrier();
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uint row = y + 8u * r, tile = p.tile0 + gl_WorkGroupID.x * 2u + row / 32u;
        uint out_row = p.row0 + tile * 32u + row % 32u;
        if (tile >= p.n_tile || out_row >= p.n_out) continue;
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            uint token = t0 + z + 16u * t;
            if (token < p.n_tok) o[p.out_at + token * p.n_out + out_row] = acc[r * TOKENS + t];
        }
    }
}
