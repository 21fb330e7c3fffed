/* random.h: seeded random numbers for tests; the same on every machine. */
#pragma once

#include <math.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} test_rng;

/* splitmix64 */
static inline uint64_t rng_u64(test_rng *r) {
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0 .. n-1 */
static inline uint64_t rng_below(test_rng *r, uint64_t n) { return rng_u64(r) % n; }

/* [0, 1) */
static inline float rng_unit(test_rng *r) { return (float)(rng_u64(r) >> 40) * 0x1p-24f; }

/* Roughly normal, mean 0, deviation 1: the sum of twelve uniform numbers. No logarithm, so the
 * same bits everywhere. */
static inline float rng_gauss(test_rng *r) {
    float s = -6.0f;
    for (int i = 0; i < 12; i++) s += rng_unit(r);
    return s;
}
