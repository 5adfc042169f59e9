/* SPDX-License-Identifier: MIT */
/*
 * Objects of type iothread.  A ring serves any number of them; the object only
 * remembers which one it stands for.
 */
#include "block/iothread.h"

#include <errno.h>

#include "uring/ring.h"

/* QEMU's tuning knobs: accepted so that command lines work, without effect on a ring, which neither
 * polls nor has a pool of threads to bound. */
struct iothread_props {
    int64_t poll_max_ns, poll_grow, poll_shrink, aio_max_batch;
    int64_t thread_pool_min, thread_pool_max;
};

struct iothread {
    unsigned ring;
};

static _Atomic unsigned made; /* objects are made on worker threads */

static const struct row iothread_rows[] = {
    ROW_OPT(struct iothread_props, "poll-max-ns", poll_max_ns, row_int,
            .help = "Accepted for compatibility; rings do not poll"),
    ROW_OPT(struct iothread_props, "poll-grow", poll_grow, row_int,
            .help = "Accepted for compatibility; rings do not poll"),
    ROW_OPT(struct iothread_props, "poll-shrink", poll_shrink, row_int,
            .help = "Accepted for compatibility; rings do not poll"),
    ROW_OPT(struct iothread_props, "aio-max-batch", aio_max_batch, row_int,
            .help = "Accepted for compatibility; a ring submits once a turn"),
    ROW_OPT(struct iothread_props, "thread-pool-min", thread_pool_min, row_int,
            .help = "Accepted for compatibility; worker threads are shared"),
    ROW_OPT(struct iothread_props, "thread-pool-max", thread_pool_max, row_int, .fallback = "64",
            .help = "Accepted for compatibility; worker threads are shared"),
    ROW_END,
};

static ROW_STRUCT_TYPE(row_iothread_props, "IothreadProperties", struct iothread_props,
                       iothread_rows, .help = "Properties of an iothread");

static int iothread_change(struct object *o, const void *props, struct err *err)
{
    const struct iothread_props *p = props;

    if (p->poll_max_ns < 0 || p->poll_grow < 0 || p->poll_shrink < 0 || p->aio_max_batch < 0)
        return err_set(err, -EINVAL, "iothread '%s': a property must not be negative", o->id);
    return 0;
}

static int iothread_create(struct object *o, const void *props, struct err *err)
{
    struct iothread *t = o->state;

    if (iothread_change(o, props, err) < 0)
        return err->code;
    t->ring = 1 + made++ % rings_count();
    return 0;
}

const struct object_type object_iothread = {
    .name = "iothread",
    .parent = "event-loop-base",
    .props = &row_iothread_props,
    .state_size = sizeof(struct iothread),
    .create = iothread_create,
    .change = iothread_change,
};

int iothread_ring_index(const char *id, struct err *err)
{
    autoerr unused = { 0 };
    struct object *o = object_find(id, &object_iothread, &unused);

    if (!o)
        return err_set(err, -ENOENT, "iothread \"%s\" not found", id);
    return (int)((struct iothread *)o->state)->ring;
}
