/* SPDX-License-Identifier: MIT */
/*
 * What an NBD client may expect, written from the protocol and not from our
 * server: replies to options, and replies to requests, each checked against
 * what was asked.  Anything unexpected is wrong().
 */
#ifndef TESTS_FUZZ_NBD_MODEL_H
#define TESTS_FUZZ_NBD_MODEL_H

#include "exports/nbd-proto.h"
#include "tests/fuzz/virtual-client.h"

/* Bytes that are read one field after the other. */
struct wire {
    const uint8_t *p;
    size_t length;
};

static inline uint64_t wire_take(struct wire *w, unsigned bytes)
{
    uint64_t value = 0;

    if (w->length < bytes)
        wrong("the server's message ends in the middle");
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | w->p[i];
    w->p += bytes;
    w->length -= bytes;
    return value;
}

static inline struct wire wire_cut(struct wire *w, uint64_t bytes)
{
    struct wire part = { w->p, bytes };

    if (w->length < bytes)
        wrong("the server announces %ju bytes and sends %zu", (uintmax_t)bytes, w->length);
    w->p += bytes;
    w->length -= bytes;
    return part;
}

/* An export that the server has. */
struct known_export {
    const char *name;
    uint64_t size;
    bool writable, depth;
};

enum { CONTEXT_IDS = 2 };

/* What the two have agreed on. */
struct session {
    const struct known_export *exports; /* ended by one without a name */
    const struct known_export *export;  /* the one chosen: transmission has begun */
    bool fixed, no_zeroes, structured, extended;
    const struct known_export *contexts_of;
    unsigned contexts, chosen_contexts; /* sets of ids; the latter once an export is chosen */
    unsigned options;
};

static inline const struct known_export *find_export(const struct session *s, const uint8_t *name,
                                                     size_t length)
{
    for (const struct known_export *x = s->exports; x->name; x++)
        if (strlen(x->name) == length && !memcmp(x->name, name, length))
            return x;
    return NULL;
}

/* The export that an option with a counted name is about; NULL: none, or not well-formed. */
static inline const struct known_export *named_export(const struct session *s, struct wire data,
                                                      struct wire *rest)
{
    uint64_t length;

    if (data.length < 4 || (length = wire_take(&data, 4)) > data.length || length > NBD_STRING_MAX)
        return NULL;
    struct wire name = wire_cut(&data, length);
    *rest = data;
    return find_export(s, name.p, name.length);
}

static inline void check_size_and_flags(const struct session *s, const struct known_export *x,
                                        struct wire *w)
{
    uint64_t size = wire_take(w, 8), flags = wire_take(w, 2);

    if (size != x->size)
        wrong("export '%s' has another size: %ju", x->name, (uintmax_t)size);
    if (!(flags & NBD_FLAG_HAS_FLAGS) || !(flags & NBD_FLAG_READ_ONLY) != x->writable)
        wrong("export '%s': flags %jx", x->name, (uintmax_t)flags);
    if ((flags & NBD_FLAG_SEND_DF) && !s->structured && !s->extended)
        wrong("DF is offered without structured replies");
}

/* ---- options ---- */

/* What the replies to one option were. */
struct answer {
    uint32_t final; /* NBD_REP_ACK or an error; 0: none, the server hung up */
    unsigned servers, infos, contexts;
    unsigned context_ids; /* a set */
    bool has_export_info;
};

static inline void check_info(const struct session *s, const struct known_export *x,
                              struct answer *a, struct wire w)
{
    uint64_t type = wire_take(&w, 2);

    if (!x)
        wrong("information about an export that is not there");
    if (type == NBD_INFO_EXPORT) {
        check_size_and_flags(s, x, &w);
        a->has_export_info = true;
    } else if (type == NBD_INFO_BLOCK_SIZE) {
        uint64_t least = wire_take(&w, 4), good = wire_take(&w, 4), most = wire_take(&w, 4);
        if (!least || least & (least - 1) || good < least || good & (good - 1) || most < good)
            wrong("block sizes %ju %ju %ju", (uintmax_t)least, (uintmax_t)good, (uintmax_t)most);
    } else if (type == NBD_INFO_NAME || type == NBD_INFO_DESCRIPTION) {
        w.length = 0;
    }
    if (w.length)
        wrong("information %ju with %zu bytes too many", (uintmax_t)type, w.length);
}

static inline void check_reply(const struct session *s, uint32_t option,
                               const struct known_export *x, uint32_t type, struct answer *a,
                               struct wire w)
{
    if (type == NBD_REP_ACK) {
        if (w.length)
            wrong("an acknowledgement with data");
    } else if (type >> 31) {
        for (size_t i = 0; i < w.length; i++)
            if (w.p[i] < ' ' || w.p[i] > '~')
                wrong("the text of an error is not printable");
    } else if (type == NBD_REP_SERVER && option == NBD_OPT_LIST) {
        uint64_t length = wire_take(&w, 4);
        struct wire name = wire_cut(&w, length);
        if (!find_export(s, name.p, name.length))
            wrong("a list with an export that is not there");
        a->servers++;
    } else if (type == NBD_REP_INFO && (option == NBD_OPT_INFO || option == NBD_OPT_GO)) {
        check_info(s, x, a, w);
        a->infos++;
    } else if (type == NBD_REP_META_CONTEXT &&
               (option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT)) {
        uint64_t id = wire_take(&w, 4);
        if (id >= CONTEXT_IDS || !w.length || !x)
            wrong("meta context %ju", (uintmax_t)id);
        if (option == NBD_OPT_SET_META_CONTEXT && a->context_ids & 1U << id)
            wrong("meta context %ju twice", (uintmax_t)id);
        a->context_ids |= 1U << id;
        a->contexts++;
    } else {
        wrong("reply type %x to option %u", type, option);
    }
}

/* All replies to one option. */
static inline struct answer read_answer(const struct session *s, uint32_t option,
                                        const struct known_export *x, struct wire *got)
{
    struct answer a = { 0 };

    while (got->length && !a.final) {
        if (wire_take(got, 8) != NBD_OPTION_REPLY_MAGIC)
            wrong("an option's reply has another magic number");
        if (wire_take(got, 4) != option)
            wrong("a reply to another option than %u", option);
        uint32_t type = (uint32_t)wire_take(got, 4);
        uint64_t length = wire_take(got, 4);
        check_reply(s, option, x, type, &a, wire_cut(got, length));
        if (type == NBD_REP_ACK || type >> 31)
            a.final = type;
    }
    return a;
}

static inline unsigned count_exports(const struct session *s)
{
    unsigned n = 0;

    while (s->exports[n].name)
        n++;
    return n;
}

/* Should this GO or INFO be granted? */
static inline bool is_whole_info(const struct known_export *x, struct wire rest)
{
    return x && rest.length >= 2 && wire_take(&rest, 2) * 2 == rest.length;
}

static inline void begin_transmission(struct session *s, const struct known_export *x)
{
    s->export = x;
    s->chosen_contexts = s->contexts_of == x ? s->contexts : 0;
}

/* NBD_OPT_EXPORT_NAME: no reply but the export's figures.  False: the server must have hung up. */
static inline bool check_export_name(struct session *s, struct wire data, struct wire *got)
{
    const struct known_export *x = find_export(s, data.p, data.length);

    if (!x || s->extended)
        return false;
    check_size_and_flags(s, x, got);
    struct wire zeroes = wire_cut(got, s->no_zeroes ? 0 : 124);
    for (size_t i = 0; i < zeroes.length; i++)
        if (zeroes.p[i])
            wrong("NBD_OPT_EXPORT_NAME: reserved bytes are not zero");
    begin_transmission(s, x);
    return true;
}

static inline void check_outcome(struct session *s, uint32_t option, const struct answer *a,
                                 const struct known_export *x, struct wire data, struct wire rest)
{
    bool ack = a->final == NBD_REP_ACK, expected = false;

    switch (option) {
    case NBD_OPT_LIST:
        expected = !data.length;
        if (ack && a->servers != count_exports(s))
            wrong("a list of %u exports", a->servers);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        expected = is_whole_info(x, rest);
        if (ack && !a->has_export_info)
            wrong("no figures of the export");
        if (ack && option == NBD_OPT_GO)
            begin_transmission(s, x);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS: {
        bool *to = option == NBD_OPT_EXTENDED_HEADERS ? &s->extended : &s->structured;
        expected = !data.length && !*to && !s->extended;
        *to |= ack;
        break;
    }
    case NBD_OPT_LIST_META_CONTEXT: expected = ack; break;
    case NBD_OPT_SET_META_CONTEXT:
        expected = ack;
        if (ack && ((!s->structured && !s->extended) || !x))
            wrong("a meta context was set too early");
        s->contexts_of = ack ? x : NULL;
        s->contexts = a->context_ids;
        break;
    default: break;
    }
    if (ack != expected)
        wrong("option %u was %s", option, ack ? "granted" : "refused");
}

/* The server's answer to a whole option.  False: it must have ended the connection. */
static inline bool check_option(struct session *s, uint32_t option, struct wire data,
                                struct wire *got)
{
    struct wire rest = { 0 };

    if (++s->options > NBD_OPTIONS_MAX)
        return false;
    if (option == NBD_OPT_ABORT && data.length <= NBD_OPTION_BYTES_MAX) {
        if (read_answer(s, option, NULL, got).final != NBD_REP_ACK)
            wrong("NBD_OPT_ABORT was not acknowledged");
        return false;
    }
    if (option == NBD_OPT_EXPORT_NAME)
        return data.length <= NBD_OPTION_BYTES_MAX && check_export_name(s, data, got);
    if (data.length > NBD_OPTION_BYTES_MAX) {
        if (read_answer(s, option, NULL, got).final != NBD_REP_ERR_TOO_BIG)
            wrong("an option that is too long was not called so");
        return true;
    }
    if (!s->fixed)
        return false;
    const struct known_export *x = named_export(s, data, &rest);
    struct answer a = read_answer(s, option, x, got);
    if (!a.final)
        wrong("no answer to option %u", option);
    check_outcome(s, option, &a, x, data, rest);
    return true;
}

#endif
