/* SPDX-License-Identifier: MIT */
/* block/threshold.c: one event at the first write past the threshold, on whatever road, and the short cut after. */
#include <json-c/json.h>

#include "base/json.h"
#include "block/event.h"
#include "tests/unit/io-fixture.h"

enum { SIZE = 64 << 10, AT = 4096 };

static _Atomic unsigned events;
static char last[160];

static void sink(const struct event_type *type, struct json_object *data, uint64_t seconds,
                 uint64_t microseconds)
{
    (void)seconds, (void)microseconds;
    char *text = json_text(data);
    ck_assert_ptr_eq(type, &event_block_write_threshold);
    snprintf(last, sizeof last, "%s", text);
    free(text);
    json_object_put(data);
    atomic_fetch_add(&events, 1);
}

/* m on a disk in memory that has the short cut, raw r in a window of it from byte 1024 on. */
static struct disk *disk;
static struct node *m, *r;
static struct root *x;

static void co_fn begin(void)
{
    drivers_register(io_drivers);
    event_set_sink(sink);
    events = 0;
    disk = disk_new(SIZE);
    m = mem_node("driver=memv,node-name=m,discard=unmap", disk, SIZE,
                 (struct limits){ .alignment = 512 });
    r = add("driver=raw,node-name=r,file=m,offset=1024,discard=unmap");
    x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
}

static void co_fn end(void)
{
    root_drop(x);
    del("r");
    del("m");
    disk_free(disk);
    event_set_sink(NULL);
    ck_assert_ptr_null(atomic_load(&complaint));
}

static void co_fn set(struct node *n, uint64_t bytes)
{
    autoerr err = { 0 };
    must(threshold_set(n, bytes, &err), &err);
    ck_assert_uint_eq(atomic_load(&n->write_threshold), bytes);
}

/* Let what was started in the background end. */
static void co_fn settle(void)
{
    for (unsigned i = 0; i < 100; i++)
        co_pause();
}

static bool co_fn shortcut_open(bool write)
{
    struct operation o;
    struct shortcut s;
    operation_enter(&o, x);
    bool open = shortcut_find(x, write, 0, 512, 0, &s);
    operation_end(&o);
    return open;
}

static void co_fn write_to(uint64_t end_at)
{
    ck_assert_int_eq(do_fill(x, end_at - 512, 1, 512, 0), 0);
    settle();
}

CO_TEST(the_first_write_past_it_sends_one_event)
{
    begin();
    set(r, AT);
    write_to(AT); /* up to it is not past it */
    ck_assert_uint_eq(events, 0);
    ck_assert_int_eq(do_fill(x, AT - 512, 1, 1536, 0), 0);
    settle();
    ck_assert_uint_eq(events, 1);
    ck_assert_str_eq(last, "{\"node-name\": \"r\", \"amount-exceeded\": 1024, "
                           "\"write-threshold\": 4096}");
    ck_assert_uint_eq(atomic_load(&r->write_threshold), 0);
    write_to(AT + 4096);
    ck_assert_uint_eq(events, 1);
    set(r, 8 * 1024); /* armed again */
    write_to(8 * 1024);
    ck_assert_uint_eq(events, 1);
    write_to(8 * 1024 + 512);
    ck_assert_uint_eq(events, 2);
    ck_assert_str_eq(last, "{\"node-name\": \"r\", \"amount-exceeded\": 512, "
                           "\"write-threshold\": 8192}");
    end();
}

CO_TEST(it_counts_in_the_bytes_of_its_own_node)
{
    begin();
    set(m, AT);
    write_to(AT - 1024);
    ck_assert_uint_eq(events, 0);
    write_to(AT);
    ck_assert_uint_eq(events, 1);
    ck_assert_str_eq(last, "{\"node-name\": \"m\", \"amount-exceeded\": 1024, "
                           "\"write-threshold\": 4096}");
    end();
}

CO_TEST(both_nodes_may_have_one)
{
    begin();
    set(m, AT);
    set(r, 2 * AT);
    write_to(3 * AT);
    ck_assert_uint_eq(events, 2);
    end();
}

CO_TEST(zeroes_count_and_reads_and_discards_do_not)
{
    uint8_t buf[512];
    begin();
    set(r, AT);
    ck_assert_int_eq(do_read(x, 2 * AT, buf, sizeof buf), 0);
    ck_assert_int_eq(do_discard(x, 2 * AT, 4096), 0);
    ck_assert_int_eq(do_flush(x), 0);
    settle();
    ck_assert_uint_eq(events, 0);
    ck_assert_int_eq(do_zero(x, 2 * AT, 4096, 0), 0);
    settle();
    ck_assert_uint_eq(events, 1);
    ck_assert_str_eq(last, "{\"node-name\": \"r\", \"amount-exceeded\": 8192, "
                           "\"write-threshold\": 4096}");
    end();
}

/* The short cut sees no threshold, so while there is one writes don't take it, wherever it is set. */
CO_TEST(the_short_cut_is_shut_while_it_is_armed)
{
    begin();
    for (unsigned i = 0; i < 2; i++) {
        struct node *n = i ? r : m;
        ck_assert(shortcut_open(true) && shortcut_open(false));
        set(n, AT);
        ck_assert(!shortcut_open(true));
        ck_assert(shortcut_open(false));
        write_to(512);
        ck_assert(!shortcut_open(true));
        write_to(3 * AT);
        ck_assert_uint_eq(events, i + 1);
        ck_assert(shortcut_open(true));
        set(n, AT);
        ck_assert(!shortcut_open(true));
        set(n, 0); /* taken away */
        ck_assert(shortcut_open(true));
        write_to(4 * AT);
        ck_assert_uint_eq(events, i + 1);
    }
    end();
}

CO_TEST(the_node_may_go_right_after_the_event)
{
    begin();
    set(r, AT);
    ck_assert_int_eq(do_fill(x, AT, 1, 512, 0), 0);
    root_drop(x);
    del("r");
    settle();
    ck_assert_uint_eq(events, 1);
    x = root_on("x", ROOT_EXPORT, m, RW, PERM_ALL);
    root_drop(x);
    del("m");
    disk_free(disk);
    event_set_sink(NULL);
}

/* ---- rings ---- */

enum { WRITERS = 4, ROUNDS = 200 };

static void co_fn writer(struct client *c)
{
    EXPECT(do_fill(c->root, AT + 512 * c->index, 1, 512, 0) == 0);
}

RING_TEST(writers_of_all_rings_send_one_event_together)
{
    begin();
    for (unsigned round = 1; round <= ROUNDS; round++) {
        struct client clients[WRITERS];
        set(m, AT);
        for (unsigned i = 0; i < WRITERS; i++)
            clients[i] = (struct client){ .ring = 1 + i % 2, .index = i, .root = x, .fn = writer };
        run_clients(clients, WRITERS);
        while (events < round)
            co_pause();
        while (!shortcut_open(true)) /* opened in the background */
            co_pause();
        ck_assert_uint_eq(events, round);
    }
    end();
}

int main(void)
{
    const TTest *const tests[] = { the_first_write_past_it_sends_one_event,
                                   it_counts_in_the_bytes_of_its_own_node,
                                   both_nodes_may_have_one,
                                   zeroes_count_and_reads_and_discards_do_not,
                                   the_short_cut_is_shut_while_it_is_armed,
                                   the_node_may_go_right_after_the_event,
                                   writers_of_all_rings_send_one_event_together,
                                   NULL };
    return run_tests("threshold", tests);
}
