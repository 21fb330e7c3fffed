/* Mapping files, and refusing what is not one. */
#include "base/map.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "base/err.h"
#include "base/mem.h"
#include "helper/cm.h"
#include "helper/tmp.h"
#include "helper/user.h"

static test_tmp tmp;

static int setup(void **state) {
    (void)state;
    return tmp_begin(&tmp);
}

static int teardown(void **state) {
    (void)state;
    tmp_end(&tmp);
    return 0;
}

/* Opens what must be refused; the message must be one line that holds `text`. */
static void refused(const char *path, int code, const char *text) {
    char err[256] = "";
    gm_map *m = (gm_map *)&tmp;
    assert_int_equal(gm_map_open(&m, path, err, sizeof err), code);
    assert_null(m);
    if (!strstr(err, text)) fail_msg("'%s' is not in '%s'", text, err);
    assert_null(strchr(err, '\n'));
}

static void map_gives_the_bytes_of_a_file(void **state) {
    (void)state;
    gm_map *m;
    char err[128];
    assert_int_equal(gm_map_open(&m, tmp_write(&tmp, "f", "hello", 5), err, sizeof err), 0);
    assert_int_equal(gm_map_size(m), 5);
    assert_memory_equal(gm_map_data(m), "hello", 5);
    gm_map_close(&m);
    assert_null(m);
    gm_map_close(&m);
    gm_map_close(NULL);
}

static void map_survives_deletion_of_the_file(void **state) {
    (void)state;
    gm_map *m;
    const char *path = tmp_write(&tmp, "gone", "still here", 10);
    assert_int_equal(gm_map_open(&m, path, NULL, 0), 0);
    assert_int_equal(unlink(path), 0);
    assert_memory_equal(gm_map_data(m), "still here", 10);
    gm_map_close(&m);
}

static void map_refuses_what_is_no_file(void **state) {
    (void)state;
    refused(NULL, GM_EINVAL, "no file name");
    refused("", GM_EINVAL, "no file name");
    refused(tmp_path(&tmp, "nothing"), GM_ENOENT, "no such file");
    refused(tmp.dir, GM_EINVAL, "is a directory");
    refused("/dev/null", GM_EINVAL, "is a device");
    refused(tmp_write(&tmp, "empty", "", 0), GM_EFORMAT, "is empty");
}

/* An ordinary open of a pipe waits for a writer: the editor would hang for ever. */
static void map_refuses_a_fifo_without_waiting(void **state) {
    (void)state;
    const char *path = tmp_path(&tmp, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(20);
    refused(path, GM_EINVAL, "is a named pipe");
    alarm(0);
}

static void map_refuses_a_socket(void **state) {
    (void)state;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, tmp_path(&tmp, "socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    refused(a.sun_path, GM_EINVAL, "is a socket");
    close(fd);
}

static void map_refuses_an_unreadable_file(void **state) {
    (void)state;
    const char *path = tmp_write(&tmp, "secret", "x", 1);
    char err[256] = "";
    gm_map *m, *readable = NULL;
    assert_int_equal(chmod(tmp.dir, 0711), 0); /* the file is refused, not the folder */
    if (!user_begin()) skip();
    const int before = gm_map_open(&readable, path, NULL, 0);
    user_end();
    assert_int_equal(before, 0);
    gm_map_close(&readable);
    assert_int_equal(chmod(path, 0), 0);
    user_begin();
    const int rc = gm_map_open(&m, path, err, sizeof err);
    user_end();
    assert_int_equal(rc, GM_EIO);
    assert_null(m);
    assert_non_null(strstr(err, "permission denied"));
}

static void map_reports_memory_that_runs_out(void **state) {
    (void)state;
    const char *path = tmp_write(&tmp, "f2", "x", 1);
    gm_mem_fail_at(1);
    refused(path, GM_ENOMEM, "out of memory");
    gm_mem_fail_at(0);
}

typedef struct {
    gm_cancel cancel;
    int n;
} reader;

static int cancel_at_second(void *ud, const uint8_t *p, size_t n) {
    reader *r = ud;
    (void)p;
    (void)n;
    if (++r->n == 2) atomic_store(&r->cancel.set, true);
    return GM_OK;
}

/* A film of 500 MB on a slow disk was read to its end whoever waited for that. */
static void reading_ends_when_it_is_cancelled(void **state) {
    (void)state;
    const char *path = tmp_write(&tmp, "long", "x", 1);
    const off_t size = (off_t)16 << 20;
    assert_int_equal(truncate(path, size), 0);
    reader r = {.n = 0};
    char err[128] = "";
    assert_int_equal(
        gm_map_each(path, (size_t)size, cancel_at_second, &r, &r.cancel, err, sizeof err),
        GM_ECANCELLED);
    assert_int_equal(r.n, 2);
    assert_string_equal(err, gm_err_text(GM_ECANCELLED));
    gm_map *m = (gm_map *)&tmp;
    assert_int_equal(gm_map_read(&m, path, (size_t)size, &r.cancel, err, sizeof err),
                     GM_ECANCELLED);
    assert_null(m);
    assert_int_equal(gm_map_read(&m, path, (size_t)size, NULL, err, sizeof err), GM_OK);
    assert_int_equal(gm_map_size(m), size);
    gm_map_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_gives_the_bytes_of_a_file),
        cmocka_unit_test(map_survives_deletion_of_the_file),
        cmocka_unit_test(map_refuses_what_is_no_file),
        cmocka_unit_test(map_refuses_a_fifo_without_waiting),
        cmocka_unit_test(map_refuses_a_socket),
        cmocka_unit_test(map_refuses_an_unreadable_file),
        cmocka_unit_test(map_reports_memory_that_runs_out),
        cmocka_unit_test(reading_ends_when_it_is_cancelled),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
