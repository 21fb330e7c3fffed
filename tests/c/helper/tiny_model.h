/* tiny_model.h: a complete Gemma 4 text model of random weights, small enough for unit tests.
 *
 *     gm_bytes file = tiny_model_build(&(tiny_opts){.pattern = "ssg", .dtype = GM_Q8_0});
 *     gm_gguf_open_memory(&g, file.p, file.n, err, sizeof err);
 *
 * Keys, tensors, token texts and merges are those of converted checkpoints, so every part of the
 * program can run on it. A tensor depends on seed and its name only: F32, F16 and BF16 files of one
 * seed hold the same numbers, quantised ones the nearest. The weights are scaled so that every
 * tensor shows in the logits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "tensor/dtype.h"

/* Zero stands for the default in brackets. */
typedef struct {
    uint64_t seed;
    const char *pattern;     /* one letter per layer: s sliding, g global ["ssgsg"] */
    int32_t n_embd;          /* [64] */
    int32_t n_ff;            /* [128] */
    int32_t n_head;          /* [4] */
    int32_t n_kv;            /* sliding layers [2] */
    int32_t n_kv_global;     /* [1] */
    int32_t head_dim;        /* sliding layers [16] */
    int32_t head_dim_global; /* [32] */
    int32_t window;          /* [24] */
    int32_t n_vocab;         /* at least TINY_MIN_VOCAB, at most 4096 [512] */
    int32_t n_ctx;           /* context_length [8192] */
    float softcap;           /* [30] */
    float rope_base;         /* global layers [1e6] */
    float rope_base_swa;     /* [1e4] */
    float eps;               /* [1e-6] */
    uint32_t alignment;      /* [32] */
    /* Of the matrices [GM_F32, which is 0]. Formats without a quantiser (the K formats, IQ4) get
     * random blocks of the right size; every row length must be a multiple of the block. */
    gm_dtype dtype;
    float sampling_temp, sampling_top_p; /* of the file's own; 0: it has no such key */
    int32_t sampling_top_k;
    /* Bytes of a Q8_0 matrix that nobody uses: a hole in the file of tiny_model_write. */
    uint64_t unused;
    bool no_suppress; /* leave tokenizer.ggml.suppress_tokens out */
    bool shuffle;     /* tensors in random order */
} tiny_opts;

#define TINY_MIN_VOCAB 448

/* The file's bytes, `unused` left out; the caller calls gm_bytes_finish. */
gm_bytes tiny_model_build(const tiny_opts *opts);

/* The same to a file; false with errno set on failure. */
bool tiny_model_write(const char *path, const tiny_opts *opts);

/* Ids that do not depend on n_vocab. */
enum {
    TINY_PAD = 0,
    TINY_EOS = 1,
    TINY_BOS = 2,
    TINY_UNK = 3,
    TINY_TURN_BEGIN = 17, /* <|turn> */
    TINY_TURN_END = 18,   /* <turn|> */
    TINY_NEWLINE = 21,    /* runs of 1..31 newlines */
    TINY_SPACES = 52,     /* runs of 2..31 spaces */
    TINY_TABS = 82,       /* runs of 1..8 tabs */
    TINY_BYTE = 90        /* <0x00> .. <0xFF> */
};
