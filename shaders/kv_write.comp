#version 450
// kv_write.comp: rows of keys and values into the cache. An invocation writes two neighbours (F16),
// one value (F32) or one block of 32 (Q8_0) of keys, then of values.
#include "common.glsl"
layout(binding = 0) readonly restrict buffer K { float k[]; };
layout(binding = 1) readonly restrict buffer V { float v[]; };
layout(binding = 2) writeonly restrict buffer KC { uint kc[]; };
layout(binding = 3) writeonly restrict buffer VC { uint vc[]; };
layout(push_constant) uniform Push {
    uint d, n_kv, n_tok, n_slot, pos0, k_at, v_at, kc_at, vc_at, stride; // stride in words
} p;

#if defined(CACHE_F32)
#define UNITS(d) (d)
#define STORE(cache, at, src, from, i) cache[at + i] = floatBitsToUint(src[from + i]);
#elif defined(CACHE_F16)
#define UNITS(d) ((d) / 2u)
#define STORE(cache, at, src, from, i) \
    cache[at + i] = to_half_bits(src[from + 2u * i]) | (to_half_bits(src[from + 2u * i + 1u]) << 16);
#else
// A row is d / 4 words of values, then its scales, two to a word. An invocation takes the 64 values
// of two scales, so that nobody shares a word.
#define UNITS(d) (((d) + 63u) / 64u)
#define STORE(cache, at, src, from, i)                                                             \
    {                                                                                              \
        uint scales = 0u;                                                                          \
        for (uint h = 0u; h < 2u && 64u * i + 32u * h < p.d; h++) {                                \
            uint x0 = from + 64u * i + 32u * h;                                                    \
            float top = 0.0;                                                                       \
            bool nan = false;                                                                      \
            for (uint j = 0u; j < 32u; j++) {                                                      \
                top = max(top, abs(src[x0 + j]));                                                  \
                nan = nan || is_nan(src[x0 + j]);                                                  \
            }                                                                                      \
            precise float scale = top / 127.0;                                                     \
            precise float inverse = scale != 0.0 ? 1.0 / scale : 0.0;                              \
            scales |= (nan ? 0x7E00u : to_half_bits(scale)) << (16u * h);                          \
            for (uint j = 0u; j < 8u; j++) {                                                       \
                uint word = 0u;                                                                    \
                for (uint b = 0u; b < 4u; b++) {                                                   \
                    precise float q = src[x0 + 4u * j + b] * inverse;                              \
                    int n = nan ? 0 : int(floor(abs(q) + 0.5)); /* halves away from zero */        \
                    word |= (uint(q < 0.0 ? -n : n) & 255u) << (8u * b);                           \
                }                                                                                  \
                cache[at + 16u * i + 8u * h + j] = word;                                           \
            }                                                                                      \
        }                                                                                          \
        cache[at + p.d / 4u + i] = scales;                                                         \
    }
#endif

void main() {
    uint i = gl_GlobalInvocationID.x, g = gl_WorkGroupID.y, t = gl_WorkGroupID.z;
    if (i >= UNITS(p.d)) return;
    uint from = (t * p.n_kv + g) * p.d, row = g * p.n_slot + (p.pos0 + t) % p.n_slot;
    STORE(kc, p.kc_at + row * p.stride, k, p.k_at + from, i)
    STORE(vc, p.vc_at + row * p.stride, v, p.v_at + from, i)
}
