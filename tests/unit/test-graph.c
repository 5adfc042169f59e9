/* SPDX-License-Identifier: MIT */
/* block/graph.c: permissions, conflicts, cycles, replacing. */
#include "tests/unit/graph-fixture.h"

enum { RW = PERM_READ | PERM_WRITE };

static int co_fn try_root_message(const char *name, struct node *n, unsigned perm, unsigned shared,
                                  const char *message)
{
    autoerr err = { 0 };
    struct root *r;
    int result = try_root(name, ROOT_EXPORT, n, perm, shared, &r, &err);
    ck_assert_int_lt(result, 0);
    ck_assert_str_eq(err.msg, message);
    return result;
}

static void must_set(struct root *r, unsigned perm, unsigned shared)
{
    autoerr err = { 0 };
    must(edge_set_permissions(root_edge(r), perm, shared, &err), &err);
}

/*
 *   [x]   a writer
 *    |
 *    f    format: writes its file whatever happens above, and lets nobody else
 *    |
 *    s
 */
CO_TEST(a_format_has_its_file_for_itself)
{
    struct node *s = add("driver=store,node-name=s");
    struct node *f = add("driver=format,node-name=f,file=s");
    ck_assert_uint_eq(s->perm, PERM_READ | PERM_WRITE | PERM_RESIZE);
    ck_assert_uint_eq(s->shared, PERM_READ | PERM_WRITE_UNCHANGED);
    ck_assert_uint_eq(store.perm, s->perm);
    ck_assert_uint_eq(store.shared, s->shared);
    add_fails("driver=format,node-name=g,file=s",
              "Permission conflict on node 's': permissions 'write, resize' are both required by "
              "node 'f' (uses node 's' as 'file' child) and unshared by node 'g' (uses node 's' as "
              "'file' child).");
    try_root_message("x", s, RW, PERM_ALL,
                     "Permission conflict on node 's': permissions 'write' are both required by "
                     "export 'x' (uses node 's' as 'root' child) and unshared by node 'f' (uses "
                     "node 's' as 'file' child).");
    /* Reading along is fine, as long as it lets the format write. */
    root_drop(root_on("r", ROOT_EXPORT, s, PERM_READ, PERM_ALL));
    try_root_message("y", s, PERM_READ, PERM_ALL & ~(unsigned)PERM_RESIZE,
                     "Permission conflict on node 's': permissions 'resize' are both required by "
                     "node 'f' (uses node 's' as 'file' child) and unshared by export 'y' (uses "
                     "node 's' as 'root' child).");
    struct root *x = root_on("x", ROOT_EXPORT, f, RW, PERM_ALL);
    ck_assert_uint_eq(f->perm, RW);
    root_drop(x);
    ck_assert_uint_eq(f->perm, 0);
    del("f");
    ck_assert_uint_eq(s->perm, 0);
    ck_assert_uint_eq(s->shared, PERM_ALL);
    ck_assert_uint_eq(store.shared, PERM_ALL);
}

CO_TEST(two_who_both_want_it_alone_conflict)
{
    struct node *s = add("driver=store,node-name=s");
    struct root *a = root_on("a", ROOT_EXPORT, s, RW, PERM_READ);
    try_root_message("b", s, RW, PERM_READ,
                     "Permission conflict on node 's': permissions 'write' are both required by "
                     "export 'a' (uses node 's' as 'root' child) and unshared by export 'b' (uses "
                     "node 's' as 'root' child).");
    ck_assert_uint_eq(s->perm, RW);
    must_set(a, RW, PERM_ALL);
    root_drop(root_on("b", ROOT_EXPORT, s, RW, PERM_ALL));
    root_drop(a);
}

CO_TEST(a_read_only_format_does_not_write_its_file)
{
    struct node *s = add("driver=store,node-name=s");
    add("driver=format,node-name=f,file=s,read-only=on");
    add("driver=format,node-name=g,file=s,read-only=on");
    ck_assert_uint_eq(s->perm, PERM_READ);
    add_fails("driver=format,node-name=h,file=s",
              "Permission conflict on node 's': permissions 'write, resize' are both required by "
              "node 'h' (uses node 's' as 'file' child) and unshared by node 'g' (uses node 's' as "
              "'file' child).");
}

/*
 *   [t]    [b]
 *    |      |
 *    top    |      a backing child is read, and shared with readers only
 *    | \    |
 *    tf  base
 *          |
 *          s
 */
CO_TEST(a_backing_child_is_shared_for_reading)
{
    add("driver=store,node-name=s");
    add("driver=store,node-name=tf");
    struct node *base = add("driver=raw,node-name=base,file=s");
    struct node *top = add("driver=format,node-name=top,file=tf,backing=base");
    struct edge *backing = node_child(top, "backing");
    ck_assert_uint_eq(backing->perm, 0);
    struct root *t = root_on("t", ROOT_EXPORT, top, RW, PERM_READ);
    ck_assert_uint_eq(backing->perm, PERM_READ);
    ck_assert_uint_eq(backing->shared, PERM_READ | PERM_WRITE_UNCHANGED);
    try_root_message("b", base, RW, PERM_ALL,
                     "Permission conflict on node 'base': permissions 'write' are both required by "
                     "export 'b' (uses node 'base' as 'root' child) and unshared by node 'top' "
                     "(uses node 'base' as 'backing' child).");
    /* Who lets others write above lets them write below. */
    must_set(t, RW, PERM_ALL);
    ck_assert_uint_eq(backing->shared, PERM_ALL);
    root_drop(root_on("b", ROOT_EXPORT, base, RW, PERM_ALL));
    root_drop(t);
}

/* Copying on write reads what lies below, even for one who only writes or resizes. */
CO_TEST(a_backing_child_is_read_by_whoever_changes_the_overlay)
{
    static const unsigned perms[] = { PERM_WRITE, PERM_RESIZE, PERM_WRITE_UNCHANGED, PERM_READ };
    add("driver=store,node-name=s");
    add("driver=store,node-name=b");
    struct node *f = add("driver=format,node-name=f,file=s,backing=b");
    ck_assert_uint_eq(node_child(f, "backing")->perm, 0);
    for (unsigned i = 0; i < 4; i++) {
        struct root *x = root_on("x", ROOT_JOB, f, perms[i], PERM_ALL);
        ck_assert_uint_eq(node_child(f, "backing")->perm, PERM_READ);
        root_drop(x);
    }
    ck_assert_uint_eq(node_child(f, "backing")->perm, 0);
}

CO_TEST(filters_hand_permissions_down)
{
    struct node *s = add("driver=store,node-name=s");
    add("driver=filter,node-name=f1,file=s");
    struct node *f2 = add("driver=filter,node-name=f2,file=f1");
    struct root *r = root_on("r", ROOT_EXPORT, f2, RW, PERM_READ | PERM_WRITE);
    ck_assert_uint_eq(s->perm, RW);
    ck_assert_uint_eq(s->shared, PERM_READ | PERM_WRITE);
    must_set(r, PERM_READ, PERM_ALL);
    ck_assert_uint_eq(s->perm, PERM_READ);
    ck_assert_uint_eq(store.perm, PERM_READ);
    ck_assert_uint_eq(store.shared, PERM_ALL);
    root_drop(r);
}

CO_TEST(force_share_shares_all)
{
    struct node *s = add("driver=store,node-name=s,read-only=on,force-share=on");
    add("driver=format,node-name=f,file=s,read-only=on");
    ck_assert_uint_eq(s->shared, PERM_ALL);
}

CO_TEST(a_drivers_refusal_undoes_everything)
{
    struct node *s = add("driver=store,node-name=s"), *f = add("driver=filter,node-name=f,file=s");
    store.refuse = PERM_WRITE;
    memset(store.phases, 0, sizeof store.phases);
    try_root_message("x", f, RW, PERM_ALL, "store 's' refuses");
    ck_assert_uint_eq(store.phases[PERM_PREPARE], 1);
    ck_assert_uint_eq(store.phases[PERM_COMMIT], 0);
    ck_assert_uint_eq(store.phases[PERM_ABORT], 0); /* what failed undid itself */
    ck_assert_uint_eq(f->perm, 0);
    ck_assert(list_empty(&f->parents));
    ck_assert_uint_eq(node_child(f, "file")->perm, 0);
    ck_assert_uint_eq(s->perm, 0);
    struct root *r = root_on("r", ROOT_EXPORT, f, PERM_READ, PERM_ALL);
    autoerr err = { 0 };
    ck_assert_int_eq(edge_set_permissions(root_edge(r), RW, PERM_ALL, &err), -EAGAIN);
    ck_assert_uint_eq(root_edge(r)->perm, PERM_READ);
    ck_assert_uint_eq(s->perm, PERM_READ);
    root_drop(r);
}

/*
 *      [x]
 *       |
 *       two        one of its two children refuses: the other one's PREPARE is undone
 *      /   \
 *     s     s2
 */
CO_TEST(one_refusal_aborts_the_prepared)
{
    struct node *s = add("driver=store,node-name=s");
    add("driver=store,node-name=s2");
    struct node *two = add("driver=filter,node-name=two,file=s");
    struct edge *e;
    autoerr err = { 0 };
    must(edge_attach(two, NULL, node_find("s2"), "second", ROLE_MEMBER, 0, PERM_ALL, &e, &err),
         &err);
    memset(store.phases, 0, sizeof store.phases);
    store.refuse = PERM_WRITE;
    store.refuser = "s2";
    try_root_message("x", two, RW, PERM_ALL, "store 's2' refuses");
    ck_assert_uint_eq(store.phases[PERM_PREPARE], 2);
    ck_assert_uint_eq(store.phases[PERM_ABORT], 1);
    ck_assert_uint_eq(store.phases[PERM_COMMIT], 0);
    ck_assert_uint_eq(s->perm, 0);
    ck_assert_uint_eq(e->perm, 0);
}

CO_TEST(read_only_nodes_have_no_writers)
{
    add("driver=null-co,node-name=n,read-only=on");
    struct node *r = add("driver=raw,node-name=r,file=n");
    try_root_message("x", r, RW, PERM_ALL, "Block node is read-only: 'n'");
    root_drop(root_on("x", ROOT_EXPORT, r, PERM_READ, PERM_ALL));
}

CO_TEST(auto_read_only_gives_way_to_a_writer)
{
    struct node *s = add("driver=store,node-name=s,auto-read-only=on");
    s->read_only = true; /* as an opening that fell back leaves it */
    store.refuse = PERM_WRITE;
    try_root_message("x", s, RW, PERM_ALL, "store 's' refuses");
    ck_assert(s->read_only);
    store.refuse = 0;
    root_drop(root_on("x", ROOT_EXPORT, s, RW, PERM_ALL));
    ck_assert(!s->read_only);
}

CO_TEST(cycles_are_refused)
{
    struct node *a = add("driver=filter,node-name=a,file.driver=store,file.node-name=s");
    struct node *b = add("driver=filter,node-name=b,file=a");
    struct node *c = add("driver=filter,node-name=c,file=b");
    struct edge *e;
    autoerr err = { 0 }, self = { 0 }, moved = { 0 };
    ck_assert_int_eq(edge_attach(a, NULL, c, "loop", ROLE_FILTERED, 0, PERM_ALL, &e, &err), -ELOOP);
    ck_assert_str_eq(err.msg, "Making 'c' a loop child of 'a' would create a cycle");
    ck_assert_int_eq(edge_attach(a, NULL, a, "loop", ROLE_FILTERED, 0, PERM_ALL, &e, &self),
                     -ELOOP);
    struct edge *file = node_child(a, "file");
    ck_assert_int_eq(edges_replace(&file, 1, b, &moved), -ELOOP);
    ck_assert_ptr_eq(node_child(a, "file")->child, node_find("s"));
    ck_assert_uint_eq(c->refs, 1);
}

/*
 *   [x]  [y]        [x]  [y]
 *      \ /             \ /
 *       s      ->       f       both roots at once, with f put in between
 *                       |
 *                       s
 */
CO_TEST(replacing_moves_all_edges_and_their_needs)
{
    struct node *s = add("driver=store,node-name=s"), *f = add("driver=filter,node-name=f,file=s");
    struct root *x = root_on("x", ROOT_EXPORT, s, RW, PERM_READ | PERM_WRITE);
    struct root *y = root_on("y", ROOT_EXPORT, s, PERM_READ, PERM_ALL);
    struct edge *edges[] = { root_edge(x), root_edge(y) };
    autoerr err = { 0 };
    unsigned refs = s->refs;
    must(edges_replace(edges, 2, f, &err), &err);
    ck_assert_ptr_eq(root_node(x), f);
    ck_assert_ptr_eq(root_node(y), f);
    ck_assert_uint_eq(f->perm, RW);
    ck_assert_uint_eq(s->perm, RW);
    ck_assert_uint_eq(s->shared, PERM_READ | PERM_WRITE);
    ck_assert_uint_eq(s->refs, refs - 2);
    must(edges_replace(edges, 2, s, &err), &err);
    ck_assert_uint_eq(f->perm, 0);
    ck_assert_uint_eq(s->perm, RW);
    root_drop(x);
    root_drop(y);
}

CO_TEST(a_refused_replacement_changes_nothing)
{
    struct node *s = add("driver=store,node-name=s"),
                *ro = add("driver=null-co,node-name=n,read-only=on");
    struct root *x = root_on("x", ROOT_EXPORT, s, RW, PERM_ALL);
    struct edge *e = root_edge(x);
    autoerr err = { 0 };
    ck_assert_int_lt(edges_replace(&e, 1, ro, &err), 0);
    ck_assert_str_eq(err.msg, "Block node is read-only: 'n'");
    ck_assert_ptr_eq(root_node(x), s);
    ck_assert_uint_eq(s->perm, RW);
    ck_assert_uint_eq(ro->perm, 0);
    ck_assert_uint_eq(ro->refs, 1);
    root_drop(x);
}

/*
 *        [x]
 *         |
 *        top
 *        /  \           a diamond: s gets the sum of what comes down both ways
 *       l    r
 *        \  /
 *         s
 */
CO_TEST(a_diamond_sums_both_ways)
{
    struct node *s = add("driver=store,node-name=s");
    add("driver=filter,node-name=l,file=s");
    add("driver=filter,node-name=r,file=s");
    struct node *top = add("driver=filter,node-name=top,file=l,backing=r");
    struct root *x = root_on("x", ROOT_EXPORT, top, RW, PERM_ALL);
    ck_assert_uint_eq(node_find("l")->perm, RW);
    ck_assert_uint_eq(node_find("r")->perm, PERM_READ);
    ck_assert_uint_eq(s->perm, RW);
    must_set(x, PERM_READ, PERM_READ);
    ck_assert_uint_eq(s->perm, PERM_READ);
    ck_assert_uint_eq(s->shared, PERM_READ);
    root_drop(x);
    ck_assert_uint_eq(s->shared, PERM_ALL);
}

/*
 *   top            the middle of a long chain: what is put in there counts for all above
 *    :
 *   m  ->  m
 *    |     |
 *    s     tall
 */
CO_TEST(depth_counts_from_the_top)
{
    enum { HALF = GRAPH_DEPTH_MAX / 2 };
    char text[80];
    autoerr err = { 0 };
    struct node *s = add("driver=store,node-name=s"), *tall = add("driver=store,node-name=t0");
    add("driver=filter,node-name=m0,file=s");
    for (unsigned i = 1; i <= HALF; i++) {
        snprintf(text, sizeof text, "driver=filter,node-name=m%u,file=m%u", i, i - 1);
        add(text);
        snprintf(text, sizeof text, "driver=filter,node-name=t%u,file=t%u", i, i - 1);
        tall = add(text);
    }
    struct edge *e = node_child(node_find("m0"), "file"), *more;
    ck_assert_int_eq(edges_replace(&e, 1, tall, &err), -EMLINK);
    ck_assert_ptr_eq(e->child, s);
    ck_assert_uint_eq(node_find("m256")->walk.height, HALF + 1);
    err_clear(&err);
    ck_assert_int_eq(
        edge_attach(node_find("m0"), NULL, tall, "more", ROLE_MEMBER, 0, PERM_ALL, &more, &err),
        -EMLINK);
    ck_assert_uint_eq(node_find("m256")->walk.height, HALF + 1);
    err_clear(&err);
    must(edges_replace(&e, 1, node_find("t200"), &err), &err);
    ck_assert_uint_eq(node_find("m256")->walk.height, HALF + 201);
}

/* ---- news from below ---- */

static unsigned resized_calls;
static uint64_t resized_to;

static void resized(struct root *r, uint64_t size)
{
    (void)r;
    resized_calls++;
    resized_to = size;
}

CO_TEST(roots_hear_of_a_new_size_once)
{
    static const struct root_driver listens = { .resized = resized };
    struct node *s = add("driver=store,node-name=s");
    add("driver=filter,node-name=f,file=s");
    add("driver=raw,node-name=r,file=f,offset=512");
    struct node *w = add("driver=raw,node-name=w,file=s,size=4096");
    struct root *x = root_on("x", ROOT_EXPORT, node_find("r"), PERM_READ, PERM_ALL);
    struct root *y = root_on("y", ROOT_EXPORT, w, PERM_READ, PERM_ALL);
    x->driver = y->driver = &listens;
    atomic_store(&s->size, 8192);
    s->limits.alignment = 4096;
    node_changed(s);
    ck_assert_uint_eq(resized_calls, 1);
    ck_assert_uint_eq(resized_to, 8192 - 512);
    ck_assert_uint_eq(node_size(node_find("r")), 8192 - 512);
    ck_assert_uint_eq(node_size(w), 4096);
    ck_assert_uint_eq(w->limits.alignment, 4096);
    ck_assert_uint_eq(node_find("r")->limits.alignment, 1); /* 512 is no multiple of 4096 */
    root_drop(x);
    root_drop(y);
}

CO_TEST(a_window_keeps_its_file_from_being_resized)
{
    struct node *s = add("driver=store,node-name=s");
    add("driver=raw,node-name=w,file=s,size=4096");
    try_root_message("x", s, PERM_RESIZE, PERM_ALL,
                     "Permission conflict on node 's': permissions 'resize' are both required by "
                     "export 'x' (uses node 's' as 'root' child) and unshared by node 'w' (uses "
                     "node 's' as 'file' child).");
    del("w");
    add("driver=raw,node-name=w,file=s,offset=4096");
    root_drop(root_on("x", ROOT_EXPORT, s, PERM_RESIZE, PERM_ALL));
}

int main(void)
{
    const TTest *const tests[] = {
        a_format_has_its_file_for_itself,
        two_who_both_want_it_alone_conflict,
        a_read_only_format_does_not_write_its_file,
        a_backing_child_is_shared_for_reading,
        a_backing_child_is_read_by_whoever_changes_the_overlay,
        filters_hand_permissions_down,
        force_share_shares_all,
        a_drivers_refusal_undoes_everything,
        one_refusal_aborts_the_prepared,
        read_only_nodes_have_no_writers,
        auto_read_only_gives_way_to_a_writer,
        cycles_are_refused,
        replacing_moves_all_edges_and_their_needs,
        a_refused_replacement_changes_nothing,
        a_diamond_sums_both_ways,
        depth_counts_from_the_top,
        roots_hear_of_a_new_size_once,
        a_window_keeps_its_file_from_being_resized,
        NULL,
    };
    return run_tests("graph", tests);
}
