#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What query-blockstats says, against what clients know: fio's totals to the byte, failures and nonsense counted
apart, intervals that agree with a node's known latency, thresholds that are seen under the short cut."""

import json
import os
import subprocess
import time

import nbdclient
from harness import TMP, daemon
from nbdclient import EINVAL, EIO, ENOSPC, FLUSH, READ, TRIM, WRITE, ZERO

SIZE = 64 << 20
MS = 10 ** 6  # ns
FULL = os.environ["RINGBLK_FULL"] == "1"
SEED = os.environ["RINGBLK_SEED"]


def serve(q, d):
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})


def export(q, node, name, **options):
    q.execute("block-export-add", {"type": "nbd", "id": name, "node-name": node, "name": name, "writable": True,
                                   **{k.replace("_", "-"): v for k, v in options.items()}})


def device(q, name):
    return next(s for s in q("query-blockstats") if s["device"] == name)["stats"]


def nodes(q):
    return {s["node-name"]: s["stats"] for s in q.execute("query-blockstats", {"query-nodes": True})}


def chain(q, name, depth, **options):
    """A file with raw nodes above it: the names of all of them, the uppermost first."""
    with open(f"{TMP}/{name}.raw", "wb") as f:
        f.truncate(SIZE)
    q.execute("blockdev-add", {"driver": "file", "node-name": f"{name}0", "filename": f"{TMP}/{name}.raw",
                               "discard": "unmap", **options})
    for i in range(1, depth):
        q.execute("blockdev-add", {"driver": "raw", "node-name": f"{name}{i}", "file": f"{name}{i - 1}",
                                   "discard": "unmap"})
    return [f"{name}{i}" for i in reversed(range(depth))]


# ---- fio ----

def fio(d, name, **options):
    """A job's totals: {"read": (operations, bytes), "write": ..., "flush": operations}."""
    out = f"{TMP}/fio.json"
    arguments = {"name": name, "ioengine": "nbd", "uri": d.uri(name), "size": SIZE, "iodepth": 16, "numjobs": 2,
                 "number_ios": 20000 if FULL else 2000, "group_reporting": 1, "randseed": SEED,
                 "output-format": "json", "output": out, **options}
    subprocess.run(["fio", *(f"--{k}={v}" for k, v in arguments.items())], check=True, cwd=TMP)
    with open(out, encoding="utf-8") as f:
        job = json.load(f)["jobs"][0]
    assert job["error"] == 0, job
    return {"flush": job["sync"]["total_ios"],
            **{k: (job[k]["total_ios"], job[k]["io_bytes"]) for k in ("read", "write", "trim")}}


def figures(stats):
    return {"flush": stats["flush_operations"],
            **{ours: (stats[f"{k}_operations"], stats[f"{k}_bytes"])
               for ours, k in (("read", "rd"), ("write", "wr"), ("trim", "unmap"))}}


def totals(d, q):
    """The device and every node on the way have done what fio says, by whatever road: the short cut in line with
    the loop and as an operation of the kernel, the long road for writes alone and for all."""
    roads = {"inline": chain(q, "inline", 2),
             "direct": chain(q, "direct", 2, cache={"direct": True}),
             "writes": chain(q, "writes", 2),
             "long": chain(q, "long", 6)}  # deeper than the short cut goes
    q("block-set-write-threshold", node_name="writes0", write_threshold=1 << 62)
    for name, names in roads.items():
        export(q, names[0], name)
        known = fio(d, name, rw="randrw", bsrange="4k-128k", fsync=100)
        assert figures(device(q, name)) == known, (name, figures(device(q, name)), known)
        for key in ("rd_total_time_ns", "wr_total_time_ns"):
            assert device(q, name)[key] > 0, (name, key)
        trimmed = fio(d, name, rw="randtrim", bs="64k", numjobs=1, number_ios=100)
        known = {k: known[k] + trimmed[k] if k == "flush" else
                 tuple(a + b for a, b in zip(known[k], trimmed[k])) for k in known}
        assert figures(device(q, name)) == known, (name, figures(device(q, name)), known)
        for node in names:
            stats = figures(nodes(q)[node])
            assert stats == known, (name, node, stats, known)
        print(f"{name}: {known}")


# ---- what goes wrong ----

FAILURES = ((READ, "rd"), (WRITE, "wr"), (FLUSH, "flush"), (TRIM, "unmap"))


def request(client, kind, offset=0):
    return client.send(kind, *((0, 0) if kind == FLUSH else (offset, 4096)), **({"data": bytes(4096)}
                                                                               if kind == WRITE else {}))


def fail(q, client, kind, node):
    """A request that its node gives up because it is told to."""
    cookie = request(client, kind)
    client.socket.setblocking(False)
    while True:
        q("yank", instances=[{"type": "block-node", "node-name": node}])
        try:
            client.socket.recv(1, 2)  # MSG_PEEK
            break
        except BlockingIOError:
            time.sleep(0.02)
    client.socket.settimeout(60)
    assert client.take(kind, cookie, 0, 4096).error == EIO, kind


def failed_and_invalid(d, q):
    """Each apart, never as done; account-failed says whether a failure's time counts, account-invalid whether
    nonsense is an access."""
    for invalid in (False, True):
        for failed in (False, True):
            name = f"i{invalid:d}f{failed:d}"
            q.execute("blockdev-add", {"driver": "null-co", "node-name": name, "latency-ns": 10 ** 12, "size": SIZE,
                                       "discard": "unmap"})
            export(q, name, name, account_invalid=invalid, account_failed=failed, stats_intervals=[3600])
            client = nbdclient.connect(d.nbd_path, name)
            assert client.error(READ, SIZE, 4096) == EINVAL
            assert client.error(WRITE, SIZE - 512, data=bytes(4096)) == ENOSPC
            assert client.error(ZERO, SIZE, 4096) == ENOSPC
            assert client.error(TRIM, SIZE, 4096) == EINVAL
            assert client.error(FLUSH, 1, 1) == EINVAL
            stats = device(q, name)
            assert ("idle_time_ns" in stats) == invalid, stats
            for kind, key in FAILURES:
                fail(q, client, kind, name)
            stats = device(q, name)
            assert (stats["account_invalid"], stats["account_failed"]) == (invalid, failed)
            assert ("idle_time_ns" in stats) == (invalid or failed), stats
            for kind, key in FAILURES:
                assert stats[f"invalid_{key}_operations"] == 1 + (key == "wr"), (key, stats)
                assert stats[f"failed_{key}_operations"] == 1, (key, stats)
                assert stats[f"{key}_operations"] == 0 == stats.get(f"{key}_bytes", 0), (key, stats)
                assert (stats[f"{key}_total_time_ns"] > 0) == failed, (key, stats)
            (interval,) = stats["timed_stats"]
            for key in ("rd", "wr", "flush"):
                assert (interval[f"max_{key}_latency_ns"] > 0) == failed, interval
            client.end()


# ---- intervals ----

def intervals(d, q):
    """A node that takes a known time for everything."""
    latency, count = 40 * MS, 12
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "slow", "latency-ns": latency, "size": SIZE})
    export(q, "slow", "slow", stats_intervals=[3600, 1])
    client = nbdclient.connect(d.nbd_path, "slow")
    began = time.monotonic_ns()
    for _ in range(count):
        for kind in (READ, WRITE, FLUSH):
            assert client.take(kind, request(client, kind), 0, 4096).error == 0
    most = time.monotonic_ns() - began
    stats = device(q, "slow")
    long, short = stats["timed_stats"]
    assert (long["interval_length"], short["interval_length"]) == (3600, 1)
    for key in ("rd", "wr", "flush"):
        least, mean, largest = (long[f"{what}_{key}_latency_ns"] for what in ("min", "avg", "max"))
        print(f"{key} with {latency} ns: min {least}, avg {mean}, max {largest}")
        assert latency <= least <= mean <= largest <= most, (key, long)
        assert stats[f"{key}_operations"] == count
        assert abs(mean - stats[f"{key}_total_time_ns"] / count) < 2, (key, stats)
    for key in ("rd", "wr"):
        depth = long[f"avg_{key}_queue_depth"]
        assert 0 < depth < 1, depth
    time.sleep(2.5)
    short = device(q, "slow")["timed_stats"][1]
    assert not any(v for k, v in short.items() if k != "interval_length"), short
    client.end()


# ---- thresholds ----

def told(q):
    """Events of thresholds that have come, once a command has been answered after them."""
    q("query-version")
    return [e["data"] for e in q.events if e["event"] == "BLOCK_WRITE_THRESHOLD"]


def thresholds(d, q):
    """Set on the node of the file, with a raw node above it and the short cut in use before."""
    export(q, chain(q, "t", 2)[0], "t")
    client = nbdclient.connect(d.nbd_path, "t")
    client.write(1 << 20, bytes(4096))  # the short cut
    q("block-set-write-threshold", node_name="t0", write_threshold=512 << 10)
    client.write((512 << 10) - 4096, bytes(4096))
    client.read(1 << 20, 4096)
    assert not told(q)
    client.write((512 << 10) - 4096, bytes(8192))
    data = q.wait_event("BLOCK_WRITE_THRESHOLD")["data"]
    assert data == {"node-name": "t0", "amount-exceeded": 4096, "write-threshold": 512 << 10}, data
    client.write(1 << 20, bytes(4096))  # it was told once
    assert not told(q)
    client.end()


with daemon() as daemon_:
    qmp = daemon_.qmp()
    serve(qmp, daemon_)
    totals(daemon_, qmp)
    failed_and_invalid(daemon_, qmp)
    intervals(daemon_, qmp)
    thresholds(daemon_, qmp)
    qmp("nbd-server-stop")
    qmp.close()
