/* SPDX-License-Identifier: MIT */
/*
 * Nodes come and go: names, opening with inline children, the parts that rings
 * keep, closing.
 *
 * A name is taken when opening begins, but nobody finds a node before the whole
 * tree that it is opened with stands.  Closing is a loop, not a recursion, and
 * deep opening changes stacks: the depth of a graph is the user's choice.
 */
#include "block/node.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "block/flush.h"
#include "block/graph.h"
#include "block/io.h"
#include "block/root.h"
#include "uring/await.h"

enum { OPENS_PER_STACK = 8 };

static struct hash names; /* struct node by name, also those that are still being opened */
static struct list nodes = LIST_INIT(nodes);
static uint64_t last_number; /* of "#block..." */

/* ---- finding ---- */

struct node *node_find(const char *name)
{
    struct node *n = hash_get(&names, name);
    return n && n->visible ? n : NULL;
}

static struct node *visible_at(struct list *link)
{
    for (; link != &nodes; link = link->next) {
        struct node *n = container_of(link, struct node, link);
        if (n->visible)
            return n;
    }
    return NULL;
}

struct node *node_first(void)
{
    return visible_at(nodes.next);
}

struct node *node_next(struct node *n)
{
    return visible_at(n->link.next);
}

const char *node_label(const struct node *n)
{
    return n->label ? n->label : n->name;
}

/* ---- names ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool name_is_well_formed(const char *name)
{
    if (!is_letter(*name))
        return false;
    for (const char *p = name; *p; p++)
        if (!is_letter(*p) && !(*p >= '0' && *p <= '9') && !strchr("-._", *p))
            return false;
    return true;
}

static int check_name(const char *name, struct err *err)
{
    if (!name_is_well_formed(name))
        return err_set(err, -EINVAL, "Invalid node-name: '%s'", name);
    if (root_find_export(name))
        return err_set(err, -EEXIST, "node-name=%s is conflicting with a device id", name);
    if (hash_get(&names, name))
        return err_set(err, -EEXIST, "Duplicate nodes with node-name='%s'", name);
    if (strlen(name) > NODE_NAME_MAX)
        return err_set(err, -EINVAL, "Node name too long");
    return 0;
}

static int take_name(struct node *n, const char *given, struct err *err)
{
    char number[32];
    if (given && check_name(given, err) < 0)
        return err->code;
    if (!given)
        snprintf(number, sizeof number, "#block%03llu", (unsigned long long)last_number++);
    n->named = given != NULL;
    n->name = strdup(given ? given : number);
    if (!n->name || hash_put(&names, n->name, n) < 0) {
        free(n->name);
        n->name = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    return 0;
}

/* ---- memory ---- */

static void node_free(struct node *n)
{
    for (unsigned i = 0; i <= rings_count(); i++)
        free(atomic_load_explicit(&n->rings[i], memory_order_relaxed));
    if (n->said) {
        row_release(&row_blockdev_options, n->said);
        free(n->said);
    }
    if (n->name)
        hash_remove(&names, n->name);
    list_remove(&n->link);
    free(n->state);
    free(n->label);
    free(n->name);
    free(n);
}

static struct node *node_alloc(const struct driver *driver)
{
    size_t rings = (rings_count() + 1) * sizeof(_Atomic(struct node_ring *));
    struct node *n = calloc(1, sizeof *n + rings);
    if (!n)
        return NULL;
    list_init(&n->children);
    list_init(&n->parents);
    list_init(&n->link);
    list_init(&n->background);
    list_init(&n->walk.touched);
    list_init(&n->walk.queued);
    list_init(&n->walk.todo);
    list_init(&n->walk.drained);
    n->driver = driver;
    n->refs = 1;
    n->shared = n->walk.next_shared = PERM_ALL;
    n->limits.alignment = n->limits.memory_alignment = 1;
    n->state = driver->state_size ? calloc(1, driver->state_size) : NULL;
    n->said = calloc(1, sizeof *n->said);
    if (!n->said || (driver->state_size && !n->state)) {
        node_free(n);
        return NULL;
    }
    return n;
}

/* Everything of a new node but what its driver does. */
static int node_make(const struct driver *driver, const struct blockdev_options *said,
                     const struct node_options *parent, enum edge_role role, struct node **out,
                     struct err *err)
{
    struct node_options options;
    if (options_resolve(said, parent, role, &options, err) < 0)
        return err->code;
    struct node *n = node_alloc(driver);
    if (!n)
        return err_set(err, -ENOMEM, "out of memory");
    n->options = options;
    n->read_only = options.read_only;
    if (take_name(n, said->node_name, err) < 0 ||
        (row_copy(&row_blockdev_options, said, n->said) < 0 &&
         err_set(err, -ENOMEM, "out of memory"))) {
        node_free(n);
        return err->code;
    }
    *out = n;
    return 0;
}

/* ---- what rings keep ---- */

static struct node_ring *make_ring_part(struct node *n, unsigned index)
{
    struct node_ring *part = aligned_alloc(_Alignof(struct node_ring), sizeof *part);
    if (!part)
        return NULL;
    memset(part, 0, sizeof *part);
    list_init(&part->channel_waiters);
    atomic_store_explicit(&n->rings[index], part, memory_order_release);
    return part;
}

struct node_ring *node_here(struct node *n)
{
    unsigned index = ring_index(this_ring);
    struct node_ring *part = atomic_load_explicit(&n->rings[index], memory_order_relaxed);
    return part ? part : make_ring_part(n, index);
}

struct channel_waiter {
    struct list link;
    struct co *co;
};

static void co_fn wait_for_channel(struct node_ring *part)
{
    struct channel_waiter w = { .co = co_self() };
    list_push_back(&part->channel_waiters, &w.link);
    co_yield ();
}

static int co_fn make_channel(struct node *n, struct node_ring *part)
{
    struct list *item;
    void *channel = calloc(1, n->driver->channel_size);
    if (!channel)
        return -ENOMEM;
    part->channel_opening = true;
    int result = n->driver->channel_open ? n->driver->channel_open(n, channel) : 0;
    part->channel_opening = false;
    if (result == 0)
        part->channel = channel;
    else
        free(channel);
    while ((item = list_pop_front(&part->channel_waiters)))
        co_wake(container_of(item, struct channel_waiter, link)->co);
    return result;
}

int co_fn node_channel(struct node *n, void **out)
{
    struct node_ring *part = node_here(n);
    if (!part)
        return -ENOMEM;
    while (!part->channel) {
        int result = 0;
        if (part->channel_opening)
            wait_for_channel(part);
        else
            result = make_channel(n, part);
        if (result < 0)
            return result;
    }
    *out = part->channel;
    return 0;
}

static int co_fn close_channel_here(void *arg)
{
    struct node *n = arg;
    struct node_ring *part = node_here(n);
    if (n->driver->channel_close)
        n->driver->channel_close(n, part->channel);
    free(part->channel);
    part->channel = NULL;
    return 0;
}

static void co_fn close_channels(struct node *n)
{
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct node_ring *part = atomic_load_explicit(&n->rings[i], memory_order_acquire);
        if (!part || !part->channel)
            continue;
        /* Without a stack there, wait for one: the channel may only be closed on its ring. */
        while (ring_call(ring_started(i), close_channel_here, n) == -ENOMEM)
            co_sleep(10000000);
    }
}

/* ---- closing ---- */

void node_ref(struct node *n)
{
    n->refs++;
}

static struct co_cond released = CO_COND_INIT(released);

void node_hold(struct node *n)
{
    n->holds++;
}

void node_release(struct node *n)
{
    if (--n->holds == 0)
        co_cond_wake_all(&released);
}

static void drop(struct list *closing, struct node *n)
{
    if (--n->refs == 0)
        list_push_back(closing, &n->walk.todo);
}

static void co_fn cut_children(struct node *n, struct list *closing)
{
    while (!list_empty(&n->children))
        drop(closing, edge_cut(container_of(n->children.prev, struct edge, in_parent)));
}

/* The C library keeps what is freed below its highest piece; after many nodes have gone that is much. */
static void give_memory_back(void)
{
    enum { NODES = 1000 };
    static unsigned closed;
    if (++closed % NODES == 0)
        malloc_trim(0);
}

static void co_fn close_all(struct list *closing)
{
    struct list *item;
    while ((item = list_pop_front(closing))) {
        struct node *n = container_of(item, struct node, walk.todo);
        n->visible = false;
        while (n->holds)
            co_cond_wait(&released, NULL);
        flush_at_close(n);
        close_channels(n);
        if (n->driver->close)
            n->driver->close(n);
        io_release(n);
        cut_children(n, closing);
        node_free(n);
        give_memory_back();
    }
}

void co_fn node_unref(struct node *n)
{
    struct list closing = LIST_INIT(closing);
    drop(&closing, n);
    close_all(&closing);
}

/* ---- opening ---- */

int node_fall_back_to_read_only(struct node *n, const char *why, struct err *err)
{
    if (n->read_only)
        return 0;
    if (!n->options.auto_read_only)
        return err_set(err, -EACCES, "%s", why);
    n->read_only = true;
    return 0;
}

/* The longest a node may be, so that sums with offsets and roundings never overflow. */
#define NODE_SIZE_MAX ((uint64_t)INT64_MAX & ~(((uint64_t)1 << 30) - 1))

static int open_driver(struct node *n, struct err *err)
{
    if (n->driver->flags & DRIVER_READ_ONLY &&
        node_fall_back_to_read_only(n, "Image is read-only", err) < 0)
        return err->code;
    if (n->driver->open(n, n->said->driver_options, err) < 0)
        return err->code;
    if (node_size(n) <= NODE_SIZE_MAX)
        return 0;
    if (n->driver->close)
        n->driver->close(n);
    return err_set(err, -EFBIG, "Could not refresh total sector count: File too large");
}

/* The tree stands: everybody may see it. */
static void show(struct node *top)
{
    static struct list todo = LIST_INIT(todo); /* empty between calls */
    struct list *item;
    struct edge *e;
    top->visible = true;
    list_push_back(&todo, &top->walk.todo);
    while ((item = list_pop_front(&todo))) {
        struct node *n = container_of(item, struct node, walk.todo);
        list_for_each (e, &n->children, in_parent) {
            if (e->child->visible)
                continue;
            e->child->visible = true;
            list_push_back(&todo, &e->child->walk.todo);
        }
    }
}

/* Where a definition stands: in which node, how deep. */
struct place {
    const struct node_options *parent; /* NULL: it stands for itself */
    enum edge_role role;
    unsigned depth;
};

static int co_fn open_one(const struct blockdev_options *said, const struct place *place,
                          struct node **out, struct err *err)
{
    struct list closing = LIST_INIT(closing);
    const struct driver *driver = driver_by_index(said->driver);
    struct node *n = NULL;
    *out = NULL;
    if (!driver)
        return err_set(err, -EINVAL, "Unknown driver");
    if (node_make(driver, said, place->parent, place->role, &n, err) < 0)
        return err->code;
    n->walk.depth = place->depth;
    if (open_driver(n, err) < 0) {
        cut_children(n, &closing);
        node_free(n);
        close_all(&closing);
        return err->code;
    }
    if (!n->named)
        n->label = node_filename(n);
    list_push_back(&nodes, &n->link);
    *out = n;
    return 0;
}

int co_fn node_open(const struct blockdev_options *said, const struct node_options *parent,
                    enum edge_role role, struct node **out, struct err *err)
{
    struct place place = { .parent = parent, .role = role };
    int result = open_one(said, &place, out, err);
    if (result == 0)
        show(*out);
    return result;
}

/* A child's definition within definitions, on a stack of its own. */
struct deep_open {
    const struct blockdev_options *said;
    const struct place *place;
    struct node **out;
    struct err *err;
    bool ended;
    struct co *waiter;
};

static void open_deep(void *arg)
{
    struct deep_open *d = arg;
    open_one(d->said, d->place, d->out, d->err);
    d->ended = true;
    if (d->waiter)
        co_wake(d->waiter);
}

static int co_fn open_inline(struct node *n, const struct blockdev_options *said,
                             enum edge_role role, struct node **out, struct err *err)
{
    struct place place = { .parent = &n->options, .role = role, .depth = n->walk.depth + 1 };
    struct deep_open deep = { .said = said, .place = &place, .out = out, .err = err };
    if (place.depth >= GRAPH_DEPTH_MAX) /* images may name each other in a circle */
        return err_set(err, -EMLINK, "Node '%s' would be part of a chain of more than %d nodes",
                       n->name, GRAPH_DEPTH_MAX);
    if (place.depth % OPENS_PER_STACK)
        return open_one(said, &place, out, err);
    if (co_enter(open_deep, &deep, "open a node") < 0)
        return err_set(err, -ENOMEM, "out of memory");
    if (!deep.ended) {
        deep.waiter = co_self();
        co_yield ();
    }
    return err->code;
}

/* A reference may name a node or, as in QEMU, a device: an export, which stands for its node. */
static struct node *find_referred(const char *name)
{
    struct root *export = root_find_export(name);
    struct node *n = node_find(name);
    return n || !export ? n : root_node(export);
}

int co_fn node_open_child(struct node *n, const char *name, enum edge_role role,
                          const struct row_choice *ref, struct edge **out, struct err *err)
{
    struct node *child = NULL;
    *out = NULL;
    if (ref->type == &row_str) {
        const char *wanted = *(char *const *)ref->value;
        child = find_referred(wanted);
        if (!child)
            return err_set(err, -ENODEV, "Cannot find device='%s' nor node-name='%s'", wanted,
                           wanted);
        node_ref(child);
    } else if (ref->type == &row_blockdev_options) {
        if (open_inline(n, ref->value, role, &child, err) < 0)
            return err->code;
    } else {
        return err_set(err, -EINVAL, "Parameter '%s' is missing", name);
    }
    edge_attach(n, NULL, child, name, role, 0, PERM_ALL, out, err);
    node_unref(child);
    return err->code;
}
