/* test_sha256.c: the published vectors, and pieces of every size. */
#include "base/sha256.h"

#include <string.h>
#include "helper/cm.h"

static void is_hash_of(const void *p, size_t n, const char *want) {
    gm_sha256 s;
    char hex[GM_SHA256_HEX + 1];
    gm_sha256_begin(&s);
    gm_sha256_add(&s, p, n);
    gm_sha256_end(&s, hex);
    assert_string_equal(hex, want);
}

/* The examples that NIST publishes for FIPS 180. */
static void the_published_vectors_hold(void **state) {
    (void)state;
    is_hash_of("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    is_hash_of("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    is_hash_of(two, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const char *four = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                       "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    is_hash_of(four, 112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void a_million_letters_in_uneven_pieces(void **state) {
    (void)state;
    enum { TOTAL = 1000000 };
    gm_sha256 s;
    char hex[GM_SHA256_HEX + 1], a[997];
    memset(a, 'a', sizeof a);
    gm_sha256_begin(&s);
    for (size_t left = TOTAL; left > 0;) {
        size_t n = left < sizeof a ? left : sizeof a;
        gm_sha256_add(&s, a, n);
        left -= n;
    }
    gm_sha256_end(&s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Where the padding begins decides whether there is one more block: all lengths around that. */
static void every_split_gives_the_same_hash(void **state) {
    (void)state;
    uint8_t data[200];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof data; n++) {
        gm_sha256 whole, split;
        char want[GM_SHA256_HEX + 1], got[GM_SHA256_HEX + 1];
        gm_sha256_begin(&whole);
        gm_sha256_add(&whole, data, n);
        gm_sha256_end(&whole, want);
        for (size_t cut = 0; cut <= n; cut += 1 + n / 7) {
            gm_sha256_begin(&split);
            gm_sha256_add(&split, data, cut);
            gm_sha256_add(&split, data + cut, n - cut);
            gm_sha256_end(&split, got);
            assert_string_equal(got, want);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_hold),
        cmocka_unit_test(a_million_letters_in_uneven_pieces),
        cmocka_unit_test(every_split_gives_the_same_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
