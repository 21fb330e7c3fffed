/* cursor.h: a bounded reader over bytes; no read can pass the end.
 *
 * Little-endian. The first read that does not fit sets `bad` and every read from then on
 * returns zero, so a parser may read a whole record and check once. Inline: it is the
 * innermost loop of opening a file with half a million strings.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Numbers are taken from files as they lie there, here and in format/, tokenizer/ and kernels/. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gemma.nvim runs on little-endian computers only"
#endif
/* Sizes of models, and the places of FFmpeg's fields (media/avlib.c). */
_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8,
               "gemma.nvim runs on 64-bit computers only");

typedef struct {
    const uint8_t *p;
    size_t n;   /* bytes in all */
    size_t pos; /* bytes read */
    bool bad;
} gm_cursor;

/* n bytes from here on, or NULL. */
static inline const uint8_t *gm_cursor_take(gm_cursor *c, uint64_t n) {
    if (c->bad || n > c->n - c->pos) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->p + c->pos;
    c->pos += (size_t)n;
    return p;
}

#define GM_CURSOR_READ(type, suffix)                                                               \
    static inline type gm_cursor_##suffix(gm_cursor *c) {                                          \
        type v = 0;                                                                                \
        const uint8_t *p = gm_cursor_take(c, sizeof v);                                            \
        if (p) memcpy(&v, p, sizeof v);                                                            \
        return v;                                                                                  \
    }
GM_CURSOR_READ(uint8_t, u8)
GM_CURSOR_READ(uint16_t, u16)
GM_CURSOR_READ(uint32_t, u32)
GM_CURSOR_READ(uint64_t, u64)
GM_CURSOR_READ(float, f32)
#undef GM_CURSOR_READ
