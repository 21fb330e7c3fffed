/* rope.c: see rope.h. */
#include "kernels/rope.h"

#include <math.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

int gm_rope_keys_init(gm_rope_keys *k, int32_t max_head_dim) {
    *k = (gm_rope_keys){0};
    for (int i = 0; i < GM_ROPE_TABLES; i++) {
        k->key[i].inv_freq = gm_calloc(((size_t)max_head_dim + 1) / 2, sizeof(float));
        if (k->key[i].inv_freq) continue;
        gm_rope_keys_finish(k);
        return GM_ENOMEM;
    }
    return GM_OK;
}

void gm_rope_keys_finish(gm_rope_keys *k) {
    for (int i = 0; i < GM_ROPE_TABLES; i++) gm_free(k->key[i].inv_freq);
    *k = (gm_rope_keys){0};
}

/* Frequencies are compared by value: the caller's array may have moved or changed. */
static bool covers(const gm_rope_key *k, const gm_op_head_norm_rope *op) {
    const int32_t half = op->head_dim / 2;
    return k->n_tok > 0 && k->half == half && op->pos0 >= k->pos0 &&
           op->pos0 + op->n_tok <= k->pos0 + k->n_tok &&
           memcmp(k->inv_freq, op->inv_freq, (size_t)half * sizeof(float)) == 0;
}

int gm_rope_find(gm_rope_keys *k, const gm_op_head_norm_rope *op, bool *fresh) {
    *fresh = false;
    for (int i = 0; i < GM_ROPE_TABLES; i++)
        if (covers(&k->key[i], op)) return i;
    const int i = k->next;
    gm_rope_key *key = &k->key[i];
    k->next = (i + 1) % GM_ROPE_TABLES;
    key->pos0 = op->pos0;
    key->n_tok = op->n_tok;
    key->half = op->head_dim / 2;
    memcpy(key->inv_freq, op->inv_freq, (size_t)key->half * sizeof(float));
    *fresh = true;
    return i;
}

/* Angles in double: at position 262,143 a float32 product is off by up to 1/64 of a radian. */
void gm_rope_turn(const gm_rope_key *k, int32_t t, float *cosine, float *sine) {
    for (int32_t i = 0; i < k->half; i++) {
        const double angle = (double)(k->pos0 + t) * (double)k->inv_freq[i];
        cosine[i] = k->inv_freq[i] == 0.0f ? 1.0f : (float)cos(angle);
        sine[i] = k->inv_freq[i] == 0.0f ? 0.0f : (float)sin(angle);
    }
}
