/* SPDX-License-Identifier: MIT */
/* Rings: start and stop, messages, calls, timers, workers, refusals of the kernel. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "uring/await.h"
#include "uring/engine.h"

enum { RINGS = 2 };

static void up(void)
{
    struct err err = { 0 };
    const struct rings_config config = { .count = RINGS, .no_pin = true };

    ck_assert_msg(rings_init(&config, &err) == 0, "%s", err.msg);
}

static void down(void)
{
    rings_exit();
}

static struct ring *get(unsigned index)
{
    struct err err = { 0 };
    struct ring *r = ring_get(index, &err);

    ck_assert_msg(r != NULL, "%s", err.msg);
    return r;
}

/* Run @fn in a coroutine of the control ring until it ends. */
static void (*main_fn)(void);

static void main_co(void *arg)
{
    (void)arg;
    main_fn();
    ring_stop();
}

static void run(void (*fn)(void))
{
    main_fn = fn;
    ck_assert_int_eq(co_start(main_co, NULL, "test"), 0);
    ring_run();
}

/* ---- start ---- */

static void starts_inside(void)
{
    ck_assert_ptr_null(ring_started(1));
    struct ring *r = get(1);
    ck_assert_ptr_eq(r, ring_started(1));
    ck_assert_ptr_eq(r, get(1));
    ck_assert_uint_eq(ring_index(r), 1);
    struct err err = { 0 };
    ck_assert_ptr_null(ring_get(RINGS + 1, &err));
    ck_assert_ptr_nonnull(err.msg);
    err_clear(&err);
}

START_TEST(start_in_coroutine)
{
    run(starts_inside);
}
END_TEST

START_TEST(start_before_run)
{
    ck_assert_ptr_eq(this_ring, ring_control());
    ck_assert_ptr_eq(get(0), this_ring);
    ck_assert_ptr_eq(get(2), ring_started(2));
    ck_assert_ptr_null(ring_started(1));
    ck_assert_uint_eq(rings_count(), RINGS);
    run(starts_inside);
}
END_TEST

static unsigned both_got;

static void get_two(void *arg)
{
    (void)arg;
    ck_assert_ptr_nonnull(get(2));
    if (++both_got == 2)
        ring_stop();
}

START_TEST(start_asked_for_twice)
{
    both_got = 0;
    co_start(get_two, NULL, "first");
    co_start(get_two, NULL, "second");
    ring_run();
    ck_assert_uint_eq(both_got, 2);
}
END_TEST

START_TEST(run_again)
{
    run(starts_inside);
    ring_stop(); /* before it runs: then it returns at once */
    ring_run();
    both_got = 0;
    co_start(get_two, NULL, "first");
    co_start(get_two, NULL, "second");
    ring_run();
    ck_assert_uint_eq(both_got, 2);
}
END_TEST

/* ---- messages ---- */

enum { SENDERS = 3, MESSAGES = 2000 };

struct numbered {
    struct work work;
    unsigned sender, number;
};

static struct numbered messages[SENDERS][MESSAGES];
static unsigned next_number[SENDERS], arrived;
static bool ordered = true;
static struct ring *expected_ring;

static void numbered_arrives(struct work *work)
{
    struct numbered *n = container_of(work, struct numbered, work);

    if (this_ring != expected_ring || co_self() || n->number != next_number[n->sender])
        ordered = false;
    next_number[n->sender] = n->number + 1;
    if (++arrived == SENDERS * MESSAGES)
        ring_stop();
}

static void *send_all(void *arg)
{
    unsigned sender = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < MESSAGES; i++) {
        struct numbered *n = &messages[sender][i];
        *n = (struct numbered){ .work.fn = numbered_arrives, .sender = sender, .number = i };
        ring_post(ring_control(), &n->work);
        if (i % 100 == 0)
            usleep(1);
    }
    return NULL;
}

static void send_from_ring(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct numbered *n = &messages[0][i];
        *n = (struct numbered){ .work.fn = numbered_arrives, .sender = 0, .number = i };
        ring_post(ring_control(), &n->work);
        if (i % 100 == 0)
            co_sleep(1000);
    }
}

START_TEST(messages_from_everywhere)
{
    pthread_t foreign[SENDERS];

    expected_ring = ring_control();
    ck_assert_int_eq(ring_spawn(get(1), send_from_ring, NULL, "sender"), 0);
    for (uintptr_t i = 1; i < SENDERS; i++)
        ck_assert_int_eq(pthread_create(&foreign[i], NULL, send_all, (void *)i), 0);
    ring_run();
    for (unsigned i = 1; i < SENDERS; i++)
        pthread_join(foreign[i], NULL);
    ck_assert_uint_eq(arrived, SENDERS * MESSAGES);
    ck_assert(ordered);
}
END_TEST

/* A message posted just before the end, to a ring that may have left its loop, still runs. */
struct late {
    struct work work;
    struct ring *next;
    int hops;
};
static atomic_int late_hops;

static void late_arrives(struct work *work)
{
    struct late *l = container_of(work, struct late, work);

    atomic_fetch_add(&late_hops, 1);
    if (l->hops-- == 0)
        return;
    struct ring *to = l->next;
    l->next = this_ring;
    ring_post(to, work);
}

START_TEST(no_message_lost_at_the_end)
{
    struct late l = { .work.fn = late_arrives, .next = get(2), .hops = 500 };

    atomic_store(&late_hops, 0);
    ring_post(get(1), &l.work);
    rings_exit();
    ck_assert_int_eq(atomic_load(&late_hops), 501);
    up();
}
END_TEST

/* ---- order within a turn ---- */

static char trace[64];

static void note(char c)
{
    size_t n = strlen(trace);

    ck_assert_uint_lt(n, sizeof(trace) - 1);
    trace[n] = c;
    trace[n + 1] = 0;
}

static void deferred(struct work *work)
{
    (void)work;
    ck_assert_ptr_null(co_self());
    note('d');
}

static struct work defer_one = { .fn = deferred }, defer_two = { .fn = deferred };

static void turn_other(void *arg)
{
    (void)arg;
    note('b');
    ring_defer(&defer_two);
}

static void turn_main(void)
{
    trace[0] = 0;
    ring_defer(&defer_one);
    co_start(turn_other, NULL, "other");
    note('a');
    co_pause();
    note('c');
    co_pause();
    note('e');
}

START_TEST(deferred_work_runs_at_the_end_of_the_turn)
{
    run(turn_main);
    ck_assert_str_eq(trace, "abcedd");
}
END_TEST

/* ---- calls ---- */

static int where_am_i(void *arg)
{
    *(struct ring **)arg = this_ring;
    ck_assert_ptr_eq(co_ring(co_self()), this_ring);
    return (int)ring_index(this_ring) + 100;
}

static int sleep_and_fail(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    co_sleep(1000 * 1000);
    return ring_index(this_ring) == 2 ? -EIO : 0;
}

static void calls(void)
{
    struct ring *seen = NULL;

    ck_assert_int_eq(ring_call(get(1), where_am_i, &seen), 101);
    ck_assert_ptr_eq(seen, ring_started(1));
    ck_assert_int_eq(ring_call(this_ring, where_am_i, &seen), 100);
    atomic_int called = 0;
    ck_assert_int_eq(rings_call_all(sleep_and_fail, &called), 0);
    ck_assert_int_eq(atomic_load(&called), 2);
    get(2);
    ck_assert_int_eq(rings_call_all(sleep_and_fail, &called), -EIO);
    ck_assert_int_eq(atomic_load(&called), 5);
}

START_TEST(calls_to_other_rings)
{
    run(calls);
}
END_TEST

static atomic_int spawned;

static void spawned_main(void *arg)
{
    ck_assert_ptr_eq(arg, &spawned);
    if (atomic_fetch_add(&spawned, 1) == 999)
        ring_stop();
}

START_TEST(spawn_on_another_ring)
{
    atomic_store(&spawned, 0);
    struct ring *r = get(1);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(ring_spawn(r, spawned_main, &spawned, "spawned"), 0);
    ring_run();
    ck_assert_int_eq(atomic_load(&spawned), 1000);
}
END_TEST

/* ---- timers ---- */

enum { TIMERS = 200 };
static struct timer timers[TIMERS];
static uint64_t last_when;
static unsigned fired;

static void timer_fires(struct timer *t)
{
    ck_assert_uint_ge(ring_now(), t->when);
    ck_assert_uint_ge(t->when, last_when);
    ck_assert_uint_eq(t->place, 0);
    last_when = t->when;
    fired++;
}

static void many_timers(void)
{
    uint64_t now = ring_now();
    unsigned seed = 1;

    fired = 0;
    last_when = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        timers[i].fn = timer_fires;
        ck_assert_int_eq(timer_set(&timers[i], now + (uint64_t)rand_r(&seed) % 20000000), 0);
    }
    for (unsigned i = 0; i < TIMERS; i += 3) /* moved */
        timer_set(&timers[i], now + (uint64_t)rand_r(&seed) % 20000000);
    for (unsigned i = 1; i < TIMERS; i += 4)
        timer_cancel(&timers[i]);
    timer_cancel(&timers[1]); /* twice is fine */
    co_sleep(25000000);
    ck_assert_uint_eq(fired, TIMERS - TIMERS / 4);
}

START_TEST(timers_fire_in_order)
{
    run(many_timers);
}
END_TEST

/* ---- workers ---- */

static atomic_int in_worker, most_in_worker;

static int block_a_while(void *arg)
{
    int now = atomic_fetch_add(&in_worker, 1) + 1;

    ck_assert_ptr_null(this_ring);
    for (int most = atomic_load(&most_in_worker);
         now > most && !atomic_compare_exchange_weak(&most_in_worker, &most, now);)
        ;
    usleep(2000);
    atomic_fetch_sub(&in_worker, 1);
    return *(int *)arg;
}

static int block_nothing(void *arg)
{
    (void)arg;
    return 7;
}

static unsigned blocked_done;

static void block_one(void *arg)
{
    ck_assert_int_eq(ring_block(block_a_while, arg), *(int *)arg);
    if (++blocked_done == 60)
        ring_stop();
}

START_TEST(workers_run_what_blocks)
{
    static int value = -EXDEV;

    ck_assert_int_eq(ring_block(block_nothing, NULL), 7); /* start-up: no coroutine yet */
    blocked_done = 0;
    for (int i = 0; i < 60; i++)
        co_start(block_one, &value, "blocks");
    ring_run();
    ck_assert_int_gt(atomic_load(&most_in_worker), 1);
    ck_assert_int_le(atomic_load(&most_in_worker), 16);
}
END_TEST

/* ---- an idle ring uses nothing ---- */

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void burst(void *arg)
{
    co_sleep(*(uint64_t *)arg);
}

START_TEST(idle_rings_use_no_cpu)
{
    static uint64_t ms = NS_PER_MS;
    struct ring *r = get(1);

    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(ring_spawn(r, burst, &ms, "burst"), 0);
    struct ring_stats before, after;
    for (int i = 0; i < 100; i++) { /* slow machines, sanitizers */
        usleep(100 * 1000);
        ring_read_stats(r, &before);
        if (!before.coroutines)
            break;
    }
    ck_assert_uint_gt(before.turns, 0);
    ck_assert_uint_eq(before.coroutines, 0);
    uint64_t used = cpu_ns();
    usleep(300 * 1000);
    ring_read_stats(r, &after);
    ck_assert_uint_eq(before.turns, after.turns);
    ck_assert_uint_lt(cpu_ns() - used, 5 * NS_PER_MS);
}
END_TEST

/* ---- what kernels refuse ---- */

static unsigned refused_flags, setups;
static int refusal;

static int picky_setup(unsigned entries, struct io_uring *u, struct io_uring_params *p)
{
    (void)entries;
    (void)u;
    setups++;
    if (refusal)
        return refusal;
    return p->flags & refused_flags ? -EINVAL : (int)p->flags;
}

static int flags_without(unsigned refused)
{
    refused_flags = refused;
    setups = 0;
    return ring_queue_init(NULL, 8, picky_setup);
}

START_TEST(flags_are_given_up_one_by_one)
{
    const int all = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
                    IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |
                    IORING_SETUP_DEFER_TASKRUN;

    refusal = 0;
    ck_assert_int_eq(flags_without(0), all);
    ck_assert_uint_eq(setups, 1);
    ck_assert_int_eq(flags_without(IORING_SETUP_DEFER_TASKRUN), all & ~IORING_SETUP_DEFER_TASKRUN);
    ck_assert_int_eq(flags_without(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER),
                     IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
                         IORING_SETUP_TASKRUN_FLAG);
    ck_assert_int_eq(flags_without((unsigned)all & ~IORING_SETUP_CQSIZE), IORING_SETUP_CQSIZE);
    ck_assert_int_eq(flags_without((unsigned)all), 0);
    refusal = -EINVAL;
    ck_assert_int_eq(flags_without(0), -EINVAL);
    refusal = -EPERM;
    ck_assert_int_eq(flags_without(0), -EPERM);
    ck_assert_uint_eq(setups, 1);
}
END_TEST

/* io_uring_setup() fails with @code from now on, as under a container's filter. */
static void forbid(int code)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { .len = 4, .filter = f };

    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void expect_refusal(int code, const char *words)
{
    struct err err = { 0 };
    const struct rings_config config = { .count = 1 };

    forbid(code);
    ck_assert_int_eq(rings_init(&config, &err), -code);
    ck_assert_ptr_null(this_ring);
    ck_assert_msg(strstr(err.msg, words) != NULL, "%s", err.msg);
    err_clear(&err);
}

START_TEST(no_io_uring)
{
    expect_refusal(ENOSYS, "CONFIG_IO_URING");
}
END_TEST

START_TEST(io_uring_forbidden)
{
    expect_refusal(EPERM, "seccomp");
}
END_TEST

START_TEST(memory_may_not_be_locked)
{
    expect_refusal(ENOMEM, "RLIMIT_MEMLOCK");
}
END_TEST

START_TEST(data_ring_refused)
{
    struct err err = { 0 };

    forbid(EPERM);
    ck_assert_ptr_null(ring_get(1, &err));
    ck_assert_int_eq(err.code, -EPERM);
    err_clear(&err);
    ck_assert_ptr_null(ring_get(1, &err)); /* asking again is fine */
    err_clear(&err);
}
END_TEST

/* ---- CPUs ---- */

static char root[] = "/tmp/ringblk-cpus-XXXXXX";

static void put_file(const char *path, const char *text)
{
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *p = full + sizeof(root); (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(cpu_quota)
{
    char command[600];
    unsigned all;

    ck_assert_ptr_nonnull(mkdtemp(root));
    all = cpus_allowed(root);
    ck_assert_uint_ge(all, 1);
    put_file("proc/self/cgroup", "0::/a/b\n");
    put_file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    ck_assert_uint_eq(cpus_allowed(root), all);
    put_file("sys/fs/cgroup/a/cpu.max", "50000 100000\n"); /* half a CPU, in the group above */
    ck_assert_uint_eq(cpus_allowed(root), 1);
    put_file("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    ck_assert_uint_eq(cpus_allowed(root), all < 2 ? all : 2);
    put_file("proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/v1\n");
    put_file("sys/fs/cgroup/cpu/v1/cpu.cfs_quota_us", "100000\n");
    put_file("sys/fs/cgroup/cpu/v1/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(cpus_allowed(root), 1);
    put_file("sys/fs/cgroup/cpu/v1/cpu.cfs_quota_us", "-1\n");
    ck_assert_uint_eq(cpus_allowed(root), all);
    snprintf(command, sizeof(command), "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_ge(cpu_pick(0), 0);
    ck_assert_int_ge(cpu_pick(1000), 0);
}
END_TEST

/* The bell that brings the order to leave must not send the ring back to sleep. */
START_TEST(leaves_at_once)
{
    for (int i = 0; i < 5; i++) {
        up();
        get(1);
        run(calls);
        uint64_t begin = ring_now();
        down();
        ck_assert_uint_lt(ring_now() - begin, 2000u * 1000 * 1000);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ring");
    TCase *on = tcase_create("rings up"), *off = tcase_create("no rings");

    tcase_add_checked_fixture(on, up, down);
    tcase_add_test(on, start_in_coroutine);
    tcase_add_test(on, start_before_run);
    tcase_add_test(on, start_asked_for_twice);
    tcase_add_test(on, run_again);
    tcase_add_test(on, messages_from_everywhere);
    tcase_add_test(on, no_message_lost_at_the_end);
    tcase_add_test(on, deferred_work_runs_at_the_end_of_the_turn);
    tcase_add_test(on, calls_to_other_rings);
    tcase_add_test(on, spawn_on_another_ring);
    tcase_add_test(on, timers_fire_in_order);
    tcase_add_test(on, workers_run_what_blocks);
    tcase_add_test(on, idle_rings_use_no_cpu);
    tcase_add_test(on, data_ring_refused);
    suite_add_tcase(s, on);
    tcase_add_test(off, flags_are_given_up_one_by_one);
    tcase_add_test(off, no_io_uring);
    tcase_add_test(off, io_uring_forbidden);
    tcase_add_test(off, memory_may_not_be_locked);
    tcase_add_test(off, cpu_quota);
    tcase_add_test(off, leaves_at_once);
    suite_add_tcase(s, off);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
