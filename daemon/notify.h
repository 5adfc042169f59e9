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

/** notify_listen_name - the name ($LISTEN_FDNAMES) of socket @index of those, "" when it has none */
const char *notify_listen_name(unsigned index);

/** notify_forget - free the names */
void notify_forget(void);

/** notify_inherited_fd - a copy of the descriptor with this number, which the daemon was started with, or of
 * the first socket with this name that was passed by socket activation
 * A callback of address_listen() and address_connect(); @arg is not used.
 * Return: the copy, close-on-exec; -1: there is none.
 */
int notify_inherited_fd(const char *name, void *arg);

#endif
