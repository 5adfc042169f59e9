/* SPDX-License-Identifier: MIT */
/*
 * TLS under an NBD connection.  The control ring does the handshake and talks
 * through it until the negotiation ends; then the data ring receives and sends
 * through it.  Nothing else about a connection changes.
 */
#ifndef EXPORTS_NBD_TLS_H
#define EXPORTS_NBD_TLS_H

#include "exports/nbd-connection.h"

/* ---- control ring ---- */

/** nbd_tls_accept - the handshake, and whether the client may come in; sets connection->tls
 * The credentials are the server's.  0, or a negative errno: close the connection.
 */
int co_fn nbd_tls_accept(struct nbd_connection *c, uint64_t deadline);

/** nbd_tls_send_all, nbd_tls_receive_all - as co_send_all() and co_recv_all() */
int co_fn nbd_tls_send_all(struct nbd_connection *c, const void *p, size_t len, uint64_t deadline);
int co_fn nbd_tls_receive_all(struct nbd_connection *c, void *p, size_t len, uint64_t deadline);

/** nbd_tls_free - fine without any */
void nbd_tls_free(struct nbd_connection *c);

/* ---- data ring ---- */

/** nbd_tls_receive - begin to receive up to @room bytes; nbd_received() tells how many came
 * connection->receive is in flight until then.
 */
void nbd_tls_receive(struct nbd_connection *c, uint8_t *p, size_t room);

/** nbd_tls_send - send what is queued; connection->send is in flight while some is left */
void nbd_tls_send(struct nbd_connection *c);

/** nbd_tls_close - tell the client that nothing more will come, if the socket takes that at once */
void nbd_tls_close(struct nbd_connection *c);

#endif
