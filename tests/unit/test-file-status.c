/* SPDX-License-Identifier: MIT */
/* Block status of files: data, holes, the rounded tail, the kept extent. */
#include "tests/unit/file-node.h"

#include "drivers/file-status.h"

enum { CHUNK = 64 << 10 };

static struct extent ask(struct node *n, uint64_t offset, uint64_t len)
{
    struct extent e;
    memset(&e, 0xa5, sizeof(e));
    ck_assert_int_eq(n->driver->status(n, NULL, offset, len, true, &e), 0);
    ck_assert_uint_gt(e.len, 0);
    ck_assert_uint_le(e.len, len);
    ck_assert_uint_eq(e.flags & EXTENT_ALLOCATED, EXTENT_ALLOCATED);
    ck_assert_ptr_eq(e.node, n);
    ck_assert_uint_eq(e.offset, offset);
    ck_assert_uint_eq(e.depth, 0);
    return e;
}

/* The whole of [offset, offset+len) is a hole (or data), however many answers that takes. */
static void all_of(struct node *n, uint64_t offset, uint64_t len, unsigned flag)
{
    while (len > 0) {
        struct extent e = ask(n, offset, len);
        ck_assert_uint_eq(e.flags & (EXTENT_DATA | EXTENT_ZERO), flag);
        offset += e.len;
        len -= e.len;
    }
}

static void fill(struct node *n, uint64_t offset, uint64_t len)
{
    autofree uint8_t *p = malloc(len);
    memset(p, 'x', len);
    ck_assert_int_eq(n_write(n, offset, p, len, 0), 0);
}

RING_TEST(data_and_holes)
{
    for (int where = 0; where < PLACES; where++) {
        struct node *n = NODE_UP(.filename = file_make(where, "a", 8 * CHUNK));
        all_of(n, 0, 8 * CHUNK, EXTENT_ZERO);
        fill(n, 2 * CHUNK, CHUNK);
        fill(n, 5 * CHUNK, CHUNK);
        all_of(n, 0, 2 * CHUNK, EXTENT_ZERO);
        all_of(n, 2 * CHUNK, CHUNK, EXTENT_DATA);
        all_of(n, 2 * CHUNK + 512, 512, EXTENT_DATA); /* from what is kept */
        all_of(n, 3 * CHUNK, 2 * CHUNK, EXTENT_ZERO);
        all_of(n, 5 * CHUNK, CHUNK, EXTENT_DATA);
        all_of(n, 6 * CHUNK, 2 * CHUNK, EXTENT_ZERO);
        struct extent e = ask(n, 0, 8 * CHUNK);
        ck_assert_uint_eq(e.len, 2 * CHUNK);
        e = ask(n, 2 * CHUNK, 6 * CHUNK);
        ck_assert_uint_eq(e.len, CHUNK);
        e = ask(n, 2 * CHUNK, 512);
        ck_assert_uint_eq(e.len, 512);
        node_down(n);
    }
}

RING_TEST(allocation_only)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", CHUNK));
    struct extent e;
    ck_assert_int_eq(n->driver->status(n, NULL, 0, CHUNK, false, &e), 0);
    ck_assert_uint_eq(e.len, CHUNK);
    ck_assert_uint_eq(e.flags, EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET);
    node_down(n);
}

RING_TEST(rounded_tail)
{
    for (int where = 0; where < PLACES; where++) {
        struct node *n = NODE_UP(.filename = file_make(where, "a", 1000));
        all_of(n, 0, 1024, EXTENT_ZERO);
        fill(n, 0, 1000);
        all_of(n, 0, 1024, EXTENT_DATA);
        node_down(n);
    }
}

/* Somebody else cuts the file: what is gone is a hole. */
RING_TEST(cut_by_others)
{
    const char *path = file_make(PLACE_DISK, "a", 4 * CHUNK);
    struct node *n = NODE_UP(.filename = path);
    fill(n, 0, 4 * CHUNK);
    ck_assert_int_eq(truncate(path, CHUNK), 0);
    all_of(n, CHUNK, 3 * CHUNK, EXTENT_ZERO);
    ck_assert(n_holds(n, 2 * CHUNK, CHUNK, 0));
    node_down(n);
}

struct hole_job {
    struct node *n;
    bool discard;
};

static int make_hole(void *arg)
{
    struct hole_job *j = arg;
    return j->discard ? j->n->driver->discard(j->n, NULL, CHUNK, CHUNK)
                      : j->n->driver->zero(j->n, NULL, CHUNK, CHUNK, IO_MAY_UNMAP);
}

/* What is kept of an extent is forgotten when another ring makes a hole in it. */
RING_TEST(hole_on_another_ring)
{
    for (int how = 0; how < 2; how++) {
        struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", 4 * CHUNK));
        autoerr err = { 0 };
        fill(n, 0, 4 * CHUNK);
        ck_assert_uint_eq(ask(n, 0, 4 * CHUNK).len, 4 * CHUNK);
        struct hole_job j = { n, how };
        ck_assert_int_eq(ring_call(ring_get(1, &err), make_hole, &j), 0);
        all_of(n, 0, CHUNK, EXTENT_DATA);
        all_of(n, CHUNK, CHUNK, EXTENT_ZERO);
        all_of(n, 2 * CHUNK, 2 * CHUNK, EXTENT_DATA);
        node_down(n);
    }
}

/* A change between looking up and keeping: the answer is not kept. */
RING_TEST(stale_answer_not_kept)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", 4 * CHUNK));
    struct file *f = file_of(n);
    fill(n, 0, 4 * CHUNK);
    ask(n, 0, 4 * CHUNK);
    ck_assert_uint_eq(f->cache.as_of, atomic_load(&f->cache.change));
    file_status_changed(f);
    ck_assert_uint_ne(f->cache.as_of, atomic_load(&f->cache.change));
    /* The hole is made behind the driver's back, as if by a ring that has told already. */
    ck_assert_int_eq(fallocate(f->fd, 3 /* PUNCH_HOLE | KEEP_SIZE */, 0, CHUNK), 0);
    all_of(n, 0, CHUNK, EXTENT_ZERO);
    node_down(n);
}

RING_TEST(resized)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", 4 * CHUNK));
    autoerr err = { 0 };
    fill(n, 0, 4 * CHUNK);
    ask(n, 0, 4 * CHUNK);
    ck_assert_int_eq(n->driver->resize(n, NULL, CHUNK, true, 0, &err), 0);
    ck_assert_int_eq(n->driver->resize(n, NULL, 2 * CHUNK, true, 0, &err), 0);
    all_of(n, 0, CHUNK, EXTENT_DATA);
    all_of(n, CHUNK, CHUNK, EXTENT_ZERO);
    node_down(n);
}

/* The same answers from a worker as from the ring itself. */
RING_TEST(on_a_worker)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_DISK, "a", 4 * CHUNK));
    atomic_store(&file_of(n)->seek_slow, true);
    fill(n, CHUNK, CHUNK);
    all_of(n, 0, CHUNK, EXTENT_ZERO);
    all_of(n, CHUNK, CHUNK, EXTENT_DATA);
    all_of(n, 2 * CHUNK, 2 * CHUNK, EXTENT_ZERO);
    node_down(n);
}

RING_TEST(devices_are_data)
{
    struct node *n = NODE_UP(.driver = &driver_host_device, .filename = "/dev/zero");
    all_of(n, 0, CHUNK, EXTENT_DATA);
    node_down(n);
}

int main(void)
{
    const TTest *tests[] = { data_and_holes, allocation_only,      rounded_tail,
                             cut_by_others,  hole_on_another_ring, stale_answer_not_kept,
                             resized,        on_a_worker,          devices_are_data };
    return run_tests("file-status", tests, sizeof(tests) / sizeof(*tests));
}
