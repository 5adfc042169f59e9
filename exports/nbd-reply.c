/* SPDX-License-Identifier: MIT */
/*
 * Replies of an NBD connection.  What a turn of the loop produces is gathered
 * in large chunks and leaves in one send; at most one send is under way, and
 * what is ready meanwhile joins the next one.  A reply is whole in the queue
 * before any of it is sent, so replies never mix.
 *
 * A client that takes nothing holds what it has; its ring's other clients must
 * not starve of it.  So all buffers are on the connection's account, and a reply
 * that finds no room there makes do with a small chunk: as there are never more
 * of those than requests in flight, they are few.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-tls.h"

enum { HEADER_MAX = 64, SMALL_CHUNK_BYTES = 4096 };

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

/* @anyway: past the limits of the account. */
static struct nbd_chunk *chunk_new(struct nbd_connection *c, size_t room, bool anyway)
{
    struct nbd_chunk *chunk = calloc(1, sizeof(*chunk));
    struct pool_account *a = &c->memory;

    if (!chunk)
        return NULL;
    list_init(&chunk->link);
    chunk->room = room;
    if (room && !(chunk->p = anyway ? account_get_anyway(a, room) : account_get(a, room))) {
        free(chunk);
        return NULL;
    }
    return chunk;
}

static void chunk_free(struct nbd_connection *c, struct nbd_chunk *chunk)
{
    if (chunk)
        account_put(&c->memory, chunk->p, chunk->room);
    free(chunk);
}

/* The last chunk, if @len more bytes fit into it. */
static struct nbd_chunk *last_with_room(const struct nbd_connection *c, size_t len)
{
    struct nbd_chunk *last;

    if (list_empty(&c->out))
        return NULL;
    last = container_of(c->out.prev, struct nbd_chunk, link);
    return last->room - last->end >= len ? last : NULL;
}

/* That one, or a fresh one; NULL: no memory now. */
static struct nbd_chunk *chunk_with_room(struct nbd_connection *c, size_t len)
{
    struct nbd_chunk *last = last_with_room(c, len);

    if (last || len > NBD_CHUNK_BYTES)
        return last;
    last = chunk_new(c, NBD_CHUNK_BYTES, false);
    if (!last)
        return NULL;
    list_push_back(&c->out, &last->link);
    return last;
}

/* For what must be said: room for HEADER_MAX bytes whatever the limits are. */
static struct nbd_chunk *chunk_for_header(struct nbd_connection *c)
{
    struct nbd_chunk *last = chunk_with_room(c, HEADER_MAX);

    if (last || !(last = chunk_new(c, SMALL_CHUNK_BYTES, true)))
        return last;
    list_push_back(&c->out, &last->link);
    return last;
}

bool nbd_may_answer(const struct nbd_connection *c)
{
    return last_with_room(c, HEADER_MAX) || account_may(&c->memory, NBD_CHUNK_BYTES);
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

/* The header of @length bytes read @at, the @last of a request at @offset or not; returns its length. */
static size_t put_read_header(const struct nbd_connection *c, uint8_t *p, uint64_t cookie,
                              uint64_t offset, uint64_t at, uint64_t length, bool last)
{
    be64 start = put_be64(at);
    size_t n;

    if (c->style == NBD_SIMPLE)
        return put_simple(p, cookie, 0);
    n = put_header(c, p, NBD_CHUNK_OFFSET_DATA, last, cookie, offset, sizeof(start) + length);
    memcpy(p + n, &start, sizeof(start));
    return n + sizeof(start);
}

bool nbd_reply_status(struct nbd_connection *c, uint64_t cookie, uint64_t offset, int result)
{
    struct nbd_chunk *chunk = chunk_for_header(c);
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
           put_read_header(c, chunk->p + chunk->end, cookie, offset, offset, length, true);
}

void nbd_reply_commit(struct nbd_connection *c, uint32_t length)
{
    struct nbd_chunk *chunk = container_of(c->out.prev, struct nbd_chunk, link);
    size_t header = c->style == NBD_SIMPLE       ? sizeof(struct nbd_simple_reply)
                    : c->style == NBD_STRUCTURED ? sizeof(struct nbd_structured_reply) + 8
                                                 : sizeof(struct nbd_extended_reply) + 8;

    chunk->end += header + length;
}

/* The part of @r that was read, in its own buffer. */
static bool queue_part(struct nbd_connection *c, struct nbd_request *r)
{
    struct nbd_chunk *data = chunk_new(c, 0, false);

    if (!data)
        return false;
    data->p = take_ptr(&r->data);
    data->room = r->data_room;
    data->end = r->part_length;
    r->data_room = 0;
    list_push_back(&c->out, &data->link);
    return true;
}

bool nbd_reply_data(struct nbd_connection *c, struct nbd_request *r)
{
    uint32_t length = (uint32_t)r->length;
    struct nbd_chunk *chunk;
    uint8_t *p;

    if (length == 0)
        return nbd_reply_status(c, r->cookie, r->offset, 0);
    /* A short one is cheaper copied than sent as a piece of its own. */
    if (length <= NBD_CHUNK_BYTES / 8 &&
        (p = nbd_reply_reserve(c, r->cookie, r->offset, length)) != NULL) {
        memcpy(p, r->data, length);
        nbd_reply_commit(c, length);
        return true;
    }
    chunk = chunk_for_header(c);
    if (!chunk)
        return false;
    chunk->end +=
        put_read_header(c, chunk->p + chunk->end, r->cookie, r->offset, r->offset, length, true);
    return queue_part(c, r);
}

bool nbd_reply_in_chunks(const struct nbd_request *r)
{
    return r->connection->style != NBD_SIMPLE && !(r->flags & NBD_CMD_FLAG_DF);
}

bool nbd_reply_piece(struct nbd_connection *c, struct nbd_request *r)
{
    uint64_t end = r->offset + r->length, part_end = r->part_offset + r->part_length;
    bool in_chunks = nbd_reply_in_chunks(r);
    struct nbd_chunk *chunk;

    if (in_chunks || r->part_offset == r->offset) {
        chunk = chunk_for_header(c);
        if (!chunk)
            return false;
        chunk->end +=
            put_read_header(c, chunk->p + chunk->end, r->cookie, r->offset, r->part_offset,
                            in_chunks ? r->part_length : r->length, !in_chunks || part_end == end);
    }
    return queue_part(c, r);
}

bool nbd_reply_context(struct nbd_connection *c, const struct nbd_request *r, uint32_t context,
                       const struct nbd_extent *extents, unsigned count, bool last)
{
    bool wide = c->style == NBD_EXTENDED;
    size_t fixed = wide ? 8 : 4, each = wide ? 16 : 8;
    struct nbd_chunk *chunk = chunk_with_room(c, HEADER_MAX + fixed + count * each);
    be32 id = put_be32(context), n;
    size_t body;
    uint8_t *p;

    if (!chunk) {
        count = 1; /* the client asks again for the rest */
        chunk = chunk_for_header(c);
    }
    if (!chunk)
        return false;
    n = put_be32(count);
    body = fixed + count * each;
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
        list_remove(&chunk->link);
        chunk_free(c, chunk);
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
        chunk_free(c, container_of(l, struct nbd_chunk, link));
}
