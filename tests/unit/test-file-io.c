/* SPDX-License-Identifier: MIT */
/* What the file driver makes of the kernel's answers.  Virtual rings: the test gives them. */
#include "tests/unit/graph-fixture.h"

#include <unistd.h>

#include "block/io.h"

enum { FILE_BYTES = 1000, NODE_BYTES = 1024 };

static struct root *x;
static uint8_t *bytes;
static bool writes;
static int result;

static void co_fn request(void *arg)
{
    struct operation o;
    struct span v = { .p = bytes, .len = NODE_BYTES };
    (void)arg;
    operation_enter(&o, x);
    result =
        writes ? io_write(&o, root_edge(x), 0, &v, 1, 0) : io_read(&o, root_edge(x), 0, &v, 1, 0);
    operation_end(&o);
}

/* The kernel answers to a read or write of the whole node with these results, one after another, until it is
 * asked no more.  Return: how many it was asked for. */
static unsigned co_fn ask(bool write, const int *answers, unsigned count)
{
    unsigned asked = 0;
    writes = write;
    result = 1;
    virtual_hold(true);
    ck_assert_int_eq(ring_spawn(ring_started(1), request, NULL, "request"), 0);
    for (unsigned i = 0; i <= count; i++) {
        for (unsigned j = 0; j < 40; j++)
            co_pause();
        if (i == count || !virtual_ops(1))
            break;
        virtual_complete(1, answers[asked++]);
    }
    virtual_hold(false);
    ck_assert_int_ne(result, 1);
    return asked;
}
#define ASK(write, ...)                                                                            \
    ask(write, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

static char path[64];

static bool co_fn up(bool direct)
{
    char text[160];
    snprintf(path, sizeof path, "/var/tmp/ringblk-file-io-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, FILE_BYTES), 0);
    close(fd);
    snprintf(text, sizeof text, "driver=file,node-name=f,filename=%s,cache.direct=%s", path,
             direct ? "on" : "off");
    struct node *n = add(text);
    ck_assert_uint_eq(node_size(n), NODE_BYTES);
    x = root_on("x", ROOT_EXPORT, n, PERM_READ | PERM_WRITE, PERM_ALL);
    bytes = aligned_alloc(4096, 4096);
    memset(bytes, 'x', NODE_BYTES);
    return n->limits.alignment <= 512;
}

static void co_fn down(void)
{
    free(bytes);
    root_drop(x);
    del("f");
    unlink(path);
}

/* Some file systems answer so where a direct read goes on behind a short one at the end. */
CO_TEST(an_end_within_a_block_is_no_error)
{
    if (up(true)) {
        ck_assert_uint_eq(ASK(false, FILE_BYTES, -EINVAL), 2);
        ck_assert_int_eq(result, 0);
        ck_assert(bytes[FILE_BYTES - 1] == 'x');
        ck_assert(bytes_are_zero(bytes + FILE_BYTES, NODE_BYTES - FILE_BYTES));
        /* Before the end it is one, and for a write always. */
        ck_assert_uint_eq(ASK(false, 512, -EINVAL), 2);
        ck_assert_int_eq(result, -EINVAL);
        ck_assert_uint_eq(ASK(true, FILE_BYTES, -EINVAL), 2);
        ck_assert_int_eq(result, -EINVAL);
    }
    down();
}

CO_TEST(what_did_not_fit_is_asked_for_again)
{
    if (up(true)) {
        ck_assert_uint_eq(ASK(true, 512, -EINTR, 256, 256), 4);
        ck_assert_int_eq(result, 0);
        ck_assert_uint_eq(ASK(false, -EINTR, 512, 512), 3);
        ck_assert_int_eq(result, 0);
        ck_assert_uint_eq(ASK(true, 512, 0), 2); /* for ever nothing: an error */
        ck_assert_int_eq(result, -EIO);
        ck_assert_uint_eq(ASK(true, 512, -EIO), 2);
        ck_assert_int_eq(result, -EIO);
    }
    down();
}

int main(void)
{
    const TTest *const tests[] = {
        an_end_within_a_block_is_no_error,
        what_did_not_fit_is_asked_for_again,
        NULL,
    };
    return run_tests("file-io", tests);
}
