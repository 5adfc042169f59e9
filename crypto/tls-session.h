/* SPDX-License-Identifier: MIT */
/*
 * One end of a TLS connection, without the connection: who owns it carries
 * bytes between it and a socket.  It never waits and knows no rings; one
 * thread at a time may use it.
 */
#ifndef CRYPTO_TLS_SESSION_H
#define CRYPTO_TLS_SESSION_H

#include <stddef.h>
#include <sys/types.h>

#include "crypto/object.h"

struct tls_session;

/** tls_session_new - with these credentials, which must outlive it; NULL: out of memory */
struct tls_session *tls_session_new(const struct object *creds, struct err *err);
void tls_session_free(struct tls_session *s);

/** tls_session_handshake - go on with it; costs up to some ms of CPU
 * Bytes for the peer may be there afterwards, whatever the result.
 * Return: 0: done; -EAGAIN: bytes of the peer are needed; -EPROTO: failed.
 */
int tls_session_handshake(struct tls_session *s, struct err *err);

/** tls_session_feed - bytes that came from the peer; all are taken; 0 or -ENOMEM */
int tls_session_feed(struct tls_session *s, const void *p, size_t len);

/** tls_session_take - bytes to be sent to the peer; returns how many, at most @room */
size_t tls_session_take(struct tls_session *s, void *p, size_t room);

/** tls_session_read - what the peer said, decrypted
 * Return: bytes; 0: the peer has closed; -EAGAIN: bytes of the peer are needed; -EPROTO.
 */
ssize_t tls_session_read(struct tls_session *s, void *p, size_t room);

/** tls_session_may_read - are there bytes of the peer that have not been read? */
bool tls_session_may_read(const struct tls_session *s);

/** tls_session_write - say all of it to the peer; 0, -EPROTO */
int tls_session_write(struct tls_session *s, const void *p, size_t len);

/** tls_session_close - tell the peer that nothing more will come */
void tls_session_close(struct tls_session *s);

/** tls_session_peer - the distinguished name in the peer's certificate: parts and escapes as RFC 4514 has
 * them, but in the certificate's order ("C=GB,O=Example,CN=alice"), as QEMU has it
 * malloc'd; NULL: it has shown none, or out of memory.
 */
char *tls_session_peer(const struct tls_session *s);

#endif
