/* SPDX-License-Identifier: MIT */
/*
 * There is one edit at a time, so it has its memory from the beginning: a drain
 * or a roll-back cannot fail for want of any.
 */
#include "block/edit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "block/drain.h"
#include "block/graph.h"
#include "block/io.h"

struct edit {
    const char *what;
    struct edit_step *steps;
    unsigned step_count, step_room;
    struct edit_change *changes;
    unsigned change_count, change_room;
    bool journalled;
    struct drain drain;
};

static struct edit running;
static struct turn edit_turn = TURN_INIT(edit_turn);
static int co_fn (*journal)(const struct edit_record *record, struct err *err);
static uint64_t drain_deadline = 30000000000;

void edit_set_journal(int co_fn (*hook)(const struct edit_record *record, struct err *err))
{
    journal = hook;
}

void edit_set_drain_deadline(uint64_t ns)
{
    drain_deadline = ns;
}

struct edit *co_fn edit_begin(const char *what)
{
    turn_take(&edit_turn);
    running.what = what;
    drain_init(&running.drain);
    return &running;
}

static int co_fn shut(struct edit *e, const char *place, struct err *err)
{
    struct root *blocker;
    uint64_t age;
    int result = drain_shut(&e->drain, ring_now() + drain_deadline, &blocker, &age);
    if (result == 0)
        return 0;
    if (!blocker)
        return err_set(err, result, "%s: cannot quiet '%s': out of memory or out of time", e->what,
                       place);
    return err_set(err, result,
                   "%s: cannot quiet '%s': a request of '%s' has been in flight for %llu.%llu s",
                   e->what, place, blocker->name, (unsigned long long)(age / 1000000000),
                   (unsigned long long)(age / 100000000 % 10));
}

int co_fn edit_drain(struct edit *e, struct node *n, struct err *err)
{
    drain_gather(&e->drain, n);
    return shut(e, node_label(n), err);
}

int co_fn edit_drain_below(struct edit *e, struct node *n, struct err *err)
{
    drain_gather_below(&e->drain, n);
    return shut(e, node_label(n), err);
}

int co_fn edit_drain_root(struct edit *e, struct root *r, struct err *err)
{
    drain_gather_root(&e->drain, r);
    return shut(e, r->name, err);
}

/* Room for one more in an array of @size bytes an element. */
static int make_room(void **array, unsigned count, unsigned *room, size_t size, struct err *err)
{
    if (count < *room)
        return 0;
    unsigned more = *room ? 2 * *room : 8;
    void *bigger = realloc(*array, more * size);
    if (!bigger)
        return err_set(err, -ENOMEM, "out of memory");
    *array = bigger;
    *room = more;
    return 0;
}

int edit_step(struct edit *e, const struct edit_step *step, struct err *err)
{
    void *steps = e->steps;
    int result = make_room(&steps, e->step_count, &e->step_room, sizeof *step, err);
    e->steps = steps;
    if (result == 0)
        e->steps[e->step_count++] = *step;
    return result;
}

int edit_note(struct edit *e, const struct edit_change *change, struct err *err)
{
    void *changes = e->changes;
    int result = make_room(&changes, e->change_count, &e->change_room, sizeof *change, err);
    e->changes = changes;
    if (result == 0)
        e->changes[e->change_count++] = *change;
    return result;
}

/* Opens the gates and lets the next edit begin; what closes things comes after both. */
static void co_fn finish(struct edit *e)
{
    struct root *r;
    list_for_each (r, &e->drain.shut, in_drain)
        shortcut_recompute(r);
    drain_open(&e->drain);

    struct edit_step *steps = take_ptr(&e->steps);
    unsigned count = e->step_count;
    e->step_count = e->step_room = 0;
    free(take_ptr(&e->changes));
    e->change_count = e->change_room = 0;
    e->journalled = false;
    turn_leave(&edit_turn);
    for (unsigned i = 0; i < count; i++)
        if (steps[i].clean)
            steps[i].clean(steps[i].arg);
    free(steps);
}

int co_fn edit_journal(struct edit *e, struct err *err)
{
    const struct edit_record record = { e->what, e->changes, e->change_count };
    if (!journal || !e->change_count || e->journalled)
        return 0;
    e->journalled = true;
    return journal(&record, err);
}

int co_fn edit_commit(struct edit *e, struct err *err)
{
    if (edit_journal(e, err) < 0) {
        edit_abort(e);
        return err->code;
    }
    for (unsigned i = 0; i < e->step_count; i++)
        if (e->steps[i].commit)
            e->steps[i].commit(e->steps[i].arg);
    finish(e);
    return 0;
}

void co_fn edit_abort(struct edit *e)
{
    for (unsigned i = e->step_count; i-- > 0;)
        if (e->steps[i].abort)
            e->steps[i].abort(e->steps[i].arg);
    finish(e);
}
