/* SPDX-License-Identifier: MIT */
/* Kernel operations: results, short counts, ends of streams, deadlines, cancels, numbers of operations. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/unit/ring-fixture.h"
#include "uring/await.h"

#define SOON (20 * NS_PER_MS)

/* ---- files ---- */

static int temp_file(void)
{
    char path[] = "/tmp/ringblk-await-XXXXXX";
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    return fd;
}

static void files(void)
{
    int fd = temp_file();
    char a[100], b[100];
    struct iovec v[2] = { { a, 60 }, { b, 60 } };

    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    ck_assert_int_eq(co_writev(fd, v, 2, 0, 0), 120);
    ck_assert_int_eq(co_write(fd, b, 10, 120, RWF_DSYNC), 10);
    ck_assert_int_eq(co_read(fd, a, 100, 50), 80); /* short at the end */
    ck_assert(a[9] == 'a' && a[10] == 'b' && a[79] == 'b');
    ck_assert_int_eq(co_readv(fd, v, 2, 130), 0);
    ck_assert_int_eq(co_fsync(fd, true), 0);
    ck_assert_int_eq(co_fsync(fd, false), 0);
    ck_assert_int_eq(co_fallocate(fd, 0, 0, 4096), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), 4096);
    ck_assert_int_eq(co_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    ck_assert_int_eq(co_read(fd, a, 1, 0), 1);
    ck_assert_int_eq(a[0], 0);
    ck_assert_int_eq(co_read(-1, a, 1, 0), -EBADF);
    close(fd);
}

START_TEST(files_and_short_counts)
{
    run_co(files);
}
END_TEST

/* ---- sockets ---- */

static int pair[2];

static void sends_slowly(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(co_send(pair[1], "0123456789", 10, 0, FOREVER), 10);
        co_sleep(NS_PER_MS);
    }
    ck_assert_int_eq(co_send_all(pair[1], "half", 4, FOREVER), 0);
    close(pair[1]);
}

static void streams(void)
{
    char in[100];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    co_start(sends_slowly, NULL, "sends");
    ck_assert_int_eq(co_recv_all(pair[0], in, 100, FOREVER), 0);
    ck_assert_mem_eq(in + 90, "0123456789", 10);
    ck_assert_int_eq(co_recv_all(pair[0], in, 5, FOREVER), -ECONNRESET);
    ck_assert_int_eq(co_recv(pair[0], in, 5, 0, FOREVER), 0);
    /* a dead peer is an error, not a signal */
    ck_assert_int_eq(co_send(pair[0], in, 5, 0, FOREVER), -EPIPE);
    ck_assert_int_eq(co_send_all(pair[0], in, 5, FOREVER), -EPIPE);
    close(pair[0]);
}

START_TEST(streams_whole_or_ended)
{
    run_co(streams);
}
END_TEST

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static socklen_t address_len;
static int accepted;

static void accepts(void *arg)
{
    accepted = co_accept(*(int *)arg, FOREVER);
}

static void connects(void)
{
    autoclose int listener = socket(AF_UNIX, SOCK_STREAM, 0),
                  client = socket(AF_UNIX, SOCK_STREAM, 0);

    address_len = sizeof(sa_family_t); /* the kernel picks an abstract name */
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, address_len), 0);
    address_len = sizeof(address);
    getsockname(listener, (struct sockaddr *)&address, &address_len);
    ck_assert_int_eq(co_connect(client, (struct sockaddr *)&address, address_len, FOREVER),
                     -ECONNREFUSED);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(co_accept(listener, ring_now() + SOON), -ETIMEDOUT);
    co_start(accepts, &listener, "accepts");
    ck_assert_int_eq(co_connect(client, (struct sockaddr *)&address, address_len, FOREVER), 0);
    co_sleep(NS_PER_MS);
    ck_assert_int_ge(accepted, 0);
    ck_assert_int_eq(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(co_poll(accepted, POLLIN, ring_now() + SOON), -ETIMEDOUT);
    ck_assert_int_eq(co_send(client, "x", 1, 0, FOREVER), 1);
    ck_assert_int_eq(co_poll(accepted, POLLIN, FOREVER), POLLIN);
    close(accepted);
}

START_TEST(connect_accept_poll)
{
    run_co(connects);
}
END_TEST

/* ---- deadlines and cancels ---- */

static void deadlines(void)
{
    char c;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    uint64_t before = ring_now();
    ck_assert_int_eq(co_recv(pair[0], &c, 1, 0, before + SOON), -ETIMEDOUT);
    ck_assert_uint_ge(ring_now(), before + SOON);
    ck_assert_int_eq(co_recv(pair[0], &c, 1, 0, 1), -ETIMEDOUT); /* long past */
    ck_assert_int_eq(send(pair[1], "y", 1, 0), 1);
    ck_assert_int_eq(co_recv(pair[0], &c, 1, 0, ring_now() + NS_PER_S), 1);
    ck_assert_uint_le(this_ring->timer_count, 2); /* watchdog and trimmer: none of these three */
    ck_assert_uint_eq(op_in_flight_count(this_ring), 1); /* the eventfd's */
    close(pair[0]);
    close(pair[1]);
}

START_TEST(deadlines_end_a_wait)
{
    run_co(deadlines);
}
END_TEST

static struct co *_Atomic victim;
static atomic_int victim_result;

static void waits_to_receive(void *arg)
{
    char c;

    (void)arg;
    atomic_store(&victim, co_self());
    int first = co_recv(pair[0], &c, 1, 0, FOREVER);
    ck_assert(!co_cancelled());
    int second = co_recv(pair[0], &c, 1, 0, FOREVER); /* not cancelled again */
    atomic_store(&victim_result, first * 1000 + second);
    atomic_store(&victim, NULL);
}

static void waits_to_sleep(void *arg)
{
    (void)arg;
    atomic_store(&victim, co_self());
    int first = co_sleep(1000 * NS_PER_S), second = co_sleep(1);
    atomic_store(&victim_result, first * 1000 + second);
    atomic_store(&victim, NULL);
}

static void cancel_on(struct ring *r, void (*fn)(void *arg), int expected)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(ring_spawn(r, fn, NULL, "victim"), 0);
    while (!atomic_load(&victim))
        co_sleep(NS_PER_MS);
    co_sleep(NS_PER_MS);
    co_cancel(atomic_load(&victim));
    co_sleep(NS_PER_MS);
    ck_assert_int_eq(send(pair[1], "z", 1, 0), 1);
    while (atomic_load(&victim))
        co_sleep(NS_PER_MS);
    ck_assert_int_eq(atomic_load(&victim_result), expected);
    close(pair[0]);
    close(pair[1]);
}

static void cancelled_before(void *arg)
{
    char c;

    co_cancel(co_self());
    ck_assert(co_cancelled());
    ck_assert_int_eq(co_read(*(int *)arg, &c, 1, 0), -ECANCELED);
    ck_assert_int_eq(co_read(*(int *)arg, &c, 1, 0), 0);
    co_cancel(co_self());
    ck_assert_int_eq(co_sleep(1), -ECANCELED);
    ck_assert_int_eq(co_sleep(1), 0);
}

static void cancels(void)
{
    int fd = temp_file();

    co_enter(cancelled_before, &fd, "cancelled before");
    co_sleep(SOON);
    cancel_on(this_ring, waits_to_receive, -ECANCELED * 1000 + 1);
    cancel_on(ring_at(1), waits_to_receive, -ECANCELED * 1000 + 1);
    cancel_on(this_ring, waits_to_sleep, -ECANCELED * 1000);
    cancel_on(ring_at(1), waits_to_sleep, -ECANCELED * 1000);
    close(fd);
}

START_TEST(cancels_end_a_wait)
{
    run_co(cancels);
}
END_TEST

/* ---- operations without a coroutine ---- */

enum { OPS = 3000 }; /* more than an SQ of 256 holds */
static struct op ops[OPS];
static unsigned ops_done, again;

static void op_done(struct op *op, int32_t result, uint32_t flags)
{
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(flags & OP_MORE, 0);
    ck_assert(!op_in_flight(op) && !co_self());
    if (++ops_done % 10 == 0 && again++ < 100)
        op_nop(op); /* anew, from done() */
}

static void many_ops(void)
{
    ops_done = again = 0;
    for (unsigned i = 0; i < OPS; i++) {
        ops[i].done = op_done;
        op_nop(&ops[i]);
        ck_assert(op_in_flight(&ops[i]));
    }
    ck_assert_uint_eq(ops_done, 0); /* never inside the call */
    while (ops_done < OPS + 100)
        co_sleep(NS_PER_MS);
    ck_assert_uint_eq(op_in_flight_count(this_ring), 1);
}

START_TEST(more_operations_than_entries)
{
    run_co(many_ops);
}
END_TEST

static unsigned strangers;

static void stranger(struct op *op, int32_t result, uint32_t flags)
{
    (void)op;
    (void)result;
    (void)flags;
    strangers++;
}

static void late_completions(void)
{
    struct op op = { .done = stranger };
    static uint32_t numbers[40000];

    strangers = 0;
    for (unsigned i = 0; i < 40000; i++) { /* the same slot: more than all its generations */
        op_nop(&op);
        numbers[i] = op.number;
        ck_assert_uint_ne(op.number, 0);
        ck_assert(i == 0 || op.number != numbers[i - 1]);
        uint32_t number = op.number;
        op_complete(this_ring, number, 0, 0);
        op_complete(this_ring, number, 0, 0); /* a second time: nobody's */
        ck_assert_uint_eq(strangers, i + 1);
        if (i % 100 == 0)
            co_sleep(1); /* the kernel's own completions: too late, all of them */
    }
    op_complete(this_ring, 0, 0, 0);
    op_complete(this_ring, UINT32_MAX, 0, 0);
    op_complete(this_ring, UINT64_MAX - 1, 0, 0);
    co_sleep(SOON);
    ck_assert_uint_eq(strangers, 40000);
    op_cancel(&op); /* not in flight: nothing */
}

START_TEST(late_completions_hit_nobody)
{
    run_co(late_completions);
}
END_TEST

static unsigned connections;
static bool armed;

static void connection_came(struct op *op, int32_t result, uint32_t flags)
{
    armed = flags & OP_MORE;
    ck_assert(op_in_flight(op) == armed);
    if (result < 0)
        return;
    connections++;
    close(result);
}

static void multishot(void)
{
    autoclose int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct op op = { .done = connection_came };

    address_len = sizeof(sa_family_t);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, address_len), 0);
    address_len = sizeof(address);
    getsockname(listener, (struct sockaddr *)&address, &address_len);
    ck_assert_int_eq(listen(listener, 10), 0);
    op_accept(&op, listener, true);
    for (int i = 0; i < 5; i++) {
        autoclose int client = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(client, (struct sockaddr *)&address, address_len), 0);
        co_sleep(NS_PER_MS);
    }
    ck_assert_uint_eq(connections, 5);
    ck_assert(armed);
    op_cancel(&op);
    co_sleep(SOON);
    ck_assert(!armed && !op_in_flight(&op));
}

START_TEST(multishot_accept)
{
    run_co(multishot);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("await");
    TCase *t = tcase_create("await");

    tcase_add_checked_fixture(t, rings_up, rings_down);
    tcase_add_test(t, files_and_short_counts);
    tcase_add_test(t, streams_whole_or_ended);
    tcase_add_test(t, connect_accept_poll);
    tcase_add_test(t, deadlines_end_a_wait);
    tcase_add_test(t, cancels_end_a_wait);
    tcase_add_test(t, more_operations_than_entries);
    tcase_add_test(t, late_completions_hit_nobody);
    tcase_add_test(t, multishot_accept);
    suite_add_tcase(s, t);
    return run_suite(s);
}
