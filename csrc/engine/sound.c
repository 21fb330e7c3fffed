/* sound.c: see sound.h.
 *
 *     bytes (blocks)  ->  mono at the sound's rate  ->  16 kHz  ->  frames of 640  ->  rows
 *
 * Each step remembers how far it came and does only the rest. A resampled sample is made when all
 * inputs that its filter touches are there, so it is what resampling the finished file would give;
 * a row is made when its 640 samples are there, the last one when the sound has ended.
 */
#include "engine/sound.h"

#include <stdatomic.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "engine/media_rows.h"
#include "media/audio.h"
#include "media/resample.h"

enum { BLOCK_BYTES = 1 << 16, MAX_ROWS = GM_SOUND_SECONDS * GM_SAMPLE_RATE / GM_FRAME };

typedef struct block {
    struct block *next;
    uint8_t data[]; /* block_bytes of them */
} block;

struct gm_sound {
    atomic_int count;
    uint32_t rate, channels;
    size_t block_bytes; /* a multiple of a frame over all channels, so that none is divided */
    uint64_t hash;      /* for the rows' keys: no two sounds of a process share it */

    /* the owner's */
    block *first, *last;
    size_t n_byte, max_byte;
    bool ended;

    /* the worker's */
    const block *at; /* holds frame n_mono, or is full */
    float *mono;
    size_t n_mono, cap_mono;
    gm_resampler *resampler;
    gm_samples samples;
    size_t cap_samples;
    gm_rows *rows;
    int32_t n_row;
    uint64_t engine; /* serial of the one that made the rows */
};

int gm_sound_create(gm_sound **out, uint32_t rate, uint32_t channels, char *err, size_t errlen) {
    static atomic_uint_fast64_t serial;
    *out = NULL;
    if (rate < GM_SOUND_MIN_RATE || rate > GM_SOUND_MAX_RATE)
        return gm_fail(err, errlen, GM_EINVAL, "a sample rate of %u is out of range", rate);
    if (channels < 1 || channels > GM_SOUND_MAX_CHANNELS)
        return gm_fail(err, errlen, GM_EINVAL, "%u channels are out of range", channels);
    gm_sound *s = gm_calloc(1, sizeof *s);
    if (!s) return gm_fail_code(err, errlen, GM_ENOMEM);
    const size_t frame = 2 * (size_t)channels;
    atomic_init(&s->count, 1);
    s->rate = rate;
    s->channels = channels;
    s->block_bytes = BLOCK_BYTES / frame * frame;
    s->max_byte = (size_t)GM_SOUND_SECONDS * rate * frame;
    s->hash = (atomic_fetch_add(&serial, 1) + 1) * 0xd1342543de82ef95u;
    *out = s;
    return GM_OK;
}

void gm_sound_release(gm_sound **sp) {
    if (!sp || !*sp) return;
    gm_sound *s = *sp;
    *sp = NULL;
    if (atomic_fetch_sub(&s->count, 1) > 1) return;
    while (s->first) {
        block *b = s->first;
        s->first = b->next;
        gm_free(b);
    }
    gm_rows_release(&s->rows);
    gm_resampler_destroy(&s->resampler);
    gm_free(s->mono);
    gm_free(s->samples.v);
    gm_free(s);
}

/* ---- the owner's side ------------------------------------------------------------------------ */

/* Blocks for n bytes more, all or none, so that a failure leaves no hole. */
static int reserve(gm_sound *s, size_t n) {
    const size_t used = s->last ? (s->n_byte - 1) % s->block_bytes + 1 : s->block_bytes;
    const size_t room = s->block_bytes - used;
    block *list = NULL;
    for (size_t got = room; got < n; got += s->block_bytes) {
        block *b = gm_malloc(1, sizeof *b + s->block_bytes);
        if (!b) {
            while ((b = list)) {
                list = b->next;
                gm_free(b);
            }
            return GM_ENOMEM;
        }
        b->next = list;
        list = b;
    }
    if (!list) return GM_OK;
    /* The worker reads `next` of a full block only when a view reaches beyond it. */
    if (s->last) s->last->next = list;
    else s->first = s->last = list;
    return GM_OK;
}

int gm_sound_append(gm_sound *s, const void *p, size_t n) {
    if (s->ended) return GM_EINVAL;
    const size_t room = s->max_byte - s->n_byte;
    const bool full = n > room;
    if (full) n = room;
    if (n > 0 && reserve(s, n) < 0) return GM_ENOMEM;
    const uint8_t *from = p;
    while (n > 0) {
        const size_t used = s->n_byte % s->block_bytes;
        if (used == 0 && s->n_byte > 0) s->last = s->last->next;
        const size_t m = n < s->block_bytes - used ? n : s->block_bytes - used;
        memcpy(s->last->data + used, from, m);
        from += m;
        n -= m;
        s->n_byte += m;
    }
    return full ? GM_ETOOLONG : GM_OK;
}

void gm_sound_end(gm_sound *s) { s->ended = true; }

gm_sound_view gm_sound_look(gm_sound *s) {
    atomic_fetch_add(&s->count, 1);
    return (gm_sound_view){s, s->n_byte / (2 * (size_t)s->channels), s->ended};
}

void gm_sound_view_finish(gm_sound_view *v) { gm_sound_release(&v->sound); }

/* ---- the worker's side ----------------------------------------------------------------------- */

/* The mean of the channels, as the WAV reader computes it. */
static int mix(gm_sound *s, size_t n_frame) {
    const size_t width = 2 * (size_t)s->channels, per_block = s->block_bytes / width;
    if (n_frame <= s->n_mono) return GM_OK;
    if (gm_grow(&s->mono, &s->cap_mono, n_frame, sizeof *s->mono)) return GM_ENOMEM;
    for (; s->n_mono < n_frame; s->n_mono++) {
        const size_t in_block = s->n_mono % per_block;
        if (in_block == 0) s->at = s->n_mono == 0 ? s->first : s->at->next;
        const uint8_t *p = s->at->data + in_block * width;
        float sum = 0.0f;
        for (uint32_t c = 0; c < s->channels; c++)
            sum += (float)(int16_t)(uint16_t)(p[2 * c] | p[2 * c + 1] << 8) / 32768.0f;
        s->mono[s->n_mono] = sum / (float)s->channels;
    }
    return GM_OK;
}

/* Samples at 16 kHz that the view decides; *n may be less than s->samples.n, when a later view came
 * first. */
static int resample(gm_sound *s, const gm_sound_view *v, size_t *n, const gm_cancel *cancel) {
    int rc = s->resampler ? GM_OK : gm_resampler_create(&s->resampler, s->rate);
    if (rc < 0 || (rc = mix(s, v->n_frame)) < 0) return rc;
    *n = gm_resampler_ready(s->resampler, v->n_frame, v->ended);
    if (*n <= s->samples.n) return GM_OK;
    if (gm_grow(&s->samples.v, &s->cap_samples, *n, sizeof *s->samples.v)) return GM_ENOMEM;
    rc = gm_resampler_run(s->resampler, s->mono, v->n_frame, s->samples.n, *n,
                          s->samples.v + s->samples.n, cancel);
    if (rc < 0) return rc;
    s->samples.n = *n;
    if (!v->ended) return GM_OK;
    gm_free(s->mono); /* nothing will ask for it again */
    s->mono = NULL;
    s->cap_mono = 0;
    return GM_OK;
}

/* Rows up to n. They never move, since jobs hold pointers to those that are there. */
static int embed(gm_sound *s, gm_engine *e, size_t n_sample, int32_t n, const gm_cancel *cancel,
                 char *err, size_t errlen) {
    if (s->engine != e->serial) gm_rows_release(&s->rows);
    if (!s->rows) {
        s->n_row = 0;
        s->engine = e->serial;
        int rc = gm_rows_create(&s->rows, MAX_ROWS, e->config.n_embd, s->hash);
        if (rc < 0) return gm_fail_code(err, errlen, rc);
    }
    if (n <= s->n_row) return GM_OK;
    const size_t from = (size_t)s->n_row * GM_FRAME;
    const gm_samples rest = {s->samples.v + from, n_sample - from};
    int rc = gm_audio_embed_into(e->projector, &rest, e->config.n_embd, cancel,
                                 gm_rows_at(s->rows, s->n_row), err, errlen);
    if (rc == GM_OK) s->n_row = n;
    return rc;
}

int gm_sound_rows(const gm_sound_view *v, gm_engine *e, gm_rows **rows, int32_t *n,
                  const gm_cancel *cancel, char *err, size_t errlen) {
    gm_sound *s = v->sound;
    size_t n_sample = 0;
    *rows = NULL;
    *n = 0;
    if (!gm_projector_has_audio(e->projector))
        return gm_fail(err, errlen, GM_EUNSUPPORTED,
                       "sounds need the model's mmproj file; none was loaded");
    int rc = resample(s, v, &n_sample, cancel);
    if (rc < 0) return gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc));
    if (v->ended && n_sample == 0)
        return gm_fail(err, errlen, GM_EFORMAT, "the recording holds no sound");
    if (!v->ended) n_sample -= n_sample % GM_FRAME;
    const int32_t n_row = (int32_t)gm_audio_rows(n_sample);
    if (n_row == 0) return GM_OK;
    rc = embed(s, e, n_sample, n_row, cancel, err, errlen);
    if (rc < 0) return rc;
    *rows = gm_rows_retain(s->rows);
    *n = n_row;
    return GM_OK;
}
