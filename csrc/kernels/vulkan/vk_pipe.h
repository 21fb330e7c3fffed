/* vk_pipe.h: pipelines made on first use from the embedded SPIR-V, and their cache on disk.
 *
 * All pipelines share one layout: GM_VK_BINDINGS storage buffers and GM_VK_PUSH bytes of push
 * constants. The cache file is keyed by driver and build; a damaged or foreign one is the driver's
 * to refuse, and costs only time.
 */
#pragma once

#include "kernels/vulkan/vk_device.h"

enum { GM_VK_BINDINGS = 5, GM_VK_PUSH = 64, GM_VK_SPECS = 8, GM_VK_MAX_PIPE = 256 };

typedef struct {
    VkPipeline handle;
    const char *name; /* of the shader */
    int shader;
    uint32_t spec[GM_VK_SPECS];
    uint64_t n_run, ns; /* for the profile */
} gm_vk_pipe;

typedef struct {
    gm_vk *v;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    size_t cache_size; /* as read */
    gm_vk_pipe pipe[GM_VK_MAX_PIPE];
    int n_pipe;
} gm_vk_pipes;

int gm_vk_pipes_init(gm_vk_pipes *p, gm_vk *v);
void gm_vk_pipes_finish(gm_vk_pipes *p); /* writes the cache */

/* Whether this build has the shader. */
bool gm_vk_pipes_has(const char *shader);

/* spec[0] is the width of a workgroup. The pipeline stays where it is until finish. */
int gm_vk_pipes_get(gm_vk_pipes *p, const char *shader, const uint32_t spec[GM_VK_SPECS],
                    gm_vk_pipe **out);
