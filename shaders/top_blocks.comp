#version 450
// top_blocks.comp: of each block of a row of logits the highest, and the sum of e^(logit - highest). An
// invocation a block, and neighbours read neighbours; eight reads are on their way at once, since there
// are too few invocations to hide how long one takes.
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#include "top.glsl"
layout(binding = 0) readonly restrict buffer X { uint x[]; };
layout(binding = 1) writeonly restrict buffer Stats { uint stat[]; }; // keys, then sums
layout(push_constant) uniform Push { uint n, x_at, stat_at; } p;

void main() {
    uint block = gl_GlobalInvocationID.x, high = KEY_LOWEST;
    float sum = 0.0;
    if (block >= BLOCKS) return;
    for (uint i = block; i < p.n; i += 8u * BLOCKS) {
        uint key[8];
        [[unroll]] for (uint j = 0; j < 8u; j++) {
            uint bits = x[p.x_at + min(i + j * BLOCKS, p.n - 1u)];
            key[j] = i + j * BLOCKS < p.n ? key_of(bits) : KEY_LOWEST;
        }
        uint next = high;
        [[unroll]] for (uint j = 0; j < 8u; j++) next = max(next, key[j]);
        if (next > high) sum *= share(high, next);
        high = next;
        [[unroll]] for (uint j = 0; j < 8u; j++) sum += key[j] > KEY_LOWEST ? share(key[j], high) : 0.0;
    }
    stat[p.stat_at + block] = high;
    stat[p.stat_at + BLOCKS + block] = floatBitsToUint(sum);
}
