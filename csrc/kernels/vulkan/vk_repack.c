/* vk_repack.c: see vk_repack.h.
 *
 * Blocks of 256 values are taken apart into their integers and packed again. What a block looks
 * like in a file is in tensor/blocks.h and, value by value, in tensor/quant.c.
 */
#include "kernels/vulkan/vk_repack.h"

#include <string.h>
#include "tensor/blocks.h"

enum { MAX_BLOCK_WORDS = 68 };

/* Words of a block of 256 values; 0: the type has no blocks. */
static uint32_t block_words(gm_dtype t) {
    switch (t) {
    case GM_Q4_0:
    case GM_IQ4_NL:
    case GM_Q4_K: return 36;
    case GM_Q4_1: return 40;
    case GM_Q5_0:
    case GM_Q5_K: return 44;
    case GM_Q5_1: return 48;
    case GM_Q8_0: return 68;
    case GM_Q2_K: return 21;
    case GM_Q3_K: return 29;
    case GM_Q6_K: return 53;
    case GM_IQ4_XS: return 35;
    default: return 0;
    }
}

/* Rows end with whole words of eight values, so that shaders may read eight at a time. */
uint32_t gm_vk_row_words(gm_dtype t, int64_t n) {
    int64_t n8 = (n + 7) / 8, words = 0;
    if (t == GM_F32) words = 8 * n8;
    else if (t == GM_F16 || t == GM_BF16) words = 4 * n8;
    else words = (n + GM_QKK - 1) / GM_QKK * (int64_t)block_words(t);
    return words <= INT32_MAX / GM_VK_TILE ? (uint32_t)words : 0;
}

/* ---- packing -----------------------------------------------------------------------------
 *
 * A model has billions of values and its user waits for them, so eight are moved at a time, in the
 * bytes of one number. Little-endian, like the file. */

static inline uint64_t eight(const void *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* The low 4, 2 or 1 bits of eight bytes side by side, those of the first byte lowest. */
static inline uint32_t nibbles(uint64_t x) {
    x &= 0x0F0F0F0F0F0F0F0Fu;
    x = (x | x >> 4) & 0x00FF00FF00FF00FFu;
    x = (x | x >> 8) & 0x0000FFFF0000FFFFu;
    return (uint32_t)(x | x >> 16);
}

static inline uint32_t pairs(uint64_t x) {
    x &= 0x0303030303030303u;
    x = (x | x >> 6) & 0x000F000F000F000Fu;
    x = (x | x >> 12) & 0x000000FF000000FFu;
    return (uint32_t)(x | x >> 24) & 0xFFFFu;
}

static inline uint32_t bits(uint64_t x) {
    return (uint32_t)((x & 0x0101010101010101u) * 0x0102040810204080u >> 56);
}

/* 32 values in the low halves of 16 bytes and then in the high ones. */
static inline void halves(const uint8_t q[16], uint32_t out[4]) {
    uint64_t a = eight(q), b = eight(q + 8);
    out[0] = nibbles(a);
    out[1] = nibbles(b);
    out[2] = nibbles(a >> 4);
    out[3] = nibbles(b >> 4);
}

/* ---- blocks of 32, up to eight of them --------------------------------------------------- */

static void small_q4_0(const gm_block_q4_0 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        halves(b[g].q, out + 4 + 4 * g);
    }
}

static void small_q4_1(const gm_block_q4_1 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g] = b[g].d | (uint32_t)b[g].m << 16;
        halves(b[g].q, out + 8 + 4 * g);
    }
}

static void small_q5_0(const gm_block_q5_0 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        out[4 + g] = b[g].qh;
        halves(b[g].q, out + 12 + 4 * g);
    }
}

static void small_q5_1(const gm_block_q5_1 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g] = b[g].d | (uint32_t)b[g].m << 16;
        out[8 + g] = b[g].qh;
        halves(b[g].q, out + 16 + 4 * g);
    }
}

static void small_q8_0(const gm_block_q8_0 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        memcpy(out + 4 + 8 * g, b[g].q, 32);
    }
}

/* ---- blocks of 256 ----------------------------------------------------------------------- */

/* Scales and minima of eight groups, six bits each (quant.c), as two words of low nibbles and one
 * of high pairs. The first four groups have theirs in bytes 0..3 and 4..7; the low nibbles of the
 * others are in bytes 8..11 and their high pairs on top of the first ones'. */
static void k_scales(const uint8_t *sc, uint32_t *out) {
    uint32_t s, m, rest;
    memcpy(&s, sc, 4);
    memcpy(&m, sc + 4, 4);
    memcpy(&rest, sc + 8, 4);
    uint64_t low = (uint64_t)rest << 32, high = (uint64_t)(rest >> 4) << 32;
    out[0] = nibbles((s & 0x0F0F0F0Fu) | low);
    out[1] = nibbles((m & 0x0F0F0F0Fu) | high);
    out[2] = pairs((s >> 4 & 0x03030303u) | (uint64_t)(s >> 6 & 0x03030303u) << 32) |
             pairs((m >> 4 & 0x03030303u) | (uint64_t)(m >> 6 & 0x03030303u) << 32) << 16;
}

/* Groups of 32 values in the low and in the high halves of 32 bytes, four times. */
static void k_nibbles(const uint8_t *q, uint32_t *out) {
    for (int c = 0; c < 4; c++)
        for (int j = 0; j < 4; j++) {
            uint64_t x = eight(q + 32 * c + 8 * j);
            out[8 * c + j] = nibbles(x);
            out[8 * c + 4 + j] = nibbles(x >> 4);
        }
}

/* One bit of 256 values: bit g of 32 bytes for each group g. */
static void k_bits(const uint8_t *q, uint32_t *out) {
    uint64_t a = eight(q), b = eight(q + 8), c = eight(q + 16), d = eight(q + 24);
    for (int g = 0; g < 8; g++)
        out[g] = bits(a >> g) | bits(b >> g) << 8 | bits(c >> g) << 16 | bits(d >> g) << 24;
}

/* Two bits of 256 values: four groups of 32 in 32 bytes, twice. */
static void k_pairs(const uint8_t *q, uint32_t *out) {
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 2; j++) {
            uint64_t a = eight(q + 32 * h + 16 * j), b = eight(q + 32 * h + 16 * j + 8);
            for (int s = 0; s < 4; s++)
                out[8 * h + 2 * s + j] = pairs(a >> (2 * s)) | pairs(b >> (2 * s)) << 16;
        }
}

static void big_q4_k(const gm_block_q4_k *b, uint32_t *out) {
    out[0] = b->d | (uint32_t)b->dmin << 16;
    k_scales(b->sc, out + 1);
    k_nibbles(b->q, out + 4);
}

static void big_q5_k(const gm_block_q5_k *b, uint32_t *out) {
    out[0] = b->d | (uint32_t)b->dmin << 16;
    k_scales(b->sc, out + 1);
    k_bits(b->qh, out + 4);
    k_nibbles(b->q, out + 12);
}

static void big_q6_k(const gm_block_q6_k *b, uint32_t *out) {
    memcpy(out, b->sc, 16);
    out[4] = b->d;
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 8; i++) { /* groups 0 and 1 of four, 2 and 3 in the high halves */
            uint64_t x = eight(b->ql + 64 * h + 8 * i);
            out[5 + 16 * h + i] = nibbles(x);
            out[5 + 16 * h + 8 + i] = nibbles(x >> 4);
        }
    k_pairs(b->qh, out + 37);
}

static void big_q2_k(const gm_block_q2_k *b, uint32_t *out) {
    memcpy(out, b->sc, 16);
    out[4] = b->d | (uint32_t)b->dmin << 16;
    k_pairs(b->q, out + 5);
}

static void big_q3_k(const gm_block_q3_k *b, uint32_t *out) {
    uint8_t sc[16];
    for (int j = 0; j < 16; j++) sc[j] = (uint8_t)gm_q3_k_scale(b, j);
    memcpy(out, sc, 16);
    out[4] = b->d;
    k_pairs(b->q, out + 5);
    k_bits(b->hmask, out + 21);
}

static void big_iq4_xs(const gm_block_iq4_xs *b, uint32_t *out) {
    uint8_t sc[8];
    out[0] = b->d;
    for (int g = 0; g < 8; g++) {
        sc[g] = (uint8_t)gm_iq4_xs_scale(b, g);
        halves(b->q + 16 * g, out + 3 + 4 * g);
    }
    memcpy(out + 1, sc, 8);
}

/* One block of up to 256 values; n32 of its groups of 32 are there. */
static void repack_block(gm_dtype t, const void *src, int n32, uint32_t *out) {
    memset(out, 0, block_words(t) * sizeof *out);
    switch (t) {
    case GM_Q4_0:
    case GM_IQ4_NL: small_q4_0(src, n32, out); break; /* the same bytes */
    case GM_Q4_1: small_q4_1(src, n32, out); break;
    case GM_Q5_0: small_q5_0(src, n32, out); break;
    case GM_Q5_1: small_q5_1(src, n32, out); break;
    case GM_Q8_0: small_q8_0(src, n32, out); break;
    case GM_Q2_K: big_q2_k(src, out); break;
    case GM_Q3_K: big_q3_k(src, out); break;
    case GM_Q4_K: big_q4_k(src, out); break;
    case GM_Q5_K: big_q5_k(src, out); break;
    case GM_Q6_K: big_q6_k(src, out); break;
    case GM_IQ4_XS: big_iq4_xs(src, out); break;
    default: break;
    }
}

/* ---- tiles ------------------------------------------------------------------------------- */

/* n_word words of each of n_row rows, collected in word[row][], to the interleaved order; rows that
 * are not there are zero. Written from first to last, since the memory may be one that is not
 * cached. */
static void interleave(uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS], int64_t n_row, uint32_t n_word,
                       uint32_t *out) {
    if (n_row < GM_VK_TILE) memset(word[n_row], 0, (size_t)(GM_VK_TILE - n_row) * sizeof *word);
    for (uint32_t i = 0; i < n_word; i++, out += GM_VK_TILE)
        for (int r = 0; r < GM_VK_TILE; r += 2) {
            uint64_t two = word[r][i] | (uint64_t)word[r + 1][i] << 32;
            memcpy(out + r, &two, sizeof two);
        }
}

static void tile_of_blocks(gm_dtype t, const char *row, size_t row_bytes, int64_t n, int64_t n_row,
                           uint32_t *out) {
    const gm_dtype_info *info = gm_dtype_get((uint32_t)t);
    size_t step = (size_t)(GM_QKK / info->block_elems) * info->block_bytes;
    uint32_t n_word = block_words(t);
    uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS];
    for (int64_t k = 0; k < n; k += GM_QKK, out += n_word * GM_VK_TILE) {
        int n32 = (int)((n - k < GM_QKK ? n - k : GM_QKK) / GM_QK);
        const char *at = row + (size_t)(k / GM_QKK) * step;
        for (int64_t r = 0; r < n_row; r++)
            repack_block(t, at + (size_t)r * row_bytes, n32, word[r]);
        interleave(word, n_row, n_word, out);
    }
}

/* Floats go over in runs of 16 words. */
static void tile_of_floats(const char *row, size_t row_bytes, size_t n_byte, uint32_t row_words,
                           int64_t n_row, uint32_t *out) {
    uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS];
    for (uint32_t i = 0; i < row_words; i += 16) {
        uint32_t n_word = row_words - i < 16 ? row_words - i : 16;
        size_t at = (size_t)i * 4, n = at < n_byte ? n_byte - at : 0;
        for (int64_t r = 0; r < n_row; r++) {
            const char *from = row + (size_t)r * row_bytes + at;
            if (n >= 64) {
                memcpy(word[r], from, 64);
                continue;
            }
            memset(word[r], 0, 64);
            memcpy(word[r], from, n);
        }
        interleave(word, n_row, n_word, out);
        out += n_word * GM_VK_TILE;
    }
}

void gm_vk_repack_tile(gm_dtype t, const void *src, size_t row_bytes, int64_t n, int64_t row0,
                       int64_t n_row, uint32_t *out) {
    const char *row = (const char *)src + (size_t)row0 * row_bytes;
    int64_t rows = n_row - row0 < GM_VK_TILE ? n_row - row0 : GM_VK_TILE;
    if (block_words(t)) tile_of_blocks(t, row, row_bytes, n, rows, out);
    else
        tile_of_floats(row, row_bytes, (size_t)n * (t == GM_F32 ? 4 : 2), gm_vk_row_words(t, n),
                       rows, out);
}
