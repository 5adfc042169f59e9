/* SPDX-License-Identifier: MIT */
/* block/edit.c and block/drain.c: one edit after another, steps, journal, what a drain waits for. */
#include "tests/unit/graph-fixture.h"
#include "uring/await.h"

/* What happened, in order. */
static char story[256];

static void tell(const char *word)
{
    size_t used = strlen(story);
    snprintf(story + used, sizeof story - used, "%s%s", used ? " " : "", word);
}

/* ---- one at a time ---- */

static void co_fn edit_and_tell(void *arg)
{
    autoerr err = { 0 };
    struct edit *e = edit_begin(arg);
    tell(arg);
    co_pause();
    tell(arg);
    must(edit_commit(e, &err), &err);
}

CO_TEST(edits_come_one_after_another_in_order)
{
    autoerr err = { 0 };
    static char names[][2] = { "a", "b", "c" };
    struct edit *e = edit_begin("first");
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(co_enter(edit_and_tell, names[i], "edit"), 0);
    ck_assert_str_eq(story, "");
    must(edit_commit(e, &err), &err);
    edit_and_tell("d");
    ck_assert_str_eq(story, "a a b b c c d d");
}

/* ---- steps ---- */

static void commit(void *arg)
{
    tell("commit");
    tell(arg);
}

static void co_fn undo(void *arg)
{
    tell("undo");
    tell(arg);
}

static void co_fn clean(void *arg)
{
    tell("clean");
    tell(arg);
}

static struct edit *co_fn edit_with_steps(void)
{
    static char names[][2] = { "1", "2" };
    autoerr err = { 0 };
    struct edit *e = edit_begin("steps");
    for (unsigned i = 0; i < 2; i++) {
        struct edit_step step = { commit, undo, clean, names[i] };
        must(edit_step(e, &step, &err), &err);
    }
    return e;
}

CO_TEST(steps_are_committed_in_order_and_undone_in_reverse)
{
    autoerr err = { 0 };
    must(edit_commit(edit_with_steps(), &err), &err);
    ck_assert_str_eq(story, "commit 1 commit 2 clean 1 clean 2");
    story[0] = 0;
    edit_abort(edit_with_steps());
    ck_assert_str_eq(story, "undo 2 undo 1 clean 1 clean 2");
}

static int co_fn refuse(const struct edit_record *record, struct err *err)
{
    tell("journal");
    co_pause();
    return err_set(err, -ENOSPC, "no room to note '%s'", record->what);
}

static int co_fn accept_all(const struct edit_record *record, struct err *err)
{
    (void)err;
    co_pause();
    tell(record->what);
    for (unsigned i = 0; i < record->count; i++)
        tell(record->changes[i].name);
    return 0;
}

static void co_fn note(struct edit *e, const char *name)
{
    autoerr err = { 0 };
    const struct edit_change change = { .kind = EDIT_NODE_ADDED, .name = name };
    must(edit_note(e, &change, &err), &err);
}

static struct edit *co_fn edit_with_changes(void)
{
    struct edit *e = edit_with_steps();
    note(e, "x");
    note(e, "y");
    return e;
}

CO_TEST(the_journal_comes_before_the_commit_and_may_refuse)
{
    autoerr err = { 0 };
    edit_set_journal(accept_all);
    must(edit_commit(edit_with_changes(), &err), &err);
    ck_assert_str_eq(story, "steps x y commit 1 commit 2 clean 1 clean 2");
    story[0] = 0;
    edit_set_journal(refuse);
    ck_assert_int_eq(edit_commit(edit_with_changes(), &err), -ENOSPC);
    ck_assert_str_eq(err.msg, "no room to note 'steps'");
    ck_assert_str_eq(story, "journal undo 2 undo 1 clean 1 clean 2");
    err_clear(&err);
    story[0] = 0;
    must(edit_commit(edit_with_steps(), &err), &err); /* changes nothing: nothing to refuse */
    ck_assert_str_eq(story, "commit 1 commit 2 clean 1 clean 2");
    story[0] = 0;
    edit_abort(edit_with_changes()); /* and what came to nothing is not recorded by the next */
    edit_set_journal(accept_all);
    must(edit_commit(edit_with_changes(), &err), &err);
    ck_assert_str_eq(story, "undo 2 undo 1 clean 1 clean 2 "
                            "steps x y commit 1 commit 2 clean 1 clean 2");
    edit_set_journal(NULL);
}

CO_TEST(a_record_can_be_written_before_what_may_fail)
{
    autoerr err = { 0 };
    struct edit *e = edit_with_changes();
    edit_set_journal(accept_all);
    must(edit_journal(e, &err), &err);
    tell("now");
    must(edit_commit(e, &err), &err); /* not once more */
    ck_assert_str_eq(story, "steps x y now commit 1 commit 2 clean 1 clean 2");
    edit_set_journal(NULL);
}

CO_TEST(the_journal_is_written_while_the_gates_are_shut)
{
    autoerr err = { 0 };
    struct node *n = add("driver=store,node-name=n");
    struct root *x = root_on("x", ROOT_EXPORT, n, 0, PERM_ALL);
    struct operation o;
    struct edit *e = edit_begin("with gates");
    must(edit_drain(e, n, &err), &err);
    note(e, "n");
    edit_set_journal(refuse); /* it yields */
    ck_assert(!operation_begin(&o, x));
    ck_assert_int_eq(edit_commit(e, &err), -ENOSPC);
    ck_assert(operation_begin(&o, x));
    operation_end(&o);
    edit_set_journal(NULL);
    root_drop(x);
}

CO_TEST(a_refused_journal_undoes_blockdev_add_and_del)
{
    add("driver=null-co,node-name=old");
    edit_set_journal(refuse);
    add_fails("driver=store,node-name=new", "no room to note 'blockdev-add'");
    ck_assert_uint_eq(store.opened, store.closed);
    ck_assert_uint_eq(count_nodes(), 1);
    del_fails("old", "no room to note 'blockdev-del'");
    ck_assert(node_find("old")->monitor_ref);
    edit_set_journal(NULL);
    del("old");
    add("driver=store,node-name=new");
}

/* ---- who is quieted ---- */

static bool is_shut(const struct root *r)
{
    return r->gates[0]->shut;
}

/*
 *   [x]     [y]      [job]  [work]  [other]       work is p's own
 *     \      |       /      /          |
 *      a     b      /      /           c
 *       \   / _____/______/
 *         p
 *         |
 *         q
 */
CO_TEST(a_drain_quiets_what_can_reach_the_place_and_no_more)
{
    autoerr err = { 0 };
    struct node *q = add("driver=store,node-name=q"), *p = add("driver=filter,node-name=p,file=q");
    struct root *x =
        root_on("x", ROOT_EXPORT, add("driver=filter,node-name=a,file=p"), 0, PERM_ALL);
    struct root *y =
        root_on("y", ROOT_EXPORT, add("driver=filter,node-name=b,file=p"), 0, PERM_ALL);
    struct root *job = root_on("job", ROOT_JOB, p, 0, PERM_ALL);
    struct root *other =
        root_on("other", ROOT_EXPORT, add("driver=store,node-name=c"), 0, PERM_ALL);
    struct root *work = root_new("work", ROOT_BACKGROUND, NULL, &err);
    struct edge *edge;
    root_set_background(work, p);
    must(edge_attach(NULL, work, q, "root", ROLE_FILTERED, 0, PERM_ALL, &edge, &err), &err);

    struct edit *e = edit_begin("p");
    must(edit_drain(e, p, &err), &err);
    ck_assert(is_shut(x) && is_shut(y) && is_shut(job) && is_shut(work) && !is_shut(other));
    must(edit_drain(e, node_find("c"), &err), &err);
    ck_assert(is_shut(x) && is_shut(other));
    must(edit_commit(e, &err), &err);
    ck_assert(!is_shut(x) && !is_shut(y) && !is_shut(job) && !is_shut(work) && !is_shut(other));

    e = edit_begin("a");
    must(edit_drain(e, node_find("a"), &err), &err);
    ck_assert(is_shut(x) && !is_shut(y) && !is_shut(job) && !is_shut(work));
    edit_abort(e);
    ck_assert(!is_shut(x));

    /* Those who wait for the work of p, inside, must be gone before it is quiet. */
    e = edit_begin("work");
    must(edit_drain_root(e, work, &err), &err);
    ck_assert(is_shut(work) && is_shut(x) && is_shut(y) && is_shut(job) && !is_shut(other));
    edit_abort(e);

    e = edit_begin("x");
    must(edit_drain_root(e, x, &err), &err);
    ck_assert(is_shut(x) && !is_shut(y) && !is_shut(work));
    edit_abort(e);
    root_drop(work);
    root_drop(x);
    root_drop(y);
    root_drop(job);
    root_drop(other);
}

/* ---- order of shutting ---- */

static void told_begin(struct root *r)
{
    tell(r->name);
    ck_assert(is_shut(r));
}

static void told_end(struct root *r)
{
    ck_assert(!is_shut(r));
    tell("end");
}

static struct root *co_fn background_on(const char *name, struct node *of, struct node *below)
{
    static const struct root_driver driver = { .drain_begin = told_begin, .drain_end = told_end };
    autoerr err = { 0 };
    struct edge *e;
    struct root *r = root_new(name, ROOT_BACKGROUND, &driver, &err);
    root_set_background(r, of);
    must(edge_attach(NULL, r, below, "root", ROLE_FILTERED, 0, PERM_ALL, &e, &err), &err);
    return r;
}

/*
 *   [x]
 *    |        the background work of upper goes through lower, whose own goes to s: upper's is
 *   upper     shut first, whichever was made first
 *    |
 *   lower
 *    |
 *    s
 */
CO_TEST(background_work_is_shut_top_down_after_the_clients)
{
    autoerr err = { 0 };
    static const struct root_driver driver = { .drain_begin = told_begin };
    struct node *s = add("driver=store,node-name=s");
    struct node *lower = add("driver=filter,node-name=lower,file=s");
    struct node *upper = add("driver=filter,node-name=upper,file=lower");
    struct root *low = background_on("low", lower, s);
    struct root *up = background_on("up", upper, lower);
    struct root *x = root_on("x", ROOT_EXPORT, upper, 0, PERM_ALL);
    x->driver = &driver;
    struct edit *e = edit_begin("s");
    must(edit_drain(e, s, &err), &err);
    ck_assert_str_eq(story, "x up low");
    must(edit_commit(e, &err), &err);
    ck_assert_str_eq(story, "x up low end end");
    x->driver = NULL;
    root_drop(low);
    root_drop(up);
    root_drop(x);
}

/* ---- nodes that hold requests ---- */

static void node_begin(struct node *n)
{
    tell("hold");
    tell(n->name);
}

static void node_end(struct node *n)
{
    tell("release");
    tell(n->name);
}

static int co_fn holder_open(struct node *n, const void *options, struct err *err)
{
    (void)n, (void)options, (void)err;
    return 0;
}

static const struct driver holder = { .name = "holder",
                                      .kind = DRIVER_PROTOCOL,
                                      .open = holder_open,
                                      .drain_begin = node_begin,
                                      .drain_end = node_end };

/*
 *      [x]
 *     /   \       a request of x may be held in h2 while the edit is about h1: both are told, once
 *    h1   h2
 */
CO_TEST(nodes_that_may_hold_requests_are_told)
{
    static const struct driver *const list[] = { &holder, NULL };
    autoerr err = { 0 };
    struct edge *second;
    drivers_register(list);
    struct node *h1 = add("driver=holder,node-name=h1"), *h2 = add("driver=holder,node-name=h2");
    add("driver=holder,node-name=h3");
    struct root *x = root_on("x", ROOT_EXPORT, h1, 0, PERM_ALL);
    must(edge_attach(NULL, x, h2, "second", ROLE_MEMBER, 0, PERM_ALL, &second, &err), &err);
    struct edit *e = edit_begin("h1");
    must(edit_drain(e, h1, &err), &err);
    must(edit_drain(e, h2, &err), &err);
    ck_assert_str_eq(story, "hold h1 hold h2");
    must(edit_commit(e, &err), &err);
    ck_assert_str_eq(story, "hold h1 hold h2 release h1 release h2");
    root_drop(x);
}

/* ---- requests inside ---- */

static struct root *busy_root;
static uint64_t busy_for;
static unsigned busy_ended;

static void co_fn busy(void *unused)
{
    struct operation o;
    (void)unused;
    operation_enter(&o, busy_root);
    co_sleep(busy_for);
    operation_end(&o);
    busy_ended++;
}

/* Lets the virtual clock run while the test waits. */
static void advance_soon(struct work *work)
{
    (void)work;
    virtual_advance(1000000000);
}

static void co_fn seconds(unsigned n)
{
    for (; n; n--) {
        struct work work = { .fn = advance_soon };
        ring_post(ring_control(), &work);
        for (unsigned i = 0; i < 20; i++)
            co_pause();
    }
}

static bool drain_ended;
static int drain_result;
static struct err drain_err;

static void co_fn drain_busy(void *arg)
{
    struct edit *e = edit_begin("resize");
    drain_result = edit_drain(e, arg, &drain_err);
    ck_assert(drain_result < 0 || busy_ended);
    edit_abort(e);
    drain_ended = true;
}

CO_TEST(a_drain_waits_for_those_inside)
{
    struct node *n = add("driver=store,node-name=n");
    busy_root = root_on("x", ROOT_EXPORT, n, 0, PERM_ALL);
    busy_for = 5000000000;
    ck_assert_int_eq(ring_spawn(ring_started(1), busy, NULL, "busy"), 0);
    seconds(1);
    ck_assert_int_eq(co_start(drain_busy, n, "drain"), 0);
    seconds(2);
    ck_assert(!drain_ended);
    /* Who comes now waits outside. */
    busy_for = 0;
    ck_assert_int_eq(ring_spawn(ring_started(1), busy, NULL, "busy"), 0);
    seconds(1);
    ck_assert_uint_eq(busy_ended, 0);
    seconds(3);
    ck_assert(drain_ended);
    ck_assert_int_eq(drain_result, 0);
    ck_assert_uint_eq(busy_ended, 2);
    root_drop(busy_root);
}

CO_TEST(a_drain_that_takes_too_long_is_rolled_back)
{
    struct node *n = add("driver=store,node-name=n");
    busy_root = root_on("x", ROOT_EXPORT, n, 0, PERM_ALL);
    busy_for = 40000000000;
    ck_assert_int_eq(ring_spawn(ring_started(2), busy, NULL, "busy"), 0);
    seconds(3);
    ck_assert_int_eq(ring_spawn(ring_started(1), busy, NULL, "busy"), 0);
    seconds(1);
    ck_assert_int_eq(co_start(drain_busy, n, "drain"), 0);
    seconds(29);
    ck_assert(!drain_ended);
    seconds(2);
    ck_assert(drain_ended);
    ck_assert_int_eq(drain_result, -ETIMEDOUT);
    ck_assert_str_eq(drain_err.msg,
                     "resize: cannot quiet 'n': a request of 'x' has been in flight for 34.0 s");
    err_clear(&drain_err);
    for (unsigned i = 0; i <= 2; i++)
        ck_assert(!busy_root->gates[i]->shut && !busy_root->gates[i]->drain);
    seconds(15);
    ck_assert_uint_eq(busy_ended, 2);
    root_drop(busy_root);
}

CO_TEST(the_deadline_can_be_set)
{
    struct node *n = add("driver=store,node-name=n");
    edit_set_drain_deadline(2000000000);
    busy_root = root_on("x", ROOT_EXPORT, n, 0, PERM_ALL);
    busy_for = 10000000000;
    ck_assert_int_eq(ring_spawn(ring_started(2), busy, NULL, "busy"), 0);
    seconds(1);
    ck_assert_int_eq(co_start(drain_busy, n, "drain"), 0);
    seconds(3);
    ck_assert(drain_ended);
    ck_assert_int_eq(drain_result, -ETIMEDOUT);
    err_clear(&drain_err);
    edit_set_drain_deadline(30000000000);
    seconds(8);
    root_drop(busy_root);
}

int main(void)
{
    const TTest *const tests[] = {
        edits_come_one_after_another_in_order,
        steps_are_committed_in_order_and_undone_in_reverse,
        the_journal_comes_before_the_commit_and_may_refuse,
        a_record_can_be_written_before_what_may_fail,
        the_journal_is_written_while_the_gates_are_shut,
        a_refused_journal_undoes_blockdev_add_and_del,
        a_drain_quiets_what_can_reach_the_place_and_no_more,
        background_work_is_shut_top_down_after_the_clients,
        nodes_that_may_hold_requests_are_told,
        a_drain_waits_for_those_inside,
        a_drain_that_takes_too_long_is_rolled_back,
        the_deadline_can_be_set,
        NULL,
    };
    return run_tests("edit", tests);
}
