/* vk_cmd.c: see vk_cmd.h. */
#include "kernels/vulkan/vk_cmd.h"

#include "base/err.h"
#include "base/log.h"
#include "kernels/vulkan/vk_util.h"

/* Milliseconds of device time per submit: about half a frame of a desktop at 60 Hz. */
static const double SLICE_MS = 8;
/* words; a slow device's worth, until something was measured */
static const double FIRST_BUDGET = 2e8;
static const double MIN_BUDGET = 1e5;

/* A device that has not answered for this long never will. Software compiles on the first dispatch,
 * and shares its cores with everybody. */
static const uint64_t HUNG_NS = UINT64_C(60) * 1000000000,
                      SOFTWARE_HUNG_NS = UINT64_C(900) * 1000000000;

/* ---- life -------------------------------------------------------------------------------- */

static int init_frame(gm_vk_cmd *c, gm_vk_frame *f) {
    gm_vk *v = c->v;
    VkCommandBufferAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = c->pool,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1};
    int rc = VK_TRY(v, v->fn.AllocateCommandBuffers(v->device, &alloc, &f->buffer));
    if (rc) return rc;
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    if ((rc = VK_TRY(v, v->fn.CreateFence(v->device, &fence, NULL, &f->fence)))) return rc;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, GM_VK_SETS * GM_VK_BINDINGS};
    VkDescriptorPoolCreateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = GM_VK_SETS,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    if ((rc = VK_TRY(v, v->fn.CreateDescriptorPool(v->device, &sets, NULL, &f->sets)))) return rc;
    if (v->ns_per_tick > 0) {
        VkQueryPoolCreateInfo query = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                       .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                       .queryCount = GM_VK_QUERIES};
        if ((rc = VK_TRY(v, v->fn.CreateQueryPool(v->device, &query, NULL, &f->query)))) return rc;
    }
    return gm_vk_take(c->heap, GM_VK_UPLOAD, GM_VK_UPLOAD_BYTES, &f->upload);
}

int gm_vk_cmd_init(gm_vk_cmd *c, gm_vk *v, gm_vk_heap *heap, gm_vk_pipes *pipes) {
    c->v = v;
    c->heap = heap;
    c->pipes = pipes;
    c->budget = FIRST_BUDGET;
    c->profile = gm_log_on(GM_LOG_TRACE, "vulkan") && v->ns_per_tick > 0;
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = v->family};
    int rc = VK_TRY(v, v->fn.CreateCommandPool(v->device, &pool, NULL, &c->pool));
    for (int i = 0; !rc && i < GM_VK_FRAMES; i++) rc = init_frame(c, &c->frame[i]);
    return rc ? rc : gm_vk_take(heap, GM_VK_READBACK, GM_VK_UPLOAD_BYTES, &c->readback);
}

static void log_profile(const gm_vk_cmd *c) {
    for (int i = 0; c->profile && i < c->pipes->n_pipe; i++) {
        const gm_vk_pipe *p = &c->pipes->pipe[i];
        gm_log(GM_LOG_TRACE, "vulkan", "%s [%u %u %u]: %llu times, %.3f ms", p->name, p->spec[0],
               p->spec[1], p->spec[2], (unsigned long long)p->n_run, (double)p->ns / 1e6);
    }
}

void gm_vk_cmd_finish(gm_vk_cmd *c) {
    gm_vk *v = c->v;
    if (!v || !v->device) return;
    log_profile(c);
    for (int i = 0; i < GM_VK_FRAMES; i++) {
        gm_vk_frame *f = &c->frame[i];
        gm_vk_give(c->heap, &f->upload);
        if (v->hung) continue;
        if (f->fence) v->fn.DestroyFence(v->device, f->fence, NULL);
        if (f->sets) v->fn.DestroyDescriptorPool(v->device, f->sets, NULL);
        if (f->query) v->fn.DestroyQueryPool(v->device, f->query, NULL);
    }
    gm_vk_give(c->heap, &c->readback);
    if (c->pool && !v->hung) v->fn.DestroyCommandPool(v->device, c->pool, NULL);
}

/* ---- waiting ----------------------------------------------------------------------------- */

/* What the frame cost against what was expected, and who took the time. */
static void read_times(gm_vk_cmd *c, gm_vk_frame *f) {
    gm_vk *v = c->v;
    uint64_t t[GM_VK_QUERIES];
    if (!f->query || f->n_query < 2) return;
    uint32_t n = c->profile ? f->n_query : 2;
    if (v->fn.GetQueryPoolResults(v->device, f->query, 0, n, n * sizeof *t, t, sizeof *t,
                                  VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
        return;
    for (uint32_t i = 1; c->profile && i < n; i++)
        if (f->timed[i]) {
            f->timed[i]->n_run++;
            f->timed[i]->ns += (uint64_t)((double)(t[i] - t[i - 1]) * v->ns_per_tick);
        }
    double ms = (double)(t[n - 1] - t[0]) * v->ns_per_tick / 1e6;
    if (t[n - 1] <= t[0] || f->cost < MIN_BUDGET) return;
    double now = f->cost * SLICE_MS / ms;
    c->budget += (now - c->budget) / 4;
    if (c->budget < MIN_BUDGET) c->budget = MIN_BUDGET;
}

static int wait_frame(gm_vk_cmd *c, gm_vk_frame *f) {
    gm_vk *v = c->v;
    if (!f->pending) return GM_OK;
    uint64_t limit = v->software ? SOFTWARE_HUNG_NS : HUNG_NS;
    int rc = VK_TRY(v, gm_vk_inject_hang()
                           ? VK_TIMEOUT
                           : v->fn.WaitForFences(v->device, 1, &f->fence, VK_TRUE, limit));
    if (!rc && v->result == VK_TIMEOUT) {
        gm_log(GM_LOG_ERROR, "vulkan", "%s has not answered for %d seconds", v->name,
               (int)(limit / 1000000000));
        v->hung = v->lost = true;
        rc = GM_EDEVICE;
    }
    if (rc) return GM_EDEVICE;
    f->pending = false;
    if (f->last > c->finished) c->finished = f->last;
    read_times(c, f);
    return GM_OK;
}

bool gm_vk_cmd_idle(const gm_vk_cmd *c, const gm_vk_access *a) {
    return a->read <= c->finished && a->written <= c->finished;
}

/* ---- recording --------------------------------------------------------------------------- */

/* Errors while computing are the device's, whatever they are called. */
static int device_error(int rc) { return rc ? GM_EDEVICE : GM_OK; }

static int open_frame(gm_vk_cmd *c) {
    gm_vk *v = c->v;
    gm_vk_frame *f = &c->frame[c->now];
    if (c->open) return GM_OK;
    if (v->lost) return GM_EDEVICE;
    int rc = wait_frame(c, f);
    if (rc) return rc;
    f->n_upload = 0;
    f->n_set = f->n_query = 0;
    f->cost = 0;
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    rc = VK_TRY(v, v->fn.ResetDescriptorPool(v->device, f->sets, 0));
    if (!rc) rc = VK_TRY(v, v->fn.BeginCommandBuffer(f->buffer, &begin));
    if (rc) return device_error(rc);
    c->open = true;
    if (!f->query) return GM_OK;
    v->fn.CmdResetQueryPool(f->buffer, f->query, 0, GM_VK_QUERIES);
    v->fn.CmdWriteTimestamp(f->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, f->query,
                            f->n_query++);
    return GM_OK;
}

/* All earlier writes of shaders and copies before all later accesses, of the host too. */
static void barrier(gm_vk_cmd *c, bool to_host) {
    const VkPipelineStageFlags stages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier m = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = to_host ? VK_ACCESS_HOST_READ_BIT
                                 : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                                       VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
    c->v->fn.CmdPipelineBarrier(c->frame[c->now].buffer, stages,
                                to_host ? VK_PIPELINE_STAGE_HOST_BIT : stages, 0, 1, &m, 0, NULL, 0,
                                NULL);
    if (!to_host) c->barrier_at = c->n_command;
}

/* The next command uses these: a barrier if it has to see or must not overtake an earlier one. */
static void track(gm_vk_cmd *c, const gm_vk_bind *bind, uint32_t n) {
    bool needed = false;
    for (uint32_t i = 0; i < n; i++) {
        const gm_vk_access *a = bind[i].access;
        if (!a) continue;
        if (a->written > c->barrier_at || (bind[i].write && a->read > c->barrier_at)) needed = true;
    }
    if (needed) barrier(c, false);
    c->n_command++;
    for (uint32_t i = 0; i < n; i++) {
        gm_vk_access *a = bind[i].access;
        if (!a) continue;
        if (bind[i].write) a->written = c->n_command;
        else a->read = c->n_command;
    }
    c->frame[c->now].last = c->n_command;
}

static void time_command(gm_vk_cmd *c, gm_vk_pipe *pipe) {
    gm_vk_frame *f = &c->frame[c->now];
    if (!c->profile || !f->query || f->n_query >= GM_VK_QUERIES - 1) return;
    f->timed[f->n_query] = pipe;
    c->v->fn.CmdWriteTimestamp(f->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, f->query,
                               f->n_query++);
}

/* Starts what is recorded. */
static int submit(gm_vk_cmd *c) {
    gm_vk *v = c->v;
    if (!c->open) return GM_OK;
    gm_vk_frame *f = &c->frame[c->now];
    if (f->query && !c->profile)
        v->fn.CmdWriteTimestamp(f->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, f->query,
                                f->n_query++);
    barrier(c, true);
    c->open = false;
    int rc = VK_TRY(v, v->fn.EndCommandBuffer(f->buffer));
    if (!rc) rc = VK_TRY(v, v->fn.ResetFences(v->device, 1, &f->fence));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .commandBufferCount = 1,
                         .pCommandBuffers = &f->buffer};
    if (!rc) rc = VK_TRY(v, v->fn.QueueSubmit(v->queue, 1, &info, f->fence));
    if (rc) return device_error(rc);
    gm_vk_count_submit();
    f->pending = true;
    c->now = (c->now + 1) % GM_VK_FRAMES;
    return GM_OK;
}

int gm_vk_cmd_wait(gm_vk_cmd *c) {
    int rc = submit(c);
    for (int i = 0; i < GM_VK_FRAMES; i++) {
        int e = wait_frame(c, &c->frame[(c->now + i) % GM_VK_FRAMES]);
        if (!rc) rc = e;
    }
    return rc;
}

int gm_vk_cmd_space(gm_vk_cmd *c, size_t n, void **host, gm_vk_bind *b) {
    if (n == 0 || n > GM_VK_UPLOAD_BYTES) return GM_EINVAL;
    size_t at =
        (c->frame[c->now].n_upload + GM_VK_SPAN_ALIGN - 1) / GM_VK_SPAN_ALIGN * GM_VK_SPAN_ALIGN;
    if (c->open && at + n > GM_VK_UPLOAD_BYTES) {
        int rc = submit(c);
        if (rc) return rc;
    }
    int rc = open_frame(c);
    if (rc) return rc;
    gm_vk_frame *f = &c->frame[c->now];
    at = (f->n_upload + GM_VK_SPAN_ALIGN - 1) / GM_VK_SPAN_ALIGN * GM_VK_SPAN_ALIGN;
    f->n_upload = at + n;
    *host = f->upload.host + at;
    *b = (gm_vk_bind){.buffer = f->upload.buffer, .at = f->upload.at + at, .size = (n + 3) / 4 * 4};
    return GM_OK;
}

double gm_vk_cmd_budget(const gm_vk_cmd *c) { return gm_vk_inject_slice(c->budget); }

int gm_vk_cmd_dispatch(gm_vk_cmd *c, gm_vk_pipe *pipe, const gm_vk_bind *bind, uint32_t n_bind,
                       const void *push, size_t n_push, const uint32_t groups[3], double cost) {
    gm_vk *v = c->v;
    int rc = open_frame(c);
    if (rc) return rc;
    gm_vk_frame *f = &c->frame[c->now];
    VkDescriptorSet set;
    VkDescriptorSetAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                         .descriptorPool = f->sets,
                                         .descriptorSetCount = 1,
                                         .pSetLayouts = &c->pipes->set_layout};
    rc = VK_TRY(v, v->fn.AllocateDescriptorSets(v->device, &alloc, &set));
    if (rc) return device_error(rc);
    VkDescriptorBufferInfo info[GM_VK_BINDINGS];
    VkWriteDescriptorSet write[GM_VK_BINDINGS];
    for (uint32_t i = 0; i < n_bind; i++) {
        info[i] = (VkDescriptorBufferInfo){bind[i].buffer, bind[i].at, bind[i].size};
        write[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                          .dstSet = set,
                                          .dstBinding = i,
                                          .descriptorCount = 1,
                                          .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                          .pBufferInfo = &info[i]};
    }
    v->fn.UpdateDescriptorSets(v->device, n_bind, write, 0, NULL);
    track(c, bind, n_bind);
    v->fn.CmdBindPipeline(f->buffer, VK_PIPELINE_BIND_POINT_COMPUTE, pipe->handle);
    v->fn.CmdBindDescriptorSets(f->buffer, VK_PIPELINE_BIND_POINT_COMPUTE, c->pipes->layout, 0, 1,
                                &set, 0, NULL);
    v->fn.CmdPushConstants(f->buffer, c->pipes->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                           (uint32_t)n_push, push);
    v->fn.CmdDispatch(f->buffer, groups[0], groups[1], groups[2]);
    time_command(c, pipe);
    f->cost += cost;
    f->n_set++;
    return f->cost >= gm_vk_cmd_budget(c) || f->n_set == GM_VK_SETS ? submit(c) : GM_OK;
}

int gm_vk_cmd_copy(gm_vk_cmd *c, const gm_vk_bind *from, const gm_vk_bind *to, VkDeviceSize n) {
    int rc = open_frame(c);
    if (rc) return rc;
    gm_vk_bind both[2] = {*from, *to};
    both[1].write = true;
    track(c, both, 2);
    VkBufferCopy region = {from->at, to->at, n};
    c->v->fn.CmdCopyBuffer(c->frame[c->now].buffer, from->buffer, to->buffer, 1, &region);
    time_command(c, NULL);
    return GM_OK;
}

int gm_vk_cmd_zero(gm_vk_cmd *c, const gm_vk_bind *to, VkDeviceSize n) {
    int rc = open_frame(c);
    if (rc) return rc;
    gm_vk_bind b = *to;
    b.write = true;
    track(c, &b, 1);
    c->v->fn.CmdFillBuffer(c->frame[c->now].buffer, to->buffer, to->at, n, 0);
    time_command(c, NULL);
    return GM_OK;
}
