/* main.c: picks the command. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "api/gemma.h"
#include "tools/cli.h"

static const char usage[] =
    "usage:\n"
    "  gemma info       -m MODEL [--mmproj FILE] [--json]\n"
    "  gemma tokenize   -m MODEL [--parse-special] [--add-bos] < bytes\n"
    "  gemma detokenize -m MODEL [--special] < JSON array of ids\n"
    "  gemma logits     -m MODEL [--mmproj FILE] [--device D] --positions all|last|0,5,17\n"
    "                   --out FILE.f32 (--ids 2,106,... | --prompt-file FILE)\n"
    "                   [--image FILE]... [--audio FILE]... [--video FILE]...\n"
    "                   [--image-tokens 70|140|280|560|1120]\n"
    "                   [--chunk N] [--ctx N] [-t N]\n"
    "  gemma embed      -m MODEL --mmproj FILE (--image FILE | --audio FILE)\n"
    "                   [--image-tokens N] [-t N] --out FILE.f32\n"
    "  gemma run        -m MODEL [--mmproj FILE] [--device D]\n"
    "                   (--prompt TEXT | --prompt-file FILE | --ids 2,106,...)\n"
    "                   [--image FILE]... [--audio FILE]... [--video FILE]...\n"
    "                   [--image-tokens N] [--chat] [--system TEXT] [--think]\n"
    "                   -n N [--temp 0] [--top-k K] [--top-p P] [--min-p P] [--seed S]\n"
    "                   [--stop TEXT]... [--ignore-eos] [--json] [--ctx N] [-t N]\n"
    "  gemma bench      -m MODEL [-p 512] [-n 128] [-d 0] [-t 2] [-b 1]\n"
    "                   [--device cpu|vulkan[:n]] [-r 5] [--json]\n"
    "  gemma --version | --help\n"
    "\n"
    "D is cpu (default), auto, vulkan, vulkan:n or split:K (K layers on the device).\n"
    "Without --chat a prompt is text in which control tokens count, behind <bos>; --chat puts it\n"
    "into a user's turn, where they do not, and --system and --think need it. -n 0 only reads.\n"
    "-t is the physical cores less one when not given (bench: 2).\n"
    "stop_reason is eog, length, stop (by --stop), context (full) or none (-n 0).\n"
    "Exit status: 0 success, 1 failure, 2 bad usage.\n";

static const struct {
    const char *name;
    int (*run)(int n, char **argv);
} commands[] = {
    {"info", cmd_info},     {"tokenize", cmd_tokenize}, {"detokenize", cmd_detokenize},
    {"logits", cmd_logits}, {"embed", cmd_embed},       {"run", cmd_run},
    {"bench", cmd_bench},
};

/* When the caller closed descriptor 0, 1 or 2, the next file opened would get that number, and a
 * message would end in the middle of an output file. Something harmless takes the place: writing
 * to it fails, as it should. */
static void occupy_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(CLI_FAILED);
}

static int help(void) {
    fputs(usage, stdout);
    return cli_flush();
}

static int version(void) {
    printf("gemma %s\n", gemma_version());
    return cli_flush();
}

int main(int argc, char **argv) {
    occupy_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe becomes an error of the write */
    if (argc < 2) return cli_usage("no command given (gemma --help shows all)");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return help();
    if (strcmp(argv[1], "--version") == 0) return version();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        if (argc > 2 && strcmp(argv[2], "--help") == 0) return help();
        return commands[i].run(argc - 2, argv + 2);
    }
    return cli_usage("unknown command '%s' (gemma --help shows all)", argv[1]);
}
