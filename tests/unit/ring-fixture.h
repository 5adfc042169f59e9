/* SPDX-License-Identifier: MIT */
/* For tests on real rings: two data rings, and a coroutine on the control ring to run a test in. */
#ifndef TESTS_UNIT_RING_FIXTURE_H
#define TESTS_UNIT_RING_FIXTURE_H

#include <check.h>

#include "uring/engine.h"

static inline void rings_up(void)
{
    struct err err = { 0 };
    const struct rings_config config = { .count = 2, .no_pin = true };

    ck_assert_msg(rings_init(&config, &err) == 0, "%s", err.msg);
}

static inline void rings_down(void)
{
    rings_exit();
}

static inline struct ring *ring_at(unsigned index)
{
    struct err err = { 0 };
    struct ring *r = ring_get(index, &err);

    ck_assert_msg(r != NULL, "%s", err.msg);
    return r;
}

static inline void run_main(void *arg)
{
    void (*fn)(void) = *(void (**)(void))arg;

    fn();
    ring_stop();
}

/* Run @fn in a coroutine of the control ring until it ends. */
static inline void run_co(void (*fn)(void))
{
    ck_assert_int_eq(co_start(run_main, &fn, "test"), 0);
    ring_run();
}

/* main() of a test program with one case, on rings (or on none). */
static inline int run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);

    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
