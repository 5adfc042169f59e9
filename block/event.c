/* SPDX-License-Identifier: MIT */
/*
 * Events travel as JSON to the control ring and there to the sink.  The JSON
 * object belongs to one thread at a time: the sender's, then the control ring's.
 */
#include "block/event.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "uring/ring.h"

enum { EVENTS_MAX = 128 };

struct message {
    struct work work;
    const struct event_type *type;
    struct json_object *data;
    struct timespec when;
};

typedef void sink_fn(const struct event_type *type, struct json_object *data, uint64_t seconds,
                     uint64_t microseconds);

static _Atomic(sink_fn *) sink; /* set on the control ring, looked at on any */
static const struct event_type *types[EVENTS_MAX];
static unsigned type_count;

static const char *const operation_names[] = { "read", "write", NULL };
ROW_ENUM_TYPE(row_io_operation_type, "IoOperationType", operation_names, .since = "0.1",
              .help = "What a request wanted");

static const char *const action_names[] = { "ignore", "report", "stop", NULL };
ROW_ENUM_TYPE(row_io_error_action, "BlockErrorAction", action_names, .since = "0.1",
              .help = "What was done about an error");

static const struct row write_threshold_rows[] = {
    ROW_REQ(struct write_threshold_event, "node-name", node_name, row_str,
            .help = "The node on which the threshold was exceeded"),
    ROW_REQ(struct write_threshold_event, "amount-exceeded", amount_exceeded, row_uint64,
            .help = "By how many bytes the write passed it"),
    ROW_REQ(struct write_threshold_event, "write-threshold", write_threshold, row_uint64,
            .help = "The threshold, in bytes"),
    ROW_END
};
static ROW_STRUCT_TYPE(write_threshold_data, "EventBlockWriteThreshold",
                       struct write_threshold_event, write_threshold_rows, .since = "0.1",
                       .help = "Data of BLOCK_WRITE_THRESHOLD");

const struct event_type event_block_write_threshold = {
    .name = "BLOCK_WRITE_THRESHOLD",
    .data = &write_threshold_data,
    .since = "0.1",
    .help = "A write passed the threshold of a node, which is off from then on",
};

static const struct row io_error_rows[] = {
    ROW_REQ(struct io_error_event, "device", device, row_str, .help = "The export's id"),
    ROW_REQ(struct io_error_event, "node-name", node_name, row_str, .help = "The node's name"),
    ROW_REQ(struct io_error_event, "operation", operation, row_io_operation_type,
            .help = "What the request wanted"),
    ROW_REQ(struct io_error_event, "action", action, row_io_error_action,
            .help = "What was done about the error"),
    ROW_HAS(struct io_error_event, "nospace", nospace, row_bool,
            .help = "Whether space ran out; only where an io-status is kept"),
    ROW_REQ(struct io_error_event, "reason", reason, row_str,
            .help = "What went wrong, for people to read"),
    ROW_END
};
static ROW_STRUCT_TYPE(io_error_data, "EventBlockIoError", struct io_error_event, io_error_rows,
                       .since = "0.1", .help = "Data of BLOCK_IO_ERROR");

const struct event_type event_block_io_error = {
    .name = "BLOCK_IO_ERROR",
    .data = &io_error_data,
    .rate_limit = 1000000000,
    .key = "device",
    .since = "0.1",
    .help = "A client's request failed",
};

static void deliver(struct work *work)
{
    struct message *m = container_of(work, struct message, work);
    sink_fn *to = atomic_load_explicit(&sink, memory_order_relaxed);

    if (to)
        to(m->type, m->data, m->when.tv_sec, m->when.tv_nsec / 1000);
    else /* nobody listens any more: the daemon stops */
        row_release(&row_any, &m->data);
    free(m);
}

void event_send(const struct event_type *type, const void *data)
{
    if (!atomic_load_explicit(&sink, memory_order_relaxed))
        return;
    struct message *m = malloc(sizeof *m);
    struct json_object *json = m && type->data ? row_print(type->data, data) : NULL;
    if (!m || (type->data && !json)) {
        log_error("event %s is lost: out of memory", type->name);
        free(m);
        return;
    }
    *m = (struct message){ .work.fn = deliver, .type = type, .data = json };
    clock_gettime(CLOCK_REALTIME, &m->when);
    ring_post(ring_control(), &m->work);
}

void event_set_sink(void (*to)(const struct event_type *type, struct json_object *data,
                               uint64_t seconds, uint64_t microseconds))
{
    atomic_store_explicit(&sink, to, memory_order_relaxed);
}

void event_register(const struct event_type *const *list)
{
    for (; *list; list++) {
        unsigned i = 0;
        while (i < type_count && types[i] != *list)
            i++;
        if (i == EVENTS_MAX)
            log_error("no room for event %s", (*list)->name);
        else if (i == type_count)
            types[type_count++] = *list;
    }
}

const struct event_type *event_by_index(unsigned index)
{
    return index < type_count ? types[index] : NULL;
}
