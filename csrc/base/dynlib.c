/* dynlib.c: see dynlib.h. */
#include "base/dynlib.h"

#include <dlfcn.h>
#include <string.h>

void *gm_dynlib_open(const char *const *names, size_t n) {
    void *lib = NULL;
    for (size_t i = 0; i < n && !lib; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

void gm_dynlib_close(void *lib) {
    if (lib) dlclose(lib);
}

/* POSIX lets a symbol be turned into a function this way and no other without a warning. */
bool gm_dynlib_find(void *lib, const char *name, void *fn) {
    void *p = lib ? dlsym(lib, name) : NULL;
    memcpy(fn, &p, sizeof p);
    return p != NULL;
}
