/* SPDX-License-Identifier: MIT */
/* exports/nbd-server.c: servers that start while others are told to stop. */
#include "tests/unit/ring-fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "exports/nbd.h"
#include "uring/await.h"

static char folder[] = "/tmp/test-nbd-server-XXXXXX";
static char path[64];

/* One server, started in a coroutine of its own. */
static struct {
    char id[8];
    bool ended;
    int result;
    struct err err;
} start;

static void start_main(void *arg)
{
    struct unix_address where = { .path = path };
    const struct nbd_server_options o = { .id = start.id,
                                          .addr = { ADDRESS_UNIX, &where },
                                          .max_connections = 100,
                                          .handshake_max_seconds = 10 };

    (void)arg;
    start.result = nbd_server_start(&o, NULL, NULL, &start.err);
    start.ended = true;
}

/* On its way: its sockets are being made on a worker. */
static void begin_start(const char *id)
{
    err_clear(&start.err);
    start.ended = false;
    snprintf(start.id, sizeof(start.id), "%s", id);
    ck_assert_int_eq(co_enter(start_main, NULL, "start a server"), 0);
}

static void end_start(int result)
{
    while (!start.ended)
        co_sleep(NS_PER_MS);
    ck_assert_msg(start.result == result, "%d, not %d: %s", start.result, result,
                  start.err.msg ? start.err.msg : "no error");
}

static void stop_is_refused(const char *id)
{
    autoerr err = { 0 };

    ck_assert_int_eq(nbd_server_stop(id, &err), -ENOENT);
    ck_assert_str_eq(err.msg, "NBD server not running");
}

static void stop(const char *id)
{
    autoerr err = { 0 };

    ck_assert_msg(nbd_server_stop(id, &err) == 0, "%s", err.msg);
}

static void check_life(void)
{
    stop_is_refused("a");
    begin_start("a");
    end_start(0);
    ck_assert(nbd_server_running("a") && !nbd_server_running("b") && !nbd_server_running(NULL));
    ck_assert_int_eq(access(path, F_OK), 0);
    begin_start("a");
    end_start(-EBUSY);
    ck_assert_str_eq(start.err.msg, "NBD server 'a' already running");
    stop("a");
    ck_assert(!nbd_server_running("a"));
    ck_assert_int_lt(access(path, F_OK), 0);
    stop_is_refused("a");
}

/* It is not there yet, for exports as little as for who stops it; but its id is taken. */
static void check_stop_while_starting(void)
{
    begin_start("a");
    ck_assert(!start.ended && !nbd_server_running("a"));
    stop_is_refused("a");
    end_start(0);
    ck_assert(nbd_server_running("a"));
    stop("a");
}

/* The daemon stops: it waits for who is starting, who finds out that all is over. */
static void check_stop_all_while_starting(void)
{
    begin_start("a");
    ck_assert(!start.ended);
    nbd_servers_stop_all();
    ck_assert(!nbd_server_running("a"));
    end_start(-ESHUTDOWN);
    ck_assert_str_eq(start.err.msg, "NBD server: the daemon stops");
    ck_assert_int_lt(access(path, F_OK), 0);
}

static void make_folder(void)
{
    rings_up();
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/socket", folder);
}

static void remove_folder(void)
{
    err_clear(&start.err);
    rings_down();
    ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(one_life)
{
    run_co(check_life);
}
END_TEST

START_TEST(stop_while_it_starts)
{
    run_co(check_stop_while_starting);
}
END_TEST

START_TEST(stop_all_while_it_starts)
{
    run_co(check_stop_all_while_starting);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nbd-server");
    TCase *c = tcase_create("nbd-server");

    tcase_add_checked_fixture(c, make_folder, remove_folder);
    tcase_add_test(c, one_life);
    tcase_add_test(c, stop_while_it_starts);
    tcase_add_test(c, stop_all_while_it_starts);
    suite_add_tcase(s, c);
    return run_suite(s);
}
