/* sched.c: the list of jobs. At most a few hundred, so every question walks it. */
#include "engine/sched.h"

#include "base/err.h"

void gm_sched_init(gm_sched *s) { *s = (gm_sched){.next_id = 1}; }

void gm_sched_finish(gm_sched *s) {
    while (s->first) {
        gm_job *j = s->first;
        s->first = j->next;
        gm_job_destroy(&j);
    }
    s->n = 0;
}

int64_t gm_sched_add(gm_sched *s, gm_job *j) {
    /* Memory can be asked back whoever has filled the list. */
    const size_t most = j->kind == GM_JOB_UNLOAD ? 2 * GM_MAX_JOB : GM_MAX_JOB;
    if (s->n >= most) return GM_EBUSY;
    gm_job **end = &s->first;
    while (*end) end = &(*end)->next;
    *end = j;
    j->next = NULL;
    j->id = s->next_id++;
    s->n++;
    return j->id;
}

void gm_sched_remove(gm_sched *s, const gm_job *j) {
    for (gm_job **p = &s->first; *p; p = &(*p)->next)
        if (*p == j) {
            *p = j->next;
            s->n--;
            return;
        }
}

/* The oldest job of each session in front of the first load or unload, and how urgent it is, and
 * which job makes it so: that one's age counts, or what nobody waited for would come before an
 * older request as soon as a newer one waits for it. */
typedef struct {
    gm_job *head;
    int32_t priority;
    int64_t id; /* of the oldest job of this priority */
} session_queue;

/* One of them has a job. */
static gm_job *most_urgent(const session_queue *q, int32_t *priority) {
    const session_queue *best = NULL;
    for (int i = 0; i < GM_MAX_SESSION; i++) {
        if (!q[i].head) continue;
        bool better = !best || q[i].priority < best->priority ||
                      (q[i].priority == best->priority && q[i].id < best->id);
        if (better) best = &q[i];
    }
    if (priority) *priority = best->priority;
    return best->head;
}

gm_job *gm_sched_best(const gm_sched *s, int32_t *priority) {
    session_queue q[GM_MAX_SESSION] = {{0}};
    bool any = false;
    gm_job *idle = NULL;
    for (gm_job *j = s->first; j; j = j->next) {
        if (j->cancelled) continue;
        if (j->kind == GM_JOB_HASH) {
            if (!idle) idle = j;
            continue;
        }
        if (j->kind != GM_JOB_GENERATE) return any ? most_urgent(q, priority) : j;
        session_queue *mine = &q[j->session];
        gm_job *head = mine->head ? mine->head : j;
        if (head == j || j->priority < mine->priority)
            *mine = (session_queue){head, j->priority, j->id};
        any = true;
    }
    return any ? most_urgent(q, priority) : idle;
}

gm_job *gm_sched_pick(const gm_sched *s, int32_t *priority) {
    for (gm_job *j = s->first; j; j = j->next)
        if (j->cancelled) return j;
    return gm_sched_best(s, priority);
}
