/* SPDX-License-Identifier: MIT */
/* For tests of objects: made from the text of a command line. */
#ifndef TESTS_UNIT_OBJECT_FIXTURE_H
#define TESTS_UNIT_OBJECT_FIXTURE_H

#include <string.h>

#include "crypto/object.h"
#include "tests/unit/ring-fixture.h"

static inline int add_text(const char *text, struct err *err)
{
    struct object_options o;
    int r = row_parse_text(&row_object_options, text, "qom-type", &o, err);

    if (r < 0)
        return r;
    r = object_add(&o, err);
    row_release(&row_object_options, &o);
    return r;
}

static inline void must_add(const char *text)
{
    struct err err = { 0 };

    ck_assert_msg(add_text(text, &err) == 0, "%s: %s", text, err.msg);
}

static inline void must_not_add(const char *text, const char *message)
{
    autoerr err = { 0 };
    unsigned before = 0, after = 0;

    for (struct object *o = object_first(); o; o = object_next(o))
        before++;
    ck_assert_msg(add_text(text, &err) < 0, "%s was accepted", text);
    ck_assert_str_eq(err.msg, message);
    ck_assert_int_eq(err.class, ERR_GENERIC);
    for (struct object *o = object_first(); o; o = object_next(o))
        after++;
    ck_assert_uint_eq(before, after);
}

#endif
