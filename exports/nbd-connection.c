/* SPDX-License-Identifier: MIT */
/*
 * The life of an NBD connection, as the control ring sees it: it begins, is
 * given to a data ring, comes back when it has ended, and is freed.  That
 * happens here and nowhere else: when the data ring has handed it back and no
 * request to kill it is still on its way to that ring.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-tls.h"

enum { SOCKET_BUFFER = 4 << 20 }; /* bytes */

void nbd_prepare_socket(int fd)
{
    int one = 1, size = SOCKET_BUFFER;

    /* Each is an improvement where it works; none is needed. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

struct nbd_connection *nbd_connection_new(int fd, void (*left)(struct nbd_connection *c))
{
    struct nbd_connection *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    nbd_prepare_socket(fd);
    list_init(&c->link);
    c->fd = fd;
    c->left = left;
    c->negotiating = true;
    return c;
}

void co_fn nbd_connection_free(struct nbd_connection *c)
{
    if (c->tracked)
        track_release(c->tracked_node);
    nbd_tls_free(c);
    close(c->fd);
    list_remove(&c->link);
    c->left(c);
    free(c);
}

/* The data ring that has the least to do; one that does not run yet counts as idle. */
static unsigned idlest_ring(void)
{
    unsigned best = 1, least = UINT32_MAX;

    for (unsigned i = 1; i <= rings_count(); i++) {
        struct ring *ring = ring_started(i);
        unsigned load = ring ? ring_load(ring) : 0;
        if (load < least) {
            least = load;
            best = i;
        }
    }
    return best;
}

int co_fn nbd_connection_choose_ring(struct nbd_connection *c, unsigned index, struct err *err)
{
    c->ring = ring_get(index ? index : idlest_ring(), err);
    if (!c->ring)
        return err->code;
    ring_load_add(c->ring, 1);
    return 0;
}

void nbd_connection_start(struct nbd_connection *c)
{
    c->negotiating = false;
    c->start_work.fn = nbd_serve;
    ring_post(c->ring, &c->start_work);
}

static void co_fn free_later(void *arg)
{
    nbd_connection_free(arg);
}

/* Freeing may have to wait for an edit, so it is a coroutine's work. */
static void connection_gone(struct nbd_connection *c)
{
    if (!c->ended || c->killing)
        return;
    if (co_start(free_later, c, "nbd connection end") < 0)
        log_error("nbd: no memory to take a connection apart");
}

static void ended_arrived(struct work *w)
{
    struct nbd_connection *c = container_of(w, struct nbd_connection, ended_work);

    c->ended = true;
    connection_gone(c);
}

void nbd_connection_ended(struct nbd_connection *c)
{
    c->finished = true;
    c->ended_work.fn = ended_arrived;
    ring_post(ring_control(), &c->ended_work);
}

static void kill_returned(struct work *w)
{
    struct nbd_connection *c = container_of(w, struct nbd_connection, kill_work);

    c->killing = false;
    connection_gone(c);
}

/* On the connection's ring. */
static void kill_arrived(struct work *w)
{
    struct nbd_connection *c = container_of(w, struct nbd_connection, kill_work);

    if (!c->finished)
        nbd_kill_here(c);
    w->fn = kill_returned;
    ring_post(ring_control(), w);
}

void nbd_connection_kill(struct nbd_connection *c)
{
    c->cut_off = true;
    if (c->negotiating) {
        shutdown(c->fd, SHUT_RDWR); /* its coroutine finds out */
    } else if (!c->killing && !c->ended) {
        c->killing = true;
        c->kill_work.fn = kill_arrived;
        ring_post(c->ring, &c->kill_work);
    }
}
