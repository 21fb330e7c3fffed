// top.glsl: logits as integers, and the blocks that a row of them is cut into.

const uint BLOCKS = 2048u;             // as in vk_top.c; id i belongs to block i % BLOCKS
const uint KEY_LOWEST = 0x007FFFFFu;   // of -infinity

// Ascending with the logit. Compared as integers nothing is lost, whatever a device does with tiny
// floats; NaN becomes the lowest, infinity the largest finite one, and -0 equals 0.
uint key_of(uint bits) {
    uint magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return KEY_LOWEST;
    if (magnitude == 0u) return 0x80000000u;
    if (bits == 0x7F800000u) return 0xFF7FFFFFu;
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

uint bits_of(uint key) {
    return (key & 0x80000000u) != 0u ? key & 0x7FFFFFFFu : ~key;
}

// e^(logit - high) by their keys; high is the largest of some.
float share(uint key, uint high) {
    return exp_exact(max(uintBitsToFloat(bits_of(key)) - uintBitsToFloat(bits_of(high)), -100.0));
}
