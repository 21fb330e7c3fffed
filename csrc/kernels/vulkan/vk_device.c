/* vk_device.c: see vk_device.h. */
#include "kernels/vulkan/vk_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/dynlib.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/vulkan/vk_util.h"

enum {
    MAX_DEVICE = 32,
    NEEDED_BINDINGS = 5,
    NEEDED_PUSH = 64,
    NEEDED_GROUP = 128,
    NEEDED_SHARED = 16384
};

/* What is left to the desktop and to others: an eighth, but no more than this. */
static const uint64_t RESERVE = UINT64_C(768) << 20;

static const char validation_layer[] = "VK_LAYER_KHRONOS_validation";

/* ---- loader ------------------------------------------------------------------------------ */

static int open_library(gm_vk *v, char *err, size_t errlen) {
    static const char *const names[] = {"libvulkan.so.1", "libvulkan.so", "libvulkan.1.dylib"};
    if (!v->library) v->library = gm_dynlib_open(names, sizeof names / sizeof *names);
    if (!v->library)
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "no Vulkan loader (libvulkan.so.1) was found");
    PFN_vkGetInstanceProcAddr get;
    if (!gm_dynlib_find(v->library, "vkGetInstanceProcAddr", &get))
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "the Vulkan loader is of no known kind");
    bool all = true;
#define LOAD(name)                                                                                 \
    v->fn.name = (PFN_vk##name)get(NULL, "vk" #name);                                              \
    all = all && v->fn.name;
    GM_VK_GLOBAL(LOAD)
#undef LOAD
    if (!all) return gm_fail(err, errlen, GM_EUNSUPPORTED, "the Vulkan loader is older than 1.1");
    return GM_OK;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *ud) {
    (void)type;
    (void)ud;
    bool bad = severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    gm_log(bad ? GM_LOG_ERROR : GM_LOG_WARN, "vulkan", "validation: %s", data->pMessage);
    return VK_FALSE;
}

static bool has_validation(gm_vk *v) {
    VkLayerProperties layer[64];
    uint32_t n = 64;
    if (v->fn.EnumerateInstanceLayerProperties(&n, layer) < 0) return false;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(layer[i].layerName, validation_layer) == 0) return true;
    return false;
}

static int create_instance(gm_vk *v, char *err, size_t errlen) {
    static const char *const layers[] = {validation_layer};
    static const char *const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    bool checked = gm_env(GM_ENV_VULKAN_CHECK) && has_validation(v);
    VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "gemma.nvim",
        .apiVersion = VK_API_VERSION_1_2,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &app,
        .enabledLayerCount = checked,
        .ppEnabledLayerNames = layers,
        .enabledExtensionCount = checked,
        .ppEnabledExtensionNames = extensions,
    };
    int rc = VK_TRY(v, v->fn.CreateInstance(&info, NULL, &v->instance));
    if (rc)
        return gm_fail(err, errlen, rc == GM_ENOMEM ? rc : GM_EUNSUPPORTED,
                       "Vulkan could not be started (%s)", gm_vk_result_name(v->result));
    PFN_vkGetInstanceProcAddr get;
    gm_dynlib_find(v->library, "vkGetInstanceProcAddr", &get);
    bool all = true;
#define LOAD(name)                                                                                 \
    v->fn.name = (PFN_vk##name)get(v->instance, "vk" #name);                                       \
    all = all && v->fn.name;
    GM_VK_INSTANCE(LOAD)
    if (!all) return gm_fail(err, errlen, GM_EUNSUPPORTED, "the Vulkan loader is older than 1.1");
    if (!checked) return GM_OK;
    LOAD(SetDebugUtilsObjectNameEXT)
    LOAD(CreateDebugUtilsMessengerEXT)
    LOAD(DestroyDebugUtilsMessengerEXT)
#undef LOAD
    VkDebugUtilsMessengerCreateInfoEXT m = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
    };
    if (v->fn.CreateDebugUtilsMessengerEXT)
        v->fn.CreateDebugUtilsMessengerEXT(v->instance, &m, NULL, &v->messenger);
    return GM_OK;
}

/* ---- choice ------------------------------------------------------------------------------ */

static int rank(const VkPhysicalDeviceProperties *p) {
    switch (p->deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 1;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return 3;
    default: return 2;
    }
}

static void list_device(gm_vk *v, int nth, const char *name) {
    size_t n = strlen(v->devices);
    snprintf(v->devices + n, sizeof v->devices - n, "%svulkan:%d %.60s", n ? ", " : "", nth, name);
}

/* The which-th by rank, in the loader's order among equals. */
static int choose(gm_vk *v, int which, bool real_only, char *err, size_t errlen) {
    VkPhysicalDevice list[MAX_DEVICE];
    uint32_t n = MAX_DEVICE;
    int rc = VK_TRY(v, v->fn.EnumeratePhysicalDevices(v->instance, &n, list));
    if (rc)
        return gm_fail(err, errlen, rc == GM_ENOMEM ? rc : GM_EUNSUPPORTED,
                       "Vulkan has no device (%s)", gm_vk_result_name(v->result));
    if (n == 0) return gm_fail(err, errlen, GM_EUNSUPPORTED, "Vulkan has no device");
    int seen = 0;
    for (int r = 0; r <= 3; r++)
        for (uint32_t i = 0; i < n; i++) {
            VkPhysicalDeviceProperties2 p = {.sType =
                                                 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
            v->fn.GetPhysicalDeviceProperties2(list[i], &p);
            if (rank(&p.properties) != r) continue;
            list_device(v, seen, p.properties.deviceName);
            bool wanted = seen++ == (which < 0 ? 0 : which) && !(real_only && r == 3);
            if (wanted) v->physical = list[i];
        }
    if (v->physical) return GM_OK;
    if (real_only) return gm_fail(err, errlen, GM_EUNSUPPORTED, "Vulkan has no GPU, only software");
    return gm_fail(err, errlen, GM_EUNSUPPORTED,
                   "there is no device vulkan:%d, the last one is vulkan:%d", which, seen - 1);
}

/* ---- what it can do ---------------------------------------------------------------------- */

static bool has_extension(const gm_vk *v, const char *name) {
    uint32_t n = 0;
    if (v->fn.EnumerateDeviceExtensionProperties(v->physical, NULL, &n, NULL) < 0 || n > 4096)
        return false;
    VkExtensionProperties *list = gm_calloc(n + 1, sizeof *list);
    if (!list) return false;
    bool found = false;
    if (v->fn.EnumerateDeviceExtensionProperties(v->physical, NULL, &n, list) >= 0)
        for (uint32_t i = 0; i < n; i++) found = found || strcmp(list[i].extensionName, name) == 0;
    gm_free(list);
    return found;
}

static int lacks(const gm_vk *v, char *err, size_t errlen, const char *what) {
    return gm_fail(err, errlen, GM_EUNSUPPORTED, "the device %s lacks %s", v->name, what);
}

static bool find_queue(gm_vk *v) {
    VkQueueFamilyProperties f[16];
    uint32_t n = 16;
    v->fn.GetPhysicalDeviceQueueFamilyProperties(v->physical, &n, f);
    /* A family for compute alone runs beside the desktop's drawing. */
    for (int only = 1; only >= 0; only--)
        for (uint32_t i = 0; i < n; i++) {
            bool graphics = (f[i].queueFlags & VK_QUEUE_GRAPHICS_BIT) != 0;
            if (!(f[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || (only && graphics)) continue;
            v->family = i;
            if (f[i].timestampValidBits == 0) v->ns_per_tick = 0;
            return true;
        }
    return false;
}

static void read_memory(gm_vk *v) {
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    v->fn.GetPhysicalDeviceMemoryProperties2(v->physical, &m);
    v->memory = m.memoryProperties;
}

static int read_limits(gm_vk *v, char *err, size_t errlen) {
    VkPhysicalDeviceSubgroupProperties sub = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceMaintenance3Properties m3 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &sub};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &m3};
    v->fn.GetPhysicalDeviceProperties2(v->physical, &p);
    const VkPhysicalDeviceLimits *l = &p.properties.limits;
    snprintf(v->name, sizeof v->name, "%s", p.properties.deviceName);
    v->software = p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    v->unified = v->software || p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    v->vendor = p.properties.vendorID;
    v->device_id = p.properties.deviceID;
    v->driver_version = p.properties.driverVersion;
    memcpy(v->cache_key, p.properties.pipelineCacheUUID, sizeof v->cache_key);
    v->max_range = l->maxStorageBufferRange;
    v->max_alloc = m3.maxMemoryAllocationSize;
    v->align = l->minStorageBufferOffsetAlignment;
    v->subgroup = sub.subgroupSize;
    v->max_group = l->maxComputeWorkGroupInvocations;
    if (v->max_group > l->maxComputeWorkGroupSize[0]) v->max_group = l->maxComputeWorkGroupSize[0];
    v->max_shared = l->maxComputeSharedMemorySize;
    memcpy(v->max_count, l->maxComputeWorkGroupCount, sizeof v->max_count);
    v->ns_per_tick = (double)l->timestampPeriod;
    const VkSubgroupFeatureFlags need = VK_SUBGROUP_FEATURE_BASIC_BIT |
                                        VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
                                        VK_SUBGROUP_FEATURE_BALLOT_BIT;
    if (p.properties.apiVersion < VK_API_VERSION_1_2) return lacks(v, err, errlen, "Vulkan 1.2");
    if ((sub.supportedOperations & need) != need ||
        !(sub.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) || sub.subgroupSize < 8)
        return lacks(v, err, errlen, "arithmetic of subgroups of eight or more");
    if (l->maxPerStageDescriptorStorageBuffers < NEEDED_BINDINGS || v->max_group < NEEDED_GROUP ||
        v->max_shared < NEEDED_SHARED || l->maxPushConstantsSize < NEEDED_PUSH)
        return lacks(v, err, errlen, "room for a shader's buffers");
    if (!find_queue(v)) return lacks(v, err, errlen, "a queue that computes");
    return GM_OK;
}

/* Features beyond Vulkan 1.2, each optional: asked for, and enabled by the same chain. */
typedef struct {
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
    VkPhysicalDeviceVulkanMemoryModelFeatures model;
    VkPhysicalDeviceShaderFloat16Int8Features half_float;
#endif
    const char *name[4]; /* of extensions */
    uint32_t n_name;
    void *chain;
} extras;

static void ask_dot(gm_vk *v, extras *x) {
    if (!has_extension(v, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME)) return;
    x->dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR;
    VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                   .pNext = &x->dot};
    v->fn.GetPhysicalDeviceFeatures2(v->physical, &f);
    VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &p};
    v->fn.GetPhysicalDeviceProperties2(v->physical, &all);
    v->dot = x->dot.shaderIntegerDotProduct;
    v->dot_fast = v->dot && p.integerDotProduct4x8BitPackedSignedAccelerated;
    if (!v->dot) return;
    x->name[x->n_name++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    x->dot.pNext = x->chain;
    x->chain = &x->dot;
}

#ifdef VK_KHR_cooperative_matrix
/* The first product of half matrices that our tiles of 64 x 64 x 32 are made of. */
static void find_matrix(gm_vk *v) {
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get;
    PFN_vkGetInstanceProcAddr find;
    gm_dynlib_find(v->library, "vkGetInstanceProcAddr", &find);
    get = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)find(
        v->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR p[64];
    uint32_t n = 64;
    for (uint32_t i = 0; i < n; i++)
        p[i] = (VkCooperativeMatrixPropertiesKHR){
            .sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    if (!get || get(v->physical, &n, p) < 0) return;
    for (uint32_t i = 0; i < n && !v->matrix[0]; i++) {
        bool types = p[i].AType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
                     p[i].BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
                     p[i].CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
                     p[i].ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR;
        if (!types || p[i].scope != VK_SCOPE_SUBGROUP_KHR || !p[i].MSize || !p[i].NSize ||
            !p[i].KSize)
            continue;
        if (64 % p[i].MSize || 64 % p[i].NSize || 32 % p[i].KSize) continue;
        /* As matmul_matrix.comp lays it out: two tiles, and a product of each subgroup. */
        const uint64_t products = (uint64_t)(128 / v->subgroup) * p[i].MSize * p[i].NSize;
        if (2 * 64 * 40 * 2 + products * 4 > v->max_shared) continue;
        v->matrix[0] = p[i].MSize;
        v->matrix[1] = p[i].NSize;
        v->matrix[2] = p[i].KSize;
    }
}

static void ask_matrix(gm_vk *v, extras *x) {
    if (!has_extension(v, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) || 128 % v->subgroup) return;
    x->half_float.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
    x->model.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES;
    x->model.pNext = &x->half_float;
    x->matrix.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR;
    x->matrix.pNext = &x->model;
    VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                   .pNext = &x->matrix};
    v->fn.GetPhysicalDeviceFeatures2(v->physical, &f);
    if (!x->matrix.cooperativeMatrix || !x->model.vulkanMemoryModel || !x->half_float.shaderFloat16)
        return;
    x->matrix.cooperativeMatrixRobustBufferAccess = VK_FALSE;
    x->half_float.shaderInt8 = VK_FALSE;
    find_matrix(v);
    if (!v->matrix[0]) return;
    x->name[x->n_name++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    x->half_float.pNext = x->chain;
    x->chain = &x->matrix;
}
#else
static void ask_matrix(gm_vk *v, extras *x) {
    (void)v;
    (void)x;
}
#endif

static int create_device(gm_vk *v, char *err, size_t errlen) {
    extras x = {0};
    v->has_budget = has_extension(v, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (v->has_budget) x.name[x.n_name++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    ask_dot(v, &x);
    ask_matrix(v, &x);
    const float priority = 0.0f; /* the desktop first */
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = v->family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = x.chain,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = x.n_name,
                               .ppEnabledExtensionNames = x.name};
    int rc = VK_TRY(v, v->fn.CreateDevice(v->physical, &info, NULL, &v->device));
    if (rc)
        return gm_fail(err, errlen, rc, "the device %s could not be opened (%s)", v->name,
                       gm_vk_result_name(v->result));
    bool all = true;
#define LOAD(name)                                                                                 \
    v->fn.name = (PFN_vk##name)v->fn.GetDeviceProcAddr(v->device, "vk" #name);                     \
    all = all && v->fn.name;
    GM_VK_DEVICE(LOAD)
#undef LOAD
    if (!all) return lacks(v, err, errlen, "functions of Vulkan 1.2");
    v->fn.GetDeviceQueue(v->device, v->family, 0, &v->queue);
    return GM_OK;
}

int gm_vk_device_open(gm_vk *v, int which, bool real_only, char *err, size_t errlen) {
    *v = (gm_vk){0};
    int rc = open_library(v, err, errlen);
    if (!rc) rc = create_instance(v, err, errlen);
    if (!rc) rc = choose(v, which, real_only, err, errlen);
    if (!rc) rc = read_limits(v, err, errlen);
    if (!rc) {
        read_memory(v);
        rc = create_device(v, err, errlen);
    }
    if (rc) gm_vk_device_close(v);
    return rc;
}

/* A device that hangs is left alone: its driver would wait in here for ever. The library stays too
 * then, and otherwise goes, so that a driver's threads end with it. */
void gm_vk_device_close(gm_vk *v) {
    if (!v->hung) {
        if (v->device && v->fn.DestroyDevice) v->fn.DestroyDevice(v->device, NULL);
        if (v->messenger) v->fn.DestroyDebugUtilsMessengerEXT(v->instance, v->messenger, NULL);
        if (v->instance && v->fn.DestroyInstance) v->fn.DestroyInstance(v->instance, NULL);
        gm_dynlib_close(v->library);
    }
    *v = (gm_vk){0};
}

uint64_t gm_vk_device_free(const gm_vk *v) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = v->has_budget ? &budget : NULL};
    v->fn.GetPhysicalDeviceMemoryProperties2(v->physical, &m);
    uint64_t best = 0;
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *h = &m.memoryProperties.memoryHeaps[i];
        if (!(h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)) continue;
        uint64_t reserve = h->size / 8 < RESERVE ? h->size / 8 : RESERVE;
        uint64_t there = v->has_budget ? budget.heapBudget[i] : h->size / 10 * 9;
        uint64_t used = (v->has_budget ? budget.heapUsage[i] : v->n_byte) + reserve;
        if (there > used && there - used > best) best = there - used;
    }
    const char *cap = gm_env(GM_ENV_VULKAN_MEMORY); /* MiB, for tests and for shared machines */
    if (!cap) return best;
    uint64_t most = strtoull(cap, NULL, 10) << 20;
    most = most > v->n_byte ? most - v->n_byte : 0;
    return most < best ? most : best;
}

void gm_vk_name(gm_vk *v, VkObjectType type, uint64_t handle, const char *name) {
    if (!v->fn.SetDebugUtilsObjectNameEXT || !handle) return;
    VkDebugUtilsObjectNameInfoEXT info = {.sType =
                                              VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
                                          .objectType = type,
                                          .objectHandle = handle,
                                          .pObjectName = name};
    v->fn.SetDebugUtilsObjectNameEXT(v->device, &info);
}
