/* test_golden.c: the forward pass against numbers of an independent implementation.
 *
 * Reads every set of tests/golden/sets (or of the folder in GEMMA_GOLDEN): a set is a folder with
 * cases.txt, whose format tests/golden/index.py explains. Skips with a line when there is none.
 * GEMMA_BACKEND names another device than the CPU. GOLDEN_QUICK=1 takes two cases of each set, for
 * a device in software. What Vulkan's validation layer has to say, if GEMMA_VULKAN_CHECK turned it
 * on, is a failure.
 */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "model/fixture.h"

#include "base/buf.h"
#include "helper/compare.h"
#include "helper/driver.h"
#include "helper/probe.h"

enum { N_BATCH = 512, MAX_MEDIA = 8, MAX_VARIANT = 8 };

typedef struct {
    bool image;
    int32_t start, end;
    char file[128];
} media_run;

typedef struct {
    char name[64];
    gm_ids ids, forced, positions, greedy;
    double margin[64]; /* of greedy, as far as they fit */
    char logits[128], layers[128];
    int32_t layers_shape[3];
    int32_t binding;
    media_run media[MAX_MEDIA];
    int32_t n_media;
    char variant[MAX_VARIANT][2][64]; /* name, file */
    int32_t n_variant;
} golden_case;

typedef struct {
    char dir[512];
    gm_ids suppress;
    golden_case *c;
    size_t n, cap;
} golden_set;

static int n_wrong, n_checked;

/* ---- reading a set ---- */

static void parse_ids(char *rest, gm_ids *out) {
    for (char *w = strtok(rest, " \n"); w; w = strtok(NULL, " \n"))
        assert_int_equal(gm_ids_push(out, (int32_t)strtol(w, NULL, 10)), 0);
}

static void parse_line(golden_set *s, char *line) {
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = '\0';
    else {
        line[strcspn(line, "\n")] = '\0';
        rest = line + strlen(line);
    }
    if (strcmp(line, "case") == 0) {
        if (s->n == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 16;
            s->c = realloc(s->c, s->cap * sizeof *s->c);
            assert_non_null(s->c);
        }
        memset(&s->c[s->n], 0, sizeof *s->c);
        assert_int_equal(sscanf(rest, "%63s", s->c[s->n++].name), 1);
        return;
    }
    if (strcmp(line, "suppress") == 0) parse_ids(rest, &s->suppress);
    if (s->n == 0) return;
    golden_case *c = &s->c[s->n - 1];
    if (strcmp(line, "ids") == 0) parse_ids(rest, &c->ids);
    if (strcmp(line, "forced") == 0) parse_ids(rest, &c->forced);
    if (strcmp(line, "positions") == 0) parse_ids(rest, &c->positions);
    if (strcmp(line, "greedy") == 0) parse_ids(rest, &c->greedy);
    if (strcmp(line, "margins") == 0) {
        int i = 0;
        for (char *w = strtok(rest, " \n"); w && i < 64; w = strtok(NULL, " \n"))
            c->margin[i++] = strtod(w, NULL);
    }
    if (strcmp(line, "binding") == 0) c->binding = atoi(rest);
    if (strcmp(line, "logits") == 0) assert_int_equal(sscanf(rest, "%127s", c->logits), 1);
    if (strcmp(line, "layers") == 0)
        assert_int_equal(sscanf(rest, "%127s %d %d %d", c->layers, &c->layers_shape[0],
                                &c->layers_shape[1], &c->layers_shape[2]),
                         4);
    if (strcmp(line, "variant") == 0) {
        assert_true(c->n_variant < MAX_VARIANT);
        char(*v)[64] = c->variant[c->n_variant++];
        assert_int_equal(sscanf(rest, "%63s %63s", v[0], v[1]), 2);
    }
    if (strcmp(line, "media") == 0) {
        assert_true(c->n_media < MAX_MEDIA);
        media_run *m = &c->media[c->n_media++];
        char kind[16];
        assert_int_equal(sscanf(rest, "%15s %d %d %127s", kind, &m->start, &m->end, m->file), 4);
        m->image = strcmp(kind, "image") == 0;
    }
}

static bool read_set(golden_set *s, const char *dir) {
    memset(s, 0, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    char path[600];
    snprintf(path, sizeof path, "%s/cases.txt", dir);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0)
        if (line[0] != '#' && line[0] != '\n') parse_line(s, line);
    free(line);
    fclose(f);
    return true;
}

static void finish_set(golden_set *s) {
    for (size_t i = 0; i < s->n; i++) {
        gm_ids_finish(&s->c[i].ids);
        gm_ids_finish(&s->c[i].forced);
        gm_ids_finish(&s->c[i].positions);
        gm_ids_finish(&s->c[i].greedy);
    }
    gm_ids_finish(&s->suppress);
    free(s->c);
}

static float *read_floats(const golden_set *s, const char *file, size_t n) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", s->dir, file);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing", path);
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    assert_int_equal(fread(v, sizeof *v, n, f), n);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return v;
}

/* ---- running a case ---- */

/* The whole sequence, prompt and forced continuation, as the decoder takes it. */
typedef struct {
    int32_t n;
    int32_t *ids, *see_to;
    float *embd;
    int32_t *row_of; /* [n]: first embd row of a batch that begins here */
} sequence;

static sequence make_sequence(const golden_set *s, const golden_case *c, const gm_config *conf) {
    sequence q = {.n = (int32_t)(c->ids.n + c->forced.n)};
    q.ids = malloc(sizeof(int32_t) * (size_t)q.n);
    q.see_to = malloc(sizeof(int32_t) * (size_t)q.n);
    q.row_of = malloc(sizeof(int32_t) * (size_t)q.n);
    q.embd = malloc(sizeof(float) * (size_t)conf->n_embd * (size_t)q.n);
    assert_true(q.ids && q.see_to && q.row_of && q.embd);
    memcpy(q.ids, c->ids.v, c->ids.n * sizeof *q.ids);
    if (c->forced.n) memcpy(q.ids + c->ids.n, c->forced.v, c->forced.n * sizeof *q.ids);
    for (int32_t t = 0; t < q.n; t++) q.see_to[t] = t;
    int32_t rows = 0;
    for (int32_t m = 0; m < c->n_media; m++) {
        const media_run *r = &c->media[m];
        size_t n = (size_t)(r->end - r->start) * (size_t)conf->n_embd;
        float *from = read_floats(s, r->file, n);
        memcpy(q.embd + (size_t)rows * (size_t)conf->n_embd, from, n * sizeof *from);
        free(from);
        rows += r->end - r->start;
        for (int32_t t = r->start; t < r->end; t++) {
            q.ids[t] = -1;
            if (r->image) q.see_to[t] = r->end - 1;
        }
    }
    rows = 0;
    for (int32_t t = 0; t < q.n; t++) {
        q.row_of[t] = rows;
        if (q.ids[t] < 0) rows++;
    }
    return q;
}

static void finish_sequence(sequence *q) {
    free(q->ids);
    free(q->see_to);
    free(q->row_of);
    free(q->embd);
}

/* Computes the sequence in chunks of about `chunk` (images whole) and collects the logits of the
 * given positions. */
static int run_sequence(fixture *f, gm_kv *kv, const sequence *q, const gm_ids *positions,
                        int32_t chunk, float *logits) {
    size_t done = 0;
    int32_t at = 0;
    while (at < q->n) {
        int32_t end = at + chunk < q->n ? at + chunk : q->n;
        for (int32_t t = at; t < end; t++)
            if (q->see_to[t] >= end) end = q->see_to[t] + 1;
        gm_batch batch = {.n_tok = end - at,
                          .ids = q->ids + at,
                          .see_to = q->see_to + at,
                          .embd = q->embd + (size_t)q->row_of[at] * (size_t)f->c.n_embd};
        int32_t rows[N_BATCH];
        while (done + (size_t)batch.n_out < positions->n &&
               positions->v[done + (size_t)batch.n_out] < end) {
            rows[batch.n_out] = positions->v[done + (size_t)batch.n_out] - at;
            batch.n_out++;
        }
        batch.out_rows = rows;
        batch.logits = logits + done * (size_t)f->c.n_vocab;
        int rc = gm_decoder_run(f->d, kv, &batch);
        if (rc) return rc;
        done += (size_t)batch.n_out;
        at = end;
    }
    return done == positions->n ? 0 : GM_EINTERNAL;
}

/* Rows that the golden file has, against a run in chunks. */
static double logits_error(fixture *f, const sequence *q, const golden_case *c, const float *want,
                           gm_dtype cache, int32_t chunk) {
    size_t n = c->positions.n * (size_t)f->c.n_vocab;
    float *got = calloc(n, sizeof *got);
    gm_kv *kv = fixture_cache(f, 1024, N_BATCH, cache);
    int rc = run_sequence(f, kv, q, &c->positions, chunk, got);
    double e = rc ? INFINITY : rel_error(got, want, (int64_t)n);
    gm_kv_destroy(&kv);
    free(got);
    return e;
}

static int32_t best_allowed(const float *logits, int32_t n_vocab, const gm_ids *suppress) {
    int32_t best = -1;
    for (int32_t i = 0; i < n_vocab; i++) {
        bool no = false;
        for (size_t s = 0; s < suppress->n; s++) no = no || suppress->v[s] == i;
        if (!no && (best < 0 || logits[i] > logits[best])) best = i;
    }
    return best;
}

/* How many greedy tokens behind the prompt agree, up to the binding ones. */
static int32_t greedy_agreement(fixture *f, const golden_set *s, const golden_case *c,
                                const sequence *q, gm_dtype cache) {
    float *row = calloc((size_t)f->c.n_vocab, sizeof *row);
    gm_kv *kv = fixture_cache(f, 1024, N_BATCH, cache);
    sequence prompt = *q;
    prompt.n = (int32_t)c->ids.n;
    int32_t last = prompt.n - 1, n = 0;
    gm_ids only_last = {.v = &last, .n = 1};
    int rc = run_sequence(f, kv, &prompt, &only_last, N_BATCH, row);
    while (rc == 0 && n < c->binding) {
        int32_t id = best_allowed(row, f->c.n_vocab, &s->suppress), zero = 0;
        if (id != c->greedy.v[n]) break;
        n++;
        gm_batch one = {.n_tok = 1, .ids = &id, .n_out = 1, .out_rows = &zero, .logits = row};
        rc = gm_decoder_run(f->d, kv, &one);
    }
    gm_kv_destroy(&kv);
    free(row);
    return n;
}

/* ---- the residual stream after every layer ---- */

static double stream_error(const char *dir, const char *name, int32_t layer, int32_t n_tok,
                           int32_t n_embd, const float *want) {
    float *got = calloc((size_t)n_tok * (size_t)n_embd, sizeof *got);
    bool all = got != NULL;
    for (int32_t t = 0; all && t < n_tok; t++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s.%d.%d.f32", dir, name, layer, t);
        FILE *f = fopen(path, "rb");
        all = f && fread(got + (size_t)t * (size_t)n_embd, sizeof *got, (size_t)n_embd, f) ==
                       (size_t)n_embd;
        if (f) fclose(f);
        remove(path);
    }
    double e = all ? rel_error(got, want, (int64_t)n_tok * n_embd) : INFINITY;
    free(got);
    return e;
}

/* Prints the error after the first layer that is wrong. */
static bool layers_agree(fixture *f, const golden_set *s, const golden_case *c, const sequence *q) {
    char dir[] = "/tmp/gemma-golden-XXXXXX", spec[64];
    assert_non_null(mkdtemp(dir));
    snprintf(spec, sizeof spec, "%s:*:*:*", dir);
    int32_t n_tok = c->layers_shape[1], n_embd = c->layers_shape[2];
    assert_int_equal(c->layers_shape[0], f->c.n_layer + 1);
    assert_int_equal(n_embd, f->c.n_embd);
    size_t size = (size_t)n_tok * (size_t)n_embd;
    float *want = read_floats(s, c->layers, size * (size_t)c->layers_shape[0]);
    float *logits = calloc((size_t)n_tok * (size_t)f->c.n_vocab, sizeof *logits);
    gm_kv *kv = fixture_cache(f, 1024, N_BATCH, GM_F32);
    sequence prompt = *q;
    prompt.n = n_tok;
    gm_ids all = {0};
    for (int32_t t = 0; t < n_tok; t++) gm_ids_push(&all, t);

    set_probe(spec);
    assert_int_equal(run_sequence(f, kv, &prompt, &all, N_BATCH, logits), 0);
    set_probe(NULL);

    bool ok = stream_error(dir, "embd", -1, n_tok, n_embd, want) < 1e-6;
    if (!ok) print_message("  the embedding differs\n");
    for (int32_t l = 0; l < f->c.n_layer; l++) {
        double e = stream_error(dir, "h", l, n_tok, n_embd, want + (size_t)(l + 1) * size);
        if (ok && e > 1e-4) {
            print_message("  layer %d is the first that differs: %.1e\n", l, e);
            ok = false;
        }
    }
    DIR *rest = opendir(dir);
    for (struct dirent *e; rest && (e = readdir(rest));) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.') remove(path);
    }
    if (rest) closedir(rest);
    rmdir(dir);
    gm_kv_destroy(&kv);
    gm_ids_finish(&all);
    free(logits);
    free(want);
    return ok;
}

/* ---- the judge ---- */

static bool is_float(gm_dtype t) { return t == GM_F32 || t == GM_F16 || t == GM_BF16; }

static void complain(bool ok, const char *what) {
    n_checked++;
    if (ok) return;
    n_wrong++;
    print_message("  WRONG: %s\n", what);
}

/* What is needed to judge one file of a case. */
typedef struct {
    fixture f;
    sequence q;
    float *want;         /* logits of the positions */
    bool floats, rounds; /* weights that are floats; activations are rounded */
} judged;

static bool begin_judging(judged *j, const golden_set *s, const golden_case *c, int32_t variant,
                          fixture_size size) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", s->dir, c->variant[variant][1]);
    if (fixture_open(&j->f, path, N_BATCH, size)) {
        print_message("%s: %s\n", path, j->f.err);
        n_wrong++;
        return false;
    }
    j->floats = is_float(j->f.w->main_type);
    /* Only the CPU rounds activations. */
    j->rounds = !j->floats && (strcmp(j->f.b->vt->name, "cpu") == 0 || j->f.b->rest);
    j->q = make_sequence(s, c, &j->f.c);
    j->want = read_floats(s, c->logits, c->positions.n * (size_t)j->f.c.n_vocab);
    return true;
}

static void end_judging(judged *j) {
    finish_sequence(&j->q);
    free(j->want);
    fixture_close(&j->f);
}

/* Prints a line; the number of greedy tokens that are right. */
static int32_t report(judged *j, const golden_set *s, const golden_case *c, const char *name,
                      double error, gm_dtype cache) {
    const int32_t agreed = greedy_agreement(&j->f, s, c, &j->q, cache);
    print_message("%-6s %-13s %-9s %.1e  greedy %2d of %2d", strrchr(s->dir, '/') + 1, c->name,
                  name, error, agreed, c->binding);
    if (agreed < c->binding && agreed < 64)
        print_message(", parted at a margin of %.2f", c->margin[agreed]);
    print_message("\n");
    return agreed;
}

/* Activations that are rounded once move the logits by up to 5.6e-2, each by 0.1 to 0.4: these
 * networks amplify it by ten. */
static const double as_large = 8e-2;

/* Whether there is more to it: it is quantised. */
static bool check_variant(const golden_set *s, const golden_case *c, int32_t variant) {
    judged j;
    if (!begin_judging(&j, s, c, variant, FIXTURE_AS_IT_IS)) return false;
    /* Float arithmetic comes within 3e-6. A wrong eps makes 4e-5, the smallest effect of all the
     * mistakes that are easily made. Activations that are rounded twice come within 1.7e-4, and
     * backend.h promises 1e-3. */
    const bool small = j.f.w->n_bytes <= GM_SMALL_MODEL_BYTES; /* unless GEMMA_GOLDEN has others */
    const double limit = !j.rounds ? 2e-5 : small ? 1e-3 : as_large;
    double once = logits_error(&j.f, &j.q, c, j.want, GM_F32, N_BATCH);
    int32_t agreed = report(&j, s, c, c->variant[variant][0], once, GM_F32);
    complain(once < limit, "logits of the prompt at once");
    complain(agreed == c->binding, "greedy tokens");
    bool quick = getenv("GOLDEN_QUICK") != NULL;
    if (variant == 0 && !quick) { /* the numbers of further files are the same, or nearly */
        double pieces = logits_error(&j.f, &j.q, c, j.want, GM_F32, 7);
        complain(pieces < limit, "logits of the prompt in pieces");
        print_message("%-30s in sevens %.1e\n", "", pieces);
    }
    if (variant == 0 && j.floats && !quick) {
        double half = logits_error(&j.f, &j.q, c, j.want, GM_F16, 64);
        double eight = logits_error(&j.f, &j.q, c, j.want, GM_Q8_0, 64);
        print_message("%-30s f16 cache %.1e, q8_0 cache %.1e\n", "", half, eight);
        complain(half < 5e-3, "logits with an f16 cache");
        complain(eight < 1e-1, "logits with a q8_0 cache");
    }
    if (j.floats && c->layers[0] && !quick)
        complain(layers_agree(&j.f, s, c, &j.q), "residual stream by layer");
    end_judging(&j);
    return !j.floats;
}

/* The same file as the 12B is computed: activations are rounded once, and the cache is F16. Only
 * clear margins bind then, and what comes as near as a small model was not computed like that. */
static void check_as_large(const golden_set *s, const golden_case *c, int32_t variant) {
    judged j;
    if (!begin_judging(&j, s, c, variant, FIXTURE_AS_LARGE)) return;
    const double close_call = 0.5;
    char name[80];
    snprintf(name, sizeof name, "%s large", c->variant[variant][0]);
    double once = logits_error(&j.f, &j.q, c, j.want, GM_F16, N_BATCH);
    int32_t agreed = report(&j, s, c, name, once, GM_F16);
    complain(once < as_large, "logits of the prompt at once, as a large model");
    complain(once > 1e-3 || !j.rounds, "a model that is as exact as a small one");
    complain(agreed == c->binding || c->margin[agreed] < close_call, "greedy tokens");
    if (!getenv("GOLDEN_QUICK")) {
        double pieces = logits_error(&j.f, &j.q, c, j.want, GM_F16, 7);
        complain(pieces < as_large, "logits of the prompt in pieces, as a large model");
        print_message("%-30s in sevens %.1e\n", "", pieces);
    }
    end_judging(&j);
}

static void decoder_gives_the_logits_of_the_reference(void **state) {
    (void)state;
    const char *root = getenv("GEMMA_GOLDEN");
    if (!root) root = "tests/golden/sets";
    DIR *d = opendir(root);
    if (!d) {
        print_message("no golden sets in %s: skipped\n", root);
        skip();
    }
    for (struct dirent *e; (e = readdir(d));) {
        char dir[400];
        golden_set s;
        snprintf(dir, sizeof dir, "%s/%s", root, e->d_name);
        if (e->d_name[0] == '.' || !read_set(&s, dir)) continue;
        for (size_t i = 0; i < s.n; i++) {
            if (getenv("GOLDEN_QUICK") && i != 0 && i != s.n - 1) continue;
            for (int32_t v = 0; v < s.c[i].n_variant; v++)
                if (check_variant(&s, &s.c[i], v)) check_as_large(&s, &s.c[i], v);
        }
        finish_set(&s);
    }
    closedir(d);
    if (n_checked == 0) fail_msg("no golden sets in %s", root);
    print_message("%d of %d checks wrong\n", n_wrong, n_checked);
    assert_int_equal(n_wrong, 0);
}

/* A device that this machine does not have is no mistake. */
static void skip_without_device(void) {
    char err[256];
    gm_backend *b;
    if (gm_backend_open(&b, NULL, 1, err, sizeof err) == GM_EUNSUPPORTED) {
        printf("skip: %s\n", err);
        exit(77);
    }
    gm_backend_close(&b);
}

int main(void) {
    gm_log_set_sink(driver_hear, NULL);
    skip_without_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoder_gives_the_logits_of_the_reference),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed || driver_messages();
}
