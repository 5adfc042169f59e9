/* SPDX-License-Identifier: MIT */
/* drivers/null.c through the request road: driver=null-co, driver=null-aio. */
#include "block/io.h"
#include "tests/unit/graph-fixture.h"

static struct root *x;
static struct operation o;

static struct node *co_fn open_null(const char *text)
{
    struct node *n = add(text);
    x = root_on("x", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
    ck_assert(operation_begin(&o, x));
    return n;
}

static void co_fn close_null(void)
{
    operation_end(&o);
    root_drop(x);
}

static uint8_t buf[8192];
static const struct span spans[] = { { .p = buf, .len = 4096 }, { .p = buf + 4096, .len = 4096 } };

/* Buffers are used again for other clients: what they held must not show. */
CO_TEST(reads_never_show_what_the_buffer_held)
{
    open_null("driver=null-co,node-name=n");
    memset(buf, 0xaa, sizeof buf);
    ck_assert_int_eq(io_read(&o, root_edge(x), 0, spans, 2, 0), 0);
    ck_assert(bytes_are_zero(buf, sizeof buf));
    memset(buf, 0xaa, sizeof buf);
    ck_assert_int_eq(io_write(&o, root_edge(x), 0, spans, 2, IO_FUA), 0);
    ck_assert_int_eq(io_read(&o, root_edge(x), 0, spans, 2, 0), 0);
    ck_assert(bytes_are_zero(buf, sizeof buf));
    close_null();
}

CO_TEST(every_kind_of_request_is_taken)
{
    open_null("driver=null-aio,node-name=n,read-zeroes=on,discard=unmap");
    ck_assert_int_eq(io_zero(&o, root_edge(x), 0, 1 << 30, IO_MAY_UNMAP | IO_NO_FALLBACK), 0);
    ck_assert_int_eq(io_discard(&o, root_edge(x), 512, 1 << 20), 0);
    ck_assert_int_eq(io_flush(&o, root_edge(x)), 0);
    ck_assert_int_eq(io_write(&o, root_edge(x), 1, spans, 2, 0), 0); /* of any alignment */
    close_null();
}

CO_TEST(the_size_is_in_sectors)
{
    ck_assert_uint_eq(node_size(add("driver=null-co,node-name=default")), 1 << 30);
    ck_assert_uint_eq(node_size(add("driver=null-co,node-name=none,size=0")), 0);
    ck_assert_uint_eq(node_size(add("driver=null-co,node-name=odd,size=1000")), 1024);
    ck_assert_uint_eq(node_size(add("driver=null-co,node-name=m,size=1048576")), 1 << 20);
    add_fails("driver=null-co,node-name=n,size=1M", "Parameter 'size' expects integer");
    /* qemu-storage-daemon 7.2 aborts here */
    add_fails("{'driver':'null-co','node-name':'n','size':-1}",
              "Parameter 'size' expects a non-negative number below 2^64");
    add_fails("{'driver':'null-aio','node-name':'n','size':-9223372036854775808}",
              "Parameter 'size' expects a non-negative number below 2^64");
    add_fails("driver=null-co,node-name=n,latency-ns=9223372036854775808", "latency-ns is invalid");
}

static struct extent status(void)
{
    struct extent e;
    ck_assert_int_eq(io_status(&o, root_edge(x), 0, node_size(root_node(x)), true, &e), 0);
    ck_assert_uint_eq(e.len, node_size(root_node(x)));
    return e;
}

CO_TEST(only_read_zeroes_promises_zeroes)
{
    struct shortcut s;
    open_null("driver=null-co,node-name=n");
    ck_assert_int_eq(status().flags & (EXTENT_DATA | EXTENT_ZERO), 0);
    ck_assert(!shortcut_find(x, false, 0, 4096, 0, &s));
    close_null();
    open_null("driver=null-co,node-name=z,read-zeroes=on");
    ck_assert_int_eq(status().flags & (EXTENT_DATA | EXTENT_ZERO), EXTENT_ZERO);
    ck_assert(shortcut_find(x, false, 0, 4096, 0, &s));
    ck_assert(s.zero);
    ck_assert(!shortcut_find(x, true, 0, 4096, 0, &s));
    close_null();
    open_null("driver=null-co,node-name=slow,read-zeroes=on,latency-ns=1");
    ck_assert(!shortcut_find(x, false, 0, 4096, 0, &s));
    close_null();
}

static int (*slow_request)(void);
static bool slow_ended;

static void co_fn run_slow(void *unused)
{
    (void)unused;
    ck_assert_int_eq(slow_request(), 0);
    slow_ended = true;
}

static int co_fn slow_read(void)
{
    return io_read(&o, root_edge(x), 0, spans, 2, 0);
}

static int co_fn slow_write(void)
{
    return io_write(&o, root_edge(x), 0, spans, 2, 0);
}

static int co_fn slow_zero(void)
{
    return io_zero(&o, root_edge(x), 0, 4096, 0);
}

static int co_fn slow_flush(void)
{
    return io_flush(&o, root_edge(x));
}

static void advance(struct work *work)
{
    (void)work;
    virtual_advance(500);
}

static void co_fn half_a_microsecond(void)
{
    struct work work = { .fn = advance };
    for (unsigned i = 0; i < 8; i++)
        co_pause();
    ring_post(ring_control(), &work);
    for (unsigned i = 0; i < 8; i++)
        co_pause();
}

CO_TEST(requests_take_the_latency)
{
    int (*const requests[])(void) = { slow_read, slow_write, slow_zero, slow_flush };
    open_null("driver=null-co,node-name=n,latency-ns=1000");
    for (unsigned i = 0; i < 4; i++) {
        slow_request = requests[i];
        slow_ended = false;
        ck_assert_int_eq(co_enter(run_slow, NULL, "slow"), 0);
        half_a_microsecond();
        ck_assert_msg(!slow_ended, "request %u", i);
        half_a_microsecond();
        ck_assert_msg(slow_ended, "request %u", i);
    }
    close_null();
}

int main(void)
{
    const TTest *const tests[] = { reads_never_show_what_the_buffer_held,
                                   every_kind_of_request_is_taken,
                                   the_size_is_in_sectors,
                                   only_read_zeroes_promises_zeroes,
                                   requests_take_the_latency,
                                   NULL };
    return run_tests("null", tests);
}
