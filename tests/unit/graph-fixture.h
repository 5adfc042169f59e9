/* SPDX-License-Identifier: MIT */
/*
 * For the tests of the graph: test bodies that run as a coroutine on the virtual
 * control ring, drivers that do nothing but show what the graph does to them,
 * and short forms for building nodes from text.
 */
#ifndef TESTS_UNIT_GRAPH_FIXTURE_H
#define TESTS_UNIT_GRAPH_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/blockdev.h"
#include "block/edit.h"
#include "block/graph.h"
#include "drivers/table.h"
#include "uring/virtual.h"

/* ---- drivers ---- */

/* What the last PREPARE of a "store" asked for, and how often each phase ran. */
static struct {
    unsigned refuse;     /* PREPARE of any of these permissions fails ... */
    const char *refuser; /* ... on this node; NULL: on all */
    unsigned perm, shared, phases[3];
    unsigned opened, closed;
} store __attribute__((unused));

struct toy_options {
    struct row_choice file, backing;
};

static const struct row toy_rows[] = {
    ROW_REQ(struct toy_options, "file", file, row_blockdev_ref, .help = "Storage"),
    ROW_OPT(struct toy_options, "backing", backing, row_blockdev_ref_or_null, .help = "Below"),
    ROW_END
};
static ROW_STRUCT_TYPE(toy_type, "ToyOptions", struct toy_options, toy_rows);

static int co_fn store_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    atomic_store(&n->size, 1 << 20);
    store.opened++;
    return 0;
}

static void co_fn store_close(struct node *n)
{
    (void)n;
    store.closed++;
}

static int co_fn store_permissions(struct node *n, unsigned perm, unsigned shared,
                                   enum permission_phase phase, struct err *err)
{
    store.phases[phase]++;
    if (phase == PERM_PREPARE && perm & store.refuse &&
        (!store.refuser || !strcmp(n->name, store.refuser)))
        return err_set(err, -EAGAIN, "store '%s' refuses", n->name);
    if (phase == PERM_COMMIT) {
        store.perm = perm;
        store.shared = shared;
    }
    return 0;
}

static int co_fn toy_open_as(struct node *n, const struct toy_options *o, enum edge_role role,
                             struct err *err)
{
    struct edge *e;
    if (node_open_child(n, "file", role, &o->file, &e, err) < 0)
        return err->code;
    atomic_store(&n->size, node_size(e->child));
    if (!o->backing.type || o->backing.type == &row_null)
        return 0;
    return node_open_child(n, "backing", ROLE_BACKING, &o->backing, &e, err);
}

static int co_fn format_open(struct node *n, const void *options, struct err *err)
{
    return toy_open_as(n, options, ROLE_FILE, err);
}

static int co_fn filter_open(struct node *n, const void *options, struct err *err)
{
    return toy_open_as(n, options, ROLE_FILTERED, err);
}

static const struct driver toy_store = {
    .name = "store",
    .kind = DRIVER_PROTOCOL,
    .open = store_open,
    .close = store_close,
    .permissions = store_permissions,
};
static const struct driver toy_format = {
    .name = "format",
    .kind = DRIVER_FORMAT,
    .options = &toy_type,
    .open = format_open,
};
static const struct driver toy_filter = {
    .name = "filter",
    .kind = DRIVER_FILTER,
    .options = &toy_type,
    .open = filter_open,
};
static const struct driver *const toy_drivers[] = { &toy_store, &toy_format, &toy_filter, NULL };

/* ---- bodies ---- */

struct body {
    void (*fn)(void *unused);
    bool ended;
};

/* Whatever a test leaves to the monitor goes; nothing else may be left. */
static void run_body(void *arg)
{
    struct body *b = arg;
    b->fn(NULL);
    blockdev_close_all();
    ck_assert_ptr_null(node_first());
    ck_assert_ptr_null(root_first());
    ck_assert_uint_eq(store.opened, store.closed);
    b->ended = true;
}

static __attribute__((unused)) void run_in_coroutine(void (*fn)(void *unused))
{
    struct body b = { .fn = fn };
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
    virtual_rings_init(2);
    virtual_spawn(0, run_body, &b, "test");
    ck_assert(virtual_run());
    ck_assert_msg(b.ended, "the test waits for ever");
    virtual_rings_exit();
}

/* A test whose body may yield. */
#define CO_TEST(name)                                                                              \
    static void body_##name(void *unused);                                                         \
    START_TEST(name)                                                                               \
    {                                                                                              \
        run_in_coroutine(body_##name);                                                             \
    }                                                                                              \
    END_TEST static void body_##name(void *unused __attribute__((unused)))

/* ---- short forms ---- */

static __attribute__((unused)) void must(int result, const struct err *err)
{
    ck_assert_msg(result == 0, "%s", err->msg ? err->msg : "no message");
}

static int co_fn try_add(const char *text, struct err *err)
{
    struct blockdev_options o;
    if (row_parse_text(&row_blockdev_options, text, NULL, &o, err) < 0)
        return err->code;
    int result = blockdev_add(&o, err);
    row_release(&row_blockdev_options, &o);
    return result;
}

static __attribute__((unused)) struct node *co_fn add(const char *text)
{
    autoerr err = { 0 };
    must(try_add(text, &err), &err);
    const char *name = strstr(text, "node-name=") + strlen("node-name=");
    char copy[64];
    snprintf(copy, sizeof copy, "%.*s", (int)strcspn(name, ","), name);
    struct node *n = node_find(copy);
    ck_assert_ptr_nonnull(n);
    return n;
}

/* The message of an attempt that must fail. */
static __attribute__((unused)) void co_fn add_fails(const char *text, const char *message)
{
    autoerr err = { 0 };
    ck_assert_int_lt(try_add(text, &err), 0);
    ck_assert_str_eq(err.msg, message);
}

static __attribute__((unused)) void co_fn del(const char *name)
{
    autoerr err = { 0 };
    must(blockdev_del(name, &err), &err);
}

static __attribute__((unused)) void co_fn del_fails(const char *name, const char *message)
{
    autoerr err = { 0 };
    ck_assert_int_lt(blockdev_del(name, &err), 0);
    ck_assert_str_eq(err.msg, message);
}

static __attribute__((unused)) int co_fn try_root(const char *name, enum root_kind kind,
                                                  struct node *n, unsigned perm, unsigned shared,
                                                  struct root **out, struct err *err)
{
    struct edge *e;
    struct root *r = *out = root_new(name, kind, NULL, err);
    if (!r)
        return err->code;
    struct edit *edit = edit_begin("test");
    if (edge_attach(NULL, r, n, "root", ROLE_FILTERED, perm, shared, &e, err) < 0) {
        edit_abort(edit);
        root_free(r);
        *out = NULL;
        return err->code;
    }
    return edit_commit(edit, err);
}

static __attribute__((unused)) struct root *co_fn root_on(const char *name, enum root_kind kind,
                                                          struct node *n, unsigned perm,
                                                          unsigned shared)
{
    autoerr err = { 0 };
    struct root *r;
    must(try_root(name, kind, n, perm, shared, &r, &err), &err);
    return r;
}

static __attribute__((unused)) void co_fn root_drop(struct root *r)
{
    autoerr err = { 0 };
    struct edit *edit = edit_begin("test");
    must(edit_drain_root(edit, r, &err), &err);
    while (root_edge(r))
        edge_detach(root_edge(r));
    must(edit_commit(edit, &err), &err);
    root_free(r);
}

/* How many nodes there are; and nothing may be left at the end of a test. */
static __attribute__((unused)) unsigned count_nodes(void)
{
    unsigned count = 0;
    for (struct node *n = node_first(); n; n = node_next(n))
        count++;
    return count;
}

static __attribute__((unused)) int run_tests(const char *name, const TTest *const *tests)
{
    Suite *s = suite_create(name);
    TCase *c = tcase_create(name);
    for (; *tests; tests++)
        tcase_add_test(c, *tests);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
