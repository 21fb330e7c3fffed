/* vk_stub.c: stands in for kernels/vulkan in builds without Vulkan's headers or glslc. */
#include "base/err.h"
#include "kernels/vulkan/vk.h"

int gm_vk_open(gm_backend **out, int which, bool real_only, char *err, size_t errlen) {
    (void)which;
    (void)real_only;
    *out = NULL;
    return gm_fail(err, errlen, GM_EUNSUPPORTED,
                   "this build has no Vulkan backend (libvulkan-dev or glslc was missing)");
}

uint64_t gm_vk_fail_at(uint64_t n, int result) {
    (void)n;
    (void)result;
    return 0;
}

uint64_t gm_vk_hang_at(uint64_t n) {
    (void)n;
    return 0;
}

uint64_t gm_vk_slice_at(uint64_t cost) {
    (void)cost;
    return 0;
}
