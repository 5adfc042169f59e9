/* SPDX-License-Identifier: MIT */
/*
 * The object type `iothread` of QEMU's command line: here it names a data
 * ring.  The first one made is ring 1, the next ring 2 and so on, round again
 * when there are more objects than rings.
 */
#ifndef BLOCK_IOTHREAD_H
#define BLOCK_IOTHREAD_H

#include "crypto/object.h"

extern const struct object_type object_iothread;

/** iothread_ring_index - the data ring (1 ..) that the iothread object @id stands for
 * Return: the index; -ENOENT with "iothread "x" not found".
 */
int iothread_ring_index(const char *id, struct err *err);

#endif
