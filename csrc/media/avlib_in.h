/* avlib_in.h: the functions and struct fields of FFmpeg's libraries, shared by avlib.c (loading,
 * pictures) and avtrack.c (sound and video tracks). The places of the fields are told in avlib.c.
 */
#pragma once

#include <string.h>
#include "media/avlib.h"

enum { GM_AV_VIDEO = 0, GM_AV_AUDIO = 1 }; /* AVMediaType */

typedef struct {
    int num, den;
} gm_av_rational;

#define AV_FUNCS(X)                                                                                \
    X(util, void, av_log_set_level, (int))                                                         \
    X(util, void *, av_frame_alloc, (void))                                                        \
    X(util, void, av_frame_free, (void **))                                                        \
    X(util, void *, av_frame_get_side_data, (const void *, int))                                   \
    X(util, int, av_get_pix_fmt, (const char *))                                                   \
    X(util, int, av_opt_set_int, (void *, const char *, int64_t, int))                             \
    X(util, int, av_opt_get_int, (void *, const char *, int, int64_t *))                           \
    X(util, int, av_opt_get, (void *, const char *, int, uint8_t **))                              \
    X(util, int, av_opt_get_image_size, (void *, const char *, int, int *, int *))                 \
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
    X(scale, const int *, sws_getCoefficients, (int))                                              \
    X(scale, int, sws_setColorspaceDetails,                                                        \
      (void *, const int *, int, const int *, int, int, int, int))                                 \
    X(scale, int, sws_scale,                                                                       \
      (void *, const uint8_t *const *, const int *, int, int, uint8_t *const *, const int *))      \
    X(format, int, avformat_open_input, (void **, const char *, const void *, void **))            \
    X(format, int, avformat_find_stream_info, (void *, void **))                                   \
    X(format, gm_av_rational, av_guess_frame_rate, (void *, void *, void *))                       \
    X(format, void, avformat_close_input, (void **))                                               \
    X(format, int, av_read_frame, (void *, void *))

struct gm_av {
    bool ok;
    int major; /* of libavformat */
    char why[160];
#define AV_FIELD(lib, ret, name, args) ret(*name) args;
    AV_FUNCS(AV_FIELD)
#undef AV_FIELD
    void *(*av_stream_get_side_data)(const void *, int, size_t *); /* NULL: gone, FFmpeg 7 */
};

extern struct gm_av gm_av; /* valid after gm_avlib_load */

static inline int32_t gm_av_i32(const void *p, size_t offset) {
    int32_t v;
    memcpy(&v, (const char *)p + offset, sizeof v);
    return v;
}

static inline int64_t gm_av_i64(const void *p, size_t offset) {
    int64_t v;
    memcpy(&v, (const char *)p + offset, sizeof v);
    return v;
}

static inline void *gm_av_ptr(const void *p, size_t offset) {
    void *v;
    memcpy(&v, (const char *)p + offset, sizeof v);
    return v;
}

static inline int32_t gm_av_width(const void *frame) { return gm_av_i32(frame, 104); }
static inline int32_t gm_av_height(const void *frame) { return gm_av_i32(frame, 108); }
static inline int32_t gm_av_n_samples(const void *frame) { return gm_av_i32(frame, 112); }
static inline int32_t gm_av_format(const void *frame) { return gm_av_i32(frame, 116); }

/* How a stream's luma and chroma are meant. */
typedef struct {
    int matrix; /* AVColorSpace: 1 is BT.709; GM_AV_UNTOLD is taken for BT.601 */
    bool full;  /* luma is 0 .. 255, whatever the form says */
} gm_av_colours;

enum { GM_AV_UNTOLD = 2 };

/* The frame as RGB; out->rgb is the caller's to free, also after an error. */
int gm_av_to_rgb(const void *frame, gm_av_colours how, gm_image *out, char *err, size_t errlen);
