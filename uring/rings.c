/* SPDX-License-Identifier: MIT */
/*
 * All rings of the process: start, messages between coroutines, shutdown.
 *
 * A data ring is started by the control ring when it is first asked for.  Its
 * thread creates its own io_uring (SINGLE_ISSUER ties one to its creator),
 * then publishes the ring.  Shutdown stops and joins all data rings first;
 * messages that reached a ring after it left its loop are run by the control
 * ring's thread in that ring's name, so none is lost.
 */
#include "uring/engine.h"

#include <errno.h>
#include <execinfo.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "uring/sync.h"

enum { ENTRIES_DEFAULT = 256 };
#define QUIT_WAIT (5 * NS_PER_S) /* for operations still in the kernel at the end */

enum start_state { START_NONE, START_RUNNING, START_UP, START_FAILED };

/* How a ring comes up.  state and err are under the mutex. */
struct start {
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* state changed, for callers that block */
    enum start_state state;
    int code;
    struct err err;
    struct ring *ring; /* from START_RUNNING on */
    struct co_cond waiting;
    struct work up; /* tells the waiting coroutines */
    atomic_bool up_posted;
};

static struct rings_config config;
static struct start starts[RINGS_MAX + 1];
static unsigned data_rings;
static _Atomic(struct ring *) up[RINGS_MAX + 1];
static struct work stop_work;
static atomic_bool stop_posted;

/* ---- birth and death of one ring ---- */

void ring_free(struct ring *r)
{
    if (!r)
        return;
    co_free_all(r);
    pool_free_ring(r);
    timer_free_ring(r);
    op_free_ring(r);
    if (r->event_fd >= 0)
        close(r->event_fd);
    free(r);
}

struct ring *ring_alloc(unsigned index)
{
    struct ring *r = aligned_alloc(_Alignof(struct ring), sizeof(*r));

    if (!r)
        return NULL;
    memset(r, 0, sizeof(*r));
    r->index = index;
    r->bell_fd = -1;
    r->defer_tail = &r->defer_head;
    list_init(&r->spawn_waiting);
    co_init_ring(r);
    timer_init_ring(r);
    op_init_ring(r);
    r->event_fd = eventfd(0, EFD_CLOEXEC);
    if (!r->timers || !r->slots || r->event_fd < 0) {
        ring_free(r);
        return NULL;
    }
    return r;
}

/* Nothing is left to do on this ring; its own thread closes it. */
static void ring_close(struct ring *r)
{
    unsigned ops = op_in_flight_count(r) - op_in_flight(&r->event_op);

    if (r->live || ops)
        log_warning("ring %u stops with %u coroutines and %u operations unfinished", r->index,
                    r->live, ops);
    ring_stop_event(r);
    ring_teardown(r);
}

int ring_cpu(unsigned index)
{
    return config.no_pin || index == 0 ? -1 : cpu_pick(index - 1);
}

static void pin(const struct ring *r)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int cpu = ring_cpu(r->index);
    if (cpu < 0)
        return;
    CPU_SET((unsigned)cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set))
        log_debug("ring %u: cannot pin its thread to CPU %d", r->index, cpu);
}

static void up_arrives(struct work *work)
{
    struct start *s = container_of(work, struct start, up);

    atomic_store(&s->up_posted, false);
    co_cond_wake_all(&s->waiting);
}

static void start_report(struct start *s, enum start_state state)
{
    pthread_mutex_lock(&s->mutex);
    s->state = state;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mutex);
    if (!atomic_exchange(&s->up_posted, true))
        ring_post(ring_control(), &s->up);
}

static void *ring_main(void *arg)
{
    struct start *s = arg;
    struct ring *r = s->ring;
    char name[16];

    this_ring = r;
    snprintf(name, sizeof(name), "ring %u", r->index);
    pthread_setname_np(pthread_self(), name);
    pin(r);
    s->code = ring_setup(r, config.entries, &s->err);
    if (s->code < 0) {
        ring_teardown(r);
        start_report(s, START_FAILED);
        return NULL;
    }
    atomic_store(&up[r->index], r);
    start_report(s, START_UP);
    ring_loop(r);
    ring_close(r);
    return NULL;
}

/* A thread with all signals blocked: they are the main thread's. */
int thread_start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = -pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* ---- all rings ---- */

int rings_init(const struct rings_config *wanted, struct err *err)
{
    config = *wanted;
    if (config.count > RINGS_MAX)
        return err_set(err, -EINVAL, "there can be at most %d rings, not %u", RINGS_MAX,
                       config.count);
    if (!config.entries)
        config.entries = ENTRIES_DEFAULT;
    data_rings = config.count;
    if (!data_rings) {
        data_rings = cpus_allowed("");
        if (data_rings > RINGS_DEFAULT_MAX)
            data_rings = RINGS_DEFAULT_MAX;
    }
    for (unsigned i = 0; i <= data_rings; i++) {
        starts[i] = (struct start){ .mutex = PTHREAD_MUTEX_INITIALIZER,
                                    .cond = PTHREAD_COND_INITIALIZER,
                                    .up = { .fn = up_arrives } };
        co_cond_init(&starts[i].waiting);
    }
    struct ring *r = ring_alloc(0);
    if (!r)
        return err_set(err, -ENOMEM, "no memory for the control ring");
    void *warm_up[1];
    backtrace(warm_up, 1); /* loads its library now, not on a busy ring */
    this_ring = r;
    if (ring_setup(r, config.entries, err) < 0) {
        ring_teardown(r);
        ring_free(r);
        this_ring = NULL;
        return err->code;
    }
    r->thread = pthread_self();
    atomic_store(&up[0], r);
    starts[0].state = START_UP;
    starts[0].ring = r;
    return 0;
}

static void give_up(struct timer *timer)
{
    container_of(timer, struct ring, give_up)->gave_up = true;
}

static void quit_arrives(struct work *work)
{
    struct ring *r = container_of(work, struct ring, quit_work);

    r->stopping = true;
    r->give_up.fn = give_up;
    timer_set(&r->give_up, ring_now() + QUIT_WAIT);
}

/* Messages that came too late for their rings, until there are none anywhere. */
static void run_leftovers(void)
{
    struct ring *control = this_ring;
    bool again = true;

    while (again) {
        again = false;
        for (unsigned i = 0; i <= data_rings; i++) {
            struct ring *r = ring_started(i);
            if (!r)
                continue;
            this_ring = r;
            while (ring_take_message(r))
                again = true;
            again = again || r->defer_head;
            ring_run_deferred(r);
        }
    }
    this_ring = control;
}

void rings_install_count(unsigned count)
{
    data_rings = count;
}

void rings_install(struct ring *r)
{
    atomic_store(&up[r->index], r);
}

void rings_remove(unsigned index)
{
    atomic_store(&up[index], NULL);
}

void rings_exit(void)
{
    workers_exit();
    for (unsigned i = 1; i <= data_rings; i++) {
        struct ring *r = ring_started(i);
        if (!r)
            continue;
        r->quit_work.fn = quit_arrives;
        ring_post(r, &r->quit_work);
    }
    for (unsigned i = 1; i <= data_rings; i++)
        if (ring_started(i))
            pthread_join(ring_started(i)->thread, NULL);
    run_leftovers();
    ring_close(this_ring);
    for (unsigned i = 0; i <= data_rings; i++) {
        ring_free(atomic_exchange(&up[i], NULL));
        err_clear(&starts[i].err);
        starts[i].state = START_NONE;
    }
    this_ring = NULL;
    atomic_store(&stop_posted, false);
}

unsigned rings_count(void)
{
    return data_rings;
}

unsigned ring_index(const struct ring *ring)
{
    return ring->index;
}

struct ring *ring_control(void)
{
    return atomic_load_explicit(&up[0], memory_order_acquire);
}

struct ring *ring_started(unsigned index)
{
    return index <= data_rings ? atomic_load_explicit(&up[index], memory_order_acquire) : NULL;
}

/* Create the thread of ring @index; mutex held. */
static int start_begin(struct start *s, unsigned index, struct err *err)
{
    s->ring = ring_alloc(index);
    if (!s->ring)
        return err_set(err, -ENOMEM, "no memory for ring %u", index);
    int code = thread_start(&s->ring->thread, ring_main, s);
    if (code < 0) {
        ring_free(take_ptr(&s->ring));
        return err_set_errno(err, code, "cannot create the thread of ring %u", index);
    }
    s->state = START_RUNNING;
    return 0;
}

/* The thread has ended without a ring; mutex held. */
static int start_failed(struct start *s, struct err *err)
{
    pthread_join(s->ring->thread, NULL);
    ring_free(take_ptr(&s->ring));
    s->state = START_NONE;
    return err_move(err, &s->err);
}

struct ring *ring_get(unsigned index, struct err *err)
{
    struct ring *r = ring_started(index);

    if (r)
        return r;
    if (index > data_rings) {
        err_set(err, -EINVAL, "there is no ring %u, the last one is %u", index, data_rings);
        return NULL;
    }
    struct start *s = &starts[index];
    int code = 0;
    pthread_mutex_lock(&s->mutex);
    if (s->state == START_NONE)
        code = start_begin(s, index, err);
    while (code == 0 && s->state == START_RUNNING) {
        if (!co_self()) {
            pthread_cond_wait(&s->cond, &s->mutex);
            continue;
        }
        pthread_mutex_unlock(&s->mutex);
        co_cond_wait(&s->waiting, NULL);
        pthread_mutex_lock(&s->mutex);
    }
    if (s->state == START_FAILED)
        start_failed(s, err);
    else if (code == 0 && s->state == START_NONE)
        err_set(err, -EAGAIN, "ring %u did not start", index);
    pthread_mutex_unlock(&s->mutex);
    return ring_started(index);
}

void ring_run(void)
{
    struct ring *r = this_ring;

    ring_loop(r);
    atomic_store(&r->stop, false);
}

static void stop_arrives(struct work *work)
{
    (void)work;
    atomic_store(&stop_posted, false);
}

void ring_stop(void)
{
    struct ring *control = ring_control();

    atomic_store_explicit(&control->stop, true, memory_order_release);
    if (!atomic_exchange(&stop_posted, true)) {
        stop_work.fn = stop_arrives;
        ring_post(control, &stop_work);
    }
}

unsigned ring_load(const struct ring *ring)
{
    return (unsigned)atomic_load_explicit(&ring->load, memory_order_relaxed);
}

void ring_load_add(struct ring *ring, int delta)
{
    atomic_fetch_add_explicit(&ring->load, delta, memory_order_relaxed);
}

void ring_read_stats(const struct ring *ring, struct ring_stats *stats)
{
    stats->coroutines = __atomic_load_n(&ring->live, __ATOMIC_RELAXED);
    stats->stacks_pooled = __atomic_load_n(&ring->idle_count, __ATOMIC_RELAXED);
    stats->turns = __atomic_load_n(&ring->stats.turns, __ATOMIC_RELAXED);
    stats->sleeps = __atomic_load_n(&ring->stats.sleeps, __ATOMIC_RELAXED);
    stats->switches = __atomic_load_n(&ring->stats.switches, __ATOMIC_RELAXED);
    stats->submitted = __atomic_load_n(&ring->stats.submitted, __ATOMIC_RELAXED);
}
