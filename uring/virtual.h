/* SPDX-License-Identifier: MIT */
/*
 * Virtual rings: several rings under one thread, for deterministic tests of
 * races.  The test says which ring takes its next step; nothing else runs.
 * No io_uring: kernel operations complete when the test says so, timers when
 * it moves the clock.  ring_block() runs its function in a step of its own.
 */
#ifndef URING_VIRTUAL_H
#define URING_VIRTUAL_H

#include <stdbool.h>
#include <stdint.h>

/** virtual_rings_init - the control ring and @count data rings, all under this thread */
void virtual_rings_init(unsigned count);
void virtual_rings_exit(void);

/** virtual_step - let ring @index take one step: one inbox message, else one ready coroutine until it
 * yields, else one deferred work.  False: it had nothing to do.
 */
bool virtual_step(unsigned index);

/** virtual_ready - would virtual_step(@index) do something? */
bool virtual_ready(unsigned index);

/** virtual_run - step all rings round robin until none is ready; false if that took over a million steps */
bool virtual_run(void);

/** virtual_spawn - a coroutine on ring @index */
void virtual_spawn(unsigned index, void (*fn)(void *arg), void *arg, const char *label);

/** virtual_advance - move the clock and fire due timers' owners (they become ready) */
void virtual_advance(uint64_t ns);

/** virtual_explore - run every interleaving: calls setup(), then steps rings in every possible order
 * (depth first, by replay) until all are idle, then check(); stops after @limit runs.
 * When nothing is ready the clock moves to the next timer.  A run that ends with coroutines still
 * waiting (those exempt from the watchdog apart) counts as one that does not end.
 * Return: how many interleavings ran; check() false or a run that does not end makes it negative.
 */
long virtual_explore(unsigned count, void (*setup)(void), bool (*check)(void), long limit);

/** virtual_explore_bounded - the same, but leave a ring that could go on at most @preemptions times a
 * run.  Most races need two or three; the number of runs then grows with the steps' power of that,
 * not exponentially.
 */
long virtual_explore_bounded(unsigned count, void (*setup)(void), bool (*check)(void), long limit,
                             unsigned preemptions);

/* Kernel operations.  Unless held, each is carried out by a blocking-free system call in a step of its
 * ring of its own, when the ring has nothing else to do (virtual_explore tries every other moment,
 * too); one that would block waits.
 */
/** virtual_hold - from now on operations wait until virtual_complete() ends them */
void virtual_hold(bool hold);
/** virtual_ops - how many operations of ring @index are in the "kernel" */
unsigned virtual_ops(unsigned index);
/** virtual_complete - end the oldest operation of ring @index with @result, nothing carried out */
void virtual_complete(unsigned index, int32_t result);

#endif
