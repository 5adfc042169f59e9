/* SPDX-License-Identifier: MIT */
/*
 * Character devices of the command line, as qemu-storage-daemon has them, as
 * far as a monitor can use them: sockets (as server or as client, by path,
 * address or passed descriptor) and standard input and output.
 */
#include "daemon/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "daemon/notify.h"
#include "qmp/qmp.h"
#include "uring/ring.h"

enum { ADDRESSES_MAX = 8 };
enum backend { BACKEND_SOCKET, BACKEND_STDIO };

struct chardev_options {
    int backend;
    char *id;
    char *path, *host, *port, *fd;
    bool has_abstract, abstract, has_tight, tight;
    bool has_to, has_ipv4, has_ipv6, ipv4, ipv6;
    uint16_t to;
    bool server, has_wait, wait;
    uint32_t reconnect;
    bool nodelay;
};

struct chardev {
    struct list link;
    struct chardev_options o;
    bool in_use;
};

struct monitor_line {
    char *chardev, *id, *mode;
    bool pretty;
};

static struct list chardevs = LIST_INIT(chardevs);

static const char *const backend_names[] = { "socket", "stdio", NULL };
static ROW_ENUM_TYPE(row_backend, "ChardevBackendKind", backend_names,
                     .help = "A kind of character device");

static const struct row chardev_rows[] = {
    ROW_REQ(struct chardev_options, "backend", backend, row_backend, .help = "socket or stdio"),
    ROW_REQ(struct chardev_options, "id", id, row_str, .help = "Its name"),
    ROW_OPT(struct chardev_options, "path", path, row_str, .help = "A unix socket"),
    ROW_HAS(struct chardev_options, "abstract", abstract, row_bool,
            .help = "The path is a name in the abstract name space"),
    ROW_HAS(struct chardev_options, "tight", tight, row_bool,
            .help = "An abstract name ends where it ends, without padding; default: on"),
    ROW_OPT(struct chardev_options, "host", host, row_str, .help = "A TCP address"),
    ROW_OPT(struct chardev_options, "port", port, row_str, .help = "A TCP port or service"),
    ROW_HAS(struct chardev_options, "to", to, row_uint16, .help = "Try ports up to this one"),
    ROW_HAS(struct chardev_options, "ipv4", ipv4, row_bool, .help = "Use IPv4"),
    ROW_HAS(struct chardev_options, "ipv6", ipv6, row_bool, .help = "Use IPv6"),
    ROW_OPT(struct chardev_options, "fd", fd, row_str, .help = "A descriptor that is open already"),
    ROW_OPT(struct chardev_options, "server", server, row_bool,
            .help = "Listen; else connect.  Default: off"),
    ROW_HAS(struct chardev_options, "wait", wait, row_bool,
            .help = "server=on: go on only when a client is there; default: on"),
    ROW_OPT(struct chardev_options, "reconnect", reconnect, row_uint32,
            .help = "server=off: seconds after which to connect again; default 0: don't"),
    ROW_OPT(struct chardev_options, "nodelay", nodelay, row_bool,
            .help = "Accepted for compatibility: TCP sockets never delay"),
    ROW_END,
};

ROW_STRUCT_TYPE(row_chardev_options, "ChardevOptions", struct chardev_options, chardev_rows,
                .help = "--chardev: a place where a monitor's clients come from");

static const struct row monitor_rows[] = {
    ROW_REQ(struct monitor_line, "chardev", chardev, row_str, .help = "The character device"),
    ROW_OPT(struct monitor_line, "id", id, row_str, .help = "A name for the monitor"),
    ROW_OPT(struct monitor_line, "mode", mode, row_str, .help = "control: QMP, the only mode"),
    ROW_OPT(struct monitor_line, "pretty", pretty, row_bool,
            .help = "Answer over several lines, for people; default: off"),
    ROW_END,
};

ROW_STRUCT_TYPE(row_monitor_options, "MonitorOptions", struct monitor_line, monitor_rows,
                .help = "--monitor: a QMP monitor");

static struct chardev *find(const char *id)
{
    struct chardev *c;

    list_for_each (c, &chardevs, link)
        if (strcmp(c->o.id, id) == 0)
            return c;
    return NULL;
}

static int check(const struct chardev_options *o, struct err *err)
{
    unsigned places = !!o->path + !!(o->host || o->port) + !!o->fd;

    if (find(o->id))
        return err_set(err, -EEXIST, "Duplicate ID '%s' for chardev", o->id);
    if (o->backend == BACKEND_STDIO)
        return places ? err_set(err, -EINVAL, "chardev '%s': stdio takes no address", o->id) : 0;
    if (places != 1)
        return err_set(err, -EINVAL,
                       "chardev: socket: exactly one of 'path', 'port' and 'fd' is needed");
    if (o->port == NULL && o->host)
        return err_set(err, -EINVAL, "chardev: socket: no port given");
    if (!o->server && o->has_wait)
        return err_set(err, -EINVAL,
                       "'wait' option is incompatible with socket in client connect mode");
    if (o->server && o->reconnect)
        return err_set(err, -EINVAL,
                       "'reconnect' option is incompatible with socket in server listen mode");
    return 0;
}

int chardev_add(const char *text, struct err *err)
{
    struct chardev *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(err, -ENOMEM, "--chardev: out of memory");
    if (row_parse_text(&row_chardev_options, text, "backend", &c->o, err) < 0) {
        free(c);
        return err->code;
    }
    if (check(&c->o, err) < 0) {
        row_release(&row_chardev_options, &c->o);
        free(c);
        return err->code;
    }
    list_push_back(&chardevs, &c->link);
    return 0;
}

void chardev_forget_all(void)
{
    yank_chardevs_forget();
    for (struct list *l; (l = list_pop_front(&chardevs));) {
        struct chardev *c = container_of(l, struct chardev, link);
        row_release(&row_chardev_options, &c->o);
        free(c);
    }
}

struct socket_parts {
    struct socket_address address;
    struct inet_address inet;
    struct unix_address path;
    struct fd_address fd;
};

/* Borrows all strings from @o. */
static void make_address(const struct chardev_options *o, struct socket_parts *p)
{
    *p = (struct socket_parts){ 0 };
    if (o->path) {
        p->path = (struct unix_address){ .path = o->path,
                                         .has_abstract = o->has_abstract,
                                         .abstract = o->abstract,
                                         .has_tight = o->has_tight,
                                         .tight = o->tight };
        p->address = (struct socket_address){ ADDRESS_UNIX, &p->path };
    } else if (o->fd) {
        p->fd = (struct fd_address){ .str = o->fd };
        p->address = (struct socket_address){ ADDRESS_FD, &p->fd };
    } else {
        p->inet = (struct inet_address){ .host = o->host ? o->host : (char *)"",
                                         .port = o->port,
                                         .has_to = o->has_to,
                                         .to = o->to,
                                         .has_ipv4 = o->has_ipv4,
                                         .ipv4 = o->ipv4,
                                         .has_ipv6 = o->has_ipv6,
                                         .ipv6 = o->ipv6 };
        p->address = (struct socket_address){ ADDRESS_INET, &p->inet };
    }
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
    return address_listen(call->address, notify_inherited_fd, NULL, call->fds, &call->count,
                          call->err);
}

static int co_fn serve_socket(struct chardev *c, const struct monitor_options *m, struct err *err)
{
    struct monitor_source *source = NULL;
    struct socket_parts parts;

    make_address(&c->o, &parts);
    if (c->o.server) {
        struct listen_call call = { &parts.address, { 0 }, ADDRESSES_MAX, err };
        if (ring_block(listen_on_worker, &call) < 0 ||
            monitor_listen(call.fds, call.count, m, &parts.address, &source, err) < 0)
            return err->code;
        if (!c->o.has_wait || c->o.wait)
            return monitor_source_wait(source) < 0
                       ? err_set(err, -ECANCELED,
                                 "stopped while waiting for a client of chardev '%s'", c->o.id)
                       : 0;
        return 0;
    }
    if (parts.address.type == ADDRESS_FD) {
        int fd = notify_inherited_fd(c->o.fd, NULL);
        if (fd < 0)
            return err_set(err, -EBADF, "chardev '%s': descriptor '%s' is not open", c->o.id,
                           c->o.fd);
        return monitor_serve(fd, fd, m, NULL, NULL, err);
    }
    return monitor_connect(&parts.address, c->o.reconnect, m, &source, err);
}

static int serve_stdio(const struct monitor_options *m, struct err *err)
{
    autoclose int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    autoclose int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    if (in < 0 || out < 0)
        return err_set_errno(err, -errno, "chardev stdio");
    return monitor_serve(take_fd(&in), take_fd(&out), m, NULL, NULL, err);
}

static int co_fn put_monitor(const struct monitor_line *line, struct err *err)
{
    struct chardev *c = find(line->chardev);
    struct monitor_options options = { .pretty = line->pretty, .chardev = c ? c->o.id : NULL };

    if (line->mode && strcmp(line->mode, "control") != 0)
        return err_set(err, -EINVAL, "monitor mode '%s' is not known here, only 'control' is",
                       line->mode);
    if (!c)
        return err_set(err, -ENOENT, "chardev \"%s\" not found", line->chardev);
    if (c->in_use)
        return err_set(err, -EBUSY, "Device '%s' is in use", line->chardev);
    c->in_use = true;
    if (c->o.backend == BACKEND_SOCKET && yank_chardev_add(c->o.id, err) < 0)
        return err->code;
    return c->o.backend == BACKEND_STDIO ? serve_stdio(&options, err)
                                         : serve_socket(c, &options, err);
}

int co_fn chardev_monitor(const char *text, struct err *err)
{
    struct monitor_line line;
    int result;

    if (row_parse_text(&row_monitor_options, text, "chardev", &line, err) < 0)
        return err->code;
    result = put_monitor(&line, err);
    row_release(&row_monitor_options, &line);
    return result;
}
