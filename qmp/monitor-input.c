/* SPDX-License-Identifier: MIT */
/*
 * What a client sends: bytes are read, with the descriptors that come along,
 * and fed to the JSON reader, which finds where each value ends.  Nothing more
 * is read while too much waits to be run or sent.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "qmp/monitor-private.h"
#include "uring/await.h"

static bool must_wait(const struct monitor *m)
{
    return monitor_braked(m) || (!m->dead && (m->queued >= QUEUE_MAX || m->oob_running >= OOB_MAX ||
                                              m->queued_bytes > QUEUE_BYTES_MAX));
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
            monitor_keep_fds(m, &msg);
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
        if (monitor_stopped(m))
            return;
        int r = json_reader_feed(&m->json, p, len, &used, &value, &err);
        p += used;
        len -= used;
        m->fed += used;
        if (r != 0)
            monitor_new_request(m, value, &err);
    }
}

void monitor_reader(void *arg)
{
    struct monitor *m = arg;
    char buf[READ_BYTES];

    co_deadline_exempt(true);
    m->reader = co_self();
    monitor_greet(m);
    while (!monitor_stopped(m)) {
        while (must_wait(m))
            co_cond_wait(&m->moved, NULL);
        if (monitor_stopped(m))
            break;
        int n = receive(m, buf, sizeof(buf));
        if (n <= 0)
            break;
        feed(m, buf, (size_t)n);
    }
    m->reader = NULL;
    m->eof = true;
    monitor_put(m);
}
