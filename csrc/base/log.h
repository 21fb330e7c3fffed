/* log.h: levels per room and one sink.
 *
 * GEMMA_LOG=info,vulkan=trace sets a default level and levels per room (the folder name).
 * Without a sink nothing is written: the library never prints into somebody's editor.
 * Thread: any; the sink may be called from any thread and must not call back into C API.
 */
#pragma once

#include <stdbool.h>

typedef enum { GM_LOG_ERROR, GM_LOG_WARN, GM_LOG_INFO, GM_LOG_DEBUG, GM_LOG_TRACE } gm_log_level;

typedef void (*gm_log_fn)(void *ud, gm_log_level level, const char *room, const char *line);

/* fn NULL: off. Not to be called while other threads log. */
void gm_log_set_sink(gm_log_fn fn, void *ud);

/* Cheap check for callers that would have to compute what they log. */
bool gm_log_on(gm_log_level level, const char *room);

void gm_log(gm_log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
