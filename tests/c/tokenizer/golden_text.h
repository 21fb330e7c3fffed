/* golden_text.h: reads tests/golden/tokenizer_*.txt; tokenizer_index.py tells the format. */
#pragma once

#include <stdio.h>
#include "base/buf.h"
#include "make_vocab.h"

typedef struct {
    gm_bytes text, decoded;
    gm_ids special, plain;
    bool has_decoded;
} golden_text;

typedef struct {
    char model[128]; /* path of the file with the vocabulary */
    golden_text item[64];
    size_t n;
} golden_texts;

static inline void read_hex(const char *s, gm_bytes *out) {
    unsigned b;
    for (; sscanf(s, "%2x", &b) == 1; s += 2) {
        char c = (char)b;
        assert_int_equal(gm_bytes_append(out, &c, 1), 0);
    }
}

static inline void read_ids(const char *s, gm_ids *out) {
    int id, used;
    for (; sscanf(s, "%d%n", &id, &used) == 1; s += used) {
        assert_int_equal(gm_ids_push(out, id), 0);
    }
}

static inline void read_golden_texts(golden_texts *g, const char *name) {
    char path[128], line[8192];
    snprintf(path, sizeof path, "tests/golden/tokenizer_%s.txt", name);
    *g = (golden_texts){0};
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s is not there; tests run in the folder of the Makefile", path);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ' ');
        value = value ? value + 1 : line + strlen(line);
        golden_text *t = g->n ? &g->item[g->n - 1] : NULL;
        if (strncmp(line, "model ", 6) == 0) {
            snprintf(g->model, sizeof g->model, "tests/golden/%s", value);
        } else if (strncmp(line, "text", 4) == 0) {
            assert_true(g->n < sizeof g->item / sizeof *g->item);
            read_hex(value, &g->item[g->n++].text);
        } else if (t && strncmp(line, "special", 7) == 0) {
            read_ids(value, &t->special);
        } else if (t && strncmp(line, "plain", 5) == 0) {
            read_ids(value, &t->plain);
        } else if (t && strncmp(line, "decoded", 7) == 0) {
            t->has_decoded = true;
            read_hex(value, &t->decoded);
        }
    }
    fclose(f);
    assert_true(g->n > 0);
}

static inline void finish_golden_texts(golden_texts *g) {
    for (size_t i = 0; i < g->n; i++) {
        gm_bytes_finish(&g->item[i].text);
        gm_bytes_finish(&g->item[i].decoded);
        gm_ids_finish(&g->item[i].special);
        gm_ids_finish(&g->item[i].plain);
    }
}
