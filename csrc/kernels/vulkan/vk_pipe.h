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
    /* Where the cache is read and written: memory is only reserved for it, and decode allocates
     * nothing. NULL: there is no cache. */
    uint8_t *room;
    size_t cache_size; /* as read or last written */
    gm_vk_pipe pipe[GM_VK_MAX_PIPE];
    int n_pipe, n_seen, n_kept; /* n_pipe at the last gm_vk_pipes_rest, and as written */
} gm_vk_pipes;

int gm_vk_pipes_init(gm_vk_pipes *p, gm_vk *v);
void gm_vk_pipes_finish(gm_vk_pipes *p);

/* Writes the cache if pipelines were made since the last time. Takes milliseconds, and waits for
 * nothing. */
void gm_vk_pipes_keep(gm_vk_pipes *p);

/* The device has nothing to do. Keeps pipelines once no new ones come: an editor that ends waits
 * for a moment only, too short for the memory of a model to be given back, and the next one would
 * make them all again. */
void gm_vk_pipes_rest(gm_vk_pipes *p);

/* Whether this build has the shader. */
bool gm_vk_pipes_has(const char *shader);

/* spec[0] is the width of a workgroup. The pipeline stays where it is until finish. */
int gm_vk_pipes_get(gm_vk_pipes *p, const char *shader, const uint32_t spec[GM_VK_SPECS],
                    gm_vk_pipe **out);
