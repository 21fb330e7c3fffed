/* sha256.h: the hash of FIPS 180-4, to tell whether a downloaded file is the published one.
 *
 * Takes bytes in pieces of any size. No allocation, no failure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { GM_SHA256_BYTES = 32, GM_SHA256_HEX = 64 };

typedef struct {
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
} gm_sha256;

void gm_sha256_begin(gm_sha256 *s);
void gm_sha256_add(gm_sha256 *s, const void *p, size_t n);

/* hex: GM_SHA256_HEX lower-case digits and a zero. *s is used up. */
void gm_sha256_end(gm_sha256 *s, char hex[GM_SHA256_HEX + 1]);
