/* tiny_model.c: see tiny_model.h. */
#include "helper/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "helper/gguf_writer.h"
#include "helper/random.h"
#include "tensor/quant.h"

#define MAX_VOCAB 4096
#define RUN 31 /* longest run of newlines or spaces that is one token */
#define TABS 8
#define SP "\xE2\x96\x81" /* U+2581, the space of the vocabulary */

/* ---- vocabulary -------------------------------------------------------------------------- */

typedef struct {
    gm_bytes text;               /* all pieces, one after the other */
    size_t start[MAX_VOCAB + 1]; /* into text */
    int32_t type[MAX_VOCAB];
    int32_t n;
    gm_bytes merges; /* texts as written in a file, one after the other */
    gm_ids merge_n;  /* length of each */
} vocab;

enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, BYTE = 6 };

static void add_n(vocab *v, const char *s, size_t n, int32_t type) {
    v->start[v->n] = v->text.n;
    v->type[v->n++] = type;
    gw_put(&v->text, s, n);
    v->start[v->n] = v->text.n;
}

static void add(vocab *v, const char *s, int32_t type) { add_n(v, s, strlen(s), type); }

static gm_str piece(const vocab *v, int32_t id) {
    return (gm_str){v->text.p + v->start[id], v->start[id + 1] - v->start[id]};
}

static bool known(const vocab *v, const char *s, size_t n) {
    for (int32_t i = 0; i < v->n; i++) {
        gm_str p = piece(v, i);
        if (p.n == n && memcmp(p.p, s, n) == 0) return true;
    }
    return false;
}

static void add_run(vocab *v, const char *unit, int times) {
    char s[RUN * 3];
    size_t unit_n = strlen(unit);
    for (int i = 0; i < times; i++) memcpy(s + (size_t)i * unit_n, unit, unit_n);
    add_n(v, s, (size_t)times * unit_n, NORMAL);
}

/* Every way to put the piece together from two known ones, the longest left part first. */
static void add_merges(vocab *v, int32_t id) {
    gm_str p = piece(v, id);
    for (size_t cut = p.n - 1; cut > 0; cut--) {
        if (((unsigned char)p.p[cut] & 0xC0) == 0x80) continue; /* inside a character */
        if (!known(v, p.p, cut) || !known(v, p.p + cut, p.n - cut)) continue;
        gw_put(&v->merges, p.p, cut);
        gw_put(&v->merges, " ", 1);
        gw_put(&v->merges, p.p + cut, p.n - cut);
        int32_t n = (int32_t)p.n + 1;
        if (gm_ids_push(&v->merge_n, n) < 0) abort();
    }
}

static void add_special(vocab *v) {
    static const char *const head[] = {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>"};
    static const struct {
        const char *text;
        int32_t type;
    } chat[] = {
        {"<unused0>", NORMAL},
        {"<unused1>", NORMAL},
        {"<|tool>", CONTROL},
        {"<tool|>", CONTROL},
        {"<|tool_call>", USER_DEFINED},
        {"<tool_call|>", USER_DEFINED},
        {"<|tool_response>", USER_DEFINED},
        {"<tool_response|>", USER_DEFINED},
        {"<|\"|>", USER_DEFINED},
        {"<|think|>", CONTROL},
        {"<|channel>", USER_DEFINED},
        {"<channel|>", USER_DEFINED},
        {"<|turn>", CONTROL},
        {"<turn|>", CONTROL},
        {"<unused2>", NORMAL},
        {"<unused3>", NORMAL},
    };
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) add(v, head[i], CONTROL);
    for (size_t i = 0; i < sizeof chat / sizeof *chat; i++) add(v, chat[i].text, chat[i].type);
}

/* Pieces longer than a character: some of English and code, then pairs and triples of letters
 * until the vocabulary is full. */
static void add_learned(vocab *v, int32_t n) {
    static const char *const words[] = {
        "in",        "th",   "the",   "er",     "on",       "re",       "at",          "en",
        "or",        SP "t", SP "a",  SP "the", "an",       "es",       "ti",          "st",
        "ar",        "nd",   "and",   SP "and", "al",       "le",       "el",          "un",
        "ur",        "rn",   "ing",   SP "s",   "ion",      "tion",     "lo",          "hel",
        "hello",     "wor",  "ld",    "world",  SP "world", "ret",      "urn",         "return",
        SP "return", "loc",  "local", "fun",    "func",     "function", SP "function", "end",
        SP "end",    "if",   SP "if", SP "=",   "==",       SP "==",    "()",          "();",
        "\");",      "->",   SP "i",  SP "in",  "for",      SP "for",   "int",         SP "int",
        "f(",
    };
    int32_t stop = v->n + n;
    for (size_t i = 0; i < sizeof words / sizeof *words && v->n < stop; i++)
        add(v, words[i], NORMAL);
    for (int i = 0; v->n < stop; i++) {
        char s[3] = {(char)('a' + i % 26), (char)('a' + i / 26 % 26), (char)('a' + i / 676 % 26)};
        size_t len = i < 676 ? 2 : 3;
        if (!known(v, s, len)) add_n(v, s, len, NORMAL);
    }
}

static void build_vocab(vocab *v, int32_t n_vocab) {
    static const char *const media[] = {"<|image>", "<|audio>", "<|image|>", "<|audio|>",
                                        "<image|>", "<audio|>", "<|video|>"};
    char s[8];
    add_special(v);
    int32_t first_run = v->n;
    for (int i = 1; i <= RUN; i++) add_run(v, "\n", i);
    for (int i = 2; i <= RUN; i++) add_run(v, SP, i);
    for (int i = 1; i <= TABS; i++) add_run(v, "\t", i);
    int32_t end_run = v->n;
    for (int i = 0; i < 256; i++) {
        snprintf(s, sizeof s, "<0x%02X>", (unsigned)i);
        add(v, s, BYTE);
    }
    int32_t first_learned = v->n;
    add_learned(v, n_vocab - TINY_MIN_VOCAB);
    int32_t end_learned = v->n;
    add(v, SP, NORMAL);
    for (int c = 33; c < 127; c++) add_n(v, (char[]){(char)c}, 1, NORMAL);
    for (size_t i = 0; i < sizeof media / sizeof *media; i++)
        add(v, media[i], i + 1 < sizeof media / sizeof *media ? CONTROL : NORMAL);
    /* Runs of white space come before everything else, as in the real file. */
    for (int32_t id = end_run - 1; id >= first_run; id--) add_merges(v, id);
    for (int32_t id = first_learned; id < end_learned; id++) add_merges(v, id);
}

static void finish_vocab(vocab *v) {
    gm_bytes_finish(&v->text);
    gm_bytes_finish(&v->merges);
    gm_ids_finish(&v->merge_n);
}

static void write_vocab(gguf_writer *w, const vocab *v, const tiny_opts *o) {
    gm_str *strings = gm_calloc((size_t)v->n + v->merge_n.n, sizeof *strings);
    float *scores = gm_calloc((size_t)v->n, sizeof *scores);
    if (!strings || !scores) abort();
    for (int32_t i = 0; i < v->n; i++) {
        strings[i] = piece(v, i);
        scores[i] = -1000.0f;
    }
    gw_str(w, "tokenizer.ggml.model", "gemma4");
    gw_strings(w, "tokenizer.ggml.tokens", strings, (uint64_t)v->n);
    gw_array(w, "tokenizer.ggml.scores", GM_GGUF_F32, (uint64_t)v->n, scores, (size_t)v->n * 4);
    gw_array(w, "tokenizer.ggml.token_type", GM_GGUF_I32, (uint64_t)v->n, v->type,
             (size_t)v->n * 4);
    const char *p = v->merges.p;
    for (size_t i = 0; i < v->merge_n.n; i++) {
        strings[i] = (gm_str){p, (size_t)v->merge_n.v[i]};
        p += v->merge_n.v[i];
    }
    gw_strings(w, "tokenizer.ggml.merges", strings, v->merge_n.n);
    gw_u32(w, "tokenizer.ggml.bos_token_id", TINY_BOS);
    gw_u32(w, "tokenizer.ggml.eos_token_id", TINY_EOS);
    gw_u32(w, "tokenizer.ggml.unknown_token_id", TINY_UNK);
    gw_u32(w, "tokenizer.ggml.padding_token_id", TINY_PAD);
    gw_bool(w, "tokenizer.ggml.add_bos_token", true);
    gw_bool(w, "tokenizer.ggml.add_space_prefix", false);
    int32_t suppress[2] = {v->n - 2, v->n - 3}; /* <audio|>, <image|> */
    if (!o->no_suppress)
        gw_array(w, "tokenizer.ggml.suppress_tokens", GM_GGUF_I32, 2, suppress, sizeof suppress);
    gm_free(strings);
    gm_free(scores);
}

/* ---- metadata ---------------------------------------------------------------------------- */

static tiny_opts with_defaults(const tiny_opts *opts) {
    tiny_opts o = *opts;
#define DEFAULT(field, value)                                                                      \
    if (!o.field) o.field = value
    DEFAULT(pattern, "ssgsg");
    DEFAULT(n_embd, 64);
    DEFAULT(n_ff, 128);
    DEFAULT(n_head, 4);
    DEFAULT(n_kv, 2);
    DEFAULT(n_kv_global, 1);
    DEFAULT(head_dim, 16);
    DEFAULT(head_dim_global, 32);
    DEFAULT(window, 24);
    DEFAULT(n_vocab, 512);
    DEFAULT(n_ctx, 8192);
    DEFAULT(softcap, 30.0f);
    DEFAULT(rope_base, 1e6f);
    DEFAULT(rope_base_swa, 1e4f);
    DEFAULT(eps, 1e-6f);
    DEFAULT(alignment, 32);
#undef DEFAULT
    return o;
}

static void write_config(gguf_writer *w, const tiny_opts *o) {
    size_t n_layer = strlen(o->pattern);
    int32_t n_kv[256];
    uint8_t sliding[256];
    if (n_layer > 256) abort();
    for (size_t i = 0; i < n_layer; i++) {
        sliding[i] = o->pattern[i] == 's';
        n_kv[i] = sliding[i] ? o->n_kv : o->n_kv_global;
    }
    gw_str(w, "general.architecture", "gemma4");
    gw_str(w, "general.type", "model");
    gw_str(w, "general.name", "Tiny random Gemma 4");
    if (o->alignment != 32) gw_alignment(w, o->alignment);
    gw_u32(w, "gemma4.block_count", (uint32_t)n_layer);
    gw_u32(w, "gemma4.context_length", (uint32_t)o->n_ctx);
    gw_u32(w, "gemma4.embedding_length", (uint32_t)o->n_embd);
    gw_u32(w, "gemma4.feed_forward_length", (uint32_t)o->n_ff);
    gw_u32(w, "gemma4.attention.head_count", (uint32_t)o->n_head);
    gw_array(w, "gemma4.attention.head_count_kv", GM_GGUF_I32, n_layer, n_kv, n_layer * 4);
    gw_f32(w, "gemma4.rope.freq_base", o->rope_base);
    gw_f32(w, "gemma4.rope.freq_base_swa", o->rope_base_swa);
    gw_f32(w, "gemma4.attention.layer_norm_rms_epsilon", o->eps);
    gw_u32(w, "gemma4.attention.key_length", (uint32_t)o->head_dim_global);
    gw_u32(w, "gemma4.attention.value_length", (uint32_t)o->head_dim_global);
    gw_f32(w, "gemma4.final_logit_softcapping", o->softcap);
    gw_u32(w, "gemma4.attention.sliding_window", (uint32_t)o->window);
    gw_u32(w, "gemma4.attention.shared_kv_layers", 0);
    gw_u32(w, "gemma4.embedding_length_per_layer_input", 0);
    gw_array(w, "gemma4.attention.sliding_window_pattern", GM_GGUF_BOOL, n_layer, sliding, n_layer);
    gw_u32(w, "gemma4.attention.key_length_swa", (uint32_t)o->head_dim);
    gw_u32(w, "gemma4.attention.value_length_swa", (uint32_t)o->head_dim);
    gw_u32(w, "gemma4.rope.dimension_count", (uint32_t)o->head_dim_global);
    gw_u32(w, "gemma4.rope.dimension_count_swa", (uint32_t)o->head_dim);
    gw_u32(w, "general.quantization_version", 2);
    if (o->sampling_temp > 0) gw_f32(w, "general.sampling.temp", o->sampling_temp);
    if (o->sampling_top_p > 0) gw_f32(w, "general.sampling.top_p", o->sampling_top_p);
    if (o->sampling_top_k > 0) gw_i32(w, "general.sampling.top_k", o->sampling_top_k);
}

/* ---- weights ----------------------------------------------------------------------------- */

typedef enum {
    MATRIX,
    EMBEDDING,
    ROPE_FREQS,
    OUTPUT_NORM,
    PRE_NORM,
    POST_NORM,
    Q_NORM,
    K_NORM,
    LAYER_SCALE
} kind;

typedef struct {
    char name[64];
    kind kind;
    int32_t layer;
    uint64_t ne0, ne1; /* ne1 0: a vector */
} spec;

typedef struct {
    spec *v;
    size_t n, cap;
} spec_list;

static void want(spec_list *l, kind k, int32_t layer, const char *name, int32_t ne0, int32_t ne1) {
    if (gm_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v) < 0) abort();
    spec *s = &l->v[l->n++];
    *s = (spec){.kind = k, .layer = layer, .ne0 = (uint64_t)ne0, .ne1 = (uint64_t)ne1};
    if (layer < 0) snprintf(s->name, sizeof s->name, "%s.weight", name);
    else snprintf(s->name, sizeof s->name, "blk.%d.%s.weight", layer, name);
}

static void want_layer(spec_list *l, const tiny_opts *o, int32_t i) {
    bool sliding = o->pattern[i] == 's';
    int32_t hd = sliding ? o->head_dim : o->head_dim_global;
    int32_t n_kv = sliding ? o->n_kv : o->n_kv_global;
    want(l, PRE_NORM, i, "attn_norm", o->n_embd, 0);
    want(l, LAYER_SCALE, i, "layer_output_scale", 1, 0);
    want(l, MATRIX, i, "ffn_down", o->n_ff, o->n_embd);
    want(l, MATRIX, i, "ffn_gate", o->n_embd, o->n_ff);
    want(l, MATRIX, i, "ffn_up", o->n_embd, o->n_ff);
    want(l, POST_NORM, i, "post_attention_norm", o->n_embd, 0);
    want(l, POST_NORM, i, "post_ffw_norm", o->n_embd, 0);
    want(l, PRE_NORM, i, "ffn_norm", o->n_embd, 0);
    want(l, K_NORM, i, "attn_k_norm", hd, 0);
    want(l, MATRIX, i, "attn_k", o->n_embd, n_kv * hd);
    want(l, MATRIX, i, "attn_output", o->n_head * hd, o->n_embd);
    want(l, Q_NORM, i, "attn_q_norm", hd, 0);
    want(l, MATRIX, i, "attn_q", o->n_embd, o->n_head * hd);
    /* Global layers have no values of their own: they use the keys. */
    if (sliding) want(l, MATRIX, i, "attn_v", o->n_embd, n_kv * hd);
}

/* bfloat16 and float16 both hold the result exactly. */
static float rounded(float x) {
    x = gm_bf16_to_f32(gm_f32_to_bf16(x));
    return fabsf(x) < 0x1p-14f ? 0.0f : x;
}

static float draw(const spec *s, test_rng *r, uint64_t row, uint64_t col, int32_t n_vocab) {
    float g = rng_gauss(r), n = (float)s->ne0;
    switch (s->kind) {
    case MATRIX: return g / sqrtf(n);
    case EMBEDDING:
        /* The two suppressed tokens are often the best: a sampler that forgets them shows. */
        return g * 0.6f / sqrtf(n) *
               ((int64_t)row == n_vocab - 2 || (int64_t)row == n_vocab - 3 ? 1.7f : 1.0f);
    case ROPE_FREQS: return col < s->ne0 / 4 ? 1.0f : 1e30f; /* a quarter of the pairs turns */
    case OUTPUT_NORM:
        /* Both signs: with tied embeddings the last token would repeat for ever otherwise. */
        return 14.0f * (1.0f + 0.3f * g) * (rng_unit(r) < 0.5f ? -1.0f : 1.0f);
    case PRE_NORM: return (1.0f + 0.3f * g) * (rng_unit(r) < 0.03f ? 2.5f : 1.0f);
    case POST_NORM: return 0.32f + 0.12f * g;
    case Q_NORM: return 1.0f + 0.2f * g;
    case K_NORM: return 1.4f / sqrtf(n) * (1.0f + 0.3f * g);
    case LAYER_SCALE: return s->layer == 1 ? 0.3f : 0.75f + 0.35f * rng_unit(r);
    }
    return 0;
}

static test_rng rng_for(uint64_t seed, const char *name) {
    uint64_t h = seed * 0x9E3779B97F4A7C15u + 1;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001B3u;
    return (test_rng){h};
}

/* Where a format that has no quantiser keeps its half-float factors; the second may be -1. */
static void factor_offsets(gm_dtype t, int *d, int *dmin) {
    *dmin = -1;
    switch (t) {
    case GM_Q2_K:
        *d = 80;
        *dmin = 82;
        return;
    case GM_Q3_K: *d = 108; return;
    case GM_Q4_K:
    case GM_Q5_K:
        *d = 0;
        *dmin = 2;
        return;
    case GM_Q6_K: *d = 208; return;
    default: *d = 0; return; /* IQ4 */
    }
}

/* Random blocks, each scaled so that its values have the deviation that the matrix wants. */
static void random_blocks(test_rng *r, gm_dtype t, uint8_t *p, size_t n_block, float deviation) {
    const gm_dtype_info *info = gm_dtype_get((uint32_t)t);
    int d, dmin;
    factor_offsets(t, &d, &dmin);
    for (size_t b = 0; b < n_block; b++, p += info->block_bytes) {
        float values[256], sum = 0;
        uint16_t factor = gm_f32_to_f16(1.0f);
        for (uint32_t i = 0; i < info->block_bytes; i++) p[i] = (uint8_t)rng_u64(r);
        for (int pass = 0; pass < 2; pass++) {
            memcpy(p + d, &factor, 2);
            if (dmin >= 0) memcpy(p + dmin, &factor, 2);
            if (pass == 1) break;
            if (gm_dequant_row(t, p, values, info->block_elems) < 0) abort();
            for (uint32_t i = 0; i < info->block_elems; i++) sum += values[i] * values[i];
            factor = gm_f32_to_f16(deviation / sqrtf(sum / (float)info->block_elems + 1.0f));
        }
    }
}

static bool has_quantiser(gm_dtype t) {
    return t == GM_F32 || t == GM_F16 || t == GM_BF16 || t == GM_Q8_0 || t == GM_Q4_0 ||
           t == GM_Q4_1 || t == GM_Q5_0 || t == GM_Q5_1;
}

static void write_tensor(gguf_writer *w, const spec *s, const tiny_opts *o) {
    bool matrix = s->kind == MATRIX || s->kind == EMBEDDING;
    gm_dtype t = matrix ? o->dtype : GM_F32;
    uint64_t rows = s->ne1 ? s->ne1 : 1, ne[2] = {s->ne0, s->ne1};
    test_rng r = rng_for(o->seed, s->name);
    if (!has_quantiser(t)) {
        size_t bytes = rows * gm_dtype_row_bytes(t, s->ne0);
        uint8_t *p = gm_malloc(bytes, 1);
        if (!p || bytes == 0) abort(); /* a row length is no multiple of the block */
        float deviation = (s->kind == EMBEDDING ? 0.6f : 1.0f) / sqrtf((float)s->ne0);
        random_blocks(&r, t, p, bytes / gm_dtype_get((uint32_t)t)->block_bytes, deviation);
        gw_tensor(w, s->name, t, 2, ne, p, bytes);
        gm_free(p);
        return;
    }
    float *x = gm_malloc(rows * s->ne0, sizeof *x);
    if (!x) abort();
    for (uint64_t i = 0; i < rows * s->ne0; i++) {
        float v = draw(s, &r, i / s->ne0, i % s->ne0, o->n_vocab);
        x[i] = s->kind == ROPE_FREQS ? v : rounded(v);
    }
    gw_tensor_f32(w, s->name, t, s->ne0, s->ne1, x);
    gm_free(x);
}

static void write_weights(gguf_writer *w, const tiny_opts *o) {
    spec_list l = {0};
    want(&l, ROPE_FREQS, -1, "rope_freqs", o->head_dim_global / 2, 0);
    want(&l, EMBEDDING, -1, "token_embd", o->n_embd, o->n_vocab);
    for (int32_t i = 0; o->pattern[i]; i++) want_layer(&l, o, i);
    want(&l, OUTPUT_NORM, -1, "output_norm", o->n_embd, 0);
    test_rng r = {o->seed};
    for (size_t i = l.n; o->shuffle && i > 1; i--) {
        size_t j = rng_below(&r, i);
        spec other = l.v[j];
        l.v[j] = l.v[i - 1];
        l.v[i - 1] = other;
    }
    for (size_t i = 0; i < l.n; i++) write_tensor(w, &l.v[i], o);
    gm_free(l.v);
    const uint64_t ne[] = {32, o->unused / gm_dtype_row_bytes(GM_Q8_0, 32)};
    if (ne[1] > 0) gw_tensor(w, "unused.weight", GM_Q8_0, 2, ne, "", 0);
}

/* ---- the file ---------------------------------------------------------------------------- */

gm_bytes tiny_model_build(const tiny_opts *opts) {
    tiny_opts o = with_defaults(opts);
    vocab *v = gm_calloc(1, sizeof *v);
    if (!v || o.n_vocab < TINY_MIN_VOCAB || o.n_vocab > MAX_VOCAB) abort();
    gguf_writer w;
    gw_init(&w);
    build_vocab(v, o.n_vocab);
    write_config(&w, &o);
    write_vocab(&w, v, &o);
    write_weights(&w, &o);
    gm_bytes file = gw_build(&w);
    gw_finish(&w);
    finish_vocab(v);
    gm_free(v);
    return file;
}

bool tiny_model_write(const char *path, const tiny_opts *opts) {
    gm_bytes file = tiny_model_build(opts);
    bool ok = gw_save(path, &file);
    if (ok && opts->unused) ok = truncate(path, (off_t)(file.n + opts->unused)) == 0;
    gm_bytes_finish(&file);
    return ok;
}
