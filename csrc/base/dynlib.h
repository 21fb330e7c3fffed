/* dynlib.h: libraries that are looked for at run time. The only user of dlopen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The first of n libraries that is there; NULL: none is. */
void *gm_dynlib_open(const char *const *names, size_t n);
void gm_dynlib_close(void *lib); /* lib may be NULL */

/* Puts the address of a function into *fn, a function pointer; NULL and false when lib is NULL or
 * has none of this name. */
bool gm_dynlib_find(void *lib, const char *name, void *fn);
