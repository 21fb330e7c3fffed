/* test_probe.c: GEMMA_PROBE writes the rows that it names, and only those. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>
#include "model/fixture.h"

#include "base/mem.h"
#include "helper/probe.h"
#include "helper/tiny_model.h"
#include "model/probe.h"

/* Runs six tokens of a model of two layers with the probe set to dir:rest, in chunks of four and
 * two; counts the files and removes them. first: name of the alphabetically first one. */
static int count_files(const char *rest, char first[64], long *first_bytes) {
    char dir[] = "/tmp/gemma-probe-XXXXXX", spec[128], path[400];
    assert_non_null(mkdtemp(dir));
    snprintf(spec, sizeof spec, "%s:%s", dir, rest);
    gm_bytes file = tiny_model_build(&(tiny_opts){.pattern = "sg"});
    fixture f;
    assert_int_equal(fixture_open_memory(&f, &file, "cpu", 8), 0);
    gm_kv *kv = fixture_cache(&f, 64, 8, GM_F32);
    static const int32_t ids[] = {2, 30, 40, 50, 60, 70}, all[] = {0, 1, 2, 3};
    float *logits = calloc(4 * 512, sizeof *logits);
    uint64_t violations = gm_noalloc_violations();

    set_probe(spec);
    gm_batch a = {.n_tok = 4, .ids = ids, .n_out = 4, .out_rows = all, .logits = logits};
    gm_batch b = {.n_tok = 2, .ids = ids + 4, .n_out = 2, .out_rows = all, .logits = logits};
    assert_int_equal(gm_decoder_run(f.d, kv, &a), 0);
    assert_int_equal(gm_decoder_run(f.d, kv, &b), 0);
    set_probe(NULL);
    assert_int_equal(gm_noalloc_violations(), violations);

    int n = 0;
    first[0] = '\0';
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        n++;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!first[0] || strcmp(e->d_name, first) < 0) {
            snprintf(first, 64, "%.60s", e->d_name);
            FILE *in = fopen(path, "rb");
            assert_non_null(in);
            fseek(in, 0, SEEK_END);
            *first_bytes = ftell(in);
            fclose(in);
        }
        remove(path);
    }
    closedir(d);
    rmdir(dir);
    gm_kv_destroy(&kv);
    free(logits);
    fixture_close(&f);
    gm_bytes_finish(&file);
    return n;
}

static void one_name_layer_and_position_give_one_file(void **state) {
    (void)state;
    char first[64];
    long bytes = 0;
    assert_int_equal(count_files("h:1:3", first, &bytes), 1);
    assert_string_equal(first, "h.1.3.f32");
    assert_int_equal(bytes, 64 * 4);
    assert_int_equal(count_files("q:1:5", first, &bytes), 1); /* in the second chunk */
    assert_string_equal(first, "q.1.5.f32");
    assert_int_equal(bytes, 4 * 32 * 4);
    assert_int_equal(count_files("logits:*:5", first, &bytes), 1);
    assert_string_equal(first, "logits.-1.5.f32");
    assert_int_equal(bytes, 512 * 4);
}

static void stars_give_everything(void **state) {
    (void)state;
    char first[64];
    long bytes = 0;
    assert_int_equal(count_files("h:*:*", first, &bytes), 2 * 6);
    /* nine names in each of two layers, and the two ends */
    assert_int_equal(count_files("*:*:*", first, &bytes), (9 * 2 + 2) * 6);
    assert_int_equal(count_files("*:-1:0", first, &bytes), 2);
    assert_string_equal(first, "embd.-1.0.f32");
}

static void nonsense_switches_the_probe_off(void **state) {
    (void)state;
    static const char *const bad[] = {"dir",
                                      "dir:h:1",
                                      ":h:1:1",
                                      "d:h:x:1",
                                      "d:h:1:",
                                      "d:h:-7:1",
                                      "d:a-name-that-is-much-longer-than-any-of-ours:1:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set_probe(bad[i]);
        assert_false(gm_probe_on());
    }
    set_probe("d:h:1:1");
    assert_true(gm_probe_on());
    set_probe(NULL);
    assert_false(gm_probe_on());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_name_layer_and_position_give_one_file),
        cmocka_unit_test(stars_give_everything),
        cmocka_unit_test(nonsense_switches_the_probe_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
