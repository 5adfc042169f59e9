/* SPDX-License-Identifier: MIT */
/* The drive under host_cdrom: is a disc in, tray out and in, door locked. */
#ifndef DRIVERS_FILE_MEDIUM_H
#define DRIVERS_FILE_MEDIUM_H

#include "drivers/file.h"

/* What is asked of a drive; all block, take its descriptor and return a negative errno on failure. */
struct medium_calls {
    int (*present)(int fd); /* 1; 0: none in.  A device without a tray always has its medium in. */
    int (*eject)(int fd, bool out);
    int (*lock)(int fd, bool locked);
};

/* By the ioctls of Linux's CD-ROM layer. */
extern const struct medium_calls medium_calls_cdrom;

bool co_fn file_medium_present(struct node *n);
int co_fn file_medium_eject(struct node *n, bool out, struct err *err);
int co_fn file_medium_lock(struct node *n, bool locked, struct err *err);

#endif
