/* SPDX-License-Identifier: MIT */
/*
 * Buffers: free lists by power of two, one set per ring, and the ring's budget.
 *
 * 1. Budget is counted in whole classes (what memory is really used).  One
 *    buffer may always be out, however large, so that a small budget delays
 *    but never stops.
 * 2. Coroutines waiting for the budget are served in order, and before anyone
 *    who asks without waiting.  The budget is taken in the waiter's name
 *    before it is woken.
 * 3. Of what an account holds, only what is beyond its own is in the budget.
 * 4. Free buffers are linked through their first bytes.
 */
#include "uring/pool.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "uring/engine.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, len)   ((void)(p), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(p, len) ((void)(p), (void)(len))
#endif

enum { SMALLEST_SHIFT = 12, CLASSES = 14 };
#define BUDGET_DEFAULT ((size_t)256 << 20) /* bytes */

_Static_assert(BUFFER_MAX == 1 << (SMALLEST_SHIFT + CLASSES - 1), "classes end at BUFFER_MAX");

struct free_buffer {
    struct free_buffer *next;
};

struct shelf {
    struct free_buffer *first;
    unsigned count;
    unsigned low; /* the smallest count since pool_trim() */
};

struct buffer_pool {
    struct shelf shelf[CLASSES];
    size_t out;          /* bytes of the budget that are handed out */
    struct list waiting; /* struct waiter, first come first served */
};

struct waiter {
    struct list link;
    struct co *co;
    size_t size;
};

static _Atomic size_t budget = BUDGET_DEFAULT;

static unsigned class_of(size_t len)
{
    return len <= BUFFER_ALIGN ? 0 : 64 - SMALLEST_SHIFT - (unsigned)__builtin_clzll(len - 1);
}

/* What a buffer of @len bytes really takes. */
static size_t size_of(size_t len)
{
    if (len > BUFFER_MAX)
        return (len + BUFFER_ALIGN - 1) & ~(size_t)(BUFFER_ALIGN - 1);
    return (size_t)BUFFER_ALIGN << class_of(len);
}

static struct buffer_pool *pool_of(struct ring *r)
{
    struct buffer_pool *p = r->buffers;

    if (likely(p != NULL))
        return p;
    p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    list_init(&p->waiting);
    r->buffers = p;
    return p;
}

static size_t budget_bytes(void)
{
    return atomic_load_explicit(&budget, memory_order_relaxed);
}

static bool fits(const struct buffer_pool *p, size_t size)
{
    return p->out == 0 || p->out + size <= budget_bytes();
}

/* ---- memory ---- */

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* A buffer whose budget is taken already, or NULL. */
static void *take(struct buffer_pool *p, size_t len)
{
    size_t size = size_of(len);
    void *b;

    if (len > BUFFER_MAX) {
        b = map(size);
    } else {
        struct shelf *s = &p->shelf[class_of(len)];
        struct free_buffer *f = s->first;
        if (likely(f != NULL)) {
            ASAN_UNPOISON_MEMORY_REGION(f, size);
            s->first = f->next;
            if (--s->count < s->low)
                s->low = s->count;
            b = f;
        } else {
            b = map(size);
        }
    }
    if (b)
        ASAN_POISON_MEMORY_REGION((char *)b + len, size - len);
    return b;
}

/* ---- who waits ---- */

/* Memory came back. */
static void serve(struct buffer_pool *p)
{
    while (!list_empty(&p->waiting)) {
        struct waiter *w = container_of(p->waiting.next, struct waiter, link);
        if (!fits(p, w->size))
            return;
        list_remove(&w->link);
        p->out += w->size;
        co_wake(w->co);
    }
}

/* ---- pool.h ---- */

void *buffer_get(size_t len)
{
    struct buffer_pool *p = pool_of(this_ring);
    size_t size = size_of(len);

    if (!p || !list_empty(&p->waiting) || !fits(p, size))
        return NULL;
    void *b = take(p, len);
    if (b)
        p->out += size;
    return b;
}

void *co_fn buffer_wait(size_t len)
{
    struct buffer_pool *p = pool_of(this_ring);
    struct waiter me = { .co = co_self(), .size = size_of(len) };

    if (!p)
        return NULL;
    if (likely(list_empty(&p->waiting) && fits(p, me.size))) {
        p->out += me.size;
    } else {
        list_push_back(&p->waiting, &me.link);
        co_yield ();
    }
    void *b = take(p, len);
    if (!b) {
        p->out -= me.size;
        serve(p);
    }
    return b;
}

/* Memory goes back to the shelf, or to the system. */
static void shelve(struct buffer_pool *p, void *b, size_t len)
{
    size_t size = size_of(len);

    ASAN_UNPOISON_MEMORY_REGION(b, size);
    if (len > BUFFER_MAX) {
        munmap(b, size);
    } else {
        struct shelf *s = &p->shelf[class_of(len)];
        struct free_buffer *f = b;
        f->next = s->first;
        s->first = f;
        s->count++;
        ASAN_POISON_MEMORY_REGION(b, size);
    }
}

void buffer_put(void *b, size_t len)
{
    struct buffer_pool *p = this_ring->buffers;

    if (!b)
        return;
    shelve(p, b, len);
    p->out -= size_of(len);
    serve(p);
}

void pool_set_budget(size_t bytes)
{
    atomic_store(&budget, bytes);
}

/* ---- accounts ---- */

/* Of @held bytes, those that come out of the budget. */
static size_t shared(const struct pool_account *a, size_t held)
{
    return held > a->own ? held - a->own : 0;
}

bool account_may(const struct pool_account *a, size_t len)
{
    struct buffer_pool *p = pool_of(this_ring);
    size_t after = shared(a, a->held + size_of(len)), out;

    if (!after)
        return true;
    if (!p || !list_empty(&p->waiting))
        return false;
    out = p->out + after - shared(a, a->held);
    return out <= budget_bytes() && after <= (budget_bytes() - out) / 2;
}

void *account_get(struct pool_account *a, size_t len)
{
    return account_may(a, len) ? account_get_anyway(a, len) : NULL;
}

void *account_get_anyway(struct pool_account *a, size_t len)
{
    struct buffer_pool *p = pool_of(this_ring);
    void *b = p ? take(p, len) : NULL;

    if (!b)
        return NULL;
    p->out -= shared(a, a->held);
    a->held += size_of(len);
    p->out += shared(a, a->held);
    return b;
}

void account_put(struct pool_account *a, void *b, size_t len)
{
    struct buffer_pool *p = this_ring->buffers;

    if (!b)
        return;
    shelve(p, b, len);
    p->out -= shared(a, a->held);
    a->held -= size_of(len);
    p->out += shared(a, a->held);
    serve(p);
}

/* ---- idle memory ---- */

/* Free @n buffers of a shelf. */
static void shelf_free(struct shelf *s, size_t size, unsigned n)
{
    while (n-- && s->first) {
        struct free_buffer *f = s->first;
        ASAN_UNPOISON_MEMORY_REGION(f, size);
        struct free_buffer *next = f->next;
        if (munmap(f, size) < 0) /* too many mappings to split one more: keep it */
            return;
        s->first = next;
        s->count--;
    }
}

void pool_trim(void)
{
    struct buffer_pool *p = this_ring->buffers;

    for (unsigned i = 0; p && i < CLASSES; i++) {
        struct shelf *s = &p->shelf[i];
        shelf_free(s, (size_t)BUFFER_ALIGN << i, s->low);
        s->low = s->count;
    }
}

bool pool_has_idle(struct ring *r)
{
    for (unsigned i = 0; r->buffers && i < CLASSES; i++)
        if (r->buffers->shelf[i].count)
            return true;
    return false;
}

void pool_free_ring(struct ring *r)
{
    for (unsigned i = 0; r->buffers && i < CLASSES; i++)
        shelf_free(&r->buffers->shelf[i], (size_t)BUFFER_ALIGN << i, UINT32_MAX);
    free(r->buffers);
    r->buffers = NULL;
}
