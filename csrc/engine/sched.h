/* sched.h: which job runs next.
 *
 * A list in order of submission. Rules:
 *  - cancelled jobs come first, so that they end soon;
 *  - load and unload wait for all that was submitted before them, and all after them waits for
 *    them: a request runs on the model that its sender saw;
 *  - jobs of one session run in order;
 *  - a file is hashed when there is nothing else to do, and nothing waits for that;
 *  - otherwise the lowest priority number first, then the oldest. A job that keeps a more urgent
 *    one of its session waiting is as urgent as that one, and no older.
 *
 * Owns the jobs in it. Pure data: no lock, no thread. The worker guards it with its own.
 */
#pragma once

#include "engine/job.h"

typedef struct {
    gm_job *first;
    size_t n;
    int64_t next_id;
} gm_sched;

void gm_sched_init(gm_sched *s);
void gm_sched_finish(gm_sched *s); /* destroys what is in it */

/* Takes the job and gives it an id > 0, or returns GM_EBUSY and takes nothing. */
int64_t gm_sched_add(gm_sched *s, gm_job *j);

/* What should run now, or NULL. It stays in the list until it is removed, so a job that has
 * become more urgent meanwhile shows by a different answer. *priority gets that of a generation,
 * its own or what it was lent, and is left alone by other jobs and cancelled ones; NULL: not
 * asked. */
gm_job *gm_sched_pick(const gm_sched *s, int32_t *priority);

/* The same without regard to cancelled jobs, which are not worth an interruption. */
gm_job *gm_sched_best(const gm_sched *s, int32_t *priority);

void gm_sched_remove(gm_sched *s, const gm_job *j); /* gives the job back to the caller */
