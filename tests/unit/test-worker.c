/* SPDX-License-Identifier: MIT */
/* uring/worker.c: calls that block have threads, as many at once as are asked for, up to a limit. */
#include "tests/unit/ring-fixture.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "uring/await.h"

enum { WORKERS = 16, PATIENCE = 30 /* s */ };

static int do_nothing(void *arg)
{
    (void)arg;
    return 7;
}

static int remember_thread(void *arg)
{
    *(pthread_t *)arg = pthread_self();
    return 0;
}

static void check_result(void)
{
    pthread_t other = pthread_self();

    ck_assert_int_eq(ring_block(do_nothing, NULL), 7);
    ck_assert_int_eq(ring_block(remember_thread, &other), 0);
    ck_assert(!pthread_equal(other, pthread_self()));
}

/* ---- calls that end only when all of them run ---- */

static struct {
    sem_t arrived, may_go;
    unsigned calls, ended;
    bool late;
} meeting;

static int wait_for(sem_t *s)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    while (sem_timedwait(s, &until) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int meet(void *arg)
{
    (void)arg;
    sem_post(&meeting.arrived);
    return wait_for(&meeting.may_go);
}

static void caller(void *arg)
{
    (void)arg;
    meeting.late = ring_block(meet, NULL) < 0 || meeting.late;
    meeting.ended++;
}

static void *let_go(void *arg)
{
    int result = 0;

    (void)arg;
    for (unsigned i = 0; i < meeting.calls && result == 0; i++)
        result = wait_for(&meeting.arrived);
    for (unsigned i = 0; i < meeting.calls; i++)
        sem_post(&meeting.may_go);
    return NULL;
}

static void check_meeting(unsigned calls)
{
    pthread_t host;

    meeting.calls = calls;
    meeting.ended = 0;
    ck_assert_int_eq(sem_init(&meeting.arrived, 0, 0), 0);
    ck_assert_int_eq(sem_init(&meeting.may_go, 0, 0), 0);
    for (unsigned i = 0; i < calls; i++)
        ck_assert_int_eq(co_start(caller, NULL, "caller"), 0);
    ck_assert_int_eq(thread_start(&host, let_go, NULL), 0);
    while (meeting.ended < calls)
        co_sleep(NS_PER_MS);
    pthread_join(host, NULL);
    ck_assert(!meeting.late);
    sem_destroy(&meeting.arrived);
    sem_destroy(&meeting.may_go);
}

/* A thread that is idle takes one call, not all that come before it has woken up. */
static void check_idle_thread(void)
{
    ck_assert_int_eq(ring_block(do_nothing, NULL), 7);
    co_sleep(50 * NS_PER_MS); /* it lies down */
    check_meeting(2);
}

static void check_all_threads(void)
{
    check_meeting(WORKERS);
}

/* More than there are threads: they wait for their turn, and all end. */
static void count_up(void *arg)
{
    ck_assert_int_eq(ring_block(do_nothing, NULL), 7);
    ++*(unsigned *)arg;
}

static void check_many(void)
{
    unsigned ended = 0;

    for (unsigned i = 0; i < 50 * WORKERS; i++)
        ck_assert_int_eq(co_start(count_up, &ended, "caller"), 0);
    while (ended < 50 * WORKERS)
        co_sleep(NS_PER_MS);
}

START_TEST(calls_run_elsewhere_and_give_their_result)
{
    run_co(check_result);
}
END_TEST

START_TEST(an_idle_thread_counts_once)
{
    run_co(check_idle_thread);
}
END_TEST

START_TEST(all_threads_at_once)
{
    run_co(check_all_threads);
}
END_TEST

START_TEST(more_calls_than_threads)
{
    run_co(check_many);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *c = tcase_create("worker");

    tcase_add_checked_fixture(c, rings_up, rings_down);
    tcase_set_timeout(c, 2 * PATIENCE);
    tcase_add_test(c, calls_run_elsewhere_and_give_their_result);
    tcase_add_test(c, an_idle_thread_counts_once);
    tcase_add_test(c, all_threads_at_once);
    tcase_add_test(c, more_calls_than_threads);
    suite_add_tcase(s, c);
    return run_suite(s);
}
