/* SPDX-License-Identifier: MIT */
/*
 * What the files of the NBD server share.
 *
 * A connection's life: the control ring accepts it and negotiates
 * (nbd-hello.c); then it is handed to a data ring, where everything about it
 * happens (nbd-receive.c parses requests, nbd-request.c runs them, nbd-pieces.c
 * those for which there is too little memory, nbd-reply.c sends what they
 * answer); at the end the data ring hands it back and the control ring frees it.
 * Only `link`, `killing` and `ended` belong to the control ring meanwhile.
 */
#ifndef EXPORTS_NBD_CONNECTION_H
#define EXPORTS_NBD_CONNECTION_H

#include "block/io.h"
#include "block/iothread.h"
#include "exports/nbd-proto.h"
#include "exports/nbd.h"
#include "uring/op.h"
#include "uring/pool.h"

enum {
    NBD_REQUESTS_MAX = 128,        /* in flight per connection */
    NBD_BYTES_MAX = 64 << 20,      /* of payload and unsent replies per connection */
    NBD_OWN_BYTES = 2 << 20,       /* ... that it may have whatever other clients hold */
    NBD_RECEIVE_BYTES = 256 << 10, /* the receive buffer: many requests in one call */
    NBD_CHUNK_BYTES =
        512 << 10, /* replies are gathered in pieces of this size; one inline read fits */
    NBD_INLINE_MAX = 256 << 10,      /* bytes; larger requests never run inside the loop's turn */
    NBD_INLINE_ALONE_MAX = 64 << 10, /* the same, of a connection that has its ring for itself */
    NBD_TURN_BYTES = 1 << 20,        /* inline bytes after which other connections get their turn */
    NBD_PIECE_BYTES = 256 << 10,     /* replies that are sent before the turn has ended */
    NBD_PIECE_REQUESTS = 16,         /* the same, of a connection that has its ring for itself */
    NBD_REPLY_VECTORS = 64,
};

enum nbd_reply_style { NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED };

/* Which meta contexts a client has chosen, and for which export. */
struct nbd_contexts {
    uint64_t export_serial;
    bool allocation, depth;
};

enum { NBD_CONTEXT_ALLOCATION = 0, NBD_CONTEXT_DEPTH = 1 }; /* their ids on the wire */

struct nbd_listener {
    int fd;
    struct co *accepting;
    struct nbd_server *server;
    struct list link;
};

struct nbd_server {
    char *id; /* NULL: the default server */
    struct nbd_server_options *said;
    struct object *tls_creds, *tls_authz; /* in use; NULL: none */
    bool starting;                        /* who starts it is not done, and alone may free it */
    bool stopping;
    struct list link;
    struct list listeners;
    unsigned accept_loops;   /* coroutines that still run */
    struct list connections; /* struct nbd_connection.link, negotiating ones too */
    unsigned connection_count;
    struct co_cond changed; /* a connection or an accept loop went */
};

/* An export's own part. */
struct nbd_export {
    struct nbd_server *server;
    char *name, *description;
    bool allocation_depth;
    unsigned ring; /* 0: any; else the data ring that serves all clients */
    unsigned connection_count;
    struct co_cond changed;
};

struct nbd_connection;
struct nbd_tls;

struct nbd_request {
    struct list link; /* in connection->idle_requests */
    struct nbd_connection *connection;
    struct operation operation;
    struct gate_waiter waiter;
    struct op op;
    struct shortcut shortcut;
    uint64_t cookie, offset, length;
    uint64_t part_offset, part_length; /* what `data` is for: all of it, or a piece */
    uint64_t since;                    /* when it arrived, ring_turn_now(); 0: not yet */
    uint8_t *data; /* payload, or what was read; data_room bytes on the connection's account */
    size_t data_room;
    uint16_t type, flags;
    bool begun; /* the device's statistics know of it */
    int result;
};

/* A piece of what is to be sent. */
struct nbd_chunk {
    struct list link;
    uint8_t *p;
    size_t room;       /* bytes at p, on the connection's account */
    size_t start, end; /* not yet sent */
};

struct nbd_connection {
    /* Control ring. */
    struct list link;          /* server->connections, or those of a disk of this host */
    struct nbd_server *server; /* NULL: the kernel is the client */
    void (*left)(struct nbd_connection *c);
    bool negotiating;
    bool cut_off; /* somebody wants it gone */
    bool killing; /* kill_work is on its way to the data ring and back */
    bool ended;   /* the data ring has handed it back */
    struct work kill_work, ended_work, start_work;

    /* Fixed before it is handed over. */
    int fd;
    struct nbd_tls *tls; /* NULL: bytes go as they are; used by the ring that has the connection */
    struct ring *ring;
    struct export *export;
    struct root *root;
    enum nbd_reply_style style;
    bool read_only;
    bool contexts_chosen;
    struct nbd_contexts contexts;
    uint32_t block_minimum; /* bytes; requests must be aligned to it */
    bool tracked;           /* it holds a track_require() on tracked_node */
    struct node *tracked_node;

    /* The data ring. */
    struct op receive;
    uint8_t *in; /* NBD_RECEIVE_BYTES, or NULL while idle */
    size_t in_start, in_end;
    uint64_t skip;               /* payload bytes of a refused write still to be thrown away */
    struct nbd_request *filling; /* a write whose payload, or the next piece of it, is coming */
    size_t filled;
    struct nbd_request *in_pieces; /* nothing else is begun meanwhile (nbd-pieces.c) */
    bool piece_due;                /* a read's next piece waits for the client to take this one */
    bool receive_ended;            /* the client will send no more: finish what is in flight */
    bool dead;                     /* the socket is of no use any more */
    bool pumping;
    bool finished; /* handed back */

    struct op send;
    struct msghdr message;
    struct iovec vectors[NBD_REPLY_VECTORS];
    struct list out;   /* struct nbd_chunk */
    struct work again; /* goes on at the next turn */
    bool again_queued;
    struct work turn_end; /* sends what the turn has gathered */
    bool turn_end_queued;

    /* Requests that this turn has answered in line and not yet counted. */
    struct {
        unsigned count;
        uint64_t bytes;
    } at_once[2];           /* reads, writes */
    uint64_t at_once_since; /* when the first of them began */

    unsigned in_flight;
    struct pool_account memory; /* payloads in flight, replies not yet sent, and `in` */
    struct list idle_requests;
};

/* nbd-hello.c */
/** nbd_negotiate - the handshake; control ring, a coroutine of its own
 * Return: 0 when the connection may go to its data ring; negative: close it.
 */
int co_fn nbd_negotiate(struct nbd_connection *c);

/* nbd-connection.c: the control ring, unless said otherwise */
/** nbd_prepare_socket - the options that make a socket fast */
void nbd_prepare_socket(int fd);

/** nbd_connection_new - a connection on a socket, which it takes over; NULL: no memory, the socket stays
 * @left: called when it is gone, just before its memory goes
 */
struct nbd_connection *nbd_connection_new(int fd, void (*left)(struct nbd_connection *c));
void co_fn nbd_connection_free(struct nbd_connection *c);

/** nbd_connection_choose_ring - the data ring that is to serve it; @index 0: the one with the least to do */
int co_fn nbd_connection_choose_ring(struct nbd_connection *c, unsigned index, struct err *err);

/** nbd_connection_start - all is agreed: its ring begins to serve it, and frees it when it has ended */
void nbd_connection_start(struct nbd_connection *c);

/** nbd_connection_kill - cut it off */
void nbd_connection_kill(struct nbd_connection *c);

/** nbd_connection_ended - the data ring is done with it; any ring */
void nbd_connection_ended(struct nbd_connection *c);

/* nbd-receive.c: the data ring */
void nbd_serve(struct work *start); /* connection->start_work */
void nbd_kill_here(struct nbd_connection *c);
/** nbd_received - a receive has ended: with so many bytes, 0 at the end, or a negative errno */
void nbd_received(struct nbd_connection *c, int32_t result);
/** nbd_pump - go on with whatever can go on: parse, send, receive, or end */
void nbd_pump(struct nbd_connection *c);

/* nbd-pieces.c */
/** nbd_pieces_begin - run @r, a read or write without a buffer for the whole, in pieces
 * @payload, @have: a write's first bytes; the others are received as they are wanted.
 * False: not now, something must end or leave before; or no memory at all.
 */
bool nbd_pieces_begin(struct nbd_request *r, const uint8_t *payload, size_t have);
/** nbd_pieces_go_on - the next piece of a read, if it is time for it
 * nbd_piece_done - the running piece has ended with r->result
 * nbd_pieces_end - @r is done with; payload that still comes is thrown away
 */
void nbd_pieces_go_on(struct nbd_connection *c);
void nbd_piece_done(struct nbd_request *r);
void nbd_pieces_end(struct nbd_request *r);

/* nbd-request.c */
struct nbd_request *nbd_request_get(struct nbd_connection *c);
void nbd_request_put(struct nbd_request *r);
/** nbd_request_start - run it, or its piece; its reply is queued sooner or later
 * nbd_request_end - its reply is queued, or not (the system is out of memory); let the connection go on
 */
void nbd_request_start(struct nbd_request *r);
void nbd_request_end(struct nbd_request *r, bool queued);
/** nbd_request_check_form - what can be judged without looking at the node: 0, or the negative errno with
 * which the request is refused at once
 */
int nbd_request_check_form(const struct nbd_connection *c, uint16_t type, uint16_t flags,
                           uint64_t offset, uint64_t length);
/** nbd_serve_inline - answer within this turn without a coroutine, if that is possible
 * @payload: a write's bytes.  False: nothing happened, take the long road.
 */
bool nbd_serve_inline(struct nbd_connection *c, uint16_t type, uint16_t flags, uint64_t cookie,
                      uint64_t offset, uint32_t length, const uint8_t *payload);
/** nbd_count_inline - those that were answered so since the last call; before their replies leave */
void nbd_count_inline(struct nbd_connection *c);
/** nbd_fail_waiting - requests that wait at a gate stopped by an error end, their client having left: it may be
 * back already and have written something newer
 */
void nbd_fail_waiting(struct nbd_connection *c);
enum io_kind nbd_kind(uint16_t type);

/* nbd-reply.c: all queue; nbd_send() sends.  What ends a request finds room in any case; false: the system
 * is out of memory. */
/** nbd_may_answer - is there room for one more answer?  Asked before a request is begun. */
bool nbd_may_answer(const struct nbd_connection *c);
/** nbd_reply_status - "done" or an error (negative errno), without data */
bool nbd_reply_status(struct nbd_connection *c, uint64_t cookie, uint64_t offset, int result);
/** nbd_reply_data - the bytes that a read request got; takes the request's buffer over */
bool nbd_reply_data(struct nbd_connection *c, struct nbd_request *r);
/** nbd_reply_piece - the same for one piece, while nothing else is queued: in a chunk of its own where
 * nbd_reply_in_chunks(), else as the next bytes of the one answer
 */
bool nbd_reply_piece(struct nbd_connection *c, struct nbd_request *r);
bool nbd_reply_in_chunks(const struct nbd_request *r);
/** nbd_reply_reserve - room for header and @length bytes of a read's answer in one piece; the bytes
 * are to be written to what it returns, then nbd_reply_commit(); NULL: no memory now
 */
uint8_t *nbd_reply_reserve(struct nbd_connection *c, uint64_t cookie, uint64_t offset,
                           uint32_t length);
void nbd_reply_commit(struct nbd_connection *c, uint32_t length);
/** nbd_reply_context - one chunk of block status: @extents, or only the first when memory is short */
struct nbd_extent {
    uint64_t length, flags;
};
bool nbd_reply_context(struct nbd_connection *c, const struct nbd_request *r, uint32_t context,
                       const struct nbd_extent *extents, unsigned count, bool last);
void nbd_send(struct nbd_connection *c);
void nbd_send_later(struct nbd_connection *c); /* at the end of the turn */
void nbd_out_free(struct nbd_connection *c);
/** nbd_out_vectors - fill in connection->vectors with what is queued first; returns how many
 * nbd_out_sent - that many bytes of it have left, or were copied
 */
unsigned nbd_out_vectors(struct nbd_connection *c);
void nbd_out_sent(struct nbd_connection *c, size_t n);
uint32_t nbd_error_number(int result);

/* nbd-status.c */
void co_fn nbd_block_status(struct nbd_request *r);

#endif
