/* SPDX-License-Identifier: MIT */
/* block/io.c: who may do what, within which bounds; and I/O of control code. */
#include "tests/unit/io-fixture.h"

enum { SIZE = 16384 };

static struct disk *disk;

static struct node *co_fn add_disk(const char *options)
{
    char text[64];
    drivers_register(io_drivers);
    disk = disk_new(2 * SIZE);
    snprintf(text, sizeof text, "driver=mem,node-name=m%s", options);
    return mem_node(text, disk, SIZE, (struct limits){ .alignment = 512 });
}

static void co_fn end(struct root *x)
{
    if (x)
        root_drop(x);
    del("m");
    disk_free(disk);
    ck_assert_ptr_null(atomic_load(&complaint));
}

static unsigned calls(void)
{
    return disk->reads + disk->writes + disk->zeroes + disk->discards;
}

CO_TEST(without_permission_nothing_is_done)
{
    uint8_t buf[512] = { 0 };
    struct root *x = root_on("x", ROOT_EXPORT, add_disk(""), PERM_READ, PERM_ALL);
    ck_assert_int_eq(do_fill(x, 0, 1, 512, 0), -EPERM);
    ck_assert_int_eq(do_zero(x, 0, 512, 0), -EPERM);
    ck_assert_int_eq(do_discard(x, 0, 512), -EPERM);
    ck_assert_int_eq(do_fill(x, 0, 1, 512, IO_WRITE_UNCHANGED), -EPERM);
    ck_assert_uint_eq(calls(), 0);
    ck_assert_int_eq(do_read(x, 0, buf, sizeof buf), 0);
    root_drop(x);

    x = root_on("x", ROOT_JOB, node_find("m"), PERM_WRITE_UNCHANGED, PERM_ALL);
    ck_assert_int_eq(do_read(x, 0, buf, sizeof buf), -EPERM);
    ck_assert_int_eq(do_fill(x, 0, 1, 512, 0), -EPERM);
    ck_assert_uint_eq(disk->writes, 0);
    ck_assert_int_eq(do_write(x, 0, buf, sizeof buf, IO_WRITE_UNCHANGED), 0);
    end(x);
}

CO_TEST(nothing_reaches_past_the_end)
{
    uint8_t buf[1024] = { 0 };
    struct root *x = root_on("x", ROOT_EXPORT, add_disk(""), RW, PERM_ALL);
    static const uint64_t beyond[] = { SIZE - 512, SIZE, SIZE + 512, INT64_MAX - 511,
                                       UINT64_MAX - 511 };
    for (unsigned i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        ck_assert_int_eq(do_read(x, beyond[i], buf, 1024), -EINVAL);
        ck_assert_int_eq(do_discard(x, beyond[i], 1024), -EINVAL);
        ck_assert_int_eq(do_write(x, beyond[i], buf, 1024, 0), -ENOSPC);
        ck_assert_int_eq(do_zero(x, beyond[i], 1024, 0), -ENOSPC);
    }
    ck_assert_int_eq(do_zero(x, 512, SIZE, 0), -ENOSPC);
    ck_assert_int_eq(do_zero(x, 512, UINT64_MAX - 511, 0), -ENOSPC);
    ck_assert_int_eq(do_discard(x, 512, UINT64_MAX - 511), -EINVAL);
    ck_assert_uint_eq(calls(), 0);
    ck_assert_int_eq(do_write(x, SIZE - 1024, buf, 1024, 0), 0);
    ck_assert_int_eq(do_read(x, SIZE - 1024, buf, 1024), 0);
    end(x);
}

CO_TEST(who_may_resize_makes_it_grow)
{
    struct node *m = add_disk("");
    struct root *x = root_on("x", ROOT_EXPORT, m, RW | PERM_RESIZE, PERM_ALL);
    ck_assert_int_eq(do_fill(x, SIZE, 1, 512, 0), 0);
    ck_assert_uint_eq(node_size(m), SIZE + 512);
    ck_assert_int_eq(do_zero(x, SIZE + 1024, 512, 0), 0);
    ck_assert_uint_eq(node_size(m), SIZE + 1536);
    disk->write_result = -EIO; /* a write that failed makes nothing grow */
    ck_assert_int_eq(do_fill(x, SIZE + 2048, 1, 512, 0), -EIO);
    ck_assert_uint_eq(node_size(m), SIZE + 1536);
    ck_assert_int_eq(do_discard(x, SIZE + 1536, 512), -EINVAL);
    end(x);
}

CO_TEST(nothing_to_do_asks_nobody)
{
    struct root *x = root_on("x", ROOT_EXPORT, add_disk(""), RW, PERM_ALL);
    ck_assert_int_eq(do_read(x, SIZE, NULL, 0), 0);
    ck_assert_int_eq(do_write(x, SIZE, NULL, 0, 0), 0);
    ck_assert_int_eq(do_zero(x, 0, 0, 0), 0);
    ck_assert_int_eq(do_discard(x, 0, 0), 0);
    ck_assert_uint_eq(calls(), 0);
    end(x);
}

CO_TEST(control_code_needs_no_root)
{
    char text[] = "written and read";
    struct node *m = add_disk("");
    ck_assert_int_eq(io_write_control(m, 512, disk->stable, 512), 0);
    memcpy(disk->now + 512, text, sizeof text);
    ck_assert_int_eq(io_read_control(m, 512, text, sizeof text), 0);
    ck_assert_str_eq(text, "written and read");
    ck_assert_int_eq(io_read_control(m, SIZE, text, 1), -EINVAL);
    end(NULL);
}

int main(void)
{
    const TTest *const tests[] = { without_permission_nothing_is_done, nothing_reaches_past_the_end,
                                   who_may_resize_makes_it_grow,       nothing_to_do_asks_nobody,
                                   control_code_needs_no_root,         NULL };
    return run_tests("io", tests);
}
