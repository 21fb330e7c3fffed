/* vk.h: what other rooms may know of the Vulkan backend.
 *
 * Everything is here in builds without Vulkan as well (vk_stub.c), which say so when asked for a
 * device.
 */
#pragma once

#include <stdint.h>
#include "kernels/backend.h"

/* which: the n-th device by preference (discrete, integrated, others, software); -1: the best one.
 * real_only refuses software devices. GM_EUNSUPPORTED with a sentence when there is no loader, no
 * such device or a feature is missing. */
int gm_vk_open(gm_backend **out, int which, bool real_only, char *err, size_t errlen);

/* Makes the n-th call into Vulkan from now on (1 = the next) give a VkResult without being made,
 * once; 0 switches it off. A lost device stays lost. Returns how many calls were made since the
 * last time. Process-wide, for tests. */
uint64_t gm_vk_fail_at(uint64_t n, int result);

/* Makes the n-th wait for the device from now on run into its time limit, as with a device that
 * hangs; 0 switches it off. Returns how many waits there were since the last time. Process-wide,
 * for tests. */
uint64_t gm_vk_hang_at(uint64_t n);

/* Submits of that much work (cost, vk_cmd.h) from now on; 0: of as much as the device does in time.
 * Returns how many submits there were since the last time. Process-wide, for tests. */
uint64_t gm_vk_slice_at(uint64_t cost);
