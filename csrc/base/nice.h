/* nice.h: threads that let others go first. */
#pragma once

/* Lowers the priority of the calling thread, for good: going back takes privileges. Without effect
 * where the system has no priorities of threads. */
void gm_nice_thread(void);
