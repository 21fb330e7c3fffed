/* bench_tokenizer.c: how fast a vocabulary opens and text becomes ids, and whether the ids are
 * those of another tokenizer.
 *
 *     bench_tokenizer vocab.gguf FILE...
 *     bench_tokenizer --check IDS vocab.gguf FILE...
 *
 * IDS comes from tests/golden/tokenizer_ids.py over the same files in the same order: for each
 * file a count and the ids with special tokens parsed, then the same for plain text, 32-bit
 * little-endian; a count of -1 stands for a file that is not UTF-8. Each file must also come
 * back byte for byte when decoded. Exit status 1 when anything differs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/map.h"
#include "tokenizer/detok.h"
#include "tokenizer/encode.h"

#define ROUNDS 5

typedef struct {
    const gm_vocab *v;
    FILE *ids;      /* NULL: do not compare */
    double best_ms; /* sum over files of the fastest round */
    size_t n_byte, n_id, n_file, n_differ, n_lost;
} bench;

static void read_exactly(void *p, size_t size, size_t n, FILE *f) {
    if (fread(p, size, n, f) != n) {
        fprintf(stderr, "bench_tokenizer: the file of ids is too short\n");
        exit(1);
    }
}

/* Compares with the next list of the file of ids. */
static void compare(bench *b, const char *path, const gm_ids *got, const char *how) {
    int32_t n;
    read_exactly(&n, sizeof n, 1, b->ids);
    if (n < 0) return;
    int32_t *want = malloc((size_t)n * sizeof *want + 1);
    read_exactly(want, sizeof *want, (size_t)n, b->ids);
    size_t i = 0;
    while (i < got->n && i < (size_t)n && got->v[i] == want[i]) i++;
    if (i < got->n || i < (size_t)n) {
        b->n_differ++;
        printf("%s (%s): %zu ids, expected %d; first difference at %zu\n", path, how, got->n, n, i);
    }
    free(want);
}

/* A text with U+2581 in it cannot come back. */
static bool comes_back(const bench *b, const gm_ids *ids, const char *p, size_t n) {
    if (memmem(p, n, "\xE2\x96\x81", 3)) return true;
    gm_bytes out = {0};
    bool same = gm_detok_raw(b->v, ids->v, ids->n, true, &out) == 0 && out.n == n &&
                memcmp(out.p, p, n) == 0;
    gm_bytes_finish(&out);
    return same;
}

static void one_file(bench *b, const char *path) {
    gm_map *map;
    char err[256];
    if (gm_map_open(&map, path, err, sizeof err)) {
        fprintf(stderr, "%s: %s\n", path, err);
        exit(1);
    }
    const char *p = (const char *)gm_map_data(map);
    size_t n = gm_map_size(map);
    gm_ids ids = {0};
    double best = 1e30;
    for (int i = 0; i < ROUNDS; i++) {
        ids.n = 0;
        uint64_t t = gm_now_ns();
        if (gm_encode(b->v, p, n, GM_ENC_SPECIAL, NULL, &ids)) exit(1);
        double ms = gm_ms_since(t);
        if (ms < best) best = ms;
    }
    b->best_ms += best;
    b->n_byte += n;
    b->n_id += ids.n;
    b->n_file++;
    if (b->ids) compare(b, path, &ids, "special tokens parsed");
    if (!comes_back(b, &ids, p, n)) b->n_lost++;
    if (b->ids) {
        ids.n = 0;
        if (gm_encode(b->v, p, n, 0, NULL, &ids)) exit(1);
        compare(b, path, &ids, "plain");
        if (!comes_back(b, &ids, p, n)) b->n_lost++;
    }
    gm_ids_finish(&ids);
    gm_map_close(&map);
}

int main(int argc, char **argv) {
    bench b = {0};
    int arg = 1;
    if (argc > 2 && strcmp(argv[1], "--check") == 0) {
        b.ids = fopen(argv[2], "rb");
        if (!b.ids) return perror(argv[2]), 1;
        arg = 3;
    }
    if (argc - arg < 2) {
        fprintf(stderr, "usage: bench_tokenizer [--check IDS] vocab.gguf FILE...\n");
        return 2;
    }
    char err[256];
    gm_gguf *g;
    gm_vocab *v;
    uint64_t t = gm_now_ns();
    if (gm_gguf_open(&g, argv[arg], err, sizeof err)) return fprintf(stderr, "%s\n", err), 1;
    double open_ms = gm_ms_since(t);
    t = gm_now_ns();
    if (gm_vocab_create(&v, g, err, sizeof err)) return fprintf(stderr, "%s\n", err), 1;
    printf("gguf open %.1f ms, vocab create %.1f ms, %d tokens\n", open_ms, gm_ms_since(t),
           gm_vocab_size(v));
    b.v = v;
    for (int i = arg + 1; i < argc; i++) one_file(&b, argv[i]);
    printf("%zu files, %zu bytes, %zu ids: %.1f ms, %.1f MB/s\n", b.n_file, b.n_byte, b.n_id,
           b.best_ms, (double)b.n_byte / 1e3 / b.best_ms);
    if (b.ids) printf("%zu lists of ids differ\n", b.n_differ);
    if (b.n_lost) printf("%zu texts did not come back\n", b.n_lost);
    if (b.ids) fclose(b.ids);
    gm_vocab_destroy(&v);
    gm_gguf_close(&g);
    return b.n_differ || b.n_lost ? 1 : 0;
}
