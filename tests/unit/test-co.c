/* SPDX-License-Identifier: MIT */
/* Coroutines: order, nesting, reuse of stacks, guard pages, the watchdog's view of them. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/ring-fixture.h"
#include "uring/await.h"

static char trace[128];

static void note(char c)
{
    size_t n = strlen(trace);

    ck_assert_uint_lt(n, sizeof(trace) - 1);
    trace[n] = c;
    trace[n + 1] = 0;
}

/* ---- order ---- */

static struct co *inner;

static void inner_main(void *arg)
{
    (void)arg;
    inner = co_self();
    note('2');
    co_yield ();
    note('5');
}

static void nested(void)
{
    struct co *self = co_self();

    trace[0] = 0;
    note('1');
    ck_assert_int_eq(co_enter(inner_main, NULL, "inner"), 0);
    ck_assert_ptr_eq(co_self(), self);
    ck_assert_ptr_ne(inner, self);
    note('3');
    co_wake(inner);
    note('4');
    co_pause();
    note('6');
}

START_TEST(enter_runs_at_once_and_comes_back)
{
    ck_assert_ptr_null(co_self());
    run_co(nested);
    ck_assert_str_eq(trace, "123456");
}
END_TEST

static void letter(void *arg)
{
    note(*(const char *)arg);
    co_pause();
    note(*(const char *)arg);
}

static void in_order(void)
{
    trace[0] = 0;
    co_start(letter, (void *)(uintptr_t) "a", "a");
    co_start(letter, (void *)(uintptr_t) "b", "b");
    co_start(letter, (void *)(uintptr_t) "c", "c");
    co_pause();
    co_pause();
    ck_assert_str_eq(trace, "abcabc");
}

START_TEST(first_come_first_served)
{
    run_co(in_order);
}
END_TEST

/* ---- registers and stacks ---- */

enum { MANY = 500, ROUNDS = 20 };
static unsigned finished;

/* Values in registers and on the stack, integer and floating, outlive a switch. */
static void keeps_values(void *arg)
{
    uintptr_t a = (uintptr_t)arg, b = a * 3 + 1, c = a ^ 0x5555, d = a << 7;
    double x = (double)a / 3.0;
    unsigned char page[2000];

    memset(page, (int)a, sizeof(page));
    for (int i = 0; i < ROUNDS; i++) {
        co_pause();
        ck_assert(b == a * 3 + 1 && c == (a ^ 0x5555) && d == a << 7);
        ck_assert(x * 3.0 > (double)a - 0.001 && x * 3.0 < (double)a + 0.001);
        ck_assert_uint_eq(page[(unsigned)i * 90], (unsigned char)a);
    }
    finished++;
}

static void many(void)
{
    struct ring_stats stats;

    finished = 0;
    for (uintptr_t i = 0; i < MANY; i++)
        ck_assert_int_eq(co_start(keeps_values, (void *)i, "values"), 0);
    ring_read_stats(this_ring, &stats);
    ck_assert_uint_eq(stats.coroutines, MANY + 1);
    while (finished < MANY)
        co_pause();
    ring_read_stats(this_ring, &stats);
    ck_assert_uint_eq(stats.coroutines, 1);
    ck_assert_uint_ge(stats.stacks_pooled, MANY);
    unsigned stacks = this_ring->stack_count;
    for (uintptr_t i = 0; i < MANY; i++)
        co_start(keeps_values, (void *)i, "values");
    ck_assert_uint_eq(this_ring->stack_count, stacks); /* all out of the pool */
    while (finished < 2 * MANY)
        co_pause();
    co_trim(this_ring);
    co_trim(this_ring); /* idle for a whole period: freed */
    ring_read_stats(this_ring, &stats);
    ck_assert_uint_lt(stats.stacks_pooled, 10);
    ck_assert_int_eq(co_reserve(30), 0);
    co_trim(this_ring);
    co_trim(this_ring);
    ring_read_stats(this_ring, &stats);
    ck_assert_uint_ge(stats.stacks_pooled, 30);
}

START_TEST(many_coroutines_keep_their_values)
{
    run_co(many);
}
END_TEST

/* ---- too deep (the sanitizers have their own word on it) ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static __attribute__((noinline, optimize("no-optimize-sibling-calls"))) unsigned
deeper(volatile unsigned char *above, unsigned n)
{
    volatile unsigned char here[1024];

    here[0] = above ? above[0] : 0;
    here[1023] = 1;
    return n ? deeper(here, n - 1) + here[1023] : here[0];
}

static void overflows(void *arg)
{
    (void)arg;
    deeper(NULL, 2u * CO_STACK_BYTES / 1024);
}

START_TEST(an_overflow_hits_the_guard)
{
    co_start(overflows, NULL, "overflow");
    ring_run();
}
END_TEST

#endif

/* ---- the watchdog ---- */

static struct co *stuck;

static __attribute__((noinline)) void waits_for_ever(void *arg)
{
    (void)arg;
    stuck = co_self();
    co_set_label("waits for its test");
    co_yield ();
    co_deadline_exempt(true);
    co_yield ();
}

static void dumps(void)
{
    co_start(waits_for_ever, NULL, "before");
    co_pause();
    ring_watchdog(20 * NS_PER_MS);
    co_deadline_exempt(true); /* this coroutine's own sleep is meant */
    co_sleep(100 * NS_PER_MS);
    ring_watchdog(0);
    fprintf(stderr, "ON REQUEST\n");
    ring_dump();
    co_pause();
    co_sleep(NS_PER_MS);
    co_wake(stuck);
    co_pause();
    fprintf(stderr, "EXEMPT\n");
    ring_watchdog(20 * NS_PER_MS);
    co_sleep(100 * NS_PER_MS);
    co_wake(stuck);
    co_pause();
}

static char *stderr_of(void (*fn)(void))
{
    static char text[65536];
    char path[] = "/tmp/ringblk-co-XXXXXX";
    int fd = mkstemp(path), before = dup(2);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    dup2(fd, 2);
    run_co(fn);
    dup2(before, 2);
    close(before);
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    ck_assert_int_gt(n, 0);
    text[n] = 0;
    close(fd);
    return text;
}

static unsigned count(const char *text, const char *end, const char *word)
{
    unsigned n = 0;

    for (const char *p = text; (p = strstr(p, word)) && p < end; p++)
        n++;
    return n;
}

START_TEST(the_watchdog_names_who_waits)
{
    char *text = stderr_of(dumps);
    char *request = strstr(text, "ON REQUEST"), *exempt = strstr(text, "EXEMPT");

    ck_assert(request && exempt);
    ck_assert_uint_eq(count(text, request, "waits for its test"), 1); /* once for each wait */
    ck_assert_uint_ge(count(text, request, "+0x"), 1);                /* frames of its stack */
    ck_assert_uint_eq(count(request, exempt, "waits for its test"), 1);
    ck_assert_uint_ge(count(request, exempt, "'test'"), 1);
    ck_assert_uint_eq(count(exempt, exempt + strlen(exempt), "waits for its test"), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("co");
    TCase *t = tcase_create("co");

    tcase_add_checked_fixture(t, rings_up, rings_down);
    tcase_add_test(t, enter_runs_at_once_and_comes_back);
    tcase_add_test(t, first_come_first_served);
    tcase_add_test(t, many_coroutines_keep_their_values);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test_raise_signal(t, an_overflow_hits_the_guard, SIGSEGV);
#endif
    tcase_add_test(t, the_watchdog_names_who_waits);
    suite_add_tcase(s, t);
    return run_suite(s);
}
