/* SPDX-License-Identifier: MIT */
/* block/event.c: from any ring to the sink on the control ring. */
#include <json-c/json.h>

#include "base/json.h"
#include "block/event.h"
#include "tests/unit/graph-fixture.h"

static unsigned events;
static char last[256];

static void sink(const struct event_type *type, struct json_object *data, uint64_t seconds,
                 uint64_t microseconds)
{
    char *text = data ? json_text(data) : strdup("-");
    ck_assert_uint_eq(ring_index(this_ring), 0);
    ck_assert_uint_gt(seconds, 1600000000);
    ck_assert_uint_lt(microseconds, 1000000);
    snprintf(last, sizeof last, "%s %s", type->name, text);
    free(text);
    json_object_put(data);
    events++;
}

static int co_fn send_threshold(void *unused)
{
    const struct write_threshold_event e = { (char *)"n", 5, 4096 };
    (void)unused;
    event_send(&event_block_write_threshold, &e);
    return 0;
}

CO_TEST(events_of_any_ring_reach_the_sink)
{
    send_threshold(NULL); /* nobody listens yet: nothing happens */
    event_set_sink(sink);
    ck_assert_int_eq(ring_call(ring_started(2), send_threshold, NULL), 0);
    while (!events)
        co_pause();
    ck_assert_str_eq(last, "BLOCK_WRITE_THRESHOLD {\"node-name\": \"n\", \"amount-exceeded\": 5, "
                           "\"write-threshold\": 4096}");
    const struct io_error_event io = { .device = (char *)"x",
                                       .node_name = (char *)"n",
                                       .operation = 1,
                                       .action = IO_ERROR_REPORT,
                                       .has_nospace = true,
                                       .nospace = true,
                                       .reason = (char *)"No space left on device" };
    event_send(&event_block_io_error, &io);
    while (events < 2)
        co_pause();
    ck_assert_str_eq(
        last, "BLOCK_IO_ERROR {\"device\": \"x\", \"node-name\": \"n\", \"operation\": \"write\", "
              "\"action\": \"report\", \"nospace\": true, "
              "\"reason\": \"No space left on device\"}");
}

CO_TEST(an_event_may_have_no_data)
{
    static const struct event_type plain = { .name = "PLAIN" };
    event_set_sink(sink);
    event_send(&plain, NULL);
    while (!events)
        co_pause();
    ck_assert_str_eq(last, "PLAIN -");
}

CO_TEST(what_is_under_way_when_the_sink_goes_is_dropped)
{
    struct write_threshold_event data = { .node_name = (char *)"n" };

    event_set_sink(sink);
    event_send(&event_block_write_threshold, &data);
    event_set_sink(NULL);
    for (unsigned i = 0; i < 100; i++)
        co_pause();
    ck_assert_uint_eq(events, 0);
}

CO_TEST(types_are_listed_once)
{
    static const struct event_type *const list[] = { &event_block_io_error,
                                                     &event_block_write_threshold,
                                                     &event_block_io_error, NULL };
    event_register(list);
    event_register(list);
    ck_assert_ptr_eq(event_by_index(0), &event_block_io_error);
    ck_assert_ptr_eq(event_by_index(1), &event_block_write_threshold);
    ck_assert_ptr_null(event_by_index(2));
}

int main(void)
{
    const TTest *const tests[] = { events_of_any_ring_reach_the_sink, an_event_may_have_no_data,
                                   what_is_under_way_when_the_sink_goes_is_dropped,
                                   types_are_listed_once, NULL };
    return run_tests("event", tests);
}
