/* cli_model.c: what the commands need before they can begin: a device, a model, a prompt. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "media/decode.h"
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
    int32_t n_batch = m->chunk > m->image_tokens ? m->chunk : m->image_tokens;
    gm_engine_opts o = {.model_path = m->model,
                        .device = m->device,
                        .n_threads = m->threads,
                        .n_ctx = ctx,
                        .n_batch = n_batch > 512 ? n_batch : 0,
                        .mmproj_path = m->mmproj,
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
    if (p->image) n += p->image->n * (GM_IMAGE_TOKENS_MAX + 2);
    if (p->audio) n += p->audio->n * (GM_SOUND_MAX_SECONDS * (GM_SAMPLE_RATE / GM_FRAME) + 2);
    return n < (size_t)most ? (int32_t)n : most;
}

int cli_check_image_tokens(int32_t n) {
    if (gm_image_tokens_valid(n)) return CLI_OK;
    return cli_usage("--image-tokens must be 70, 140, 280, 560 or 1120");
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
    return rc;
}

/* Appends begin token, rows and end token for file number *next of a list. */
static int expand(gm_engine *e, gm_part_kind kind, const char *path, int32_t image_tokens,
                  cli_encoded *out) {
    const gm_special_ids *sp = gm_vocab_special(e->vocab);
    const bool image = kind == GM_PART_IMAGE;
    const int32_t soft = image ? sp->image : sp->audio;
    char err[512] = "";
    gm_attachments *a = &out->media;
    gm_str name = {path, strlen(path)};
    if (gm_rows_open(&a->rows[a->n], e, kind, name, image_tokens, NULL, err, sizeof err) < 0)
        return cli_fail("%s: %s", gm_path_tail(path), err);
    const gm_rows *r = a->rows[a->n];
    const size_t n = (size_t)gm_rows_n(r);
    int rc = gm_ids_push(&out->ids, image ? sp->image_begin : sp->audio_begin);
    a->media[a->n++] = (gm_media_rows){.start = out->ids.n,
                                       .n_row = n,
                                       .rows = gm_rows_data(r),
                                       .hash = a->n, /* one prompt: the number tells them apart */
                                       .bidirectional = image};
    for (size_t i = 0; rc == GM_OK && i < n; i++) rc = gm_ids_push(&out->ids, soft);
    if (rc == GM_OK) rc = gm_ids_push(&out->ids, image ? sp->image_end : sp->audio_end);
    return rc < 0 ? cli_fail("out of memory") : CLI_OK;
}

static int count_placeholders(const gm_ids *ids, int32_t id, const cli_list *files, const char *what) {
    size_t n = 0, given = files ? files->n : 0;
    for (size_t i = 0; i < ids->n; i++) n += id >= 0 && ids->v[i] == id;
    if (n == given) return CLI_OK;
    return cli_fail("the prompt has %zu <|%s|> and %zu --%s were given", n, what, given, what);
}

/* Ids with placeholders to ids with rows. */
static int expand_all(gm_engine *e, const cli_prompt *p, const gm_ids *ids, int32_t image_tokens,
                      cli_encoded *out) {
    const gm_special_ids *sp = gm_vocab_special(e->vocab);
    size_t n_image = 0, n_audio = 0;
    int rc = count_placeholders(ids, sp->image, p->image, "image");
    if (rc == CLI_OK) rc = count_placeholders(ids, sp->audio, p->audio, "audio");
    if (rc != CLI_OK) return rc;
    const size_t n = (p->image ? p->image->n : 0) + (p->audio ? p->audio->n : 0);
    out->media.rows = gm_calloc(n, sizeof *out->media.rows);
    out->media.media = gm_calloc(n, sizeof *out->media.media);
    if (!out->media.rows || !out->media.media) return cli_fail("out of memory");
    for (size_t i = 0; rc == CLI_OK && i < ids->n; i++) {
        if (n > 0 && ids->v[i] == sp->image)
            rc = expand(e, GM_PART_IMAGE, p->image->item[n_image++], image_tokens, out);
        else if (n > 0 && ids->v[i] == sp->audio)
            rc = expand(e, GM_PART_AUDIO, p->audio->item[n_audio++], 0, out);
        else if (gm_ids_push(&out->ids, ids->v[i]) < 0)
            rc = cli_fail("out of memory");
    }
    return rc;
}

int cli_encode_prompt(gm_engine *e, const cli_prompt *p, int32_t image_tokens, cli_encoded *out) {
    if (p->ids) {
        int rc = cli_parse_ids("--ids", p->ids, &out->ids);
        for (size_t i = 0; rc == CLI_OK && i < out->ids.n; i++)
            if (out->ids.v[i] >= gm_vocab_size(e->vocab))
                rc = cli_fail("token %d is not in the vocabulary of %d", (int)out->ids.v[i],
                              (int)gm_vocab_size(e->vocab));
        return rc;
    }
    gm_ids ids = {0};
    int rc = encode_text(e->vocab, p, &ids);
    if (rc == CLI_OK) rc = expand_all(e, p, &ids, image_tokens, out);
    gm_ids_finish(&ids);
    return rc;
}

void cli_encoded_finish(cli_encoded *c) {
    gm_ids_finish(&c->ids);
    gm_attachments_finish(&c->media);
}

gm_prompt cli_prompt_of(const cli_encoded *c) {
    return (gm_prompt){
        .ids = c->ids.v, .n = c->ids.n, .media = c->media.media, .n_media = c->media.n};
}
