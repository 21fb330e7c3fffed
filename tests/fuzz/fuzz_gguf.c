/* fuzz_gguf.c: any bytes as a GGUF file. What opens is read through to the end. */
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "fuzz.h"
#include "helper/gguf_touch.h"
#include "helper/gguf_writer.h"
#include "helper/tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gm_gguf *g;
    char err[256] = "";
    int rc = gm_gguf_open_memory(&g, data, size, err, sizeof err);
    FUZZ_CHECK((rc == GM_OK) == (g != NULL));
    FUZZ_CHECK(rc == GM_OK || err[0] != '\0');
    for (const char *p = err; *p; p++) FUZZ_CHECK((unsigned char)*p >= 0x20);
    if (g) gguf_touch(g);
    gm_gguf_close(&g);
    return 0;
}

/* Every kind of key and several formats of tensors in a few hundred bytes: what the mutations
 * start from has to be small. */
static gm_bytes every_kind(uint32_t version, uint32_t alignment) {
    static const float values[256] = {1, -2, 3};
    gguf_writer w;
    gw_init(&w);
    w.version = version;
    if (alignment != 32) gw_alignment(&w, alignment);
    gw_u8(&w, "u8", 1);
    gw_i8(&w, "i8", -1);
    gw_u16(&w, "u16", 2);
    gw_i16(&w, "i16", -2);
    gw_i32(&w, "i32", -3);
    gw_u64(&w, "u64", 4);
    gw_i64(&w, "i64", -4);
    gw_f32(&w, "f32", 0.5f);
    gw_f64(&w, "f64", 0.25);
    gw_bool(&w, "bool", true);
    gw_str(&w, "general.architecture", "gemma4");
    gw_strings(&w, "strings", (gm_str[]){{"a", 1}, {"bc", 2}}, 2);
    gw_array(&w, "ints", GM_GGUF_I32, 2, "12345678", 8);
    gw_array(&w, "nested", GM_GGUF_ARR, 1, NULL, 0);
    gw_put_u32(&w.keys, GM_GGUF_BOOL);
    gw_put_u64(&w.keys, 1);
    gw_put(&w.keys, "\1", 1);
    gw_tensor_f32(&w, "a", GM_F32, 2, 2, values);
    gw_tensor_f32(&w, "b", GM_Q4_0, 32, 1, values);
    gw_tensor(&w, "c", GM_Q4_K, 1, (uint64_t[]){256}, values, 144);
    gm_bytes file = gw_build(&w);
    gw_finish(&w);
    return file;
}

static gm_bytes split_part(void) {
    gguf_writer w;
    gw_init(&w);
    gw_u16(&w, "split.no", 0);
    gw_u16(&w, "split.count", 1);
    gw_i32(&w, "split.tensors.count", 1);
    gw_tensor(&w, "t", GM_F16, 1, (uint64_t[]){4}, "12345678", 8);
    gm_bytes file = gw_build(&w);
    gw_finish(&w);
    return file;
}

void fuzz_seeds(void) {
    gm_bytes files[] = {
        every_kind(3, 32),
        every_kind(2, 32),
        every_kind(3, 1),
        every_kind(3, 128),
        split_part(),
        tiny_model_build(&(tiny_opts){.pattern = "sg",
                                      .n_embd = 8,
                                      .n_ff = 8,
                                      .n_head = 1,
                                      .n_kv = 1,
                                      .head_dim = 4,
                                      .head_dim_global = 4,
                                      .n_vocab = TINY_MIN_VOCAB}),
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        fuzz_seed(files[i].p, files[i].n);
        gm_bytes_finish(&files[i]);
    }
}
