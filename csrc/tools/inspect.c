/* inspect.c: info, tokenize, detokenize: what needs the file but no computing. */
#include <string.h>
#include "base/err.h"
#include "engine/engine.h"
#include "media/projector.h"
#include "tokenizer/detok.h"
#include "tokenizer/encode.h"
#include "tools/cli.h"

typedef struct {
    gm_gguf *gguf;
    gm_vocab *vocab;
    gm_config config;
} model_file;

static void close_file(model_file *f) {
    gm_config_finish(&f->config);
    gm_vocab_destroy(&f->vocab);
    gm_gguf_close(&f->gguf);
}

/* whole: with the configuration; tokens need only the vocabulary. */
static int open_file(model_file *f, const char *path, bool whole) {
    char err[512] = "";
    *f = (model_file){0};
    int rc = gm_engine_read(&f->gguf, &f->vocab, &f->config, path, err, sizeof err);
    if (rc == GM_OK || (!whole && f->vocab)) return CLI_OK;
    close_file(f);
    return cli_fail("%s", err[0] ? err : gm_err_text(rc));
}

/* ---- info ------------------------------------------------------------------------------------ */

typedef struct {
    uint64_t n_param, n_tensor;
    uint64_t bytes[GM_DTYPE_LIMIT];
    uint64_t count[GM_DTYPE_LIMIT];
    gm_dtype main_type;
} summary;

static summary summarise(const gm_gguf *g) {
    summary s = {.n_tensor = gm_gguf_n_tensor(g)};
    uint64_t n_bytes;
    s.main_type = gm_weights_main_type(g, &n_bytes);
    for (uint64_t i = 0; i < s.n_tensor; i++) {
        const gm_gguf_tensor *t = gm_gguf_tensor_at(g, i);
        uint32_t type = (uint32_t)t->dtype;
        if (type >= GM_DTYPE_LIMIT) continue;
        s.n_param += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        s.bytes[type] += t->bytes;
        s.count[type]++;
    }
    return s;
}

static const char *type_name(uint32_t type) {
    const char *name = gm_dtype_get(type)->name;
    return name ? name : "unknown";
}

static int32_t count_global(const gm_config *c) {
    int32_t n = 0;
    for (int32_t i = 0; i < c->n_layer; i++) n += !c->layer[i].sliding;
    return n;
}

static void info_json(const model_file *f, const summary *s) {
    const gm_config *c = &f->config;
    printf("{\"architecture\": \"gemma4\", \"name\": ");
    cli_json_string(stdout, c->name, strlen(c->name));
    printf(", \"file_bytes\": %llu, \"gguf_version\": %u, \"n_param\": %llu, \"n_tensor\": %llu",
           (unsigned long long)gm_gguf_file_bytes(f->gguf), gm_gguf_version(f->gguf),
           (unsigned long long)s->n_param, (unsigned long long)s->n_tensor);
    printf(", \"type\": \"%s\", \"types\": {", type_name((uint32_t)s->main_type));
    const char *comma = "";
    for (uint32_t t = 0; t < GM_DTYPE_LIMIT; t++) {
        if (s->count[t] == 0) continue;
        printf("%s\"%s\": %llu", comma, type_name(t), (unsigned long long)s->count[t]);
        comma = ", ";
    }
    printf("}, \"n_layer\": %d, \"n_layer_global\": %d, \"n_embd\": %d, \"n_vocab\": %d",
           c->n_layer, count_global(c), c->n_embd, c->n_vocab);
    printf(", \"n_ctx_train\": %d, \"window\": %d, \"softcap\": %g", c->n_ctx_train, c->window,
           (double)c->softcap);
    const gm_special_ids *id = gm_vocab_special(f->vocab);
    printf(", \"bos\": %d, \"eos\": %d, \"turn_end\": %d", id->bos, id->eos, id->turn_end);
    size_t n;
    const int32_t *suppressed = gm_vocab_suppressed(f->vocab, &n);
    printf(", \"suppressed\": ");
    cli_json_ids(stdout, suppressed, n);
    printf(", \"sampling\": {\"temperature\": %g, \"top_k\": %d, \"top_p\": %g}}\n",
           (double)c->samp_temperature, c->samp_top_k, (double)c->samp_top_p);
}

static void info_text(const model_file *f, const summary *s) {
    const gm_config *c = &f->config;
    printf("name        %s\n", c->name);
    printf("file        %.2f GiB, GGUF version %u, %llu tensors\n",
           (double)gm_gguf_file_bytes(f->gguf) / (1 << 30), gm_gguf_version(f->gguf),
           (unsigned long long)s->n_tensor);
    printf("parameters  %.3f G, mostly %s\n", (double)s->n_param / 1e9,
           type_name((uint32_t)s->main_type));
    for (uint32_t t = 0; t < GM_DTYPE_LIMIT; t++)
        if (s->count[t])
            printf("  %-9s %5llu tensors, %.1f MiB\n", type_name(t),
                   (unsigned long long)s->count[t], (double)s->bytes[t] / (1 << 20));
    printf("layers      %d (%d global), width %d\n", c->n_layer, count_global(c), c->n_embd);
    printf("context     %d trained, window %d\n", c->n_ctx_train, c->window);
    printf("vocabulary  %d tokens\n", c->n_vocab);
    printf("sampling    temperature %g, top-k %d, top-p %g\n", (double)c->samp_temperature,
           c->samp_top_k, (double)c->samp_top_p);
}

int cmd_info(int n, char **argv) {
    const char *model = NULL, *mmproj = NULL;
    bool json = false;
    const cli_opt opts[] = {{.name = "-m", .kind = CLI_STR, .to = &model},
                            {.name = "--mmproj", .kind = CLI_STR, .to = &mmproj},
                            {.name = "--json", .kind = CLI_FLAG, .to = &json},
                            {0}};
    int rc = cli_parse("info", opts, n, argv);
    if (rc) return rc;
    if (!model) return cli_usage("info: -m MODEL is missing");
    model_file f;
    rc = open_file(&f, model, true);
    if (rc) return rc;
    char err[512] = "";
    /* Of the projector only that it is one: its tensors are looked at with a backend. */
    gm_gguf *projector = NULL;
    if (mmproj && gm_gguf_open(&projector, mmproj, err, sizeof err) < 0) rc = cli_fail("%s", err);
    if (projector && !gm_is_projector(projector)) rc = cli_fail("%s is no mmproj file", mmproj);
    gm_gguf_close(&projector);
    if (rc == CLI_OK) {
        summary s = summarise(f.gguf);
        if (json) info_json(&f, &s);
        else info_text(&f, &s);
        rc = cli_flush();
    }
    close_file(&f);
    return rc;
}

/* ---- tokenize -------------------------------------------------------------------------------- */

int cmd_tokenize(int n, char **argv) {
    const char *model = NULL;
    bool special = false, bos = false;
    const cli_opt opts[] = {{.name = "-m", .kind = CLI_STR, .to = &model},
                            {.name = "--parse-special", .kind = CLI_FLAG, .to = &special},
                            {.name = "--add-bos", .kind = CLI_FLAG, .to = &bos},
                            {0}};
    int rc = cli_parse("tokenize", opts, n, argv);
    if (rc) return rc;
    if (!model) return cli_usage("tokenize: -m MODEL is missing");
    model_file f;
    rc = open_file(&f, model, false);
    if (rc) return rc;
    gm_bytes text = {0};
    gm_ids ids = {0};
    unsigned flags = (special ? GM_ENC_SPECIAL : 0) | (bos ? GM_ENC_BOS : 0);
    rc = cli_read(NULL, &text);
    if (rc == CLI_OK && gm_encode(f.vocab, text.p, text.n, flags, NULL, &ids) < 0)
        rc = cli_fail("out of memory");
    if (rc == CLI_OK) {
        cli_json_ids(stdout, ids.v, ids.n);
        putchar('\n');
        rc = cli_flush();
    }
    gm_ids_finish(&ids);
    gm_bytes_finish(&text);
    close_file(&f);
    return rc;
}

/* ---- detokenize ------------------------------------------------------------------------------ */

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

/* One id; NULL when there is none or it is not below limit. */
static const char *parse_id(const char *p, const char *end, int32_t limit, int32_t *id) {
    int64_t v = 0;
    const char *start = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (*p - '0');
        if (v >= limit) return NULL;
    }
    *id = (int32_t)v;
    return p > start ? p : NULL;
}

/* A JSON array of whole numbers, and nothing after it. */
static int parse_array(const gm_bytes *text, int32_t limit, gm_ids *out) {
    const char *end = text->p + text->n, *p = skip_space(text->p, end);
    if (p == end || *p++ != '[') return cli_fail("the input is not a JSON array");
    p = skip_space(p, end);
    bool more = p < end && *p != ']';
    while (more) {
        int32_t id;
        p = parse_id(p, end, limit, &id);
        if (!p) return cli_fail("the array must hold ids from 0 to %d", (int)limit - 1);
        if (gm_ids_push(out, id) < 0) return cli_fail("out of memory");
        p = skip_space(p, end);
        more = p < end && *p == ',';
        if (more) p = skip_space(p + 1, end);
    }
    if (p == end || *p != ']' || skip_space(p + 1, end) != end)
        return cli_fail("the input is not one JSON array of whole numbers");
    return CLI_OK;
}

int cmd_detokenize(int n, char **argv) {
    const char *model = NULL;
    bool special = false;
    const cli_opt opts[] = {{.name = "-m", .kind = CLI_STR, .to = &model},
                            {.name = "--special", .kind = CLI_FLAG, .to = &special},
                            {0}};
    int rc = cli_parse("detokenize", opts, n, argv);
    if (rc) return rc;
    if (!model) return cli_usage("detokenize: -m MODEL is missing");
    model_file f;
    rc = open_file(&f, model, false);
    if (rc) return rc;
    gm_bytes text = {0}, out = {0};
    gm_ids ids = {0};
    rc = cli_read(NULL, &text);
    if (rc == CLI_OK) rc = parse_array(&text, gm_vocab_size(f.vocab), &ids);
    if (rc == CLI_OK && gm_detok_raw(f.vocab, ids.v, ids.n, special, &out) < 0)
        rc = cli_fail("out of memory");
    if (rc == CLI_OK) {
        if (out.n > 0) fwrite(out.p, 1, out.n, stdout);
        rc = cli_flush();
    }
    gm_ids_finish(&ids);
    gm_bytes_finish(&out);
    gm_bytes_finish(&text);
    close_file(&f);
    return rc;
}
