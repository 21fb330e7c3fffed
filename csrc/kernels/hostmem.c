/* hostmem.c: the list of blocks that a host backend gave out. */
#include "kernels/hostmem.h"

#include "base/err.h"
#include "base/mem.h"

int gm_hostmem_alloc(gm_hostmem *m, gm_tensor *t) {
    int e = gm_grow(&m->block, &m->cap, m->n + 1, sizeof *m->block);
    if (e) return e;
    size_t n_row = (size_t)gm_tensor_rows(t);
    void *p = gm_calloc(n_row, t->row_bytes);
    if (!p) return GM_ENOMEM;
    m->block[m->n++] = p;
    t->data = p;
    return GM_OK;
}

void gm_hostmem_free(gm_hostmem *m, gm_tensor *t) {
    for (size_t i = 0; i < m->n; i++)
        if (m->block[i] == t->data) {
            gm_free(t->data);
            m->block[i] = m->block[--m->n];
            return;
        }
}

void gm_hostmem_finish(gm_hostmem *m) {
    for (size_t i = 0; i < m->n; i++) gm_free(m->block[i]);
    gm_free(m->block);
    *m = (gm_hostmem){0};
}
