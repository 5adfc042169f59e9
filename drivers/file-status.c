/* SPDX-License-Identifier: MIT */
/*
 * Block status by SEEK_DATA and SEEK_HOLE.
 *
 * The last stretch of data that was found is kept, because a client walks an
 * image in steps that are smaller than its extents, and the kernel's search
 * takes time with the length of an extent.  Writing never makes a hole, so only
 * zeroing, discarding and resizing forget it.  The entry holds the number of
 * changes from before it was looked up; a change that ends after that makes the
 * numbers differ, on whatever ring either happens.
 */
#include "drivers/file-status.h"

#include <errno.h>
#include <unistd.h>

#include "uring/ring.h"

enum { SEEK_SLOW_NS = 100000, INLINE_SIZE_MAX = 1 << 30 /* bytes */ };

struct seek {
    const struct file *f;
    off_t offset;
    off_t data, hole; /* where data begins at or after offset; where the next hole is */
};

void file_status_changed(struct file *f)
{
    atomic_fetch_add(&f->cache.change, 1);
}

static bool cache_lookup(struct file *f, uint64_t offset, uint64_t *end)
{
    struct file_extent_cache *c = &f->cache;
    bool hit = false;
    if (atomic_flag_test_and_set_explicit(&c->guard, memory_order_acquire))
        return false;
    if (offset >= c->start && offset < c->end && c->as_of == atomic_load(&c->change)) {
        *end = c->end;
        hit = true;
    }
    atomic_flag_clear_explicit(&c->guard, memory_order_release);
    return hit;
}

static void cache_store(struct file *f, uint64_t as_of, uint64_t start, uint64_t end)
{
    struct file_extent_cache *c = &f->cache;
    if (atomic_flag_test_and_set_explicit(&c->guard, memory_order_acquire))
        return;
    c->as_of = as_of;
    c->start = start;
    c->end = end;
    atomic_flag_clear_explicit(&c->guard, memory_order_release);
}

/* 0 with .data and .hole; -ENXIO: a hole up to the end of the file. */
static int seek_call(void *arg)
{
    struct seek *s = arg;
    s->data = lseek(s->f->fd, s->offset, SEEK_DATA);
    if (s->data < 0)
        return -errno;
    if (s->data > s->offset)
        return 0;
    s->hole = lseek(s->f->fd, s->offset, SEEK_HOLE);
    if (s->hole < 0)
        return -errno;
    /* Cut by somebody in between: nothing there any more. */
    return s->hole > s->offset ? 0 : -ENXIO;
}

static int co_fn seek_run(struct node *n, struct file *f, struct seek *s)
{
    if (!f->local || node_size(n) > INLINE_SIZE_MAX ||
        atomic_load_explicit(&f->seek_slow, memory_order_relaxed))
        return ring_block(seek_call, s);
    uint64_t begin = ring_now();
    int r = seek_call(s);
    if (ring_now() - begin > SEEK_SLOW_NS)
        atomic_store_explicit(&f->seek_slow, true, memory_order_relaxed);
    return r;
}

static int answer(struct node *n, unsigned flags, uint64_t offset, uint64_t end, uint64_t limit,
                  struct extent *out)
{
    *out = (struct extent){
        .flags = flags | EXTENT_ALLOCATED | EXTENT_OFFSET,
        .len = (end < limit ? end : limit) - offset,
        .offset = offset,
        .node = n,
    };
    return 0;
}

/* Extents begin and end on this; a block that is data in part counts as data. */
static uint64_t block_size(const struct node *n)
{
    return n->limits.alignment > FILE_SECTOR ? n->limits.alignment : FILE_SECTOR;
}

static uint64_t block_down(const struct node *n, uint64_t bytes)
{
    return bytes & ~(block_size(n) - 1);
}

static uint64_t block_up(const struct node *n, uint64_t bytes)
{
    return block_down(n, bytes + block_size(n) - 1);
}

int co_fn file_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                      bool want_zero, struct extent *out)
{
    (void)o;
    struct file *f = file_of(n);
    uint64_t limit = offset + len, end;
    if (!want_zero || atomic_load_explicit(&f->seek, memory_order_relaxed) == SUPPORT_NO)
        return answer(n, EXTENT_DATA, offset, limit, limit, out);
    if (cache_lookup(f, offset, &end))
        return answer(n, EXTENT_DATA, offset, end, limit, out);

    uint64_t as_of = atomic_load(&f->cache.change);
    struct seek s = { .f = f, .offset = (off_t)offset };
    int r = seek_run(n, f, &s);
    if (r == -ENXIO)
        return answer(n, EXTENT_ZERO, offset, limit, limit, out);
    if (r < 0) { /* can't tell: data */
        if (r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS)
            atomic_store_explicit(&f->seek, SUPPORT_NO, memory_order_relaxed);
        return answer(n, EXTENT_DATA, offset, limit, limit, out);
    }
    uint64_t data = block_down(n, (uint64_t)s.data);
    if (data > offset)
        return answer(n, EXTENT_ZERO, offset, data, limit, out);
    if ((uint64_t)s.data > offset) /* within this block */
        return answer(n, EXTENT_DATA, offset, block_up(n, (uint64_t)s.data), limit, out);
    end = block_up(n, (uint64_t)s.hole);
    cache_store(f, as_of, offset, end);
    return answer(n, EXTENT_DATA, offset, end, limit, out);
}
