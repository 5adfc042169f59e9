/* SPDX-License-Identifier: MIT */
/* Where the sockets of this user lie when nothing else is said: the daemon and the tools must agree. */
#ifndef BASE_RUNTIME_H
#define BASE_RUNTIME_H

#include "base/address.h"

/* What a user calls the QMP socket: this variable, else this file in the runtime folder. */
#define RUNTIME_QMP_VARIABLE "RINGBLK_SOCKET"
#define RUNTIME_QMP_FILE     "qmp.sock"

struct runtime_address {
    struct socket_address address;
    struct unix_address path;
    struct inet_address inet;
    char *text; /* owned; what the parts point into */
};

/** runtime_folder - "/run/ringblk" for root, else "$XDG_RUNTIME_DIR/ringblk"
 * @make: make it (0700) when it is missing
 * Return: malloc'd; NULL with err set.
 */
char *runtime_folder(bool make, struct err *err);

/** runtime_address - where to listen or connect
 * @said: "HOST:PORT", or a path (anything with a '/' or without ':'); NULL: the value of the environment's
 *        @variable (may be NULL), or when that is unset or empty, @file in the runtime folder
 * @make_folder: make the runtime folder when it is used and missing
 * @a: filled in; address points into it, so it must not be copied; release with runtime_address_done()
 * Return: 0; a negative errno.
 */
int runtime_address(const char *said, const char *variable, const char *file, bool make_folder,
                    struct runtime_address *a, struct err *err);

/** runtime_address_done - release; fine on a zeroed one */
void runtime_address_done(struct runtime_address *a);

#endif
