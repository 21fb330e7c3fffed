/* gemm.c: cuts a matmul into pieces of work and hands them to the team.
 *
 * A piece is some rows of one of the matrices, with all tokens. The union of all matrices' pieces
 * is one job, so that threads meet once per op and not once per matrix.
 *
 * Few tokens: the rows stream through the kernels of dot.h. Many: panels of the rows are unpacked
 * and go through the tiles of gemm_tile.h. What stays where in a piece of tiles:
 *
 *     for each stretch of K (512; of bfloat16 256, for the same bytes)
 *         for each panel of 32 rows of the piece
 *             unpack the panel                       first-level cache, 16 KiB
 *             for all tokens, some at a time
 *                 their stretch of x                 second-level cache, 256 KiB for 512 tokens,
 *                                                    used again by the next panel
 *                 sums of the panel                  second-level cache, 64 KiB per panel
 */
#include "kernels/cpu/gemm.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/gemm_tile.h"

/* Bytes of weights in a piece of decode: large enough that taking one costs nothing beside it,
 * small enough that the threads finish together (some 3 microseconds of memory time). */
enum { PIECE_BYTES = 64 * 1024 };

enum {
    MAX_PANELS = 4, /* panels of 32 rows in a piece of tiles */
    TILE_TOK = 512, /* tokens in one pass over the weights; more would not fit the caches */
    FINE_ROWS = 512 /* rows of a piece of dot products with fine activations, at most */
};

/* Stretch of K of one call of BLAS: long enough for its own packing to pay. */
enum { BLAS_K = 1024 };

/* What one thread needs for tiles. */
typedef struct {
    gm_tile_scratch pack;
    float *sums;     /* [MAX_PANELS, tok, GM_TILE_ROWS] */
    float *rows;     /* [GM_TILE_ROWS, BLAS_K], only for BLAS */
    float *parts;    /* [GM_XQ_FEW, FINE_ROWS], only for fine activations */
    uint32_t *order; /* [GM_TILE_TOK, padded width / 4], where tiles take interleaved rows */
} thread_scratch;

/* Everything whose size is that of an op. */
typedef struct {
    gm_xq xq; /* n_tok and n_in are the op's, capacities below */
    gm_xq_few few;
    int32_t max_tok, max_in;
    /* for fine activations: the floats of both rows, [2 * max_tok, max_in] */
    float *fine_x;
    thread_scratch *threads; /* [gm_team_size] */
} scratch;

struct gm_matmul_ctx {
    gm_team *team; /* borrowed */
    gm_dot_fns dot;
    gm_tile_fns tile;
    scratch s;
    /* Fine activations: row n_tok + t of xq holds what 8 bits lost of row t, in 8 bits more, and
     * the products of both rows are added. */
    bool fine;
    bool use_blas; /* for float weights */
};

/* One job of the team. */
typedef struct {
    gm_matmul_ctx *m;
    const gm_op_matmul *op;
    const gm_cancel *cancel;
    int32_t tok0, n_tok; /* tokens of this pass */
    bool tiles;          /* rather than dot products */
    bool bf16;           /* those of gm_tile_fns.tile_bf16 */
    /* fine, and the kernels take float activations: nothing is quantised */
    bool exact;
    bool twice;               /* fine, and they do not: x is quantised, and what that lost of it */
    int rows[GM_MATMUL_MAX];  /* rows per piece */
    int first[GM_MATMUL_MAX]; /* number of the matrix's first piece */
} job;

static int32_t round_up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }

int gm_matmul_create(gm_matmul_ctx **out, gm_team *team, gm_cpu_level level, char *err,
                     size_t errlen) {
    gm_matmul_ctx *m = *out = gm_calloc(1, sizeof *m);
    if (!m) return gm_fail(err, errlen, GM_ENOMEM, "no memory for matrix products");
    m->team = team;
    gm_dot_fill(&m->dot, level);
    gm_tile_fill(&m->tile, level);
    m->use_blas = m->tile.slow_float && gm_blas_available();
    return GM_OK;
}

static void free_scratch(const gm_matmul_ctx *m, scratch *s) {
    gm_xq *x = &s->xq;
    gm_free(x->q);
    gm_free(x->d);
    gm_free(x->s32);
    gm_free(x->s16);
    gm_free(x->ds32);
    gm_free(x->ds16);
    gm_free(x->bf);
    for (size_t i = 0; i < GM_XQ_ORDERS; i++) gm_free(s->few.q[i]);
    for (size_t i = 0; i < GM_XQ_SCALES; i++) gm_free(s->few.d[i]);
    gm_free(s->fine_x);
    for (int i = 0; s->threads && i < gm_team_size(m->team); i++) {
        gm_free(s->threads[i].sums);
        gm_free(s->threads[i].parts);
        gm_free(s->threads[i].rows);
        gm_free(s->threads[i].order);
    }
    gm_free(s->threads);
    *s = (scratch){0};
}

void gm_matmul_destroy(gm_matmul_ctx **m) {
    if (!*m) return;
    free_scratch(*m, &(*m)->s);
    gm_free(*m);
    *m = NULL;
}

void gm_matmul_set_fine(gm_matmul_ctx *m) {
    if (m->fine) return;
    free_scratch(m, &m->s);
    m->fine = true;
    m->tile.tile_bf16 = NULL; /* which would lose more */
}

static bool alloc_thread(const gm_matmul_ctx *m, thread_scratch *t, size_t tok, size_t pad) {
    t->sums = gm_malloc(tok * MAX_PANELS * GM_TILE_ROWS, sizeof *t->sums);
    t->rows = gm_malloc(m->use_blas ? GM_TILE_ROWS * BLAS_K : 0, sizeof *t->rows);
    t->parts = gm_malloc(m->fine ? GM_XQ_FEW * FINE_ROWS : 0, sizeof *t->parts);
    t->order = gm_malloc(m->tile.tok ? GM_TILE_TOK : 0, pad);
    return t->sums && t->rows && t->parts && t->order;
}

/* n: tokens times the padded width. */
static bool alloc_scratch(const gm_matmul_ctx *m, scratch *s, size_t tok, size_t pad, size_t n) {
    gm_xq *x = &s->xq;
    x->q = gm_malloc(n, 1);
    x->d = gm_malloc(n / 32, sizeof *x->d);
    x->s32 = gm_malloc(n / 32, sizeof *x->s32);
    x->s16 = gm_malloc(n / 16, sizeof *x->s16);
    x->ds32 = gm_malloc(n / 32, sizeof *x->ds32);
    x->ds16 = gm_malloc(n / 16, sizeof *x->ds16);
    x->bf =
        gm_malloc(m->tile.tile_bf16 ? (size_t)round_up((int32_t)tok, GM_TILE_BF16_TOK) * pad : 0,
                  sizeof *x->bf);
    gm_xq_few *few = &s->few;
    bool ok = true;
    for (size_t i = 0; i < GM_XQ_ORDERS; i++) ok &= (few->q[i] = gm_malloc(GM_XQ_FEW, pad)) != NULL;
    for (size_t i = 0; i < GM_XQ_SCALES; i++)
        ok &= (few->d[i] = gm_malloc(GM_XQ_FEW * (pad / 16), sizeof *few->d[i])) != NULL;
    s->fine_x = gm_malloc(m->fine ? n : 0, sizeof *s->fine_x);
    s->threads = gm_calloc((size_t)gm_team_size(m->team), sizeof *s->threads);
    ok = ok && x->q && x->d && x->s32 && x->s16 && x->ds32 && x->ds16 && x->bf && s->fine_x &&
         s->threads;
    for (int i = 0; ok && i < gm_team_size(m->team); i++)
        ok = alloc_thread(m, &s->threads[i], tok, pad);
    return ok;
}

int gm_matmul_reserve(gm_matmul_ctx *m, int32_t max_tok, int32_t max_in) {
    if (max_tok > TILE_TOK) max_tok = TILE_TOK;
    if (max_tok <= m->s.max_tok && max_in <= m->s.max_in) return GM_OK;
    size_t tok = (size_t)max_tok * (m->fine ? 2 : 1), pad = (size_t)round_up(max_in, GM_XQ_PAD);
    size_t n;
    if (!gm_mul_size(tok, pad, &n)) return GM_ENOMEM;
    scratch s = {.max_tok = max_tok, .max_in = max_in};
    if (!alloc_scratch(m, &s, tok, pad, n)) {
        free_scratch(m, &s);
        return GM_ENOMEM;
    }
    free_scratch(m, &m->s);
    m->s = s;
    return GM_OK;
}

static void quantise_rows(const job *j, int begin, int end) {
    const gm_xq_fn fn = j->bf16 ? j->m->tile.round_bf16 : j->m->dot.quantise;
    for (int t = begin; t < end; t++) fn(&j->m->s.xq, t);
}

/* Row t in 8 bits, and in row n_tok + t what that left over. */
static void quantise_rows_twice(const job *j, int begin, int end) {
    gm_matmul_ctx *m = j->m;
    gm_xq *x = &m->s.xq;
    const size_t n_in = (size_t)x->n_in, n_pad = (size_t)x->n_pad;
    for (int t = begin; t < end; t++) {
        float *row = m->s.fine_x + (size_t)t * n_in, *rest = row + (size_t)j->n_tok * n_in;
        memcpy(row, (const float *)j->op->x->data + (size_t)(j->tok0 + t) * n_in,
               n_in * sizeof *row);
        m->dot.quantise(x, t);
        const int8_t *q = x->q + (size_t)t * n_pad;
        const float *d = x->d + (size_t)t * (n_pad / GM_XQ_BLOCK);
        for (size_t i = 0; i < n_in; i++) rest[i] = row[i] - d[i / GM_XQ_BLOCK] * (float)q[i];
        m->dot.quantise(x, j->n_tok + t);
    }
}

/* Tokens of an item of quantise: one or, if they are interleaved, those of a tile. */
static int item_tok(const gm_xq *x) { return x->tile_tok ? x->tile_tok : 1; }

static void quantise(void *ud, int begin, int end, int thread) {
    const job *j = ud;
    gm_matmul_ctx *m = j->m;
    gm_xq *x = &m->s.xq;
    const int width = item_tok(x);
    for (int i = begin; i < end; i++) {
        const int first = i * width;
        const int n = j->n_tok - first < width ? j->n_tok - first : width;
        (j->twice ? quantise_rows_twice : quantise_rows)(j, first, first + n);
        if (!x->tile_tok) continue;
        gm_tile_interleave(x, first, n, m->s.threads[thread].order);
        if (j->twice) gm_tile_interleave(x, j->n_tok + first, n, m->s.threads[thread].order);
    }
}

static bool is_quantised(const gm_tensor *w) { return gm_unpack_info_get(w->dtype)->group != 0; }

/* Rows of one piece for up to GM_DOT_TOK tokens at a time. With fine activations a token is two,
 * whose products are computed side by side, so that the weights of one are read once. */
static void compute_rows(const job *j, int mat, int row, int n_row, thread_scratch *s) {
    const gm_tensor *w = j->op->w[mat], *out = j->op->out[mat];
    const bool quantised = is_quantised(w), twice = j->twice && quantised;
    const size_t n_out = (size_t)gm_tensor_rows(w);
    float *to = (float *)out->data + (size_t)j->tok0 * n_out + row;
    gm_dot_args a = {
        .dtype = w->dtype,
        .unpack = j->m->dot.unpack[w->dtype],
        .w = gm_tensor_row(w, row),
        .row_bytes = w->row_bytes,
        .n_row = n_row,
        .ahead = j->m->dot.ahead,
        .x = &j->m->s.xq,
        .out_stride = twice ? (size_t)n_row : n_out,
    };
    const int n_tok = twice ? 2 * j->n_tok : j->n_tok;
    for (a.tok = 0; a.tok < n_tok; a.tok += GM_DOT_TOK) {
        a.n_tok = n_tok - a.tok < GM_DOT_TOK ? n_tok - a.tok : GM_DOT_TOK;
        a.out = (twice ? s->parts : to) + (size_t)a.tok * a.out_stride;
        (j->exact && quantised ? j->m->dot.exact : j->m->dot.dot)[w->dtype](&a);
    }
    if (!twice) return;
    const float *part = s->parts, *rest = part + (size_t)j->n_tok * (size_t)n_row;
    for (int t = 0; t < j->n_tok; t++, to += n_out, part += n_row, rest += n_row)
        for (int r = 0; r < n_row; r++) to[r] = part[r] + rest[r];
}

/* The sums of a piece to their places in out: all of a token at once, since tokens lie in different
 * pages. sums: [panels, n_tok, GM_TILE_ROWS]; out: [n_tok, n_row], rows n_out floats apart. */
static void copy_sums(const float *sums, int n_tok, int n_row, float *out, size_t n_out) {
    const size_t panel_sums = (size_t)n_tok * GM_TILE_ROWS;
    for (int t = 0; t < n_tok; t++, sums += GM_TILE_ROWS, out += n_out) {
        const float *from = sums;
        int r = 0;
        for (; r + GM_TILE_ROWS <= n_row; r += GM_TILE_ROWS, from += panel_sums)
            memcpy(out + r, from, GM_TILE_ROWS * sizeof *out); /* a constant size needs no call */
        memcpy(out + r, from, (size_t)(n_row - r) * sizeof *out);
    }
}

/* sums += x times one panel of float rows, k0 .. k0 + kc - 1, by BLAS. */
static void add_by_blas(const job *j, const gm_tensor *w, int row, int n_row, int k0, int kc,
                        thread_scratch *s, float *sums) {
    const gm_xq *x = &j->m->s.xq;
    size_t elem = gm_dtype_get(w->dtype)->block_bytes;
    for (int r = 0; r < n_row; r++) {
        const uint8_t *src = gm_tensor_row(w, row + r);
        j->m->tile.widen[w->dtype](src + (size_t)k0 * elem, kc, s->rows + r * BLAS_K);
    }
    gm_blas_add_product(j->n_tok, n_row, kc, x->x + k0, x->n_in, s->rows, BLAS_K, sums,
                        GM_TILE_ROWS);
}

static int min_int(int a, int b) { return a < b ? a : b; }

/* What to call for while panel `first` is multiplied with elements k and on: the same rows a
 * stretch later, or where the rows begin, two stretches of the next ones. Nearer is slower. */
static gm_ahead panel_ahead(const gm_tensor *w, int row, int n_row, int first, int k, int stretch,
                            int n_step) {
    const int n_in = (int)w->ne[0];
    int from = k + stretch, to = k + 2 * stretch;
    if (k == 0) {
        first += GM_TILE_ROWS;
        from = 0;
        if (first >= n_row) first = 0, from = stretch;
    }
    if (from >= n_in) return (gm_ahead){0};
    return gm_tile_ahead(w->dtype, gm_tensor_row(w, row + first), w->row_bytes,
                         min_int(n_row - first, GM_TILE_ROWS), from, min_int(n_in, to) - from,
                         n_step);
}

/* Rows row .. row + n_row - 1 of one piece for all tokens, through tiles. */
static void compute_tiles(const job *j, int mat, int row, int n_row, thread_scratch *s) {
    const gm_matmul_ctx *m = j->m;
    const gm_tensor *w = j->op->w[mat];
    int n_in = m->s.xq.n_in, n_panel = (n_row + GM_TILE_ROWS - 1) / GM_TILE_ROWS;
    bool quantised = is_quantised(w);
    bool blas = !quantised && m->use_blas, bf16 = quantised && j->bf16;
    int stretch = blas ? BLAS_K : bf16 ? GM_TILE_K_BF16 : quantised ? GM_TILE_K : GM_TILE_K_FLOAT;
    gm_tile_fn tile = bf16        ? m->tile.tile_bf16
                      : quantised ? m->tile.tile_quant
                                  : m->tile.tile_float;
    size_t panel_sums = (size_t)j->n_tok * GM_TILE_ROWS;
    memset(s->sums, 0, (size_t)n_panel * panel_sums * sizeof *s->sums);
    if (!blas) {
        gm_ahead all = gm_tile_ahead(w->dtype, gm_tensor_row(w, row), w->row_bytes,
                                     min_int(n_row, GM_TILE_ROWS), 0, min_int(n_in, stretch), 1);
        gm_ahead_step(&all);
    }
    const int width = bf16               ? 2 * GM_TILE_BF16_TOK
                      : m->s.xq.tile_tok ? m->s.xq.tile_tok
                                         : GM_TILE_TOK,
              n_tile = (j->n_tok + width - 1) / width;
    for (int k = 0; k < n_in; k += stretch) {
        /* A piece is 128 rows times 512 tokens: half a second of plain C. */
        if (gm_cancelled(j->cancel)) return;
        int kc = min_int(n_in - k, stretch);
        for (int i = 0; i < n_panel; i++) {
            int first = i * GM_TILE_ROWS, n = min_int(n_row - first, GM_TILE_ROWS);
            float *sums = s->sums + (size_t)i * panel_sums;
            if (blas) {
                add_by_blas(j, w, row + first, n, k, kc, s, sums);
                continue;
            }
            gm_panel p = gm_tile_pack(&m->tile, &m->dot, w->dtype, gm_tensor_row(w, row + first),
                                      w->row_bytes, n, k, kc, &s->pack);
            const int n_step = bf16        ? n_tile * kc / 32
                               : quantised ? n_tile * kc / p.info->group
                                           : n_tile;
            gm_ahead ahead = panel_ahead(w, row, n_row, first, k, stretch, n_step);
            p.ahead = &ahead;
            tile(&p, &m->s.xq, 0, j->n_tok, sums);
            if (j->twice && quantised)
                tile(&p, &m->s.xq, j->n_tok, j->n_tok, s->sums + (size_t)i * panel_sums);
        }
    }
    size_t n_out = (size_t)gm_tensor_rows(w);
    float *out = (float *)j->op->out[mat]->data + (size_t)j->tok0 * n_out + row;
    copy_sums(s->sums, j->n_tok, n_row, out, n_out);
}

static void compute_pieces(void *ud, int begin, int end, int thread) {
    const job *j = ud;
    for (int i = begin, next; i < end; i = next) {
        if (gm_cancelled(j->cancel)) return;
        int mat = j->op->n_mat - 1;
        while (mat > 0 && i < j->first[mat]) mat--;
        next = mat + 1 < j->op->n_mat && j->first[mat + 1] < end ? j->first[mat + 1] : end;
        int n_out = (int)gm_tensor_rows(j->op->w[mat]);
        int row = (i - j->first[mat]) * j->rows[mat], n_row = (next - i) * j->rows[mat];
        if (n_row > n_out - row) n_row = n_out - row;
        if (j->tiles) compute_tiles(j, mat, row, n_row, &j->m->s.threads[thread]);
        else compute_rows(j, mat, row, n_row, &j->m->s.threads[thread]);
    }
}

/* Several pieces per thread, so that the last ones finish together; but the more panels a piece
 * has, the fewer times x comes from far away. */
static int rows_of_tiles(const job *j) {
    int64_t rows = 0;
    for (int i = 0; i < j->op->n_mat; i++) rows += gm_tensor_rows(j->op->w[i]);
    int64_t panels = rows / (GM_TILE_ROWS * 8 * (int64_t)gm_team_size(j->m->team));
    panels = panels < 1 ? 1 : panels > MAX_PANELS ? MAX_PANELS : panels;
    return (int)panels * GM_TILE_ROWS;
}

/* Returns the number of pieces. */
static int cut(job *j) {
    int n = 0;
    for (int i = 0; i < j->op->n_mat; i++) {
        const gm_tensor *w = j->op->w[i];
        int rows = j->tiles ? rows_of_tiles(j) : (int)(PIECE_BYTES / w->row_bytes);
        if (j->twice && !j->tiles && rows > FINE_ROWS) rows = FINE_ROWS;
        j->rows[i] = rows < 4 ? 4 : rows;
        j->first[i] = n;
        n += (int)((gm_tensor_rows(w) + j->rows[i] - 1) / j->rows[i]);
    }
    return n;
}

/* Pieces that a thread takes at once. In products of a few tokens they are one stream of memory:
 * what was called for ahead of time at the end of one is used in the next. Where a piece is read
 * more than once it must stay in the cache of its core, and one of tiles is work enough. */
static int most_pieces(const job *j) {
    return j->tiles || j->twice || j->n_tok > GM_DOT_TOK ? 1 : 16;
}

static bool any_quantised(const gm_op_matmul *op) {
    for (int i = 0; i < op->n_mat; i++)
        if (is_quantised(op->w[i])) return true;
    return false;
}

static bool all_exact(const gm_matmul_ctx *m, const gm_op_matmul *op) {
    for (int i = 0; i < op->n_mat; i++)
        if (is_quantised(op->w[i]) && !m->dot.exact[op->w[i]->dtype]) return false;
    return true;
}

/* The tokens from which on tiles are faster, for one of the matrices at least. */
static int min_tok(const gm_matmul_ctx *m, const gm_op_matmul *op) {
    int n = GM_XQ_FEW + 1;
    for (int i = 0; i < op->n_mat; i++)
        if (m->tile.min_tok[op->w[i]->dtype] < n) n = m->tile.min_tok[op->w[i]->dtype];
    return n;
}

/* The orders of activations that the op's matrices want, each once. */
static gm_xq_few orders_for(const gm_matmul_ctx *m, const gm_op_matmul *op) {
    gm_xq_few few = m->s.few;
    for (int i = 0; i < op->n_mat; i++) {
        const gm_xq_fn fill = m->dot.fill_few[op->w[i]->dtype];
        int n = 0;
        while (n < GM_XQ_ORDERS && few.fill[n] && few.fill[n] != fill) n++;
        if (n < GM_XQ_ORDERS) few.fill[n] = fill;
    }
    return few;
}

static int run_tokens(gm_matmul_ctx *m, const gm_op_matmul *op, int32_t tok0, int32_t n_tok,
                      const gm_cancel *cancel) {
    gm_xq *x = &m->s.xq;
    const bool quantised = any_quantised(op), fine = m->fine && quantised;
    x->n_tok = fine ? 2 * n_tok : n_tok;
    x->n_in = (int32_t)op->w[0]->ne[0];
    x->n_pad = round_up(x->n_in, GM_XQ_PAD);

    job j = {.m = m, .op = op, .cancel = cancel, .tok0 = tok0, .n_tok = n_tok};
    j.tiles = x->n_tok > GM_XQ_FEW || n_tok >= min_tok(m, op);
    j.bf16 = j.tiles && m->tile.tile_bf16 && n_tok >= m->tile.min_bf16;
    x->few = j.tiles ? (gm_xq_few){0} : orders_for(m, op);
    j.exact = fine && !j.tiles && all_exact(m, op);
    j.twice = fine && !j.exact;
    x->x = j.twice ? m->s.fine_x : (const float *)op->x->data + (size_t)tok0 * (size_t)x->n_in;
    x->tile_tok = j.tiles && !j.bf16 ? gm_tile_width(&m->tile, n_tok) : 0;
    if (quantised && !j.exact)
        gm_team_run(m->team, quantise, &j, (n_tok + item_tok(x) - 1) / item_tok(x), 1, 1);
    gm_team_run(m->team, compute_pieces, &j, cut(&j), 1, most_pieces(&j));
    return gm_cancelled(cancel) ? GM_ECANCELLED : GM_OK;
}

int gm_matmul_run(gm_matmul_ctx *m, const gm_op_matmul *op, const gm_cancel *cancel) {
    if (op->n_mat < 1 || op->n_mat > GM_MATMUL_MAX) return GM_EINVAL;
    if (op->w[0]->ne[0] > m->s.max_in || m->s.max_tok < 1) return GM_EINVAL;
    for (int32_t t = 0; t < op->n_tok; t += m->s.max_tok) {
        int32_t n = op->n_tok - t < m->s.max_tok ? op->n_tok - t : m->s.max_tok;
        int rc = run_tokens(m, op, t, n, cancel);
        if (rc != GM_OK) return rc;
    }
    return GM_OK;
}
