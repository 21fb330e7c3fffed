/* nice.c: priorities of threads, as each system has them. */
#include "base/nice.h"

#if defined(__linux__)
#include <sys/resource.h>
#elif defined(__APPLE__)
#include <pthread.h>
#endif

void gm_nice_thread(void) {
#if defined(__linux__)
    /* Here niceness is a thread's, and 0 is the calling one (setpriority(2), "C library/kernel
     * differences"). By ten: about a tenth of a core beside somebody who wants all of it. Idle
     * scheduling would be a thousandth, and a piece of work that was begun would keep a keystroke
     * waiting. */
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 10);
#elif defined(__APPLE__)
    pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#endif
}
