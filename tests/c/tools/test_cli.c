/* test_cli.c: the command-line tool as scripts call it: outputs, exit status, one line on stderr.
 *
 * Runs the program that was built beside this one (or GEMMA_TOOL). Numbers are compared with the
 * committed golden set.
 */
#include "helper/cm.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include "api/gemma.h"
#include "helper/compare.h"
#include "helper/tiny_model.h"
#include "helper/tmp.h"
#include "media/inflate.h"

enum { MAX_ARG = 40, MAX_OUT = 1 << 20 };

static test_tmp tmp;
static char tool[4096], model[600];
static const char golden[] = "tests/golden/sets/nano/model-F32.gguf";

static int begin(void **state) {
    (void)state;
    if (tmp_begin(&tmp) != 0) return -1;
    snprintf(model, sizeof model, "%s", tmp_path(&tmp, "tiny.gguf"));
    return tiny_model_write(model, &(tiny_opts){.seed = 3}) ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    tmp_end(&tmp);
    return 0;
}

/* ---- running it ---- */

static struct {
    char out[MAX_OUT + 1], err[4096];
    size_t n;
    int status; /* of exit, or 128 + signal */
} result;

typedef enum {
    NORMAL,
    CLOSED_STDOUT,
    FULL_STDOUT,
    BROKEN_PIPE,
    CLOSED_ALL,
    SHELL_STDOUT,
    PIPED_STDIN /* with at most as much input as a pipe holds */
} stream_kind;

static int piped_in;  /* the standard input of PIPED_STDIN */
static int shell_out; /* the standard output of SHELL_STDOUT, with what was written before */

static void become_tool(char **argv, const char *in, const char *out, const char *err,
                        stream_kind kind) {
    int pipe_fd[2];
    dup2(kind == PIPED_STDIN ? piped_in : open(in, O_RDONLY), 0);
    if (kind == SHELL_STDOUT) dup2(shell_out, 1);
    else dup2(open(kind == FULL_STDOUT ? "/dev/full" : out, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    if (kind == BROKEN_PIPE && pipe(pipe_fd) == 0) {
        dup2(pipe_fd[1], 1);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
    }
    for (int fd = 3; fd < 64; fd++) close(fd);
    if (kind == CLOSED_STDOUT || kind == CLOSED_ALL) close(1);
    if (kind == CLOSED_ALL) {
        close(0);
        close(2);
    }
    signal(SIGPIPE, SIG_DFL);
    execv(tool, argv);
    _exit(126);
}

static size_t read_file(const char *path, char *to, size_t cap) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(to, 1, cap - 1, f) : 0;
    to[n] = '\0';
    if (f) fclose(f);
    return n;
}

/* line: arguments with one space between them; %m is the tiny model, %g the golden one, %t the
 * folder for files, _ inside an argument a space. */
static int run_with(const char *line, const void *input, size_t n_input, stream_kind kind) {
    static char words[8192], in[600], out[600], err[600];
    char *argv[MAX_ARG] = {tool};
    int n = 1;
    size_t at = 0;
    for (const char *p = line; *p;) {
        argv[n++] = words + at;
        assert_true(n < MAX_ARG);
        for (; *p && *p != ' '; p++) {
            const char *put = NULL;
            if (p[0] == '%' && p[1] == 'm') put = model;
            if (p[0] == '%' && p[1] == 'g') put = golden;
            if (p[0] == '%' && p[1] == 't') put = tmp.dir;
            if (put) {
                at += (size_t)sprintf(words + at, "%s", put);
                p++;
            } else {
                words[at++] = *p == '_' ? ' ' : *p;
            }
        }
        words[at++] = '\0';
        while (*p == ' ') p++;
    }
    snprintf(in, sizeof in, "%s/stdin", tmp.dir);
    snprintf(out, sizeof out, "%s/stdout", tmp.dir);
    snprintf(err, sizeof err, "%s/stderr", tmp.dir);
    write_file(in, input, n_input);
    if (kind == PIPED_STDIN) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], input, n_input), n_input);
        close(ends[1]);
        piped_in = ends[0];
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) become_tool(argv, in, out, err, kind);
    if (kind == PIPED_STDIN) close(piped_in);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.n = read_file(out, result.out, sizeof result.out);
    read_file(err, result.err, sizeof result.err);
    if (result.status > 2) fail_msg("gemma %s: status %d, %s", line, result.status, result.err);
    return result.status;
}

static int run(const char *line) { return run_with(line, "", 0, NORMAL); }

static void succeeds(const char *line) {
    if (run(line) != 0) fail_msg("gemma %s: status %d: %s", line, result.status, result.err);
    assert_string_equal(result.err, "");
}

/* Ends with this status and one clear line. */
static void fails(const char *line, int status, const char *mentions) {
    run(line);
    const char *nl = strchr(result.err, '\n');
    bool one_line = nl && nl[1] == '\0' && nl > result.err + 10;
    if (result.status != status || !one_line || (mentions && !strstr(result.err, mentions)))
        fail_msg("gemma %s: status %d, stderr '%s'", line, result.status, result.err);
}

static float *read_floats(const char *name, size_t n) {
    struct stat st;
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_size, n * sizeof(float));
    float *x = malloc(n * sizeof *x);
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    assert_int_equal(fread(x, sizeof *x, n, f), n);
    fclose(f);
    return x;
}

/* ---- golden ---- */

/* A line of the case text_short of F32, without its first word, spaces as commas. */
static void golden_line(const char *key, char *to, size_t cap, bool commas) {
    FILE *f = fopen("tests/golden/sets/nano/cases.txt", "r");
    if (!f) skip();
    static char line[1 << 16];
    bool inside = false;
    size_t n = strlen(key);
    *to = '\0';
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "case text_short") == 0) inside = true;
        if (!inside || strncmp(line, key, n) != 0 || line[n] != ' ') continue;
        snprintf(to, cap, "%s", line + n + 1);
        break;
    }
    fclose(f);
    for (char *p = to; commas && *p; p++)
        if (*p == ' ') *p = ',';
}

static void logits_and_greedy_tokens_are_the_golden_ones(void **state) {
    (void)state;
    static char ids[4096], forced[4096], pos[4096], greedy[4096], file[256], line[16000],
        want[5000];
    golden_line("ids", ids, sizeof ids, true);
    golden_line("forced", forced, sizeof forced, true);
    golden_line("positions", pos, sizeof pos, true);
    golden_line("greedy", greedy, sizeof greedy, false);
    golden_line("logits", file, sizeof file, false);
    size_t n = 1;
    for (char *p = pos; *p; p++) n += *p == ',';
    char path[512];
    snprintf(path, sizeof path, "tests/golden/sets/nano/%s", file);
    float *gold = read_floats(path, n * 768);
    const char *chunk[] = {"", " --chunk 1", " --chunk 5", " --chunk 2000000000"};
    for (size_t i = 0; i < sizeof chunk / sizeof *chunk; i++) {
        snprintf(line, sizeof line, "logits -m %%g --ids %s,%s --positions %s --out %%t/x.f32%s",
                 ids, forced, pos, chunk[i]);
        succeeds(line);
        assert_string_equal(result.out, "");
        float *got = read_floats(tmp_path(&tmp, "x.f32"), n * 768);
        assert_rows_close(got, gold, (int64_t)n * 768, 1e-4);
        free(got);
    }
    free(gold);
    snprintf(line, sizeof line, "run -m %%g --ids %s -n 32 --ignore-eos --json", ids);
    succeeds(line);
    size_t at = (size_t)sprintf(want, "\"tokens\": [");
    for (char *p = greedy; *p; p++) at += (size_t)sprintf(want + at, *p == ' ' ? ", " : "%c", *p);
    sprintf(want + at, "]");
    assert_non_null(strstr(result.out, want));
    assert_non_null(strstr(result.out, "\"stop_reason\": \"length\""));
}

/* ---- what it is ---- */

static void version_and_help_are_printed(void **state) {
    (void)state;
    char want[64];
    succeeds("--version");
    snprintf(want, sizeof want, "gemma %s\n", gemma_version());
    assert_string_equal(result.out, want);
    static const char *const lines[] = {"--help", "-h", "bench --help"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        succeeds(lines[i]);
        assert_int_equal(strncmp(result.out, "usage:\n  gemma info ", 20), 0);
        assert_non_null(strstr(result.out, "\nExit status: "));
    }
}

/* ---- tokens ---- */

static void any_bytes_come_back_from_their_tokens(void **state) {
    (void)state;
    char bytes[600];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 37);
    static char array[MAX_OUT];
    const struct {
        const void *p;
        size_t n;
    } inputs[] = {
        {bytes, sizeof bytes},          {"", 0},   {"\0", 1}, {"\xF0\x9F\x99\x82 \xC3", 6},
        {"local x = 1\n\n\t\tend", 18}, {"   ", 3}};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        assert_int_equal(run_with("tokenize -m %m", inputs[i].p, inputs[i].n, NORMAL), 0);
        assert_int_equal(result.out[0], '[');
        assert_string_equal(result.out + result.n - 2, "]\n");
        strcpy(array, result.out);
        assert_int_equal(run_with("detokenize -m %m", array, strlen(array), NORMAL), 0);
        assert_int_equal(result.n, inputs[i].n);
        assert_memory_equal(result.out, inputs[i].p, result.n);
    }
}

static void special_tokens_are_parsed_when_asked(void **state) {
    (void)state;
    const char *text = "<turn|>";
    assert_int_equal(run_with("tokenize -m %m --parse-special", text, 7, NORMAL), 0);
    assert_string_equal(result.out, "[18]\n");
    assert_int_equal(run_with("tokenize -m %m --parse-special --add-bos", text, 7, NORMAL), 0);
    assert_string_equal(result.out, "[2, 18]\n");
    assert_int_equal(run_with("tokenize -m %m", text, 7, NORMAL), 0);
    assert_null(strstr(result.out, "18]"));
    assert_int_equal(run_with("tokenize -m %m --add-bos", "", 0, NORMAL), 0);
    assert_string_equal(result.out, "[2]\n");
    assert_int_equal(run_with("detokenize -m %m --special", "[2, 18]", 7, NORMAL), 0);
    assert_string_equal(result.out, "<bos><turn|>");
    assert_int_equal(run_with("detokenize -m %m", "[2, 18]", 7, NORMAL), 0);
    assert_string_equal(result.out, "");
}

static void detokenize_takes_one_array_of_ids_and_nothing_else(void **state) {
    (void)state;
    const char *good[] = {"[]", " [ 90 , 91 ]\n", "[90]"};
    const char *bad[] = {"",        "[",     "[1",   "[1,]",  "[,1]",
                         "1",       "[1] x", "[-1]", "[1.5]", "[9999]",
                         "[\"a\"]", "[[1]]", "{}",   "[1 2]", "[99999999999999999999]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(run_with("detokenize -m %m", good[i], strlen(good[i]), NORMAL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (run_with("detokenize -m %m", bad[i], strlen(bad[i]), NORMAL) != 1)
            fail_msg("'%s' was taken", bad[i]);
}

/* ---- info, run, bench ---- */

static void info_tells_about_the_file(void **state) {
    (void)state;
    succeeds("info -m %m");
    assert_non_null(strstr(result.out, "layers      5 (2 global), width 64"));
    succeeds("info -m %m --json");
    assert_non_null(strstr(result.out, "\"architecture\": \"gemma4\""));
    assert_non_null(strstr(result.out, "\"n_layer\": 5"));
    assert_non_null(strstr(result.out, "\"n_vocab\": 512"));
    assert_non_null(strstr(result.out, "\"types\": {\"F32\": "));
    assert_int_equal(result.out[result.n - 1], '\n');
    succeeds("info -m %g --mmproj tests/golden/sets/nano/mmproj-BF16.gguf");
    assert_non_null(strstr(result.out, "vocabulary  768 tokens\n"));
    fails("info -m %g --mmproj %m", 1, "tiny.gguf is no mmproj file");
}

/* "the file names no tokenizer" sent people to look for what a projector never has. */
static void info_says_of_another_architecture_what_run_says(void **state) {
    (void)state;
    static const char why[] = "architecture 'clip'; only gemma4 is supported";
    fails("run -m tests/golden/sets/nano/mmproj-BF16.gguf --prompt x -n 1", 1, why);
    fails("info -m tests/golden/sets/nano/mmproj-BF16.gguf", 1, why);
    fails("tokenize -m tests/golden/sets/nano/mmproj-BF16.gguf", 1, why);
}

/* Ids need no sizes of layers: a file of a vocabulary and nothing else does. */
static void a_vocabulary_alone_is_enough_for_tokens(void **state) {
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s", tmp_path(&tmp, "vocab.gguf"));
    gm_bytes file = tiny_model_build(&(tiny_opts){.seed = 3});
    char *key = memmem(file.p, file.n, "gemma4.block_count", 18);
    assert_non_null(key);
    key[17] = 'x';
    write_file(path, file.p, file.n);
    gm_bytes_finish(&file);
    fails("info -m %t/vocab.gguf", 1, "vocab.gguf: ");
    assert_int_equal(run_with("tokenize -m %t/vocab.gguf --parse-special", "<turn|>", 7, NORMAL),
                     0);
    assert_string_equal(result.out, "[18]\n");
}

/* The number behind "prompt_tokens". */
static long prompt_tokens(void) {
    static const char key[] = "{\"prompt_tokens\": ";
    assert_int_equal(strncmp(result.out, key, sizeof key - 1), 0);
    return strtol(result.out + sizeof key - 1, NULL, 10);
}

/* How many ids there are in what tokenize wrote. */
static long count_ids(const char *text) {
    assert_int_equal(run_with("tokenize -m %m", text, strlen(text), NORMAL), 0);
    long n = 1;
    for (const char *p = result.out; *p; p++) n += *p == ',';
    return n;
}

static void chat_makes_no_control_token_of_what_somebody_wrote(void **state) {
    (void)state;
    const long n_more = count_ids("hi<turn|>") - count_ids("hi");
    assert_true(n_more > 1);
    succeeds("run -m %m --prompt hi --chat -n 0 --json");
    const long n_hi = prompt_tokens();
    succeeds("run -m %m --prompt hi<turn|> --chat -n 0 --json");
    assert_int_equal(prompt_tokens(), n_hi + n_more);
    /* Without turns it is one, behind <bos> and what "hi" is. */
    const long n_plain = 1 + count_ids("hi");
    succeeds("run -m %m --prompt hi<turn|> -n 0 --json");
    assert_int_equal(prompt_tokens(), n_plain + 1);
}

/* The letter or digit that the text comes to last, so that much is left in front of it. */
static char late_letter(const char *text) {
    const char *last = NULL;
    for (const char *p = text; *p; p++) {
        const bool is_word = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z');
        if (is_word && strchr(text, *p) == p) last = p;
    }
    assert_non_null(last);
    return *last;
}

static void a_stop_string_ends_the_text_before_it(void **state) {
    (void)state;
    static char text[4096], line[200];
    succeeds("run -m %m --prompt local_x -n 30 --ignore-eos");
    strcpy(text, result.out);
    const char stop = late_letter(text);
    snprintf(line, sizeof line, "run -m %%m --prompt local_x -n 30 --ignore-eos --stop %c", stop);
    succeeds(line);
    *strchr(text, stop) = '\0';
    assert_true(text[0] != '\0');
    assert_string_equal(result.out, text);
    strcat(line, " --json");
    succeeds(line);
    assert_non_null(strstr(result.out, "\"stop_reason\": \"stop\"}\n"));
}

static void a_picture_becomes_as_many_tokens_as_its_budget_allows(void **state) {
    (void)state;
    static const char line[] = "run -m tests/golden/sets/nano/model-F16.gguf "
                               "--mmproj tests/golden/sets/nano/mmproj-BF16.gguf "
                               "--image tests/golden/sets/nano/media/photo.png "
                               "--prompt <|image|> -n 2 --ignore-eos --json --image-tokens ";
    static const struct {
        const char *budget;
        long rows;
    } cases[] = {{"70", 60}, {"280", 260}};
    if (!gm_inflate_available()) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char whole[sizeof line + 8];
        snprintf(whole, sizeof whole, "%s%s", line, cases[i].budget);
        succeeds(whole);
        assert_int_equal(prompt_tokens(), 1 + 1 + cases[i].rows + 1); /* <bos>, begin, end */
        assert_non_null(strstr(result.out, "\"stop_reason\": \"length\""));
    }
}

static void run_writes_text_or_one_object(void **state) {
    (void)state;
    static char text[4096], greedy[4096];
    succeeds("run -m %m --prompt local_x -n 12 --ignore-eos");
    strcpy(text, result.out);
    strcpy(greedy, text);
    assert_true(strlen(text) > 0);
    succeeds("run -m %m --prompt local_x -n 12 --ignore-eos --json");
    const char *keys[] = {
        "{\"prompt_tokens\": ", "\"tokens\": [",   "\"text\": \"",
        "\"prefill_ms\": ",     "\"decode_ms\": ", "\"stop_reason\": \"length\"}\n"};
    for (size_t i = 0; i < 6; i++) assert_non_null(strstr(result.out, keys[i]));
    write_file(tmp_path(&tmp, "prompt.txt"), "local x", 7);
    succeeds("run -m %m --prompt-file %t/prompt.txt -n 12 --ignore-eos");
    assert_string_equal(result.out, text);
    succeeds("run -m %m --prompt local_x -n 0");
    assert_string_equal(result.out, "");
    /* A seed decides; the default is greedy. */
    succeeds(
        "run -m %m --prompt local_x -n 12 --ignore-eos --temp 1.5 --seed 7 --top-k 50 --top-p 0.9");
    strcpy(text, result.out);
    succeeds(
        "run -m %m --prompt local_x -n 12 --ignore-eos --temp 1.5 --seed 7 --top-k 50 --top-p 0.9");
    assert_string_equal(result.out, text);
    assert_string_not_equal(text, greedy);
    /* The best token only. */
    succeeds("run -m %m --prompt local_x -n 12 --ignore-eos --temp 1.5 --seed 7 --min-p 1");
    assert_string_equal(result.out, greedy);
    succeeds("run -m %m --prompt hi<turn|> --chat --system be_brief --think -n 3");
    succeeds("run -m %m --prompt hi --stop e --stop a -n 30 --json --ignore-eos");
}

/* A prompt longer than the default context is a fair wish on a command line. */
static void a_long_prompt_gets_a_long_context(void **state) {
    (void)state;
    static char text[12000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('!' + i * 31 % 90);
    write_file(tmp_path(&tmp, "long.txt"), text, sizeof text);
    succeeds("run -m %m --prompt-file %t/long.txt -n 1 --json");
    fails("run -m %m --prompt-file %t/long.txt -n 1 --ctx 100", 1,
          "n_ctx is 100; send less or raise it");
}

/* A model made for a shorter context than the default refused a prompt of 101 tokens, and took one
 * of nine thousand. */
static void a_model_of_a_short_context_takes_a_longer_prompt(void **state) {
    (void)state;
    static char text[101];
    assert_true(
        tiny_model_write(tmp_path(&tmp, "short.gguf"), &(tiny_opts){.seed = 3, .n_ctx = 64}));
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('!' + i * 31 % 90);
    write_file(tmp_path(&tmp, "text"), text, sizeof text);
    succeeds("run -m %t/short.gguf --prompt-file %t/text -n 8 --ignore-eos --json");
    assert_true(prompt_tokens() > 64);
    assert_non_null(strstr(result.out, "\"stop_reason\": \"length\""));
    succeeds("logits -m %t/short.gguf --prompt-file %t/text --positions last --out %t/x.f32");
    fails("run -m %t/short.gguf --prompt-file %t/text -n 1 --ctx 64", 1, "n_ctx is 64");
}

/* The size of a pipe is 0, and that of a file of 4 MiB or more was taken for 0: both got a context
 * of 8192 positions. */
static void the_context_is_as_long_however_the_prompt_arrives(void **state) {
    (void)state;
    static char text[12000], want[4096];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('!' + i * 31 % 90);
    write_file(tmp_path(&tmp, "long.txt"), text, sizeof text);
    succeeds("run -m %m --prompt-file %t/long.txt -n 8 --ignore-eos");
    strcpy(want, result.out);
    assert_true(want[0] != '\0');
    const char piped[] = "run -m %m --prompt-file /dev/stdin -n 8 --ignore-eos";
    if (run_with(piped, text, sizeof text, PIPED_STDIN) != 0) fail_msg("%s", result.err);
    assert_string_equal(result.out, want);
    succeeds("logits -m %m --prompt-file %t/long.txt --positions last --out %t/file.f32");
    const char rows[] = "logits -m %m --prompt-file /dev/stdin --positions last --out %t/pipe.f32";
    if (run_with(rows, text, sizeof text, PIPED_STDIN) != 0) fail_msg("%s", result.err);
    float *a = read_floats(tmp_path(&tmp, "file.f32"), 512);
    float *b = read_floats(tmp_path(&tmp, "pipe.f32"), 512);
    assert_rows_equal(a, b, 512);
    free(a);
    free(b);
    /* Too much for the longest context, which shows before anything is computed. */
    const size_t n = (4 << 20) + 5;
    char *huge = malloc(n);
    assert_non_null(huge);
    for (size_t i = 0; i < n; i++) huge[i] = text[i % sizeof text];
    write_file(tmp_path(&tmp, "huge.txt"), huge, n);
    free(huge);
    fails("run -m %m --prompt-file %t/huge.txt -n 1", 1, "n_ctx is 4194304; send less or raise it");
}

static void bench_prints_one_object_or_line_per_test(void **state) {
    (void)state;
    succeeds("bench -m %m -p 16 -n 4 -r 2 -t 1 --json");
    assert_non_null(strstr(result.out, "{\"test\": \"pp16\", \"tok_s\": "));
    assert_non_null(strstr(result.out, "{\"test\": \"tg4\", \"tok_s\": "));
    assert_non_null(strstr(result.out, "\"runs\": 2, \"threads\": 1, \"device\": \"cpu"));
    assert_non_null(strstr(result.out, "\"model\": \"tiny.gguf\"}\n"));
    int lines = 0;
    for (size_t i = 0; i < result.n; i++) lines += result.out[i] == '\n';
    assert_int_equal(lines, 2);
    succeeds("bench -m %m -p 16 -n 4 -r 2 -t 1");
    assert_int_equal(strncmp(result.out, "pp16 ", 5), 0);
    assert_non_null(strstr(result.out, "\ntg4 "));
    assert_non_null(strstr(result.out, " tokens/s  ("));
    assert_non_null(strstr(result.out, ", 2 runs, cpu "));
    succeeds("bench -m %m -p 0 -n 8 -b 4 -d 30 -r 1 -t 1 --json");
    assert_non_null(strstr(result.out, "\"tg8b4@d30\""));
    assert_null(strstr(result.out, "\"pp"));
}

static void logits_come_in_the_order_asked_for(void **state) {
    (void)state;
    succeeds("logits -m %m --ids 2,5,9,7 --positions all --out %t/all.f32");
    succeeds("logits -m %m --ids 2,5,9,7 --positions 3,0,3,1 --out %t/some.f32");
    succeeds("logits -m %m --ids 2,5,9,7 --positions last --out %t/last.f32");
    float *all = read_floats(tmp_path(&tmp, "all.f32"), 4 * 512);
    float *some = read_floats(tmp_path(&tmp, "some.f32"), 4 * 512);
    float *last = read_floats(tmp_path(&tmp, "last.f32"), 512);
    const int order[] = {3, 0, 3, 1};
    for (int i = 0; i < 4; i++) assert_rows_close(some + i * 512, all + order[i] * 512, 512, 1e-6);
    assert_rows_close(last, all + 3 * 512, 512, 1e-6);
    free(all);
    free(some);
    free(last);
    /* --prompt-file: control tokens parsed, <bos> once, with or without one in the text */
    write_file(tmp_path(&tmp, "a.txt"), "<turn|>\n", 8);
    write_file(tmp_path(&tmp, "b.txt"), "<bos><turn|>\n", 13);
    succeeds("logits -m %m --prompt-file %t/a.txt --positions all --out %t/a.f32");
    succeeds("logits -m %m --prompt-file %t/b.txt --positions all --out %t/b.f32");
    succeeds("logits -m %m --ids 2,18,21 --positions all --out %t/c.f32");
    float *a = read_floats(tmp_path(&tmp, "a.f32"), 3 * 512);
    float *b = read_floats(tmp_path(&tmp, "b.f32"), 3 * 512);
    float *c = read_floats(tmp_path(&tmp, "c.f32"), 3 * 512);
    assert_rows_equal(a, c, 3 * 512);
    assert_rows_equal(b, c, 3 * 512);
    free(a);
    free(b);
    free(c);
}

static void a_device_takes_as_many_layers_as_it_is_told(void **state) {
    (void)state;
    if (TEST_SANITIZED) skip(); /* would find what a driver keeps */
    succeeds("logits -m %m --ids 2,5,9,7 --positions all --out %t/cpu.f32");
    if (run("logits -m %m --ids 2,5,9,7 --positions all --out %t/split.f32 --device split:2") !=
        0) {
        assert_non_null(strstr(result.err, "ulkan"));
        print_message("skipped: %s", result.err);
        skip();
    }
    float *cpu = read_floats(tmp_path(&tmp, "cpu.f32"), 4 * 512);
    float *split = read_floats(tmp_path(&tmp, "split.f32"), 4 * 512);
    assert_rows_close(split, cpu, 4 * 512, 1e-4);
    free(cpu);
    free(split);
}

/* ---- what goes wrong ---- */

static void bad_usage_is_status_two(void **state) {
    (void)state;
    static const char *const lines[] = {
        "",
        "frobnicate",
        "info",
        "info -m",
        "info -m %m --frob",
        "tokenize --json -m %m",
        "logits -m %m --ids 1 --positions last",
        "logits -m %m --out %t/x --positions last",
        "logits -m %m --out %t/x --ids 1",
        "logits -m %m --out %t/x --ids 1 --prompt-file x --positions last",
        "logits -m %m --out %t/x --ids 1,,2 --positions last",
        "logits -m %m --out %t/x --ids 1,2, --positions last",
        "logits -m %m --out %t/x --ids -1 --positions last",
        "logits -m %m --out %t/x --ids 99999999999999999999 --positions last",
        "logits -m %m --out %t/x --ids 1 --positions first",
        "logits -m %m --out %t/x --ids 1 --positions -1",
        "logits -m %m --out %t/x --ids 1 --positions last --chunk 0",
        "logits -m %m --out %t/x --ids 1 --positions last --chunk 5x",
        "logits -m %m --out %t/x --ids 1 --positions last --image-tokens 99",
        "logits -m %m --out %t/x --ids 1 --positions last --image-tokens 0",
        "embed -m %m --mmproj x --image y --out %t/x --image-tokens 0",
        "run -m %m -n 5 --prompt x --image-tokens 0",
        "logits -m %m --out %t/x --ids 1 --positions last --device gpu",
        "logits -m %m --out %t/x --ids 1 --positions last --device vulkan:x",
        "logits -m %m --out %t/x --ids 1 --positions last --device split:",
        "run -m %m --prompt x",
        "run -m %m -n 5",
        "run -m %m -n 5 --prompt x --ids 3",
        "run -m %m -n -5 --prompt x",
        "run -m %m -n 99999999999999999999999 --prompt x",
        "run -m %m -n nan --prompt x",
        "run -m %m -n 5 --prompt x --temp nan",
        "run -m %m -n 5 --prompt x --temp inf",
        "run -m %m -n 5 --prompt x --temp -1",
        "run -m %m -n 5 --prompt x --top-p 1.5",
        "run -m %m -n 5 --prompt x --top-k 99999999999",
        "run -m %m -n 5 --prompt x --seed -1",
        "run -m %m -n 5 --prompt x --seed 1e3",
        "run -m %m -n 5 --ids 3 --chat",
        "run -m %m -n 5 --prompt x --system y",
        "run -m %m -n 5 --prompt x --device",
        "bench -m %m -r 0",
        "bench -m %m -t 0",
        "bench -m %m -p 0x10",
        "embed -m %m --out %t/x",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) fails(lines[i], 2, NULL);
}

static void what_cannot_be_done_is_status_one_with_a_reason(void **state) {
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s", tmp_path(&tmp, "pipe"));
    assert_int_equal(mkfifo(path, 0600), 0);
    write_file(tmp_path(&tmp, "empty"), "", 0);
    write_file(tmp_path(&tmp, "text"), "not a model at all", 18);
    write_file(tmp_path(&tmp, "picture.txt"), "<|image|>", 9);
    fails("info -m %t/missing", 1, "missing");
    fails("info -m %t", 1, "directory");
    fails("info -m %t/pipe", 1, "pipe");
    fails("info -m %t/empty", 1, "empty");
    fails("info -m %t/text", 1, "text");
    fails("tokenize -m /dev/zero", 1, NULL);
    fails("run -m %t/text -n 3 --prompt x", 1, NULL);
    fails("bench -m %t/missing --json", 1, "missing");
    fails("logits -m %m --ids 2,600 --positions last --out %t/x", 1, "600");
    fails("logits -m %m --ids 2 --positions 1 --out %t/x", 1, "position 1");
    fails("logits -m %m --ids 2 --positions 0,7 --out %t/x", 1, "position 7");
    fails("logits -m %m --ids 2 --positions last --out %t", 1, "directory");
    fails("logits -m %m --ids 2 --positions last --out %t/no/such/place", 1, "no/such/place");
    fails("logits -m %m --ids 2 --positions last --out /dev/full", 1, "/dev/full");
    fails("logits -m %m --ids 2 --positions last --out %m", 1, "is read from");
    fails("logits -m %m --prompt-file %t/text --positions last --out %t/text", 1, "is read from");
    assert_int_equal(chmod(tmp_path(&tmp, "text"), 0444), 0);
    fails("logits -m %m --ids 2 --positions last --out %t/text", 1, "text");
    fails("logits -m %m --prompt-file %t/missing --positions last --out %t/x", 1, "missing");
    fails("logits -m %m --prompt-file %t --positions last --out %t/x", 1, NULL);
    fails("logits -m %m --prompt-file %t/picture.txt --positions last --out %t/x", 1, "image");
    /* No machine has so many; a machine may have none, or a build no Vulkan at all. The address
     * sanitizer would find what a driver keeps (helper/driver.h). */
    if (!TEST_SANITIZED)
        fails("logits -m %m --ids 2 --positions last --out %t/x --device vulkan:99", 1, "ulkan");
    fails("run -m %m --prompt x -n 3 --image a.png", 1, "<|image|>");
    fails("run -m %m --prompt x -n 3 --chat --image a.png", 1, "mmproj");
    fails("embed -m %m --mmproj x --image y --out %t/x", 1, "x");
    fails("embed -m %m --mmproj %m --image y --out %t/x", 1, "mmproj");
    fails("bench -m %m -p 4 -n 4 -b 600 --json", 1, "-b 600");
    /* Nothing of all that left a file behind or touched the model. */
    assert_int_equal(access(tmp_path(&tmp, "x"), F_OK), -1);
    succeeds("info -m %m");
}

/* The rows that a sound becomes, against the reference; and a prompt with the sound in it has as
 * many positions as ids, rows included. */
static void a_sound_becomes_rows_and_part_of_a_prompt(void **state) {
    (void)state;
    enum { ROWS = 34, N_EMBD = 64, N_VOCAB = 768 };
    static float got[ROWS * N_EMBD + 1], want[ROWS * N_EMBD + 1]; /* read_file adds a zero */
    const size_t bytes = ROWS * N_EMBD * sizeof(float);
    succeeds("embed -m tests/golden/sets/nano/model-F16.gguf "
             "--mmproj tests/golden/sets/nano/mmproj-BF16.gguf "
             "--audio tests/golden/sets/nano/media/tones.wav --out %t/rows");
    assert_int_equal(read_file(tmp_path(&tmp, "rows"), (char *)got, sizeof got), bytes);
    assert_int_equal(
        read_file("tests/golden/sets/nano/data/audio.embd0.f32", (char *)want, sizeof want), bytes);
    assert_rows_close(got, want, ROWS * N_EMBD, 1e-4);
    write_file(tmp_path(&tmp, "heard.txt"), "<|audio|>", 9);
    succeeds("logits -m tests/golden/sets/nano/model-F16.gguf "
             "--mmproj tests/golden/sets/nano/mmproj-BF16.gguf --prompt-file %t/heard.txt "
             "--audio tests/golden/sets/nano/media/tones.wav --positions all --out %t/all");
    struct stat st;
    assert_int_equal(stat(tmp_path(&tmp, "all"), &st), 0);
    assert_int_equal(st.st_size, (1 + 1 + ROWS + 1) * N_VOCAB * (off_t)sizeof(float));
}

static void a_lost_standard_output_is_an_error_and_no_crash(void **state) {
    (void)state;
    static const char *const lines[] = {
        "--help",
        "info -m %m",
        "tokenize -m %m --add-bos",
        "run -m %m --prompt x -n 20 --ignore-eos",
        "run -m %m --prompt x -n 20 --ignore-eos --json",
        "bench -m %m -p 4 -n 0 -r 1 -t 1 --json",
    };
    const stream_kind kinds[] = {CLOSED_STDOUT, FULL_STDOUT, BROKEN_PIPE};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        for (int k = 0; k < 3; k++) {
            if (run_with(lines[i], "", 0, kinds[k]) != 1) fail_msg("%s: kind %d", lines[i], k);
            assert_non_null(strstr(result.err, "standard output"));
        }
        assert_int_equal(run_with(lines[i], "", 0, CLOSED_ALL), 1);
    }
    /* Descriptor 1 is free, and the output file must not get it, nor the messages. */
    assert_int_equal(
        run_with("logits -m %m --ids 2,3 --positions all --out %t/y.f32", "", 0, CLOSED_ALL), 0);
    free(read_floats(tmp_path(&tmp, "y.f32"), 2 * 512));
}

static void an_output_that_is_a_link_is_written_where_it_points(void **state) {
    (void)state;
    char file[600], link[600];
    snprintf(file, sizeof file, "%s", tmp_path(&tmp, "pointed.f32"));
    snprintf(link, sizeof link, "%s", tmp_path(&tmp, "link.f32"));
    write_file(file, "old", 3);
    assert_int_equal(symlink(file, link), 0);
    fails("logits -m %m --ids 2,600 --positions last --out %t/link.f32", 1, NULL);
    char buf[16];
    assert_int_equal(read_file(file, buf, sizeof buf), 3);
    succeeds("logits -m %m --ids 2,5 --positions last --out %t/link.f32");
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_size, 512 * sizeof(float));
}

/* (echo head; gemma ... --out /dev/stdout; echo tail) > file lost both: the file under the shell's
 * feet was replaced. */
static void standard_output_keeps_what_others_write(void **state) {
    (void)state;
    const size_t row = 512 * sizeof(float);
    const char *path = tmp_path(&tmp, "shell");
    for (int append = 0; append < 2; append++) {
        shell_out = open(path, O_WRONLY | O_CREAT | O_TRUNC | (append ? O_APPEND : 0), 0600);
        assert_int_equal(write(shell_out, "head", 4), 4);
        const char order[] = "logits -m %m --ids 2,5 --positions 1,0 --out /dev/stdout";
        assert_int_equal(run_with(order, "", 0, SHELL_STDOUT), 1);
        assert_non_null(strstr(result.err, "out of order"));
        const char line[] = "logits -m %m --ids 2,5 --positions all --out /dev/stdout";
        if (run_with(line, "", 0, SHELL_STDOUT) != 0) fail_msg("%s", result.err);
        assert_int_equal(write(shell_out, "tail", 4), 4);
        close(shell_out);
        assert_int_equal(read_file(path, result.out, sizeof result.out), 2 * row + 8);
        assert_memory_equal(result.out, "head", 4);
        assert_memory_equal(result.out + 4 + 2 * row, "tail", 4);
    }
}

static void an_output_file_is_complete_or_as_before(void **state) {
    (void)state;
    const char *path = tmp_path(&tmp, "kept.f32");
    write_file(path, "precious", 8);
    fails("logits -m %m --ids 2,600 --positions last --out %t/kept.f32", 1, NULL);
    char buf[16];
    assert_int_equal(read_file(tmp_path(&tmp, "kept.f32"), buf, sizeof buf), 8);
    assert_string_equal(buf, "precious");
    succeeds("logits -m %m --ids 2 --positions last --out %t/kept.f32");
    free(read_floats(tmp_path(&tmp, "kept.f32"), 512));
    succeeds("logits -m %m --ids 2 --positions all --out /dev/null");
}

/* What was for its owner alone became readable for everybody. */
static void an_output_file_keeps_its_permissions(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0755};
    const char *path = tmp_path(&tmp, "mine.f32");
    struct stat st;
    for (size_t i = 0; i < 3; i++) {
        write_file(path, "old", 3);
        assert_int_equal(chmod(path, modes[i]), 0);
        succeeds("logits -m %m --ids 2 --positions last --out %t/mine.f32");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i]);
        assert_int_equal(st.st_size, 512 * sizeof(float));
    }
    const mode_t mask = umask(0027);
    assert_int_equal(unlink(path), 0);
    succeeds("logits -m %m --ids 2 --positions last --out %t/mine.f32");
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void a_file_that_cannot_be_embedded_is_named_once(void **state) {
    (void)state;
    const char *line =
        "embed -m %g --mmproj tests/golden/sets/nano/mmproj-BF16.gguf --out %t/none ";
    static char whole[600];
    snprintf(whole, sizeof whole, "%s--image %%t/missing.png", line);
    fails(whole, 1, "missing.png: no such file");
    assert_null(strstr(strstr(result.err, "missing.png") + 1, "missing.png"));
    write_file(tmp_path(&tmp, "text.png"), "not a picture", 13);
    snprintf(whole, sizeof whole, "%s--image %%t/text.png", line);
    fails(whole, 1, "gemma: text.png: no picture");
    assert_null(strstr(strstr(result.err, "text.png") + 1, "text.png"));
    assert_int_equal(access(tmp_path(&tmp, "none"), F_OK), -1);
}

static bool is_control(char c) {
    return ((unsigned char)c < 0x20 && c != '\t' && c != '\n') || c == 0x7F;
}

/* The seed is one of those with which this model says some. */
static void a_terminal_gets_no_control_characters(void **state) {
    (void)state;
    static const char line[] = "run -m %g --prompt x -n 100 --temp 1.5 --seed 1";
    static char shown[MAX_OUT];
    assert_int_equal(run_with(line, "", 0, NORMAL), 0);
    size_t n = 0, n_control = 0;
    for (size_t i = 0; i < result.n; i++) {
        if (is_control(result.out[i])) n_control++;
        else result.out[n++] = result.out[i];
    }
    assert_true(n_control > 0);
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) skip();
    shell_out = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    assert_true(shell_out >= 0);
    struct termios raw;
    assert_int_equal(tcgetattr(shell_out, &raw), 0);
    raw.c_oflag &= ~(tcflag_t)OPOST; /* \n stays \n */
    assert_int_equal(tcsetattr(shell_out, TCSANOW, &raw), 0);
    char expected[4096];
    assert_true(n < sizeof expected);
    memcpy(expected, result.out, n);
    assert_int_equal(run_with(line, "", 0, SHELL_STDOUT), 0);
    const ssize_t got = read(terminal, shown, sizeof shown);
    close(shell_out);
    close(terminal);
    assert_int_equal(got, n);
    assert_memory_equal(shown, expected, n);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *given = getenv("GEMMA_TOOL");
    snprintf(tool, sizeof tool, "%s", given ? given : argv[0]);
    /* BUILD/tests/c/tools/test_cli -> BUILD/gemma */
    for (int i = 0; !given && i < 4; i++) {
        char *slash = strrchr(tool, '/');
        if (slash) *slash = '\0';
    }
    if (!given) strncat(tool, "/gemma", sizeof tool - strlen(tool) - 1);
    if (access(tool, X_OK) != 0) {
        printf("skip: %s is not built\n", tool);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_greedy_tokens_are_the_golden_ones),
        cmocka_unit_test(version_and_help_are_printed),
        cmocka_unit_test(any_bytes_come_back_from_their_tokens),
        cmocka_unit_test(special_tokens_are_parsed_when_asked),
        cmocka_unit_test(detokenize_takes_one_array_of_ids_and_nothing_else),
        cmocka_unit_test(info_tells_about_the_file),
        cmocka_unit_test(info_says_of_another_architecture_what_run_says),
        cmocka_unit_test(a_vocabulary_alone_is_enough_for_tokens),
        cmocka_unit_test(run_writes_text_or_one_object),
        cmocka_unit_test(chat_makes_no_control_token_of_what_somebody_wrote),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(a_picture_becomes_as_many_tokens_as_its_budget_allows),
        cmocka_unit_test(a_long_prompt_gets_a_long_context),
        cmocka_unit_test(a_model_of_a_short_context_takes_a_longer_prompt),
        cmocka_unit_test(the_context_is_as_long_however_the_prompt_arrives),
        cmocka_unit_test(bench_prints_one_object_or_line_per_test),
        cmocka_unit_test(logits_come_in_the_order_asked_for),
        cmocka_unit_test(a_device_takes_as_many_layers_as_it_is_told),
        cmocka_unit_test(bad_usage_is_status_two),
        cmocka_unit_test(what_cannot_be_done_is_status_one_with_a_reason),
        cmocka_unit_test(a_sound_becomes_rows_and_part_of_a_prompt),
        cmocka_unit_test(a_lost_standard_output_is_an_error_and_no_crash),
        cmocka_unit_test(standard_output_keeps_what_others_write),
        cmocka_unit_test(an_output_file_is_complete_or_as_before),
        cmocka_unit_test(an_output_that_is_a_link_is_written_where_it_points),
        cmocka_unit_test(an_output_file_keeps_its_permissions),
        cmocka_unit_test(a_file_that_cannot_be_embedded_is_named_once),
        cmocka_unit_test(a_terminal_gets_no_control_characters),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
