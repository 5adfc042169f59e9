/* SPDX-License-Identifier: MIT */
/*
 * What a client gets: sent at once as far as the kernel takes it, the rest in
 * a list that one coroutine sends.  Past a limit the client is cut off.
 */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "qmp/monitor-private.h"
#include "qmp/text.h"
#include "qmp/version.h"
#include "uring/await.h"

struct chunk {
    struct list link;
    size_t len, sent;
    char text[];
};

void monitor_drop_output(struct monitor *m)
{
    struct list *l;
    while ((l = list_pop_front(&m->output)))
        free(container_of(l, struct chunk, link));
    m->pending = 0;
}

/* What the kernel takes of it without waiting. */
static size_t send_now(struct monitor *m, const char *p, size_t len)
{
    size_t sent = 0;
    while (m->socket && sent < len) {
        ssize_t n = send(m->out, p + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            monitor_cut_off(m, NULL);
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
            monitor_cut_off(m, NULL);
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
        monitor_drop_output(m);
    monitor_put(m);
}

static void emit_text(struct monitor *m, const char *text, size_t len)
{
    if (m->dead)
        return;
    if (m->pending > m->options.output_limit) {
        monitor_cut_off(m, "it does not read what is sent to it");
        return;
    }
    size_t sent = list_empty(&m->output) ? send_now(m, text, len) : 0;
    if (sent == len || m->dead)
        return;

    struct chunk *c = malloc(sizeof(*c) + len - sent);
    if (!c) {
        monitor_cut_off(m, "out of memory");
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
        monitor_cut_off(m, "out of memory");
    }
}

void monitor_emit(struct monitor *m, struct json_object *value)
{
    size_t len;
    autofree char *text = qmp_text(value, m->options.pretty, &len);
    if (!text)
        monitor_cut_off(m, "out of memory");
    else
        emit_text(m, text, len);
}

void monitor_greet(struct monitor *m)
{
    struct json_object *out = json_object_new_object(), *qmp = json_object_new_object();
    struct json_object *capabilities = json_object_new_array();

    json_object_array_add(capabilities, json_object_new_string("oob"));
    json_object_object_add(qmp, "version", qmp_version());
    json_object_object_add(qmp, "capabilities", capabilities);
    json_object_object_add(out, "QMP", qmp);
    monitor_emit(m, out);
    json_object_put(out);
}
