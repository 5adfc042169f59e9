/* SPDX-License-Identifier: MIT */
/*
 * The drivers file, host_device and host_cdrom: opening, permissions, size.
 * Data calls are in file-io.c, block status in file-status.c, locks in
 * file-lock.c, what is found out when opening in file-probe.c.
 *
 * Whatever may block (opening, closing, locking on a network file system,
 * truncating) runs on a worker; the control ring waits for it in its coroutine.
 */
#include "drivers/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "block/fdset.h"
#include "drivers/file-create.h"
#include "drivers/file-io.h"
#include "drivers/file-lock.h"
#include "drivers/file-medium.h"
#include "drivers/file-probe.h"
#include "drivers/file-status.h"
#include "uring/ring.h"

/* ---- options ---- */

static const char *const aio_values[] = { "threads", "native", "io_uring", NULL };
static const char *const aio_help[] = {
    "accepted; io_uring does the work",
    "accepted with cache.direct=on; io_uring does the work",
    "asynchronous calls through io_uring",
};
static ROW_ENUM_TYPE(row_aio, "BlockdevAioOptions", aio_values, .value_help = aio_help,
                     .help = "How requests reach the kernel");

static const struct row file_rows[] = {
    ROW_REQ(struct file_options, "filename", filename, row_str,
            .help = "Path of the file or device, or /dev/fdset/N for a passed descriptor"),
    ROW_OPT(struct file_options, "pr-manager", pr_manager, row_str,
            .help = "Object that carries out SCSI persistent reservations; there is none, any name "
                    "is refused"),
    ROW_OPT(struct file_options, "locking", locking, row_on_off_auto, .fallback = "auto",
            .help = "Lock the image, so that two programs don't write to it at once"),
    ROW_OPT(struct file_options, "aio", aio, row_aio, .fallback = "threads",
            .help = "How requests reach the kernel; all values use io_uring"),
    ROW_OPT(struct file_options, "aio-max-batch", aio_max_batch, row_int,
            .help = "Accepted for compatibility; batches are as large as a turn of the ring"),
    ROW_HAS(struct file_options, "drop-cache", drop_cache, row_bool,
            .help = "Accepted for compatibility; there is no migration that would drop the cache"),
    ROW_OPT(struct file_options, "x-check-cache-dropped", x_check_cache_dropped, row_bool,
            .help = "Accepted for compatibility, without effect"),
    ROW_END,
};
/* Management programs leave auto-read-only on only where a node becomes writable when it is written to. */
static const char *const file_features[] = { "dynamic-auto-read-only", NULL };
static ROW_STRUCT_TYPE(row_file_options, "BlockdevOptionsFile", struct file_options, file_rows,
                       .features = file_features, .help = "A file or device of the host");

static int check_options(const struct node *n, const struct file_options *o, struct err *err)
{
    if (!o->filename || !*o->filename)
        return err_set(err, -EINVAL, "The '%s' block driver requires a file name", n->driver->name);
    if (o->pr_manager)
        return err_set(err, -ENOENT, "No persistent reservation manager with id '%s'",
                       o->pr_manager);
    if (o->aio == FILE_AIO_NATIVE && !n->options.direct)
        return err_set(err, -EINVAL,
                       "aio=native was specified, but it requires cache.direct=on, which was not "
                       "specified.");
    return 0;
}

/* ---- opening, on a worker ---- */

struct open_job {
    struct file *f;
    const char *driver;
    bool writable, direct;
    struct limits limits;
    uint64_t size;
    struct err *err;
};

static int refuse_kind(const struct open_job *j, mode_t mode)
{
    const char *path = j->f->path;
    if (S_ISDIR(mode))
        return err_set_errno(j->err, -EISDIR, "Could not open '%s'", path);
    if (j->f->kind == FILE_REGULAR && !S_ISREG(mode))
        return err_set(j->err, -EINVAL, "'%s' driver requires '%s' to be a regular file", j->driver,
                       path);
    if (j->f->kind != FILE_REGULAR && !S_ISBLK(mode) && !S_ISCHR(mode))
        return err_set(j->err, -EINVAL,
                       "'%s' driver requires '%s' to be either a character or block device",
                       j->driver, path);
    return 0;
}

/* The wrong kind of file is refused before it is opened: opening a fifo waits, opening a device may do
 * things. */
static int refuse_early(const struct open_job *j)
{
    struct stat st;
    if (fdset_is_path(j->f->path) || stat(j->f->path, &st) < 0)
        return 0;
    return refuse_kind(j, st.st_mode);
}

static int open_path(const char *path, int flags, struct err *err)
{
    if (fdset_is_path(path))
        return fdset_open(path, flags, err);
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? err_set_errno(err, -errno, "Could not open '%s'", path) : fd;
}

/* Nonblocking while opening only; direct if wanted, which tmpfs needs as little as it has it. */
static int set_mode(struct open_job *j)
{
    struct file *f = j->f;
    struct statfs fs;
    f->memory = fstatfs(f->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC && f->kind == FILE_REGULAR;
    f->direct = j->direct && !f->memory;
    int now = fcntl(f->fd, F_GETFL);
    if (now < 0)
        return err_set_errno(j->err, -errno, "Could not open '%s'", f->path);
    int wanted = (now & ~(O_NONBLOCK | O_DIRECT)) | (f->direct ? O_DIRECT : 0);
    if (wanted == now || fcntl(f->fd, F_SETFL, wanted) == 0)
        return 0;
    if (f->direct && errno == EINVAL)
        return err_set(j->err, -EINVAL, "Could not open '%s': filesystem does not support O_DIRECT",
                       f->path);
    return err_set_errno(j->err, -errno, "Could not open '%s'", f->path);
}

/* A read-only block device opens for writing like any other. */
static int check_writable(int fd, const char *path, struct err *err)
{
    int no;
    if (ioctl(fd, BLKROGET, &no) == 0 && no)
        return err_set_errno(err, -EACCES, "Could not open '%s': The device is not writable", path);
    return 0;
}

static int check_opened(struct open_job *j)
{
    struct file *f = j->f;
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return err_set_errno(j->err, -errno, "Could not open '%s'", f->path);
    int r = refuse_kind(j, st.st_mode);
    if (r < 0)
        return r;
    r = j->writable && S_ISBLK(st.st_mode) ? check_writable(f->fd, f->path, j->err) : 0;
    if (r < 0)
        return r;
    r = f->medium ? f->medium->present(f->fd) : 1;
    if (r <= 0)
        return err_set_errno(j->err, r < 0 ? r : -ENOMEDIUM, "Could not open '%s'", f->path);
    r = set_mode(j);
    return r < 0 ? r : file_probe(f, &j->limits, &j->size, j->err);
}

static int open_work(void *arg)
{
    struct open_job *j = arg;
    struct file *f = j->f;
    int r = refuse_early(j);
    if (r < 0)
        return r;
    /* A drive without a disc opens with O_NONBLOCK only; a file that is none must not wait. */
    int flags = (j->writable ? O_RDWR : O_RDONLY) | (f->kind == FILE_DEVICE ? 0 : O_NONBLOCK);
    f->fd = open_path(f->path, flags, j->err);
    if (f->fd < 0)
        return f->fd;
    atomic_store(&f->writable, j->writable);
    r = check_opened(j);
    if (r < 0)
        fdset_close(f->fd);
    return r;
}

static bool is_read_only_error(int r)
{
    return r == -EACCES || r == -EROFS || r == -EPERM;
}

/* A disc is read-only, whoever did not say otherwise means that. */
static int fall_back(struct node *n, struct err *err)
{
    bool said = n->said && n->said->has_read_only;
    autoerr why = { 0 };
    err_move(&why, err);
    if (file_of(n)->kind == FILE_CDROM && !said) {
        n->read_only = true;
        return 0;
    }
    int r = node_fall_back_to_read_only(n, why.msg, err);
    if (r < 0) /* with the errno of what failed */
        err->code = why.code;
    return r < 0 ? why.code : 0;
}

static int co_fn open_either_way(struct node *n, struct open_job *j)
{
    int r = ring_block(open_work, j);
    if (!j->writable || !is_read_only_error(r))
        return r;
    r = fall_back(n, j->err);
    if (r < 0)
        return r;
    j->writable = false;
    return ring_block(open_work, j);
}

static int co_fn open_kind(struct node *n, const struct file_options *o, enum file_kind kind,
                           struct err *err)
{
    int r = check_options(n, o, err);
    if (r < 0)
        return r;
    struct file *f = file_of(n);
    f->kind = kind;
    f->fd = f->reopened = -1;
    f->medium = kind == FILE_CDROM ? &medium_calls_cdrom : NULL;
    f->locking = o->locking != OOA_OFF;
    atomic_flag_clear(&f->cache.guard);
    f->path = strdup(o->filename);
    if (!f->path)
        return err_set(err, -ENOMEM, "out of memory for '%s'", o->filename);

    struct open_job j = {
        .f = f,
        .driver = n->driver->name,
        .writable = !n->read_only,
        .direct = n->options.direct,
        .err = err,
    };
    r = open_either_way(n, &j);
    if (r < 0) {
        free(take_ptr(&f->path));
        return r;
    }
    n->limits = j.limits;
    atomic_store(&n->size, j.size);
    return 0;
}

static int co_fn file_open(struct node *n, const void *options, struct err *err)
{
    return open_kind(n, options, FILE_REGULAR, err);
}

static int co_fn host_device_open(struct node *n, const void *options, struct err *err)
{
    return open_kind(n, options, FILE_DEVICE, err);
}

static int co_fn host_cdrom_open(struct node *n, const void *options, struct err *err)
{
    return open_kind(n, options, FILE_CDROM, err);
}

/* ---- closing ---- */

/* A write of the last, padded block made the file longer than the node ever was: cut that off again,
 * unless somebody else has changed the size since. */
void file_cut_padding(struct node *n)
{
    const struct file *f = file_of(n);
    uint64_t end = atomic_load(&f->padded_end), size = node_size(n);
    struct stat st;
    if (end > size && fstat(f->fd, &st) == 0 && (uint64_t)st.st_size == end &&
        ftruncate(f->fd, (off_t)size) < 0)
        return; /* zeroes stay at the end */
}

static int close_work(void *arg)
{
    struct node *n = arg;
    struct file *f = file_of(n);
    if (f->regular && atomic_load(&f->writable))
        file_cut_padding(n);
    file_lock_drop(f, f->fd);
    fdset_close(f->fd);
    return 0;
}

static void co_fn file_close(struct node *n)
{
    struct file *f = file_of(n);
    ring_block(close_work, n);
    free(take_ptr(&f->path));
}

/* ---- permissions ---- */

enum { PERM_CHANGES = PERM_WRITE | PERM_WRITE_UNCHANGED | PERM_RESIZE };

struct permission_job {
    struct node *n;
    unsigned perm, unshared;
    enum permission_phase phase;
    struct err *err;
};

/* Is @fd the file that is open already?  A set of descriptors may hold others. */
static int check_same(const struct file *f, int fd, struct err *err)
{
    struct stat a, b;
    if (fstat(f->fd, &a) < 0 || fstat(fd, &b) < 0)
        return err_set_errno(err, -errno, "Could not open '%s' for writing", f->path);
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return err_set(err, -EINVAL, "Could not open '%s' for writing: that is another file",
                       f->path);
    return f->block_device ? check_writable(fd, f->path, err) : 0;
}

/* The same file, open for writing: by its descriptor, so that neither a renaming nor another working
 * directory leads elsewhere. */
static int open_again(const struct file *f, struct err *err)
{
    int fd;
    if (fdset_is_path(f->path)) {
        fd = fdset_open(f->path, O_RDWR | (f->direct ? O_DIRECT : 0), err);
    } else {
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
        int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | (f->direct ? O_DIRECT : 0);
        do
            fd = open(path, flags);
        while (fd < 0 && errno == EINTR);
        if (fd < 0)
            err_set_errno(err, -errno, "Could not open '%s' for writing", f->path);
    }
    if (fd < 0 || check_same(f, fd, err) == 0)
        return fd < 0 ? err->code : fd;
    fdset_close(fd);
    return err->code;
}

static void reopened_forget(struct file *f)
{
    if (f->reopened < 0)
        return;
    file_lock_drop(f, f->reopened);
    fdset_close(f->reopened);
    f->reopened = -1;
}

static int permission_prepare(const struct permission_job *j)
{
    struct file *f = file_of(j->n);
    if (j->perm & PERM_CHANGES && !atomic_load(&f->writable)) {
        if (j->n->options.read_only)
            return err_set(j->err, -EACCES, "Block node '%s' is read-only", node_label(j->n));
        f->reopened = open_again(f, j->err);
        if (f->reopened < 0)
            return f->reopened;
    }
    int r = file_lock_prepare(f, j->perm, j->unshared, j->err);
    if (r == 0 && f->reopened >= 0) {
        r = file_lock_copy(f, f->reopened, j->perm, j->unshared);
        if (r < 0)
            err_set_errno(j->err, r, "Failed to lock '%s'", f->path);
    }
    if (r < 0) {
        reopened_forget(f);
        file_lock_settle(f, f->perm, f->unshared);
    }
    return r;
}

static void permission_commit(const struct permission_job *j)
{
    struct file *f = file_of(j->n);
    if (f->reopened >= 0) {
        int r;
        file_lock_drop(f, f->fd);
        do
            r = dup3(f->reopened, f->fd, O_CLOEXEC);
        while (r < 0 && (errno == EINTR || errno == EBUSY));
        fdset_close(f->reopened);
        f->reopened = -1;
        atomic_store(&f->writable, true);
    }
    f->perm = j->perm;
    f->unshared = j->unshared;
    atomic_store(&f->may_grow, f->perm & PERM_RESIZE);
}

static int permission_work(void *arg)
{
    const struct permission_job *j = arg;
    struct file *f = file_of(j->n);
    switch (j->phase) {
    case PERM_PREPARE: return permission_prepare(j);
    case PERM_COMMIT: permission_commit(j); break;
    case PERM_ABORT: reopened_forget(f); break;
    }
    file_lock_settle(f, f->perm, f->unshared);
    return 0;
}

/* What nobody but this node may do with the file.  Parents that share writing and resizing share it within
 * the graph, where it is kept in order; another program's writes would go unseen, and the end that it cut off
 * would read as zeroes. */
static unsigned unshared_of(const struct node *n, unsigned perm, unsigned shared)
{
    if (n->options.force_share)
        return 0;
    if (perm)
        shared &= ~(unsigned)PERM_RESIZE;
    if (perm & PERM_CHANGES)
        shared &= ~(unsigned)PERM_WRITE;
    return ~shared & PERM_ALL;
}

static int co_fn file_permissions(struct node *n, unsigned perm, unsigned shared,
                                  enum permission_phase phase, struct err *err)
{
    struct permission_job j = { n, perm & PERM_ALL, unshared_of(n, perm, shared), phase, err };
    int r = ring_block(permission_work, &j);
    if (phase == PERM_COMMIT && atomic_load(&file_of(n)->writable))
        n->read_only = false;
    return r;
}

/* ---- size and queries ---- */

struct resize_job {
    struct file *f;
    uint64_t size;
    bool exact;
    int64_t result; /* the size afterwards, bytes; negative errno */
};

static int resize_work(void *arg)
{
    struct resize_job *j = arg;
    if (j->f->regular) {
        int r;
        do
            r = ftruncate(j->f->fd, (off_t)j->size);
        while (r < 0 && errno == EINTR);
        if (r < 0)
            return -errno;
    }
    j->result = file_size(j->f);
    return j->result < 0 ? (int)j->result : 0;
}

/* A device has the size that it has; it may have grown since it was opened. */
static int co_fn file_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                             enum io_flags flags, struct err *err)
{
    (void)o;
    (void)flags;
    struct file *f = file_of(n);
    struct resize_job j = { .f = f, .size = size, .exact = exact };
    int r = size > INT64_MAX ? -EFBIG : ring_block(resize_work, &j);
    file_status_changed(f);
    if (r < 0)
        return err_set_errno(err, r, "Failed to resize '%s'", f->path);
    if (!f->regular && (uint64_t)j.result < size)
        return err_set(err, -EINVAL, "Cannot grow device '%s': it has %lld bytes", f->path,
                       (long long)j.result);
    if (!f->regular && exact && (uint64_t)j.result != size)
        return err_set(err, -ENOTSUP, "Cannot resize device '%s': it has %lld bytes", f->path,
                       (long long)j.result);
    atomic_store(&n->size, (uint64_t)j.result);
    return 0;
}

static int64_t file_allocated_size(struct node *n)
{
    struct stat st;
    if (fstat(file_of(n)->fd, &st) < 0)
        return -errno;
    return (int64_t)st.st_blocks * 512;
}

static char *file_filename(const struct node *n)
{
    return strdup(file_of(n)->path);
}

/* A read that failed because the disc was taken out says so. */
static int co_fn host_cdrom_read(struct node *n, struct operation *o, uint64_t offset,
                                 const struct span *v, unsigned count, unsigned flags)
{
    int r = file_read(n, o, offset, v, count, flags);
    return r == -EIO && !file_medium_present(n) ? -ENOMEDIUM : r;
}

/* ---- tables ---- */

#define FILE_CALLS                                                                                 \
    .kind = DRIVER_PROTOCOL, .flags = DRIVER_VECTORS, .options = &row_file_options,                \
    .state_size = sizeof(struct file), .filename_row = "filename", .close = file_close,            \
    .permissions = file_permissions, .write = file_write, .zero = file_zero,                       \
    .discard = file_discard, .flush = file_flush, .status = file_status, .map = file_map,          \
    .resize = file_resize, .allocated_size = file_allocated_size, .filename = file_filename

const struct driver driver_file = {
    .name = "file",
    .open = file_open,
    .create_options = &row_file_create_options,
    .create = file_create,
    .read = file_read,
    FILE_CALLS,
};

const struct driver driver_host_device = {
    .name = "host_device",
    .open = host_device_open,
    .read = file_read,
    FILE_CALLS,
};

const struct driver driver_host_cdrom = {
    .name = "host_cdrom",
    .open = host_cdrom_open,
    .read = host_cdrom_read,
    .medium_present = file_medium_present,
    .medium_eject = file_medium_eject,
    .medium_lock = file_medium_lock,
    FILE_CALLS,
};
