/* SPDX-License-Identifier: MIT */
/*
 * A client for fuzzers: the far end of a socket whose server runs on virtual
 * rings.  Nothing runs but what client_run() steps, so an input does the same
 * every time, and a server that waits for ever is seen at once.
 */
#ifndef TESTS_FUZZ_VIRTUAL_CLIENT_H
#define TESTS_FUZZ_VIRTUAL_CLIENT_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uring/engine.h"
#include "uring/virtual.h"

enum {
    CLIENT_GOT_MAX = 4 << 20, /* bytes after which the client hangs up */
    CLIENT_PIECES_MAX = 1024, /* of one client_send() */
};

struct client {
    int fd;
    uint8_t *got; /* what the server sent; kept from one client to the next */
    size_t got_length, got_room;
    bool ended;   /* the server has closed its side, or reset the connection */
    bool hung_up; /* the client closed: it had got enough */
};

/* What a fuzzer calls wrong: say it, and crash. */
static inline void wrong(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static inline void wrong(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fprintf(stderr, "WRONG: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

static inline void must_rest(void)
{
    if (!virtual_run())
        wrong("the rings do not come to rest");
}

/* Run @fn(@arg) as a coroutine of the control ring, with what it leads to, while time may pass. */
static inline void in_coroutine(void (*fn)(void *arg), void *arg)
{
    enum { TRIES = 64 };
    unsigned before, i;

    must_rest();
    before = ring_started(0)->live;
    virtual_spawn(0, fn, arg, "fuzz");
    must_rest();
    /* Doubled each time, as a request may take (almost) as long as it likes. */
    for (i = 0; ring_started(0)->live > before && i < TRIES; i++) {
        virtual_advance(1ULL << (i < 60 ? i : 60));
        must_rest();
    }
    if (i == TRIES)
        wrong("a coroutine waits for ever");
}

static inline void client_hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->hung_up = true;
}

/* Take what has come; true: something has. */
static inline bool client_receive(struct client *c)
{
    enum { PIECE = 256 << 10 };
    ssize_t n;

    if (c->ended || c->hung_up)
        return false;
    if (c->got_room - c->got_length < PIECE) {
        c->got_room = c->got_room ? 2 * c->got_room : 4 * PIECE;
        c->got = realloc(c->got, c->got_room);
    }
    n = recv(c->fd, c->got + c->got_length, PIECE, MSG_DONTWAIT);
    if (n > 0) {
        c->got_length += (size_t)n;
        if (c->got_length > CLIENT_GOT_MAX)
            client_hang_up(c);
        return true;
    }
    c->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
    return c->ended;
}

/* Let the server do all that it can. */
static inline void client_run(struct client *c)
{
    do
        must_rest();
    while (client_receive(c));
}

/* Send bytes in pieces of @step (0: all in one; more when it would take too long), the server running
 * after each. */
static inline void client_send(struct client *c, const uint8_t *p, size_t length, size_t step)
{
    if (step && length / step > CLIENT_PIECES_MAX)
        step = length / CLIENT_PIECES_MAX;
    while (length && !c->ended && !c->hung_up) {
        size_t part = step && step < length ? step : length;
        ssize_t n = send(c->fd, p, part, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            p += n;
            length -= (size_t)n;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            client_run(c);
            return;
        } else if (errno != EAGAIN) {
            wrong("send: %s", strerror(errno));
        }
        size_t got = c->got_length;
        client_run(c);
        if (n < 0 && c->got_length == got && !c->ended && !c->hung_up &&
            send(c->fd, p, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
            wrong("the server neither reads nor writes");
        else if (n < 0 && c->got_length == got)
            return; /* a byte has gone out of turn: enough of this input */
    }
}

/* The client will send no more; the server must end the connection. */
static inline void client_finish(struct client *c)
{
    if (!c->hung_up) {
        shutdown(c->fd, SHUT_WR);
        client_run(c);
        if (!c->ended && !c->hung_up)
            wrong("the server keeps a connection whose client is gone");
    }
    client_hang_up(c);
    must_rest();
}

/* The lowest free descriptor: another one after a test means that one leaks. */
static inline int lowest_descriptor(void)
{
    int fd = dup(STDERR_FILENO);

    close(fd);
    return fd;
}

#endif
