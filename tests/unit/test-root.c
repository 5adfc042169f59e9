/* SPDX-License-Identifier: MIT */
/* block/root.c: gates of one ring, who waits before them, names of exports. */
#include "tests/unit/graph-fixture.h"

static char story[128];

struct queued {
    struct gate_waiter waiter;
    struct operation operation;
    struct root *root;
    char name[2];
};

static void enter_and_tell(struct gate_waiter *w)
{
    struct queued *q = container_of(w, struct queued, waiter);
    ck_assert(operation_begin(&q->operation, q->root));
    strcat(story, q->name);
    operation_end(&q->operation);
}

static void co_fn enter_in_coroutine(void *arg)
{
    struct operation o;
    operation_enter(&o, arg);
    strcat(story, "c");
    operation_end(&o);
}

CO_TEST(who_waits_before_a_gate_enters_in_order_of_arrival)
{
    autoerr err = { 0 };
    struct operation o;
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    struct queued q[] = { { .name = "1" }, { .name = "2" }, { .name = "-" }, { .name = "3" } };
    struct edit *e = edit_begin("test");
    must(edit_drain_root(e, r, &err), &err);
    ck_assert(!operation_begin(&o, r));
    for (unsigned i = 0; i < 4; i++) {
        q[i].waiter.fn = enter_and_tell;
        q[i].root = r;
        gate_queue(r, &q[i].waiter);
        if (i == 0)
            ck_assert_int_eq(co_enter(enter_in_coroutine, r, "enter"), 0);
    }
    gate_unqueue(&q[2].waiter);
    ck_assert_str_eq(story, "");
    must(edit_commit(e, &err), &err);
    co_pause();
    ck_assert_str_eq(story, "123c"); /* c entered second, and runs when its turn comes */
    root_drop(r);
}

static void fail_and_tell(struct gate_waiter *w, int error)
{
    ck_assert_int_eq(error, -EIO);
    strcat(story, "!");
    strcat(story, container_of(w, struct queued, waiter)->name);
}

static bool is_number_two(struct gate_waiter *w, void *unused)
{
    (void)unused;
    return container_of(w, struct queued, waiter)->name[0] == '2';
}

CO_TEST(a_stopped_gate_stays_shut_when_a_drain_ends)
{
    autoerr err = { 0 };
    struct operation o;
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    struct queued q[] = { { .name = "1" }, { .name = "2" }, { .name = "3" }, { .name = "4" } };
    gate_stop_here(r);
    for (unsigned i = 0; i < 4; i++) {
        q[i].waiter.fn = enter_and_tell;
        q[i].waiter.fail = i < 2 ? fail_and_tell : NULL;
        q[i].root = r;
        if (i == 3)
            gate_queue_first(r, &q[i].waiter);
        else
            gate_queue(r, &q[i].waiter);
    }
    for (unsigned round = 0; round < 2; round++) {
        struct edit *e = edit_begin("test");
        must(edit_drain_root(e, r, &err), &err);
        must(edit_commit(e, &err), &err);
        ck_assert(gate_stopped_here(r) && !operation_begin(&o, r));
    }
    gate_fail_here(r, -EIO, is_number_two, NULL);
    ck_assert_str_eq(story, "!2");
    gate_fail_here(r, -EIO, NULL, NULL);
    ck_assert_str_eq(story, "!2!1");
    gate_go_on_here(r);
    ck_assert_str_eq(story, "!2!143");
    ck_assert(operation_begin(&o, r));
    operation_end(&o);
    root_drop(r);
}

CO_TEST(a_drained_gate_stays_shut_when_a_stop_ends)
{
    autoerr err = { 0 };
    struct operation o;
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    struct edit *e = edit_begin("test");
    must(edit_drain_root(e, r, &err), &err);
    gate_stop_here(r);
    gate_go_on_here(r);
    ck_assert(!operation_begin(&o, r));
    must(edit_commit(e, &err), &err);
    ck_assert(operation_begin(&o, r));
    operation_end(&o);
    root_drop(r);
}

static void stop_again(struct gate_waiter *w)
{
    struct queued *q = container_of(w, struct queued, waiter);
    strcat(story, q->name);
    gate_stop_here(q->root);
    gate_queue_first(q->root, w);
}

CO_TEST(one_that_fails_again_holds_the_others_back)
{
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    struct queued q[] = { { .name = "1" }, { .name = "2" } };
    gate_stop_here(r);
    for (unsigned i = 0; i < 2; i++) {
        q[i].waiter.fn = i ? enter_and_tell : stop_again;
        q[i].root = r;
        gate_queue(r, &q[i].waiter);
    }
    gate_go_on_here(r);
    ck_assert_str_eq(story, "1");
    q[0].waiter.fn = enter_and_tell;
    gate_go_on_here(r);
    ck_assert_str_eq(story, "112");
    root_drop(r);
}

static struct operation held;

static void co_fn hold(void *arg)
{
    operation_enter(&held, arg);
}

CO_TEST(a_coroutine_that_waited_is_inside_before_it_runs)
{
    autoerr err = { 0 };
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    struct edit *e = edit_begin("test");
    must(edit_drain_root(e, r, &err), &err);
    ck_assert_int_eq(co_enter(hold, r, "hold"), 0);
    must(edit_commit(e, &err), &err);
    ck_assert_uint_eq(r->gates[0]->inside, 1);
    ck_assert_ptr_eq(held.root, r);
    operation_end(&held);
    root_drop(r);
}

CO_TEST(an_operation_knows_when_it_began)
{
    struct operation o;
    struct root *r = root_on("x", ROOT_EXPORT, add("driver=store,node-name=s"), 0, PERM_ALL);
    ck_assert(operation_begin(&o, r));
    ck_assert_uint_eq(o.since, ring_turn_now());
    ck_assert_ptr_eq(o.root, r);
    ck_assert_uint_eq(r->gates[0]->inside, 1);
    operation_end(&o);
    ck_assert_uint_eq(r->gates[0]->inside, 0);
    root_drop(r);
}

CO_TEST(exports_have_names_of_their_own)
{
    autoerr err = { 0 };
    struct root *a = root_new("a", ROOT_EXPORT, NULL, &err);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(root_new("a", ROOT_EXPORT, NULL, &err));
    ck_assert_str_eq(err.msg, "Device with id 'a' already exists");
    ck_assert_int_eq(err.code, -EEXIST);
    struct root *job = root_new("a", ROOT_JOB, NULL, &err); /* jobs are no devices */
    ck_assert_ptr_nonnull(job);
    ck_assert_ptr_eq(root_find_export("a"), a);
    ck_assert_ptr_eq(root_first(), a);
    ck_assert_ptr_eq(root_next(a), job);
    ck_assert_ptr_null(root_next(job));
    ck_assert_ptr_null(root_node(a));
    root_free(a);
    ck_assert_ptr_null(root_find_export("a"));
    root_free(job);
}

CO_TEST(gates_lie_in_lines_of_their_own)
{
    autoerr err = { 0 };
    struct root *r = root_new("a", ROOT_JOB, NULL, &err);
    for (unsigned i = 0; i <= rings_count(); i++)
        ck_assert_uint_eq((uintptr_t)r->gates[i] % 64, 0);
    ck_assert_uint_eq(sizeof(struct gate), 64);
    root_free(r);
}

int main(void)
{
    const TTest *const tests[] = {
        who_waits_before_a_gate_enters_in_order_of_arrival,
        a_stopped_gate_stays_shut_when_a_drain_ends,
        a_drained_gate_stays_shut_when_a_stop_ends,
        one_that_fails_again_holds_the_others_back,
        a_coroutine_that_waited_is_inside_before_it_runs,
        an_operation_knows_when_it_began,
        exports_have_names_of_their_own,
        gates_lie_in_lines_of_their_own,
        NULL,
    };
    return run_tests("root", tests);
}
