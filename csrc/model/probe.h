/* probe.h: dumps of activations by name, layer and position, to find the first layer that is
 * wrong. GEMMA_PROBE=dir:name:layer:pos, where name, layer and pos may be '*'. Off costs one
 * branch. Files: dir/name.layer.pos.f32, raw little-endian float32. Names: embd, attn_norm, q, k,
 * v, attn_out, h_mid, ffn_norm, ffn_out, h, logits.
 */
#pragma once

#include "kernels/backend.h"

bool gm_probe_on(void);

/* Looks at GEMMA_PROBE again, after gm_env_reload; for tests. */
void gm_probe_reload(void);

/* x: [n_tok, n]; layer -1 for what is outside layers. Errors are logged, never returned. */
void gm_probe_dump(gm_backend *b, const char *name, int32_t layer, int32_t pos0, const gm_tensor *x,
                   int32_t n_tok);
