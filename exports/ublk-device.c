/* SPDX-License-Identifier: MIT */
/*
 * The control side of ublk: a device comes, starts, changes and goes.  Devices
 * of ours carry a cookie, by which those of dead daemons are known and swept
 * away whenever a new one is made.
 */
#include "exports/ublk-device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "uring/command.h"

enum { SECTOR_SHIFT = 9 };
enum { OPEN_TRIES = 500, GONE_TRIES = 200 }; /* of 10 ms each */
#define COOKIE UINT64_C(0x72696e67626c6b01)  /* "ringblk", 1: devices of ours */

static int command(const struct ublk_device *d, int number, void *buffer, size_t length,
                   uint16_t queue, uint64_t data)
{
    const struct rb_ublk_control c = {
        .device = d->info.device,
        .queue = queue,
        .length = (uint16_t)length,
        .address = (uint64_t)(uintptr_t)buffer,
        .data = data,
    };

    return command_blocking(d->control, (uint32_t)number, &c, sizeof(c));
}

static int simple_command(const struct ublk_device *d, int number, uint64_t data)
{
    return command(d, number, NULL, 0, RB_UBLK_NO_QUEUE, data);
}

static void pause_10ms(void)
{
    nanosleep(&(const struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

void ublk_device_path(const struct ublk_device *d, char *out, size_t size)
{
    snprintf(out, size, "/dev/ublkb%u", d->info.device);
}

static int open_control(struct ublk_device *d, struct err *err)
{
    int r;

    d->control = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
    if (d->control < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
        return err_set(err, -errno,
                       "cannot open '/dev/ublk-control': the kernel's module is not loaded "
                       "(modprobe ublk_drv; Linux 6.5 or newer with CONFIG_BLK_DEV_UBLK)");
    if (d->control < 0)
        return err_set_errno(err, -errno, "cannot open '/dev/ublk-control'");
    r = command(d, RB_UBLK_GET_FEATURES, &d->features, sizeof(d->features), RB_UBLK_NO_QUEUE, 0);
    if (r < 0)
        return err_set_errno(err, r, "cannot ask '/dev/ublk-control' for its features");
    return 0;
}

static int add(struct ublk_device *d, const struct rb_ublk_device_info *wanted, struct err *err)
{
    int r;

    d->info = *wanted;
    d->info.flags &= d->features;
    d->info.cookie = COOKIE;
    r = command(d, RB_UBLK_ADD_DEVICE, &d->info, sizeof(d->info), RB_UBLK_NO_QUEUE, 0);
    if (r == -EEXIST)
        return err_set(err, r, "there is a ublk device %u already", wanted->device);
    if (r < 0)
        return err_set_errno(err, r, "the kernel makes no ublk device of %u queues of depth %u",
                             wanted->queues, wanted->depth);
    d->added = true;
    return 0;
}

/* Its node in /dev may come late, or belong to root for a moment. */
static int open_data(struct ublk_device *d, struct err *err)
{
    char path[32];

    snprintf(path, sizeof(path), "/dev/ublkc%u", d->info.device);
    for (unsigned i = 0; i < OPEN_TRIES; i++) {
        d->data = open(path, O_RDWR | O_CLOEXEC);
        if (d->data >= 0 || (errno != ENOENT && errno != EACCES))
            break;
        pause_10ms();
    }
    return d->data < 0 ? err_set_errno(err, -errno, "cannot open '%s'", path) : 0;
}

/* A daemon that was killed leaves the number taken: free it.  Its disk is gone, and nobody serves it. */
static void sweep_one(const struct ublk_device *d, const char *name)
{
    struct ublk_device dead = { .control = d->control };
    char path[300];
    int fd;

    if (sscanf(name, "ublkc%u", &dead.info.device) != 1 ||
        command(&dead, RB_UBLK_GET_DEVICE_INFO, &dead.info, sizeof(dead.info), RB_UBLK_NO_QUEUE,
                0) < 0 ||
        dead.info.cookie != COOKIE || dead.info.state != RB_UBLK_DEAD)
        return;
    snprintf(path, sizeof(path), "/dev/%s", name);
    fd = open(path, O_RDWR | O_CLOEXEC); /* EBUSY: somebody is about to serve it */
    if (fd < 0)
        return;
    close(fd);
    log_info("ublk device %u was left behind by a daemon that died: deleted", dead.info.device);
    simple_command(&dead, RB_UBLK_DELETE_DEVICE_ASYNC, 0);
}

static void sweep(const struct ublk_device *d)
{
    const struct dirent *entry;
    DIR *folder = opendir("/sys/class/ublk-char");

    while (folder && (entry = readdir(folder)))
        sweep_one(d, entry->d_name);
    if (folder)
        closedir(folder);
}

int ublk_device_add(struct ublk_device *d, const struct rb_ublk_device_info *wanted,
                    const struct rb_ublk_parameters *parameters, struct err *err)
{
    struct rb_ublk_parameters p = *parameters;
    int r;

    *d = (struct ublk_device){ .control = -1, .data = -1 };
    if (open_control(d, err) < 0)
        goto fail;
    flock(d->control, LOCK_EX); /* so that no other daemon takes a new device for a dead one */
    sweep(d);
    if (add(d, wanted, err) < 0)
        goto fail;
    p.length = sizeof(p);
    p.basic.max_sectors = d->info.max_io_bytes >> SECTOR_SHIFT;
    r = command(d, RB_UBLK_SET_PARAMETERS, &p, sizeof(p), RB_UBLK_NO_QUEUE, 0);
    if (r < 0) {
        err_set_errno(err, r, "the kernel refuses the parameters of ublk device %u",
                      d->info.device);
        goto fail;
    }
    if (open_data(d, err) < 0)
        goto fail;
    flock(d->control, LOCK_UN);
    return 0;

fail:
    ublk_device_delete(d);
    return err->code;
}

int ublk_device_start(struct ublk_device *d, struct err *err)
{
    int r = simple_command(d, RB_UBLK_START_DEVICE, (uint64_t)getpid());

    return r < 0 ? err_set_errno(err, r, "the kernel does not start ublk device %u", d->info.device)
                 : 0;
}

int ublk_device_stop(struct ublk_device *d, bool safely)
{
    bool can_tell = d->features & RB_UBLK_F_SAFE_STOP;

    return simple_command(d, safely && can_tell ? RB_UBLK_TRY_STOP_DEVICE : RB_UBLK_STOP_DEVICE, 0);
}

static void wait_gone(struct ublk_device *d)
{
    struct rb_ublk_device_info info;

    for (unsigned i = 0; i < GONE_TRIES; i++) {
        if (command(d, RB_UBLK_GET_DEVICE_INFO, &info, sizeof(info), RB_UBLK_NO_QUEUE, 0) < 0)
            return;
        pause_10ms();
    }
    log_warning("ublk device %u is gone, but a program still has it open", d->info.device);
}

void ublk_device_delete(struct ublk_device *d)
{
    if (d->data >= 0)
        close(take_fd(&d->data));
    if (d->added) {
        int r = simple_command(d, RB_UBLK_DELETE_DEVICE_ASYNC, 0);
        if (r == -EOPNOTSUPP)
            r = simple_command(d, RB_UBLK_DELETE_DEVICE, 0);
        if (r < 0)
            log_error("cannot delete ublk device %u: %s", d->info.device, strerror(-r));
        else
            wait_gone(d);
        d->added = false;
    }
    if (d->control >= 0)
        close(take_fd(&d->control));
}

int ublk_device_resize(struct ublk_device *d, uint64_t bytes)
{
    if (!(d->features & RB_UBLK_F_UPDATE_SIZE))
        return -EOPNOTSUPP;
    return simple_command(d, RB_UBLK_UPDATE_SIZE, bytes >> SECTOR_SHIFT);
}

int ublk_device_cpus(struct ublk_device *d, unsigned queue, uint64_t cpus[UBLK_CPUS_MAX / 64])
{
    memset(cpus, 0, UBLK_CPUS_MAX / 8);
    /* The queue goes where other commands have their data. */
    return command(d, RB_UBLK_GET_QUEUE_AFFINITY, cpus, UBLK_CPUS_MAX / 8, RB_UBLK_NO_QUEUE, queue);
}
