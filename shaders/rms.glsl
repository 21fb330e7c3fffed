// rms.glsl: a root mean square that survives values whose squares leave float32.

// The power of two that brings rows with huge values down to about 1; 1 for all others.
float rms_down(float top) {
    if (top < 1.0e15) return 1.0;
    uint e = floatBitsToUint(top) >> 23;
    return uintBitsToFloat((254u - e) << 23);
}

// 1 / sqrt(mean(x^2) + eps), relative to x * down. The correctly rounded pieces only: drivers take
// inversesqrt lightly.
float rms_inverse(float mean, float down, float eps) {
    return 1.0 / sqrt(mean + eps * down * down);
}
