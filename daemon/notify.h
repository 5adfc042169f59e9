/* SPDX-License-Identifier: MIT */
/* What the daemon tells the service manager, and what it gets from it (sd_notify(3), sd_listen_fds(3)). */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/** notify_send - tell $NOTIFY_SOCKET, if there is one: "READY=1", "STOPPING=1" */
void notify_send(const char *state);

/** notify_listen_fds - sockets passed by socket activation: how many, from descriptor 3 on; they are marked
 * close-on-exec and the variables are removed
 */
unsigned notify_listen_fds(void);
enum { NOTIFY_LISTEN_FDS_START = 3 };

/** notify_inherited_fd - a copy of the descriptor with this number, which the daemon was started with
 * A callback of address_listen() and address_connect(); @arg is not used.
 * Return: the copy, close-on-exec; -1: no number, or not open.
 */
int notify_inherited_fd(const char *name, void *arg);

#endif
