/* test_cpuid.c: levels are a ladder, and forcing never climbs above what the CPU has. */
#include "helper/cm.h"

#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/env.h"
#include "base/cpuid.h"

#ifdef __linux__
/* The kernel gives no matrix registers to a process in which a stack for signals has no room for
 * them. In a process of its own, before anybody has asked what the CPU has. */
static void a_small_stack_for_signals_keeps_amx_away(void **state) {
    (void)state;
    enum { SMALL = 8192 }; /* they need 11 KiB */
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static char stack[SMALL];
        const stack_t small = {.ss_sp = stack, .ss_size = sizeof stack};
        _exit(sigaltstack(&small, NULL) != 0 || gm_cpu_has(GM_CPU_AMX) ||
              gm_cpu_level_get() == GM_CPU_AMX);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

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
    if (gm_cpu_has(GM_CPU_AMX)) assert_true(gm_cpu_has(GM_CPU_AVX512VNNI));
    if (gm_cpu_has(GM_CPU_AVX512VNNI)) assert_true(gm_cpu_has(GM_CPU_AVX512));
    if (gm_cpu_has(GM_CPU_AVX512)) assert_true(gm_cpu_has(GM_CPU_AVX2));
    if (gm_cpu_has(GM_CPU_AVXVNNI)) assert_true(gm_cpu_has(GM_CPU_AVX2));
    if (gm_cpu_has(GM_CPU_DOTPROD)) assert_true(gm_cpu_has(GM_CPU_NEON));
    if (gm_cpu_has(GM_CPU_I8MM)) assert_true(gm_cpu_has(GM_CPU_DOTPROD));
    assert_false(gm_cpu_has(GM_CPU_AVX2) && gm_cpu_has(GM_CPU_NEON));
}

static void forcing_lowers_what_the_cpu_lacks(void **state) {
    (void)state;
    gm_cpu_level best = gm_cpu_level_get();
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
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

/* Pictures were resized with AVX2 under GEMMA_CPU=ref: what the CPU has was asked, not the level.
 */
static void nothing_above_the_level_is_used(void **state) {
    (void)state;
    for (int l = GM_CPU_REF; l < GM_CPU_LEVEL_COUNT; l++) {
        assert_int_equal(gm_cpu_uses(GM_CPU_REF, (gm_cpu_level)l), l == GM_CPU_REF);
        assert_int_equal(gm_cpu_uses((gm_cpu_level)l, (gm_cpu_level)l),
                         gm_cpu_has((gm_cpu_level)l));
        assert_true(gm_cpu_uses((gm_cpu_level)l, GM_CPU_REF));
    }
    assert_false(gm_cpu_uses(GM_CPU_LEVEL_COUNT, GM_CPU_LEVEL_COUNT));
}

static void every_level_has_a_name(void **state) {
    (void)state;
    assert_string_equal(gm_cpu_level_name(GM_CPU_REF), "ref");
    assert_string_equal(gm_cpu_level_name(GM_CPU_AVX512VNNI), "avx512vnni");
    assert_string_equal(gm_cpu_level_name(GM_CPU_AMX), "amx");
    assert_string_equal(gm_cpu_level_name((gm_cpu_level)99), "unknown");
    assert_false(gm_cpu_has((gm_cpu_level)99));
}

static void there_is_at_least_one_core(void **state) {
    (void)state;
    int n = gm_cpu_physical_cores();
    assert_true(n >= 1 && n <= 4096);
    assert_int_equal(gm_cpu_physical_cores(), n);
}

#ifdef __linux__
/* CPUs of another machine: for each its thread_siblings_list, NULL where there is none. While they
 * are set they stand in front of the C library's way to the system. */
static const char *const *machine;
static int n_cpu;
static const char *cpu_max; /* of its cgroup; NULL: there is none */

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    int (*real)(pid_t, size_t, cpu_set_t *);
    *(void **)&real = dlsym(RTLD_NEXT, "sched_getaffinity");
    if (!machine) return real(pid, size, set);
    for (int i = 0; i < n_cpu; i++) CPU_SET_S(i, size, set);
    return 0;
}

FILE *fopen(const char *path, const char *mode) {
    FILE *(*real)(const char *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    int cpu, end = 0;
    if (machine && strcmp(path, "/sys/fs/cgroup/cpu.max") == 0)
        return cpu_max ? fmemopen((void *)(uintptr_t)cpu_max, strlen(cpu_max), "r") : NULL;
    if (!machine || sscanf(path, "/sys/devices/system/cpu/cpu%d/topology/%n", &cpu, &end) != 1 ||
        end == 0)
        return real(path, mode);
    const char *name = path + end, *list = machine[cpu];
    /* As an ARM with two clusters of four has them. */
    char id[] = {(char)('0' + cpu % 4), '\0'};
    const char *text = strcmp(name, "thread_siblings_list") == 0 ? list
                       : strcmp(name, "core_id") == 0            ? id
                                                                 : "0";
    return list ? fmemopen((void *)(uintptr_t)text, strlen(text), "r") : NULL;
}

static int cores_of(const char *const *lists, int n) {
    machine = lists, n_cpu = n;
    int cores = gm_cpu_physical_cores();
    machine = NULL;
    return cores;
}

/* An RK3588 counted as four cores: its clusters number their cores from 0, in one package. */
static void cores_are_told_apart_by_who_shares_them(void **state) {
    (void)state;
    static const char *const clusters[] = {"0", "1", "2", "3", "4", "5", "6", "7"},
                             *const threads[] = {"0,4", "1,5", "2,6", "3,7",
                                                 "0,4", "1,5", "2,6", "3,7"},
                             *const pairs[] = {"0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"},
                             *const unknown[8] = {NULL};
    assert_int_equal(cores_of(clusters, 8), 8);
    assert_int_equal(cores_of(threads, 8), 4);
    assert_int_equal(cores_of(threads, 5), 4);
    assert_int_equal(cores_of(pairs, 8), 6);
    assert_int_equal(cores_of(unknown, 8), 8);
}

static void a_container_has_no_more_than_its_quota(void **state) {
    (void)state;
    static const char *const alone[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    static const struct {
        const char *text;
        int cores;
    } quotas[] = {
        {"max 100000\n", 8},   {"200000 100000\n", 2},  {"150000 100000\n", 1},
        {"50000 100000\n", 1}, {"1600000 100000\n", 8}, {"", 8},
        {"-1 100000\n", 8},    {"100000 0\n", 8},       {"99999999999999 1\n", 8},
    };
    for (size_t i = 0; i < sizeof quotas / sizeof *quotas; i++) {
        cpu_max = quotas[i].text;
        assert_int_equal(cores_of(alone, 8), quotas[i].cores);
    }
    cpu_max = NULL;
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
#ifdef __linux__
        cmocka_unit_test(a_small_stack_for_signals_keeps_amx_away),
#endif
        cmocka_unit_test(the_best_level_is_one_that_the_cpu_has),
        cmocka_unit_test(a_level_includes_the_ones_below),
        cmocka_unit_test(forcing_lowers_what_the_cpu_lacks),
        cmocka_unit_test(nothing_above_the_level_is_used),
        cmocka_unit_test(every_level_has_a_name),
        cmocka_unit_test(there_is_at_least_one_core),
#ifdef __linux__
        cmocka_unit_test(cores_are_told_apart_by_who_shares_them),
        cmocka_unit_test(a_container_has_no_more_than_its_quota),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
