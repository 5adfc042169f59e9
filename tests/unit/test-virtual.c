/* SPDX-License-Identifier: MIT */
/* Virtual rings: steps, clock, held operations; the search finds planted races and proves the locks' small models. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/ring-fixture.h"
#include "uring/await.h"
#include "uring/sync.h"
#include "uring/virtual.h"

enum { LIMIT = 300000 };

/* ---- by hand ---- */

static int value;

static void sets_value(void *arg)
{
    value = (int)(uintptr_t)arg;
    co_pause();
    value++;
    co_sleep(50);
    value++;
}

START_TEST(steps_and_clock)
{
    virtual_rings_init(2);
    ck_assert(!virtual_ready(1) && !virtual_step(1));
    virtual_spawn(2, sets_value, (void *)10, "sets");
    ck_assert(virtual_ready(2) && !virtual_ready(1));
    ck_assert(virtual_step(2));
    ck_assert_int_eq(value, 10);
    ck_assert(virtual_step(2));
    ck_assert_int_eq(value, 11);
    ck_assert(!virtual_step(2));
    virtual_advance(49);
    ck_assert(!virtual_ready(2));
    virtual_advance(1);
    ck_assert(virtual_run());
    ck_assert_int_eq(value, 12);
    virtual_rings_exit();
}
END_TEST

static void reads(void *arg)
{
    char c;

    value = co_read(*(int *)arg, &c, 1, 0);
}

START_TEST(held_operations)
{
    int fd = -1;

    virtual_rings_init(1);
    virtual_hold(true);
    virtual_spawn(1, reads, &fd, "reads");
    ck_assert(virtual_run());
    ck_assert_uint_eq(virtual_ops(1), 1);
    virtual_complete(1, -EIO);
    ck_assert(virtual_run());
    ck_assert_int_eq(value, -EIO);
    virtual_hold(false);
    virtual_spawn(1, reads, &fd, "reads");
    ck_assert(virtual_run());
    ck_assert_int_eq(value, -EBADF); /* carried out for real */
    virtual_rings_exit();
}
END_TEST

/* ---- searches ---- */

static int total, in, done;
static bool locked, broken;
static struct co_mutex mutex;
static struct co_rwlock rwlock;
static struct co_sem sem;
static struct co_cond cond;

static void reset(void)
{
    total = in = done = 0;
    broken = false;
    co_mutex_init(&mutex, 0);
    co_rwlock_init(&rwlock);
    co_sem_init(&sem, 1);
    co_cond_init(&cond);
}

static void adds(void *arg)
{
    (void)arg;
    if (locked)
        co_mutex_lock(&mutex);
    int before = total;
    co_pause();
    total = before + 1;
    if (locked)
        co_mutex_unlock(&mutex);
    done++;
}

static void two_adders(void)
{
    reset();
    virtual_spawn(1, adds, NULL, "first");
    virtual_spawn(2, adds, NULL, "second");
}

static bool both_counted(void)
{
    return done == 2 && total == 2;
}

START_TEST(a_planted_race_is_found)
{
    locked = false;
    ck_assert_int_lt(virtual_explore(2, two_adders, both_counted, LIMIT), 0);
    ck_assert_int_lt(virtual_explore_bounded(2, two_adders, both_counted, LIMIT, 1), 0);
    /* without leaving a ring that can go on there is no race: the bound is obeyed */
    ck_assert_int_gt(virtual_explore_bounded(2, two_adders, both_counted, LIMIT, 0), 0);
}
END_TEST

static bool always(void)
{
    return true;
}

START_TEST(the_number_of_orders_is_right)
{
    /* two rings with two steps each, which never wait: 4! / (2! 2!) */
    locked = false;
    ck_assert_int_eq(virtual_explore(2, two_adders, always, LIMIT), 6);
}
END_TEST

static void three_adders(void)
{
    reset();
    for (unsigned i = 0; i < 3; i++)
        virtual_spawn(i, adds, NULL, "adder");
}

static bool three_counted(void)
{
    return done == 3 && total == 3 && !mutex.holder;
}

START_TEST(a_mutex_model)
{
    locked = true;
    long runs = virtual_explore(2, two_adders, both_counted, LIMIT);
    /* who comes first holds it for two steps; the other asks before the second of them, or after */
    ck_assert_int_eq(runs, 4);
    ck_assert_int_gt(virtual_explore_bounded(2, three_adders, three_counted, LIMIT, 3), 0);
}
END_TEST

/* Lost wake-up, planted: looks and waits with a step between, without the mutex. */
static void waits(void *arg)
{
    (void)arg;
    if (locked) {
        CO_GUARD(&mutex);
        while (!total)
            co_cond_wait(&cond, &mutex);
    } else if (!total) {
        co_pause();
        co_cond_wait(&cond, NULL);
    }
    done++;
}

static void signals(void *arg)
{
    (void)arg;
    if (locked)
        co_mutex_lock(&mutex);
    total = 1;
    if (locked)
        co_mutex_unlock(&mutex);
    co_cond_wake_one(&cond);
    done++;
}

static void wait_and_signal(void)
{
    reset();
    virtual_spawn(1, waits, NULL, "waits");
    virtual_spawn(2, signals, NULL, "signals");
}

static bool two_done(void)
{
    return done == 2 && !broken;
}

START_TEST(a_condition_model)
{
    locked = false;
    ck_assert_int_lt(virtual_explore(2, wait_and_signal, two_done, LIMIT), 0);
    locked = true;
    long runs = virtual_explore(2, wait_and_signal, two_done, LIMIT);
    ck_assert_int_gt(runs, 0);
    ck_assert_int_lt(runs, LIMIT);
}
END_TEST

/* Deadline against wake-up: whoever wins, the coroutine runs once and the result says which. */
static void waits_until(void *arg)
{
    (void)arg;
    co_mutex_lock(&mutex);
    int r = co_cond_wait_until(&cond, &mutex, ring_now() + 100);
    broken = broken || (r != 0 && r != -ETIMEDOUT) || !co_mutex_held(&mutex);
    co_mutex_unlock(&mutex);
    total += r == 0;
    done++;
}

static void signals_late(void *arg)
{
    (void)arg;
    co_sleep(100); /* the same instant */
    in += co_cond_wake_one(&cond);
    done++;
}

static void deadline_meets_signal(void)
{
    reset();
    virtual_spawn(1, waits_until, NULL, "waits");
    virtual_spawn(2, signals_late, NULL, "signals");
}

static bool result_agrees(void)
{
    return done == 2 && !broken && in == total;
}

START_TEST(a_deadline_model)
{
    long runs = virtual_explore(2, deadline_meets_signal, result_agrees, LIMIT);
    ck_assert_int_gt(runs, 0);
    ck_assert_int_lt(runs, LIMIT);
}
END_TEST

static void reader(void *arg)
{
    (void)arg;
    co_rwlock_read(&rwlock);
    broken = broken || in < 0;
    in++;
    co_pause();
    in--;
    co_rwlock_unlock(&rwlock);
    done++;
}

static void writer(void *arg)
{
    (void)arg;
    co_rwlock_write(&rwlock);
    broken = broken || in != 0;
    in = -100;
    co_pause();
    in = 0;
    co_rwlock_unlock(&rwlock);
    done++;
}

static void readers_and_writer(void)
{
    reset();
    virtual_spawn(0, reader, NULL, "reader");
    virtual_spawn(1, writer, NULL, "writer");
    virtual_spawn(2, reader, NULL, "reader");
}

static void sem_user(void *arg)
{
    co_sem_down(&sem, (unsigned)(uintptr_t)arg);
    broken = broken || ++in > 1;
    co_pause();
    in--;
    co_sem_up(&sem, (unsigned)(uintptr_t)arg);
    done++;
}

static void sem_users(void)
{
    reset();
    for (unsigned i = 0; i < 3; i++)
        virtual_spawn(i, sem_user, (void *)1, "user");
}

static bool three_done(void)
{
    return done == 3 && !broken && in == 0 && rwlock.readers == 0 && sem.value == 1;
}

START_TEST(rwlock_and_semaphore_models)
{
    long runs = virtual_explore(2, readers_and_writer, three_done, LIMIT);
    ck_assert_int_gt(runs, 20);
    ck_assert_int_lt(runs, LIMIT); /* all of them */
    runs = virtual_explore(2, sem_users, three_done, LIMIT);
    ck_assert_int_gt(runs, 20);
    ck_assert_int_lt(runs, LIMIT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("virtual");
    TCase *t = tcase_create("virtual");

    tcase_add_test(t, steps_and_clock);
    tcase_add_test(t, held_operations);
    tcase_add_test(t, a_planted_race_is_found);
    tcase_add_test(t, the_number_of_orders_is_right);
    tcase_add_test(t, a_mutex_model);
    tcase_add_test(t, a_condition_model);
    tcase_add_test(t, a_deadline_model);
    tcase_add_test(t, rwlock_and_semaphore_models);
    suite_add_tcase(s, t);
    return run_suite(s);
}
