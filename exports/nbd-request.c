/* SPDX-License-Identifier: MIT */
/*
 * Running the requests of an NBD connection.  There are three roads, tried in
 * this order:
 *
 *   in line      the bytes lie in a file that answers without blocking: one
 *                plain call inside the loop's turn, straight to or from the
 *                connection's own buffers;
 *   short cut    the bytes lie in a file: one kernel operation, no coroutine;
 *   long road    a coroutine through block/io.h.
 *
 * A request enters the root's gate first.  When the gate is shut it waits there
 * as a queued struct.  Its operation ends before its reply is queued, so a slow
 * client never holds up a drain.
 */
#include <errno.h>
#include <string.h>

#include "exports/nbd-connection.h"

enum { PREFETCH_BYTES = 1 << 20, PREFETCH_LEAST = 32 << 10 }; /* read at a time */

enum io_kind nbd_kind(uint16_t type)
{
    switch (type) {
    case NBD_CMD_WRITE:
    case NBD_CMD_WRITE_ZEROES: return IO_WRITE;
    case NBD_CMD_TRIM: return IO_UNMAP;
    case NBD_CMD_FLUSH: return IO_FLUSH;
    default: return IO_READ;
    }
}

/* Does the client's request count as an operation of the device?  (Asking what is where does not.) */
static bool counts(uint16_t type)
{
    return type != NBD_CMD_BLOCK_STATUS && type != NBD_CMD_CACHE;
}

struct nbd_request *nbd_request_get(struct nbd_connection *c)
{
    struct list *l = list_pop_front(&c->idle_requests);
    struct nbd_request *r = l ? container_of(l, struct nbd_request, link) : NULL;

    if (!r)
        r = malloc(sizeof(*r));
    if (!r)
        return NULL;
    memset(r, 0, sizeof(*r));
    list_init(&r->link);
    list_init(&r->waiter.link);
    r->connection = c;
    c->in_flight++;
    return r;
}

void nbd_request_put(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;

    if (c->in_pieces == r)
        nbd_pieces_end(r);
    account_put(&c->memory, r->data, r->data_room);
    r->data = NULL;
    r->data_room = 0;
    c->in_flight--;
    list_push_front(&c->idle_requests, &r->link);
}

static uint16_t flags_allowed(const struct nbd_connection *c, uint16_t type)
{
    uint16_t always = c->style == NBD_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;

    switch (type) {
    case NBD_CMD_READ:
        return always | NBD_CMD_FLAG_FUA | (c->style == NBD_SIMPLE ? 0 : NBD_CMD_FLAG_DF);
    case NBD_CMD_WRITE_ZEROES:
        return always | NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS: return always | NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default: return always | NBD_CMD_FLAG_FUA;
    }
}

int nbd_request_check_form(const struct nbd_connection *c, uint16_t type, uint16_t flags,
                           uint64_t offset, uint64_t length)
{
    bool writes = type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES || type == NBD_CMD_TRIM;

    if (type > NBD_CMD_BLOCK_STATUS || type == NBD_CMD_DISC || (flags & ~flags_allowed(c, type)))
        return -EINVAL;
    if (type == NBD_CMD_FLUSH)
        return offset || length ? -EINVAL : 0;
    if (writes && c->read_only)
        return -EPERM;
    /* CACHE moves no bytes to the client, but asking for an exabyte must not keep us reading it. */
    if ((type == NBD_CMD_READ || type == NBD_CMD_WRITE || type == NBD_CMD_CACHE) &&
        length > NBD_PAYLOAD_MAX)
        return -EINVAL;
    if (type == NBD_CMD_BLOCK_STATUS && (!c->contexts_chosen || length == 0))
        return -EINVAL;
    if ((offset | length) & (c->block_minimum - 1))
        return -EINVAL;
    return 0;
}

/* Inside the gate: does the request lie within the node? */
static int check_bounds(const struct nbd_connection *c, uint16_t type, uint64_t offset,
                        uint64_t length)
{
    uint64_t size = node_size(root_node(c->root));

    if (offset <= size && length <= size - offset)
        return 0;
    return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? -ENOSPC : -EINVAL;
}

static bool inline_read(struct nbd_connection *c, const struct shortcut *s, uint64_t cookie,
                        uint64_t offset, uint32_t length)
{
    uint8_t *p;

    if (!s->zero && !s->file.inline_read)
        return false;
    p = nbd_reply_reserve(c, cookie, offset, length);
    if (!p)
        return false;
    if (s->zero)
        memset(p, 0, length);
    else if (!shortcut_read_inline(s, p, length))
        return false;
    nbd_reply_commit(c, length);
    return true;
}

static bool inline_write(struct nbd_connection *c, const struct shortcut *s, uint64_t cookie,
                         uint64_t offset, uint32_t length, const uint8_t *payload)
{
    if (!s->file.inline_write || !shortcut_write_inline(s, payload, length))
        return false;
    /* The bytes are written; without memory for the reply the client is as good as gone. */
    if (!nbd_reply_status(c, cookie, offset, 0))
        c->dead = true;
    return true;
}

bool nbd_serve_inline(struct nbd_connection *c, uint16_t type, uint16_t flags, uint64_t cookie,
                      uint64_t offset, uint32_t length, const uint8_t *payload)
{
    bool write = type == NBD_CMD_WRITE, done = false;
    struct operation o;
    struct shortcut s;

    /* A client alone on its ring gains when a large copy is made by a worker of the kernel, beside the
     * copying to its socket; among several clients the CPUs have enough to do. */
    if (length > NBD_INLINE_ALONE_MAX && ring_load(c->ring) == 1)
        return false;
    if ((type != NBD_CMD_READ && !write) || length == 0 || length > NBD_INLINE_MAX ||
        (write && (flags & NBD_CMD_FLAG_FUA || c->export->writethrough)))
        return false;
    if (!operation_begin(&o, c->root))
        return false;
    if (!c->at_once[false].count && !c->at_once[true].count)
        c->at_once_since = ring_turn_now();
    if (check_bounds(c, type, offset, length) == 0 &&
        shortcut_find(c->root, write, offset, length, 0, &s)) {
        done = write ? inline_write(c, &s, cookie, offset, length, payload)
                     : inline_read(c, &s, cookie, offset, length);
        shortcut_done(&s, write, length, done ? 0 : -EAGAIN);
    }
    operation_end(&o);
    if (done) {
        c->at_once[write].count++;
        c->at_once[write].bytes += length;
    }
    return done;
}

/* One look at the clock for all: they are answered together, and so each took as long as all did. */
void nbd_count_inline(struct nbd_connection *c)
{
    static const enum io_kind kinds[] = { [false] = IO_READ, [true] = IO_WRITE };
    uint64_t latency;

    if (!c->at_once[false].count && !c->at_once[true].count)
        return;
    latency = ring_now() - c->at_once_since;
    for (unsigned write = false; write <= true; write++) {
        if (c->at_once[write].count)
            device_done_at_once(c->root->stats, kinds[write], c->at_once[write].count,
                                c->at_once[write].bytes, latency);
        c->at_once[write].count = 0;
        c->at_once[write].bytes = 0;
    }
}

void nbd_request_end(struct nbd_request *r, bool queued)
{
    struct nbd_connection *c = r->connection;

    if (counts(r->type))
        device_done(c->root->stats, nbd_kind(r->type), r->length, r->since, r->result);
    if (!queued)
        c->dead = true;
    nbd_request_put(r);
    nbd_send_later(c);
}

/* The operation has ended: answer, and let the connection go on. */
static void finish(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    bool queued;

    if (c->in_pieces == r) {
        nbd_piece_done(r);
        return;
    }
    if (r->type == NBD_CMD_READ && r->result == 0)
        queued = nbd_reply_data(c, r);
    else if (r->type == NBD_CMD_BLOCK_STATUS && r->result == 0)
        queued = true; /* it has queued its own */
    else
        queued = nbd_reply_status(c, r->cookie, r->offset, r->result);
    nbd_request_end(r, queued);
}

/* NBD_CMD_CACHE: read, and look at nothing. */
static int co_fn prefetch(struct nbd_request *r)
{
    struct pool_account *a = &r->connection->memory;
    size_t piece = account_may(a, PREFETCH_BYTES) ? PREFETCH_BYTES : PREFETCH_LEAST;
    struct span v = { .p = account_get_anyway(a, piece) };
    int result = v.p ? 0 : -ENOMEM;

    for (uint64_t done = 0; result == 0 && done < r->length; done += v.len) {
        v.len = r->length - done < piece ? r->length - done : piece;
        result = io_read(&r->operation, root_edge(r->connection->root), r->offset + done, &v, 1,
                         IO_PREFETCH);
        co_pause();
    }
    account_put(a, v.p, piece);
    return result;
}

static int co_fn run_once(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    struct operation *o = &r->operation;
    struct edge *e = root_edge(c->root);
    struct span v = { .p = r->data, .len = r->part_length };
    unsigned fua = r->flags & NBD_CMD_FLAG_FUA || c->export->writethrough ? IO_FUA : 0;

    switch (r->type) {
    case NBD_CMD_READ: return v.len ? io_read(o, e, r->part_offset, &v, 1, 0) : 0;
    case NBD_CMD_WRITE: return v.len ? io_write(o, e, r->part_offset, &v, 1, fua) : 0;
    case NBD_CMD_FLUSH: return io_flush(o, e);
    case NBD_CMD_CACHE: return prefetch(r);
    case NBD_CMD_WRITE_ZEROES:
        return io_zero(o, e, r->offset, r->length,
                       fua | (r->flags & NBD_CMD_FLAG_NO_HOLE ? 0 : IO_MAY_UNMAP) |
                           (r->flags & NBD_CMD_FLAG_FAST_ZERO ? IO_NO_FALLBACK : 0));
    case NBD_CMD_TRIM: {
        int result = io_discard(o, e, r->offset, r->length);
        return result == 0 && fua ? io_flush(o, e) : result;
    }
    default: nbd_block_status(r); return r->result;
    }
}

static void gate_opened(struct gate_waiter *w)
{
    nbd_request_start(container_of(w, struct nbd_request, waiter));
}

static void begin_counting(struct nbd_request *r)
{
    if (counts(r->type) && !r->begun)
        device_begin(r->connection->root->stats, nbd_kind(r->type));
    r->begun = true;
}

static void gate_failed(struct gate_waiter *w, int error)
{
    struct nbd_request *r = container_of(w, struct nbd_request, waiter);

    begin_counting(r);
    if (r->result >= 0)
        r->result = error;
    finish(r);
}

static bool same_connection(struct gate_waiter *w, void *connection)
{
    return w->fn == gate_opened &&
           container_of(w, struct nbd_request, waiter)->connection == connection;
}

void nbd_fail_waiting(struct nbd_connection *c)
{
    if (gate_stopped_here(c->root))
        gate_fail_here(c->root, -ESHUTDOWN, same_connection, c);
}

static void prepare_to_wait(struct nbd_request *r)
{
    r->waiter.fn = gate_opened;
    r->waiter.fail = gate_failed;
}

/* What the export's policy says about an error, inside the gate, where the node stays what it is.  Fast
 * zeroing that is refused, as the client asked for it to be, is no failure. */
static enum io_error_action judge(struct nbd_request *r)
{
    struct export *x = r->connection->export;
    enum io_error_action action;

    if (r->result >= 0 || r->result == -ENOTSUP || !counts(r->type))
        return IO_ERROR_REPORT;
    action = policy_failed(&x->policy, nbd_kind(r->type), r->result);
    if (action == IO_ERROR_IGNORE) {
        if (r->data)
            memset(r->data, 0, r->data_room);
        r->result = 0;
    }
    return action;
}

/* The long road.  A request that a drain unwound begins again, in the new graph; one that the policy stopped
 * does so when the export goes on. */
static void co_fn long_road(void *arg)
{
    struct nbd_request *r = arg;
    struct root *root = r->connection->root;
    bool stopped;

    while ((r->result = run_once(r)) == -ERESTART) {
        operation_end(&r->operation);
        if (!operation_begin(&r->operation, root)) {
            prepare_to_wait(r);
            gate_queue(root, &r->waiter);
            return;
        }
    }
    stopped = judge(r) == IO_ERROR_STOP;
    operation_end(&r->operation);
    if (!stopped) {
        finish(r);
        return;
    }
    prepare_to_wait(r);
    gate_queue_first(root, &r->waiter);
    nbd_pump(r->connection); /* the client may have left: then nothing of it waits */
}

static void take_long_road(struct nbd_request *r)
{
    if (co_enter(long_road, r, "nbd request") == 0)
        return;
    r->result = -ENOMEM;
    operation_end(&r->operation);
    finish(r);
}

static void short_cut_done(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_request *r = container_of(op, struct nbd_request, op);
    bool whole = result >= 0 && (uint64_t)result == r->part_length;

    (void)flags;
    shortcut_done(&r->shortcut, r->type == NBD_CMD_WRITE, r->part_length, whole ? 0 : -EAGAIN);
    if (!whole) { /* short, or an error: the long road finds out */
        take_long_road(r);
        return;
    }
    operation_end(&r->operation);
    finish(r);
}

static bool take_short_cut(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    struct shortcut *s = &r->shortcut;
    bool write = r->type == NBD_CMD_WRITE;

    if ((r->type != NBD_CMD_READ && !write) || r->length == 0 ||
        (write && (r->flags & NBD_CMD_FLAG_FUA || c->export->writethrough)) ||
        !shortcut_find(c->root, write, r->part_offset, r->part_length, 0, s))
        return false;
    if (s->zero) {
        memset(r->data, 0, r->part_length);
        short_cut_done(&r->op, (int32_t)r->part_length, 0);
        return true;
    }
    r->op.done = short_cut_done;
    if (write)
        op_write(&r->op, s->file.fd, r->data, (unsigned)r->part_length, s->offset, 0);
    else
        op_read(&r->op, s->file.fd, r->data, (unsigned)r->part_length, s->offset);
    return true;
}

static void refuse(struct nbd_request *r, int result)
{
    struct nbd_connection *c = r->connection;

    if (counts(r->type))
        device_invalid(c->root->stats, nbd_kind(r->type));
    if (!nbd_reply_status(c, r->cookie, r->offset, result))
        c->dead = true;
    nbd_request_put(r);
    nbd_send_later(c);
}

void nbd_request_start(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    int result;

    if (!r->since)
        r->since = ring_turn_now();
    if (!operation_begin(&r->operation, c->root)) {
        prepare_to_wait(r);
        gate_queue(c->root, &r->waiter);
        return;
    }
    r->result = 0; /* of an earlier attempt that failed there is nothing left */
    result = check_bounds(c, r->type, r->offset, r->length);
    if (result < 0) {
        operation_end(&r->operation);
        r->result = result;
        if (r->begun) /* the node shrank since the last attempt, or piece */
            finish(r);
        else
            refuse(r, result);
        return;
    }
    begin_counting(r);
    if (!take_short_cut(r))
        take_long_road(r);
}
