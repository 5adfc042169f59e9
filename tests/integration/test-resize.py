#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""block_resize: every refusal, and that it changes nothing; growing and shrinking under clients, who see the
new size, keep their connection and lose no byte that is still there."""

import contextlib
import os
import random
import subprocess
import threading
import time

from harness import TMP, daemon, fails
from nbdclient import EINVAL, ENOSPC, FLUSH, READ, STATUS, WRITE, ZERO, Client, connect

GE, DNF = "GenericError", "DeviceNotFound"
IMAGE, OTHER = f"{TMP}/image.raw", f"{TMP}/other.raw"
MIB = 1 << 20
SEED = int(os.environ.get("RINGBLK_SEED", "1"))


def make(path, size, fill=b""):
    with open(path, "wb") as f:
        f.write(fill)
        f.truncate(size)


def sizes(q):
    return {n["node-name"]: n["image"]["virtual-size"] for n in q("query-named-block-nodes")}


def seen(d, name="x"):
    """The size that a client is told who connects now."""
    with Client(d.nbd_path) as c:
        c.go(name)
        return c.size


def refused(d):
    make(IMAGE, MIB, b"kept")
    make(OTHER, MIB)
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="file", node_name="f", filename=IMAGE)
        q("blockdev-add", driver="file", node_name="ro", filename=OTHER, read_only=True)
        q("blockdev-add", driver="null-co", node_name="n")
        q("blockdev-add", driver="null-co", node_name="shared")
        q("blockdev-add", driver="raw", node_name="fixed", file="shared", size=4096)
        before, descriptors = sizes(q), d.descriptors()
        one = "Exactly one of 'device' and 'node-name' must be given"
        multiple = "The new size must be a multiple of 512"
        negative = "Parameter 'size' expects a >0 size"
        for kind, text, arguments in (
                (GE, one, {"size": 512}), (GE, one, {"device": "f", "node-name": "f", "size": 512}),
                (GE, "Parameter 'size' is missing", {"node-name": "f"}),
                (GE, "Parameter 'x' is unexpected", {"node-name": "f", "size": 512, "x": 1}),
                (GE, "Invalid parameter type for 'size', expected: integer", {"node-name": "f", "size": "512"}),
                (GE, "Invalid parameter type for 'size', expected: integer", {"node-name": "f", "size": None}),
                (GE, "Invalid parameter type for 'node-name', expected: string", {"node-name": 1, "size": 512}),
                (GE, "Cannot find device='' nor node-name='nope'", {"node-name": "nope", "size": 512}),
                (DNF, "Device 'nope' not found", {"device": "nope", "size": 512}),
                (DNF, "Device '' not found", {"device": "", "size": 512}),
                (GE, negative, {"node-name": "f", "size": -1}), (GE, negative, {"device": "f", "size": -512}),
                (GE, negative, {"node-name": "f", "size": -(1 << 63)}),
                *[(GE, multiple, {"node-name": "f", "size": s}) for s in (1, 511, 513, 1000, (1 << 63) - 1)],
                (GE, "Block node 'ro' is read-only", {"node-name": "ro", "size": 2 * MIB}),
                (GE, "Cannot resize fixed-size raw disks", {"node-name": "fixed", "size": 512}),
                (GE, "Permission conflict on node 'shared': ...", {"node-name": "shared", "size": 512}),
                (GE, "...", {"node-name": "n", "size": 512}),
                (GE, "...", {"node-name": "f", "size": 1 << 62}), (GE, "...", {"node-name": "f", "size": (1 << 63) - 512})):
            fails(kind, text, q.execute, "block_resize", arguments)
            assert sizes(q) == before, arguments
        assert d.descriptors() == descriptors
        assert os.path.getsize(IMAGE) == MIB and os.path.getsize(OTHER) == MIB
        # A refused one took nothing away: it can still be resized, to the same size and to nothing.
        for size in (MIB, 2 * MIB, 512, 0, MIB):
            assert q("block_resize", node_name="f", size=size) == {}
            assert sizes(q)["f"] == os.path.getsize(IMAGE) == size
        for name in ("fixed", "shared", "f", "ro", "n"):
            q("blockdev-del", node_name=name)


def under_clients(d):
    """By node or by device (an export, or a node), below or on top; writing and reading clients alike."""
    make(IMAGE, 4 * MIB, b"a" * (4 * MIB))
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="file", node_name="f", filename=IMAGE)
        q("blockdev-add", driver="raw", node_name="r", file="f")
        q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
        q("block-export-add", type="nbd", id="e", node_name="r", name="x", writable=True)
        q("block-export-add", type="nbd", id="e2", node_name="r", name="ro")
        with connect(d.nbd_path, contexts=("base:allocation",)) as c, connect(d.nbd_path, "ro", "simple") as ro:
            size = 4 * MIB
            for target, new in (({"device": "e"}, 8 * MIB), ({"node-name": "r"}, 6 * MIB), ({"device": "r"}, 9 * MIB),
                                ({"node-name": "f"}, 5 * MIB), ({"device": "e2"}, 512), ({"device": "e"}, 0),
                                ({"device": "e"}, 16 * MIB)):
                q.execute("block_resize", dict(target, size=new))
                assert os.path.getsize(IMAGE) == new and sizes(q) == {"f": new, "r": new}
                assert seen(d) == seen(d, "ro") == new
                for client in (c, ro):
                    assert client.error(READ, new, 512) == EINVAL and client.error(READ, new, 0) == 0
                assert c.error(WRITE, new, data=b"x" * 512) == ENOSPC and c.error(ZERO, new, 512) == ENOSPC
                assert c.error(STATUS, new, 512) == EINVAL
                if new > size:  # what came is zero, and can be used
                    assert ro.read(size, 4096) == bytes(4096) == ro.read(new - 4096, 4096)
                if new:
                    c.write(new - 512, b"z" * 512)
                    assert ro.read(new - 512, 512) == b"z" * 512
                    c.write(new - 512, bytes(512))
                if new >= 4096 and size >= 4096:
                    assert ro.read(0, 400) == b"a" * 400
                size = new
            assert c.error(FLUSH) == 0
            assert ro.read(0, 4096) == bytes(4096), "what was cut off does not come back"
        text = subprocess.run(["qemu-img", "info", "-U", "-f", "raw", IMAGE], capture_output=True, check=True).stdout
        assert b"virtual size: 16 MiB" in text, text
        q("nbd-server-stop")
        for name in ("r", "f"):
            q("blockdev-del", node_name=name)


def under_load(d):
    """Clients write all the time below the smallest size; each sees what it wrote."""
    make(IMAGE, 8 * MIB)
    wrong, done = [], threading.Event()

    def work(n):
        rng = random.Random(SEED + n)
        try:
            with connect(d.nbd_path, style=("simple", "structured", "extended")[n % 3]) as c:
                while not done.is_set():
                    at = n * MIB + rng.randrange(200) * 4096
                    data = bytes([rng.randrange(1, 256)]) * rng.choice((512, 4096, 65536))
                    c.write(at, data)
                    assert c.read(at, len(data)) == data
                    error = c.error(WRITE, 7 * MIB, data=b"n" * 4096)
                    assert error in (0, ENOSPC), error
        except Exception as error:
            wrong.append(error)

    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="raw", node_name="r", file={"driver": "file", "filename": IMAGE})
        q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
        q("block-export-add", type="nbd", id="e", node_name="r", name="x", writable=True)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        try:
            rng = random.Random(SEED)
            until = time.monotonic() + 3
            while time.monotonic() < until and not wrong:
                q("block_resize", device="e", size=rng.randrange(5 * 2048, 9 * 2048) * 512)
        finally:
            done.set()
            for t in threads:
                t.join(60)
        assert not wrong, wrong
        q("nbd-server-stop")
        q("blockdev-del", node_name="r")


def a_file_that_grew(d):
    """Someone made the file longer: resizing to that size takes it over, and nothing is cut off."""
    make(IMAGE, MIB)
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="file", node_name="f", filename=IMAGE)
        with open(IMAGE, "r+b") as f:
            f.seek(2 * MIB - 4)
            f.write(b"tail")
        q("block_resize", node_name="f", size=2 * MIB)
        assert sizes(q) == {"f": 2 * MIB}
        with open(IMAGE, "rb") as f:
            assert f.read()[-4:] == b"tail"
        q("blockdev-del", node_name="f")


with daemon() as d:
    for part in (refused, under_clients, under_load, a_file_that_grew):
        print(part.__name__, flush=True)
        part(d)
