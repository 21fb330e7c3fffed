/* vk_pipe.c: see vk_pipe.h. */
#include "kernels/vulkan/vk_pipe.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/vulkan/vk_util.h"

typedef struct {
    const char *name;
    const uint32_t *code;
    size_t n_byte;
} gm_vk_shader;

#include <list.inc> /* shaders[], made by scripts/make/vulkan.mk */

enum { N_SHADER = sizeof shaders / sizeof *shaders, MAX_CACHE = 64 << 20 };

/* ---- cache on disk ----------------------------------------------------------------------- */

/* FNV-1a over the shaders: another build may have others. */
static uint64_t build_key(void) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < N_SHADER; i++)
        for (size_t k = 0; k < shaders[i].n_byte / 4; k++)
            h = (h ^ shaders[i].code[k]) * 0x100000001b3u;
    return h;
}

static bool cache_dir(char *path, size_t n) {
    const char *xdg = gm_env(GM_ENV_CACHE_HOME), *home = gm_env(GM_ENV_HOME);
    int len = xdg    ? snprintf(path, n, "%s/gemma.nvim", xdg)
              : home ? snprintf(path, n, "%s/.cache/gemma.nvim", home)
                     : -1;
    return len > 0 && (size_t)len < n;
}

static bool cache_path(const gm_vk *v, char *path, size_t n) {
    char dir[512];
    if (!cache_dir(dir, sizeof dir)) return false;
    int len = snprintf(path, n, "%s/vulkan-%04x-%04x-%08x-%02x%02x%02x%02x-%016llx", dir, v->vendor,
                       v->device_id, v->driver_version, v->cache_key[0], v->cache_key[1],
                       v->cache_key[2], v->cache_key[3], (unsigned long long)build_key());
    return len > 0 && (size_t)len < n;
}

/* The bytes of the file, which are in p->room then; 0: it cannot be used. */
static size_t read_cache(const gm_vk_pipes *p) {
    char path[640];
    FILE *f = p->room && cache_path(p->v, path, sizeof path) ? fopen(path, "rbe") : NULL;
    if (!f) return 0;
    struct stat st;
    size_t size = fstat(fileno(f), &st) == 0 && st.st_size > 0 && st.st_size <= MAX_CACHE
                      ? (size_t)st.st_size
                      : 0;
    if (fread(p->room, 1, size, f) != size) size = 0;
    fclose(f);
    return size;
}

/* Under another name first: two editors may end together. */
static void write_file(const gm_vk *v, const void *data, size_t n) {
    char dir[512], path[640], temp[680];
    if (!cache_dir(dir, sizeof dir) || !cache_path(v, path, sizeof path)) return;
    char *const last = strrchr(dir, '/');
    *last = 0;
    mkdir(dir, 0700); /* a new user has none yet */
    *last = '/';
    mkdir(dir, 0700);
    snprintf(temp, sizeof temp, "%s.%ld", path, (long)getpid());
    FILE *f = fopen(temp, "wbe");
    if (!f) return;
    bool ok = fwrite(data, 1, n, f) == n;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(temp, path) != 0) unlink(temp);
}

void gm_vk_pipes_keep(gm_vk_pipes *p) {
    gm_vk *v = p->v;
    size_t n = 0;
    if (!v || v->lost || v->hung || !p->cache || !p->room || p->n_pipe <= p->n_kept) return;
    p->n_kept = p->n_pipe; /* what cannot be written now cannot be a moment later */
    if (VK_TRY(v, v->fn.GetPipelineCacheData(v->device, p->cache, &n, NULL)) ||
        n <= p->cache_size || n > MAX_CACHE)
        return;
    if (VK_TRY(v, v->fn.GetPipelineCacheData(v->device, p->cache, &n, p->room)) ||
        v->result != VK_SUCCESS)
        return;
    p->cache_size = n;
    write_file(v, p->room, n);
}

void gm_vk_pipes_rest(gm_vk_pipes *p) {
    if (p->n_pipe == p->n_seen) gm_vk_pipes_keep(p);
    p->n_seen = p->n_pipe;
}

static int create_cache(gm_vk_pipes *p) {
    gm_vk *v = p->v;
    p->room = gm_malloc(MAX_CACHE, 1);
    p->cache_size = read_cache(p);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = p->cache_size,
                                      .pInitialData = p->room};
    int rc = VK_TRY(v, v->fn.CreatePipelineCache(v->device, &info, NULL, &p->cache));
    if (rc && p->cache_size) { /* perhaps it was the file */
        info.initialDataSize = p->cache_size = 0;
        rc = VK_TRY(v, v->fn.CreatePipelineCache(v->device, &info, NULL, &p->cache));
    }
    return rc;
}

/* ---- layout ------------------------------------------------------------------------------ */

int gm_vk_pipes_init(gm_vk_pipes *p, gm_vk *v) {
    p->v = v;
    VkDescriptorSetLayoutBinding b[GM_VK_BINDINGS];
    for (uint32_t i = 0; i < GM_VK_BINDINGS; i++)
        b[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                              .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                              .descriptorCount = 1,
                                              .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo set = {.sType =
                                               VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                           .bindingCount = GM_VK_BINDINGS,
                                           .pBindings = b};
    int rc = VK_TRY(v, v->fn.CreateDescriptorSetLayout(v->device, &set, NULL, &p->set_layout));
    if (rc) return rc;
    VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, GM_VK_PUSH};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &p->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &push};
    rc = VK_TRY(v, v->fn.CreatePipelineLayout(v->device, &layout, NULL, &p->layout));
    return rc ? rc : create_cache(p);
}

void gm_vk_pipes_finish(gm_vk_pipes *p) {
    gm_vk *v = p->v;
    gm_free(p->room);
    p->room = NULL;
    if (!v || !v->device || v->hung) return;
    for (int i = 0; i < p->n_pipe; i++) v->fn.DestroyPipeline(v->device, p->pipe[i].handle, NULL);
    p->n_pipe = 0;
    if (p->cache) v->fn.DestroyPipelineCache(v->device, p->cache, NULL);
    if (p->layout) v->fn.DestroyPipelineLayout(v->device, p->layout, NULL);
    if (p->set_layout) v->fn.DestroyDescriptorSetLayout(v->device, p->set_layout, NULL);
}

/* ---- pipelines --------------------------------------------------------------------------- */

static int create(gm_vk_pipes *p, gm_vk_pipe *pipe) {
    gm_vk *v = p->v;
    const gm_vk_shader *s = &shaders[pipe->shader];
    VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = s->n_byte,
                                     .pCode = s->code};
    VkShaderModule module;
    int rc = VK_TRY(v, v->fn.CreateShaderModule(v->device, &code, NULL, &module));
    if (rc) return rc;
    VkSpecializationMapEntry entry[GM_VK_SPECS];
    for (uint32_t i = 0; i < GM_VK_SPECS; i++)
        entry[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    VkSpecializationInfo spec = {GM_VK_SPECS, entry, sizeof pipe->spec, pipe->spec};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &spec},
        .layout = p->layout};
    rc =
        VK_TRY(v, v->fn.CreateComputePipelines(v->device, p->cache, 1, &info, NULL, &pipe->handle));
    v->fn.DestroyShaderModule(v->device, module, NULL);
    if (!rc) gm_vk_name(v, VK_OBJECT_TYPE_PIPELINE, (uint64_t)pipe->handle, s->name);
    return rc;
}

static int find_shader(const char *name) {
    int i = 0;
    while (i < (int)N_SHADER && strcmp(shaders[i].name, name) != 0) i++;
    return i;
}

bool gm_vk_pipes_has(const char *shader) { return find_shader(shader) < (int)N_SHADER; }

int gm_vk_pipes_get(gm_vk_pipes *p, const char *shader, const uint32_t spec[GM_VK_SPECS],
                    gm_vk_pipe **out) {
    for (int i = 0; i < p->n_pipe; i++) {
        *out = &p->pipe[i];
        if (strcmp((*out)->name, shader) == 0 &&
            memcmp((*out)->spec, spec, sizeof(*out)->spec) == 0)
            return GM_OK;
    }
    gm_vk_pipe *pipe = &p->pipe[p->n_pipe];
    int i = find_shader(shader);
    if (p->n_pipe == GM_VK_MAX_PIPE || i == (int)N_SHADER) {
        gm_log(GM_LOG_ERROR, "vulkan", "no pipeline for %s", shader);
        return GM_EINTERNAL;
    }
    *pipe = (gm_vk_pipe){.name = shaders[i].name, .shader = i};
    memcpy(pipe->spec, spec, sizeof pipe->spec);
    int rc = create(p, pipe);
    if (rc) return rc;
    p->n_pipe++;
    *out = pipe;
    return GM_OK;
}
