/* SPDX-License-Identifier: MIT */
/*
 * Sets of file descriptors that clients of the control channel handed over, and
 * the files /dev/fdset/N that stand for them.  Opening one duplicates the
 * descriptor of that set whose access mode is the one asked for, so a daemon
 * that may not open an image can still serve it.
 *
 * A set holds its own descriptors (the client may remove them) and counts the
 * duplicates in use.  A descriptor that was removed, or whose clients have all
 * left, is closed once no duplicate of its set is in use.  Any thread; closing a
 * file may block.
 *
 * A duplicate shares the open file: its O_DIRECT and O_NONBLOCK flags and its
 * locks are those of all other users of the same descriptor.
 */
#ifndef BLOCK_FDSET_H
#define BLOCK_FDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fdset_fd {
    int fd;       /* the number by which the client knows it */
    char *opaque; /* the client's note; NULL: none */
};

struct fdset_info {
    int64_t id;
    size_t count;
    struct fdset_fd *fds;
};

/** fdset_add - put @fd into set @id, which comes into being if it does not exist
 * @id: NULL: a new set with the lowest free number
 * @opaque: copied; may be NULL
 * @out: the set's number; the descriptor keeps its number
 * Takes @fd over in any case: on failure it is closed.
 */
int fdset_add(const int64_t *id, int fd, const char *opaque, int64_t *out, struct err *err);

/** fdset_remove - take one descriptor (@fd) or all (NULL) out of set @id; closed when nobody uses the set
 * Return: 0; -ENOENT when there is no such set or descriptor.
 */
int fdset_remove(int64_t id, const int64_t *fd, struct err *err);

/** fdset_query - all sets and their descriptors, by number; @out is to be freed with fdset_query_free() */
int fdset_query(struct fdset_info **out, size_t *count, struct err *err);
void fdset_query_free(struct fdset_info *sets, size_t count);

/** fdset_client_came / fdset_client_left - a control channel's client connects or leaves; when the last one
 * has left, descriptors of sets without users are closed
 */
void fdset_client_came(void);
void fdset_client_left(void);

/** fdset_is_path - does @path name a set ("/dev/fdset/N")? */
bool fdset_is_path(const char *path);

/** fdset_open - a descriptor for "/dev/fdset/N", close-on-exec
 * @flags: open(2) flags; the access mode must be the one of a descriptor in the set
 * Return: the new descriptor, for fdset_close(); -ENOENT: no such set; -EACCES: none of that mode;
 * -EINVAL: not such a path.  The sentence begins with "Could not open".
 */
int fdset_open(const char *path, int flags, struct err *err);

/** fdset_close - close a descriptor that may have come from fdset_open(); any other one is just closed */
void fdset_close(int fd);

#endif
