/* SPDX-License-Identifier: MIT */
/*
 * Meta contexts in the NBD negotiation: what a client can ask block status
 * about.  base:allocation is always there; qemu:allocation-depth where the
 * export offers it.
 */
#include <errno.h>
#include <string.h>

#include "exports/nbd-hello.h"

static bool equals(const struct counted *q, const char *text)
{
    return q->length == strlen(text) && memcmp(q->text, text, q->length) == 0;
}

/* Add to @found what a query asks for; a name space alone ("base:") is a wildcard of LIST. */
static void match(const struct counted *q, bool list, const struct nbd_export *nx,
                  struct nbd_contexts *found)
{
    if (equals(q, "base:allocation") || (list && equals(q, "base:")))
        found->allocation = true;
    if (nx->allocation_depth &&
        (equals(q, "qemu:allocation-depth") || (list && equals(q, "qemu:"))))
        found->depth = true;
}

static int add_context(struct hello *h, uint32_t id, const char *name)
{
    struct {
        be32 id;
        char name[64];
    } __attribute__((packed)) data = { .id = put_be32(id) };
    size_t length = strlen(name);

    memcpy(data.name, name, length);
    return hello_reply(h, NBD_REP_META_CONTEXT, &data, (uint32_t)(sizeof(data.id) + length));
}

int hello_contexts(struct hello *h)
{
    bool list = h->option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_contexts found = { 0 };
    struct counted name, query;
    struct export *x;
    uint32_t at = 0, queries;
    be32 count;
    int result = 0;

    if (!list)
        h->contexts_chosen = false; /* also when this one fails */
    if (!h->structured && !h->extended)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "negotiate structured replies first");
    if (!hello_take_string(h, &at, &name) || h->length - at < sizeof(count))
        return hello_refuse(h, NBD_REP_ERR_INVALID, "malformed option");
    x = hello_export(h, &name);
    if (!x)
        return hello_refuse(h, NBD_REP_ERR_UNKNOWN, "no such export here");
    memcpy(&count, h->data + at, sizeof(count));
    at += sizeof(count);
    queries = get_be32(count);
    if (queries > NBD_QUERIES_MAX)
        return hello_refuse(h, NBD_REP_ERR_TOO_BIG, "too many queries");
    for (uint32_t i = 0; i < queries; i++) {
        if (!hello_take_string(h, &at, &query))
            return hello_refuse(h, NBD_REP_ERR_INVALID, "malformed query");
        match(&query, list, x->state, &found);
    }
    if (at != h->length)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "malformed option");
    if (list && !queries) { /* everything there is */
        found.allocation = true;
        found.depth = ((struct nbd_export *)x->state)->allocation_depth;
    }
    found.export_serial = x->serial;
    if (!list) {
        h->contexts = found;
        h->contexts_chosen = found.allocation || found.depth;
    }
    /* The id means nothing in the answer to LIST. */
    if (found.allocation)
        result = add_context(h, list ? 0 : NBD_CONTEXT_ALLOCATION, "base:allocation");
    if (result == 0 && found.depth)
        result = add_context(h, list ? 0 : NBD_CONTEXT_DEPTH, "qemu:allocation-depth");
    return result < 0 ? result : hello_reply(h, NBD_REP_ACK, NULL, 0);
}
