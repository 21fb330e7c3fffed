/* cli_model.c: what the commands need before they can begin: a device, a model, a prompt. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "tokenizer/encode.h"
#include "tools/cli.h"

static bool is_number(const char *s) {
    size_t n = strlen(s);
    return n > 0 && n < 5 && strspn(s, "0123456789") == n;
}

int cli_check_device(const char *d) {
    if (!d || strcmp(d, "cpu") == 0) return CLI_OK;
    bool vulkan = strcmp(d, "vulkan") == 0 || (strncmp(d, "vulkan:", 7) == 0 && is_number(d + 7));
    bool split = strncmp(d, "split:", 6) == 0 && is_number(d + 6);
    if (vulkan || split)
        return cli_fail("--device %s: this build has no Vulkan backend; use --device cpu", d);
    return cli_usage("--device must be cpu, vulkan, vulkan:n or split:K, not '%s'", d);
}

static void to_stderr(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud;
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    fprintf(stderr, "%s %s: %s\n", names[level], room, line);
}

int cli_open(gm_engine **e, const cli_model *m) {
    *e = NULL;
    if (gm_env(GM_ENV_LOG)) gm_log_set_sink(to_stderr, NULL);
    int32_t ctx = m->ctx;
    /* Longer prompts than the default context are a fair wish on a command line. */
    if (ctx == 0 && m->min_ctx > 8192) ctx = m->min_ctx;
    gm_engine_opts o = {.model_path = m->model,
                        .device = m->device,
                        .n_threads = m->threads,
                        .n_ctx = ctx,
                        .n_batch = m->chunk > 512 ? m->chunk : 0,
                        .kv_type = -1};
    char err[512] = "";
    int rc = gm_engine_open(e, &o, err, sizeof err);
    if (rc < 0) return cli_fail("%s", err[0] ? err : gm_err_text(rc));
    return CLI_OK;
}

int cli_check_prompt(const cli_prompt *p) {
    int given = (p->ids != NULL) + (p->text != NULL) + (p->file != NULL);
    if (given == 0) return cli_usage("no prompt given");
    if (given > 1) return cli_usage("more than one prompt given");
    bool media = (p->image && p->image->n > 0) || (p->audio && p->audio->n > 0);
    if (media && p->ids) return cli_usage("--image and --audio need a prompt of text, not --ids");
    return CLI_OK;
}

int32_t cli_prompt_bound(const cli_prompt *p) {
    const int32_t most = 1 << 22;
    size_t n = 2;
    struct stat st;
    if (p->file) n += stat(p->file, &st) == 0 && st.st_size < most ? (size_t)st.st_size : 0;
    if (p->text) n += strlen(p->text);
    for (const char *s = p->ids; s && *s; s++) n += *s == ',';
    return n < (size_t)most ? (int32_t)n : most;
}

/* How often the placeholder `id` occurs must be how many files of that kind were given. */
static int check_placeholders(const gm_ids *ids, int32_t id, const cli_list *files,
                              const char *what) {
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++)
        if (id >= 0 && ids->v[i] == id) n++;
    size_t given = files ? files->n : 0;
    if (n == given) return CLI_OK;
    return cli_fail("the prompt has %zu <|%s|> and %zu --%s were given", n, what, given, what);
}

static int encode_text(const gm_vocab *v, const cli_prompt *p, gm_ids *out) {
    gm_bytes text = {0};
    int rc = p->file ? cli_read(p->file, &text) : CLI_OK;
    if (rc == CLI_OK) {
        const char *s = p->file ? text.p : p->text;
        size_t n = p->file ? text.n : strlen(p->text);
        if (gm_encode(v, s, n, GM_ENC_SPECIAL | GM_ENC_BOS, out) < 0) rc = cli_fail("out of memory");
    }
    gm_bytes_finish(&text);
    if (rc) return rc;
    rc = check_placeholders(out, gm_vocab_special(v)->image, p->image, "image");
    if (!rc) rc = check_placeholders(out, gm_vocab_special(v)->audio, p->audio, "audio");
    return rc;
}

int cli_encode_prompt(const gm_vocab *v, const cli_prompt *p, gm_ids *out) {
    if ((p->image && p->image->n > 0) || (p->audio && p->audio->n > 0))
        return cli_fail("images and sounds are not supported yet");
    if (!p->ids) return encode_text(v, p, out);
    int rc = cli_parse_ids("--ids", p->ids, out);
    for (size_t i = 0; rc == CLI_OK && i < out->n; i++)
        if (out->v[i] >= gm_vocab_size(v))
            rc = cli_fail("token %d is not in the vocabulary of %d", (int)out->v[i],
                          (int)gm_vocab_size(v));
    return rc;
}
