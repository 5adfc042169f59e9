/* SPDX-License-Identifier: MIT */
/* Speaking QMP: messages in and out, replies told from events. */
#include "tools/ctl-connection.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/runtime.h"

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* When waiting for @ms ends. */
static int64_t end_of(int ms)
{
    return ms < 0 ? -1 : now_ms() + ms;
}

/* @end: of waiting, by now_ms(); -1: never. */
static int wait_for(struct ctl_connection *c, short what, int64_t end, struct err *err)
{
    struct pollfd p = { .fd = c->fd, .events = what };
    int r;

    do {
        int64_t left = end < 0 || end < now_ms() ? 0 : end - now_ms();
        struct timespec t = { left / 1000, left % 1000 * 1000000 };

        r = ppoll(&p, 1, end < 0 ? NULL : &t, c->waiting_mask);
    } while (r < 0 && errno == EINTR && !(c->interrupted && *c->interrupted));
    if (r > 0)
        return 0;
    if (r == 0)
        return err_set(err, -ETIMEDOUT, "%s does not answer", c->address);
    return err_set_errno(err, -errno, "waiting for %s", c->address);
}

static int hung_up(struct ctl_connection *c, struct err *err)
{
    return err_set(err, -ECONNRESET, "%s hung up; did ringblkd end?", c->address);
}

static int fill(struct ctl_connection *c, int64_t end, struct err *err)
{
    ssize_t n;
    int r = wait_for(c, POLLIN, end, err);

    if (r < 0)
        return r;
    n = recv(c->fd, c->buf, sizeof(c->buf), 0);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return hung_up(c, err);
    if (n < 0)
        return err_set_errno(err, -errno, "cannot read from %s", c->address);
    c->at = 0;
    c->len = (size_t)n;
    return 0;
}

static int read_until(struct ctl_connection *c, int64_t end, struct json_object **out,
                      struct err *err)
{
    int r = 0;

    while (r == 0) {
        size_t used;

        if (c->at == c->len && (r = fill(c, end, err)) < 0)
            return r;
        r = json_reader_feed(&c->reader, c->buf + c->at, c->len - c->at, &used, out, err);
        c->at += used;
    }
    if (r < 0) {
        err_prefix(err, "%s does not speak QMP", c->address);
        return err->code = -EPROTO;
    }
    if (json_object_is_type(*out, json_type_object))
        return 0;
    json_object_put(*out);
    return err_set(err, -EPROTO, "%s does not speak QMP: it sent no object", c->address);
}

int ctl_read(struct ctl_connection *c, int ms, struct json_object **out, struct err *err)
{
    return read_until(c, end_of(ms), out, err);
}

static int write_text(struct ctl_connection *c, const char *text, struct err *err)
{
    int64_t end = end_of(c->patience);

    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = send(c->fd, text, left, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            int r = wait_for(c, POLLOUT, end, err);

            if (r < 0)
                return r;
            continue;
        }
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return hung_up(c, err);
        if (n < 0)
            return err_set_errno(err, -errno, "cannot write to %s", c->address);
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static const char *text_of(struct json_object *o, const char *name)
{
    struct json_object *v;

    return json_object_object_get_ex(o, name, &v) && v ? json_object_get_string(v) : "?";
}

/* 1: @message (the caller's) was the reply to @id; 0: something else. */
static int take_reply(struct ctl_connection *c, struct json_object *message, int64_t id,
                      struct json_object **result, struct err *err)
{
    struct json_object *v;

    if (json_object_object_get_ex(message, "event", NULL)) {
        if (c->on_event)
            c->on_event(message, c->arg);
        return 0;
    }
    if (json_object_object_get_ex(message, "id", &v) && json_object_get_int64(v) != id)
        return 0; /* to a command that was given up */
    if (json_object_object_get_ex(message, "return", &v)) {
        *result = json_object_get(v);
        return 1;
    }
    if (json_object_object_get_ex(message, "error", &v) && json_object_is_type(v, json_type_object))
        return err_set(err, -EREMOTEIO, "%s: %s", text_of(v, "class"), text_of(v, "desc"));
    return err_set(err, -EPROTO, "%s does not speak QMP: neither a reply nor an event came",
                   c->address);
}

int ctl_execute(struct ctl_connection *c, const char *command, struct json_object *arguments,
                struct json_object **result, struct err *err)
{
    struct json_object *request = json_object_new_object();
    autofree char *text = NULL, *line = NULL;
    int64_t id = ++c->last_id, end = end_of(c->patience);
    int r;

    json_object_object_add(request, "execute", json_object_new_string(command));
    if (arguments)
        json_object_object_add(request, "arguments", json_object_get(arguments));
    json_object_object_add(request, "id", json_object_new_int64(id));
    text = json_text(request);
    json_object_put(request);
    if (!text || asprintf(&line, "%s\n", text) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    for (r = write_text(c, line, err); r == 0;) {
        struct json_object *message;

        r = read_until(c, end, &message, err);
        if (r < 0)
            break;
        r = take_reply(c, message, id, result, err);
        json_object_put(message);
    }
    return r < 0 ? r : 0;
}

static int greet(struct ctl_connection *c, struct err *err)
{
    struct json_object *message, *result;
    int r = ctl_read(c, c->patience, &message, err);
    bool greeting;

    if (r < 0)
        return r;
    greeting = json_object_object_get_ex(message, "QMP", NULL);
    json_object_put(message);
    if (!greeting)
        return err_set(err, -EPROTO, "%s does not speak QMP: no greeting came", c->address);
    r = ctl_execute(c, "qmp_capabilities", NULL, &result, err);
    if (r == 0)
        json_object_put(result);
    return r;
}

/* ---- connecting ---- */

static void on_alarm(int signal)
{
    (void)signal; /* connect() is interrupted, that is all */
}

/* address_connect() blocks: let a signal end it after c->patience, again and again for each address it tries. */
static void set_alarm(const struct ctl_connection *c, bool on)
{
    int ms = on && c->patience >= 0 ? c->patience + 1 : 0;
    struct itimerval t = { .it_value = { ms / 1000, ms % 1000 * 1000 },
                           .it_interval = { 0, ms ? 100000 : 0 } };
    struct sigaction a = { .sa_handler = ms ? on_alarm : SIG_DFL };

    setitimer(ITIMER_REAL, &t, NULL);
    sigaction(SIGALRM, &a, NULL);
}

static int cannot_connect(const struct ctl_connection *c, int code, bool said, struct err *err)
{
    const char *where = said ? "" : " (--socket or $RINGBLK_SOCKET says where)";

    switch (code) {
    case -EINTR:
        return err_set(err, -ETIMEDOUT, "%s does not answer: it takes no connection", c->address);
    case -ENOENT:
    case -ECONNREFUSED:
        return err_set(err, code, "cannot connect to %s: %s; is ringblkd running?%s", c->address,
                       strerror(-code), where);
    case -EACCES:
    case -EPERM:
        return err_set(err, code,
                       "cannot connect to %s: %s; only the user who started ringblkd may",
                       c->address, strerror(-code));
    default: return err_set_errno(err, code, "cannot connect to %s", c->address);
    }
}

int ctl_connect(const char *socket, struct ctl_connection *c, struct err *err)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    const char *variable = getenv(RUNTIME_QMP_VARIABLE);
    autoerr why = { 0 };
    int r;

    c->fd = -1;
    if (runtime_address(socket, RUNTIME_QMP_VARIABLE, RUNTIME_QMP_FILE, false, &a, err) < 0)
        return err->code = -EINVAL;
    c->address = address_text(&a.address);
    if (!c->address)
        return err_set(err, -ENOMEM, "out of memory");
    set_alarm(c, true);
    c->fd = address_connect(&a.address, NULL, NULL, &why);
    set_alarm(c, false);
    if (c->fd < 0)
        return cannot_connect(c, why.code, socket || (variable && *variable), err);
    r = greet(c, err);
    if (r < 0)
        ctl_disconnect(c);
    return r;
}

void ctl_disconnect(struct ctl_connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    json_reader_free(&c->reader);
    free(c->address);
    c->address = NULL;
}
