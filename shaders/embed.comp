#version 450
// embed.comp: rows of the embedding table, scaled. Rows outside of this piece of the table, and
// tokens without an id, leave the output as it is.
#include "common.glsl"
layout(binding = 0) readonly restrict buffer W { uint w[]; };
layout(binding = 1) readonly restrict buffer Ids { int ids[]; };
layout(binding = 2) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint n_in, row_words, ids_at, out_at, row0, n_row;
    float scale;
} p;
#include "dequant.glsl"

void main() {
    int id = ids[p.ids_at + gl_WorkGroupID.y];
    if (id < int(p.row0) || id >= int(p.row0 + p.n_row)) return;
    uint local = uint(id) - p.row0, k = gl_GlobalInvocationID.x;
    if (8u * k >= p.n_in) return;
    vec4 a, b;
    weights8((local / 32u) * p.row_words * ROW_STRIDE + local % 32u, k >> 2, k & 3u, a, b);
    uint at = p.out_at + gl_WorkGroupID.y * p.n_in + 8u * k;
    for (uint i = 0; i < 4u; i++) {
        if (8u * k + i < p.n_in) o[at + i] = a[i] * p.scale;
        if (8u * k + 4u + i < p.n_in) o[at + 4u + i] = b[i] * p.scale;
    }
}
