/* SPDX-License-Identifier: MIT */
/*
 * The nbd-device export: the kernel's own NBD client is given one end of each
 * of several socket pairs, this server's connections have the others.  Nothing
 * is negotiated: what a client would ask, the kernel is told by netlink.
 */
#include "exports/nbd-device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/iothread.h"
#include "exports/host-disk.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-netlink.h"

enum { CONNECTIONS_MAX = 64, CONNECTIONS_DEFAULT_MAX = 16 };

struct nbd_device_export {
    struct host_disk disk;
    struct nbd_netlink_disk kernel;
    int sockets[CONNECTIONS_MAX]; /* the kernel's ends, until it has them */
    bool connected;
    struct list connections; /* struct nbd_connection.link */
    unsigned connection_count;
};

static const struct row device_rows[] = {
    ROW_OPT(struct nbd_device_options, "device", device, row_str,
            .help = "/dev/nbdN; default: the first that is free"),
    ROW_OPT(struct nbd_device_options, "connections", connections, row_uint32, .fallback = "0",
            .help = "Socket pairs, each a queue of the disk; default 0: one for each data ring, at "
                    "most 16"),
    ROW_OPT(struct nbd_device_options, "timeout", timeout, row_uint32, .fallback = "0",
            .help = "Seconds after which the kernel gives a request up; default 0: never"),
    ROW_OPT(struct nbd_device_options, "block-size", block_size, row_size, .fallback = "0",
            .help = "Bytes of the smallest request; default: the node's alignment"),
    ROW_END,
};
ROW_STRUCT_TYPE(row_nbd_device_options, "BlockExportOptionsNbdDevice", struct nbd_device_options,
                device_rows, .since = "0.1", .help = "A disk of this host: /dev/nbdN");

static int check_options(struct nbd_device_export *d, const struct nbd_device_options *o,
                         const struct export *x, struct err *err)
{
    char after;

    if (o->connections > CONNECTIONS_MAX)
        return err_set(err, -EINVAL, "export '%s': connections must be at most %d", x->id,
                       CONNECTIONS_MAX);
    if (o->timeout && x->policy.stops)
        return err_set(err, -EINVAL,
                       "export '%s': with a timeout requests cannot wait for the export to go on: "
                       "say werror=report, or no timeout",
                       x->id);
    d->kernel.index = NBD_NETLINK_ANY;
    if (o->device && sscanf(o->device, "/dev/nbd%9u%c", &d->kernel.index, &after) != 1)
        return err_set(err, -EINVAL, "export '%s': device '%s' is not of the form /dev/nbdN", x->id,
                       o->device);
    return 0;
}

static uint64_t flags_of(const struct export *x)
{
    uint64_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN;

    if (!x->writable)
        return flags | NBD_FLAG_READ_ONLY;
    if (!x->writethrough)
        flags |= NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
    return flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
}

/* ---- connections ---- */

static void connection_left(struct nbd_connection *c)
{
    struct nbd_device_export *d = c->export->state;

    if (--d->connection_count == 0 && d->connected && !d->disk.stopping) {
        log_warning("export '%s': %s was disconnected by somebody else", c->export->id,
                    d->disk.path);
        d->connected = false;
    }
    co_cond_wake_all(&d->disk.changed);
}

static int co_fn add_connection(struct nbd_device_export *d, unsigned ring, struct err *err)
{
    struct export *x = d->disk.export;
    struct nbd_connection *c;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_errno(err, -errno, "export '%s': cannot make a socket pair", x->id);
    c = nbd_connection_new(pair[0], connection_left);
    if (!c) {
        close(pair[0]);
        close(pair[1]);
        return err_set(err, -ENOMEM, "export '%s': out of memory", x->id);
    }
    nbd_prepare_socket(pair[1]);
    d->sockets[d->kernel.socket_count++] = pair[1];
    d->connection_count++;
    list_push_back(&d->connections, &c->link);
    c->export = x;
    c->root = x->root;
    c->read_only = !x->writable;
    c->style = NBD_SIMPLE;
    c->block_minimum = d->disk.block;
    if (nbd_connection_choose_ring(c, ring, err) < 0) {
        nbd_connection_free(c);
        return err->code;
    }
    host_disk_serve_on(&d->disk, c->ring);
    nbd_connection_start(c);
    return 0;
}

static void close_sockets(struct nbd_device_export *d)
{
    for (unsigned i = 0; i < d->kernel.socket_count; i++)
        close(d->sockets[i]);
    d->kernel.socket_count = 0;
}

/* ---- the kernel's side, on workers ---- */

struct connect_call {
    struct nbd_device_export *d;
    struct err *err;
};

static int connect_on_worker(void *arg)
{
    struct connect_call *call = arg;
    struct nbd_device_export *d = call->d;
    char path[sizeof(d->disk.path)];
    int fd;

    if (nbd_netlink_connect(&d->kernel, call->err) < 0)
        return call->err->code;
    /* Who opens it first has the kernel read the partition table. */
    snprintf(path, sizeof(path), "/dev/nbd%u", d->kernel.index);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return 0;
}

static int disconnect_on_worker(void *arg)
{
    return nbd_netlink_disconnect(((struct nbd_device_export *)arg)->kernel.index);
}

static int tell_size(struct host_disk *disk, uint64_t bytes)
{
    return nbd_netlink_resize(container_of(disk, struct nbd_device_export, disk)->kernel.index,
                              bytes);
}

/* ---- the export type ---- */

static int co_fn start_disk(struct nbd_device_export *d, const struct nbd_device_options *o,
                            struct err *err)
{
    struct export *x = d->disk.export;
    unsigned count = o->connections, ring = 0;
    struct connect_call call = { d, err };

    if (x->said->iothread) {
        int r = iothread_ring_index(x->said->iothread, err);
        if (r < 0)
            return r;
        ring = (unsigned)r;
    }
    if (!count)
        count = ring                                      ? 1
                : rings_count() < CONNECTIONS_DEFAULT_MAX ? rings_count()
                                                          : CONNECTIONS_DEFAULT_MAX;
    for (unsigned i = 0; i < count; i++)
        if (add_connection(d, ring, err) < 0)
            return err->code;
    if (ring_block(connect_on_worker, &call) < 0)
        return err_prefix(err, "export '%s'", x->id);
    d->connected = true;
    snprintf(d->disk.path, sizeof(d->disk.path), "/dev/nbd%u", d->kernel.index);
    return 0;
}

static void co_fn wait_connections(struct nbd_device_export *d)
{
    while (d->connection_count)
        co_cond_wait(&d->disk.changed, NULL);
}

static int co_fn start(struct export *x, const void *options, struct err *err)
{
    struct nbd_device_export *d = x->state;
    const struct nbd_device_options *o = options;
    int r;

    list_init(&d->connections);
    d->disk.tell_size = tell_size;
    if (check_options(d, o, x, err) < 0 || host_disk_init(&d->disk, x, o->block_size, err) < 0)
        return err->code;
    d->kernel.bytes = host_disk_size(&d->disk);
    d->kernel.block = d->disk.block;
    d->kernel.timeout = o->timeout;
    d->kernel.flags = flags_of(x);
    d->kernel.sockets = d->sockets;
    r = start_disk(d, o, err);
    close_sockets(d); /* the kernel has its own, or our ends notice that nobody is there */
    if (r < 0)
        wait_connections(d);
    else
        log_info("export '%s' is %s", x->id, d->disk.path);
    return r;
}

static bool co_fn in_use(struct export *x)
{
    struct nbd_device_export *d = x->state;

    return d->connected && host_disk_in_use(&d->disk);
}

static void shut_down(struct export *x, bool hard)
{
    host_disk_shut_down(x->state, hard);
}

static void co_fn stop(struct export *x)
{
    struct nbd_device_export *d = x->state;
    int r = 0;

    if (d->connected)
        host_disk_wait_unused(&d->disk);
    d->disk.stopping = true;
    if (d->connected && d->connection_count)
        r = ring_block(disconnect_on_worker, d);
    d->connected = false;
    if (r < 0) {
        struct nbd_connection *c;
        log_error("export '%s': cannot disconnect %s: %s", x->id, d->disk.path, strerror(-r));
        list_for_each (c, &d->connections, link)
            nbd_connection_kill(c);
    }
    wait_connections(d);
}

static void resized(struct root *r, uint64_t size)
{
    host_disk_resized(((struct export *)r->owner)->state, size);
}

static int describe(struct export *x, struct export_door *door)
{
    return host_disk_describe(x->state, door);
}

const struct export_driver export_nbd_device = {
    .name = "nbd-device",
    .options = &row_nbd_device_options,
    .state_size = sizeof(struct nbd_device_export), /* begins with its struct host_disk */
    .on_read_error = ON_ERROR_REPORT,
    .on_write_error = ON_ERROR_ENOSPC,
    .root = { .resized = resized },
    .start = start,
    .in_use = in_use,
    .describe = describe,
    .shutdown = shut_down,
    .stop = stop,
};
