/* SPDX-License-Identifier: MIT */
/*
 * The ublk export: what it is told, how it comes and how it goes.
 *
 * Coming: the device is added, its queues are spread over the rings and all
 * their tags fetched, then it is started, which reads the partition table
 * through them.  Going: the device is stopped, which waits for requests in
 * flight and ends all tags; when the last has ended it is deleted.  What fails
 * on the way there goes the same way back.  Commands to the kernel run on
 * workers, since each may wait for requests that the rings are to serve.
 */
#include "exports/ublk.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "block/iothread.h"
#include "exports/host-disk.h"
#include "exports/ublk-device.h"
#include "exports/ublk-queue.h"
#include "uring/await.h"

enum {
    SECTOR_SHIFT = 9,
    PAGE = 4096,
    QUEUES_MAX = RINGS_MAX,
    MAX_IO_BYTES = 32 << 20,
    CHANGE_SECTORS_MAX = 1 << 21, /* of one discard or zeroing: 1 GiB */
};

struct ublk_export {
    struct host_disk disk;
    struct ublk_device device;
    struct ublk_queue *queues;
    unsigned queue_count;
    unsigned running; /* queues whose tags the kernel has; disk.changed tells */
};

static const struct row ublk_rows[] = {
    ROW_HAS(struct ublk_export_options, "dev-id", dev_id, row_uint32,
            .help = "The N of /dev/ublkbN; default: the first that is free"),
    ROW_OPT(struct ublk_export_options, "nr-queues", nr_queues, row_uint32, .fallback = "0",
            .help = "Queues; default 0: one for each data ring"),
    ROW_OPT(struct ublk_export_options, "queue-depth", queue_depth, row_uint32, .fallback = "128",
            .help = "Requests that each queue has in flight at most; default: 128"),
    ROW_OPT(struct ublk_export_options, "max-io-size", max_io_size, row_size, .fallback = "524288",
            .help = "Bytes of the largest request; default: 512k"),
    ROW_OPT(struct ublk_export_options, "logical-block-size", logical_block_size, row_size,
            .fallback = "0",
            .help = "Bytes of the smallest request; default: the node's alignment"),
    ROW_OPT(struct ublk_export_options, "rotational", rotational, row_bool,
            .help = "Tell the host that this is a disk that turns; default: off"),
    ROW_END,
};
ROW_STRUCT_TYPE(row_ublk_export_options, "BlockExportOptionsUblk", struct ublk_export_options,
                ublk_rows, .since = "0.1", .help = "A disk of this host: /dev/ublkbN");

/* ---- what the disk is like ---- */

static uint8_t shift_of(uint64_t n)
{
    return (uint8_t)__builtin_ctzll(n);
}

static int check_options(const struct ublk_export_options *o, const char *id, struct err *err)
{
    if (o->nr_queues > QUEUES_MAX)
        return err_set(err, -EINVAL, "export '%s': nr-queues must be at most %d", id, QUEUES_MAX);
    if (o->queue_depth < 1 || o->queue_depth > RB_UBLK_DEPTH_MAX)
        return err_set(err, -EINVAL, "export '%s': queue-depth must be between 1 and %d", id,
                       RB_UBLK_DEPTH_MAX);
    if (o->max_io_size < PAGE || o->max_io_size > MAX_IO_BYTES || o->max_io_size % PAGE)
        return err_set(err, -EINVAL,
                       "export '%s': max-io-size must be a multiple of 4096 between 4096 and %d",
                       id, MAX_IO_BYTES);
    return 0;
}

static void fill_parameters(const struct ublk_export *u, const struct ublk_export_options *o,
                            struct rb_ublk_parameters *p)
{
    const struct export *x = u->disk.export;
    const struct limits *limits = &root_node(x->root)->limits;
    uint64_t granularity =
        limits->discard_alignment > u->disk.block ? limits->discard_alignment : u->disk.block;

    *p = (struct rb_ublk_parameters){ .types = RB_UBLK_PARAMETERS_BASIC };
    p->basic.attributes =
        (x->writable ? 0 : RB_UBLK_READ_ONLY) | (o->rotational ? RB_UBLK_ROTATIONAL : 0);
    if (x->writable && !x->writethrough)
        p->basic.attributes |= RB_UBLK_VOLATILE_CACHE | RB_UBLK_FUA;
    p->basic.logical_shift = shift_of(u->disk.block);
    p->basic.physical_shift = p->basic.minimal_shift = p->basic.optimal_shift = shift_of(PAGE);
    p->basic.sectors = host_disk_size(&u->disk) >> SECTOR_SHIFT;
    if (!x->writable)
        return;
    p->types |= RB_UBLK_PARAMETERS_DISCARD;
    p->discard.granularity = granularity <= UINT32_MAX ? (uint32_t)granularity : u->disk.block;
    p->discard.max_discard_sectors = p->discard.max_zero_sectors = CHANGE_SECTORS_MAX;
    p->discard.max_segments = 1;
}

/* ---- commands, on workers ---- */

struct add_call {
    struct ublk_export *u;
    struct rb_ublk_device_info wanted;
    struct rb_ublk_parameters parameters;
    struct err *err;
};

static int add_on_worker(void *arg)
{
    struct add_call *c = arg;

    return ublk_device_add(&c->u->device, &c->wanted, &c->parameters, c->err);
}

struct start_call {
    struct ublk_export *u;
    struct err *err;
};

static int start_on_worker(void *arg)
{
    struct start_call *c = arg;

    return ublk_device_start(&c->u->device, c->err);
}

static int stop_on_worker(void *arg)
{
    struct ublk_export *u = arg;

    return ublk_device_stop(&u->device, !u->disk.hard);
}

static int delete_on_worker(void *arg)
{
    ublk_device_delete(&((struct ublk_export *)arg)->device);
    return 0;
}

struct cpus_call {
    struct ublk_export *u;
    unsigned queue;
    uint64_t cpus[UBLK_CPUS_MAX / 64];
};

static int cpus_on_worker(void *arg)
{
    struct cpus_call *c = arg;

    return ublk_device_cpus(&c->u->device, c->queue, c->cpus);
}

/* ---- queues ---- */

static void queue_ended(struct ublk_queue *q)
{
    struct ublk_export *u = q->export->state;

    ring_load_add(q->ring, -1);
    u->running--;
    co_cond_wake_all(&u->disk.changed);
}

/* How many queues of this export ring @index has. */
static unsigned queues_on(const struct ublk_export *u, unsigned index, unsigned upto)
{
    unsigned n = 0;

    for (unsigned i = 0; i < upto; i++)
        n += ring_index(u->queues[i].ring) == index;
    return n;
}

/* The ring for a queue: among those with the fewest queues of this disk, one on a CPU from which the
 * queue's requests come. */
static unsigned choose_ring(const struct ublk_export *u, const struct cpus_call *cpus)
{
    unsigned best = 1, best_rank = UINT32_MAX;

    for (unsigned i = 1; i <= rings_count(); i++) {
        int cpu = ring_cpu(i);
        bool near = cpu >= 0 && cpu < UBLK_CPUS_MAX && cpus->cpus[cpu / 64] >> (cpu % 64) & 1;
        unsigned rank = queues_on(u, i, cpus->queue) * 2 + !near;
        if (rank < best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

static int co_fn open_queue(struct ublk_export *u, unsigned index, struct err *err)
{
    struct export *x = u->disk.export;
    struct ublk_queue *q = &u->queues[index];
    struct cpus_call cpus = { .u = u, .queue = index };
    bool fetched;
    int ring, r;

    if (x->said->iothread) {
        ring = iothread_ring_index(x->said->iothread, err);
        if (ring < 0)
            return ring;
    } else {
        ring_block(cpus_on_worker, &cpus);
        ring = (int)choose_ring(u, &cpus);
    }
    *q = (struct ublk_queue){
        .export = x,
        .root = x->root,
        .ring = ring_get((unsigned)ring, err),
        .fd = u->device.data,
        .index = (uint16_t)index,
        .depth = u->device.info.depth,
        .max_io_bytes = u->device.info.max_io_bytes,
        .ended = queue_ended,
    };
    if (!q->ring)
        return err->code;
    u->queue_count++;
    host_disk_serve_on(&u->disk, q->ring);
    r = ublk_queue_open(q, &fetched, err);
    if (fetched) {
        u->running++;
        ring_load_add(q->ring, 1);
    }
    return r;
}

static int co_fn open_queues(struct ublk_export *u, struct err *err)
{
    unsigned count = u->device.info.queues;

    u->queues = calloc(count, sizeof(*u->queues));
    if (!u->queues)
        return err_set(err, -ENOMEM, "export '%s': out of memory", u->disk.export->id);
    for (unsigned i = 0; i < count; i++)
        if (open_queue(u, i, err) < 0)
            return err->code;
    return 0;
}

/* ---- the export type ---- */

/* The disk is stopped, or was never started; all goes. */
static void co_fn take_apart(struct ublk_export *u)
{
    while (u->running)
        co_cond_wait(&u->disk.changed, NULL);
    for (unsigned i = 0; i < u->queue_count; i++)
        ublk_queue_close(&u->queues[i]);
    free(u->queues);
    u->queues = NULL;
    u->queue_count = 0;
    ring_block(delete_on_worker, u);
}

static int co_fn start_device(struct ublk_export *u, const struct ublk_export_options *o,
                              struct err *err)
{
    struct add_call add = { .u = u, .err = err };
    struct start_call start = { u, err };
    unsigned queues = o->nr_queues                     ? o->nr_queues
                      : u->disk.export->said->iothread ? 1
                                                       : rings_count();

    add.wanted = (struct rb_ublk_device_info){
        .queues = (uint16_t)(queues < QUEUES_MAX ? queues : QUEUES_MAX),
        .depth = (uint16_t)o->queue_depth,
        .max_io_bytes = (uint32_t)o->max_io_size,
        .device = o->has_dev_id ? o->dev_id : RB_UBLK_ANY_DEVICE,
        .flags = RB_UBLK_F_IOCTL_ENCODE | RB_UBLK_F_UPDATE_SIZE | RB_UBLK_F_SAFE_STOP,
    };
    fill_parameters(u, o, &add.parameters);
    if (ring_block(add_on_worker, &add) < 0)
        return err_prefix(err, "export '%s'", u->disk.export->id);
    if (open_queues(u, err) == 0 && ring_block(start_on_worker, &start) == 0)
        return 0;
    u->disk.hard = true;
    ring_block(stop_on_worker, u);
    take_apart(u);
    return err->code;
}

static int tell_size(struct host_disk *d, uint64_t bytes)
{
    return ublk_device_resize(&container_of(d, struct ublk_export, disk)->device, bytes);
}

static int co_fn start(struct export *x, const void *options, struct err *err)
{
    struct ublk_export *u = x->state;
    const struct ublk_export_options *o = options;

    u->disk.tell_size = tell_size;
    if (check_options(o, x->id, err) < 0 ||
        host_disk_init(&u->disk, x, o->logical_block_size, err) < 0 || start_device(u, o, err) < 0)
        return err->code;
    for (unsigned i = 0; i < u->queue_count; i++)
        ublk_queue_follow_policy(&u->queues[i]);
    ublk_device_path(&u->device, u->disk.path, sizeof(u->disk.path));
    log_info("export '%s' is %s", x->id, u->disk.path);
    return 0;
}

static bool co_fn in_use(struct export *x)
{
    return host_disk_in_use(x->state);
}

static void shut_down(struct export *x, bool hard)
{
    struct ublk_export *u = x->state;

    host_disk_shut_down(&u->disk, hard);
    for (unsigned i = 0; u->disk.hard && i < u->queue_count; i++)
        ublk_queue_hurry(&u->queues[i]);
}

static void co_fn stop(struct export *x)
{
    struct ublk_export *u = x->state;

    do
        host_disk_wait_unused(&u->disk);
    while (ring_block(stop_on_worker, u) == -EBUSY); /* somebody came meanwhile */
    take_apart(u);
}

static void resized(struct root *r, uint64_t size)
{
    host_disk_resized(((struct export *)r->owner)->state, size);
}

static int describe(struct export *x, struct export_door *door)
{
    return host_disk_describe(x->state, door);
}

const struct export_driver export_ublk = {
    .name = "ublk",
    .options = &row_ublk_export_options,
    .state_size = sizeof(struct ublk_export), /* begins with its struct host_disk */
    .on_read_error = ON_ERROR_REPORT,
    .on_write_error = ON_ERROR_ENOSPC,
    .root = { .resized = resized },
    .start = start,
    .in_use = in_use,
    .describe = describe,
    .shutdown = shut_down,
    .stop = stop,
};
