#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""Who may have an image together with whom: every kind of use here against every use by QEMU's programs, in both
directions, and between nodes and daemons of our own.  The bytes that are locked are read from the kernel."""

import contextlib
import fcntl
import os
import struct
import subprocess

from harness import TMP, daemon, fails

GE = "GenericError"
IMAGE = f"{TMP}/image.raw"
MIB = 1 << 20
WRITE, SHARED_WRITE = 'Failed to get "write" lock', 'Failed to get shared "write" lock'
RESIZE, SHARED_RESIZE = 'Failed to get "resize" lock', 'Failed to get shared "resize" lock'

# What others try with the image while a node has it: name: command.
TRIES = {
    "look": ["qemu-img", "info", "-f", "raw", IMAGE],
    "read": ["qemu-io", "-r", "-f", "raw", "-c", "read 0 512", IMAGE],
    "read-shared": ["qemu-io", "-r", "-U", "-f", "raw", "-c", "read 0 512", IMAGE],
    "copy": ["qemu-img", "convert", "-f", "raw", "-O", "raw", IMAGE, f"{TMP}/copy.raw"],
    "copy-shared": ["qemu-img", "convert", "-U", "-f", "raw", "-O", "raw", IMAGE, f"{TMP}/copy.raw"],
    "write": ["qemu-io", "-f", "raw", "-c", "write 0 512", IMAGE],
    "overwrite": ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", f"{TMP}/source.raw", IMAGE],
    "resize": ["qemu-img", "resize", "-f", "raw", IMAGE, "+1M"],
    "create": ["qemu-img", "create", "-q", "-f", "raw", IMAGE, "1M"],
    "write-unlocked": ["qemu-io", "--image-opts", "-c", "write 0 512", f"driver=file,filename={IMAGE},locking=off"],
}
FREE = {name: None for name in TRIES}
READER = dict(FREE, resize=RESIZE, create=RESIZE)
WRITER = dict(FREE, write=WRITE, overwrite=WRITE, resize=WRITE, create=WRITE, copy=SHARED_WRITE)

# How we have the image: options of the file, what stands on it, whether it is exported (writable: True), the bytes
# that are locked then, and what others hear.
USES = [
    ({}, None, None, set(), FREE),
    ({"read-only": True}, None, None, set(), FREE),
    ({}, {}, None, set(), FREE),
    ({}, None, False, {100, 203}, READER),
    ({}, {}, False, {100, 203}, READER),
    ({"read-only": True}, None, False, {100, 203}, READER),
    ({}, {"read-only": True}, False, {100, 203}, READER),
    ({}, {"size": 4096}, None, {203}, READER),
    ({}, {"size": 4096}, False, {100, 203}, READER),
    ({"locking": "auto"}, {}, True, {100, 101, 201, 203}, WRITER),
    ({"locking": "on"}, {}, True, {100, 101, 201, 203}, WRITER),
    ({}, None, True, {100, 101, 201, 203}, WRITER),
    ({"auto-read-only": True}, {}, True, {100, 101, 201, 203}, WRITER),
    ({"cache": {"direct": True}}, {"offset": 512}, True, {100, 101, 201, 203}, WRITER),
    ({"locking": "off"}, None, False, set(), FREE),
    ({"locking": "off"}, {}, True, set(), FREE),
    ({"force-share": True, "read-only": True}, None, False, {100}, FREE),
    ({"force-share": True, "read-only": True, "locking": "on"}, {"read-only": True}, False, {100}, FREE),
    ({"read-only": True}, {"read-only": True, "force-share": True}, False, {100}, FREE),
]


def make(size=MIB):
    with open(IMAGE, "wb") as f:
        f.write(b"k" * 4096)
        f.truncate(size)


def content():
    with open(IMAGE, "rb") as f:
        return f.read()


def locked(d):
    """The bytes that the daemon has locked on the image."""
    found, folder = set(), f"/proc/{d.process.pid}"
    for fd in os.listdir(f"{folder}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{folder}/fd/{fd}") != os.path.realpath(IMAGE):
                continue
            with open(f"{folder}/fdinfo/{fd}", encoding="ascii") as f:
                for line in (line.split() for line in f if line.startswith("lock:")):
                    assert line[2:5] == ["OFDLCK", "ADVISORY", "READ"], line
                    found |= set(range(int(line[-2]), int(line[-1]) + 1))
    return found


def build(q, file, above, name="n"):
    """The graph of a use; its top is @name."""
    file = dict({"driver": "file", "filename": IMAGE}, **file)
    if above is not None:
        file = dict({"driver": "raw", "file": file}, **above)
    q.execute("blockdev-add", dict(file, **{"node-name": name}))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout.decode(errors="replace")


def ours_first(d, q):
    for file, above, writable, bytes_, expected in USES:
        make()
        build(q, file, above)
        if writable is not None:
            q("block-export-add", type="nbd", id="e", node_name="n", writable=writable)
        use = (file, above, writable)
        assert locked(d) == bytes_, (use, locked(d))
        for name, command in TRIES.items():
            before = content()
            status, said = run(command)
            if expected[name] is None:
                assert status == 0, (use, name, said)
                continue
            assert status != 0 and expected[name] in said, (use, name, expected[name], said)
            assert content() == before, (use, name, "a refused program changed the image")
        assert locked(d) == bytes_, (use, locked(d))
        if writable is not None:
            q("block-export-del", id="e")
            q.wait_event("BLOCK_EXPORT_DELETED")
            # A window of a fixed size holds on to the file's size all the time.
            assert locked(d) == ({203} if above and "size" in above else set()), (use, locked(d))
        q("blockdev-del", node_name="n")


@contextlib.contextmanager
def held(*bytes_):
    """Somebody else has locked these bytes."""
    fd = os.open(IMAGE, os.O_RDWR | os.O_CLOEXEC)
    try:
        for byte in bytes_:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        yield
    finally:
        os.close(fd)


CONFLICT = {100: None, 101: SHARED_WRITE, 102: None, 103: SHARED_RESIZE,
            200: 'Failed to get "consistent read" lock', 201: WRITE, 202: None, 203: None}


def others_first(d, q):
    """One byte at a time, as QEMU's programs lock them: what we then may do, and that a refusal takes nothing."""
    make()
    writer = CONFLICT
    reader = dict(CONFLICT) | {101: None, 201: None}
    resizer = {byte: None for byte in CONFLICT} | {103: SHARED_RESIZE, 203: RESIZE, 101: SHARED_WRITE}
    free = {byte: None for byte in CONFLICT}
    for options, want, expected in (
            ({}, "export", reader), ({}, "writable", writer), ({"locking": "on"}, "writable", writer),
            ({}, "resize", resizer), ({"locking": "off"}, "writable", free), ({"locking": "off"}, "resize", free),
            ({"force-share": True, "read-only": True}, "export", free | {200: CONFLICT[200]})):
        build(q, options, None)
        before = d.descriptors()
        command, arguments = {
            "export": ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n"}),
            "writable": ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "writable": True}),
            "resize": ("block_resize", {"node-name": "n", "size": 2 * MIB})}[want]
        for byte, text in expected.items():
            with held(byte):
                if text is None:
                    q.execute(command, arguments)
                else:
                    fails(GE, f"{text}: is another process or node using the image '{IMAGE}'?", q.execute, command,
                          arguments)
                    assert locked(d) == set() and q("query-block-exports") == [] and d.descriptors() == before, (
                        options, want, byte)
                    assert os.path.getsize(IMAGE) == MIB
            if text is None and want != "resize":
                q("block-export-del", id="e")
                q.wait_event("BLOCK_EXPORT_DELETED")
            os.truncate(IMAGE, MIB)
            q("blockdev-del", node_name="n")
            build(q, options, None)
        q("blockdev-del", node_name="n")


@contextlib.contextmanager
def qemu_io(*options):
    """qemu-io, which has the image open."""
    other = subprocess.Popen(["qemu-io", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    try:
        other.stdin.write(b"read 0 512\n")
        other.stdin.flush()
        line = b"."
        while b"read 512/512" not in line:
            line = other.stdout.readline()
            assert line, "qemu-io does not open the image"
        yield
        other.communicate(b"quit\n", timeout=60)
    finally:
        other.kill()
        other.wait()


def qemu_first(d, q):
    """The same with QEMU's own programs: (their options, may we write, may we read)."""
    make()
    image = f"driver=file,filename={IMAGE}"
    for options, writing, reading in (
            (["-f", "raw", IMAGE], SHARED_WRITE, None), (["-r", "-f", "raw", IMAGE], None, None),
            (["-r", "-U", "-f", "raw", IMAGE], None, None), (["--image-opts", image], SHARED_WRITE, None),
            (["--image-opts", f"{image},locking=off"], None, None)):
        build(q, {}, {})
        with qemu_io(*options):
            for writable, text in ((True, writing), (False, reading)):
                arguments = {"type": "nbd", "id": "e", "node-name": "n", "writable": writable}
                if text is not None:
                    fails(GE, text + "...", q.execute, "block-export-add", arguments)
                    assert locked(d) == set() and q("query-block-exports") == []
                    continue
                q.execute("block-export-add", arguments)
                q("block-export-del", id="e")
                q.wait_event("BLOCK_EXPORT_DELETED")
        q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "writable": True})
        q("block-export-del", id="e")
        q.wait_event("BLOCK_EXPORT_DELETED")
        q("blockdev-del", node_name="n")


def ours_with_ours(d, q):
    """Two nodes of one file, in one daemon and in two."""
    make()
    with daemon(name="second") as other, contextlib.closing(other.qmp()) as r:
        r("nbd-server-start", addr={"type": "unix", "data": {"path": other.nbd_path}})
        for where in (q, r):
            build(q, {}, None, "a")
            build(where, {}, {}, "b")
            export = {"type": "nbd", "id": "y", "node-name": "b", "name": "y"}
            q("block-export-add", type="nbd", id="x", name="x", node_name="a", writable=True)
            fails(GE, WRITE + "...", where.execute, "block-export-add", dict(export, writable=True))
            fails(GE, RESIZE + "...", where, "block_resize", node_name="b", size=512)
            where.execute("block-export-add", export)
            fails(GE, RESIZE + "...", q, "block_resize", node_name="a", size=512)
            where("block-export-del", id="y")
            where.wait_event("BLOCK_EXPORT_DELETED")
            q("block_resize", node_name="a", size=MIB // 2)
            q("block-export-del", id="x")
            q.wait_event("BLOCK_EXPORT_DELETED")
            where.execute("block-export-add", dict(export, writable=True))
            where("block-export-del", id="y")
            where.wait_event("BLOCK_EXPORT_DELETED")
            q("blockdev-del", node_name="a")
            where("blockdev-del", node_name="b")


def two_exports(d, q):
    """Two writable exports of one node share what it has; the last one gives it back."""
    make()
    build(q, {}, {})
    for name in ("x", "y"):
        q("block-export-add", type="nbd", id=name, name=name, node_name="n", writable=True)
    for name in ("x", "y"):
        assert locked(d) == {100, 101, 201, 203}
        q("block-export-del", id=name)
        q.wait_event("BLOCK_EXPORT_DELETED")
    assert locked(d) == set()
    # Exports that only read, beside one that writes: what it alone needs goes with it.
    q("block-export-add", type="nbd", id="x", name="x", node_name="n")
    q("block-export-add", type="nbd", id="y", name="y", node_name="n", writable=True)
    q("block-export-del", id="y")
    q.wait_event("BLOCK_EXPORT_DELETED")
    assert locked(d) == {100, 203}
    q("block-export-del", id="x")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q("blockdev-del", node_name="n")


def other_descriptors(d, q):
    """Opening and closing the file elsewhere, in this process too, drops nothing."""
    make()
    build(q, {}, {})
    q("block-export-add", type="nbd", id="e", node_name="n", writable=True)
    for _ in range(3):
        build(q, {"read-only": True}, None, "m")
        q("blockdev-del", node_name="m")
        fails(GE, "...", q, "blockdev-add", driver="raw", node_name="m", offset=2 * MIB,
              file={"driver": "file", "filename": IMAGE})
        assert locked(d) == {100, 101, 201, 203}
    q("block-export-del", id="e")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q("blockdev-del", node_name="n")


with open(f"{TMP}/source.raw", "wb") as source:
    source.truncate(MIB)
with daemon() as d, contextlib.closing(d.qmp()) as q:
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    for test in (ours_first, others_first, qemu_first, ours_with_ours, two_exports, other_descriptors):
        print(test.__name__, flush=True)
        before = d.descriptors()
        test(d, q)
        assert d.descriptors() == before, "a descriptor is left open"
