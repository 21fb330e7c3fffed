/* projector.h: the weights that turn patches and sound frames into decoder rows (mmproj file).
 *
 * "Unified" models have no encoder: one dense layer with norms for pictures, one matrix for
 * sound. Read-only after load; borrows its own file and the backend. Thread: the worker.
 */
#pragma once

#include "format/gguf.h"
#include "kernels/backend.h"

enum {
    GM_PATCH = 48, /* side of a patch in pixels: 16 x 3 */
    GM_PATCH_VALUES = GM_PATCH * GM_PATCH * 3,
    GM_FRAME = 640 /* samples per soft token: 40 ms at 16 kHz */
};
enum { GM_IMAGE_TOKENS_DEFAULT = 280, GM_IMAGE_TOKENS_MAX = 1120 };

typedef struct gm_projector gm_projector;

/* Is the file one of embedders of pictures and sounds, by its architecture? */
bool gm_is_projector(const gm_gguf *g);

/* n_embd: width of the decoder that the rows are for; a file of another width is refused. */
int gm_projector_open(gm_projector **out, const char *path, gm_backend *b, int32_t n_embd,
                      char *err, size_t errlen);
void gm_projector_close(gm_projector **p);

/* What such a file takes of a device, its rows included, for those who must know before it is open
 * there. 0 when it cannot be read; opening it tells why. */
uint64_t gm_projector_bytes(const char *path, int32_t n_embd);

bool gm_projector_has_vision(const gm_projector *p);
bool gm_projector_has_audio(const gm_projector *p);
int32_t gm_projector_n_pos(const gm_projector *p); /* columns, and rows, of the position tables */

/* The budget of a picture whose prompt names none: GM_IMAGE_TOKENS_DEFAULT, or less if the model
 * learned from smaller pictures and its file says so (clip.vision.image_max_pixels, as for other
 * models). */
int32_t gm_projector_image_tokens(const gm_projector *p);

/* Rows that one call of the two functions below computes at a time. */
enum { GM_PROJECTOR_CHUNK = 64 };

/* patches: [n, GM_PATCH_VALUES] in 0..1, planes R, G, B within a patch; col, row: [n] grid places
 * below n_pos. Overwrites patches. out: [n, n_embd]. */
int gm_projector_patches(gm_projector *p, float *patches, const int32_t *col, const int32_t *row,
                         int32_t n, float *out);

/* frames: [n, GM_FRAME] samples; overwritten. out: [n, n_embd]. */
int gm_projector_frames(gm_projector *p, float *frames, int32_t n, float *out);
