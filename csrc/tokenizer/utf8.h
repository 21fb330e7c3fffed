/* utf8.h: one character of strict UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
 *
 * Inline, since it is the innermost loop of encoding. Knows nothing of tokens.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Reads the character at p, of which n >= 1 bytes are there. Returns its length, 1 to 4, and
 * stores its code point; 0 when the bytes are not a whole character. */
static inline unsigned gm_utf8_next(const unsigned char *p, size_t n, uint32_t *cp) {
    uint32_t b = p[0];
    if (b < 0x80) {
        *cp = b;
        return 1;
    }
    unsigned len = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : 2;
    if (b < 0xC2 || b > 0xF4 || n < len) return 0;
    uint32_t c = b & (0x7Fu >> len);
    for (unsigned i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3Fu);
    }
    /* The first byte alone rules out overlong forms of two bytes; the others show here. */
    if (len == 3 && (c < 0x800 || (c >= 0xD800 && c <= 0xDFFF))) return 0;
    if (len == 4 && (c < 0x10000 || c > 0x10FFFF)) return 0;
    *cp = c;
    return len;
}

/* Bytes that a character with this first byte has; 0 when no character starts so. */
static inline unsigned gm_utf8_need(unsigned char b) {
    if (b < 0x80) return 1;
    if (b < 0xC2 || b > 0xF4) return 0;
    return b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : 2;
}

/* Whether b can be the second byte after first (which needs at least two). The third and fourth
 * byte can be anything from 0x80 to 0xBF. */
static inline int gm_utf8_second(unsigned char first, unsigned char b) {
    unsigned char lo = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char hi = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return b >= lo && b <= hi;
}
