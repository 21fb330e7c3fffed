--- Generated from csrc/api/gemma.h by scripts/gen_cdef.lua; do not edit.
return {
  abi = 3,
  errors = {
    ENOMEM = -1,
    EINVAL = -2,
    ENOENT = -3,
    EIO = -4,
    EFORMAT = -5,
    EUNSUPPORTED = -6,
    ECANCELLED = -7,
    ETOOLONG = -8,
    EBUSY = -9,
    ENOMODEL = -10,
    EDEVICE = -11,
    EINTERNAL = -12,
  },
  text = [=[
enum { GEMMA_ABI = 3 };
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
uint32_t gemma_abi(void);
const char *gemma_version(void);
const char *gemma_err_name(int code);
const char *gemma_err_text(int code);
const char *gemma_cpu(void);
const char *gemma_media_missing(void);
typedef struct gemma gemma;
int gemma_create(gemma **out, char *err, size_t errlen);
int gemma_destroy(gemma **g, uint32_t timeout_ms);
int gemma_wake_fd(const gemma *g);
void gemma_wake_clear(gemma *g);
enum { GEMMA_KV_AUTO = 0, GEMMA_KV_F16 = 1, GEMMA_KV_Q8_0 = 2, GEMMA_KV_F32 = 3 };
typedef struct {
    uint32_t size;
    uint32_t n_ctx;
    uint32_t n_threads;
    uint32_t kv_type;
    const char *model_path;
    const char *mmproj_path;
    const char *device;
} gemma_load_opts;
enum {
    GEMMA_PART_TEXT = 0,
    GEMMA_PART_MARKUP = 1,
    GEMMA_PART_SYSTEM = 2,
    GEMMA_PART_USER = 3,
    GEMMA_PART_MODEL = 4,
    GEMMA_PART_IMAGE = 5,
    GEMMA_PART_AUDIO = 6,
    GEMMA_PART_SOUND = 7,
    GEMMA_PART_VIDEO = 8
};
typedef struct {
    uint32_t kind;
    uint32_t id;
    const char *data;
    size_t len;
} gemma_part;
enum { GEMMA_SESSION_COMPLETION = 0, GEMMA_SESSION_CHAT = 1, GEMMA_SESSION_MAX = 8 };
enum { GEMMA_PRIO_TYPING = 0, GEMMA_PRIO_ASK = 1, GEMMA_PRIO_BACKGROUND = 2 };
enum {
    GEMMA_GEN_THINK = 1,
    GEMMA_GEN_HEAL = 2,
    GEMMA_GEN_IGNORE_EOG = 4,
    GEMMA_GEN_MODEL_SAMPLING = 8,
    GEMMA_GEN_THOUGHTS = 16
};
typedef struct {
    uint32_t size;
    uint32_t flags;
    uint32_t session;
    uint32_t priority;
    uint32_t max_tokens;
    uint32_t n_part;
    const gemma_part *parts;
    uint32_t n_stop;
    uint32_t top_k;
    const char *const *stops;
    float temperature;
    float top_p;
    float min_p;
    float repeat_penalty;
    uint64_t seed;
    uint32_t fork_from;
    uint32_t image_tokens;
} gemma_generate_opts;
int64_t gemma_load(gemma *g, const gemma_load_opts *opts, char *err, size_t errlen);
int64_t gemma_unload(gemma *g);
int64_t gemma_generate(gemma *g, const gemma_generate_opts *opts, char *err, size_t errlen);
int64_t gemma_hash_file(gemma *g, const char *path, char *err, size_t errlen);
enum { GEMMA_SOUND_MAX = 16, GEMMA_SOUND_SECONDS = 30 };
int64_t gemma_sound_create(gemma *g, uint32_t rate, uint32_t channels, char *err, size_t errlen);
int gemma_sound_append(gemma *g, int64_t sound, const void *data, size_t len);
int gemma_sound_end(gemma *g, int64_t sound);
void gemma_sound_destroy(gemma *g, int64_t sound);
void gemma_cancel(gemma *g, int64_t job);
void gemma_cancel_all(gemma *g);
enum {
    GEMMA_EV_PROGRESS = 1,
    GEMMA_EV_TEXT = 2,
    GEMMA_EV_DONE = 3,
    GEMMA_EV_ERROR = 4,
    GEMMA_EV_LOG = 5,
    GEMMA_EV_THOUGHT = 6
};
enum {
    GEMMA_STOP_NONE = 0,
    GEMMA_STOP_EOG = 1,
    GEMMA_STOP_LENGTH = 2,
    GEMMA_STOP_STRING = 3,
    GEMMA_STOP_CONTEXT = 4
};
typedef struct {
    int64_t job;
    uint32_t kind;
    int32_t code;
    const char *text;
    size_t len;
    uint64_t done, total;
    float logprob;
    uint32_t stop_reason;
    uint32_t n_prompt;
    uint32_t n_reused;
    uint32_t n_generated;
    uint32_t n_media;
    double prefill_ms, decode_ms;
} gemma_event;
int gemma_next_event(gemma *g, gemma_event *ev);
enum {
    GEMMA_STATE_EMPTY = 0,
    GEMMA_STATE_LOADING = 1,
    GEMMA_STATE_READY = 2,
    GEMMA_STATE_PREFILL = 3,
    GEMMA_STATE_DECODE = 4
};
enum { GEMMA_MEDIA_IMAGE = 1, GEMMA_MEDIA_AUDIO = 2 };
typedef struct {
    uint32_t size;
    uint32_t state;
    uint32_t n_ctx, n_ctx_train;
    uint32_t n_threads;
    uint32_t n_queued;
    uint64_t model_bytes;
    uint64_t cache_bytes;
    uint64_t n_param;
    double prefill_tok_s;
    double decode_tok_s;
    uint64_t media_rows;
    char name[128];
    char type[32];
    char device[64];
    uint32_t media;
    uint32_t n_sound;
    char device_note[160];
    char devices[256];
    uint32_t image_tokens;
} gemma_status;
void gemma_get_status(const gemma *g, gemma_status *out);
]=],
}
