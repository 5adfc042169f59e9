#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=700 builds=plain
"""The ublk export against the kernel: what a disk must do, and nothing left behind when it goes."""

import contextlib
import glob
import os
import signal
import subprocess

import machine
from machine import refused, run, wait_until
from ublkdisk import MIB, NODES, allocated, disk, harness, image, leftovers, nothing_left, read_sys

def without_the_module_it_says_what_to_load():
    image()
    with harness.daemon(*NODES) as d:
        harness.fails("GenericError", "export 'd': cannot open '/dev/ublk-control': the kernel's module is not "
                      "loaded (modprobe ublk_drv...", d.qmp(), "block-export-add", type="ublk", id="d",
                      node_name="disk")
    run("modprobe", "ublk_drv")


def wrong_options_are_refused():
    image()
    with harness.daemon(*NODES) as d:
        q = d.qmp()
        for options, text in [
                ({"queue_depth": 0}, "export 'd': queue-depth must be between 1 and 4096"),
                ({"queue_depth": 5000}, "export 'd': queue-depth must be between 1 and 4096"),
                ({"nr_queues": 65}, "export 'd': nr-queues must be at most 64"),
                ({"max_io_size": 5000}, "export 'd': max-io-size must be a multiple of 4096..."),
                ({"logical_block_size": 8192}, "export 'd': a disk's blocks have 512, 1024, 2048 or 4096 bytes")]:
            harness.fails("GenericError", text, q, "block-export-add", type="ublk", id="d", node_name="disk",
                          **options)
        assert nothing_left()


def bytes_go_in_and_out():
    with disk():
        assert run("blockdev", "--getsize64", "/dev/ublkb0") == f"{64 * MIB}\n"
        assert read_sys("queue/logical_block_size") == "512"
        assert read_sys("queue/write_cache") == "write back"
        with open("wanted", "wb") as f:
            f.write(os.urandom(9 * MIB))
        run("dd", "if=wanted", "of=/dev/ublkb0", "bs=1M", "oflag=direct", "seek=3", "conv=fsync")
        run("cmp", "-i", f"0:{3 * MIB}", "-n", str(9 * MIB), "wanted", "image")
        run("dd", "if=/dev/ublkb0", "of=copy", "bs=64k", "iflag=direct", "skip=48", "count=144")
        run("cmp", "wanted", "copy")


def fio_verifies_what_four_jobs_wrote():
    with disk():
        run("fio", "--name=v", "--filename=/dev/ublkb0", "--direct=1", "--ioengine=io_uring", "--iodepth=16",
            "--rw=randrw", "--bsrange=512-128k", "--size=12M", "--numjobs=4", "--offset_increment=16M",
            "--verify=crc32c", "--verify_fatal=1", "--fsync=50")
        run("cmp", "/dev/ublkb0", "image")


def a_file_system_lives_on_it():
    with disk(size=128 * MIB):
        run("mkfs.ext4", "-q", "/dev/ublkb0")
        os.makedirs("mnt", exist_ok=True)
        run("mount", "/dev/ublkb0", "mnt")
        os.mkdir("mnt/some")
        for i in range(10):
            run("dd", "if=/dev/urandom", f"of=mnt/some/{i}", "bs=1M", "count=4")
        run("sync", "-f", "mnt")
        before = allocated()
        run("rm", "-r", "mnt/some")
        run("sync", "-f", "mnt")
        run("fstrim", "mnt")
        assert allocated() < before / 2, (before, allocated())
        with open("mnt/kept", "wb") as f:
            f.write(b"kept" * MIB)
        run("umount", "mnt")
        run("fsck.ext4", "-fn", "/dev/ublkb0")
        run("cmp", "/dev/ublkb0", "image")
    run("mount", "-o", "loop,ro", "image", "mnt")
    with open("mnt/kept", "rb") as f:
        assert f.read() == b"kept" * MIB
    run("umount", "mnt")


def partitions_appear():
    with disk():
        run("sfdisk", "-q", "/dev/ublkb0", input="label: gpt\nsize=16M\nsize=20M\n")
        wait_until(lambda: os.path.exists("/dev/ublkb0p2"), "partitions")
        assert run("blockdev", "--getsize64", "/dev/ublkb0p1") == f"{16 * MIB}\n"
        assert run("blockdev", "--getsize64", "/dev/ublkb0p2") == f"{20 * MIB}\n"
    with harness.daemon(*NODES, "--export", "type=ublk,id=d,node-name=disk"):
        wait_until(lambda: os.path.exists("/dev/ublkb0p2"), "the same partitions, found at the start")


def discarding_and_zeroing_keep_or_free_space_as_asked():
    with disk():
        for command, frees in ((["blkdiscard", "/dev/ublkb0"], True),
                               (["fallocate", "--punch-hole", "-l", str(64 * MIB), "/dev/ublkb0"], True),
                               (["blkdiscard", "-z", "/dev/ublkb0"], False)):
            run("dd", "if=/dev/urandom", "of=/dev/ublkb0", "bs=1M", "count=32", "oflag=direct")
            assert allocated() >= 32 * MIB
            run(*command)
            assert (allocated() < MIB) == frees, (command, allocated())
            run("cmp", "-n", str(64 * MIB), "/dev/ublkb0", "/dev/zero")


def a_read_only_disk_refuses_writes():
    with disk(options="writable=off,rotational=on,logical-block-size=4096,nr-queues=1,queue-depth=4"):
        assert run("blockdev", "--getro", "/dev/ublkb0") == "1\n"
        assert read_sys("queue/rotational") == "1"
        assert read_sys("queue/logical_block_size") == "4096"
        refused("dd", "if=/dev/zero", "of=/dev/ublkb0", "bs=4k", "count=1", "oflag=direct")
        refused("blkdiscard", "/dev/ublkb0")
        run("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=1M", "iflag=direct")


def an_open_disk_is_removed_by_force_only():
    with disk() as d:
        q = d.qmp()
        with open("/dev/ublkb0", "rb"):
            harness.fails("GenericError", "export 'd' still in use", q, "block-export-del", id="d")
        run("mkfs.ext4", "-q", "/dev/ublkb0")
        os.makedirs("mnt", exist_ok=True)
        run("mount", "/dev/ublkb0", "mnt")
        harness.fails("GenericError", "export 'd' still in use", q, "block-export-del", id="d")
        run("umount", "mnt")
        q("block-export-del", id="d")
        q.wait_event("BLOCK_EXPORT_DELETED")
        assert nothing_left(), leftovers()
        q("block-export-add", type="ublk", id="d", node_name="disk", writable=True, dev_id=7)
        with open("/dev/ublkb7", "rb"):
            q("block-export-del", id="d", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            assert q("query-block-exports") == []
        wait_until(nothing_left, "the disk to go with its last opener")


@contextlib.contextmanager
def full_disk():
    """A writer of 32 MiB to a disk whose image has room for 16."""
    os.makedirs("small", exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", "small")
    with open("small/image", "wb") as f:
        f.truncate(64 * MIB)
    with harness.daemon("--blockdev", "driver=file,node-name=file,filename=small/image",
                        "--export", "type=ublk,id=d,node-name=file,writable=on") as d:
        q = d.qmp()
        with subprocess.Popen(["dd", "if=wanted", "of=/dev/ublkb0", "bs=1M", "oflag=direct"],
                              stderr=subprocess.DEVNULL) as writer:
            q.wait_event("STOP")
            assert q("query-status")["status"] == "io-error"
            assert writer.poll() is None
            yield q, writer
    assert nothing_left(), leftovers()
    run("umount", "small")


def a_writer_to_a_full_image_waits_for_space():
    image()
    with open("wanted", "wb") as f:
        f.write(os.urandom(32 * MIB))
    with full_disk() as (q, writer):
        assert q.wait_event("BLOCK_IO_ERROR")["data"]["nospace"]
        run("mount", "-o", "remount,size=64M", "small")
        q("cont")
        assert writer.wait(120) == 0
        run("cmp", "-n", str(32 * MIB), "wanted", "small/image")
    with full_disk() as (q, writer):
        q("x-ringblk-export-fail", id="d")
        assert writer.wait(120) != 0
    with full_disk() as (q, writer):
        q("block-export-del", id="d", mode="hard")
        q.wait_event("BLOCK_EXPORT_DELETED")
        assert writer.wait(120) != 0
    with full_disk() as (q, writer):
        q("quit")
        assert writer.wait(120) != 0
    os.unlink("wanted")


def after_a_failed_add_nothing_is_left():
    with disk() as d:
        q = d.qmp()
        count = d.settled()
        harness.fails("GenericError", "export 'e': there is a ublk device 0 already", q, "block-export-add",
                      type="ublk", id="e", node_name="disk", dev_id=0)
        # Address space for the first queue's buffers, not for the second's.
        with open(f"/proc/{d.process.pid}/statm", encoding="ascii") as f:
            mapped = int(f.read().split()[0]) * 4096
        limit = mapped + 1000 * MIB
        run("prlimit", "--pid", str(d.process.pid), f"--as={limit}:unlimited")
        harness.fails("GenericError", "export 'e': no memory for queue 1: Cannot allocate memory", q,
                      "block-export-add", type="ublk", id="e", node_name="disk", nr_queues=2, queue_depth=192,
                      max_io_size=4 * MIB)
        run("prlimit", "--pid", str(d.process.pid), "--as=unlimited:unlimited")
        assert sorted(leftovers()) == ["/dev/ublkb0", "/dev/ublkc0", "/sys/block/ublkb0"], leftovers()
        assert [x["id"] for x in q("query-block-exports")] == ["d"]
        assert d.settled(count) == count
        run("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=1M", "count=4", "iflag=direct")


def a_killed_daemon_leaves_no_disk_and_the_next_one_sweeps():
    for _ in range(3):
        image()
        d = harness.Daemon(*NODES, "--export", "type=ublk,id=d,node-name=disk,writable=on", name="killed")
        with subprocess.Popen(["fio", "--name=k", "--filename=/dev/ublkb0", "--direct=1", "--rw=randwrite",
                               "--ioengine=io_uring", "--iodepth=8", "--time_based", "--runtime=60"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fio:
            wait_until(lambda: allocated() > MIB, "fio to write")
            d.process.send_signal(signal.SIGKILL)
            d.process.wait()
            assert fio.wait(60) != 0
        wait_until(lambda: not glob.glob("/dev/ublkb*"), "the disk to go")
        os.unlink(d.pidfile)
        d.log.close()
        for path in (d.qmp_path, d.nbd_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    with disk():
        assert glob.glob("/dev/ublkc*") == ["/dev/ublkc0"], leftovers()


def a_kernel_that_cannot_resize_leaves_the_disk_as_it_is():
    with disk() as d:
        d.qmp()("block_resize", node_name="disk", size=96 * MIB)
        wait_until(lambda: "cannot change the size" in d.said(), "the log to say it")
        assert run("blockdev", "--getsize64", "/dev/ublkb0") == f"{64 * MIB}\n"
        run("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=1M", "count=4", "iflag=direct")


def many_come_and_go():
    image()
    with harness.daemon(*NODES) as d:
        q = d.qmp()
        for round_ in range(2):
            for i in range(10):
                q("block-export-add", type="ublk", id=f"d{i}", node_name="disk", nr_queues=1, queue_depth=8)
            for i in range(10):
                q("block-export-del", id=f"d{i}")
            for _ in range(10):
                q.wait_event("BLOCK_EXPORT_DELETED")
            if round_ == 0:
                count = d.settled()
        assert d.settled(count) <= count
        assert nothing_left(), leftovers()


machine.main([
    without_the_module_it_says_what_to_load,
    wrong_options_are_refused,
    bytes_go_in_and_out,
    fio_verifies_what_four_jobs_wrote,
    a_file_system_lives_on_it,
    partitions_appear,
    discarding_and_zeroing_keep_or_free_space_as_asked,
    a_read_only_disk_refuses_writes,
    an_open_disk_is_removed_by_force_only,
    a_writer_to_a_full_image_waits_for_space,
    after_a_failed_add_nothing_is_left,
    a_killed_daemon_leaves_no_disk_and_the_next_one_sweeps,
    a_kernel_that_cannot_resize_leaves_the_disk_as_it_is,
    many_come_and_go,
], seconds=550, memory=1536)
