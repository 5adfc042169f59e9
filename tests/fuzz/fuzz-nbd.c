/* SPDX-License-Identifier: MIT */
/*
 * A hostile NBD client against the whole server: negotiation and requests, out
 * of any bytes, over a socket.  No crash, no leak, no connection that stays;
 * and a checker written from the protocol reads what the server answers.
 *
 * Input: one byte that says how the client behaves, then what it sends.
 */
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "drivers/table.h"
#include "exports/nbd.h"
#include "tests/fuzz/nbd-requests.h"
#include "uring/pool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte. */
enum {
    STEP_MASK = 0x0f, /* bytes are sent in pieces of this size; 0: at once */
    LEAVE = 1 << 4,   /* hang up without waiting for replies */
    PAD = 1 << 5,     /* payloads that the input promises and does not have are zeroes */
    TIGHT = 1 << 6,   /* others hold the ring's memory: what is large goes in pieces */
};
enum { PAD_MAX = 1 << 20, BYTES_MAX = 2 << 20 };

static const struct known_export exports[] = {
    { "", 128 << 10, .writable = true },
    { "large", 1ULL << 62, .writable = false },
    { "deep", (1 << 20) + 512, .writable = true, .depth = true },
    { 0 },
};
static const char *const nodes[] = {
    "driver=null-co,node-name=n,size=131072,read-zeroes=on",
    "driver=null-co,node-name=l,size=4611686018427387904",
    "driver=raw,node-name=d,file.driver=null-co,file.size=1049088",
};
static const char *const doors[] = {
    "type=nbd,id=e,node-name=n,name=,writable=on",
    "type=nbd,id=f,node-name=l,name=large,description=a large one",
    "type=nbd,id=g,node-name=d,name=deep,writable=on,allocation-depth=on,writethrough=on",
};

static const struct export_driver *const kinds[] = { &export_nbd, NULL };
static struct sockaddr_un address;
static socklen_t address_length;
static unsigned coroutines[2];

static void make_node(const char *text)
{
    struct blockdev_options o;
    autoerr err = { 0 };

    if (row_parse_text(&row_blockdev_options, text, "driver", &o, &err) < 0 ||
        blockdev_add(&o, &err) < 0)
        wrong("%s", err.msg);
    row_release(&row_blockdev_options, &o);
}

static void make_export(const char *text)
{
    struct block_export_options o;
    autoerr err = { 0 };

    if (row_parse_text(&row_block_export_options, text, "type", &o, &err) < 0 ||
        export_add(&o, NULL, &err) < 0)
        wrong("%s", err.msg);
    row_release(&row_block_export_options, &o);
}

static void set_up(void *arg)
{
    struct unix_address at = { .path = arg, .has_abstract = true, .abstract = true };
    struct nbd_server_options o = { .addr = { ADDRESS_UNIX, &at }, .handshake_max_seconds = 10 };
    autoerr err = { 0 };

    if (nbd_server_start(&o, NULL, NULL, &err) < 0)
        wrong("%s", err.msg);
    for (unsigned i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
        make_node(nodes[i]);
    for (unsigned i = 0; i < sizeof(doors) / sizeof(*doors); i++)
        make_export(doors[i]);
}

/* The server stays for all inputs; each is a new connection. */
static void start(void)
{
    char name[64];

    log_set_level(LOG_LEVEL_ERROR);
    snprintf(name, sizeof(name), "ringblk-fuzz-nbd-%d", (int)getpid());
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path + 1, name);
    address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    drivers_register(drivers_all);
    exports_register(kinds);
    virtual_rings_init(1);
    virtual_spawn(0, set_up, name, "fuzz");
    must_rest();
    for (unsigned i = 0; i < 2; i++)
        coroutines[i] = ring_started(i)->live;
}

/* @descriptor: the lowest free one before the input. */
static void check_nothing_left(int descriptor)
{
    for (struct export *x = export_first(); x; x = export_next(x))
        if (export_nbd.in_use(x))
            wrong("export '%s' still has a client", x->id);
    for (unsigned i = 0; i < 2; i++)
        if (ring_started(i)->live != coroutines[i])
            wrong("ring %u has %u coroutines, not %u", i, ring_started(i)->live, coroutines[i]);
    if (lowest_descriptor() != descriptor)
        wrong("a descriptor leaks");
}

static void connect_client(struct client *c)
{
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->got_length = 0;
    c->ended = c->hung_up = false;
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&address, address_length) < 0)
        wrong("cannot connect: %s", strerror(errno));
    client_run(c);
}

/* The client's bytes, with room behind them. */
struct script {
    uint8_t bytes[BYTES_MAX];
    size_t at, end;
    bool pad;
};

/* Are @length bytes there?  Missing ones may be made up. */
static bool script_has(struct script *s, uint64_t length)
{
    size_t have = s->end - s->at;

    if (length <= have)
        return true;
    if (!s->pad || length > PAD_MAX || s->at + length > BYTES_MAX)
        return false;
    memset(s->bytes + s->end, 0, length - have);
    s->end = s->at + length;
    return true;
}

/* Send one option and check its answer.  False: the connection must be over. */
static bool one_option(struct client *c, struct session *s, struct script *in, size_t step)
{
    struct wire w = { in->bytes + in->at, in->end - in->at };
    size_t before = c->got_length, whole;

    if (w.length < sizeof(struct nbd_option_header) || wire_take(&w, 8) != NBD_OPTION_MAGIC)
        return false;
    uint32_t option = (uint32_t)wire_take(&w, 4), length = (uint32_t)wire_take(&w, 4);
    if (length > NBD_OPTION_BYTES_DROP ||
        !script_has(in, sizeof(struct nbd_option_header) + length))
        return false;
    whole = sizeof(struct nbd_option_header) + length;
    client_send(c, in->bytes + in->at, whole, step);
    client_run(c);
    struct wire data = { in->bytes + in->at + sizeof(struct nbd_option_header), length };
    struct wire got = { c->got + before, c->got_length - before };
    in->at += whole;
    bool goes_on = check_option(s, option, data, &got);
    if (got.length)
        wrong("%zu bytes too many after option %u", got.length, option);
    if (goes_on == c->ended)
        wrong("the server %s after option %u", goes_on ? "hung up" : "goes on", option);
    return goes_on;
}

static bool negotiate(struct client *c, struct session *s, struct script *in, size_t step)
{
    struct wire greeting = { c->got, c->got_length }, w = { in->bytes, in->end };

    if (wire_take(&greeting, 8) != NBD_MAGIC || wire_take(&greeting, 8) != NBD_OPTION_MAGIC ||
        wire_take(&greeting, 2) != (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) ||
        greeting.length)
        wrong("a strange greeting");
    if (in->end < 4)
        return false;
    uint32_t flags = (uint32_t)wire_take(&w, 4);
    s->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    s->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    client_send(c, in->bytes, 4, step);
    client_run(c);
    if (c->ended != (flags > (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)))
        wrong("client flags %x", flags);
    in->at = 4;
    while (!c->ended && !s->export && one_option(c, s, in, step))
        ;
    return s->export != NULL;
}

/* Make the promised payload of the last request. */
static void pad_requests(const struct session *s, struct script *in)
{
    static struct traffic t;
    uint8_t *p = in->bytes + in->at;
    size_t length = in->end - in->at, header = s->extended ? 32 : 28;

    if (!in->pad)
        return;
    t.count = 0;
    while (take_request(s, &t, &p, &length))
        ;
    /* It stopped behind the header of a request whose payload is short. */
    if ((size_t)(p - in->bytes) >= in->at + header) {
        struct wire w = { p - (s->extended ? 8 : 4), s->extended ? 8 : 4 };
        size_t at = in->at;
        in->at = (size_t)(p - in->bytes);
        (void)script_has(in, wire_take(&w, s->extended ? 8 : 4));
        in->at = at;
    }
}

static void transmit(struct client *c, struct session *s, struct script *in, size_t step)
{
    static struct traffic t;
    size_t before = c->got_length;

    pad_requests(s, in);
    number_requests(s, &t, in->bytes + in->at, in->end - in->at);
    client_send(c, in->bytes + in->at, in->end - in->at, step);
    client_finish(c);
    struct wire got = { c->got + before, c->got_length - before };
    check_replies(s, &t, got, !c->ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct client c;
    static struct script in;
    struct session s = { .exports = exports };

    if (!size || size > BYTES_MAX)
        return 0;
    if (!this_ring)
        start();
    memcpy(in.bytes, data + 1, size - 1);
    in.at = 0;
    in.end = size - 1;
    in.pad = data[0] & PAD;
    pool_set_budget(data[0] & TIGHT ? 0 : (size_t)256 << 20);
    int descriptor = lowest_descriptor();
    connect_client(&c);
    if (!negotiate(&c, &s, &in, data[0] & STEP_MASK)) {
        size_t got = c.got_length;
        client_send(&c, in.bytes + in.at, in.end - in.at, data[0] & STEP_MASK);
        client_finish(&c);
        if (c.got_length != got)
            wrong("an answer to half an option");
    } else if (data[0] & LEAVE) {
        client_send(&c, in.bytes + in.at, in.end - in.at, data[0] & STEP_MASK);
        client_hang_up(&c);
        must_rest();
    } else {
        transmit(&c, &s, &in, data[0] & STEP_MASK);
    }
    check_nothing_left(descriptor);
    return 0;
}
