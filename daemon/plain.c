/* SPDX-License-Identifier: MIT */
/*
 * The plain form of the command line: `ringblkd IMAGE...`.  Each image becomes
 * a node and an NBD export named by its file name ("-2" and so on where two
 * are alike), beside a QMP socket; what to connect to is printed once ready.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/runtime.h"
#include "block/blockdev.h"
#include "daemon/commandline.h"
#include "daemon/notify.h"
#include "exports/nbd.h"
#include "qmp/qmp.h"
#include "uring/ring.h"

enum { ADDRESSES_MAX = 8 };

struct listen_call {
    struct socket_address *address;
    int fds[ADDRESSES_MAX];
    unsigned count;
    struct err *err;
};

static int listen_on_worker(void *arg)
{
    struct listen_call *call = arg;
    return address_listen(call->address, NULL, NULL, call->fds, &call->count, call->err);
}

static int co_fn open_qmp(const struct command_line *c, struct err *err)
{
    AUTO(runtime_address_done) struct runtime_address a;
    struct listen_call call = { &a.address, { 0 }, ADDRESSES_MAX, err };
    struct monitor_options options = { 0 };
    struct monitor_source *source;
    autofree char *text = NULL;

    if (runtime_address(c->qmp, RUNTIME_QMP_VARIABLE, RUNTIME_QMP_FILE, true, &a, err) < 0 ||
        ring_block(listen_on_worker, &call) < 0 ||
        monitor_listen(call.fds, call.count, &options, &a.address, &source, err) < 0)
        return err_prefix(err, "--qmp");
    text = address_text(&a.address);
    printf("QMP: %s\n", text ? text : "");
    return 0;
}

/* Serve on the sockets that the service manager, or a client, has opened for us. */
static int co_fn open_activated(const struct command_line *c, struct nbd_server_options *o,
                                struct err *err)
{
    int fds[ADDRESSES_MAX];
    struct fd_address first = { .str = (char *)"3" };

    if (c->nbd)
        return err_set(err, -EINVAL, "--nbd does not go with sockets passed by socket activation");
    if (c->listen_fds > ADDRESSES_MAX)
        return err_set(err, -E2BIG, "more than %d sockets were passed", ADDRESSES_MAX);
    for (unsigned i = 0; i < c->listen_fds; i++)
        fds[i] = NOTIFY_LISTEN_FDS_START + (int)i;
    o->addr = (struct socket_address){ ADDRESS_FD, &first };
    return nbd_server_adopt(o, fds, c->listen_fds, err);
}

static int co_fn open_nbd(const struct command_line *c, struct err *err)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    struct nbd_server_options o = { .max_connections = 100, .handshake_max_seconds = 10 };

    if (c->listen_fds)
        return open_activated(c, &o, err);
    if (runtime_address(c->nbd, NULL, "nbd.sock", true, &a, err) < 0)
        return err_prefix(err, "--nbd");
    o.addr = a.address;
    return nbd_server_start(&o, NULL, NULL, err) < 0 ? err_prefix(err, "--nbd") : 0;
}

/* The name of the export of image @index: its file name, numbered where earlier ones are alike. */
static char *export_name(const struct command_line *c, unsigned index)
{
    const char *base = strrchr(c->images[index], '/');
    unsigned alike = 1;
    char *name;

    base = base ? base + 1 : c->images[index];
    for (unsigned i = 0; i < index; i++) {
        const char *other = strrchr(c->images[i], '/');
        alike += strcmp(other ? other + 1 : c->images[i], base) == 0;
    }
    if ((alike == 1 ? asprintf(&name, "%s", base) : asprintf(&name, "%s-%u", base, alike)) < 0)
        return NULL;
    return name;
}

static int co_fn export_image(const struct command_line *c, unsigned index, struct err *err)
{
    autofree char *name = export_name(c, index), *uri = NULL;
    char node_name[NODE_NAME_MAX + 1], id[32];
    struct node *n;
    struct nbd_export_options nbd = { .name = name };
    struct block_export_options o = {
        .id = id,
        .node_name = node_name,
        .writable = !c->read_only,
        .account_invalid = true,
        .account_failed = true,
        .driver_options = &nbd,
    };

    if (!name)
        return err_set(err, -ENOMEM, "out of memory");
    snprintf(node_name, sizeof(node_name), "image%u", index + 1);
    snprintf(id, sizeof(id), "export%u", index + 1);
    if (blockdev_open_guessed(c->images[index], c->format, node_name, c->read_only, &n, err) < 0)
        return err->code;
    o.type = row_enum_value(&row_block_export_type, "nbd");
    if (export_add(&o, NULL, err) < 0)
        return err->code;
    uri = nbd_server_uri(NULL, name);
    printf("%s: %s\n", c->images[index], uri ? uri : name);
    return 0;
}

int co_fn plain_run(const struct command_line *c, struct err *err)
{
    if (open_nbd(c, err) < 0)
        return err->code;
    for (unsigned i = 0; i < c->image_count; i++)
        if (export_image(c, i, err) < 0)
            return err->code;
    if (open_qmp(c, err) < 0)
        return err->code;
    fflush(stdout);
    return 0;
}
