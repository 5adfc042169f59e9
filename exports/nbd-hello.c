/* SPDX-License-Identifier: MIT */
/*
 * NBD negotiation, fixed newstyle: a coroutine per client on the control ring,
 * with a deadline for all of it.  Each option is read whole, then answered; a
 * refused option leaves the negotiation where it was.  Nothing is opened for a
 * client before it has chosen an export.
 */
#include "exports/nbd-hello.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/nbd-tls.h"
#include "uring/await.h"

enum { GO_ON = 0, BEGIN_TRANSMISSION = 1 }; /* what an option leads to; negative: close */

int hello_reply(struct hello *h, uint32_t type, const void *data, uint32_t length)
{
    struct nbd_option_reply_header header = {
        .magic = put_be64(NBD_OPTION_REPLY_MAGIC),
        .option = put_be32(h->option),
        .type = put_be32(type),
        .length = put_be32(length),
    };
    size_t whole = h->answer_length + sizeof(header) + length;

    if (whole > h->answer_room) {
        uint8_t *larger = realloc(h->answer, 2 * whole);
        if (!larger)
            return -ENOMEM;
        h->answer = larger;
        h->answer_room = 2 * whole;
    }
    memcpy(h->answer + h->answer_length, &header, sizeof(header));
    if (length)
        memcpy(h->answer + h->answer_length + sizeof(header), data, length);
    h->answer_length = whole;
    return 0;
}

int hello_refuse(struct hello *h, uint32_t type, const char *text)
{
    return hello_reply(h, type, text, (uint32_t)strlen(text));
}

int co_fn hello_flush(struct hello *h)
{
    size_t length = h->answer_length;

    h->answer_length = 0;
    return length ? hello_send(h, h->answer, length) : 0;
}

bool hello_take_string(const struct hello *h, uint32_t *at, struct counted *out)
{
    be32 length;

    if (h->length - *at < sizeof(length))
        return false;
    memcpy(&length, h->data + *at, sizeof(length));
    out->length = get_be32(length);
    if (out->length > NBD_STRING_MAX || out->length > h->length - *at - sizeof(length))
        return false;
    out->text = (const char *)h->data + *at + sizeof(length);
    *at += sizeof(length) + out->length;
    return true;
}

static bool is_ours(const struct hello *h, const struct export *x)
{
    return x->driver == &export_nbd && !x->shutting_down &&
           ((struct nbd_export *)x->state)->server == h->c->server;
}

struct export *hello_export(const struct hello *h, const struct counted *name)
{
    for (struct export *x = export_first(); x; x = export_next(x)) {
        const char *own = is_ours(h, x) ? ((struct nbd_export *)x->state)->name : NULL;
        if (own && strlen(own) == name->length && memcmp(own, name->text, name->length) == 0)
            return x;
    }
    return NULL;
}

/* ---- an export's figures ---- */

static uint16_t transmission_flags(const struct hello *h, const struct export *x)
{
    uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_SEND_CACHE | NBD_FLAG_CAN_MULTI_CONN;

    if (x->writable)
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    else
        flags |= NBD_FLAG_READ_ONLY;
    if (h->structured || h->extended)
        flags |= NBD_FLAG_SEND_DF;
    return flags;
}

static uint32_t minimum_block(const struct export *x)
{
    uint32_t alignment = root_node(x->root)->limits.alignment;
    return alignment ? alignment : 1;
}

static int add_info(struct hello *h, const struct export *x, bool name, bool description,
                    bool block_size)
{
    const struct nbd_export *nx = x->state;
    uint32_t minimum = minimum_block(x);
    struct nbd_info_export info = {
        .type = put_be16(NBD_INFO_EXPORT),
        .size = put_be64(node_size(root_node(x->root))),
        .flags = put_be16(transmission_flags(h, x)),
    };
    struct nbd_info_block_size sizes = {
        .type = put_be16(NBD_INFO_BLOCK_SIZE),
        .minimum = put_be32(block_size ? minimum : 1),
        .preferred = put_be32(minimum > 4096 ? minimum : 4096),
        .maximum = put_be32(NBD_PAYLOAD_MAX),
    };
    struct {
        bool wanted;
        uint16_t type;
        const char *text;
    } texts[] = {
        { name, NBD_INFO_NAME, nx->name },
        { description || nx->description, NBD_INFO_DESCRIPTION, nx->description },
    };
    int result;

    for (unsigned i = 0; i < 2; i++) {
        uint8_t data[2 + NBD_STRING_MAX];
        be16 type = put_be16(texts[i].type);
        size_t length = texts[i].text ? strlen(texts[i].text) : 0;

        if (!texts[i].wanted || !texts[i].text)
            continue;
        memcpy(data, &type, sizeof(type));
        memcpy(data + sizeof(type), texts[i].text, length);
        result = hello_reply(h, NBD_REP_INFO, data, (uint32_t)(sizeof(type) + length));
        if (result < 0)
            return result;
    }
    result = hello_reply(h, NBD_REP_INFO, &sizes, sizeof(sizes));
    return result < 0 ? result : hello_reply(h, NBD_REP_INFO, &info, sizeof(info));
}

/* ---- choosing an export ---- */

/* From here on the connection belongs to the export; nbd_connection_free() takes that back. */
static int co_fn attach(struct hello *h, struct export *x, bool block_size_known)
{
    struct nbd_connection *c = h->c;
    struct nbd_export *nx = x->state;
    struct node *n = root_node(x->root);
    autoerr err = { 0 };

    nx->connection_count++;
    c->export = x;
    c->root = x->root;
    c->read_only = !x->writable;
    c->style = h->extended ? NBD_EXTENDED : h->structured ? NBD_STRUCTURED : NBD_SIMPLE;
    c->contexts = h->contexts;
    c->contexts_chosen = h->contexts_chosen && h->contexts.export_serial == x->serial;
    c->block_minimum = block_size_known ? minimum_block(x) : 1;
    if (x->writable && track_needed(n, c->block_minimum)) {
        /* A client that was not told of blocks may write any byte: read-modify-write must be safe. */
        if (track_require(n, &err) < 0)
            return err.code;
        c->tracked = true;
        c->tracked_node = n;
    }
    return nbd_connection_choose_ring(c, nx->ring, &err);
}

static int co_fn option_export_name(struct hello *h)
{
    struct counted name = { (const char *)h->data, h->length };
    struct export *x;
    struct {
        be64 size;
        be16 flags;
        uint8_t zeroes[124];
    } __attribute__((packed)) answer = { 0 };
    int result;

    /* This option has no way to say no but to hang up. */
    if (h->extended || h->length > NBD_STRING_MAX || !(x = hello_export(h, &name)))
        return -ENOENT;
    result = attach(h, x, false);
    if (result < 0)
        return result;
    answer.size = put_be64(node_size(root_node(x->root)));
    answer.flags = put_be16(transmission_flags(h, x));
    result = hello_send(h, &answer, h->no_zeroes ? 10 : sizeof(answer));
    return result < 0 ? result : BEGIN_TRANSMISSION;
}

/* NBD_OPT_INFO and NBD_OPT_GO: a name and what the client wants to know. */
static int co_fn option_info_or_go(struct hello *h)
{
    bool name_wanted = false, description = false, block_size = false;
    struct counted name;
    struct export *x;
    uint32_t at = 0;
    be16 count, item;
    int result;

    if (!hello_take_string(h, &at, &name) || h->length - at < sizeof(count))
        return hello_refuse(h, NBD_REP_ERR_INVALID, "malformed option");
    memcpy(&count, h->data + at, sizeof(count));
    at += sizeof(count);
    if (h->length - at != get_be16(count) * sizeof(item))
        return hello_refuse(h, NBD_REP_ERR_INVALID, "malformed list of information requests");
    for (; at < h->length; at += sizeof(item)) {
        memcpy(&item, h->data + at, sizeof(item));
        name_wanted |= get_be16(item) == NBD_INFO_NAME;
        description |= get_be16(item) == NBD_INFO_DESCRIPTION;
        block_size |= get_be16(item) == NBD_INFO_BLOCK_SIZE;
    }
    x = hello_export(h, &name);
    if (!x)
        return hello_refuse(h, NBD_REP_ERR_UNKNOWN, "no such export here");
    if (h->option == NBD_OPT_GO) {
        result = attach(h, x, block_size);
        if (result < 0)
            return result;
        result = add_info(h, x, name_wanted, description, block_size);
    } else {
        result = add_info(h, x, name_wanted, description, true);
    }
    if (result == 0)
        result = hello_reply(h, NBD_REP_ACK, NULL, 0);
    return result < 0 ? result : h->option == NBD_OPT_GO ? BEGIN_TRANSMISSION : GO_ON;
}

static int option_list(struct hello *h)
{
    if (h->length)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "this option takes no data");
    for (struct export *x = export_first(); x; x = export_next(x)) {
        const struct nbd_export *nx = x->state;
        uint8_t data[4 + 2 * NBD_STRING_MAX];
        size_t name, description;
        be32 length;
        int result;

        if (!is_ours(h, x))
            continue;
        name = strlen(nx->name);
        description = nx->description ? strlen(nx->description) : 0;
        length = put_be32((uint32_t)name);
        memcpy(data, &length, sizeof(length));
        memcpy(data + sizeof(length), nx->name, name);
        if (description)
            memcpy(data + sizeof(length) + name, nx->description, description);
        result =
            hello_reply(h, NBD_REP_SERVER, data, (uint32_t)(sizeof(length) + name + description));
        if (result < 0)
            return result;
    }
    return hello_reply(h, NBD_REP_ACK, NULL, 0);
}

static int option_switch(struct hello *h)
{
    bool *to = h->option == NBD_OPT_EXTENDED_HEADERS ? &h->extended : &h->structured;

    if (h->length)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "this option takes no data");
    if (h->extended && h->option == NBD_OPT_STRUCTURED_REPLY)
        return hello_refuse(h, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers are in use already");
    if (*to)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "negotiated already");
    *to = true;
    return hello_reply(h, NBD_REP_ACK, NULL, 0);
}

/* What was said in the clear counts for nothing afterwards: somebody else may have said it. */
static int co_fn option_starttls(struct hello *h)
{
    int result;

    if (!h->c->server->tls_creds)
        return hello_refuse(h, NBD_REP_ERR_POLICY, "this server has no TLS");
    if (h->length)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "this option takes no data");
    if (h->c->tls)
        return hello_refuse(h, NBD_REP_ERR_INVALID, "TLS is in use already");
    result = hello_reply(h, NBD_REP_ACK, NULL, 0);
    if (result == 0)
        result = hello_flush(h);
    if (result == 0)
        result = nbd_tls_accept(h->c, h->deadline);
    h->structured = h->extended = h->contexts_chosen = false;
    return result < 0 ? result : GO_ON;
}

/* May the client say this before there is TLS? */
static bool too_early(const struct hello *h)
{
    return h->c->server->tls_creds && !h->c->tls && h->option != NBD_OPT_STARTTLS;
}

static int co_fn answer_option(struct hello *h)
{
    if (h->option == NBD_OPT_ABORT) {
        (void)hello_reply(h, NBD_REP_ACK, NULL, 0);
        return -ECONNRESET;
    }
    if (!h->fixed && h->option != NBD_OPT_EXPORT_NAME)
        return -EPROTO;
    if (too_early(h))
        return h->option == NBD_OPT_EXPORT_NAME
                   ? -EPERM
                   : hello_refuse(h, NBD_REP_ERR_TLS_REQD, "this server wants TLS first");
    if (h->c->server->stopping)
        return h->option == NBD_OPT_EXPORT_NAME
                   ? -ESHUTDOWN
                   : hello_refuse(h, NBD_REP_ERR_SHUTDOWN, "the server stops");
    switch (h->option) {
    case NBD_OPT_EXPORT_NAME: return option_export_name(h);
    case NBD_OPT_LIST: return option_list(h);
    case NBD_OPT_STARTTLS: return option_starttls(h);
    case NBD_OPT_INFO:
    case NBD_OPT_GO: return option_info_or_go(h);
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS: return option_switch(h);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT: return hello_contexts(h);
    default: return hello_refuse(h, NBD_REP_ERR_UNSUP, "unknown option");
    }
}

/* Read an option that is too long to keep, and refuse it. */
static int co_fn skip_option(struct hello *h)
{
    for (uint32_t left = h->length; left;) {
        uint32_t piece = left < NBD_OPTION_BYTES_MAX ? left : NBD_OPTION_BYTES_MAX;
        int result = hello_receive(h, h->data, piece);
        if (result < 0)
            return result;
        left -= piece;
    }
    return hello_refuse(h, NBD_REP_ERR_TOO_BIG, "option too long");
}

static int co_fn next_option(struct hello *h)
{
    struct nbd_option_header header;
    int result = hello_receive(h, &header, sizeof(header));

    if (result < 0)
        return result;
    h->option = get_be32(header.option);
    h->length = get_be32(header.length);
    if (get_be64(header.magic) != NBD_OPTION_MAGIC || h->length > NBD_OPTION_BYTES_DROP ||
        ++h->options > NBD_OPTIONS_MAX)
        return -EPROTO;
    if (h->length > NBD_OPTION_BYTES_MAX)
        return h->option == NBD_OPT_EXPORT_NAME ? -EPROTO : skip_option(h);
    result = hello_receive(h, h->data, h->length);
    return result < 0 ? result : answer_option(h);
}

static int co_fn handle_option(struct hello *h)
{
    int outcome = next_option(h);
    int result = hello_flush(h); /* also when the connection ends: it may say why */

    return outcome < 0 || result == 0 ? outcome : result;
}

static int co_fn talk(struct hello *h)
{
    struct nbd_greeting greeting = {
        .magic = put_be64(NBD_MAGIC),
        .option_magic = put_be64(NBD_OPTION_MAGIC),
        .flags = put_be16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
    };
    int result = hello_send(h, &greeting, sizeof(greeting));
    be32 flags;

    if (result == 0)
        result = hello_receive(h, &flags, sizeof(flags));
    if (result < 0)
        return result;
    if (get_be32(flags) & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        return -EPROTO;
    h->fixed = get_be32(flags) & NBD_FLAG_FIXED_NEWSTYLE;
    h->no_zeroes = get_be32(flags) & NBD_FLAG_NO_ZEROES;
    while ((result = handle_option(h)) == GO_ON)
        ;
    return result < 0 ? result : 0;
}

int co_fn nbd_negotiate(struct nbd_connection *c)
{
    uint32_t seconds = c->server->said->handshake_max_seconds;
    autofree struct hello *h = malloc(sizeof(*h));
    int result;

    if (!h)
        return -ENOMEM;
    memset(h, 0, offsetof(struct hello, data));
    h->c = c;
    h->deadline = seconds ? ring_now() + seconds * 1000000000ULL : FOREVER;
    result = talk(h);
    free(h->answer);
    return result;
}
