/* SPDX-License-Identifier: MIT */
/*
 * The watchdog: names coroutines that wait too long, with their call stacks,
 * and prints all of them on request.  Its timer is set only while a ring holds
 * coroutines that it watches, and only before the ring sleeps, so that neither
 * an idle ring nor a busy one pays for it.
 */
#include "uring/engine.h"

#include "base/log.h"
#include "uring/pool.h"

#define WATCH_DEFAULT (30 * NS_PER_S)
#define TRIM_EVERY    (5 * NS_PER_S)

static _Atomic uint64_t limit = WATCH_DEFAULT; /* ns; 0: off */

static double seconds(uint64_t ns)
{
    return (double)ns / (double)NS_PER_S;
}

static uint64_t age(uint64_t since, uint64_t now)
{
    return now > since ? now - since : 0;
}

static void describe(struct ring *r, struct co *co, uint64_t now)
{
    const char *state = co->fresh ? "not started" : co == r->running ? "running" : "waiting";

    log_warning("  ring %u: '%s' %p: %.1f s old, %s for %.1f s", r->index,
                co->label ? co->label : "?", (void *)co, seconds(age(co->born, now)), state,
                seconds(age(co->since, now)));
    co_backtrace(r, co);
}

/* ---- what waits too long ---- */

static uint64_t tick(void)
{
    uint64_t ns = atomic_load_explicit(&limit, memory_order_relaxed);

    return ns / 4 + 1;
}

static void watch(struct timer *timer)
{
    struct ring *r = container_of(timer, struct ring, watchdog);
    uint64_t ns = atomic_load_explicit(&limit, memory_order_relaxed), now = ring_turn_now();
    struct co *co;

    if (!ns)
        return;
    list_for_each (co, &r->stacks, all) {
        if (!co->live || co->exempt || age(co->since, now) < ns || co->warned_since == co->since)
            continue;
        co->warned_since = co->since;
        log_warning("a request waits for more than %.0f s:", seconds(ns));
        describe(r, co, now);
    }
}

static void trim(struct timer *timer)
{
    struct ring *r = container_of(timer, struct ring, trimmer);

    co_trim(r);
    pool_trim();
}

void watchdog_arm(struct ring *r)
{
    uint64_t now = ring_turn_now();

    if (r->live > r->exempt && !r->watchdog.place &&
        atomic_load_explicit(&limit, memory_order_relaxed)) {
        r->watchdog.fn = watch;
        timer_set(&r->watchdog, now + tick());
    }
    if (!r->trimmer.place && (r->idle_count > r->reserved || pool_has_idle(r))) {
        r->trimmer.fn = trim;
        timer_set(&r->trimmer, now + TRIM_EVERY);
    }
}

void watchdog_slow_turn(struct ring *r, uint64_t ns)
{
    if (atomic_load_explicit(&limit, memory_order_relaxed))
        log_warning("ring %u was busy for %.1f s without a look at its other work", r->index,
                    seconds(ns));
}

void ring_watchdog(uint64_t ns)
{
    atomic_store(&limit, ns);
}

/* ---- on request ---- */

static void dump_arrives(struct work *work)
{
    struct ring *r = container_of(work, struct ring, dump_work);
    uint64_t now = ring_now();
    struct co *co;

    atomic_store(&r->dump_posted, false);
    log_warning("ring %u: %u coroutines, %u stacks pooled, %u operations in the kernel, %u timers",
                r->index, r->live, r->idle_count, op_in_flight_count(r), r->timer_count);
    list_for_each (co, &r->stacks, all) {
        if (co->live)
            describe(r, co, now);
    }
}

void ring_dump(void)
{
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *r = ring_started(i);
        if (!r || atomic_exchange(&r->dump_posted, true))
            continue;
        r->dump_work.fn = dump_arrives;
        ring_post(r, &r->dump_work);
    }
}
