/* SPDX-License-Identifier: MIT */
/*
 * Stackful coroutines.  A coroutine is born, runs and ends on one ring and so
 * on one thread; stacks have a guard page and are pooled per ring.  A function
 * marked co_fn may yield: call it from a coroutine only.
 */
#ifndef URING_CO_H
#define URING_CO_H

#include <stdbool.h>
#include <stdint.h>

#define co_fn /* may yield: call from a coroutine only */

struct ring;
struct co;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CO_STACK_BYTES = 512 << 10 }; /* their frames are that much bigger */
#else
enum { CO_STACK_BYTES = 128 << 10 };
#endif

/** co_start - make a coroutine on this ring; it first runs when the caller next yields or returns to the
 * loop
 * @label: what it does, for the watchdog's dump; a string constant
 * Return: 0, or -ENOMEM when there is neither a pooled nor a new stack.
 */
int co_start(void (*fn)(void *arg), void *arg, const char *label);

/** co_enter - the same, but run it at once, until it first yields or ends; callable from the loop or
 * from a coroutine
 */
int co_enter(void (*fn)(void *arg), void *arg, const char *label);

/** co_reserve - make sure that @n stacks are pooled on this ring (control paths that may not fail) */
int co_reserve(unsigned n);

/** co_self - the running coroutine, or NULL when the loop itself runs */
struct co *co_self(void);

/** co_ring - the ring that a coroutine belongs to */
struct ring *co_ring(const struct co *co);

/** co_yield - let others run, until somebody calls co_wake() on this coroutine.  A wake that came
 * before the yield is not lost when the waker is on the same ring, because it can't come before.
 */
void co_fn co_yield (void);

/** co_wake - make a yielded coroutine run again, on its own ring; any thread may call it, once per
 * yield.  Preallocated: never fails.
 */
void co_wake(struct co *co);

/** co_pause - go to the end of this ring's run queue (fairness in long loops) */
void co_fn co_pause(void);

/** co_set_label - say what this coroutine now does and about whom (watchdog) */
void co_set_label(const char *label);

/** co_deadline_exempt - the watchdog does not report this coroutine while @exempt (servers that wait
 * for work)
 */
void co_deadline_exempt(bool exempt);

#endif
