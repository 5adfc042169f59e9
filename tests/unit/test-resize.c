/* SPDX-License-Identifier: MIT */
/* block/resize.c: who is asked, who is told, and what the new bytes read. */
#include "tests/unit/io-fixture.h"

enum { MAX = 256 << 10 };

/* A disk in memory whose size can change, and a format over one that copies on write. */
static struct {
    int result;
    uint64_t size; /* that it takes instead of the one asked for; 0: that one */
    bool exact;
    unsigned calls;
} elastic;

static int co_fn elastic_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                                enum io_flags flags, struct err *err)
{
    (void)o, (void)flags;
    elastic.calls++;
    elastic.exact = exact;
    if (elastic.result)
        return err_set(err, elastic.result, "node '%s' does not want to", n->name);
    atomic_store(&n->size, elastic.size ? elastic.size : size);
    return 0;
}

static int co_fn cow_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                            enum io_flags flags, struct err *err)
{
    (void)o, (void)exact, (void)flags, (void)err;
    ck_assert_uint_le(size, MAX);
    atomic_store(&n->size, size);
    return 0;
}

static int co_fn short_cow_open(struct node *n, const void *options, struct err *err)
{
    int r = cow_open(n, options, err);
    atomic_store(&n->size, 16384);
    return r;
}

static int co_fn cow_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                          unsigned flags)
{
    uint8_t zero[COW_CLUSTER] = { 0 };
    for (uint64_t done = 0, part; done < len; done += part) {
        uint64_t in = (offset + done) % COW_CLUSTER;
        part = COW_CLUSTER - in < len - done ? COW_CLUSTER - in : len - done;
        const struct span v = { .p = zero, .len = part };
        int r = cow_write(n, o, offset + done, &v, 1, flags);
        if (r < 0)
            return r;
    }
    return 0;
}

static const struct driver elastic_driver = {
    .name = "elastic", MEM_CALLS, .zero = mem_zero, .resize = elastic_resize
};
static const struct driver growing_driver = {
    .name = "growing",
    .kind = DRIVER_FORMAT,
    .flags = DRIVER_VECTORS | DRIVER_HAS_BACKING,
    .options = &toy_type,
    .state_size = sizeof(struct cow),
    .open = short_cow_open,
    .map = cow_map,
    .write = cow_write,
    .zero = cow_zero,
    .resize = cow_resize,
};
static const struct driver *const resize_drivers[] = { &elastic_driver, &growing_driver, NULL };

static struct disk *disk;

static struct node *co_fn add_elastic(const char *options)
{
    char text[100];
    drivers_register(io_drivers);
    drivers_register(resize_drivers);
    memset(&elastic, 0, sizeof elastic);
    if (!disk)
        disk = disk_new(MAX);
    snprintf(text, sizeof text, "driver=elastic,node-name=m%s", options);
    return mem_node(text, disk, 16384, (struct limits){ .alignment = 512 });
}

static void co_fn end(void)
{
    blockdev_close_all();
    disk_free(disk);
    disk = NULL;
    ck_assert_ptr_null(atomic_load(&complaint));
}

static void co_fn resize(const char *node, uint64_t size)
{
    autoerr err = { 0 };
    must(io_resize(node_find(node), size, &err), &err);
    ck_assert_uint_eq(node_size(node_find(node)), size);
}

static void co_fn resize_fails(const char *node, uint64_t size, int code, const char *message)
{
    autoerr err = { 0 };
    uint64_t before = node_size(node_find(node));
    ck_assert_int_eq(io_resize(node_find(node), size, &err), code);
    ck_assert_str_eq(err.msg, message);
    ck_assert_uint_eq(node_size(node_find(node)), before);
}

CO_TEST(a_node_grows_and_shrinks)
{
    add_elastic("");
    resize("m", 65536);
    resize("m", 512);
    resize("m", 0);
    resize("m", 0);
    ck_assert_uint_eq(elastic.calls, 4);
    ck_assert(elastic.exact);
    end();
}

CO_TEST(the_driver_may_take_another_size)
{
    autoerr err = { 0 };
    struct node *m = add_elastic("");
    elastic.size = 20480;
    must(io_resize(m, 20000, &err), &err);
    ck_assert_uint_eq(node_size(m), 20480);
    must(io_resize(m, 20001, &err), &err); /* be it the one that it has */
    ck_assert_uint_eq(node_size(m), 20480);
    end();
}

CO_TEST(refusals_leave_all_as_it_was)
{
    add_elastic("");
    resize_fails("m", (uint64_t)INT64_MAX + 1, -EFBIG,
                 "Node 'm' cannot have 9223372036854775808 bytes");
    elastic.result = -ENOSPC;
    resize_fails("m", 65536, -ENOSPC, "node 'm' does not want to");
    ck_assert_uint_eq(elastic.calls, 1);
    add("driver=raw,node-name=ro,file=m,read-only=on");
    resize_fails("ro", 65536, -EACCES, "Image is read-only");
    add("driver=cow,node-name=c,file=m");
    resize_fails("c", 65536, -ENOTSUP, "Image format driver does not support resize");
    /* A failed attempt keeps nobody out. */
    elastic.result = 0;
    del("c");
    del("ro");
    resize("m", 65536);
    end();
}

CO_TEST(a_filter_is_as_long_as_its_child)
{
    struct node *m = add_elastic("");
    add("driver=pass,node-name=f,file=m");
    resize("f", 32768);
    ck_assert_uint_eq(node_size(m), 32768);
    end();
}

/* ---- who is told ---- */

static struct {
    unsigned told;
    uint64_t size;
} root_seen;

static void note_size(struct root *r, uint64_t size)
{
    (void)r;
    root_seen.told++;
    root_seen.size = size;
}

static const struct root_driver noting = { .resized = note_size };

CO_TEST(roots_and_parents_above_are_told)
{
    autoerr err = { 0 };
    struct edge *e;
    add_elastic("");
    struct node *r = add("driver=raw,node-name=r,file=m,offset=1024");
    struct root *x = root_new("x", ROOT_EXPORT, &noting, &err);
    struct edit *edit = edit_begin("test");
    must(edge_attach(NULL, x, r, "root", ROLE_FILE, RW, PERM_ALL, &e, &err), &err);
    must(edit_commit(edit, &err), &err);
    root_seen.told = 0;
    resize("m", 32768);
    ck_assert_uint_eq(node_size(r), 32768 - 1024);
    ck_assert_uint_eq(root_seen.told, 1);
    ck_assert_uint_eq(root_seen.size, 32768 - 1024);
    resize("r", 8192);
    ck_assert_uint_eq(node_size(node_find("m")), 8192 + 1024);
    ck_assert_uint_eq(root_seen.size, 8192);
    unsigned before = root_seen.told;
    resize("r", 8192); /* nothing new */
    ck_assert_uint_eq(root_seen.told, before);
    root_drop(x);
    end();
}

CO_TEST(a_parent_that_minds_is_asked)
{
    struct node *m = add_elastic("");
    add("driver=raw,node-name=w,file=m,size=8192");
    autoerr err = { 0 };
    ck_assert_int_lt(io_resize(m, 32768, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "resize"));
    ck_assert_uint_eq(node_size(m), 16384);
    ck_assert_uint_eq(elastic.calls, 0);
    struct root *x = root_on("x", ROOT_JOB, m, PERM_READ, PERM_ALL & ~(unsigned)PERM_RESIZE);
    del("w");
    err_clear(&err);
    ck_assert_int_lt(io_resize(m, 32768, &err), 0);
    root_drop(x);
    resize("m", 32768);
    end();
}

/* ---- requests ---- */

static bool reading, read_ended;

static void read_slowly(void *arg)
{
    uint8_t buf[512];
    reading = true;
    ck_assert_int_eq(do_read(arg, 16384 - 512, buf, sizeof buf), 0);
    read_ended = true;
}

static struct root *co_fn begin_reading(struct node *n)
{
    struct root *x = root_on("x", ROOT_EXPORT, n, RW, PERM_ALL);
    reading = read_ended = false;
    disk->reads = 0;
    disk->pauses = 20;
    virtual_spawn(1, read_slowly, x, "read");
    while (!disk->reads)
        co_pause();
    ck_assert(reading && !read_ended);
    return x;
}

CO_TEST(requests_under_way_end_first)
{
    struct root *x = begin_reading(add_elastic(""));
    resize("m", 512);
    ck_assert(read_ended);
    uint8_t buf[512];
    disk->pauses = 0;
    ck_assert_int_eq(do_read(x, 16384 - 512, buf, sizeof buf), -EINVAL);
    ck_assert_int_eq(do_fill(x, 512, 1, 512, 0), -ENOSPC);
    ck_assert_int_eq(do_read(x, 0, buf, sizeof buf), 0);
    root_drop(x);
    end();
}

/* What is below changes its size, too, and others may use it. */
CO_TEST(so_do_requests_that_only_reach_what_is_below)
{
    struct node *m = add_elastic("");
    add("driver=raw,node-name=r,file=m");
    struct root *x = begin_reading(m);
    resize("r", 512);
    ck_assert(read_ended);
    ck_assert_uint_eq(node_size(m), 512);
    disk->pauses = 0;
    root_drop(x);
    end();
}

/* ---- what the new bytes read ---- */

CO_TEST(a_longer_backing_file_does_not_show_through)
{
    uint8_t buf[512];
    struct disk *below = disk_new(MAX);
    add_elastic("");
    resize("m", MAX);
    memset(below->now, 7, MAX);
    mem_node("driver=mem,node-name=b", below, 40000, (struct limits){ .alignment = 1 });
    struct node *g = add("driver=growing,node-name=g,file=m,backing=b");
    struct root *x = root_on("x", ROOT_EXPORT, g, RW, PERM_ALL);
    resize("g", 65536);
    for (uint64_t at = 0; at < 65536; at += 512) {
        ck_assert_int_eq(do_read(x, at, buf, sizeof buf), 0);
        ck_assert_msg(buf[0] == (at < 16384 ? 7 : 0) && buf[511] == buf[0], "byte %u",
                      (unsigned)at);
    }
    root_drop(x);
    del("g");
    del("b");
    disk_free(below);
    end();
}

CO_TEST(growing_fails_when_they_cannot_be_zeroed)
{
    autoerr err = { 0 };
    struct disk *below = disk_new(MAX);
    add_elastic("");
    resize("m", MAX);
    mem_node("driver=mem,node-name=b", below, 40000, (struct limits){ .alignment = 1 });
    struct node *g = add("driver=growing,node-name=g,file=m,backing=b");
    disk->write_result = -ENOSPC;
    ck_assert_int_eq(io_resize(g, 65536, &err), -ENOSPC);
    ck_assert_str_eq(err.msg, "Failed to zero the new end of node 'g': No space left on device");
    disk->write_result = 0;
    del("g");
    del("b");
    disk_free(below);
    end();
}

int main(void)
{
    const TTest *const tests[] = { a_node_grows_and_shrinks,
                                   the_driver_may_take_another_size,
                                   refusals_leave_all_as_it_was,
                                   a_filter_is_as_long_as_its_child,
                                   roots_and_parents_above_are_told,
                                   a_parent_that_minds_is_asked,
                                   requests_under_way_end_first,
                                   so_do_requests_that_only_reach_what_is_below,
                                   a_longer_backing_file_does_not_show_through,
                                   growing_fails_when_they_cannot_be_zeroed,
                                   NULL };
    return run_tests("resize", tests);
}
