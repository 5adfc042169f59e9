/* SPDX-License-Identifier: MIT */
/*
 * Flush with group commit.
 *
 * 1. At most one flush of a node is with its driver.  Who comes meanwhile waits
 *    for the next one; it never joins the one that is under way, since that may
 *    have begun before a write of its own completed.
 * 2. The sum of generations is read before the driver is called.  When it comes
 *    back all that the sum counted is stable.  A later reader that finds no
 *    greater sum has nothing to flush: had it missed a count that the flush took
 *    in, the flush began after that reader did.
 * 3. A node begins as dirty: what a daemon before us acknowledged may still be
 *    in the kernel's memory only.
 * 4. After a failed sync nobody knows what reached the disk, and a second sync
 *    would claim success (the kernel reports a lost page once).  So all waiters
 *    get the error and the node fails flushes until it is reopened.  That holds
 *    for storage; a format's failed flush keeps its tables dirty and is retried.
 */
#include "block/flush.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/io.h"

struct flush_state {
    atomic_flag lock;
    bool running;           /* a flush is with the driver, or its leader is about to call it */
    struct list next;       /* struct flush_waiter: those of the next one */
    _Atomic uint64_t clean; /* the sum that the last good flush covered */
};

struct flush_waiter {
    struct list link;
    struct co *co;
    bool leads; /* woken to carry the flush out; else .result is there */
    int result;
};

void flush_state_free(struct flush_state *s)
{
    free(s);
}

static void state_lock(struct flush_state *s)
{
    for (unsigned spins = 0; atomic_flag_test_and_set_explicit(&s->lock, memory_order_acquire);
         spins++) {
        if (spins > 200)
            sched_yield();
    }
}

static void state_unlock(struct flush_state *s)
{
    atomic_flag_clear_explicit(&s->lock, memory_order_release);
}

/* The node's state, made by whoever comes first; NULL when out of memory. */
static struct flush_state *state_of(struct node *n)
{
    struct flush_state *s = atomic_load_explicit(&n->flush, memory_order_acquire);
    if (s)
        return s;
    struct flush_state *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    atomic_flag_clear(&made->lock);
    list_init(&made->next);
    if (atomic_compare_exchange_strong(&n->flush, &s, made))
        return made;
    free(made);
    return s;
}

/* One more than all changes on all rings, so that a new node is dirty. */
static uint64_t generation(const struct node *n)
{
    uint64_t sum = 1;
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct node_ring *ring = atomic_load_explicit(&n->rings[i], memory_order_acquire);
        if (ring)
            sum += __atomic_load_n(&ring->write_generation, __ATOMIC_ACQUIRE);
    }
    return sum;
}

static bool is_clean(const struct node *n, struct flush_state *s)
{
    uint64_t now = generation(n);
    return atomic_load_explicit(&s->clean, memory_order_acquire) >= now;
}

static int co_fn sync_node(struct node *n, struct flush_state *s, struct operation *o)
{
    if (atomic_load(&n->broken))
        return -EIO;
    uint64_t covers = generation(n);
    if (atomic_load(&s->clean) >= covers)
        return 0; /* the flush that this one waited for was enough */
    int r = n->driver->flush(n, o);
    if (r == 0)
        atomic_store_explicit(&s->clean, covers, memory_order_release);
    else if (n->driver->kind == DRIVER_PROTOCOL && r != -ERESTART && r != -ENOMEM)
        atomic_store(&n->broken, true); /* those two: it was never tried */
    return r;
}

/* This coroutine has s->running: flush for all that wait for the next, then hand over. */
static int co_fn lead(struct node *n, struct flush_state *s, struct operation *o)
{
    struct list mine, *item;
    list_init(&mine);
    state_lock(s);
    while ((item = list_pop_front(&s->next)))
        list_push_back(&mine, item);
    state_unlock(s);

    int r = sync_node(n, s, o);

    state_lock(s);
    item = list_pop_front(&s->next);
    s->running = item != NULL;
    state_unlock(s);
    if (item) {
        struct flush_waiter *leader = container_of(item, struct flush_waiter, link);
        leader->leads = true;
        co_wake(leader->co);
    }
    while ((item = list_pop_front(&mine))) {
        struct flush_waiter *w = container_of(item, struct flush_waiter, link);
        w->result = r;
        co_wake(w->co);
    }
    return r;
}

static int co_fn flush_node(struct node *n, struct operation *o)
{
    if (atomic_load(&n->broken))
        return -EIO;
    struct flush_state *s = state_of(n);
    if (!s)
        return -ENOMEM;
    if (is_clean(n, s))
        return 0;
    state_lock(s);
    if (!s->running) {
        s->running = true;
        state_unlock(s);
        return lead(n, s, o);
    }
    struct flush_waiter w = { .co = co_self() };
    list_push_back(&s->next, &w.link);
    state_unlock(s);
    co_yield ();
    return w.leads ? lead(n, s, o) : w.result;
}

/* This node's own part of a flush of the tree. */
static int co_fn flush_own(struct operation *o, struct node *n, bool count)
{
    if (count) {
        struct node_ring *here = node_here(n);
        if (!here)
            return -ENOMEM;
        io_counters_add(&here->counters, IO_FLUSH, 0);
    }
    bool skip = n->driver->kind == DRIVER_PROTOCOL && n->options.no_flush;
    return n->driver->flush && !skip ? flush_node(n, o) : 0;
}

/* Nodes, each once. */
struct gathered {
    struct node **v;
    size_t count, room;
    uint64_t walk;
};

static int gather(struct gathered *g, struct node *n)
{
    struct node_ring *here = node_here(n);
    if (!here)
        return -ENOMEM;
    if (here->visited == g->walk)
        return 0;
    here->visited = g->walk;
    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 16;
        struct node **v = realloc(g->v, room * sizeof *v);
        if (!v)
            return -ENOMEM;
        g->v = v;
        g->room = room;
    }
    g->v[g->count++] = n;
    return 0;
}

static int highest_first(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    return (x->walk.height < y->walk.height) - (x->walk.height > y->walk.height);
}

/* All below a node that has several children.  A node may be reached in many ways; it is flushed once,
 * after all that is above it, since they may write to it while they are flushed. */
static int co_fn flush_below(struct operation *o, struct node *n, bool count)
{
    static __thread uint64_t walks;
    struct gathered g = { .walk = ++walks };
    struct edge *e;
    int r = 0;
    list_for_each (e, &n->children, in_parent)
        r = r < 0 ? r : gather(&g, e->child);
    for (size_t i = 0; i < g.count; i++) {
        list_for_each (e, &g.v[i]->children, in_parent)
            r = r < 0 ? r : gather(&g, e->child);
    }
    if (r == 0)
        qsort(g.v, g.count, sizeof *g.v, highest_first);
    for (size_t i = 0; r == 0 && i < g.count; i++)
        r = flush_own(o, g.v[i], count);
    free(g.v);
    return r;
}

/* Read-only children, too: they may have been written before they became so.  A chain of any length needs
 * neither memory nor stack. */
int co_fn flush_tree(struct operation *o, struct node *n, bool count)
{
    for (;;) {
        int r = flush_own(o, n, count);
        if (r < 0 || list_empty(&n->children))
            return r;
        if (n->children.next != n->children.prev)
            return flush_below(o, n, count);
        n = container_of(n->children.next, struct edge, in_parent)->child;
    }
}

void co_fn flush_at_close(struct node *n)
{
    struct flush_state *s = atomic_load(&n->flush);
    uint64_t now = generation(n);
    bool changed = now > 1 && (!s || atomic_load(&s->clean) < now);

    if (!changed || n->driver->kind != DRIVER_PROTOCOL || !n->driver->flush ||
        n->options.no_flush || atomic_load(&n->broken))
        return;
    int r = n->driver->flush(n, NULL);
    if (r < 0)
        log_error("node '%s': what was written last may be lost: %s", n->name, strerror(-r));
}

int co_fn io_flush(struct operation *o, struct edge *e)
{
    return flush_tree(o, e->child, true);
}
