/* SPDX-License-Identifier: MIT */
/*
 * Ownership bound to scope.  A local owner frees what it holds when its scope
 * ends, unless it was handed over with take_ptr() or take_fd().
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define AUTO(fn) __attribute__((cleanup(fn)))

/* Defines fn_p, the cleanup function for a pointer type that fn(p) frees. */
#define DEFINE_AUTO(type, fn)                                                                      \
    static inline void fn##_p(type *p)                                                             \
    {                                                                                              \
        if (*p)                                                                                    \
            fn(*p);                                                                                \
    }

static inline void free_p(void *p)
{
    free(*(void **)p);
}

static inline void close_p(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define autofree  AUTO(free_p)
#define autoclose AUTO(close_p)

#define take_ptr(pp)                                                                               \
    ({                                                                                             \
        __auto_type taken_ = *(pp);                                                                \
        *(pp) = NULL;                                                                              \
        taken_;                                                                                    \
    })

static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
