/* SPDX-License-Identifier: MIT */
/*
 * Requests on real rings while the graph changes at full speed: nodes come and
 * go, a filter is put above the node in use and taken out, roots come and go.
 * Requests read plain variables that edits write, so ThreadSanitizer sees it
 * when a drain lets somebody through.
 */
#include "block/io.h"
#include "tests/unit/graph-fixture.h"
#include "uring/await.h"

enum { RINGS = 3, WORKERS_PER_RING = 4, ROOTS = 3 };

static struct root *roots[ROOTS];
static _Atomic bool stop;
static _Atomic unsigned workers;
static _Atomic uint64_t requests;
static uint64_t version, other_version; /* of what is above `base`: changed with its gates shut */
static unsigned edits;

static uint64_t test_ns(void)
{
    const char *full = getenv("RINGBLK_FULL");
    return (full && *full == '1' ? 60 : 4) * (uint64_t)1000000000;
}

/* ---- requests ---- */

static void check_version(uint64_t seen)
{
    ck_assert_uint_eq(version, seen);
    ck_assert_uint_eq(other_version, seen);
}

static void co_fn one_request(struct root *r, unsigned kind, bool on_base)
{
    static __thread uint8_t buf[4096];
    struct span v = { .p = buf, .len = sizeof buf };
    struct operation o;
    struct shortcut s;
    operation_enter(&o, r);
    uint64_t seen = on_base ? version : 0;
    struct edge *e = root_edge(r);
    int result = 0;
    switch (kind % 4) {
    case 0: result = io_read(&o, e, 0, &v, 1, 0); break;
    case 1: result = io_write(&o, e, 4096, &v, 1, 0); break;
    case 2: result = io_flush(&o, e); break;
    default:
        if (r->shortcut_read && shortcut_find(r, false, 0, 4096, 0, &s)) {
            co_pause();
            shortcut_done(&s, false, 4096, 0);
        }
    }
    ck_assert_int_eq(result, 0);
    if (on_base)
        check_version(seen);
    operation_end(&o);
    atomic_fetch_add_explicit(&requests, 1, memory_order_relaxed);
}

static void co_fn work(void *arg)
{
    unsigned number = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        one_request(roots[(number + i) % ROOTS], number + i / 7, true);
        if (i % 16 == 0)
            co_pause();
    }
    atomic_fetch_sub(&workers, 1);
}

/* A client that queues a struct at the gate, not a coroutine. */
struct queued_client {
    struct gate_waiter waiter;
    struct work again;
    struct operation o;
    struct root *root;
};

static void queued_enter(struct queued_client *c)
{
    if (!operation_begin(&c->o, c->root)) {
        gate_queue(c->root, &c->waiter);
        return;
    }
    check_version(version);
    operation_end(&c->o);
    if (atomic_load(&stop))
        atomic_fetch_sub(&workers, 1);
    else
        ring_defer(&c->again);
}

static void queued_again(struct work *work)
{
    queued_enter(container_of(work, struct queued_client, again));
}

static void queued_opened(struct gate_waiter *w)
{
    queued_enter(container_of(w, struct queued_client, waiter));
}

/* ---- edits ---- */

static void change_version(void)
{
    version++;
    co_pause();
    other_version++;
}

static void co_fn move_roots(struct node *from, struct node *to)
{
    autoerr err = { 0 };
    struct edge *edges[ROOTS];
    struct edit *e = edit_begin("move");
    must(edit_drain(e, from, &err), &err);
    for (unsigned i = 0; i < ROOTS; i++)
        edges[i] = root_edge(roots[i]);
    must(edges_replace(edges, ROOTS, to, &err), &err);
    change_version();
    must(edit_commit(e, &err), &err);
    edits++;
}

static void co_fn put_in_and_take_out(void *unused)
{
    struct node *base = node_find("base");
    (void)unused;
    while (!atomic_load(&stop)) {
        struct node *f = add("driver=filter,node-name=f,file=base");
        move_roots(base, f);
        node_ref(base);
        move_roots(f, base);
        node_unref(base);
        del("f");
    }
    atomic_fetch_sub(&workers, 1);
}

static int co_fn use_new_root(void *arg)
{
    for (unsigned i = 0; i < 8; i++)
        one_request(arg, i, false);
    return 0;
}

static void co_fn come_and_go(void *unused)
{
    char text[128];
    (void)unused;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        snprintf(text, sizeof text,
                 "driver=raw,node-name=t%u,file.driver=null-co,file.latency-ns=%u,"
                 "file.read-zeroes=on",
                 i, i % 3 * 1000);
        struct node *n = add(text);
        struct root *r = root_on("temporary", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
        ck_assert_int_eq(ring_call(ring_started(1 + i % RINGS), use_new_root, r), 0);
        root_drop(r);
        snprintf(text, sizeof text, "t%u", i);
        del(text);
        edits++;
    }
    atomic_fetch_sub(&workers, 1);
}

static void co_fn drain_and_think_better_of_it(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        autoerr err = { 0 };
        struct edit *e = edit_begin("nothing");
        must(edit_drain(e, node_find("base"), &err), &err);
        check_version(version);
        edit_abort(e);
        edits++;
        co_sleep(1000000);
    }
    atomic_fetch_sub(&workers, 1);
}

/* ---- the run ---- */

static int co_fn start_clients(void *arg)
{
    unsigned ring = (unsigned)(uintptr_t)arg;
    static struct queued_client queued[RINGS + 1];
    for (unsigned i = 0; i < WORKERS_PER_RING; i++) {
        atomic_fetch_add(&workers, 1);
        ck_assert_int_eq(co_start(work, (void *)(uintptr_t)(ring * WORKERS_PER_RING + i), "client"),
                         0);
    }
    queued[ring] = (struct queued_client){ .waiter.fn = queued_opened,
                                           .again.fn = queued_again,
                                           .root = roots[ring % ROOTS] };
    atomic_fetch_add(&workers, 1);
    ring_defer(&queued[ring].again);
    return 0;
}

static void co_fn run(void *unused)
{
    static void (*const editors[])(void *) = { put_in_and_take_out, come_and_go,
                                               drain_and_think_better_of_it };
    autoerr err = { 0 };
    (void)unused;
    add("driver=null-co,node-name=base,read-zeroes=on");
    for (unsigned i = 0; i < ROOTS; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%u", i);
        roots[i] = root_on(name, ROOT_EXPORT, node_find("base"), PERM_READ | PERM_WRITE, PERM_ALL);
    }
    for (unsigned i = 1; i <= RINGS; i++) {
        struct ring *ring = ring_get(i, &err);
        ck_assert_msg(ring != NULL, "%s", err.msg);
        ck_assert_int_eq(ring_call(ring, start_clients, (void *)(uintptr_t)i), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        atomic_fetch_add(&workers, 1);
        ck_assert_int_eq(co_start(editors[i], NULL, "editor"), 0);
    }
    co_sleep(test_ns());
    atomic_store(&stop, true);
    while (atomic_load(&workers))
        co_sleep(1000000);
    for (unsigned i = 0; i < ROOTS; i++)
        root_drop(roots[i]);
    blockdev_close_all();
    ck_assert_ptr_null(node_first());
    ring_stop();
}

START_TEST(requests_and_edits_at_full_speed)
{
    const struct rings_config config = { .count = RINGS, .no_pin = true };
    autoerr err = { 0 };
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
    must(rings_init(&config, &err), &err);
    ck_assert_int_eq(co_start(run, NULL, "test"), 0);
    ring_run();
    rings_exit();
    printf("# %llu requests, %u edits\n", (unsigned long long)requests, edits);
    ck_assert_uint_gt(requests, 1000);
    ck_assert_uint_gt(edits, 10); /* that there were some; how many is the machine's business */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("graph-stress");
    TCase *c = tcase_create("graph-stress");
    suite_add_tcase(s, c);
    tcase_set_timeout(c, 240);
    tcase_add_test(c, requests_and_edits_at_full_speed);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
