/* place.h: how much of a model a device takes.
 *
 * Layers go to the device from the first on, as many as its free memory holds with their caches;
 * the rest, and the embedding and the head, stay with the CPU. A model that fits whole is whole on
 * the device.
 */
#pragma once

#include "format/gguf.h"
#include "kernels/backend.h"
#include "model/kv.h"

typedef struct {
    gm_kv_opts kv; /* what sessions will be given */
    int32_t n_batch;
    int n_threads;
} gm_place_opts;

/* Splits *b when the model does not fit or a split was asked for, closes the other side when one
 * takes all, and appends "(12 of 48 layers)" to the description. A device that takes no layer is
 * replaced by the CPU with a note. */
int gm_place_layers(gm_backend **b, const gm_gguf *g, const gm_config *c, const gm_place_opts *o,
                    char *err, size_t errlen);
