/* test_rope.c: when a table of rotations is used again, and when it is made anew. */
#include "helper/cm.h"

#include <math.h>
#include "base/err.h"
#include "base/mem.h"
#include "kernels/rope.h"

enum { DIM = 6, HALF = DIM / 2 };

static int find(gm_rope_keys *k, const float *inv_freq, int32_t pos0, int32_t n_tok, bool *fresh) {
    const gm_op_head_norm_rope op = {
        .n_tok = n_tok, .head_dim = DIM, .inv_freq = inv_freq, .pos0 = pos0};
    return gm_rope_find(k, &op, fresh);
}

static void both_kinds_of_layers_find_theirs_again(void **state) {
    (void)state;
    float sliding[HALF] = {1, 0.5f, 0.25f}, global[HALF] = {1, 0.125f, 0};
    const float moved[HALF] = {1, 0.5f, 0.25f};
    gm_rope_keys k;
    bool fresh;
    assert_int_equal(gm_rope_keys_init(&k, DIM), 0);
    assert_int_equal(find(&k, sliding, 10, 4, &fresh), 0);
    assert_true(fresh);
    assert_int_equal(find(&k, global, 10, 4, &fresh), 1);
    assert_true(fresh);
    /* The positions, some of them, and the same numbers at another place. */
    assert_int_equal(find(&k, sliding, 10, 4, &fresh), 0);
    assert_false(fresh);
    assert_int_equal(find(&k, moved, 11, 2, &fresh), 0);
    assert_false(fresh);
    assert_int_equal(k.key[0].pos0, 10);
    /* Beyond them, or other numbers at the same place. */
    assert_int_equal(find(&k, sliding, 12, 3, &fresh), 0);
    assert_true(fresh);
    global[1] = 0.5f;
    assert_int_equal(find(&k, global, 10, 4, &fresh), 1);
    assert_true(fresh);
    /* What could not be made is no table. */
    k.key[1].n_tok = 0;
    (void)find(&k, global, 10, 4, &fresh);
    assert_true(fresh);
    gm_rope_keys_finish(&k);
    assert_null(k.key[0].inv_freq);
}

static void a_late_position_turns_exactly(void **state) {
    (void)state;
    const float inv_freq[HALF] = {1, 0.25f, 0};
    gm_rope_keys k;
    bool fresh;
    float cosine[HALF], sine[HALF];
    assert_int_equal(gm_rope_keys_init(&k, DIM), 0);
    int i = find(&k, inv_freq, 262140, 4, &fresh);
    gm_rope_turn(&k.key[i], 3, cosine, sine);
    assert_true(cosine[0] == (float)cos(262143.0) && sine[0] == (float)sin(262143.0));
    assert_true(cosine[1] == (float)cos(262143.0 / 4) && sine[1] == (float)sin(262143.0 / 4));
    assert_true(cosine[2] == 1 && sine[2] == 0);
    gm_rope_keys_finish(&k);
}

static void no_memory_leaves_nothing(void **state) {
    (void)state;
    gm_rope_keys k;
    for (uint64_t n = 1; n <= GM_ROPE_TABLES; n++) {
        gm_mem_fail_at(n);
        assert_int_equal(gm_rope_keys_init(&k, DIM), GM_ENOMEM);
        gm_mem_fail_at(0);
        for (int i = 0; i < GM_ROPE_TABLES; i++) assert_null(k.key[i].inv_freq);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_kinds_of_layers_find_theirs_again),
        cmocka_unit_test(a_late_position_turns_exactly),
        cmocka_unit_test(no_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
