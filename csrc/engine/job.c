/* job.c: memory of jobs. */
#include "engine/job.h"

#include "base/err.h"
#include "base/mem.h"

gm_job *gm_job_create(gm_job_kind kind) {
    gm_job *j = gm_calloc(1, sizeof *j);
    if (!j) return NULL;
    j->kind = kind;
    j->gen.fork_from = -1;
    return j;
}

void gm_job_destroy(gm_job **jp) {
    if (!jp || !*jp) return;
    gm_job *j = *jp;
    gm_assert(!j->work);
    gm_free(j->load.model_path);
    gm_free(j->load.mmproj_path);
    gm_free(j->load.device);
    for (size_t i = 0; i < j->gen.n_sound; i++) gm_sound_view_finish(&j->gen.sounds[i]);
    gm_free(j->gen.sounds);
    gm_free(j->gen.parts);
    gm_free(j->gen.stops);
    gm_free(j->gen.text);
    gm_free(j->hash_path);
    gm_free(j);
    *jp = NULL;
}
