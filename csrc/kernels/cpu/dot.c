/* dot.c: plain C reference of the dot products, and the choice of variants. */
#include "kernels/cpu/dot.h"

#include <math.h>
#include <string.h>
#include "tensor/quant.h"
#if defined(__x86_64__)
#include "kernels/cpu/x86/x86.h"
#elif defined(__aarch64__)
#include "kernels/cpu/arm/arm.h"
#endif

static void quantise_ref(gm_xq *x, int32_t t) {
    const float *src = x->x + (size_t)t * x->n_in;
    int8_t *q = x->q + (size_t)t * x->n_pad;
    float *d = x->d + (size_t)t * (x->n_pad / 32);
    int32_t *s16 = x->s16 + (size_t)t * (x->n_pad / 16);
    for (int b = 0; b < x->n_pad / 32; b++) {
        float amax = 0;
        for (int i = 32 * b; i < 32 * b + 32 && i < x->n_in; i++) {
            float a = fabsf(src[i]);
            if (a > amax || isnan(a)) amax = a; /* NaN stays */
        }
        bool zero = amax < GM_XQ_LEAST;
        float inv = zero ? 0 : 127.0f / amax;
        d[b] = zero ? 0 : amax / 127.0f;
        s16[2 * b] = s16[2 * b + 1] = 0;
        for (int i = 32 * b; i < 32 * b + 32; i++) {
            /* fmin before the conversion: with a NaN or an infinity in x the scale is one too and
             * carries it on, q only must not overflow. */
            float v = i < x->n_in ? fmaxf(fminf(rintf(src[i] * inv), 127.0f), -127.0f) : 0;
            q[i] = (int8_t)v;
            s16[i / 16] += q[i];
        }
    }
    gm_xq_finish(x, t);
}

void gm_xq_finish(gm_xq *x, int32_t t) {
    int n32 = x->n_pad / 32;
    const float *d = x->d + (size_t)t * (size_t)n32;
    const int32_t *s16 = x->s16 + (size_t)t * (size_t)n32 * 2;
    int32_t *s32 = x->s32 + (size_t)t * (size_t)n32;
    float *ds32 = x->ds32 + (size_t)t * (size_t)n32, *ds16 = x->ds16 + (size_t)t * (size_t)n32 * 2;
    for (int b = 0; b < n32; b++) {
        s32[b] = s16[2 * b] + s16[2 * b + 1];
        ds32[b] = d[b] * (float)s32[b];
        ds16[2 * b] = d[b] * (float)s16[2 * b];
        ds16[2 * b + 1] = d[b] * (float)s16[2 * b + 1];
    }
    for (int i = 0; i < GM_XQ_ORDERS && x->few.fill[i]; i++) x->few.fill[i](x, t);
}

/* Sum over one unpacked stretch of a row, n <= 256, beginning at element k0. */
static float dot_stretch(const gm_unpack_info *u, const gm_xq *x, int t, int k0, int n,
                         const uint8_t *w, const float *scale, const float *min) {
    const int8_t *q = x->q + (size_t)t * x->n_pad + k0;
    const float *d = x->d + (size_t)t * (x->n_pad / 32) + k0 / 32;
    const int32_t *s16 = x->s16 + (size_t)t * (x->n_pad / 16) + k0 / 16;
    float sum = 0;
    for (int g = 0; g < n / u->group; g++) {
        int dot = 0, sx = 0;
        for (int i = 0; i < u->group; i++) dot += w[u->group * g + i] * q[u->group * g + i];
        for (int i = 0; i < u->group / 16; i++) sx += s16[u->group / 16 * g + i];
        float dx = d[u->group * g / 32];
        sum += scale[g] * dx * (float)(dot - u->offset * sx);
        if (u->has_min) sum += min[g] * dx * (float)sx;
    }
    return sum;
}

static void dot_quant_ref(const gm_dot_args *a) {
    const gm_unpack_info *u = gm_unpack_info_get(a->dtype);
    uint8_t q[256];
    float scale[16], min[16];
    for (int r = 0; r < a->n_row; r++) {
        float sum[GM_DOT_TOK] = {0};
        for (int k = 0; k < a->x->n_in; k += 256) {
            int n = a->x->n_in - k < 256 ? a->x->n_in - k : 256;
            a->unpack(a->w + (size_t)r * a->row_bytes, k, n, q, scale, min);
            for (int t = 0; t < a->n_tok; t++)
                sum[t] += dot_stretch(u, a->x, a->tok + t, k, n, q, scale, min);
        }
        for (int t = 0; t < a->n_tok; t++) a->out[(size_t)t * a->out_stride + r] = sum[t];
    }
}

/* The sum in 16 parts: a single float32 sum over 15,360 products would lose three digits. */
static float dot_float(const float *w, const float *x, int n, float part[16]) {
    int i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) part[j] += w[i + j] * x[i + j];
    for (; i < n; i++) part[i % 16] += w[i] * x[i];
    float sum = 0;
    for (int j = 0; j < 16; j++) sum += part[j];
    return sum;
}

static void dot_float_ref(const gm_dot_args *a) {
    size_t elem = gm_dtype_get(a->dtype)->block_bytes;
    for (int r = 0; r < a->n_row; r++) {
        float part[GM_DOT_TOK][16] = {{0}}, sum[GM_DOT_TOK] = {0};
        for (int k = 0; k < a->x->n_in; k += 256) {
            float w[256];
            int n = a->x->n_in - k < 256 ? a->x->n_in - k : 256;
            gm_dequant_row(a->dtype, a->w + (size_t)r * a->row_bytes + (size_t)k * elem, w, n);
            for (int t = 0; t < a->n_tok; t++)
                sum[t] = dot_float(w, a->x->x + (size_t)(a->tok + t) * a->x->n_in + k, n, part[t]);
        }
        for (int t = 0; t < a->n_tok; t++) a->out[(size_t)t * a->out_stride + r] = sum[t];
    }
}

/* Less is too near where a core reads 30 GB/s and memory answers after 150 ns (on Zen 5, 1.5 KiB
 * cost an eighth of the speed), more brings nothing and is lost at the end of a piece. On a Xeon
 * with AMX, whose cores read 12 GB/s, it takes a fifth off the time of Q8_0 to call later (in pages
 * of 4 KiB). */
enum { AHEAD = 6144, AHEAD_XEON = 2048 };

void gm_dot_fill(gm_dot_fns *f, gm_cpu_level level) {
    memset(f, 0, sizeof *f);
    f->ahead = gm_cpu_has(GM_CPU_AMX) ? AHEAD_XEON : AHEAD;
    f->quantise = quantise_ref;
    for (int t = 0; t < GM_DTYPE_LIMIT; t++) {
        if (!gm_dtype_get((uint32_t)t)->can_compute) continue;
        f->unpack[t] = gm_unpack_ref((gm_dtype)t);
        f->dot[t] = f->unpack[t] ? dot_quant_ref : dot_float_ref;
    }
#if defined(__x86_64__)
    gm_x86_fill_dot(f, level);
#elif defined(__aarch64__)
    gm_arm_fill_dot(f, level);
#else
    (void)level;
#endif
}
