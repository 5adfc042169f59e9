/* SPDX-License-Identifier: MIT */
/*
 * A monitor: a client of the control channel, from its first line to its end.
 *
 * One coroutine reads, for as long as the client may send.  What it reads
 * waits in a queue that one coroutine at a time works off in order; commands
 * out of band get a coroutine each and overtake the queue.  Replies and events
 * go out at once if the kernel takes them; what it does not take waits in a
 * list that a coroutine sends.  The last coroutine to end closes the
 * descriptors.  So a client that only stops sending (half-close) still gets
 * all of its replies.
 *
 * A client that does not read is not read from either (the brake), and is cut
 * off once events have piled up past a limit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "block/fdset.h"
#include "qmp/monitor-private.h"
#include "uring/await.h"
#include "uring/ring.h"

static struct list monitors = LIST_INIT(monitors);
static unsigned monitor_count;
static bool closing;
static bool refusing;
static struct co_cond one_less = CO_COND_INIT(one_less);

/* ---- life ---- */

static void monitor_free(struct monitor *m)
{
    list_remove(&m->link);
    monitor_count--;
    monitor_drop_output(m);
    json_reader_free(&m->json);
    monitor_close_fds(m);
    close(m->in);
    if (m->out != m->in)
        close(m->out);
    fdset_client_left();
    if (m->ended)
        m->ended(m->ended_arg);
    free(m);
    co_cond_wake_all(&one_less);
}

void monitor_put(struct monitor *m)
{
    if (!--m->uses)
        monitor_free(m);
}

void monitor_cut_off(struct monitor *m, const char *why)
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

bool monitor_stopped(const struct monitor *m)
{
    return m->dead || closing;
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
        if (co_start(monitor_reader, m, "QMP client: receiving") == 0) {
            m->ended = ended;
            m->ended_arg = arg;
            return 0;
        }
        monitor_put(m);
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
            monitor_cut_off(m, "it was yanked");
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
        monitor_cut_off(m, NULL);
    }
    while (monitor_count)
        co_cond_wait(&one_less, NULL);
    closing = refusing = false;
}

void monitors_refuse(void)
{
    refusing = true;
}

bool monitor_refuses(const struct qmp_command *c)
{
    return refusing && !(c->flags & (QMP_ALLOW_OOB | QMP_NEGOTIATION | QMP_WHILE_STOPPING));
}

void monitors_broadcast(struct json_object *value)
{
    struct monitor *m, *next;
    list_for_each_safe (m, next, &monitors, link) {
        if (m->negotiated && !m->eof)
            monitor_emit(m, value);
    }
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
