/* env.h: every environment variable that the library knows, read once.
 *
 *   GEMMA_LOG       info,room=trace      what is logged (log.h)
 *   GEMMA_BACKEND   auto|cpu|vulkan[:n]|split:K|null   instead of the device that was asked for
 *   GEMMA_CPU       ref|avx2|avxvnni|avx512|avx512vnni|amx|neon|dotprod|i8mm   highest set of
 *                                        instructions used (cpuid.h)
 *   GEMMA_THREADS   n                    overrides the number of compute threads
 *   GEMMA_PROBE     dir:name:layer:pos   dump of activations (model/probe.h)
 *   GEMMA_VULKAN_CHECK  1                with the validation layer, where it is installed
 *   GEMMA_VULKAN_MEMORY  MiB            at most so much of a device's memory
 *   GEMMA_VULKAN_MATMUL  rows|tile|dot|matrix   how products are computed, for tests
 *   XDG_CACHE_HOME, HOME                 where compiled shaders are kept (vk_pipe.c)
 */
#pragma once

typedef enum {
    GM_ENV_LOG,
    GM_ENV_BACKEND,
    GM_ENV_CPU,
    GM_ENV_THREADS,
    GM_ENV_PROBE,
    GM_ENV_VULKAN_CHECK,
    GM_ENV_VULKAN_MEMORY,
    GM_ENV_VULKAN_MATMUL,
    GM_ENV_CACHE_HOME,
    GM_ENV_HOME,
    GM_ENV_COUNT
} gm_env_key;

/* The value, or NULL when unset or empty. Read once per process, by the first call, which is
 * gm_worker_create's on the host's own thread; the copy is never freed. */
const char *gm_env(gm_env_key key);

/* Reads the environment again; for tests, single-threaded. */
void gm_env_reload(void);
