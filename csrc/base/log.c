/* log.c: the sink, and the levels per room that GEMMA_LOG asks for. */
#include "base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "base/env.h"

#define MAX_ROOMS 16
#define MAX_ROOM_NAME 24

typedef struct {
    char name[MAX_ROOM_NAME];
    gm_log_level level;
} room_level;

/* Written by gm_log_set_sink only, which nobody calls while others log. */
static gm_log_fn sink;
static void *sink_ud;
static gm_log_level default_level;
static room_level rooms[MAX_ROOMS];
static size_t n_room;

static bool parse_level(const char *s, size_t n, gm_log_level *out) {
    static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strlen(level_names[i]) == n && memcmp(level_names[i], s, n) == 0) {
            *out = (gm_log_level)i;
            return true;
        }
    return false;
}

/* One of "level" or "room=level"; anything else is ignored. */
static void parse_item(const char *s, size_t n) {
    const char *eq = memchr(s, '=', n);
    gm_log_level level;
    if (!eq) {
        if (parse_level(s, n, &level)) default_level = level;
        return;
    }
    size_t n_name = (size_t)(eq - s);
    if (n_name >= MAX_ROOM_NAME || n_room == MAX_ROOMS) return;
    if (!parse_level(eq + 1, n - n_name - 1, &level)) return;
    memcpy(rooms[n_room].name, s, n_name);
    rooms[n_room].name[n_name] = '\0';
    rooms[n_room++].level = level;
}

static void parse_levels(const char *s) {
    default_level = GM_LOG_INFO;
    n_room = 0;
    while (s && *s) {
        size_t n = strcspn(s, ",");
        parse_item(s, n);
        s += n;
        if (*s == ',') s++;
    }
}

void gm_log_set_sink(gm_log_fn fn, void *ud) {
    parse_levels(gm_env(GM_ENV_LOG));
    sink = fn;
    sink_ud = ud;
}

bool gm_log_on(gm_log_level level, const char *room) {
    if (!sink) return false;
    for (size_t i = 0; i < n_room; i++)
        if (strcmp(rooms[i].name, room) == 0) return level <= rooms[i].level;
    return level <= default_level;
}

void gm_log(gm_log_level level, const char *room, const char *fmt, ...) {
    if (!gm_log_on(level, room)) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (unsigned char *p = (unsigned char *)line; *p; p++)
        if (*p < 0x20 || *p == 0x7F) *p = ' ';
    sink(sink_ud, level, room, line);
}
