/* SPDX-License-Identifier: MIT */
/*
 * The drivers driver=file, driver=host_device and driver=host_cdrom: opening
 * and refusing, the rounded tail, zeroing, discarding, direct I/O, resizing,
 * errors of the system, and random requests from two rings against an array.
 */
#include "tests/unit/file-node.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/row.h"
#include "base/span.h"
#include "block/fdset.h"
#include "drivers/file-medium.h"
#include "uring/sync.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

RING_TEST(refusals)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    char text[256];
    REFUSED(-EINVAL, "The 'file' block driver requires a file name", .filename = "");
    REFUSED(-ENOENT, "No persistent reservation manager with id 'pr'", .filename = path,
            .pr_manager = (char *)"pr");
    REFUSED(-EINVAL,
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
            .filename = path, .aio = FILE_AIO_NATIVE);
    REFUSED(-ENOENT, "Could not open '/nonexistent/x': No such file or directory",
            .filename = "/nonexistent/x");
    REFUSED(-ENOENT, "Could not open '/nonexistent/x': No such file or directory",
            .filename = "/nonexistent/x", .auto_read_only = true);
    REFUSED(-EISDIR, "Could not open '/': Is a directory", .filename = "/");
    REFUSED(-EISDIR, "Could not open '/': Is a directory", .filename = "/", .read_only = true);
    REFUSED(-EISDIR, "Could not open '/': Is a directory", .filename = "/",
            .driver = &driver_host_device);
    REFUSED(-EINVAL, "'file' driver requires '/dev/null' to be a regular file",
            .filename = "/dev/null");
    snprintf(text, sizeof(text),
             "'host_device' driver requires '%s' to be either a character or block device", path);
    REFUSED(-EINVAL, text, .filename = path, .driver = &driver_host_device);
    snprintf(text, sizeof(text),
             "'host_cdrom' driver requires '%s' to be either a character or block device", path);
    REFUSED(-EINVAL, text, .filename = path, .driver = &driver_host_cdrom);
    struct node *n = NODE_UP(.filename = path, .direct = true, .aio = FILE_AIO_NATIVE);
    node_down(n);
}

/* Nobody ever writes to the fifo: opening it would wait for ever. */
RING_TEST(fifo)
{
    const char *path = path_in(PLACE_DISK, "fifo");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    char text[256];
    snprintf(text, sizeof(text), "'file' driver requires '%s' to be a regular file", path);
    REFUSED(-EINVAL, text, .filename = path, .read_only = true);
    snprintf(text, sizeof(text),
             "'host_device' driver requires '%s' to be either a character or block device", path);
    REFUSED(-EINVAL, text, .filename = path, .read_only = true, .driver = &driver_host_device);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

RING_TEST(nothing_left_open)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    autoerr err = { 0 };
    node_down(NODE_UP(.filename = path));
    int before = open_descriptors();
    for (int i = 0; i < 3; i++) {
        REFUSED(-EINVAL, "'file' driver requires '/dev/null' to be a regular file",
                .filename = "/dev/null");
        node_down(NODE_UP(.filename = path));
    }
    ck_assert_int_eq(open_descriptors(), before);
}

RING_TEST(rounded_tail)
{
    for (int where = 0; where < PLACES; where++) {
        const char *path = file_make(where, "a", 1000);
        ck_assert_int_eq(truncate(path, 0), 0);
        autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
        char old[1000], bytes[1024], zero[24] = { 0 };
        memset(old, 'o', sizeof(old));
        ck_assert_int_eq(pwrite(fd, old, sizeof(old), 0), 1000);

        struct node *n = NODE_UP(.filename = path);
        ck_assert_uint_eq(node_size(n), 1024);
        memset(bytes, 'x', sizeof(bytes));
        ck_assert_int_eq(n_read(n, 0, bytes, 1024), 0);
        ck_assert_mem_eq(bytes, old, 1000);
        ck_assert_mem_eq(bytes + 1000, zero, 24);
        memset(bytes, 'x', sizeof(bytes));
        ck_assert_int_eq(n_read(n, 1010, bytes, 14), 0); /* all of it past the real end */
        ck_assert_mem_eq(bytes, zero, 14);

        ck_assert_int_eq(n_write(n, 1010, "new", 3, 0), 0);
        ck_assert_int_eq(stat_of(path).st_size, 1013);
        ck_assert(n_holds(n, 1000, 10, 0));
        ck_assert(n_holds(n, 1013, 11, 0));
        ck_assert_int_eq(n->driver->discard(n, NULL, 512, 512), 0);
        ck_assert(n_holds(n, 512, 512, 0));
        ck_assert(n_holds(n, 0, 512, 'o'));
        ck_assert_int_eq(n->driver->zero(n, NULL, 0, 1024, IO_MAY_UNMAP), 0);
        ck_assert(n_holds(n, 0, 1024, 0));
        node_down(n);
        ck_assert_int_le(stat_of(path).st_size, 1024);
    }
}

/* A padded last block does not make the image larger; a node that has grown keeps what it got. */
RING_TEST(past_the_end)
{
    char block[4096] = { 0 };
    const char *path = file_make(PLACE_DISK, "a", 1024);
    struct node *n = NODE_UP(.filename = path);
    memset(block, 'x', 1024);
    ck_assert_int_eq(n_write(n, 0, block, sizeof(block), 0), 0);
    node_down(n);
    ck_assert_int_eq(stat_of(path).st_size, 1024);

    n = NODE_UP(.filename = path);
    ck_assert_int_eq(n_write(n, 1024, block, sizeof(block), 0), 0);
    atomic_store(&n->size, 5120); /* as io.c does for who may resize */
    node_down(n);
    ck_assert_int_eq(stat_of(path).st_size, 5120);

    for (unsigned flags = 0; flags <= IO_MAY_UNMAP; flags += IO_MAY_UNMAP) {
        n = NODE_UP(.filename = path);
        uint64_t size = node_size(n);
        ck_assert_int_eq(n->driver->zero(n, NULL, size, 64 * KIB, flags), 0);
        atomic_store(&n->size, size + 64 * KIB);
        ck_assert(n_holds(n, size, 64 * KIB, 0));
        node_down(n);
        ck_assert_int_eq(stat_of(path).st_size, (off_t)(size + 64 * KIB));
    }
}

/* An image that ends within a sector, read directly. */
RING_TEST(direct_to_an_odd_end)
{
    const char *path = file_make(PLACE_DISK, "a", 9000);
    struct node *n = NODE_UP(.filename = path, .direct = true);
    uint64_t size = node_size(n);
    ck_assert_uint_eq(size, 9216);
    autofree uint8_t *bytes = aligned_alloc(4096, 12288);
    memset(bytes, 'x', 12288);
    ck_assert_int_eq(n_write(n, 0, bytes, 8192, 0), 0);
    ck_assert_int_eq(n_read(n, 0, bytes, 12288), 0);
    ck_assert(bytes[8191] == 'x' && bytes_are_zero(bytes + 8192, 4096));
    ck_assert_int_eq(n_read(n, 8192, bytes, 1024), 0);
    ck_assert(bytes_are_zero(bytes, 1024));
    node_down(n);
}

/* As on a disk with blocks of 4096 bytes: through every road the file is as long as before when the write is
 * done, not only when the node is closed; a killed daemon closes nothing. */
RING_TEST(padding_never_shows)
{
    enum { SIZE = 4096 + 1024 };
    autofree uint8_t *block = aligned_alloc(4096, 8192);
    for (int where = 0; where < PLACES; where++) {
        const char *path = file_make(where, "a", SIZE);
        struct node *n = NODE_UP(.filename = path, .direct = true);
        memset(block, 'x', SIZE);
        memset(block + SIZE, 0, 8192 - SIZE);
        ck_assert_int_eq(n_write(n, 0, block, 8192, IO_PADDED | IO_FUA), 0);
        ck_assert_int_eq(stat_of(path).st_size, SIZE);
        ck_assert(n_holds(n, 0, 4096, 'x'));
        ck_assert_int_eq(n_read(n, 4096, block, 4096), 0);
        ck_assert(block[0] == 'x' && block[1023] == 'x' && bytes_are_zero(block + 1024, 3072));
        for (unsigned flags = 0; flags <= IO_MAY_UNMAP; flags += IO_MAY_UNMAP) {
            ck_assert_int_eq(n->driver->zero(n, NULL, 4096, 4096, flags | IO_PADDED), 0);
            ck_assert_int_eq(stat_of(path).st_size, SIZE);
            ck_assert_int_eq(n_read(n, 4096, block, 4096), 0);
            ck_assert(bytes_are_zero(block, 4096));
        }
        /* Where a parent may make it longer, nothing is cut under its hands. */
        atomic_store(&file_of(n)->may_grow, true);
        ck_assert_int_eq(n_write(n, 4096, block, 4096, IO_PADDED), 0);
        ck_assert_int_eq(stat_of(path).st_size, 8192);
        node_down(n);
        ck_assert_int_eq(stat_of(path).st_size, SIZE);
    }
}

RING_TEST(vectors)
{
    for (int where = 0; where < PLACES; where++) {
        struct node *n = NODE_UP(.filename = file_make(where, "a", MIB));
        uint8_t a[700], b[1], c[3000], back[3701];
        memset(a, 'a', sizeof(a));
        memset(b, 'b', sizeof(b));
        memset(c, 'c', sizeof(c));
        struct span v[] = { { .p = a, .len = sizeof(a) },
                            { .p = b, .len = 0 },
                            { .p = b, .len = 1 },
                            { .p = c, .len = sizeof(c) } };
        ck_assert_int_eq(n->driver->write(n, NULL, 12345, v, 4, 0), 0);
        ck_assert_int_eq(n_read(n, 12345, back, sizeof(back)), 0);
        ck_assert(memcmp(back, a, 700) == 0 && back[700] == 'b' &&
                  memcmp(back + 701, c, 3000) == 0);
        memset(a, 0, sizeof(a));
        memset(c, 0, sizeof(c));
        b[0] = 0;
        ck_assert_int_eq(n->driver->read(n, NULL, 12345, v, 4, 0), 0);
        ck_assert(a[0] == 'a' && a[699] == 'a' && b[0] == 'b' && c[0] == 'c' && c[2999] == 'c');
        /* Read over the end of a file that others have cut, into several spans. */
        ck_assert_int_eq(ftruncate(file_of(n)->fd, 12345 + 300), 0);
        ck_assert_int_eq(n->driver->read(n, NULL, 12345, v, 4, 0), 0);
        ck_assert(a[299] == 'a' && a[300] == 0 && b[0] == 0 && c[2999] == 0);
        node_down(n);
    }
}

RING_TEST(large)
{
    for (int where = 0; where < PLACES; where++) {
        struct node *n = NODE_UP(.filename = file_make(where, "a", 8 * MIB));
        autofree uint8_t *p = malloc(5 * MIB);
        memset(p, 'L', 5 * MIB);
        ck_assert_int_eq(n_write(n, 100, p, 5 * MIB, 0), 0);
        ck_assert(n_holds(n, 100, 5 * MIB, 'L'));
        ck_assert(n_holds(n, 0, 100, 0));
        node_down(n);
    }
}

RING_TEST(zeroing)
{
    for (int where = 0; where < PLACES; where++) {
        const char *path = file_make(where, "a", MIB);
        struct node *n = NODE_UP(.filename = path);
        autofree uint8_t *p = malloc(MIB);
        memset(p, 'x', MIB);
        ck_assert(n->limits.zero_unmaps && n->limits.zero_fast);
        ck_assert_int_eq(n_write(n, 0, p, MIB, 0), 0);
        ck_assert_int_eq(n->driver->flush(n, NULL), 0);
        blkcnt_t full = stat_of(path).st_blocks;
        ck_assert_int_ge(full, MIB / 512);
        /* Kept allocated, at any alignment, then freed. */
        ck_assert_int_eq(n->driver->zero(n, NULL, 1000, 200 * KIB, IO_NO_FALLBACK), 0);
        ck_assert_int_ge(stat_of(path).st_blocks, MIB / 512);
        ck_assert(n_holds(n, 1000, 200 * KIB, 0));
        ck_assert(n_holds(n, 0, 1000, 'x'));
        ck_assert(n_holds(n, 1000 + 200 * KIB, 1000, 'x'));
        ck_assert_int_eq(n->driver->zero(n, NULL, 512 * KIB, 512 * KIB, IO_MAY_UNMAP | IO_FUA), 0);
        ck_assert_int_le(stat_of(path).st_blocks, full - 1000);
        ck_assert(n_holds(n, 512 * KIB, 512 * KIB, 0));
        ck_assert_int_eq(n->driver->zero(n, NULL, 0, 0, 0), 0);
        node_down(n);
    }
}

RING_TEST(discarding)
{
    for (int where = 0; where < PLACES; where++) {
        const char *path = file_make(where, "a", MIB);
        struct node *n = NODE_UP(.filename = path);
        autofree uint8_t *p = malloc(MIB);
        memset(p, 'x', MIB);
        ck_assert_int_eq(n_write(n, 0, p, MIB, IO_FUA), 0);
        ck_assert_int_eq(n->driver->discard(n, NULL, 256 * KIB, 256 * KIB), 0);
        ck_assert_int_le(stat_of(path).st_blocks, MIB / 512 - 500);
        ck_assert(n_holds(n, 256 * KIB, 256 * KIB, 0));
        ck_assert(n_holds(n, 0, 256 * KIB, 'x'));
        ck_assert_int_eq(n->driver->discard(n, NULL, 2 * MIB, MIB), 0);
        ck_assert_int_eq(n->driver->discard(n, NULL, 0, 4 * MIB), 0);
        ck_assert_int_eq(stat_of(path).st_size, MIB);
        ck_assert(n_holds(n, 0, MIB, 0));
        node_down(n);
    }
}

/* A facility that turned out not to work is not asked again, and the next best one serves. */
RING_TEST(remembered)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_DISK, "a", MIB));
    struct file *f = file_of(n);
    char block[4096];
    memset(block, 'x', sizeof(block));
    ck_assert_int_eq(n_write(n, 0, block, 4096, 0), 0);
    atomic_store(&f->zero_range, SUPPORT_NO);
    ck_assert_int_eq(n->driver->zero(n, NULL, 0, 4096, 0), 0); /* punched and allocated */
    ck_assert_int_ge(stat_of(f->path).st_blocks, 8);
    ck_assert(n_holds(n, 0, 4096, 0));
    ck_assert_int_eq(n_write(n, 0, block, 4096, 0), 0);
    atomic_store(&f->punch, SUPPORT_NO);
    ck_assert_int_eq(n->driver->zero(n, NULL, 0, 4096, IO_MAY_UNMAP), -ENOTSUP);
    ck_assert_int_eq(n->driver->discard(n, NULL, 0, 4096), -ENOTSUP);
    ck_assert(n_holds(n, 0, 4096, 'x'));
    node_down(n);

    n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", MIB));
    f = file_of(n);
    ck_assert_int_eq(n->driver->zero(n, NULL, 0, 4096, 0), 0);
    ck_assert_int_eq(atomic_load(&f->zero_range), SUPPORT_NO); /* tmpfs */
    ck_assert_int_eq(atomic_load(&f->allocate), SUPPORT_YES);
    node_down(n);
}

RING_TEST(direct)
{
    const char *path = file_make(PLACE_DISK, "a", MIB);
    struct node *n = NODE_UP(.filename = path, .direct = true);
    struct file *f = file_of(n);
    if (f->memory) {
        fprintf(stderr, "direct: skipped, %s is on tmpfs\n", path);
        node_down(n);
        return;
    }
    uint32_t a = n->limits.alignment, m = n->limits.memory_alignment;
    ck_assert_int_eq(fcntl(f->fd, F_GETFL) & O_DIRECT, O_DIRECT);
    ck_assert(a >= 512 && a <= 65536 && (a & (a - 1)) == 0);
    ck_assert(m >= 1 && m <= 4096 && (m & (m - 1)) == 0);
    autofree uint8_t *p = aligned_alloc(4096, 3 * 65536);
    memset(p, 'd', 3 * 65536);
    ck_assert_int_eq(n_write(n, a, p + m, 2 * a, IO_FUA), 0);
    memset(p, 0, 3 * 65536);
    ck_assert_int_eq(n_read(n, a, p + m, 2 * a), 0);
    ck_assert(p[m] == 'd' && p[m + 2 * a - 1] == 'd' && p[m + 2 * a] == 0);
    ck_assert_int_eq(n_read(n, 0, p, a), 0);
    ck_assert(bytes_are_zero(p, a));

    struct map where;
    ck_assert_int_eq(n->driver->map(n, a, a, false, false, &where), 0);
    ck_assert_int_eq(where.kind, MAP_HERE);
    ck_assert(!where.file.inline_read && !where.file.inline_write);
    ck_assert_int_eq(n->driver->map(n, a + 1, a, false, false, &where), 0);
    ck_assert_int_eq(where.kind, MAP_LONG_ROAD);
    ck_assert_int_eq(n->driver->map(n, a, a - 1, false, false, &where), 0);
    ck_assert_int_eq(where.kind, MAP_LONG_ROAD);
    node_down(n);
}

RING_TEST(short_cut)
{
    struct map m;
    struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", MIB));
    ck_assert_int_eq(n->driver->map(n, 4097, 11, true, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_HERE);
    ck_assert_uint_eq(m.offset, 4097);
    ck_assert_uint_eq(m.len, 11);
    ck_assert(m.stable && m.file.inline_read && m.file.inline_write);
    ck_assert(!m.file.nowait);
    ck_assert_int_eq(m.file.fd, file_of(n)->fd);
    node_down(n);

    n = NODE_UP(.filename = file_make(PLACE_DISK, "a", MIB), .read_only = true);
    ck_assert_int_eq(n->driver->map(n, 0, 4096, true, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_LONG_ROAD);
    ck_assert_int_eq(n->driver->map(n, 0, 4096, false, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_HERE);
    ck_assert(m.file.nowait || on_tmpfs(place[PLACE_DISK]));
    node_down(n);
}

/* What RWF_NOWAIT does for writes is learnt by the first one. */
RING_TEST(nowait_learnt)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_DISK, "a", MIB));
    struct file *f = file_of(n);
    if (atomic_load(&f->nowait_read) == SUPPORT_YES) {
        ck_assert_int_eq(atomic_load(&f->nowait_write), SUPPORT_UNKNOWN);
        ck_assert_int_eq(n_write(n, 0, "hello", 5, 0), 0);
        ck_assert_int_ne(atomic_load(&f->nowait_write), SUPPORT_UNKNOWN);
    }
    char back[5];
    ck_assert_int_eq(n_write(n, 0, "hello", 5, 0), 0);
    ck_assert_int_eq(n_read(n, 0, back, 5), 0);
    ck_assert_mem_eq(back, "hello", 5);
    /* Not cached: the ring serves what the plain call does not. */
    ck_assert_int_eq(n->driver->flush(n, NULL), 0);
    ck_assert_int_eq(posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    memset(back, 0, 5);
    ck_assert_int_eq(n_read(n, 0, back, 5), 0);
    ck_assert_mem_eq(back, "hello", 5);
    node_down(n);
}

RING_TEST(resizing)
{
    for (int where = 0; where < PLACES; where++) {
        autoerr err = { 0 };
        const char *path = file_make(where, "a", 1000);
        struct node *n = NODE_UP(.filename = path);
        char x[1000];
        memset(x, 'x', sizeof(x));
        ck_assert_int_eq(n_write(n, 0, x, 1000, 0), 0);
        ck_assert_int_eq(n->driver->resize(n, NULL, MIB, true, 0, &err), 0);
        ck_assert_uint_eq(node_size(n), MIB);
        ck_assert(n_holds(n, 0, 1000, 'x'));
        ck_assert(n_holds(n, 1000, MIB - 1000, 0));
        ck_assert_int_eq(n->driver->resize(n, NULL, 512, true, 0, &err), 0);
        ck_assert_int_eq(stat_of(path).st_size, 512);
        ck_assert_int_eq(n->driver->resize(n, NULL, 1024, true, 0, &err), 0);
        ck_assert(n_holds(n, 512, 512, 0)); /* nothing of old comes back */
        ck_assert_int_eq(n->driver->resize(n, NULL, UINT64_MAX - 511, true, 0, &err), -EFBIG);
        ck_assert_ptr_nonnull(strstr(err.msg, path));
        ck_assert_uint_eq(node_size(n), 1024);
        node_down(n);
    }
    autoerr err = { 0 };
    struct node *n = NODE_UP(.filename = "/dev/zero", .driver = &driver_host_device);
    ck_assert_int_eq(n->driver->resize(n, NULL, MIB, true, 0, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Cannot grow device '/dev/zero': it has 0 bytes");
    node_down(n);
}

RING_TEST(queries)
{
    const char *path = file_make(PLACE_MEMORY, "a", MIB);
    struct node *n = NODE_UP(.filename = path);
    ck_assert_int_eq(n->driver->allocated_size(n), 0);
    ck_assert_int_eq(n_write(n, 0, "x", 1, 0), 0);
    ck_assert_int_eq(n->driver->allocated_size(n), 4096);
    autofree char *name = n->driver->filename(n);
    ck_assert_str_eq(name, path);
    node_down(n);
}

/* ---- a drive of our own ---- */

static int drive_in, drive_out, drive_locked;

static int drive_present(int fd)
{
    (void)fd;
    return drive_in;
}

static int drive_eject(int fd, bool out)
{
    (void)fd;
    if (out && drive_locked)
        return -EBUSY;
    drive_out = out;
    drive_in = !out;
    return 0;
}

static int drive_lock(int fd, bool locked)
{
    (void)fd;
    drive_locked = locked;
    return 0;
}

static const struct medium_calls drive = { drive_present, drive_eject, drive_lock };

/* A drive whose disc cannot be read: a cut block device is none, so reading is made to fail. */
static int unreadable(struct node *n)
{
    struct file *f = file_of(n);
    int fd = f->fd, r;
    f->block_device = true; /* nothing to read there is an error of it */
    f->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char byte;
    r = n_read(n, 0, &byte, 1);
    close(f->fd);
    f->fd = fd;
    f->block_device = false;
    return r;
}

RING_TEST(tray)
{
    autoerr err = { 0 };
    struct node *n = NODE_UP(.filename = "/dev/zero", .driver = &driver_host_cdrom);
    const struct driver *d = n->driver;
    ck_assert(d->medium_present(n)); /* no drive at all: always in */
    ck_assert_int_eq(d->medium_eject(n, true, &err), -ENOTTY);
    ck_assert_str_eq(err.msg, "Could not open the tray of '/dev/zero': "
                              "Inappropriate ioctl for device");
    err_clear(&err);

    drive_in = true;
    file_of(n)->medium = &drive;
    ck_assert(d->medium_present(n));
    ck_assert_int_eq(unreadable(n), -EIO);
    ck_assert_int_eq(d->medium_lock(n, true, &err), 0);
    ck_assert_int_eq(d->medium_eject(n, true, &err), -EBUSY);
    ck_assert_str_eq(err.msg, "Could not open the tray of '/dev/zero': Device or resource busy");
    ck_assert(d->medium_present(n) && !drive_out);
    ck_assert_int_eq(d->medium_lock(n, false, &err), 0);
    err_clear(&err);
    ck_assert_int_eq(d->medium_eject(n, true, &err), 0);
    ck_assert(!d->medium_present(n) && drive_out);
    ck_assert_int_eq(unreadable(n), -ENOMEDIUM);
    ck_assert_int_eq(d->medium_eject(n, false, &err), 0);
    ck_assert(d->medium_present(n));
    node_down(n);
}

/* ---- errors of the system ---- */

RING_TEST(no_space)
{
    struct node *n = NODE_UP(.filename = "/dev/full", .driver = &driver_host_device);
    ck_assert_int_eq(n_write(n, 0, "x", 1, 0), -ENOSPC);
    ck_assert_int_eq(n->driver->flush(n, NULL), 0);
    node_down(n);
}

RING_TEST(file_too_big)
{
    signal(SIGXFSZ, SIG_IGN); /* as the daemon does */
    for (int where = 0; where < PLACES; where++) {
        struct node *n = NODE_UP(.filename = file_make(where, "a", MIB));
        struct rlimit old, small = { 512 * KIB, RLIM_INFINITY };
        ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
        small.rlim_max = old.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        char block[8192] = "x";
        int over = n_write(n, 600 * KIB, block, sizeof(block), 0);
        int across = n_write(n, 512 * KIB - 4096, block, sizeof(block), 0);
        int below = n_write(n, 0, block, sizeof(block), 0);
        setrlimit(RLIMIT_FSIZE, &old);
        ck_assert_int_eq(over, -EFBIG);
        ck_assert_int_eq(across, -EFBIG); /* never a short count */
        ck_assert_int_eq(below, 0);
        node_down(n);
    }
}

RING_TEST(read_only_file)
{
    struct node *n = NODE_UP(.filename = file_make(PLACE_MEMORY, "a", 4096), .read_only = true);
    ck_assert_int_eq(n_write(n, 0, "x", 1, 0), -EBADF);
    autoerr err = { 0 };
    ck_assert_int_eq(n->driver->resize(n, NULL, 8192, true, 0, &err), -EINVAL);
    node_down(n);
}

RING_TEST(passed_descriptor)
{
    autoerr err = { 0 };
    const char *path = file_make(PLACE_DISK, "a", 4096);
    int64_t id = 77, out;
    fdset_client_came();
    ck_assert_int_eq(fdset_add(&id, open(path, O_RDONLY | O_CLOEXEC), NULL, &out, &err), 0);
    REFUSED(
        -EACCES,
        "Could not open '/dev/fdset/77': the set has no descriptor that is open for reading and "
        "writing",
        .filename = "/dev/fdset/77");
    REFUSED(-ENOENT, "Could not open '/dev/fdset/78': No such file or directory",
            .filename = "/dev/fdset/78");
    struct node *n = NODE_UP(.filename = "/dev/fdset/77", .read_only = true);
    ck_assert_uint_eq(node_size(n), 4096);
    ck_assert(n_holds(n, 0, 4096, 0));
    node_down(n);
    ck_assert_int_eq(fdset_add(&id, open("/dev/null", O_RDWR | O_CLOEXEC), NULL, &out, &err), 0);
    REFUSED(-EINVAL, "'file' driver requires '/dev/fdset/77' to be a regular file",
            .filename = "/dev/fdset/77");
    n = NODE_UP(.filename = "/dev/fdset/77", .driver = &driver_host_device);
    node_down(n);
    fdset_client_left();
}

RING_TEST(options)
{
    autoerr err = { 0 };
    struct file_options o;
    ck_assert_int_eq(row_parse_text(driver_file.options,
                                    "filename=x,locking=off,aio=io_uring,drop-cache=on,"
                                    "x-check-cache-dropped=on,aio-max-batch=3",
                                    NULL, &o, &err),
                     0);
    ck_assert_str_eq(o.filename, "x");
    ck_assert_int_eq(o.locking, OOA_OFF);
    ck_assert_int_eq(o.aio, FILE_AIO_IO_URING);
    ck_assert(o.has_drop_cache && o.drop_cache && o.x_check_cache_dropped);
    row_release(driver_file.options, &o);
    ck_assert_int_eq(row_parse_text(driver_file.options, "filename=x", NULL, &o, &err), 0);
    ck_assert_int_eq(o.locking, OOA_AUTO);
    ck_assert_int_eq(o.aio, FILE_AIO_THREADS);
    row_release(driver_file.options, &o);
    ck_assert_int_eq(row_parse_text(driver_file.options, "filename=x,aio=foo", NULL, &o, &err),
                     -EINVAL);
    ck_assert_str_eq(err.msg, "Parameter 'aio' does not accept value 'foo'");
    err_clear(&err);
    ck_assert_int_eq(row_parse_text(driver_file.options, "aio=threads", NULL, &o, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Parameter 'filename' is missing");
}

/* ---- random requests from two rings against an array ---- */

enum { AREA = 2 * MIB, STRIPE = 16 * KIB, STEPS = 1500 };

struct player {
    struct node *n;
    uint8_t *model; /* AREA bytes; this player's are the stripes of its parity */
    unsigned parity;
    uint32_t align;
    uint64_t random;
};

static uint64_t draw(struct player *p, uint64_t below)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random % below;
}

static int check_status(struct player *p, uint64_t offset, uint64_t len)
{
    struct extent e;
    int r = p->n->driver->status(p->n, NULL, offset, len, true, &e);
    if (r < 0 || e.len == 0 || e.len > len)
        return r < 0 ? r : -ERANGE;
    return e.flags & EXTENT_ZERO && !bytes_are_zero(p->model + offset, e.len) ? -EILSEQ : 0;
}

static int play_step(struct player *p, uint8_t *buffer)
{
    const struct driver *d = p->n->driver;
    uint64_t stripe = 2 * draw(p, AREA / STRIPE / 2) + p->parity;
    uint64_t at = draw(p, STRIPE / p->align) * p->align;
    uint64_t len = (1 + draw(p, (STRIPE - at) / p->align)) * p->align;
    uint64_t offset = stripe * STRIPE + at;
    static const unsigned zero_flags[] = { 0, IO_MAY_UNMAP, IO_NO_FALLBACK, IO_FUA };
    int r;
    switch (draw(p, 8)) {
    case 0:
    case 1:
    case 2:
        memset(buffer, (int)(1 + draw(p, 255)), len);
        memcpy(p->model + offset, buffer, len);
        return n_write(p->n, offset, buffer, len, draw(p, 16) == 0 ? IO_FUA : 0);
    case 3:
        memset(p->model + offset, 0, len);
        return d->zero(p->n, NULL, offset, len, zero_flags[draw(p, 4)]);
    case 4: memset(p->model + offset, 0, len); return d->discard(p->n, NULL, offset, len);
    case 5: return check_status(p, offset, len);
    default:
        r = n_read(p->n, offset, buffer, len);
        return r == 0 && memcmp(buffer, p->model + offset, len) != 0 ? -EILSEQ : r;
    }
}

static int play(void *arg)
{
    struct player *p = arg;
    autofree uint8_t *buffer = aligned_alloc(4096, STRIPE);
    for (int i = 0; i < STEPS; i++) {
        int r = play_step(p, buffer);
        if (r < 0)
            return r;
    }
    return 0;
}

struct match {
    struct player *player;
    unsigned ring;
};

static int play_on_ring(void *arg)
{
    struct match *m = arg;
    return ring_call(ring_started(m->ring), play, m->player);
}

static void co_fn random_requests(struct node *n, uint64_t seed)
{
    autoerr err = { 0 };
    autofree uint8_t *model = calloc(1, AREA), *all = aligned_alloc(4096, AREA);
    uint32_t align = n->limits.alignment;
    struct player players[2];
    struct match matches[2];
    struct co_group group = { 0 };
    for (unsigned i = 0; i < 2; i++) {
        players[i] = (struct player){ n, model, i, align, seed * 2 + i + 1 };
        matches[i] = (struct match){ &players[i], 1 + i };
        ck_assert_ptr_nonnull(ring_get(1 + i, &err));
        ck_assert_int_eq(co_group_start(&group, play_on_ring, &matches[i], "player"), 0);
    }
    int r = co_group_wait(&group);
    ck_assert_msg(r == 0, "seed %llu: %s", (unsigned long long)seed, strerror(-r));
    ck_assert_int_eq(n->driver->flush(n, NULL), 0);
    ck_assert_int_eq(n_read(n, 0, all, AREA), 0);
    ck_assert_msg(memcmp(all, model, AREA) == 0, "seed %llu", (unsigned long long)seed);
}

RING_TEST(random_by_two_rings)
{
    const char *given = getenv("RINGBLK_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("random_by_two_rings: seed %llu (RINGBLK_SEED)\n", (unsigned long long)seed);
    for (int how = 0; how < 3; how++) {
        int where = how == 0 ? PLACE_MEMORY : PLACE_DISK;
        struct node *n = NODE_UP(.filename = file_make(where, "a", AREA), .direct = how == 2);
        random_requests(n, seed + (uint64_t)how);
        node_down(n);
    }
}

int main(void)
{
    const TTest *tests[] = {
        refusals,
        fifo,
        nothing_left_open,
        rounded_tail,
        past_the_end,
        direct_to_an_odd_end,
        padding_never_shows,
        vectors,
        large,
        zeroing,
        discarding,
        remembered,
        direct,
        short_cut,
        nowait_learnt,
        resizing,
        queries,
        no_space,
        file_too_big,
        read_only_file,
        passed_descriptor,
        options,
        tray,
        random_by_two_rings,
    };
    return run_tests("file", tests, sizeof(tests) / sizeof(*tests));
}
