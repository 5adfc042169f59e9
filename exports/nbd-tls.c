/* SPDX-License-Identifier: MIT */
/*
 * Between a socket and a TLS session.  Received bytes are fed to the session as
 * they come, and decrypted straight to where the plain ones would have gone.
 * Replies are encrypted a piece at a time, never more than one is ahead of the
 * socket, and after some pieces other connections get their turn.
 */
#include "exports/nbd-tls.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "crypto/authz.h"
#include "crypto/tls-session.h"
#include "uring/await.h"

enum {
    CIPHER_BYTES = 128 << 10, /* each buffer */
    PIECE_BYTES = 96 << 10, /* plain bytes encrypted at a time; with what TLS adds it fits above */
    TURN_BYTES = 256 << 10, /* ... in a turn: about 100 us */
};

struct nbd_tls {
    struct tls_session *session;
    uint8_t *target; /* where received bytes go, decrypted */
    size_t room;
    size_t start, end; /* of what is to be sent */
    uint8_t in[CIPHER_BYTES], out[CIPHER_BYTES];
};

/* ---- the handshake ---- */

struct handshake_call {
    struct tls_session *session;
    struct err *err;
};

static int handshake_on_worker(void *arg)
{
    struct handshake_call *call = arg;

    return tls_session_handshake(call->session, call->err);
}

static int co_fn flush(struct nbd_connection *c, uint64_t deadline)
{
    struct nbd_tls *t = c->tls;
    size_t n;

    while ((n = tls_session_take(t->session, t->out, CIPHER_BYTES)) > 0) {
        int result = co_send_all(c->fd, t->out, n, deadline);
        if (result < 0)
            return result;
    }
    return 0;
}

/* Some more of the client's bytes for the session. */
static int co_fn fetch(struct nbd_connection *c, uint64_t deadline)
{
    struct nbd_tls *t = c->tls;
    int n = co_recv(c->fd, t->in, CIPHER_BYTES, 0, deadline);

    if (n <= 0)
        return n == 0 ? -ECONNRESET : n == -EINTR ? 0 : n;
    return tls_session_feed(t->session, t->in, (size_t)n);
}

static int co_fn handshake(struct nbd_connection *c, uint64_t deadline, struct err *err)
{
    struct handshake_call call = { c->tls->session, err };

    for (;;) {
        int result = ring_block(handshake_on_worker, &call);
        int sent = flush(c, deadline); /* also what says why it failed */
        if (result != -EAGAIN)
            return result < 0 ? result : sent;
        if (sent == 0)
            sent = fetch(c, deadline);
        if (sent < 0)
            return err_set_errno(err, sent, "TLS handshake ended");
    }
}

struct authz_call {
    const char *id, *identity;
    bool allowed;
    struct err *err;
};

static int check_on_worker(void *arg)
{
    struct authz_call *call = arg;

    return authz_check(call->id, call->identity, &call->allowed, call->err);
}

static int co_fn authorize(struct nbd_connection *c, struct err *err)
{
    const char *id = c->server->said->tls_authz;
    autofree char *peer = id ? tls_session_peer(c->tls->session) : NULL;
    struct authz_call call = { id, peer, false, err };

    if (!id)
        return 0;
    if (!peer)
        return err_set(err, -EACCES, "a TLS client without a name is not let in by '%s'", id);
    if (ring_block(check_on_worker, &call) < 0)
        return err->code;
    return call.allowed ? 0
                        : err_set(err, -EACCES, "TLS client '%s' is not let in by '%s'", peer, id);
}

int co_fn nbd_tls_accept(struct nbd_connection *c, uint64_t deadline)
{
    autoerr err = { 0 };

    c->tls = malloc(sizeof(*c->tls));
    if (!c->tls)
        return -ENOMEM;
    memset(c->tls, 0, offsetof(struct nbd_tls, in));
    c->tls->session = tls_session_new(c->server->tls_creds, &err);
    if (!c->tls->session || handshake(c, deadline, &err) < 0 || authorize(c, &err) < 0) {
        log_info("nbd: %s", err.msg ? err.msg : "TLS handshake ended");
        return err.code ? err.code : -ECONNRESET;
    }
    return 0;
}

int co_fn nbd_tls_send_all(struct nbd_connection *c, const void *p, size_t len, uint64_t deadline)
{
    int result = tls_session_write(c->tls->session, p, len);

    return result < 0 ? result : flush(c, deadline);
}

int co_fn nbd_tls_receive_all(struct nbd_connection *c, void *p, size_t len, uint64_t deadline)
{
    uint8_t *to = p;

    while (len) {
        ssize_t n = tls_session_read(c->tls->session, to, len);
        if (n == -EAGAIN)
            n = fetch(c, deadline);
        else if (n == 0)
            n = -ECONNRESET;
        else if (n > 0)
            to += n, len -= (size_t)n;
        if (n < 0)
            return (int)n;
    }
    return 0;
}

void nbd_tls_free(struct nbd_connection *c)
{
    if (!c->tls)
        return;
    tls_session_free(c->tls->session);
    explicit_bzero(c->tls, offsetof(struct nbd_tls, in));
    free(take_ptr(&c->tls));
}

/* ---- the data ring ---- */

/* All that is there and fits.  As recv(): 0 at the end. */
static ssize_t decrypt(struct nbd_tls *t)
{
    size_t done = 0;
    ssize_t n = 1;

    while (done < t->room && n > 0) {
        n = tls_session_read(t->session, t->target + done, t->room - done);
        if (n > 0)
            done += (size_t)n;
    }
    return done ? (ssize_t)done : n;
}

static void cipher_came(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_connection *c = container_of(op, struct nbd_connection, receive);
    struct nbd_tls *t = c->tls;

    (void)flags;
    if (c->dead || result <= 0)
        nbd_received(c, result);
    else if (tls_session_feed(t->session, t->in, (size_t)result) < 0)
        nbd_received(c, -ENOMEM);
    else
        nbd_received(c, (int32_t)decrypt(t));
}

/* The session holds bytes already: no need to ask the socket. */
static void go_on_reading(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_connection *c = container_of(op, struct nbd_connection, receive);

    (void)result;
    (void)flags;
    nbd_received(c, c->dead ? -ECANCELED : (int32_t)decrypt(c->tls));
}

void nbd_tls_receive(struct nbd_connection *c, uint8_t *p, size_t room)
{
    struct nbd_tls *t = c->tls;

    t->target = p;
    t->room = room;
    if (tls_session_may_read(t->session)) {
        c->receive.done = go_on_reading;
        op_nop(&c->receive);
    } else {
        c->receive.done = cipher_came;
        op_recv(&c->receive, c->fd, t->in, CIPHER_BYTES, 0);
    }
}

/* Encrypt the next piece of what is queued; bytes of it, negative: TLS failed. */
static ssize_t encrypt_piece(struct nbd_connection *c)
{
    unsigned count = nbd_out_vectors(c);
    size_t done = 0;

    for (unsigned i = 0; i < count && done < PIECE_BYTES; i++) {
        size_t left = PIECE_BYTES - done;
        size_t part = c->vectors[i].iov_len < left ? c->vectors[i].iov_len : left;
        int result = tls_session_write(c->tls->session, c->vectors[i].iov_base, part);
        if (result < 0)
            return result;
        done += part;
    }
    nbd_out_sent(c, done);
    return (ssize_t)done;
}

/* Is there anything to send?  What the session says of its own accord leaves, too. */
static bool refill(struct nbd_connection *c, size_t *encrypted)
{
    struct nbd_tls *t = c->tls;
    ssize_t n;

    if (t->start < t->end)
        return true;
    t->start = 0;
    t->end = tls_session_take(t->session, t->out, CIPHER_BYTES);
    if (t->end)
        return true;
    n = encrypt_piece(c);
    if (n < 0)
        c->dead = true;
    if (n <= 0)
        return false;
    *encrypted += (size_t)n;
    t->end = tls_session_take(t->session, t->out, CIPHER_BYTES);
    return t->end > 0;
}

static void cipher_left(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_connection *c = container_of(op, struct nbd_connection, send);

    (void)flags;
    if (result > 0)
        c->tls->start += (size_t)result;
    else if (result != -EAGAIN && result != -EINTR)
        c->dead = true;
    if (!c->dead)
        nbd_tls_send(c);
    nbd_pump(c);
}

static void others_had_their_turn(struct op *op, int32_t result, uint32_t flags)
{
    struct nbd_connection *c = container_of(op, struct nbd_connection, send);

    (void)result;
    (void)flags;
    if (!c->dead)
        nbd_tls_send(c);
    nbd_pump(c);
}

void nbd_tls_send(struct nbd_connection *c)
{
    struct nbd_tls *t = c->tls;
    size_t encrypted = 0;

    while (refill(c, &encrypted)) {
        ssize_t n = send(c->fd, t->out + t->start, t->end - t->start, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            t->start += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            c->send.done = cipher_left;
            op_send(&c->send, c->fd, t->out + t->start, t->end - t->start, MSG_NOSIGNAL);
            return;
        } else if (n == 0 || errno != EINTR) {
            c->dead = true;
            return;
        }
        if (encrypted >= TURN_BYTES) {
            c->send.done = others_had_their_turn;
            op_nop(&c->send);
            return;
        }
    }
}

void nbd_tls_close(struct nbd_connection *c)
{
    struct nbd_tls *t = c->tls;
    size_t n;

    if (!t || c->dead || t->start < t->end)
        return;
    tls_session_close(t->session);
    n = tls_session_take(t->session, t->out, CIPHER_BYTES);
    if (n)
        (void)send(c->fd, t->out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}
