/* SPDX-License-Identifier: MIT */
/* A client of the QMP socket with plain blocking I/O. */
#ifndef TOOLS_CTL_CONNECTION_H
#define TOOLS_CTL_CONNECTION_H

#include <signal.h>

#include "base/json.h"

struct ctl_connection {
    int fd;
    int patience; /* ms to wait for what the server must send or take; -1: for ever */
    /* Set by a signal's handler: then waiting ends with -EINTR; NULL: signals do not end it.  That no signal
     * comes just before the wait they are blocked else, and only waiting_mask (NULL: as ever) lets them in. */
    const volatile sig_atomic_t *interrupted;
    const sigset_t *waiting_mask;
    char *address; /* owned; for messages */
    struct json_reader reader;
    char buf[16384];
    size_t at, len; /* what of buf is not consumed yet */
    int64_t last_id;
    /* Each event is handed over as it comes; NULL: dropped. */
    void (*on_event)(struct json_object *event, void *arg);
    void *arg;
};

/** ctl_connect - connect, take the greeting, negotiate
 * @socket: a path or HOST:PORT; NULL: where the daemon's plain form listens
 * @c: zeroed but for patience, on_event and arg; release with ctl_disconnect()
 * Uses SIGALRM and the real-time interval timer meanwhile.
 * Return: 0; -EINVAL: @socket is no address; another negative errno.
 */
int ctl_connect(const char *socket, struct ctl_connection *c, struct err *err);
void ctl_disconnect(struct ctl_connection *c);

/** ctl_read - the next message, whatever it is
 * @ms: how long to wait; -1: for ever
 * Return: 0 and a new reference; -ETIMEDOUT, after which reading may go on; -EINTR; another negative errno.
 */
int ctl_read(struct ctl_connection *c, int ms, struct json_object **out, struct err *err);

/** ctl_execute - run a command and wait for its reply
 * @arguments: stays the caller's; NULL: none
 * @result: a new reference (NULL for null), iff 0 is returned
 * Return: 0; -EREMOTEIO: the daemon said no, err has "CLASS: sentence"; another negative errno, never
 * -EINVAL: the connection failed.
 */
int ctl_execute(struct ctl_connection *c, const char *command, struct json_object *arguments,
                struct json_object **result, struct err *err);

#endif
