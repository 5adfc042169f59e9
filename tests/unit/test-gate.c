/* SPDX-License-Identifier: MIT */
/*
 * Gates, drains and edits in every order of steps that the rings can take: each
 * run ends, no request sees half a change, no drain runs out of time.  Models
 * with a fault planted in them show that the search would find one.
 */
#include "tests/unit/graph-fixture.h"

/* Under a sanitizer a sample does: what it looks for is the same in every order. */
static long runs_max(void)
{
    const char *flavour = getenv("RINGBLK_FLAVOUR");
    return flavour && strcmp(flavour, "plain") ? 2000 : 10 * 1000 * 1000;
}

static void on_control(void (*fn)(void *arg))
{
    virtual_spawn(0, fn, NULL, "test");
    ck_assert(virtual_run());
}

static void register_drivers(void)
{
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
}

/* ---- a client, the background work that it waits for, and an edit ----
 *
 *   [x]    [y]    [work]     x, y: clients on rings of their own
 *     \    /       /         work: what `cache` does in the background; a request of x waits,
 *      cache      /          inside, for one pass of it
 *        |       /
 *        +------+
 *        |
 *      store
 */

static struct {
    struct root *x, *y, *work;
    int half, other_half; /* of the graph: an edit changes one, yields, and changes the other */
    bool torn;            /* somebody inside saw them differ */
    bool edited, timed_out;
    unsigned requests;
    struct co *client; /* waits for the pass */
} g;

/* What the planted faults change. */
static struct {
    bool work_is_a_job;   /* the drain doesn't know that clients wait for it: shut with them */
    bool looks_too_early; /* a request looks at the graph before it enters */
    bool enters_twice;    /* what a request causes enters the gate again */
} fault;

static void look_twice(void)
{
    int before = g.half;
    co_pause();
    if (g.half != before || g.other_half != before)
        g.torn = true;
}

static void co_fn pass(void *unused)
{
    struct operation o;
    (void)unused;
    operation_enter(&o, g.work);
    look_twice();
    operation_end(&o);
    co_wake(g.client);
}

static void co_fn request_x(void *unused)
{
    struct operation o, again;
    (void)unused;
    operation_enter(&o, g.x);
    g.client = co_self();
    ck_assert_int_eq(co_start(pass, NULL, "pass"), 0);
    co_yield ();
    if (fault.enters_twice) {
        operation_enter(&again, g.x);
        operation_end(&again);
    }
    g.requests++;
    operation_end(&o);
}

static void co_fn request_y(void *unused)
{
    struct operation o;
    (void)unused;
    if (fault.looks_too_early)
        look_twice();
    operation_enter(&o, g.y);
    look_twice();
    g.requests++;
    operation_end(&o);
}

static void co_fn change(void *unused)
{
    autoerr err = { 0 };
    struct edit *e = edit_begin("change");
    (void)unused;
    if (edit_drain(e, node_find("cache"), &err) < 0) {
        g.timed_out = true;
        edit_abort(e);
        return;
    }
    g.half++;
    co_pause();
    g.other_half++;
    must(edit_commit(e, &err), &err);
    g.edited = true;
}

static void co_fn build(void *unused)
{
    autoerr err = { 0 };
    struct edge *e;
    (void)unused;
    memset(&g, 0, sizeof g);
    struct node *cache = add("driver=filter,node-name=cache,file.driver=store,file.node-name=s");
    g.x = root_on("x", ROOT_EXPORT, cache, PERM_READ, PERM_ALL);
    g.y = root_on("y", ROOT_EXPORT, cache, PERM_READ, PERM_ALL);
    g.work = root_new("work", fault.work_is_a_job ? ROOT_JOB : ROOT_BACKGROUND, NULL, &err);
    if (!fault.work_is_a_job)
        root_set_background(g.work, cache);
    must(edge_attach(NULL, g.work, fault.work_is_a_job ? cache : node_find("s"), "root",
                     ROLE_FILTERED, PERM_READ, PERM_ALL, &e, &err),
         &err);
}

static void co_fn tear_down(void *unused)
{
    (void)unused;
    root_drop(g.work);
    root_drop(g.x);
    root_drop(g.y);
    del("cache");
}

static unsigned ring_of_y;

static void setup(void)
{
    on_control(build);
    virtual_spawn(1, request_x, NULL, "request x");
    virtual_spawn(ring_of_y, request_y, NULL, "request y");
    virtual_spawn(0, change, NULL, "change");
}

static bool check(void)
{
    bool good = !g.torn && !g.timed_out && g.edited && g.requests == 2;
    if (good)
        on_control(tear_down);
    return good;
}

static void explore(unsigned rings, unsigned preemptions)
{
    register_drivers();
    ring_of_y = rings;
    long runs = virtual_explore_bounded(rings, setup, check, runs_max(), preemptions);
    ck_assert_msg(runs >= 2000, "only %ld orders", runs);
    ck_assert_int_le(runs, runs_max());
    printf("# %u data ring%s: %ld orders\n", rings, rings > 1 ? "s" : "", runs);
}

/* Both clients and the background work on one ring, the edit on the control ring: every order. */
START_TEST(every_order_ends_and_shows_whole_graphs)
{
    explore(1, UINT32_MAX);
}
END_TEST

/* Clients on two rings: every order in which a ring that could go on is left twice (three times in the
 * full tier). */
START_TEST(on_two_rings_as_well)
{
    const char *full = getenv("RINGBLK_FULL");
    explore(2, full && *full == '1' ? 3 : 2);
}
END_TEST

/* What the search can find is no matter for a sanitizer. */
static void search_finds(void)
{
    if (runs_max() <= 2000)
        return;
    register_drivers();
    ring_of_y = 2;
    ck_assert_int_lt(virtual_explore_bounded(2, setup, check, 1000 * 1000, 2), 0);
}

START_TEST(background_shut_with_its_clients_is_found)
{
    fault.work_is_a_job = true;
    search_finds();
}
END_TEST

START_TEST(a_look_outside_the_gate_is_found)
{
    fault.looks_too_early = true;
    search_finds();
}
END_TEST

START_TEST(entering_twice_is_found)
{
    fault.enters_twice = true;
    search_finds();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_order_ends_and_shows_whole_graphs,
        on_two_rings_as_well,
#ifdef __SANITIZE_THREAD__
        NULL, /* virtual rings are one thread: searching them all again would only take minutes */
#endif
        background_shut_with_its_clients_is_found,
        a_look_outside_the_gate_is_found,
        entering_twice_is_found,
        NULL,
    };
    return run_tests("gate", tests);
}
