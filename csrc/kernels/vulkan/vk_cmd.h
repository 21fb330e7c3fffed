/* vk_cmd.h: recording, submitting and waiting.
 *
 * Work is recorded into one of a few frames, each with a command buffer, descriptor sets and a
 * piece of mapped memory for small data of the host. A frame is submitted when its estimated time
 * is up, so that the desktop gets its turn and a cancel is seen, and taken again when its fence has
 * come. Every buffer remembers the last command that read and wrote it; barriers follow from that.
 */
#pragma once

#include "kernels/vulkan/vk_mem.h"
#include "kernels/vulkan/vk_pipe.h"

enum { GM_VK_FRAMES = 3, GM_VK_SETS = 256, GM_VK_QUERIES = GM_VK_SETS + 1 };
#define GM_VK_UPLOAD_BYTES ((size_t)4 << 20)

typedef struct {
    uint64_t read, written; /* numbers of commands; 0: never */
} gm_vk_access;

typedef struct {
    VkBuffer buffer;
    VkDeviceSize at, size;
    gm_vk_access *access; /* NULL: nobody writes it */
    bool write;
} gm_vk_bind;

typedef struct {
    VkCommandBuffer buffer;
    VkFence fence;
    VkDescriptorPool sets;
    gm_vk_span upload;
    size_t n_upload; /* bytes used */
    uint32_t n_set;
    uint64_t last; /* number of its last command */
    double cost;
    bool pending; /* submitted, its fence not seen */
    VkQueryPool query;
    uint32_t n_query;
    gm_vk_pipe *timed[GM_VK_QUERIES];
} gm_vk_frame;

typedef struct {
    gm_vk *v;
    gm_vk_heap *heap;
    gm_vk_pipes *pipes;
    VkCommandPool pool;
    gm_vk_frame frame[GM_VK_FRAMES];
    int now;   /* the frame being recorded, or the next one */
    bool open; /* a frame is being recorded */
    bool profile;
    gm_vk_span readback;
    uint64_t n_command, barrier_at, finished; /* numbers of commands */
    double budget;                            /* cost that takes SLICE_MS, by what was measured */
} gm_vk_cmd;

int gm_vk_cmd_init(gm_vk_cmd *c, gm_vk *v, gm_vk_heap *heap, gm_vk_pipes *pipes);
void gm_vk_cmd_finish(gm_vk_cmd *c);

/* A place for n bytes of the host (at most GM_VK_UPLOAD_BYTES) in the current frame, bound as *b.
 * Written before and used by the next dispatch or copy only. */
int gm_vk_cmd_space(gm_vk_cmd *c, size_t n, void **host, gm_vk_bind *b);

/* cost: words read times tokens, roughly. */
int gm_vk_cmd_dispatch(gm_vk_cmd *c, gm_vk_pipe *pipe, const gm_vk_bind *bind, uint32_t n_bind,
                       const void *push, size_t n_push, const uint32_t groups[3], double cost);

/* The cost of what may be submitted at once; a dispatch of more than that has to be cut. */
double gm_vk_cmd_budget(const gm_vk_cmd *c);

int gm_vk_cmd_copy(gm_vk_cmd *c, const gm_vk_bind *from, const gm_vk_bind *to, VkDeviceSize n);

int gm_vk_cmd_zero(gm_vk_cmd *c, const gm_vk_bind *to, VkDeviceSize n);

int gm_vk_cmd_wait(gm_vk_cmd *c); /* submits and waits for everything */

/* Whether everything that touched it is done. */
bool gm_vk_cmd_idle(const gm_vk_cmd *c, const gm_vk_access *a);
