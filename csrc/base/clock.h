/* clock.h: monotonic time. */
#pragma once

#include <stdint.h>
#include <time.h>

/* Nanoseconds since an arbitrary start; never goes back. */
static inline uint64_t gm_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline double gm_ms_since(uint64_t start_ns) {
    return (double)(gm_now_ns() - start_ns) / 1e6;
}
