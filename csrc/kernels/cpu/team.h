/* team.h: the compute threads of one backend.
 *
 * Work is a number of items; threads take small runs of items from a shared counter, so that a
 * thread which the system delays holds nobody up. Between calls the helpers spin briefly (so that
 * the next op of a forward pass finds them awake) and then sleep; an idle team uses no CPU.
 * The caller's thread works too: n_threads = 1 has no helpers at all.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct gm_team gm_team;

enum { GM_TEAM_MAX = 256 }; /* threads */

/* Computes items [begin, end). thread: 0 .. n_threads - 1, for per-thread scratch. */
typedef void (*gm_team_fn)(void *ud, int begin, int end, int thread);

/* Of n_threads, or, where the system does not give so many, of what leaves some to the rest of the
 * process: gm_team_size tells. */
int gm_team_create(gm_team **out, int n_threads, char *err, size_t errlen);
void gm_team_destroy(gm_team **t);
int gm_team_size(const gm_team *t);

/* Whether what follows is for threads of a lower priority, of which there are as many (started when
 * first asked for): nobody waits for it, and what else the machine does comes first. The caller
 * then sleeps meanwhile. Without them (no memory, no threads) everything stays as it was. */
void gm_team_set_calm(gm_team *t, bool calm);

/* Runs fn over items 0 .. n_item - 1 and returns when all are done. A run has `grain` items (the
 * last one fewer), which should be worth waking a thread, or more while much is left, up to `most`.
 * Called from one thread at a time, not from inside fn. Never allocates. */
void gm_team_run(gm_team *t, gm_team_fn fn, void *ud, int n_item, int grain, int most);
