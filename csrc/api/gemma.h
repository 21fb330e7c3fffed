/* gemma.h: the exported interface of libgemma, and the only one.
 *
 * One worker thread owns the model, the device and all sessions. The caller submits jobs and
 * drains events; nothing here calls back. Every function below is O(1) (apart from copying
 * what it is given), never waits for the worker but for gemma_destroy, which is told how long, and
 * may be called from one thread at a time (in an editor: the main thread). Strings are UTF-8,
 * passed as pointer and length or zero-terminated as marked. Structs are zeroed for defaults;
 * `size` is sizeof of the caller's struct, so that older callers keep working.
 *
 * This header is also the source of lua/gemma/cdef.lua: between the CDEF marks only
 * declarations that LuaJIT's parser understands (no macros, no attributes).
 */
#ifndef GEMMA_H
#define GEMMA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)
/* CDEF BEGIN */

enum { GEMMA_ABI = 3 };

/* Errors: 0 or one of these. */
enum {
    GEMMA_OK = 0,
    GEMMA_ENOMEM = -1,
    GEMMA_EINVAL = -2,
    GEMMA_ENOENT = -3,
    GEMMA_EIO = -4,
    GEMMA_EFORMAT = -5,
    GEMMA_EUNSUPPORTED = -6,
    GEMMA_ECANCELLED = -7,
    GEMMA_ETOOLONG = -8,
    GEMMA_EBUSY = -9,
    GEMMA_ENOMODEL = -10,
    GEMMA_EDEVICE = -11,
    GEMMA_EINTERNAL = -12
};

/* ABI number of the library: compare with GEMMA_ABI before any other call. */
uint32_t gemma_abi(void);

/* "0.1.0"; static. */
const char *gemma_version(void);

/* "EFORMAT" and "malformed file"; static. */
const char *gemma_err_name(int code);
const char *gemma_err_text(int code);

/* What the CPU offers and which kernels were chosen: "avx512vnni (avx2 avx512f ...)"; static. */
const char *gemma_cpu(void);

/* NULL, or one line that says what is missing for pictures other than PNG, sounds other than WAV
 * and films; static. Looks for FFmpeg's libraries the first time, which takes some milliseconds. */
const char *gemma_media_missing(void);

typedef struct gemma gemma;

/* Starts the worker; loads nothing. On failure *out is NULL and err holds one line. */
int gemma_create(gemma **out, char *err, size_t errlen);

/* Cancels everything, asks the worker to leave and waits at most timeout_ms for it. When the
 * worker is not done by then, its memory is left to the process and GEMMA_EBUSY returned;
 * *g is NULL in every case. */
int gemma_destroy(gemma **g, uint32_t timeout_ms);

/* A descriptor that becomes readable when there are events. Watch it, call gemma_wake_clear,
 * then drain with gemma_next_event until it returns 0. Owned by g. */
int gemma_wake_fd(const gemma *g);
void gemma_wake_clear(gemma *g);

/* Cache number formats. AUTO: f32 for models with float weights or below 128 MiB, f16 otherwise. */
enum { GEMMA_KV_AUTO = 0, GEMMA_KV_F16 = 1, GEMMA_KV_Q8_0 = 2, GEMMA_KV_F32 = 3 };

typedef struct {
    uint32_t size;
    uint32_t n_ctx;          /* positions per session; 0: 8192, or the model's own if smaller */
    uint32_t n_threads;      /* compute threads, or as many of them as the system gives;
                                0: physical cores - 1, at least 1 */
    uint32_t kv_type;        /* GEMMA_KV_* */
    const char *model_path;  /* zero-terminated; copied */
    const char *mmproj_path; /* or NULL */
    /* "cpu", "vulkan", "vulkan:n" or "auto" (a GPU if there is one); NULL: "cpu". What is not there
     * is replaced by the CPU, see gemma_status.device_note. */
    const char *device;
} gemma_load_opts;

/* What a prompt is made of; see turns.h for the rules. TEXT can never make a control token. */
enum {
    GEMMA_PART_TEXT = 0,
    GEMMA_PART_MARKUP = 1,
    GEMMA_PART_SYSTEM = 2,
    GEMMA_PART_USER = 3,
    GEMMA_PART_MODEL = 4,
    GEMMA_PART_IMAGE = 5, /* data: path of a file */
    GEMMA_PART_AUDIO = 6,
    GEMMA_PART_SOUND = 7, /* id: of a sound made with gemma_sound_create */
    GEMMA_PART_VIDEO = 8  /* path: 32 pictures of 70 tokens with their times, then its sound */
};

typedef struct {
    uint32_t kind;    /* GEMMA_PART_* */
    uint32_t id;      /* SOUND */
    const char *data; /* copied */
    size_t len;       /* bytes */
} gemma_part;

/* Which cache a job works on. Each is a timeline of its own with its own K/V cache; jobs of
 * one session run in order. */
enum { GEMMA_SESSION_COMPLETION = 0, GEMMA_SESSION_CHAT = 1, GEMMA_SESSION_MAX = 8 };

/* Lower runs first; a running job of a higher number pauses between chunks and tokens. On the CPU a
 * background job is computed by threads of a lower priority. */
enum { GEMMA_PRIO_TYPING = 0, GEMMA_PRIO_ASK = 1, GEMMA_PRIO_BACKGROUND = 2 };

/* flags */
enum {
    GEMMA_GEN_THINK = 1,          /* thinking on */
    GEMMA_GEN_HEAL = 2,           /* token healing at the end of the last TEXT part */
    GEMMA_GEN_IGNORE_EOG = 4,     /* never stop at an end token (benchmarks) */
    GEMMA_GEN_MODEL_SAMPLING = 8, /* temperature, top_k, top_p from the model file */
    GEMMA_GEN_THOUGHTS = 16 /* thoughts come as GEMMA_EV_THOUGHT; else as text, marks included */
};

typedef struct {
    uint32_t size;
    uint32_t flags;      /* GEMMA_GEN_* */
    uint32_t session;    /* GEMMA_SESSION_* or any number below GEMMA_SESSION_MAX */
    uint32_t priority;   /* GEMMA_PRIO_* */
    uint32_t max_tokens; /* 0: prefill only (warms the cache) */
    uint32_t n_part;
    const gemma_part *parts; /* [n_part]; copied */
    uint32_t n_stop;
    uint32_t top_k;           /* 0: off */
    const char *const *stops; /* [n_stop], zero-terminated; the text ends before the first one */
    float temperature;        /* 0: greedy */
    float top_p;              /* 0 or 1: off */
    float min_p;              /* relative to the best token; 0: off */
    float repeat_penalty;     /* 0 or 1: off */
    uint64_t seed;
    uint32_t fork_from;    /* session + 1 to continue from its cache when that helps; 0: none */
    uint32_t image_tokens; /* budget per image: 70, 140, 280, 560, 1120; 0: the model's. More reads
                            * smaller print and costs as many positions; beyond 512 also some
                            * hundred MiB, once, because an image is computed in one piece */
} gemma_generate_opts;

/* Each returns a job id (> 0) or an error (< 0) and copies what it is given. The outcome
 * comes as events: exactly one GEMMA_EV_DONE or GEMMA_EV_ERROR per job, always last. */
int64_t gemma_load(gemma *g, const gemma_load_opts *opts, char *err, size_t errlen);
int64_t gemma_unload(gemma *g);
int64_t gemma_generate(gemma *g, const gemma_generate_opts *opts, char *err, size_t errlen);

/* The SHA-256 of a file, computed when the worker has nothing else to do; needs no model. PROGRESS
 * tells done of total bytes, and the text of DONE is 64 lower-case hex digits. */
int64_t gemma_hash_file(gemma *g, const char *path, char *err, size_t errlen);

/* A sound that is being recorded, so that the model hears it while it grows. Samples are signed
 * 16-bit little-endian, channels interleaved; rate is 1000 to 192000 Hz, channels 1 to 8. Returns
 * the sound's number (> 0, below 2^31) or an error; at most GEMMA_SOUND_MAX exist at a time.
 *
 * A job with a SOUND part takes the sound as it is when the job is submitted. While the sound has
 * not ended, only its complete frames of 40 ms count, and the prompt ends behind them, whatever
 * parts follow: such a job must have max_tokens 0. Submitted about once a second, with the parts
 * that the question will have, it leaves in the session what the model has heard so far. After
 * gemma_sound_end the same parts give the whole prompt, and only the last second is computed. */
enum { GEMMA_SOUND_MAX = 16, GEMMA_SOUND_SECONDS = 30 };

int64_t gemma_sound_create(gemma *g, uint32_t rate, uint32_t channels, char *err, size_t errlen);

/* Any number of bytes, also half a sample. GEMMA_ETOOLONG when the sound has reached
 * GEMMA_SOUND_SECONDS, the length the model was trained for: what fits was taken, the rest belongs
 * into another sound. GEMMA_EINVAL for an unknown sound and after its end. */
int gemma_sound_append(gemma *g, int64_t sound, const void *data, size_t len);

/* Nothing more will come. GEMMA_EINVAL for an unknown sound; a second call changes nothing. */
int gemma_sound_end(gemma *g, int64_t sound);

/* Jobs that were submitted before keep what they need. Unknown numbers are ignored. */
void gemma_sound_destroy(gemma *g, int64_t sound);

/* Takes effect inside the running step. The job still ends with an event (ERROR with code
 * GEMMA_ECANCELLED). Unknown and finished ids are ignored. */
void gemma_cancel(gemma *g, int64_t job);
void gemma_cancel_all(gemma *g);

enum {
    GEMMA_EV_PROGRESS = 1, /* load, hash: done of total bytes; generate: prompt tokens */
    GEMMA_EV_TEXT = 2,     /* UTF-8, never half a character */
    GEMMA_EV_DONE = 3,
    GEMMA_EV_ERROR = 4,  /* code, text */
    GEMMA_EV_LOG = 5,    /* job 0; level in code, text */
    GEMMA_EV_THOUGHT = 6 /* as TEXT: what the model wrote in its thought channel */
};

/* stop_reason of GEMMA_EV_DONE */
enum {
    GEMMA_STOP_NONE = 0,
    GEMMA_STOP_EOG = 1,    /* the model ended its turn */
    GEMMA_STOP_LENGTH = 2, /* max_tokens */
    GEMMA_STOP_STRING = 3, /* one of stops */
    GEMMA_STOP_CONTEXT = 4 /* the context is full */
};

typedef struct {
    int64_t job;
    uint32_t kind;        /* GEMMA_EV_* */
    int32_t code;         /* ERROR: GEMMA_E*; LOG: level */
    const char *text;     /* valid until the next gemma_next_event; zero-terminated */
    size_t len;           /* bytes of text */
    uint64_t done, total; /* PROGRESS */
    /* TEXT, THOUGHT: of the last token in this event; DONE: of the whole job */
    float logprob;                /* natural log of the token's probability (mean in DONE) */
    uint32_t stop_reason;         /* DONE */
    uint32_t n_prompt;            /* DONE: tokens of the prompt */
    uint32_t n_reused;            /* DONE: of these, already in the cache */
    uint32_t n_generated;         /* TEXT, THOUGHT, DONE: tokens so far, thoughts included */
    uint32_t n_media;             /* DONE: media rows prefilled anew */
    double prefill_ms, decode_ms; /* DONE */
} gemma_event;

/* 1 and fills *ev, or 0 when there is none. */
int gemma_next_event(gemma *g, gemma_event *ev);

/* A snapshot of the state; never waits. */
enum {
    GEMMA_STATE_EMPTY = 0, /* no model */
    GEMMA_STATE_LOADING = 1,
    GEMMA_STATE_READY = 2,
    GEMMA_STATE_PREFILL = 3,
    GEMMA_STATE_DECODE = 4
};

/* What may be in a prompt besides text: needs the mmproj file. */
enum { GEMMA_MEDIA_IMAGE = 1, GEMMA_MEDIA_AUDIO = 2 };

typedef struct {
    uint32_t size;
    uint32_t state; /* GEMMA_STATE_* */
    uint32_t n_ctx, n_ctx_train;
    uint32_t n_threads;   /* compute threads that there are; 0: on a GPU */
    uint32_t n_queued;    /* jobs waiting */
    uint64_t model_bytes; /* of the file */
    uint64_t cache_bytes; /* K/V caches of all sessions */
    uint64_t n_param;
    double prefill_tok_s; /* measured, moving average; 0: not yet */
    double decode_tok_s;
    uint64_t media_rows;   /* image and audio rows prefilled since load */
    char name[128];        /* general.name, zero-terminated */
    char type[32];         /* dominant weight type: "Q4_0" */
    char device[64];       /* "cpu avx512vnni" */
    uint32_t media;        /* GEMMA_MEDIA_*: what the model was loaded for */
    uint32_t n_sound;      /* sounds that exist */
    char device_note[160]; /* why the device is not what was asked for, or takes only some of the
                              layers; else empty */
    char devices[256];     /* "vulkan:0 NAME, vulkan:1 NAME": what there was to choose from when the
                              model was loaded; empty: nobody looked, or there was none */
    uint32_t image_tokens; /* budget of an image whose prompt names none: 280, or less if the model
                              learned from smaller ones; 0: it sees none */
} gemma_status;

void gemma_get_status(const gemma *g, gemma_status *out);

/* CDEF END */
#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
