/* SPDX-License-Identifier: MIT */
/*
 * Any bytes into a QMP monitor with all commands, over a socket: no crash, no
 * leak; each request gets one reply, in order, with its id; whatever commands
 * have made can be taken apart again.  No file is opened and no address used:
 * there are null nodes (and raw over them), and servers listen elsewhere.
 *
 * Input: one byte that says how the client behaves, then what it sends.
 */
#include <json-c/json.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "block/iothread.h"
#include "block/root.h"
#include "exports/nbd.h"
#include "qmp/qmp.h"
#include "tests/fuzz/virtual-client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte. */
enum {
    STEP_MASK = 0x0f,   /* bytes are sent in pieces of this size; 0: at once */
    PRETTY = 1 << 4,    /* the monitor prints for people */
    NEGOTIATE = 1 << 5, /* qmp_capabilities comes first */
    LEAVE = 1 << 6,     /* hang up without waiting for replies */
};

extern const struct driver driver_null_co, driver_null_aio, driver_raw;
static const struct driver *const drivers[] = { &driver_null_co, &driver_null_aio, &driver_raw,
                                                NULL };
static const struct export_driver *const kinds[] = { &export_nbd, NULL };
static const struct object_type *const types[] = { &object_iothread, NULL };
static const struct event_type *const events[] = { &event_block_export_deleted, &event_shutdown,
                                                   NULL };
static unsigned coroutines;

/* ---- instead of base/address.c's (the linker sees to that) ---- */

int __wrap_address_listen(const struct socket_address *a,
                          int (*resolve_fd)(const char *name, void *arg), void *arg, int *fds,
                          unsigned *count, struct err *err);
void __wrap_address_unlink(const struct socket_address *a);

int __wrap_address_listen(const struct socket_address *a,
                          int (*resolve_fd)(const char *name, void *arg), void *arg, int *fds,
                          unsigned *count, struct err *err)
{
    const struct sockaddr_un any = { .sun_family = AF_UNIX }; /* the kernel makes a name up */
    int fd;

    if (a->type == ADDRESS_FD && resolve_fd(((struct fd_address *)a->u)->str, arg) >= 0)
        wrong("a descriptor that nobody has passed");
    if (a->type == ADDRESS_FD)
        return err_set(err, -ENOENT, "no such descriptor");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(sa_family_t)) < 0 ||
        listen(fd, 1) < 0)
        wrong("cannot listen: %s", strerror(errno));
    fds[0] = fd;
    *count = 1;
    return 0;
}

void __wrap_address_unlink(const struct socket_address *a)
{
    (void)a;
}

/* ---- what was asked ---- */

enum { REQUESTS_MAX = 8192 };

struct asked {
    char *id;     /* its text; NULL: none */
    bool invalid; /* no command can be meant: the reply must be an error */
    bool done;
};

static struct asked asked[REQUESTS_MAX];
static unsigned asked_count, reply_count;

static void note_request(struct json_object *value, bool invalid)
{
    struct asked *a;
    struct json_object *id, *name;

    if (asked_count == REQUESTS_MAX)
        return;
    a = &asked[asked_count++];
    *a = (struct asked){ .invalid = invalid || !json_object_is_type(value, json_type_object) };
    if (a->invalid)
        return;
    if (json_object_object_get_ex(value, "id", &id))
        a->id = json_text(id);
    a->invalid = !json_object_object_get_ex(value, "execute", &name) &&
                 !json_object_object_get_ex(value, "exec-oob", &name);
}

/* Values in what the client sends, or the server. */
static void each_value(const char *p, size_t length,
                       void (*fn)(struct json_object *value, bool invalid))
{
    struct json_reader r = { 0 };

    while (length) {
        struct json_object *value = NULL;
        autoerr err = { 0 };
        size_t used = 0;
        int result = json_reader_feed(&r, p, length, &used, &value, &err);

        if (result)
            fn(value, result < 0);
        json_object_put(value);
        p += used;
        length -= used;
    }
    json_reader_free(&r);
}

/* ---- what was answered ---- */

static bool known_class(const char *name)
{
    for (int i = ERR_GENERIC; i <= ERR_KVM_MISSING_CAP; i++)
        if (!strcmp(name, err_class_name((enum err_class)i)))
            return true;
    return false;
}

static void check_error(struct json_object *error)
{
    struct json_object *class, *desc;

    if (!json_object_is_type(error, json_type_object) || json_object_object_length(error) != 2 ||
        !json_object_object_get_ex(error, "class", &class) ||
        !json_object_object_get_ex(error, "desc", &desc) ||
        !json_object_is_type(class, json_type_string) ||
        !json_object_is_type(desc, json_type_string) || !json_object_get_string_len(desc))
        wrong("an error without class or sentence");
    if (!known_class(json_object_get_string(class)))
        wrong("an error of class '%s'", json_object_get_string(class));
}

/* The request that a reply is for: the oldest of that id. */
static struct asked *asked_with(const char *id)
{
    for (unsigned i = 0; i < asked_count; i++) {
        struct asked *a = &asked[i];
        if (!a->done && (id ? a->id && !strcmp(a->id, id) : !a->id))
            return a;
    }
    return NULL;
}

/* Was a request before it left without a reply?  Those out of band may be overtaken, and overtake. */
static bool out_of_order(const struct asked *a)
{
    for (const struct asked *b = asked; b < a; b++)
        if (!b->done)
            return true;
    return false;
}

static bool oob_possible;

static void check_value(struct json_object *value, bool invalid)
{
    struct json_object *id = NULL, *error = NULL;
    bool ok;

    if (invalid || !json_object_is_type(value, json_type_object))
        wrong("what the monitor says is no JSON object");
    if (!reply_count++) {
        if (!json_object_object_get_ex(value, "QMP", NULL))
            wrong("no greeting");
        return;
    }
    if (json_object_object_get_ex(value, "event", NULL)) {
        reply_count--;
        if (!json_object_object_get_ex(value, "timestamp", NULL))
            wrong("an event without a time");
        return;
    }
    ok = json_object_object_get_ex(value, "return", NULL);
    if (ok == json_object_object_get_ex(value, "error", &error))
        wrong("a reply is neither a result nor an error");
    if (!ok)
        check_error(error);
    bool has_id = json_object_object_get_ex(value, "id", &id);
    autofree char *text = has_id ? json_text(id) : NULL;
    struct asked *a = asked_with(text);
    if (!a)
        wrong("a reply with the id %s", text ? text : "(none)");
    if (a->invalid && ok)
        wrong("a success that nobody has asked for");
    if (!oob_possible && out_of_order(a))
        wrong("a reply out of order");
    a->done = true;
}

static void check_replies(const struct client *c, bool pretty)
{
    const char *got = (const char *)c->got;
    unsigned lines = 0, values = 0;

    for (size_t i = 0; i < c->got_length; i++) {
        if (got[i] == '\n' && (!i || got[i - 1] != '\r'))
            wrong("a line does not end with CR and LF");
        if (got[i] == '\n')
            lines++;
        else if (got[i] != '\r' && (got[i] < ' ' || got[i] > '~'))
            wrong("the monitor sends the byte %02x", (uint8_t)got[i]);
    }
    if (!c->got_length || got[c->got_length - 1] != '\n')
        wrong("the last line is not whole");
    reply_count = 0;
    each_value(got, c->got_length, check_value);
    for (values = 0; values < asked_count; values++)
        if (!asked[values].done)
            wrong("request %u got no reply", values);
    if (!pretty && lines < reply_count)
        wrong("%u values in %u lines", reply_count, lines);
}

static void forget_requests(void)
{
    for (unsigned i = 0; i < asked_count; i++)
        free(asked[i].id);
    asked_count = 0;
}

/* ---- one input ---- */

static void start(void)
{
    autoerr err = { 0 };

    log_set_level(LOG_LEVEL_ERROR);
    drivers_register(drivers);
    exports_register(kinds);
    objects_register(types);
    event_register(events);
    if (qmp_register_all(&err) < 0)
        wrong("%s", err.msg);
    virtual_rings_init(2);
    must_rest();
    coroutines = ring_started(0)->live;
}

/* What the commands have made goes, as when the daemon stops. */
static void co_fn take_apart(void *arg)
{
    (void)arg;
    exports_shutdown();
    nbd_servers_stop_all();
    blockdev_close_all();
    objects_del_all();
}

static void check_nothing_left(int descriptor)
{
    if (monitors_count())
        wrong("the monitor stays");
    in_coroutine(take_apart, NULL);
    if (node_first() || root_first() || export_first() || object_first())
        wrong("a node, an export or an object stays");
    if (ring_started(0)->live != coroutines)
        wrong("%u coroutines are left, not %u", ring_started(0)->live, coroutines);
    if (lowest_descriptor() != descriptor)
        wrong("a descriptor leaks");
}

static void connect_client(struct client *c, bool pretty)
{
    struct monitor_options options = { .pretty = pretty };
    autoerr err = { 0 };
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        wrong("cannot make a socket: %s", strerror(errno));
    c->fd = pair[0];
    c->got_length = 0;
    c->ended = c->hung_up = false;
    if (monitor_serve(pair[1], pair[1], &options, NULL, NULL, &err) < 0)
        wrong("%s", err.msg);
    client_run(c);
}

static void ask(struct client *c, const char *p, size_t length, size_t step)
{
    each_value(p, length, note_request);
    client_send(c, (const uint8_t *)p, length, step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] =
        "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n";
    static struct client c;

    if (!size)
        return 0;
    if (!this_ring)
        start();
    int descriptor = lowest_descriptor();
    bool pretty = data[0] & PRETTY;
    /* Without the word nobody has switched it on: it can't be spelled otherwise without a backslash. */
    oob_possible = data[0] & NEGOTIATE || memmem(data, size, "oob", 3) || memchr(data, '\\', size);
    connect_client(&c, pretty);
    if (data[0] & NEGOTIATE)
        ask(&c, hello, sizeof(hello) - 1, 0);
    ask(&c, (const char *)data + 1, size - 1, data[0] & STEP_MASK);
    if (data[0] & LEAVE)
        client_hang_up(&c);
    else
        client_finish(&c);
    must_rest();
    /* Commands may still run for a client that is gone. */
    for (unsigned i = 0; monitors_count() && i < 60; i++) {
        virtual_advance(1ULL << i);
        must_rest();
    }
    if (c.ended && asked_count < REQUESTS_MAX)
        check_replies(&c, pretty);
    forget_requests();
    check_nothing_left(descriptor);
    return 0;
}
