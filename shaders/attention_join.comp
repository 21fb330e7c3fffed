#version 450
// attention_join.comp: parts of one head's sums, each with its own maximum, to the result.
#include "common.glsl"
layout(binding = 0) readonly restrict buffer Part { float part[]; };
layout(binding = 1) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push { uint d, n_part, part_at, out_at; } p;

void main() {
    uint row = gl_WorkGroupID.x, at = p.part_at + row * p.n_part * (p.d + 2u);
    float top = NEG_HUGE, sum = 0.0;
    for (uint i = 0u; i < p.n_part; i++) top = max(top, part[at + i * (p.d + 2u) + p.d]);
    for (uint i = 0u; i < p.n_part; i++)
        sum += part[at + i * (p.d + 2u) + p.d + 1u] * exp_exact(part[at + i * (p.d + 2u) + p.d] - top);
    for (uint c = gl_LocalInvocationIndex; c < p.d; c += gl_WorkGroupSize.x) {
        float v = 0.0;
        for (uint i = 0u; i < p.n_part; i++)
            v += part[at + i * (p.d + 2u) + c] * exp_exact(part[at + i * (p.d + 2u) + p.d] - top);
        o[p.out_at + row * p.d + c] = v / sum;
    }
}
