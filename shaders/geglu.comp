#version 450
// geglu.comp: out = gelu_tanh(gate) * up, elementwise.
#include "common.glsl"
layout(binding = 0) readonly buffer Gate { float gate[]; };
layout(binding = 1) readonly buffer Up { float up[]; };
layout(binding = 2) writeonly buffer Out { float o[]; };
layout(push_constant) uniform Push { uint n, gate_at, up_at, out_at, per; } p;

void main() {
    // 0.5 x (1 + tanh u) is x / (1 + exp(-2u)), which keeps its digits where tanh is close to -1.
    for (uint j = 0u; j < p.per; j++) {
        uint i = (gl_WorkGroupID.x * p.per + j) * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
        if (i >= p.n) return;
        float x = gate[p.gate_at + i], c = clamp(x, -20.0, 20.0);
        precise float two_u = 1.59576912 * (c + 0.044715 * c * c * c);
        o[p.out_at + i] = x / (1.0 + exp_exact(min(-two_u, 88.0))) * up[p.up_at + i];
    }
}
