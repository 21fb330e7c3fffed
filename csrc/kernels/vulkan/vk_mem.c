/* vk_mem.c: see vk_mem.h. */
#include "kernels/vulkan/vk_mem.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/vulkan/vk_util.h"

/* Slabs grow with the number of them: a small model takes little, a large one few blocks. */
#define FIRST_SLAB ((VkDeviceSize)8 << 20)
#define LAST_SLAB ((VkDeviceSize)256 << 20)

typedef struct {
    VkDeviceSize at, size;
} range;

struct gm_vk_slab {
    gm_vk_slab *next;
    gm_vk_kind kind;
    VkDeviceMemory memory;
    VkBuffer buffer;
    VkDeviceSize size;
    uint8_t *host;
    range *hole; /* ascending */
    size_t n_hole, cap_hole;
    size_t n_span;
};

static VkDeviceSize max_span(const gm_vk *v) {
    VkDeviceSize n = (VkDeviceSize)1 << 30; /* indices of words stay far from 32 bits */
    if (v->max_alloc < n) n = v->max_alloc;
    return n / GM_VK_SPAN_ALIGN * GM_VK_SPAN_ALIGN;
}

VkDeviceSize gm_vk_max_bind(const gm_vk *v) {
    VkDeviceSize span = max_span(v), n = v->max_range / GM_VK_SPAN_ALIGN * GM_VK_SPAN_ALIGN;
    return n < span ? n : span;
}

/* ---- slabs ------------------------------------------------------------------------------- */

/* The first memory type among `allowed` with all of the flags; -1: none. */
static int find_type(const gm_vk *v, uint32_t allowed, VkMemoryPropertyFlags flags) {
    for (uint32_t i = 0; i < v->memory.memoryTypeCount; i++)
        if (allowed >> i & 1 && (v->memory.memoryTypes[i].propertyFlags & flags) == flags)
            return (int)i;
    return -1;
}

static int choose_type(const gm_vk *v, uint32_t allowed, gm_vk_kind kind) {
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    int t = -1;
    if (kind == GM_VK_LOCAL && v->unified) t = find_type(v, allowed, local | host);
    if (kind == GM_VK_LOCAL && t < 0) t = find_type(v, allowed, local);
    if (kind == GM_VK_READBACK)
        t = find_type(v, allowed, host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    return t >= 0 ? t : find_type(v, allowed, kind == GM_VK_LOCAL ? 0 : host);
}

static void destroy_slab(gm_vk_heap *h, gm_vk_slab *s) {
    gm_vk *v = h->v;
    if (!v->hung) {
        if (s->buffer) v->fn.DestroyBuffer(v->device, s->buffer, NULL);
        if (s->memory) {
            v->fn.FreeMemory(v->device, s->memory, NULL);
            h->v->n_byte -= s->size;
        }
    }
    gm_free(s->hole);
    gm_free(s);
}

static int back_slab(gm_vk_heap *h, gm_vk_slab *s) {
    gm_vk *v = h->v;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .size = s->size,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    int rc = VK_TRY(v, v->fn.CreateBuffer(v->device, &info, NULL, &s->buffer));
    if (rc) return rc;
    VkMemoryRequirements need;
    v->fn.GetBufferMemoryRequirements(v->device, s->buffer, &need);
    int type = choose_type(v, need.memoryTypeBits, s->kind);
    if (type < 0) return GM_ENOMEM;
    VkMemoryAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                  .allocationSize = need.size,
                                  .memoryTypeIndex = (uint32_t)type};
    rc = VK_TRY(v, v->fn.AllocateMemory(v->device, &alloc, NULL, &s->memory));
    if (rc) {
        s->memory = VK_NULL_HANDLE;
        return rc;
    }
    h->v->n_byte += s->size;
    rc = VK_TRY(v, v->fn.BindBufferMemory(v->device, s->buffer, s->memory, 0));
    if (rc) return rc;
    static const char *const names[GM_VK_KINDS] = {"tensors", "upload", "readback"};
    gm_vk_name(v, VK_OBJECT_TYPE_BUFFER, (uint64_t)s->buffer, names[s->kind]);
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if ((v->memory.memoryTypes[type].propertyFlags & host) != host) return GM_OK;
    if (s->kind == GM_VK_LOCAL && !v->unified) return GM_OK;
    void *p = NULL;
    rc = VK_TRY(v, v->fn.MapMemory(v->device, s->memory, 0, VK_WHOLE_SIZE, 0, &p));
    s->host = p;
    return rc;
}

static int add_slab(gm_vk_heap *h, gm_vk_kind kind, VkDeviceSize size) {
    VkDeviceSize want = FIRST_SLAB;
    for (gm_vk_slab *s = h->slabs[kind]; s && want < LAST_SLAB; s = s->next) want *= 2;
    if (want > h->v->max_alloc) want = h->v->max_alloc;
    if (want < size || kind != GM_VK_LOCAL) want = size;
    uint64_t there = kind == GM_VK_LOCAL ? gm_vk_device_free(h->v) : UINT64_MAX;
    if (want > there) want = size;
    if (want > there) {
        gm_log(GM_LOG_WARN, "vulkan", "%s has %llu MiB left, %llu are needed", h->v->name,
               (unsigned long long)(there >> 20), (unsigned long long)(size >> 20) + 1);
        return GM_ENOMEM;
    }
    gm_vk_slab *s = gm_calloc(1, sizeof *s);
    if (!s) return GM_ENOMEM;
    s->kind = kind;
    s->size = want;
    int rc = gm_grow(&s->hole, &s->cap_hole, 1, sizeof *s->hole);
    if (!rc) rc = back_slab(h, s);
    if (rc) {
        destroy_slab(h, s);
        return rc;
    }
    s->hole[0] = (range){0, want};
    s->n_hole = 1;
    s->next = h->slabs[kind];
    h->slabs[kind] = s;
    return GM_OK;
}

/* ---- spans ------------------------------------------------------------------------------- */

/* The first hole that is large enough. Every span may leave one hole more: room for that is made
 * now, so that giving back cannot fail. */
static bool take_from(gm_vk_slab *s, VkDeviceSize size, gm_vk_span *out) {
    if (gm_grow(&s->hole, &s->cap_hole, s->n_span + 3, sizeof *s->hole)) return false;
    for (size_t i = 0; i < s->n_hole; i++) {
        range *r = &s->hole[i];
        if (r->size < size) continue;
        *out = (gm_vk_span){s, s->buffer, r->at, size, s->host ? s->host + r->at : NULL};
        r->at += size;
        r->size -= size;
        if (r->size == 0) {
            s->n_hole--;
            for (size_t k = i; k < s->n_hole; k++) s->hole[k] = s->hole[k + 1];
        }
        s->n_span++;
        return true;
    }
    return false;
}

int gm_vk_take(gm_vk_heap *h, gm_vk_kind kind, VkDeviceSize size, gm_vk_span *out) {
    *out = (gm_vk_span){0};
    if (size == 0 || size > max_span(h->v)) return GM_ENOMEM;
    size = (size + GM_VK_SPAN_ALIGN - 1) / GM_VK_SPAN_ALIGN * GM_VK_SPAN_ALIGN;
    for (gm_vk_slab *s = h->slabs[kind]; s; s = s->next)
        if (take_from(s, size, out)) return GM_OK;
    int rc = add_slab(h, kind, size);
    if (rc) return rc;
    return take_from(h->slabs[kind], size, out) ? GM_OK : GM_ENOMEM;
}

static void drop_slab(gm_vk_heap *h, gm_vk_slab *s) {
    gm_vk_slab **at = &h->slabs[s->kind];
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    destroy_slab(h, s);
}

void gm_vk_give(gm_vk_heap *h, gm_vk_span *span) {
    gm_vk_slab *s = span->slab;
    if (!s) return;
    size_t i = 0;
    while (i < s->n_hole && s->hole[i].at < span->at) i++;
    bool before = i > 0 && s->hole[i - 1].at + s->hole[i - 1].size == span->at;
    bool after = i < s->n_hole && span->at + span->size == s->hole[i].at;
    if (before && after) {
        s->hole[i - 1].size += span->size + s->hole[i].size;
        s->n_hole--;
        for (size_t k = i; k < s->n_hole; k++) s->hole[k] = s->hole[k + 1];
    } else if (before) {
        s->hole[i - 1].size += span->size;
    } else if (after) {
        s->hole[i].at = span->at;
        s->hole[i].size += span->size;
    } else {
        for (size_t k = s->n_hole; k > i; k--) s->hole[k] = s->hole[k - 1];
        s->hole[i] = (range){span->at, span->size};
        s->n_hole++;
    }
    *span = (gm_vk_span){0};
    if (--s->n_span == 0) drop_slab(h, s);
}

void gm_vk_heap_finish(gm_vk_heap *h) {
    for (int k = 0; k < GM_VK_KINDS; k++)
        while (h->slabs[k]) drop_slab(h, h->slabs[k]);
}
