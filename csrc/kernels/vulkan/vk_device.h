/* vk_device.h: the loader, the choice of a device and what it can do.
 *
 * The loader is opened at run time; there is no link-time Vulkan. Owns instance, device and queue.
 * Thread: the one that calls the backend.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

/* clang-format off */
/* Functions by the level at which their addresses are asked for. */
#define GM_VK_GLOBAL(X)                                                                            \
    X(CreateInstance) X(EnumerateInstanceVersion) X(EnumerateInstanceLayerProperties)
#define GM_VK_INSTANCE(X)                                                                          \
    X(DestroyInstance) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2)                 \
    X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties2)                            \
    X(GetPhysicalDeviceQueueFamilyProperties) X(EnumerateDeviceExtensionProperties)                \
    X(CreateDevice) X(GetDeviceProcAddr)
#define GM_VK_DEVICE(X)                                                                            \
    X(DestroyDevice) X(GetDeviceQueue) X(DeviceWaitIdle) X(CreateBuffer) X(DestroyBuffer)          \
    X(GetBufferMemoryRequirements) X(AllocateMemory) X(FreeMemory) X(BindBufferMemory)             \
    X(MapMemory) X(CreateFence) X(DestroyFence) X(ResetFences) X(WaitForFences)                    \
    X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers) X(BeginCommandBuffer)     \
    X(EndCommandBuffer) X(QueueSubmit) X(CmdBindPipeline) X(CmdBindDescriptorSets) X(CmdDispatch)  \
    X(CmdPushConstants) X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer)                    \
    X(CreateDescriptorSetLayout) X(DestroyDescriptorSetLayout) X(CreateDescriptorPool)             \
    X(DestroyDescriptorPool) X(ResetDescriptorPool) X(AllocateDescriptorSets)                      \
    X(UpdateDescriptorSets) X(CreatePipelineLayout) X(DestroyPipelineLayout)                       \
    X(CreateShaderModule) X(DestroyShaderModule) X(CreateComputePipelines) X(DestroyPipeline)      \
    X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData) X(CreateQueryPool)      \
    X(DestroyQueryPool) X(CmdResetQueryPool) X(CmdWriteTimestamp) X(GetQueryPoolResults)

typedef struct {
#define GM_VK_MEMBER(name) PFN_vk##name name;
    GM_VK_GLOBAL(GM_VK_MEMBER) GM_VK_INSTANCE(GM_VK_MEMBER) GM_VK_DEVICE(GM_VK_MEMBER)
#undef GM_VK_MEMBER
        /* clang-format on */
        PFN_vkSetDebugUtilsObjectNameEXT SetDebugUtilsObjectNameEXT; /* NULL: no debug names */
    PFN_vkCreateDebugUtilsMessengerEXT CreateDebugUtilsMessengerEXT; /* with validation */
    PFN_vkDestroyDebugUtilsMessengerEXT DestroyDebugUtilsMessengerEXT;
} gm_vk_fn;

typedef struct {
    void *library;
    gm_vk_fn fn;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    VkResult result; /* of the last call, for VK_TRY */
    bool lost;       /* the device is gone; nothing is called any more but destruction */
    bool hung;       /* it never answered: destruction would wait for ever */
    /* what it can do */
    bool software, unified; /* unified: its memory is the host's as well */
    bool has_budget;
    uint64_t n_byte; /* taken from it by us */
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    char devices[256]; /* all that there are, see gm_backend */
    VkPhysicalDeviceMemoryProperties memory;
    VkDeviceSize max_range, max_alloc, align; /* of storage buffers, memory blocks and offsets */
    uint32_t subgroup, max_group, max_shared;
    uint32_t max_count[3]; /* workgroups of a dispatch */
    bool dot, dot_fast;    /* integer dot products of packed bytes, and in hardware */
    uint32_t matrix[3];    /* m, n, k of its products of half matrices into float32; 0: none */
    double ns_per_tick;    /* 0: no timestamps */
    uint8_t cache_key[VK_UUID_SIZE];
    uint32_t vendor, device_id, driver_version;
} gm_vk;

/* See gm_vk_open of vk.h. On failure *v is zeroed. */
int gm_vk_device_open(gm_vk *v, int which, bool real_only, char *err, size_t errlen);
void gm_vk_device_close(gm_vk *v);

/* Bytes of device memory that may still be taken, a reserve for the desktop kept. */
uint64_t gm_vk_device_free(const gm_vk *v);

/* Names an object for debuggers; does nothing without the extension. */
void gm_vk_name(gm_vk *v, VkObjectType type, uint64_t handle, const char *name);
