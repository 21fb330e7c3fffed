/* inflate.c: see inflate.h. RFC 1950 and 1951.
 *
 * Bits are taken from the low end of a 64-bit word that is refilled without a branch. A code is looked
 * up in a table by its first bits; where a literal leaves room there, the table has the next literal as
 * well, so that pictures of much noise, which are nearly all literals, need about half the steps. Codes
 * longer than the table's index go on in a second one.
 */
#include "media/inflate.h"

#include <stdbool.h>
#include <string.h>
#include "base/err.h"

enum {
    LIT_BITS = 11, /* 8 KiB of table: a quarter of the first cache */
    DIST_BITS = 9,
    PRE_BITS = 7,
    MAX_BITS = 15,
    N_LIT = 288,
    N_DIST = 32,
    N_PRE = 19,
    LIT_TABLE = (1 << LIT_BITS) + (1 << MAX_BITS) / 16, /* second tables: see build() */
    DIST_TABLE = (1 << DIST_BITS) + (1 << MAX_BITS) / 16
};

/* An entry of a table. Its kind is in the highest byte:
 *   ONE, TWO  literals: 8 bits each from bit 8 on; the lowest byte is the length of the code(s)
 *   VALUE     bits 0..7: length of code and extra bits, 8..23: base, 24..27: length of the code
 *   MORE      second table: bits 0..3: bits of its index, 8..23: where it begins
 *   STOP      end of the block: the lowest byte is the length of the code
 *   BAD       no code */
enum { VALUE = 0, ONE = 1, TWO = 2, MORE = 3, STOP = 4, BAD = 5 };
#define ENTRY(kind, code_bits, all_bits, v)                                                          \
    ((uint32_t)(kind) << 28 | (uint32_t)(code_bits) << 24 | (uint32_t)(v) << 8 | (uint32_t)(all_bits))
static inline uint32_t kind_of(uint32_t e) { return e >> 28; }

typedef struct {
    const uint8_t *in, *end;
    uint64_t bits;
    uint32_t n_bit;
} reader;

typedef struct {
    reader r;
    bool fixed; /* the tables are those of RFC 1951, 3.2.6 */
    uint32_t lit[LIT_TABLE], dist[DIST_TABLE];
} state;

/* Between 56 and 63 bits. What is read beyond the end is noticed by `overrun`. */
static inline void refill(reader *r) {
    uint64_t v;
    memcpy(&v, r->in, sizeof v);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    r->bits |= v << r->n_bit;
    r->in += (63 - r->n_bit) >> 3;
    r->n_bit |= 56;
}

static inline uint32_t take(reader *r, uint32_t n) {
    const uint32_t v = (uint32_t)(r->bits & (((uint64_t)1 << n) - 1));
    r->bits >>= n;
    r->n_bit -= n;
    return v;
}

/* More bits used than there are. Never more than GM_INFLATE_IN_PAD bytes too late. */
static inline bool overrun(const reader *r) { return r->in - (r->n_bit >> 3) > r->end; }

/* ---- tables -------------------------------------------------------------------------------- */

/* n bits, the first one last. */
static uint32_t reverse(uint32_t v, int n) {
    v = (v & 0x5555) << 1 | (v >> 1 & 0x5555);
    v = (v & 0x3333) << 2 | (v >> 2 & 0x3333);
    v = (v & 0x0f0f) << 4 | (v >> 4 & 0x0f0f);
    return ((v & 0x00ff) << 8 | v >> 8) >> (16 - n);
}

/* The entry of a symbol whose code has n bits. */
typedef uint32_t (*symbol_fn)(int symbol, int n);

static uint32_t lit_entry(int symbol, int n) {
    static const uint16_t base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                    31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                    2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    if (symbol < 256) return ENTRY(ONE, 0, n, symbol);
    if (symbol == 256) return ENTRY(STOP, 0, n, 0);
    if (symbol > 285) return ENTRY(BAD, 0, n, 0);
    return ENTRY(VALUE, n, n + extra[symbol - 257], base[symbol - 257]);
}

static uint32_t dist_entry(int symbol, int n) {
    if (symbol > 29) return ENTRY(BAD, 0, n, 0);
    const int extra = symbol < 4 ? 0 : symbol / 2 - 1;
    const int base = symbol < 4 ? symbol + 1 : ((2 + (symbol & 1)) << extra) + 1;
    return ENTRY(VALUE, n, n + extra, base);
}

static uint32_t pre_entry(int symbol, int n) { return ENTRY(VALUE, n, n, symbol); }

/* Codes of each length; false when they are more than fit, or fewer (but for a single one of one bit,
 * and for none). */
static bool count_codes(const uint8_t *len, int n, uint16_t count[MAX_BITS + 1]) {
    memset(count, 0, (MAX_BITS + 1) * sizeof *count);
    for (int i = 0; i < n; i++) count[len[i]]++;
    int32_t left = 1;
    for (int b = 1; b <= MAX_BITS; b++) {
        left = 2 * left - count[b];
        if (left < 0) return false;
    }
    const int used = n - count[0];
    return left == 0 || used == 0 || (used == 1 && count[1] == 1);
}

/* How many bits the second table needs whose first code has b bits: as many as it takes until the
 * codes of these lengths fill it. n_left: of b bits, this one included. */
static int second_width(const uint16_t *count, int b, int bits, int32_t n_left) {
    int wide = b - bits;
    for (int32_t left = 1 << wide; bits + wide < MAX_BITS; n_left = count[bits + wide]) {
        left -= n_left;
        if (left <= 0) break;
        wide++;
        left *= 2;
    }
    return wide;
}

/* Fills a table from the lengths of the codes. A second table belongs to the codes with one beginning
 * of `bits` bits. A full tree of depth d has more than d leaves, so that second tables stay far below
 * the room there is; it is checked all the same. */
static bool build(uint32_t *table, size_t room, int bits, const uint8_t *len, int n, symbol_fn entry) {
    uint16_t count[MAX_BITS + 1], offset[MAX_BITS + 2], sorted[N_LIT];
    if (!count_codes(len, n, count)) return false;
    offset[1] = 0;
    for (int b = 1; b <= MAX_BITS; b++) offset[b + 1] = (uint16_t)(offset[b] + count[b]);
    const int used = offset[MAX_BITS + 1];
    for (int i = 0; i < n; i++)
        if (len[i]) sorted[offset[len[i]]++] = (uint16_t)i;
    for (uint32_t i = 0; used < 2 && i < 1u << bits; i++) table[i] = ENTRY(BAD, 0, 0, 0);
    uint32_t code = 0, at = 0, next = 1u << bits, mask = 0, prefix = UINT32_MAX;
    for (int k = 0, b = 1; k < used; k++, code++) {
        for (; len[sorted[k]] > b; b++) code <<= 1;
        const uint32_t back = reverse(code, b);
        if (b <= bits) {
            const uint32_t e = entry(sorted[k], b);
            for (uint32_t i = back; i < 1u << bits; i += 1u << b) table[i] = e;
            continue;
        }
        if ((back & ((1u << bits) - 1)) != prefix) {
            prefix = back & ((1u << bits) - 1);
            const int wide = second_width(count, b, bits, offset[b] - k);
            at = next;
            mask = (1u << wide) - 1;
            next += 1u << wide;
            if (next > room) return false;
            table[prefix] = ENTRY(MORE, 0, wide, at);
        }
        const uint32_t e = entry(sorted[k], b);
        for (uint32_t i = back >> bits; i <= mask; i += 1u << (b - bits)) table[at + i] = e;
    }
    return true;
}

/* Joins two literals where both fit into the index. From the end, so that the second is still single.
 * Without a branch: which entries are literals follows no pattern. */
static void join_literals(uint32_t *table) {
    for (uint32_t i = 1u << LIT_BITS; i-- > 0;) {
        const uint32_t e = table[i], b = table[i >> (e & 15)];
        const uint32_t n = (e & 15) + (b & 15);
        const bool both = (kind_of(e) == ONE) & (kind_of(b) == ONE) & (n <= LIT_BITS);
        const uint32_t joined = (uint32_t)TWO << 28 | (b & 0xff00) << 8 | (e & 0xff00) | n;
        table[i] = both ? joined : e;
    }
}

/* ---- blocks --------------------------------------------------------------------------------- */

static bool fixed_tables(state *s) {
    if (s->fixed) return true;
    uint8_t len[N_LIT];
    for (int i = 0; i < N_LIT; i++) len[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    if (!build(s->lit, LIT_TABLE, LIT_BITS, len, N_LIT, lit_entry)) return false;
    memset(len, 5, N_DIST);
    join_literals(s->lit);
    s->fixed = build(s->dist, DIST_TABLE, DIST_BITS, len, N_DIST, dist_entry);
    return s->fixed;
}

static bool read_tables(state *s) {
    static const uint8_t order[N_PRE] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t len[N_LIT + N_DIST + 140] = {0}, pre[N_PRE] = {0};
    s->fixed = false;
    refill(&s->r);
    const uint32_t n_lit = 257 + take(&s->r, 5), n_dist = 1 + take(&s->r, 5), n_pre = 4 + take(&s->r, 4);
    if (n_lit > 286 || n_dist > 30) return false;
    for (uint32_t i = 0; i < n_pre; i++) {
        refill(&s->r);
        pre[order[i]] = (uint8_t)take(&s->r, 3);
    }
    uint32_t table[1 << PRE_BITS];
    if (!build(table, 1 << PRE_BITS, PRE_BITS, pre, N_PRE, pre_entry)) return false;
    for (uint32_t i = 0; i < n_lit + n_dist;) {
        refill(&s->r);
        const uint32_t e = table[s->r.bits & ((1 << PRE_BITS) - 1)], v = e >> 8 & 0xff;
        if (kind_of(e) != VALUE || overrun(&s->r)) return false;
        take(&s->r, e & 0xff);
        if (v < 16) {
            len[i++] = (uint8_t)v;
            continue;
        }
        if (v == 16 && i == 0) return false;
        const uint8_t what = v == 16 ? len[i - 1] : 0;
        const uint32_t times = v == 16 ? 3 + take(&s->r, 2) : v == 17 ? 3 + take(&s->r, 3) : 11 + take(&s->r, 7);
        memset(len + i, what, times); /* `len` has room for a last run that is too long */
        i += times;
        if (i > n_lit + n_dist) return false;
    }
    if (len[256] == 0) return false;
    if (!build(s->dist, DIST_TABLE, DIST_BITS, len + n_lit, (int)n_dist, dist_entry)) return false;
    if (!build(s->lit, LIT_TABLE, LIT_BITS, len, (int)n_lit, lit_entry)) return false;
    join_literals(s->lit);
    return true;
}

/* Repeats what stands dist bytes before; may write 16 bytes more than n. */
static inline void repeat(uint8_t *out, uint32_t dist, uint32_t n) {
    const uint8_t *from = out - dist;
    uint8_t *const end = out + n;
    if (dist >= 16) {
        do {
            memcpy(out, from, 16);
            out += 16, from += 16;
        } while (out < end);
        return;
    }
    if (dist == 1) {
        memset(out, *from, n);
        return;
    }
    /* Once a multiple of the distance that is 8 or more stands there, whole words repeat. */
    uint32_t step = dist;
    while (step < 8) step += dist;
    for (uint32_t i = 0; i < step && out < end; i++) *out++ = *from++;
    while (out < end) {
        memcpy(out, out - step, 8);
        out += 8;
    }
}

/* One literal or two. Always writes two bytes. */
static inline uint8_t *put(reader *r, uint8_t *out, uint32_t e) {
    const uint16_t two = (uint16_t)(e >> 8);
    out[0] = (uint8_t)two;
    out[1] = (uint8_t)(two >> 8);
    r->bits >>= e & 63;
    r->n_bit -= e & 63;
    return out + kind_of(e);
}

static inline bool is_literal(uint32_t e) { return kind_of(e) - 1 < 2; }

/* The value of an entry with its extra bits. */
static inline uint32_t value(reader *r, uint32_t e) {
    const uint32_t extra = take(r, e & 0xff) >> (e >> 24 & 15);
    return (e >> 8 & 0xffff) + extra;
}

/* Codes up to the end of the block, or until the output is full. NULL: damaged. */
static inline __attribute__((always_inline)) uint8_t *codes(state *s, const uint8_t *begin, uint8_t *out,
                                                            const uint8_t *full) {
    enum { LIT_MASK = (1 << LIT_BITS) - 1, DIST_MASK = (1 << DIST_BITS) - 1 };
    reader r = s->r; /* a copy, so that writing bytes does not force it into memory */
    while (out < full) {
        refill(&r);
        if (overrun(&r)) return NULL;
        uint32_t e = s->lit[r.bits & LIT_MASK];
        if (is_literal(e)) { /* four look-ups use 4 * LIT_BITS = 44 bits */
            out = put(&r, out, e);
            e = s->lit[r.bits & LIT_MASK];
            if (is_literal(e)) {
                out = put(&r, out, e);
                e = s->lit[r.bits & LIT_MASK];
                if (is_literal(e)) {
                    out = put(&r, out, e);
                    e = s->lit[r.bits & LIT_MASK];
                    if (is_literal(e)) {
                        out = put(&r, out, e);
                        continue;
                    }
                }
            }
            refill(&r);
        }
        if (kind_of(e) == MORE) {
            e = s->lit[(e >> 8 & 0xffff) + (r.bits >> LIT_BITS & ((1u << (e & 15)) - 1))];
            if (is_literal(e)) {
                out = put(&r, out, e);
                continue;
            }
        }
        if (kind_of(e) != VALUE) {
            take(&r, e & 0xff);
            s->r = r;
            return kind_of(e) == STOP ? out : NULL;
        }
        const uint32_t n = value(&r, e); /* at most 20 bits; 28 of the distance make 48 */
        uint32_t d = s->dist[r.bits & DIST_MASK];
        if (kind_of(d) == MORE)
            d = s->dist[(d >> 8 & 0xffff) + (r.bits >> DIST_BITS & ((1u << (d & 15)) - 1))];
        if (kind_of(d) != VALUE) return NULL;
        const uint32_t dist = value(&r, d);
        if (dist > (size_t)(out - begin)) return NULL;
        repeat(out, dist, n);
        out += n;
    }
    s->r = r;
    return out;
}

typedef uint8_t *(*codes_fn)(state *s, const uint8_t *begin, uint8_t *out, const uint8_t *full);

static uint8_t *codes_any(state *s, const uint8_t *begin, uint8_t *out, const uint8_t *full) {
    return codes(s, begin, out, full);
}

#if defined(__x86_64__) && defined(__GNUC__)
/* The same with shifts that take one step instead of two or three: they are what the loop waits for. */
__attribute__((target("bmi2"))) static uint8_t *codes_bmi2(state *s, const uint8_t *begin, uint8_t *out,
                                                           const uint8_t *full) {
    return codes(s, begin, out, full);
}
static codes_fn choose_codes(void) { return __builtin_cpu_supports("bmi2") ? codes_bmi2 : codes_any; }
#else
static codes_fn choose_codes(void) { return codes_any; }
#endif

static uint8_t *read_stored(reader *r, uint8_t *out, const uint8_t *full) {
    r->in -= r->n_bit >> 3; /* whole bytes that were read ahead */
    r->bits = 0;
    r->n_bit = 0;
    if (r->in > r->end || r->end - r->in < 4) return NULL;
    const uint32_t n = (uint32_t)r->in[0] | (uint32_t)r->in[1] << 8;
    const uint32_t inverse = (uint32_t)r->in[2] | (uint32_t)r->in[3] << 8;
    r->in += 4;
    if ((n ^ inverse) != 0xffff || n > (size_t)(r->end - r->in)) return NULL;
    const size_t fits = out < full ? (size_t)(full - out) : 0;
    memcpy(out, r->in, n < fits ? n : fits);
    r->in += n;
    return out + (n < fits ? n : fits);
}

int gm_inflate(const uint8_t *in, size_t n, uint8_t *out, size_t n_out, const gm_cancel *cancel) {
    state s;
    s.r = (reader){.in = in + 2, .end = in + n};
    s.fixed = false;
    if (n < 2 || (in[0] & 15) != 8 || in[0] >> 4 > 7 || (in[0] << 8 | in[1]) % 31 || in[1] & 32)
        return GM_EFORMAT;
    const uint8_t *const begin = out, *const full = out + n_out;
    const codes_fn read_codes = choose_codes();
    bool last = false;
    while (out && out < full && !last) {
        refill(&s.r);
        last = take(&s.r, 1);
        const uint32_t how = take(&s.r, 2);
        if (overrun(&s.r)) return GM_EFORMAT;
        if (gm_cancelled(cancel)) return GM_ECANCELLED;
        if (how == 0) out = read_stored(&s.r, out, full);
        else if (how == 1) out = fixed_tables(&s) ? read_codes(&s, begin, out, full) : NULL;
        else out = how == 2 && read_tables(&s) ? read_codes(&s, begin, out, full) : NULL;
    }
    return out && out >= full && !overrun(&s.r) ? 0 : GM_EFORMAT;
}
