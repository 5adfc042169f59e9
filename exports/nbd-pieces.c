/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes in pieces, for a connection that can't have a buffer for the
 * whole: other clients hold the ring's memory, and may hold it for ever.  What is
 * a connection's own is enough for one piece, and so it goes on whatever they do.
 *
 * One request at a time goes like this and no other is begun meanwhile.  Each
 * piece is an operation of its own: between two the graph may change and drains
 * don't wait for the client.  A read's next piece is read when the client has
 * taken the one before; a write's next piece is received when the one before is
 * written.
 */
#include <string.h>

#include "exports/nbd-connection.h"

enum { PIECE_BYTES = 512 << 10 };

_Static_assert((int)NBD_RECEIVE_BYTES + (int)NBD_CHUNK_BYTES + (int)PIECE_BYTES <=
                   (int)NBD_OWN_BYTES,
               "what a connection needs to go on is its own");
_Static_assert((int)NBD_RECEIVE_BYTES <= (int)PIECE_BYTES,
               "what has been received of a payload fits a piece");

static uint64_t left_after(const struct nbd_request *r)
{
    return r->offset + r->length - (r->part_offset + r->part_length);
}

/* The piece that begins at @offset. */
static void set_piece(struct nbd_request *r, uint64_t offset)
{
    uint64_t left = r->offset + r->length - offset;

    r->part_offset = offset;
    r->part_length = left < PIECE_BYTES ? left : PIECE_BYTES;
}

static bool give_buffer(struct nbd_request *r)
{
    if (!r->data)
        r->data = account_get_anyway(&r->connection->memory, PIECE_BYTES);
    r->data_room = r->data ? PIECE_BYTES : 0;
    return r->data != NULL;
}

static void fill(struct nbd_request *r, size_t have)
{
    struct nbd_connection *c = r->connection;

    if (have == r->part_length) {
        nbd_request_start(r);
        return;
    }
    c->filling = r;
    c->filled = have;
}

bool nbd_pieces_begin(struct nbd_request *r, const uint8_t *payload, size_t have)
{
    struct nbd_connection *c = r->connection;

    if (r->type == NBD_CMD_READ) {
        nbd_out_sent(c, 0); /* an abandoned reservation is nothing that the client must take */
        if (c->in_flight > 1 || !list_empty(&c->out))
            return false;
    }
    if (!give_buffer(r))
        return false;
    c->in_pieces = r;
    set_piece(r, r->offset);
    if (r->type == NBD_CMD_READ) {
        nbd_request_start(r);
    } else {
        memcpy(r->data, payload, have);
        fill(r, have);
    }
    return true;
}

void nbd_pieces_go_on(struct nbd_connection *c)
{
    struct nbd_request *r = c->in_pieces;

    if (!c->piece_due || (!c->dead && !list_empty(&c->out)))
        return;
    c->piece_due = false;
    if (c->dead || !give_buffer(r)) {
        c->dead = true;
        nbd_request_end(r, false);
        return;
    }
    set_piece(r, r->part_offset + r->part_length);
    nbd_request_start(r);
}

static void read_done(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    bool queued;

    if (r->result == 0)
        queued = nbd_reply_piece(c, r);
    else if (r->part_offset == r->offset || nbd_reply_in_chunks(r))
        queued = nbd_reply_status(c, r->cookie, r->offset, r->result);
    else /* the client has been promised all the bytes: only hanging up tells it */
        queued = false;
    if (r->result < 0 || !queued || !left_after(r)) {
        nbd_request_end(r, queued);
        return;
    }
    c->piece_due = true;
    nbd_send_later(c);
}

static void write_done(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;

    if (r->result == 0 && left_after(r)) {
        set_piece(r, r->part_offset + r->part_length);
        fill(r, 0);
        nbd_send_later(c);
        return;
    }
    nbd_request_end(r, nbd_reply_status(c, r->cookie, r->offset, r->result));
}

void nbd_pieces_end(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;

    c->in_pieces = NULL;
    if (r->type == NBD_CMD_WRITE)
        c->skip = left_after(r);
}

void nbd_piece_done(struct nbd_request *r)
{
    if (r->type == NBD_CMD_READ)
        read_done(r);
    else
        write_done(r);
}
