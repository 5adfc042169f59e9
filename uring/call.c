/* SPDX-License-Identifier: MIT */
/*
 * Coroutines started on other rings.  The message of a call lies on the
 * caller's stack, which stays until the answer came; whoever wakes the caller
 * touches nothing of it afterwards.
 */
#include "uring/engine.h"

#include <errno.h>
#include <stdlib.h>

struct call {
    struct work work;
    int (*fn)(void *arg);
    void *arg;
    struct co *caller;
    unsigned *pending; /* of rings_call_all(): answers still to come; caller's ring only */
    struct ring *home;
    int result;
};

static void call_answered(struct work *work)
{
    struct call *c = container_of(work, struct call, work);

    if (--*c->pending == 0)
        co_wake(c->caller);
}

static void call_finish(struct call *c, int result)
{
    c->result = result;
    if (!c->pending) {
        co_wake(c->caller);
        return;
    }
    c->work.fn = call_answered;
    ring_post(c->home, &c->work);
}

static void call_main(void *arg)
{
    struct call *c = arg;

    call_finish(c, c->fn(c->arg));
}

static void call_arrives(struct work *work)
{
    struct call *c = container_of(work, struct call, work);

    if (co_enter(call_main, c, "call from another ring") < 0)
        call_finish(c, -ENOMEM);
}

int co_fn ring_call(struct ring *to, int (*fn)(void *arg), void *arg)
{
    if (to == this_ring)
        return fn(arg);
    struct call c = {
        .work.fn = call_arrives, .fn = fn, .arg = arg, .caller = co_self(), .home = this_ring
    };
    ring_post(to, &c.work);
    co_yield ();
    return c.result;
}

int co_fn rings_call_all(int (*fn)(void *arg), void *arg)
{
    struct call calls[RINGS_MAX + 1];
    unsigned n = 0, pending = 0;

    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *to = ring_started(i);
        if (!to)
            continue;
        calls[n] = (struct call){ .work.fn = call_arrives,
                                  .fn = fn,
                                  .arg = arg,
                                  .caller = co_self(),
                                  .pending = &pending,
                                  .home = this_ring };
        pending++;
        ring_post(to, &calls[n++].work);
    }
    co_yield ();
    int result = 0;
    for (unsigned i = 0; i < n && result == 0; i++)
        if (calls[i].result < 0)
            result = calls[i].result;
    return result;
}

/* ---- start and don't wait ---- */

struct spawn {
    struct work work;
    struct list link; /* in spawn_waiting */
    void (*fn)(void *arg);
    void *arg;
    const char *label;
};

static void spawn_arrives(struct work *work)
{
    struct spawn *s = container_of(work, struct spawn, work);
    struct ring *r = this_ring;

    /* Promised already: out of memory only delays it. */
    if (!list_empty(&r->spawn_waiting) || co_start(s->fn, s->arg, s->label) < 0)
        list_push_back(&r->spawn_waiting, &s->link);
    else
        free(s);
}

void spawn_retry(struct ring *r)
{
    while (!list_empty(&r->spawn_waiting)) {
        struct spawn *s = container_of(r->spawn_waiting.next, struct spawn, link);
        if (co_start(s->fn, s->arg, s->label) < 0)
            return;
        list_remove(&s->link);
        free(s);
    }
}

int ring_spawn(struct ring *to, void (*fn)(void *arg), void *arg, const char *label)
{
    if (to == this_ring)
        return co_start(fn, arg, label);
    struct spawn *s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct spawn){ .work.fn = spawn_arrives, .fn = fn, .arg = arg, .label = label };
    ring_post(to, &s->work);
    return 0;
}
