/* SPDX-License-Identifier: MIT */
/*
 * Streams and workers of the load generator; see load.h.  One turn is: fill
 * every free slot, send all in one call, wait, receive, parse, look at the
 * clock once.  A worker with one stream waits in recv itself; with several it
 * waits in epoll.
 */
#include "tests/bench/load.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SILENCE_MS = 30000 }; /* a server that answers nothing for so long has failed */

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift64*: enough for offsets. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* Evenly in 0..limit-1. */
static uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return (uint64_t)(((unsigned __int128)next_random(state) * limit) >> 64);
}

void stream_init(struct stream *s, const struct load *load, int fd, bool structured, unsigned depth,
                 size_t receive_size)
{
    unsigned blocks = load->pattern ? depth : 1;

    *s = (struct stream){ 0 };
    conn_init(&s->conn, fd, structured, depth, receive_size);
    s->data = aligned_alloc(4096, ((size_t)blocks * load->block_size + 4095) & ~(size_t)4095);
    if (!s->data)
        errx(1, "no memory for %u blocks of %u bytes", blocks, load->block_size);
    memset(s->data, 0x5a, (size_t)blocks * load->block_size);
}

void stream_close(struct stream *s)
{
    struct wire_request bye = { .magic = put_be32(WIRE_REQUEST), .type = put_be16(WIRE_CMD_DISC) };

    send(s->conn.fd, &bye, sizeof bye, MSG_NOSIGNAL); /* a server that is gone needs no goodbye */
    conn_free(&s->conn);
    free(s->data);
}

static bool pick_read(const struct load *load, struct stream *s)
{
    switch (load->op) {
    case LOAD_RANDREAD:
    case LOAD_SEQREAD: return true;
    case LOAD_RANDWRITE:
    case LOAD_SEQWRITE: return false;
    case LOAD_MIXED: break;
    }
    return random_below(&s->random, 100) < load->read_percent;
}

static uint64_t pick_block(const struct load *load, struct stream *s)
{
    uint64_t block;

    if (load->op != LOAD_SEQREAD && load->op != LOAD_SEQWRITE)
        return random_below(&s->random, load->block_count);
    block = s->cursor++;
    if (s->cursor == s->end)
        s->cursor = s->first;
    return block;
}

/* Chooses what the slot does next. */
static void fill_slot(struct worker *w, struct stream *s, struct slot *slot)
{
    const struct load *load = w->load;
    bool reading = pick_read(load, s);
    uint64_t block = pick_block(load, s);
    uint32_t generation = 0;

    /* main() saw to it that there are many more blocks than requests in flight */
    while (load->pattern && !pattern_claim(load->pattern, block, &generation))
        block = pick_block(load, s);
    slot->command = reading ? WIRE_CMD_READ : WIRE_CMD_WRITE;
    slot->offset = block * load->block_size;
    slot->length = load->block_size;
    slot->sent_ns = w->now_ns;
    slot->data = reading ? NULL : s->data;
    if (load->pattern) {
        slot->data = s->data + (size_t)(slot - s->conn.slots) * load->block_size;
        slot->tag = reading ? generation : pattern_next(generation);
        if (!reading)
            pattern_fill(load->pattern, block, (uint32_t)slot->tag, slot->data);
    }
}

/* Puts a request into every free slot and sends what can be sent. */
static int stream_submit(struct worker *w, struct stream *s)
{
    bool stop = atomic_load_explicit(&w->load->stop, memory_order_relaxed);

    while (conn_idle(&s->conn)) {
        struct slot *slot;
        unsigned added = 0;

        while (!stop && s->left && (slot = conn_take(&s->conn))) {
            fill_slot(w, s, slot);
            conn_add(&s->conn, slot);
            s->left--;
            added++;
        }
        if (!added)
            return 0;
        s->inflight += added;
        int r = conn_send(&s->conn);
        if (r < 0)
            return r;
    }
    return conn_send(&s->conn);
}

static void bump(_Atomic uint64_t *counter, uint64_t n)
{
    /* one writer: no locked instruction needed */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void check_slot(struct worker *w, struct slot *s)
{
    struct pattern *p = w->load->pattern;
    uint64_t block = s->offset / w->load->block_size;
    uint32_t generation = (uint32_t)s->tag;

    if (s->command == WIRE_CMD_READ && !s->failed && generation) {
        bump(&w->checked, 1);
        if (!pattern_check(p, block, generation, s->data))
            bump(&w->mismatches, 1);
    }
    /* a write that failed may have changed anything */
    pattern_release(p, block, s->command == WIRE_CMD_WRITE && s->failed ? 0 : generation);
}

static void slot_done(void *arg, struct conn *c, struct slot *s)
{
    struct worker *w = arg;

    (void)c;
    if (w->load->pattern)
        check_slot(w, s);
    if (s->failed) {
        bump(&w->errors, 1);
        return;
    }
    bump(&w->ios, 1);
    bump(&w->bytes, s->length);
    if (atomic_load_explicit(&w->load->measuring, memory_order_relaxed))
        latency_add(&w->latency, w->now_ns - s->sent_ns);
}

/* Receives once, completes what arrived. 0 (also when nothing was there), or negative errno. */
static int stream_receive(struct worker *w, struct stream *s, int flags)
{
    unsigned free_before = s->conn.free_count;
    int r = conn_receive(&s->conn, flags);

    if (r == -EAGAIN)
        return flags & MSG_DONTWAIT ? 0 : -ETIMEDOUT;
    if (r < 0)
        return r;
    w->now_ns = clock_ns();
    r = conn_parse(&s->conn, slot_done, w);
    s->inflight -= s->conn.free_count - free_before;
    return r;
}

/* The loop of a worker with one stream: waits in recv, in poll only while the socket is full. */
static int run_one(struct worker *w)
{
    struct stream *s = w->streams;

    for (;;) {
        int r = stream_submit(w, s);

        if (r < 0 || !s->inflight)
            return r;
        if (!conn_idle(&s->conn)) {
            struct pollfd p = { .fd = s->conn.fd, .events = POLLIN | POLLOUT };

            if (poll(&p, 1, SILENCE_MS) == 0)
                return -ETIMEDOUT;
            if (!(p.revents & (POLLIN | POLLERR | POLLHUP)))
                continue;
        }
        r = stream_receive(w, s, 0); /* SO_RCVTIMEO bounds it */
        if (r < 0)
            return r;
    }
}

/* Submits, and asks epoll for room exactly while some is wanted. */
static int submit_polled(struct worker *w, struct stream *s, int epoll)
{
    int r = stream_submit(w, s);
    bool wanted = !conn_idle(&s->conn);

    if (r == 0 && wanted != s->writable_wanted) {
        struct epoll_event e = { .events = EPOLLIN | (wanted ? (unsigned)EPOLLOUT : 0),
                                 .data.ptr = s };

        s->writable_wanted = wanted;
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, s->conn.fd, &e) < 0)
            r = -errno;
    }
    return r;
}

/* One wait, and what it brings. */
static int turn_many(struct worker *w, int epoll)
{
    struct epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, SILENCE_MS);

    if (n == 0)
        return -ETIMEDOUT;
    for (int i = 0; i < n; i++) {
        struct stream *s = events[i].data.ptr;
        int r = events[i].events & ~(unsigned)EPOLLOUT ? stream_receive(w, s, MSG_DONTWAIT) : 0;

        if (r == 0)
            r = submit_polled(w, s, epoll);
        if (r < 0)
            return r;
    }
    return n < 0 && errno != EINTR ? -errno : 0;
}

static unsigned inflight(const struct worker *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->stream_count; i++)
        n += w->streams[i].inflight;
    return n;
}

static int run_many(struct worker *w)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), r = epoll < 0 ? -errno : 0;

    for (unsigned i = 0; r == 0 && i < w->stream_count; i++) {
        struct stream *s = &w->streams[i];
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };

        s->writable_wanted = false;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->conn.fd, &e) < 0)
            r = -errno;
        else
            r = submit_polled(w, s, epoll);
    }
    while (r == 0 && inflight(w))
        r = turn_many(w, epoll);
    if (epoll >= 0)
        close(epoll);
    return r;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    int r;

    w->now_ns = clock_ns();
    r = w->stream_count == 1 ? run_one(w) : run_many(w);
    if (r < 0) {
        fprintf(stderr, "nbdload: connection failed: %s\n", strerror(-r));
        w->broken = true;
        atomic_store(&w->load->stop, true);
    }
    sem_post(w->ended);
    return NULL;
}

/* Stream @i of @n gets its share of the requests and of the region. */
static void stream_aim(struct stream *s, const struct load *load, unsigned i, unsigned n)
{
    s->random = load->seed * 0x9e3779b97f4a7c15ull + i + 1;
    s->first = s->cursor = load->block_count * i / n;
    s->end = load->block_count * (i + 1) / n;
    s->left = load->count ? load->count * (i + 1) / n - load->count * i / n : UINT64_MAX;
}

void workers_start(struct worker *w, unsigned worker_count, struct load *load, sem_t *ended)
{
    unsigned total = 0, index = 0;

    for (unsigned i = 0; i < worker_count; i++)
        total += w[i].stream_count;
    for (unsigned i = 0; i < worker_count; i++) {
        w[i].load = load;
        w[i].ended = ended;
        w[i].broken = false;
        w[i].latency = (struct latency){ 0 };
        w[i].ios = w[i].bytes = w[i].errors = w[i].checked = w[i].mismatches = 0;
        for (unsigned k = 0; k < w[i].stream_count; k++)
            stream_aim(&w[i].streams[k], load, index++, total);
        if (pthread_create(&w[i].thread, NULL, worker_main, &w[i]) != 0)
            errx(1, "cannot start a thread");
    }
}

bool workers_join(struct worker *w, unsigned worker_count)
{
    bool good = true;

    for (unsigned i = 0; i < worker_count; i++) {
        pthread_join(w[i].thread, NULL);
        good = good && !w[i].broken;
    }
    return good;
}
