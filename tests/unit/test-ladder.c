/* SPDX-License-Identifier: MIT */
/*
 * A ladder of nodes with two children each: from the top 2^40 ways lead to the
 * bottom.  Whatever walks the graph comes to each node once.
 */
#include "tests/unit/io-fixture.h"

#include "block/track.h"

enum { LEVELS = 40 };

struct fork_options {
    struct row_choice left, right;
};

static const struct row fork_rows[] = {
    ROW_REQ(struct fork_options, "left", left, row_blockdev_ref, .help = "One child"),
    ROW_REQ(struct fork_options, "right", right, row_blockdev_ref, .help = "The other"), ROW_END
};
static const ROW_STRUCT_TYPE(fork_type, "ForkOptions", struct fork_options, fork_rows);

static unsigned fork_flushes, last_height;

static void fork_refresh(struct node *n)
{
    atomic_store(&n->size, node_size(node_child(n, "left")->child));
}

static int co_fn fork_open(struct node *n, const void *options, struct err *err)
{
    const struct fork_options *o = options;
    struct edge *e;
    if (node_open_child(n, "left", ROLE_MEMBER, &o->left, &e, err) < 0 ||
        node_open_child(n, "right", ROLE_MEMBER, &o->right, &e, err) < 0)
        return err->code;
    fork_refresh(n);
    return 0;
}

/* Who is above is flushed before: its flush may write below. */
static int co_fn fork_flush(struct node *n, struct operation *o)
{
    (void)o;
    EXPECT(n->walk.height <= last_height);
    last_height = n->walk.height;
    fork_flushes++;
    return 0;
}

static const struct driver fork_driver = {
    .name = "fork",
    .kind = DRIVER_FORMAT,
    .options = &fork_type,
    .open = fork_open,
    .refresh = fork_refresh,
    .flush = fork_flush,
};
static const struct driver *const ladder_drivers[] = { &fork_driver, NULL };

static struct node *co_fn build(struct disk *d, struct node **bottom)
{
    char text[128];
    *bottom = mem_node("driver=mem,node-name=l0", d, 1 << 20, (struct limits){ .alignment = 4096 });
    add("driver=store,node-name=r0");
    for (unsigned i = 1; i <= LEVELS; i++) {
        static const char sides[] = { 'l', 'r' };
        for (unsigned j = 0; j < 2; j++) {
            snprintf(text, sizeof text, "driver=fork,node-name=%c%u,left=l%u,right=r%u", sides[j],
                     i, i - 1, i - 1);
            add(text);
        }
    }
    snprintf(text, sizeof text, "l%u", LEVELS);
    return node_find(text);
}

static unsigned count_tracked(void)
{
    unsigned count = 0;
    for (struct node *n = node_first(); n; n = node_next(n))
        count += n->tracking != NULL;
    return count;
}

static void take_down(void)
{
    char name[16];
    for (unsigned i = LEVELS + 1; i-- > 0;) {
        snprintf(name, sizeof name, "l%u", i);
        del(name);
        snprintf(name, sizeof name, "r%u", i);
        del(name);
    }
}

RING_TEST(a_flush_comes_to_each_node_once_from_the_top)
{
    struct node *bottom;
    struct disk *d = disk_new(1 << 20);
    struct node *top = build(d, &bottom);
    struct root *r = root_on("x", ROOT_EXPORT, top, PERM_READ, PERM_ALL);
    ck_assert_uint_eq(top->walk.height, LEVELS);
    last_height = LEVELS;
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(fork_flushes, 2 * LEVELS - 1);
    ck_assert_uint_eq(d->flushes, 1);
    root_drop(r);
    take_down();
    disk_free(d);
}

RING_TEST(tracking_covers_each_node_once_and_leaves_it_again)
{
    struct node *bottom;
    autoerr err = { 0 };
    struct disk *d = disk_new(1 << 20);
    struct node *top = build(d, &bottom), *half = node_find("r20");
    ck_assert(track_needed(top, 1) && track_needed(top, 512));
    must(track_require(top, &err), &err);
    ck_assert_uint_eq(count_tracked(), 2 * LEVELS + 1);
    must(track_require(half, &err), &err);
    track_release(top);
    ck_assert_uint_eq(count_tracked(), 2 * 20 + 1);
    ck_assert(half->tracking && bottom->tracking && !node_find("l20")->tracking);
    /* What an edit puts above or below comes along. */
    add("driver=fork,node-name=late,left=r20,right=l20");
    root_drop(root_on("x", ROOT_EXPORT, node_find("late"), PERM_READ, PERM_ALL));
    ck_assert_uint_eq(count_tracked(), 2 * 20 + 1);
    del("late");
    track_release(half);
    ck_assert_uint_eq(count_tracked(), 0);
    take_down();
    disk_free(d);
}

RING_TEST(news_and_names_end)
{
    struct node *bottom;
    struct disk *d = disk_new(1 << 20);
    struct node *top = build(d, &bottom);
    char *name = node_filename(top);
    ck_assert_ptr_nonnull(name);
    ck_assert_uint_lt(strlen(name), 128 << 10);
    free(name);
    atomic_store(&bottom->size, 1 << 19);
    node_changed(bottom);
    ck_assert_uint_eq(node_size(top), 1 << 19);
    take_down();
    disk_free(d);
}

/* Permissions on the way down, a drain on the way up, the question who is under whom. */
RING_TEST(edits_end)
{
    struct node *bottom;
    autoerr err = { 0 };
    struct disk *d = disk_new(1 << 20);
    struct node *top = build(d, &bottom);
    struct root *r = root_on("x", ROOT_EXPORT, top, RW, PERM_ALL);
    ck_assert(node_under_root(bottom, r));
    ck_assert(bottom->perm & PERM_WRITE);
    must(threshold_set(bottom, 4096, &err), &err);
    must(edge_set_permissions(root_edge(r), PERM_READ, PERM_ALL, &err), &err);
    ck_assert(!(bottom->perm & PERM_WRITE));
    root_drop(r);
    take_down();
    disk_free(d);
}

int main(void)
{
    const TTest *const tests[] = {
        a_flush_comes_to_each_node_once_from_the_top,
        tracking_covers_each_node_once_and_leaves_it_again,
        news_and_names_end,
        edits_end,
        NULL,
    };
    drivers_register(ladder_drivers);
    return run_tests("ladder", tests);
}
