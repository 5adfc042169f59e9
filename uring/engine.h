/* SPDX-License-Identifier: MIT */
/*
 * What the files of uring/ know of each other; nobody outside includes it.
 *
 * 1. Everything in struct ring but its last part belongs to the ring's own
 *    thread.  Other threads touch the inbox, the flags beside it and (reading)
 *    the statistics.
 * 2. A coroutine is in exactly one place: running, parked, in its ring's run
 *    queue, or in its ring's pool of idle stacks.
 * 3. A ring that is about to sleep says so, then looks at its inbox; who fills
 *    an empty inbox looks, afterwards, whether the ring sleeps.  All four steps
 *    are sequentially consistent, so one of the two sees the other.
 */
#ifndef URING_ENGINE_H
#define URING_ENGINE_H

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "uring/co.h"
#include "uring/op.h"
#include "uring/ring.h"
#include "uring/spin.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#if !defined(NDEBUG) || defined(RINGBLK_DEBUG)
enum { LOCKS_HELD_MAX = 16 };
#define LOCK_ORDER_CHECKED 1
#endif

enum {
    TURN_MAX = 64,           /* completions, messages, coroutines in one turn, each */
    OP_INDEX_BITS = 18,      /* operations in flight on one ring: 262143 */
    TIMERS_MAX = 1 << 18,    /* timers set on one ring */
    NUMBER_IGNORED = 0,      /* user data of completions that nobody waits for */
    NS_PER_MS = 1000 * 1000, /* ns */
};
#define NS_PER_S      1000000000ULL
#define DOORBELL_MARK (1ULL << 32) /* user data: this bit and the index of the ring that was rung */

/* What a parked coroutine can be called away from by co_cancel(). */
struct leaf {
    void (*cancel)(struct leaf *leaf);
};

struct co {
    void *sp;        /* parked: its stack pointer; below it lie the registers */
    struct co *next; /* in the run queue or the pool */
    struct ring *ring;
    void (*fn)(void *arg);
    void *arg;
    const char *label;
    void **back;           /* running: where its resumer left its stack pointer */
    uint64_t born;         /* ns */
    uint64_t since;        /* ns; parked or made ready then */
    uint64_t warned_since; /* the watchdog spoke of the wait that began then */
    uint64_t serial;       /* which of this stack's lives it is */
    struct leaf *leaf;     /* the wait that co_cancel() ends, or NULL */
    bool live;             /* false: in the pool */
    bool exempt;           /* the watchdog leaves it alone */
    bool cancelled;        /* and did not see it yet */
    bool fresh;            /* has not run yet */
    struct work wake;      /* carries co_wake() across rings */
    struct work cancel;    /* carries co_cancel() across rings */
    atomic_bool cancel_posted;
    _Atomic uint64_t cancel_serial;
    struct co_group *group; /* of co_group_start(), with its function */
    int (*group_fn)(void *arg);
    struct list all; /* every stack of the ring */
    void *map;       /* the mapping that holds stack and struct, guard page first */
    char *bottom;    /* lowest usable byte of the stack */
    size_t size;     /* bytes from bottom up to where this struct or its offset begins */
#ifdef LOCK_ORDER_CHECKED
    unsigned held[LOCKS_HELD_MAX];
    unsigned held_count;
#endif
    const void *back_bottom; /* AddressSanitizer: the resumer's stack */
    size_t back_size;
    void *fiber, *back_fiber; /* ThreadSanitizer */
    unsigned valgrind_stack;
#if !defined(__x86_64__) && !defined(__aarch64__)
    void *context; /* ucontext_t, allocated */
#endif
};

struct op_slot {
    union {
        struct op *op;
        uint32_t next_free;
    };
    uint32_t
        number; /* generation << OP_INDEX_BITS | index while taken, else only what comes next */
    bool taken;
};

struct stashed_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct buffer_pool;
struct virtual_ring;

struct ring {
    struct co *running; /* NULL: the loop itself */
    struct co *run_head, **run_tail;
    struct co *idle; /* pool of stacks, last used first */
    unsigned idle_count, idle_low, reserved;
    unsigned live, exempt;
    uint64_t turn_now; /* ns; the clock at the beginning of this turn */
    struct work *defer_head, **defer_tail;
    struct work *taken; /* messages out of the inbox, first come first */
    struct op_slot *slots;
    uint32_t slots_used, slot_free; /* index 0 is never used and ends the chain */
    uint32_t slots_busy;
    struct op *dead_head, **dead_tail; /* operations that found no slot: they end with -ENOMEM */
    struct io_uring_sqe scratch;       /* and write their entry here */
    struct io_uring u;
    bool has_uring;
    bool looping;                 /* inside its loop: what it puts into the SQ is submitted soon */
    bool polls;                   /* waits in poll(), for valgrind's sake */
    bool msg_ring;                /* the kernel knows IORING_OP_MSG_RING */
    struct spin spin;             /* data rings: whether to wait awake before sleeping */
    bool dumping;                 /* coroutines are resumed only to print their stacks */
    bool stopping;                /* data ring: leave the loop when nothing is left to do */
    bool gave_up;                 /* stopping: operations that never end are left to the kernel */
    struct virtual_ring *virtual; /* NULL on a real ring */
    struct stashed_cqe *stash;    /* completions moved out of a full CQ */
    uint32_t stash_head, stash_tail;
    struct timer **timers; /* binary heap */
    unsigned timer_count;
    struct timer watchdog, trimmer, give_up;
    struct list stacks; /* every struct co of this ring */
    unsigned stack_count;
    struct list spawn_waiting; /* ring_spawn() messages that found no stack */
    struct buffer_pool *buffers;
    struct co loop_co; /* stands for the loop as the holder of a lock */
    unsigned index;
    struct op event_op; /* reads the eventfd */
    uint64_t event_value;
    struct work quit_work;
    struct work dump_work;

    struct ring_stats stats; /* written by the ring, read by all: relaxed */

    /* Other threads write here. */
    _Alignas(64) _Atomic(struct work *) inbox;
    atomic_bool sleeping;
    atomic_bool dump_posted;
    atomic_bool stop; /* control ring: ring_stop() */
    atomic_int load;
    int event_fd; /* rung by threads that have no ring */
    int bell_fd; /* rung by other rings; the io_uring's, set before the ring is published, then constant */
    pthread_t thread;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void stat_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void count_add(unsigned *counter, int n)
{
    __atomic_store_n(counter, *counter + (unsigned)n, __ATOMIC_RELAXED);
}

/* ---- co.c ---- */
static inline void run_push(struct ring *r, struct co *co)
{
    co->next = NULL;
    *r->run_tail = co;
    r->run_tail = &co->next;
}
static inline struct co *run_pop(struct ring *r)
{
    struct co *co = r->run_head;
    r->run_head = co->next;
    if (!r->run_head)
        r->run_tail = &r->run_head;
    return co;
}
void co_init_ring(struct ring *r);
/* Run a parked coroutine until it yields or ends. */
void co_resume(struct ring *r, struct co *co);
/* A coroutine of this ring that is not queued yet, or NULL (out of memory). */
struct co *co_new(struct ring *r, void (*fn)(void *arg), void *arg, const char *label);
/* Free what the pool did not need since the last call; true: there may be more later. */
bool co_trim(struct ring *r);
/* Free all stacks, used or not. */
void co_free_all(struct ring *r);
/* Print a coroutine's call stack to the log; this ring only. */
void co_backtrace(struct ring *r, struct co *co);

/* ---- ring.c ---- */
int ring_setup(struct ring *r, unsigned entries, struct err *err);
void ring_teardown(struct ring *r);
/* Stop listening to threads that have no ring; own thread only. */
void ring_stop_event(struct ring *r);
struct io_uring_sqe *ring_sqe_slow(struct ring *r);
/* An entry to fill in; submitted at the end of the turn. */
static inline struct io_uring_sqe *ring_sqe(struct ring *r)
{
    struct io_uring_sqe *sqe = likely(!r->virtual) ? io_uring_get_sqe(&r->u) : NULL;
    return likely(sqe != NULL) ? sqe : ring_sqe_slow(r);
}
void ring_loop(struct ring *r);
void ring_take_inbox(struct ring *r);
/* Run one message of the inbox; false: there is none. */
bool ring_take_message(struct ring *r);
bool ring_has_messages(struct ring *r);
void ring_run_deferred(struct ring *r);
typedef int ring_setup_fn(unsigned entries, struct io_uring *u, struct io_uring_params *p);
/* io_uring_queue_init_params() with the best flags that the kernel takes. */
int ring_queue_init(struct io_uring *u, unsigned entries, ring_setup_fn *setup);
int ring_explain(struct err *err, int code);
uint64_t clock_now(void);

/* ---- rings.c ---- */
struct ring *ring_alloc(unsigned index);
void ring_free(struct ring *r);
/* Virtual rings take the places of real ones. */
void rings_install_count(unsigned count);
void rings_install(struct ring *r);
void rings_remove(unsigned index);
int thread_start(pthread_t *thread, void *(*fn)(void *), void *arg);

/* ---- call.c ---- */
/* Start what ring_spawn() promised while there was no stack. */
void spawn_retry(struct ring *r);

/* ---- cpus.c ---- */
/* CPUs that this process may use: how many (at least 1), given affinity and cgroup quota under @root. */
unsigned cpus_allowed(const char *root);
/* The CPU number of the @nth allowed one (modulo). */
int cpu_pick(unsigned nth);

/* ---- op.c ---- */
void op_init_ring(struct ring *r);
void op_free_ring(struct ring *r);
/* A completion came. */
void op_complete(struct ring *r, uint64_t user_data, int32_t res, uint32_t flags);
void op_fail_dead(struct ring *r);
unsigned op_in_flight_count(const struct ring *r);

/* ---- timer.c ---- */
void timer_init_ring(struct ring *r);
void timer_free_ring(struct ring *r);
/* Fire at most TURN_MAX timers that are due at @now. */
void timer_fire(struct ring *r, uint64_t now);
static inline uint64_t timer_next(const struct ring *r)
{
    return r->timer_count ? r->timers[0]->when : UINT64_MAX;
}

/* ---- worker.c ---- */
void workers_exit(void);

/* ---- watchdog.c ---- */
/* Before a ring sleeps: set the timers that it needs for what lives on it. */
void watchdog_arm(struct ring *r);
void watchdog_slow_turn(struct ring *r, uint64_t ns);

/* ---- pool.c ---- */
void pool_free_ring(struct ring *r);
/* Is there anything that pool_trim() could free one day? */
bool pool_has_idle(struct ring *r);

/* ---- virtual.c ---- */
struct io_uring_sqe *virtual_sqe(struct ring *r);
uint64_t virtual_now(void);
int virtual_block(int (*fn)(void *arg), void *arg);

#endif
