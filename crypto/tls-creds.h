/* SPDX-License-Identifier: MIT */
/*
 * Objects of type tls-creds-x509, tls-creds-psk and tls-creds-anon: what one
 * end of a TLS connection shows and demands.  Everything is read and checked
 * when the object is made; files that change later change nothing.
 */
#ifndef CRYPTO_TLS_CREDS_H
#define CRYPTO_TLS_CREDS_H

#include <openssl/ssl.h>

#include "crypto/object.h"

extern const struct object_type object_tls_creds_x509, object_tls_creds_psk, object_tls_creds_anon;

/** tls_creds_find - the credentials @id, for object_use(); control ring
 * @server: they must be those of a server's end, else of a client's.
 * NULL: there are none, it is another kind of object, or for the other end.
 */
struct object *tls_creds_find(const char *id, bool server, struct err *err);

/** tls_creds_context - OpenSSL's context of credentials; it lives as long as the object does */
SSL_CTX *tls_creds_context(const struct object *creds);

/** tls_creds_server - are they those of a server's end? */
bool tls_creds_server(const struct object *creds);

/** tls_set_error - "CONTEXT: what OpenSSL says last"; empties this thread's queue of OpenSSL errors
 * Return: @code.
 */
int tls_set_error(struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
