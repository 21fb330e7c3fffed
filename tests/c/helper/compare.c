/* compare.c: see compare.h. */
#include "helper/compare.h"

#include <math.h>
#include <string.h>
#include "helper/cm.h"

double rel_error(const float *got, const float *want, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i])) return INFINITY;
        double d = (double)got[i] - (double)want[i];
        diff += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    if (diff == 0) return 0;
    return norm > 0 ? sqrt(diff / norm) : INFINITY;
}

void check_rows_close(const float *got, const float *want, int64_t n, double limit,
                      const char *file, int line) {
    double e = rel_error(got, want, n);
    if (e <= limit) return;
    int64_t worst = 0;
    double worst_diff = -1;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (isnan(d)) d = INFINITY;
        if (d > worst_diff) {
            worst = i;
            worst_diff = d;
        }
    }
    print_error("relative error %g over %g; worst at %lld: got %.9g, want %.9g\n", e, limit,
                (long long)worst, (double)got[worst], (double)want[worst]);
    _fail(file, line);
}

void check_rows_equal(const float *got, const float *want, int64_t n, const char *file, int line) {
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) == 0) continue;
        print_error("element %lld: got %.9g, want %.9g\n", (long long)i, (double)got[i],
                    (double)want[i]);
        _fail(file, line);
    }
}
