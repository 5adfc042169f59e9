/* SPDX-License-Identifier: MIT */
/* block/deadline.c: how old requests are, and what becomes of those that are late.  Virtual rings. */
#include "block/deadline.h"

#include "block/io.h"
#include "tests/unit/graph-fixture.h"

#define SECOND UINT64_C(1000000000)

static struct root *x;
static int result;
static bool ended;

static void co_fn write_something(void *arg)
{
    static uint8_t bytes[512];
    struct span v = { .p = bytes, .len = sizeof bytes };
    struct operation o;
    (void)arg;
    operation_enter(&o, x);
    result = io_write(&o, root_edge(x), 0, &v, 1, 0);
    operation_end(&o);
    ended = true;
}

/* Begin one on a data ring. */
static void co_fn begin(unsigned ring)
{
    ended = false;
    ck_assert_int_eq(ring_spawn(ring_started(ring), write_something, NULL, "write"), 0);
    for (unsigned i = 0; i < 20; i++)
        co_pause();
}

static void advance_soon(struct work *work)
{
    (void)work;
    virtual_advance(SECOND / 10);
}

static void co_fn tenths(unsigned n)
{
    for (; n; n--) {
        struct work work = { .fn = advance_soon };
        ring_post(ring_control(), &work);
        for (unsigned i = 0; i < 20; i++)
            co_pause();
    }
}

static void co_fn open_slow(void)
{
    struct node *n = add("driver=raw,node-name=n,file.driver=null-co,file.latency-ns=10000000000");
    x = root_on("x", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
}

CO_TEST(the_oldest_request_has_its_age)
{
    open_slow();
    ck_assert_uint_eq(root_inside(x), 0);
    ck_assert_uint_eq(root_oldest(x), 0);
    begin(1);
    tenths(30);
    begin(2);
    tenths(20);
    ck_assert_uint_eq(root_inside(x), 2);
    ck_assert_uint_eq(root_oldest(x), 5 * SECOND);
    tenths(60); /* the first has ended after 10 s */
    ck_assert_uint_eq(root_inside(x), 1);
    ck_assert_uint_eq(root_oldest(x), 8 * SECOND);
    tenths(30);
    ck_assert_uint_eq(root_inside(x), 0);
    ck_assert_uint_eq(root_oldest(x), 0);
    ck_assert_int_eq(result, 0);
    root_drop(x);
}

CO_TEST(on_one_ring_the_next_becomes_the_oldest)
{
    open_slow();
    begin(1);
    tenths(40);
    begin(1);
    tenths(40);
    ck_assert_uint_eq(root_oldest(x), 8 * SECOND);
    tenths(30);
    ck_assert_uint_eq(root_inside(x), 1);
    ck_assert_uint_eq(root_oldest(x), 7 * SECOND);
    tenths(40);
    root_drop(x);
}

CO_TEST(a_late_request_is_failed_and_none_before)
{
    open_slow();
    root_set_deadline(x, 4 * SECOND);
    begin(1);
    tenths(39);
    ck_assert(!ended);
    tenths(12); /* the deadline, and the time until it is looked at */
    ck_assert(ended);
    ck_assert_int_eq(result, -EIO);
    begin(2); /* the next has its own time */
    tenths(30);
    root_set_deadline(x, 0);
    tenths(72);
    ck_assert(ended);
    ck_assert_int_eq(result, 0);
    root_drop(x);
}

CO_TEST(a_yank_fails_what_is_in_flight_and_nothing_later)
{
    open_slow();
    begin(1);
    struct node *n = root_edge(x)->child;
    n = node_child(n, "file")->child;
    ck_assert_ptr_nonnull(n->driver->yank);
    n->driver->yank(n);
    tenths(1);
    ck_assert(ended);
    ck_assert_int_eq(result, -EIO);
    begin(1);
    tenths(101);
    ck_assert(ended);
    ck_assert_int_eq(result, 0);
    root_drop(x);
}

CO_TEST(a_root_takes_its_deadline_along)
{
    open_slow();
    root_set_deadline(x, SECOND);
    root_drop(x); /* its timer would fire into freed memory */
    tenths(20);
}

int main(void)
{
    const TTest *const tests[] = {
        the_oldest_request_has_its_age,           on_one_ring_the_next_becomes_the_oldest,
        a_late_request_is_failed_and_none_before, a_yank_fails_what_is_in_flight_and_nothing_later,
        a_root_takes_its_deadline_along,          NULL,
    };
    return run_tests("deadline", tests);
}
