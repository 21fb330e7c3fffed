/* inflate.h: DEFLATE in its zlib wrapping, all of it at once: what a PNG holds.
 *
 * By libdeflate, which is twice as fast, or by zlib, which is everywhere; both are looked for at
 * run time. Thread: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"

enum { GM_INFLATE_RATIO = 1032 }; /* bytes that one byte of input can become */

bool gm_inflate_available(void);

/* The first n_out bytes of the stream in[0 .. n). GM_EFORMAT when it is damaged or holds fewer,
 * GM_ECANCELLED, GM_ENOMEM, GM_EUNSUPPORTED without a library. */
int gm_inflate(const uint8_t *in, size_t n, uint8_t *out, size_t n_out, const gm_cancel *cancel);
/* The same by zlib in any case. */
int gm_inflate_zlib(const uint8_t *in, size_t n, uint8_t *out, size_t n_out,
                    const gm_cancel *cancel);
