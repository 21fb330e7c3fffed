/* vk_util.h: names of results, and the one way to call Vulkan.
 *
 *     VK_TRY(v, v->fn.CreateFence(v->device, &info, NULL, &fence))
 *
 * gives 0, GM_ENOMEM or GM_EDEVICE, logs a failure with the call and the place, remembers a lost
 * device, and is where tests let calls fail.
 */
#pragma once

#include "kernels/vulkan/vk_device.h"

const char *gm_vk_result_name(VkResult r);

/* Counts a call. True: it is to fail with *r instead of being made. */
bool gm_vk_inject(gm_vk *v, VkResult *r);

/* Counts a wait. True: it is to run into its time limit instead of being made. */
bool gm_vk_inject_hang(void);

/* The work of a submit: cost, or what a test wants. */
double gm_vk_inject_slice(double cost);
void gm_vk_count_submit(void);

/* The GM_ code of r; logs what is not success. */
int gm_vk_check(gm_vk *v, VkResult r, const char *call, const char *file, int line);

#define VK_TRY(v, call)                                                                            \
    gm_vk_check(v, gm_vk_inject(v, &(v)->result) ? (v)->result : ((v)->result = (call)), #call,    \
                __FILE__, __LINE__)
