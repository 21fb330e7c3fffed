/* blas.h: OpenBLAS, found at run time.
 *
 * Used for float weights in prefill where the CPU has no tiles of ours (gemm_tile.h): there it
 * brings vector code that plain C lacks. Nothing links against it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Looks for the library at the first call, which may allocate and take milliseconds; cached.
 * Thread: any. */
bool gm_blas_available(void);

/* c[i, j] += sum_k a[i, k] * b[j, k]; a: [m, k] rows lda floats apart, b: [n, k], c: [m, n]. Runs
 * on the calling thread alone; different threads may call at once. Only when available. */
void gm_blas_add_product(int32_t m, int32_t n, int32_t k, const float *a, int32_t lda,
                         const float *b, int32_t ldb, float *c, int32_t ldc);
