#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""A daemon that may open no more files: what it is asked to open is refused with that reason and changes nothing, those
who are served already are served on, and as soon as there is room again everything works."""

import contextlib
import os
import resource
import socket

from harness import TMP, Qmp, QmpError, daemon, fails
from nbdclient import WRITE, HungUp, connect, warm

GE = "GenericError"
IMAGE = f"{TMP}/image.raw"
LIMIT = 64


def fill(d, q):
    """Open the image until no descriptor is left; the names of the nodes."""
    names = []
    while True:
        name = f"n{len(names)}"
        try:
            q("blockdev-add", driver="file", node_name=name, filename=IMAGE, read_only=True)
        except QmpError as error:
            assert error.text == f"Could not open '{IMAGE}': Too many open files", error
            assert d.descriptors() == LIMIT, d.descriptors()
            return names
        names.append(name)


def state(q):
    return [q(c) for c in ("query-named-block-nodes", "query-block-exports", "query-fdsets")] + [
        q("qom-list", path="/objects")]


def refused(d, q):
    before, full = state(q), d.descriptors()
    for command, arguments, text in (
            ("blockdev-add", {"driver": "file", "node-name": "z", "filename": IMAGE}, f"Could not open '{IMAGE}': "),
            ("blockdev-add", {"driver": "raw", "node-name": "z", "file": {"driver": "file", "filename": IMAGE}},
             f"Could not open '{IMAGE}': "),
            ("blockdev-add", {"driver": "host_device", "node-name": "z", "filename": "/dev/null"},
             "Could not open '/dev/null': "),
            ("nbd-server-start", {"id": "z", "addr": {"type": "unix", "data": {"path": f"{TMP}/z"}}},
             "Failed to create a socket: "),
            ("nbd-server-start", {"id": "z", "addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}},
             "Failed to find an available port on '127.0.0.1:0': "),
            ("object-add", {"qom-type": "secret", "id": "s", "file": IMAGE}, f"secret 's': cannot read '{IMAGE}': ")):
        fails(GE, text + "Too many open files", q.execute, command, arguments)
        assert state(q) == before and d.descriptors() == full, (command, arguments)
    assert not os.path.exists(f"{TMP}/z")
    # A descriptor for which there is no room does not arrive.
    with open(IMAGE, "rb") as f:
        socket.send_fds(q.socket, [b'{"execute": "add-fd"}'], [f.fileno()])
        assert q.reply()["error"]["desc"] == "No file descriptor supplied via SCM_RIGHTS"
    assert state(q) == before
    # What needs none is done.
    q("blockdev-add", driver="null-co", node_name="z")
    q("block-export-add", type="nbd", id="z", node_name="z")
    q("block_resize", node_name="image", size=1 << 20)
    q("block-export-del", id="z")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q("blockdev-del", node_name="z")


def later(d, q):
    """Clients that come now wait until there is room for them; one who is there notices nothing."""
    with connect(d.nbd_path) as c:
        names = fill(d, q)
        refused(d, q)
        waiting = []
        for path in (d.qmp_path, d.nbd_path):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(60)
            s.connect(path)
            waiting.append(s)
        for i in range(100):
            c.write(i * 4096, b"served")
            assert c.read(i * 4096, 6) == b"served"
        q("query-version")
        for name in names:
            q("blockdev-del", node_name=name)
        assert waiting[0].recv(7) == b'{"QMP":' and waiting[1].recv(8) == b"NBDMAGIC"
        for s in waiting:
            s.close()
    assert "Too many open files" in d.said()


def before_a_ring(d, q):
    """The first client of a ring needs some for the ring itself: without them it is sent away, not more."""
    names = fill(d, q)
    q("blockdev-del", node_name=names.pop())
    with contextlib.suppress(HungUp, OSError), connect(d.nbd_path) as c:
        c.error(WRITE, 0, data=b"early")
    q("query-version")
    for name in names:
        q("blockdev-del", node_name=name)
    with connect(d.nbd_path) as c:
        c.write(0, b"late")
        c.end()


def main():
    with open(IMAGE, "wb") as f:
        f.truncate(1 << 20)
    for test in (before_a_ring, later):
        print(test.__name__, flush=True)
        with daemon("--blockdev", f"driver=file,node-name=image,filename={IMAGE}",
                    before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))) as d:
            if test is later:
                warm(d)
            base = d.settled()
            with contextlib.closing(Qmp(d.qmp_path)) as q:
                q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
                q("block-export-add", type="nbd", id="e", node_name="image", writable=True, name="x")
                test(d, q)
                q("nbd-server-stop")
            assert test is before_a_ring or d.settled(base) == base


if __name__ == "__main__":
    main()
