/* SPDX-License-Identifier: MIT */
/*
 * The second half of what an NBD client may expect: replies to requests.  The
 * requests of the input get cookies of their own before they are sent, so that
 * each reply says to which of them it belongs.
 */
#ifndef TESTS_FUZZ_NBD_REQUESTS_H
#define TESTS_FUZZ_NBD_REQUESTS_H

#include "tests/fuzz/nbd-model.h"

enum { REQUESTS_MAX = 4096 };
#define COOKIE_BASE 0x5eed0000c0de0000ULL

struct asked {
    uint16_t type, flags;
    uint64_t offset, length;
    bool done, failed;
    uint64_t data;     /* bytes of a read that have come */
    unsigned contexts; /* whose status has come, a set */
};

/* All requests of one connection. */
struct traffic {
    struct asked asked[REQUESTS_MAX];
    unsigned count;
    bool broken; /* they end with something that is no request: replies may be cut off */
};

static inline void put(uint8_t *p, unsigned bytes, uint64_t value)
{
    while (bytes--) {
        p[bytes] = (uint8_t)value;
        value >>= 8;
    }
}

/* The request at @p; false: there is none, whole, or it is the last one that counts. */
static inline bool take_request(const struct session *s, struct traffic *t, uint8_t **p,
                                size_t *length)
{
    size_t header =
        s->extended ? sizeof(struct nbd_extended_request) : sizeof(struct nbd_compact_request);
    struct wire w = { *p, header };
    struct asked a = { 0 };

    if (*length < header)
        return false;
    if (wire_take(&w, 4) != (s->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC)) {
        t->broken = true;
        return false;
    }
    a.flags = (uint16_t)wire_take(&w, 2);
    a.type = (uint16_t)wire_take(&w, 2);
    wire_take(&w, 8);
    a.offset = wire_take(&w, 8);
    a.length = wire_take(&w, s->extended ? 8 : 4);
    bool payload = a.type == NBD_CMD_WRITE || (s->extended && a.flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    if (payload && a.length > NBD_PAYLOAD_MAX) {
        t->broken = true;
        return false;
    }
    if (a.type == NBD_CMD_DISC || t->count == REQUESTS_MAX)
        return false;
    put(*p + 8, 8, COOKIE_BASE + t->count);
    *p += header;
    *length -= header;
    /* Half a payload: refused at once, or never answered.  Whichever it is, it is the last one. */
    if (payload && a.length > *length) {
        t->broken = true;
        return false;
    }
    if (payload) {
        *p += a.length;
        *length -= a.length;
    }
    t->asked[t->count++] = a;
    return true;
}

/* Look through the client's bytes, and give each request its cookie. */
static inline void number_requests(const struct session *s, struct traffic *t, uint8_t *p,
                                   size_t length)
{
    t->count = 0;
    t->broken = false;
    while (take_request(s, t, &p, &length))
        ;
}

static inline struct asked *asked_by(struct traffic *t, uint64_t cookie)
{
    struct asked *a = cookie - COOKIE_BASE < t->count ? &t->asked[cookie - COOKIE_BASE] : NULL;

    /* Half a request, with a payload to come, may have been refused. */
    if (!a && t->broken && cookie == COOKIE_BASE + t->count)
        return NULL;
    if (!a)
        wrong("a reply with the cookie %jx", (uintmax_t)cookie);
    if (a->done)
        wrong("a second reply to request %ju", (uintmax_t)(cookie - COOKIE_BASE));
    return a;
}

static inline bool in_bounds(const struct session *s, const struct asked *a)
{
    return a->offset <= s->export->size && a->length <= s->export->size - a->offset;
}

/* Must every server that has this export carry it out? */
static inline bool must_succeed(const struct session *s, const struct asked *a)
{
    if (a->flags & ~NBD_CMD_FLAG_FUA)
        return false;
    switch (a->type) {
    case NBD_CMD_READ:
    case NBD_CMD_CACHE: return in_bounds(s, a) && a->length <= NBD_PAYLOAD_MAX;
    case NBD_CMD_FLUSH: return !a->offset && !a->length;
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES: return in_bounds(s, a) && s->export->writable;
    case NBD_CMD_BLOCK_STATUS: return in_bounds(s, a) && a->length && s->chosen_contexts;
    default: return false;
    }
}

/* Must every server refuse it? */
static inline bool must_fail(const struct session *s, const struct asked *a)
{
    bool writes =
        a->type == NBD_CMD_WRITE || a->type == NBD_CMD_TRIM || a->type == NBD_CMD_WRITE_ZEROES;

    return a->type > NBD_CMD_BLOCK_STATUS || (writes && !s->export->writable) ||
           (a->type != NBD_CMD_FLUSH && !in_bounds(s, a)) ||
           (a->type == NBD_CMD_BLOCK_STATUS && !s->chosen_contexts);
}

/* The last reply to a request has come. */
static inline void check_done(const struct session *s, struct asked *a)
{
    a->done = true;
    if (a->failed ? must_succeed(s, a) : must_fail(s, a))
        wrong("request of type %u, flags %x, %ju+%ju was %s", a->type, a->flags,
              (uintmax_t)a->offset, (uintmax_t)a->length, a->failed ? "refused" : "granted");
    if (a->failed)
        return;
    if (a->type == NBD_CMD_READ && a->data != a->length)
        wrong("a read of %ju bytes got %ju", (uintmax_t)a->length, (uintmax_t)a->data);
    if (a->type == NBD_CMD_BLOCK_STATUS && a->contexts != s->chosen_contexts)
        wrong("block status of contexts %x, not %x", a->contexts, s->chosen_contexts);
}

/* Every byte of our exports is zero: anything else is somebody else's memory. */
static inline void check_bytes(struct wire w)
{
    if (w.length && (w.p[0] || memcmp(w.p, w.p + 1, w.length - 1)))
        wrong("a read gives bytes that nobody has written");
}

static inline void check_extents(const struct session *s, struct asked *a, bool wide, struct wire w)
{
    uint64_t id = wire_take(&w, 4), total = 0;
    uint64_t count = wide ? wire_take(&w, 4) : w.length / 8;
    unsigned n = 0;

    if (id >= CONTEXT_IDS || !(s->chosen_contexts & 1U << id) || a->contexts & 1U << id)
        wrong("block status of context %ju", (uintmax_t)id);
    a->contexts |= 1U << id;
    for (; w.length; n++) {
        uint64_t length = wire_take(&w, wide ? 8 : 4), flags = wire_take(&w, wide ? 8 : 4);
        if (!length || (id == 0 && flags & ~(uint64_t)(NBD_STATE_HOLE | NBD_STATE_ZERO)))
            wrong("an extent of %ju bytes, flags %jx", (uintmax_t)length, (uintmax_t)flags);
        total += length;
    }
    if (!n || n != count || (n > 1 && a->flags & NBD_CMD_FLAG_REQ_ONE))
        wrong("%u extents", n);
    if (total > a->length)
        wrong("extents past the end of the request");
}

static inline void check_chunk_error(struct asked *a, struct wire *w)
{
    uint64_t error = wire_take(w, 4);

    wire_cut(w, wire_take(w, 2));
    if (!error)
        wrong("an error chunk without an error");
    a->failed = true;
}

static inline void check_chunk(const struct session *s, struct asked *a, uint64_t type,
                               struct wire w)
{
    if (a->failed)
        wrong("a chunk after an error");
    if (type == NBD_CHUNK_OFFSET_DATA && a->type == NBD_CMD_READ) {
        uint64_t offset = wire_take(&w, 8);
        if (offset != a->offset + a->data || !w.length || w.length > a->length - a->data)
            wrong("read data of %zu bytes at %ju", w.length, (uintmax_t)offset);
        check_bytes(w);
        a->data += w.length;
        w.length = 0;
    } else if (type == (s->extended ? NBD_CHUNK_BLOCK_STATUS_EXT : NBD_CHUNK_BLOCK_STATUS) &&
               a->type == NBD_CMD_BLOCK_STATUS) {
        check_extents(s, a, s->extended, w);
        w.length = 0;
    } else if (type == NBD_CHUNK_ERROR) {
        check_chunk_error(a, &w);
    } else if (type != NBD_CHUNK_NONE) {
        wrong("a chunk of type %ju to a request of type %u", (uintmax_t)type, a->type);
    }
    if (w.length)
        wrong("%zu bytes too many in a chunk of type %ju", w.length, (uintmax_t)type);
}

static inline void take_simple(const struct session *s, struct traffic *t, struct wire *got)
{
    uint64_t error = wire_take(got, 4);
    struct asked *a = asked_by(t, wire_take(got, 8));

    if (!a)
        return;
    a->failed = error;
    if (!error && a->type == NBD_CMD_READ) {
        check_bytes(wire_cut(got, a->length));
        a->data = a->length;
    }
    check_done(s, a);
}

static inline void take_chunk(const struct session *s, struct traffic *t, struct wire *got)
{
    uint64_t flags = wire_take(got, 2), type = wire_take(got, 2), cookie = wire_take(got, 8);
    uint64_t offset = s->extended ? wire_take(got, 8) : 0;
    struct wire w = wire_cut(got, wire_take(got, s->extended ? 8 : 4));
    struct asked *a = asked_by(t, cookie);

    if (flags & ~(uint64_t)NBD_CHUNK_FLAG_DONE || (type == NBD_CHUNK_NONE && !flags))
        wrong("chunk flags %jx", (uintmax_t)flags);
    if (!a)
        return;
    if (s->extended && offset != a->offset)
        wrong("a reply about another offset");
    check_chunk(s, a, type, w);
    if (flags & NBD_CHUNK_FLAG_DONE)
        check_done(s, a);
}

/* All that the server has sent in the transmission phase.  @cut: the client did not wait for the end. */
static inline void check_replies(const struct session *s, struct traffic *t, struct wire got,
                                 bool cut)
{
    uint64_t magic = s->extended     ? NBD_EXTENDED_REPLY_MAGIC
                     : s->structured ? NBD_STRUCTURED_REPLY_MAGIC
                                     : NBD_SIMPLE_REPLY_MAGIC;

    if (cut)
        return;
    while (got.length) {
        if (wire_take(&got, 4) != magic)
            wrong("a reply has another magic number");
        if (s->extended || s->structured)
            take_chunk(s, t, &got);
        else
            take_simple(s, t, &got);
    }
    for (unsigned i = 0; i < t->count && !t->broken; i++)
        if (!t->asked[i].done)
            wrong("request %u got no reply", i);
}

#endif
