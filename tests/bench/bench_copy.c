/* bench_copy.c: how fast a device copies its own memory: the limit for a token that is written,
 * which reads every weight once.
 *
 *     bench_copy [DEVICE] [MIB]
 *
 * Prints bytes read and written per second in GB, of the fastest of ROUNDS.
 */
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "kernels/backend.h"

enum { ROUNDS = 5, COPIES = 8, ROW = 1 << 18 };

static int alloc(gm_backend *b, gm_tensor *t, int64_t n_row) {
    *t = gm_tensor_view(GM_F32, NULL, ROW, n_row);
    return gm_be_tensor_alloc(b, t);
}

/* Milliseconds of COPIES copies; negative: it failed. */
static double copy_ms(gm_backend *b, gm_tensor *to, const gm_tensor *from, size_t n) {
    uint64_t start = gm_now_ns();
    for (int i = 0; i < COPIES; i++)
        if (gm_be_copy(b, to, 0, from, 0, n)) return -1;
    return gm_be_sync(b) ? -1 : gm_ms_since(start);
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "vulkan";
    int64_t mib = argc > 2 ? atoi(argv[2]) : 64; /* no cache of a device holds both */
    char err[256];
    gm_backend *b;
    gm_tensor from = {0}, to = {0};
    if (gm_backend_open(&b, device, 1, err, sizeof err)) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    size_t n = (size_t)mib << 20;
    double best = -1;
    int rc = alloc(b, &from, mib) || alloc(b, &to, mib) || gm_be_sync(b);
    for (int i = 0; !rc && i < ROUNDS; i++) {
        double ms = copy_ms(b, &to, &from, n);
        if (ms > 0 && (best < 0 || ms < best)) best = ms;
    }
    if (best > 0) printf("%.2f\n", 2.0 * COPIES * (double)n / best / 1e6);
    else fprintf(stderr, "%s cannot copy %lld MiB\n", b->desc, (long long)mib);
    gm_be_tensor_free(b, &from);
    gm_be_tensor_free(b, &to);
    gm_backend_close(&b);
    return best > 0 ? 0 : 1;
}
