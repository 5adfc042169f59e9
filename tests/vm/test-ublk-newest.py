#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=500 builds=plain
"""The ublk export on the newest kernel: what older ones cannot do."""

import os

import machine
from machine import run, wait_until
from ublkdisk import MIB, allocated, disk, harness, nothing_left


def fio_verifies_what_two_jobs_wrote():
    run("modprobe", "ublk_drv")
    with disk():
        run("fio", "--name=v", "--filename=/dev/ublkb0", "--direct=1", "--ioengine=io_uring", "--iodepth=16",
            "--rw=randrw", "--bsrange=512-128k", "--size=8M", "--numjobs=2", "--offset_increment=32M",
            "--verify=crc32c", "--verify_fatal=1")
        run("cmp", "/dev/ublkb0", "image")


def a_mounted_disk_grows():
    with disk() as d:
        run("mkfs.ext4", "-q", "/dev/ublkb0")
        os.makedirs("mnt", exist_ok=True)
        run("mount", "/dev/ublkb0", "mnt")
        d.qmp()("block_resize", node_name="disk", size=256 * MIB)
        wait_until(lambda: run("blockdev", "--getsize64", "/dev/ublkb0") == f"{256 * MIB}\n", "the new size")
        run("resize2fs", "/dev/ublkb0")
        with open("mnt/large", "wb") as f:
            for _ in range(100):
                f.write(os.urandom(MIB))
        run("umount", "mnt")
        run("fsck.ext4", "-fn", "/dev/ublkb0")
        assert allocated() >= 100 * MIB


def an_open_disk_stays():
    with disk() as d:
        q = d.qmp()
        with open("/dev/ublkb0", "rb") as f:
            harness.fails("GenericError", "export 'd' still in use", q, "block-export-del", id="d")
            assert len(f.read(MIB)) == MIB
        q("block-export-del", id="d")
        q.wait_event("BLOCK_EXPORT_DELETED")
        assert nothing_left()


machine.main([
    fio_verifies_what_two_jobs_wrote,
    a_mounted_disk_grows,
    an_open_disk_stays,
], kernel="7.2")
