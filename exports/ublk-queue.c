/* SPDX-License-Identifier: MIT */
/*
 * Serving the requests of a ublk queue.
 *
 * A tag's life: FETCH gives it to the kernel; its completion means that a
 * request stands in the mapped queue, a write's bytes already in the tag's
 * buffer; COMMIT_AND_FETCH answers (the kernel copies a read's bytes out) and
 * fetches the next.  When the device stops, the completion is -ENODEV and the
 * tag has ended.
 *
 * A request takes the same three roads as one of NBD: in line, short cut, long
 * road.  It enters the root's gate first and leaves it before it is answered.
 */
#include "exports/ublk-queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

enum {
    SECTOR_SHIFT = 9,
    INLINE_MAX = 64 << 10
}; /* bytes that may be copied inside the loop's turn */

static void fetched(struct op *op, int32_t result, uint32_t flags);

static enum io_kind kind_of(const struct ublk_request *r)
{
    switch (r->what & RB_UBLK_OPERATION_MASK) {
    case RB_UBLK_WRITE:
    case RB_UBLK_WRITE_ZEROES: return IO_WRITE;
    case RB_UBLK_DISCARD: return IO_UNMAP;
    case RB_UBLK_FLUSH: return IO_FLUSH;
    default: return IO_READ;
    }
}

static bool moves_bytes(const struct ublk_request *r)
{
    return (r->what & RB_UBLK_OPERATION_MASK) <= RB_UBLK_WRITE;
}

static bool is_write(const struct ublk_request *r)
{
    return (r->what & RB_UBLK_OPERATION_MASK) == RB_UBLK_WRITE;
}

static bool wants_fua(const struct ublk_request *r)
{
    return r->what & RB_UBLK_IO_FUA || r->queue->export->writethrough;
}

static void give_to_kernel(struct ublk_request *r, int command, int32_t result)
{
    struct ublk_queue *q = r->queue;
    const struct rb_ublk_io io = {
        .queue = q->index, .tag = r->tag, .result = result, .address = (uint64_t)(uintptr_t)r->data
    };

    r->command.done = fetched;
    op_command(&r->command, q->fd, (uint32_t)command, &io);
}

/* The operation has ended: answer and ask for the next. */
static void finish(struct ublk_request *r)
{
    int32_t answer = r->result;

    device_done(r->queue->root->stats, kind_of(r), r->length, r->since, r->result);
    if (answer == 0 && moves_bytes(r))
        answer = (int32_t)r->length;
    give_to_kernel(r, RB_UBLK_COMMIT_AND_FETCH, answer);
}

static int co_fn run_once(struct ublk_request *r)
{
    struct operation *o = &r->operation;
    struct edge *e = root_edge(r->queue->root);
    struct span v = { .p = r->data, .len = r->length };
    unsigned fua = wants_fua(r) ? IO_FUA : 0;

    switch (r->what & RB_UBLK_OPERATION_MASK) {
    case RB_UBLK_READ: return io_read(o, e, r->offset, &v, 1, 0);
    case RB_UBLK_WRITE: return io_write(o, e, r->offset, &v, 1, fua);
    case RB_UBLK_FLUSH: return io_flush(o, e);
    case RB_UBLK_DISCARD: return io_discard(o, e, r->offset, r->length);
    case RB_UBLK_WRITE_ZEROES:
        return io_zero(o, e, r->offset, r->length,
                       fua | (r->what & RB_UBLK_IO_NO_UNMAP ? 0 : IO_MAY_UNMAP));
    default: return -EOPNOTSUPP;
    }
}

static void begin(struct ublk_request *r);

static void gate_opened(struct gate_waiter *w)
{
    begin(container_of(w, struct ublk_request, waiter));
}

static void gate_failed(struct gate_waiter *w, int error)
{
    struct ublk_request *r = container_of(w, struct ublk_request, waiter);

    if (r->result >= 0)
        r->result = error;
    finish(r);
}

/* What the export's policy says about an error, inside the gate, where the node stays what it is. */
static enum io_error_action judge(struct ublk_request *r)
{
    struct ublk_queue *q = r->queue;
    enum io_error_action action;

    if (r->result >= 0 || q->hurries)
        return IO_ERROR_REPORT;
    action = policy_failed(&q->export->policy, kind_of(r), r->result);
    if (action == IO_ERROR_IGNORE) {
        if (moves_bytes(r))
            memset(r->data, 0, r->length);
        r->result = 0;
    }
    return action;
}

/* The long road.  A request that a drain unwound begins again, in the new graph; one that the policy stopped
 * does so when the export goes on. */
static void co_fn long_road(void *arg)
{
    struct ublk_request *r = arg;
    struct root *root = r->queue->root;
    bool stopped;

    while ((r->result = run_once(r)) == -ERESTART) {
        operation_end(&r->operation);
        if (!operation_begin(&r->operation, root)) {
            gate_queue(root, &r->waiter);
            return;
        }
    }
    stopped = judge(r) == IO_ERROR_STOP;
    operation_end(&r->operation);
    if (stopped)
        gate_queue_first(root, &r->waiter);
    else
        finish(r);
}

static void take_long_road(struct ublk_request *r)
{
    if (co_enter(long_road, r, "ublk request") == 0)
        return;
    r->result = -ENOMEM;
    operation_end(&r->operation);
    finish(r);
}

static void short_cut_done(struct op *op, int32_t result, uint32_t flags)
{
    struct ublk_request *r = container_of(op, struct ublk_request, op);
    bool whole = result >= 0 && (uint64_t)result == r->length;

    (void)flags;
    shortcut_done(&r->shortcut, is_write(r), r->length, whole ? 0 : -EAGAIN);
    if (!whole) { /* short, or an error: the long road finds out */
        take_long_road(r);
        return;
    }
    r->result = 0;
    operation_end(&r->operation);
    finish(r);
}

static bool run_inline(const struct ublk_request *r)
{
    const struct shortcut *s = &r->shortcut;

    if (s->zero)
        memset(r->data, 0, r->length);
    else if (r->length > INLINE_MAX)
        return false;
    else if (is_write(r))
        return s->file.inline_write && shortcut_write_inline(s, r->data, r->length);
    else
        return s->file.inline_read && shortcut_read_inline(s, r->data, r->length);
    return true;
}

static bool take_short_cut(struct ublk_request *r)
{
    struct shortcut *s = &r->shortcut;
    bool write = is_write(r);

    if (!moves_bytes(r) || r->length == 0 || (write && wants_fua(r)) ||
        !shortcut_find(r->queue->root, write, r->offset, r->length, 0, s))
        return false;
    r->op.done = short_cut_done;
    if (run_inline(r))
        short_cut_done(&r->op, (int32_t)r->length, 0);
    else if (write)
        op_write(&r->op, s->file.fd, r->data, (unsigned)r->length, s->offset, 0);
    else
        op_read(&r->op, s->file.fd, r->data, (unsigned)r->length, s->offset);
    return true;
}

/* The kernel keeps to the disk's size, but a node may have become smaller than its disk. */
static bool within_node(const struct ublk_request *r)
{
    uint64_t size = node_size(root_node(r->queue->root));

    return r->offset <= size && r->length <= size - r->offset;
}

static void begin(struct ublk_request *r)
{
    struct ublk_queue *q = r->queue;

    if (!operation_begin(&r->operation, q->root)) {
        if (q->hurries && gate_stopped_here(q->root)) {
            r->result = -EIO;
            finish(r);
        } else {
            gate_queue(q->root, &r->waiter);
        }
        return;
    }
    r->result = 0; /* of an earlier attempt that failed there is nothing left */
    if (!within_node(r)) {
        r->result = -EIO;
        operation_end(&r->operation);
        finish(r);
    } else if (!take_short_cut(r)) {
        take_long_road(r);
    }
}

static void accept_request(struct ublk_request *r)
{
    const struct rb_ublk_request shown = r->queue->shown[r->tag];

    r->what = shown.operation;
    r->offset = shown.first_sector << SECTOR_SHIFT;
    r->length = (uint64_t)shown.sectors << SECTOR_SHIFT;
    if ((shown.operation & RB_UBLK_OPERATION_MASK) == RB_UBLK_FLUSH)
        r->offset = r->length = 0;
    r->result = 0;
    r->since = device_begin(r->queue->root->stats, kind_of(r));
    begin(r);
}

static void tell_end(struct work *work)
{
    struct ublk_queue *q = container_of(work, struct ublk_queue, ended_work);

    q->ended(q);
}

static void fetched(struct op *op, int32_t result, uint32_t flags)
{
    struct ublk_request *r = container_of(op, struct ublk_request, command);
    struct ublk_queue *q = r->queue;

    (void)flags;
    if (result == 0) {
        accept_request(r);
        return;
    }
    if (result != -ENODEV) {
        log_error("export '%s': the kernel refuses tag %u of queue %u: %s", q->export->id, r->tag,
                  q->index, strerror(result < 0 ? -result : EPROTO));
        q->first_fail = q->first_fail ? q->first_fail : result;
    }
    if (--q->live == 0) {
        q->ended_work.fn = tell_end;
        ring_post(ring_control(), &q->ended_work);
    }
}

/* ---- its beginning and end ---- */

static int map(struct ublk_queue *q)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t stride = (RB_UBLK_DEPTH_MAX * sizeof(*q->shown) + page - 1) & ~(page - 1);
    void *p;

    q->shown_bytes = (q->depth * sizeof(*q->shown) + page - 1) & ~(page - 1);
    p = mmap(NULL, q->shown_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, q->fd,
             (off_t)(q->index * stride));
    if (p == MAP_FAILED)
        return -errno;
    q->shown = p;
    q->buffers_bytes = (size_t)q->depth * q->max_io_bytes;
    p = mmap(NULL, q->buffers_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    q->buffers = p;
    q->requests = calloc(q->depth, sizeof(*q->requests));
    return q->requests ? 0 : -ENOMEM;
}

static int co_fn fetch_all(void *arg)
{
    struct ublk_queue *q = arg;

    q->hurries = true;
    q->live = q->depth;
    for (uint16_t tag = 0; tag < q->depth; tag++) {
        struct ublk_request *r = &q->requests[tag];
        list_init(&r->waiter.link);
        r->waiter.fn = gate_opened;
        r->waiter.fail = gate_failed;
        r->queue = q;
        r->tag = tag;
        r->data = q->buffers + (size_t)tag * q->max_io_bytes;
        give_to_kernel(r, RB_UBLK_FETCH, 0);
    }
    return 0;
}

/* A turn later: what the kernel refused has come back. */
static int co_fn ask_refused(void *arg)
{
    const struct ublk_queue *q = arg;

    return q->first_fail;
}

int co_fn ublk_queue_open(struct ublk_queue *q, bool *out, struct err *err)
{
    int r = map(q);

    *out = false;
    if (r < 0)
        return err_set_errno(err, r, "export '%s': no memory for queue %u", q->export->id,
                             q->index);
    r = ring_call(q->ring, fetch_all, q);
    if (r == 0) {
        *out = true;
        r = ring_call(q->ring, ask_refused, q);
    }
    return r ? err_set_errno(err, r < 0 ? r : -EPROTO, "export '%s': cannot serve queue %u",
                             q->export->id, q->index)
             : 0;
}

static bool is_of_queue(struct gate_waiter *w, void *queue)
{
    return w->fn == gate_opened && container_of(w, struct ublk_request, waiter)->queue == queue;
}

static void hurry(struct work *work)
{
    struct ublk_queue *q = container_of(work, struct ublk_queue, hurry_work);

    q->hurries = true;
    if (gate_stopped_here(q->root))
        gate_fail_here(q->root, -EIO, is_of_queue, q);
}

void ublk_queue_hurry(struct ublk_queue *q)
{
    if (q->hurry_asked)
        return;
    q->hurry_asked = true;
    q->hurry_work.fn = hurry;
    ring_post(q->ring, &q->hurry_work);
}

static int follow_policy(void *arg)
{
    ((struct ublk_queue *)arg)->hurries = false;
    return 0;
}

void co_fn ublk_queue_follow_policy(struct ublk_queue *q)
{
    ring_call(q->ring, follow_policy, q);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

void co_fn ublk_queue_close(struct ublk_queue *q)
{
    if (q->hurry_asked) /* messages keep their order: that one has come when this one has */
        ring_call(q->ring, nothing, NULL);
    if (q->shown)
        munmap((void *)q->shown, q->shown_bytes);
    if (q->buffers)
        munmap(q->buffers, q->buffers_bytes);
    free(q->requests);
    q->shown = NULL;
    q->buffers = NULL;
    q->requests = NULL;
}
