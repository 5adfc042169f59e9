/* SPDX-License-Identifier: MIT */
/*
 * Batched sending and streamed parsing of one NBD connection; see conn.h.
 */
#include "tests/bench/conn.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void *must_alloc(size_t count, size_t size)
{
    void *p = calloc(count, size);

    if (!p)
        errx(1, "no memory for a connection");
    return p;
}

void conn_init(struct conn *c, int fd, bool structured, unsigned depth, size_t receive_size)
{
    *c = (struct conn){
        .fd = fd,
        .structured = structured,
        .depth = depth,
        .slots = must_alloc(depth, sizeof *c->slots),
        .free = must_alloc(depth, sizeof *c->free),
        .headers = must_alloc(depth, sizeof *c->headers),
        .iov = must_alloc(2 * depth, sizeof *c->iov),
        .in_size = receive_size,
    };
    c->in = aligned_alloc(4096, receive_size);
    if (!c->in)
        errx(1, "no memory for a connection");
    while (c->free_count < depth) {
        c->free[c->free_count] = (uint16_t)(depth - 1 - c->free_count);
        c->free_count++;
    }
}

void conn_free(struct conn *c)
{
    free(c->slots);
    free(c->free);
    free(c->headers);
    free(c->iov);
    free(c->in);
    close(c->fd);
}

struct slot *conn_take(struct conn *c)
{
    return c->free_count ? &c->slots[c->free[--c->free_count]] : NULL;
}

static void add_iov(struct conn *c, void *base, size_t length)
{
    struct iovec *last = c->iov_count ? &c->iov[c->iov_count - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == base)
        last->iov_len += length;
    else
        c->iov[c->iov_count++] = (struct iovec){ .iov_base = base, .iov_len = length };
}

void conn_add(struct conn *c, struct slot *s)
{
    struct wire_request *head = &c->headers[c->header_count++];

    s->busy = true;
    s->failed = false;
    s->got = 0;
    *head = (struct wire_request){
        .magic = put_be32(WIRE_REQUEST),
        .type = put_be16(s->command),
        .cookie = put_be64((uint64_t)(s - c->slots)),
        .offset = put_be64(s->offset),
        .length = put_be32(s->length),
    };
    add_iov(c, head, sizeof *head);
    if (s->command == WIRE_CMD_WRITE)
        add_iov(c, s->data, s->length);
}

/* Drops @sent bytes from the front of what is to be sent. */
static void advance(struct conn *c, size_t sent)
{
    while (sent) {
        struct iovec *v = &c->iov[c->iov_first];

        if (sent < v->iov_len) {
            v->iov_base = (uint8_t *)v->iov_base + sent;
            v->iov_len -= sent;
            return;
        }
        sent -= v->iov_len;
        c->iov_first++;
    }
    if (conn_idle(c))
        c->iov_first = c->iov_count = c->header_count = 0;
}

int conn_send(struct conn *c)
{
    while (!conn_idle(c)) {
        struct msghdr m = { .msg_iov = c->iov + c->iov_first,
                            .msg_iovlen = c->iov_count - c->iov_first };
        ssize_t n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        c->sends++;
        advance(c, (size_t)n);
    }
    return 0;
}

int conn_receive(struct conn *c, int flags)
{
    ssize_t n;

    do
        n = recv(c->fd, c->in + c->in_end, c->in_size - c->in_end, flags);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n ? -errno : -ECONNRESET;
    c->recvs++;
    c->in_end += (size_t)n;
    return (int)n;
}

/* The slot that a reply names, or NULL. */
static struct slot *find_slot(struct conn *c, be64 cookie)
{
    uint64_t index = get_be64(cookie);

    return index < c->depth && c->slots[index].busy ? &c->slots[index] : NULL;
}

/* Takes the header of a simple reply: its bytes, 0 when they are not all there, or -EBADMSG. */
static int parse_simple(struct conn *c, const uint8_t *p, size_t available)
{
    struct wire_simple_reply reply;
    struct slot *s;

    if (available < sizeof reply)
        return 0;
    memcpy(&reply, p, sizeof reply);
    s = find_slot(c, reply.cookie);
    /* a server that negotiated structured replies must answer reads with them */
    if (!s || (c->structured && s->command == WIRE_CMD_READ))
        return -EBADMSG;
    s->failed = get_be32(reply.error) != 0;
    c->done = s;
    if (s->command == WIRE_CMD_READ && !s->failed) {
        c->payload = s;
        c->payload_left = s->length;
    }
    return sizeof reply;
}

/* A chunk of data, after its header: sets what is to come.  Returns bytes taken. */
static int parse_data(struct conn *c, struct slot *s, const uint8_t *p, uint32_t length)
{
    be64 offset;

    memcpy(&offset, p, sizeof offset);
    length -= (uint32_t)sizeof offset;
    /* we keep the pieces in order, which every server of interest does */
    if (get_be64(offset) != s->offset + s->got || length > s->length - s->got)
        return -EBADMSG;
    c->payload = s;
    c->payload_left = length;
    return sizeof offset;
}

static int parse_hole(struct slot *s, const uint8_t *p)
{
    be64 offset;
    be32 wire_length;
    uint32_t length;

    memcpy(&offset, p, sizeof offset);
    memcpy(&wire_length, p + sizeof offset, sizeof wire_length);
    length = get_be32(wire_length);
    if (get_be64(offset) != s->offset + s->got || length > s->length - s->got)
        return -EBADMSG;
    if (s->data)
        memset(s->data + s->got, 0, length);
    s->got += length;
    return sizeof offset + sizeof wire_length;
}

/* Takes one structured chunk but for its data; returns as parse_simple(). */
static int parse_chunk(struct conn *c, const uint8_t *p, size_t available)
{
    enum { HEAD = sizeof(struct wire_chunk), OFFSET = 8, HOLE = 12 };
    struct wire_chunk chunk;
    struct slot *s;
    unsigned type;
    uint32_t length;
    int taken = 0;

    if (available < HEAD)
        return 0;
    memcpy(&chunk, p, sizeof chunk);
    type = get_be16(chunk.type);
    length = get_be32(chunk.length);
    s = find_slot(c, chunk.cookie);
    if (!s || !c->structured)
        return -EBADMSG;
    if (type == WIRE_CHUNK_DATA && length >= OFFSET) {
        if (available < HEAD + OFFSET)
            return 0;
        taken = parse_data(c, s, p + HEAD, length);
    } else if (type == WIRE_CHUNK_HOLE && length == HOLE) {
        if (available < HEAD + HOLE)
            return 0;
        taken = parse_hole(s, p + HEAD);
    } else if (type & WIRE_CHUNK_ERROR) {
        s->failed = true;
        c->payload = NULL; /* the message is skipped */
        c->payload_left = length;
    } else if (type != WIRE_CHUNK_NONE || length) {
        return -EBADMSG;
    }
    if (taken < 0)
        return taken;
    if (get_be16(chunk.flags) & WIRE_CHUNK_DONE)
        c->done = s;
    return HEAD + taken;
}

static int parse_header(struct conn *c, const uint8_t *p, size_t available)
{
    be32 magic;

    if (available < sizeof magic)
        return 0;
    memcpy(&magic, p, sizeof magic);
    if (get_be32(magic) == WIRE_SIMPLE_REPLY)
        return parse_simple(c, p, available);
    if (get_be32(magic) == WIRE_STRUCTURED_REPLY)
        return parse_chunk(c, p, available);
    return -EBADMSG;
}

static size_t take_payload(struct conn *c, const uint8_t *p, size_t available)
{
    size_t n = available < c->payload_left ? available : c->payload_left;

    if (c->payload) {
        if (c->payload->data)
            memcpy(c->payload->data + c->payload->got, p, n);
        c->payload->got += (uint32_t)n;
    }
    c->payload_left -= n;
    return n;
}

/* Ends the request whose last byte has been parsed. */
static int complete(struct conn *c, conn_done_fn *done, void *arg)
{
    struct slot *s = c->done;

    if (!s->failed && s->command == WIRE_CMD_READ && s->got != s->length)
        return -EBADMSG;
    c->done = NULL;
    s->busy = false;
    done(arg, c, s);
    c->free[c->free_count++] = (uint16_t)(s - c->slots);
    return 0;
}

int conn_parse(struct conn *c, conn_done_fn *done, void *arg)
{
    size_t at = 0;

    for (;;) {
        int n;

        if (c->payload_left)
            at += take_payload(c, c->in + at, c->in_end - at);
        if (c->payload_left)
            break;
        if (c->done && (n = complete(c, done, arg)) < 0)
            return n;
        n = parse_header(c, c->in + at, c->in_end - at);
        if (n < 0)
            return n;
        if (!n)
            break;
        at += (size_t)n;
    }
    memmove(c->in, c->in + at, c->in_end - at); /* less than one header */
    c->in_end -= at;
    return 0;
}
