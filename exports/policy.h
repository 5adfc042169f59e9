/* SPDX-License-Identifier: MIT */
/*
 * What an export does when a client's request fails: report the error, pass it
 * over, or stop.  A stopped export's gates let nobody in, so the request that
 * failed and all behind it wait, holding nothing, until it goes on; commands
 * and edits of the graph work as ever.
 *
 * Decided on the ring where the request fails, which stops there at once and
 * tells the control ring; that keeps the status and stops the other rings.
 */
#ifndef EXPORTS_POLICY_H
#define EXPORTS_POLICY_H

#include <stdatomic.h>

#include "block/event.h"
#include "block/io.h"

enum on_error { ON_ERROR_REPORT, ON_ERROR_IGNORE, ON_ERROR_ENOSPC, ON_ERROR_STOP, ON_ERROR_AUTO };
enum io_status { IO_STATUS_OK, IO_STATUS_FAILED, IO_STATUS_NOSPACE };

extern const struct row_type row_on_error;  /* BlockdevOnError */
extern const struct row_type row_io_status; /* BlockDeviceIoStatus */

struct error_policy;

/* What one ring has to tell the control ring: "I have stopped". */
struct stop_report {
    struct work work;
    struct error_policy *policy;
    uint32_t generation; /* the ring's own: how often the policy has gone on, as far as it knows */
    atomic_bool on_its_way;
    _Atomic uint64_t news; /* the last stop: generation, kind of request, error (policy.c) */
};

struct error_policy {
    /* Fixed. */
    enum on_error on_read, on_write; /* never ON_ERROR_AUTO */
    bool stops;                      /* one of them can stop: there is an io-status */
    struct root *root;
    /* Control ring. */
    enum io_status status;
    int error; /* why it has stopped: a negative errno */
    uint32_t generation;
    unsigned busy; /* coroutines that tell the other rings */
    struct co_cond idle;
    struct stop_report *reports; /* by ring index, owned */
};

/** policy_init - for the export whose clients enter @root; neither side may be ON_ERROR_AUTO; control ring
 * Return: 0 or -ENOMEM.
 */
int policy_init(struct error_policy *p, struct root *root, enum on_error on_read,
                enum on_error on_write);

/** policy_end - after the root was drained for the last time, or if policy_init() failed or was never called
 * (@p is zeroed then); control ring
 */
void co_fn policy_end(struct error_policy *p);

/** policy_failed - a client's request failed with @result: what is to be done with it
 * Data ring, inside the gate; @node_name: whose failure it was.  Sends BLOCK_IO_ERROR.
 * Return: IO_ERROR_REPORT: answer with the error; IO_ERROR_IGNORE: answer as if it had succeeded, a read with
 * zeroes; IO_ERROR_STOP: end the operation and gate_queue_first(): its turn will come.
 */
enum io_error_action policy_failed(struct error_policy *p, enum io_kind kind, int result);

/** policy_go_on - try again what waits; nothing if it has not stopped; control ring
 * Return: 0, or -ENOMEM: a ring could not be told, so try again.
 */
int co_fn policy_go_on(struct error_policy *p);

/** policy_fail - what waits ends with its error, or the one for which the export has stopped; then the export
 * goes on; nothing if it has not stopped; control ring
 */
int co_fn policy_fail(struct error_policy *p);

/** policy_stopped_count - exports that have stopped; control ring */
unsigned policy_stopped_count(void);

extern const struct event_type event_stop, event_resume;

#endif
