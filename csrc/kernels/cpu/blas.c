/* blas.c: OpenBLAS, where there is one; see blas.h. */
#include "kernels/cpu/blas.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include "base/dynlib.h"
#include "base/log.h"

/* Of the CBLAS interface; its enumerations are ints. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void (*sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                         const float *a, int lda, const float *b, int ldb, float beta, float *c,
                         int ldc);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_fn sgemm;
static char description[128];

/* A build without threads shares the memory of its products among whoever calls it, and one with
 * OpenMP knows only OpenMP's threads: two products at once came out wrong (Debian 13's
 * libopenblas0-serial 0.3.29, one run of check_matmul in twenty). These compute one at a time. */
static pthread_mutex_t alone = PTHREAD_MUTEX_INITIALIZER;
static bool one_at_a_time;

enum { WITH_THREADS = 1 }; /* of openblas_get_parallel: 0 is none, 2 OpenMP */

/* The library's threads would fight with our team for the cores: it gets one, which it must
 * promise by having the call. */
static bool take(void *lib) {
    void (*set_threads)(int);
    int (*parallel)(void);
    char *(*config)(void);
    sgemm_fn fn;
    if (!gm_dynlib_find(lib, "openblas_set_num_threads", &set_threads)) return false;
    if (!gm_dynlib_find(lib, "cblas_sgemm", &fn)) return false;
    set_threads(1);
    one_at_a_time =
        !gm_dynlib_find(lib, "openblas_get_parallel", &parallel) || parallel() != WITH_THREADS;
    if (gm_dynlib_find(lib, "openblas_get_config", &config))
        snprintf(description, sizeof description, "%s", config());
    sgemm = fn;
    return true;
}

/* The library stays loaded: its threads may not survive being unmapped. */
static void load(void) {
    static const char *const names[] = {"libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so",
                                        "libopenblas.0.dylib", "libopenblas.dylib"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !sgemm; i++) {
        void *lib = gm_dynlib_open(&names[i], 1);
        if (!take(lib)) gm_dynlib_close(lib);
    }
    gm_log(GM_LOG_INFO, "kernels", "BLAS: %s", sgemm ? description : "none");
}

bool gm_blas_available(void) {
    pthread_once(&once, load);
    return sgemm != NULL;
}

void gm_blas_add_product(int32_t m, int32_t n, int32_t k, const float *a, int32_t lda,
                         const float *b, int32_t ldb, float *c, int32_t ldc) {
    if (one_at_a_time) pthread_mutex_lock(&alone);
    sgemm(ROW_MAJOR, NO_TRANS, TRANS, m, n, k, 1.0f, a, lda, b, ldb, 1.0f, c, ldc);
    if (one_at_a_time) pthread_mutex_unlock(&alone);
}
