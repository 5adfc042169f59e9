/* SPDX-License-Identifier: MIT */
/*
 * Data calls.  A read or write goes, in this order of preference:
 *   - inline, as a plain system call, where it does not wait: on tmpfs, and
 *     with RWF_NOWAIT where the file system takes it and the bytes are cached;
 *   - through the ring;
 *   - on a worker, should the kernel answer EAGAIN even so.
 * What did not fit in one call (short counts, signals) is asked for again.
 *
 * What lies past the end of a regular file reads zero: a size is rounded up to
 * 512, and a file may be cut by others.
 */
#include "drivers/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "drivers/file-status.h"
#include "uring/await.h"
#include "uring/ring.h"

/* What is left of a request. */
struct transfer {
    const struct file *f;
    bool write;
    int rw_flags;
    uint64_t offset;
    uint64_t left;      /* bytes */
    struct iovec *next; /* in v */
    unsigned count;
    struct iovec v[SPAN_MAX];
};

static void transfer_begin(struct transfer *t, const struct file *f, uint64_t offset,
                           const struct span *v, unsigned count)
{
    memset(t, 0, sizeof(*t));
    t->f = f;
    t->offset = offset;
    t->next = t->v;
    for (unsigned i = 0; i < count; i++) {
        if (v[i].len == 0)
            continue;
        t->v[t->count++] = (struct iovec){ v[i].p, v[i].len };
        t->left += v[i].len;
    }
}

static void transfer_advance(struct transfer *t, size_t done)
{
    t->offset += done;
    t->left -= done;
    while (done > 0) {
        size_t part = done < t->next->iov_len ? done : t->next->iov_len;
        t->next->iov_base = (uint8_t *)t->next->iov_base + part;
        t->next->iov_len -= part;
        done -= part;
        if (t->next->iov_len == 0) {
            t->next++;
            t->count--;
        }
    }
}

static void transfer_zero_rest(struct transfer *t)
{
    for (unsigned i = 0; i < t->count; i++)
        memset(t->next[i].iov_base, 0, t->next[i].iov_len);
    t->left = 0;
}

static int plain_call(const struct transfer *t, int more_flags)
{
    const struct iovec *v = t->next;
    off_t at = (off_t)t->offset;
    ssize_t r = t->write ? pwritev2(t->f->fd, v, (int)t->count, at, t->rw_flags | more_flags)
                         : preadv2(t->f->fd, v, (int)t->count, at, more_flags);
    return r < 0 ? -errno : (int)r;
}

static int worker_call(void *arg)
{
    return plain_call(arg, 0);
}

/* May the calling thread itself copy these bytes?  A synced write would wait for the device. */
static bool inline_allowed(const struct transfer *t)
{
    if (t->left > FILE_INLINE_MAX)
        return false;
    if (t->f->memory)
        return true;
    const _Atomic int *support = t->write ? &t->f->nowait_write : &t->f->nowait_read;
    return atomic_load_explicit(support, memory_order_relaxed) != SUPPORT_NO && t->rw_flags == 0;
}

/* A plain call that does not wait; -EAGAIN: it would. */
static int inline_call(struct file *f, const struct transfer *t)
{
    int r = plain_call(t, f->memory ? 0 : RWF_NOWAIT);
    if (f->memory)
        return r;
    _Atomic int *support = t->write ? &f->nowait_write : &f->nowait_read;
    int known = atomic_load_explicit(support, memory_order_relaxed);
    if (r == -EOPNOTSUPP) {
        atomic_store_explicit(support, SUPPORT_NO, memory_order_relaxed);
        return -EAGAIN;
    }
    if (known == SUPPORT_UNKNOWN && (r >= 0 || r == -EAGAIN))
        atomic_store_explicit(support, SUPPORT_YES, memory_order_relaxed);
    return r;
}

static int co_fn ring_transfer(const struct transfer *t)
{
    const struct iovec *v = t->next;
    int fd = t->f->fd;
    int r;
    if (t->count == 1 && t->write)
        r = co_write(fd, v->iov_base, (unsigned)v->iov_len, t->offset, t->rw_flags);
    else if (t->count == 1)
        r = co_read(fd, v->iov_base, (unsigned)v->iov_len, t->offset);
    else if (t->write)
        r = co_writev(fd, v, t->count, t->offset, t->rw_flags);
    else
        r = co_readv(fd, v, t->count, t->offset);
    return r == -EAGAIN ? ring_block(worker_call, (void *)t) : r;
}

static int past_end_work(void *arg)
{
    const struct transfer *t = arg;
    struct stat st;
    return fstat(t->f->fd, &st) == 0 && t->offset >= (uint64_t)st.st_size;
}

/* A direct read that stopped at an end within a block goes on from there: at an offset that some file systems
 * refuse where others say that there is no more. */
static bool co_fn refused_at_the_end(const struct file *f, struct transfer *t, int r)
{
    return r == -EINVAL && !t->write && f->regular && f->direct && ring_block(past_end_work, t) > 0;
}

static int co_fn transfer_run(struct file *f, struct transfer *t)
{
    bool try_inline = inline_allowed(t);
    while (t->left > 0) {
        int r = try_inline ? inline_call(f, t) : ring_transfer(t);
        if (r == -EINTR)
            continue;
        if (r == -EAGAIN && try_inline) {
            try_inline = false;
            continue;
        }
        if (refused_at_the_end(f, t, r))
            r = 0;
        if (r < 0)
            return r;
        if (r == 0) {
            if (t->write || f->block_device)
                return -EIO;
            transfer_zero_rest(t);
            return 0;
        }
        transfer_advance(t, (size_t)r);
    }
    return 0;
}

int co_fn file_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                    unsigned count, unsigned flags)
{
    (void)o;
    (void)flags;
    struct file *f = file_of(n);
    struct transfer t;
    transfer_begin(&t, f, offset, v, count);
    return transfer_run(f, &t);
}

/* A write that ended past the node's size: either the node is about to grow, or its last block was
 * padded.  file_close() tells which. */
static void note_end(struct node *n, struct file *f, uint64_t end)
{
    if (end <= node_size(n) || !f->regular)
        return;
    uint64_t seen = atomic_load(&f->padded_end);
    while (seen < end && !atomic_compare_exchange_weak(&f->padded_end, &seen, end))
        ;
}

/* Cut the padding of the last block off again, before anybody is told that the write is done: a daemon
 * that is killed must not leave a longer disk behind.  Where a parent may make the node grow, that one may
 * be at it now: then file_close() does it. */
static int cut_work(void *arg)
{
    struct node *n = arg;
    file_cut_padding(n);
    return 0;
}

static int co_fn cut_padding(struct node *n, struct file *f, uint64_t end)
{
    if (end <= node_size(n) || !f->regular ||
        atomic_load_explicit(&f->may_grow, memory_order_relaxed))
        return 0;
    return ring_block(cut_work, n);
}

/* Could this error be the news that something written earlier was lost?  A synced write tells of it, and
 * the kernel tells an open file only once. */
static bool may_be_of_sync(int r)
{
    switch (r) {
    case -ECANCELED:
    case -EINVAL:
    case -EOPNOTSUPP:
    case -EBADF:
    case -EFAULT:
    case -EFBIG:
    case -EPERM: return false;
    default: return true;
    }
}

/* A synced write has failed.  Was it the write or the sync?  Without room or memory the write fails alone,
 * too; whatever else it was, no later flush may say that all is well. */
static int co_fn synced_write_failed(struct node *n, struct file *f, struct transfer *t, int r)
{
    if (!may_be_of_sync(r))
        return r;
    if (r == -ENOSPC || r == -EDQUOT || r == -ENOMEM) {
        t->rw_flags = 0;
        if (transfer_run(f, t) == r)
            return r;
    }
    atomic_store(&n->broken, true);
    return r;
}

int co_fn file_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags)
{
    (void)o;
    struct file *f = file_of(n);
    struct transfer t;
    transfer_begin(&t, f, offset, v, count);
    t.write = true;
    t.rw_flags = flags & IO_FUA && f->dsync ? RWF_DSYNC : 0;
    uint64_t end = offset + t.left;
    note_end(n, f, end);
    int r = transfer_run(f, &t);
    if (r < 0 && t.rw_flags)
        r = synced_write_failed(n, f, &t, r);
    if (flags & IO_PADDED)
        cut_padding(n, f, end);
    return r;
}

/* ---- zeroing and discarding ---- */

struct range_call {
    const struct file *f;
    unsigned long request;
    uint64_t range[2]; /* offset and length, bytes */
};

static int range_ioctl(void *arg)
{
    struct range_call *c = arg;
    return ioctl(c->f->fd, c->request, c->range) < 0 ? -errno : 0;
}

static int co_fn change_once(struct file *f, int mode, unsigned long request, uint64_t offset,
                             uint64_t len)
{
    if (request) {
        struct range_call c = { f, request, { offset, len } };
        return ring_block(range_ioctl, &c);
    }
    if (f->memory && len <= FILE_INLINE_MAX)
        return fallocate(f->fd, mode, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
    return co_fallocate(f->fd, mode, offset, len);
}

/* Try one way of changing a range: fallocate() with @mode, or the ioctl @request.  -ENOTSUP: not this
 * way; @support remembers it when it can never work on this file. */
static int co_fn change(struct file *f, _Atomic int *support, int mode, unsigned long request,
                        uint64_t offset, uint64_t len)
{
    int known = atomic_load_explicit(support, memory_order_relaxed);
    if (known == SUPPORT_NO)
        return -ENOTSUP;
    int r;
    do
        r = change_once(f, mode, request, offset, len);
    while (r == -EINTR);
    switch (r) {
    case -EOPNOTSUPP:
    case -ENOSYS:
    case -ENOTTY: atomic_store_explicit(support, SUPPORT_NO, memory_order_relaxed); return -ENOTSUP;
    case -EINVAL: return -ENOTSUP; /* not at this alignment */
    case 0:
        if (known == SUPPORT_UNKNOWN)
            atomic_store_explicit(support, SUPPORT_YES, memory_order_relaxed);
    }
    return r;
}

static int co_fn punch(struct file *f, uint64_t offset, uint64_t len)
{
    return change(f, &f->punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, offset, len);
}

/* Make the file at least @end bytes long, without ever making it shorter. */
static int co_fn extend(struct node *n, struct file *f, uint64_t end)
{
    if (end <= node_size(n))
        return 0;
    note_end(n, f, end);
    return change(f, &f->allocate, 0, 0, end - 1, 1);
}

static int co_fn zero_regular(struct node *n, uint64_t offset, uint64_t len, unsigned flags)
{
    struct file *f = file_of(n);
    int r = -ENOTSUP;
    if (flags & IO_MAY_UNMAP) {
        r = punch(f, offset, len);
        if (r == 0)
            r = extend(n, f, offset + len);
    }
    if (r == -ENOTSUP) {
        note_end(n, f, offset + len);
        r = change(f, &f->zero_range, FALLOC_FL_ZERO_RANGE, 0, offset, len);
    }
    if (r == -ENOTSUP) {
        r = punch(f, offset, len);
        if (r == 0)
            r = change(f, &f->allocate, 0, 0, offset, len);
    }
    return r;
}

/* The kernel may write zeroes itself for all but the first way: not with IO_NO_FALLBACK. */
static int co_fn zero_device(struct file *f, uint64_t offset, uint64_t len, unsigned flags)
{
    int r = -ENOTSUP;
    if (flags & IO_MAY_UNMAP)
        r = punch(f, offset, len);
    if (r != -ENOTSUP || flags & IO_NO_FALLBACK)
        return r;
    r = change(f, &f->zero_range, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, offset, len);
    if (r == -ENOTSUP)
        r = change(f, &f->device_zero, 0, BLKZEROOUT, offset, len);
    return r;
}

int co_fn file_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                    unsigned flags)
{
    (void)o;
    struct file *f = file_of(n);
    if (flags & IO_PADDED && offset + len > node_size(n))
        len = node_size(n) - offset; /* these calls need no whole blocks */
    if (len == 0)
        return 0;
    int r = -ENOTSUP;
    if (f->regular)
        r = zero_regular(n, offset, len, flags);
    else if (f->block_device)
        r = zero_device(f, offset, len, flags);
    file_status_changed(f);
    if (r == 0 && flags & IO_FUA && f->dsync) {
        r = co_fsync(f->fd, true);
        if (r < 0)
            atomic_store(&n->broken, true);
    }
    return r;
}

int co_fn file_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    (void)o;
    struct file *f = file_of(n);
    uint64_t size = node_size(n);
    if (offset >= size || len == 0)
        return 0;
    if (len > size - offset)
        len = size - offset;
    int r = -ENOTSUP;
    if (f->regular)
        r = punch(f, offset, len);
    else if (f->block_device)
        r = change(f, &f->device_discard, 0, BLKDISCARD, offset, len);
    file_status_changed(f);
    return r;
}

int co_fn file_flush(struct node *n, struct operation *o)
{
    (void)o;
    struct file *f = file_of(n);
    int r;
    do
        r = co_fsync(f->fd, true);
    while (r == -EINTR);
    /* A character device that has nothing to sync says so. */
    if (!f->regular && !f->block_device && (r == -EINVAL || r == -EOPNOTSUPP))
        return 0;
    return r;
}

int file_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
             struct map *out)
{
    (void)may_yield;
    struct file *f = file_of(n);
    *out = (struct map){ .kind = MAP_LONG_ROAD, .len = len };
    if ((write && !atomic_load_explicit(&f->writable, memory_order_relaxed)) ||
        (!f->regular && !f->block_device))
        return 0;
    if ((offset | len) & (n->limits.alignment - 1))
        return 0;
    out->kind = MAP_HERE;
    out->offset = offset;
    out->stable = true;
    out->file = (struct file_place){
        .fd = f->fd,
        .inline_read =
            f->memory || atomic_load_explicit(&f->nowait_read, memory_order_relaxed) == SUPPORT_YES,
        .inline_write =
            f->memory || atomic_load_explicit(&f->nowait_write, memory_order_relaxed) != SUPPORT_NO,
        .nowait = !f->memory,
    };
    return 0;
}
