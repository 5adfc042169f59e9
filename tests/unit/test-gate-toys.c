/* SPDX-License-Identifier: MIT */
/*
 * Operations that span two nodes, in every order of the rings' steps: a toy
 * copy-before-write filter is put above a node while clients write it and a toy
 * job copies it.  Whatever the order, the copy shows the node as it was at the
 * moment of the edit.
 */
#include "tests/unit/graph-fixture.h"

static long runs_max(void)
{
    const char *flavour = getenv("RINGBLK_FLAVOUR");
    if (flavour && !strcmp(flavour, "thread")) /* where each change of stacks costs most */
        return 1000;
    return flavour && strcmp(flavour, "plain") ? 2000 : 10 * 1000 * 1000;
}

/*
 *   [a]  [b]             [a]  [b]
 *     \  /                 \  /
 *      |         edit      cbw      [job]      before a write, and when the job comes by, the
 *      |         --->      | \_____ / |        old value goes to `copy`, once
 *     disk               disk      copy
 */
static struct {
    struct root *a, *b, *job;
    int disk, copy;      /* the one block of each */
    bool copied;         /* copy holds what disk held at the edit */
    struct co_mutex one; /* who copies and who writes, one at a time (a range lock) */
    int at_edit;
    bool edited, timed_out;
    unsigned writes;
} g;

static struct {
    bool drains_nothing; /* the edit changes the graph among running requests */
} fault;

static void on_control(void (*fn)(void *arg))
{
    virtual_spawn(0, fn, NULL, "test");
    ck_assert(virtual_run());
}

/* ---- the toys ---- */

static void co_fn copy_before(void)
{
    if (g.copied)
        return;
    int old = g.disk;
    co_pause(); /* the read from disk and the write to the copy take their time */
    g.copy = old;
    g.copied = true;
}

static void co_fn toy_write(struct root *r, int value)
{
    if (!strcmp(root_node(r)->name, "cbw")) {
        CO_GUARD(&g.one);
        copy_before();
        g.disk = value;
    } else {
        co_pause();
        g.disk = value;
    }
    g.writes++;
}

static void co_fn client(struct root *r, int value)
{
    struct operation o;
    operation_enter(&o, r);
    toy_write(r, value);
    operation_end(&o);
}

static void co_fn client_a(void *unused)
{
    (void)unused;
    client(g.a, 1);
}

static void co_fn client_b(void *unused)
{
    (void)unused;
    client(g.b, 2);
}

static void co_fn job_copies(void *unused)
{
    struct operation o;
    (void)unused;
    operation_enter(&o, g.job);
    {
        CO_GUARD(&g.one);
        copy_before();
    }
    operation_end(&o);
}

/* ---- the edit ---- */

static void co_fn insert(void *unused)
{
    autoerr err = { 0 };
    struct node *disk = node_find("disk"), *cbw = node_find("cbw");
    struct edge *edges[] = { root_edge(g.a), root_edge(g.b) };
    (void)unused;
    struct edit *e = edit_begin("insert a filter");
    if (!fault.drains_nothing && edit_drain(e, disk, &err) < 0) {
        g.timed_out = true;
        edit_abort(e);
        return;
    }
    must(edges_replace(edges, 2, cbw, &err), &err);
    g.at_edit = g.disk;
    must(edit_commit(e, &err), &err);
    g.edited = true;
    ck_assert_int_eq(ring_spawn(ring_started(1), job_copies, NULL, "job"), 0);
}

/* ---- taking it out again, while the job and the clients run ---- */

static void co_fn take_out(void *unused)
{
    autoerr err = { 0 };
    struct edge *edges[] = { root_edge(g.a), root_edge(g.b) };
    (void)unused;
    struct edit *e = edit_begin("remove a filter");
    if (edit_drain(e, node_find("cbw"), &err) < 0) {
        g.timed_out = true;
        edit_abort(e);
        return;
    }
    must(edges_replace(edges, 2, node_find("disk"), &err), &err);
    if (!g.copied) {
        g.copy = g.disk;
        g.copied = true;
    }
    g.edited = g.copy == g.at_edit;
    must(edit_commit(e, &err), &err);
}

/* ---- runs ---- */

static void co_fn build(void *unused)
{
    (void)unused;
    memset(&g, 0, sizeof g);
    co_mutex_init(&g.one, 0);
    struct node *disk = add("driver=store,node-name=disk");
    add("driver=store,node-name=copy");
    struct node *cbw = add("driver=filter,node-name=cbw,file=disk,backing=copy");
    g.a = root_on("a", ROOT_EXPORT, disk, PERM_READ, PERM_ALL);
    g.b = root_on("b", ROOT_EXPORT, disk, PERM_READ, PERM_ALL);
    g.job = root_on("job", ROOT_JOB, cbw, PERM_READ, PERM_ALL);
}

static void co_fn build_inserted(void *unused)
{
    autoerr err = { 0 };
    build(unused);
    struct edge *edges[] = { root_edge(g.a), root_edge(g.b) };
    must(edges_replace(edges, 2, node_find("cbw"), &err), &err);
}

static void co_fn tear_down(void *unused)
{
    (void)unused;
    root_drop(g.job);
    root_drop(g.a);
    root_drop(g.b);
    del("cbw");
    del("copy");
    del("disk");
}

static bool check(void)
{
    bool good = g.edited && !g.timed_out && g.writes == 2 && g.copied && g.copy == g.at_edit &&
                (g.disk == 1 || g.disk == 2);
    if (good)
        on_control(tear_down);
    return good;
}

static unsigned ring_of_b;

static void setup_insert(void)
{
    on_control(build);
    virtual_spawn(1, client_a, NULL, "client a");
    virtual_spawn(ring_of_b, client_b, NULL, "client b");
    virtual_spawn(0, insert, NULL, "insert");
}

static void setup_remove(void)
{
    on_control(build_inserted);
    virtual_spawn(1, client_a, NULL, "client a");
    virtual_spawn(ring_of_b, job_copies, NULL, "job");
    virtual_spawn(1, client_b, NULL, "client b");
    virtual_spawn(0, take_out, NULL, "remove");
}

static void explore(void (*setup)(void), unsigned rings, unsigned preemptions)
{
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
    ring_of_b = rings;
    long runs = virtual_explore_bounded(rings, setup, check, runs_max(), preemptions);
    ck_assert_msg(runs >= 1000, "%ld orders", runs);
    printf("# %u data ring%s: %ld orders\n", rings, rings > 1 ? "s" : "", runs);
}

START_TEST(every_order_of_an_insertion_keeps_the_moment)
{
    explore(setup_insert, 1, UINT32_MAX);
}
END_TEST

START_TEST(an_insertion_on_two_rings_does)
{
    explore(setup_insert, 2, 2);
}
END_TEST

START_TEST(every_order_of_a_removal_keeps_the_moment)
{
    explore(setup_remove, 1, UINT32_MAX);
}
END_TEST

START_TEST(a_removal_on_two_rings_does)
{
    explore(setup_remove, 2, 2);
}
END_TEST

static void search_finds(void (*setup)(void))
{
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
    ring_of_b = 2;
    ck_assert_int_lt(virtual_explore_bounded(2, setup, check, 1000 * 1000, 2), 0);
}

START_TEST(an_edit_without_a_drain_is_found)
{
    fault.drains_nothing = true;
    search_finds(setup_insert);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_order_of_an_insertion_keeps_the_moment,
        an_insertion_on_two_rings_does,
        every_order_of_a_removal_keeps_the_moment,
        a_removal_on_two_rings_does,
        an_edit_without_a_drain_is_found,
        NULL,
    };
    return run_tests("gate-toys", tests);
}
