/* SPDX-License-Identifier: MIT */
/* The log, as a reader of stderr sees it: each test puts a pipe or socket in stderr's place. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static char text[1 << 17];

/* What the pipe holds now. */
static const char *drain(int fd)
{
    ssize_t n = read(fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = 0;
    return text;
}

/* Put a new pipe in stderr's place; returns its reading end.  Each test is a process of its own. */
static int pipe_as_stderr(void)
{
    int p[2];

    ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
    ck_assert_int_eq(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(dup2(p[1], STDERR_FILENO), STDERR_FILENO);
    close(p[1]);
    return p[0];
}

START_TEST(a_line_names_program_and_level)
{
    int fd = pipe_as_stderr();

    unsetenv("JOURNAL_STREAM");
    log_init("ringblkd");
    log_warning("node '%s' is %d", "a", 7);
    ck_assert_str_eq(drain(fd), "ringblkd: warning: node 'a' is 7\n");
    log_error("bad");
    log_info("good");
    ck_assert_str_eq(drain(fd), "ringblkd: error: bad\nringblkd: info: good\n");
}
END_TEST

START_TEST(levels_above_the_threshold_are_dropped)
{
    int fd = pipe_as_stderr();

    log_init("p");
    log_debug("d");
    log_set_level(LOG_LEVEL_WARNING);
    ck_assert(log_enabled(LOG_LEVEL_ERROR) && !log_enabled(LOG_LEVEL_INFO));
    log_info("i");
    log_warning("w");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("d");
    ck_assert_str_eq(drain(fd), "p: warning: w\np: debug: d\n");
}
END_TEST

START_TEST(the_journal_gets_its_numbers)
{
    int fd = pipe_as_stderr();
    struct stat st;
    char stream[64];

    ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init("ringblkd");
    log_set_level(LOG_LEVEL_DEBUG);
    log_error("a");
    log_warning("b");
    log_info("c");
    log_debug("d");
    ck_assert_str_eq(drain(fd), "<3>a\n<4>b\n<6>c\n<7>d\n");
    /* stderr was redirected since the service manager set the variable */
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init("ringblkd");
    log_error("a");
    ck_assert_str_eq(drain(fd), "ringblkd: error: a\n");
}
END_TEST

START_TEST(a_name_cannot_forge_a_line)
{
    int fd = pipe_as_stderr();

    log_init("p");
    log_warning("node 'x\np: error: forged\x1b[2J\x7f' \xc3\xa9");
    ck_assert_str_eq(drain(fd), "p: warning: node 'x?p: error: forged?[2J?' \xc3\xa9\n");
}
END_TEST

START_TEST(a_long_message_is_cut_into_one_line)
{
    int fd = pipe_as_stderr();
    char *big = calloc(1, 20000);

    memset(big, 'x', 19999);
    log_init("p");
    log_info("%s", big);
    free(big);
    drain(fd);
    ck_assert_uint_eq(strlen(text), 4096);
    ck_assert_str_eq(text + 4096 - 5, "x...\n");
}
END_TEST

START_TEST(a_reader_that_sleeps_is_not_waited_for)
{
    int fd = pipe_as_stderr();

    log_init("p");
    for (int i = 0; i < 5000; i++) /* 100 times what a pipe holds would hang here */
        log_info("%01000d", i);
    drain(fd);
    ck_assert_ptr_nonnull(strstr(text, "00000\n"));
    log_info("again");
    ck_assert_ptr_nonnull(strstr(drain(fd), " messages were lost\np: info: again\n"));
    log_info("again");
    ck_assert_str_eq(drain(fd), "p: info: again\n");
}
END_TEST

START_TEST(a_reader_that_left_does_no_harm)
{
    int fd = pipe_as_stderr(), s[2];

    log_init("p");
    close(fd);
    errno = EXDEV;
    log_info("to nobody");
    ck_assert_int_eq(errno, EXDEV);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    dup2(s[1], STDERR_FILENO);
    close(s[0]);
    log_info("to nobody");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");

    suite_add_tcase(s, t);
    tcase_add_test(t, a_line_names_program_and_level);
    tcase_add_test(t, levels_above_the_threshold_are_dropped);
    tcase_add_test(t, the_journal_gets_its_numbers);
    tcase_add_test(t, a_name_cannot_forge_a_line);
    tcase_add_test(t, a_long_message_is_cut_into_one_line);
    tcase_add_test(t, a_reader_that_sleeps_is_not_waited_for);
    tcase_add_test(t, a_reader_that_left_does_no_harm);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
