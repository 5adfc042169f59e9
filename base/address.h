/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses as the schema has them, and sockets made from them.
 * address_listen() and address_connect() may block (names are looked up): call
 * them on a worker thread.
 */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <sys/socket.h>

#include "base/row.h"

enum address_type { ADDRESS_INET, ADDRESS_UNIX, ADDRESS_VSOCK, ADDRESS_FD };

struct inet_address {
    char *host,
        *port; /* the port is a string: a number or a service name; "0": the kernel chooses */
    bool has_numeric, numeric;
    bool has_to;
    uint16_t to; /* try ports up to this one */
    bool has_ipv4, ipv4, has_ipv6, ipv6;
    bool has_keep_alive, keep_alive;
    bool has_mptcp, mptcp; /* multipath TCP */
};

struct unix_address {
    char *path; /* "@name": the abstract name space, as `abstract` says */
    bool has_abstract, abstract;
    bool has_tight, tight;
};

struct vsock_address {
    char *cid, *port;
};

struct fd_address {
    char *str; /* a name known from getfd, or a number */
};

/* SocketAddress: a flat union; SocketAddressLegacy: the same with the branch under "data". */
struct socket_address {
    int type;
    void *u; /* struct inet_address, unix_address, vsock_address or fd_address */
};

extern const struct row_type row_inet_address, row_unix_address, row_vsock_address, row_fd_address;
extern const struct row_type row_socket_address, row_socket_address_legacy;

/** address_listen - sockets bound and listening; unix sockets are mode 0600 from their first instant
 * @resolve_fd: turns the name of a passed descriptor into one we own (-1: unknown); may be NULL
 * @fds, @count: room for @count sockets (a host name may have several addresses); set to how many
 * Non-blocking, CLOEXEC.  A stale unix socket that nobody listens on is replaced.
 */
int address_listen(const struct socket_address *a, int (*resolve_fd)(const char *name, void *arg),
                   void *arg, int *fds, unsigned *count, struct err *err);

/** address_connect - a connected socket, non-blocking, CLOEXEC; or a negative errno */
int address_connect(const struct socket_address *a, int (*resolve_fd)(const char *name, void *arg),
                    void *arg, struct err *err);

/* What connecting to an address means to try, in this order. */
enum { ADDRESS_PEERS_MAX = 16 };
struct address_peers {
    unsigned count;
    struct address_peer {
        struct sockaddr_storage sa;
        socklen_t len;
    } v[ADDRESS_PEERS_MAX];
};

/** address_peers, address_peer_socket, address_connected - the parts of address_connect(), for who connects
 * without blocking: look the peers up (may block); for each a socket (or a negative errno) to connect; and
 * what came of it, the connected socket @fd or the last negative errno, as address_connect() returns it
 * Not for addresses of type fd.
 */
int address_peers(const struct socket_address *a, struct address_peers *peers, struct err *err);
int address_peer_socket(const struct socket_address *a, const struct address_peer *peer);
int address_connected(const struct socket_address *a, int fd, struct err *err);

/** address_text - for people: "unix:/path", "127.0.0.1:10809"; malloc'd */
char *address_text(const struct socket_address *a);

/**
 * address_make_absolute - let the path of a unix address mean the same file after a chdir()
 *
 * @a holds its own memory.  Too long to connect to it may be after that; address_unlink() takes it all the same.
 * Return: 0, or -ENOMEM with @a as it was.
 */
int address_make_absolute(struct socket_address *a);

/** address_unlink - remove the socket file of a unix address that we made */
void address_unlink(const struct socket_address *a);

/** address_of_socket - the local (or peer) address of a socket as text; malloc'd */
char *address_of_socket(int fd, bool peer);

#endif
