/* user.h: tests of permissions, which root would never be refused. */
#pragma once

#include <stdbool.h>
#include <unistd.h>

/* From now on as somebody without root's rights, until user_end. False: root keeps them here.
 * Nothing should fail in between, since the rest of the program would go on so. */
static inline bool user_begin(void) {
    enum { NOBODY = 65534 };
    return geteuid() != 0 || seteuid(NOBODY) == 0;
}

static inline void user_end(void) {
    if (getuid() == 0 && seteuid(0) != 0) _exit(1);
}
