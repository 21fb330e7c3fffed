#version 450
// matmul_matrix.comp: matmul_tile.comp on a device's matrix units: 64 rows of w by 64 tokens a workgroup,
// in half floats that are summed in float32.
//
// Weights are unpacked into shared memory in steps of 32 values; x is in half floats already
// (pack_x.comp). The workgroup's subgroups share the products of M x N; results go through shared
// memory, where their places are known, to the output.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"
layout(constant_id = 1) const uint M = 16; // sizes of the device's matrices
layout(constant_id = 2) const uint N = 16;
layout(constant_id = 3) const uint K = 16;
layout(constant_id = 4) const uint SUBGROUPS = 4;
const uint WIDTH = 128, LINE = 40; // values of a row in shared memory: 32 and some against conflicts
layout(binding = 0) readonly restrict buffer W { uint w[]; };
layout(binding = 1) readonly restrict buffer X { uint x[]; };
layout(binding = 2) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n_in, n_out, n_tok, row_words, x_at, out_at, row0, tile0, n_tile; // as in matmul.comp
} p;
#include "dequant.glsl"

shared float16_t ws[64 * LINE], xs[64 * LINE];
shared float patch_[SUBGROUPS * M * N];
const uint COLUMNS = 64 / N, PRODUCTS = (64 / M) * COLUMNS, EACH = (PRODUCTS + SUBGROUPS - 1) / SUBGROUPS;

void fill(uint s, uint t0, uint me) {
    uint n8 = (p.n_in + 7u) >> 3, n32 = (p.n_in + 31u) >> 5;
    for (uint i = me; i < 256u; i += WIDTH) {
        uint row = i & 63u, k = 4u * s + (i >> 6), at = row * LINE + 8u * (i >> 6);
        uint tile = min(p.tile0 + gl_WorkGroupID.x * 2u + row / 32u, p.n_tile - 1u);
        vec4 a = vec4(0.0), b = vec4(0.0);
        if (k < n8) weights8(tile * p.row_words * ROW_STRIDE + row % 32u, k >> 2, k & 3u, a, b);
        [[unroll]] for (uint j = 0; j < 4u; j++) {
            ws[at + j] = float16_t(a[j]);
            ws[at + 4u + j] = float16_t(b[j]);
        }
    }
    for (uint i = me; i < 64u * 16u; i += WIDTH) {
        uint token = min(t0 + (i >> 4), p.n_tok - 1u);
        vec2 v = unpackHalf2x16(x[p.x_at + token * 16u * n32 + 16u * s + (i & 15u)]);
        xs[(i >> 4) * LINE + 2u * (i & 15u)] = float16_t(v.x);
        xs[(i >> 4) * LINE + 2u * (i & 15u) + 1u] = float16_t(v.y);
    }
}

void main() {
    uint me = gl_LocalInvocationIndex, t0 = gl_WorkGroupID.y * 64u, n32 = (p.n_in + 31u) >> 5;
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> acc[EACH];
    [[unroll]] for (uint i = 0; i < EACH; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    for (uint s = 0; s < n32; s++) {
        fill(s, t0, me);
        barrier();
        [[unroll]] for (uint i = 0; i < EACH; i++) {
            uint product = gl_SubgroupID + i * SUBGROUPS;
            if (product >= PRODUCTS) break;
            uint row = product / COLUMNS * M, token = product % COLUMNS * N;
            [[unroll]] for (uint k = 0; k < 32u; k += K) {
                coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                coopMatLoad(a, ws, row * LINE + k, LINE, gl_CooperativeMatrixLayoutRowMajor);
                coopMatLoad(b, xs, token * LINE + k, LINE, gl_CooperativeMatrixLayoutColumnMajor);
                acc[i] = coopMatMulAdd(a, b, acc[i]);
            }
        }
        barrier();
    }
    [[unroll]] for (uint i = 0; i < EACH; i++) {
        uint product = gl_SubgroupID + i * SUBGROUPS;
        if (product < PRODUCTS)
            coopMatStore(acc[i], patch_, gl_SubgroupID * M * N, M, gl_CooperativeMatrixLayoutColumnMajor);
        barrier();
        uint row = product / COLUMNS * M, token = product % COLUMNS * N;
        for (uint j = gl_SubgroupInvocationID; product < PRODUCTS && j < M * N; j += gl_SubgroupSize) {
            uint r = row + j % M, t = t0 + token + j / M;
            uint tile = p.tile0 + gl_WorkGroupID.x * 2u + r / 32u, out_row = p.row0 + tile * 32u + r % 32u;
            if (tile >= p.n_tile || out_row >= p.n_out || t >= p.n_tok) continue;
            float up = uintBitsToFloat(x[p.x_at + p.n_tok * 16u * n32 + t]);
            o[p.out_at + t * p.n_out + out_row] = patch_[gl_SubgroupID * M * N + j] * up;
        }
        barrier();
    }
}
