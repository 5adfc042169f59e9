/* SPDX-License-Identifier: MIT */
/*
 * The NBD export and its servers: several side by side, each with its
 * addresses and limits.  Specification: the NBD protocol,
 * doc/proto.md of the NetworkBlockDevice project.
 */
#ifndef EXPORTS_NBD_H
#define EXPORTS_NBD_H

#include "base/address.h"
#include "exports/export.h"

struct nbd_server;

struct nbd_server_options {
    char *id; /* NULL: the default server */
    struct socket_address addr;
    uint32_t max_connections;       /* 0: unlimited; default 100 */
    uint32_t handshake_max_seconds; /* 0: no limit; default 10 */
    char *tls_creds; /* id of the credentials; clients must use TLS.  NULL: they can't */
    char *tls_authz; /* id of who says which clients come in; NULL: all that TLS lets in */
};
/* NbdServerOptions (--nbd-server: addr is a SocketAddress) and the arguments of nbd-server-start (addr
 * is a SocketAddressLegacy); both fill in struct nbd_server_options. */
extern const struct row_type row_nbd_server_options, row_nbd_server_options_legacy;

/* BlockExportOptionsNbd */
struct nbd_export_options {
    char *name; /* default: the node's name */
    char *description;
    char *server; /* id of the server; NULL: the default one */
    struct row_list bitmaps;
    bool allocation_depth;
};
extern const struct row_type row_nbd_export_options;
extern const struct export_driver export_nbd;

/** nbd_server_start - listen; "NBD server already running" for a second default one
 * @resolve_fd, @arg: for addresses of type fd, as in address_listen()
 */
int co_fn nbd_server_start(const struct nbd_server_options *options,
                           int (*resolve_fd)(const char *name, void *arg), void *arg,
                           struct err *err);

/** nbd_server_adopt - serve on sockets that are listening already (socket activation); takes them over */
int co_fn nbd_server_adopt(const struct nbd_server_options *options, const int *fds, unsigned count,
                           struct err *err);

/** nbd_server_stop - stop listening, cut off its clients, remove its exports; "NBD server not running" */
int co_fn nbd_server_stop(const char *id, struct err *err);
/** nbd_servers_stop_all - stop all, waiting for those that are being started */
void co_fn nbd_servers_stop_all(void);

/** nbd_servers_hold - while held no client is accepted (they wait, connected, in the kernel): so none sees
 * half of what a command line says
 */
void nbd_servers_hold(bool hold);

/** nbd_server_running - is there a server of that id (NULL: the default one) that takes exports: not while it is being
 * started or stopped
 */
bool nbd_server_running(const char *id);

/** nbd_server_uri - where clients find an export of a server; malloc'd
 * NULL: no such server, no URI can tell (a socket in the abstract name space), or out of memory.
 */
char *nbd_server_uri(const char *id, const char *export_name);

/** nbd_export_by_name - the export of a server that clients call @name, or NULL */
struct export *nbd_export_by_name(const char *server, const char *name);

#endif
