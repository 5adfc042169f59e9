/* SPDX-License-Identifier: MIT */
/*
 * The control channel: commands, events and the clients that speak QMP.  A
 * command is one constant struct in the cmd-*.c file of its family; parsing of
 * its arguments, output of its result, introspection and the reference come
 * from its rows.  Everything here runs on the control ring.
 */
#ifndef QMP_QMP_H
#define QMP_QMP_H

#include <stdio.h>

#include "base/address.h"
#include "base/row.h"
#include "block/event.h"
#include "uring/co.h"

struct monitor;

enum qmp_flags {
    QMP_ALLOW_OOB = 1 << 0,   /* may run out of band: takes no edit, waits for no I/O */
    QMP_DEPRECATED = 1 << 1,  /* shown as feature "deprecated" in the schema */
    QMP_NEGOTIATION = 1 << 2, /* also before capabilities are negotiated */
    QMP_PRINTED =
        1 << 3, /* @result of run() is a struct json_object * that looks as .result says */
    QMP_WHILE_STOPPING = 1 << 4, /* also when the daemon is about to stop, as those out of band */
};

struct qmp_command {
    const char *name;
    const struct row_type *args;   /* a struct or union type; NULL: no arguments */
    const struct row_type *result; /* NULL: an empty object */
    unsigned flags;
    const char *since, *help; /* "0.1"; one sentence or more */
    /* Rewrite accepted older forms of the arguments before they are parsed; NULL: none.  *@args is
     * never NULL on entry, and its reference may be replaced. */
    int (*adapt)(struct json_object **args, struct err *err);
    /* In a coroutine.  @args: parsed, released by the caller; a command may take parts out of it.
     * @result: zeroed, result->size bytes, printed and released by the caller; with QMP_PRINTED a
     * struct json_object *, a reference for the caller.  @m: who asks. */
    int co_fn (*run)(struct monitor *m, void *args, void *result, struct err *err);
};

/* ---- dispatch ---- */

/** qmp_register - make a table of commands known, ended by one without a name; it stays where it is */
int qmp_register(const struct qmp_command *table, struct err *err);
/** qmp_register_types - make drivers, exports, objects and events known, which completes their rows;
 * once, before any option is parsed.  Needs no ring, so that tools may use the rows too.
 */
void qmp_register_types(void);
/** qmp_register_all - every command of qmp/, and the sink of events; once, before any monitor */
int qmp_register_all(struct err *err);
void qmp_unregister_all(void);

const struct qmp_command *qmp_find(const char *name);
/** qmp_next - commands sorted by name: the first after @c (NULL: the very first), or NULL */
const struct qmp_command *qmp_next(const struct qmp_command *c);

/** qmp_execute - check the arguments, run the command, print its result
 * @args: stays the caller's; NULL counts as {}.
 * @out: a new reference, iff 0 is returned.
 */
int co_fn qmp_execute(const struct qmp_command *c, struct monitor *m, struct json_object *args,
                      struct json_object **out, struct err *err);

/* ---- monitors: one client each ---- */

struct monitor_options {
    bool pretty;         /* replies over several lines, for people */
    const char *chardev; /* the character device that it comes by; lasts as long; may be NULL */
    size_t output_limit; /* bytes waiting for the client past which it is cut off; 0: 16 MiB */
};

/** monitor_serve - speak QMP over descriptors that are open, until the client leaves
 * @in, @out: taken over (also on failure); the same for a socket.
 * @ended: runs when all is over, the descriptors closed; may be NULL.
 */
int monitor_serve(int in, int out, const struct monitor_options *options, void (*ended)(void *arg),
                  void *arg, struct err *err);

/* A place where clients come from. */
struct monitor_source;

/** monitor_listen - serve all who connect to listening sockets
 * @fds: @count listening sockets, taken over (also on failure)
 * @unlink: address whose file goes when the source is closed, copied; may be NULL
 */
int monitor_listen(const int *fds, unsigned count, const struct monitor_options *options,
                   const struct socket_address *unlink, struct monitor_source **out,
                   struct err *err);

/** monitor_connect - be the client of a socket, speak QMP over it; again when it ended
 * @reconnect: seconds between attempts; 0: once only, and failing at once is an error
 */
int co_fn monitor_connect(const struct socket_address *address, unsigned reconnect,
                          const struct monitor_options *options, struct monitor_source **out,
                          struct err *err);

/** monitor_source_wait - until a client of this source is there (wait=on); 0 or -ECANCELED */
int co_fn monitor_source_wait(struct monitor_source *s);

/** monitor_source_close - no new clients; those there are stay; frees @s */
void co_fn monitor_source_close(struct monitor_source *s);

/** monitor_sources_close - all that are still there (the daemon stops) */
void co_fn monitor_sources_close(void);

/** monitors_refuse - the daemon is about to stop: from now on, up to the end of monitors_close(), commands that change
 * something are refused
 */
void monitors_refuse(void);

/** monitors_close - no more commands are taken; waits, up to @ns, until those running have ended and their
 * replies are sent, then cuts all clients off and returns when the last is gone
 */
void co_fn monitors_close(uint64_t ns);

/** monitors_yank - cut off all clients that came by the character device @chardev */
void monitors_yank(const char *chardev);

/** monitors_count - clients that are there */
unsigned monitors_count(void);

/** monitor_take_fd - the descriptor that came with the command being run, or -1; the caller's then.  To be
 * called before the command yields.
 */
int monitor_take_fd(struct monitor *m);

/** monitor_name_fd - keep @fd (taken over) under a name of this client; an older one is closed
 * monitor_named_fd - take it out again, or -1
 */
int monitor_name_fd(struct monitor *m, const char *name, int fd, struct err *err);
int monitor_named_fd(struct monitor *m, const char *name);

/** monitor_resolve_fd - the same as a callback of address_listen(); @arg is the struct monitor */
int monitor_resolve_fd(const char *name, void *arg);

/** monitor_negotiate - capabilities are settled: commands may run, events are delivered */
int monitor_negotiate(struct monitor *m, bool oob, struct err *err);

/* ---- events ---- */

/** qmp_events_start - deliver events to all monitors from now on; qmp_events_stop - drop what is held back */
void qmp_events_start(void);
void qmp_events_stop(void);

/** monitors_broadcast - hand one line to every client that has negotiated (event.c) */
void monitors_broadcast(struct json_object *value);

/** qmp_send_shutdown - the SHUTDOWN event */
extern const struct event_type event_shutdown;
enum shutdown_reason { SHUTDOWN_HOST_QMP_QUIT, SHUTDOWN_HOST_SIGNAL, SHUTDOWN_HOST_ERROR };
void qmp_send_shutdown(enum shutdown_reason reason);

/** qmp_set_quit - what the command `quit` calls, after its reply is under way, outside any coroutine */
void qmp_set_quit(void (*quit)(void));

/* ---- yanking ---- */

/** yank_chardev_add - `yank` may cut off the clients of this character device from now on; @id lasts until
 * yank_chardevs_forget()
 */
int yank_chardev_add(const char *id, struct err *err);
void yank_chardevs_forget(void);

/* ---- objects ---- */

struct object_options;

/** qmp_object_add - object_add() whose part that may block runs on a worker thread; control ring
 * Meanwhile the id is taken, and nobody finds the object.
 */
int co_fn qmp_object_add(const struct object_options *options, struct err *err);

/* ---- descriptions ---- */

/** qmp_schema - the SchemaInfo of all commands and events, as query-qmp-schema returns them */
struct json_object *qmp_schema(void);

/** qmp_reference - the reference of all commands, events and types, as markdown */
void qmp_reference(FILE *out);

#endif
