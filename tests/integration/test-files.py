#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files and devices under the daemon: who may have an image with whom, what cannot be opened, odd
sizes, a full file system.
selftest: timeout=240 builds=plain,address
"""

import contextlib
import os
import subprocess

from harness import TMP, daemon, fails


def run(*command, ok=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode(errors="replace")
    assert (done.returncode == 0) == ok, f"{command}: {text}"
    return text


def image(name, size):
    path = f"{TMP}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def serve(path, *more, driver="file", options=""):
    return ["--blockdev", f"driver={driver},node-name=f,filename={path},discard=unmap{options}",
            "--blockdev", "driver=raw,node-name=r,file=f,discard=unmap",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=e,node-name=r,name=x,writable=on", *more]


def taken_by_us():
    path = image("a.raw", 1 << 20)
    refused = 'Failed to get "write" lock'
    with daemon(*serve(path)) as d:
        assert refused in run("qemu-io", "-f", "raw", "-c", "write 0 512", path, ok=False)
        assert refused in run("qemu-img", "resize", "-f", "raw", path, "2M", ok=False)
        run("qemu-io", "-f", "raw", "-r", "-c", "read 0 512", path)
        assert os.path.getsize(path) == 1 << 20
        run("qemu-io", "-f", "raw", "-c", "write -P 1 0 512", d.uri("x"))
        # A second node of the same file, and another daemon.
        with contextlib.closing(d.qmp()) as q:
            q("blockdev-add", driver="file", node_name="g", filename=path)
            fails("GenericError", refused + "...", q, "block-export-add", type="nbd", id="g",
                  node_name="g", writable=True)
            q("blockdev-del", node_name="g")
            # Once nobody writes to it, others may.
            q("block-export-del", id="e")
            q.wait_event("BLOCK_EXPORT_DELETED")
        run("qemu-io", "-f", "raw", "-c", "read -P 1 0 512", "-c", "write 0 512", path)
    with daemon(*serve(path, options=",locking=off")):
        run("qemu-io", "-f", "raw", "-c", "write 0 512", path)


def taken_by_others():
    path = image("b.raw", 1 << 20)
    other = subprocess.Popen(["qemu-io", "-f", "raw", path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    try:
        other.stdin.write(b"write 0 512\n")
        other.stdin.flush()
        while b"wrote" not in other.stdout.readline():
            pass
        with daemon() as d, contextlib.closing(d.qmp()) as q:
            q("blockdev-add", driver="file", node_name="f", filename=path)
            q("nbd-server-start", addr={"type": "unix", "data": {"path": f"{TMP}/d.nbd"}})
            fails("GenericError", 'Failed to get shared "write" lock...', q, "block-export-add",
                  type="nbd", id="e", node_name="f", writable=True)
            q("block-export-add", type="nbd", id="e", node_name="f")
            other.communicate(b"quit\n", timeout=60)
            q("block-export-add", type="nbd", id="w", name="w", node_name="f", writable=True)
    finally:
        other.kill()
        other.wait()


def not_opened():
    path = image("c.raw", 4096)
    os.mkfifo(f"{TMP}/fifo")
    wrong = [
        ("file", TMP, f"Could not open '{TMP}': Is a directory"),
        ("file", "/dev/null", "'file' driver requires '/dev/null' to be a regular file"),
        ("file", f"{TMP}/fifo", f"'file' driver requires '{TMP}/fifo' to be a regular file"),
        ("file", f"{TMP}/no", f"Could not open '{TMP}/no': No such file or directory"),
        ("file", "", "The 'file' block driver requires a file name"),
        ("file", "/dev/fdset/3", "Could not open '/dev/fdset/3': No such file or directory"),
        ("host_device", path, f"'host_device' driver requires '{path}' to be either a character "
                              "or block device"),
        ("host_cdrom", path, f"'host_cdrom' driver requires '{path}' to be either a character "
                             "or block device"),
    ]
    with daemon() as d, contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="file", node_name="f", filename=path)
        q("blockdev-del", node_name="f")
        before = d.descriptors()
        for driver, name, text in wrong:
            fails("GenericError", text, q, "blockdev-add", driver=driver, node_name="f",
                  filename=name)
        fails("GenericError", "aio=native was specified, but it requires cache.direct=on, which was "
              "not specified.", q, "blockdev-add", driver="file", node_name="f", filename=path,
              aio="native")
        fails("GenericError", "No persistent reservation manager with id 'pr'", q, "blockdev-add",
              driver="file", node_name="f", filename=path, pr_manager="pr")
        assert d.descriptors() == before


def odd_size():
    path = image("d.raw", 0)
    with open(path, "wb") as f:
        f.write(b"o" * 1000)
    with daemon(*serve(path)) as d:
        run("qemu-io", "-f", "raw", "-c", "read -P 111 0 1000", "-c", "read -P 0 1000 24",
            "-c", "write -P 7 1010 10", "-c", "read -P 0 1020 4", "-c", "read -P 0 1000 10",
            "-c", "flush", d.uri("x"))
    with open(path, "rb") as f:
        assert f.read() == b"o" * 1000 + bytes(10) + bytes([7] * 10)


def read_only_mount():
    """auto-read-only: read-only as long as the file system is, writable when somebody asks later."""
    folder = f"{TMP}/ro"
    os.mkdir(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode != 0:
        print("read_only_mount: no tmpfs can be mounted here")
        return
    try:
        path = image("ro/f.raw", 1 << 20)
        run("mount", "-o", "remount,ro", folder)
        with daemon("--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d, \
                contextlib.closing(d.qmp()) as q:
            fails("GenericError", f"Could not open '{path}': Read-only file system", q,
                  "blockdev-add", driver="file", node_name="f", filename=path)
            q("blockdev-add", driver="file", node_name="f", filename=path, auto_read_only=True)
            q("block-export-add", type="nbd", id="r", name="r", node_name="f")
            fails("GenericError", "...", q, "block-export-add", type="nbd", id="w", name="w",
                  node_name="f", writable=True)
            run("mount", "-o", "remount,rw", folder)
            q("block-export-add", type="nbd", id="w", name="w", node_name="f", writable=True)
            run("qemu-io", "-f", "raw", "-c", "write -P 8 0 64k", d.uri("w"))
            run("qemu-io", "-f", "raw", "-r", "-c", "read -P 8 0 64k", d.uri("r"))
    finally:
        run("umount", folder)


def full():
    """No space is told as such; what was there stays, and the daemon serves on."""
    with daemon(*serve("/dev/full", driver="host_device")):
        pass
    mount = f"{TMP}/small"
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", mount],
                      capture_output=True).returncode != 0:
        print("full: no tmpfs can be mounted here")
        return
    try:
        path = image("small/e.raw", 4 << 20)
        with daemon(*serve(path)) as d:
            text = run("qemu-io", "-f", "raw", "-c", "write 0 512k", "-c", "write 1M 2M", d.uri("x"),
                       ok=False)
            assert "No space left on device" in text, text
            run("qemu-io", "-f", "raw", "-c", "read 0 512k", "-c", "discard 0 4M",
                "-c", "write -P 3 2M 512k", "-c", "read -P 3 2M 512k", d.uri("x"))
    finally:
        run("umount", mount)


if __name__ == "__main__":
    for test in (taken_by_us, taken_by_others, not_opened, odd_size, read_only_mount, full):
        print(test.__name__, flush=True)
        test()
