#version 450
// attention.comp: softmax(q k) v for one head of TOKENS tokens over a part of their keys.
//
// Keys go in blocks of one per invocation: each invocation scores its own key, then each owns some
// columns of v. The running maximum and sum are rescaled from block to block, so the number of keys
// does not matter. With more than one part, what is written are sums with their maximum, which
// attention_join.comp brings together.
#extension GL_EXT_control_flow_attributes : require
#define REDUCE
#include "common.glsl"
layout(constant_id = 1) const uint COLUMNS = 1; // of v, per invocation
layout(constant_id = 2) const uint TOKENS = 1;
layout(binding = 0) readonly restrict buffer Q { float q[]; };
layout(binding = 1) readonly restrict buffer KC { uint kc[]; };
layout(binding = 2) readonly restrict buffer VC { uint vc[]; };
layout(binding = 3) readonly restrict buffer Range { int range[]; }; // [n_tok] lo, [n_tok] hi
layout(binding = 4) writeonly restrict buffer Out { float o[]; };
layout(push_constant) uniform Push {
    uint d, n_head, group, n_tok, n_slot, q_at, kc_at, vc_at, range_at, out_at, stride, n_part;
} p;

shared float score[gl_WorkGroupSize.x * TOKENS];

// Two neighbours of a row that begins at word `row`.
#if defined(CACHE_F32)
#define PAIR(cache, row, i) vec2(uintBitsToFloat(cache[row + 2u * (i)]), uintBitsToFloat(cache[row + 2u * (i) + 1u]))
#elif defined(CACHE_F16)
#define PAIR(cache, row, i) unpackHalf2x16(cache[row + (i)])
#else
vec2 q8_pair(uint word, uint scales, uint i) {
    float s = half_bits(scales >> (16u * ((i >> 4) & 1u)));
    int v = int(word) >> (16u * (i & 1u));
    return vec2(bitfieldExtract(v, 0, 8), bitfieldExtract(v, 8, 8)) * s;
}
#define PAIR(cache, row, i) q8_pair(cache[row + ((i) >> 1)], cache[row + p.d / 4u + ((i) >> 5)], i)
#endif

void main() {
    uint h = gl_WorkGroupID.x, t0 = gl_WorkGroupID.y * TOKENS, me = gl_LocalInvocationIndex;
    uint width = gl_WorkGroupSize.x, head_row = (h / p.group) * p.n_slot, half_d = p.d / 2u;
    int lo[TOKENS], hi[TOKENS];
    uint q_row[TOKENS];
    float top[TOKENS], sum[TOKENS];
    vec2 acc[TOKENS * COLUMNS];
    int first = 0x7FFFFFFF, last = 0;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint token = min(t0 + t, p.n_tok - 1u);
        lo[t] = range[p.range_at + token];
        hi[t] = range[p.range_at + p.n_tok + token];
        q_row[t] = p.q_at + (token * p.n_head + h) * p.d;
        top[t] = NEG_HUGE;
        sum[t] = 0.0;
        first = min(first, lo[t]);
        last = max(last, hi[t]);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[t * COLUMNS + c] = vec2(0.0);
    }
    // This part of the keys, in whole blocks.
    int blocks = (last - first) / int(width) + 1;
    int per = (blocks + int(p.n_part) - 1) / int(p.n_part) * int(width);
    int from = first + int(gl_WorkGroupID.z) * per, to = min(from + per - 1, last);

    for (int j0 = from; j0 <= to; j0 += int(width)) {
        int j = j0 + int(me);
        uint k_row = p.kc_at + (head_row + uint(min(j, to)) % p.n_slot) * p.stride;
        float s[TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) s[t] = 0.0;
        for (uint i = 0; i < half_d; i++) {
            vec2 key = PAIR(kc, k_row, i);
            [[unroll]] for (uint t = 0; t < TOKENS; t++)
                s[t] += key.x * q[q_row[t] + 2u * i] + key.y * q[q_row[t] + 2u * i + 1u];
        }
        float shrink[TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            bool seen = j <= to && j >= lo[t] && j <= hi[t];
            float now = max(top[t], group_max(seen ? s[t] : NEG_HUGE));
            float e = seen ? exp_exact(s[t] - now) : 0.0;
            shrink[t] = exp_exact(top[t] - now);
            sum[t] = sum[t] * shrink[t] + group_sum(e);
            top[t] = now;
            score[t * width + me] = e;
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[t * COLUMNS + c] *= shrink[t];
        }
        barrier();
        uint n = uint(min(to - j0 + 1, int(width)));
        for (uint i = 0; i < n; i++) {
            uint v_row = p.vc_at + (head_row + uint(j0 + int(i)) % p.n_slot) * p.stride;
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                uint column = min(me + c * width, half_d - 1u);
                vec2 value = PAIR(vc, v_row, column);
                [[unroll]] for (uint t = 0; t < TOKENS; t++)
                    acc[t * COLUMNS + c] += score[t * width + i] * value;
            }
        }
        barrier();
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        if (t0 + t >= p.n_tok) break;
        uint row = (t0 + t) * p.n_head + h;
        float scale = p.n_part == 1u ? 1.0 / sum[t] : 1.0;
        uint at = p.out_at + (p.n_part == 1u ? row * p.d
                                             : (row * p.n_part + gl_WorkGroupID.z) * (p.d + 2u));
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            uint column = me + c * width;
            if (column >= half_d) break;
            o[at + 2u * column] = acc[t * COLUMNS + c].x * scale;
            o[at + 2u * column + 1u] = acc[t * COLUMNS + c].y * scale;
        }
        if (p.n_part > 1u && me == 0u) {
            o[at + p.d] = top[t];
            o[at + p.d + 1u] = sum[t];
        }
    }
}
