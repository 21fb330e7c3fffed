#version 450
// top_bound.comp: the highest logit of a row, the sum of e^(logit - highest), and the bound above which
// top_list.comp lists. One workgroup.
//
// As many blocks as ids are wanted have a highest logit that reaches the bound, so as many ids do at
// least. Most blocks above it hold only one, since neighbours in the row are in different blocks.
#define REDUCE
#include "common.glsl"
#include "top.glsl"
layout(binding = 0) readonly restrict buffer Stats { uint stat[]; }; // as top_blocks.comp wrote them
layout(binding = 1) writeonly restrict buffer Out { uint o[]; }; // max, sum, bound, ids listed so far
layout(push_constant) uniform Push { uint n_block, wanted, stat_at, out_at; } p; // n_block: with ids

shared uint high[BLOCKS];

uint group_max_key(uint key) {
    // Halves of a key are exact as floats, and reductions of floats are there already.
    uint upper = uint(group_max(float(key >> 16)));
    uint lower = uint(group_max(key >> 16 == upper ? float(key & 0xFFFFu) : 0.0));
    return upper << 16 | lower;
}

void main() {
    uint mine = KEY_LOWEST;
    for (uint i = gl_LocalInvocationIndex; i < BLOCKS; i += gl_WorkGroupSize.x) {
        high[i] = i < p.n_block ? stat[p.stat_at + i] : 0u;
        mine = max(mine, high[i]);
    }
    uint top = group_max_key(mine);
    float sum = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < p.n_block; i += gl_WorkGroupSize.x)
        if (high[i] > KEY_LOWEST) sum += uintBitsToFloat(stat[p.stat_at + BLOCKS + i]) * share(high[i], top);
    sum = group_sum(sum);
    // Bit by bit the largest key that enough blocks reach. Invocations read what they wrote.
    uint bound = 0u;
    for (uint bit = 0x80000000u; bit != 0u; bit >>= 1) {
        float n = 0.0;
        for (uint i = gl_LocalInvocationIndex; i < BLOCKS; i += gl_WorkGroupSize.x)
            n += high[i] >= (bound | bit) ? 1.0 : 0.0;
        if (group_sum(n) >= float(p.wanted)) bound |= bit;
    }
    if (gl_LocalInvocationIndex != 0u) return;
    o[p.out_at] = bits_of(top);
    o[p.out_at + 1u] = floatBitsToUint(sum);
    o[p.out_at + 2u] = bits_of(bound);
    o[p.out_at + 3u] = 0u;
}
