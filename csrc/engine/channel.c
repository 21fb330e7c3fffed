/* channel.c: two marks and a line to skip. */
#include "engine/channel.h"

#include <string.h>

enum { MAX_NAME = 32 }; /* bytes; whoever names no channel must not lose a whole thought by it */

void gm_channel_init(gm_channel *c, const gm_vocab *v, const int32_t *prompt, size_t n) {
    const gm_special_ids *ids = gm_vocab_special(v);
    *c = (gm_channel){.begin = ids->channel_begin, .end = ids->channel_end};
    if (c->begin < 0 || c->end < 0) c->begin = c->end = -1;
    if (c->begin < 0) return;
    for (size_t i = n; i-- > 0;) {
        if (prompt[i] == c->end || prompt[i] == ids->turn_begin) return;
        if (prompt[i] != c->begin) continue;
        c->inside = true;
        c->naming = i + 1 == n; /* else the name is in the prompt */
        return;
    }
}

bool gm_channel_mark(gm_channel *c, int32_t id) {
    if (id < 0 || (id != c->begin && id != c->end)) return false;
    c->inside = c->naming = id == c->begin;
    c->n_name = 0;
    return true;
}

gm_str gm_channel_body(gm_channel *c, gm_str piece) {
    if (!c->naming || piece.n == 0) return piece;
    const char *newline = memchr(piece.p, '\n', piece.n);
    size_t n = newline ? (size_t)(newline - piece.p) + 1 : piece.n;
    if (c->n_name + n > MAX_NAME) { /* no name: all of this piece is thought */
        c->naming = false;
        return piece;
    }
    c->n_name += n;
    c->naming = !newline;
    return (gm_str){piece.p + n, piece.n - n};
}
