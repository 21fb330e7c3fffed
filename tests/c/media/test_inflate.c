/* test_inflate.c: both libraries give the same bytes, and errors where there are too few. */
#include "helper/cm.h"

#include <stdlib.h>
#include <string.h>
#include "base/cancel.h"
#include "base/err.h"
#include "media/inflate.h"

enum { BLOCK = 65535, N_BLOCK = 80, N = BLOCK * N_BLOCK, STREAM = 2 + N_BLOCK * (5 + BLOCK) + 4 };

static uint8_t *stream, *plain;

/* Blocks that are stored as they are: a valid stream that needs no compressor. 5 MB, so that zlib
 * comes back once. */
static int make(void **state) {
    (void)state;
    stream = malloc(STREAM);
    plain = malloc(N);
    assert_true(stream && plain);
    uint32_t a = 1, b = 0;
    for (int i = 0; i < N; i++) {
        plain[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
        a = (a + plain[i]) % 65521;
        b = (b + a) % 65521;
    }
    uint8_t *p = stream;
    *p++ = 0x78;
    *p++ = 0x01;
    for (int i = 0; i < N_BLOCK; i++) {
        const uint8_t head[5] = {i == N_BLOCK - 1, 0xff, 0xff, 0, 0};
        memcpy(p, head, 5);
        memcpy(p + 5, plain + (size_t)i * BLOCK, BLOCK);
        p += 5 + BLOCK;
    }
    const uint8_t sum[4] = {(uint8_t)(b >> 8), (uint8_t)b, (uint8_t)(a >> 8), (uint8_t)a};
    memcpy(p, sum, 4);
    return 0;
}

static int drop(void **state) {
    (void)state;
    free(stream);
    free(plain);
    return 0;
}

typedef int (*inflate_fn)(const uint8_t *, size_t, uint8_t *, size_t, const gm_cancel *);
static const inflate_fn both[] = {gm_inflate, gm_inflate_zlib};

static void need_library(void) {
    uint8_t out;
    if (gm_inflate_zlib(stream, STREAM, &out, 1, NULL) == GM_EUNSUPPORTED) skip();
}

static void the_bytes_come_out(void **state) {
    (void)state;
    need_library();
    for (int i = 0; i < 2; i++) {
        uint8_t *out = calloc(1, N + 1); /* the sanitizers see a byte too many */
        assert_non_null(out);
        assert_int_equal(both[i](stream, STREAM, out, N, NULL), 0);
        assert_memory_equal(out, plain, N);
        /* A stream may hold more than is asked for. */
        memset(out, 0, N);
        assert_int_equal(both[i](stream, STREAM, out, 1000, NULL), 0);
        assert_memory_equal(out, plain, 1000);
        assert_int_equal(out[1000], 0);
        free(out);
    }
}

static void too_few_bytes_are_an_error(void **state) {
    (void)state;
    need_library();
    uint8_t *out = calloc(1, N + 1);
    assert_non_null(out);
    static const size_t cut[] = {0, 1, 2, 4, 7, 100, STREAM / 2, STREAM - 5};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof cut / sizeof *cut; k++)
            assert_int_equal(both[i](stream, cut[k], out, N, NULL), GM_EFORMAT);
        assert_int_equal(both[i](stream, STREAM, out, N + 1, NULL), GM_EFORMAT);
    }
    free(out);
}

static void a_wrong_sum_at_the_end_spoils_nothing(void **state) {
    (void)state;
    need_library();
    uint8_t *out = calloc(1, N);
    assert_non_null(out);
    stream[STREAM - 1] ^= 1;
    for (int i = 0; i < 2; i++) {
        memset(out, 0, N);
        assert_int_equal(both[i](stream, STREAM, out, N, NULL), 0);
        assert_memory_equal(out, plain, N);
    }
    stream[STREAM - 1] ^= 1;
    free(out);
}

static void a_cancelled_one_ends(void **state) {
    (void)state;
    need_library();
    gm_cancel cancel = {true};
    uint8_t out[16];
    for (int i = 0; i < 2; i++)
        assert_int_equal(both[i](stream, STREAM, out, sizeof out, &cancel), GM_ECANCELLED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_come_out),
        cmocka_unit_test(too_few_bytes_are_an_error),
        cmocka_unit_test(a_wrong_sum_at_the_end_spoils_nothing),
        cmocka_unit_test(a_cancelled_one_ends),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
