/* cli.h: what the commands of the command-line tool share: options, messages, files.
 *
 * Exit status: 0 success, 1 failure, 2 bad usage; the last two with one line on stderr.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/buf.h"
#include "engine/attach.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* Tokens of a pass. With 16 heads their rows are fewer than the 65,535 workgroups that any Vulkan
 * device takes. */
enum { CLI_MAX_CHUNK = 4000 };

/* Both print "gemma: ..." and return their status, so that commands can `return cli_fail(...)`. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- options ---- */

typedef enum { CLI_FLAG, CLI_STR, CLI_LIST, CLI_I32, CLI_U64, CLI_F32 } cli_kind;

enum { CLI_MAX_LIST = 64 };

typedef struct {
    const char *item[CLI_MAX_LIST];
    size_t n;
} cli_list;

/* name NULL ends a table. Targets: bool, const char *, cli_list, int32_t, uint64_t, float. */
typedef struct {
    const char *name;
    cli_kind kind;
    void *to;
    double min, max; /* of numbers, inclusive */
} cli_opt;

/* Reads argv[0 .. n-1] (without program and command); numbers are read strictly. 0 or CLI_USAGE. */
int cli_parse(const char *command, const cli_opt *opts, int n, char **argv);

/* "2,106,7" to numbers of at least 0; 0 or CLI_USAGE. what names the option in messages. */
int cli_parse_ids(const char *what, const char *text, gm_ids *out);

/* ---- input and output ---- */

/* Everything that path (NULL: standard input) holds. 0 or CLI_FAILED. */
int cli_read(const char *path, gm_bytes *out);

/* Writes what a model says, whole characters, to standard output; 0 or CLI_FAILED. A terminal gets
 * no control characters but tab and newline: it would obey them. */
int cli_print_text(const char *p, size_t n);

/* Flushes standard output; 0 or CLI_FAILED when anything written to it was lost. */
int cli_flush(void);

/* A JSON string with quotes; s is UTF-8 or made so. */
void cli_json_string(FILE *f, const char *s, size_t n);
void cli_json_ids(FILE *f, const int32_t *ids, size_t n);

/* ---- model ---- */

typedef struct {
    const char *model, *mmproj, *device;
    int32_t threads, chunk, ctx; /* 0: default */
    int32_t min_ctx;             /* positions needed when ctx is 0 */
    int32_t image_tokens; /* budget per image, 0: the model's; chunks hold at least as many */
} cli_model;

/* 0, or CLI_USAGE for what is no device. */
int cli_check_device(const char *device);

/* Opens with messages. The error sink for GEMMA_LOG is stderr. */
int cli_open(gm_engine **e, const cli_model *m);

/* A prompt from exactly one of ids, text and file; text has its control tokens parsed and <bos> in
 * front, and every <|image|>, <|audio|> and <|video|> in it stands for the next file of that
 * list. */
typedef struct {
    const char *ids, *text, *file;
    const cli_list *image, *audio, *video;
    gm_bytes read; /* what is in file; by cli_prompt_read */
} cli_prompt;

/* An output file that appears under its name only when it is complete, unless it is the standard
 * output or error. Refuses to be one of the files that are read: of m, of p (may be NULL), or
 * `input` (may be NULL). */
typedef struct {
    FILE *f;
    const char *path;
    char *real;  /* what path points to, from realpath, if it is a link; else NULL */
    char *temp;  /* NULL: path is a device or a stream of ours and written directly */
    bool shared; /* with whoever started us: what is written comes after what is there */
} cli_out;

int cli_out_open(cli_out *o, const char *path, const cli_model *m, const cli_prompt *p,
                 const char *input);
int cli_out_close(cli_out *o, int status); /* a status other than 0 discards the file */

/* Encoded, with its media rows. Zeroed: empty. */
typedef struct {
    gm_ids ids;
    gm_attachments media;
    gm_media_store store; /* a file that is given twice is computed once */
} cli_encoded;

int cli_check_prompt(const cli_prompt *p);     /* usage, before anything is loaded */
int cli_prompt_read(cli_prompt *p);            /* 0 or CLI_FAILED; the caller frees p->read */
gm_str cli_prompt_text(const cli_prompt *p);   /* of text or of what was read; borrows */
int32_t cli_prompt_bound(const cli_prompt *p); /* at most so many tokens; no more than 4 million */
int cli_encode_prompt(gm_engine *e, const cli_prompt *p, int32_t image_tokens, cli_encoded *out);
void cli_encoded_finish(cli_encoded *c);
gm_prompt cli_prompt_of(const cli_encoded *c); /* borrows */

/* --image-tokens, which options take from 70 to 1120; 0: not given. 0 or CLI_USAGE. */
int cli_check_image_tokens(int32_t n);

/* ---- commands: arguments after the command's name ---- */

int cmd_info(int n, char **argv);
int cmd_tokenize(int n, char **argv);
int cmd_detokenize(int n, char **argv);
int cmd_logits(int n, char **argv);
int cmd_embed(int n, char **argv);
int cmd_run(int n, char **argv);
int cmd_bench(int n, char **argv);
