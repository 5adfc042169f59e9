/* SPDX-License-Identifier: MIT */
/*
 * The plain form of the command line: `ringblkd IMAGE...`.  Each image becomes
 * a node and an NBD export named by its file name ("-2" and so on where two
 * are alike), beside a QMP socket; what to connect to is printed once ready.
 * Of the sockets that socket activation passes, those named "qmp" are for QMP
 * and the others for NBD.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static bool is_listening(int fd)
{
    int yes = 0;
    socklen_t len = sizeof(yes);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/* The passed sockets for QMP, or those for NBD, into @fds, which has ADDRESSES_MAX. */
static int passed_sockets(const struct command_line *c, bool qmp, int *fds, unsigned *count,
                          struct err *err)
{
    *count = 0;
    for (unsigned i = 0; i < c->listen_fds; i++) {
        int fd = NOTIFY_LISTEN_FDS_START + (int)i;

        if ((strcmp(notify_listen_name(i), "qmp") == 0) != qmp)
            continue;
        if (!is_listening(fd))
            return err_set(err, -ENOTSOCK,
                           "descriptor %d, passed by socket activation, is no listening socket",
                           fd);
        if (*count == ADDRESSES_MAX)
            return err_set(err, -E2BIG, "more than %d sockets were passed", ADDRESSES_MAX);
        fds[(*count)++] = fd;
    }
    if (*count && (qmp ? c->qmp : c->nbd))
        return err_set(err, -EINVAL, "--%s does not go with sockets passed by socket activation",
                       qmp ? "qmp" : "nbd");
    return 0;
}

/* @address: where the sockets listen; its file goes with them.  NULL: passed sockets */
static int co_fn serve_qmp(const int *fds, unsigned count, const struct socket_address *address,
                           struct err *err)
{
    struct monitor_options options = { 0 };
    struct monitor_source *source;
    autofree char *text = address ? address_text(address) : address_of_socket(fds[0], false);

    if (monitor_listen(fds, count, &options, address, &source, err) < 0)
        return err->code;
    printf("QMP: %s\n", text ? text : "");
    return 0;
}

static int co_fn open_qmp(const struct command_line *c, struct err *err)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    struct listen_call call = { &a.address, { 0 }, ADDRESSES_MAX, err };
    int fds[ADDRESSES_MAX];
    unsigned count;

    if (passed_sockets(c, true, fds, &count, err) < 0)
        return err->code;
    if (count)
        return serve_qmp(fds, count, NULL, err);
    if (runtime_address(c->qmp, RUNTIME_QMP_VARIABLE, RUNTIME_QMP_FILE, true, &a, err) < 0 ||
        ring_block(listen_on_worker, &call) < 0 ||
        serve_qmp(call.fds, call.count, &a.address, err) < 0)
        return err_prefix(err, "--qmp");
    return 0;
}

static int co_fn open_nbd(const struct command_line *c, struct err *err)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    struct nbd_server_options o = { .max_connections = 100, .handshake_max_seconds = 10 };
    struct fd_address passed = { .str = (char *)"3" };
    int fds[ADDRESSES_MAX];
    unsigned count;

    if (passed_sockets(c, false, fds, &count, err) < 0)
        return err->code;
    if (count) {
        o.addr = (struct socket_address){ ADDRESS_FD, &passed };
        return nbd_server_adopt(&o, fds, count, err);
    }
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
        .rerror = ON_ERROR_AUTO,
        .werror = ON_ERROR_AUTO,
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
    for (unsigned i = 0; i < c->image_count; i++) {
        if (c->abandoned)
            return err_set(err, -ECANCELED, "stopped before it was up");
        if (export_image(c, i, err) < 0)
            return err->code;
    }
    if (open_qmp(c, err) < 0)
        return err->code;
    fflush(stdout);
    return 0;
}
