#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address,thread
"""Requests of every kind at full speed while nodes and exports come and go at full speed, and somebody asks about
all of them."""

import os
import socket
import struct
import threading
import time

from harness import QmpError, TMP, daemon, receive

SECONDS = 60 if os.environ.get("RINGBLK_FULL") == "1" else 6
stop = threading.Event()
served = [0] * 4
failures = []


def request(kind, offset, length, data=b""):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, 1, offset, length) + data


def client(index, path, name, may_vanish):
    """Read and write until told to stop; where the export may vanish, being cut off is fine."""
    batch = b"".join(request(1, (index * 64 + i) * 4096, 4096, b"s" * 4096)
                     + request(0, (index * 64 + i) * 4096, 4096) for i in range(16))
    answer = 16 * (16 + 16 + 4096)
    for kind, offset, length in ((0, 0, 1 << 20), (1, index << 18, 300 << 10), (6, index << 18, 64 << 10), (3, 0, 0),
                                 (4, index << 18, 64 << 10), (5, 0, 1 << 20), (0, 4096, 512 << 10)):
        batch += request(kind, offset, length, b"l" * length if kind == 1 else b"")
        answer += 16 + (length if kind == 0 else 0)
    while not stop.is_set():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        try:
            s.connect(path)
            assert len(receive(s, 18)) == 18
            s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
            if len(receive(s, 10)) < 10:
                raise ConnectionError("no export now")
            while not stop.is_set():
                s.sendall(batch)
                if len(receive(s, answer)) < answer:
                    raise ConnectionError("cut off")
                served[index] += 39
        except (ConnectionError, AssertionError) as error:
            if not may_vanish and not stop.is_set():
                failures.append(f"client {index}: {error!r}")
                return
        except TimeoutError as error:  # whoever may vanish, too: it is cut off, not forgotten
            failures.append(f"client {index}: {error!r}")
            return
        finally:
            s.close()


def edit(q, image):
    """One round: a node, a raw node over it, an export of it and all of that away again."""
    q.execute("blockdev-add", {"driver": "file", "node-name": "tf", "filename": image})
    q.execute("blockdev-add", {"driver": "raw", "node-name": "tr", "file": "tf"})
    q.execute("block-export-add", {"type": "nbd", "id": "te", "node-name": "tr", "name": "t",
                                   "writable": True, "stats-intervals": [1], "request-deadline": edit.rounds % 2})
    q.execute("blockdev-add", {"driver": "raw", "node-name": "side", "file": "f", "read-only": True})
    q.execute("block_resize", {"node-name": "tr", "size": (2 << 20) + 4096 * (edit.rounds % 8)})
    q("block-set-write-threshold", node_name="f", write_threshold=1 << 40)
    q("block-set-write-threshold", node_name="f", write_threshold=0)
    q("blockdev-del", node_name="side")
    q("block-export-del", id="te", mode="hard")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q("blockdev-del", node_name="tr")
    q("blockdev-del", node_name="tf")
    edit.rounds += 1


def ask(d):
    """Somebody who wants to know everything."""
    q = d.qmp()
    try:
        while not stop.is_set():
            for command in ("query-named-block-nodes", "query-blockstats", "query-block", "query-block-exports",
                            "x-ringblk-query-in-flight", "query-yank"):
                q(command)
            q.execute("query-blockstats", {"query-nodes": True})
    except (QmpError, OSError, EOFError) as error:
        failures.append(f"ask: {error!r}")
    q.close()


edit.rounds = 0
for name, size in (("stays", 8 << 20), ("comes", 2 << 20)):
    with open(f"{TMP}/{name}", "wb") as f:
        f.truncate(size)
with daemon("--rings", "2", "--blockdev", f"driver=file,node-name=f,filename={TMP}/stays",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=e,node-name=f,name=x,writable=on") as d:
    threads = [threading.Thread(target=client, args=(i, d.nbd_path, b"x" if i < 2 else b"t", i >= 2))
               for i in range(4)] + [threading.Thread(target=ask, args=(d,))]
    for t in threads:
        t.start()
    q = d.qmp()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end and not failures:
            edit(q, f"{TMP}/comes")
    except QmpError as error:
        failures.append(f"edit: {error}")
    stop.set()
    q.close()
    for t in threads:
        t.join(90)
    assert not failures, failures
    assert edit.rounds > 3 and min(served[:2]) > 100, (edit.rounds, served)
    print(f"{edit.rounds} rounds of edits, {sum(served)} requests")
