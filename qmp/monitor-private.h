/* SPDX-License-Identifier: MIT */
/*
 * What the files of a monitor share; nobody else includes this.
 *
 *   monitor.c          a monitor's life: it begins, is cut off, and ends; all of them together
 *   monitor-input.c    what the client sends: reading, framing, the brake
 *   monitor-request.c  requests: in order or out of band, checked, carried out, answered
 *   monitor-output.c   what the client gets: sent at once or queued, up to a limit
 *   monitor-fd.c       descriptors that came along
 *
 * Everything runs on the control ring.  Each coroutine of a monitor holds a
 * use of it; the last one to end frees it.
 */
#ifndef QMP_MONITOR_PRIVATE_H
#define QMP_MONITOR_PRIVATE_H

#include "base/json.h"
#include "base/list.h"
#include "qmp/qmp.h"
#include "uring/sync.h"

struct msghdr;

enum {
    READ_BYTES = 16 << 10,
    QUEUE_MAX = 8,             /* requests that wait */
    QUEUE_BYTES_MAX = 1 << 20, /* their text, together, past which no more is read */
    BRAKE_BYTES = 1 << 20,     /* output waiting, past which no more is read or run */
    OUTPUT_LIMIT = 16 << 20,   /* output waiting, past which the client is cut off */
    OOB_MAX = 8,               /* commands out of band at a time */
    FDS_MAX = 16,              /* descriptors that wait for a command */
};

struct request {
    struct list link;
    struct monitor *m;
    struct json_object *value; /* what came, whole; NULL: a JSON null, or text that was none */
    struct err err;            /* it could not even be read */
    size_t bytes;
    unsigned turn; /* of the read that made it whole */
};

/* A descriptor that came along with bytes of a read: it is for the first command that ends in this
 * read or a later one and asks for one. */
struct passed_fd {
    int fd;
    unsigned turn;
};

struct monitor {
    struct list link; /* of all monitors */
    int in, out;
    bool socket;
    struct monitor_options options;
    void (*ended)(void *arg);
    void *ended_arg;

    unsigned uses; /* coroutines that still need this */
    bool negotiated, oob;
    bool eof;  /* nothing more will be read */
    bool dead; /* cut off: nothing more will be sent either */
    struct co *reader, *writer;

    struct json_reader json;
    size_t fed;                    /* bytes of the value being read */
    struct passed_fd fds[FDS_MAX]; /* oldest first */
    unsigned fd_count, turn;

    struct list queue; /* struct request, in band */
    unsigned queued, oob_running;
    size_t queued_bytes;
    bool running;            /* a coroutine works the queue off */
    struct request *current; /* while a command has not yielded yet: what it was asked by */
    struct co_cond moved;    /* the queue or the output got shorter, or the client is dead */

    struct list output; /* what the kernel did not take yet, oldest first */
    size_t pending;     /* bytes in it */

    struct list named_fds;
};

/** monitor_put - give a use back; frees the monitor with the last one */
void monitor_put(struct monitor *m);

/** monitor_cut_off - no more in or out; the coroutines notice and end
 * @why: for the log; NULL: nothing worth a line
 */
void monitor_cut_off(struct monitor *m, const char *why);

/** monitor_stopped - is nothing more to be read from this client? */
bool monitor_stopped(const struct monitor *m);

/** monitor_braked - so much output waits that neither is read nor run before some of it is gone */
static inline bool monitor_braked(const struct monitor *m)
{
    return !m->dead && m->pending > BRAKE_BYTES;
}

/** monitor_refuses - is the daemon about to stop, and the command @c not one of the last that are carried out? */
bool monitor_refuses(const struct qmp_command *c);

/** monitor_reader - the body of the coroutine that reads, with a use of the monitor @arg */
void co_fn monitor_reader(void *arg);

/** monitor_new_request - take what was read for a request, to be answered in its turn
 * @value: taken over; NULL: a JSON null, or text that was none
 * @err: set: it could not even be read; moved out
 */
void monitor_new_request(struct monitor *m, struct json_object *value, struct err *err);

/** monitor_emit - send one value, or queue it; never yields */
void monitor_emit(struct monitor *m, struct json_object *value);

/** monitor_greet - the first line that a client gets */
void monitor_greet(struct monitor *m);

/** monitor_drop_output - forget what was not sent yet */
void monitor_drop_output(struct monitor *m);

/** monitor_keep_fds - take over the descriptors that came with the bytes of a read */
void monitor_keep_fds(struct monitor *m, struct msghdr *msg);

/** monitor_close_fds - close all that came along and were not taken */
void monitor_close_fds(struct monitor *m);

#endif
