/* SPDX-License-Identifier: MIT */
/* qmp/event.c: what clients get of events, and how often, by the clock of virtual rings. */
#include <check.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "qmp/qmp.h"
#include "uring/virtual.h"

enum { PERIOD = 1000000 }; /* ns */

struct sample {
    char *who;
    int64_t level;
};

static const struct row sample_rows[] = { ROW_OPT(struct sample, "who", who, row_str),
                                          ROW_OPT(struct sample, "level", level, row_int),
                                          ROW_END };
static ROW_STRUCT_TYPE(sample_type, "Sample", struct sample, sample_rows);

static const struct event_type often = { .name = "OFTEN", .data = &sample_type };
static const struct event_type limited = {
    .name = "LIMITED", .data = &sample_type, .rate_limit = PERIOD, .key = "who"
};
static const struct event_type bare = { .name = "BARE", .rate_limit = PERIOD };

/* In place of the monitors: the names and data of what was delivered, one after the other. */
static char got[1000];

void monitors_broadcast(struct json_object *value)
{
    struct json_object *name, *data, *time;
    ck_assert(json_object_object_get_ex(value, "event", &name));
    ck_assert(json_object_object_get_ex(value, "timestamp", &time));
    ck_assert_int_eq(json_object_object_length(time), 2);
    strcat(got, json_object_get_string(name));
    if (json_object_object_get_ex(value, "data", &data)) {
        autofree char *text = json_text(data);
        strcat(got, text);
    }
    strcat(got, ";");
}

static void send_event(const struct event_type *type, const char *who, int64_t level)
{
    const struct sample s = { (char *)who, level };
    event_send(type, type->data ? &s : NULL);
    ck_assert(virtual_run());
}

#define expect(text)                                                                               \
    do {                                                                                           \
        ck_assert_str_eq(got, text);                                                               \
        got[0] = 0;                                                                                \
    } while (0)

static void later(uint64_t ns)
{
    virtual_advance(ns);
    ck_assert(virtual_run());
}

static void up(void)
{
    virtual_rings_init(1);
    qmp_events_start();
}

static void down(void)
{
    qmp_events_stop();
    virtual_rings_exit();
}

START_TEST(without_a_limit_all_go_out)
{
    send_event(&often, "a", 1);
    send_event(&often, "a", 1);
    expect("OFTEN{\"who\": \"a\", \"level\": 1};OFTEN{\"who\": \"a\", \"level\": 1};");
}
END_TEST

START_TEST(one_per_period_and_the_latest_at_its_end)
{
    send_event(&limited, "a", 1);
    expect("LIMITED{\"who\": \"a\", \"level\": 1};");
    send_event(&limited, "a", 2);
    send_event(&limited, "a", 3);
    later(PERIOD - 1);
    expect("");
    later(1);
    expect("LIMITED{\"who\": \"a\", \"level\": 3};");
    /* That one began a period of its own. */
    send_event(&limited, "a", 4);
    expect("");
    later(PERIOD);
    expect("LIMITED{\"who\": \"a\", \"level\": 4};");
    later(PERIOD);
    expect("");
    send_event(&limited, "a", 5);
    expect("LIMITED{\"who\": \"a\", \"level\": 5};");
}
END_TEST

START_TEST(each_key_has_its_own_period)
{
    send_event(&limited, "a", 1);
    send_event(&limited, "b", 1);
    send_event(&bare, NULL, 0);
    expect("LIMITED{\"who\": \"a\", \"level\": 1};LIMITED{\"who\": \"b\", \"level\": 1};BARE;");
    send_event(&limited, "b", 2);
    send_event(&bare, NULL, 0);
    later(PERIOD);
    ck_assert_ptr_nonnull(strstr(got, "LIMITED{\"who\": \"b\", \"level\": 2};"));
    ck_assert_ptr_nonnull(strstr(got, "BARE;"));
    ck_assert_ptr_null(strstr(got, "\"a\""));
}
END_TEST

START_TEST(stopping_drops_what_waits)
{
    send_event(&limited, "a", 1);
    send_event(&limited, "a", 2);
    got[0] = 0;
    qmp_events_stop();
    later(2 * PERIOD);
    send_event(&limited, "a", 3);
    send_event(&often, "a", 3);
    expect("");
    qmp_events_start();
    send_event(&limited, "a", 4);
    expect("LIMITED{\"who\": \"a\", \"level\": 4};");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("qmp-event");
    TCase *t = tcase_create("qmp-event");
    tcase_add_checked_fixture(t, up, down);
    tcase_add_test(t, without_a_limit_all_go_out);
    tcase_add_test(t, one_per_period_and_the_latest_at_its_end);
    tcase_add_test(t, each_key_has_its_own_period);
    tcase_add_test(t, stopping_drops_what_waits);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
