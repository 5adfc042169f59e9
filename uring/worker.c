/* SPDX-License-Identifier: MIT */
/*
 * Worker threads for calls that block.  They are created as needed, at most
 * WORKERS_MAX, and end when idle for a while.  A job lies on the stack of the
 * coroutine that waits for it.
 */
#include "uring/engine.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

enum { WORKERS_MAX = 16, IDLE_SECONDS = 10 };

struct job {
    struct list link;
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct co *co;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t more, ended;
    struct list queue;
    unsigned queued;
    unsigned threads, idle; /* idle: also those whose wake-up is on its way */
    bool exiting;
} workers = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .more = PTHREAD_COND_INITIALIZER,
    .ended = PTHREAD_COND_INITIALIZER,
    .queue = LIST_INIT(workers.queue),
};

/* Next job, or NULL: this thread may end.  Mutex held. */
static struct job *next_job(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_SECONDS;
    while (list_empty(&workers.queue)) {
        if (workers.exiting)
            return NULL;
        workers.idle++;
        int code = pthread_cond_timedwait(&workers.more, &workers.mutex, &until);
        workers.idle--;
        if (code == ETIMEDOUT && list_empty(&workers.queue))
            return NULL;
    }
    workers.queued--;
    return container_of(list_pop_front(&workers.queue), struct job, link);
}

static void *worker_main(void *arg)
{
    struct job *job;

    (void)arg;
    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&workers.mutex);
    while ((job = next_job())) {
        pthread_mutex_unlock(&workers.mutex);
        job->result = job->fn(job->arg);
        co_wake(job->co);
        pthread_mutex_lock(&workers.mutex);
    }
    workers.threads--;
    pthread_cond_broadcast(&workers.ended);
    pthread_mutex_unlock(&workers.mutex);
    return NULL;
}

/* One more thread, if that is wanted and possible; false: nobody will ever run the queue.  A job behind
 * another one may not wait for that to end: it may take for ever, or need this one. */
static bool ensure_worker(void)
{
    if (workers.queued <= workers.idle || workers.threads == WORKERS_MAX)
        return true;
    pthread_t thread;
    int code = thread_start(&thread, worker_main, NULL);
    if (code < 0) {
        log_warning("cannot create a worker thread: %s", strerror(-code));
        return workers.threads > 0;
    }
    pthread_detach(thread);
    workers.threads++;
    return true;
}

int co_fn ring_block(int (*fn)(void *arg), void *arg)
{
    struct co *self = co_self();

    if (!self) /* start-up, before the loop runs: it may block */
        return fn(arg);
    if (this_ring->virtual)
        return virtual_block(fn, arg);
    struct job job = { .fn = fn, .arg = arg, .co = self };
    pthread_mutex_lock(&workers.mutex);
    list_push_back(&workers.queue, &job.link);
    workers.queued++;
    bool served = ensure_worker();
    if (served) {
        pthread_cond_signal(&workers.more);
    } else {
        list_remove(&job.link);
        workers.queued--;
    }
    pthread_mutex_unlock(&workers.mutex);
    if (!served) /* no thread to be had at all: better late than never */
        return fn(arg);
    co_yield ();
    return job.result;
}

void workers_exit(void)
{
    pthread_mutex_lock(&workers.mutex);
    workers.exiting = true;
    pthread_cond_broadcast(&workers.more);
    while (workers.threads)
        pthread_cond_wait(&workers.ended, &workers.mutex);
    workers.exiting = false;
    pthread_mutex_unlock(&workers.mutex);
}
