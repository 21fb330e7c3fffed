/* cli_model.c: what the commands need before they can begin: a device, a model, a prompt. */
#include <stdio.h>
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "media/decode.h"
#include "tools/cli.h"

int cli_check_device(const char *d) {
    if (!d || gm_backend_name_ok(d)) return CLI_OK;
    return cli_usage("--device must be auto, cpu, vulkan, vulkan:n or split:K, not '%s'", d);
}

static void to_stderr(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud;
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
    fprintf(stderr, "%s %s: %s\n", names[level], room, line);
}

int cli_open(gm_engine **e, const cli_model *m) {
    *e = NULL;
    if (gm_env(GM_ENV_LOG)) gm_log_set_sink(to_stderr, NULL);
    int32_t n_batch = m->chunk > m->image_tokens ? m->chunk : m->image_tokens;
    gm_engine_opts o = {.model_path = m->model,
                        .device = m->device,
                        .n_threads = m->threads,
                        .n_ctx = m->ctx,
                        /* Longer prompts than the usual context are a fair wish here. */
                        .min_ctx = m->min_ctx,
                        .n_batch = n_batch > GM_DEFAULT_BATCH ? n_batch : 0,
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
    bool media = (p->image && p->image->n > 0) || (p->audio && p->audio->n > 0) ||
                 (p->video && p->video->n > 0);
    if (media && p->ids)
        return cli_usage("--image, --audio and --video need a prompt of text, not --ids");
    return CLI_OK;
}

int cli_prompt_read(cli_prompt *p) { return p->file ? cli_read(p->file, &p->read) : CLI_OK; }

gm_str cli_prompt_text(const cli_prompt *p) {
    if (p->file) return (gm_str){p->read.p, p->read.n};
    return (gm_str){p->text, p->text ? strlen(p->text) : 0};
}

int32_t cli_prompt_bound(const cli_prompt *p) {
    const int32_t most = 1 << 22;
    size_t n = 2 + cli_prompt_text(p).n;
    for (const char *s = p->ids; s && *s; s++) n += *s == ',';
    if (p->image) n += p->image->n * (GM_IMAGE_TOKENS_MAX + 2);
    if (p->audio) n += p->audio->n * (GM_SOUND_MAX_SECONDS * (GM_SAMPLE_RATE / GM_FRAME) + 2);
    enum {
        BETWEEN = 16, /* the time of a picture and its marks */
        VIDEO = GM_VIDEO_FRAMES * (GM_VIDEO_IMAGE_TOKENS + BETWEEN) +
                GM_VIDEO_SOUND_SECONDS * (GM_SAMPLE_RATE / GM_FRAME) + 2,
    };
    if (p->video) n += p->video->n * VIDEO;
    return n < (size_t)most ? (int32_t)n : most;
}

int cli_check_image_tokens(int32_t n) {
    if (n == 0 || gm_image_tokens_valid(n)) return CLI_OK;
    return cli_usage("--image-tokens must be 70, 140, 280, 560 or 1120");
}

/* What stands for a file in a prompt, and where the files come from. */
typedef struct {
    const char *mark, *option;
    gm_part_kind kind;
    const cli_list *files;
    size_t n; /* found so far */
} placeholder;

enum { N_KIND = 3 };

/* The first placeholder in text[n]: its number, with *at its place; -1: none. */
static int next_placeholder(const placeholder *ph, const char *text, size_t n, size_t *at) {
    int found = -1;
    *at = n;
    for (int k = 0; k < N_KIND; k++) {
        const char *p = memmem(text, *at, ph[k].mark, strlen(ph[k].mark));
        if (!p) continue;
        *at = (size_t)(p - text);
        found = k;
    }
    return found;
}

static int add_part(gm_part **parts, size_t *n, size_t *cap, gm_part_kind kind, gm_str text) {
    if (gm_grow(parts, cap, *n + 1, sizeof **parts) < 0) return cli_fail("out of memory");
    (*parts)[(*n)++] = (gm_part){.kind = kind, .text = text};
    return CLI_OK;
}

/* Text and files in the order of the prompt. Files beyond those given have no name; the count tells
 * afterwards. */
static int split_prompt(placeholder *ph, gm_str s, gm_part **parts, size_t *n) {
    size_t cap = 0;
    for (;;) {
        size_t at;
        int k = next_placeholder(ph, s.p, s.n, &at), rc = CLI_OK;
        if (at > 0) rc = add_part(parts, n, &cap, GM_PART_MARKUP, (gm_str){s.p, at});
        if (rc != CLI_OK || k < 0) return rc;
        const cli_list *files = ph[k].files;
        const char *file = files && ph[k].n < files->n ? files->item[ph[k].n] : "";
        ph[k].n++;
        rc = add_part(parts, n, &cap, ph[k].kind, (gm_str){file, strlen(file)});
        if (rc != CLI_OK) return rc;
        at += strlen(ph[k].mark);
        s = (gm_str){s.p + at, s.n - at};
    }
}

static int encode_text(gm_engine *e, const cli_prompt *p, gm_str text, int32_t image_tokens,
                       cli_encoded *out) {
    placeholder ph[N_KIND] = {{"<|image|>", "--image", GM_PART_IMAGE, p->image, 0},
                              {"<|audio|>", "--audio", GM_PART_AUDIO, p->audio, 0},
                              {"<|video|>", "--video", GM_PART_VIDEO, p->video, 0}};
    gm_part *parts = NULL;
    size_t n = 0;
    char err[512] = "";
    int rc = split_prompt(ph, text, &parts, &n);
    for (int k = 0; rc == CLI_OK && k < N_KIND; k++) {
        const size_t given = ph[k].files ? ph[k].files->n : 0;
        if (ph[k].n != given)
            rc = cli_fail("the prompt has %zu %s and %zu %s were given", ph[k].n, ph[k].mark, given,
                          ph[k].option);
    }
    if (rc == CLI_OK) {
        const gm_media_opts o = {.store = &out->store, .image_tokens = image_tokens};
        int code =
            gm_attachments_encode(&out->media, e, parts, n, &o, NULL, &out->ids, err, sizeof err);
        if (code < 0) rc = cli_fail("%s", err[0] ? err : gm_err_text(code));
    }
    gm_free(parts);
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
    return encode_text(e, p, cli_prompt_text(p), image_tokens, out);
}

void cli_encoded_finish(cli_encoded *c) {
    gm_ids_finish(&c->ids);
    gm_attachments_finish(&c->media);
    gm_media_store_finish(&c->store);
}

gm_prompt cli_prompt_of(const cli_encoded *c) {
    return (gm_prompt){
        .ids = c->ids.v, .n = c->ids.n, .media = c->media.media, .n_media = c->media.n};
}
