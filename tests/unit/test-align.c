/* SPDX-License-Identifier: MIT */
/*
 * Requests of any alignment against a plain array of bytes: many clients on two
 * rings, each with byte ranges of its own that share blocks with the others'.
 * The disk asserts that all it gets is aligned and within its limits.  A bug is
 * planted, too, and must be found: blocks changed without holding others off.
 */
#include "tests/unit/io-fixture.h"

#include "block/align.h"

enum { CLIENTS = 8, SLOTS = 96, ROOM = 512 << 10 };

struct world {
    struct disk *disk, *base;
    uint64_t size;             /* of the root's node */
    uint64_t slots[SLOTS + 1]; /* where each begins; slot i belongs to client i % CLIENTS */
    uint8_t *model;
    unsigned rounds;
    _Atomic unsigned wrong; /* reads that did not find what was written */
};

/* Cut memory of odd alignment into a few spans. */
static unsigned cut_spans(uint64_t *chance, uint8_t *p, size_t len, struct span *v)
{
    unsigned count = 1 + below(chance, 4), used = 0;
    for (; used + 1 < count && len > 1; used++) {
        size_t part = 1 + below(chance, len - 1);
        v[used] = (struct span){ .p = p, .len = part };
        p += part;
        len -= part;
    }
    v[used++] = (struct span){ .p = p, .len = len };
    return used;
}

static int co_fn change_bytes(struct client *c, struct operation *o, struct edge *e, uint64_t at,
                              uint8_t *p, size_t len)
{
    struct world *w = c->more;
    struct span v[SPAN_MAX];
    unsigned flags = below(&c->chance, 4) ? 0 : IO_FUA, what = below(&c->chance, 8);
    if (what == 0) /* undefined afterwards, so it is written next */
        EXPECT(io_discard(o, e, at, len) == 0);
    if (what == 1 || what == 2) {
        memset(w->model + at, 0, len);
        return io_zero(o, e, at, len, flags | (what == 1 ? IO_MAY_UNMAP : 0));
    }
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)draw(&c->chance);
    memcpy(w->model + at, p, len);
    return io_write(o, e, at, v, cut_spans(&c->chance, p, len, v), flags);
}

static int co_fn compare_bytes(struct client *c, struct operation *o, struct edge *e, uint64_t at,
                               uint8_t *p, size_t len)
{
    struct world *w = c->more;
    struct span v[SPAN_MAX];
    memset(p, 0xa5, len);
    int r = io_read(o, e, at, v, cut_spans(&c->chance, p, len, v), 0);
    if (memcmp(p, w->model + at, len))
        atomic_fetch_add(&w->wrong, 1);
    return r;
}

static void co_fn hammer(struct client *c)
{
    struct world *w = c->more;
    uint8_t *memory = malloc(ROOM + 8);
    for (unsigned i = 0; i < w->rounds; i++) {
        unsigned slot = below(&c->chance, SLOTS / CLIENTS) * CLIENTS + c->index;
        uint64_t start = w->slots[slot], room = w->slots[slot + 1] - start;
        uint64_t skip = below(&c->chance, room), len = 1 + below(&c->chance, room - skip);
        uint8_t *p = memory + below(&c->chance, 8);
        struct operation o;
        operation_enter(&o, c->root);
        struct edge *e = root_edge(c->root);
        int r = below(&c->chance, 3) ? change_bytes(c, &o, e, start + skip, p, len)
                                     : compare_bytes(c, &o, e, start + skip, p, len);
        operation_end(&o);
        EXPECT(r == 0);
    }
    free(memory);
}

static void draw_slots(struct world *w, uint64_t *chance)
{
    uint64_t at = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        w->slots[i] = at;
        uint64_t fair = (w->size - at) / (SLOTS - i);
        uint64_t len = 1 + below(chance, below(chance, 16) ? fair * 3 / 2 : fair * 8);
        uint64_t must_leave = SLOTS - i - 1;
        at += len < w->size - at - must_leave ? len : w->size - at - must_leave;
    }
    w->slots[SLOTS] = w->size;
}

/* Let them loose, half of those on each ring on @first and half on @second, then compare it all. */
static unsigned co_fn compete(struct world *w, struct root *first, struct root *second,
                              uint64_t seed)
{
    struct client clients[CLIENTS];
    uint8_t *all = malloc(w->size);
    w->model = calloc(1, w->size);
    atomic_store(&w->wrong, 0);
    draw_slots(w, &seed);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){
            .ring = 1 + i % 2, .index = i, .fn = hammer, .more = w, .chance = draw(&seed)
        };
        clients[i].root = i / 2 % 2 ? second : first;
    }
    ck_assert_int_eq(do_read(first, 0, w->model, w->size), 0);
    run_clients(clients, CLIENTS);
    ck_assert_int_eq(do_read(first, 0, all, w->size), 0);
    if (memcmp(all, w->model, w->size))
        atomic_fetch_add(&w->wrong, 1);
    free(all);
    free(w->model);
    return atomic_load(&w->wrong);
}

static const struct shape {
    const char *driver;
    struct limits limits;
    unsigned odd; /* bytes by which the size is no multiple of the alignment */
    bool zero_unaligned;
    int zero_result;
} shapes[] = {
    { "mem", { .alignment = 512, .memory_alignment = 512, .transfer_max = 8192 }, 0, true, 0 },
    { "mem",
      { .alignment = 4096, .memory_alignment = 4096, .zero_alignment = 8192 },
      300,
      false,
      0 },
    { "memv",
      { .alignment = 512,
        .memory_alignment = 512,
        .transfer_max = 4096,
        .zero_max = 16384,
        .zero_alignment = 4096,
        .discard_max = 8192,
        .discard_alignment = 4096,
        .fua = true },
      77,
      false,
      0 },
    { "memv", { .alignment = 4096, .memory_alignment = 512, .fua = true }, 0, true, -ENOTSUP },
    { "bare", { .alignment = 1, .transfer_max = 1000 }, 5, false, 0 },
    { "bare", { .alignment = 512 }, 511, false, 0 },
};

/* What stands between the clients and the disk: nothing, raw, a window on odd bytes, copy on write. */
enum stack { PLAIN, RAW, WINDOW, COW, STACKS };

static struct node *co_fn build(const struct shape *s, struct world *w, enum stack stack)
{
    static const char *const above[STACKS] = {
        [RAW] = "driver=raw,node-name=top,file=m,discard=unmap",
        [WINDOW] = "driver=raw,node-name=top,file=m,offset=777,discard=unmap",
        [COW] = "driver=cow,node-name=top,file=m,backing=base",
    };
    char text[80];
    uint64_t size = ROOM - 8192;
    if (stack == COW)
        size = COW_CLUSTER * COW_CLUSTERS;
    snprintf(text, sizeof text, "driver=%s,node-name=m,discard=unmap", s->driver);
    struct node *n = mem_node(text, w->disk, size - (stack == COW ? 0 : s->odd), s->limits);
    if (stack == COW) {
        next_mem.disk = w->base;
        next_mem.size = 300 << 10;
        snprintf(text, sizeof text, "driver=%s,node-name=base", s->driver);
        add(text);
    }
    return stack == PLAIN ? n : add(above[stack]);
}

static void co_fn unbuild(enum stack stack)
{
    if (stack != PLAIN)
        del("top");
    if (stack == COW)
        del("base");
    del("m");
}

static void co_fn one_world(const struct shape *s, enum stack stack, uint64_t seed)
{
    autoerr err = { 0 };
    struct world w = { .rounds = 200, .disk = disk_new(COW_CLUSTER * COW_CLUSTERS) };
    w.base = disk_new(ROOM);
    for (unsigned i = 0; i < ROOM; i++)
        w.base->now[i] = (uint8_t)(i * 31 >> 8);
    w.disk->yields = true;
    w.disk->zero_unaligned = s->zero_unaligned;
    w.disk->zero_result = s->zero_result;
    struct node *n = build(s, &w, stack);
    struct root *r = root_on("e", ROOT_EXPORT, n, RW, PERM_ALL);
    w.size = node_size(n) < ROOM ? node_size(n) : ROOM;
    must(track_require(n, &err), &err);
    ck_assert_msg(compete(&w, r, r, seed) == 0, "%s over %s, alignment %u, seed %llu",
                  n->driver->name, s->driver, s->limits.alignment, (unsigned long long)seed);
    track_release(n);
    ck_assert_ptr_null(n->tracking);
    root_drop(r);
    unbuild(stack);
    disk_free(w.disk);
    disk_free(w.base);
}

RING_TEST(what_is_written_is_read)
{
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (unsigned stack = 0; stack < STACKS; stack++)
            one_world(&shapes[i], stack, draw(&seed));
}

/* The planted bug: half of the clients have a node of their own on the same disk, so their blocks are changed with
 * nothing between them.  The same test must see that bytes get lost. */
RING_TEST(changes_that_are_not_ordered_are_found)
{
    autoerr err = { 0 };
    uint64_t seed = test_seed();
    unsigned wrong = 0;
    for (unsigned tries = 0; tries < 20 && !wrong; tries++) {
        const struct limits limits = { .alignment = 4096 };
        struct world w = { .rounds = 100, .size = 64 << 10, .disk = disk_new(64 << 10) };
        w.disk->yields = w.disk->zero_unaligned = true;
        struct node *a = mem_node("driver=mem,node-name=a", w.disk, w.size, limits);
        struct node *b = mem_node("driver=mem,node-name=b", w.disk, w.size, limits);
        struct root *first = root_on("a-user", ROOT_EXPORT, a, RW, PERM_ALL);
        struct root *second = root_on("b-user", ROOT_EXPORT, b, RW, PERM_ALL);
        must(track_require(a, &err), &err);
        must(track_require(b, &err), &err);
        wrong = compete(&w, first, second, draw(&seed));
        track_release(a);
        track_release(b);
        root_drop(first);
        root_drop(second);
        del("a");
        del("b");
        disk_free(w.disk);
    }
    ck_assert_uint_gt(wrong, 0);
}

RING_TEST(partial_writes_need_tracking)
{
    struct disk *d = disk_new(8192);
    const struct limits limits = { .alignment = 512 };
    struct node *n = mem_node("driver=mem,node-name=m,discard=unmap", d, 8000, limits);
    struct root *r = root_on("e", ROOT_EXPORT, n, RW, PERM_ALL);
    d->zero_unaligned = true;
    ck_assert_int_eq(do_fill(r, 0, 1, 511, 0), -EINVAL);
    ck_assert_int_eq(do_fill(r, 1, 1, 511, 0), -EINVAL);
    ck_assert_int_eq(do_zero(r, 100, 1000, 0), -EINVAL);
    ck_assert_uint_eq(d->writes + d->zeroes, 0);
    ck_assert_int_eq(do_fill(r, 512, 1, 512, 0), 0);
    /* A discard that covers no block does nothing; the end of the node ends its last block. */
    ck_assert_int_eq(do_discard(r, 100, 400), 0);
    ck_assert_uint_eq(d->discards, 0);
    ck_assert_int_eq(do_discard(r, 7680, 320), 0);
    ck_assert_uint_eq(d->discards, 1);
    ck_assert_int_eq(do_fill(r, 7680, 3, 320, 0), 0);
    ck_assert_uint_eq(d->reads, 0);
    ck_assert_uint_eq(d->now[7999], 3);
    ck_assert_uint_eq(d->now[8000], 0);
    root_drop(r);
    del("m");
    disk_free(d);
}

/* A raw window that does not lie on its file's blocks needs tracking, whatever blocks its clients have. */
RING_TEST(who_needs_tracking)
{
    struct disk *d = disk_new(1 << 20);
    const struct limits limits = { .alignment = 512 };
    struct node *n = mem_node("driver=mem,node-name=m", d, 1 << 20, limits);
    struct node *even = add("driver=raw,node-name=even,file=m,offset=1024");
    struct node *odd = add("driver=raw,node-name=odd,file=m,offset=100");
    ck_assert(track_needed(n, 1) && track_needed(n, 256));
    ck_assert(!track_needed(n, 512) && !track_needed(n, 4096));
    ck_assert(track_needed(even, 1) && !track_needed(even, 512));
    ck_assert(track_needed(odd, 1) && track_needed(odd, 4096));
    del("odd");
    del("even");
    del("m");
    disk_free(d);
}

/* A node grows by a write past its end through an edge that may resize it, and only so. */
RING_TEST(growing_by_writing)
{
    autoerr err = { 0 };
    struct disk *d = disk_new(1 << 20);
    const struct limits limits = { .alignment = 512 };
    struct node *n = mem_node("driver=mem,node-name=m", d, 1000, limits);
    struct node *raw = add("driver=raw,node-name=r,file=m");
    struct root *r = root_on("e", ROOT_EXPORT, raw, RW, PERM_ALL);
    must(track_require(raw, &err), &err);
    ck_assert_int_eq(do_fill(r, 900, 1, 101, 0), -ENOSPC);
    ck_assert_int_eq(do_zero(r, 900, 101, 0), -ENOSPC);
    ck_assert_uint_eq(node_size(raw), 1000);
    must(edge_set_permissions(root_edge(r), RW | PERM_RESIZE, PERM_ALL, &err), &err);
    ck_assert_int_eq(do_fill(r, 900, 1, 5000, 0), 0);
    ck_assert_uint_eq(node_size(raw), 5900);
    ck_assert_uint_eq(node_size(n), 5900);
    uint8_t bytes[5900];
    ck_assert_int_eq(do_read(r, 0, bytes, 5900), 0);
    ck_assert(bytes_are_zero(bytes, 900));
    ck_assert(bytes[900] == 1 && bytes[5899] == 1);
    /* Far beyond the end: what lies between reads zero. */
    ck_assert_int_eq(do_fill(r, 20001, 2, 10, 0), 0);
    ck_assert_uint_eq(node_size(raw), 20011);
    ck_assert_int_eq(do_fill(r, INT64_MAX, 2, 10, 0), -ENOSPC);
    track_release(raw);
    root_drop(r);
    del("r");
    del("m");
    disk_free(d);
}

/* One ends in the last block and pads it, another makes the node grow over that padding at the same time:
 * what the second wrote stays. */
enum { GROW_ROUNDS = 200, OLD_END = 100, NEW_END = 512 };

static atomic_uint at_start;

static void co_fn pad_or_grow(struct client *c)
{
    uint8_t bytes[NEW_END];
    size_t len = c->index == 1 ? NEW_END : OLD_END;
    memset(bytes, c->index == 1 ? 2 : 1, len);
    atomic_fetch_add(&at_start, 1);
    while (atomic_load(&at_start) < 2)
        co_pause();
    for (uint64_t i = below(&c->chance, 40); i; i--)
        co_pause();
    if (c->index == 2)
        EXPECT(do_discard(c->root, 0, OLD_END) <= 0); /* it, too, takes the last block whole */
    else
        EXPECT(do_write(c->root, 0, bytes, len, 0) == 0);
}

RING_TEST(padding_does_not_meet_growth)
{
    autoerr err = { 0 };
    uint64_t seed = test_seed();
    struct disk *d = disk_new(4096);
    const struct limits limits = { .alignment = 512 };
    struct node *n = mem_node("driver=mem,node-name=m,discard=unmap", d, OLD_END, limits);
    struct root *r = root_on("e", ROOT_EXPORT, n, RW | PERM_RESIZE, PERM_ALL);
    must(track_require(n, &err), &err);
    d->pauses = 20;
    for (unsigned i = 0; i < GROW_ROUNDS; i++) {
        struct client clients[2];
        atomic_store(&n->size, OLD_END);
        atomic_store(&at_start, 0);
        memset(d->now, 0, d->room);
        for (unsigned j = 0; j < 2; j++)
            clients[j] = (struct client){ .ring = 1 + j,
                                          .index = j       ? 1
                                                   : i % 2 ? 2
                                                           : 0,
                                          .chance = draw(&seed),
                                          .root = r,
                                          .fn = pad_or_grow };
        run_clients(clients, 2);
        ck_assert_uint_eq(node_size(n), NEW_END);
        for (unsigned at = OLD_END; at < NEW_END; at++)
            ck_assert_msg(d->now[at] == 2, "round %u: byte %u is lost", i, at);
    }
    track_release(n);
    root_drop(r);
    del("m");
    disk_free(d);
}

int main(void)
{
    const TTest *const tests[] = {
        what_is_written_is_read,
        changes_that_are_not_ordered_are_found,
        partial_writes_need_tracking,
        who_needs_tracking,
        growing_by_writing,
        padding_does_not_meet_growth,
        NULL,
    };
    return run_tests("align", tests);
}
