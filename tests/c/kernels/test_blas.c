/* test_blas.c: the product that we ask of BLAS is the one that it computes. */
#include "helper/cm.h"

#include <math.h>
#include <stdio.h>
#include "helper/random.h"
#include "kernels/cpu/blas.h"

static void products_are_added_row_by_row(void **state) {
    (void)state;
    if (!gm_blas_available()) {
        printf("skipped: no OpenBLAS here\n");
        skip();
    }
    enum { M = 5, N = 7, K = 33, LDA = 40, LDB = 36, LDC = 9 };
    float a[M * LDA], b[N * LDB], c[M * LDC];
    test_rng rng = {.state = 7};
    for (int i = 0; i < M * LDA; i++) a[i] = rng_gauss(&rng);
    for (int i = 0; i < N * LDB; i++) b[i] = rng_gauss(&rng);
    for (int i = 0; i < M * LDC; i++) c[i] = (float)i;
    gm_blas_add_product(M, N, K, a, LDA, b, LDB, c, LDC);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < LDC; j++) {
            double want = i * LDC + j;
            for (int k = 0; j < N && k < K; k++) want += (double)a[i * LDA + k] * b[j * LDB + k];
            double got = c[i * LDC + j];
            if (fabs(got - want) > 1e-4) fail_msg("c[%d, %d] is %g, not %g", i, j, got, want);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_added_row_by_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
