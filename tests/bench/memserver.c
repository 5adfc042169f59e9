/* SPDX-License-Identifier: MIT */
/*
 * memserver: the ceiling of the benchmark.  A bare loop over sockets that
 * serves an export from memory: no files, no nodes, no checks beyond what
 * keeps it from crashing.  One thread, or one for each connection.  Read
 * payload is sent straight from the memory, all replies to what one recv
 * brought in leave in one sendmsg.  It can lose writes, to show that nbdload's
 * check finds them.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/wire.h"

enum { IN_SIZE = 256 << 10, BATCH = 256, CLIENTS_MAX = 64 };
enum { HEAD_MAX = sizeof(struct wire_chunk) + sizeof(be64) };

struct client {
    int fd;
    bool structured;
    uint8_t *in;
    size_t in_end;       /* bytes in @in not yet parsed */
    uint8_t *write_to;   /* payload of a write goes here, NULL: thrown away */
    size_t payload_left; /* bytes of it still to come */
    be64 write_cookie;
    uint32_t write_error;
    unsigned iov_count, head_count;
    struct iovec iov[2 * BATCH];
    uint8_t heads[BATCH][HEAD_MAX];
};

static uint8_t *memory;
static uint64_t memory_size;
static unsigned long lose_every; /* of so many writes one is acknowledged and lost; 0: none */
static _Atomic unsigned long writes;

static bool flush_replies(struct client *c)
{
    struct iovec *v = c->iov;
    unsigned left = c->iov_count;

    while (left) {
        struct msghdr m = { .msg_iov = v, .msg_iovlen = left };
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        for (; left && (size_t)n >= v->iov_len; v++, left--)
            n -= (ssize_t)v->iov_len;
        if (left) {
            v->iov_base = (uint8_t *)v->iov_base + n;
            v->iov_len -= (size_t)n;
        }
    }
    c->iov_count = c->head_count = 0;
    return true;
}

static void add_iov(struct client *c, void *base, size_t length)
{
    c->iov[c->iov_count++] = (struct iovec){ .iov_base = base, .iov_len = length };
}

static bool reply_simple(struct client *c, be64 cookie, uint32_t error, void *data, uint32_t length)
{
    struct wire_simple_reply reply = { .magic = put_be32(WIRE_SIMPLE_REPLY),
                                       .error = put_be32(error),
                                       .cookie = cookie };
    uint8_t *head = c->heads[c->head_count++];

    memcpy(head, &reply, sizeof reply);
    add_iov(c, head, sizeof reply);
    if (length)
        add_iov(c, data, length);
    return c->head_count < BATCH || flush_replies(c);
}

static bool reply_chunk(struct client *c, be64 cookie, uint64_t offset, uint32_t length)
{
    struct wire_chunk chunk = { .magic = put_be32(WIRE_STRUCTURED_REPLY),
                                .flags = put_be16(WIRE_CHUNK_DONE),
                                .type = put_be16(WIRE_CHUNK_DATA),
                                .cookie = cookie,
                                .length = put_be32(length + 8) };
    be64 wire_offset = put_be64(offset);
    uint8_t *head = c->heads[c->head_count++];

    memcpy(head, &chunk, sizeof chunk);
    memcpy(head + sizeof chunk, &wire_offset, sizeof wire_offset);
    add_iov(c, head, HEAD_MAX);
    add_iov(c, memory + offset, length);
    return c->head_count < BATCH || flush_replies(c);
}

static bool lost(void)
{
    return lose_every && ++writes % lose_every == 0;
}

/* A failed structured read needs an error chunk; nothing here is worth more than closing. */
static bool handle(struct client *c, const struct wire_request *q)
{
    uint64_t offset = get_be64(q->offset);
    uint32_t length = get_be32(q->length);
    bool inside = length <= memory_size && offset <= memory_size - length;

    switch (get_be16(q->type)) {
    case WIRE_CMD_READ:
        if (!inside)
            return !c->structured && reply_simple(c, q->cookie, EINVAL, NULL, 0);
        return c->structured ? reply_chunk(c, q->cookie, offset, length)
                             : reply_simple(c, q->cookie, 0, memory + offset, length);
    case WIRE_CMD_WRITE:
        c->write_to = inside && !lost() ? memory + offset : NULL;
        c->write_error = inside ? 0 : ENOSPC;
        c->write_cookie = q->cookie;
        c->payload_left = length;
        return length || reply_simple(c, q->cookie, 0, NULL, 0);
    case WIRE_CMD_FLUSH: return reply_simple(c, q->cookie, 0, NULL, 0);
    case WIRE_CMD_DISC: return false;
    default: return reply_simple(c, q->cookie, EINVAL, NULL, 0);
    }
}

static size_t take_payload(struct client *c, const uint8_t *p, size_t available)
{
    size_t n = available < c->payload_left ? available : c->payload_left;

    if (c->write_to) {
        memcpy(c->write_to, p, n);
        c->write_to += n;
    }
    c->payload_left -= n;
    return n;
}

/* Receives once, handles all that is there, answers. False: the client is through. */
static bool serve_once(struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_end, IN_SIZE - c->in_end, 0);
    size_t at = 0;

    if (n <= 0)
        return false;
    c->in_end += (size_t)n;
    for (;;) {
        struct wire_request q;

        if (c->payload_left) {
            at += take_payload(c, c->in + at, c->in_end - at);
            if (c->payload_left)
                break;
            if (!reply_simple(c, c->write_cookie, c->write_error, NULL, 0))
                return false;
        }
        if (c->in_end - at < sizeof q)
            break;
        memcpy(&q, c->in + at, sizeof q);
        at += sizeof q;
        if (get_be32(q.magic) != WIRE_REQUEST || !handle(c, &q))
            return false;
    }
    memmove(c->in, c->in + at, c->in_end - at);
    c->in_end -= at;
    return flush_replies(c);
}

static void free_client(struct client *c)
{
    close(c->fd);
    free(c->in);
    free(c);
}

/* Takes over @fd. Return: NULL when the client cannot be served. */
static struct client *new_client(int fd)
{
    struct client *c = calloc(1, sizeof *c);
    int buffer = 4 << 20;

    if (!c || !(c->in = aligned_alloc(4096, IN_SIZE)))
        errx(1, "no memory for a client");
    c->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    if (wire_accept(fd, memory_size,
                    WIRE_FLAG_HAS_FLAGS | WIRE_FLAG_SEND_FLUSH | WIRE_FLAG_CAN_MULTI_CONN,
                    &c->structured))
        return c;
    free_client(c);
    return NULL;
}

static void *client_main(void *arg)
{
    struct client *c = new_client((int)(intptr_t)arg);

    if (!c)
        return NULL;
    while (serve_once(c))
        continue;
    free_client(c);
    return NULL;
}

static void serve_threads(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;

        if (fd < 0)
            continue;
        if (pthread_create(&thread, NULL, client_main, (void *)(intptr_t)fd) != 0)
            errx(1, "cannot start a thread");
        pthread_detach(thread);
    }
}

static void serve_all(int listener)
{
    struct pollfd polls[1 + CLIENTS_MAX] = { { .fd = listener, .events = POLLIN } };
    struct client *clients[1 + CLIENTS_MAX] = { NULL };
    unsigned count = 1;

    for (;;) {
        if (poll(polls, count, -1) < 0)
            continue;
        for (unsigned i = count - 1; i > 0; i--) {
            if (!polls[i].revents || serve_once(clients[i]))
                continue;
            free_client(clients[i]);
            count--;
            polls[i] = polls[count];
            clients[i] = clients[count];
        }
        if (polls[0].revents && count <= CLIENTS_MAX) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd < 0 || !(clients[count] = new_client(fd)))
                continue;
            polls[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
        }
    }
}

static int listen_unix(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof a.sun_path)
        errx(2, "the path '%s' is too long for a socket", path);
    strcpy(a.sun_path, path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 64) < 0)
        err(1, "cannot listen on '%s'", path);
    return fd;
}

static unsigned long long parse_number(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || *end)
        errx(2, "'%s' is not a number", text);
    return n;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        { "threads", 0, NULL, 't' },
        { "lose-every", 1, NULL, 'l' },
        { NULL, 0, NULL, 0 },
    };
    bool threads = false;
    int c;

    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (c == 't')
            threads = true;
        else if (c == 'l')
            lose_every = (unsigned long)parse_number(optarg);
        else
            return 2;
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: memserver [--threads] [--lose-every N] SOCKET MEBIBYTES\n");
        return 2;
    }
    memory_size = parse_number(argv[optind + 1]) << 20;
    if (!memory_size || memory_size > 1ull << 40)
        errx(2, "'%s' is not a size in MiB", argv[optind + 1]);
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "no %s MiB of memory", argv[optind + 1]);
    memset(memory, 0xa5, memory_size);
    if (threads)
        serve_threads(listen_unix(argv[optind]));
    else
        serve_all(listen_unix(argv[optind]));
    return 0;
}
