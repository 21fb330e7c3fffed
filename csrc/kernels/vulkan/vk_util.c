/* vk_util.c: see vk_util.h. */
#include "kernels/vulkan/vk_util.h"

#include <stdatomic.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "kernels/vulkan/vk.h"

static _Atomic uint64_t n_call, fail_at, n_wait, hang_at, n_submit, slice_at;
static _Atomic int fail_with;

uint64_t gm_vk_fail_at(uint64_t n, int result) {
    uint64_t made = atomic_exchange(&n_call, 0);
    atomic_store(&fail_with, result);
    atomic_store(&fail_at, n);
    return made;
}

uint64_t gm_vk_hang_at(uint64_t n) {
    uint64_t made = atomic_exchange(&n_wait, 0);
    atomic_store(&hang_at, n);
    return made;
}

uint64_t gm_vk_slice_at(uint64_t cost) {
    atomic_store(&slice_at, cost);
    return atomic_exchange(&n_submit, 0);
}

bool gm_vk_inject_hang(void) { return atomic_fetch_add(&n_wait, 1) + 1 == atomic_load(&hang_at); }

double gm_vk_inject_slice(double cost) {
    uint64_t forced = atomic_load(&slice_at);
    return forced > 0 ? (double)forced : cost;
}

void gm_vk_count_submit(void) { atomic_fetch_add(&n_submit, 1); }

bool gm_vk_inject(gm_vk *v, VkResult *r) {
    uint64_t n = atomic_fetch_add(&n_call, 1) + 1;
    if (v->lost) {
        *r = VK_ERROR_DEVICE_LOST;
        return true;
    }
    if (n != atomic_load(&fail_at)) return false;
    *r = (VkResult)atomic_load(&fail_with);
    return true;
}

const char *gm_vk_result_name(VkResult r) {
#define NAME(x)                                                                                    \
    case x: return #x
    switch (r) {
        NAME(VK_SUCCESS);
        NAME(VK_NOT_READY);
        NAME(VK_TIMEOUT);
        NAME(VK_INCOMPLETE);
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY);
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY);
        NAME(VK_ERROR_INITIALIZATION_FAILED);
        NAME(VK_ERROR_DEVICE_LOST);
        NAME(VK_ERROR_MEMORY_MAP_FAILED);
        NAME(VK_ERROR_LAYER_NOT_PRESENT);
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT);
        NAME(VK_ERROR_FEATURE_NOT_PRESENT);
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER);
        NAME(VK_ERROR_TOO_MANY_OBJECTS);
        NAME(VK_ERROR_FRAGMENTED_POOL);
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY);
        NAME(VK_ERROR_FRAGMENTATION);
    default: return "unknown VkResult";
    }
#undef NAME
}

int gm_vk_check(gm_vk *v, VkResult r, const char *call, const char *file, int line) {
    if (r >= 0) return GM_OK; /* VK_INCOMPLETE and VK_TIMEOUT are for the caller to look at */
    const bool known = v->lost;
    if (r == VK_ERROR_DEVICE_LOST) v->lost = true;
    const char *slash = strrchr(file, '/');
    if (!known)
        gm_log(GM_LOG_ERROR, "vulkan", "%s: %s at %s:%d", gm_vk_result_name(r), call,
               slash ? slash + 1 : file, line);
    bool memory = r == VK_ERROR_OUT_OF_DEVICE_MEMORY || r == VK_ERROR_OUT_OF_HOST_MEMORY ||
                  r == VK_ERROR_TOO_MANY_OBJECTS;
    return memory ? GM_ENOMEM : GM_EDEVICE;
}
