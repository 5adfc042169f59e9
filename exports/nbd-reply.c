/* SPDX-License-Identifier: MIT */
/*
 * Replies of an NBD connection.  What a turn of the loop produces is gathered
 * in large chunks and leaves in one send; at most one send is under way, and
 * what is ready meanwhile joins the next one.  A reply is whole in the queue
 * before any of it is sent, so replies never mix.
 *
 * Invariant: connection->bytes counts what is charged to unsent chunks and to
 * requests in flight; it never exceeds NBD_BYTES_MAX by more than one request.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-tls.h"

enum { HEADER_MAX = 64 };

_Static_assert(NBD_INLINE_MAX + HEADER_MAX <= NBD_CHUNK_BYTES, "an inline read fits into a chunk");

uint32_t nbd_error_number(int result)
{
    switch (-result) {
    case 0: return 0;
    case EPERM:
    case EACCES:
    case EROFS: return NBD_EPERM;
    case EIO:
    case EREMOTEIO:
    case ETIMEDOUT:
    case ENODEV:
    case ENXIO: return NBD_EIO;
    case ENOMEM: return NBD_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return NBD_ENOSPC;
    case EOVERFLOW: return NBD_EOVERFLOW;
    case ENOTSUP: return NBD_ENOTSUP;
    case ESHUTDOWN: return NBD_ESHUTDOWN;
    case EINVAL: return NBD_EINVAL;
    default: return NBD_EIO;
    }
}

static struct nbd_chunk *chunk_new(size_t room)
{
    struct nbd_chunk *chunk = calloc(1, sizeof(*chunk));

    if (!chunk)
        return NULL;
    list_init(&chunk->link);
    chunk->room = room;
    if (room && !(chunk->p = buffer_get(room))) {
        free(chunk);
        return NULL;
    }
    return chunk;
}

static void chunk_free(struct nbd_chunk *chunk)
{
    if (chunk)
        buffer_put(chunk->p, chunk->room);
    free(chunk);
}

/* The last chunk, if @len more bytes fit into it; else a fresh one. */
static struct nbd_chunk *chunk_with_room(struct nbd_connection *c, size_t len)
{
    struct nbd_chunk *last = NULL;

    if (len > NBD_CHUNK_BYTES)
        return NULL;
    if (!list_empty(&c->out))
        last = container_of(c->out.prev, struct nbd_chunk, link);
    if (last && last->room - last->end >= len)
        return last;
    if (len > NBD_CHUNK_BYTES)
        last = chunk_new(len);
    else if (!(last = take_ptr(&c->spare)))
        last = chunk_new(NBD_CHUNK_BYTES);
    if (!last)
        return NULL;
    list_push_back(&c->out, &last->link);
    return last;
}

/* Write the header of a reply chunk; returns its length. */
static size_t put_header(const struct nbd_connection *c, uint8_t *p, uint16_t type, bool done,
                         uint64_t cookie, uint64_t offset, uint64_t length)
{
    struct nbd_structured_reply s = {
        .magic = put_be32(NBD_STRUCTURED_REPLY_MAGIC),
        .flags = put_be16(done ? NBD_CHUNK_FLAG_DONE : 0),
        .type = put_be16(type),
        .cookie = put_be64(cookie),
        .length = put_be32((uint32_t)length),
    };
    struct nbd_extended_reply e = {
        .magic = put_be32(NBD_EXTENDED_REPLY_MAGIC),
        .flags = s.flags,
        .type = s.type,
        .cookie = s.cookie,
        .offset = put_be64(offset),
        .length = put_be64(length),
    };

    if (c->style == NBD_EXTENDED) {
        memcpy(p, &e, sizeof(e));
        return sizeof(e);
    }
    memcpy(p, &s, sizeof(s));
    return sizeof(s);
}

static size_t put_simple(uint8_t *p, uint64_t cookie, uint32_t error)
{
    struct nbd_simple_reply simple = {
        .magic = put_be32(NBD_SIMPLE_REPLY_MAGIC),
        .error = put_be32(error),
        .cookie = put_be64(cookie),
    };
    memcpy(p, &simple, sizeof(simple));
    return sizeof(simple);
}

/* The header of a successful read of @length bytes; returns its length. */
static size_t put_read_header(const struct nbd_connection *c, uint8_t *p, uint64_t cookie,
                              uint64_t offset, uint32_t length)
{
    be64 start = put_be64(offset);
    size_t n;

    if (c->style == NBD_SIMPLE)
        return put_simple(p, cookie, 0);
    n = put_header(c, p, NBD_CHUNK_OFFSET_DATA, true, cookie, offset,
                   sizeof(start) + (uint64_t)length);
    memcpy(p + n, &start, sizeof(start));
    return n + sizeof(start);
}

bool nbd_reply_status(struct nbd_connection *c, uint64_t cookie, uint64_t offset, int result)
{
    struct nbd_chunk *chunk = chunk_with_room(c, HEADER_MAX);
    uint32_t error = nbd_error_number(result);
    uint8_t *p;

    if (!chunk)
        return false;
    p = chunk->p + chunk->end;
    if (c->style == NBD_SIMPLE) {
        chunk->end += put_simple(p, cookie, error);
    } else if (error == 0) {
        chunk->end += put_header(c, p, NBD_CHUNK_NONE, true, cookie, offset, 0);
    } else {
        struct {
            be32 error;
            be16 message_length;
        } __attribute__((packed)) body = { put_be32(error), put_be16(0) };
        size_t n = put_header(c, p, NBD_CHUNK_ERROR, true, cookie, offset, sizeof(body));
        memcpy(p + n, &body, sizeof(body));
        chunk->end += n + sizeof(body);
    }
    return true;
}

uint8_t *nbd_reply_reserve(struct nbd_connection *c, uint64_t cookie, uint64_t offset,
                           uint32_t length)
{
    struct nbd_chunk *chunk = chunk_with_room(c, HEADER_MAX + length);

    if (!chunk)
        return NULL;
    /* chunk->end stays until the commit, so that an abandoned reservation costs nothing. */
    return chunk->p + chunk->end +
           put_read_header(c, chunk->p + chunk->end, cookie, offset, length);
}

void nbd_reply_commit(struct nbd_connection *c, uint32_t length)
{
    struct nbd_chunk *chunk = container_of(c->out.prev, struct nbd_chunk, link);
    size_t header = c->style == NBD_SIMPLE       ? sizeof(struct nbd_simple_reply)
                    : c->style == NBD_STRUCTURED ? sizeof(struct nbd_structured_reply) + 8
                                                 : sizeof(struct nbd_extended_reply) + 8;

    chunk->end += header + length;
    chunk->charge += length;
    c->bytes += length;
}

bool nbd_reply_data(struct nbd_connection *c, struct nbd_request *r)
{
    uint32_t length = (uint32_t)r->length;
    struct nbd_chunk *chunk, *data;

    if (length == 0)
        return nbd_reply_status(c, r->cookie, r->offset, 0);
    if (length <= NBD_CHUNK_BYTES / 8) { /* cheaper copied than sent as a piece of its own */
        uint8_t *p = nbd_reply_reserve(c, r->cookie, r->offset, length);
        if (!p)
            return false;
        memcpy(p, r->data, length);
        nbd_reply_commit(c, length);
        return true;
    }
    chunk = chunk_with_room(c, HEADER_MAX);
    data = chunk ? chunk_new(0) : NULL;
    if (!data)
        return false;
    chunk->end += put_read_header(c, chunk->p + chunk->end, r->cookie, r->offset, length);
    data->p = take_ptr(&r->data);
    /* The buffer is in connection->bytes already: the charge moves from the request to the chunk. */
    data->room = data->charge = r->data_room;
    r->data_room = 0;
    data->end = length;
    list_push_back(&c->out, &data->link);
    return true;
}

bool nbd_reply_context(struct nbd_connection *c, const struct nbd_request *r, uint32_t context,
                       const struct nbd_extent *extents, unsigned count, bool last)
{
    bool wide = c->style == NBD_EXTENDED;
    size_t body = wide ? 8 + (size_t)count * 16 : 4 + (size_t)count * 8;
    struct nbd_chunk *chunk = chunk_with_room(c, HEADER_MAX + body);
    be32 id = put_be32(context), n = put_be32(count);
    uint8_t *p;

    if (!chunk)
        return false;
    p = chunk->p + chunk->end;
    p += put_header(c, p, wide ? NBD_CHUNK_BLOCK_STATUS_EXT : NBD_CHUNK_BLOCK_STATUS, last,
                    r->cookie, r->offset, body);
    memcpy(p, &id, sizeof(id));
    p += sizeof(id);
    if (wide) {
        memcpy(p, &n, sizeof(n));
        p += sizeof(n);
    }
    for (unsigned i = 0; i < count; i++) {
        be64 pair[2] = { put_be64(extents[i].length), put_be64(extents[i].flags) };
        be32 narrow[2] = { put_be32((uint32_t)extents[i].length),
                           put_be32((uint32_t)extents[i].flags) };
        memcpy(p, wide ? (void *)pair : (void *)narrow, wide ? sizeof(pair) : sizeof(narrow));
        p += wide ? sizeof(pair) : sizeof(narrow);
    }
    chunk->end = (size_t)(p - chunk->p);
    return true;
}

/* @n bytes of the queue have left. */
void nbd_out_sent(struct nbd_connection *c, size_t n)
{
    while (!list_empty(&c->out)) {
        struct nbd_chunk *chunk = container_of(c->out.next, struct nbd_chunk, link);
        size_t left = chunk->end - chunk->start;

        if (n < left) {
            chunk->start += n;
            return;
        }
        n -= left;
        c->bytes -= chunk->charge;
        list_remove(&chunk->link);
        if (!c->spare && chunk->room == NBD_CHUNK_BYTES && !c->dead) {
            chunk->start = chunk->end = chunk->charge = 0;
            c->spare = chunk;
        } else {
            chunk_free(chunk);
        }
    }
}

unsigned nbd_out_vectors(struct nbd_connection *c)
{
    struct nbd_chunk *chunk;
    unsigned n = 0;

    list_for_each (chunk, &c->out, link) {
        if (n == NBD_REPLY_VECTORS)
            break;
        if (chunk->end > chunk->start)
            c->vectors[n++] = (struct iovec){ chunk->p + chunk->start, chunk->end - chunk->start };
    }
    return n;
}

static void send_done(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_connection *c = container_of(op, struct nbd_connection, send);

    (void)flags;
    if (result < 0 && result != -EAGAIN && result != -EINTR)
        c->dead = true;
    else if (result > 0)
        nbd_out_sent(c, (size_t)result);
    if (!c->dead)
        nbd_send(c);
    nbd_pump(c);
}

void nbd_send(struct nbd_connection *c)
{
    if (c->dead || op_in_flight(&c->send))
        return;
    if (c->tls) {
        nbd_tls_send(c);
        return;
    }
    for (;;) {
        unsigned count = nbd_out_vectors(c);
        ssize_t n;

        if (!count) {
            nbd_out_sent(c, 0); /* an abandoned reservation may have left an empty chunk */
            return;
        }
        c->message = (struct msghdr){ .msg_iov = c->vectors, .msg_iovlen = count };
        n = sendmsg(c->fd, &c->message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            nbd_out_sent(c, (size_t)n);
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            /* The last chunk may grow meanwhile: the kernel was told of the bytes of now. */
            c->send.done = send_done;
            op_sendmsg(&c->send, c->fd, &c->message, MSG_NOSIGNAL);
            return;
        } else if (n == 0 || errno != EINTR) {
            c->dead = true;
            return;
        }
    }
}

static void send_at_turn_end(struct work *w)
{
    struct nbd_connection *c = container_of(w, struct nbd_connection, turn_end);

    c->turn_end_queued = false;
    nbd_send(c);
    nbd_pump(c);
}

void nbd_send_later(struct nbd_connection *c)
{
    if (c->turn_end_queued)
        return;
    c->turn_end_queued = true;
    c->turn_end.fn = send_at_turn_end;
    ring_defer(&c->turn_end);
}

void nbd_out_free(struct nbd_connection *c)
{
    struct list *l;

    while ((l = list_pop_front(&c->out)))
        chunk_free(container_of(l, struct nbd_chunk, link));
    chunk_free(c->spare);
    c->spare = NULL;
}
