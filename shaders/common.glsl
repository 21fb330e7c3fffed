// common.glsl: what every shader shares: one binding layout, exact helpers, reductions.
//
// Nothing here needs 8- or 16-bit storage: everything is read and written as 32-bit words.
// Exponentials are computed here and not by the driver, whose precision is its own affair.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

const float NEG_HUGE = -3.0e38;

// A half float in the low 16 bits; subnormals exact on every device, NaN and infinities what they are:
// a damaged scale must show.
float half_bits(uint h) {
    uint e = (h >> 10) & 31u;
    float m = float(h & 1023u);
    float v = e == 0u ? m * 5.9604644775390625e-8
                      : uintBitsToFloat((e == 31u ? 0x7F800000u : (e + 112u) << 23) | ((h & 1023u) << 13));
    return (h & 0x8000u) != 0u ? -v : v;
}

// By its bits: drivers need not keep NaN in max, nor believe in it in comparisons.
bool is_nan(float f) {
    return (floatBitsToUint(f) & 0x7FFFFFFFu) > 0x7F800000u;
}

// v / 2^shift to nearest, ties to even; shift 1..31
uint shift_round(uint v, uint shift) {
    uint half_way = 1u << (shift - 1u), low = v & (half_way * 2u - 1u), q = v >> shift;
    return q + ((low > half_way || (low == half_way && (q & 1u) != 0u)) ? 1u : 0u);
}

// The half float nearest to f, in the low 16 bits: packHalf2x16 may round as it likes.
uint to_half_bits(float f) {
    uint u = floatBitsToUint(f), magnitude = u & 0x7FFFFFFFu, sign = (u >> 16) & 0x8000u;
    if (is_nan(f)) return sign | 0x7E00u;
    if (magnitude >= 0x47800000u) return sign | 0x7C00u;
    if (magnitude >= 0x38800000u) return sign | shift_round(magnitude - (112u << 23), 13u);
    if (magnitude < 0x33000000u) return sign;
    return sign | shift_round((magnitude & 0x7FFFFFu) | 0x800000u, 126u - (magnitude >> 23));
}

// e^x within 2 ulp for x <= 88; 0 below -87.
float exp_exact(float x) {
    float n = floor(x * 1.44269504 + 0.5);
    precise float r = x - n * 0.693359375;
    r = r - n * -2.12194440e-4;
    precise float p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    int e = int(clamp(n, -126.0, 127.0));
    return x < -87.0 ? 0.0 : p * uintBitsToFloat(uint(e + 127) << 23);
}

#ifdef REDUCE
shared float reduce_part[128]; // subgroups of a workgroup: at most 1024 / 8

float group_sum(float v) {
    v = subgroupAdd(v);
    if (gl_NumSubgroups == 1u) return v;
    if (subgroupElect()) reduce_part[gl_SubgroupID] = v;
    barrier();
    float sum = 0.0;
    for (uint i = 0u; i < gl_NumSubgroups; i++) sum += reduce_part[i];
    barrier();
    return sum;
}

float group_max(float v) {
    v = subgroupMax(v);
    if (gl_NumSubgroups == 1u) return v;
    if (subgroupElect()) reduce_part[gl_SubgroupID] = v;
    barrier();
    float top = reduce_part[0];
    for (uint i = 1u; i < gl_NumSubgroups; i++) top = max(top, reduce_part[i]);
    barrier();
    return top;
}
#endif
