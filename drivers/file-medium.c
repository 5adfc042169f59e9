/* SPDX-License-Identifier: MIT */
/*
 * The drive under host_cdrom.  A block device that is no drive (a disk, a loop
 * device) answers ENOTTY or EINVAL: its medium is always in and it has neither
 * tray nor lock.
 */
#include "drivers/file-medium.h"

#include <errno.h>
#include <limits.h> /* CDSL_CURRENT is INT_MAX */
#include <linux/cdrom.h>
#include <sys/ioctl.h>

#include "uring/ring.h"

static int cdrom_present(int fd)
{
    int r = ioctl(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT);
    if (r < 0)
        return errno == ENOTTY || errno == EINVAL || errno == ENOSYS ? 1 : -errno;
    return r == CDS_DISC_OK || r == CDS_NO_INFO;
}

static int cdrom_eject(int fd, bool out)
{
    return ioctl(fd, out ? CDROMEJECT : CDROMCLOSETRAY, NULL) < 0 ? -errno : 0;
}

static int cdrom_lock(int fd, bool locked)
{
    return ioctl(fd, CDROM_LOCKDOOR, locked) < 0 ? -errno : 0;
}

const struct medium_calls medium_calls_cdrom = { cdrom_present, cdrom_eject, cdrom_lock };

struct medium_job {
    const struct file *f;
    int (*call)(int fd, bool on);
    bool on;
};

static int present_work(void *arg)
{
    const struct file *f = arg;
    return f->medium->present(f->fd);
}

static int switch_work(void *arg)
{
    const struct medium_job *j = arg;
    return j->call(j->f->fd, j->on);
}

bool co_fn file_medium_present(struct node *n)
{
    return ring_block(present_work, file_of(n)) > 0;
}

int co_fn file_medium_eject(struct node *n, bool out, struct err *err)
{
    struct file *f = file_of(n);
    struct medium_job j = { f, f->medium->eject, out };
    int r = ring_block(switch_work, &j);
    if (r < 0)
        return err_set_errno(err, r, "Could not %s the tray of '%s'", out ? "open" : "close",
                             f->path);
    return 0;
}

int co_fn file_medium_lock(struct node *n, bool locked, struct err *err)
{
    struct file *f = file_of(n);
    struct medium_job j = { f, f->medium->lock, locked };
    int r = ring_block(switch_work, &j);
    if (r < 0)
        return err_set_errno(err, r, "Could not %s the tray of '%s'", locked ? "lock" : "unlock",
                             f->path);
    return 0;
}
