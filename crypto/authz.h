/* SPDX-License-Identifier: MIT */
/*
 * Objects of type authz-simple, authz-list and authz-listfile: who may use
 * what.  An identity is the text that authentication found out, for TLS the
 * certificate's distinguished name.  In doubt the answer is no.
 */
#ifndef CRYPTO_AUTHZ_H
#define CRYPTO_AUTHZ_H

#include "crypto/object.h"

extern const struct object_type object_authz_simple, object_authz_list, object_authz_listfile;

/** authz_check - may @identity in?
 * An authz-listfile with refresh=on is read on each check: call it through ring_block() on a ring.
 * @allowed: false too when an error is returned.
 * Any thread.  Return: 0; -ENOENT or -EINVAL when @id is no authz object, or what went wrong when its
 * file was read.
 */
int authz_check(const char *id, const char *identity, bool *allowed, struct err *err);

/** authz_find - the authz object @id of any of the types, for object_use(); control ring
 * NULL with the same errors.
 */
struct object *authz_find(const char *id, struct err *err);

#endif
