/* driver.h: Vulkan in tests: whether there is a device, what the validation layer says of us, and
 * what a driver keeps for itself, which is no leak of ours.
 *
 * Mesa's software driver keeps a few hundred bytes in variables of its own. The loader of Vulkan
 * unloads drivers with the last instance, and the leak checker then finds nobody who points there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "base/log.h"
#include "kernels/backend.h"

/* Called while a device is open: its driver stays loaded. Without the address sanitizer,
 * nothing. */
void driver_keep(void);

/* A sink for gm_log_set_sink that counts the messages of Vulkan's validation layer, which
 * GEMMA_VULKAN_CHECK turns on, and prints the first ten. */
void driver_hear(void *ud, gm_log_level level, const char *room, const char *line);

/* How many there were. A test program that has any fails. */
int driver_messages(void);

/* Whether there is a device, in software too; if not, err says why. It stands in the header because
 * driver.c is linked with every test, and most have no use for a backend. */
static inline bool driver_there(char *err, size_t errlen) {
#ifdef __SANITIZE_THREAD__
    gm_fail(err, errlen, GM_EUNSUPPORTED,
            "a driver in software has threads that the sanitizer cannot see into");
    return false;
#else
    gm_backend *b;
    if (gm_backend_open(&b, "vulkan", 1, err, errlen) != 0) return false;
    driver_keep();
    gm_backend_close(&b);
    return true;
#endif
}
