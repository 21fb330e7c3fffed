/* gguf_touch.h: reads everything that an open GGUF file offers. */
#pragma once

#include <stdint.h>
#include "format/gguf.h"

/* A checksum over all names, values and tensor bytes (all of them up to 64 KiB per tensor, else
 * the ends). What the file promises is checked on the way: found by its name, inside the file, no
 * dimension 0; a broken promise ends the program, since fuzzers call this too. */
uint64_t gguf_touch(const gm_gguf *g);
