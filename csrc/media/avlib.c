/* avlib.c: FFmpeg at run time: finding it, and pictures. Tracks of files are in avtrack.c.
 *
 * What is known of their structs, measured with offsetof on versions 5.1, 7.1 and 9.0 (libavformat
 * 59, 61, 63), x86-64 and other LP64 targets. The tests of pictures and films pass with these and
 * with 8.1; 6 was read about, not run.
 *
 *   AVFormatContext  nb_streams 44, streams 48
 *   AVStream         time_base 16, codecpar 208 up to 59;
 *                    codecpar 16, time_base 32 from 60 on, when av_class came to the front
 *   AVCodecParameters codec_type 0, codec_id 4
 *   AVPacket         pts 8, data 24, size 32, stream_index 36, flags 40
 *   AVFrame          data 0, linesize 64, extended_data 96, width 104, height 108, nb_samples 112,
 *                    format 116
 *   AVFrameSideData  data 8, size 16 (measured on 5.1; frame.h has it grow at its end only)
 *
 * Everything else goes through functions and AVOptions. Another major version than the ones in
 * `versions` is refused, since its structs are unknown.
 */
#include "media/avlib_in.h"
#include "media/chroma.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/dynlib.h"
#include "base/err.h"
#include "base/mem.h"
#include "media/decode.h"

/* libavutil, libavcodec, libswscale, libavformat of one FFmpeg release, newest first. */
static const int versions[][4] = {
    {61, 63, 10, 63}, {60, 62, 9, 62}, {59, 61, 8, 61}, {58, 60, 7, 60}, {57, 59, 6, 59}};

enum { PIX_RGB24 = 2, LOG_QUIET = -8, EF_EXPLODE = 8 };
enum { SWS_BICUBIC = 4, SWS_FULL_CHROMA = 0x2000, SWS_ACCURATE = 0x40000, SWS_CS_DEFAULT = 5 };

struct gm_av gm_av;

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
    return gm_dynlib_open((const char *const[]){file}, 1);
}

/* Handles stay open for the life of the process: decoders of a codec library cannot be unloaded
 * safely. */
static void load(void) {
    void *util = NULL, *codec = NULL, *scale = NULL, *format = NULL;
    snprintf(gm_av.why, sizeof gm_av.why, "%s", NEED);
    for (size_t i = 0; i < sizeof versions / sizeof *versions && !format; i++) {
        const int *v = versions[i];
        format = open_lib("avformat", v[3]);
        if (!format) continue;
        util = open_lib("avutil", v[0]);
        codec = open_lib("avcodec", v[1]);
        scale = open_lib("swscale", v[2]);
        gm_av.major = v[3];
    }
    if (!util || !codec || !scale || !format) return;
    bool all = true;
#define AV_LOAD(lib, ret, name, args) all = gm_dynlib_find(lib, #name, &gm_av.name) && all;
    AV_FUNCS(AV_LOAD)
#undef AV_LOAD
    if (!all) {
        snprintf(gm_av.why, sizeof gm_av.why, "FFmpeg %d lacks a function this plugin needs",
                 gm_av.major);
        return;
    }
    gm_dynlib_find(format, "av_stream_get_side_data", &gm_av.av_stream_get_side_data);
    gm_av.av_log_set_level(LOG_QUIET); /* it would write into the editor's screen */
    gm_av.ok = true;
}

const char *gm_decode_missing(void) {
    pthread_once(&once, load);
    return gm_av.ok ? NULL : gm_av.why;
}

int gm_avlib_load(char *err, size_t errlen) {
    const char *why = gm_decode_missing();
    return why ? gm_fail(err, errlen, GM_EUNSUPPORTED, "%s", why) : 0;
}

/* ---- pictures ------------------------------------------------------------------------------ */

int gm_av_to_rgb(const void *frame, gm_av_colours how, gm_image *out, char *err, size_t errlen) {
    const int32_t w = gm_av_width(frame), h = gm_av_height(frame);
    const int fits = gm_image_check(w, h, err, errlen);
    if (fits) return fits;
    /* sws writes whole vectors: give it rows with room behind them, then pack in place. */
    const size_t stride = ((size_t)w * 3 + 63) & ~(size_t)63;
    uint8_t *padded = out->rgb = gm_malloc(stride, (size_t)h + 1);
    if (padded && gm_av_format(frame) == PIX_RGB24) {
        const uint8_t *from = gm_av_ptr(frame, 0);
        const int64_t step = gm_av_i32(frame, 64);
        for (int32_t y = 0; y < h; y++, from += step)
            memcpy(padded + (size_t)y * (size_t)w * 3, from, (size_t)w * 3);
        out->w = w;
        out->h = h;
        return 0;
    }
    void *sws =
        gm_av.sws_getContext(w, h, gm_av_format(frame), w, h, PIX_RGB24,
                             SWS_BICUBIC | SWS_FULL_CHROMA | SWS_ACCURATE, NULL, NULL, NULL);
    int rc = padded ? (sws ? 0 : GM_EUNSUPPORTED) : GM_ENOMEM;
    if (!rc) {
        const int *bt601 = gm_av.sws_getCoefficients(SWS_CS_DEFAULT), *from = bt601;
        if (how.matrix != GM_AV_UNTOLD) from = gm_av.sws_getCoefficients(how.matrix);
        if (how.full || from != bt601)
            gm_av.sws_setColorspaceDetails(sws, from, how.full, bt601, 1, 0, 1 << 16, 1 << 16);
        int lines[8];
        memcpy(lines, (const char *)frame + 64, sizeof lines);
        uint8_t *const dst[4] = {padded};
        const int dst_lines[4] = {(int)stride};
        if (gm_av.sws_scale(sws, (const uint8_t *const *)frame, lines, 0, h, dst, dst_lines) != h)
            rc = GM_EFORMAT;
    }
    for (int32_t y = 1; !rc && y < h; y++)
        memmove(padded + (size_t)y * (size_t)w * 3, padded + (size_t)y * stride, (size_t)w * 3);
    out->w = w;
    out->h = h;
    gm_av.sws_freeContext(sws);
    return rc ? gm_fail(err, errlen, rc, "picture: %s", gm_err_text(rc)) : 0;
}

/* A decoder's own words for what it does not know: AVERROR_PATCHWELCOME and AVERROR(ENOSYS). */
static bool is_unknown_kind(int av) {
    return av == -('P' | 'A' << 8 | 'W' << 16 | 'E' << 24) || av == -ENOSYS;
}

/* Pictures whose colour planes the reference's readers widen in their own way. False: another
 * form. */
static bool widen_chroma(const char *codec, const void *frame, gm_image *out,
                         const gm_cancel *cancel) {
    enum { YUV420P = 0, YUVJ420P = 12, YUVJ422P = 13, YUVJ444P = 14, YUVJ440P = 32, YUVA420P = 33 };
    const int32_t form = gm_av_format(frame);
    const bool webp = strcmp(codec, "webp") == 0 && (form == YUV420P || form == YUVA420P);
    /* by name: the numbers above are old ones, which stay */
    const bool quarter = form == gm_av.av_get_pix_fmt("yuvj411p");
    const bool jpeg = strcmp(codec, "mjpeg") == 0 &&
                      ((form >= YUVJ420P && form <= YUVJ444P) || form == YUVJ440P || quarter);
    gm_chroma c = {.w = gm_av_width(frame),
                   .h = gm_av_height(frame),
                   .half_x = form != YUVJ444P && form != YUVJ440P,
                   .half_y = form != YUVJ422P && form != YUVJ444P,
                   .quarter_x = quarter,
                   .webp = webp};
    if (!webp && !jpeg) return false;
    if (c.w < 1 || c.h < 1 || (int64_t)c.w * c.h > (int64_t)GM_IMAGE_MAX_MPIXEL << 20) return false;
    for (size_t k = 0; k < 3; k++) {
        c.plane[k] = gm_av_ptr(frame, 8 * k);
        c.line[k] = gm_av_i32(frame, 64 + 4 * k);
        if (!c.plane[k]) return false;
    }
    out->rgb = gm_malloc((size_t)c.w * (size_t)c.h, 3);
    if (!out->rgb) return false;
    gm_chroma_to_rgb(&c, out->rgb, cancel);
    out->w = c.w;
    out->h = c.h;
    return true;
}

int gm_avlib_image(const char *codec, const uint8_t *p, size_t n, gm_image *out,
                   const gm_cancel *cancel, char *err, size_t errlen) {
    void *ctx = NULL, *frame = NULL, *packet = NULL;
    int rc = gm_avlib_load(err, errlen);
    if (rc) return rc;
    if (n > INT32_MAX - 4096) return gm_fail(err, errlen, GM_ETOOLONG, "picture file too large");
    const void *decoder = gm_av.avcodec_find_decoder_by_name(codec);
    if (!decoder)
        return gm_fail(err, errlen, GM_EUNSUPPORTED, "this FFmpeg cannot read %s pictures", codec);
    ctx = gm_av.avcodec_alloc_context3(decoder);
    frame = gm_av.av_frame_alloc();
    packet = gm_av.av_packet_alloc();
    rc = GM_ENOMEM;
    if (!ctx || !frame || !packet || gm_av.av_new_packet(packet, (int)n)) goto done;
    memcpy(gm_av_ptr(packet, 24), p, n);
    gm_av.av_opt_set_int(ctx, "max_pixels", (int64_t)GM_IMAGE_MAX_MPIXEL << 20, 0);
    gm_av.av_opt_set_int(ctx, "threads", 1, 0);
    /* Or a JPEG that is cut off would be a picture; TIFFs that are whole have such errors. */
    if (strcmp(codec, "mjpeg") == 0) gm_av.av_opt_set_int(ctx, "err_detect", EF_EXPLODE, 0);
    int av = gm_av.avcodec_open2(ctx, decoder, NULL);
    if (av >= 0) av = gm_av.avcodec_send_packet(ctx, packet);
    if (av >= 0) {
        /* nothing follows: frames held for reordering come out */
        gm_av.avcodec_send_packet(ctx, NULL);
        av = gm_av.avcodec_receive_frame(ctx, frame);
    }
    rc = av >= 0 ? 0 : is_unknown_kind(av) ? GM_EUNSUPPORTED : GM_EFORMAT;
    /* JPEG of four colours and TIFF come as forms of 16 .. 235, but hold the full range, as libjpeg
     * and libtiff (ReferenceBlackWhite unless told) read them. */
    const bool full = strcmp(codec, "mjpeg") == 0 || strcmp(codec, "tiff") == 0;
    const gm_av_colours how = {GM_AV_UNTOLD, full};
    if (!rc && !widen_chroma(codec, frame, out, cancel))
        rc = gm_av_to_rgb(frame, how, out, err, errlen);
done:
    if (rc == GM_EFORMAT)
        gm_fail(err, errlen, rc, "picture: damaged, or larger than 128 million pixels");
    else if (rc == GM_EUNSUPPORTED)
        gm_fail(err, errlen, rc, "a picture of this kind cannot be read; save it as PNG");
    else if (rc == GM_ENOMEM) gm_fail(err, errlen, rc, "picture: %s", gm_err_text(rc));
    if (packet) gm_av.av_packet_free(&packet);
    if (frame) gm_av.av_frame_free(&frame);
    if (ctx) gm_av.avcodec_free_context(&ctx);
    return rc;
}
