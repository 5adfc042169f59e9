/* SPDX-License-Identifier: MIT */
/*
 * Events: something happened that clients of the control channel may want to
 * know.  An event is a row type; whoever sends it fills in the C struct.
 */
#ifndef BLOCK_EVENT_H
#define BLOCK_EVENT_H

#include "base/row.h"
#include "block/types.h"

struct event_type {
    const char *name;            /* "BLOCK_WRITE_THRESHOLD" */
    const struct row_type *data; /* a struct type; NULL: no data */
    uint64_t rate_limit;         /* ns between two of the same key; 0: none */
    const char *key;             /* rate limit per value of this member; NULL: per event */
    const char *since, *help;
};

/** event_send - any ring; @data is copied as JSON with the time of now and handed to the sink on the
 * control ring.  Never fails: out of memory loses the event with a line in the log.
 */
void event_send(const struct event_type *type, const void *data);

/** event_set_sink - who gets the events; control ring.  @data is the sink's to release. */
void event_set_sink(void (*sink)(const struct event_type *type, struct json_object *data,
                                 uint64_t seconds, uint64_t microseconds));

/** event_register - make a NULL-ended list of event types known (for the schema and the reference) */
void event_register(const struct event_type *const *list);
const struct event_type *event_by_index(unsigned index); /* NULL past the last */

/* Data of BLOCK_WRITE_THRESHOLD. */
struct write_threshold_event {
    char *node_name;
    uint64_t amount_exceeded; /* bytes */
    uint64_t write_threshold; /* bytes */
};

/* The block layer's own. */
enum io_error_action { IO_ERROR_IGNORE, IO_ERROR_REPORT, IO_ERROR_STOP };

/* Data of BLOCK_IO_ERROR. */
struct io_error_event {
    char *device; /* the export's id */
    char *node_name;
    int operation; /* 0: read, 1: write */
    int action;    /* enum io_error_action */
    bool has_nospace, nospace;
    char *reason; /* for people */
};

extern const struct row_type row_io_operation_type, row_io_error_action;
extern const struct event_type event_block_write_threshold;
extern const struct event_type event_block_io_error;

#endif
