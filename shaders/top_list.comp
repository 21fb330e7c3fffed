#version 450
// top_list.comp: the ids whose logits reach the bound, and their logits, in no order; -infinity never. The
// count goes on where the room ends.
#include "common.glsl"
#include "top.glsl"
layout(binding = 0) readonly restrict buffer X { uint x[]; };
layout(binding = 1) readonly restrict buffer Stats { uint stat[]; };
layout(binding = 2) restrict buffer Out { uint o[]; }; // as in top_bound.comp, then pairs
layout(push_constant) uniform Push { uint n, room, x_at, stat_at, out_at; } p;

void main() {
    uint block = gl_GlobalInvocationID.x;
    if (block >= BLOCKS) return;
    uint bound = key_of(o[p.out_at + 2u]);
    if (stat[p.stat_at + block] < bound) return;
    for (uint i = block; i < p.n; i += BLOCKS) {
        uint key = key_of(x[p.x_at + i]);
        if (key < bound || key == KEY_LOWEST) continue;
        uint slot = atomicAdd(o[p.out_at + 3u], 1u);
        if (slot >= p.room) return;
        o[p.out_at + 4u + 2u * slot] = bits_of(key);
        o[p.out_at + 5u + 2u * slot] = i;
    }
}
