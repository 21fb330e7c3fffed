/* dot_rows.h: the loops over rows, tokens and steps of a row that the vector kernels of decode
 * share (dot_ymm.h, dot_zmm.h, dot_neon.h).
 *
 * Included after INLINE, `vec`, `vec_zero` and `store_sums` are defined, and
 *
 *     AT_ONCE       the number of rows that are computed together
 *     TOGETHER_TOK  for so many tokens at most; with more a row is computed for itself
 *     IN_STRETCHES  1: activations too long for the first-level cache are taken a stretch at a time
 */
#pragma once

enum { MAX_TOK = GM_DOT_TOK };

_Static_assert(!IN_STRETCHES || (int)TOGETHER_TOK == (int)MAX_TOK,
               "a stretch is always of AT_ONCE rows");

INLINE void prefetch(const uint8_t *p, ptrdiff_t ahead, int bytes) {
#pragma GCC unroll 16
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + ahead + i);
}

/* 256 elements as gm_unpack_fn leaves them. */
typedef struct {
    uint8_t q[256];
    float scale[16], min[16];
} unpacked;

typedef struct {
    const gm_xq *x;
    int tok;
} tokens;

/* Element e of token t in an array of activations. */
INLINE size_t at(const tokens *k, int t, int e) {
    return (size_t)(k->tok + t) * (size_t)k->x->n_pad + (size_t)e;
}

/* Elements begin .. end - 1 of some rows: `begin` is a multiple of GM_XQ_PAD, `end` too or the
 * rows' own. */
typedef struct {
    int begin, end;
    ptrdiff_t ahead; /* bytes from what is computed to what is called for */
} stretch;

/* What the steps of some rows have in common. STEP reads BYTES bytes at w (and, for the other rows,
 * at multiples of `stride` from there) for ELEMS elements from e on, or half as many of both if
 * `halved` is set, which is never unless HALVES. The last step of a row that is no multiple goes on
 * into the next row, whose blocks meet activations of zero. Behind the last row of a piece there
 * may be nothing to read: what is left of the rows is copied to steps of zeros. The sums are its
 * own meanwhile: those of the caller would be stored at every step, since for all that the compiler
 * knows they are among what is loaded. */
#define ROWS_BY_STEP(NAME, BYTES, ELEMS, HALVES, STEP)                                             \
    INLINE void row_##NAME(const gm_dot_args *a, int r, const int rows, int apart, stretch s,      \
                           const int n, vec(*to)[MAX_TOK]) {                                       \
        vec sum[AT_ONCE][MAX_TOK];                                                                 \
        for (int i = 0; i < rows; i++)                                                             \
            for (int t = 0; t < n; t++) sum[i][t] = to[i][t];                                      \
        const tokens k = {a->x, a->tok};                                                           \
        const uint8_t *w = a->w + (size_t)r * a->row_bytes + s.begin / (ELEMS) * (BYTES);          \
        size_t stride = (size_t)apart * a->row_bytes;                                              \
        int e = s.begin;                                                                           \
        for (; e + (ELEMS) <= s.end; e += (ELEMS), w += (BYTES)) {                                 \
            enum { halved = 0 };                                                                   \
            _Pragma("GCC unroll 2") for (int i = 0; i < rows; i++)                                 \
                prefetch(w + (size_t)i * stride, s.ahead, BYTES);                                  \
            STEP;                                                                                  \
        }                                                                                          \
        if (e < s.end) {                                                                           \
            uint8_t last[AT_ONCE][BYTES];                                                          \
            const bool rest_is_half = (HALVES) && s.end - e <= (ELEMS) / 2;                        \
            const uint8_t *end = a->w + (size_t)a->n_row * a->row_bytes;                           \
            const size_t left = (size_t)(end - w) - (size_t)(rows - 1) * stride;                   \
            _Pragma("GCC unroll 2") for (int i = 0; i < rows; i++)                                 \
                prefetch(w + (size_t)i * stride, s.ahead, (BYTES) / 2);                            \
            if (left < (rest_is_half ? (BYTES) / 2 : (BYTES))) {                                   \
                memset(last, 0, sizeof last);                                                      \
                for (int i = 0; i < rows; i++) memcpy(last[i], w + (size_t)i * stride, left);      \
                w = last[0];                                                                       \
                stride = (BYTES);                                                                  \
            }                                                                                      \
            if (rest_is_half) {                                                                    \
                enum { halved = (HALVES) };                                                        \
                STEP;                                                                              \
            } else {                                                                               \
                enum { halved = 0 };                                                               \
                STEP;                                                                              \
            }                                                                                      \
        }                                                                                          \
        for (int i = 0; i < rows; i++)                                                             \
            for (int t = 0; t < n; t++) to[i][t] = sum[i][t];                                      \
    }
#define ROWS_TOGETHER(NAME, BYTES, ELEMS, STEP) ROWS_BY_STEP(NAME, BYTES, ELEMS, 0, STEP)
#define ROWS_TOGETHER_OR_HALF(NAME, BYTES, ELEMS, STEP) ROWS_BY_STEP(NAME, BYTES, ELEMS, 1, STEP)

/* The same where STEP is of one row, at w, for sum[]. */
#define ROW_BY_STEP(NAME, BYTES, ELEMS, HALVES, STEP)                                              \
    INLINE void step_of_##NAME(const uint8_t *w, const bool halved, const tokens *k, int e,        \
                               const int n, vec sum[MAX_TOK]) {                                    \
        (void)halved;                                                                              \
        STEP;                                                                                      \
    }                                                                                              \
    ROWS_BY_STEP(NAME, BYTES, ELEMS, HALVES,                                                       \
                 _Pragma("GCC unroll 2") for (int i = 0; i < rows; i++)                            \
                     step_of_##NAME(w + (size_t)i * stride, halved, &k, e, n, sum[i]))
#define ROW(NAME, BYTES, ELEMS, STEP) ROW_BY_STEP(NAME, BYTES, ELEMS, 0, STEP)
#define ROW_OR_HALF(NAME, BYTES, ELEMS, STEP) ROW_BY_STEP(NAME, BYTES, ELEMS, 1, STEP)

/* A row of any quantised format by way of a buffer; for those who have step_unpacked. */
#define ROW_ANY                                                                                    \
    INLINE void row_any(const gm_dot_args *a, int r, const int rows, int apart, stretch s,         \
                        const int n, vec(*sum)[MAX_TOK]) {                                         \
        const tokens k = {a->x, a->tok};                                                           \
        const gm_unpack_info *info = gm_unpack_info_get(a->dtype);                                 \
        unpacked u;                                                                                \
        for (int e = s.begin; e < s.end; e += 256) {                                               \
            const int left = s.end - e < 256 ? s.end - e : 256;                                    \
            for (int i = 0; i < rows; i++) {                                                       \
                const uint8_t *w = a->w + (size_t)(r + i * apart) * a->row_bytes;                  \
                if (left < 256) memset(&u, 0, sizeof u);                                           \
                a->unpack(w, e, left, u.q, u.scale, u.min);                                        \
                step_unpacked(&u, info, &k, e, n, sum[i]);                                         \
            }                                                                                      \
        }                                                                                          \
    }

/* Rows of which a stretch is computed before the next one is. */
enum { GROUP = 8 };

/* Bytes of activations that stay in the first-level cache beside the weights on their way through
 * it. */
enum { X_BYTES = 24 * 1024 };

/* Length of the stretches: all of a row unless the activations are too long for the cache. (Those
 * of one token are taken as they come: it waits for memory anyway, which likes rows in one
 * piece.) */
INLINE int stretch_length(const gm_xq *x, const int n) {
    const int parts = (n * x->n_in + X_BYTES - 1) / X_BYTES;
    const int even = (x->n_in + parts - 1) / parts;
    return (even + GM_XQ_PAD - 1) / GM_XQ_PAD * GM_XQ_PAD;
}

/* The stretch from `begin` on of row i of a group of m. What is called for are weights of the same
 * rows or, if rows are cut, of the same stretch some rows on or, behind the group's last row, of
 * the next one. */
INLINE stretch stretch_at(const gm_dot_args *a, int begin, int length, int i, int m) {
    const int n_in = a->x->n_in, end = n_in - begin < length ? n_in : begin + length;
    const ptrdiff_t row = (ptrdiff_t)a->row_bytes, bytes = row * length / n_in;
    const int rows_on = (int)(a->ahead / bytes) + 1;
    ptrdiff_t ahead = row * rows_on;
    if (i + rows_on >= m) ahead += end < n_in ? bytes - m * row : -(row * begin / n_in);
    return (stretch){begin, end, ahead};
}

/* The sums over lanes of some rows, of n tokens each: four at once as long as they fit. */
INLINE void store_rows(vec (*sum)[MAX_TOK], const int rows, const int n, float *out, int apart,
                       size_t token) {
    const int once = MAX_TOK / n;
#pragma GCC unroll 2
    for (int first = 0; first < rows; first += once) {
        const int end = first + once < rows ? first + once : rows;
        vec v[MAX_TOK];
        float *to[MAX_TOK];
        int m = 0;
#pragma GCC unroll 2
        for (int i = first; i < end; i++)
#pragma GCC unroll 4
            for (int t = 0; t < n; t++, m++) {
                v[m] = sum[i][t];
                to[m] = out + i * apart + (size_t)t * token;
            }
        store_sums(v, m, to);
    }
}

/* Rows that are computed together lie far apart, so that each is a stream of memory which the
 * hardware can follow: two of them read a seventh faster than one (Zen 3, Zen 5; four no faster
 * than two), and neighbours a seventh more slowly. */
#define ROWS_N(NAME, N)                                                                            \
    /* Not in line: registers are scarce, and the loop over whole rows would lose some to this     \
     * one. */                                                                                     \
    static __attribute__((noinline)) void cut_##NAME##_##N(const gm_dot_args *a, int apart,        \
                                                           int length) {                           \
        for (int r = 0, m; r < apart; r += m) {                                                    \
            vec sum[GROUP][AT_ONCE][MAX_TOK];                                                      \
            m = apart - r < GROUP ? apart - r : GROUP;                                             \
            for (int i = 0; i < m; i++)                                                            \
                for (int j = 0; j < AT_ONCE; j++)                                                  \
                    for (int t = 0; t < (N); t++) sum[i][j][t] = vec_zero();                       \
            for (int e = 0; e < a->x->n_in; e += length)                                           \
                for (int i = 0; i < m; i++)                                                        \
                    row_##NAME(a, r + i, AT_ONCE, apart, stretch_at(a, e, length, i, m), N,        \
                               sum[i]);                                                            \
            for (int i = 0; i < m; i++)                                                            \
                store_rows(sum[i], AT_ONCE, N, a->out + r + i, apart, a->out_stride);              \
        }                                                                                          \
    }                                                                                              \
    INLINE void whole_##NAME##_##N(const gm_dot_args *a, int r, const int rows, int apart) {       \
        vec sum[AT_ONCE][MAX_TOK];                                                                 \
        for (int j = 0; j < rows; j++)                                                             \
            for (int t = 0; t < (N); t++) sum[j][t] = vec_zero();                                  \
        row_##NAME(a, r, rows, apart, (stretch){0, a->x->n_in, a->ahead}, N, sum);                 \
        store_rows(sum, rows, N, a->out + r, apart, a->out_stride);                                \
    }                                                                                              \
    static void rows_##NAME##_##N(const gm_dot_args *a) {                                          \
        const int once = (N) <= TOGETHER_TOK ? AT_ONCE : 1, apart = a->n_row / once;               \
        const int length = stretch_length(a->x, N);                                                \
        if (IN_STRETCHES && (N) > 1 && length < a->x->n_in) cut_##NAME##_##N(a, apart, length);    \
        else                                                                                       \
            for (int r = 0; r < apart; r++) whole_##NAME##_##N(a, r, once, apart);                 \
        for (int r = apart * once; r < a->n_row; r++) whole_##NAME##_##N(a, r, 1, 1);              \
    }

#define DOT(NAME)                                                                                  \
    ROWS_N(NAME, 1)                                                                                \
    ROWS_N(NAME, 2)                                                                                \
    ROWS_N(NAME, 3)                                                                                \
    ROWS_N(NAME, 4)                                                                                \
    static void dot_##NAME(const gm_dot_args *a) {                                                 \
        switch (a->n_tok) {                                                                        \
        case 1: rows_##NAME##_1(a); break;                                                         \
        case 2: rows_##NAME##_2(a); break;                                                         \
        case 3: rows_##NAME##_3(a); break;                                                         \
        default: rows_##NAME##_4(a); break;                                                        \
        }                                                                                          \
    }

/* The same for float formats, by rows_float(args, type, tokens). */
#define DOT_FLOAT(NAME, TYPE)                                                                      \
    static void dot_##NAME(const gm_dot_args *a) {                                                 \
        switch (a->n_tok) {                                                                        \
        case 1: rows_float(a, TYPE, 1); break;                                                     \
        case 2: rows_float(a, TYPE, 2); break;                                                     \
        case 3: rows_float(a, TYPE, 3); break;                                                     \
        default: rows_float(a, TYPE, 4); break;                                                    \
        }                                                                                          \
    }
