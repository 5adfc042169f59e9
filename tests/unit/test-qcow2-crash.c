/* SPDX-License-Identifier: MIT */
/*
 * The qcow2 driver and two kinds of death.  A disk in memory records every write
 * and flush that reaches it during random work.  Then the image is rebuilt as it
 * was
 *   - at every write, when the process dies there: everything acknowledged must
 *     be there;
 *   - when the power fails there: what was flushed must be there; of the sectors
 *     written since, any may be missing.
 * Each must hold together (leaks apart) and read right.  That the test finds
 * something is seen by a disk whose flushes do nothing.
 */
#include "block/io.h"
#include "tests/unit/graph-fixture.h"
#include "tests/unit/io-fixture.h"
#include "tests/unit/qcow2-check.h"
#include "uring/await.h"

enum {
    DISK = 192 << 10, /* bytes */
    BACKING = 100 << 10,
    ROOM = 1 << 20, /* of the image file */
    SECTOR_SIZE = 512,
    OPS_MAX = 400,
    EVENTS_ROOM = 20000,
    VALUES = 31, /* 1..30: written; 31: what lies below */
    SUBSETS = 2, /* power cuts tried at each write */
};

/* ---- the disk that records ---- */

enum event_kind { EV_WRITE, EV_FLUSH_BEGIN, EV_FLUSH_END, EV_OP_BEGIN, EV_OP_END };

struct event {
    enum event_kind kind;
    unsigned number; /* op; flush */
    uint64_t offset, len;
    uint8_t *bytes;
};

static struct event events[EVENTS_ROOM];
static unsigned event_count;
static uint8_t start[ROOM], now[ROOM], rebuilt[ROOM];
static uint64_t start_length, now_length;
static const uint8_t *shown = now; /* what a "tape" node shows */
static uint64_t shown_length;
static bool recording;

static void record(enum event_kind kind, unsigned number, uint64_t offset, uint64_t len,
                   const uint8_t *bytes)
{
    if (!recording)
        return;
    ck_assert_uint_lt(event_count, EVENTS_ROOM);
    struct event *e = &events[event_count++];
    *e = (struct event){ kind, number, offset, len, NULL };
    if (bytes) {
        e->bytes = malloc(len);
        memcpy(e->bytes, bytes, len);
    }
}

static int co_fn tape_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    atomic_store(&n->size, shown_length);
    n->limits.alignment = 1;
    return 0;
}

static int co_fn tape_read(struct node *n, struct operation *o, uint64_t offset,
                           const struct span *v, unsigned count, unsigned flags)
{
    (void)n, (void)o, (void)flags;
    span_scatter(v, count, shown + offset);
    co_pause();
    return 0;
}

static int co_fn tape_write(struct node *n, struct operation *o, uint64_t offset,
                            const struct span *v, unsigned count, unsigned flags)
{
    uint64_t len = span_bytes(v, count);
    (void)n, (void)o, (void)flags;
    ck_assert_uint_le(offset + len, ROOM);
    co_pause();
    span_gather(v, count, now + offset);
    record(EV_WRITE, 0, offset, len, now + offset);
    if (offset + len > now_length)
        now_length = offset + len;
    co_pause();
    return 0;
}

static int co_fn tape_flush(struct node *n, struct operation *o)
{
    static unsigned number;
    unsigned mine = ++number;
    (void)n, (void)o;
    record(EV_FLUSH_BEGIN, mine, 0, 0, NULL);
    co_pause();
    record(EV_FLUSH_END, mine, 0, 0, NULL);
    return 0;
}

static const struct driver tape = {
    .name = "tape",
    .kind = DRIVER_PROTOCOL,
    .flags = DRIVER_VECTORS,
    .open = tape_open,
    .read = tape_read,
    .write = tape_write,
    .flush = tape_flush,
};

/* What lies below: one value all over. */
static int co_fn below_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    atomic_store(&n->size, BACKING);
    return 0;
}

static int co_fn below_read(struct node *n, struct operation *o, uint64_t offset,
                            const struct span *v, unsigned count, unsigned flags)
{
    (void)n, (void)o, (void)offset, (void)flags;
    span_fill(v, count, VALUES);
    return 0;
}

static const struct driver below_driver = {
    .name = "below",
    .kind = DRIVER_PROTOCOL,
    .flags = DRIVER_VECTORS,
    .open = below_open,
    .read = below_read,
};

/* ---- the work ---- */

struct op {
    enum { OP_WRITE, OP_ZERO, OP_DISCARD, OP_FLUSH } kind;
    uint64_t offset, len;
    uint8_t value;
    bool unmap;
    struct edge *edge;
    unsigned number;
};

static struct op ops[OPS_MAX];
static unsigned op_count;
static struct root *worker;
static uint64_t chance;

static int co_fn do_op(void *arg)
{
    static uint8_t bytes[VALUES + 1][DISK];
    struct op *op = arg;
    struct operation o;
    int r = 0;

    operation_enter(&o, worker);
    record(EV_OP_BEGIN, op->number, 0, 0, NULL);
    memset(bytes[op->value], op->value, op->len);
    struct span v = { .p = bytes[op->value], .len = op->len };
    switch (op->kind) {
    case OP_WRITE: r = io_write(&o, op->edge, op->offset, &v, 1, 0); break;
    case OP_ZERO:
        r = io_zero(&o, op->edge, op->offset, op->len, op->unmap ? IO_MAY_UNMAP : 0);
        break;
    case OP_DISCARD: r = io_discard(&o, op->edge, op->offset, op->len); break;
    case OP_FLUSH: r = io_flush(&o, op->edge); break;
    }
    ck_assert_int_eq(r, 0);
    record(EV_OP_END, op->number, 0, 0, NULL);
    operation_end(&o);
    return 0;
}

/* Within one of @parts parts of the disk, so that what runs side by side does not overlap. */
static void draw_op(struct op *op, unsigned part, unsigned parts, bool has_backing)
{
    static const uint64_t lengths[] = { 1, 200, 512, 1500, 4096, 9000, 40000 };
    uint64_t room = DISK / parts / 4096 * 4096, begin = part * room;
    unsigned kind = (unsigned)below(&chance, 10);

    *op = (struct op){ .edge = root_edge(worker), .number = op_count, .value = 0 };
    op->len = lengths[below(&chance, 7)];
    if (op->len > room)
        op->len = room;
    op->offset = begin + below(&chance, room - op->len + 1);
    op->kind = kind < 6 ? OP_WRITE : kind < 7 ? OP_ZERO : kind < 8 ? OP_DISCARD : OP_FLUSH;
    op->unmap = below(&chance, 2);
    if (op->kind == OP_WRITE)
        op->value = (uint8_t)(1 + op_count % (VALUES - 1));
    if (op->kind == OP_DISCARD) { /* of whole clusters, so that the model knows what becomes zero */
        op->offset = op->offset / 512 * 512;
        op->len = op->len / 512 * 512;
        if (!op->len)
            op->kind = OP_FLUSH;
    }
    (void)has_backing;
}

static const char *const plain_image = "driver=qcow2,node-name=q,discard=unmap,file.driver=tape";
static const char *const over_image =
    "driver=qcow2,node-name=q,discard=unmap,file.driver=tape,backing.driver=below";

static void co_fn work(const char *image, unsigned rounds)
{
    bool over = image == over_image;
    autoerr err = { 0 };
    struct edge *e;

    shown = now;
    shown_length = now_length;
    struct node *q = add(image);
    worker = root_new("x", ROOT_EXPORT, NULL, &err);
    must(
        edge_attach(NULL, worker, q, "root", ROLE_FILE, PERM_READ | PERM_WRITE, PERM_ALL, &e, &err),
        &err);
    recording = true;
    for (unsigned i = 0; i < rounds; i++) {
        struct co_group g = { 0 };
        unsigned parts = 1 + (unsigned)below(&chance, 3);
        for (unsigned p = 0; p < parts; p++) {
            draw_op(&ops[op_count], p, parts, over);
            ck_assert_int_eq(co_group_start(&g, do_op, &ops[op_count++], "op"), 0);
        }
        ck_assert_int_eq(co_group_wait(&g), 0);
        if (below(&chance, 8) == 0)
            co_sleep(200000000); /* what is in limbo comes back */
    }
    edge_detach(e);
    root_free(worker);
    del("q");
    recording = false;
    const char *fault = image_check(now, now_length, true);
    ck_assert_msg(!fault, "after closing: %s", fault);
}

/* ---- what may be there ---- */

static uint32_t allowed[DISK]; /* by byte of the disk: a bit for each value */
static uint8_t seen[DISK];

static void allow(const struct op *op, bool only)
{
    uint32_t bit = 1U << op->value;

    if (op->kind == OP_FLUSH)
        return;
    for (uint64_t i = op->offset; i < op->offset + op->len; i++)
        allowed[i] = only ? bit : allowed[i] | bit;
}

static void allow_start(bool over)
{
    for (uint64_t i = 0; i < DISK; i++)
        allowed[i] = 1U << (over && i < BACKING ? VALUES : 0);
}

/* Process dead after @count events: acknowledged operations are there, those under way as they like. */
static void allow_acknowledged(unsigned count, bool over)
{
    static bool running[OPS_MAX];

    memset(running, 0, sizeof(running));
    allow_start(over);
    for (unsigned i = 0; i < count; i++) {
        if (events[i].kind == EV_OP_BEGIN) {
            running[events[i].number] = true;
        } else if (events[i].kind == EV_OP_END) {
            running[events[i].number] = false;
            allow(&ops[events[i].number], true);
        }
    }
    for (unsigned i = 0; i < op_count; i++)
        if (running[i])
            allow(&ops[i], false);
}

/* Power cut after @count events: what ended before the last acknowledged flush began is there. */
static void allow_flushed(unsigned count, bool over)
{
    unsigned began[OPS_MAX] = { 0 }, cut = 0;

    for (unsigned i = 0; i < count; i++) {
        if (events[i].kind == EV_OP_BEGIN)
            began[events[i].number] = i;
        else if (events[i].kind == EV_OP_END && ops[events[i].number].kind == OP_FLUSH &&
                 began[events[i].number] > cut)
            cut = began[events[i].number];
    }
    allow_acknowledged(cut, over);
    for (unsigned i = cut; i < count; i++)
        if (events[i].kind == EV_OP_BEGIN || events[i].kind == EV_OP_END)
            allow(&ops[events[i].number], false);
}

static void broken(const char *death, unsigned at, const char *what)
{
    complain("broken");
    printf("%s at event %u: %s\n", death, at, what);
    fflush(stdout);
}

static void co_fn check_content(const char *image, const char *death, unsigned at)
{
    char options[160];
    const char *fault = image_check(rebuilt, shown_length, false);

    if (fault) {
        broken(death, at, fault);
        return;
    }
    snprintf(options, sizeof(options), "%s,read-only=on", image);
    struct node *q = add(options);
    int r = io_read_control(q, 0, seen, DISK);
    del("q");
    for (uint64_t i = 0; r == 0 && i < DISK; i++) {
        if (seen[i] <= VALUES && allowed[i] & 1U << seen[i])
            continue;
        char what[100];
        snprintf(what, sizeof(what), "byte %llu is %u, allowed %#x", (unsigned long long)i, seen[i],
                 allowed[i]);
        broken(death, at, what);
        return;
    }
    if (r < 0)
        broken(death, at, strerror(-r));
}

/* ---- rebuilding ---- */

static void apply(uint64_t offset, uint64_t len, const uint8_t *bytes)
{
    memcpy(rebuilt + offset, bytes, len);
    if (offset + len > shown_length)
        shown_length = offset + len;
}

static void begin_rebuild(void)
{
    memcpy(rebuilt, start, now_length);
    shown = rebuilt;
    shown_length = start_length;
}

/* The event at which the last flush began that had ended before event @count. */
static unsigned last_flush(unsigned count)
{
    unsigned began = 0, best = 0, number = 0;

    for (unsigned i = 0; i < count; i++) {
        if (events[i].kind == EV_FLUSH_BEGIN) {
            began = i;
            number = events[i].number;
        } else if (events[i].kind == EV_FLUSH_END && events[i].number == number) {
            best = began;
        }
    }
    return best;
}

static void rebuild_some(unsigned count, bool flushes_count)
{
    unsigned stable = flushes_count ? last_flush(count) : 0;

    begin_rebuild();
    for (unsigned i = 0; i < count; i++) {
        const struct event *e = &events[i];
        if (e->kind != EV_WRITE)
            continue;
        for (uint64_t at = 0; at < e->len;) {
            uint64_t part = SECTOR_SIZE - (e->offset + at) % SECTOR_SIZE;
            if (part > e->len - at)
                part = e->len - at;
            if (i < stable || below(&chance, 2))
                apply(e->offset + at, part, e->bytes + at);
            at += part;
        }
    }
}

static void co_fn check_deaths(const char *image, bool flushes_count)
{
    bool over = image == over_image;

    for (unsigned count = 0; count <= event_count; count++) {
        if (count < event_count && events[count].kind != EV_WRITE &&
            events[count].kind != EV_OP_END)
            continue;
        begin_rebuild();
        for (unsigned i = 0; i < count; i++)
            if (events[i].kind == EV_WRITE)
                apply(events[i].offset, events[i].len, events[i].bytes);
        allow_acknowledged(count, over);
        check_content(image, "killed", count);
        allow_flushed(count, over);
        for (unsigned s = 0; s < SUBSETS; s++) {
            rebuild_some(count, flushes_count);
            check_content(image, "power cut", count);
        }
        if (atomic_load(&complaint))
            return;
    }
}

static void begin(void)
{
    static const struct driver *const list[] = { &tape, &below_driver, NULL };

    drivers_register(list);
    memset(start, 0, sizeof(start));
    start_length = now_length = image_make(start, DISK);
    memcpy(now, start, sizeof(now));
    op_count = event_count = 0;
    chance = test_seed();
}

/* CO_TEST with time that passes. */
static void run_timed(void (*fn)(void *unused))
{
    struct body b = { .fn = fn };
    drivers_register(drivers_all);
    virtual_rings_init(1);
    virtual_spawn(0, run_body, &b, "test");
    for (unsigned i = 0; !b.ended; i++) {
        ck_assert(virtual_run());
        virtual_advance(10000000);
        ck_assert_msg(i < 1000000, "the test waits for ever");
    }
    virtual_rings_exit();
}

#define TIMED_TEST(name)                                                                           \
    static void body_##name(void *unused);                                                         \
    START_TEST(name)                                                                               \
    {                                                                                              \
        run_timed(body_##name);                                                                    \
    }                                                                                              \
    END_TEST static void body_##name(void *unused __attribute__((unused)))

TIMED_TEST(an_image_survives_both_deaths)
{
    begin();
    work(plain_image, 30);
    check_deaths(plain_image, true);
    ck_assert_ptr_null(atomic_load(&complaint));
}

TIMED_TEST(an_overlay_survives_both_deaths)
{
    begin();
    work(over_image, 30);
    check_deaths(over_image, true);
    ck_assert_ptr_null(atomic_load(&complaint));
}

TIMED_TEST(a_disk_that_does_not_flush_is_found)
{
    begin();
    work(over_image, 60);
    check_deaths(over_image, false);
    ck_assert_ptr_nonnull(atomic_load(&complaint));
    atomic_store(&complaint, NULL);
}

int main(void)
{
    const TTest *const tests[] = { an_image_survives_both_deaths, an_overlay_survives_both_deaths,
                                   a_disk_that_does_not_flush_is_found, NULL };
    return run_tests("qcow2-crash", tests);
}
