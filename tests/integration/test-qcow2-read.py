#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=600 builds=plain,address,thread
"""qcow2 images of every kind that qemu-img can make, read through ringblkd: the bytes are those that qemu
reads, and so is the block status."""

import contextlib
import json
import os
import random
import subprocess
import time

import nbd

from harness import TMP, daemon
from qcow2images import KINDS, MIB, make, run


def extents(uri):
    """[(offset, length, flags)] of base:allocation, neighbours that say the same joined."""
    joined = []
    for e in json.loads(run("nbdinfo", "--json", "--map", uri)):
        if joined and joined[-1][2] == e["type"]:
            joined[-1][1] += e["length"]
        else:
            joined.append([e["offset"], e["length"], e["type"]])
    return joined


@contextlib.contextmanager
def reference(path):
    """The image over NBD, served by qemu; the URI."""
    socket = f"{TMP}/reference.nbd"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    server = subprocess.Popen(["qemu-nbd", "-r", "-t", "-f", "qcow2", "-k", socket, path])
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(socket):
            assert server.poll() is None and time.monotonic() < deadline, "qemu-nbd does not start"
            time.sleep(0.02)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        server.kill()
        server.wait()


def small_reads(uri, path, seed):
    """Reads of any size anywhere, often of the same places, several at once."""
    raw = f"{TMP}/whole.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    with open(raw, "rb") as f:
        whole = f.read()
    chance = random.Random(seed)
    h = nbd.NBD()
    h.connect_uri(uri)
    for _ in range(20):
        batch = []
        for _ in range(16):
            length = min(chance.choice([1, 511, 4096, 70000, 3 * MIB]), len(whole))
            offset = chance.randrange(len(whole) - length + 1)
            buffer = nbd.Buffer(length)
            batch.append((h.aio_pread(buffer, offset), buffer, offset, length))
        for cookie, buffer, offset, length in batch:
            while not h.aio_command_completed(cookie):
                h.poll(-1)
            assert buffer.to_bytearray() == whole[offset:offset + length], f"{offset}+{length}"
    h.shutdown()


def check(d, qmp, name, path, options, seed):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": f"n-{name}", "read-only": True,
                                 "file": {"driver": "file", "filename": path}, **options})
    qmp.execute("block-export-add", {"type": "nbd", "id": f"e-{name}", "node-name": f"n-{name}",
                                     "name": name})
    uri = d.uri(name)
    if KINDS[name]["size"]:
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, path)
        small_reads(uri, path, seed)
        with reference(path) as other:
            ours, theirs = extents(uri), extents(other)
        if "preallocation" in KINDS[name]["o"]:
            # There qemu asks the file system, too, what of the data is a hole.
            theirs = [e for e in theirs if e[2] == 3]
            ours = [e for e in ours if e[2] == 3]
        assert ours == theirs, f"{name}: {ours}\nbut qemu says\n{theirs}"
    qmp.execute("block-export-del", {"id": f"e-{name}", "mode": "hard"})
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-del", {"node-name": f"n-{name}"})


def main():
    seed = int(os.environ.get("RINGBLK_SEED", "0"), 0) or int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed} (RINGBLK_SEED)", flush=True)
    paths = {name: make(name, TMP, seed + i) for i, name in enumerate(KINDS)}
    tiny = {"l2-cache-size": 512, "l2-cache-entry-size": 512, "cache-clean-interval": 1}
    with daemon("--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d:
        qmp = d.qmp()
        for i, (name, path) in enumerate(paths.items()):
            check(d, qmp, name, path, {}, seed + i)
            check(d, qmp, name, path, tiny, seed + i)
        assert not [e for e in qmp.events if e["event"] == "BLOCK_IMAGE_CORRUPTED"], qmp.events
        qmp.close()


main()
