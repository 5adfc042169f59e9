/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that a client passed: those that wait for the command that asks
 * for one, and those that getfd gave a name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "qmp/monitor-private.h"

struct named_fd {
    struct list link;
    int fd;
    char name[];
};

/* The oldest @n descriptors go unused. */
static void drop_fds(struct monitor *m, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        close(m->fds[i].fd);
    m->fd_count -= n;
    memmove(m->fds, m->fds + n, m->fd_count * sizeof(m->fds[0]));
}

void monitor_keep_fds(struct monitor *m, struct msghdr *msg)
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

void monitor_close_fds(struct monitor *m)
{
    struct list *l;

    drop_fds(m, m->fd_count);
    while ((l = list_pop_front(&m->named_fds))) {
        struct named_fd *f = container_of(l, struct named_fd, link);
        close(f->fd);
        free(f);
    }
}
