/* bench.c: tokens a second, for prompts (pp) and for generation (tg). */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "tools/cli.h"

enum { MAX_RUNS = 1000 };

typedef struct {
    cli_model model;
    int32_t n_prompt, n_gen, depth, batch, runs;
    bool json;
} bench_args;

/* Some tokens or other: the arithmetic does not depend on which. */
static int32_t filler(size_t i, int32_t n_vocab) {
    return (int32_t)((i * 7919 + 1013) % (uint32_t)n_vocab);
}

static int fill(gm_ids *ids, size_t n, int32_t n_vocab) {
    ids->n = 0;
    for (size_t i = 0; i < n; i++)
        if (gm_ids_push(ids, filler(i, n_vocab)) < 0) return GM_ENOMEM;
    return GM_OK;
}

/* Brings the session to exactly n positions of filler. */
static int sync_to(gm_session *s, const gm_ids *ids, size_t n) {
    char err[256] = "";
    size_t reused;
    gm_prompt p = {.ids = ids->v, .n = n};
    int rc = gm_session_begin(s, &p, &reused, err, sizeof err);
    int64_t left = rc < 0 ? rc : 1;
    while (left > 0) left = gm_session_step(s, 0);
    return (int)left;
}

/* Each measurement begins with `depth` positions in the cache, which are not timed. */
static int prompt_once(gm_session *s, const gm_ids *ids, const bench_args *a, double *ms) {
    size_t depth = (size_t)a->depth, n = depth + (size_t)a->n_prompt;
    int rc = depth > 0 ? sync_to(s, ids, depth) : (int)gm_session_rewind(s, 0);
    if (rc < 0) return rc;
    uint64_t start = gm_now_ns();
    rc = sync_to(s, ids, n);
    *ms = gm_ms_since(start);
    return rc;
}

static int generate_once(gm_session *s, const gm_ids *ids, const bench_args *a, float *logits,
                         double *ms) {
    size_t depth = a->depth > 0 ? (size_t)a->depth : 1, batch = (size_t)a->batch;
    int rc = sync_to(s, ids, depth);
    uint64_t start = gm_now_ns();
    for (size_t i = 0; rc == GM_OK && i < (size_t)a->n_gen; i += batch) {
        size_t n = (size_t)a->n_gen - i < batch ? (size_t)a->n_gen - i : batch;
        /* One by one is what an answer does, which needs the best logits only. */
        rc = batch == 1 ? gm_session_append_top(s, ids->v[depth + i])
                        : gm_session_append_many(s, ids->v + depth + i, n, logits);
    }
    *ms = gm_ms_since(start);
    return rc;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_name(char *name, size_t size, bool gen, const bench_args *a) {
    size_t n = (size_t)snprintf(name, size, gen ? "tg%d" : "pp%d", gen ? a->n_gen : a->n_prompt);
    if (gen && a->batch > 1) n += (size_t)snprintf(name + n, size - n, "b%d", a->batch);
    if (a->depth > 0) snprintf(name + n, size - n, "@d%d", a->depth);
}

static void report(const gm_engine *e, const bench_args *a, const char *name, double *tok_s) {
    qsort(tok_s, (size_t)a->runs, sizeof *tok_s, by_value);
    int mid = a->runs / 2;
    double median = a->runs % 2 ? tok_s[mid] : (tok_s[mid - 1] + tok_s[mid]) / 2;
    const char *slash = strrchr(a->model.model, '/');
    const char *file = slash ? slash + 1 : a->model.model;
    if (!a->json) {
        printf("%-16s %9.3f tokens/s  (%.3f to %.3f, %d runs, %s)\n", name, median, tok_s[0],
               tok_s[a->runs - 1], a->runs, e->backend->desc);
        return;
    }
    printf("{\"test\": \"%s\", \"tok_s\": %.4f, \"min\": %.4f, \"max\": %.4f, \"runs\": %d, "
           "\"threads\": %d, \"device\": ",
           name, median, tok_s[0], tok_s[a->runs - 1], a->runs,
           (int)gm_be_ends(e->backend)->n_threads);
    cli_json_string(stdout, e->backend->desc, strlen(e->backend->desc));
    printf(", \"model\": ");
    cli_json_string(stdout, file, strlen(file));
    printf("}\n");
}

static int measure(gm_engine *e, gm_session *s, const gm_ids *ids, const bench_args *a, bool gen) {
    double tok_s[MAX_RUNS];
    float *logits = gen ? gm_malloc((size_t)a->batch, (size_t)e->config.n_vocab * 4) : NULL;
    if (gen && !logits) return cli_fail("out of memory");
    int rc = GM_OK;
    for (int i = -1; rc == GM_OK && i < a->runs; i++) { /* the first one only warms up */
        double ms = 0;
        rc = gen ? generate_once(s, ids, a, logits, &ms) : prompt_once(s, ids, a, &ms);
        if (i >= 0) tok_s[i] = (gen ? a->n_gen : a->n_prompt) * 1e3 / (ms > 1e-6 ? ms : 1e-6);
    }
    gm_free(logits);
    if (rc < 0) return cli_fail("%s", gm_err_text(rc));
    char name[64];
    test_name(name, sizeof name, gen, a);
    report(e, a, name, tok_s);
    return cli_flush();
}

static int bench(gm_engine *e, const bench_args *a) {
    gm_ids ids = {0};
    gm_session *s = NULL;
    char err[512] = "";
    size_t n = (size_t)a->depth + 1 + (size_t)(a->n_prompt > a->n_gen ? a->n_prompt : a->n_gen);
    int rc = CLI_OK;
    if (fill(&ids, n, e->config.n_vocab) < 0) rc = cli_fail("out of memory");
    if (rc == CLI_OK && gm_session_create(&s, e, err, sizeof err) < 0) rc = cli_fail("%s", err);
    if (rc == CLI_OK && (size_t)a->batch > gm_session_chunk(s))
        rc = cli_fail("-b %d is more than the %zu positions of a chunk", a->batch,
                      gm_session_chunk(s));
    if (rc == CLI_OK && a->n_prompt > 0) rc = measure(e, s, &ids, a, false);
    if (rc == CLI_OK && a->n_gen > 0) rc = measure(e, s, &ids, a, true);
    gm_session_destroy(&s);
    gm_ids_finish(&ids);
    return rc;
}

int cmd_bench(int n, char **argv) {
    bench_args a = {.n_prompt = 512, .n_gen = 128, .batch = 1, .runs = 5, .model.threads = 2};
    const cli_opt opts[] = {
        {.name = "-m", .kind = CLI_STR, .to = &a.model.model},
        {.name = "-p", .kind = CLI_I32, .to = &a.n_prompt, .max = 1 << 20},
        {.name = "-n", .kind = CLI_I32, .to = &a.n_gen, .max = 1 << 20},
        {.name = "-d", .kind = CLI_I32, .to = &a.depth, .max = 1 << 20},
        {.name = "-t", .kind = CLI_I32, .to = &a.model.threads, .min = 1, .max = GM_MAX_THREADS},
        {.name = "-b", .kind = CLI_I32, .to = &a.batch, .min = 1, .max = CLI_MAX_CHUNK},
        {.name = "-r", .kind = CLI_I32, .to = &a.runs, .min = 1, .max = MAX_RUNS},
        {.name = "--device", .kind = CLI_STR, .to = &a.model.device},
        {.name = "--json", .kind = CLI_FLAG, .to = &a.json},
        {0}};
    int rc = cli_parse("bench", opts, n, argv);
    if (rc == CLI_OK && !a.model.model) rc = cli_usage("bench: -m MODEL is missing");
    if (rc == CLI_OK) rc = cli_check_device(a.model.device);
    if (rc != CLI_OK) return rc;
    int32_t longest = a.n_prompt > a.n_gen ? a.n_prompt : a.n_gen;
    /* The cache that is needed and no more, as the tools this is compared with do. */
    a.model.ctx = a.depth + longest + 1;
    a.model.chunk = a.batch;
    gm_engine *e = NULL;
    rc = cli_open(&e, &a.model);
    if (rc == CLI_OK) rc = bench(e, &a);
    gm_engine_close(&e);
    return rc;
}
