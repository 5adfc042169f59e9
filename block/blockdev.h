/* SPDX-License-Identifier: MIT */
/*
 * Nodes that the monitor owns: what blockdev-add and blockdev-del do, and the
 * one place where a format may be guessed.  Control ring, in a coroutine.
 */
#ifndef BLOCK_BLOCKDEV_H
#define BLOCK_BLOCKDEV_H

#include "block/node.h"

/** blockdev_add - build a node, with its inline children, that stays until blockdev_del()
 * The options must have a node-name.  On failure nothing is left open.
 */
int co_fn blockdev_add(const struct blockdev_options *options, struct err *err);

/** blockdev_del - give the monitor's reference back; refused while anybody else uses the node
 * Inline children that nobody else uses are closed with it.
 */
int co_fn blockdev_del(const char *name, struct err *err);

/** blockdev_open_guessed - open a local file by its name, as a person types it
 * @format: the format's driver; NULL: guess it once, from the first 2 KiB.  What is guessed raw is
 * guarded: later writes may not make it look like another format.  A guess that this build has no
 * driver for is refused.
 * @out: the node, owned by the monitor, under a name of its own ("#block..." cannot be deleted by QMP,
 * so pass @node_name if it should be)
 */
int co_fn blockdev_open_guessed(const char *filename, const char *format, const char *node_name,
                                bool read_only, struct node **out, struct err *err);

/** blockdev_close_all - drop the monitor's references, newest first (the daemon stops); nodes that are
 * still used stay until their users go
 */
void co_fn blockdev_close_all(void);

#endif
