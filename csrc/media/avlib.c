/* avlib.c: FFmpeg through dlopen.
 *
 * What is known of their structs, measured with offsetof on versions 5.1, 7.1 and 9.0 (libavformat
 * 59, 61, 63), x86-64 and other LP64 targets:
 *
 *   AVFormatContext  nb_streams 44, streams 48
 *   AVStream         codecpar   208 up to 59; 16 from 60 on, when av_class came to the front
 *   AVCodecParameters codec_type 0, codec_id 4
 *   AVPacket         data 24, size 32, stream_index 36
 *   AVFrame          data 0, linesize 64, extended_data 96, width 104, height 108, nb_samples 112,
 *                    format 116
 *
 * Everything else goes through functions and AVOptions. Another major version than the ones in
 * `versions` is refused, since its structs are unknown.
 */
#include "media/avlib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/decode.h"

/* libavutil, libavcodec, libswscale, libavformat of one FFmpeg release, newest first. */
static const int versions[][4] = {{61, 63, 10, 63}, {60, 62, 9, 62}, {59, 61, 8, 61},
                                  {58, 60, 7, 60},  {57, 59, 6, 59}};

enum { PIX_RGB24 = 2, MEDIA_AUDIO = 1, LOG_QUIET = -8 };
enum { SWS_BICUBIC = 4, SWS_FULL_CHROMA = 0x2000, SWS_ACCURATE = 0x40000 };

#define AV_FUNCS(X)                                                                                \
    X(util, void, av_log_set_level, (int))                                                         \
    X(util, void *, av_frame_alloc, (void))                                                        \
    X(util, void, av_frame_free, (void **))                                                        \
    X(util, int, av_opt_set_int, (void *, const char *, int64_t, int))                             \
    X(util, int, av_opt_get_int, (void *, const char *, int, int64_t *))                           \
    X(util, int, av_opt_get, (void *, const char *, int, uint8_t **))                              \
    X(util, int, av_channel_layout_from_string, (void *, const char *))                            \
    X(util, int, av_dict_set, (void **, const char *, const char *, int))                          \
    X(util, void, av_dict_free, (void **))                                                         \
    X(util, void, av_free, (void *))                                                               \
    X(codec, void *, avcodec_find_decoder_by_name, (const char *))                                 \
    X(codec, void *, avcodec_find_decoder, (int))                                                  \
    X(codec, void *, avcodec_alloc_context3, (const void *))                                       \
    X(codec, void, avcodec_free_context, (void **))                                                \
    X(codec, int, avcodec_parameters_to_context, (void *, const void *))                           \
    X(codec, int, avcodec_open2, (void *, const void *, void **))                                  \
    X(codec, int, avcodec_send_packet, (void *, const void *))                                     \
    X(codec, int, avcodec_receive_frame, (void *, void *))                                         \
    X(codec, void *, av_packet_alloc, (void))                                                      \
    X(codec, void, av_packet_free, (void **))                                                      \
    X(codec, void, av_packet_unref, (void *))                                                      \
    X(codec, int, av_new_packet, (void *, int))                                                    \
    X(scale, void *, sws_getContext,                                                               \
      (int, int, int, int, int, int, int, void *, void *, const double *))                         \
    X(scale, void, sws_freeContext, (void *))                                                      \
    X(scale, int, sws_scale,                                                                       \
      (void *, const uint8_t *const *, const int *, int, int, uint8_t *const *, const int *))      \
    X(format, int, avformat_open_input, (void **, const char *, const void *, void **))            \
    X(format, int, avformat_find_stream_info, (void *, void **))                                   \
    X(format, void, avformat_close_input, (void **))                                               \
    X(format, int, av_read_frame, (void *, void *))

static struct {
    bool ok;
    int major; /* of libavformat */
    char why[160];
#define AV_FIELD(lib, ret, name, args) ret(*name) args;
    AV_FUNCS(AV_FIELD)
#undef AV_FIELD
} av;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char NEED[] = "FFmpeg's libraries are missing; install ffmpeg (Debian: libavformat59 "
                           "libswscale6 or later)";

static void *open_lib(const char *name, int major) {
    char file[64];
#if defined(__APPLE__)
    snprintf(file, sizeof file, "lib%s.%d.dylib", name, major);
#elif defined(_WIN32)
    snprintf(file, sizeof file, "%s-%d.dll", name, major);
#else
    snprintf(file, sizeof file, "lib%s.so.%d", name, major);
#endif
    return dlopen(file, RTLD_NOW | RTLD_LOCAL);
}

/* Handles stay open for the life of the process: decoders of a codec library cannot be unloaded
 * safely. */
static void load(void) {
    void *util = NULL, *codec = NULL, *scale = NULL, *format = NULL;
    snprintf(av.why, sizeof av.why, "%s", NEED);
    for (size_t i = 0; i < sizeof versions / sizeof *versions && !format; i++) {
        const int *v = versions[i];
        format = open_lib("avformat", v[3]);
        if (!format) continue;
        util = open_lib("avutil", v[0]);
        codec = open_lib("avcodec", v[1]);
        scale = open_lib("swscale", v[2]);
        av.major = v[3];
    }
    if (!util || !codec || !scale || !format) return;
    /* POSIX lets a data pointer carry a function; memcpy keeps C11 quiet about it. */
    bool all = true;
#define AV_LOAD(lib, ret, name, args)                                                              \
    {                                                                                              \
        void *sym = dlsym(lib, #name);                                                             \
        memcpy(&av.name, &sym, sizeof sym);                                                        \
        all = all && sym;                                                                          \
    }
    AV_FUNCS(AV_LOAD)
#undef AV_LOAD
    if (!all) {
        snprintf(av.why, sizeof av.why, "FFmpeg %d lacks a function this plugin needs", av.major);
        return;
    }
    av.av_log_set_level(LOG_QUIET); /* it would write into the editor's screen */
    av.ok = true;
}

int gm_avlib_load(char *err, size_t errlen) {
    pthread_once(&once, load);
    return av.ok ? 0 : gm_fail(err, errlen, GM_EUNSUPPORTED, "%s", av.why);
}

/* ---- struct fields ------------------------------------------------------------------------- */

static int32_t i32_at(const void *p, size_t offset) {
    int32_t v;
    memcpy(&v, (const char *)p + offset, sizeof v);
    return v;
}

static void *ptr_at(const void *p, size_t offset) {
    void *v;
    memcpy(&v, (const char *)p + offset, sizeof v);
    return v;
}

static int32_t frame_width(const void *f) { return i32_at(f, 104); }
static int32_t frame_height(const void *f) { return i32_at(f, 108); }
static int32_t frame_n_samples(const void *f) { return i32_at(f, 112); }
static int32_t frame_format(const void *f) { return i32_at(f, 116); }
static void *frame_planes(const void *f) { return ptr_at(f, 96); }

/* ---- pictures ------------------------------------------------------------------------------ */

static int frame_to_rgb(const void *frame, gm_image *out, char *err, size_t errlen) {
    const int32_t w = frame_width(frame), h = frame_height(frame);
    if (w < 1 || h < 1 || (int64_t)w * h > (int64_t)GM_IMAGE_MAX_MPIXEL << 20)
        return gm_fail(err, errlen, GM_ETOOLONG, "a picture of %d x %d pixels is too large (%d Mpx)",
                       w, h, GM_IMAGE_MAX_MPIXEL);
    /* sws writes whole vectors: give it rows with room behind them, then pack. */
    const size_t stride = ((size_t)w * 3 + 63) & ~(size_t)63;
    uint8_t *padded = gm_malloc(stride, (size_t)h + 1);
    out->rgb = gm_malloc((size_t)w * (size_t)h, 3);
    void *sws = av.sws_getContext(w, h, frame_format(frame), w, h, PIX_RGB24,
                                  SWS_BICUBIC | SWS_FULL_CHROMA | SWS_ACCURATE, NULL, NULL, NULL);
    int rc = padded && out->rgb ? (sws ? 0 : GM_EUNSUPPORTED) : GM_ENOMEM;
    if (!rc) {
        int lines[8];
        memcpy(lines, (const char *)frame + 64, sizeof lines);
        uint8_t *const dst[4] = {padded};
        const int dst_lines[4] = {(int)stride};
        if (av.sws_scale(sws, (const uint8_t *const *)frame, lines, 0, h, dst, dst_lines) != h)
            rc = GM_EFORMAT;
    }
    for (int32_t y = 0; !rc && y < h; y++)
        memcpy(out->rgb + (size_t)y * (size_t)w * 3, padded + (size_t)y * stride, (size_t)w * 3);
    out->w = w;
    out->h = h;
    av.sws_freeContext(sws);
    gm_free(padded);
    return rc ? gm_fail(err, errlen, rc, "picture: %s", gm_err_text(rc)) : 0;
}

int gm_avlib_image(const char *codec, const uint8_t *p, size_t n, gm_image *out, char *err,
                   size_t errlen) {
    void *ctx = NULL, *frame = NULL, *packet = NULL;
    int rc = gm_avlib_load(err, errlen);
    if (rc) return rc;
    if (n > INT32_MAX - 4096) return gm_fail(err, errlen, GM_ETOOLONG, "picture file too large");
    rc = gm_fail(err, errlen, GM_EUNSUPPORTED, "this FFmpeg cannot read %s pictures", codec);
    const void *decoder = av.avcodec_find_decoder_by_name(codec);
    if (!decoder) return rc;
    ctx = av.avcodec_alloc_context3(decoder);
    frame = av.av_frame_alloc();
    packet = av.av_packet_alloc();
    rc = GM_ENOMEM;
    if (!ctx || !frame || !packet || av.av_new_packet(packet, (int)n)) goto done;
    memcpy(ptr_at(packet, 24), p, n);
    av.av_opt_set_int(ctx, "max_pixels", (int64_t)GM_IMAGE_MAX_MPIXEL << 20, 0);
    av.av_opt_set_int(ctx, "threads", 1, 0);
    rc = GM_EFORMAT;
    if (av.avcodec_open2(ctx, decoder, NULL) < 0 || av.avcodec_send_packet(ctx, packet) < 0) goto done;
    av.avcodec_send_packet(ctx, NULL); /* nothing follows: frames held for reordering come out */
    if (av.avcodec_receive_frame(ctx, frame) < 0) goto done;
    rc = 0;
done:
    if (rc) gm_fail(err, errlen, rc, "picture: %s", rc == GM_EFORMAT ? "damaged or too large" : gm_err_text(rc));
    if (!rc) rc = frame_to_rgb(frame, out, err, errlen);
    if (packet) av.av_packet_free(&packet);
    if (frame) av.av_frame_free(&frame);
    if (ctx) av.avcodec_free_context(&ctx);
    return rc;
}

/* ---- sound --------------------------------------------------------------------------------- */

static float sample_at(int fmt, const uint8_t *p) {
    int16_t s16;
    int32_t s32;
    int64_t s64;
    float f;
    double d;
    switch (fmt) {
    case 0: return (float)(p[0] - 128) / 128.0f;
    case 1: return memcpy(&s16, p, sizeof s16), (float)s16 / 32768.0f;
    case 2: return memcpy(&s32, p, sizeof s32), (float)s32 / 2147483648.0f;
    case 3: return memcpy(&f, p, sizeof f), f;
    case 4: return memcpy(&d, p, sizeof d), (float)d;
    default: return memcpy(&s64, p, sizeof s64), (float)((double)s64 / 9223372036854775808.0);
    }
}

int gm_samples_append(gm_samples *out, size_t *cap, int fmt, const uint8_t *const *planes, int n_ch,
                      size_t n) {
    static const size_t width[6] = {1, 2, 4, 4, 8, 8};
    const bool planar = (fmt >= 5 && fmt <= 9) || fmt == 11;
    const int base = fmt == 10 || fmt == 11 ? 5 : planar ? fmt - 5 : fmt;
    if (fmt < 0 || fmt > 11 || n_ch < 1) return GM_EUNSUPPORTED;
    if (gm_grow(&out->v, cap, out->n + n, sizeof *out->v)) return GM_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int c = 0; c < n_ch; c++) {
            const uint8_t *p = planar ? planes[c] + i * width[base]
                                      : planes[0] + (i * (size_t)n_ch + (size_t)c) * width[base];
            sum += sample_at(base, p);
        }
        out->v[out->n + i] = sum / (float)n_ch;
    }
    out->n += n;
    return 0;
}

/* Channels of an open decoder. The option's text is the one form that all versions share. */
static int count_channels(void *ctx) {
    uint8_t *text = NULL;
    union {
        char bytes[64]; /* AVChannelLayout has 24; nb_channels is its second int */
        int32_t i[16];
    } layout = {{0}};
    if (av.av_opt_get(ctx, "ch_layout", 0, &text) < 0 || !text) return 0;
    const int ok = av.av_channel_layout_from_string(&layout, (const char *)text);
    av.av_free(text);
    return ok < 0 ? 0 : layout.i[1];
}

typedef struct {
    void *fmt, *ctx, *packet, *frame;
    gm_samples *out;
    size_t cap;
    uint32_t rate;
} sound_reader;

/* Opens only plain local containers: playlists and scripts that name other files or hosts are not
 * in the list, and no protocol but file is. */
static int open_container(sound_reader *r, const char *path) {
    void *dict = NULL;
    char url[4200];
    if (snprintf(url, sizeof url, "file:%s", path) >= (int)sizeof url) return GM_EINVAL;
    av.av_dict_set(&dict, "protocol_whitelist", "file", 0);
    av.av_dict_set(&dict, "format_whitelist",
                   "wav,w64,flac,ogg,mp3,aac,aiff,caf,mov,matroska", 0);
    const int rc = av.avformat_open_input(&r->fmt, url, NULL, &dict);
    av.av_dict_free(&dict);
    if (rc < 0) return GM_EFORMAT;
    return av.avformat_find_stream_info(r->fmt, NULL) < 0 ? GM_EFORMAT : 0;
}

/* Index of the first sound stream with a decoder opened for it, or an error. */
static int open_stream(sound_reader *r) {
    const int32_t n = i32_at(r->fmt, 44);
    void *const *streams = ptr_at(r->fmt, 48);
    for (int32_t i = 0; i < n; i++) {
        const void *par = ptr_at(streams[i], av.major <= 59 ? 208 : 16);
        if (i32_at(par, 0) != MEDIA_AUDIO) continue;
        const void *decoder = av.avcodec_find_decoder(i32_at(par, 4));
        if (!decoder) return GM_EUNSUPPORTED;
        r->ctx = av.avcodec_alloc_context3(decoder);
        if (!r->ctx || av.avcodec_parameters_to_context(r->ctx, par) < 0) return GM_ENOMEM;
        return av.avcodec_open2(r->ctx, decoder, NULL) < 0 ? GM_EUNSUPPORTED : i;
    }
    return GM_ENOENT;
}

/* Takes all frames that the decoder has ready. */
static int drain(sound_reader *r) {
    for (;;) {
        const int got = av.avcodec_receive_frame(r->ctx, r->frame);
        if (got < 0) return 0; /* needs more input, or the end */
        int64_t rate = 0;
        av.av_opt_get_int(r->ctx, "ar", 0, &rate);
        const int n_ch = count_channels(r->ctx);
        if (rate < 1000 || rate > 768000 || n_ch < 1 || n_ch > 64) return GM_EFORMAT;
        if (r->rate && r->rate != (uint32_t)rate) return GM_EUNSUPPORTED;
        r->rate = (uint32_t)rate;
        const int32_t n = frame_n_samples(r->frame);
        if (n < 0) return GM_EFORMAT;
        if ((r->out->n + (size_t)n) / r->rate >= GM_SOUND_MAX_SECONDS) return GM_ETOOLONG;
        const int rc = gm_samples_append(r->out, &r->cap, frame_format(r->frame),
                                         frame_planes(r->frame), n_ch, (size_t)n);
        if (rc) return rc;
    }
}

static int read_all(sound_reader *r, int stream, const gm_cancel *cancel) {
    int rc = 0;
    while (!rc && av.av_read_frame(r->fmt, r->packet) >= 0) {
        /* A damaged packet is skipped, as players do; the rest may be fine. */
        if (i32_at(r->packet, 36) == stream && av.avcodec_send_packet(r->ctx, r->packet) >= 0)
            rc = drain(r);
        av.av_packet_unref(r->packet);
        if (gm_cancelled(cancel)) rc = GM_ECANCELLED;
    }
    if (!rc && av.avcodec_send_packet(r->ctx, NULL) >= 0) rc = drain(r);
    return rc ? rc : r->out->n ? 0 : GM_EFORMAT;
}

static int sound_error(int rc, char *err, size_t errlen) {
    if (rc == GM_ETOOLONG)
        return gm_fail(err, errlen, rc, "the recording is longer than %d seconds; cut it",
                       GM_SOUND_MAX_SECONDS);
    if (rc == GM_ENOENT) return gm_fail(err, errlen, GM_EFORMAT, "no sound track in the file");
    if (rc == GM_EFORMAT)
        return gm_fail(err, errlen, rc, "no sound file of a known kind (wav, flac, ogg, mp3, m4a, mp4, "
                                        "webm, mkv), or damaged");
    return gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc));
}

int gm_avlib_sound(const char *path, gm_samples *out, uint32_t *rate, const gm_cancel *cancel,
                   char *err, size_t errlen) {
    memset(out, 0, sizeof *out);
    int rc = gm_avlib_load(err, errlen);
    if (rc) return rc;
    sound_reader r = {.out = out};
    r.packet = av.av_packet_alloc();
    r.frame = av.av_frame_alloc();
    rc = r.packet && r.frame ? open_container(&r, path) : GM_ENOMEM;
    const int stream = rc ? rc : open_stream(&r);
    rc = stream < 0 ? stream : read_all(&r, stream, cancel);
    *rate = r.rate;
    if (r.packet) av.av_packet_free(&r.packet);
    if (r.frame) av.av_frame_free(&r.frame);
    if (r.ctx) av.avcodec_free_context(&r.ctx);
    if (r.fmt) av.avformat_close_input(&r.fmt);
    if (!rc) return 0;
    gm_free(out->v);
    memset(out, 0, sizeof *out);
    return sound_error(rc, err, errlen);
}
