/* env.c: one copy of the environment variables that the library knows. */
#include "base/env.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

static const char *const names[GM_ENV_COUNT] = {
    [GM_ENV_LOG] = "GEMMA_LOG",
    [GM_ENV_BACKEND] = "GEMMA_BACKEND",
    [GM_ENV_CPU] = "GEMMA_CPU",
    [GM_ENV_THREADS] = "GEMMA_THREADS",
    [GM_ENV_VULKAN_CHECK] = "GEMMA_VULKAN_CHECK",
    [GM_ENV_VULKAN_MEMORY] = "GEMMA_VULKAN_MEMORY",
    [GM_ENV_VULKAN_MATMUL] = "GEMMA_VULKAN_MATMUL",
    [GM_ENV_PROBE] = "GEMMA_PROBE",
    [GM_ENV_CACHE_HOME] = "XDG_CACHE_HOME",
    [GM_ENV_HOME] = "HOME",
};

static char *values[GM_ENV_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A copy, because the host may call setenv later, which would pull the text away from under a
 * worker thread. A variable that cannot be copied counts as unset. */
static void read_all(void) {
    for (int i = 0; i < GM_ENV_COUNT; i++) {
        gm_free(values[i]);
        const char *v = getenv(names[i]);
        values[i] = v && *v ? gm_strndup(v, strlen(v)) : NULL;
    }
}

const char *gm_env(gm_env_key key) {
    pthread_once(&once, read_all);
    return key < GM_ENV_COUNT ? values[key] : NULL;
}

void gm_env_reload(void) {
    pthread_once(&once, read_all);
    read_all();
}
