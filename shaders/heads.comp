#version 450
// heads.comp: rms norm of each head, then rotation of pairs (i, i + d/2). In place; a workgroup a
// head; an invocation reads and writes its own pairs only.
#define REDUCE
#include "common.glsl"
layout(binding = 0) buffer X { float x[]; };
layout(binding = 1) readonly buffer W { float w[]; };
layout(binding = 2) readonly restrict buffer Turn { float turn[]; }; // [n_tok, 2, d/2]: cosines, sines
layout(push_constant) uniform Push {
    uint d, n_head, x_at, w_at, turn_at, weighted, turning;
    float eps;
} p;
#include "rms.glsl"

void main() {
    uint h = gl_WorkGroupID.x, t = gl_WorkGroupID.y, half_d = p.d / 2u;
    uint at = p.x_at + (t * p.n_head + h) * p.d;
    float top = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < half_d; i += gl_WorkGroupSize.x)
        top = max(top, max(abs(x[at + i]), abs(x[at + half_d + i])));
    top = group_max(top);
    float down = rms_down(top), sum = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < half_d; i += gl_WorkGroupSize.x) {
        float a = x[at + i] * down, b = x[at + half_d + i] * down;
        sum += a * a + b * b;
    }
    float r = rms_inverse(group_sum(sum) / float(p.d), down, p.eps);
    uint turn0 = p.turn_at + t * p.d;
    for (uint i = gl_LocalInvocationIndex; i < half_d; i += gl_WorkGroupSize.x) {
        float a = (x[at + i] * down) * r, b = (x[at + half_d + i] * down) * r;
        if (p.weighted != 0u) {
            a *= w[p.w_at + i];
            b *= w[p.w_at + half_d + i];
        }
        if (p.turning != 0u) {
            float c = turn[turn0 + i], s = turn[turn0 + half_d + i];
            precise float a2 = a * c - b * s;
            b = b * c + a * s;
            a = a2;
        }
        x[at + i] = a;
        x[at + half_d + i] = b;
    }
}
