/* SPDX-License-Identifier: MIT */
/*
 * A client of the control channel.  On the control ring only.
 *
 * One coroutine reads, for as long as the client may send.  What it reads
 * waits in a queue that one coroutine at a time works off in order; commands
 * out of band get a coroutine each and overtake the queue.  Replies and events
 * go out at once if the kernel takes them; what it does not take waits in a
 * list that a coroutine sends.  Every such coroutine holds a use of the
 * monitor; the last one to end closes the descriptors.  So a client that only
 * stops sending (half-close) still gets all of its replies.
 *
 * A client that does not read is not read from either (the brake), and is cut
 * off once events have piled up past a limit.
 */
#include "qmp/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "block/fdset.h"
#include "qmp/text.h"
#include "qmp/version.h"
#include "uring/await.h"
#include "uring/ring.h"
#include "uring/sync.h"

enum {
    READ_BYTES = 16 << 10,
    QUEUE_MAX = 8,             /* requests that wait */
    QUEUE_BYTES_MAX = 1 << 20, /* their text, together, past which no more is read */
    BRAKE_BYTES = 1 << 20,     /* output waiting, past which no more is read or run */
    OUTPUT_LIMIT = 16 << 20,   /* output waiting, past which the client is cut off */
    OOB_MAX = 8,               /* commands out of band at a time */
    FDS_MAX = 16,              /* descriptors that wait for a command */
};

struct request {
    struct list link;
    struct monitor *m;
    struct json_object *value; /* what came, whole; NULL: a JSON null, or text that was none */
    struct err err;            /* it could not even be read */
    size_t bytes;
    unsigned turn; /* of the read that made it whole */
};

/* A descriptor that came along with bytes of a read: it is for the first command that ends in this
 * read or a later one and asks for one. */
struct passed_fd {
    int fd;
    unsigned turn;
};

struct chunk {
    struct list link;
    size_t len, sent;
    char text[];
};

struct named_fd {
    struct list link;
    int fd;
    char name[];
};

struct monitor {
    struct list link; /* of all monitors */
    int in, out;
    bool socket;
    struct monitor_options options;
    void (*ended)(void *arg);
    void *ended_arg;

    unsigned uses; /* coroutines that still need this */
    bool negotiated, oob;
    bool eof;  /* nothing more will be read */
    bool dead; /* cut off: nothing more will be sent either */
    struct co *reader, *writer;

    struct json_reader json;
    size_t fed;                    /* bytes of the value being read */
    struct passed_fd fds[FDS_MAX]; /* oldest first */
    unsigned fd_count, turn;

    struct list queue; /* struct request, in band */
    unsigned queued, oob_running;
    size_t queued_bytes;
    bool running;            /* a coroutine works the queue off */
    struct request *current; /* while a command has not yielded yet: what it was asked by */
    struct co_cond moved;    /* the queue or the output got shorter, or the client is dead */

    struct list output; /* struct chunk */
    size_t pending;     /* bytes in it */

    struct list named_fds;
};

static struct list monitors = LIST_INIT(monitors);
static unsigned monitor_count;
static bool closing;
static struct co_cond one_less = CO_COND_INIT(one_less);

/* ---- life ---- */

/* The oldest @n descriptors go unused. */
static void drop_fds(struct monitor *m, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        close(m->fds[i].fd);
    m->fd_count -= n;
    memmove(m->fds, m->fds + n, m->fd_count * sizeof(m->fds[0]));
}

static void request_free(struct request *q)
{
    json_object_put(q->value);
    err_clear(&q->err);
    free(q);
}

static void drop_output(struct monitor *m)
{
    struct list *l;
    while ((l = list_pop_front(&m->output)))
        free(container_of(l, struct chunk, link));
    m->pending = 0;
}

static void monitor_free(struct monitor *m)
{
    struct list *l;

    list_remove(&m->link);
    monitor_count--;
    drop_output(m);
    json_reader_free(&m->json);
    drop_fds(m, m->fd_count);
    while ((l = list_pop_front(&m->named_fds))) {
        struct named_fd *f = container_of(l, struct named_fd, link);
        close(f->fd);
        free(f);
    }
    close(m->in);
    if (m->out != m->in)
        close(m->out);
    fdset_client_left();
    if (m->ended)
        m->ended(m->ended_arg);
    free(m);
    co_cond_wake_all(&one_less);
}

static void put(struct monitor *m)
{
    if (!--m->uses)
        monitor_free(m);
}

/* No more in or out of it; its coroutines notice and end. */
static void cut_off(struct monitor *m, const char *why)
{
    if (m->dead)
        return;
    if (why)
        log_warning("QMP client on descriptor %d is cut off: %s", m->in, why);
    m->dead = true;
    if (m->socket) {
        shutdown(m->in, SHUT_RDWR);
        shutdown(m->out, SHUT_RDWR);
    } else {
        if (m->reader)
            co_cancel(m->reader);
        if (m->writer)
            co_cancel(m->writer);
    }
    co_cond_wake_all(&m->moved);
}

/* ---- output ---- */

/* What the kernel takes of it without waiting. */
static size_t send_now(struct monitor *m, const char *p, size_t len)
{
    size_t sent = 0;
    while (m->socket && sent < len) {
        ssize_t n = send(m->out, p + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            cut_off(m, NULL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    return sent;
}

static int co_fn send_some(struct monitor *m, const char *p, size_t len)
{
    for (;;) {
        int r = m->socket ? co_send(m->out, p, len, MSG_NOSIGNAL, FOREVER)
                          : co_write(m->out, p, (unsigned)len, UINT64_MAX, 0);
        if (r != -EAGAIN && r != -EINTR)
            return r;
        if (m->dead)
            return -EPIPE;
        r = co_poll(m->out, POLLOUT, FOREVER);
        if (r < 0)
            return r;
    }
}

static void writer(void *arg)
{
    struct monitor *m = arg;

    co_deadline_exempt(true);
    m->writer = co_self();
    while (!m->dead && !list_empty(&m->output)) {
        struct chunk *c = container_of(m->output.next, struct chunk, link);
        size_t part = c->len - c->sent < READ_BYTES * 4 ? c->len - c->sent : READ_BYTES * 4;
        int r = send_some(m, c->text + c->sent, part);
        if (r <= 0) {
            cut_off(m, NULL);
            break;
        }
        c->sent += (size_t)r;
        m->pending -= (size_t)r;
        if (c->sent == c->len) {
            list_remove(&c->link);
            free(c);
        }
        co_cond_wake_all(&m->moved);
    }
    m->writer = NULL;
    if (m->dead)
        drop_output(m);
    put(m);
}

static void emit_text(struct monitor *m, const char *text, size_t len)
{
    if (m->dead)
        return;
    if (m->pending > m->options.output_limit) {
        cut_off(m, "it does not read what is sent to it");
        return;
    }
    size_t sent = list_empty(&m->output) ? send_now(m, text, len) : 0;
    if (sent == len || m->dead)
        return;

    struct chunk *c = malloc(sizeof(*c) + len - sent);
    if (!c) {
        cut_off(m, "out of memory");
        return;
    }
    c->len = len - sent;
    c->sent = 0;
    memcpy(c->text, text + sent, c->len);
    list_push_back(&m->output, &c->link);
    m->pending += c->len;
    if (m->writer)
        return;
    m->uses++;
    if (co_enter(writer, m, "QMP client: sending") < 0) {
        m->uses--;
        cut_off(m, "out of memory");
    }
}

static void emit(struct monitor *m, struct json_object *value)
{
    size_t len;
    autofree char *text = qmp_text(value, m->options.pretty, &len);
    if (!text)
        cut_off(m, "out of memory");
    else
        emit_text(m, text, len);
}

void monitors_broadcast(struct json_object *value)
{
    struct monitor *m, *next;
    list_for_each_safe (m, next, &monitors, link) {
        if (m->negotiated && !m->eof)
            emit(m, value);
    }
}

static struct json_object *error_object(const struct err *err)
{
    struct json_object *error = json_object_new_object();
    json_object_object_add(error, "class", json_object_new_string(err_class_name(err->class)));
    json_object_object_add(error, "desc", json_object_new_string(err->msg ? err->msg : ""));
    return error;
}

/* Takes @result over; it is a reply iff @err is unset. */
static void reply(struct monitor *m, struct json_object *value, struct json_object *result,
                  const struct err *err)
{
    struct json_object *out = json_object_new_object(), *id;
    if (err->code)
        json_object_object_add(out, "error", error_object(err));
    else
        json_object_object_add(out, "return", result);
    if (json_object_is_type(value, json_type_object) && json_object_object_get_ex(value, "id", &id))
        json_object_object_add(out, "id", json_object_get(id));
    emit(m, out);
    json_object_put(out);
}

static void greet(struct monitor *m)
{
    struct json_object *out = json_object_new_object(), *qmp = json_object_new_object();
    struct json_object *capabilities = json_object_new_array();

    json_object_array_add(capabilities, json_object_new_string("oob"));
    json_object_object_add(qmp, "version", qmp_version());
    json_object_object_add(qmp, "capabilities", capabilities);
    json_object_object_add(out, "QMP", qmp);
    emit(m, out);
    json_object_put(out);
}

/* ---- requests ---- */

/* What a request says. */
struct said {
    const char *name, *key; /* the command; "execute" or "exec-oob" */
    struct json_object *args;
};

static int check_request(const struct monitor *m, struct json_object *value, struct said *said,
                         struct err *err)
{
    memset(said, 0, sizeof(*said));
    if (!json_object_is_type(value, json_type_object))
        return err_set(err, -EINVAL, "QMP input must be a JSON object");
    json_object_object_foreach(value, key, member)
    {
        if (!strcmp(key, "execute") || (m->oob && !strcmp(key, "exec-oob"))) {
            if (!json_object_is_type(member, json_type_string))
                return err_set(err, -EINVAL, "QMP input member '%s' must be a string", key);
            if (said->key)
                return err_set(err, -EINVAL, "QMP input member '%s' clashes with '%s'", key,
                               said->key);
            said->key = key;
            said->name = json_object_get_string(member);
        } else if (!strcmp(key, "arguments")) {
            if (!json_object_is_type(member, json_type_object))
                return err_set(err, -EINVAL, "QMP input member '%s' must be an object", key);
            said->args = member;
        } else if (strcmp(key, "id")) {
            return err_set(err, -EINVAL, "QMP input member '%s' is unexpected", key);
        }
    }
    if (!said->key)
        return err_set(err, -EINVAL, "QMP input lacks member 'execute'");
    return 0;
}

static int find_command(const struct monitor *m, const struct said *said,
                        const struct qmp_command **out, struct err *err)
{
    const struct qmp_command *c = qmp_find(said->name);

    if (!m->negotiated && (!c || !(c->flags & QMP_NEGOTIATION)))
        return err_set_class(err, ERR_COMMAND_NOT_FOUND, -ENOENT,
                             "Expecting capabilities negotiation with 'qmp_capabilities'");
    if (!c)
        return err_set_class(err, ERR_COMMAND_NOT_FOUND, -ENOENT,
                             "The command %s has not been found", said->name);
    if (!strcmp(said->key, "exec-oob") && !(c->flags & QMP_ALLOW_OOB))
        return err_set(err, -EINVAL, "The command %s does not support OOB", said->name);
    *out = c;
    return 0;
}

static void co_fn carry_out(struct request *q)
{
    struct monitor *m = q->m;
    const struct qmp_command *c = NULL;
    struct json_object *result = NULL;
    struct said said;
    autoerr err = { 0 };

    if (q->err.code)
        err_move(&err, &q->err);
    else if (check_request(m, q->value, &said, &err) == 0)
        find_command(m, &said, &c, &err);
    if (c) {
        co_set_label(c->name);
        m->current = q;
        qmp_execute(c, m, said.args, &result, &err);
        m->current = NULL;
        co_set_label("QMP client");
    }
    reply(m, q->value, result, &err);
}

static bool braked(const struct monitor *m)
{
    return !m->dead && m->pending > BRAKE_BYTES;
}

static void runner(void *arg)
{
    struct monitor *m = arg;
    struct list *l;

    while ((l = list_pop_front(&m->queue))) {
        struct request *q = container_of(l, struct request, link);
        while (braked(m)) {
            co_deadline_exempt(true);
            co_cond_wait(&m->moved, NULL);
        }
        co_deadline_exempt(false);
        if (!m->dead)
            carry_out(q);
        m->queued--;
        m->queued_bytes -= q->bytes;
        request_free(q);
        co_cond_wake_all(&m->moved);
        co_pause(); /* let other clients have their turn */
    }
    m->running = false;
    put(m);
}

static void run_oob(void *arg)
{
    struct request *q = arg;
    struct monitor *m = q->m;

    carry_out(q);
    request_free(q);
    m->oob_running--;
    co_cond_wake_all(&m->moved);
    put(m);
}

static bool is_oob(const struct monitor *m, struct json_object *value)
{
    return m->oob && json_object_is_type(value, json_type_object) &&
           json_object_object_get_ex(value, "exec-oob", NULL) &&
           !json_object_object_get_ex(value, "execute", NULL);
}

static void take_request(struct monitor *m, struct request *q)
{
    bool oob = is_oob(m, q->value);
    m->uses++;
    if (oob) {
        m->oob_running++;
        if (co_enter(run_oob, q, "QMP command out of band") == 0)
            return;
        m->oob_running--;
    } else {
        list_push_back(&m->queue, &q->link);
        m->queued++;
        m->queued_bytes += q->bytes;
        if (m->running) {
            m->uses--;
            return;
        }
        m->running = true;
        if (co_enter(runner, m, "QMP client") == 0)
            return;
        m->running = false;
        list_remove(&q->link);
        m->queued--;
        m->queued_bytes -= q->bytes;
    }
    m->uses--;
    request_free(q);
    cut_off(m, "out of memory");
}

/* A value is whole, or can't be one: it is answered in its turn. */
static void new_request(struct monitor *m, struct json_object *value, struct err *err)
{
    struct request *q = calloc(1, sizeof(*q));
    if (!q) {
        json_object_put(value);
        cut_off(m, "out of memory");
        return;
    }
    q->m = m;
    q->value = value;
    if (err->code)
        err_move(&q->err, err);
    q->bytes = m->fed;
    m->fed = 0;
    q->turn = m->turn;
    take_request(m, q);
}

/* ---- input ---- */

static bool must_wait(const struct monitor *m)
{
    return !m->dead && (m->queued >= QUEUE_MAX || m->oob_running >= OOB_MAX ||
                        m->queued_bytes > QUEUE_BYTES_MAX || m->pending > BRAKE_BYTES);
}

static void keep_fds(struct monitor *m, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        /* What came before is stale, unless a command that waits may still ask for it. */
        if (!m->queued && !m->oob_running)
            drop_fds(m, m->fd_count);
        unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < n; i++) {
            struct passed_fd f = { .turn = m->turn };
            memcpy(&f.fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (m->fd_count == FDS_MAX)
                drop_fds(m, 1);
            m->fds[m->fd_count++] = f;
        }
    }
}

static int co_fn receive(struct monitor *m, char *buf, size_t len)
{
    char control[CMSG_SPACE(253 * sizeof(int))]; /* the most that the kernel passes */
    struct iovec iov = { buf, len };

    for (;;) {
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof(control) };
        int r = m->socket ? co_recvmsg(m->in, &msg, MSG_CMSG_CLOEXEC, FOREVER)
                          : co_read(m->in, buf, (unsigned)len, UINT64_MAX);
        m->turn++;
        if (r >= 0 && m->socket)
            keep_fds(m, &msg);
        if (r != -EAGAIN && r != -EINTR)
            return r;
        if (m->dead)
            return 0;
        r = co_poll(m->in, POLLIN, FOREVER);
        if (r < 0)
            return r;
    }
}

static void co_fn feed(struct monitor *m, const char *p, size_t len)
{
    while (len && !m->dead) {
        struct json_object *value = NULL;
        autoerr err = { 0 };
        size_t used = 0;

        while (must_wait(m))
            co_cond_wait(&m->moved, NULL);
        if (m->dead || closing)
            return;
        int r = json_reader_feed(&m->json, p, len, &used, &value, &err);
        p += used;
        len -= used;
        m->fed += used;
        if (r != 0)
            new_request(m, value, &err);
    }
}

static void reader(void *arg)
{
    struct monitor *m = arg;
    char buf[READ_BYTES];

    co_deadline_exempt(true);
    m->reader = co_self();
    greet(m);
    while (!m->dead && !closing) {
        while (must_wait(m))
            co_cond_wait(&m->moved, NULL);
        if (m->dead || closing)
            break;
        int n = receive(m, buf, sizeof(buf));
        if (n <= 0)
            break;
        feed(m, buf, (size_t)n);
    }
    m->reader = NULL;
    m->eof = true;
    put(m);
}

/* ---- doors ---- */

int monitor_serve(int in, int out, const struct monitor_options *options, void (*ended)(void *arg),
                  void *arg, struct err *err)
{
    struct stat a, b;
    struct monitor *m = closing ? NULL : calloc(1, sizeof(*m));

    if (m) {
        m->in = in;
        m->out = out;
        m->socket =
            fstat(in, &a) == 0 && fstat(out, &b) == 0 && S_ISSOCK(a.st_mode) && S_ISSOCK(b.st_mode);
        if (options)
            m->options = *options;
        if (!m->options.output_limit)
            m->options.output_limit = OUTPUT_LIMIT;
        list_init(&m->queue);
        list_init(&m->output);
        list_init(&m->named_fds);
        co_cond_init(&m->moved);
        m->uses = 1;
        list_push_back(&monitors, &m->link);
        monitor_count++;
        fdset_client_came();
        if (co_start(reader, m, "QMP client: receiving") == 0) {
            m->ended = ended;
            m->ended_arg = arg;
            return 0;
        }
        put(m);
    } else {
        close(in);
        if (out != in)
            close(out);
    }
    return err_set(err, closing ? -ESHUTDOWN : -ENOMEM, "Can't serve a QMP client: %s",
                   closing ? "shutting down" : "out of memory");
}

void monitors_yank(const char *chardev)
{
    struct monitor *m, *next;
    list_for_each_safe (m, next, &monitors, link) {
        if (m->options.chardev && strcmp(m->options.chardev, chardev) == 0)
            cut_off(m, "it was yanked");
    }
}

unsigned monitors_count(void)
{
    return monitor_count;
}

static bool settled(void)
{
    struct monitor *m;
    list_for_each (m, &monitors, link) {
        if (!m->dead && (m->running || m->oob_running || m->pending))
            return false;
    }
    return true;
}

void co_fn monitors_close(uint64_t ns)
{
    uint64_t deadline = ring_now() + ns;
    struct monitor *m, *next;

    closing = true;
    while (!settled() && ring_now() < deadline)
        co_sleep(1000000);
    list_for_each_safe (m, next, &monitors, link) {
        cut_off(m, NULL);
    }
    while (monitor_count)
        co_cond_wait(&one_less, NULL);
    closing = false;
}

int monitor_negotiate(struct monitor *m, bool oob, struct err *err)
{
    if (m->negotiated)
        return err_set_class(err, ERR_COMMAND_NOT_FOUND, -EALREADY,
                             "Capabilities negotiation is already complete, command ignored");
    m->negotiated = true;
    m->oob = oob;
    return 0;
}

/* ---- descriptors ---- */

int monitor_take_fd(struct monitor *m)
{
    struct request *q = m->current;
    unsigned end = 0, first;

    /* The latest that had come when this command was whole; its companions and elders go. */
    while (q && end < m->fd_count && m->fds[end].turn <= q->turn)
        end++;
    if (!end)
        return -1;
    for (first = end - 1; first && m->fds[first - 1].turn == m->fds[end - 1].turn; first--)
        ;
    int fd = m->fds[first].fd;
    memmove(m->fds + first, m->fds + first + 1, (--m->fd_count - first) * sizeof(m->fds[0]));
    drop_fds(m, end - 1);
    return fd;
}

static struct named_fd *find_named(struct monitor *m, const char *name)
{
    struct named_fd *f;
    list_for_each (f, &m->named_fds, link) {
        if (!strcmp(f->name, name))
            return f;
    }
    return NULL;
}

int monitor_named_fd(struct monitor *m, const char *name)
{
    struct named_fd *f = find_named(m, name);
    if (!f)
        return -1;
    int fd = f->fd;
    list_remove(&f->link);
    free(f);
    return fd;
}

int monitor_name_fd(struct monitor *m, const char *name, int fd, struct err *err)
{
    autoclose __attribute__((unused)) int old = monitor_named_fd(m, name); /* closed */
    struct named_fd *f = malloc(sizeof(*f) + strlen(name) + 1);
    if (!f) {
        close(fd);
        return err_set(err, -ENOMEM, "Out of memory");
    }
    f->fd = fd;
    strcpy(f->name, name);
    list_push_back(&m->named_fds, &f->link);
    return 0;
}

int monitor_resolve_fd(const char *name, void *arg)
{
    return arg ? monitor_named_fd(arg, name) : -1;
}
