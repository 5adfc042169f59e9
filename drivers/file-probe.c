/* SPDX-License-Identifier: MIT */
/*
 * What an open file can do.  All of this may block and runs on a worker while
 * the node is being opened.  Nothing is written: what can only be found out by
 * changing the file (punching, zeroing) is learnt by the first request.
 */
#include "drivers/file-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "base/cleanup.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

enum {
    ALIGN_MAX = 4096,           /* larger blocks than this are not probed for, bytes */
    TRANSFER_MAX = 1 << 30,     /* bytes; one system call takes just under 2 GiB */
    PROBE_ROOM = 3 * ALIGN_MAX, /* for a read of ALIGN_MAX bytes at any place in a block */
};

uint64_t file_round_up(uint64_t bytes)
{
    const uint64_t most = INT64_MAX & ~(uint64_t)(FILE_SECTOR - 1);
    return bytes > most ? most : (bytes + FILE_SECTOR - 1) & ~(uint64_t)(FILE_SECTOR - 1);
}

int64_t file_size(const struct file *f)
{
    uint64_t bytes;
    if (f->block_device) {
        if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0)
            return -errno;
        return (int64_t)file_round_up(bytes);
    }
    if (!f->regular) {
        off_t end = lseek(f->fd, 0, SEEK_END);
        return end < 0 ? -errno : (int64_t)file_round_up((uint64_t)end);
    }
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    return (int64_t)file_round_up((uint64_t)st.st_size);
}

/* File systems whose calls for holes are quick, whose RWF_DSYNC syncs and which free what is punched. */
static bool is_local(uint64_t magic)
{
    switch (magic) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC: return true;
    default: return false;
    }
}

/* A number that the kernel keeps about the queue of a device, also of a partition's disk. */
static bool queue_attribute(dev_t dev, const char *name, uint64_t *out)
{
    static const char *const places[] = { "", "../" };
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(dev), minor(dev),
                 places[i], name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        bool found = fscanf(file, "%" SCNu64, out) == 1;
        fclose(file);
        if (found)
            return true;
    }
    return false;
}

static bool read_works(int fd, uint8_t *p, size_t len)
{
    ssize_t r;
    do
        r = pread(fd, p, len, 0);
    while (r < 0 && errno == EINTR);
    return r >= 0 || errno != EINVAL;
}

/* Find the alignment that direct reads need by trying.  An empty file can't tell: the largest. */
static int probe_by_reading(const struct file *f, uint64_t size, struct limits *limits)
{
    limits->alignment = limits->memory_alignment = ALIGN_MAX;
    if (size == 0)
        return 0;
    void *room;
    if (posix_memalign(&room, ALIGN_MAX, PROBE_ROOM) != 0)
        return -ENOMEM;
    autofree uint8_t *p = room;
    uint32_t a;
    for (a = FILE_SECTOR; a < ALIGN_MAX && !read_works(f->fd, p, a); a *= 2)
        ;
    limits->alignment = a;
    for (a = FILE_SECTOR; a < ALIGN_MAX && !read_works(f->fd, p + a, ALIGN_MAX); a *= 2)
        ;
    limits->memory_alignment = a;
    return 0;
}

/* What statx says about direct I/O; false when the kernel or the file system does not. */
static bool probe_by_statx(const struct file *f, struct limits *limits)
{
#ifdef STATX_DIOALIGN
    struct statx sx;
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) < 0 ||
        !(sx.stx_mask & STATX_DIOALIGN) || sx.stx_dio_offset_align == 0)
        return false;
    limits->alignment = sx.stx_dio_offset_align;
    limits->memory_alignment = sx.stx_dio_mem_align ? sx.stx_dio_mem_align : 1;
    return true;
#else
    (void)f;
    (void)limits;
    return false;
#endif
}

static int probe_alignment(const struct file *f, uint64_t size, struct limits *limits)
{
    limits->alignment = limits->memory_alignment = 1;
    if (!f->direct || probe_by_statx(f, limits))
        return 0;
    int sector;
    if (f->block_device && ioctl(f->fd, BLKSSZGET, &sector) == 0 && sector >= FILE_SECTOR) {
        limits->alignment = (uint32_t)sector;
        limits->memory_alignment = (uint32_t)sector;
        return 0;
    }
    return probe_by_reading(f, size, limits);
}

static void probe_device(const struct file *f, dev_t dev, struct limits *limits)
{
    int sector;
    unsigned best;
    uint64_t value;
    if (ioctl(f->fd, BLKSSZGET, &sector) == 0 && sector > 0)
        limits->zero_alignment = limits->discard_alignment = (uint64_t)sector;
    if (ioctl(f->fd, BLKIOOPT, &best) == 0)
        limits->transfer_best = best;
    limits->zero_fast =
        queue_attribute(dev, "write_zeroes_unmap_max_bytes", &value) ? value > 0 : false;
    if (!limits->zero_fast && queue_attribute(dev, "write_zeroes_max_bytes", &value))
        limits->zero_fast = value > 0;
    limits->zero_unmaps = limits->zero_fast;
}

/* Does a read that may not wait work here?  Direct reads would wait for the device all the same. */
static void probe_nowait(struct file *f)
{
    uint8_t byte;
    struct iovec v = { &byte, 1 };
    int answer = SUPPORT_NO;
    if (!f->direct && !f->memory && (f->regular || f->block_device))
        answer =
            preadv2(f->fd, &v, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN ? SUPPORT_YES : SUPPORT_NO;
    atomic_store(&f->nowait_read, answer);
    atomic_store(&f->nowait_write, answer == SUPPORT_YES ? SUPPORT_UNKNOWN : SUPPORT_NO);
}

int file_probe(struct file *f, struct limits *limits, uint64_t *size, struct err *err)
{
    struct stat st;
    struct statfs fs;
    if (fstat(f->fd, &st) < 0)
        return err_set_errno(err, -errno, "Could not open '%s'", f->path);
    f->regular = S_ISREG(st.st_mode);
    f->block_device = S_ISBLK(st.st_mode);
    bool known = f->regular && fstatfs(f->fd, &fs) == 0;
    f->local = known && is_local((uint64_t)fs.f_type);
    f->dsync = f->local || f->block_device;

    int64_t bytes = file_size(f);
    if (bytes < 0)
        return err_set_errno(err, (int)bytes, "Could not find out the size of '%s'", f->path);
    *size = (uint64_t)bytes;

    int r = probe_alignment(f, *size, limits);
    if (r < 0)
        return err_set_errno(err, r, "Could not find out the alignment of '%s'", f->path);
    limits->transfer_max = TRANSFER_MAX;
    limits->fua = f->dsync;
    if (f->block_device)
        probe_device(f, st.st_rdev, limits);
    else
        limits->zero_fast = limits->zero_unmaps = f->local;
    uint64_t rotational;
    if (queue_attribute(f->block_device ? st.st_rdev : st.st_dev, "rotational", &rotational))
        limits->rotational = rotational != 0;
    if (!f->regular)
        atomic_store(&f->seek, SUPPORT_NO);
    probe_nowait(f);
    return 0;
}
