/* SPDX-License-Identifier: MIT */
/* The service manager's two protocols; each is a few lines, so no library is needed for them. */
#include "daemon/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"

enum { LISTEN_FDS_MAX = 64 };

static char *listen_names; /* one after the other, each with its end */
static unsigned listen_count;

void notify_send(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    autoclose int fd = -1;

    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(a.sun_path))
        return;
    memcpy(a.sun_path, path, strlen(path));
    if (a.sun_path[0] == '@')
        a.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&a,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
        log_warning("cannot tell the service manager '%s': %s", state, strerror(errno));
}

/* $LISTEN_FDNAMES, cut at its colons, with empty names up to @count. */
static void keep_names(const char *text, unsigned count)
{
    size_t len = text ? strlen(text) : 0;

    listen_names = calloc(1, len + count + 1);
    if (!listen_names)
        return; /* then they have none */
    if (text)
        memcpy(listen_names, text, len);
    for (char *p = listen_names; (p = strchr(p, ':'));)
        *p++ = '\0';
    listen_count = count;
}

const char *notify_listen_name(unsigned index)
{
    const char *name = listen_names;

    if (index >= listen_count)
        return "";
    while (index--)
        name += strlen(name) + 1;
    return name;
}

void notify_forget(void)
{
    listen_count = 0;
    free(take_ptr(&listen_names));
}

unsigned notify_listen_fds(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    uint64_t for_whom = 0, count = 0;

    if (!pid || !fds || parse_u64(pid, &for_whom) < 0 || for_whom != (uint64_t)getpid() ||
        parse_u64(fds, &count) < 0 || count > LISTEN_FDS_MAX)
        count = 0;
    if (count)
        keep_names(getenv("LISTEN_FDNAMES"), (unsigned)count);
    for (unsigned i = 0; i < count; i++)
        (void)fcntl(NOTIFY_LISTEN_FDS_START + (int)i, F_SETFD, FD_CLOEXEC);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (unsigned)count;
}

int notify_inherited_fd(const char *name, void *arg)
{
    uint64_t fd;

    (void)arg;
    for (unsigned i = 0; *name && i < listen_count; i++)
        if (strcmp(notify_listen_name(i), name) == 0)
            return fcntl(NOTIFY_LISTEN_FDS_START + (int)i, F_DUPFD_CLOEXEC, 3);
    if (parse_u64(name, &fd) < 0 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0)
        return -1;
    return fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
}
