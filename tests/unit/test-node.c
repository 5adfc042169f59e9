/* SPDX-License-Identifier: MIT */
/* block/node.c: names, opening with inline children, the parts that rings keep, closing. */
#include "tests/unit/graph-fixture.h"

CO_TEST(names_follow_the_rules)
{
    char longest[NODE_NAME_MAX + 1], longer[NODE_NAME_MAX + 2], text[200];
    memset(longest, 'a', NODE_NAME_MAX);
    longest[NODE_NAME_MAX] = 0;
    memset(longer, 'a', NODE_NAME_MAX + 1);
    longer[NODE_NAME_MAX + 1] = 0;
    add("driver=null-co,node-name=Az09-._");
    snprintf(text, sizeof text, "driver=null-co,node-name=%s", longest);
    add(text);
    snprintf(text, sizeof text, "driver=null-co,node-name=%s", longer);
    add_fails(text, "Node name too long");
    static const char *const bad[] = { "1a", "#b", "a b", "a/b", "_a", "\xc3\xa4", "a\n" };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        char message[80];
        snprintf(text, sizeof text, "driver=null-co,node-name=%s", bad[i]);
        snprintf(message, sizeof message, "Invalid node-name: '%s'", bad[i]);
        add_fails(text, message);
    }
    add_fails("{'driver':'null-co','node-name':''}", "Invalid node-name: ''");
    add_fails("driver=null-co", "'node-name' must be specified for the root node");
}

CO_TEST(a_name_is_taken_once)
{
    add("driver=null-co,node-name=a");
    add_fails("driver=null-co,node-name=a", "Duplicate nodes with node-name='a'");
    add_fails("driver=raw,node-name=b,file.driver=null-co,file.node-name=b",
              "Duplicate nodes with node-name='b'");
    ck_assert_uint_eq(count_nodes(), 1);
    add("driver=null-co,node-name=b");
}

CO_TEST(an_exports_id_is_no_name_for_another_node)
{
    autoerr err = { 0 };
    struct node *a = add("driver=null-co,node-name=a");
    struct root *r, *same = root_on("a", ROOT_EXPORT, a, PERM_READ, PERM_ALL);
    struct root *x = root_on("x", ROOT_EXPORT, a, PERM_READ, PERM_ALL);
    add_fails("driver=null-co,node-name=x", "node-name=x is conflicting with a device id");
    add("driver=null-co,node-name=y");
    ck_assert_int_eq(try_root("y", ROOT_EXPORT, a, PERM_READ, PERM_ALL, &r, &err), -EEXIST);
    ck_assert_str_eq(err.msg, "Device name 'y' conflicts with an existing node name");
    root_drop(x);
    root_drop(same);
    add("driver=null-co,node-name=x");
}

/*
 *   r          r is the user's, its file gets a number for a name
 *   | file
 *   #blockNNN
 */
CO_TEST(an_inline_child_lives_with_its_parent)
{
    struct node *r = add("driver=raw,node-name=r,file.driver=null-co");
    struct node *child = node_child(r, "file")->child;
    ck_assert_uint_eq(count_nodes(), 2);
    ck_assert_int_eq(strncmp(child->name, "#block", 6), 0);
    ck_assert_uint_ge(strlen(child->name), strlen("#block000"));
    ck_assert(!child->named);
    ck_assert_ptr_eq(node_find(child->name), child);
    ck_assert_str_eq(node_label(child), "null-co://");
    ck_assert_str_eq(node_label(r), "r");
    ck_assert_ptr_eq(node_first(), child); /* the oldest first */
    ck_assert_ptr_eq(node_next(child), r);
    del("r");
    ck_assert_uint_eq(count_nodes(), 0);
}

CO_TEST(a_child_by_name_outlives_its_parent)
{
    add("driver=store,node-name=s");
    add("driver=raw,node-name=r,file=s");
    del("r");
    ck_assert_ptr_nonnull(node_find("s"));
    ck_assert_uint_eq(store.closed, 0);
    del("s");
    ck_assert_uint_eq(store.closed, 1);
}

CO_TEST(a_reference_must_exist)
{
    add_fails("driver=raw,node-name=r,file=nope", "Cannot find device='nope' nor node-name='nope'");
    add_fails("driver=raw,node-name=r,file=r", "Cannot find device='r' nor node-name='r'");
    add_fails("{'driver':'raw','node-name':'r','file':''}",
              "Cannot find device='' nor node-name=''");
    /* Within one tree, too: what is not whole yet can't be used. */
    add_fails("driver=raw,node-name=r,file.driver=raw,file.file=r",
              "Cannot find device='r' nor node-name='r'");
    ck_assert_uint_eq(count_nodes(), 0);
}

CO_TEST(a_reference_may_name_an_export)
{
    struct node *a = add("driver=null-co,node-name=a");
    struct root *x = root_on("dev", ROOT_EXPORT, a, PERM_READ, PERM_ALL);
    struct node *r = add("driver=raw,node-name=r,file=dev");
    ck_assert_ptr_eq(node_child(r, "file")->child, a);
    root_drop(x);
}

CO_TEST(a_failed_opening_leaves_nothing)
{
    add_fails("driver=raw,node-name=r,size=511,file.driver=store,file.node-name=s",
              "Specified size is not multiple of 512");
    ck_assert_uint_eq(store.opened, 1);
    ck_assert_uint_eq(store.closed, 1);
    ck_assert_uint_eq(count_nodes(), 0);
    add("driver=raw,node-name=r,file.driver=store,file.node-name=s");
}

static void co_fn add_slow(void *unused)
{
    autoerr err = { 0 };
    (void)unused;
    must(try_add("driver=filter,node-name=f,file.driver=slow,file.node-name=s", &err), &err);
}

static int co_fn slow_open(struct node *n, const void *options, struct err *err)
{
    (void)n, (void)options, (void)err;
    co_pause();
    co_pause();
    return 0;
}

static const struct driver slow = { .name = "slow", .kind = DRIVER_PROTOCOL, .open = slow_open };

CO_TEST(nobody_sees_a_tree_that_is_not_whole)
{
    static const struct driver *const list[] = { &slow, NULL };
    drivers_register(list);
    ck_assert_int_eq(co_enter(add_slow, NULL, "slow add"), 0);
    ck_assert_ptr_null(node_find("s"));
    ck_assert_ptr_null(node_first());
    add_fails("driver=null-co,node-name=s", "Duplicate nodes with node-name='s'");
    add_fails("driver=raw,node-name=x,file=f", "Cannot find device='f' nor node-name='f'");
    while (!node_find("f"))
        co_pause();
    ck_assert_ptr_nonnull(node_find("s"));
    while (!node_find("f")->monitor_ref)
        co_pause();
}

/* An inline tree or a chain may be as deep as the user likes: no recursion on one stack. */
CO_TEST(deep_inline_trees_fit)
{
    enum { DEPTH = 120 }; /* the row parser takes 128 structs inside each other */
    static char text[DEPTH * 32];
    size_t used = (size_t)sprintf(text, "{'driver':'raw','node-name':'deep'");
    for (unsigned i = 0; i < DEPTH; i++)
        used += (size_t)sprintf(text + used, ",'file':{'driver':'raw'");
    used += (size_t)sprintf(text + used, ",'file':{'driver':'store'}");
    for (unsigned i = 0; i < DEPTH; i++)
        text[used++] = '}';
    text[used++] = '}';
    text[used] = 0;
    autoerr err = { 0 };
    must(try_add(text, &err), &err);
    ck_assert_uint_eq(count_nodes(), DEPTH + 2);
    del("deep");
    ck_assert_uint_eq(count_nodes(), 0);
}

CO_TEST(long_chains_of_named_nodes_fit)
{
    enum { DEPTH = GRAPH_DEPTH_MAX - 1 };
    char text[80], message[80];
    add("driver=store,node-name=n0");
    for (unsigned i = 1; i <= DEPTH; i++) {
        snprintf(text, sizeof text, "driver=raw,node-name=n%u,file=n%u", i, i - 1);
        add(text);
    }
    snprintf(text, sizeof text, "driver=raw,node-name=more,file=n%u", DEPTH);
    snprintf(message, sizeof message, "Node 'more' would be part of a chain of more than %u nodes",
             DEPTH + 1);
    add_fails(text, message);
    struct node *top = node_find("n511");
    struct root *r = root_on("x", ROOT_EXPORT, top, PERM_READ | PERM_WRITE, PERM_ALL);
    ck_assert_uint_eq(store.perm, PERM_READ | PERM_WRITE);
    ck_assert(node_under_root(node_find("n0"), r));
    node_changed(node_find("n0"));
    root_drop(r);
    for (unsigned i = 0; i <= DEPTH; i++) /* only the last reference of the top is left */
        node_find((snprintf(text, sizeof text, "n%u", i), text))->monitor_ref = false;
    struct node *below = node_find("n0");
    while (below != top) {
        struct edge *up = container_of(below->parents.next, struct edge, in_child);
        node_unref(below);
        below = up->parent_node;
    }
    node_unref(top);
    ck_assert_uint_eq(count_nodes(), 0);
}

/* ---- channels ---- */

static unsigned channels_open, channels_made;

static int co_fn channel_open(struct node *n, void *channel)
{
    (void)n;
    *(unsigned *)channel = ring_index(this_ring);
    channels_made++;
    co_pause(); /* others come meanwhile */
    channels_open++;
    return 0;
}

static void co_fn channel_close(struct node *n, void *channel)
{
    (void)n;
    ck_assert_uint_eq(*(unsigned *)channel, ring_index(this_ring));
    channels_open--;
}

static int co_fn channel_use(void *arg)
{
    void *channel;
    ck_assert_int_eq(node_channel(arg, &channel), 0);
    ck_assert_uint_eq(*(unsigned *)channel, ring_index(this_ring));
    return 0;
}

static int co_fn channel_use_twice(void *arg)
{
    struct co_group g = { 0 };
    ck_assert_int_eq(co_group_start(&g, channel_use, arg, "first"), 0);
    ck_assert_int_eq(co_group_start(&g, channel_use, arg, "second"), 0);
    return co_group_wait(&g);
}

static const struct driver channelled = {
    .name = "channelled",
    .kind = DRIVER_PROTOCOL,
    .open = slow_open,
    .channel_size = sizeof(unsigned),
    .channel_open = channel_open,
    .channel_close = channel_close,
};

CO_TEST(a_ring_has_one_channel_closed_where_it_was_opened)
{
    static const struct driver *const list[] = { &channelled, NULL };
    drivers_register(list);
    struct node *n = add("driver=channelled,node-name=c");
    ck_assert_int_eq(ring_call(ring_started(1), channel_use_twice, n), 0);
    ck_assert_int_eq(ring_call(ring_started(2), channel_use_twice, n), 0);
    ck_assert_int_eq(ring_call(ring_started(2), channel_use, n), 0);
    ck_assert_uint_eq(channels_made, 2);
    ck_assert_uint_eq(channels_open, 2);
    del("c");
    ck_assert_uint_eq(channels_open, 0);
}

/* ---- read-only ---- */

static int co_fn stubborn_open(struct node *n, const void *options, struct err *err)
{
    (void)options;
    return node_fall_back_to_read_only(n, "stubborn does not support writes", err);
}

static const struct driver stubborn = { .name = "stubborn",
                                        .kind = DRIVER_PROTOCOL,
                                        .open = stubborn_open };
static const struct driver dead = {
    .name = "dead", .kind = DRIVER_PROTOCOL, .flags = DRIVER_READ_ONLY, .open = slow_open
};

CO_TEST(what_cannot_write_is_read_only_if_that_was_allowed)
{
    static const struct driver *const list[] = { &stubborn, &dead, NULL };
    drivers_register(list);
    add_fails("driver=stubborn,node-name=s", "stubborn does not support writes");
    add_fails("driver=dead,node-name=d", "Image is read-only");
    ck_assert(add("driver=stubborn,node-name=s,auto-read-only=on")->read_only);
    ck_assert(add("driver=dead,node-name=d,auto-read-only=on")->read_only);
    ck_assert(add("driver=dead,node-name=e,read-only=on")->read_only);
}

CO_TEST(a_size_that_no_sum_could_hold_is_refused)
{
    add_fails("driver=null-co,node-name=n,size=9223372036854775807",
              "Could not refresh total sector count: File too large");
    ck_assert_uint_eq(node_size(add("driver=null-co,node-name=n,size=4611686018427387904")),
                      (uint64_t)1 << 62);
}

int main(void)
{
    const TTest *const tests[] = {
        names_follow_the_rules,
        a_name_is_taken_once,
        an_exports_id_is_no_name_for_another_node,
        an_inline_child_lives_with_its_parent,
        a_child_by_name_outlives_its_parent,
        a_reference_must_exist,
        a_reference_may_name_an_export,
        a_failed_opening_leaves_nothing,
        nobody_sees_a_tree_that_is_not_whole,
        deep_inline_trees_fit,
        long_chains_of_named_nodes_fit,
        a_ring_has_one_channel_closed_where_it_was_opened,
        what_cannot_write_is_read_only_if_that_was_allowed,
        a_size_that_no_sum_could_hold_is_refused,
        NULL,
    };
    return run_tests("node", tests);
}
