/* avtrack.c: the sound and the pictures of a container, through FFmpeg's libraries.
 *
 * A damaged packet is skipped, as players do; the rest may be fine. A video is read twice: once to
 * count its frames, which no header can be trusted with, and once to decode them and hand out the
 * few that the model sees. That takes seconds, so it can be interrupted and goes on where it was.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "media/avlib_in.h"
#include "media/decode.h"
#include "media/turn.h"

/* ---- samples ------------------------------------------------------------------------------- */

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

/* Appends the mean of n_ch channels, n samples each, of a frame to out. Its format is one of
 * AV_SAMPLE_FMT_U8 = 0, S16, S32, FLT, DBL, then the planar ones, S64, S64P. */
static int append_samples(gm_samples *out, size_t *cap, const void *frame, int n_ch, size_t n) {
    enum { OWN_PLANES = 8, DATA = 0, LINESIZE = 64, EXTENDED_DATA = 96 }; /* of an AVFrame */
    static const size_t width[6] = {1, 2, 4, 4, 8, 8};
    const int fmt = gm_av_format(frame);
    const bool planar = (fmt >= 5 && fmt <= 9) || fmt == 11;
    const int base = fmt == 10 || fmt == 11 ? 5 : planar ? fmt - 5 : fmt;
    if (fmt < 0 || fmt > 11 || n_ch < 1) return GM_EUNSUPPORTED;
    /* n_ch is the decoder's and may have changed since it allocated the frame. */
    const uint8_t *const *planes = gm_av_ptr(frame, EXTENDED_DATA);
    const int n_plane = planar ? n_ch : 1, room = gm_av_i32(frame, LINESIZE);
    if (!planes || (n_plane > OWN_PLANES && (const char *)planes == (const char *)frame + DATA))
        return GM_EFORMAT;
    if (room < 0 || (size_t)room / width[base] / (planar ? 1 : (size_t)n_ch) < n) return GM_EFORMAT;
    for (int c = 0; c < n_plane; c++)
        if (!planes[c]) return GM_EFORMAT;
    if (gm_grow(&out->v, cap, out->n + n, sizeof *out->v)) return GM_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int c = 0; c < n_ch; c++) {
            const uint8_t *p = planar ? planes[c] + i * width[base]
                                      : planes[0] + (i * (size_t)n_ch + (size_t)c) * width[base];
            sum += sample_at(base, p);
        }
        out->v[out->n + i] = gm_sample_sane(sum / (float)n_ch);
    }
    out->n += n;
    return 0;
}

/* ---- a track --------------------------------------------------------------------------------- */

typedef struct {
    void *fmt, *ctx, *packet, *frame;
    void *stream; /* AVStream; belongs to fmt */
    int32_t index;
    const gm_cancel *cancel;
    bool sent, ended; /* the last packet, to the decoder; all of them */
    bool held;        /* the frame is still to be taken */
} track;

/* What cameras, recorders and editors write. Of FFmpeg's several hundred decoders most are old ones
 * of games, which a hostile file could name. */
static const char decoders[] =
    "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,mpeg2video,mjpeg,prores,dnxhd,theora,ffv1,"
    "ffvhuff,huffyuv,utvideo,png,qtrle,rawvideo,gif,"
    "aac,aac_fixed,mp3,mp3float,mp2,mp2float,opus,libopus,vorbis,libvorbis,flac,alac,ac3,eac3,"
    "speex,"
    "libspeex,wavpack,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_alaw,"
    "pcm_mulaw";

enum { MAX_TRACKS = 64, MAX_PICTURE_TRACKS = 4 };

static void *const *streams_of(const track *t, int32_t *n) {
    *n = gm_av_i32(t->fmt, 44);
    return gm_av_ptr(t->fmt, 48);
}

static const void *parameters_of(const void *stream) {
    return gm_av_ptr(stream, gm_av.major <= 59 ? 208 : 16);
}

/* By the header. A decoder would refuse it too, with a code that has many other reasons. */
static bool is_larger(const void *par, int64_t max_pixels) {
    int w = 0, h = 0;
    void *ctx = gm_av.avcodec_alloc_context3(NULL);
    if (ctx && gm_av.avcodec_parameters_to_context(ctx, par) >= 0)
        gm_av.av_opt_get_image_size(ctx, "video_size", 0, &w, &h);
    if (ctx) gm_av.avcodec_free_context(&ctx);
    return (int64_t)w * h > max_pixels;
}

/* Lets FFmpeg look into the tracks. It decodes a picture of each for that, whatever size that has,
 * unless its decoder is told here. GM_ETOOLONG: by the header one has more than max_pixels. */
static int find_streams(track *t, int64_t max_pixels) {
    void *options[MAX_TRACKS] = {0};
    char pixels[24];
    int32_t n, n_picture = 0;
    void *const *streams = streams_of(t, &n);
    if (n < 0 || n > MAX_TRACKS) return GM_EFORMAT;
    for (int32_t i = 0; i < n; i++) {
        const void *par = parameters_of(streams[i]);
        if (gm_av_i32(par, 0) != GM_AV_VIDEO) continue;
        if (++n_picture > MAX_PICTURE_TRACKS) return GM_EFORMAT;
        if (max_pixels > 0 && is_larger(par, max_pixels)) return GM_ETOOLONG;
    }
    snprintf(pixels, sizeof pixels, "%lld", (long long)(max_pixels > 0 ? max_pixels : 1));
    for (int32_t i = 0; i < n; i++) gm_av.av_dict_set(&options[i], "max_pixels", pixels, 0);
    const int rc = gm_av.avformat_find_stream_info(t->fmt, options);
    for (int32_t i = 0; i < n; i++) gm_av.av_dict_free(&options[i]);
    return rc < 0 ? GM_EFORMAT : 0;
}

/* Opens only plain local containers: playlists and scripts that name other files or hosts are not
 * in the list, and no protocol but file is. */
static int open_container(track *t, const char *path, const char *formats, int64_t max_pixels) {
    void *dict = NULL;
    char url[4200];
    if (snprintf(url, sizeof url, "file:%s", path) >= (int)sizeof url) return GM_EINVAL;
    gm_av.av_dict_set(&dict, "protocol_whitelist", "file", 0);
    gm_av.av_dict_set(&dict, "format_whitelist", formats, 0);
    gm_av.av_dict_set(&dict, "codec_whitelist", decoders, 0);
    const int rc = gm_av.avformat_open_input(&t->fmt, url, NULL, &dict);
    gm_av.av_dict_free(&dict);
    return rc < 0 ? GM_EFORMAT : find_streams(t, max_pixels);
}

/* Opens a decoder for the first stream of a type, of no more than max_pixels, which is 0 for sound.
 * GM_ENOENT: there is none. */
static int open_stream(track *t, int type, int64_t max_pixels) {
    int32_t n;
    void *const *streams = streams_of(t, &n);
    for (int32_t i = 0; i < n; i++) {
        const void *par = parameters_of(streams[i]);
        if (gm_av_i32(par, 0) != type) continue;
        const void *decoder = gm_av.avcodec_find_decoder(gm_av_i32(par, 4));
        if (!decoder) return GM_EUNSUPPORTED;
        t->ctx = gm_av.avcodec_alloc_context3(decoder);
        if (!t->ctx || gm_av.avcodec_parameters_to_context(t->ctx, par) < 0) return GM_ENOMEM;
        gm_av.av_opt_set_int(t->ctx, "threads", 1, 0);
        if (max_pixels > 0) gm_av.av_opt_set_int(t->ctx, "max_pixels", max_pixels, 0);
        t->stream = streams[i];
        t->index = i;
        void *dict = NULL;
        gm_av.av_dict_set(&dict, "codec_whitelist", decoders, 0);
        const int rc = gm_av.avcodec_open2(t->ctx, decoder, &dict);
        gm_av.av_dict_free(&dict);
        return rc < 0 ? GM_EUNSUPPORTED : 0;
    }
    return GM_ENOENT;
}

static int track_open(track *t, const char *path, const char *formats, int type, int64_t max_pixels,
                      const gm_cancel *cancel) {
    *t = (track){.cancel = cancel};
    t->packet = gm_av.av_packet_alloc();
    t->frame = gm_av.av_frame_alloc();
    int rc = t->packet && t->frame ? open_container(t, path, formats, max_pixels) : GM_ENOMEM;
    return rc ? rc : open_stream(t, type, max_pixels);
}

static void track_close(track *t) {
    if (t->packet) gm_av.av_packet_free(&t->packet);
    if (t->frame) gm_av.av_frame_free(&t->frame);
    if (t->ctx) gm_av.avcodec_free_context(&t->ctx);
    if (t->fmt) gm_av.avformat_close_input(&t->fmt);
}

/* Reads on to the next packet of the track. 1, 0 at the end, or GM_ECANCELLED. */
static int next_packet(track *t) {
    for (;;) {
        if (gm_cancelled(t->cancel)) return GM_ECANCELLED;
        if (gm_av.av_read_frame(t->fmt, t->packet) < 0) return 0;
        if (gm_av_i32(t->packet, 36) == t->index) return 1;
        gm_av.av_packet_unref(t->packet);
    }
}

/* Hands every decoded frame to fn, which returns 0 to go on, 1 when it has enough, or an error.
 * After GM_ECANCELLED it may be called again and goes on with the frame that was not taken. */
static int each_frame(track *t, int (*fn)(void *ud, const track *t), void *ud) {
    for (;;) {
        while (t->held || (t->sent && gm_av.avcodec_receive_frame(t->ctx, t->frame) >= 0)) {
            const int rc = fn(ud, t);
            t->held = rc == GM_ECANCELLED;
            if (rc) return rc < 0 ? rc : 0;
        }
        if (t->ended) return 0;
        const int more = next_packet(t);
        if (more < 0) return more;
        t->sent = gm_av.avcodec_send_packet(t->ctx, more ? t->packet : NULL) >= 0;
        t->ended = !more;
        if (more) gm_av.av_packet_unref(t->packet);
    }
}

/* ---- sound ----------------------------------------------------------------------------------- */

/* Channels of an open decoder. The option's text is the one form that all versions share. */
static int count_channels(void *ctx) {
    uint8_t *text = NULL;
    union {
        char bytes[64]; /* AVChannelLayout has 24; nb_channels is its second int */
        int32_t i[16];
    } layout = {{0}};
    if (gm_av.av_opt_get(ctx, "ch_layout", 0, &text) < 0 || !text) return 0;
    const int ok = gm_av.av_channel_layout_from_string(&layout, (const char *)text);
    gm_av.av_free(text);
    return ok < 0 ? 0 : layout.i[1];
}

typedef struct {
    gm_samples *out;
    size_t cap;
    uint32_t rate;
    double seconds; /* enough */
} listener;

static int take_sound(void *ud, const track *t) {
    listener *l = ud;
    int64_t rate = 0;
    gm_av.av_opt_get_int(t->ctx, "ar", 0, &rate);
    const int n_ch = count_channels(t->ctx);
    const int32_t n = gm_av_n_samples(t->frame);
    if (rate < GM_SOUND_MIN_RATE || rate > GM_SOUND_MAX_RATE) return GM_EUNSUPPORTED;
    if (n_ch < 1 || n_ch > 64 || n < 0) return GM_EFORMAT;
    if (l->rate && l->rate != (uint32_t)rate) return GM_EUNSUPPORTED;
    l->rate = (uint32_t)rate;
    if (l->out->n + (size_t)n > (size_t)l->rate * GM_SOUND_MAX_SECONDS) return GM_ETOOLONG;
    const int rc = append_samples(l->out, &l->cap, t->frame, n_ch, (size_t)n);
    return rc ? rc : (double)l->out->n >= l->seconds * (double)rate;
}

static int sound_error(int rc, char *err, size_t errlen) {
    if (rc == GM_ETOOLONG)
        return gm_fail(err, errlen, rc, "the recording is longer than %d seconds; cut it",
                       GM_SOUND_MAX_SECONDS);
    if (rc == GM_ENOENT) return gm_fail(err, errlen, rc, "no sound track in the file");
    if (rc == GM_EFORMAT)
        return gm_fail(err, errlen, rc,
                       "no sound file of a known kind (wav, flac, ogg, mp3, m4a, mp4, "
                       "webm, mkv), or damaged");
    return gm_fail(err, errlen, rc, "sound: %s", gm_err_text(rc));
}

int gm_avlib_sound(const char *path, double seconds, gm_samples *out, uint32_t *rate,
                   const gm_cancel *cancel, char *err, size_t errlen) {
    static const char formats[] = "wav,w64,flac,ogg,mp3,aac,aiff,caf,mov,matroska";
    memset(out, 0, sizeof *out);
    int rc = gm_avlib_load(err, errlen);
    if (rc) return rc;
    track t;
    listener l = {.out = out, .seconds = seconds};
    rc = track_open(&t, path, formats, GM_AV_AUDIO, 0, cancel);
    if (!rc) rc = each_frame(&t, take_sound, &l);
    if (!rc && out->n == 0) rc = GM_EFORMAT;
    *rate = l.rate;
    track_close(&t);
    if (!rc) return 0;
    gm_free(out->v);
    memset(out, 0, sizeof *out);
    return sound_error(rc, err, errlen);
}

/* ---- video ----------------------------------------------------------------------------------- */

static const char video_formats[] = "mov,matroska";

/* Seconds by which FFmpeg's rate may miss the last frame: the model is told whole ones. */
#define RATE_MISS 0.5

struct gm_video {
    track t; /* opened twice */
    bool opened, counted;
    double fps;
    int64_t n_frame;     /* in the file */
    int64_t first, last; /* of their times, in the stream's unit */
    bool untimed;        /* some have none */
    int64_t at;          /* of the next frame to come */
    int32_t k, n;        /* of those that are taken */
    gm_frame_fn fn;
    void *ud;
    char *err;
    size_t errlen;
};

static int video_open(gm_video *v, const char *path, const gm_cancel *cancel) {
    v->t.cancel = cancel;
    if (v->opened) return 0;
    v->opened = true;
    const int rc = track_open(&v->t, path, video_formats, GM_AV_VIDEO,
                              (int64_t)GM_VIDEO_MAX_MPIXEL << 20, cancel);
    if (rc != GM_ETOOLONG) return rc;
    return gm_fail(v->err, v->errlen, rc,
                   "the video is larger than %d million pixels; make it smaller",
                   GM_VIDEO_MAX_MPIXEL);
}

static void video_rewind(gm_video *v) {
    if (v->opened) track_close(&v->t);
    v->opened = false;
}

static void count_packet(gm_video *v) {
    enum { DISCARD = 4 }; /* AV_PKT_FLAG_DISCARD: before a cut that needed no new encoding */
    if (gm_av_i32(v->t.packet, 40) & DISCARD) return;
    const int64_t at = gm_av_i64(v->t.packet, 8);
    v->n_frame++;
    if (at == INT64_MIN) v->untimed = true; /* AV_NOPTS_VALUE */
    else if (at < v->first) v->first = at;
    if (at > v->last) v->last = at;
}

/* Seconds from the first counted frame to the last; 0 when their times do not tell, or tell of more
 * than 1000 a second. */
static double seconds_between(const gm_video *v) {
    const size_t unit = gm_av.major <= 59 ? 16 : 32;
    const int32_t num = gm_av_i32(v->t.stream, unit), den = gm_av_i32(v->t.stream, unit + 4);
    if (v->untimed || num < 1 || den < num) return 0.0;
    const double s = ((double)v->last - (double)v->first) * num / den;
    return s * 1000.0 >= (double)v->n_frame ? s : 0.0;
}

/* Frames and their rate. FFmpeg's is that of the finest grid which fits the times: right for an
 * even film, also when its times are rounded, but far from the mean for one that stands still
 * between changes. A picture's time is its number by the rate, as in the model's own preprocessing:
 * of an uneven film the mean, which is right at its ends and between them as far as its parts are
 * alike. An absurd rate would make absurd times, so 24 is taken, as the model's own preprocessing
 * does for an unknown one. */
static int count_frames(gm_video *v) {
    const gm_av_rational r = gm_av.av_guess_frame_rate(v->t.fmt, v->t.stream, NULL);
    int more;
    v->fps = r.num > 0 && r.den > 0 ? (double)r.num / r.den : 24.0;
    if (v->fps < 0.01 || v->fps > 1000.0) v->fps = 24.0;
    while ((more = next_packet(&v->t)) == 1) {
        count_packet(v);
        gm_av.av_packet_unref(v->t.packet);
        const double s = seconds_between(v);
        if ((s > 0.0 ? s : (double)v->n_frame / v->fps) > GM_VIDEO_MAX_SECONDS) return GM_ETOOLONG;
    }
    if (more < 0) return more;
    const double s = seconds_between(v), n_step = (double)(v->n_frame - 1);
    if (s > 0.0 && fabs(n_step / v->fps - s) > RATE_MISS) v->fps = n_step / s;
    if (v->n_frame < v->n) v->n = (int32_t)v->n_frame;
    v->counted = true;
    video_rewind(v);
    return v->n_frame > 0 ? 0 : GM_EFORMAT;
}

/* How the camera was held, as turn.h counts. Decoders hand the stream's matrix to frames from
 * FFmpeg 6.1 on; before, a frame has one only if the pictures' own data does. */
static int frame_orientation(const track *t) {
    enum { PACKET_MATRIX = 5, FRAME_MATRIX = 6 }; /* AV_PKT_DATA_, AV_FRAME_DATA_DISPLAYMATRIX */
    const void *side = gm_av.av_frame_get_side_data(t->frame, FRAME_MATRIX), *matrix = NULL;
    size_t n = 0;
    int32_t m[9];
    if (side) {
        matrix = gm_av_ptr(side, 8);
        memcpy(&n, (const char *)side + 16, sizeof n);
    } else if (gm_av.av_stream_get_side_data) {
        matrix = gm_av.av_stream_get_side_data(t->stream, PACKET_MATRIX, &n);
    }
    if (!matrix || n < sizeof m) return 1;
    memcpy(m, matrix, sizeof m);
    return gm_matrix_orientation(m);
}

/* As the stream says, or by the forms whose names say it. */
static gm_av_colours frame_colours(const track *t) {
    enum { RGB = 0, FULL = 2, YUVJ420P = 12, YUVJ444P = 14 };
    int64_t matrix = GM_AV_UNTOLD, range = 0;
    const int32_t form = gm_av_format(t->frame);
    gm_av.av_opt_get_int(t->ctx, "colorspace", 0, &matrix);
    gm_av.av_opt_get_int(t->ctx, "color_range", 0, &range);
    if (matrix == RGB) return (gm_av_colours){GM_AV_UNTOLD, false};
    return (gm_av_colours){(int)matrix, range == FULL || (form >= YUVJ420P && form <= YUVJ444P)};
}

static int take_picture(void *ud, const track *t) {
    gm_video *v = ud;
    if (v->at < v->k * v->n_frame / v->n) {
        v->at++;
        return 0;
    }
    gm_image img = {0};
    int rc = gm_av_to_rgb(t->frame, frame_colours(t), &img, v->err, v->errlen);
    if (!rc && gm_image_turn(&img, frame_orientation(t)))
        rc = gm_fail(v->err, v->errlen, GM_ENOMEM, "video: %s", gm_err_text(GM_ENOMEM));
    if (!rc) rc = v->fn(v->ud, (double)v->at / v->fps, &img, v->err, v->errlen);
    gm_free(img.rgb);
    if (rc) return rc;
    v->at++;
    return ++v->k == v->n;
}

static int video_error(int rc, char *err, size_t errlen) {
    if (rc == GM_ETOOLONG)
        return gm_fail(err, errlen, rc, "the video is longer than %d seconds; cut it",
                       GM_VIDEO_MAX_SECONDS);
    if (rc == GM_ENOENT) return gm_fail(err, errlen, rc, "no pictures in the file");
    if (rc == GM_EFORMAT)
        return gm_fail(err, errlen, rc,
                       "no video of a known kind (mp4, mov, webm, mkv), or damaged");
    return gm_fail(err, errlen, rc, "video: %s", gm_err_text(rc));
}

void gm_avlib_video_close(gm_video **v) {
    if (!v || !*v) return;
    video_rewind(*v);
    gm_free(*v);
    *v = NULL;
}

int gm_avlib_video(gm_video **vp, const char *path, int32_t n, gm_frame_fn fn, void *ud,
                   const gm_cancel *cancel, char *err, size_t errlen) {
    int rc = gm_avlib_load(err, errlen);
    if (rc) return rc;
    if (errlen > 0) err[0] = '\0';
    gm_video *v = *vp ? *vp : gm_calloc(1, sizeof *v);
    if (!v) return video_error(GM_ENOMEM, err, errlen);
    if (!*vp) *v = (gm_video){.n = n, .first = INT64_MAX, .last = INT64_MIN};
    *vp = v;
    v->fn = fn;
    v->ud = ud;
    v->err = err;
    v->errlen = errlen;
    rc = video_open(v, path, cancel);
    if (!rc && !v->counted) {
        rc = count_frames(v);
        if (!rc) rc = video_open(v, path, cancel);
    }
    if (!rc) rc = each_frame(&v->t, take_picture, v);
    if (!rc && v->k == 0) rc = GM_EFORMAT;
    if (rc != GM_ECANCELLED) gm_avlib_video_close(vp);
    return rc && (errlen == 0 || !err[0]) ? video_error(rc, err, errlen) : rc;
}
