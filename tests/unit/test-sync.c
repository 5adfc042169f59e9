/* SPDX-License-Identifier: MIT */
/* Locks across rings: exclusion under stress, order, fairness, deadlines.  Meant for ThreadSanitizer too. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/unit/ring-fixture.h"
#include "uring/await.h"
#include "uring/sync.h"

enum { EACH = 8, ROUNDS = 2000, RINGS = 3 };

static atomic_int ended;

/* EACH coroutines on every ring run @fn; returns when all ended. */
static void everywhere(void (*fn)(void *arg))
{
    atomic_store(&ended, 0);
    for (unsigned i = 0; i < RINGS * EACH; i++)
        ck_assert_int_eq(ring_spawn(ring_at(i % RINGS), fn, NULL, "stress"), 0);
    while (atomic_load(&ended) < RINGS * EACH)
        co_sleep(NS_PER_MS);
}

/* ---- mutex ---- */

static struct co_mutex mutex;
static unsigned long counter; /* plain: the lock alone guards it */

static void mutex_stress(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        CO_GUARD(&mutex);
        ck_assert(co_mutex_held(&mutex));
        unsigned long before = counter;
        if (i % 64 == 0)
            co_pause(); /* held while others run */
        counter = before + 1;
    }
    atomic_fetch_add(&ended, 1);
}

static void mutex_main(void)
{
    co_mutex_init(&mutex, 0);
    counter = 0;
    everywhere(mutex_stress);
    ck_assert_uint_eq(counter, (unsigned long)RINGS * EACH * ROUNDS);
    ck_assert(co_mutex_trylock(&mutex));
    ck_assert(!co_mutex_trylock(&mutex));
    co_mutex_unlock(&mutex);
    ck_assert(!co_mutex_held(&mutex));
}

START_TEST(a_mutex_excludes)
{
    run_co(mutex_main);
}
END_TEST

/* A waiter passed over four times is handed the lock although the others never stop asking. */
static bool waiter_had_it;
static unsigned barged;

static void patient(void *arg)
{
    (void)arg;
    co_mutex_lock(&mutex);
    waiter_had_it = true;
    co_mutex_unlock(&mutex);
}

static void barge(void)
{
    co_mutex_init(&mutex, 0);
    waiter_had_it = false;
    barged = 0;
    co_mutex_lock(&mutex);
    co_start(patient, NULL, "patient");
    co_pause();
    while (!waiter_had_it && barged < 100) {
        co_mutex_unlock(&mutex); /* wakes the patient one ... */
        co_mutex_lock(&mutex);   /* ... and is back before it runs */
        barged++;
        co_pause();
    }
    if (co_mutex_held(&mutex))
        co_mutex_unlock(&mutex);
    ck_assert(waiter_had_it);
    ck_assert_uint_ge(barged, 4);
    ck_assert_uint_le(barged, 6);
}

START_TEST(a_waiter_passed_over_is_handed_the_lock)
{
    run_co(barge);
}
END_TEST

/* Rule 2 of sync.c: the next owner may free the lock. */
static void freed_by_next(void *arg)
{
    struct co_mutex *m = arg;

    co_mutex_lock(m);
    co_mutex_unlock(m);
    free(m);
    atomic_fetch_add(&ended, 1);
}

static void free_main(void)
{
    for (int i = 0; i < 500; i++) {
        struct co_mutex *m = malloc(sizeof(*m));
        ck_assert_ptr_nonnull(m);
        co_mutex_init(m, 0);
        atomic_store(&ended, 0);
        co_mutex_lock(m);
        ring_spawn(ring_at(1), freed_by_next, m, "next");
        for (int k = 0; k < i % 7; k++)
            co_pause();
        co_mutex_unlock(m);
        while (!atomic_load(&ended))
            co_pause();
    }
}

START_TEST(the_next_owner_may_free_it)
{
    run_co(free_main);
}
END_TEST

static void wrong_order(void *arg)
{
    static struct co_mutex low, high;

    (void)arg;
    co_mutex_init(&low, 1);
    co_mutex_init(&high, 2);
    co_mutex_lock(&low);
    co_mutex_lock(&high);
    co_mutex_unlock(&high);
    co_mutex_unlock(&low);
    co_mutex_lock(&high); /* right so far */
    co_mutex_lock(&low);
}

START_TEST(a_wrong_order_is_caught)
{
    co_start(wrong_order, NULL, "wrong order");
    ring_run();
}
END_TEST

/* ---- readers and writers ---- */

static struct co_rwlock rwlock;
static atomic_int readers_in, writers_in;
static unsigned long written;

static void rwlock_stress(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS / 4; i++) {
        if (i % 5 == 0) {
            co_rwlock_write(&rwlock);
            ck_assert_int_eq(atomic_fetch_add(&writers_in, 1), 0);
            ck_assert_int_eq(atomic_load(&readers_in), 0);
            unsigned long before = written;
            co_pause();
            written = before + 1;
            atomic_fetch_sub(&writers_in, 1);
        } else {
            co_rwlock_read(&rwlock);
            atomic_fetch_add(&readers_in, 1);
            ck_assert_int_eq(atomic_load(&writers_in), 0);
            if (i % 3 == 0)
                co_pause();
            atomic_fetch_sub(&readers_in, 1);
        }
        co_rwlock_unlock(&rwlock);
    }
    atomic_fetch_add(&ended, 1);
}

static void rwlock_main(void)
{
    co_rwlock_init(&rwlock);
    written = 0;
    everywhere(rwlock_stress);
    ck_assert_uint_eq(written, (unsigned long)RINGS * EACH * (ROUNDS / 4 / 5));
    ck_assert_int_eq(rwlock.readers, 0);
}

START_TEST(a_rwlock_excludes)
{
    run_co(rwlock_main);
}
END_TEST

static bool writer_in;

static void write_once(void *arg)
{
    (void)arg;
    co_rwlock_write(&rwlock);
    writer_in = true;
    co_rwlock_unlock(&rwlock);
}

static void read_once(void *arg)
{
    (void)arg;
    co_rwlock_read(&rwlock);
    ck_assert(writer_in); /* it came after the writer */
    co_rwlock_unlock(&rwlock);
    atomic_fetch_add(&ended, 1);
}

static void no_starvation(void)
{
    co_rwlock_init(&rwlock);
    writer_in = false;
    atomic_store(&ended, 0);
    co_rwlock_read(&rwlock);
    co_start(write_once, NULL, "writer");
    co_pause();
    co_start(read_once, NULL, "reader");
    co_pause();
    ck_assert_int_eq(atomic_load(&ended), 0);
    co_rwlock_unlock(&rwlock);
    co_pause();
    co_pause();
    ck_assert_int_eq(atomic_load(&ended), 1);
}

START_TEST(readers_wait_behind_a_waiting_writer)
{
    run_co(no_starvation);
}
END_TEST

/* ---- semaphore ---- */

static struct co_sem sem;
static atomic_int inside;

static void sem_stress(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS / 4; i++) {
        unsigned n = 1 + (unsigned)i % 3;
        co_sem_down(&sem, n);
        ck_assert_int_le(atomic_fetch_add(&inside, (int)n) + (int)n, 4);
        if (i % 4 == 0)
            co_pause();
        atomic_fetch_sub(&inside, (int)n);
        co_sem_up(&sem, n);
    }
    atomic_fetch_add(&ended, 1);
}

static char order[8];
static unsigned order_used;

static void down_two(void *arg)
{
    (void)arg;
    co_sem_down(&sem, 2);
    order[order_used++] = '2';
}

static void down_one(void *arg)
{
    (void)arg;
    co_sem_down(&sem, 1);
    order[order_used++] = '1';
}

static void sem_main(void)
{
    co_sem_init(&sem, 4);
    everywhere(sem_stress);
    ck_assert_uint_eq(sem.value, 4);
    co_sem_init(&sem, 0);
    co_start(down_two, NULL, "two");
    co_start(down_one, NULL, "one");
    co_pause();
    co_sem_up(&sem, 1); /* enough for the second, who waits behind the first */
    co_pause();
    ck_assert_uint_eq(order_used, 0);
    ck_assert(!co_sem_try_down(&sem, 1));
    co_sem_up(&sem, 2);
    co_pause();
    ck_assert_str_eq(order, "21");
    ck_assert(!co_sem_try_down(&sem, 1));
}

START_TEST(a_semaphore_counts_in_order)
{
    run_co(sem_main);
}
END_TEST

/* ---- condition: a queue with deadlines, over rings ---- */

static struct co_cond cond;
static unsigned queued, consumed, timeouts;

static void consumer(void *arg)
{
    (void)arg;
    for (;;) {
        CO_GUARD(&mutex);
        while (!queued && consumed < ROUNDS)
            if (co_cond_wait_until(&cond, &mutex, ring_now() + NS_PER_MS) == -ETIMEDOUT)
                timeouts++;
        if (consumed == ROUNDS)
            break;
        queued--;
        consumed++;
    }
    atomic_fetch_add(&ended, 1);
}

static void cond_main(void)
{
    co_mutex_init(&mutex, 0);
    co_cond_init(&cond);
    queued = consumed = timeouts = 0;
    atomic_store(&ended, 0);
    for (unsigned i = 0; i < RINGS * EACH; i++)
        ring_spawn(ring_at(i % RINGS), consumer, NULL, "consumer");
    for (int i = 0; i < ROUNDS; i++) {
        co_mutex_lock(&mutex);
        queued++;
        co_mutex_unlock(&mutex);
        co_cond_wake_one(&cond);
        if (i % 50 == 0)
            co_sleep(NS_PER_MS); /* as long as the deadline: both ends meet */
    }
    while (atomic_load(&ended) < RINGS * EACH) {
        co_cond_wake_all(&cond);
        co_sleep(NS_PER_MS);
    }
    ck_assert_uint_eq(consumed, ROUNDS);
    ck_assert_uint_eq(queued, 0);
    ck_assert(!co_cond_wake_one(&cond));
    uint64_t before = ring_now();
    ck_assert_int_eq(co_cond_wait_until(&cond, NULL, before + 3 * NS_PER_MS), -ETIMEDOUT);
    ck_assert_uint_ge(ring_now(), before + 3 * NS_PER_MS);
}

START_TEST(a_condition_wakes_or_times_out)
{
    run_co(cond_main);
}
END_TEST

/* ---- group ---- */

static int turn;

/* Number 9 ends first, number 0 last. */
static int one_of_ten(void *arg)
{
    int n = *(int *)arg;

    while (turn > n)
        co_pause();
    turn--;
    return n == 3 ? -EIO : n == 7 ? -ENOSPC : n;
}

static void group_main(void)
{
    struct co_group g = { 0 };
    int number[10];

    ck_assert_int_eq(co_group_wait(&g), 0);
    turn = 9;
    for (int i = 0; i < 10; i++) {
        number[i] = i;
        ck_assert_int_eq(co_group_start(&g, one_of_ten, &number[i], "member"), 0);
    }
    ck_assert_int_eq(co_group_wait(&g), -ENOSPC); /* the first to fail in time */
    ck_assert_uint_eq(g.running, 0);
}

START_TEST(a_group_waits_for_all)
{
    run_co(group_main);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sync");
    TCase *t = tcase_create("sync");

    tcase_add_checked_fixture(t, rings_up, rings_down);
    tcase_add_test(t, a_mutex_excludes);
    tcase_add_test(t, a_waiter_passed_over_is_handed_the_lock);
    tcase_add_test(t, the_next_owner_may_free_it);
#ifdef LOCK_ORDER_CHECKED
    tcase_add_test_raise_signal(t, a_wrong_order_is_caught, SIGABRT);
#endif
    tcase_add_test(t, a_rwlock_excludes);
    tcase_add_test(t, readers_wait_behind_a_waiting_writer);
    tcase_add_test(t, a_semaphore_counts_in_order);
    tcase_add_test(t, a_condition_wakes_or_times_out);
    tcase_add_test(t, a_group_waits_for_all);
    suite_add_tcase(s, t);
    return run_suite(s);
}
