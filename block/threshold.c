/* SPDX-License-Identifier: MIT */
/*
 * The write threshold of a node.  It is set by an edit, which closes the short
 * cut for writes, so that every later write passes threshold_check().  The
 * first one past it disarms it and sends the event; an edit in the background
 * then opens the short cut again.
 */
#include "block/threshold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/edit.h"
#include "block/event.h"
#include "block/io.h"
#include "block/observe.h"

/* The node may be gone by now: it is found by its name again. */
static void co_fn open_short_cut(void *arg)
{
    autofree char *name = arg;
    struct edit *edit = edit_begin("write threshold reached");
    struct node *n = node_find(name);
    autoerr err = { 0 };

    if (n && !atomic_load(&n->write_threshold) && edit_drain(edit, n, &err) == 0) {
        watch_refresh(n);
        (void)edit_commit(edit, &err); /* nothing but speed depends on it */
    } else {
        edit_abort(edit);
    }
}

void threshold_check(struct node *n, uint64_t end)
{
    uint64_t threshold = atomic_load_explicit(&n->write_threshold, memory_order_relaxed);
    struct write_threshold_event data;
    char *name;

    if (!threshold || end <= threshold ||
        !atomic_compare_exchange_strong(&n->write_threshold, &threshold, 0))
        return;
    data = (struct write_threshold_event){
        .node_name = n->name,
        .amount_exceeded = end - threshold,
        .write_threshold = threshold,
    };
    event_send(&event_block_write_threshold, &data);
    name = strdup(n->name);
    if (name && ring_spawn(ring_control(), open_short_cut, name, "write threshold") < 0)
        free(name);
}

int co_fn threshold_set(struct node *n, uint64_t bytes, struct err *err)
{
    struct edit *edit = edit_begin("block-set-write-threshold");

    if (edit_drain(edit, n, err) < 0) {
        edit_abort(edit);
        return err->code;
    }
    atomic_store(&n->write_threshold, bytes);
    watch_refresh(n);
    return edit_commit(edit, err);
}
