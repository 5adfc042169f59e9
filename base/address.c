/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses: their rows, sockets bound and connected by them, and their
 * text.  A unix socket gets its mode before it has a name, so nobody else can
 * reach it even for an instant; a host name listens on all of its addresses,
 * with one port for all of them.
 */
#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/parse.h"

enum { BACKLOG = 128 };

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* ---- rows ---- */

static const char *const address_type_values[] = { "inet", "unix", "vsock", "fd", NULL };
static ROW_ENUM_TYPE(row_address_type, "SocketAddressType", address_type_values,
                     .help = "Kinds of socket addresses");

static const struct row inet_rows[] = {
    ROW_REQ(struct inet_address, "host", host, row_str,
            .help = "host name or number; empty when listening: every address"),
    ROW_REQ(struct inet_address, "port", port, row_str,
            .help = "port number or service name; 0 when listening: the kernel chooses"),
    ROW_HAS(struct inet_address, "numeric", numeric, row_bool,
            .help = "host and port are numbers, look nothing up"),
    ROW_HAS(struct inet_address, "to", to, row_uint16,
            .help = "when listening: the last port to try, beginning with port"),
    ROW_HAS(struct inet_address, "ipv4", ipv4, row_bool, .help = "whether to use IPv4"),
    ROW_HAS(struct inet_address, "ipv6", ipv6, row_bool, .help = "whether to use IPv6"),
    ROW_HAS(struct inet_address, "keep-alive", keep_alive, row_bool,
            .help = "when connecting: let the kernel probe an idle connection"),
    ROW_HAS(struct inet_address, "mptcp", mptcp, row_bool,
            .help = "whether to use multipath TCP; peers that can't get plain TCP"),
    ROW_END
};
ROW_STRUCT_TYPE(row_inet_address, "InetSocketAddress", struct inet_address, inet_rows,
                .help = "A TCP address");

static const struct row unix_rows[] = {
    ROW_REQ(struct unix_address, "path", path, row_str, .help = "path of the socket"),
    ROW_HAS(struct unix_address, "abstract", abstract, row_bool,
            .help = "the path is a name in the abstract name space of Linux"),
    ROW_HAS(struct unix_address, "tight", tight, row_bool,
            .help = "an abstract name is not padded with zeroes (default: true)"),
    ROW_END
};
ROW_STRUCT_TYPE(row_unix_address, "UnixSocketAddress", struct unix_address, unix_rows,
                .help = "A unix socket's address");

static const struct row vsock_rows[] = {
    ROW_REQ(struct vsock_address, "cid", cid, row_str, .help = "context id of the machine"),
    ROW_REQ(struct vsock_address, "port", port, row_str, .help = "port number"), ROW_END
};
ROW_STRUCT_TYPE(row_vsock_address, "VsockSocketAddress", struct vsock_address, vsock_rows,
                .help = "An address between a virtual machine and its host");

static const struct row fd_rows[] = {
    ROW_REQ(struct fd_address, "str", str, row_str,
            .help = "name given to getfd, or the number of an inherited descriptor"),
    ROW_END
};
ROW_STRUCT_TYPE(row_fd_address, "FdSocketAddress", struct fd_address, fd_rows,
                .help = "A socket that is open already");

static const struct row socket_address_rows[] = {
    ROW_REQ(struct socket_address, "type", type, row_address_type, .help = "kind of address"),
    ROW_END
};
static const struct row_type *const address_branches[] = {
    [ADDRESS_INET] = &row_inet_address,
    [ADDRESS_UNIX] = &row_unix_address,
    [ADDRESS_VSOCK] = &row_vsock_address,
    [ADDRESS_FD] = &row_fd_address,
};
ROW_UNION_TYPE(row_socket_address, "SocketAddress", struct socket_address, socket_address_rows,
               "type", u, address_branches, .help = "Where a socket listens or connects to");

/* The older form wraps the branch's members in "data". */
#define WRAPPER(stem_, name_)                                                                      \
    static const struct row stem_##_wrapper_rows[] = { { .name = "data",                           \
                                                         .type = &row_##stem_##_address,           \
                                                         .required = true,                         \
                                                         .help = "the address" },                  \
                                                       ROW_END };                                  \
    static const struct row_type row_##stem_##_wrapper = {                                         \
        .kind = ROW_STRUCT,                                                                        \
        .name = name_,                                                                             \
        .size = sizeof(struct stem_##_address),                                                    \
        .rows = stem_##_wrapper_rows,                                                              \
    }
WRAPPER(inet, "InetSocketAddressWrapper");
WRAPPER(unix, "UnixSocketAddressWrapper");
WRAPPER(vsock, "VsockSocketAddressWrapper");
WRAPPER(fd, "FdSocketAddressWrapper");

static const struct row_type *const legacy_branches[] = {
    [ADDRESS_INET] = &row_inet_wrapper,
    [ADDRESS_UNIX] = &row_unix_wrapper,
    [ADDRESS_VSOCK] = &row_vsock_wrapper,
    [ADDRESS_FD] = &row_fd_wrapper,
};
ROW_UNION_TYPE(row_socket_address_legacy, "SocketAddressLegacy", struct socket_address,
               socket_address_rows, "type", u, legacy_branches,
               .help = "A socket address in its older form");

/* ---- text ---- */

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
    va_list ap;
    char *s;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

static char *host_port(const char *host, const char *port)
{
    return strchr(host, ':') ? text("[%s]:%s", host, port) : text("%s:%s", host, port);
}

char *address_text(const struct socket_address *a)
{
    switch (a->type) {
    case ADDRESS_INET: {
        const struct inet_address *in = a->u;
        return host_port(in->host, in->port);
    }
    case ADDRESS_UNIX: {
        const struct unix_address *un = a->u;
        return text("unix:%s%s", un->abstract ? "@" : "", un->path);
    }
    case ADDRESS_VSOCK: {
        const struct vsock_address *v = a->u;
        return text("vsock:%s:%s", v->cid, v->port);
    }
    case ADDRESS_FD: return text("fd:%s", ((const struct fd_address *)a->u)->str);
    default: return text("?");
    }
}

static char *text_of_unix(const struct sockaddr_un *sa, socklen_t len)
{
    size_t room = len > offsetof(struct sockaddr_un, sun_path)
                      ? len - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    if (!room)
        return text("unix:");
    if (!sa->sun_path[0])
        return text("unix:@%.*s", (int)room - 1, sa->sun_path + 1);
    return text("unix:%.*s", (int)strnlen(sa->sun_path, room), sa->sun_path);
}

char *address_of_socket(int fd, bool peer)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if ((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&sa, &len) < 0)
        return text("?");
    switch (sa.ss_family) {
    case AF_UNIX: return text_of_unix((struct sockaddr_un *)&sa, len);
    case AF_VSOCK: {
        const struct sockaddr_vm *v = (struct sockaddr_vm *)&sa;
        return text("vsock:%u:%u", v->svm_cid, v->svm_port);
    }
    case AF_INET:
    case AF_INET6:
        if (getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV))
            return text("?");
        return host_port(host, port);
    default: return text("?");
    }
}

/* ---- sockaddr of the kinds that need no look-up ---- */

static int unix_sockaddr(const struct unix_address *a, struct sockaddr_un *sa, socklen_t *len,
                         struct err *err)
{
    bool abstract = a->has_abstract && a->abstract;
    size_t n = strlen(a->path), most = sizeof(sa->sun_path) - 1;

    memset(sa, 0, sizeof(*sa));
    sa->sun_family = AF_UNIX;
    if (!n && !abstract)
        return err_set(err, -EINVAL, "UNIX socket path is empty");
    if (n > most)
        return err_set(err, -ENAMETOOLONG,
                       "UNIX socket path '%s' is too long: it may have %zu bytes", a->path, most);
    memcpy(sa->sun_path + abstract, a->path, n);
    *len = sizeof(*sa);
    if (!abstract)
        *len = offsetof(struct sockaddr_un, sun_path) + n + 1;
    else if (!a->has_tight || a->tight)
        *len = offsetof(struct sockaddr_un, sun_path) + 1 + n;
    return 0;
}

static int vsock_sockaddr(const struct vsock_address *a, struct sockaddr_vm *sa, struct err *err)
{
    uint64_t cid, port;
    if (parse_u64(a->cid, &cid) < 0 || cid > UINT32_MAX)
        return err_set(err, -EINVAL, "Failed to parse cid '%s'", a->cid);
    if (parse_u64(a->port, &port) < 0 || port > UINT32_MAX)
        return err_set(err, -EINVAL, "Failed to parse port '%s'", a->port);
    memset(sa, 0, sizeof(*sa));
    sa->svm_family = AF_VSOCK;
    sa->svm_cid = (unsigned)cid;
    sa->svm_port = (unsigned)port;
    return 0;
}

static int new_socket(int family, struct err *err)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, -errno, "Failed to create a socket");
    return fd;
}

static int finish_listen(int fd, const char *what, struct err *err)
{
    if (listen(fd, BACKLOG) < 0)
        return err_set_errno(err, -errno, "Failed to listen on %s", what);
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return err_set_errno(err, -errno, "Failed to listen on %s", what);
    return 0;
}

/* ---- unix, vsock, fd ---- */

/* The kernel keeps the sockets of a process that was killed for some milliseconds: until its io_uring is taken
 * apart.  Who is started in its place does not fail for that. */
static bool wait_for_the_dead(unsigned *waited_ms)
{
    enum { STEP = 10, AT_MOST = 500 };

    if (*waited_ms >= AT_MOST)
        return false;
    *waited_ms += STEP;
    usleep(STEP * 1000);
    return true;
}

/* Does a process that lives listen where @fd is connected? */
static bool is_alive(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0 ||
           kill(peer.pid, 0) == 0 || errno != ESRCH;
}

/* Return: whether nobody serves that unix socket. */
static int is_abandoned(const struct sockaddr_un *sa, socklen_t len, struct err *err)
{
    for (unsigned waited = 0;;) {
        autoclose int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (probe < 0)
            return err_set_errno(err, -errno, "Failed to create a socket");
        if (connect(probe, (const struct sockaddr *)sa, len) < 0)
            return errno == ECONNREFUSED;
        if (is_alive(probe) || !wait_for_the_dead(&waited))
            return false;
    }
}

/* Somebody made this path: is it a socket that nobody serves any more?  Then remove it. */
static int remove_stale(const struct sockaddr_un *sa, socklen_t len, struct err *err)
{
    struct stat st;
    if (lstat(sa->sun_path, &st) < 0)
        return errno == ENOENT ? 0
                               : err_set_errno(err, -errno, "Failed to look at '%s'", sa->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, -EADDRINUSE,
                       "Failed to bind socket to '%s': it exists and is not a socket",
                       sa->sun_path);
    int abandoned = is_abandoned(sa, len, err);
    if (abandoned < 0)
        return abandoned;
    if (!abandoned)
        return err_set_errno(err, -EADDRINUSE, "Failed to bind socket to '%s'", sa->sun_path);
    if (unlink(sa->sun_path) < 0 && errno != ENOENT)
        return err_set_errno(err, -errno, "Failed to remove the stale socket '%s'", sa->sun_path);
    return 0;
}

static int listen_unix(const struct unix_address *a, struct err *err)
{
    struct sockaddr_un sa;
    socklen_t len;
    if (unix_sockaddr(a, &sa, &len, err) < 0)
        return err->code;

    autoclose int fd = new_socket(AF_UNIX, err);
    if (fd < 0)
        return fd;
    /* The name will get this mode (less the umask) at bind(). */
    if (fchmod(fd, 0600) < 0)
        return err_set_errno(err, -errno, "Failed to set the mode of socket '%s'", a->path);
    if (bind(fd, (struct sockaddr *)&sa, len) < 0) {
        if (errno != EADDRINUSE || !sa.sun_path[0])
            return err_set_errno(err, -errno, "Failed to bind socket to '%s'", a->path);
        if (remove_stale(&sa, len, err) < 0)
            return err->code;
        if (bind(fd, (struct sockaddr *)&sa, len) < 0)
            return err_set_errno(err, -errno, "Failed to bind socket to '%s'", a->path);
    }
    if (finish_listen(fd, a->path, err) < 0) {
        if (sa.sun_path[0])
            unlink(sa.sun_path);
        return err->code;
    }
    return take_fd(&fd);
}

static int listen_vsock(const struct vsock_address *a, struct err *err)
{
    struct sockaddr_vm sa;
    if (vsock_sockaddr(a, &sa, err) < 0)
        return err->code;
    autoclose int fd = new_socket(AF_VSOCK, err);
    if (fd < 0)
        return fd;
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_set_errno(err, -errno, "Failed to bind socket to vsock:%s:%s", a->cid, a->port);
    if (finish_listen(fd, "vsock", err) < 0)
        return err->code;
    return take_fd(&fd);
}

/* A passed socket: by the name that getfd gave it, else by number (then a duplicate: whoever passed it
 * keeps his). */
static int passed_socket(const struct fd_address *a, int (*resolve_fd)(const char *name, void *arg),
                         void *arg, struct err *err)
{
    uint64_t number;
    autoclose int fd = -1;
    struct stat st;

    if (a->str[0] >= '0' && a->str[0] <= '9') {
        if (parse_u64(a->str, &number) < 0 || number > INT32_MAX)
            return err_set(err, -EINVAL, "Unable to parse FD number %s", a->str);
        fd = fcntl((int)number, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            return err_set_errno(err, -errno, "File descriptor '%s' can't be used", a->str);
    } else {
        fd = resolve_fd ? resolve_fd(a->str, arg) : -1;
        if (fd < 0)
            return err_set(err, -ENOENT, "File descriptor named '%s' has not been found", a->str);
    }
    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return err_set(err, -ENOTSOCK, "File descriptor '%s' is not a socket", a->str);
    return take_fd(&fd);
}

static int listen_fd(const struct fd_address *a, int (*resolve_fd)(const char *name, void *arg),
                     void *arg, struct err *err)
{
    autoclose int fd = passed_socket(a, resolve_fd, arg, err);
    if (fd < 0)
        return fd;
    if (finish_listen(fd, "the passed socket", err) < 0)
        return err->code;
    return take_fd(&fd);
}

/* ---- inet ---- */

static int inet_family(const struct inet_address *a, struct err *err)
{
    bool v4 = a->has_ipv4 ? a->ipv4 : !(a->has_ipv6 && a->ipv6);
    bool v6 = a->has_ipv6 ? a->ipv6 : !(a->has_ipv4 && a->ipv4);
    if (!v4 && !v6)
        return err_set(err, -EINVAL, "Cannot disable IPv4 and IPv6 at same time");
    return v4 && v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
}

/* Is it a number, but none of a port?  getaddrinfo() would cut it to 16 bits. */
static bool no_port_number(const char *port)
{
    uint64_t n;

    if (port[strspn(port, " \t\n+-0123456789")])
        return false; /* the name of a service */
    return port[strspn(port, "0123456789")] || parse_u64(port, &n) < 0 || n > UINT16_MAX;
}

static int look_up(const struct inet_address *a, bool passive, struct addrinfo **out,
                   struct err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    int family = inet_family(a, err);
    if (family < 0)
        return family;
    hints.ai_family = family;
    hints.ai_flags = passive ? AI_PASSIVE : 0;
    if (a->has_numeric && a->numeric)
        hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    if (!passive && !a->host[0])
        return err_set(err, -EINVAL, "host not specified");
    if (!a->port[0])
        return err_set(err, -EINVAL, "port not specified");
    if (no_port_number(a->port))
        return err_set(err, -ERANGE, "port '%s' is none: it is 0 to 65535 or a service", a->port);
    int r = getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, out);
    if (r)
        return err_set(err, r == EAI_SYSTEM ? -errno : -ENOENT,
                       "address resolution failed for %s:%s: %s", a->host, a->port,
                       gai_strerror(r));
    return 0;
}

static void set_port(struct sockaddr *sa, uint16_t port)
{
    if (sa->sa_family == AF_INET)
        ((struct sockaddr_in *)sa)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)sa)->sin6_port = htons(port);
}

static uint16_t get_port(const struct sockaddr *sa)
{
    return ntohs(sa->sa_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port
                                          : ((const struct sockaddr_in6 *)sa)->sin6_port);
}

static int new_inet_socket(const struct inet_address *a, int family, int flags)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags,
                  a->has_mptcp && a->mptcp ? IPPROTO_MPTCP : IPPROTO_TCP);
}

static int bind_inet(const struct inet_address *a, const struct addrinfo *ai, bool v6_only,
                     uint16_t port)
{
    struct sockaddr_storage sa;
    const int one = 1, zero = 0;
    memcpy(&sa, ai->ai_addr, ai->ai_addrlen);
    set_port((struct sockaddr *)&sa, port);

    autoclose int fd = new_inet_socket(a, ai->ai_family, SOCK_NONBLOCK);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only ? &one : &zero, sizeof(one));
    if (bind(fd, (struct sockaddr *)&sa, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return take_fd(&fd);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    return getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ? 0 : get_port((void *)&sa);
}

/* All addresses on one port.  An address that this machine lacks is passed over as long as there is
 * another; a port in use anywhere is a failure of the whole. */
static int bind_all(const struct inet_address *a, const struct addrinfo *list, bool v6_only,
                    uint16_t port, int *fds, unsigned room)
{
    unsigned n = 0;
    int lacking = -EADDRNOTAVAIL;

    /* "::" takes IPv4 as well, unless that has a socket of its own. */
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
        v6_only |= ai->ai_family == AF_INET;

    for (const struct addrinfo *ai = list; ai && n < room; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
            continue;
        int fd = bind_inet(a, ai, v6_only, port);
        if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) {
            lacking = fd;
            continue;
        }
        if (fd < 0) {
            while (n)
                close(fds[--n]);
            return fd;
        }
        if (!port)
            port = port_of(fd);
        fds[n++] = fd;
    }
    return n ? (int)n : lacking;
}

static int listen_inet(const struct inet_address *a, int *fds, unsigned *count, struct err *err)
{
    struct addrinfo *list = NULL;
    if (look_up(a, true, &list, err) < 0)
        return err->code;

    bool v6_only = a->has_ipv4 && !a->ipv4;
    unsigned waited = 0;
    unsigned first = get_port(list->ai_addr), last = a->has_to ? a->to : first;
    int r = -EINVAL;
    for (unsigned port = first; port <= last; port++) {
        /* A port that the kernel chose for one address may be taken on another one. */
        for (int tries = 0; tries < (port ? 1 : 16); tries++) {
            do
                r = bind_all(a, list, v6_only, (uint16_t)port, fds, *count);
            while (r == -EADDRINUSE && port && !a->has_to && wait_for_the_dead(&waited));
            if (r != -EADDRINUSE)
                break;
        }
        if (r != -EADDRINUSE)
            break;
    }
    freeaddrinfo(list);
    if (r < 0)
        return last < first
                   ? err_set(err, -EINVAL,
                             "Failed to find an available port: 'to' is below port %u", first)
                   : err_set_errno(err, r, "Failed to find an available port on '%s:%s'", a->host,
                                   a->port);
    *count = (unsigned)r;
    return 0;
}

/* ---- connecting ---- */

static int add_peer(struct address_peers *peers, const void *sa, socklen_t len)
{
    if (peers->count == ADDRESS_PEERS_MAX)
        return 0; /* enough to try */
    memcpy(&peers->v[peers->count].sa, sa, len);
    peers->v[peers->count++].len = len;
    return 0;
}

static int inet_peers(const struct inet_address *a, struct address_peers *peers, struct err *err)
{
    struct addrinfo *list = NULL;

    if (look_up(a, false, &list, err) < 0)
        return err->code;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
        add_peer(peers, ai->ai_addr, ai->ai_addrlen);
    freeaddrinfo(list);
    return 0;
}

int address_peers(const struct socket_address *a, struct address_peers *peers, struct err *err)
{
    struct sockaddr_un un;
    struct sockaddr_vm vm;
    socklen_t len;

    peers->count = 0;
    switch (a->type) {
    case ADDRESS_INET: return inet_peers(a->u, peers, err);
    case ADDRESS_UNIX:
        return unix_sockaddr(a->u, &un, &len, err) < 0 ? err->code : add_peer(peers, &un, len);
    case ADDRESS_VSOCK:
        return vsock_sockaddr(a->u, &vm, err) < 0 ? err->code : add_peer(peers, &vm, sizeof(vm));
    default: return err_set(err, -EINVAL, "Unknown kind of socket address");
    }
}

int address_peer_socket(const struct socket_address *a, const struct address_peer *peer)
{
    const int one = 1;
    int family = peer->sa.ss_family;

    if (family != AF_INET && family != AF_INET6) {
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd < 0 ? -errno : fd;
    }
    const struct inet_address *in = a->u;
    int fd = new_inet_socket(in, family, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (in->has_keep_alive && in->keep_alive)
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    return fd;
}

int address_connected(const struct socket_address *a, int fd, struct err *err)
{
    autofree char *what = NULL;

    if (fd >= 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        int code = -errno;
        close(fd);
        fd = code;
    }
    if (fd >= 0)
        return fd;
    what = a->type == ADDRESS_UNIX ? strdup(((const struct unix_address *)a->u)->path)
                                   : address_text(a);
    return err_set_errno(err, fd, "Failed to connect to '%s'", what ? what : "?");
}

static int connect_to_any(const struct socket_address *a, struct err *err)
{
    struct address_peers peers;
    int r = -EADDRNOTAVAIL;

    if (address_peers(a, &peers, err) < 0)
        return err->code;
    for (unsigned i = 0; i < peers.count; i++) {
        autoclose int fd = r = address_peer_socket(a, &peers.v[i]);
        if (fd < 0)
            continue;
        if (connect(fd, (const struct sockaddr *)&peers.v[i].sa, peers.v[i].len) == 0) {
            r = take_fd(&fd);
            break;
        }
        r = -errno;
    }
    return address_connected(a, r, err);
}

/* ---- the doors ---- */

int address_listen(const struct socket_address *a, int (*resolve_fd)(const char *name, void *arg),
                   void *arg, int *fds, unsigned *count, struct err *err)
{
    int fd;

    if (!*count)
        return err_set(err, -EINVAL, "No room for a listening socket");
    switch (a->type) {
    case ADDRESS_INET: return listen_inet(a->u, fds, count, err);
    case ADDRESS_UNIX: fd = listen_unix(a->u, err); break;
    case ADDRESS_VSOCK: fd = listen_vsock(a->u, err); break;
    case ADDRESS_FD: fd = listen_fd(a->u, resolve_fd, arg, err); break;
    default: return err_set(err, -EINVAL, "Unknown kind of socket address");
    }
    if (fd < 0)
        return fd;
    fds[0] = fd;
    *count = 1;
    return 0;
}

int address_connect(const struct socket_address *a, int (*resolve_fd)(const char *name, void *arg),
                    void *arg, struct err *err)
{
    if (a->type != ADDRESS_FD)
        return connect_to_any(a, err);
    int fd = passed_socket(a->u, resolve_fd, arg, err);
    return fd < 0 ? fd : address_connected(a, fd, err);
}

int address_make_absolute(struct socket_address *a)
{
    struct unix_address *un = a->u;
    char *path = NULL;

    if (a->type != ADDRESS_UNIX || !un || (un->has_abstract && un->abstract) || un->path[0] == '/')
        return 0;
    autofree char *folder = getcwd(NULL, 0);
    if (!folder) /* in a folder that was removed there can be no socket */
        return errno == ENOMEM ? -ENOMEM : 0;
    if (asprintf(&path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, un->path) < 0)
        return -ENOMEM;
    free(un->path);
    un->path = path;
    return 0;
}

void address_unlink(const struct socket_address *a)
{
    if (a->type != ADDRESS_UNIX)
        return;
    const struct unix_address *un = a->u;
    struct stat st;
    if (!(un->has_abstract && un->abstract) && lstat(un->path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(un->path);
}
