/* driver.c: see driver.h. */
#include "helper/driver.h"

#include <stdio.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <dlfcn.h>

void driver_keep(void) {
    void *lib = dlopen("libvulkan_lvp.so", RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    if (lib) dlclose(lib);
}
#else
void driver_keep(void) {}
#endif

static int n_message;

void driver_hear(void *ud, gm_log_level level, const char *room, const char *line) {
    (void)ud, (void)level;
    if (strcmp(room, "vulkan") != 0 || strncmp(line, "validation", 10) != 0) return;
    if (n_message++ < 10) fprintf(stderr, "%s\n", line);
}

int driver_messages(void) {
    if (n_message > 0) fprintf(stderr, "%d messages of the validation layer\n", n_message);
    return n_message;
}
