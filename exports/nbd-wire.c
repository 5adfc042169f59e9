/* SPDX-License-Identifier: MIT */
/* The bytes of a negotiation: all of them, before the deadline. */
#include "exports/nbd-hello.h"
#include "exports/nbd-tls.h"
#include "uring/await.h"

int co_fn hello_send(struct hello *h, const void *p, size_t len)
{
    return h->c->tls ? nbd_tls_send_all(h->c, p, len, h->deadline)
                     : co_send_all(h->c->fd, p, len, h->deadline);
}

int co_fn hello_receive(struct hello *h, void *p, size_t len)
{
    if (h->c->tls)
        return nbd_tls_receive_all(h->c, p, len, h->deadline);
    return len ? co_recv_all(h->c->fd, p, len, h->deadline) : 0;
}
