/* cpuid.c: instruction sets of this CPU, and how many real cores this process may use.
 *
 * The CPU saying that it has AVX is not enough: the operating system must save the wide registers
 * on a switch of threads, which xgetbv tells. A virtual machine may offer one without the other.
 */
#include "base/cpuid.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/env.h"
#include "base/log.h"

#ifdef __x86_64__
#define GM_X86 1
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#define N_LEVEL GM_CPU_LEVEL_COUNT

static const char *const level_names[N_LEVEL] = {
    [GM_CPU_REF] = "ref",
    [GM_CPU_AVX2] = "avx2",
    [GM_CPU_AVXVNNI] = "avxvnni",
    [GM_CPU_AVX512] = "avx512",
    [GM_CPU_AVX512VNNI] = "avx512vnni",
    [GM_CPU_AMX] = "amx",
    [GM_CPU_NEON] = "neon",
    [GM_CPU_DOTPROD] = "dotprod",
    [GM_CPU_I8MM] = "i8mm",
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has[N_LEVEL];
static char features[160];    /* names of what was found, separated by spaces */
static atomic_int level = -1; /* gm_cpu_level; what gm_cpu_level_get answers */

static void add_feature(const char *name) {
    size_t n = strlen(features);
    snprintf(features + n, sizeof features - n, "%s%s", n ? " " : "", name);
}

#ifdef GM_X86
/* Register state that the operating system saves: bits 1, 2 are SSE and AVX, 5 to 7 AVX-512, 17 and
 * 18 those of AMX. */
static uint64_t read_xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* The matrix registers are 8 KiB, so the kernel saves them only for processes that have asked
 * (Documentation/arch/x86/xstate.rst). It says no where a thread's stack for signals is too small
 * for them. */
static bool ask_for_amx(void) {
#ifdef __linux__
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

static bool bit(uint32_t reg, int i, const char *name) {
    bool on = reg >> i & 1;
    if (on) add_feature(name);
    return on;
}

static void detect(void) {
    has[GM_CPU_REF] = true;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    bool osxsave = c >> 27 & 1;
    if (!osxsave || !(c >> 28 & 1)) return;
    uint64_t xcr0 = read_xcr0();
    if ((xcr0 & 0x6) != 0x6) return;
    bool os512 = (xcr0 & 0xe6) == 0xe6;
    bool fma = bit(c, 12, "fma"), f16c = bit(c, 29, "f16c");
    uint32_t a7, b7, c7, d7, a71 = 0, b71, c71, d71;
    if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return;
    has[GM_CPU_AVX2] = bit(b7, 5, "avx2") && fma && f16c;
    if (a7 >= 1) __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
    has[GM_CPU_AVXVNNI] = has[GM_CPU_AVX2] && bit(a71, 4, "avx_vnni");
    if (!os512) return;
    bool f = bit(b7, 16, "avx512f"), dq = bit(b7, 17, "avx512dq"), bw = bit(b7, 30, "avx512bw"),
         vl = bit(b7, 31, "avx512vl"), vnni = bit(c7, 11, "avx512vnni");
    has[GM_CPU_AVX512] = has[GM_CPU_AVX2] && f && dq && bw && vl;
    has[GM_CPU_AVX512VNNI] = has[GM_CPU_AVX512] && vnni;
    const bool os_amx = (xcr0 & 0x60000) == 0x60000, tile = bit(d7, 24, "amx_tile"),
               bf16 = bit(d7, 22, "amx_bf16"), convert = bit(a71, 5, "avx512_bf16");
    has[GM_CPU_AMX] = has[GM_CPU_AVX512VNNI] && os_amx && tile && bf16 && convert && ask_for_amx();
}
#elif defined(__aarch64__)
static void detect(void) {
    has[GM_CPU_REF] = has[GM_CPU_NEON] = true;
    add_feature("neon");
#if defined(__linux__)
    /* Numbers from the kernel's uapi/asm/hwcap.h, which older C libraries lack in part. */
    enum { HWCAP_ASIMDDP_BIT = 20, HWCAP2_I8MM_BIT = 13 };
    has[GM_CPU_DOTPROD] = getauxval(AT_HWCAP) >> HWCAP_ASIMDDP_BIT & 1;
    has[GM_CPU_I8MM] = has[GM_CPU_DOTPROD] && getauxval(AT_HWCAP2) >> HWCAP2_I8MM_BIT & 1;
#elif defined(__APPLE__)
    has[GM_CPU_DOTPROD] = true; /* every 64-bit Mac */
    int i8mm = 0;               /* from the M2 on */
    size_t size = sizeof i8mm;
    has[GM_CPU_I8MM] = !sysctlbyname("hw.optional.arm.FEAT_I8MM", &i8mm, &size, NULL, 0) && i8mm;
#endif
    if (has[GM_CPU_DOTPROD]) add_feature("dotprod");
    if (has[GM_CPU_I8MM]) add_feature("i8mm");
}
#else
static void detect(void) { has[GM_CPU_REF] = true; }
#endif

/* The best level that is not above l. */
static gm_cpu_level lower(gm_cpu_level l) {
    while (l > GM_CPU_REF && !has[l]) l--;
    return l;
}

static void init(void) {
    detect();
    gm_cpu_level best = lower(GM_CPU_LEVEL_COUNT - 1);
    const char *wanted = gm_env(GM_ENV_CPU);
    int l = -1;
    for (int i = 0; wanted && i < N_LEVEL; i++)
        if (strcmp(wanted, level_names[i]) == 0) l = i;
    if (wanted && l < 0)
        gm_log(GM_LOG_WARN, "kernels", "GEMMA_CPU=%s is no level that I know; ignored", wanted);
    atomic_store(&level, (int)(l < 0 ? best : lower((gm_cpu_level)l)));
}

gm_cpu_level gm_cpu_level_get(void) {
    pthread_once(&once, init);
    return (gm_cpu_level)atomic_load_explicit(&level, memory_order_relaxed);
}

bool gm_cpu_has(gm_cpu_level l) {
    pthread_once(&once, init);
    return (unsigned)l < N_LEVEL && has[l];
}

bool gm_cpu_uses(gm_cpu_level top, gm_cpu_level l) { return l <= top && gm_cpu_has(l); }

void gm_cpu_force(gm_cpu_level l) {
    pthread_once(&once, init);
    atomic_store(&level, (int)lower((unsigned)l < N_LEVEL ? l : GM_CPU_LEVEL_COUNT - 1));
}

const char *gm_cpu_level_name(gm_cpu_level l) {
    return (unsigned)l < N_LEVEL ? level_names[l] : "unknown";
}

static char description[sizeof features + 32];
static pthread_once_t described = PTHREAD_ONCE_INIT;

static void describe(void) {
    snprintf(description, sizeof description, "%s (%s)", gm_cpu_level_name(gm_cpu_level_get()),
             features[0] ? features : "no vector extensions");
}

const char *gm_cpu_describe(void) {
    pthread_once(&described, describe);
    return description;
}

#ifdef __linux__
/* The first of the hyperthreads that share the core of a CPU; the CPU itself when that cannot be
 * read. core_id would not do: on ARM it counts from 0 in every cluster, and all clusters may be of
 * package 0 (parse_cluster in the kernel's drivers/base/arch_topology.c). */
static int first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f) return cpu;
    int v; /* of "4" or "0,8" or "0-1" */
    if (fscanf(f, "%d", &v) != 1 || v < 0 || v >= CPU_SETSIZE) v = cpu;
    fclose(f);
    return v;
}

/* Distinct cores among the CPUs that the affinity mask allows: hyperthreads share the vector units,
 * so a second one adds nothing to work that is bound by them. */
static int count_cores(const cpu_set_t *set) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set)) CPU_SET(first_sibling(cpu), &cores);
    return CPU_COUNT(&cores);
}

/* Whole processors' worth of time that a container may use, at least 1; 0: no limit. More threads
 * than these would be stopped, all of them, for the rest of each period. The file is that of
 * cgroups of the second kind: "200000 100000", microseconds in each so many, or "max 100000". */
static int quota(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return 0;
    long long used, period;
    const bool limited = fscanf(f, "%lld %lld", &used, &period) == 2 && used > 0 && period > 0;
    fclose(f);
    if (!limited) return 0;
    const long long n = used / period;
    return n < 1 ? 1 : n > CPU_SETSIZE ? 0 : (int)n;
}
#endif

int gm_cpu_physical_cores(void) {
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int n = count_cores(&set), most = quota();
        if (n > 0) return most > 0 && most < n ? most : n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
