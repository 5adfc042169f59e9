/* SPDX-License-Identifier: MIT */
/*
 * Where QMP clients come from: listening sockets, each with a coroutine that
 * accepts, or an address that we connect to, again and again.  On the control
 * ring only.  A source lives until it is closed; the clients that it brought
 * do not need it, except that a connecting one waits for its client to leave
 * before it connects again.
 */
#include "qmp/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "uring/await.h"
#include "uring/ring.h"
#include "uring/sync.h"

enum { SOCKETS_MAX = 16 };

/* Coming back after accept() failed for want of descriptors or memory, ns. */
#define ACCEPT_PAUSE UINT64_C(100000000)
#define SECOND       UINT64_C(1000000000)

struct acceptor {
    struct monitor_source *source;
    struct co *co;
    int fd;
};

struct monitor_source {
    struct list link;
    struct monitor_options options;
    struct socket_address address; /* to connect to, or whose file goes at the end; u NULL: none */
    bool closing;
    unsigned uses;      /* its owner (till it is closed), coroutines, connecting: clients */
    unsigned running;   /* its coroutines */
    unsigned arrivals;  /* clients so far */
    unsigned present;   /* connecting: clients there */
    uint64_t reconnect; /* ns; 0: once only */
    struct co *connector;
    struct co_cond changed;
    unsigned count;
    struct acceptor acceptors[SOCKETS_MAX];
};

static struct list sources = LIST_INIT(sources);

static struct monitor_source *source_new(const struct monitor_options *options,
                                         const struct socket_address *address)
{
    struct monitor_source *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    if (address && row_copy(&row_socket_address, address, &s->address) < 0) {
        free(s);
        return NULL;
    }
    if (options)
        s->options = *options;
    s->uses = 1;
    co_cond_init(&s->changed);
    list_push_back(&sources, &s->link);
    return s;
}

static void source_put(struct monitor_source *s)
{
    if (--s->uses)
        return;
    list_remove(&s->link);
    row_release(&row_socket_address, &s->address);
    free(s);
}

/* ---- listening ---- */

static void acceptor(void *arg)
{
    struct acceptor *a = arg;
    struct monitor_source *s = a->source;
    bool said = false; /* once for all failures without a success in between */

    co_deadline_exempt(true);
    a->co = co_self();
    while (!s->closing) {
        autoerr err = { 0 };
        int fd = co_accept(a->fd, FOREVER);
        if (fd == -EAGAIN)
            fd = co_poll(a->fd, POLLIN, FOREVER) < 0 ? -ECANCELED : -EINTR;
        if (fd >= 0 && monitor_serve(fd, fd, &s->options, NULL, NULL, &err) == 0) {
            s->arrivals++;
            co_cond_wake_all(&s->changed);
            said = false;
        } else if (err.code) {
            log_warning("%s", err.msg);
        } else if (fd != -EINTR && fd != -ECONNABORTED && !s->closing) {
            if (!said)
                log_warning("Can't accept a QMP client: %s", strerror(-fd));
            said = true;
            co_sleep(ACCEPT_PAUSE);
        }
    }
    close(a->fd);
    s->running--;
    co_cond_wake_all(&s->changed);
    source_put(s);
}

/* Its coroutines end by themselves, soon. */
static void begin_close(struct monitor_source *s)
{
    s->closing = true;
    for (unsigned i = 0; i < s->count; i++)
        if (s->acceptors[i].co)
            co_cancel(s->acceptors[i].co);
    if (s->connector)
        co_cancel(s->connector);
    co_cond_wake_all(&s->changed);
    source_put(s);
}

int monitor_listen(const int *fds, unsigned count, const struct monitor_options *options,
                   const struct socket_address *unlink, struct monitor_source **out,
                   struct err *err)
{
    struct monitor_source *s = count <= SOCKETS_MAX ? source_new(options, unlink) : NULL;

    if (s && address_make_absolute(&s->address) < 0) {
        source_put(s);
        s = NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        struct acceptor *a = s ? &s->acceptors[s->count] : NULL;
        if (a) {
            *a = (struct acceptor){ .source = s, .fd = fds[i] };
            if (co_start(acceptor, a, "QMP listener") == 0) {
                s->count++;
                s->running++;
                s->uses++;
                continue;
            }
        }
        close(fds[i]);
    }
    if (!s || s->count < count) {
        if (s)
            begin_close(s);
        return err_set(err, -ENOMEM, "Can't listen for QMP clients: out of memory");
    }
    *out = s;
    return 0;
}

/* ---- connecting ---- */

static void client_left(void *arg)
{
    struct monitor_source *s = arg;
    s->present--;
    co_cond_wake_all(&s->changed);
    source_put(s);
}

struct look_up {
    const struct socket_address *address;
    struct address_peers peers;
    struct err *err;
};

static int look_up(void *arg)
{
    struct look_up *l = arg;
    return address_peers(l->address, &l->peers, l->err);
}

/* A peer may let us wait for long; a stop does not. */
static int co_fn connect_to_any(const struct monitor_source *s, struct err *err)
{
    struct look_up l = { .address = &s->address, .err = err };
    int r = -EADDRNOTAVAIL;

    if (ring_block(look_up, &l) < 0)
        return err->code;
    for (unsigned i = 0; i < l.peers.count && !s->closing; i++) {
        autoclose int fd = r = address_peer_socket(&s->address, &l.peers.v[i]);
        if (fd >= 0)
            r = co_connect(fd, (struct sockaddr *)&l.peers.v[i].sa, l.peers.v[i].len, FOREVER);
        if (r == 0) {
            r = take_fd(&fd);
            break;
        }
    }
    return address_connected(&s->address, r, err);
}

static int co_fn connect_once(struct monitor_source *s, struct err *err)
{
    int fd = connect_to_any(s, err);

    if (fd < 0)
        return fd;
    if (s->closing) {
        close(fd);
        return err_set(err, -ESHUTDOWN, "Shutting down");
    }
    int r = monitor_serve(fd, fd, &s->options, client_left, s, err);
    if (r < 0)
        return r;
    s->uses++;
    s->present++;
    s->arrivals++;
    co_cond_wake_all(&s->changed);
    return 0;
}

static void connector(void *arg)
{
    struct monitor_source *s = arg;
    bool said = false;

    co_deadline_exempt(true);
    s->connector = co_self();
    while (!s->closing) {
        autoerr err = { 0 };
        if (s->present) {
            co_cond_wait(&s->changed, NULL);
            said = false;
            continue;
        }
        if (s->arrivals)
            co_sleep(s->reconnect);
        if (s->closing || connect_once(s, &err) == 0)
            continue;
        if (!said)
            log_warning("%s; trying again every %u s", err.msg, (unsigned)(s->reconnect / SECOND));
        said = true;
        if (!s->arrivals)
            co_sleep(s->reconnect);
    }
    s->connector = NULL;
    s->running--;
    co_cond_wake_all(&s->changed);
    source_put(s);
}

/* In the caller's coroutine, which a stop calls away like a connector of our own. */
static int co_fn connect_here(struct monitor_source *s, struct err *err)
{
    s->uses++;
    s->running++;
    s->connector = co_self();
    int r = connect_once(s, err);
    s->connector = NULL;
    s->running--;
    co_cond_wake_all(&s->changed);
    if (r < 0 && !s->closing)
        s->uses--; /* the caller does not get it */
    source_put(s);
    return r;
}

int co_fn monitor_connect(const struct socket_address *address, unsigned reconnect,
                          const struct monitor_options *options, struct monitor_source **out,
                          struct err *err)
{
    struct monitor_source *s = source_new(options, address);
    if (!s)
        return err_set(err, -ENOMEM, "Out of memory");
    s->reconnect = reconnect * SECOND;
    *out = s;
    if (!reconnect)
        return connect_here(s, err);
    if (co_start(connector, s, "QMP connector") < 0) {
        source_put(s);
        return err_set(err, -ENOMEM, "Out of memory");
    }
    s->running++;
    s->uses++;
    return 0;
}

/* ---- both ---- */

int co_fn monitor_source_wait(struct monitor_source *s)
{
    while (!s->arrivals && !s->closing)
        co_cond_wait(&s->changed, NULL);
    return s->arrivals ? 0 : -ECANCELED;
}

void co_fn monitor_source_close(struct monitor_source *s)
{
    if (s->count)
        address_unlink(&s->address);
    s->uses++;
    begin_close(s);
    while (s->running)
        co_cond_wait(&s->changed, NULL);
    source_put(s);
}

void co_fn monitor_sources_close(void)
{
    while (!list_empty(&sources)) {
        struct monitor_source *s = container_of(sources.next, struct monitor_source, link);
        list_remove(&s->link);
        if (!s->closing)
            monitor_source_close(s);
    }
}
