/* SPDX-License-Identifier: MIT */
/* Requests that take too long: see the header. */
#include "block/deadline.h"

#include "base/log.h"
#include "block/graph.h"

#define CHECK_EVERY_MIN UINT64_C(10000000) /* ns */

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* Return: how many nodes below can do it. */
static unsigned yank_below(struct root *r)
{
    struct descent d;
    struct edge *e;
    struct node *n;
    unsigned count = 0;

    list_for_each (e, &r->edges, in_parent) {
        descent_begin(&d, e->child);
        while ((n = descent_next(&d))) {
            if (!n->driver->yank)
                continue;
            n->driver->yank(n);
            count++;
        }
    }
    return count;
}

/* Each request that is late is told of once, but yanked as long as it is there: it may have been on its way
 * from one node to another. */
static void check(struct timer *timer)
{
    struct root *r = container_of(timer, struct root, deadline_timer);
    uint64_t age = root_oldest(r), began = ring_now() - age;

    if (age > r->deadline) {
        unsigned able = yank_below(r);
        if (began > r->deadline_told + CHECK_EVERY_MIN)
            log_warning("'%s': a request has been in flight for %.1f s, more than its %.1f s: %s",
                        r->name, seconds(age), seconds(r->deadline),
                        able ? "it is made to fail" : "no node below can give it up");
        if (began > r->deadline_told)
            r->deadline_told = began;
    }
    root_set_deadline(r, r->deadline);
}

void root_set_deadline(struct root *r, uint64_t ns)
{
    uint64_t every = ns / 4 > CHECK_EVERY_MIN ? ns / 4 : CHECK_EVERY_MIN;

    r->deadline = ns;
    r->deadline_timer.fn = check;
    if (!ns)
        timer_cancel(&r->deadline_timer);
    else if (timer_set(&r->deadline_timer, ring_now() + every) < 0)
        log_error("'%s': no memory to watch its deadline", r->name);
}

void roots_dump(void)
{
    for (struct root *r = root_first(); r; r = root_next(r)) {
        unsigned inside = root_inside(r);
        if (inside)
            log_warning("'%s': %u requests in flight, the oldest for %.1f s", r->name, inside,
                        seconds(root_oldest(r)));
    }
}
