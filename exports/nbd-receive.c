/* SPDX-License-Identifier: MIT */
/*
 * Receiving on an NBD connection: one large receive brings many requests; each
 * is parsed and started at once, and what can be answered within the turn
 * leaves in one send.  A large write's payload lands straight in its own
 * aligned buffer.
 *
 * Reading stops while a client is past its limits, so the socket pushes back;
 * nothing here waits for a client, and no client's bytes are trusted.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-tls.h"

enum {
    KEEP_IN_PLACE = 64 << 10
}; /* a write payload up to this size is gathered in the receive buffer */

struct header {
    uint16_t type, flags;
    uint64_t cookie, offset, length;
    size_t bytes; /* of the header itself */
    bool payload; /* `length` bytes follow */
};

/* 1: a header; 0: more bytes are needed; negative: not the protocol. */
static int parse_header(const struct nbd_connection *c, const uint8_t *p, size_t have,
                        struct header *h)
{
    struct nbd_compact_request n;
    struct nbd_extended_request e;

    if (c->style == NBD_EXTENDED) {
        if (have < sizeof(e))
            return 0;
        memcpy(&e, p, sizeof(e));
        if (get_be32(e.magic) != NBD_EXTENDED_REQUEST_MAGIC)
            return -EPROTO;
        *h = (struct header){ get_be16(e.type),
                              get_be16(e.flags),
                              get_be64(e.cookie),
                              get_be64(e.offset),
                              get_be64(e.length),
                              sizeof(e),
                              false };
        h->payload = h->type == NBD_CMD_WRITE || h->flags & NBD_CMD_FLAG_PAYLOAD_LEN;
    } else {
        if (have < sizeof(n))
            return 0;
        memcpy(&n, p, sizeof(n));
        if (get_be32(n.magic) != NBD_REQUEST_MAGIC)
            return -EPROTO;
        *h = (struct header){ get_be16(n.type),
                              get_be16(n.flags),
                              get_be64(n.cookie),
                              get_be64(n.offset),
                              get_be32(n.length),
                              sizeof(n),
                              false };
        h->payload = h->type == NBD_CMD_WRITE;
    }
    return 1;
}

static bool over_limits(const struct nbd_connection *c)
{
    return c->in_flight >= NBD_REQUESTS_MAX || c->memory.held >= NBD_BYTES_MAX ||
           !nbd_may_answer(c);
}

static bool moves_bytes(const struct header *h)
{
    return h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE;
}

/* A request of its own for @h, still without a buffer; NULL: no memory. */
static struct nbd_request *make_request(struct nbd_connection *c, const struct header *h)
{
    struct nbd_request *r = nbd_request_get(c);

    if (!r)
        return NULL;
    r->type = h->type;
    r->flags = h->flags;
    r->cookie = h->cookie;
    r->offset = h->offset;
    r->length = h->length;
    r->part_offset = h->offset;
    r->part_length = h->length;
    return r;
}

/* All that @r moves has a buffer, or needs none. */
static bool give_buffer(struct nbd_request *r, const struct header *h)
{
    if (!moves_bytes(h) || !h->length)
        return true;
    r->data = account_get(&r->connection->memory, h->length);
    r->data_room = r->data ? h->length : 0;
    return r->data != NULL;
}

static void refuse(struct nbd_connection *c, const struct header *h, int result)
{
    if (h->type <= NBD_CMD_WRITE_ZEROES && h->type != NBD_CMD_CACHE && h->type != NBD_CMD_DISC)
        device_invalid(c->root->stats, nbd_kind(h->type));
    if (!nbd_reply_status(c, h->cookie, h->offset, result))
        c->dead = true;
}

/* A request that can't be served in line, with @have bytes of its payload.  False: not now. */
static bool begin(struct nbd_connection *c, const struct header *h, const uint8_t *payload,
                  size_t have)
{
    struct nbd_request *r = make_request(c, h);

    if (r && give_buffer(r, h)) {
        if (have)
            memcpy(r->data, payload, have);
        if (h->payload && have < h->length) { /* gather it where it will be used */
            c->filling = r;
            c->filled = have;
        } else {
            nbd_request_start(r);
        }
        return true;
    }
    if (r && nbd_pieces_begin(r, payload, have))
        return true;
    if (r)
        nbd_request_put(r);
    /* What is in flight or unsent gives memory back and pumps; a client without either is one too many. */
    if (!c->in_flight && list_empty(&c->out))
        c->dead = true;
    return false;
}

/* One request with its payload, if any, in the buffer or to come.
 * Return: bytes consumed; 0: not now (more bytes, memory or room are needed). */
static size_t take_one(struct nbd_connection *c, const struct header *h, const uint8_t *p,
                       size_t have)
{
    uint64_t payload = h->payload ? h->length : 0;
    int result = nbd_request_check_form(c, h->type, h->flags, h->offset, h->length);

    if (h->payload && h->type != NBD_CMD_WRITE)
        result = -EINVAL;
    have -= h->bytes;
    if (result < 0) {
        size_t here = payload < have ? payload : have;
        refuse(c, h, result);
        c->skip = payload - here;
        return h->bytes + here;
    }
    if (payload <= have)
        have = payload;
    else if (payload <= KEEP_IN_PLACE)
        return 0;
    if (have == payload && h->length <= NBD_INLINE_MAX &&
        nbd_serve_inline(c, h->type, h->flags, h->cookie, h->offset, (uint32_t)h->length,
                         p + h->bytes))
        return h->bytes + payload;
    return begin(c, h, p + h->bytes, have) ? h->bytes + have : 0;
}

static void go_on_next_turn(struct work *w)
{
    struct nbd_connection *c = container_of(w, struct nbd_connection, again);

    c->again_queued = false;
    nbd_pump(c);
}

static void next_turn(struct nbd_connection *c)
{
    if (c->again_queued)
        return;
    c->again_queued = true;
    c->again.fn = go_on_next_turn;
    ring_post(c->ring, &c->again);
}

/* Has the turn gathered so much that it is better sent now than at its end?  The client then works on
 * it meanwhile, and large replies leave while the CPU's cache still has them.  Among several
 * connections the others keep the CPUs busy, and fewer, larger sends cost less. */
static bool worth_sending(const struct nbd_connection *c, unsigned requests, uint64_t bytes)
{
    return bytes >= NBD_PIECE_BYTES || (requests >= NBD_PIECE_REQUESTS && ring_load(c->ring) == 1);
}

/* Start all whole requests that are in the buffer, as far as limits allow.
 * Return: true when more bytes from the client are wanted. */
static bool parse(struct nbd_connection *c)
{
    uint64_t budget = NBD_TURN_BYTES, sent_at = budget;
    unsigned requests = 0;

    while (!c->dead && !c->receive_ended) {
        size_t have = c->in_end - c->in_start, used;
        struct header h;
        int whole;

        if (c->skip) {
            used = c->skip < have ? c->skip : have;
            c->skip -= used;
            c->in_start += used;
            if (c->skip)
                return true;
            continue;
        }
        whole = parse_header(c, c->in + c->in_start, have, &h);
        if (whole < 0 || (whole && h.payload && h.length > NBD_PAYLOAD_MAX)) {
            c->dead = true;
            return false;
        }
        if (!whole)
            return true;
        if (h.type == NBD_CMD_DISC) {
            c->receive_ended = true;
            return false;
        }
        if (over_limits(c))
            return false;
        if (budget < h.length && budget < NBD_TURN_BYTES) {
            next_turn(c);
            return false;
        }
        used = take_one(c, &h, c->in + c->in_start, have);
        if (!used)
            return h.payload && h.length > have - h.bytes && h.length <= KEEP_IN_PLACE;
        c->in_start += used;
        budget -= h.length < budget ? h.length : budget;
        if (worth_sending(c, ++requests, sent_at - budget)) {
            nbd_count_inline(c);
            nbd_send(c);
            requests = 0;
            sent_at = budget;
        }
        if (c->filling)
            return true;
        if (c->in_pieces)
            return false;
    }
    return false;
}

void nbd_received(struct nbd_connection *c, int32_t result)
{
    if (result <= 0) {
        if (result != -EAGAIN && result != -EINTR)
            c->receive_ended = true;
    } else if (c->filling && !c->dead) {
        c->filled += (size_t)result;
        if (c->filled == c->filling->part_length)
            nbd_request_start(take_ptr(&c->filling));
    } else if (!c->dead) {
        c->in_end += (size_t)result;
    }
    nbd_pump(c);
}

static void received(struct op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    nbd_received(container_of(op, struct nbd_connection, receive), result);
}

static void receive_into(struct nbd_connection *c, uint8_t *p, size_t room, int flags)
{
    if (c->tls) {
        nbd_tls_receive(c, p, room);
        return;
    }
    c->receive.done = received;
    op_recv(&c->receive, c->fd, p, room, flags);
}

static void receive(struct nbd_connection *c)
{
    if (c->filling) {
        receive_into(c, c->filling->data + c->filled, c->filling->part_length - c->filled,
                     MSG_WAITALL);
        return;
    }
    if (c->in_start == c->in_end) {
        c->in_start = c->in_end = 0;
    } else if (NBD_RECEIVE_BYTES - c->in_start < KEEP_IN_PLACE + 64) {
        memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
        c->in_end -= c->in_start;
        c->in_start = 0;
    }
    receive_into(c, c->in + c->in_end, NBD_RECEIVE_BYTES - c->in_end, 0);
}

/* Nothing will come and nothing will leave any more: hand the connection back when all is quiet. */
static void end_if_quiet(struct nbd_connection *c)
{
    if (op_in_flight(&c->receive)) /* it may still write into what it was given */
        op_cancel(&c->receive);
    else if (c->filling)
        nbd_request_put(take_ptr(&c->filling));
    if (c->dead && op_in_flight(&c->send))
        op_cancel(&c->send);
    if (c->in_flight)
        nbd_fail_waiting(c);
    if (c->in_flight || op_in_flight(&c->receive) || op_in_flight(&c->send) || c->again_queued ||
        c->turn_end_queued || (!c->dead && !list_empty(&c->out)))
        return;
    nbd_tls_close(c);
    nbd_out_free(c);
    account_put(&c->memory, c->in, NBD_RECEIVE_BYTES);
    c->in = NULL;
    for (struct list *l; (l = list_pop_front(&c->idle_requests));)
        free(container_of(l, struct nbd_request, link));
    ring_load_add(c->ring, -1);
    nbd_connection_ended(c);
}

void nbd_pump(struct nbd_connection *c)
{
    bool wanted;

    if (c->pumping) /* a request ended within parse(): the loop below goes on anyway */
        return;
    c->pumping = true;
    wanted = !c->dead && !c->receive_ended && !c->filling && !c->in_pieces &&
             !op_in_flight(&c->receive) && parse(c);
    nbd_count_inline(c);
    if (!op_in_flight(&c->send))
        nbd_send(c);
    nbd_pieces_go_on(c);
    c->pumping = false;
    if (c->dead || c->receive_ended)
        end_if_quiet(c);
    else if ((wanted || c->filling) && !op_in_flight(&c->receive))
        receive(c);
}

void nbd_kill_here(struct nbd_connection *c)
{
    c->dead = true;
    nbd_pump(c);
}

void nbd_serve(struct work *start)
{
    struct nbd_connection *c = container_of(start, struct nbd_connection, start_work);

    list_init(&c->out);
    list_init(&c->idle_requests);
    c->memory = (struct pool_account){ .own = NBD_OWN_BYTES };
    c->in = account_get(&c->memory, NBD_RECEIVE_BYTES);
    if (!c->in)
        c->dead = true; /* the system is out of memory */
    nbd_pump(c);
}
