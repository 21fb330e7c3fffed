/* cpu_rows.c: the ops that work row by row, cut into pieces for the team.
 *
 * The arithmetic is in rows.h; here is only what a piece is and when sharing it pays.
 */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "tensor/quant.h"

/* Elements. Below this the hand-over to other threads costs more than the work: some microseconds
 * against about a nanosecond per element. */
#define SHARE_FROM 16384

/* Elements per piece of an elementwise op: 16 KiB of floats, so that the rows of one piece stay in
 * the first-level cache and a quarter of a million logits make enough pieces for every thread. */
#define PIECE 4096

/* Runs fn over n_item items of `size` elements each, on this thread alone when that is faster. */
static void each(gm_cpu *c, gm_team_fn fn, void *ud, int64_t n_item, int64_t size) {
    if (n_item * size < SHARE_FROM || n_item == 1) {
        fn(ud, 0, (int)n_item, 0);
        return;
    }
    int64_t grain = PIECE / size;
    const int g = grain < 1 ? 1 : (int)grain;
    gm_team_run(c->team, fn, ud, (int)n_item, g, g);
}

static float *row_of(const gm_tensor *t, int64_t row, int64_t n) {
    return (float *)t->data + row * n;
}

static int done(const gm_cpu *c) { return gm_cancelled(c->base.cancel) ? GM_ECANCELLED : GM_OK; }

/* ---- embed ------------------------------------------------------------------------------- */

typedef struct {
    gm_cpu *cpu;
    const gm_op_embed *op;
} embed_job;

static void embed_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const embed_job *j = ud;
    const gm_op_embed *op = j->op;
    int64_t n = op->table->ne[0];
    for (int t = begin; t < end; t++) {
        if (op->ids[t] < 0) continue;
        float *out = row_of(op->out, t, n);
        gm_dequant_row(op->table->dtype, gm_tensor_row(op->table, op->ids[t]), out, n);
        j->cpu->rows.scale(out, out, NULL, op->scale, (int)n);
    }
}

int gm_cpu_embed(gm_backend *b, const gm_op_embed *op) {
    gm_cpu *c = (gm_cpu *)b;
    embed_job j = {c, op};
    each(c, embed_rows, &j, op->n_tok, op->table->ne[0]);
    return done(c);
}

/* ---- norms ------------------------------------------------------------------------------- */

/* 1 / sqrt(mean(x^2) + eps) */
static float inverse_rms(const gm_cpu *c, const float *x, int n, float eps) {
    return (float)(1.0 / sqrt(c->rows.sum_squares(x, n) / n + (double)eps));
}

typedef struct {
    gm_cpu *cpu;
    const gm_op_rms_norm *op;
} norm_job;

static void norm_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const norm_job *j = ud;
    const gm_op_rms_norm *op = j->op;
    int n = (int)op->x->ne[0];
    const float *w = op->w ? op->w->data : NULL;
    for (int t = begin; t < end; t++) {
        const float *x = row_of(op->x, t, n);
        j->cpu->rows.scale(row_of(op->out, t, n), x, w, inverse_rms(j->cpu, x, n, op->eps), n);
    }
}

int gm_cpu_rms_norm(gm_backend *b, const gm_op_rms_norm *op) {
    gm_cpu *c = (gm_cpu *)b;
    norm_job j = {c, op};
    each(c, norm_rows, &j, op->n_tok, op->x->ne[0]);
    return done(c);
}

typedef struct {
    gm_cpu *cpu;
    const gm_op_add_norm *op;
} add_norm_job;

static void add_norm_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const add_norm_job *j = ud;
    const gm_op_add_norm *op = j->op;
    int n = (int)op->x->ne[0];
    for (int t = begin; t < end; t++) {
        const float *x = row_of(op->x, t, n);
        j->cpu->rows.add_scaled(row_of(op->h, t, n), x, op->w->data,
                                inverse_rms(j->cpu, x, n, op->eps), op->scale, n);
    }
}

int gm_cpu_add_norm(gm_backend *b, const gm_op_add_norm *op) {
    gm_cpu *c = (gm_cpu *)b;
    add_norm_job j = {c, op};
    each(c, add_norm_rows, &j, op->n_tok, op->x->ne[0]);
    return done(c);
}

/* ---- rotation ---------------------------------------------------------------------------- */

static void free_turns(gm_cpu_turns *turns) {
    for (int i = 0; i < GM_ROPE_TABLES; i++) {
        gm_free(turns[i].cosine);
        gm_free(turns[i].sine);
        turns[i] = (gm_cpu_turns){0};
    }
}

int gm_cpu_rope_reserve(gm_cpu *c, const gm_be_limits *lim) {
    size_t half = (size_t)(lim->max_head_dim + 1) / 2, n_tok = (size_t)lim->max_tok;
    if (lim->max_tok <= c->lim.max_tok && lim->max_head_dim <= c->lim.max_head_dim) return GM_OK;
    gm_rope_keys keys;
    gm_cpu_turns turns[GM_ROPE_TABLES] = {{0}};
    int rc = gm_rope_keys_init(&keys, lim->max_head_dim);
    for (int i = 0; !rc && i < GM_ROPE_TABLES; i++) {
        turns[i].cosine = gm_calloc(n_tok, half * sizeof(float));
        turns[i].sine = gm_calloc(n_tok, half * sizeof(float));
        if (!turns[i].cosine || !turns[i].sine) rc = GM_ENOMEM;
    }
    if (rc) { /* the old ones stay */
        gm_rope_keys_finish(&keys);
        free_turns(turns);
        return rc;
    }
    gm_cpu_rope_finish(c);
    c->rope = keys;
    memcpy(c->turns, turns, sizeof turns);
    return GM_OK;
}

void gm_cpu_rope_finish(gm_cpu *c) {
    gm_rope_keys_finish(&c->rope);
    free_turns(c->turns);
}

typedef struct {
    const gm_rope_key *key;
    const gm_cpu_turns *to;
} turn_job;

static void turn_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const turn_job *j = ud;
    for (int t = begin; t < end; t++) {
        size_t at = (size_t)t * (size_t)j->key->half;
        gm_rope_turn(j->key, t, j->to->cosine + at, j->to->sine + at);
    }
}

/* The number of the table for the op. */
static int find_turns(gm_cpu *c, const gm_op_head_norm_rope *op) {
    bool fresh;
    const int i = gm_rope_find(&c->rope, op, &fresh);
    turn_job j = {&c->rope.key[i], &c->turns[i]};
    /* A sine costs about as much as thirty simple elements. */
    if (fresh) each(c, turn_rows, &j, j.key->n_tok, (int64_t)j.key->half * 30);
    return i;
}

typedef struct {
    gm_cpu *cpu;
    const gm_op_head_norm_rope *op;
    const gm_cpu_turns *turns; /* NULL: no rotation */
    int32_t pos0;              /* of the first of them */
} head_job;

static void head_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const head_job *j = ud;
    const gm_op_head_norm_rope *op = j->op;
    const gm_row_fns *f = &j->cpu->rows;
    const float *w = op->w ? op->w->data : NULL;
    int d = op->head_dim, half = d / 2;
    for (int t = begin; t < end; t++) {
        float *x = row_of(op->x, t, (int64_t)op->n_head * d);
        for (int h = 0; h < op->n_head; h++, x += d) {
            f->scale(x, x, w, inverse_rms(j->cpu, x, d, op->eps), d);
            if (!j->turns) continue;
            size_t at = (size_t)(op->pos0 + t - j->pos0) * (size_t)half;
            f->rotate(x, j->turns->cosine + at, j->turns->sine + at, half);
        }
    }
}

int gm_cpu_head_norm_rope(gm_backend *b, const gm_op_head_norm_rope *op) {
    gm_cpu *c = (gm_cpu *)b;
    if (op->inv_freq && (op->n_tok > c->lim.max_tok || op->head_dim > c->lim.max_head_dim)) {
        gm_log(GM_LOG_ERROR, "kernels", "head_norm_rope: %d tokens, heads of %d: never reserved",
               op->n_tok, op->head_dim);
        return GM_EINVAL;
    }
    head_job j = {.cpu = c, .op = op};
    if (op->inv_freq) {
        const int i = find_turns(c, op);
        j.turns = &c->turns[i];
        j.pos0 = c->rope.key[i].pos0;
    }
    each(c, head_rows, &j, op->n_tok, (int64_t)op->n_head * op->head_dim);
    return done(c);
}

/* ---- cache ------------------------------------------------------------------------------- */

typedef struct {
    gm_cpu *cpu;
    const gm_op_kv_write *op;
} kv_job;

static void store_row(const gm_row_fns *f, const gm_tensor *cache, int64_t row, const float *x,
                      int n) {
    void *out = (char *)cache->data + (size_t)row * cache->row_bytes;
    switch (cache->dtype) {
    case GM_F16: f->to_f16(out, x, n); break;
    case GM_Q8_0: f->to_q8_0(out, x, n); break;
    default: memcpy(out, x, (size_t)n * sizeof(float)); break;
    }
}

static void kv_rows(void *ud, int begin, int end, int thread) {
    (void)thread;
    const kv_job *j = ud;
    const gm_op_kv_write *op = j->op;
    gm_kv_layer *c = op->cache;
    int d = c->head_dim;
    for (int t = begin; t < end; t++)
        for (int g = 0; g < c->n_kv; g++) {
            int64_t from = (int64_t)t * c->n_kv + g;
            int64_t to = (int64_t)g * c->n_slot + (op->pos0 + t) % c->n_slot;
            store_row(&j->cpu->rows, &c->k, to, row_of(op->k, from, d), d);
            store_row(&j->cpu->rows, &c->v, to, row_of(op->v, from, d), d);
        }
}

int gm_cpu_kv_write(gm_backend *b, const gm_op_kv_write *op) {
    gm_cpu *c = (gm_cpu *)b;
    kv_job j = {c, op};
    each(c, kv_rows, &j, op->n_tok, (int64_t)op->cache->n_kv * op->cache->head_dim * 2);
    return done(c);
}

/* ---- elementwise ------------------------------------------------------------------------- */

typedef struct {
    gm_cpu *cpu;
    const float *gate, *up;
    float *out;
    float cap;
    int64_t n; /* elements in all */
} flat_job;

static int64_t n_piece(int64_t n) { return (n + PIECE - 1) / PIECE; }

/* Elements of pieces [begin, end). */
static int piece_len(const flat_job *j, int64_t piece) {
    int64_t left = j->n - piece * PIECE;
    return left < PIECE ? (int)left : PIECE;
}

static void geglu_pieces(void *ud, int begin, int end, int thread) {
    (void)thread;
    const flat_job *j = ud;
    for (int p = begin; p < end; p++) {
        int64_t at = (int64_t)p * PIECE;
        j->cpu->rows.geglu(j->out + at, j->gate + at, j->up + at, piece_len(j, p));
    }
}

int gm_cpu_geglu(gm_backend *b, const gm_op_geglu *op) {
    gm_cpu *c = (gm_cpu *)b;
    flat_job j = {
        .cpu = c,
        .gate = op->gate->data,
        .up = op->up->data,
        .out = op->out->data,
        .n = op->n_tok * op->gate->ne[0],
    };
    each(c, geglu_pieces, &j, n_piece(j.n), PIECE);
    return done(c);
}

static void softcap_pieces(void *ud, int begin, int end, int thread) {
    (void)thread;
    const flat_job *j = ud;
    for (int p = begin; p < end; p++)
        j->cpu->rows.softcap(j->out + (int64_t)p * PIECE, j->cap, piece_len(j, p));
}

int gm_cpu_softcap(gm_backend *b, const gm_op_softcap *op) {
    gm_cpu *c = (gm_cpu *)b;
    flat_job j = {.cpu = c, .out = op->x->data, .cap = op->cap, .n = op->n_tok * op->x->ne[0]};
    each(c, softcap_pieces, &j, n_piece(j.n), PIECE);
    return done(c);
}
