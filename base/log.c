/* SPDX-License-Identifier: MIT */
/*
 * The log.  A message is one write to stderr, so lines of several threads do
 * not mix.  A daemon may serve the very disk that its log goes to: where
 * stderr is a pipe or a socket that takes nothing now, the line is dropped and
 * counted instead of waited for, and the next line that gets through is
 * preceded by the count.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* A write of this many bytes to a pipe that polls writable does not block. */
enum { LINE_MAX_BYTES = PIPE_BUF };

static const char *program = "ringblk";
static bool to_journal;
static atomic_int threshold = LOG_LEVEL_INFO;
static atomic_uint lost;

static const char *const level_names[] = { "error", "warning", "info", "debug" };
static const char journal_levels[] = { '3', '4', '6', '7' }; /* syslog's numbers */

void log_init(const char *name)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    program = name;
    to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                 !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* Write a line without ever waiting for its reader; false when it was dropped. */
static bool put_line(const char *line, size_t len)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    ssize_t r;

    if (poll(&p, 1, 0) == 0 || (p.revents & POLLERR))
        return false; /* full, or nobody reads any more */
    do {
        r = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (r < 0 && errno == ENOTSOCK)
            r = write(STDERR_FILENO, line, len);
    } while (r < 0 && errno == EINTR);
    return r == (ssize_t)len;
}

/* What stands in front of a message; @buf has LINE_MAX_BYTES. */
static size_t put_head(char *buf, enum log_level level)
{
    int n = to_journal ? snprintf(buf, LINE_MAX_BYTES, "<%c>", journal_levels[level])
                       : snprintf(buf, LINE_MAX_BYTES / 2, "%s: %s: ", program, level_names[level]);

    return n < LINE_MAX_BYTES / 2 ? (size_t)n : LINE_MAX_BYTES / 2 - 1;
}

/* End a line of @len bytes: names come from clients, so control characters become '?'. */
static size_t finish_line(char *buf, size_t len)
{
    if (len > LINE_MAX_BYTES - 1) {
        len = LINE_MAX_BYTES - 1;
        memcpy(buf + len - 3, "...", 3);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)buf[i] < 0x20 || buf[i] == 0x7f)
            buf[i] = '?';
    }
    buf[len] = '\n';
    return len + 1;
}

static void report_lost(char *buf)
{
    unsigned n = atomic_exchange(&lost, 0);

    if (!n)
        return;
    size_t len = put_head(buf, LOG_LEVEL_WARNING);
    len += (size_t)snprintf(buf + len, LINE_MAX_BYTES - len, "%u messages were lost", n);
    if (!put_line(buf, finish_line(buf, len)))
        atomic_fetch_add(&lost, n);
}

void log_message(enum log_level level, const char *fmt, ...)
{
    int saved_errno = errno;
    char buf[LINE_MAX_BYTES];
    va_list ap;

    if (!log_enabled(level))
        return;
    report_lost(buf);
    size_t len = put_head(buf, level);
    va_start(ap, fmt);
    errno = saved_errno; /* for %m */
    int n = vsnprintf(buf + len, sizeof buf - len, fmt, ap);
    va_end(ap);
    if (n > 0)
        len += (size_t)n;
    if (!put_line(buf, finish_line(buf, len)))
        atomic_fetch_add(&lost, 1);
    errno = saved_errno;
}
