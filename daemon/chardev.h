/* SPDX-License-Identifier: MIT */
/*
 * --chardev and --monitor: where QMP clients come from.  A character device is
 * only a description until a monitor is put on it.
 */
#ifndef DAEMON_CHARDEV_H
#define DAEMON_CHARDEV_H

#include "base/row.h"
#include "uring/co.h"

extern const struct row_type row_chardev_options, row_monitor_options;

/** chardev_add - keep the description that --chardev @text gives */
int chardev_add(const char *text, struct err *err);

/** chardev_monitor - what --monitor @text says: speak QMP on a character device
 * Control ring, in a coroutine: with wait=on it waits for the first client.
 */
int co_fn chardev_monitor(const char *text, struct err *err);

/** chardev_forget_all - free the descriptions */
void chardev_forget_all(void);

#endif
