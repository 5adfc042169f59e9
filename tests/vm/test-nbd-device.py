#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=600 builds=plain
"""The nbd-device export against the kernel's NBD client: what a disk must do, and how it goes."""

import contextlib
import fcntl
import os

import machine
from machine import refused, run, wait_until
from ublkdisk import MIB, NODES, allocated, harness, image

NBD_DISCONNECT = 0xab08


def size_of(device="/dev/nbd0"):
    return int(run("blockdev", "--getsize64", device))


@contextlib.contextmanager
def disk(size=64 * MIB, options="writable=on"):
    """A daemon that shows a fresh image as /dev/nbd0."""
    image(size)
    with harness.daemon(*NODES, "--export", f"type=nbd-device,id=d,node-name=disk,{options}") as d:
        assert d.qmp()("query-block-exports")[0]["device"] == "/dev/nbd0"
        yield d
    wait_until(lambda: size_of() == 0, "the disk to be empty")


def the_module_comes_by_itself():
    image()
    with harness.daemon(*NODES) as d:
        q = d.qmp()
        q("block-export-add", type="nbd-device", id="d", node_name="disk")
        assert size_of() == 64 * MIB
    with open("/proc/modules", encoding="ascii") as f:
        assert "\nnbd " in "\n" + f.read()


def wrong_options_are_refused():
    image()
    with harness.daemon(*NODES) as d:
        q = d.qmp()
        for options, text in [
                ({"connections": 65}, "export 'd': connections must be at most 64"),
                ({"device": "/dev/sda"}, "export 'd': device '/dev/sda' is not of the form /dev/nbdN"),
                ({"block_size": 8192}, "export 'd': a disk's blocks have 512, 1024, 2048 or 4096 bytes"),
                ({"timeout": 5}, "export 'd': with a timeout requests cannot wait for the export to go on...")]:
            harness.fails("GenericError", text, q, "block-export-add", type="nbd-device", id="d", node_name="disk",
                          writable=True, **options)
        assert size_of() == 0


def fio_verifies_what_four_jobs_wrote():
    with disk():
        assert size_of() == 64 * MIB
        run("fio", "--name=v", "--filename=/dev/nbd0", "--direct=1", "--ioengine=io_uring", "--iodepth=16",
            "--rw=randrw", "--bsrange=512-128k", "--size=8M", "--numjobs=4", "--offset_increment=16M",
            "--verify=crc32c", "--verify_fatal=1", "--fsync=50")
        run("cmp", "/dev/nbd0", "image")
        run("blkdiscard", "/dev/nbd0")
        assert allocated() < MIB, allocated()


def a_file_system_lives_on_it_and_grows():
    with disk() as d:
        run("mkfs.ext4", "-q", "/dev/nbd0")
        os.makedirs("mnt", exist_ok=True)
        run("mount", "/dev/nbd0", "mnt")
        d.qmp()("block_resize", node_name="disk", size=128 * MIB)
        wait_until(lambda: size_of() == 128 * MIB, "the new size")
        run("resize2fs", "/dev/nbd0")
        with open("mnt/kept", "wb") as f:
            f.write(b"kept" * (20 * MIB))
        run("umount", "mnt")
        run("fsck.ext4", "-fn", "/dev/nbd0")
        run("cmp", "/dev/nbd0", "image")
    run("mount", "-o", "loop,ro", "image", "mnt")
    with open("mnt/kept", "rb") as f:
        assert f.read() == b"kept" * (20 * MIB)
    run("umount", "mnt")


def partitions_appear():
    with disk():
        run("sfdisk", "-q", "/dev/nbd0", input="label: gpt\nsize=16M\nsize=20M\n")
        wait_until(lambda: os.path.exists("/dev/nbd0p2"), "partitions")
        assert size_of("/dev/nbd0p2") == 20 * MIB
    with harness.daemon(*NODES, "--export", "type=nbd-device,id=d,node-name=disk,device=/dev/nbd3"):
        wait_until(lambda: os.path.exists("/dev/nbd3p2"), "the same partitions, found at the start")


def a_read_only_disk_refuses_writes():
    with disk(options="writable=off,connections=1,block-size=4096"):
        assert run("blockdev", "--getro", "/dev/nbd0") == "1\n"
        refused("dd", "if=/dev/zero", "of=/dev/nbd0", "bs=4k", "count=1", "oflag=direct")
        run("dd", "if=/dev/nbd0", "of=/dev/null", "bs=1M", "iflag=direct")


def an_open_disk_is_removed_by_force_only():
    with disk() as d:
        q = d.qmp()
        harness.fails("GenericError", "export 'e': /dev/nbd0 is in use", q, "block-export-add", type="nbd-device",
                      id="e", node_name="disk", device="/dev/nbd0")
        count = d.settled()
        with open("/dev/nbd0", "rb") as f:
            harness.fails("GenericError", "export 'd' still in use", q, "block-export-del", id="d")
            assert len(f.read(MIB)) == MIB
            q("block-export-del", id="d", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
        assert q("query-block-exports") == []
        wait_until(lambda: size_of() == 0, "the disk to be empty")
        q("block-export-add", type="nbd-device", id="d", node_name="disk", writable=True)
        assert d.settled(count) <= count
        q("block-export-del", id="d")
        q.wait_event("BLOCK_EXPORT_DELETED")


def somebody_else_may_disconnect_it():
    image()
    with harness.daemon(*NODES, "--export", "type=nbd-device,id=d,node-name=disk,device=/dev/nbd5") as d:
        with open("/dev/nbd5", "rb") as f:
            fcntl.ioctl(f, NBD_DISCONNECT)
        wait_until(lambda: "was disconnected by somebody else" in d.said(), "the log to say it")
        q = d.qmp()
        q("block-export-del", id="d")
        q.wait_event("BLOCK_EXPORT_DELETED")


machine.main([
    the_module_comes_by_itself,
    wrong_options_are_refused,
    fio_verifies_what_four_jobs_wrote,
    a_file_system_lives_on_it_and_grows,
    partitions_appear,
    a_read_only_disk_refuses_writes,
    an_open_disk_is_removed_by_force_only,
    somebody_else_may_disconnect_it,
], seconds=500)
