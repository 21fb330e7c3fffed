/* compare.h: comparing rows of floats in tests. */
#pragma once

#include <stdint.h>

/* rms(got - want) / rms(want); infinity when anything is not finite. */
double rel_error(const float *got, const float *want, int64_t n);

/* Fails the running test, printing the place and both sides of the worst element, when
 * rel_error exceeds limit. */
#define assert_rows_close(got, want, n, limit)                                                     \
    check_rows_close(got, want, n, limit, __FILE__, __LINE__)
void check_rows_close(const float *got, const float *want, int64_t n, double limit,
                      const char *file, int line);

/* Fails unless every element has the same bits. */
#define assert_rows_equal(got, want, n) check_rows_equal(got, want, n, __FILE__, __LINE__)
void check_rows_equal(const float *got, const float *want, int64_t n, const char *file, int line);
