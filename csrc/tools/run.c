/* run.c: generates text from a prompt. */
#include <string.h>
#include "base/err.h"
#include "engine/generate.h"
#include "tokenizer/turns.h"
#include "tools/cli.h"

typedef struct {
    cli_model model;
    cli_prompt prompt;
    cli_list stops;
    const char *system;
    bool chat, think, ignore_eos, json;
    int32_t n;
    gm_sampler_opts sampling;
} run_args;

static gm_part media_part(gm_part_kind kind, const char *path) {
    return (gm_part){.kind = kind, .text = {path, strlen(path)}};
}

/* The model's own turns around a prompt in which no control token is parsed. */
static int encode_chat(gm_engine *e, const run_args *a, cli_encoded *out) {
    gm_part part[4 + 3 * CLI_MAX_LIST];
    size_t n = 0;
    if (a->system) {
        part[n++] = (gm_part){.kind = GM_PART_SYSTEM};
        part[n++] = (gm_part){.kind = GM_PART_TEXT, .text = {a->system, strlen(a->system)}};
    }
    part[n++] = (gm_part){.kind = GM_PART_USER};
    /* Media before the text, as the model's makers advise. */
    for (size_t i = 0; i < a->prompt.image->n; i++)
        part[n++] = media_part(GM_PART_IMAGE, a->prompt.image->item[i]);
    for (size_t i = 0; i < a->prompt.audio->n; i++)
        part[n++] = media_part(GM_PART_AUDIO, a->prompt.audio->item[i]);
    for (size_t i = 0; i < a->prompt.video->n; i++)
        part[n++] = media_part(GM_PART_VIDEO, a->prompt.video->item[i]);
    part[n++] = (gm_part){.kind = GM_PART_TEXT, .text = cli_prompt_text(&a->prompt)};
    char err[512] = "";
    const gm_media_opts o = {.store = &out->store, .image_tokens = a->model.image_tokens};
    const gm_turns_opts turns = {.think = a->think};
    int rc = gm_attachments_encode(&out->media, e, part, n, &o, &turns, &out->ids, err, sizeof err);
    return rc < 0 ? cli_fail("%s", err[0] ? err : gm_err_text(rc)) : CLI_OK;
}

/* Steps until the end; without --json the text goes out as it comes. */
static int generate(gm_gen *g, const run_args *a, gm_bytes *text) {
    int more = 1, rc = CLI_OK;
    while (more == 1 && rc == CLI_OK) {
        more = gm_gen_step(g, 0);
        if (more < 0) return cli_fail("%s", gm_gen_err_text(more));
        if (a->json && gm_bytes_append(text, g->text.p, g->text.n) < 0)
            return cli_fail("out of memory");
        if (!a->json && g->text.n > 0) rc = cli_print_text(g->text.p, g->text.n);
    }
    return rc;
}

static const char *reason(gm_stop_reason r) {
    switch (r) {
    case GM_STOP_EOG: return "eog";
    case GM_STOP_LENGTH: return "length";
    case GM_STOP_STRING: return "stop";
    case GM_STOP_CONTEXT: return "context";
    case GM_STOP_NONE: break;
    }
    return "none";
}

static int print_json(const gm_gen *g, const gm_bytes *text) {
    printf("{\"prompt_tokens\": %zu, \"tokens\": ", g->n_prompt);
    cli_json_ids(stdout, g->tokens.v, g->tokens.n);
    printf(", \"text\": ");
    cli_json_string(stdout, text->p, text->n);
    printf(", \"prefill_ms\": %.3f, \"decode_ms\": %.3f, \"stop_reason\": \"%s\"}\n", g->prefill_ms,
           g->decode_ms, reason(g->stop_reason));
    return cli_flush();
}

static int run(gm_engine *e, const run_args *a) {
    cli_encoded prompt = {0};
    gm_bytes text = {0};
    gm_session *s = NULL;
    gm_gen g = {.pending = -1};
    gm_str stops[CLI_MAX_LIST];
    char err[512] = "";
    for (size_t i = 0; i < a->stops.n; i++)
        stops[i] = (gm_str){a->stops.item[i], strlen(a->stops.item[i])};
    int rc = a->chat ? encode_chat(e, a, &prompt)
                     : cli_encode_prompt(e, &a->prompt, a->model.image_tokens, &prompt);
    if (rc == CLI_OK && gm_session_create(&s, e, err, sizeof err) < 0) rc = cli_fail("%s", err);
    if (rc == CLI_OK) {
        const gm_prompt p = cli_prompt_of(&prompt);
        gm_gen_opts o = {.sampling = a->sampling,
                         .max_tokens = a->n,
                         .ignore_eog = a->ignore_eos,
                         .stops = stops,
                         .n_stop = a->stops.n};
        if (gm_gen_init(&g, s, e->vocab, &p, &o, err, sizeof err) < 0) rc = cli_fail("%s", err);
    }
    if (rc == CLI_OK) rc = generate(&g, a, &text);
    if (rc == CLI_OK && a->json) rc = print_json(&g, &text);
    gm_gen_finish(&g);
    gm_session_destroy(&s);
    gm_bytes_finish(&text);
    cli_encoded_finish(&prompt);
    return rc;
}

static int check(const run_args *a) {
    if (!a->model.model) return cli_usage("run: -m MODEL is missing");
    if (a->n < 0) return cli_usage("run: -n N is missing");
    int rc = cli_check_prompt(&a->prompt);
    if (rc) return rc;
    if (a->chat && a->prompt.ids) return cli_usage("run: --chat needs --prompt or --prompt-file");
    if ((a->system || a->think) && !a->chat)
        return cli_usage("run: --system and --think go with --chat");
    rc = cli_check_image_tokens(a->model.image_tokens);
    if (rc) return rc;
    return cli_check_device(a->model.device);
}

int cmd_run(int n, char **argv) {
    run_args a = {.n = -1};
    cli_list image = {0}, audio = {0}, video = {0};
    const cli_opt opts[] = {
        {.name = "-m", .kind = CLI_STR, .to = &a.model.model},
        {.name = "--mmproj", .kind = CLI_STR, .to = &a.model.mmproj},
        {.name = "--device", .kind = CLI_STR, .to = &a.model.device},
        {.name = "--prompt", .kind = CLI_STR, .to = &a.prompt.text},
        {.name = "--prompt-file", .kind = CLI_STR, .to = &a.prompt.file},
        {.name = "--ids", .kind = CLI_STR, .to = &a.prompt.ids},
        {.name = "--image", .kind = CLI_LIST, .to = &image},
        {.name = "--audio", .kind = CLI_LIST, .to = &audio},
        {.name = "--video", .kind = CLI_LIST, .to = &video},
        {.name = "--image-tokens",
         .kind = CLI_I32,
         .to = &a.model.image_tokens,
         .min = 70,
         .max = 1120},
        {.name = "--chat", .kind = CLI_FLAG, .to = &a.chat},
        {.name = "--system", .kind = CLI_STR, .to = &a.system},
        {.name = "--think", .kind = CLI_FLAG, .to = &a.think},
        {.name = "-n", .kind = CLI_I32, .to = &a.n, .max = 1 << 22},
        {.name = "--temp", .kind = CLI_F32, .to = &a.sampling.temperature, .max = 1000},
        {.name = "--top-k", .kind = CLI_I32, .to = &a.sampling.top_k, .max = INT32_MAX},
        {.name = "--top-p", .kind = CLI_F32, .to = &a.sampling.top_p, .max = 1},
        {.name = "--min-p", .kind = CLI_F32, .to = &a.sampling.min_p, .max = 1},
        {.name = "--seed", .kind = CLI_U64, .to = &a.sampling.seed},
        {.name = "--stop", .kind = CLI_LIST, .to = &a.stops},
        {.name = "--ignore-eos", .kind = CLI_FLAG, .to = &a.ignore_eos},
        {.name = "--json", .kind = CLI_FLAG, .to = &a.json},
        {.name = "--ctx", .kind = CLI_I32, .to = &a.model.ctx, .min = 1, .max = 1 << 22},
        {.name = "-t", .kind = CLI_I32, .to = &a.model.threads, .min = 1, .max = GM_MAX_THREADS},
        {0}};
    a.prompt.image = &image;
    a.prompt.audio = &audio;
    a.prompt.video = &video;
    int rc = cli_parse("run", opts, n, argv);
    if (rc == CLI_OK) rc = check(&a);
    if (rc == CLI_OK) rc = cli_prompt_read(&a.prompt);
    int64_t need =
        (int64_t)cli_prompt_bound(&a.prompt) + a.n + (a.system ? (int64_t)strlen(a.system) : 0);
    a.model.min_ctx = need < (1 << 22) ? (int32_t)need + 64 : 1 << 22;
    gm_engine *e = NULL;
    if (rc == CLI_OK) rc = cli_open(&e, &a.model);
    if (rc == CLI_OK) rc = run(e, &a);
    gm_engine_close(&e);
    gm_bytes_finish(&a.prompt.read);
    return rc;
}
