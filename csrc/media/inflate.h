/* inflate.h: DEFLATE in its zlib wrapping, all of it at once: what a PNG holds.
 *
 * The caller knows how many bytes come out and gives room behind both buffers, so that the loops
 * need no second, careful form for the ends. Any input is an answer or GM_EFORMAT. The check sum at
 * the end is not looked at. Thread: any; allocates nothing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"

enum {
    GM_INFLATE_IN_PAD = 64,   /* readable bytes behind the input */
    GM_INFLATE_OUT_PAD = 320, /* writable bytes behind the output: the longest match and a vector */
    GM_INFLATE_RATIO = 1032   /* bytes that one byte of input can become */
};

/* The first n_out bytes of the stream in[0 .. n). GM_EFORMAT when it is damaged or holds fewer,
 * GM_ECANCELLED. */
int gm_inflate(const uint8_t *in, size_t n, uint8_t *out, size_t n_out, const gm_cancel *cancel);
