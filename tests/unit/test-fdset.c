/* SPDX-License-Identifier: MIT */
/* Sets of passed file descriptors: choosing, counting users, closing. */
#include "block/fdset.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

static char path[] = "/tmp/ringblk-fdset-XXXXXX";

static void setup(void)
{
    strcpy(strrchr(path, '-') + 1, "XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "hello", 5, 0), 5);
    close(fd);
    fdset_client_came();
}

static void teardown(void)
{
    fdset_client_left();
    unlink(path);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_file(int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static int64_t add(int64_t id, int fd, const char *opaque)
{
    autoerr err = { 0 };
    int64_t out = -1;
    int r = fdset_add(id < 0 ? NULL : &id, fd, opaque, &out, &err);
    ck_assert_msg(r == 0, "%s", err.msg);
    return out;
}

static int open_set(int64_t id, int flags)
{
    char name[64];
    snprintf(name, sizeof(name), "/dev/fdset/%lld", (long long)id);
    autoerr err = { 0 };
    int r = fdset_open(name, flags, &err);
    ck_assert_int_eq(r < 0, err.msg != NULL);
    if (r < 0)
        ck_assert_ptr_nonnull(strstr(err.msg, name));
    return r;
}

START_TEST(numbers)
{
    autoerr err = { 0 };
    int64_t id = -5, out;
    int fd = open_file(O_RDONLY);
    ck_assert_int_eq(fdset_add(&id, fd, NULL, &out, &err), -EINVAL);
    ck_assert(!is_open(fd));
    err_clear(&err);
    ck_assert_int_eq(fdset_add(NULL, -1, NULL, &out, &err), -EBADF);
    ck_assert_str_eq(err.msg, "No file descriptor supplied via SCM_RIGHTS");

    ck_assert_int_eq(add(1, open_file(O_RDONLY), "one"), 1);
    ck_assert_int_eq(add(-1, open_file(O_RDONLY), NULL), 0);
    ck_assert_int_eq(add(-1, open_file(O_RDONLY), NULL), 2);
    ck_assert_int_eq(add(1, open_file(O_RDWR), "two"), 1);

    struct fdset_info *sets;
    size_t n;
    ck_assert_int_eq(fdset_query(&sets, &n, &err), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(sets[0].id, 0);
    ck_assert_int_eq(sets[1].id, 1);
    ck_assert_int_eq(sets[2].id, 2);
    ck_assert_uint_eq(sets[1].count, 2);
    ck_assert_str_eq(sets[1].fds[0].opaque, "one");
    ck_assert_str_eq(sets[1].fds[1].opaque, "two");
    ck_assert_ptr_null(sets[0].fds[0].opaque);
    fdset_query_free(sets, n);
}
END_TEST

START_TEST(access_mode)
{
    int ro = open_file(O_RDONLY), rw = open_file(O_RDWR);
    add(7, ro, NULL);
    ck_assert_int_eq(open_set(7, O_RDWR), -EACCES);
    ck_assert_int_eq(open_set(8, O_RDWR), -ENOENT);
    add(7, rw, NULL);
    int a = open_set(7, O_RDONLY), b = open_set(7, O_RDWR);
    ck_assert_int_eq(fcntl(a, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_int_eq(fcntl(b, F_GETFL) & O_ACCMODE, O_RDWR);
    ck_assert_int_eq(fcntl(b, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_ne(a, ro);
    ck_assert_int_ne(b, rw);
    ck_assert_int_eq(open_set(7, O_WRONLY), -EACCES);
    fdset_close(a);
    fdset_close(b);
    ck_assert(!is_open(a) && !is_open(b));
    ck_assert(is_open(ro) && is_open(rw));
}
END_TEST

START_TEST(flags)
{
    add(3, open_file(O_RDWR), NULL);
    int fd = open_set(3, O_RDWR | O_NONBLOCK | O_CREAT);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    int again = open_set(3, O_RDWR);
    ck_assert_int_eq(fcntl(again, F_GETFL) & O_NONBLOCK, 0);
    fdset_close(again);
    fdset_close(fd);
}
END_TEST

START_TEST(bad_paths)
{
    static const char *const bad[] = { "/dev/fdset/",
                                       "/dev/fdset/x",
                                       "/dev/fdset/-1",
                                       "/dev/fdset/1x",
                                       "/dev/fdset/99999999999999999999",
                                       "x" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        autoerr err = { 0 };
        ck_assert_int_eq(fdset_open(bad[i], O_RDONLY, &err), -EINVAL);
    }
    ck_assert(fdset_is_path("/dev/fdset/1"));
    ck_assert(!fdset_is_path("/dev/fdse/1"));
}
END_TEST

START_TEST(removed_while_used)
{
    autoerr err = { 0 };
    int rw = open_file(O_RDWR);
    const int64_t number = rw;
    add(4, rw, NULL);
    int fd = open_set(4, O_RDWR);
    ck_assert_int_eq(fdset_remove(4, &number, &err), 0);
    ck_assert(is_open(rw)); /* a user is left */
    ck_assert_int_eq(open_set(4, O_RDWR), -EACCES);
    ck_assert_int_eq(fdset_remove(4, &number, &err), -ENOENT);
    char text[64];
    snprintf(text, sizeof(text), "File descriptor named 'fdset-id:4, fd:%d' not found", rw);
    ck_assert_str_eq(err.msg, text);
    err_clear(&err);

    struct fdset_info *sets;
    size_t n;
    ck_assert_int_eq(fdset_query(&sets, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
    fdset_query_free(sets, n);

    fdset_close(fd);
    ck_assert(!is_open(rw));
    ck_assert_int_eq(open_set(4, O_RDWR), -ENOENT);
    ck_assert_int_eq(fdset_remove(4, NULL, &err), -ENOENT);
    ck_assert_str_eq(err.msg, "File descriptor named 'fdset-id:4' not found");
}
END_TEST

START_TEST(last_client_leaves)
{
    int used = open_file(O_RDWR), idle = open_file(O_RDWR);
    add(5, used, NULL);
    add(6, idle, NULL);
    int fd = open_set(5, O_RDWR);
    fdset_client_came();
    fdset_client_left();
    ck_assert(is_open(used) && is_open(idle)); /* one client is still there */
    fdset_client_left();
    ck_assert(is_open(used) && !is_open(idle));
    fdset_close(fd);
    ck_assert(!is_open(used));
    fdset_client_came();
    ck_assert_int_eq(open_set(5, O_RDWR), -ENOENT);
}
END_TEST

START_TEST(strangers)
{
    int fd = open_file(O_RDONLY);
    fdset_close(fd); /* never was in a set */
    ck_assert(!is_open(fd));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fdset");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, numbers);
    tcase_add_test(t, access_mode);
    tcase_add_test(t, flags);
    tcase_add_test(t, bad_paths);
    tcase_add_test(t, removed_while_used);
    tcase_add_test(t, last_client_leaves);
    tcase_add_test(t, strangers);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
