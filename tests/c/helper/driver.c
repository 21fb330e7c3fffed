/* driver.c: see driver.h. */
#include "helper/driver.h"

#ifdef __SANITIZE_ADDRESS__
#include <dlfcn.h>

void driver_keep(void) {
    void *lib = dlopen("libvulkan_lvp.so", RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    if (lib) dlclose(lib);
}
#else
void driver_keep(void) {}
#endif
