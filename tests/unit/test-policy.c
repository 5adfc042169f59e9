/* SPDX-License-Identifier: MIT */
/* exports/policy.c: what is decided, who is stopped, and how it ends, with several virtual rings. */
#include "block/event.h"
#include "exports/policy.h"
#include "tests/unit/graph-fixture.h"

static struct error_policy policy;
static struct root *export_root;
static unsigned stops, resumes;

static void see(const struct event_type *type, struct json_object *data, uint64_t seconds,
                uint64_t microseconds)
{
    (void)seconds, (void)microseconds;
    stops += type == &event_stop;
    resumes += type == &event_resume;
    row_release(&row_any, &data);
}

static void begin(enum on_error on_read, enum on_error on_write)
{
    stops = resumes = 0;
    event_set_sink(see);
    if (!node_find("s"))
        add("driver=store,node-name=s");
    export_root = root_on("x", ROOT_EXPORT, node_find("s"), 0, PERM_ALL);
    ck_assert_int_eq(policy_init(&policy, export_root, on_read, on_write), 0);
}

/* What was sent has arrived, and what followed from it is done. */
static void co_fn settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        co_pause();
}

static void end(void)
{
    policy_end(&policy);
    ck_assert_uint_eq(policy_stopped_count(), 0);
    root_drop(export_root);
    settle();
    event_set_sink(NULL);
}

CO_TEST(each_policy_decides_as_its_name_says)
{
    static const struct {
        enum on_error on;
        enum io_error_action full, broken;
    } expected[] = {
        { ON_ERROR_REPORT, IO_ERROR_REPORT, IO_ERROR_REPORT },
        { ON_ERROR_IGNORE, IO_ERROR_IGNORE, IO_ERROR_IGNORE },
        { ON_ERROR_ENOSPC, IO_ERROR_STOP, IO_ERROR_REPORT },
        { ON_ERROR_STOP, IO_ERROR_STOP, IO_ERROR_STOP },
    };
    for (unsigned i = 0; i < 4; i++) {
        begin(ON_ERROR_REPORT, expected[i].on);
        ck_assert_int_eq(policy.stops, i >= 2);
        ck_assert_int_eq(policy_failed(&policy, IO_WRITE, -EIO), expected[i].broken);
        ck_assert_int_eq(policy_failed(&policy, IO_FLUSH, -ENOSPC), expected[i].full);
        ck_assert_int_eq(policy_failed(&policy, IO_UNMAP, -EDQUOT), expected[i].full);
        ck_assert_int_eq(policy_failed(&policy, IO_READ, -ENOSPC), IO_ERROR_REPORT);
        settle();
        end();
        begin(expected[i].on, ON_ERROR_REPORT);
        ck_assert_int_eq(policy_failed(&policy, IO_READ, -EIO), expected[i].broken);
        ck_assert_int_eq(policy_failed(&policy, IO_WRITE, -EIO), IO_ERROR_REPORT);
        settle();
        end();
    }
}

static int fail_here(void *arg)
{
    ck_assert_int_eq(policy_failed(&policy, IO_WRITE, *(int *)arg), IO_ERROR_STOP);
    return 0;
}

static int is_stopped(void *unused)
{
    (void)unused;
    return gate_stopped_here(export_root);
}

static void co_fn fail_on(unsigned ring, int result)
{
    autoerr err = { 0 };
    ring_call(ring_get(ring, &err), fail_here, &result);
    settle();
}

static void co_fn stopped_everywhere(bool yes)
{
    autoerr err = { 0 };
    for (unsigned i = 0; i <= rings_count(); i++)
        ck_assert_int_eq(ring_call(ring_get(i, &err), is_stopped, NULL), yes);
}

CO_TEST(a_stop_reaches_all_rings_and_ends_on_all)
{
    begin(ON_ERROR_REPORT, ON_ERROR_STOP);
    stopped_everywhere(false);
    fail_on(2, -EIO);
    stopped_everywhere(true);
    ck_assert_int_eq(policy.status, IO_STATUS_FAILED);
    ck_assert_uint_eq(policy_stopped_count(), 1);
    fail_on(1, -ENOSPC); /* the first one's reason stays */
    ck_assert_int_eq(policy.status, IO_STATUS_FAILED);
    ck_assert_int_eq(policy_go_on(&policy), 0);
    stopped_everywhere(false);
    settle();
    ck_assert_int_eq(policy.status, IO_STATUS_OK);
    ck_assert_uint_eq(stops, 1);
    ck_assert_uint_eq(resumes, 1);
    fail_on(1, -ENOSPC);
    ck_assert_int_eq(policy.status, IO_STATUS_NOSPACE);
    ck_assert_int_eq(policy_fail(&policy), 0);
    stopped_everywhere(false);
    end();
}

CO_TEST(old_news_stop_nothing)
{
    int result = -EIO;
    begin(ON_ERROR_REPORT, ON_ERROR_STOP);
    fail_on(1, -EIO);
    fail_here(&result); /* on this ring; the report lies in its inbox when the stop ends */
    ck_assert_int_eq(policy_go_on(&policy), 0);
    settle();
    ck_assert_int_eq(policy.status, IO_STATUS_OK);
    stopped_everywhere(false);
    end();
}

CO_TEST(an_export_that_goes_while_stopped_is_counted_no_more)
{
    begin(ON_ERROR_REPORT, ON_ERROR_STOP);
    fail_on(1, -EIO);
    ck_assert_uint_eq(policy_stopped_count(), 1);
    end();
    ck_assert_uint_eq(resumes, 1);
}

int main(void)
{
    const TTest *const tests[] = {
        each_policy_decides_as_its_name_says,
        a_stop_reaches_all_rings_and_ends_on_all,
        old_news_stop_nothing,
        an_export_that_goes_while_stopped_is_counted_no_more,
        NULL,
    };
    return run_tests("policy", tests);
}
