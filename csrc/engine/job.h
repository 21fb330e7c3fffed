/* job.h: what the worker is asked to do, with everything it needs copied into it.
 *
 * A job is built by the thread that submits it, owned by the queue from then on, and worked on by
 * the worker. From then on `cancelled` belongs to the queue, and to the worker what it notes in the
 * job: `work`, and of media parts `open`, `video` and n_row (attach.c). Nothing else in it changes.
 */
#pragma once

#include "engine/sampler.h"
#include "engine/sound.h"
#include "tokenizer/turns.h"

enum {
    GM_MAX_SESSION = 8,
    GM_MAX_JOB = 256 /* more waiting jobs than that are a mistake of the caller */
};

/* Who waits for an answer: somebody with a key down, somebody who asked, nobody. */
enum { GM_PRIO_TYPING, GM_PRIO_ASK, GM_PRIO_BACKGROUND };

typedef enum { GM_JOB_LOAD, GM_JOB_UNLOAD, GM_JOB_GENERATE, GM_JOB_HASH } gm_job_kind;

typedef struct {
    char *model_path, *mmproj_path, *device; /* zero-terminated; the last two may be NULL */
    int32_t n_ctx, n_threads, kv_type;       /* as in gm_engine_opts */
} gm_load_request;

typedef struct {
    gm_part *parts; /* [n_part]; texts point into `text`; n_row 0 */
    size_t n_part;
    gm_sound_view *sounds; /* [n_sound], what the parts of kind SOUND point to */
    size_t n_sound;
    gm_str *stops;
    size_t n_stop;
    char *text;
    gm_sampler_opts sampling;
    bool model_sampling; /* temperature, top_k and top_p come from the file instead */
    bool think, heal, ignore_eog, thoughts;
    int32_t max_tokens;
    int32_t image_tokens; /* budget of an image; 0: default */
    int32_t fork_from;    /* session; -1: none */
} gm_generate_request;

typedef struct gm_job {
    int64_t id;
    gm_job_kind kind;
    int32_t session;  /* GENERATE: 0 .. GM_MAX_SESSION - 1 */
    int32_t priority; /* GENERATE: GM_PRIO_*, lower runs first */
    bool cancelled;   /* guarded by the lock of the queue */
    gm_load_request load;
    gm_generate_request gen;
    char *hash_path; /* HASH: zero-terminated */
    struct gm_job *next;
    struct gm_work *work; /* the worker's own; NULL until the job has begun */
} gm_job;

gm_job *gm_job_create(gm_job_kind kind); /* NULL: no memory */

/* work must be gone already. */
void gm_job_destroy(gm_job **j);
