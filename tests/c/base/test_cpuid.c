/* test_cpuid.c: levels are a ladder, and forcing never climbs above what the CPU has. */
#include "helper/cm.h"

#include <stdlib.h>
#include <string.h>
#include "base/env.h"
#include "base/cpuid.h"

static void the_best_level_is_one_that_the_cpu_has(void **state) {
    (void)state;
    gm_cpu_level best = gm_cpu_level_get();
    assert_true(gm_cpu_has(best));
    assert_true(gm_cpu_has(GM_CPU_REF));
    /* "ref (...)", with the same name in front */
    const char *name = gm_cpu_level_name(best), *text = gm_cpu_describe();
    assert_int_equal(strncmp(text, name, strlen(name)), 0);
    assert_int_equal(text[strlen(name)], ' ');
}

static void a_level_includes_the_ones_below(void **state) {
    (void)state;
    if (gm_cpu_has(GM_CPU_AVX512VNNI)) assert_true(gm_cpu_has(GM_CPU_AVX512));
    if (gm_cpu_has(GM_CPU_AVX512)) assert_true(gm_cpu_has(GM_CPU_AVX2));
    if (gm_cpu_has(GM_CPU_AVXVNNI)) assert_true(gm_cpu_has(GM_CPU_AVX2));
    if (gm_cpu_has(GM_CPU_DOTPROD)) assert_true(gm_cpu_has(GM_CPU_NEON));
    assert_false(gm_cpu_has(GM_CPU_AVX2) && gm_cpu_has(GM_CPU_NEON));
}

static void forcing_lowers_what_the_cpu_lacks(void **state) {
    (void)state;
    gm_cpu_level best = gm_cpu_level_get();
    for (int l = GM_CPU_REF; l <= GM_CPU_DOTPROD; l++) {
        gm_cpu_force((gm_cpu_level)l);
        gm_cpu_level got = gm_cpu_level_get();
        assert_true(got <= (gm_cpu_level)l);
        assert_true(gm_cpu_has(got));
        if (gm_cpu_has((gm_cpu_level)l)) assert_int_equal(got, l);
    }
    gm_cpu_force(GM_CPU_REF);
    assert_int_equal(gm_cpu_level_get(), GM_CPU_REF);
    gm_cpu_force(best);
    assert_int_equal(gm_cpu_level_get(), best);
}

static void every_level_has_a_name(void **state) {
    (void)state;
    assert_string_equal(gm_cpu_level_name(GM_CPU_REF), "ref");
    assert_string_equal(gm_cpu_level_name(GM_CPU_AVX512VNNI), "avx512vnni");
    assert_string_equal(gm_cpu_level_name((gm_cpu_level)99), "unknown");
    assert_false(gm_cpu_has((gm_cpu_level)99));
}

static void there_is_at_least_one_core(void **state) {
    (void)state;
    int n = gm_cpu_physical_cores();
    assert_true(n >= 1 && n <= 4096);
    assert_int_equal(gm_cpu_physical_cores(), n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_level_is_one_that_the_cpu_has),
        cmocka_unit_test(a_level_includes_the_ones_below),
        cmocka_unit_test(forcing_lowers_what_the_cpu_lacks),
        cmocka_unit_test(every_level_has_a_name),
        cmocka_unit_test(there_is_at_least_one_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
