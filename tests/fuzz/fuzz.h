/* fuzz.h: what a fuzz target provides, and how it is run.
 *
 * A target is tests/fuzz/fuzz_<name>.c with LLVMFuzzerTestOneInput and fuzz_seeds. It is built
 * twice by `make fuzz T=<name>`: with libFuzzer, and with fuzz_replay.c, whose main writes the
 * seeds and replays single files without libFuzzer. `make check` builds the second one with the
 * ordinary flags and runs the seeds:
 *
 *     fuzz_gguf                           runs the target on the seeds of fuzz_seeds
 *     fuzz_gguf-replay --seeds DIR        writes the seeds of fuzz_seeds into DIR
 *     fuzz_gguf-replay FILE...            runs the target on each file
 *
 * An optional tests/fuzz/<name>.dict holds words for the mutations.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One input; returns 0. Must not keep data, and must be a function of the input alone. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls fuzz_seed for each input that mutation should start from. */
void fuzz_seeds(void);

/* Provided by fuzz_replay.c; libFuzzer builds have none and never call fuzz_seeds. */
void fuzz_seed(const void *p, size_t n) __attribute__((weak));

/* Ends the program when a promise is broken, in any build. */
#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (cond) break;                                                                           \
        fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #cond);                 \
        abort();                                                                                   \
    } while (0)
