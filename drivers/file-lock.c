/* SPDX-License-Identifier: MIT */
/*
 * Locks on image files.  All are read locks, which live side by side: the
 * conflict is found by asking (F_OFD_GETLK) whether anybody else has the
 * opposite byte.  Who locks first and asks then can't miss one who does the
 * same at the same time; both may fail.
 *
 * An open-file-description lock belongs to the open file: closing another
 * descriptor of the same file does not drop it, and two nodes of this process
 * on one file see each other's.
 */
#include "drivers/file-lock.h"

#include <errno.h>
#include <fcntl.h>

enum { LOCK_USED = 100, LOCK_UNSHARED = 200, PERMISSIONS = 4 };

static const char *const permission_names[PERMISSIONS] = { "consistent read", "write",
                                                           "write unchanged", "resize" };

static int lock_byte(int fd, int byte, short type)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    int r;
    do
        r = fcntl(fd, F_OFD_SETLK, &l);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* Does anybody else hold a lock on the byte?  Negative errno when that can't be told. */
static int byte_is_taken(int fd, int byte)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    int r;
    do
        r = fcntl(fd, F_OFD_GETLK, &l);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : l.l_type != F_UNLCK;
}

/* Lock the bytes of @bits on @fd; on failure returns the errno and the byte, leaving some locked. */
static int lock_bits(int fd, int base, unsigned bits, int *failed)
{
    for (int i = 0; i < PERMISSIONS; i++) {
        if (!(bits & 1u << i))
            continue;
        int r = lock_byte(fd, base + i, F_RDLCK);
        if (r < 0) {
            *failed = base + i;
            return r;
        }
    }
    return 0;
}

static void unlock_bits(int fd, int base, unsigned bits)
{
    for (int i = 0; i < PERMISSIONS; i++)
        if (bits & 1u << i)
            lock_byte(fd, base + i, F_UNLCK);
}

static int refuse(const struct file *f, int r, const char *shared, int bit, struct err *err)
{
    const char *name = permission_names[bit];
    if (r < 0)
        return err_set_errno(err, r, "Failed to get %s\"%s\" lock on '%s'", shared, name, f->path);
    return err_set(err, -EAGAIN,
                   "Failed to get %s\"%s\" lock: is another process or node using the image '%s'?",
                   shared, name, f->path);
}

static int check_bits(const struct file *f, unsigned perm, unsigned unshared, struct err *err)
{
    for (int i = 0; i < PERMISSIONS; i++) {
        int r = perm & 1u << i ? byte_is_taken(f->fd, LOCK_UNSHARED + i) : 0;
        if (r != 0)
            return refuse(f, r, "", i, err);
    }
    for (int i = 0; i < PERMISSIONS; i++) {
        int r = unshared & 1u << i ? byte_is_taken(f->fd, LOCK_USED + i) : 0;
        if (r != 0)
            return refuse(f, r, "shared ", i, err);
    }
    return 0;
}

int file_lock_prepare(struct file *f, unsigned perm, unsigned unshared, struct err *err)
{
    unsigned more = perm & ~f->held_perm, less = unshared & ~f->held_unshared;
    if (!f->locking || (!more && !less))
        return 0;
    int byte = 0;
    int r = lock_bits(f->fd, LOCK_USED, more, &byte);
    if (r == 0)
        r = lock_bits(f->fd, LOCK_UNSHARED, less, &byte);
    if (r < 0)
        err_set_errno(err, r, "Failed to lock byte %d of '%s'", byte, f->path);
    else
        r = check_bits(f, perm, unshared, err);
    if (r < 0) {
        unlock_bits(f->fd, LOCK_USED, more);
        unlock_bits(f->fd, LOCK_UNSHARED, less);
        return r;
    }
    f->held_perm |= more;
    f->held_unshared |= less;
    return 0;
}

void file_lock_settle(struct file *f, unsigned perm, unsigned unshared)
{
    if (!f->locking)
        return;
    unlock_bits(f->fd, LOCK_USED, f->held_perm & ~perm);
    unlock_bits(f->fd, LOCK_UNSHARED, f->held_unshared & ~unshared);
    f->held_perm &= perm;
    f->held_unshared &= unshared;
}

int file_lock_copy(const struct file *f, int fd, unsigned perm, unsigned unshared)
{
    int byte, r;
    if (!f->locking)
        return 0;
    r = lock_bits(fd, LOCK_USED, perm | f->held_perm, &byte);
    return r < 0 ? r : lock_bits(fd, LOCK_UNSHARED, unshared | f->held_unshared, &byte);
}

void file_lock_drop(const struct file *f, int fd)
{
    if (!f->locking)
        return;
    unlock_bits(fd, LOCK_USED, PERM_ALL);
    unlock_bits(fd, LOCK_UNSHARED, PERM_ALL);
}
