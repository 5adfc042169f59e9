/* SPDX-License-Identifier: MIT */
/* block/guess.c: what an image is taken for when nobody says it, and the guard on what was taken for raw. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/io.h"
#include "tests/unit/graph-fixture.h"

static char folder[] = "/tmp/test-guess-XXXXXX";
static char image[64];

static void make_image(const char *name, const void *first, size_t len)
{
    snprintf(image, sizeof image, "%s/%s", folder, name);
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    ck_assert_int_eq(pwrite(fd, first, len, 0), (ssize_t)len);
    close(fd);
}

static struct node *co_fn opened(const char *format, bool read_only)
{
    autoerr err = { 0 };
    struct node *n;
    must(blockdev_open_guessed(image, format, "n", read_only, &n, &err), &err);
    ck_assert_ptr_eq(n, node_find("n"));
    ck_assert(n->monitor_ref);
    return n;
}

static void co_fn refused(const char *format, const char *message)
{
    autoerr err = { 0 };
    char expected[256];
    struct node *n;
    ck_assert_int_lt(blockdev_open_guessed(image, format, "n", false, &n, &err), 0);
    ck_assert_ptr_null(n);
    snprintf(expected, sizeof expected, message, image);
    ck_assert_str_eq(err.msg, expected);
    ck_assert_uint_eq(count_nodes(), 0);
}

static int co_fn write_at(struct root *x, uint64_t offset, const void *p, size_t len)
{
    struct operation o;
    struct span v = { .p = (uint8_t *)p, .len = len };
    ck_assert(operation_begin(&o, x));
    int result = io_write(&o, root_edge(x), offset, &v, 1, 0);
    operation_end(&o);
    return result;
}

static uint8_t block[4096];

CO_TEST(what_looks_like_nothing_is_raw_and_guarded)
{
    make_image("a,b=c.img", "hello", 5); /* a name like an option's */
    struct node *n = opened(NULL, false);
    ck_assert_str_eq(n->driver->name, "raw");
    ck_assert(n->guarded_raw);
    struct root *x = root_on("x", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
    memset(block, 0, sizeof block);
    memcpy(block, "QFI\xfb\0\0\0\3", 8);
    ck_assert_int_eq(write_at(x, 0, block, sizeof block), -EPERM);
    ck_assert_int_eq(write_at(x, 4096, block, sizeof block), 0);
    memcpy(block, "hello", 5);
    ck_assert_int_eq(write_at(x, 0, block, sizeof block), 0);
    root_drop(x);
}

CO_TEST(what_is_said_to_be_raw_is_not_guarded)
{
    make_image("said.img", "QFI\xfb\0\0\0\3", 8);
    struct node *n = opened("raw", false);
    ck_assert(!n->guarded_raw);
    struct root *x = root_on("x", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
    memset(block, 0, sizeof block);
    memcpy(block, "QED\0", 4);
    ck_assert_int_eq(write_at(x, 0, block, sizeof block), 0);
    root_drop(x);
}

CO_TEST(a_format_that_is_not_here_is_refused)
{
    make_image("disk.cloop", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop ", 38);
    refused(NULL, "'%s' looks like an image of format 'cloop', for which there is no driver here; "
                  "say --format raw if its bytes are meant");
    refused("cloop", "'%s': there is no driver for the format 'cloop' here");
}

static const struct driver cloop_toy = {
    .name = "cloop",
    .kind = DRIVER_FORMAT,
    .options = &toy_type,
    .open = format_open,
};

CO_TEST(a_format_that_is_here_is_opened_as_that)
{
    static const struct driver *const list[] = { &cloop_toy, NULL };
    drivers_register(list);
    make_image("disk.cloop", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop ", 38);
    struct node *n = opened(NULL, true);
    ck_assert_ptr_eq(n->driver, &cloop_toy);
    ck_assert(!n->guarded_raw);
    /* A guess leads to no other file, from no node below either. */
    ck_assert(n->options.guessed && node_child(n, "file")->child->options.guessed);
    ck_assert(n->read_only && node_child(n, "file")->child->read_only);
    ck_assert_uint_eq(count_nodes(), 2);
}

CO_TEST(a_file_that_is_not_there_is_named)
{
    make_image("gone.img", "", 0);
    unlink(image);
    refused(NULL, "Could not open '%s': No such file or directory");
}

CO_TEST(a_short_image_is_looked_at_as_far_as_it_goes)
{
    make_image("short.img", "QFI\xfb", 4);
    ck_assert_int_eq(truncate(image, 3), 0);
    ck_assert(opened(NULL, true)->guarded_raw);
    del("n");
    make_image("empty.img", "", 0);
    ck_assert_int_eq(truncate(image, 0), 0);
    ck_assert(opened(NULL, true)->guarded_raw);
}

int main(void)
{
    const TTest *const tests[] = { what_looks_like_nothing_is_raw_and_guarded,
                                   what_is_said_to_be_raw_is_not_guarded,
                                   a_format_that_is_not_here_is_refused,
                                   a_format_that_is_here_is_opened_as_that,
                                   a_file_that_is_not_there_is_named,
                                   a_short_image_is_looked_at_as_far_as_it_goes,
                                   NULL };
    static const char *const names[] = { "a,b=c.img", "said.img",  "disk.cloop",
                                         "gone.img",  "short.img", "empty.img" };
    if (!mkdtemp(folder))
        return EXIT_FAILURE;
    int result = run_tests("guess", tests);
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(image, sizeof image, "%s/%s", folder, names[i]);
        unlink(image);
    }
    return rmdir(folder) == 0 ? result : EXIT_FAILURE;
}
