/* vk_mem.h: device memory in slabs.
 *
 * A slab is one VkDeviceMemory with one VkBuffer over it; tensors are spans of it. Freed spans are
 * merged with free neighbours, an empty slab goes back to the driver. Nothing here waits for the
 * device: who gives a span back knows that it is done with it.
 */
#pragma once

#include "kernels/vulkan/vk_device.h"

typedef enum {
    GM_VK_LOCAL,    /* fast for the device; mapped where it is the host's memory as well */
    GM_VK_UPLOAD,   /* mapped, written by the host */
    GM_VK_READBACK, /* mapped, read by the host */
    GM_VK_KINDS
} gm_vk_kind;

typedef struct gm_vk_slab gm_vk_slab;

typedef struct {
    gm_vk_slab *slab; /* NULL: none */
    VkBuffer buffer;
    VkDeviceSize at, size;
    uint8_t *host; /* NULL when not mapped */
} gm_vk_span;

typedef struct {
    gm_vk *v;
    gm_vk_slab *slabs[GM_VK_KINDS];
} gm_vk_heap;

/* the largest offset alignment that Vulkan allows a device to ask for */
#define GM_VK_SPAN_ALIGN 256

int gm_vk_take(gm_vk_heap *h, gm_vk_kind kind, VkDeviceSize size, gm_vk_span *out);
void gm_vk_give(gm_vk_heap *h, gm_vk_span *s); /* clears it */
void gm_vk_heap_finish(gm_vk_heap *h);

/* What one binding can show of a span. */
VkDeviceSize gm_vk_max_bind(const gm_vk *v);
