/* cpu.c: the CPU backend: its life, its memory, and the table that backend.c calls.
 *
 * Owns the team of threads and the scratch of all families. The arithmetic is elsewhere: gemm.h,
 * attn.h, cpu_rows.c over rows.h.
 */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/cpu/attn.h"
#include "kernels/cpu/gemm.h"

/* Asked for, overridden by GEMMA_THREADS, or by default one core less than there are: the editor
 * and its main thread need one. */
static int thread_count(int asked) {
    const char *forced = gm_env(GM_ENV_THREADS);
    if (forced) {
        char *end;
        long n = strtol(forced, &end, 10);
        if (*end == '\0' && n >= 1 && n <= GM_TEAM_MAX) return (int)n;
        gm_log(GM_LOG_WARN, "kernels", "GEMMA_THREADS=%s ignored: not a number from 1 to %d",
               forced, GM_TEAM_MAX);
    }
    if (asked > 0) return asked < GM_TEAM_MAX ? asked : GM_TEAM_MAX;
    int n = gm_cpu_physical_cores() - 1;
    return n < 1 ? 1 : n < GM_TEAM_MAX ? n : GM_TEAM_MAX;
}

static void cpu_destroy(gm_backend *b) {
    gm_cpu *c = (gm_cpu *)b;
    if (!c) return;
    gm_attn_destroy(&c->attn);
    gm_matmul_destroy(&c->matmul);
    gm_cpu_rope_finish(c);
    gm_hostmem_finish(&c->mem);
    gm_team_destroy(&c->team);
    gm_free(c);
}

static int cpu_reserve(gm_backend *b, const gm_be_limits *lim) {
    gm_cpu *c = (gm_cpu *)b;
    gm_be_limits all = c->lim;
    gm_be_limits_grow(&all, lim);
    if (lim->fine) gm_matmul_set_fine(c->matmul);
    int e = gm_matmul_reserve(c->matmul, all.max_tok, all.max_in);
    if (!e) e = gm_attn_reserve(c->attn, &all);
    if (!e) e = gm_cpu_rope_reserve(c, &all);
    if (!e) c->lim = all;
    return e;
}

static int cpu_tensor_alloc(gm_backend *b, gm_tensor *t) {
    return gm_hostmem_alloc(&((gm_cpu *)b)->mem, t);
}

static void cpu_tensor_free(gm_backend *b, gm_tensor *t) {
    gm_hostmem_free(&((gm_cpu *)b)->mem, t);
}

static int cpu_weight_import(gm_backend *b, const gm_tensor *host, gm_tensor *out) {
    (void)b;
    *out = *host;
    return GM_OK;
}

static int cpu_write(gm_backend *b, gm_tensor *t, size_t offset, const void *src, size_t n) {
    (void)b;
    memcpy((char *)t->data + offset, src, n);
    return GM_OK;
}

static int cpu_read(gm_backend *b, const gm_tensor *t, size_t offset, void *dst, size_t n) {
    (void)b;
    memcpy(dst, (const char *)t->data + offset, n);
    return GM_OK;
}

static int cpu_sync(gm_backend *b) {
    (void)b;
    return GM_OK;
}

static void cpu_set_calm(gm_backend *b, bool calm) { gm_team_set_calm(((gm_cpu *)b)->team, calm); }

static int cpu_matmul(gm_backend *b, const gm_op_matmul *op) {
    return gm_matmul_run(((gm_cpu *)b)->matmul, op, b->cancel);
}

static int cpu_attention(gm_backend *b, const gm_op_attention *op) {
    return gm_attn_run(((gm_cpu *)b)->attn, op, b->cancel);
}

static const gm_backend_vtable cpu_vtable = {
    .name = "cpu",
    .destroy = cpu_destroy,
    .reserve = cpu_reserve,
    .tensor_alloc = cpu_tensor_alloc,
    .tensor_free = cpu_tensor_free,
    .weight_import = cpu_weight_import,
    .write = cpu_write,
    .read = cpu_read,
    .sync = cpu_sync,
    .set_calm = cpu_set_calm,
    .embed = gm_cpu_embed,
    .rms_norm = gm_cpu_rms_norm,
    .add_norm = gm_cpu_add_norm,
    .matmul = cpu_matmul,
    .head_norm_rope = gm_cpu_head_norm_rope,
    .kv_write = gm_cpu_kv_write,
    .attention = cpu_attention,
    .geglu = gm_cpu_geglu,
    .softcap = gm_cpu_softcap,
};

int gm_cpu_open(gm_backend **out, int n_threads, char *err, size_t errlen) {
    *out = NULL;
    int e = GM_ENOMEM;
    gm_cpu *c = gm_calloc(1, sizeof *c);
    if (!c) {
        gm_fail(err, errlen, e, "out of memory");
        goto done;
    }
    c->base.vt = &cpu_vtable;
    c->level = gm_cpu_level_get();
    gm_rows_fill(&c->rows, c->level);
    if ((e = gm_team_create(&c->team, thread_count(n_threads), err, errlen))) goto done;
    if ((e = gm_matmul_create(&c->matmul, c->team, c->level, err, errlen))) goto done;
    if ((e = gm_attn_create(&c->attn, c->team, c->level, err, errlen))) goto done;
    int n = c->base.n_threads = gm_team_size(c->team);
    snprintf(c->base.desc, sizeof c->base.desc, "cpu %s, %d thread%s", gm_cpu_level_name(c->level),
             n, n == 1 ? "" : "s");
    *out = &c->base;
    return GM_OK;
done:
    cpu_destroy((gm_backend *)c);
    return e;
}
