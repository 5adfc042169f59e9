#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""Descriptors that clients pass: add-fd, remove-fd, query-fdsets and /dev/fdset/N, getfd and closefd.  What is
refused, which one of a set is used, how long each stays open, and that none is left over."""

import contextlib
import json
import os
import socket
import time

from harness import TMP, QmpError, daemon, fails
from nbdclient import connect, warm

GE = "GenericError"
IMAGE, MIB = f"{TMP}/image.raw", 1 << 20
NONE = "No file descriptor supplied via SCM_RIGHTS"


def make():
    with open(IMAGE, "wb") as f:
        f.write(b"k" * 4096)
        f.truncate(MIB)


def passing(q, command, arguments, *fds):
    """A command with descriptors, which are closed here once they are sent."""
    text = json.dumps({"execute": command, "arguments": arguments}) + "\n"
    socket.send_fds(q.socket, [text.encode()], fds)
    for fd in fds:
        os.close(fd)
    reply = q.reply()
    if "error" in reply:
        raise QmpError(reply["error"])
    return reply["return"]


def opened(flags=os.O_RDWR, path=IMAGE):
    return os.open(path, flags | os.O_CLOEXEC)


def add(q, number, flags=os.O_RDWR, **more):
    return passing(q, "add-fd", dict({"fdset-id": number}, **more), opened(flags))["fd"]


def holds(d, fd):
    """Has the daemon the image open under this number?"""
    try:
        return os.readlink(f"/proc/{d.process.pid}/fd/{fd}").split(" ")[0] == os.path.realpath(IMAGE)
    except FileNotFoundError:
        return False


def node(q, number=1, name="n", **more):
    q.execute("blockdev-add", dict({"driver": "file", "node-name": name, "filename": f"/dev/fdset/{number}"}, **more))


def refused(d):
    with contextlib.closing(d.qmp()) as q, contextlib.closing(d.qmp()) as other:
        before = d.descriptors()
        for command, arguments in (("add-fd", {}), ("add-fd", {"fdset-id": 1}), ("getfd", {"fdname": "x"})):
            fails(GE, NONE, q.execute, command, arguments)
        for command, arguments, text in (
                ("add-fd", {"fdset-id": -1}, "Parameter 'fdset-id' expects a non-negative value"),
                ("add-fd", {"fdset-id": -(1 << 63)}, "Parameter 'fdset-id' expects a non-negative value"),
                ("add-fd", {"fdset-id": "1"}, "Invalid parameter type for 'fdset-id', expected: integer"),
                ("add-fd", {"opaque": 1}, "Invalid parameter type for 'opaque', expected: string"),
                ("add-fd", {"x": 1}, "Parameter 'x' is unexpected"),
                ("getfd", {}, "Parameter 'fdname' is missing"),
                ("getfd", {"fdname": "0"}, "Parameter 'fdname' expects a name not starting with a digit"),
                ("getfd", {"fdname": "9x"}, "Parameter 'fdname' expects a name not starting with a digit")):
            fails(GE, text, passing, q, command, arguments, opened())
            # If the command did not take it, it waits for one that does, till another one comes.
            passing(q, "getfd", {"fdname": "x"}, opened())
            q("closefd", fdname="x")
            assert q("query-fdsets") == [] and d.descriptors() == before, (command, arguments)
        for command in ("nope", "query-version"):
            with contextlib.suppress(QmpError):
                passing(q, command, {}, opened(), opened())
        passing(q, "add-fd", {"fdset-id": 7}, opened())
        q("remove-fd", fdset_id=7)
        assert d.descriptors() == before
        fd = add(q, 3)
        for arguments, text in (
                ({"fdset-id": 4}, "File descriptor named 'fdset-id:4' not found"),
                ({"fdset-id": -1}, "File descriptor named 'fdset-id:-1' not found"),
                *[({"fdset-id": 3, "fd": n}, f"File descriptor named 'fdset-id:3, fd:{n}' not found")
                  for n in (-1, fd + 1, 1 << 31, (1 << 32) + fd, (1 << 63) - 1, -(1 << 63))],
                ({"fdset-id": 4, "fd": fd}, f"File descriptor named 'fdset-id:4, fd:{fd}' not found"),
                ({"fd": fd}, "Parameter 'fdset-id' is missing")):
            fails(GE, text, q.execute, "remove-fd", arguments)
            assert q("query-fdsets") == [{"fdset-id": 3, "fds": [{"fd": fd}]}], arguments
        q("remove-fd", fdset_id=3, fd=fd)
        # A name is one client's own.
        passing(q, "getfd", {"fdname": "mine"}, opened())
        fails(GE, "File descriptor named 'mine' not found", other, "closefd", fdname="mine")
        fails(GE, "...", other, "nbd-server-start", addr={"type": "fd", "data": {"str": "mine"}})
        q("closefd", fdname="mine")
        fails(GE, "File descriptor named 'mine' not found", q, "closefd", fdname="mine")
        assert d.descriptors() == before


def numbers(d):
    """A set without a number takes the lowest that is free; all clients see all sets."""
    with contextlib.closing(d.qmp()) as q, contextlib.closing(d.qmp()) as other:
        got = [passing(q, "add-fd", arguments, opened()) for arguments in (
            {"fdset-id": 1}, {}, {"opaque": "ä note"}, {"fdset-id": 1, "opaque": ""}, {"fdset-id": (1 << 63) - 1})]
        assert [g["fdset-id"] for g in got] == [1, 0, 2, 1, (1 << 63) - 1], got
        assert len({g["fd"] for g in got}) == 5 and all(holds(d, g["fd"]) for g in got)
        fds = [g["fd"] for g in got]
        assert other("query-fdsets") == [
            {"fdset-id": 0, "fds": [{"fd": fds[1]}]},
            {"fdset-id": 1, "fds": [{"fd": fds[0]}, {"fd": fds[3], "opaque": ""}]},
            {"fdset-id": 2, "fds": [{"fd": fds[2], "opaque": "ä note"}]},
            {"fdset-id": (1 << 63) - 1, "fds": [{"fd": fds[4]}]}]
        other("remove-fd", fdset_id=0)
        assert passing(q, "add-fd", {}, opened())["fdset-id"] == 0, "0 is free again"
        for s in other("query-fdsets"):
            q("remove-fd", fdset_id=s["fdset-id"])
        assert other("query-fdsets") == [] and not any(holds(d, fd) for fd in fds)


def access_modes(d):
    """The descriptor is taken whose mode is the one that the node needs."""
    make()
    none = "Could not open '/dev/fdset/1': the set has no descriptor that is open for "
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        for flags, reads, writes in ((os.O_RDONLY, True, False), (os.O_RDWR, False, True), (os.O_WRONLY, False, False),
                                     (os.O_PATH, True, False)):
            add(q, 1, flags)
            for options, good, mode in (({"read-only": True}, reads, "reading only"),
                                        ({}, writes, "reading and writing")):
                if good and flags != os.O_PATH:
                    node(q, **options)
                    q("blockdev-del", node_name="n")
                else:
                    fails(GE, none + mode if flags != os.O_PATH else "...", node, q, **options)
            q("remove-fd", fdset_id=1)
            assert d.descriptors() == before, oct(flags)
        # A set of both serves both; which one was taken is seen in how the node is open.
        add(q, 1, os.O_RDONLY), add(q, 1, os.O_RDWR)
        for options, mode in (({"read-only": True}, os.O_RDONLY), ({}, os.O_RDWR)):
            seen = set(os.listdir(f"/proc/{d.process.pid}/fd"))
            node(q, **options)
            (new,) = [fd for fd in set(os.listdir(f"/proc/{d.process.pid}/fd")) - seen if holds(d, fd)]
            with open(f"/proc/{d.process.pid}/fdinfo/{new}", encoding="ascii") as f:
                flags = int(f.read().split("flags:")[1].split()[0], 8)
            assert flags & os.O_ACCMODE == mode and flags & os.O_CLOEXEC, oct(flags)
            q("blockdev-del", node_name="n")
        q("remove-fd", fdset_id=1)
        assert d.descriptors() == before


def kinds(d):
    """What is no file is refused by its kind, and one that is not for this driver."""
    made = [("a socket", socket.socket(socket.AF_UNIX).detach), ("a pipe", lambda: os.dup(os.pipe()[0])),
            ("a directory", lambda: os.open(TMP, os.O_RDONLY)), ("nothing", lambda: os.open("/dev/null", os.O_RDWR))]
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        for what, make_one in made:
            passing(q, "add-fd", {"fdset-id": 1}, make_one())
            for options in ({}, {"read-only": True}):
                fails(GE, "...", node, q, **options)
            q("remove-fd", fdset_id=1)
            assert d.descriptors() == before and q("query-named-block-nodes") == [], what
        for name in ("", "x", "-1", "1x", "99999999999999999999", "1/", " 1", "+1"):
            fails(GE, f"Could not open '/dev/fdset/{name}': not the name of a descriptor set", node, q, name)
        for name in (0, 5, (1 << 63) - 1):
            fails(GE, f"Could not open '/dev/fdset/{name}': No such file or directory", node, q, name)
        # Memory is a file as any other.
        memory = os.memfd_create("disk")
        os.ftruncate(memory, MIB)
        passing(q, "add-fd", {"fdset-id": 1}, memory)
        node(q)
        assert q("query-named-block-nodes")[0]["image"]["virtual-size"] == MIB
        q("blockdev-del", node_name="n")
        q("remove-fd", fdset_id=1)
        assert d.descriptors() == before


@contextlib.contextmanager
def exported(d, q, writable=True):
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    q("block-export-add", type="nbd", id="e", name="x", node_name="n", writable=writable)
    with connect(d.nbd_path) as c:
        yield c
        c.end()
    q("nbd-server-stop")


def served(d):
    """A file that has no name any more, removed from its set while it is written."""
    make()
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        ours = opened()
        fd = add(q, 1)
        os.unlink(IMAGE)
        node(q, cache={"direct": True})
        with exported(d, q) as c:
            c.write(8192, b"w" * 4096)
            q("remove-fd", fdset_id=1, fd=fd)
            assert q("query-fdsets") == []
            fails(GE, f"File descriptor named 'fdset-id:1, fd:{fd}' not found", q, "remove-fd", fdset_id=1, fd=fd)
            fails(GE, "Could not open '/dev/fdset/1': the set has no descriptor that is open for reading and writing",
                  node, q, name="m")
            c.write(12288, b"v" * 4096)
            assert c.read(0, 4096) == b"k" * 4096
            q("block_resize", node_name="n", size=2 * MIB)
            assert c.read(2 * MIB - 512, 512) == bytes(512)
        q("blockdev-del", node_name="n")
        assert os.pread(ours, 8192, 8192) == b"w" * 4096 + b"v" * 4096 and os.fstat(ours).st_size == 2 * MIB
        os.close(ours)
        assert d.descriptors() == before
    make()


def reopened(d):
    """auto-read-only: with a descriptor for reading only it is read, and written once there is another one."""
    make()
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        add(q, 1, os.O_RDONLY)
        node(q, **{"auto-read-only": True})
        assert q("query-named-block-nodes")[0]["ro"] is True
        with exported(d, q, False) as c:
            count = d.descriptors()
            fails(GE, "...", q, "block-export-add", type="nbd", id="w", name="w", node_name="n", writable=True)
            assert d.descriptors() == count and c.read(0, 512) == b"k" * 512
            # A descriptor of another file will not do.
            passing(q, "add-fd", {"fdset-id": 1}, opened(os.O_RDWR | os.O_CREAT, f"{TMP}/other.raw"))
            fails(GE, "Could not open '/dev/fdset/1' for writing: that is another file", q, "block-export-add",
                  type="nbd", id="w", name="w", node_name="n", writable=True)
            q("remove-fd", fdset_id=1)
            assert d.descriptors() == count + 1, "the set is in use, so its descriptors stay"
            fd = add(q, 1, os.O_RDWR)
            q("block-export-add", type="nbd", id="w", name="w", node_name="n", writable=True)
            assert q("query-named-block-nodes")[0]["ro"] is False
            with connect(d.nbd_path, "w") as w:
                w.write(0, b"W" * 512)
                q("remove-fd", fdset_id=1)
                w.write(512, b"W" * 512)
                assert c.read(0, 1025) == b"W" * 1024 + b"k"
            assert holds(d, fd)
        q("blockdev-del", node_name="n")
        assert d.descriptors() == before and q("query-fdsets") == []


def last_client(d):
    """What nobody uses is closed when the last client leaves, not before; what a node uses stays till it goes."""
    make()
    empty = d.descriptors()
    q, other = d.qmp(), d.qmp()
    used, idle = add(q, 1), add(q, 2)
    passing(q, "getfd", {"fdname": "named"}, opened())
    node(q)
    q.close()
    # The names went with their client, the sets stay.
    assert d.settled(empty + 4) == empty + 4
    assert [s["fdset-id"] for s in other("query-fdsets")] == [1, 2] and holds(d, used) and holds(d, idle)
    other.close()
    assert d.settled(empty + 2) == empty + 2
    assert holds(d, used) and not holds(d, idle)
    with contextlib.closing(d.qmp()) as q:
        assert [s["fdset-id"] for s in q("query-fdsets")] == [1], "the set of the node"
        with exported(d, q) as c:
            c.write(0, b"still")
        node(q, name="second")
        q("blockdev-del", node_name="n")
        assert holds(d, used)
        q("blockdev-del", node_name="second")
        assert holds(d, used), "a client is there: its descriptors are its own to remove"
        q("query-fdsets")
    assert d.settled(empty) == empty
    with contextlib.closing(d.qmp()) as q:
        assert q("query-fdsets") == []


def floods(d):
    """As many as the kernel lets go with one message, again and again, asked for or not, and half a command."""
    make()
    empty = d.descriptors()
    with contextlib.closing(d.qmp()) as q:
        ours = opened()
        for _ in range(5):
            socket.send_fds(q.socket, [b'{"execute": "query-version"}'], [ours] * 253)
            q.reply()
        for _ in range(300):
            socket.send_fds(q.socket, [b" "], [ours])
        q("query-version")
        assert d.descriptors() < empty + 300, "descriptors that nobody asks for are piled up"
        socket.send_fds(q.socket, [b'{"execute": "add-fd", "argu'], [ours] * 3)
        time.sleep(0.05)
        q.send(b'ments": {"fdset-id": 9}}')
        assert q.reply()["return"]["fdset-id"] == 9
        for i in range(200):
            q.send(json.dumps({"execute": "query-version", "id": i}))
        os.close(ours)
    assert d.settled(empty) == empty


with daemon() as d:
    make()
    warm(d)
    before = d.settled()
    for test in (refused, numbers, access_modes, kinds, served, reopened, last_client, floods):
        print(test.__name__, flush=True)
        test(d)
        assert d.settled(before) == before
