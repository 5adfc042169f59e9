/* SPDX-License-Identifier: MIT */
/*
 * Sets of passed file descriptors.  All state is under one mutex, held for
 * list work and for dup and close of a few descriptors.
 *
 * Invariant: a set that has neither descriptors nor duplicates in use does not
 * exist.
 */
#include "block/fdset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/parse.h"

#define FDSET_PREFIX "/dev/fdset/"

struct member {
    struct list link;
    int fd;
    bool removed; /* by the client; stays open while the set is in use */
    char *opaque;
};

struct duplicate {
    struct list link;
    int fd;
};

struct fdset {
    struct list link; /* in sets, by number */
    int64_t id;
    struct list members;
    struct list duplicates;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct list sets = LIST_INIT(sets);
static unsigned clients;

static void guard_release(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}
#define HOLD_GUARD()                                                                               \
    AUTO(guard_release)                                                                            \
    __attribute__((unused)) pthread_mutex_t *held = (pthread_mutex_lock(&guard), &guard)

static void member_free(struct member *m)
{
    list_remove(&m->link);
    close(m->fd);
    free(m->opaque);
    free(m);
}

static struct fdset *set_find(int64_t id)
{
    struct fdset *s;
    list_for_each (s, &sets, link)
        if (s->id == id)
            return s;
    return NULL;
}

/* Close what nobody needs any more. */
static void set_settle(struct fdset *s)
{
    struct member *m, *next;
    if (list_empty(&s->duplicates))
        list_for_each_safe (m, next, &s->members, link)
            if (m->removed || clients == 0)
                member_free(m);
    if (list_empty(&s->members) && list_empty(&s->duplicates)) {
        list_remove(&s->link);
        free(s);
    }
}

/* A new set @id in its place in the order, or with the lowest free number. */
static struct fdset *set_new(const int64_t *id)
{
    struct fdset *s = calloc(1, sizeof(*s)), *after;
    if (!s)
        return NULL;
    s->id = id ? *id : 0;
    list_init(&s->members);
    list_init(&s->duplicates);
    list_for_each (after, &sets, link) {
        if (after->id > s->id)
            break;
        if (!id)
            s->id = after->id + 1;
    }
    list_insert_before(&after->link, &s->link);
    return s;
}

int fdset_add(const int64_t *id, int fd, const char *opaque, int64_t *out, struct err *err)
{
    autoclose int taken = fd;
    if (fd < 0)
        return err_set(err, -EBADF, "No file descriptor supplied via SCM_RIGHTS");
    if (id && *id < 0)
        return err_set(err, -EINVAL, "Parameter 'fdset-id' expects a non-negative value");
    struct member *m = calloc(1, sizeof(*m));
    autofree char *note = opaque ? strdup(opaque) : NULL;
    if (!m || (opaque && !note)) {
        free(m);
        return err_set(err, -ENOMEM, "out of memory for file descriptor set");
    }

    HOLD_GUARD();
    struct fdset *s = id ? set_find(*id) : NULL;
    if (!s)
        s = set_new(id);
    if (!s) {
        free(m);
        return err_set(err, -ENOMEM, "out of memory for file descriptor set");
    }
    m->fd = take_fd(&taken);
    m->opaque = take_ptr(&note);
    list_push_back(&s->members, &m->link);
    *out = s->id;
    return 0;
}

int fdset_remove(int64_t id, const int64_t *fd, struct err *err)
{
    HOLD_GUARD();
    struct fdset *s = set_find(id);
    unsigned found = 0;
    if (s) {
        struct member *m;
        list_for_each (m, &s->members, link) {
            if (m->removed || (fd && m->fd != *fd))
                continue;
            m->removed = true;
            found++;
        }
        set_settle(s);
    }
    if (found)
        return 0;
    if (fd)
        return err_set(err, -ENOENT,
                       "File descriptor named 'fdset-id:%" PRId64 ", fd:%" PRId64 "' not found", id,
                       *fd);
    return err_set(err, -ENOENT, "File descriptor named 'fdset-id:%" PRId64 "' not found", id);
}

static size_t set_count(const struct fdset *s)
{
    size_t count = 0;
    const struct member *m;
    list_for_each (m, &s->members, link)
        count += !m->removed;
    return count;
}

/* Copies what the client may see of @s; false when out of memory. */
static bool set_describe(const struct fdset *s, struct fdset_info *out)
{
    out->id = s->id;
    out->fds = calloc(set_count(s), sizeof(*out->fds));
    if (!out->fds)
        return false;
    const struct member *m;
    list_for_each (m, &s->members, link) {
        if (m->removed)
            continue;
        struct fdset_fd *f = &out->fds[out->count++];
        f->fd = m->fd;
        if (m->opaque && !(f->opaque = strdup(m->opaque)))
            return false;
    }
    return true;
}

int fdset_query(struct fdset_info **out, size_t *count, struct err *err)
{
    HOLD_GUARD();
    size_t n = 0, filled = 0;
    const struct fdset *s;
    list_for_each (s, &sets, link)
        n += set_count(s) > 0;
    struct fdset_info *info = n ? calloc(n, sizeof(*info)) : NULL;
    bool ok = info || n == 0;
    list_for_each (s, &sets, link)
        if (ok && set_count(s) > 0)
            ok = set_describe(s, &info[filled++]);
    if (!ok) {
        fdset_query_free(info, info ? n : 0);
        return err_set(err, -ENOMEM, "out of memory for the list of file descriptor sets");
    }
    *out = info;
    *count = n;
    return 0;
}

void fdset_query_free(struct fdset_info *info, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < info[i].count; j++)
            free(info[i].fds[j].opaque);
        free(info[i].fds);
    }
    free(info);
}

void fdset_client_came(void)
{
    HOLD_GUARD();
    clients++;
}

void fdset_client_left(void)
{
    HOLD_GUARD();
    if (clients > 0)
        clients--;
    struct fdset *s, *next;
    list_for_each_safe (s, next, &sets, link)
        set_settle(s);
}

bool fdset_is_path(const char *path)
{
    return strncmp(path, FDSET_PREFIX, strlen(FDSET_PREFIX)) == 0;
}

/* The flags of an open file that can still be changed on a duplicate. */
static int set_flags(int fd, int flags)
{
    const int changeable = O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK;
    int now = fcntl(fd, F_GETFL);
    if (now < 0)
        return -errno;
    int wanted = (now & ~changeable) | (flags & changeable);
    if (now != wanted && fcntl(fd, F_SETFL, wanted) < 0)
        return -errno;
    return 0;
}

static int set_duplicate(struct fdset *s, int flags)
{
    struct member *m;
    list_for_each (m, &s->members, link) {
        int mode = fcntl(m->fd, F_GETFL);
        if (m->removed || mode < 0 || (mode & O_ACCMODE) != (flags & O_ACCMODE))
            continue;
        struct duplicate *d = calloc(1, sizeof(*d));
        if (!d)
            return -ENOMEM;
        d->fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
        int r = d->fd < 0 ? -errno : set_flags(d->fd, flags);
        if (r < 0) {
            if (d->fd >= 0)
                close(d->fd);
            free(d);
            return r;
        }
        list_push_back(&s->duplicates, &d->link);
        return d->fd;
    }
    return -EACCES;
}

int fdset_open(const char *path, int flags, struct err *err)
{
    int64_t id;
    if (!fdset_is_path(path) || parse_i64(path + strlen(FDSET_PREFIX), &id) < 0 || id < 0)
        return err_set(err, -EINVAL, "Could not open '%s': not the name of a descriptor set", path);
    HOLD_GUARD();
    struct fdset *s = set_find(id);
    int fd = s ? set_duplicate(s, flags) : -ENOENT;
    if (fd == -EACCES)
        return err_set(err, fd,
                       "Could not open '%s': the set has no descriptor that is open for %s", path,
                       (flags & O_ACCMODE) == O_RDONLY   ? "reading only"
                       : (flags & O_ACCMODE) == O_WRONLY ? "writing only"
                                                         : "reading and writing");
    if (fd < 0)
        return err_set_errno(err, fd, "Could not open '%s'", path);
    return fd;
}

/* Forget that @fd is a duplicate; its number can't be taken by another one before it is closed. */
static struct fdset *duplicate_forget(int fd)
{
    struct fdset *s;
    list_for_each (s, &sets, link) {
        struct duplicate *d;
        list_for_each (d, &s->duplicates, link) {
            if (d->fd != fd)
                continue;
            list_remove(&d->link);
            free(d);
            return s;
        }
    }
    return NULL;
}

void fdset_close(int fd)
{
    {
        HOLD_GUARD();
        struct fdset *s = duplicate_forget(fd);
        if (s)
            set_settle(s);
    }
    close(fd);
}
