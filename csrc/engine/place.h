/* place.h: how much of a model a device takes.
 *
 * Layers go to the device from the first on, as many as its free memory holds with their caches;
 * the rest, and the embedding and the head, stay with the CPU. A model that fits whole is whole on
 * the device. That is an estimate: a device that has not enough memory after all gets fewer.
 */
#pragma once

#include "format/gguf.h"
#include "kernels/backend.h"
#include "model/kv.h"

typedef struct {
    gm_kv_opts kv; /* what sessions will be given */
    int32_t n_batch;
    int n_threads;
    uint64_t mmproj_bytes; /* of gm_projector_bytes; 0: without */
} gm_place_opts;

/* Splits *b when the model does not fit or a split was asked for, and closes the other side
 * when one takes all. A device that takes no layer is replaced by the CPU with a note. A split that
 * was asked for stays as it is: may_split becomes false. */
int gm_place_layers(gm_backend **b, const gm_gguf *g, const gm_config *c, const gm_place_opts *o,
                    char *err, size_t errlen);

/* The device had no memory for what it was given, all of which was given back: half as many layers,
 * or the CPU, with a note. Only where may_split is true. */
int gm_place_fewer(gm_backend **b, const gm_config *c, const gm_place_opts *o, char *err,
                   size_t errlen);

/* Appends "(12 of 48 layers)" to the description of a device that is split. Once: when the model is
 * there, and the layers do not become fewer any more. */
void gm_place_describe(gm_backend *b, const gm_config *c);
