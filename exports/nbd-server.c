/* SPDX-License-Identifier: MIT */
/*
 * NBD servers and what they serve, on the control ring: listeners, the list of
 * connections, and the export type `nbd`.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/edit.h"
#include "crypto/authz.h"
#include "crypto/tls-creds.h"
#include "exports/nbd-connection.h"
#include "exports/nbd-tls.h"
#include "uring/await.h"

enum { ADDRESSES_MAX = 8 };

static struct list servers = LIST_INIT(servers);
static struct co_cond started = CO_COND_INIT(started); /* a start has ended, whichever way */
static bool held;                                      /* nobody is accepted */

static const struct row nbd_export_rows[] = {
    ROW_OPT(struct nbd_export_options, "name", name, row_str,
            .help = "What clients call it; default: the node's name"),
    ROW_OPT(struct nbd_export_options, "description", description, row_str,
            .help = "Free text for clients"),
    ROW_OPT(struct nbd_export_options, "server", server, row_str, .since = "0.1",
            .help = "The id of the NBD server that offers it; default: the one without an id"),
    ROW_OPT(struct nbd_export_options, "bitmaps", bitmaps, row_str_list,
            .help = "Dirty bitmaps to offer as meta contexts"),
    ROW_OPT(struct nbd_export_options, "allocation-depth", allocation_depth, row_bool,
            .help = "Offer the meta context qemu:allocation-depth; default: no"),
    ROW_END,
};

ROW_STRUCT_TYPE(row_nbd_export_options, "BlockExportOptionsNbd", struct nbd_export_options,
                nbd_export_rows, .help = "Options of an NBD export");

#define SERVER_ROWS(address_type)                                                                  \
    ROW_OPT(struct nbd_server_options, "id", id, row_str, .since = "0.1",                          \
            .help = "A name, for servers beside the default one"),                                 \
        { .name = "addr",                                                                          \
          .type = &address_type,                                                                   \
          .required = true,                                                                        \
          .offset = offsetof(struct nbd_server_options, addr),                                     \
          .help = "Where to listen" },                                                             \
        ROW_OPT(struct nbd_server_options, "handshake-max-seconds", handshake_max_seconds,         \
                row_uint32, .fallback = "10",                                                      \
                .help = "A client must have negotiated within this time; 0: no limit"),            \
        ROW_OPT(struct nbd_server_options, "max-connections", max_connections, row_uint32,         \
                .fallback = "100", .help = "Clients at one time; 0: no limit"),                    \
        ROW_OPT(struct nbd_server_options, "tls-creds", tls_creds, row_str,                        \
                .help = "The TLS credentials; clients must use TLS then"),                         \
        ROW_OPT(struct nbd_server_options, "tls-authz", tls_authz, row_str,                        \
                .help = "The authorization object that a client's certificate is shown to")

static const struct row server_rows[] = { SERVER_ROWS(row_socket_address), ROW_END };
static const struct row server_rows_legacy[] = { SERVER_ROWS(row_socket_address_legacy), ROW_END };

ROW_STRUCT_TYPE(row_nbd_server_options, "NbdServerOptions", struct nbd_server_options, server_rows,
                .help = "An NBD server");
ROW_STRUCT_TYPE(row_nbd_server_options_legacy, "NbdServerOptionsLegacy", struct nbd_server_options,
                server_rows_legacy, .help = "An NBD server");

/* ---- servers ---- */

static struct nbd_server *server_find(const char *id)
{
    struct nbd_server *s;

    list_for_each (s, &servers, link)
        if (id ? s->id && strcmp(s->id, id) == 0 : !s->id)
            return s;
    return NULL;
}

void nbd_servers_hold(bool hold)
{
    struct nbd_server *s;

    held = hold;
    list_for_each (s, &servers, link)
        co_cond_wake_all(&s->changed);
}

/* One that exports may be added to, and that may be stopped. */
static struct nbd_server *server_find_running(const char *id)
{
    struct nbd_server *s = server_find(id);

    return s && !s->starting && !s->stopping ? s : NULL;
}

bool nbd_server_running(const char *id)
{
    return server_find_running(id) != NULL;
}

static void server_free(struct nbd_server *s)
{
    for (struct list *l; (l = list_pop_front(&s->listeners));) {
        struct nbd_listener *listener = container_of(l, struct nbd_listener, link);
        close(listener->fd);
        free(listener);
    }
    if (s->said && s->said->addr.u)
        address_unlink(&s->said->addr);
    list_remove(&s->link);
    if (s->tls_creds)
        object_unuse(s->tls_creds);
    if (s->tls_authz)
        object_unuse(s->tls_authz);
    if (s->said)
        row_release(&row_nbd_server_options, s->said);
    free(s->said);
    free(s->id);
    free(s);
}

/* Find what its options name, and keep it from going. */
static int use_tls(struct nbd_server *s, const struct nbd_server_options *o, struct err *err)
{
    if (o->tls_authz && !o->tls_creds)
        return err_set(err, -EINVAL, "NBD server: 'tls-authz' needs 'tls-creds' as well");
    if (o->tls_creds && !(s->tls_creds = tls_creds_find(o->tls_creds, true, err)))
        return err->code;
    if (o->tls_authz && !(s->tls_authz = authz_find(o->tls_authz, err))) {
        s->tls_creds = NULL;
        return err->code;
    }
    if (s->tls_creds)
        object_use(s->tls_creds);
    if (s->tls_authz)
        object_use(s->tls_authz);
    return 0;
}

/* A server that is known but does not listen yet. */
static struct nbd_server *server_new(const struct nbd_server_options *o, struct err *err)
{
    struct nbd_server *s;

    if (server_find(o->id)) {
        if (o->id)
            err_set(err, -EBUSY, "NBD server '%s' already running", o->id);
        else
            err_set(err, -EBUSY, "NBD server already running");
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (s)
        s->said = calloc(1, sizeof(*s->said));
    if (!s || !s->said || row_copy(&row_nbd_server_options, o, s->said) < 0 ||
        address_make_absolute(&s->said->addr) < 0 || (o->id && !(s->id = strdup(o->id)))) {
        if (s && s->said)
            row_release(&row_nbd_server_options, s->said);
        if (s)
            free(s->said);
        free(s);
        err_set(err, -ENOMEM, "NBD server: out of memory");
        return NULL;
    }
    s->starting = true;
    list_init(&s->listeners);
    list_init(&s->connections);
    list_push_back(&servers, &s->link);
    co_cond_init(&s->changed);
    if (use_tls(s, o, err) < 0) {
        row_release(&row_nbd_server_options, s->said); /* not ours to unlink */
        server_free(s);
        return NULL;
    }
    return s;
}

/* ---- connections ---- */

static void connection_left(struct nbd_connection *c)
{
    struct nbd_server *s = c->server;

    if (c->export) {
        struct nbd_export *x = c->export->state;
        x->connection_count--;
        co_cond_wake_all(&x->changed);
    }
    s->connection_count--;
    co_cond_wake_all(&s->changed);
}

static void co_fn negotiate(void *arg)
{
    struct nbd_connection *c = arg;

    if (nbd_negotiate(c) < 0 || c->cut_off)
        nbd_connection_free(c);
    else
        nbd_connection_start(c);
}

static void connection_new(struct nbd_server *s, int fd)
{
    struct nbd_connection *c = nbd_connection_new(fd, connection_left);

    if (!c) {
        close(fd);
        return;
    }
    c->server = s;
    list_push_back(&s->connections, &c->link);
    s->connection_count++;
    if (co_start(negotiate, c, "nbd negotiation") < 0) {
        list_remove(&c->link);
        s->connection_count--;
        close(fd);
        free(c);
    }
}

static void co_fn accept_loop(void *arg)
{
    enum { PAUSE = 100 * 1000 * 1000 }; /* ns, after a failure that may pass */
    struct nbd_listener *l = arg;
    struct nbd_server *s = l->server;
    unsigned max = s->said->max_connections;
    bool said = false; /* once for all failures without a success in between */

    co_deadline_exempt(true);
    while (!s->stopping) {
        int fd;

        if (held || (max && s->connection_count >= max)) {
            co_cond_wait(&s->changed, NULL);
            continue;
        }
        fd = co_accept(l->fd, FOREVER);
        if (fd >= 0) {
            connection_new(s, fd);
            said = false;
        } else if (!s->stopping && fd != -ECONNABORTED && fd != -EINTR && fd != -ECANCELED) {
            if (!said)
                log_warning("nbd: cannot accept a client: %s", strerror(-fd));
            said = true;
            co_sleep(PAUSE);
        }
    }
    l->accepting = NULL;
    s->accept_loops--;
    co_cond_wake_all(&s->changed);
}

static void co_fn begin_accepting(void *arg)
{
    ((struct nbd_listener *)arg)->accepting = co_self();
    accept_loop(arg);
}

static int server_listen(struct nbd_server *s, int *fds, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        struct nbd_listener *l = calloc(1, sizeof(*l));

        if (!l)
            return err_set(err, -ENOMEM, "NBD server: out of memory");
        l->server = s;
        l->fd = take_fd(&fds[i]);
        list_push_back(&s->listeners, &l->link);
        if (co_start(begin_accepting, l, "nbd accept") < 0)
            return err_set(err, -ENOMEM, "NBD server: out of memory");
        s->accept_loops++;
    }
    return 0;
}

static bool is_export_of(const struct export *x, const struct nbd_server *s)
{
    return x->driver == &export_nbd && ((struct nbd_export *)x->state)->server == s;
}

/* An export of this server, or NULL. */
static struct export *export_of(const struct nbd_server *s)
{
    for (struct export *x = export_first(); x; x = export_next(x))
        if (is_export_of(x, s))
            return x;
    return NULL;
}

static void co_fn server_stop(struct nbd_server *s)
{
    struct nbd_listener *l;
    struct nbd_connection *c;
    struct export *x;

    s->stopping = true;
    list_for_each (l, &s->listeners, link)
        if (l->accepting)
            co_cancel(l->accepting);
    co_cond_wake_all(&s->changed);
    list_for_each (c, &s->connections, link)
        nbd_connection_kill(c);
    while ((x = export_of(s)))
        export_del_wait(x);
    while (s->connection_count || s->accept_loops)
        co_cond_wait(&s->changed, NULL);
    server_free(s);
}

static int co_fn server_run(struct nbd_server *s, int *fds, unsigned count, struct err *err)
{
    if (server_listen(s, fds, count, err) == 0)
        return 0;
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    server_stop(s);
    return err->code;
}

struct listen_call {
    const struct nbd_server_options *o;
    int (*resolve_fd)(const char *name, void *arg);
    void *arg;
    int fds[ADDRESSES_MAX];
    unsigned count;
    struct err *err;
};

static int listen_on_worker(void *arg)
{
    struct listen_call *call = arg;
    return address_listen(&call->o->addr, call->resolve_fd, call->arg, call->fds, &call->count,
                          call->err);
}

/* Nobody can do anything with a server that has no exports, so it may be there before its record is. */
static int co_fn record_start(struct nbd_server *s, struct err *err)
{
    struct edit *edit = edit_begin("nbd-server-start");
    const struct edit_change change = { .kind = EDIT_SERVER_ADDED,
                                        .name = s->id,
                                        .type = &row_nbd_server_options,
                                        .options = s->said };

    if (edit_note(edit, &change, err) == 0)
        return edit_commit(edit, err);
    edit_abort(edit);
    return err->code;
}

static int co_fn start_new(struct nbd_server *s, const struct nbd_server_options *o,
                           int (*resolve_fd)(const char *name, void *arg), void *arg,
                           struct err *err)
{
    struct listen_call call = { o, resolve_fd, arg, { 0 }, ADDRESSES_MAX, err };
    /* A passed descriptor is looked up in the monitor's list, which belongs to this thread. */
    int result =
        o->addr.type == ADDRESS_FD ? listen_on_worker(&call) : ring_block(listen_on_worker, &call);

    if (result < 0) {
        row_release(&row_nbd_server_options, s->said); /* not ours to unlink */
        server_free(s);
        return result;
    }
    if (server_run(s, call.fds, call.count, err) < 0)
        return err->code;
    if (record_start(s, err) == 0 && s->stopping)
        err_set(err, -ESHUTDOWN, "NBD server: the daemon stops");
    s->starting = false;
    if (err->code)
        server_stop(s);
    return err->code;
}

int co_fn nbd_server_start(const struct nbd_server_options *o,
                           int (*resolve_fd)(const char *name, void *arg), void *arg,
                           struct err *err)
{
    struct nbd_server *s = server_new(o, err);

    if (s)
        start_new(s, o, resolve_fd, arg, err);
    co_cond_wake_all(&started);
    return err->code;
}

int co_fn nbd_server_adopt(const struct nbd_server_options *o, const int *fds, unsigned count,
                           struct err *err)
{
    struct nbd_server *s = count <= ADDRESSES_MAX ? server_new(o, err) : NULL;
    int copy[ADDRESSES_MAX];

    if (count > ADDRESSES_MAX)
        err_set(err, -E2BIG, "NBD server: more than %d passed sockets", ADDRESSES_MAX);
    if (!s)
        return err->code;
    memcpy(copy, fds, count * sizeof(*fds));
    s->starting = false;
    return server_run(s, copy, count, err);
}

/* A server goes with its exports. */
static int note_stop(struct edit *edit, const struct nbd_server *s, struct err *err)
{
    struct edit_change change = { .kind = EDIT_EXPORT_REMOVED };

    for (struct export *x = export_first(); x && !err->code; x = export_next(x)) {
        change.name = x->id;
        if (is_export_of(x, s) && !x->shutting_down)
            edit_note(edit, &change, err);
    }
    change = (struct edit_change){ .kind = EDIT_SERVER_REMOVED, .name = s->id };
    return err->code ? err->code : edit_note(edit, &change, err);
}

int co_fn nbd_server_stop(const char *id, struct err *err)
{
    struct edit *edit = edit_begin("nbd-server-stop");
    struct nbd_server *s = server_find_running(id);

    if (!s)
        err_set(err, -ENOENT, "NBD server not running");
    else
        note_stop(edit, s, err);
    if (err->code) {
        edit_abort(edit);
        return err->code;
    }
    if (edit_commit(edit, err) < 0)
        return err->code;
    s = server_find_running(id); /* the whole daemon may have begun to stop meanwhile */
    if (s)
        server_stop(s);
    return 0;
}

/* @text with all but unreserved characters and @keep as %XX; malloc'd. */
static char *percent_encode(const char *text, const char *keep)
{
    char *out = malloc(3 * strlen(text) + 1), *p = out;

    for (; out && *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text) || strchr(keep, *text))
            *p++ = *text;
        else
            p += sprintf(p, "%%%02X", (unsigned char)*text);
    }
    if (out)
        *p = '\0';
    return out;
}

/* The path of a unix socket as clients elsewhere can use it; malloc'd. */
static char *socket_path(const char *path)
{
    autofree char *folder = *path == '/' ? NULL : getcwd(NULL, 0);
    char *whole = NULL;

    if (!folder)
        return strdup(path);
    return asprintf(&whole, "%s/%s", folder, path) < 0 ? NULL : whole;
}

/* "+unix:///NAME?socket=PATH", "://HOST:PORT/NAME", "+vsock://CID:PORT/NAME" of an address's @text, or NULL. */
static char *uri_tail(const char *text, const char *name)
{
    autofree char *path = NULL, *where = NULL;
    char *tail = NULL;
    int n = -1;

    if (strncmp(text, "unix:", 5) == 0) {
        path = text[5] && text[5] != '@' ? socket_path(text + 5) : NULL;
        where = path ? percent_encode(path, "/") : NULL;
        n = where ? asprintf(&tail, "+unix:///%s?socket=%s", name, where) : -1;
    } else if (strncmp(text, "vsock:", 6) == 0) {
        n = asprintf(&tail, "+vsock://%s/%s", text + 6, name);
    } else {
        n = asprintf(&tail, "://%s/%s", text, name);
    }
    return n < 0 ? NULL : tail;
}

static char *server_uri(struct nbd_server *s, const char *export_name)
{
    autofree char *name = percent_encode(export_name, "/"), *text = NULL, *tail = NULL;
    struct nbd_listener *l;
    char *uri = NULL;

    if (!name || list_empty(&s->listeners))
        return NULL;
    l = container_of(s->listeners.next, struct nbd_listener, link);
    text = s->said->addr.type == ADDRESS_UNIX ? address_text(&s->said->addr)
                                              : address_of_socket(l->fd, false);
    tail = text ? uri_tail(text, name) : NULL;
    return !tail || asprintf(&uri, "nbd%s%s", s->tls_creds ? "s" : "", tail) < 0 ? NULL : uri;
}

char *nbd_server_uri(const char *id, const char *export_name)
{
    struct nbd_server *s = server_find(id);

    return s ? server_uri(s, export_name) : NULL;
}

/* One that runs; one that is starting is told, and stops itself.  NULL: there is none. */
static struct nbd_server *next_to_stop(bool *some_start)
{
    struct nbd_server *s;

    *some_start = false;
    list_for_each (s, &servers, link) {
        if (!s->starting && !s->stopping)
            return s;
        s->stopping = true;
        *some_start = *some_start || s->starting;
    }
    return NULL;
}

void co_fn nbd_servers_stop_all(void)
{
    struct nbd_server *s;
    bool some_start;

    while ((s = next_to_stop(&some_start)) || some_start) {
        if (s)
            server_stop(s);
        else
            co_cond_wait(&started, NULL);
    }
}

/* ---- the export type ---- */

struct export *nbd_export_by_name(const char *server, const char *name)
{
    struct nbd_server *s = server_find(server);

    for (struct export *x = s ? export_first() : NULL; x; x = export_next(x)) {
        struct nbd_export *nx = x->state;
        if (is_export_of(x, s) && nx->name && strcmp(nx->name, name) == 0)
            return x;
    }
    return NULL;
}

static int check_export(const struct nbd_export_options *o, const char *name, struct err *err)
{
    if (!nbd_server_running(o->server))
        return o->server ? err_set(err, -ENOENT, "NBD server '%s' not running", o->server)
                         : err_set(err, -ENOENT, "NBD server not running");
    if (strlen(name) > NBD_STRING_MAX)
        return err_set(err, -EINVAL, "export name '%s' too long", name);
    if (o->description && strlen(o->description) > NBD_STRING_MAX)
        return err_set(err, -EINVAL, "description '%s' too long", o->description);
    if (nbd_export_by_name(o->server, name))
        return err_set(err, -EEXIST, "NBD server already has export named '%s'", name);
    if (o->bitmaps.n)
        return err_set(err, -ENOENT, "Bitmap '%s' is not found", ((char **)o->bitmaps.v)[0]);
    return 0;
}

static int co_fn start(struct export *x, const void *options, struct err *err)
{
    const struct nbd_export_options *o = options;
    const char *name = o->name ? o->name : x->said->node_name;
    struct nbd_export *nx = x->state;

    if (check_export(o, name, err) < 0)
        return err->code;
    if (x->said->iothread) {
        int ring = iothread_ring_index(x->said->iothread, err);
        if (ring < 0)
            return ring;
        nx->ring = (unsigned)ring;
    }
    nx->name = strdup(name);
    nx->description = o->description ? strdup(o->description) : NULL;
    if (!nx->name || (o->description && !nx->description)) {
        free(nx->name);
        free(nx->description);
        return err_set(err, -ENOMEM, "export '%s': out of memory", x->id);
    }
    co_cond_init(&nx->changed);
    nx->allocation_depth = o->allocation_depth;
    nx->server = server_find_running(o->server);
    return 0;
}

static bool in_use(struct export *x)
{
    return ((struct nbd_export *)x->state)->connection_count > 0;
}

static int describe(struct export *x, struct export_door *door)
{
    const struct nbd_export *nx = x->state;
    const char *server = nx->server->id;

    door->server = server ? strdup(server) : NULL;
    if (server && !door->server)
        return -ENOMEM;
    if (!nx->name) /* it has ended already */
        return 0;
    door->name = strdup(nx->name);
    door->uri = server_uri(nx->server, nx->name);
    return door->name ? 0 : -ENOMEM;
}

static void shut_down(struct export *x, bool hard)
{
    struct nbd_export *nx = x->state;
    struct nbd_connection *c;

    if (!hard)
        return;
    list_for_each (c, &nx->server->connections, link)
        if (c->export == x)
            nbd_connection_kill(c);
}

/* Nobody can find it any more; its server waits until it is gone altogether. */
static void co_fn stop(struct export *x)
{
    struct nbd_export *nx = x->state;

    while (nx->connection_count)
        co_cond_wait(&nx->changed, NULL);
    free(nx->name);
    free(nx->description);
    nx->name = nx->description = NULL;
}

const struct export_driver export_nbd = {
    .name = "nbd",
    .options = &row_nbd_export_options,
    .state_size = sizeof(struct nbd_export),
    .start = start,
    .in_use = in_use,
    .describe = describe,
    .on_read_error = ON_ERROR_REPORT,
    .on_write_error = ON_ERROR_REPORT,
    .shutdown = shut_down,
    .stop = stop,
};
