/* vocab_in.h: the insides of a vocabulary, for the files of this room only.
 *
 * Other rooms use vocab.h. Encoding reads these tables directly, since a call per character
 * would cost more than the work.
 */
#pragma once

#include "tokenizer/vocab.h"

#define GM_SPACE_CP 0x2581u /* stands for ' ' in pieces */
#define GM_SPACE_TEXT "\xE2\x96\x81"
#define GM_MAX_CP 0x110000u

/* How far from its place a hash entry may lie. Honest vocabularies stay far below this; a file
 * made to collide is refused instead of taking minutes. */
#define GM_PROBE_MAX 512u

/* One slot of the table from (left id, right id) to what they merge to. 16 bytes, so that a
 * lookup touches one cache line. */
typedef struct {
    uint32_t left, right;
    uint32_t rank1; /* rank + 1, lower merges first; 0: empty slot */
    int32_t merged;
} gm_merge;

typedef struct {
    uint32_t tag; /* upper half of the hash, spares most comparisons */
    int32_t id1;  /* id + 1; 0: empty slot */
} gm_piece_slot;

typedef struct {
    gm_str text;
    int32_t id;
} gm_special;

struct gm_vocab {
    const gm_str *piece; /* [n], borrowed from the file */
    uint8_t *type;       /* [n], gm_tok_type */
    int32_t n;

    gm_piece_slot *slot; /* [slot_mask + 1] */
    size_t slot_mask;
    gm_merge *merge; /* [merge_mask + 1] */
    size_t merge_mask;

    /* Characters in pages of 256, see gm_vocab_char. Page 0 is empty and shared by all scripts
     * that the vocabulary lacks. */
    uint16_t char_page[GM_MAX_CP >> 8];
    int32_t *char_id;      /* [pages][256], id + 1; 0: no token */
    int32_t byte_id[256];  /* token of a byte, -1 when there is none */
    uint64_t join[256][4]; /* bit [a][b]: see gm_vocab_joins */

    gm_special *special; /* [n_special], sorted by text; what GM_ENC_SPECIAL looks for */
    size_t n_special;
    bool special_first[256]; /* bytes with which a special text begins */
    int special_only;        /* the one such byte, or -1 when there are several */

    gm_special_ids ids;
    int32_t eog[8];
    unsigned n_eog;
    int32_t *suppressed;
    size_t n_suppressed;
};

/* Tokens that ordinary text may become. */
static inline bool gm_vocab_ordinary(const gm_vocab *v, int32_t id) {
    return v->type[id] == GM_TOK_NORMAL || v->type[id] == GM_TOK_UNUSED;
}

/* The ordinary token that is exactly this character, or -1. */
static inline int32_t gm_vocab_char(const gm_vocab *v, uint32_t cp) {
    return v->char_id[(size_t)v->char_page[cp >> 8] << 8 | (cp & 255)] - 1;
}

/* Whether any merge has a left part ending in a character of class a and a right part beginning
 * with one of class b. Where this is false no token ever spans the two characters, so a text can be
 * cut there without changing its ids. The class of a character on the left side is its last
 * byte, on the right side its first one, and that of U+2581 and of a space is 0x20. */
static inline bool gm_vocab_joins(const gm_vocab *v, unsigned a, unsigned b) {
    return v->join[a][b >> 6] >> (b & 63) & 1;
}

static inline size_t gm_merge_hash(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h ^ h >> 32);
}

/* The merge of two tokens, or NULL. */
static inline const gm_merge *gm_vocab_merge(const gm_vocab *v, int32_t left, int32_t right) {
    size_t at = gm_merge_hash((uint32_t)left, (uint32_t)right);
    for (unsigned probe = 0; probe <= GM_PROBE_MAX; probe++, at++) {
        const gm_merge *m = &v->merge[at & v->merge_mask];
        if (m->left == (uint32_t)left && m->right == (uint32_t)right && m->rank1) return m;
        if (!m->rank1) return NULL;
    }
    return NULL;
}
