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
#include "block/blockdev.h"
#include "daemon/commandline.h"
#include "daemon/notify.h"
#include "exports/nbd.h"
#include "qmp/qmp.h"
#include "uring/ring.h"

enum { ADDRESSES_MAX = 8 };

struct plain_address {
    struct socket_address address;
    struct unix_address path;
    struct inet_address inet;
    char *text; /* owned; what the parts point into */
};

static void address_done(struct plain_address *a)
{
    free(a->text);
}

/* Where sockets of this user go when nothing else is said; made when it is missing. */
static char *runtime_folder(struct err *err)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    char *folder = NULL;
    int n;

    if (geteuid() == 0) {
        n = asprintf(&folder, "/run/ringblk");
    } else if (base && *base) {
        n = asprintf(&folder, "%s/ringblk", base);
    } else {
        err_set(err, -ENOENT, "XDG_RUNTIME_DIR is not set: say where with --qmp and --nbd");
        return NULL;
    }
    if (n < 0 || (mkdir(folder, 0700) < 0 && errno != EEXIST)) {
        err_set_errno(err, n < 0 ? -ENOMEM : -errno, "cannot make the folder '%s'",
                      n < 0 ? "" : folder);
        if (n >= 0)
            free(folder);
        return NULL;
    }
    return folder;
}

/* @said: "HOST:PORT", or a path; NULL: $@variable, or @file in the runtime folder. */
static int parse_address(const char *said, const char *variable, const char *file,
                         struct plain_address *a, struct err *err)
{
    const char *from = said ? said : variable ? getenv(variable) : NULL;
    char *colon;

    *a = (struct plain_address){ 0 };
    if (from && *from) {
        a->text = strdup(from);
    } else {
        autofree char *folder = runtime_folder(err);
        if (!folder)
            return err->code;
        if (asprintf(&a->text, "%s/%s", folder, file) < 0)
            a->text = NULL;
    }
    if (!a->text)
        return err_set(err, -ENOMEM, "out of memory");
    colon = strrchr(a->text, ':');
    if (!strchr(a->text, '/') && colon) {
        *colon = '\0';
        a->inet = (struct inet_address){ .host = a->text, .port = colon + 1 };
        a->address = (struct socket_address){ ADDRESS_INET, &a->inet };
    } else {
        a->path = (struct unix_address){ .path = a->text };
        a->address = (struct socket_address){ ADDRESS_UNIX, &a->path };
    }
    return 0;
}

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
    AUTO(address_done) struct plain_address a;
    struct listen_call call = { &a.address, { 0 }, ADDRESSES_MAX, err };
    struct monitor_options options = { 0 };
    struct monitor_source *source;
    autofree char *text = NULL;

    if (parse_address(c->qmp, "RINGBLK_SOCKET", "qmp.sock", &a, err) < 0 ||
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
    AUTO(address_done) struct plain_address a = { 0 };
    struct nbd_server_options o = { .max_connections = 100, .handshake_max_seconds = 10 };

    if (c->listen_fds)
        return open_activated(c, &o, err);
    if (parse_address(c->nbd, NULL, "nbd.sock", &a, err) < 0)
        return err->code;
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
