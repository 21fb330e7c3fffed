#version 450
// norm.comp: out = x / rms(x) * w, and with ADD: h = (h + x / rms(x) * w) * scale. A workgroup a row.
#define REDUCE
#include "common.glsl"
layout(constant_id = 1) const uint ADD = 0;
layout(binding = 0) readonly buffer X { float x[]; };
layout(binding = 1) readonly buffer W { float w[]; };
layout(binding = 2) buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n, x_at, w_at, out_at, weighted;
    float eps, scale;
} p;
#include "rms.glsl"

void main() {
    uint from = p.x_at + gl_WorkGroupID.x * p.n, to = p.out_at + gl_WorkGroupID.x * p.n;
    float top = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < p.n; i += gl_WorkGroupSize.x)
        top = max(top, abs(x[from + i]));
    top = group_max(top);
    float down = rms_down(top), sum = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < p.n; i += gl_WorkGroupSize.x) {
        float v = x[from + i] * down;
        sum += v * v;
    }
    float r = rms_inverse(group_sum(sum) / float(p.n), down, p.eps);
    for (uint i = gl_LocalInvocationIndex; i < p.n; i += gl_WorkGroupSize.x) {
        float v = (x[from + i] * down) * r;
        if (p.weighted != 0u) v *= w[p.w_at + i];
        o[to + i] = ADD != 0 ? (o[to + i] + v) * p.scale : v;
    }
}
