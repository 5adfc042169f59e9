/* SPDX-License-Identifier: MIT */
/*
 * Shutting and opening gates.  Each ring gets one message per batch of roots,
 * shuts its gates and sends the message back when nobody is inside them any
 * more; so nothing is allocated, and control state is touched by the control
 * ring only.  A ring that was never started has nobody inside: its gates are
 * set from here (it sees that when it starts, which the control ring does).
 */
#include "block/drain.h"

#include <errno.h>

#include "block/graph.h"

void drain_init(struct drain *d)
{
    *d = (struct drain){ 0 };
    list_init(&d->clients);
    list_init(&d->background);
    list_init(&d->shut);
    list_init(&d->nodes);
}

/* ---- which roots ---- */

static void gather(struct list *list, struct root *r)
{
    if (list_empty(&r->in_drain))
        list_push_back(list, &r->in_drain);
}

/* Everything above @n has been seen: its background work comes next. */
static void gather_background(struct drain *d, struct node *n, uint64_t walk, bool all)
{
    struct root *r;
    n->walk.finished = walk;
    list_for_each (r, &n->background, in_background) {
        if (all || r->visited == walk)
            gather(&d->background, r);
    }
}

/* Return: the node by which the way up goes on, or NULL. */
static struct node *meet_root(struct drain *d, struct root *r, uint64_t walk)
{
    if (r->visited == walk)
        return NULL;
    r->visited = walk;
    if (r->kind != ROOT_BACKGROUND) {
        gather(&d->clients, r);
        return NULL;
    }
    if (r->background_of && r->background_of->walk.finished != walk)
        return r->background_of;
    gather(&d->background, r);
    return NULL;
}

static struct node *climb(struct node *to, struct node *from, uint64_t walk)
{
    to->walk.visited = walk;
    to->walk.below = from;
    to->walk.at = to->parents.next;
    return to;
}

/* Depth first, upwards, without recursion: chains may be long. */
void drain_gather(struct drain *d, struct node *n)
{
    uint64_t walk = graph_new_walk();
    struct node *at = climb(n, NULL, walk);
    while (at) {
        if (at->walk.at == &at->parents) {
            gather_background(d, at, walk, at == n);
            at = at->walk.below;
            continue;
        }
        struct edge *e = container_of(at->walk.at, struct edge, in_child);
        at->walk.at = at->walk.at->next;
        struct node *up = e->parent_root ? meet_root(d, e->parent_root, walk) : e->parent_node;
        if (up && up->walk.visited != walk)
            at = climb(up, at, walk);
    }
}

/* Whoever can reach a node can reach what is below it: so ask for the lowest. */
void drain_gather_below(struct drain *d, struct node *n)
{
    struct descent below;
    struct list lowest = LIST_INIT(lowest), *item;
    struct node *at;
    descent_begin(&below, n);
    while ((at = descent_next(&below))) {
        if (list_empty(&at->children))
            list_push_back(&lowest, &at->walk.todo);
    }
    while ((item = list_pop_front(&lowest)))
        drain_gather(d, container_of(item, struct node, walk.todo));
}

void drain_gather_root(struct drain *d, struct root *r)
{
    if (r->kind == ROOT_BACKGROUND && r->background_of)
        drain_gather(d, r->background_of);
    gather(r->kind == ROOT_BACKGROUND ? &d->background : &d->clients, r);
}

/* ---- nodes that may hold requests ---- */

static void begin_node(struct drain *d, struct node *n)
{
    if (!n->driver->drain_begin || !list_empty(&n->walk.drained))
        return;
    node_ref(n);
    list_push_back(&d->nodes, &n->walk.drained);
    n->driver->drain_begin(n);
}

static void visit_child(struct list *todo, struct edge *e, uint64_t walk)
{
    if (e->child->walk.visited == walk)
        return;
    e->child->walk.visited = walk;
    list_push_back(todo, &e->child->walk.todo);
}

static void begin_nodes(struct drain *d, struct list *batch)
{
    uint64_t walk = graph_new_walk();
    struct list todo = LIST_INIT(todo), *item;
    struct root *r;
    struct edge *e;
    list_for_each (r, batch, in_drain) {
        list_for_each (e, &r->edges, in_parent)
            visit_child(&todo, e, walk);
    }
    while ((item = list_pop_front(&todo))) {
        struct node *n = container_of(item, struct node, walk.todo);
        begin_node(d, n);
        list_for_each (e, &n->children, in_parent)
            visit_child(&todo, e, walk);
    }
}

static void co_fn end_nodes(struct drain *d)
{
    struct list *item;
    while ((item = list_pop_front(&d->nodes))) {
        struct node *n = container_of(item, struct node, walk.drained);
        if (n->driver->drain_end)
            n->driver->drain_end(n);
        node_unref(n);
    }
}

/* ---- messages ---- */

static void came_back(struct drain *d)
{
    struct co *co = d->waiter;
    if (--d->outstanding == 0 && co) {
        d->waiter = NULL;
        co_wake(co);
    }
}

static void work_came_back(struct work *work)
{
    came_back(container_of(work, struct drain_part, work)->drain);
}

static void cancel_came_back(struct work *work)
{
    came_back(container_of(work, struct drain_part, cancel)->drain);
}

static void send_back(struct work *work, void (*fn)(struct work *work))
{
    work->fn = fn;
    ring_post(ring_control(), work);
}

static void send(struct drain *d, struct ring *ring, struct work *work,
                 void (*fn)(struct work *work))
{
    d->outstanding++;
    work->fn = fn;
    ring_post(ring, work);
}

static void timer_fired(struct timer *timer)
{
    struct drain *d = container_of(timer, struct drain, timer);
    struct co *co = d->waiter;
    d->late = true;
    if (co) {
        d->waiter = NULL;
        co_wake(co);
    }
}

/* Wait until everything is back; @deadline 0: however long.  False: too late. */
static bool co_fn await_all(struct drain *d, uint64_t deadline)
{
    d->late = false;
    if (deadline && d->outstanding) {
        d->timer.fn = timer_fired;
        if (timer_set(&d->timer, deadline) < 0)
            d->late = true; /* out of memory: better no drain than one without end */
    }
    while (d->outstanding && !d->late) {
        d->waiter = co_self();
        co_yield ();
    }
    if (deadline)
        timer_cancel(&d->timer);
    return d->outstanding == 0;
}

/* ---- on each ring ---- */

static void shut_here(struct work *work)
{
    struct drain_part *part = container_of(work, struct drain_part, work);
    unsigned here = ring_index(this_ring);
    struct root *r;
    list_for_each (r, part->drain->batch, in_drain) {
        struct gate *g = r->gates[here];
        g->shut |= GATE_DRAINED;
        if (!g->inside)
            continue;
        g->drain = part;
        part->waiting++;
    }
    if (!part->waiting)
        send_back(&part->work, work_came_back);
}

void drain_gate_empty(struct gate *g)
{
    struct drain_part *part = g->drain;
    g->drain = NULL;
    if (--part->waiting == 0)
        send_back(&part->work, work_came_back);
}

static void give_up_gate(struct drain_part *part, struct root *r, struct gate *g)
{
    if (g->drain != part)
        return;
    g->drain = NULL;
    struct operation *oldest = container_of(g->operations.next, struct operation, link);
    if (!part->blocker || oldest->since < part->since) {
        part->blocker = r;
        part->since = oldest->since;
    }
}

static void give_up_here(struct work *work)
{
    struct drain_part *part = container_of(work, struct drain_part, cancel);
    struct root *r;
    if (part->waiting) {
        list_for_each (r, part->drain->batch, in_drain) {
            give_up_gate(part, r, r->gates[ring_index(this_ring)]);
        }
        part->waiting = 0;
        send_back(&part->work, work_came_back);
    }
    send_back(&part->cancel, cancel_came_back);
}

static void open_here(struct work *work)
{
    struct drain_part *part = container_of(work, struct drain_part, work);
    struct root *r;
    list_for_each (r, part->drain->batch, in_drain)
        gate_open_here(r);
    send_back(&part->work, work_came_back);
}

/* ---- on the control ring ---- */

static void send_to_all(struct drain *d, struct list *batch, bool shut)
{
    struct root *r;
    d->batch = batch;
    list_for_each (r, batch, in_drain)
        gate_set_unstarted(r, GATE_DRAINED, shut);
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *ring = ring_started(i);
        struct drain_part *part = &d->parts[i];
        if (!ring)
            continue;
        *part = (struct drain_part){ .drain = d };
        send(d, ring, &part->work, shut ? shut_here : open_here);
    }
}

static void find_blocker(struct drain *d, struct root **blocker, uint64_t *age)
{
    uint64_t now = ring_now(), oldest = UINT64_MAX;
    *blocker = NULL;
    *age = 0;
    for (unsigned i = 0; i <= rings_count(); i++) {
        const struct drain_part *part = &d->parts[i];
        if (!part->blocker || part->since >= oldest)
            continue;
        *blocker = part->blocker;
        oldest = part->since;
        *age = now > oldest ? now - oldest : 0;
    }
}

static void splice(struct list *to, struct list *from)
{
    struct list *item;
    while ((item = list_pop_front(from)))
        list_push_back(to, item);
}

static int co_fn shut_batch(struct drain *d, struct list *batch, uint64_t deadline)
{
    struct root *r;
    int result = 0;
    if (list_empty(batch))
        return 0;
    begin_nodes(d, batch);
    send_to_all(d, batch, true);
    if (!await_all(d, deadline)) {
        for (unsigned i = 0; i <= rings_count(); i++)
            if (d->parts[i].drain && ring_started(i))
                send(d, ring_started(i), &d->parts[i].cancel, give_up_here);
        await_all(d, 0);
        result = -ETIMEDOUT;
    }
    list_for_each (r, batch, in_drain) {
        r->drain_told = result == 0;
        if (r->drain_told && r->driver && r->driver->drain_begin)
            r->driver->drain_begin(r);
    }
    splice(&d->shut, batch);
    return result;
}

int co_fn drain_shut(struct drain *d, uint64_t deadline, struct root **blocker, uint64_t *age)
{
    struct list batch = LIST_INIT(batch), *item;
    splice(&batch, &d->clients);
    int result = shut_batch(d, &batch, deadline);
    while (result == 0 && (item = list_pop_front(&d->background))) {
        list_push_back(&batch, item);
        result = shut_batch(d, &batch, deadline);
    }
    if (result < 0)
        find_blocker(d, blocker, age);
    return result;
}

void co_fn drain_open(struct drain *d)
{
    struct list *item;
    while ((item = list_pop_front(&d->background)))
        ;
    end_nodes(d);
    if (!list_empty(&d->shut)) {
        send_to_all(d, &d->shut, false);
        await_all(d, 0);
    }
    while ((item = list_pop_front(&d->shut))) {
        struct root *r = container_of(item, struct root, in_drain);
        if (r->drain_told && r->driver && r->driver->drain_end)
            r->driver->drain_end(r);
        r->drain_told = false;
    }
}
