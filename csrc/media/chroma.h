/* chroma.h: pictures with halved colour to RGB, as the libraries do it that the reference reads
 * JPEG and WebP with: colour is widened by a triangle, three parts of the near sample and one of
 * the far one each way, in their roundings. Of quartered colour each sample is repeated. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"

typedef struct {
    const uint8_t *plane[3]; /* Y, Cb, Cr */
    int32_t line[3];         /* bytes from row to row; may be negative */
    int32_t w, h;            /* of Y */
    bool half_x, half_y;     /* the colour planes are ceil(w / 2) wide, ceil(h / 2) high */
    bool quarter_x;          /* they are ceil(w / 4) wide */
    bool webp;               /* its roundings and its range of 16 .. 235; else JPEG's */
} gm_chroma;

/* out: [h, w, 3]; rows are left as they were once it is cancelled. */
void gm_chroma_to_rgb(const gm_chroma *c, uint8_t *out, const gm_cancel *cancel);
