/* driver.h: what a Vulkan driver keeps for itself is no leak of ours.
 *
 * Mesa's software driver keeps a few hundred bytes in variables of its own. The loader of Vulkan
 * unloads drivers with the last instance, and the leak checker then finds nobody who points there.
 */
#pragma once

/* Called while a device is open: its driver stays loaded. Without the address sanitizer,
 * nothing. */
void driver_keep(void);
