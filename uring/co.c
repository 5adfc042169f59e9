/* SPDX-License-Identifier: MIT */
/*
 * Stackful coroutines: stacks, the switch between them, and the hooks that
 * AddressSanitizer, ThreadSanitizer and valgrind need to follow it.
 *
 * 1. A stack is one mapping: a guard page, the stack, and at its upper end the
 *    struct co, so that a coroutine touches one page more than it needs.  The
 *    upper ends lie at different offsets, or all would fight for the same few
 *    cache sets.
 * 2. Stacks are never handed from ring to ring.  An ended coroutine's stack
 *    goes to its ring's pool, from where the next one starts in the middle of
 *    co_main().
 * 3. co_resume() may nest (co_enter): who yields goes back to who resumed it.
 */
#include "uring/engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(from, to) 0
#define VALGRIND_STACK_DEREGISTER(id)     ((void)(id))
#endif

enum {
    GUARD_BYTES = 64 << 10, /* one page of the largest size that Linux has */
    COLOURS = 8,
    COLOUR_BYTES = 256,
    STACK_ALIGN = 64,
    ADVICE_GUARD_INSTALL = 102, /* MADV_GUARD_INSTALL, Linux 6.13 */
    BACKTRACE_MAX = 64,         /* frames */
};

/* ---- the switch ---- */

static void co_main(void);

/* switch_stack - save where we are in *@save and go on at @to
 *
 * The compiler saves what it needs (every register is clobbered), we save only the frame pointer.  A
 * jump, not a return: a return would be predicted to go to this caller.
 * prepare_stack - make a new stack ready to be switched to
 */
#if defined(__x86_64__)

/* First instructions on a new stack.  No caller: the unwinder stops here. */
__asm__(".text\n"
        ".p2align 4\n"
        ".type co_first,@function\n"
        "co_first:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    endbr64\n"
        "    xor %ebp, %ebp\n"
        "    pop %rax\n"
        "    call *%rax\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size co_first, .-co_first\n");
void co_first(void) __attribute__((visibility("hidden")));

static inline __attribute__((always_inline)) void switch_stack(void **save, void *to)
{
    /* The first line steps over the red zone. */
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "push %%rbp\n\t"
                     "lea 1f(%%rip), %%rax\n\t"
                     "push %%rax\n\t"
                     "mov %%rsp, (%0)\n\t"
                     "mov %1, %%rsp\n\t"
                     "pop %%rax\n\t"
                     "jmp *%%rax\n\t"
                     "1: endbr64\n\t"
                     "pop %%rbp\n\t"
                     "lea 128(%%rsp), %%rsp\n\t"
                     : "+D"(save), "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                       "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc",
                       "memory");
}

static int prepare_stack(struct co *co)
{
    uintptr_t *sp = (uintptr_t *)(co->bottom + co->size);

    *--sp = 0;
    *--sp = 0;
    *--sp = (uintptr_t)co_main;
    *--sp = (uintptr_t)co_first;
    co->sp = sp;
    return 0;
}

static inline __attribute__((always_inline)) void switch_in(void **save, struct co *co)
{
    switch_stack(save, co->sp);
}
static inline __attribute__((always_inline)) void switch_out(struct co *co)
{
    switch_stack(&co->sp, *co->back);
}

#elif defined(__aarch64__)

__asm__(".text\n"
        ".p2align 4\n"
        ".type co_first,%function\n"
        "co_first:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined x30\n"
        "    hint #36\n" /* bti j */
        "    mov x9, x29\n"
        "    mov x29, xzr\n"
        "    blr x9\n"
        "    brk #1\n"
        "    .cfi_endproc\n"
        ".size co_first, .-co_first\n");
void co_first(void) __attribute__((visibility("hidden")));

static inline __attribute__((always_inline)) void switch_stack(void **save, void *to)
{
    register void **save_reg __asm__("x0") = save;
    register void *to_reg __asm__("x1") = to;

    __asm__ volatile("adr x9, 1f\n\t"
                     "stp x29, x9, [sp, #-16]!\n\t"
                     "mov x10, sp\n\t"
                     "str x10, [%0]\n\t"
                     "mov sp, %1\n\t"
                     "ldp x29, x9, [sp], #16\n\t"
                     "br x9\n\t"
                     "1: hint #36\n\t" /* bti j */
                     : "+r"(save_reg), "+r"(to_reg)
                     :
                     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
                       "x14", "x15", "x16", "x17", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
                       "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
                       "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18",
                       "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
                       "v30", "v31", "cc", "memory");
}

static int prepare_stack(struct co *co)
{
    uintptr_t *sp = (uintptr_t *)(co->bottom + co->size);

    *--sp = (uintptr_t)co_first;
    *--sp = (uintptr_t)co_main; /* becomes x29, which co_first calls */
    co->sp = sp;
    return 0;
}

static inline __attribute__((always_inline)) void switch_in(void **save, struct co *co)
{
    switch_stack(save, co->sp);
}
static inline __attribute__((always_inline)) void switch_out(struct co *co)
{
    switch_stack(&co->sp, *co->back);
}

#else /* any other machine: slower, two system calls a switch */
#include <ucontext.h>

static int prepare_stack(struct co *co)
{
    ucontext_t *c = co->context = malloc(sizeof(*c));

    if (!c || getcontext(c) < 0)
        return -ENOMEM;
    c->uc_stack.ss_sp = co->bottom;
    c->uc_stack.ss_size = co->size;
    c->uc_link = NULL;
    makecontext(c, co_main, 0);
    return 0;
}

static void switch_in(void **save, struct co *co)
{
    ucontext_t here;

    *save = &here;
    swapcontext(&here, co->context);
}
static void switch_out(struct co *co)
{
    swapcontext(co->context, *co->back);
}
#endif

/* ---- resume and yield, with what the tools want to know ---- */

__attribute__((noinline)) void co_resume(struct ring *r, struct co *co)
{
    struct co *before = r->running;
    void *sp = NULL;

    co->back = &sp;
    r->running = co;
    stat_add(&r->stats.switches, 1);
#ifdef WITH_TSAN
    co->back_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->fiber, 0);
#endif
#ifdef WITH_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, co->bottom, co->size);
#endif
    switch_in(&sp, co);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    r->running = before;
}

/* Leave the running coroutine for who resumed it. */
static __attribute__((noinline)) void leave(struct co *self)
{
#ifdef WITH_TSAN
    __tsan_switch_to_fiber(self->back_fiber, 0);
#endif
#ifdef WITH_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, self->back_bottom, self->back_size);
#endif
    switch_out(self);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(fake, &self->back_bottom, &self->back_size);
#endif
}

static void print_stack(const struct co *co)
{
    void *frame[BACKTRACE_MAX];
    int n = backtrace(frame, BACKTRACE_MAX);

    for (int i = 2; i < n; i++) { /* print_stack and co_yield say nothing */
        Dl_info at = { 0 };
        if (!dladdr(frame[i], &at) || !at.dli_fname)
            log_warning("    %p", frame[i]);
        else
            log_warning("    %s+%#zx%s%s", at.dli_fname,
                        (size_t)((char *)frame[i] - (char *)at.dli_fbase), at.dli_sname ? " " : "",
                        at.dli_sname ? at.dli_sname : "");
    }
    (void)co;
}

void co_fn co_yield (void)
{
    struct ring *r = this_ring;
    struct co *self = r->running;

    self->since = r->turn_now;
    leave(self);
    while (unlikely(r->dumping)) {
        print_stack(self);
        leave(self);
    }
}

static void co_end(struct ring *r, struct co *co)
{
    co->live = false;
    co->serial++;
    count_add(&r->live, -1);
    if (unlikely(co->exempt))
        r->exempt--;
    co->next = r->idle;
    r->idle = co;
    count_add(&r->idle_count, 1);
}

/* The bottom frame of every coroutine; one pass of the loop is one life. */
static void co_main(void)
{
    struct co *self = this_ring->running;

#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, &self->back_bottom, &self->back_size);
#endif
    for (;;) {
        self->fresh = false;
        self->fn(self->arg);
        co_end(self->ring, self);
        leave(self);
    }
}

void co_backtrace(struct ring *r, struct co *co)
{
    if (co->fresh || !co->live || co == r->running)
        return;
    r->dumping = true;
    co_resume(r, co);
    r->dumping = false;
}

/* ---- stacks ---- */

static bool guard(void *p)
{
    return madvise(p, GUARD_BYTES, ADVICE_GUARD_INSTALL) == 0 ||
           mprotect(p, GUARD_BYTES, PROT_NONE) == 0;
}

static struct co *stack_map(struct ring *r)
{
    const size_t bytes = GUARD_BYTES + CO_STACK_BYTES;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    size_t top = bytes - sizeof(struct co) - r->stack_count % COLOURS * COLOUR_BYTES;
    top &= ~(size_t)(STACK_ALIGN - 1);
    struct co *co = (struct co *)(map + top);
    co->map = map;
    co->bottom = map + GUARD_BYTES;
    co->size = top - GUARD_BYTES;
    co->ring = r;
    if (!guard(map) || prepare_stack(co) < 0) {
        munmap(map, bytes);
        return NULL;
    }
#ifdef WITH_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
    co->valgrind_stack = VALGRIND_STACK_REGISTER(co->bottom, co->bottom + co->size);
    list_push_back(&r->stacks, &co->all);
    r->stack_count++;
    return co;
}

static void stack_unmap(struct ring *r, struct co *co)
{
    list_remove(&co->all);
    r->stack_count--;
    VALGRIND_STACK_DEREGISTER(co->valgrind_stack);
#ifdef WITH_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(co->map, GUARD_BYTES + CO_STACK_BYTES);
#endif
#if !defined(__x86_64__) && !defined(__aarch64__)
    free(co->context);
#endif
    munmap(co->map, GUARD_BYTES + CO_STACK_BYTES);
}

void co_init_ring(struct ring *r)
{
    r->run_tail = &r->run_head;
    list_init(&r->stacks);
    r->loop_co.ring = r;
    r->loop_co.label = "loop";
}

static void wake_arrives(struct work *work)
{
    struct co *co = container_of(work, struct co, wake);

    run_push(co->ring, co);
}

static struct co *co_take(struct ring *r)
{
    struct co *co = r->idle;

    if (unlikely(!co)) {
        co = stack_map(r);
        if (!co)
            return NULL;
        co->wake.fn = wake_arrives;
        return co;
    }
    r->idle = co->next;
    count_add(&r->idle_count, -1);
    if (r->idle_count < r->idle_low)
        r->idle_low = r->idle_count;
    return co;
}

struct co *co_new(struct ring *r, void (*fn)(void *arg), void *arg, const char *label)
{
    struct co *co = co_take(r);

    if (unlikely(!co))
        return NULL;
    co->fn = fn;
    co->arg = arg;
    co->label = label;
    co->born = co->since = ring_turn_now();
    co->live = true;
    co->fresh = true;
    co->exempt = co->cancelled = false;
    co->warned_since = 0;
    co->leaf = NULL;
#ifdef LOCK_ORDER_CHECKED
    co->held_count = 0;
#endif
    count_add(&r->live, 1);
    return co;
}

int co_start(void (*fn)(void *arg), void *arg, const char *label)
{
    struct co *co = co_new(this_ring, fn, arg, label);

    if (!co)
        return -ENOMEM;
    run_push(this_ring, co);
    return 0;
}

int co_enter(void (*fn)(void *arg), void *arg, const char *label)
{
    struct co *co = co_new(this_ring, fn, arg, label);

    if (!co)
        return -ENOMEM;
    co_resume(this_ring, co);
    return 0;
}

int co_reserve(unsigned n)
{
    struct ring *r = this_ring;

    while (r->idle_count < n) {
        struct co *co = stack_map(r);
        if (!co)
            return -ENOMEM;
        co->wake.fn = wake_arrives;
        co->next = r->idle;
        r->idle = co;
        count_add(&r->idle_count, 1);
    }
    if (n > r->reserved)
        r->reserved = n;
    return 0;
}

bool co_trim(struct ring *r)
{
    unsigned keep = r->idle_count - r->idle_low;

    if (keep < r->reserved)
        keep = r->reserved;
    struct co **at = &r->idle;
    for (unsigned i = 0; *at && i < keep; i++)
        at = &(*at)->next;
    while (*at) {
        struct co *co = *at;
        if (atomic_load(&co->cancel_posted)) { /* a message to it is still on its way */
            at = &co->next;
            continue;
        }
        *at = co->next;
        count_add(&r->idle_count, -1);
        stack_unmap(r, co);
    }
    r->idle_low = r->idle_count;
    return r->idle_count > r->reserved;
}

void co_free_all(struct ring *r)
{
    struct co *co, *tmp;

    list_for_each_safe (co, tmp, &r->stacks, all)
        stack_unmap(r, co);
    r->idle = NULL;
    r->idle_count = r->idle_low = 0;
    r->run_head = NULL;
    r->run_tail = &r->run_head;
    r->live = r->exempt = 0;
}

/* ---- the rest of co.h ---- */

struct co *co_self(void)
{
    return this_ring ? this_ring->running : NULL;
}

struct ring *co_ring(const struct co *co)
{
    return co->ring;
}

void co_wake(struct co *co)
{
    if (likely(co->ring == this_ring)) {
        run_push(co->ring, co);
        return;
    }
    ring_post(co->ring, &co->wake);
}

void co_fn co_pause(void)
{
    run_push(this_ring, this_ring->running);
    co_yield ();
}

void co_set_label(const char *label)
{
    struct co *self = co_self();

    if (self)
        self->label = label;
}

void co_deadline_exempt(bool exempt)
{
    struct co *self = co_self();

    if (!self || self->exempt == exempt)
        return;
    self->exempt = exempt;
    if (exempt)
        self->ring->exempt++;
    else
        self->ring->exempt--;
}
