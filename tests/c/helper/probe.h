/* probe.h: GEMMA_PROBE in the middle of a test. */
#pragma once

#include <stdlib.h>
#include "base/env.h"
#include "model/probe.h"

/* From now on as if the variable had been this at the start; NULL: unset. */
static inline void set_probe(const char *spec) {
    if (spec) setenv("GEMMA_PROBE", spec, 1);
    else unsetenv("GEMMA_PROBE");
    gm_env_reload();
    gm_probe_reload();
}
