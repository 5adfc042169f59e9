/* SPDX-License-Identifier: MIT */
/* Going to the background and the pidfile: how scripts learn that everything is up. */
#ifndef DAEMON_BACKGROUND_H
#define DAEMON_BACKGROUND_H

#include "base/err.h"

/** background_fork - before any thread: the parent stays until the child is ready or has failed, and exits
 * with its result; only the child returns
 */
int background_fork(struct err *err);

/** background_ready - everything is up: write the pidfile (NULL: none) and let the waiting parent go */
int background_ready(const char *pidfile, struct err *err);

/** background_remove_pidfile - when the daemon stops */
void background_remove_pidfile(void);

#endif
