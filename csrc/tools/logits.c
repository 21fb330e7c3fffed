/* logits.c: logits of a prompt at chosen positions, and embeddings of media, as raw float32. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "tools/cli.h"

/* Bytes of logits kept for one chunk when the caller does not say how long chunks are: 512
 * positions of a vocabulary of 262,144 would be half a gigabyte. */
enum { TAP_BYTES = 64 << 20 };

typedef struct {
    size_t *pos; /* [n] in the order asked for */
    size_t n;
    size_t *ascending; /* [n_unique] */
    size_t n_unique;
} positions;

static int by_size(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static void finish_positions(positions *p) {
    gm_free(p->pos);
    gm_free(p->ascending);
}

/* "all", "last" or a list, for a prompt of n_prompt positions. list: already parsed. */
static int choose_positions(positions *p, const char *text, const gm_ids *list, size_t n_prompt) {
    bool all = strcmp(text, "all") == 0, last = strcmp(text, "last") == 0;
    p->n = all ? n_prompt : last ? 1 : list->n;
    p->pos = gm_calloc(p->n, sizeof *p->pos);
    p->ascending = gm_calloc(p->n, sizeof *p->ascending);
    if (!p->pos || !p->ascending) return cli_fail("out of memory");
    for (size_t i = 0; i < p->n; i++) {
        p->pos[i] = all ? i : last ? n_prompt - 1 : (size_t)list->v[i];
        if (p->pos[i] >= n_prompt)
            return cli_fail("position %zu is outside the prompt of %zu", p->pos[i], n_prompt);
        p->ascending[i] = p->pos[i];
    }
    qsort(p->ascending, p->n, sizeof *p->ascending, by_size);
    for (size_t i = 0; i < p->n; i++)
        if (i == 0 || p->ascending[i] != p->ascending[p->n_unique - 1])
            p->ascending[p->n_unique++] = p->ascending[i];
    return CLI_OK;
}

typedef struct {
    FILE *f;
    const positions *p;
    size_t n_vocab;
    bool in_order; /* rows come as they are written: no seeking, so a pipe will do */
    int os_error;
} row_writer;

static int write_row(row_writer *w, size_t row, const float *logits) {
    off_t at = (off_t)(row * w->n_vocab * sizeof *logits);
    errno = 0;
    if (!w->in_order && fseeko(w->f, at, SEEK_SET) != 0) w->os_error = errno;
    else if (fwrite(logits, sizeof *logits, w->n_vocab, w->f) != w->n_vocab) w->os_error = errno;
    else return GM_OK;
    return GM_EIO;
}

static int on_logits(void *ud, size_t pos, const float *logits) {
    row_writer *w = ud;
    int rc = GM_OK;
    for (size_t i = 0; rc == GM_OK && i < w->p->n; i++) {
        /* "all" has a row per position, which must not become a search of all rows each time. */
        if (w->in_order) {
            size_t *at = bsearch(&pos, w->p->pos, w->p->n, sizeof pos, by_size);
            i = (size_t)(at - w->p->pos);
        }
        if (w->p->pos[i] == pos) rc = write_row(w, i, logits);
        if (w->in_order) break;
    }
    return rc;
}

static int compute(gm_session *s, const gm_prompt *prompt, size_t chunk, row_writer *w) {
    char err[512] = "";
    size_t reused;
    gm_logits_tap tap = {w->p->ascending, w->p->n_unique, on_logits, w};
    gm_session_set_tap(s, &tap);
    int rc = gm_session_begin(s, prompt, &reused, err, sizeof err);
    int64_t left = rc < 0 ? rc : 1;
    while (left > 0) left = gm_session_step(s, chunk);
    if (left == 0) return CLI_OK;
    if (w->os_error) return cli_fail("cannot write the logits: %s", strerror(w->os_error));
    return cli_fail("%s", err[0] ? err : gm_err_text((int)left));
}

typedef struct {
    cli_model model;
    cli_prompt prompt;
    const char *positions, *out;
    gm_ids list;
} logits_args;

static int run_logits(gm_engine *e, const logits_args *a) {
    cli_encoded prompt = {0};
    positions p = {0};
    cli_out out = {0};
    gm_session *s = NULL;
    char err[512] = "";
    int rc = cli_encode_prompt(e, &a->prompt, a->model.image_tokens, &prompt);
    if (rc == CLI_OK) rc = choose_positions(&p, a->positions, &a->list, prompt.ids.n);
    if (rc == CLI_OK && gm_session_create(&s, e, err, sizeof err) < 0) rc = cli_fail("%s", err);
    if (rc == CLI_OK) rc = cli_out_open(&out, a->out, &a->model, &a->prompt, NULL);
    if (rc == CLI_OK) {
        size_t n_vocab = (size_t)e->config.n_vocab, chunk = (size_t)a->model.chunk;
        size_t fit = TAP_BYTES / (n_vocab * sizeof(float));
        if (chunk == 0 && p.n > fit) chunk = fit > 16 ? fit : 16;
        row_writer w = {.f = out.f, .p = &p, .n_vocab = n_vocab};
        w.in_order = p.n == p.n_unique && memcmp(p.pos, p.ascending, p.n * sizeof *p.pos) == 0;
        const gm_prompt whole = cli_prompt_of(&prompt);
        if (out.shared && !w.in_order)
            rc = cli_fail("positions out of order need a file that is not the standard output");
        else rc = compute(s, &whole, chunk, &w);
    }
    rc = cli_out_close(&out, rc);
    gm_session_destroy(&s);
    finish_positions(&p);
    cli_encoded_finish(&prompt);
    return rc;
}

static int check_positions(const char *text, gm_ids *list) {
    if (!text) return cli_usage("logits: --positions is missing");
    if (strcmp(text, "all") == 0 || strcmp(text, "last") == 0) return CLI_OK;
    return cli_parse_ids("--positions", text, list);
}

int cmd_logits(int n, char **argv) {
    logits_args a = {0};
    cli_list image = {0}, audio = {0}, video = {0};
    const cli_opt opts[] = {
        {.name = "-m", .kind = CLI_STR, .to = &a.model.model},
        {.name = "--mmproj", .kind = CLI_STR, .to = &a.model.mmproj},
        {.name = "--device", .kind = CLI_STR, .to = &a.model.device},
        {.name = "--positions", .kind = CLI_STR, .to = &a.positions},
        {.name = "--out", .kind = CLI_STR, .to = &a.out},
        {.name = "--ids", .kind = CLI_STR, .to = &a.prompt.ids},
        {.name = "--prompt-file", .kind = CLI_STR, .to = &a.prompt.file},
        {.name = "--image", .kind = CLI_LIST, .to = &image},
        {.name = "--audio", .kind = CLI_LIST, .to = &audio},
        {.name = "--video", .kind = CLI_LIST, .to = &video},
        {.name = "--image-tokens",
         .kind = CLI_I32,
         .to = &a.model.image_tokens,
         .min = 70,
         .max = 1120},
        {.name = "--chunk", .kind = CLI_I32, .to = &a.model.chunk, .min = 1, .max = INT32_MAX},
        {.name = "--ctx", .kind = CLI_I32, .to = &a.model.ctx, .min = 1, .max = 1 << 22},
        {.name = "-t", .kind = CLI_I32, .to = &a.model.threads, .min = 1, .max = GM_MAX_THREADS},
        {0}};
    a.prompt.image = &image;
    a.prompt.audio = &audio;
    a.prompt.video = &video;
    int rc = cli_parse("logits", opts, n, argv);
    if (a.model.chunk > CLI_MAX_CHUNK) a.model.chunk = CLI_MAX_CHUNK;
    if (rc == CLI_OK && !a.model.model) rc = cli_usage("logits: -m MODEL is missing");
    if (rc == CLI_OK && !a.out) rc = cli_usage("logits: --out FILE is missing");
    if (rc == CLI_OK) rc = check_positions(a.positions, &a.list);
    if (rc == CLI_OK) rc = cli_check_image_tokens(a.model.image_tokens);
    if (rc == CLI_OK) rc = cli_check_prompt(&a.prompt);
    if (rc == CLI_OK) rc = cli_check_device(a.model.device);
    if (rc == CLI_OK) rc = cli_prompt_read(&a.prompt);
    gm_engine *e = NULL;
    a.model.min_ctx = cli_prompt_bound(&a.prompt);
    if (rc == CLI_OK) rc = cli_open(&e, &a.model);
    if (rc == CLI_OK) rc = run_logits(e, &a);
    gm_engine_close(&e);
    gm_bytes_finish(&a.prompt.read);
    gm_ids_finish(&a.list);
    return rc;
}

static int write_rows(gm_engine *e, const cli_model *m, gm_part_kind kind, const char *path,
                      const char *to) {
    gm_attachments media = {0};
    gm_part part = {.kind = kind, .text = {path, strlen(path)}};
    cli_out out = {0};
    char err[512] = "";
    int rc = CLI_OK;
    const gm_media_opts o = {.image_tokens = m->image_tokens};
    if (gm_attachments_open(&media, e, &part, &o, err, sizeof err) < 0) rc = cli_fail("%s", err);
    if (rc == CLI_OK) rc = cli_out_open(&out, to, m, NULL, path);
    const size_t n = (size_t)part.n_row * (size_t)e->config.n_embd;
    if (rc == CLI_OK && fwrite(gm_rows_data(media.rows[0]), sizeof(float), n, out.f) != n)
        rc = cli_fail("cannot write the rows: %s", strerror(errno));
    rc = cli_out_close(&out, rc);
    gm_attachments_finish(&media);
    return rc;
}

int cmd_embed(int n, char **argv) {
    const char *image = NULL, *audio = NULL, *out = NULL;
    cli_model m = {0};
    const cli_opt opts[] = {
        {.name = "-m", .kind = CLI_STR, .to = &m.model},
        {.name = "--mmproj", .kind = CLI_STR, .to = &m.mmproj},
        {.name = "--image", .kind = CLI_STR, .to = &image},
        {.name = "--audio", .kind = CLI_STR, .to = &audio},
        {.name = "--image-tokens", .kind = CLI_I32, .to = &m.image_tokens, .min = 70, .max = 1120},
        {.name = "--out", .kind = CLI_STR, .to = &out},
        {.name = "-t", .kind = CLI_I32, .to = &m.threads, .min = 1, .max = GM_MAX_THREADS},
        {0}};
    int rc = cli_parse("embed", opts, n, argv);
    if (rc) return rc;
    if (!m.model || !m.mmproj || !out) return cli_usage("embed: -m, --mmproj and --out are needed");
    if (!image == !audio) return cli_usage("embed: one of --image and --audio is needed");
    rc = cli_check_image_tokens(m.image_tokens);
    if (rc) return rc;
    gm_engine *e = NULL;
    rc = cli_open(&e, &m);
    if (rc == CLI_OK)
        rc = write_rows(e, &m, image ? GM_PART_IMAGE : GM_PART_AUDIO, image ? image : audio, out);
    gm_engine_close(&e);
    return rc;
}
