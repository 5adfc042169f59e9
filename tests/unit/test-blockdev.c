/* SPDX-License-Identifier: MIT */
/* block/blockdev.c: what the monitor owns, and what it may delete. */
#include <malloc.h>
#include <time.h>

#include "tests/unit/graph-fixture.h"

/* The sentences and their order are those of qemu-storage-daemon 7.2. */
CO_TEST(what_is_used_is_not_deleted)
{
    add("driver=null-co,node-name=n");
    add("driver=raw,node-name=r,file=n");
    del_fails("nope", "Failed to find node with node-name='nope'");
    del_fails("n", "Block device n is in use");
    struct root *x = root_on("x", ROOT_EXPORT, node_find("r"), 0, PERM_ALL);
    del_fails("r", "Node r is in use");
    root_drop(x);
    x = root_on("x", ROOT_EXPORT, node_find("n"), 0, PERM_ALL);
    del_fails("n", "Node n is in use");
    root_drop(x);
    del("r");
    del("n");
    ck_assert_uint_eq(count_nodes(), 0);
    del_fails("n", "Failed to find node with node-name='n'");
}

CO_TEST(inline_children_are_not_the_monitors)
{
    add("driver=raw,node-name=r,file.driver=null-co,file.node-name=f");
    del_fails("f", "Node f is not owned by the monitor");
    add("driver=raw,node-name=second,file=f");
    del("r");
    ck_assert_ptr_nonnull(node_find("f")); /* somebody else uses it now */
    del_fails("f", "Node f is not owned by the monitor");
    del("second");
    ck_assert_ptr_null(node_find("f"));
}

CO_TEST(the_daemons_end_closes_from_the_top)
{
    add("driver=store,node-name=s");
    add("driver=raw,node-name=r,file=s");
    add("driver=raw,node-name=q,file.driver=raw,file.file=r");
    blockdev_close_all();
    ck_assert_uint_eq(count_nodes(), 0);
    ck_assert_uint_eq(store.closed, 1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

enum { MANY = 10000 };

static void co_fn add_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "driver=null-co,node-name=node%u", i);
        autoerr err = { 0 };
        must(try_add(text, &err), &err);
    }
}

static void co_fn del_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "node%u", i);
        del(name);
    }
}

/* No walk over all nodes: ten times as many take ten times as long, not a hundred times. */
CO_TEST(many_nodes_come_and_go)
{
    double start = seconds();
    add_many(MANY / 10);
    del_many(MANY / 10);
    double few = seconds() - start;
    size_t before = mallinfo2().uordblks;
    start = seconds();
    add_many(MANY);
    size_t each = (mallinfo2().uordblks - before) / MANY;
    del_many(MANY);
    double many = seconds() - start;
    ck_assert_double_lt(many, 5.0);
    ck_assert_double_lt(many, 40 * few + 0.1);
    ck_assert_uint_lt(each, 2048);
    ck_assert_uint_lt(mallinfo2().uordblks, before + 65536);
}

int main(void)
{
    const TTest *const tests[] = { what_is_used_is_not_deleted,
                                   inline_children_are_not_the_monitors,
                                   the_daemons_end_closes_from_the_top, many_nodes_come_and_go,
                                   NULL };
    return run_tests("blockdev", tests);
}
