/* SPDX-License-Identifier: MIT */
/* drivers/raw.c: windows, where bytes lie, sizes; driver=raw. */
#include "block/io.h"
#include "tests/unit/graph-fixture.h"

enum { FILE_BYTES = 1 << 20, BLOCK = 512 };

/* A disk in memory, in blocks of 512 bytes. */
static uint8_t disk[FILE_BYTES];

static int co_fn ram_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    atomic_store(&n->size, FILE_BYTES);
    n->limits.alignment = BLOCK;
    return 0;
}

static int co_fn ram_read(struct node *n, struct operation *o, uint64_t offset,
                          const struct span *v, unsigned count, unsigned flags)
{
    (void)n, (void)o, (void)flags;
    ck_assert_uint_eq(offset % BLOCK, 0);
    ck_assert_uint_eq(span_bytes(v, count) % BLOCK, 0);
    span_scatter(v, count, disk + offset);
    return 0;
}

static int co_fn ram_write(struct node *n, struct operation *o, uint64_t offset,
                           const struct span *v, unsigned count, unsigned flags)
{
    (void)n, (void)o, (void)flags;
    ck_assert_uint_eq(offset % BLOCK, 0);
    ck_assert_uint_eq(span_bytes(v, count) % BLOCK, 0);
    span_gather(v, count, disk + offset);
    return 0;
}

static int co_fn ram_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                            enum io_flags flags, struct err *err)
{
    (void)o, (void)exact, (void)flags, (void)err;
    ck_assert_uint_le(size, FILE_BYTES);
    atomic_store(&n->size, size);
    return 0;
}

static const struct driver ram = {
    .name = "ram",
    .kind = DRIVER_PROTOCOL,
    .flags = DRIVER_VECTORS,
    .open = ram_open,
    .read = ram_read,
    .write = ram_write,
    .resize = ram_resize,
};

static struct node *co_fn add_ram(void)
{
    static const struct driver *const list[] = { &ram, NULL };
    drivers_register(list);
    for (unsigned i = 0; i < FILE_BYTES; i++)
        disk[i] = (uint8_t)(i * 7 + i / 256);
    return add("driver=ram,node-name=f");
}

/* What qemu-storage-daemon 7.2 says to the same options over a file of 1 MiB. */
CO_TEST(windows_must_fit)
{
    static const struct {
        int64_t offset, size; /* -2: not given */
        int64_t result;
        const char *message;
    } cases[] = {
        { -2, -2, 1048576, NULL },
        { 0, 0, 0, NULL },
        { 0, 512, 512, NULL },
        { 0, 511, -1, "Specified size is not multiple of 512" },
        { 3, 1, -1, "Specified size is not multiple of 512" },
        { 1, 512, 512, NULL },
        { 512, 1048064, 1048064, NULL },
        { 512, 1048576, -1,
          "The sum of offset (512) and size (1048576) has to be smaller or equal to the  actual "
          "size of the containing file (1048576)" },
        { 512, 1048065, -1,
          "The sum of offset (512) and size (1048065) has to be smaller or equal to the  actual "
          "size of the containing file (1048576)" },
        { 0, INT64_MAX, -1,
          "The sum of offset (0) and size (9223372036854775807) has to be smaller or equal to the  "
          "actual size of the containing file (1048576)" },
        { 1048576, -2, 0, NULL },
        { 1048576, 512, -1,
          "The sum of offset (1048576) and size (512) has to be smaller or equal to the  actual "
          "size of the containing file (1048576)" },
        { 1049088, -2, -1,
          "Offset (1049088) cannot be greater than size of the containing file (1048576)" },
        { INT64_MAX, -2, -1,
          "Offset (9223372036854775807) cannot be greater than size of the containing file "
          "(1048576)" },
        { INT64_MAX - 511, 512, -1,
          "Offset (9223372036854775296) cannot be greater than size of the containing file "
          "(1048576)" },
        { 1048064, -2, 512, NULL },
        { 100, 1048476, -1, "Specified size is not multiple of 512" },
        { -1, -2, -1, "Parameter 'offset' expects a non-negative number below 2^64" },
        { INT64_MIN, 512, -1, "Parameter 'offset' expects a non-negative number below 2^64" },
        { -2, -1, -1, "Parameter 'size' expects a non-negative number below 2^64" },
    };
    add_ram();
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[160];
        int used = snprintf(text, sizeof text, "{'driver':'raw','node-name':'r','file':'f'");
        if (cases[i].offset != -2)
            used += snprintf(text + used, sizeof text - (size_t)used, ",'offset':%lld",
                             (long long)cases[i].offset);
        if (cases[i].size != -2)
            used += snprintf(text + used, sizeof text - (size_t)used, ",'size':%lld",
                             (long long)cases[i].size);
        snprintf(text + used, sizeof text - (size_t)used, "}");
        if (cases[i].message) {
            add_fails(text, cases[i].message);
            continue;
        }
        autoerr err = { 0 };
        must(try_add(text, &err), &err);
        ck_assert_int_eq((int64_t)node_size(node_find("r")), cases[i].result);
        del("r");
    }
}

static void co_fn check_reads(struct root *x, uint64_t window, uint64_t offset, size_t len)
{
    static uint8_t buf[8192];
    struct operation o;
    struct span v = { .p = buf, .len = len };
    ck_assert(operation_begin(&o, x));
    memset(buf, 0, sizeof buf);
    ck_assert_int_eq(io_read(&o, root_edge(x), offset, &v, 1, 0), 0);
    ck_assert_mem_eq(buf, disk + window + offset, len);
    operation_end(&o);
}

CO_TEST(a_window_anywhere_reads_right)
{
    static const unsigned offsets[] = { 0, 512, 1, 100, 511, 4095 };
    add_ram();
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        char text[80];
        snprintf(text, sizeof text, "driver=raw,node-name=r,file=f,offset=%u", offsets[i]);
        struct root *x = root_on("x", ROOT_EXPORT, add(text), PERM_READ, PERM_ALL);
        ck_assert_uint_eq(node_size(root_node(x)), FILE_BYTES - offsets[i]);
        check_reads(x, offsets[i], 0, 512);
        check_reads(x, offsets[i], 1, 1000);
        check_reads(x, offsets[i], 4096, 4096);
        check_reads(x, offsets[i], node_size(root_node(x)) - 700, 700);
        root_drop(x);
        del("r");
    }
}

CO_TEST(writes_stay_in_the_window)
{
    static uint8_t before[FILE_BYTES], buf[1024];
    struct operation o;
    struct span v = { .p = buf, .len = sizeof buf };
    add_ram();
    memcpy(before, disk, FILE_BYTES);
    struct node *r = add("driver=raw,node-name=r,file=f,offset=1536,size=4096");
    struct root *x = root_on("x", ROOT_EXPORT, r, PERM_READ | PERM_WRITE, PERM_ALL);
    memset(buf, 0x5a, sizeof buf);
    ck_assert(operation_begin(&o, x));
    ck_assert_int_eq(io_write(&o, root_edge(x), 512, &v, 1, 0), 0);
    ck_assert_int_eq(io_write(&o, root_edge(x), 4096 - 512, &v, 1, 0), -ENOSPC);
    ck_assert_int_eq(io_read(&o, root_edge(x), 4096 - 512, &v, 1, 0), -EINVAL);
    operation_end(&o);
    for (unsigned i = 0; i < FILE_BYTES; i++)
        ck_assert_uint_eq(disk[i], i >= 2048 && i < 3072 ? 0x5a : before[i]);
    root_drop(x);
}

CO_TEST(a_map_says_where_the_bytes_lie)
{
    struct map m;
    add_ram();
    struct node *r = add("driver=raw,node-name=r,file=f,offset=1536,size=4096");
    ck_assert_int_eq(r->driver->map(r, 512, 1024, true, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_CHILD);
    ck_assert_ptr_eq(m.edge, node_child(r, "file"));
    ck_assert_uint_eq(m.offset, 2048);
    ck_assert_uint_eq(m.len, 1024);
    ck_assert(m.stable);
}

static void co_fn resize_fails(const char *node, uint64_t size, const char *message)
{
    autoerr err = { 0 };
    ck_assert_int_lt(io_resize(node_find(node), size, &err), 0);
    ck_assert_str_eq(err.msg, message);
}

CO_TEST(it_grows_and_shrinks_with_its_file)
{
    autoerr err = { 0 };
    struct node *f = add_ram(), *r = add("driver=raw,node-name=r,file=f,offset=4096");
    must(io_resize(r, 8192, &err), &err);
    ck_assert_uint_eq(node_size(r), 8192);
    ck_assert_uint_eq(node_size(f), 12288);
    must(io_resize(f, 65536, &err), &err);
    ck_assert_uint_eq(node_size(r), 65536 - 4096);
    resize_fails("r", (uint64_t)INT64_MAX - 511, "Disk size too large for the chosen offset");
    ck_assert_uint_eq(node_size(r), 65536 - 4096);
    add("driver=raw,node-name=w,file=r,size=4096");
    resize_fails("w", 8192, "Cannot resize fixed-size raw disks");
}

int main(void)
{
    const TTest *const tests[] = { windows_must_fit,
                                   a_window_anywhere_reads_right,
                                   writes_stay_in_the_window,
                                   a_map_says_where_the_bytes_lie,
                                   it_grows_and_shrinks_with_its_file,
                                   NULL };
    return run_tests("raw", tests);
}
