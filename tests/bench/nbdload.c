/* SPDX-License-Identifier: MIT */
/*
 * nbdload: a batching load generator for NBD servers.  It keeps the queue of
 * every connection full with one send and one receive for as many requests as
 * possible, so that the server is the limit, and reports rates, latencies, and
 * the CPU time that it and the server spent for each request.
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/load.h"
#include "tests/bench/options.h"

struct sample {
    uint64_t time_ns, client_ns, server_ns; /* wall clock, CPU, CPU */
    uint64_t ios, bytes;
};

static int connect_unix(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof a.sun_path)
        errx(2, "the path '%s' is too long for a socket", path);
    strcpy(a.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        err(1, "cannot connect to '%s'", path);
    return fd;
}

static int connect_tcp(const char *address)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    char *host = strdup(address), *colon = host ? strrchr(host, ':') : NULL;
    int fd = -1, r, on = 1;

    if (!colon)
        errx(2, "--tcp: '%s' is not HOST:PORT", address);
    *colon = '\0';
    r = getaddrinfo(host, colon + 1, &hints, &list);
    if (r)
        errx(1, "'%s': %s", address, gai_strerror(r));
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        err(1, "cannot connect to '%s'", address);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    freeaddrinfo(list);
    free(host);
    return fd;
}

/* A connected, negotiated socket; *size is set by the first and the same for all. */
static int open_export(const struct options *o, uint64_t *size)
{
    struct timeval silence = { .tv_sec = 30 };
    int fd = o->unix_path ? connect_unix(o->unix_path) : connect_tcp(o->tcp);
    int buffer = (int)o->socket_buffer;
    uint64_t this_size = 0;
    uint16_t flags = 0;

    /* the kernel may cut this to its limit, which is fine */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    wire_negotiate(fd, o->export, o->structured, &this_size, &flags);
    if (*size && *size != this_size)
        errx(1, "the export changed its size from %" PRIu64 " to %" PRIu64, *size, this_size);
    if ((flags & WIRE_FLAG_READ_ONLY) &&
        (o->verify || (o->op != LOAD_RANDREAD && o->op != LOAD_SEQREAD)))
        errx(1, "the export is read-only");
    *size = this_size;
    return fd;
}

/* CPU time of a whole process, with its threads that are gone. */
static uint64_t cpu_ns(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
        errx(1, "there is no process %d to take the CPU time of", (int)pid);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sample take_sample(const struct options *o, const struct worker *w, unsigned workers)
{
    struct sample s = { .client_ns = cpu_ns(getpid()) };
    struct timespec t;

    if (o->server)
        s.server_ns = cpu_ns(o->server);
    for (unsigned i = 0; i < workers; i++) {
        s.ios += w[i].ios;
        s.bytes += w[i].bytes;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    s.time_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return s;
}

/* Waits for @seconds, or until a worker has ended (then true). */
static bool wait_ended(sem_t *ended, double seconds)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)seconds;
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    while (sem_clockwait(ended, CLOCK_MONOTONIC, &t) < 0)
        if (errno != EINTR)
            return false;
    sem_post(ended);
    return true;
}

/* Runs the load once and measures it; @from and @to enclose the measured part. */
static bool run_load(const struct options *o, struct load *load, struct worker *w, unsigned workers,
                     struct sample *from, struct sample *to)
{
    sem_t ended;
    bool good;

    sem_init(&ended, 0, 0);
    atomic_store(&load->stop, false);
    atomic_store(&load->measuring, load->count != 0);
    *from = take_sample(o, w, 0);
    workers_start(w, workers, load, &ended);
    if (!load->count) {
        if (!wait_ended(&ended, o->warmup)) {
            *from = take_sample(o, w, workers);
            atomic_store(&load->measuring, true);
            wait_ended(&ended, o->seconds);
        }
        *to = take_sample(o, w, workers);
        atomic_store(&load->stop, true);
    }
    good = workers_join(w, workers);
    if (load->count)
        *to = take_sample(o, w, workers);
    sem_destroy(&ended);
    return good;
}

/* Writes every block of the region once, so that every read can be checked. */
static void fill_region(const struct options *o, const struct load *load, struct worker *w,
                        unsigned workers)
{
    struct load fill = { .op = LOAD_SEQWRITE,
                         .block_size = load->block_size,
                         .block_count = load->block_count,
                         .count = load->block_count,
                         .seed = load->seed,
                         .pattern = load->pattern };
    struct sample from, to;

    if (!run_load(o, &fill, w, workers, &from, &to))
        errx(1, "filling the region failed");
    if (to.ios != load->block_count)
        errx(1, "filling the region failed: the server answered with errors");
}

struct report {
    double seconds, iops, megabytes, client_us, server_us; /* per second; CPU per request */
    double ios_per_recv, ios_per_send;
    uint64_t ios, bytes, errors, checked, mismatches;
    struct latency latency;
};

static struct report make_report(const struct worker *w, unsigned workers,
                                 const struct sample *from, const struct sample *to)
{
    struct report r = { .ios = to->ios - from->ios, .bytes = to->bytes - from->bytes };
    uint64_t all = 0, sends = 0, recvs = 0;

    for (unsigned i = 0; i < workers; i++) {
        latency_merge(&r.latency, &w[i].latency);
        all += w[i].ios;
        r.errors += w[i].errors;
        r.checked += w[i].checked;
        r.mismatches += w[i].mismatches;
        for (unsigned k = 0; k < w[i].stream_count; k++) {
            sends += w[i].streams[k].conn.sends;
            recvs += w[i].streams[k].conn.recvs;
        }
    }
    r.seconds = (double)(to->time_ns - from->time_ns) / 1e9;
    if (r.seconds > 0) {
        r.iops = (double)r.ios / r.seconds;
        r.megabytes = (double)r.bytes / r.seconds / 1e6;
    }
    if (r.ios) {
        r.client_us = (double)(to->client_ns - from->client_ns) / 1e3 / (double)r.ios;
        r.server_us = (double)(to->server_ns - from->server_ns) / 1e3 / (double)r.ios;
    }
    r.ios_per_recv = recvs ? (double)all / (double)recvs : 0;
    r.ios_per_send = sends ? (double)all / (double)sends : 0;
    return r;
}

static double percentile_us(const struct report *r, double part)
{
    return (double)latency_percentile(&r->latency, part) / 1e3;
}

static double mean_us(const struct report *r)
{
    return r->latency.count ? (double)r->latency.sum_ns / (double)r->latency.count / 1e3 : 0;
}

static void print_json(const struct options *o, const struct report *r)
{
    printf("{\"op\": \"%s\", \"block_size\": %" PRIu64 ", \"connections\": %u, \"depth\": %u, "
           "\"threads\": %s, \"structured\": %s, ",
           load_op_names[o->op], o->block_size, o->connections, o->depth,
           o->threads ? "true" : "false", o->structured ? "true" : "false");
    printf("\"seconds\": %.3f, \"ios\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"iops\": %.0f, \"mb_per_s\": %.1f, ",
           r->seconds, r->ios, r->bytes, r->errors, r->iops, r->megabytes);
    printf("\"latency_us\": {\"mean\": %.2f, \"p50\": %.2f, \"p99\": %.2f, \"p99.9\": %.2f, "
           "\"max\": %.2f}, ",
           mean_us(r), percentile_us(r, 0.5), percentile_us(r, 0.99), percentile_us(r, 0.999),
           (double)r->latency.max_ns / 1e3);
    if (o->server)
        printf("\"server_cpu_us_per_io\": %.3f, ", r->server_us);
    if (o->verify)
        printf("\"checked\": %" PRIu64 ", \"mismatches\": %" PRIu64 ", ", r->checked,
               r->mismatches);
    printf("\"client_cpu_us_per_io\": %.3f, \"ios_per_recv\": %.1f, \"ios_per_send\": %.1f}\n",
           r->client_us, r->ios_per_recv, r->ios_per_send);
}

static void print_text(const struct options *o, const struct report *r)
{
    printf("%s %" PRIu64 " bytes, %u connection%s, depth %u: %.0f IOPS, %.1f MB/s over %.2f s\n",
           load_op_names[o->op], o->block_size, o->connections, o->connections == 1 ? "" : "s",
           o->depth, r->iops, r->megabytes, r->seconds);
    printf("latency us: mean %.1f  p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n", mean_us(r),
           percentile_us(r, 0.5), percentile_us(r, 0.99), percentile_us(r, 0.999),
           (double)r->latency.max_ns / 1e3);
    printf("CPU us per request: client %.2f", r->client_us);
    if (o->server)
        printf("  server %.2f", r->server_us);
    printf("; requests per send %.1f, per receive %.1f\n", r->ios_per_send, r->ios_per_recv);
    if (o->verify)
        printf("verified: %" PRIu64 " reads, %" PRIu64 " wrong\n", r->checked, r->mismatches);
    if (r->errors)
        printf("errors from the server: %" PRIu64 "\n", r->errors);
}

int main(int argc, char **argv)
{
    struct options o = options_parse(argc, argv);
    unsigned workers = o.threads ? o.connections : 1;
    struct stream *streams = calloc(o.connections, sizeof *streams);
    struct worker *w = calloc(workers, sizeof *w);
    int *fds = calloc(o.connections, sizeof *fds);
    struct load load = { .op = o.op,
                         .read_percent = o.read_percent,
                         .count = o.count,
                         .seed = o.seed,
                         .block_size = (uint32_t)o.block_size };
    struct pattern pattern;
    struct sample from, to;
    struct report report;
    uint64_t size = 0;
    bool good;

    if (!streams || !w || !fds)
        errx(1, "no memory for %u connections", o.connections);
    for (unsigned i = 0; i < o.connections; i++)
        fds[i] = open_export(&o, &size);
    load.block_count = (o.region && o.region < size ? o.region : size) / o.block_size;
    if (load.block_count < (uint64_t)2 * o.connections * o.depth)
        errx(1, "the region must have two blocks for each request in flight");
    if (o.verify) {
        pattern_init(&pattern, load.block_count, load.block_size);
        load.pattern = &pattern;
    }
    for (unsigned i = 0; i < o.connections; i++)
        stream_init(&streams[i], &load, fds[i], o.structured, o.depth, o.receive_size);
    for (unsigned i = 0; i < workers; i++) {
        w[i].streams = streams + i;
        w[i].stream_count = o.threads ? 1 : o.connections;
    }
    if (o.verify)
        fill_region(&o, &load, w, workers);
    good = run_load(&o, &load, w, workers, &from, &to);
    report = make_report(w, workers, &from, &to);
    (o.json ? print_json : print_text)(&o, &report);
    for (unsigned i = 0; i < o.connections; i++)
        stream_close(&streams[i]);
    if (o.verify)
        pattern_free(&pattern);
    free(streams);
    free(w);
    free(fds);
    return good && !report.errors && !report.mismatches ? 0 : 1;
}
