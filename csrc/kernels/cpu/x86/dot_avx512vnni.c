/* dot_avx512vnni.c: decode with vpdpbusd, 512 bits wide. */
#define GM_ZMM_VNNI 1
#include "kernels/cpu/x86/dot_zmm.h"

void gm_dot_fill_avx512vnni(gm_dot_fns *f) {
    f->dot[GM_Q4_0] = dot_q4_0;
    f->dot[GM_Q8_0] = dot_q8_0;
    f->dot[GM_Q4_K] = dot_q4_k;
    f->dot[GM_Q5_K] = dot_q5_k;
    f->dot[GM_Q6_K] = dot_q6_k;
    f->dot[GM_IQ4_NL] = dot_iq4_nl;
    f->dot[GM_IQ4_XS] = dot_iq4_xs;
    f->fill_few[GM_Q4_0] = f->fill_few[GM_IQ4_NL] = f->fill_few[GM_IQ4_XS] = fill_lanes;
    f->fill_few[GM_Q8_0] = NULL; /* takes x->q as it is; the kernel that it replaces does not */
    f->fill_few[GM_Q4_K] = f->fill_few[GM_Q5_K] = fill_pairs;
    f->fill_few[GM_Q6_K] = fill_quads;
}
