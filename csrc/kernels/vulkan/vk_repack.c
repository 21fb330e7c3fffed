/* vk_repack.c: see vk_repack.h.
 *
 * Blocks of 256 values are taken apart into their integers and packed again. What a block looks like
 * in a file is in tensor/blocks.h and, value by value, in tensor/quant.c.
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

/* ---- packing ----------------------------------------------------------------------------- */

/* bits: 1, 2, 4 or 8 of each value, the first value lowest. */
static void pack(uint32_t *out, const uint8_t *q, int n, int bits, int shift) {
    int per = 32 / bits;
    uint32_t mask = (1u << bits) - 1;
    for (int i = 0; i < n / per; i++) {
        uint32_t word = 0;
        for (int j = 0; j < per; j++) word |= ((uint32_t)(q[i * per + j] >> shift) & mask) << (bits * j);
        out[i] = word;
    }
}

static void halves(const uint8_t q[16], uint8_t *v) {
    for (int j = 0; j < 16; j++) {
        v[j] = q[j] & 15;
        v[j + 16] = q[j] >> 4;
    }
}


/* ---- blocks of 32, up to eight of them --------------------------------------------------- */

static void small_q4_0(const gm_block_q4_0 *b, int n, uint32_t *out) {
    uint8_t v[256] = {0};
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        halves(b[g].q, v + 32 * g);
    }
    pack(out + 4, v, 256, 4, 0);
}

static void small_q4_1(const gm_block_q4_1 *b, int n, uint32_t *out) {
    uint8_t v[256] = {0};
    for (int g = 0; g < n; g++) {
        out[g] = b[g].d | (uint32_t)b[g].m << 16;
        halves(b[g].q, v + 32 * g);
    }
    pack(out + 8, v, 256, 4, 0);
}

static void small_q5_0(const gm_block_q5_0 *b, int n, uint32_t *out) {
    uint8_t v[256] = {0};
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        out[4 + g] = b[g].qh;
        halves(b[g].q, v + 32 * g);
    }
    pack(out + 12, v, 256, 4, 0);
}

static void small_q5_1(const gm_block_q5_1 *b, int n, uint32_t *out) {
    uint8_t v[256] = {0};
    for (int g = 0; g < n; g++) {
        out[g] = b[g].d | (uint32_t)b[g].m << 16;
        out[8 + g] = b[g].qh;
        halves(b[g].q, v + 32 * g);
    }
    pack(out + 16, v, 256, 4, 0);
}

static void small_q8_0(const gm_block_q8_0 *b, int n, uint32_t *out) {
    for (int g = 0; g < n; g++) {
        out[g / 2] |= (uint32_t)b[g].d << (16 * (g % 2));
        pack(out + 4 + 8 * g, (const uint8_t *)b[g].q, 32, 8, 0);
    }
}

/* ---- blocks of 256 ----------------------------------------------------------------------- */

/* Scales and minima of eight groups, six bits each (quant.c), as two words of low nibbles and one
 * of high pairs. */
static void k_scales(const uint8_t *sc, uint32_t *out) {
    for (int g = 0; g < 8; g++) {
        uint32_t s = sc[g] & 63u, m = 0;
        if (g < 4) {
            m = sc[g + 4] & 63u;
        } else {
            s = (sc[g + 4] & 15u) | (uint32_t)(sc[g - 4] >> 6) << 4;
            m = (uint32_t)(sc[g + 4] >> 4) | (uint32_t)(sc[g] >> 6) << 4;
        }
        out[0] |= (s & 15) << (4 * g);
        out[1] |= (m & 15) << (4 * g);
        out[2] |= s >> 4 << (2 * g) | m >> 4 << (16 + 2 * g);
    }
}

static void k_nibbles(const uint8_t *q, uint8_t *v) {
    for (int e = 0; e < GM_QKK; e++) {
        uint8_t b = q[32 * (e / 64) + e % 32];
        v[e] = e / 32 % 2 ? b >> 4 : b & 15;
    }
}

static void big_q4_k(const gm_block_q4_k *b, uint32_t *out) {
    uint8_t v[GM_QKK];
    out[0] = b->d | (uint32_t)b->dmin << 16;
    k_scales(b->sc, out + 1);
    k_nibbles(b->q, v);
    pack(out + 4, v, GM_QKK, 4, 0);
}

static void big_q5_k(const gm_block_q5_k *b, uint32_t *out) {
    uint8_t v[GM_QKK];
    out[0] = b->d | (uint32_t)b->dmin << 16;
    k_scales(b->sc, out + 1);
    k_nibbles(b->q, v);
    pack(out + 12, v, GM_QKK, 4, 0);
    for (int e = 0; e < GM_QKK; e++) v[e] = b->qh[e % 32] >> (e / 32) & 1;
    pack(out + 4, v, GM_QKK, 1, 0);
}

static void big_q6_k(const gm_block_q6_k *b, uint32_t *out) {
    uint8_t v[GM_QKK];
    for (int e = 0; e < GM_QKK; e++) {
        int h = e / 128, s = e / 32 % 4, l = e % 32;
        uint8_t low = b->ql[64 * h + 32 * (s & 1) + l];
        v[e] = (uint8_t)((s < 2 ? low & 15 : low >> 4) | (b->qh[32 * h + l] >> (2 * s) & 3) << 4);
    }
    pack(out, (const uint8_t *)b->sc, 16, 8, 0);
    out[4] = b->d;
    pack(out + 5, v, GM_QKK, 4, 0);
    pack(out + 37, v, GM_QKK, 2, 4);
}

/* Two low bits of Q2_K and Q3_K. */
static void k_pairs(const uint8_t *q, uint8_t *v) {
    for (int e = 0; e < GM_QKK; e++) v[e] = q[32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4)) & 3;
}

static void big_q2_k(const gm_block_q2_k *b, uint32_t *out) {
    uint8_t v[GM_QKK];
    pack(out, b->sc, 16, 8, 0);
    out[4] = b->d | (uint32_t)b->dmin << 16;
    k_pairs(b->q, v);
    pack(out + 5, v, GM_QKK, 2, 0);
}

static void big_q3_k(const gm_block_q3_k *b, uint32_t *out) {
    uint8_t v[GM_QKK], sc[16];
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? b->sc[j] & 15 : b->sc[j - 8] >> 4;
        int high = b->sc[8 + j % 4] >> (2 * (j / 4)) & 3;
        sc[j] = (uint8_t)((low | high << 4) - 32);
    }
    pack(out, sc, 16, 8, 0);
    out[4] = b->d;
    k_pairs(b->q, v);
    pack(out + 5, v, GM_QKK, 2, 0);
    for (int e = 0; e < GM_QKK; e++) v[e] = b->hmask[e % 32] >> (e / 32) & 1;
    pack(out + 21, v, GM_QKK, 1, 0);
}

static void big_iq4_xs(const gm_block_iq4_xs *b, uint32_t *out) {
    uint8_t v[GM_QKK], sc[8];
    out[0] = b->d;
    for (int g = 0; g < 8; g++) {
        int low = b->sl[g / 2] >> (4 * (g % 2)) & 15;
        sc[g] = (uint8_t)((low | (b->sh >> (2 * g) & 3) << 4) - 32);
        halves(b->q + 16 * g, v + 32 * g);
    }
    pack(out + 1, sc, 8, 8, 0);
    pack(out + 3, v, GM_QKK, 4, 0);
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

/* n_word words of each row, collected in word[row][], to the interleaved order. */
static void interleave(uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS], uint32_t n_word, uint32_t *out) {
    for (uint32_t i = 0; i < n_word; i++)
        for (int r = 0; r < GM_VK_TILE; r++) *out++ = word[r][i];
}

static void tile_of_blocks(gm_dtype t, const char *row, size_t row_bytes, int64_t n, int64_t n_row,
                           uint32_t *out) {
    const gm_dtype_info *info = gm_dtype_get((uint32_t)t);
    size_t step = (size_t)(GM_QKK / info->block_elems) * info->block_bytes;
    uint32_t n_word = block_words(t);
    uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS];
    memset(word, 0, sizeof word);
    for (int64_t k = 0; k < n; k += GM_QKK, out += n_word * GM_VK_TILE) {
        int n32 = (int)((n - k < GM_QKK ? n - k : GM_QKK) / GM_QK);
        const char *at = row + (size_t)(k / GM_QKK) * step;
        for (int64_t r = 0; r < n_row; r++) repack_block(t, at + (size_t)r * row_bytes, n32, word[r]);
        interleave(word, n_word, out);
    }
}

/* Floats go over in runs of 16 words. */
static void tile_of_floats(const char *row, size_t row_bytes, size_t n_byte, uint32_t row_words,
                           int64_t n_row, uint32_t *out) {
    uint32_t word[GM_VK_TILE][MAX_BLOCK_WORDS];
    for (uint32_t i = 0; i < row_words; i += 16) {
        uint32_t n_word = row_words - i < 16 ? row_words - i : 16;
        size_t at = (size_t)i * 4, n = at < n_byte ? n_byte - at : 0;
        if (n > (size_t)n_word * 4) n = (size_t)n_word * 4;
        memset(word, 0, sizeof word);
        for (int64_t r = 0; r < n_row && n > 0; r++) memcpy(word[r], row + (size_t)r * row_bytes + at, n);
        interleave(word, n_word, out);
        out += n_word * GM_VK_TILE;
    }
}

void gm_vk_repack_tile(gm_dtype t, const void *src, size_t row_bytes, int64_t n, int64_t row0,
                       int64_t n_row, uint32_t *out) {
    const char *row = (const char *)src + (size_t)row0 * row_bytes;
    int64_t rows = n_row - row0 < GM_VK_TILE ? n_row - row0 : GM_VK_TILE;
    if (block_words(t))
        tile_of_blocks(t, row, row_bytes, n, rows, out);
    else
        tile_of_floats(row, row_bytes, (size_t)n * (t == GM_F32 ? 4 : 2), gm_vk_row_words(t, n), rows,
                       out);
}
