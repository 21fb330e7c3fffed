/* sampler.c: greedy and random choice over a row of logits.
 *
 * The vocabulary has a quarter of a million entries and a handful of them matter, so everything
 * that touches all logits is a plain loop over blocks that compilers vectorise, and only what
 * passes a threshold is looked at one by one.
 */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum {
    BLOCK = 16,      /* floats per step of the wide loops: one 512-bit register */
    SUM_BLOCKS = 64, /* blocks that are summed up in float32 */
    DEFAULT_REPEAT_LAST = 64,
    MAX_REPEAT_LAST = 1 << 16,
    FIRST_TOP_P = 1024 /* candidates sorted before top-p falls back to sorting everything */
};

typedef struct {
    float logit;
    int32_t id;
} candidate;

struct gm_sampler {
    gm_sampler_opts o;
    int32_t n_vocab;
    uint64_t random;
    candidate *cand; /* [n_vocab] scratch */
    int32_t *recent; /* [repeat_last] ring; NULL when there is no penalty */
    size_t n_recent; /* accepted in all */
    uint32_t *seen;  /* one bit per token: penalised already in this pick */
};

static bool penalty_on(const gm_sampler_opts *o) {
    return o->repeat_penalty > 0.0f && o->repeat_penalty != 1.0f;
}

int gm_sampler_create(gm_sampler **out, const gm_sampler_opts *opts, int32_t n_vocab) {
    *out = NULL;
    if (n_vocab <= 0) return GM_EINVAL;
    gm_sampler *s = gm_calloc(1, sizeof *s);
    if (!s) return GM_ENOMEM;
    s->o = *opts;
    s->n_vocab = n_vocab;
    s->random = opts->seed;
    if (s->o.repeat_last <= 0) s->o.repeat_last = DEFAULT_REPEAT_LAST;
    if (s->o.repeat_last > MAX_REPEAT_LAST) s->o.repeat_last = MAX_REPEAT_LAST;
    s->cand = gm_malloc((size_t)n_vocab, sizeof *s->cand);
    bool ok = s->cand != NULL;
    if (ok && penalty_on(&s->o)) {
        s->recent = gm_malloc((size_t)s->o.repeat_last, sizeof *s->recent);
        s->seen = gm_calloc(((size_t)n_vocab + 31) / 32, sizeof *s->seen);
        ok = s->recent && s->seen;
    }
    if (!ok) {
        gm_sampler_destroy(&s);
        return GM_ENOMEM;
    }
    *out = s;
    return GM_OK;
}

void gm_sampler_destroy(gm_sampler **sp) {
    if (!sp || !*sp) return;
    gm_free((*sp)->cand);
    gm_free((*sp)->recent);
    gm_free((*sp)->seen);
    gm_free(*sp);
    *sp = NULL;
}

void gm_sampler_accept(gm_sampler *s, int32_t id) {
    if (!s->recent || id < 0 || id >= s->n_vocab) return;
    s->recent[s->n_recent++ % (size_t)s->o.repeat_last] = id;
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): every
 * seed, zero included, starts a good sequence, which a table of seeds from Lua needs. */
static uint64_t next_random(gm_sampler *s) {
    uint64_t z = s->random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* In [0, 1). */
static double next_unit(gm_sampler *s) { return (double)(next_random(s) >> 11) * 0x1.0p-53; }

/* NaN becomes the lowest and infinity a finite highest, so that later arithmetic stays finite. */
static void make_comparable(float *x, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        float v = x[i] == x[i] ? x[i] : -INFINITY;
        x[i] = v < FLT_MAX ? v : FLT_MAX;
    }
}

static float block_max(const float *x) {
    float m[BLOCK / 2];
    for (int i = 0; i < BLOCK / 2; i++) m[i] = x[i] > x[i + BLOCK / 2] ? x[i] : x[i + BLOCK / 2];
    for (int w = BLOCK / 4; w > 0; w /= 2)
        for (int i = 0; i < w; i++) m[i] = m[i] > m[i + w] ? m[i] : m[i + w];
    return m[0];
}

static float max_of(const float *x, int32_t n) {
    float lane[BLOCK];
    for (int j = 0; j < BLOCK; j++) lane[j] = -INFINITY;
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int j = 0; j < BLOCK; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    float m = block_max(lane);
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* e^x for x <= 0 to about 2e-7, without a library call so that the loop around it vectorises:
 * x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r, and n added to the exponent bits. */
static inline float exp_negative(float x) {
    x = x > -87.0f ? x : -87.0f;
    float n = x * 1.44269504f - 0.5f;
    int32_t k = (int32_t)n; /* rounds to nearest, because n is negative and shifted by a half */
    float r = x - (float)k * 0.693359375f + (float)k * 2.12194440e-4f;
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = (k + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* sum of e^(x - max). Float32 for short stretches only, so that all of a quarter of a million
 * values lose at most 4e-6 of the sum: gm_sampler_pick_top counts on SUM_ERROR. */
static double sum_exp(const float *x, int32_t n, float max) {
    double sum = 0.0;
    int32_t i = 0;
    while (i + BLOCK <= n) {
        float lane[BLOCK] = {0};
        for (int k = 0; k < SUM_BLOCKS && i + BLOCK <= n; k++, i += BLOCK)
            for (int j = 0; j < BLOCK; j++) lane[j] += exp_negative(x[i + j] - max);
        for (int j = 0; j < BLOCK; j++) sum += lane[j];
    }
    for (; i < n; i++) sum += exp_negative(x[i] - max);
    return sum;
}

static bool bit_set(const uint32_t *bits, int32_t id) { return (bits[id / 32] >> (id % 32)) & 1u; }

static bool is_suppressed(const int32_t *suppressed, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (suppressed[i] == id) return true;
    return false;
}

static bool mask_has_candidate(const uint32_t *mask, int32_t n, const int32_t *suppressed,
                               size_t n_suppressed) {
    for (int32_t w = 0; w * 32 < n; w++) {
        if (mask[w] == 0) continue;
        for (int32_t id = w * 32; id < n && id < (w + 1) * 32; id++)
            if (bit_set(mask, id) && !is_suppressed(suppressed, n_suppressed, id)) return true;
    }
    return false;
}

static void apply_mask(float *x, int32_t n, const uint32_t *mask) {
    for (int32_t i = 0; i < n; i++)
        if (!bit_set(mask, i)) x[i] = -INFINITY;
}

/* Tokens that the penalty looks back at. */
static size_t count_recent(const gm_sampler *s) {
    size_t size = (size_t)s->o.repeat_last;
    return !s->recent ? 0 : s->n_recent < size ? s->n_recent : size;
}

static float penalised(const gm_sampler *s, float logit) {
    return logit > 0.0f ? logit / s->o.repeat_penalty : logit * s->o.repeat_penalty;
}

static void forget_seen(gm_sampler *s) {
    for (size_t i = 0; i < count_recent(s); i++) s->seen[s->recent[i] / 32] = 0;
}

/* Each token that occurs in the last repeat_last is punished once, however often it occurs. */
static void apply_penalty(gm_sampler *s, float *x, int32_t n) {
    if (!s->recent) return;
    for (size_t i = 0; i < count_recent(s); i++) {
        int32_t id = s->recent[i];
        if (id >= n || bit_set(s->seen, id)) continue;
        s->seen[id / 32] |= 1u << (id % 32);
        x[id] = penalised(s, x[id]);
    }
    forget_seen(s);
    make_comparable(x, n);
}

/* What the logit of id was before apply_penalty. */
static float unpenalised(const gm_sampler *s, float logit, int32_t id) {
    for (size_t i = 0; i < count_recent(s); i++)
        if (s->recent[i] == id)
            return logit > 0.0f ? logit * s->o.repeat_penalty : logit / s->o.repeat_penalty;
    return logit;
}

/* Order of candidates everywhere: higher logit first, lower id on a tie. */
static bool before(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* A heap whose root is the candidate that comes last. */
static void sift_down(candidate *c, size_t n, size_t i) {
    for (;;) {
        size_t worst = i, l = 2 * i + 1, r = l + 1;
        if (l < n && before(c[worst], c[l])) worst = l;
        if (r < n && before(c[worst], c[r])) worst = r;
        if (worst == i) return;
        candidate t = c[i];
        c[i] = c[worst];
        c[worst] = t;
        i = worst;
    }
}

/* Heap sort, because it needs no memory and has no bad inputs; the heap exists already. */
static void sort_heap(candidate *c, size_t n) {
    while (n > 1) {
        candidate t = c[0];
        c[0] = c[--n];
        c[n] = t;
        sift_down(c, n, 0);
    }
}

/* The k best finite logits of x in order; returns how many there are. Nearly all blocks are
 * passed over after one comparison with the worst candidate kept so far. */
static size_t select_top(candidate *c, size_t k, const float *x, int32_t n) {
    size_t kept = 0;
    for (int32_t i = 0; i < n; i += BLOCK) {
        int32_t end = n - i < BLOCK ? n : i + BLOCK;
        if (kept == k && end - i == BLOCK && !(block_max(x + i) > c[0].logit)) continue;
        for (int32_t j = i; j < end; j++) {
            if (x[j] == -INFINITY) continue;
            candidate v = {x[j], j};
            if (kept < k) {
                c[kept++] = v;
                if (kept == k)
                    for (size_t h = k / 2 + 1; h-- > 0;) sift_down(c, k, h);
            } else if (before(v, c[0])) {
                c[0] = v;
                sift_down(c, k, 0);
            }
        }
    }
    if (kept < k)
        for (size_t h = kept / 2 + 1; h-- > 0;) sift_down(c, kept, h);
    sort_heap(c, kept);
    return kept;
}

static size_t select_all(candidate *c, const float *x, int32_t n, float lowest) {
    size_t kept = 0;
    for (int32_t i = 0; i < n; i += BLOCK) {
        int32_t end = n - i < BLOCK ? n : i + BLOCK;
        if (end - i == BLOCK && block_max(x + i) < lowest) continue;
        for (int32_t j = i; j < end; j++)
            if (x[j] >= lowest && x[j] != -INFINITY) c[kept++] = (candidate){x[j], j};
    }
    return kept;
}

/* How many of the sorted candidates are needed to reach the share p of total; n + 1 when they
 * do not reach it. */
static size_t count_top_p(const candidate *c, size_t n, double total, double p, float max) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += exp_negative(c[i].logit - max);
        if (sum >= p * total) return i + 1;
    }
    return n + 1;
}

static size_t apply_top_p(gm_sampler *s, size_t n, float max) {
    double total = 0.0;
    for (size_t i = 0; i < n; i++) total += exp_negative(s->cand[i].logit - max);
    size_t need = count_top_p(s->cand, n, total, s->o.top_p, max);
    return need < n ? need : n;
}

/* top-p without top-k: the share is one of the whole row, which a thousand tokens nearly always
 * hold; only when they do not, everything is sorted. */
static size_t select_top_p(gm_sampler *s, const float *x, int32_t n, float max) {
    double total = sum_exp(x, n, max);
    size_t k = n < FIRST_TOP_P ? (size_t)n : FIRST_TOP_P;
    size_t kept = select_top(s->cand, k, x, n);
    size_t need = count_top_p(s->cand, kept, total, s->o.top_p, max);
    if (need <= kept) return need;
    kept = select_top(s->cand, (size_t)n, x, n);
    need = count_top_p(s->cand, kept, total, s->o.top_p, max);
    return need < kept ? need : kept;
}

static bool top_p_on(const gm_sampler_opts *o) { return o->top_p > 0.0f && o->top_p < 1.0f; }

/* What min-p leaves. */
static float lowest_kept(const gm_sampler *s, float max) {
    return s->o.min_p > 0.0f ? max + logf(s->o.min_p < 1.0f ? s->o.min_p : 1.0f) : -FLT_MAX;
}

static size_t select_candidates(gm_sampler *s, const float *x, int32_t n, float max) {
    bool top_p = top_p_on(&s->o);
    float lowest = lowest_kept(s, max);
    size_t kept;
    if (s->o.top_k > 0) {
        kept = select_top(s->cand, (size_t)(s->o.top_k < n ? s->o.top_k : n), x, n);
        if (top_p) kept = apply_top_p(s, kept, max);
    } else if (top_p) {
        kept = select_top_p(s, x, n, max);
    } else {
        return select_all(s->cand, x, n, lowest);
    }
    while (kept > 1 && s->cand[kept - 1].logit < lowest) kept--;
    return kept;
}

/* Which of the first n candidates. */
static size_t draw(gm_sampler *s, size_t n, float max) {
    float scale = 1.0f / s->o.temperature;
    if (scale > FLT_MAX) scale = FLT_MAX; /* a temperature too small to divide by */
    double total = 0.0;
    for (size_t i = 0; i < n; i++) total += exp_negative((s->cand[i].logit - max) * scale);
    double r = next_unit(s) * total;
    for (size_t i = 0; i < n; i++) {
        r -= exp_negative((s->cand[i].logit - max) * scale);
        if (r < 0.0) return i;
    }
    return n - 1; /* rounding used the sum up */
}

/* Nothing has a finite logit: still never a suppressed token. */
static int32_t first_allowed(int32_t n, const int32_t *suppressed, size_t n_suppressed) {
    for (int32_t i = 0; i < n; i++)
        if (!is_suppressed(suppressed, n_suppressed, i)) return i;
    return -1;
}

static int32_t first_equal(const float *x, int32_t n, float v) {
    for (int32_t i = 0; i < n; i++)
        if (x[i] == v) return i;
    return -1;
}

int32_t gm_sampler_pick(gm_sampler *s, float *logits, int32_t n_vocab, const int32_t *suppressed,
                        size_t n_suppressed, const uint32_t *mask, float *logprob) {
    int32_t n = n_vocab < s->n_vocab ? n_vocab : s->n_vocab;
    make_comparable(logits, n);
    float raw_max = max_of(logits, n);
    double raw_sum = logprob ? sum_exp(logits, n, raw_max) : 1.0;

    if (mask && mask_has_candidate(mask, n, suppressed, n_suppressed)) apply_mask(logits, n, mask);
    for (size_t i = 0; i < n_suppressed; i++)
        if (suppressed[i] >= 0 && suppressed[i] < n) logits[suppressed[i]] = -INFINITY;

    apply_penalty(s, logits, n);
    float max = max_of(logits, n);
    if (max == -INFINITY) {
        if (logprob) *logprob = -INFINITY;
        return first_allowed(n, suppressed, n_suppressed);
    }
    int32_t id;
    if (!(s->o.temperature > 0.0f)) id = first_equal(logits, n, max);
    else id = s->cand[draw(s, select_candidates(s, logits, n, max), max)].id;
    if (logprob) *logprob = unpenalised(s, logits[id], id) - raw_max - (float)log(raw_sum);
    return id;
}

/* ---- from the best of a row -------------------------------------------------------------------
 *
 * What is not listed has a logit below top->bound, and suppression, mask and penalty only take away
 * from logits. So those of the listed that are at the bound or above it afterwards are the best of
 * the whole row, in their order; the others of the list are not used. All else follows from how
 * many of these "sure" candidates a filter looks at:
 *
 *     greedy     1
 *     top-k      k of them
 *     top-p      up to its share of the sum over the row, which the device gives before
 *                suppression and penalty and not to the last bit: decided only where no sum
 *                within the error says otherwise
 *     min-p      all above its threshold, which must not be below the bound
 */

/* The sum of a row as the device gives it against that of sum_exp over the same row. */
static const double SUM_ERROR = GM_TOP_SUM_ERROR + 1e-5;

bool gm_sampler_takes_top(const gm_sampler *s) {
    const gm_sampler_opts *o = &s->o;
    bool lifts = s->recent && o->repeat_penalty < 1.0f; /* anybody, from anywhere */
    return !lifts && (!(o->temperature > 0.0f) || o->top_k > 0 || top_p_on(o) || o->min_p > 0.0f);
}

/* The sure candidates in order. *taken: how much of the sum of e^(logit - top->max) suppression and
 * penalty took from the listed. */
static size_t sure_candidates(gm_sampler *s, const gm_top *top, const int32_t *suppressed,
                              size_t n_suppressed, const uint32_t *mask, double *taken) {
    size_t n = 0;
    *taken = 0.0;
    for (size_t i = 0; i < count_recent(s); i++)
        s->seen[s->recent[i] / 32] |= 1u << (s->recent[i] % 32);
    for (int32_t i = 0; i < top->n; i++) {
        candidate c = {top->entry[i].logit, top->entry[i].id};
        float before_all = c.logit;
        if (c.id < 0 || c.id >= s->n_vocab || (mask && !bit_set(mask, c.id))) continue;
        if (is_suppressed(suppressed, n_suppressed, c.id)) c.logit = -INFINITY;
        else if (s->recent && bit_set(s->seen, c.id)) c.logit = penalised(s, c.logit);
        if (c.logit != before_all)
            *taken += exp((double)before_all - (double)top->max) -
                      exp((double)c.logit - (double)top->max);
        if (c.logit >= top->bound && c.logit > -INFINITY) s->cand[n++] = c;
    }
    forget_seen(s);
    for (size_t h = n / 2 + 1; h-- > 0;) sift_down(s->cand, n, h);
    sort_heap(s->cand, n);
    return n;
}

/* How many of the n sure candidates top-p keeps of the whole row; 0: they do not tell. hidden: ids
 * that may have been taken away without being listed. */
static size_t sure_top_p(const gm_sampler *s, const gm_top *top, size_t n, double taken,
                         size_t hidden) {
    const float max = s->cand[0].logit;
    const double to_max = exp((double)top->max - (double)max), sum = (double)top->sum;
    const double unlisted = (double)hidden * exp((double)top->bound - (double)max);
    const double error = SUM_ERROR * sum * to_max;
    const double high = (sum - taken) * to_max + error, low = high - 2 * error - unlisted;
    if (!(low > 0.0 && high < HUGE_VAL)) return 0;
    const size_t least = count_top_p(s->cand, n, low, s->o.top_p, max);
    const size_t most = count_top_p(s->cand, n, high, s->o.top_p, max);
    return least == most && most <= n ? most : 0;
}

/* select_all goes by id, and so the draw does. Few, nearly always. */
static void sort_by_id(candidate *c, size_t n) {
    for (size_t i = 1; i < n; i++) {
        candidate v = c[i];
        size_t k = i;
        for (; k > 0 && c[k - 1].id > v.id; k--) c[k] = c[k - 1];
        c[k] = v;
    }
}

/* select_candidates from n sure ones; 0: they are too few. */
static size_t select_sure(gm_sampler *s, const gm_top *top, size_t n, double taken, size_t hidden,
                          bool masked) {
    const float max = s->cand[0].logit, lowest = lowest_kept(s, max);
    const bool whole = top->bound == -INFINITY, top_p = top_p_on(&s->o);
    size_t kept = n;
    if (s->o.top_k > 0) {
        if ((size_t)s->o.top_k < n) kept = (size_t)s->o.top_k;
        else if ((size_t)s->o.top_k > n && !whole && (top_p || lowest < top->bound)) return 0;
        if (top_p) kept = apply_top_p(s, kept, max);
    } else if (top_p) {
        kept = masked ? 0 : sure_top_p(s, top, n, taken, hidden);
    } else if (!whole && lowest < top->bound) {
        return 0;
    }
    while (kept > 1 && s->cand[kept - 1].logit < lowest) kept--;
    if (s->o.top_k <= 0 && !top_p) sort_by_id(s->cand, kept);
    return kept;
}

bool gm_sampler_pick_top(gm_sampler *s, const gm_top *top, int32_t n_vocab,
                         const int32_t *suppressed, size_t n_suppressed, const uint32_t *mask,
                         int32_t *id, float *logprob) {
    if (!gm_sampler_takes_top(s) || n_vocab != top->n_row || s->n_vocab != n_vocab || top->n < 1 ||
        top->n > n_vocab)
        return false;
    double taken;
    size_t n = sure_candidates(s, top, suppressed, n_suppressed, mask, &taken), at = 0;
    if (n == 0) return false;
    const float max = s->cand[0].logit;
    if (s->o.temperature > 0.0f) {
        n = select_sure(s, top, n, taken, n_suppressed + count_recent(s), mask != NULL);
        if (n == 0) return false;
        at = draw(s, n, max);
    }
    *id = s->cand[at].id;
    if (logprob)
        *logprob = unpenalised(s, s->cand[at].logit, *id) - top->max - (float)log((double)top->sum);
    return true;
}
