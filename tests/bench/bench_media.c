/* bench_media.c: what a picture costs before the model sees it: decoding, resizing, patches.
 *
 *     bench_media PICTURE [BUDGET]
 *
 * Prints the processor time of the fastest of ROUNDS, since others may use the machine too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/mem.h"
#include "media/decode.h"
#include "media/resize.h"

#define ROUNDS 15

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void keep_best(double *best, double ms) {
    if (*best == 0 || ms < *best) *best = ms;
}

int main(int argc, char **argv) {
    double decode = 0, resize = 0, patches = 0, all = 0;
    const int32_t budget = argc > 2 ? atoi(argv[2]) : GM_IMAGE_TOKENS_DEFAULT;
    int32_t cols = 0, rows = 0;
    gm_image img = {0};
    char err[256] = "no picture given";
    for (int i = 0; i < ROUNDS; i++) {
        const double t0 = now_ms();
        if (argc < 2 || gm_decode_image(argv[1], &img, NULL, err, sizeof err) ||
            gm_image_grid(img.w, img.h, budget, 1120, &cols, &rows)) {
            fprintf(stderr, "bench_media: %s\n", err);
            return 1;
        }
        const double t1 = now_ms();
        const int32_t n = cols * rows;
        uint8_t *rgb = gm_malloc((size_t)n, GM_PATCH_VALUES);
        float *out = gm_malloc(GM_PROJECTOR_CHUNK * (size_t)GM_PATCH_VALUES, sizeof *out);
        if (!rgb || !out ||
            gm_resize_rgb(img.rgb, img.w, img.h, rgb, cols * GM_PATCH, rows * GM_PATCH, NULL))
            return 1;
        const double t2 = now_ms();
        for (int32_t k = 0; k < n; k += GM_PROJECTOR_CHUNK)
            gm_image_patches(rgb, cols, k, n - k < GM_PROJECTOR_CHUNK ? n - k : GM_PROJECTOR_CHUNK,
                             out);
        const double t3 = now_ms();
        keep_best(&decode, t1 - t0);
        keep_best(&resize, t2 - t1);
        keep_best(&patches, t3 - t2);
        keep_best(&all, t3 - t0);
        gm_free(rgb);
        gm_free(out);
        gm_free(img.rgb);
    }
    printf(
        "%d x %d to %d x %d: decode %.1f ms, resize %.1f ms, patches %.1f ms, together %.1f ms\n",
        img.w, img.h, cols * GM_PATCH, rows * GM_PATCH, decode, resize, patches, all);
    return 0;
}
