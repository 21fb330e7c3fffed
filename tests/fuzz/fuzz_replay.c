/* fuzz_replay.c: writes seeds and replays inputs; see fuzz.h. Not a target itself. */
#include "fuzz.h"

#include <string.h>

static const char *seed_dir; /* NULL: run the seeds instead of writing them */
static int n_seed;
static int n_failed;

void fuzz_seed(const void *p, size_t n) {
    if (!seed_dir) {
        LLVMFuzzerTestOneInput(p, n);
        n_seed++;
        return;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%03d", seed_dir, n_seed++);
    FILE *f = fopen(path, "wb");
    if (!f || (n > 0 && fwrite(p, 1, n, f) != n)) n_failed++;
    if (f && fclose(f) != 0) n_failed++;
}

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t n = 0, cap = 1 << 16;
    uint8_t *p = malloc(cap);
    while (p) {
        n += fread(p + n, 1, cap - n, f);
        if (n < cap) break;
        uint8_t *more = realloc(p, cap *= 2);
        if (!more) free(p);
        p = more;
    }
    fclose(f);
    if (!p) return 1;
    /* The target gets a block of just this size, so that sanitizers see a byte too many. */
    uint8_t *exact = realloc(p, n ? n : 1);
    LLVMFuzzerTestOneInput(exact ? exact : p, n);
    free(exact ? exact : p);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        seed_dir = argv[2];
        fuzz_seeds();
        if (n_failed) perror(seed_dir);
        return n_failed ? 1 : 0;
    }
    if (argc == 1) fuzz_seeds();
    int rc = 0;
    for (int i = 1; i < argc; i++) rc |= replay(argv[i]);
    printf("%d inputs\n", argc == 1 ? n_seed : argc - 1);
    return rc;
}
