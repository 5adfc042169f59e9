/* SPDX-License-Identifier: MIT */
/*
 * The pidfile is locked as long as the daemon lives, so that a second one that
 * is given the same file is refused, and it is there only while everything is
 * up.
 */
#include "daemon/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

static int ready_pipe = -1; /* the child's end */
static int pidfile_fd = -1;
static char *pidfile_path;

/* The parent: wait for one byte (ready), or for the end of the child, which has said why unless it could not. */
static void __attribute__((noreturn)) wait_for_child(int fd, pid_t pid)
{
    char byte;
    ssize_t n;
    int status = 0;

    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(EXIT_SUCCESS);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        log_error("the daemon was killed by signal %d before it was up", WTERMSIG(status));
    else if (WEXITSTATUS(status) == EXIT_SUCCESS)
        log_error("the daemon was told to stop before it was up");
    _exit(EXIT_FAILURE);
}

int background_fork(struct err *err)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set_errno(err, -errno, "--daemonize");
    pid = fork();
    if (pid < 0)
        return err_set_errno(err, -errno, "--daemonize");
    if (pid > 0) {
        close(ends[1]);
        wait_for_child(ends[0], pid);
    }
    close(ends[0]);
    ready_pipe = ends[1];
    setsid();
    umask(027);
    return 0;
}

/* Is it what the path names?  A daemon that ends removes its file and then lets go of the lock. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, named;

    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

/* Return: the pidfile, open and locked. */
static int lock_pidfile(const char *path, struct err *err)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    for (;;) {
        autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

        if (fd < 0)
            return err_set_errno(err, -errno, "cannot create the pidfile '%s'", path);
        if (fcntl(fd, F_SETLK, &lock) < 0)
            return err_set_errno(err, -errno, "the pidfile '%s' is another daemon's", path);
        if (still_there(fd, path))
            return take_fd(&fd);
    }
}

static int write_pidfile(const char *path, struct err *err)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    pidfile_fd = lock_pidfile(path, err);
    if (pidfile_fd < 0)
        return err->code;
    pidfile_path = realpath(path, NULL);
    /* What can't be made shorter is no file and stays; what we could not fill is removed at the end. */
    if (ftruncate(pidfile_fd, 0) < 0) {
        free(take_ptr(&pidfile_path));
        return err_set_errno(err, -errno, "cannot write the pidfile '%s'", path);
    }
    if (write(pidfile_fd, text, (size_t)n) != n)
        return err_set_errno(err, -errno, "cannot write the pidfile '%s'", path);
    return 0;
}

/* A daemon keeps no terminal and no folder busy. */
static int let_parent_go(struct err *err)
{
    autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
        return err_set_errno(err, -errno, "--daemonize");
    if (write(ready_pipe, "", 1) != 1)
        return err_set_errno(err, -errno, "--daemonize");
    close(ready_pipe);
    ready_pipe = -1;
    return 0;
}

int background_ready(const char *pidfile, struct err *err)
{
    if (pidfile && write_pidfile(pidfile, err) < 0)
        return err->code;
    return ready_pipe >= 0 ? let_parent_go(err) : 0;
}

void background_remove_pidfile(void)
{
    if (pidfile_fd < 0)
        return;
    if (pidfile_path)
        unlink(pidfile_path);
    close(pidfile_fd);
    pidfile_fd = -1;
    free(take_ptr(&pidfile_path));
}
