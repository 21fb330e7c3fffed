#version 450
// softcap.comp: x = cap * tanh(x / cap), in place.
#include "common.glsl"
layout(binding = 0) buffer X { float x[]; };
layout(push_constant) uniform Push { uint n, x_at, per; float cap; } p;

// Up to 0.625 the fit of (tanh y - y) / y^3 in y^2; above, where nothing cancels, by exponential.
float tanh_exact(float y) {
    float a = abs(y);
    precise float z = y * y;
    precise float q = -0.00609671417;
    q = q * z + 0.0209971790;
    q = q * z - 0.0538509096;
    q = q * z + 0.133327697;
    q = q * z - 0.333333289;
    precise float small = q * z * y + y;
    precise float large = 1.0 - 2.0 / (exp_exact(min(2.0 * a, 80.0)) + 1.0);
    return a < 0.625 ? small : (y < 0.0 ? -large : large);
}

void main() {
    for (uint j = 0u; j < p.per; j++) {
        uint i = (gl_WorkGroupID.x * p.per + j) * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
        if (i >= p.n) return;
        float v = x[p.x_at + i];
        // What is tiny stays as it is: the quotient may be too small for a device's floats.
        if (abs(v) > 1.0e-4 * p.cap) x[p.x_at + i] = p.cap * tanh_exact(v / p.cap);
    }
}
