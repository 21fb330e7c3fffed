/* gemma.c: the exported functions: check, copy, forward. */
#include "api/gemma.h"

#include "base/err.h"
#include "kernels/cpu/cpuid.h"

#define SAME(name, value, text)                                                                    \
    _Static_assert((int)GEMMA_##name == (int)GM_##name, "err.h and gemma.h must agree");
GM_ERR_LIST(SAME)
#undef SAME

uint32_t gemma_abi(void) { return GEMMA_ABI; }
const char *gemma_version(void) { return "0.1.0"; }
const char *gemma_err_name(int code) { return gm_err_name(code); }
const char *gemma_err_text(int code) { return gm_err_text(code); }
const char *gemma_cpu(void) { return gm_cpu_describe(); }
