/* SPDX-License-Identifier: MIT */
/*
 * Roots and their gates.  A gate belongs to one ring: only that ring reads or
 * writes it, with two exceptions by the control ring: before the root is known
 * to anybody else, and for rings that were never started.
 */
#include "block/root.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "block/drain.h"

static struct list roots = LIST_INIT(roots);
static struct hash exports; /* struct root by name */

static int make_gates(struct root *r)
{
    unsigned count = rings_count() + 1;
    struct gate *gates = aligned_alloc(_Alignof(struct gate), count * sizeof *gates);
    if (!gates)
        return -ENOMEM;
    memset(gates, 0, count * sizeof *gates);
    for (unsigned i = 0; i < count; i++) {
        list_init(&gates[i].waiting);
        list_init(&gates[i].operations);
        r->gates[i] = &gates[i];
    }
    return 0;
}

static int take_export_name(struct root *r, struct err *err)
{
    int result = hash_put(&exports, r->name, r);
    if (result == -EEXIST)
        return err_set(err, result, "Device with id '%s' already exists", r->name);
    if (result < 0)
        return err_set(err, result, "out of memory");
    return 0;
}

static void root_destroy(struct root *r)
{
    free(r->gates[0]);
    free(r->name);
    free(r);
}

struct root *root_new(const char *name, enum root_kind kind, const struct root_driver *driver,
                      struct err *err)
{
    struct root *r = calloc(1, sizeof *r);
    if (!r || make_gates(r) < 0 || !(r->name = strdup(name))) {
        err_set(err, -ENOMEM, "out of memory");
        if (r)
            root_destroy(r);
        return NULL;
    }
    r->kind = kind;
    r->driver = driver;
    list_init(&r->edges);
    list_init(&r->in_background);
    list_init(&r->in_drain);
    if (kind == ROOT_EXPORT && take_export_name(r, err) < 0) {
        root_destroy(r);
        return NULL;
    }
    list_push_back(&roots, &r->link);
    return r;
}

void root_free(struct root *r)
{
    if (r->kind == ROOT_EXPORT)
        hash_remove(&exports, r->name);
    timer_cancel(&r->deadline_timer);
    list_remove(&r->link);
    list_remove(&r->in_background);
    list_remove(&r->in_drain);
    root_destroy(r);
}

void root_set_background(struct root *r, struct node *n)
{
    r->background_of = n;
    list_push_back(&n->background, &r->in_background);
}

struct root *root_find_export(const char *name)
{
    return hash_get(&exports, name);
}

static struct root *root_at(struct list *link)
{
    return link == &roots ? NULL : container_of(link, struct root, link);
}

struct root *root_first(void)
{
    return root_at(roots.next);
}

struct root *root_next(struct root *r)
{
    return root_at(r->link.next);
}

struct edge *root_edge(const struct root *r)
{
    if (list_empty(&r->edges))
        return NULL;
    return container_of(r->edges.next, struct edge, in_parent);
}

struct node *root_node(const struct root *r)
{
    struct edge *e = root_edge(r);
    return e ? e->child : NULL;
}

static struct gate *gate_here(const struct root *r)
{
    return r->gates[ring_index(this_ring)];
}

/* Others only want to see some value that was there. */
static void show(unsigned *inside, unsigned value)
{
    __atomic_store_n(inside, value, __ATOMIC_RELAXED);
}

static void note_oldest(struct gate *g)
{
    uint64_t since = 0;
    if (!list_empty(&g->operations))
        since = container_of(g->operations.next, struct operation, link)->since;
    __atomic_store_n(&g->oldest, since, __ATOMIC_RELAXED);
}

bool operation_begin(struct operation *o, struct root *r)
{
    struct gate *g = gate_here(r);
    if (g->shut)
        return false;
    o->root = r;
    o->since = ring_turn_now();
    list_push_back(&g->operations, &o->link);
    if (g->inside == 0)
        note_oldest(g);
    show(&g->inside, g->inside + 1);
    return true;
}

void operation_end(struct operation *o)
{
    struct gate *g = gate_here(o->root);
    bool was_oldest = g->operations.next == &o->link;
    list_remove(&o->link);
    if (was_oldest)
        note_oldest(g);
    show(&g->inside, g->inside - 1);
    if (g->inside == 0 && g->drain)
        drain_gate_empty(g);
}

unsigned root_inside(const struct root *r)
{
    unsigned sum = 0;
    for (unsigned i = 0; i <= rings_count(); i++)
        sum += __atomic_load_n(&r->gates[i]->inside, __ATOMIC_RELAXED);
    return sum;
}

uint64_t root_oldest(const struct root *r)
{
    uint64_t oldest = UINT64_MAX, now = ring_now();
    for (unsigned i = 0; i <= rings_count(); i++) {
        uint64_t since = __atomic_load_n(&r->gates[i]->oldest, __ATOMIC_RELAXED);
        if (since && since < oldest)
            oldest = since;
    }
    return now > oldest ? now - oldest : 0;
}

void gate_queue(struct root *r, struct gate_waiter *w)
{
    list_push_back(&gate_here(r)->waiting, &w->link);
}

void gate_queue_first(struct root *r, struct gate_waiter *w)
{
    list_push_front(&gate_here(r)->waiting, &w->link);
}

void gate_unqueue(struct gate_waiter *w)
{
    list_remove(&w->link);
}

/* Nothing that runs here yields, so nobody comes before those who wait.  One who enters may fail at once
 * and stop the gate: the others then go on waiting. */
static void end_shut(struct gate *g, unsigned bit)
{
    struct list *item;
    g->shut &= ~bit;
    while (!g->shut && (item = list_pop_front(&g->waiting))) {
        struct gate_waiter *w = container_of(item, struct gate_waiter, link);
        w->fn(w);
    }
}

void gate_open_here(struct root *r)
{
    end_shut(gate_here(r), GATE_DRAINED);
}

void gate_stop_here(struct root *r)
{
    gate_here(r)->shut |= GATE_STOPPED;
}

bool gate_stopped_here(const struct root *r)
{
    return gate_here(r)->shut & GATE_STOPPED;
}

void gate_go_on_here(struct root *r)
{
    end_shut(gate_here(r), GATE_STOPPED);
}

void gate_fail_here(struct root *r, int error, bool (*match)(struct gate_waiter *w, void *arg),
                    void *arg)
{
    struct gate *g = gate_here(r);
    struct list failing = LIST_INIT(failing), staying = LIST_INIT(staying), *item;
    while ((item = list_pop_front(&g->waiting))) {
        struct gate_waiter *w = container_of(item, struct gate_waiter, link);
        list_push_back(w->fail && (!match || match(w, arg)) ? &failing : &staying, item);
    }
    while ((item = list_pop_front(&staying)))
        list_push_back(&g->waiting, item);
    /* Whoever fails may bring new ones to the gate: they are not meant. */
    while ((item = list_pop_front(&failing))) {
        struct gate_waiter *w = container_of(item, struct gate_waiter, link);
        w->fail(w, error);
    }
}

void gate_set_unstarted(struct root *r, unsigned bit, bool on)
{
    for (unsigned i = 0; i <= rings_count(); i++) {
        if (ring_started(i))
            continue;
        if (on)
            r->gates[i]->shut |= bit;
        else
            r->gates[i]->shut &= ~bit;
    }
}

/* A coroutine before the gate.  Whoever opens it enters on its behalf, so that it keeps its place. */
struct entrant {
    struct gate_waiter waiter;
    struct operation *operation;
    struct root *root;
    struct co *co;
};

static void enter_for(struct gate_waiter *w)
{
    struct entrant *e = container_of(w, struct entrant, waiter);
    if (operation_begin(e->operation, e->root))
        co_wake(e->co);
    else
        gate_queue(e->root, w);
}

void co_fn operation_enter(struct operation *o, struct root *r)
{
    if (operation_begin(o, r))
        return;
    struct entrant e = { .waiter.fn = enter_for, .operation = o, .root = r, .co = co_self() };
    gate_queue(r, &e.waiter);
    co_yield ();
}
