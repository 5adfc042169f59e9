/* SPDX-License-Identifier: MIT */
/* What disks of this host have in common. */
#include "exports/host-disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define OPENER_POLL (100 * UINT64_C(1000000)) /* ns between looks whether the last one has left */

static bool is_power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

int host_disk_init(struct host_disk *d, struct export *x, uint64_t block, struct err *err)
{
    struct node *n = root_node(x->root);
    uint32_t least =
        n->limits.alignment > HOST_DISK_SECTOR ? n->limits.alignment : HOST_DISK_SECTOR;

    d->export = x;
    co_cond_init(&d->changed);
    if (block &&
        (!is_power_of_two(block) || block < HOST_DISK_SECTOR || block > HOST_DISK_BLOCK_MAX))
        return err_set(err, -EINVAL,
                       "export '%s': a disk's blocks have 512, 1024, 2048 or 4096 bytes", x->id);
    if (!block && least > HOST_DISK_BLOCK_MAX)
        return err_set(err, -EINVAL,
                       "export '%s': node '%s' has blocks of %u bytes, a disk at most %d", x->id,
                       n->name, least, HOST_DISK_BLOCK_MAX);
    d->block = block ? (uint32_t)block : least;
    if (track_needed(n, d->block))
        return err_set(
            err, -EINVAL,
            "export '%s': blocks of %u bytes are too small for node '%s', whose requests "
            "must be aligned to %u bytes",
            x->id, d->block, n->name, n->limits.alignment);
    d->size = node_size(n);
    if (d->size < d->block)
        return err_set(err, -EINVAL, "export '%s': node '%s' is smaller than one block of %u bytes",
                       x->id, n->name, d->block);
    return 0;
}

uint64_t host_disk_size(const struct host_disk *d)
{
    return d->size & ~((uint64_t)d->block - 1);
}

/* ---- another size ---- */

static int tell_on_worker(void *arg)
{
    struct host_disk *d = arg;

    return d->tell_size(d, host_disk_size(d));
}

static void co_fn tell_size(void *arg)
{
    struct host_disk *d = arg;
    uint64_t told;

    do {
        told = host_disk_size(d);
        int r = ring_block(tell_on_worker, d);
        if (r == -EOPNOTSUPP)
            log_warning("export '%s': this kernel cannot change the size of %s in use; it has its "
                        "new size when it is exported again",
                        d->export->id, d->path);
        else if (r < 0)
            log_error("export '%s': cannot tell the kernel of the new size of %s: %s",
                      d->export->id, d->path, strerror(-r));
    } while (told != host_disk_size(d) && !d->stopping);
    d->resizing = false;
    co_cond_wake_all(&d->changed);
}

void host_disk_resized(struct host_disk *d, uint64_t size)
{
    d->size = size;
    if (d->resizing || d->stopping || !d->path[0])
        return;
    d->resizing = true;
    if (co_start(tell_size, d, "disk resize") < 0) {
        d->resizing = false;
        log_error("export '%s': no memory to tell the kernel of its new size", d->export->id);
    }
}

/* ---- who has it open ---- */

/* Device numbers of a disk and its partitions. */
struct numbers {
    dev_t v[64];
    unsigned n;
};

static void add_number(struct numbers *out, const char *path)
{
    struct stat s;

    if (out->n < sizeof(out->v) / sizeof(*out->v) && stat(path, &s) == 0 && S_ISBLK(s.st_mode))
        out->v[out->n++] = s.st_rdev;
}

/* In /sys/block/NAME the partitions have folders of their own, whose names begin with the disk's. */
static void collect_numbers(struct numbers *out, const char *name)
{
    char path[300];
    const struct dirent *entry;
    DIR *folder;

    snprintf(path, sizeof(path), "/dev/%s", name);
    add_number(out, path);
    snprintf(path, sizeof(path), "/sys/block/%s", name);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
        if (strncmp(entry->d_name, name, strlen(name)) == 0)
            add_number(out, path);
    }
    if (folder)
        closedir(folder);
}

/* Does one of the descriptors in /proc/PID/fd lead to one of them? */
static bool process_has(const char *pid, const struct numbers *numbers)
{
    char path[300];
    struct stat s;
    bool found = false;
    const struct dirent *entry;
    DIR *fds;

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    fds = opendir(path);
    while (fds && !found && (entry = readdir(fds))) {
        if (fstatat(dirfd(fds), entry->d_name, &s, 0) < 0 || !S_ISBLK(s.st_mode))
            continue;
        for (unsigned i = 0; i < numbers->n; i++)
            found = found || s.st_rdev == numbers->v[i];
    }
    if (fds)
        closedir(fds);
    return found;
}

static int look_on_worker(void *arg)
{
    const struct host_disk *d = arg;
    struct numbers numbers = { .n = 0 };
    const struct dirent *entry;
    bool found = false;
    DIR *processes;
    int fd;

    /* A mount, swap or a device on top claims it. */
    fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0 && errno == EBUSY)
        return true;
    if (fd >= 0)
        close(fd);
    collect_numbers(&numbers, d->path + strlen("/dev/"));
    processes = opendir("/proc");
    while (processes && !found && (entry = readdir(processes)))
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
            found = process_has(entry->d_name, &numbers);
    if (processes)
        closedir(processes);
    return found;
}

bool co_fn host_disk_in_use(struct host_disk *d)
{
    return ring_block(look_on_worker, d) != 0;
}

int host_disk_describe(const struct host_disk *d, struct export_door *door)
{
    door->device = d->path[0] ? strdup(d->path) : NULL;
    return d->path[0] && !door->device ? -ENOMEM : 0;
}

void host_disk_shut_down(struct host_disk *d, bool hard)
{
    d->hard = d->hard || hard;
    co_cond_wake_all(&d->changed);
}

void co_fn host_disk_wait_unused(struct host_disk *d)
{
    d->stopping = true;
    while (!d->hard && host_disk_in_use(d))
        co_cond_wait_until(&d->changed, NULL, ring_now() + OPENER_POLL);
    while (d->resizing)
        co_cond_wait(&d->changed, NULL);
}

/* ---- its rings ---- */

static int become_io_flusher(void *arg)
{
    const struct host_disk *d = arg;
#ifndef PR_SET_IO_FLUSHER
    enum { PR_SET_IO_FLUSHER = 57 };
#endif

    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
        log_warning("export '%s': without CAP_SYS_RESOURCE the daemon may hang when memory is "
                    "short: %s",
                    d->export->id, strerror(errno));
    return 0;
}

void co_fn host_disk_serve_on(struct host_disk *d, struct ring *ring)
{
    ring_call(ring, become_io_flusher, d);
}
