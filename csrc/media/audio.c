/* audio.c: framing is all there is: no window, no spectrum, as the model was trained. */
#include "media/audio.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

int gm_audio_embed_into(gm_projector *p, const gm_samples *s, int32_t n_embd,
                        const gm_cancel *cancel, float *out, char *err, size_t errlen) {
    const size_t n = gm_audio_rows(s->n);
    float *frames = gm_malloc(GM_PROJECTOR_CHUNK * (size_t)GM_FRAME, sizeof *frames);
    int rc = frames ? 0 : GM_ENOMEM;
    for (size_t first = 0; !rc && first < n; first += GM_PROJECTOR_CHUNK) {
        const size_t m = n - first < GM_PROJECTOR_CHUNK ? n - first : GM_PROJECTOR_CHUNK;
        const size_t start = first * GM_FRAME, want = m * GM_FRAME;
        const size_t have = s->n - start < want ? s->n - start : want;
        memcpy(frames, s->v + start, have * sizeof *frames);
        memset(frames + have, 0, (want - have) * sizeof *frames);
        rc = gm_cancelled(cancel)
                 ? GM_ECANCELLED
                 : gm_projector_frames(p, frames, (int32_t)m, out + first * (size_t)n_embd);
    }
    gm_free(frames);
    return rc ? gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc)) : 0;
}

int gm_audio_embed(gm_projector *p, const gm_samples *s, int32_t n_embd, const gm_cancel *cancel,
                   float **out, int32_t *n_row, char *err, size_t errlen) {
    *out = NULL;
    *n_row = 0;
    if (!gm_projector_has_audio(p))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "the mmproj file has no sound weights");
    const size_t n = gm_audio_rows(s->n);
    if (n == 0) return gm_fail(err, errlen, GM_EFORMAT, "the recording holds no sound");
    if (n > INT32_MAX / GM_FRAME) return gm_fail(err, errlen, GM_ETOOLONG, "recording too long");
    float *rows = gm_malloc(n * (size_t)n_embd, sizeof *rows);
    int rc = rows ? gm_audio_embed_into(p, s, n_embd, cancel, rows, err, errlen)
                  : gm_fail(err, errlen, GM_ENOMEM, "sound: %s", gm_err_text(GM_ENOMEM));
    if (rc) {
        gm_free(rows);
        return rc;
    }
    *out = rows;
    *n_row = (int32_t)n;
    return 0;
}
