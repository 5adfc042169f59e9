/* SPDX-License-Identifier: MIT */
/* What the files of the NBD negotiation share (control ring only). */
#ifndef EXPORTS_NBD_HELLO_H
#define EXPORTS_NBD_HELLO_H

#include "exports/nbd-connection.h"

struct hello {
    struct nbd_connection *c;
    uint64_t deadline; /* ring_now() scale, for all of it */
    bool fixed, no_zeroes;
    bool structured, extended;
    bool contexts_chosen;
    struct nbd_contexts contexts;
    unsigned options; /* how many came */
    uint8_t *answer;  /* replies gathered for the option at hand; owned */
    size_t answer_length, answer_room;
    uint32_t option; /* the one at hand, its data and how long that is */
    uint32_t length;
    uint8_t data[NBD_OPTION_BYTES_MAX + 1];
};

/* nbd-wire.c: 0 or a negative errno */
int co_fn hello_send(struct hello *h, const void *p, size_t len);
int co_fn hello_receive(struct hello *h, void *p, size_t len);

/* nbd-hello.c */
/** hello_reply - add a reply to the answer to the option at hand; hello_flush() sends the whole answer
 * Does not yield, so an export that was looked up stays while it is described.  0 or -ENOMEM.
 */
int hello_reply(struct hello *h, uint32_t type, const void *data, uint32_t length);
/** hello_refuse - answer with an error and a sentence; same result */
int hello_refuse(struct hello *h, uint32_t type, const char *text);
int co_fn hello_flush(struct hello *h);
struct counted {
    const char *text; /* not ended by NUL */
    uint32_t length;
};
/** hello_take_string - read a counted string at *@at of the option's data; false: not there */
bool hello_take_string(const struct hello *h, uint32_t *at, struct counted *out);
/** hello_export - the export of that name on this server that takes new clients, or NULL */
struct export *hello_export(const struct hello *h, const struct counted *name);

/* nbd-contexts.c */
int hello_contexts(struct hello *h);

#endif
