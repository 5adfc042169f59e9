/* SPDX-License-Identifier: MIT */
/*
 * ringblkd: start the rings, do what the command line says, serve until told
 * to stop, then take everything apart in order: clients first, images last.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "block/deadline.h"
#include "block/iothread.h"
#include "daemon/background.h"
#include "daemon/chardev.h"
#include "daemon/commandline.h"
#include "daemon/notify.h"
#include "exports/nbd.h"
#include "jobs/job.h"
#include "qmp/qmp.h"
#include "uring/await.h"
#include "uring/ring.h"

enum { LAST_REPLIES_NS = 2000000000 }; /* running commands get this long when the daemon stops */

struct daemon {
    struct command_line line;
    int signals; /* signalfd */
    int status;  /* of the process */
    bool starting, stopping;
    struct co *signal_watcher;
};

static struct daemon daemon_state;

/* What the command line is still at would be made while the rest is taken apart.  It may wait for a client. */
static void co_fn end_start_up(struct daemon *d)
{
    d->line.abandoned = true;
    while (d->starting) {
        monitor_sources_close();
        co_sleep(1000000);
    }
}

static void co_fn take_down(void)
{
    exports_shutdown();
    nbd_servers_stop_all();
    jobs_shutdown();
    blockdev_close_all();
}

/* Stop once, whoever asks first; a second signal while stopping changes nothing. */
static void co_fn stop_all(void *arg)
{
    struct daemon *d = arg;

    co_deadline_exempt(true);
    notify_send("STOPPING=1");
    end_start_up(d);
    monitor_sources_close();
    take_down();
    monitors_close(LAST_REPLIES_NS);
    take_down(); /* what commands that were under way have made meanwhile */
    qmp_events_stop();
    objects_del_all();
    chardev_forget_all();
    background_remove_pidfile();
    if (d->signal_watcher)
        co_cancel(d->signal_watcher);
    while (d->signal_watcher)
        co_sleep(1000000);
    ring_stop();
}

static void stop(struct daemon *d, enum shutdown_reason reason, int status)
{
    if (d->stopping)
        return;
    d->stopping = true;
    d->status = status;
    qmp_send_shutdown(reason);
    monitors_refuse();
    if (co_start(stop_all, d, "stopping") < 0)
        exit(EXIT_FAILURE);
}

static void quit_asked(void)
{
    stop(&daemon_state, SHUTDOWN_HOST_QMP_QUIT, EXIT_SUCCESS);
}

/* What hangs: who waits where, and for whom. */
static void dump(void)
{
    roots_dump();
    ring_dump();
}

static void co_fn watch_signals(void *arg)
{
    struct daemon *d = arg;
    struct signalfd_siginfo info;

    d->signal_watcher = co_self();
    co_deadline_exempt(true);
    while (co_poll(d->signals, POLLIN, FOREVER) >= 0) {
        while (read(d->signals, &info, sizeof(info)) == sizeof(info)) {
            if (info.ssi_signo == SIGUSR1)
                dump();
            else
                stop(d, SHUTDOWN_HOST_SIGNAL, EXIT_SUCCESS);
        }
    }
    d->signal_watcher = NULL;
}

static void co_fn start_up(void *arg)
{
    struct daemon *d = arg;
    autoerr err = { 0 };

    co_deadline_exempt(true);
    nbd_servers_hold(true);
    if (command_line_run(&d->line, &err) == 0 && !d->stopping)
        background_ready(d->line.pidfile, &err);
    d->starting = false;
    if (d->stopping)
        return;
    if (err.code) {
        log_error("%s", err.msg);
        stop(d, SHUTDOWN_HOST_ERROR, EXIT_FAILURE);
        return;
    }
    nbd_servers_hold(false);
    notify_send("READY=1");
}

/* Images and sockets must not get the numbers of standard streams that whoever started us has closed: the
 * log would be written into an image. */
static void fill_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        _exit(EXIT_FAILURE); /* nobody can be told */
    close(fd);
}

static void raise_limit(__rlimit_resource_t resource, const char *what)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(resource, &limit) < 0)
        log_warning("cannot raise the limit of %s: %s", what, strerror(errno));
}

/* As much as we may have: each client and image takes descriptors, each io_uring may take locked memory. */
static void raise_limits(void)
{
    enum { FEW_FILES = 1024 };
    struct rlimit limit;

    raise_limit(RLIMIT_NOFILE, "open files");
    raise_limit(RLIMIT_MEMLOCK, "locked memory");
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FEW_FILES)
        log_warning(
            "images and clients together may have %llu descriptors only: raise RLIMIT_NOFILE "
            "(ulimit -n, or LimitNOFILE= of the service)",
            (unsigned long long)limit.rlim_cur);
}

/* Block the signals that signalfd delivers, in all threads to come; a dead peer is an error, no signal. */
static int open_signals(struct err *err)
{
    sigset_t set;
    int fd;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of that file */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? err_set_errno(err, -errno, "cannot watch signals") : fd;
}

static int run(struct daemon *d, struct err *err)
{
    struct rings_config config = { .count = d->line.rings };

    d->signals = open_signals(err);
    if (d->signals < 0 || rings_init(&config, err) < 0)
        return err->code;
    qmp_set_quit(quit_asked);
    qmp_events_start();
    d->starting = true;
    if (co_start(watch_signals, d, "signals") < 0 || co_start(start_up, d, "command line") < 0)
        return err_set(err, -ENOMEM, "out of memory");
    ring_run();
    rings_exit();
    close(d->signals);
    return 0;
}

int main(int argc, char **argv)
{
    struct daemon *d = &daemon_state;
    autoerr err = { 0 };

    fill_standard_streams();
    log_init("ringblkd");
    qmp_register_types();
    if (qmp_register_all(&err) < 0 || command_line_parse(argc, argv, &d->line, &err) < 0) {
        log_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    log_set_level(d->line.log_level);
    d->line.listen_fds = notify_listen_fds(); /* meant for this process: before it forks */
    if (d->line.daemonize && background_fork(&err) < 0) {
        log_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    raise_limits();
    if (run(d, &err) < 0) {
        log_error("%s", err.msg);
        d->status = EXIT_FAILURE;
    }
    command_line_free(&d->line);
    notify_forget();
    qmp_unregister_all();
    return d->status;
}
