/* SPDX-License-Identifier: MIT */
/*
 * Making files.  An old file keeps its inode, owner and mode; what it held goes
 * only once its locks say that nobody uses it, so a running image is never cut
 * off.  The locks are held until the file has its size.
 */
#include "drivers/file-create.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "block/fdset.h"
#include "drivers/file-lock.h"
#include "drivers/file.h"
#include "uring/ring.h"

enum { PIECE = 1 << 20 }; /* zeroes are written in pieces of so many bytes */

struct file_create_options {
    char *filename;
    uint64_t size;
    bool has_preallocation;
    int preallocation;
    bool nocow;
    bool has_extent_size_hint;
    uint64_t extent_size_hint;
};

static const struct row file_create_rows[] = {
    ROW_REQ(struct file_create_options, "filename", filename, row_str, .help = "Its path"),
    ROW_REQ(struct file_create_options, "size", size, row_size, .help = "Its size in bytes"),
    ROW_HAS(struct file_create_options, "preallocation", preallocation, row_preallocation,
            .help = "off, falloc or full; default: off"),
    ROW_OPT(struct file_create_options, "nocow", nocow, row_bool,
            .help = "Write in place on file systems that copy on write (btrfs); default: off"),
    ROW_HAS(struct file_create_options, "extent-size-hint", extent_size_hint, row_size,
            .help = "In what pieces to take space, in bytes (XFS); default: 1 MiB, 0: none"),
    ROW_END,
};
ROW_STRUCT_TYPE(row_file_create_options, "BlockdevCreateOptionsFile", struct file_create_options,
                file_create_rows, .since = "0.1", .help = "A file to be made");

struct create_work {
    const struct file_create_options *o;
    const atomic_bool *stop;
    struct err *err;
};

/* Both are hints that few file systems take: those that don't say nothing. */
static void give_hints(int fd, const struct file_create_options *o)
{
    uint64_t hint = o->has_extent_size_hint ? o->extent_size_hint : 1 << 20;
    struct fsxattr x;
    int flags;

    if (hint && ioctl(fd, FS_IOC_FSGETXATTR, &x) == 0) {
        x.fsx_xflags |= FS_XFLAG_EXTSIZE;
        x.fsx_extsize = (uint32_t)hint;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &x);
    }
    if (o->nocow && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

static int write_zeroes(int fd, const struct create_work *w)
{
    autofree char *zeroes = calloc(1, PIECE);
    uint64_t at = 0;

    if (!zeroes)
        return -ENOMEM;
    while (at < w->o->size) {
        uint64_t rest = w->o->size - at;
        ssize_t n = pwrite(fd, zeroes, rest < PIECE ? rest : PIECE, (off_t)at);
        if (atomic_load(w->stop))
            return -ECANCELED;
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (uint64_t)n : 0;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* The file is empty.  On failure it is so again. */
static int give_space(int fd, const struct create_work *w)
{
    const struct file_create_options *o = w->o;
    const char *what = "Could not resize file";
    int r = 0;

    if (o->size > INT64_MAX)
        return err_set_errno(w->err, -EFBIG, "Could not resize file");
    if (o->preallocation == PREALLOC_FALLOC && o->size > 0) {
        what = "Could not preallocate new data";
        do
            r = posix_fallocate(fd, 0, (off_t)o->size);
        while (r == EINTR && !atomic_load(w->stop));
        r = -r;
    } else if (ftruncate(fd, (off_t)o->size) < 0) {
        r = -errno;
    } else if (o->preallocation == PREALLOC_FULL) {
        what = "Could not write zeros for preallocation";
        r = write_zeroes(fd, w);
    }
    if (r == 0)
        return 0;
    if (ftruncate(fd, 0) < 0)
        return err_set_errno(w->err, r, "%s (and the file stays as it is)", what);
    return r == -ECANCELED ? err_set(w->err, r, "%s", strerror(-r))
                           : err_set_errno(w->err, r, "%s", what);
}

static int fill(int fd, const struct create_work *w)
{
    if (ftruncate(fd, 0) < 0)
        return err_set_errno(w->err, -errno, "Could not resize file");
    give_hints(fd, w->o);
    return give_space(fd, w);
}

/* The same locks as an image in use has, against others and against ourselves. */
static int lock_and_fill(int fd, const struct create_work *w)
{
    struct file f = { .fd = fd, .path = w->o->filename, .locking = true, .regular = true };
    int r =
        file_lock_prepare(&f, PERM_WRITE | PERM_RESIZE, PERM_ALL & ~(unsigned)PERM_READ, w->err);

    if (r == 0)
        r = fill(fd, w);
    file_lock_drop(&f, fd);
    return r;
}

static int create_file(void *arg)
{
    const struct create_work *w = arg;
    const struct file_create_options *o = w->o;
    int fd, r;

    if (o->preallocation == PREALLOC_METADATA)
        return err_set(w->err, -ENOTSUP, "Unsupported preallocation mode 'metadata'");
    if (o->has_extent_size_hint && o->extent_size_hint > UINT32_MAX)
        return err_set(w->err, -EINVAL, "Extent size hint is too large");
    if (fdset_is_path(o->filename)) {
        fd = fdset_open(o->filename, O_RDWR, w->err);
    } else {
        do
            fd = open(o->filename, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
        while (fd < 0 && errno == EINTR);
        if (fd < 0)
            err_set_errno(w->err, -errno, "Could not create '%s'", o->filename);
    }
    if (fd < 0)
        return w->err->code;
    struct stat st;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        r = err_set(w->err, -EINVAL, "Could not create '%s': it is there and not a regular file",
                    o->filename);
    else
        r = lock_and_fill(fd, w);
    fdset_close(fd);
    return r;
}

int co_fn file_create(const void *options, const atomic_bool *stop, struct err *err)
{
    struct create_work w = { options, stop, err };

    return ring_block(create_file, &w);
}
