/* attn.c: attention over blocks of keys, and the plain C reference of its kernels.
 *
 * One item of work is a block of tokens, one key/value head and a range of positions:
 *
 *               keys of a block (64)
 *             +---------------------+
 *     rows    |  scores  = Q K^T    |   a row is one (token, query head) pair; all query heads that
 *     (up to  |  -> softmax weights |   share the key head are in the item, so a key is read from
 *     64)     |                     |   the cache, and converted to float32, once for all of them
 *             +---------------------+
 *
 * For each block: load K as floats, scores, mask and soften each row with what is known of its
 * maximum so far, load V over K, add the weighted rows to the outputs. When a block raises a
 * row's maximum, what was summed before is scaled down. With few rows (decode) and a float16 cache
 * the products convert in registers instead of loading.
 *
 * A batch has enough items to keep all threads busy. For a few tokens the positions are cut into
 * spans too; each span leaves its unfinished sum, maximum and weight, and a second step joins them.
 * The cut depends on shapes and the number of threads only: the same call gives the same bits.
 */
#include "kernels/cpu/attn.h"

#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* Rows of an item. 64 rows of 512 floats of q and as many of o are 256 KiB: with the block of keys
 * they stay in a second-level cache, and each converted key is used 64 times. */
#define ROWS 64

/* Up to this many rows an item is bound by the memory that keys come from. */
#define FEW_ROWS 16

/* Items that we want per thread, so that the last one to finish does not keep the others waiting
 * for long, and the fewest keys that are worth a span. */
#define ITEMS_PER_THREAD 4
#define MIN_SPAN (4 * GM_ATTN_KEYS)

/* What a thread needs for one item; n_row rows of ld floats each. */
typedef struct {
    float *q, *o;     /* [n_row, ld] */
    float *kv;        /* [GM_ATTN_KEYS, ld]: keys, then values of the same block */
    float *s;         /* [n_row, GM_ATTN_KEYS] */
    float *top, *sum; /* [n_row] running maximum, running sum of weights */
    void *block;      /* all of it */
} attn_scratch;

struct gm_attn_ctx {
    gm_team *team;
    gm_attn_fns fns;
    gm_row_fns rows;
    int n_thread;
    attn_scratch *scratch; /* [n_thread] */
    float *part;           /* [max_item, max_row, max_dim + 2]: o, top, sum of unfinished spans */
    int max_row, max_dim;  /* what is reserved; max_dim is a multiple of GM_ATTN_LANES */
};

/* One call. */
typedef struct {
    gm_attn_ctx *a;
    const gm_op_attention *op;
    const gm_cancel *cancel;
    int group;     /* query heads per key head */
    int dim;       /* head_dim rounded up to GM_ATTN_LANES */
    int ld;        /* floats between rows in scratch */
    int block_tok; /* tokens per item */
    int n_block;   /* token blocks */
    int n_key;     /* keys per block */
    bool direct;   /* products read the cache as it lies */
    int n_span;    /* ranges of positions per block; 1: finished in one go */
} attn_job;

/* The rows of one item and the positions that it looks at. */
typedef struct {
    int tok, n_tok, g;      /* first token, tokens, key head */
    int n_row, n_row_tiled; /* n_tok * group, rounded up to GM_ATTN_TILE */
    int32_t lo, hi;         /* inclusive; lo > hi: nothing */
} attn_item;

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Not a power of two: with rows 2048 bytes apart, a column of a block would fall into a handful of
 * sets of the first-level cache. */
static int row_stride(int dim) { return dim + GM_ATTN_LANES; }

/* ---- life -------------------------------------------------------------------------------- */

static void free_scratch(gm_attn_ctx *a) {
    for (int i = 0; a->scratch && i < a->n_thread; i++) gm_free(a->scratch[i].block);
    gm_free(a->scratch);
    gm_free(a->part);
    a->scratch = NULL;
    a->part = NULL;
    a->max_row = a->max_dim = 0;
}

void gm_attn_destroy(gm_attn_ctx **a) {
    if (!a || !*a) return;
    free_scratch(*a);
    gm_free(*a);
    *a = NULL;
}

int gm_attn_create(gm_attn_ctx **out, gm_team *team, gm_cpu_level level, char *err, size_t errlen) {
    gm_attn_ctx *a = *out = gm_calloc(1, sizeof *a);
    if (!a) return gm_fail(err, errlen, GM_ENOMEM, "out of memory");
    a->team = team;
    a->n_thread = gm_team_size(team);
    gm_attn_fill(&a->fns, level);
    gm_rows_fill(&a->rows, level);
    return GM_OK;
}

/* Whole groups of heads go into an item, so a group larger than ROWS makes larger items. */
static int rows_for(int max_head) {
    return round_up(max_head > ROWS ? max_head : ROWS, GM_ATTN_TILE);
}

static int reserve_thread(attn_scratch *s, size_t n_row, size_t ld) {
    size_t n_q = n_row * ld, n_kv = GM_ATTN_KEYS * ld, n_s = n_row * GM_ATTN_KEYS;
    float *p = gm_calloc(2 * n_q + n_kv + n_s + 2 * n_row, sizeof(float));
    if (!p) return GM_ENOMEM;
    *s = (attn_scratch){.block = p, .q = p, .o = p + n_q, .kv = p + 2 * n_q};
    s->s = s->kv + n_kv;
    s->top = s->s + n_s;
    s->sum = s->top + n_row;
    return GM_OK;
}

int gm_attn_reserve(gm_attn_ctx *a, const gm_be_limits *lim) {
    int n_row = rows_for(lim->max_head), dim = round_up(lim->max_head_dim, GM_ATTN_LANES);
    if (n_row <= a->max_row && dim <= a->max_dim) return GM_OK;
    if (n_row < a->max_row) n_row = a->max_row;
    if (dim < a->max_dim) dim = a->max_dim;
    gm_attn_ctx wide = *a;
    wide.max_row = n_row;
    wide.max_dim = dim;
    wide.part = NULL;
    wide.scratch = gm_calloc((size_t)a->n_thread, sizeof *a->scratch);
    if (!wide.scratch) goto fail;
    for (int i = 0; i < a->n_thread; i++)
        if (reserve_thread(&wide.scratch[i], (size_t)n_row, (size_t)row_stride(dim))) goto fail;
    /* Spans are only cut while there are fewer items than wanted, so there are at most twice as
     * many. Only what a call uses becomes resident. */
    size_t max_item = 2 * ITEMS_PER_THREAD * (size_t)a->n_thread;
    wide.part = gm_calloc(max_item * (size_t)n_row, (size_t)(dim + 2) * sizeof(float));
    if (!wide.part) goto fail;
    free_scratch(a);
    *a = wide;
    return GM_OK;
fail:
    free_scratch(&wide);
    return GM_ENOMEM;
}

/* ---- one item ---------------------------------------------------------------------------- */

/* Positions that any token of the item sees, cut to the item's span. */
static void item_range(const attn_job *j, attn_item *it, int span) {
    const gm_op_attention *op = j->op;
    it->lo = op->lo[it->tok];
    it->hi = op->hi[it->tok];
    for (int t = it->tok + 1; t < it->tok + it->n_tok; t++) {
        if (op->lo[t] < it->lo) it->lo = op->lo[t];
        if (op->hi[t] > it->hi) it->hi = op->hi[t];
    }
    if (j->n_span == 1) return;
    int64_t n = (int64_t)it->hi - it->lo + 1;
    int32_t first = it->lo;
    it->lo = first + (int32_t)(n * span / j->n_span);
    it->hi = first + (int32_t)(n * (span + 1) / j->n_span) - 1;
}

static attn_item item_at(const attn_job *j, int index) {
    attn_item it = {0};
    int span = index % j->n_span;
    index /= j->n_span;
    it.g = index % j->op->cache->n_kv;
    it.tok = index / j->op->cache->n_kv * j->block_tok;
    it.n_tok = j->op->n_tok - it.tok < j->block_tok ? j->op->n_tok - it.tok : j->block_tok;
    it.n_row = it.n_tok * j->group;
    it.n_row_tiled = round_up(it.n_row, GM_ATTN_TILE);
    item_range(j, &it, span);
    return it;
}

/* Heads of one group lie side by side in q and out: [n_tok, n_kv, group, head_dim]. */
static size_t head_at(const attn_job *j, const attn_item *it, int row) {
    size_t d = (size_t)j->op->cache->head_dim, n_head = (size_t)j->op->n_head;
    size_t head = (size_t)(it->g * j->group + row % j->group);
    return ((size_t)(it->tok + row / j->group) * n_head + head) * d;
}

/* Padding is cleared for each item: another call may have left longer rows here, and stale numbers
 * beside zeros could be infinite. */
static void start_item(const attn_job *j, const attn_item *it, attn_scratch *s) {
    const float *q = j->op->q->data;
    size_t d = (size_t)j->op->cache->head_dim, dim = (size_t)j->dim, ld = (size_t)j->ld;
    for (int r = 0; r < it->n_row_tiled; r++) {
        float *row = s->q + (size_t)r * ld;
        memset(row, 0, dim * sizeof(float));
        if (r < it->n_row) memcpy(row, q + head_at(j, it, r), d * sizeof(float));
        memset(s->o + (size_t)r * ld, 0, dim * sizeof(float));
        s->top[r] = -INFINITY;
        s->sum[r] = 0.0f;
    }
}

/* The row of a slot in one half of the cache. */
static const void *slot_at(const attn_job *j, const gm_tensor *cache, int g, int32_t slot) {
    size_t row = (size_t)g * (size_t)j->op->cache->n_slot + (size_t)slot;
    return (const char *)cache->data + row * cache->row_bytes;
}

/* Rows of n slots as floats: [n, ld], with zero rows up to a multiple of GM_ATTN_TILE. */
static void load_rows(const attn_job *j, const gm_tensor *cache, int g, int32_t slot, int n,
                      float *out) {
    const gm_row_fns *f = &j->a->rows;
    const char *row = slot_at(j, cache, g, slot);
    int d = j->op->cache->head_dim;
    size_t pad = (size_t)(j->dim - d) * sizeof(float), ld = (size_t)j->ld;
    for (int i = 0; i < n; i++, out += ld, row += cache->row_bytes) {
        switch (cache->dtype) {
        case GM_F16: f->from_f16(out, (const uint16_t *)(const void *)row, d); break;
        case GM_Q8_0: f->from_q8_0(out, row, d); break;
        default: memcpy(out, row, (size_t)d * sizeof(float)); break;
        }
        memset(out + d, 0, pad);
    }
    for (int i = n; i % GM_ATTN_TILE != 0; i++, out += ld)
        memset(out, 0, (size_t)j->dim * sizeof(float));
}

/* Turns a row of scores into weights against the new maximum; keys that the row does not see
 * weigh nothing. */
static void soften(const attn_job *j, attn_scratch *s, int row, int first, int end, int n) {
    const gm_row_fns *f = &j->a->rows;
    float *w = s->s + (size_t)row * GM_ATTN_KEYS;
    if (first >= end) {
        memset(w, 0, (size_t)n * sizeof(float));
        return;
    }
    float top = f->max(w + first, end - first);
    if (top > s->top[row]) {
        float keep = expf(s->top[row] - top);
        s->top[row] = top;
        s->sum[row] *= keep;
        float *o = s->o + (size_t)row * (size_t)j->ld;
        f->scale(o, o, NULL, keep, j->dim);
    }
    s->sum[row] += f->exp_sum(w + first, s->top[row], end - first);
    memset(w, 0, (size_t)first * sizeof(float));
    memset(w + end, 0, (size_t)(n - end) * sizeof(float));
}

static void score_block(const attn_job *j, const attn_item *it, attn_scratch *s, int32_t slot,
                        int n) {
    const gm_tensor *k = &j->op->cache->k;
    if (j->direct) {
        j->a->fns.scores_f16(s->s, s->q, slot_at(j, k, it->g, slot), it->n_row_tiled, n, j->dim,
                             j->ld);
        return;
    }
    load_rows(j, k, it->g, slot, n, s->kv);
    j->a->fns.scores(s->s, s->q, s->kv, it->n_row_tiled, n, j->dim, j->ld);
}

static void mix_block(const attn_job *j, const attn_item *it, attn_scratch *s, int32_t slot,
                      int n) {
    const gm_tensor *v = &j->op->cache->v;
    if (j->direct) {
        j->a->fns.mix_f16(s->o, s->s, slot_at(j, v, it->g, slot), it->n_row_tiled, n, j->dim,
                          j->ld);
        return;
    }
    load_rows(j, v, it->g, slot, n, s->kv);
    j->a->fns.mix(s->o, s->s, s->kv, it->n_row_tiled, n, j->dim, j->ld);
}

/* Positions pos .. pos + n - 1, which lie in slots from `slot` on. */
static void add_block(const attn_job *j, const attn_item *it, attn_scratch *s, int32_t pos,
                      int32_t slot, int n) {
    const gm_op_attention *op = j->op;
    score_block(j, it, s, slot, n);
    for (int r = 0; r < it->n_row_tiled; r++) {
        int t = it->tok + r / j->group;
        if (r >= it->n_row) {
            soften(j, s, r, 0, 0, n);
            continue;
        }
        int32_t lo = op->lo[t] > pos ? op->lo[t] : pos;
        int32_t hi = op->hi[t] < pos + n - 1 ? op->hi[t] : pos + n - 1;
        soften(j, s, r, lo - pos, hi - pos + 1, n);
    }
    mix_block(j, it, s, slot, n);
}

/* An unfinished row: dim floats of output, then the maximum and the sum. */
static float *part_at(const attn_job *j, int item, int row) {
    return j->a->part + ((size_t)item * (size_t)j->a->max_row + (size_t)row) * (size_t)(j->dim + 2);
}

static void finish_item(const attn_job *j, const attn_item *it, attn_scratch *s, int index) {
    int d = j->op->cache->head_dim;
    float *out = j->op->out->data;
    for (int r = 0; r < it->n_row; r++) {
        const float *o = s->o + (size_t)r * (size_t)j->ld;
        if (j->n_span == 1) {
            j->a->rows.scale(out + head_at(j, it, r), o, NULL, 1.0f / s->sum[r], d);
            continue;
        }
        float *part = part_at(j, index, r);
        memcpy(part, o, (size_t)d * sizeof(float));
        part[j->dim] = s->top[r];
        part[j->dim + 1] = s->sum[r];
    }
}

static void run_items(void *ud, int begin, int end, int thread) {
    const attn_job *j = ud;
    attn_scratch *s = &j->a->scratch[thread];
    for (int i = begin; i < end; i++) {
        attn_item it = item_at(j, i);
        start_item(j, &it, s);
        int64_t pos = it.lo;
        while (pos <= it.hi) {
            if (gm_cancelled(j->cancel)) return;
            int64_t n = it.hi - pos + 1;
            int32_t slot = (int32_t)(pos % j->op->cache->n_slot);
            if (n > j->n_key) n = j->n_key;
            /* A block ends where the ring does. */
            if (n > j->op->cache->n_slot - slot) n = j->op->cache->n_slot - slot;
            add_block(j, &it, s, (int32_t)pos, slot, (int)n);
            pos += n;
        }
        finish_item(j, &it, s, i);
    }
}

/* ---- joining spans ----------------------------------------------------------------------- */

/* Row r of the item whose spans are parts first .. first + n_span - 1. */
static void join_row(const attn_job *j, const attn_item *it, int first, int r) {
    const gm_row_fns *f = &j->a->rows;
    int d = j->op->cache->head_dim;
    float top = -INFINITY, sum = 0.0f;
    for (int s = 0; s < j->n_span; s++) top = fmaxf(top, part_at(j, first + s, r)[j->dim]);
    float *o = part_at(j, first, r), *out = (float *)j->op->out->data + head_at(j, it, r);
    for (int s = 0; s < j->n_span; s++) {
        float *part = part_at(j, first + s, r);
        /* A span may hold nothing that this row sees. */
        float keep = part[j->dim + 1] > 0.0f ? expf(part[j->dim] - top) : 0.0f;
        sum += part[j->dim + 1] * keep;
        f->scale(part, part, NULL, keep, d);
        if (s > 0)
            for (int i = 0; i < d; i++) o[i] += part[i];
    }
    f->scale(out, o, NULL, 1.0f / sum, d);
}

static void join_items(void *ud, int begin, int end, int thread) {
    (void)thread;
    const attn_job *j = ud;
    for (int i = begin; i < end; i++) {
        attn_item it = item_at(j, i * j->n_span);
        for (int r = 0; r < it.n_row; r++) join_row(j, &it, i * j->n_span, r);
    }
}

/* ---- one call ---------------------------------------------------------------------------- */

/* Longest range of positions that one token sees. */
static int64_t longest_range(const gm_op_attention *op) {
    int64_t n = 0;
    for (int32_t t = 0; t < op->n_tok; t++) {
        int64_t len = (int64_t)op->hi[t] - op->lo[t] + 1;
        if (len > n) n = len;
    }
    return n;
}

static int spans(const attn_job *j, int n_item) {
    int want = ITEMS_PER_THREAD * j->a->n_thread;
    if (j->a->n_thread == 1 || n_item >= want) return 1;
    int64_t n = (want + n_item - 1) / n_item, most = longest_range(j->op) / MIN_SPAN;
    if (n > most) n = most;
    return n < 1 ? 1 : (int)n;
}

/* Few rows: what a block costs is to bring its keys in, so they are not written out as floats
 * (F16), or only as many as the first-level cache holds. */
static void choose_block(attn_job *j) {
    const gm_kv_layer *c = j->op->cache;
    int n_tok = j->op->n_tok < j->block_tok ? j->op->n_tok : j->block_tok;
    bool few = n_tok * j->group <= FEW_ROWS;
    j->direct = few && c->k.dtype == GM_F16 && c->v.dtype == GM_F16 &&
                c->head_dim % GM_ATTN_LANES == 0 && j->a->fns.scores_f16 && j->a->fns.mix_f16;
    j->n_key = few && !j->direct ? GM_ATTN_KEYS / 4 : GM_ATTN_KEYS;
}

int gm_attn_run(gm_attn_ctx *a, const gm_op_attention *op, const gm_cancel *cancel) {
    const gm_kv_layer *c = op->cache;
    attn_job j = {.a = a, .op = op, .cancel = cancel, .group = op->n_head / c->n_kv};
    j.dim = round_up(c->head_dim, GM_ATTN_LANES);
    j.ld = row_stride(j.dim);
    if (round_up(j.group, GM_ATTN_TILE) > a->max_row || j.dim > a->max_dim) {
        gm_log(GM_LOG_ERROR, "kernels", "attention: %d heads of %d: never reserved", op->n_head,
               c->head_dim);
        return GM_EINVAL;
    }
    j.block_tok = j.group >= ROWS ? 1 : ROWS / j.group;
    j.n_block = (op->n_tok + j.block_tok - 1) / j.block_tok;
    choose_block(&j);
    int n_item = j.n_block * c->n_kv;
    j.n_span = spans(&j, n_item);
    gm_team_run(a->team, run_items, &j, n_item * j.n_span, 1, 1);
    if (gm_cancelled(cancel)) return GM_ECANCELLED;
    if (j.n_span > 1) gm_team_run(a->team, join_items, &j, n_item, 1, 1);
    return GM_OK;
}

/* ---- reference kernels ------------------------------------------------------------------- */

/* Partial sums: closer to the exact value than one long sum, and a compiler can keep them in a
 * vector register. */
enum { PARTIAL = 8 };

static float dot_ref(const float *x, const float *y, int d) {
    float acc[PARTIAL] = {0};
    for (int i = 0; i < d; i += PARTIAL)
        for (int l = 0; l < PARTIAL; l++) acc[l] += x[i + l] * y[i + l];
    return ((acc[0] + acc[4]) + (acc[1] + acc[5])) + ((acc[2] + acc[6]) + (acc[3] + acc[7]));
}

static void scores_ref(float *s, const float *q, const float *k, int n_q, int n_k, int d, int ld) {
    for (int i = 0; i < n_q; i++)
        for (int j = 0; j < n_k; j++)
            s[i * GM_ATTN_KEYS + j] =
                dot_ref(q + (size_t)i * (size_t)ld, k + (size_t)j * (size_t)ld, d);
}

static void mix_ref(float *o, const float *s, const float *v, int n_q, int n_k, int d, int ld) {
    for (int i = 0; i < n_q; i++) {
        float *row = o + (size_t)i * (size_t)ld;
        for (int j = 0; j < n_k; j++) {
            const float *from = v + (size_t)j * (size_t)ld;
            float w = s[i * GM_ATTN_KEYS + j];
            for (int x = 0; x < d; x++) row[x] += w * from[x];
        }
    }
}

void gm_attn_fill(gm_attn_fns *f, gm_cpu_level level) {
    *f = (gm_attn_fns){.scores = scores_ref, .mix = mix_ref};
#ifdef __x86_64__
    if (gm_cpu_uses(level, GM_CPU_AVX2)) gm_attn_fill_avx2(f);
    if (gm_cpu_uses(level, GM_CPU_AVX512)) gm_attn_fill_avx512(f);
#elif defined(__aarch64__)
    if (gm_cpu_uses(level, GM_CPU_NEON)) gm_attn_fill_neon(f);
#else
    (void)level;
#endif
}
