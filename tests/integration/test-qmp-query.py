#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What can be asked of nodes, exports and statistics, and descriptors that clients hand over:
members, values, refusals, and nothing left open."""

import array
import json
import os
import socket
import subprocess
import threading

from harness import TMP, QmpError, daemon, fails

GE, CNF, DNF = "GenericError", "CommandNotFound", "DeviceNotFound"
KINDS = ("rd", "wr", "zone_append", "flush", "unmap")
INFO = {"file", "node-name", "ro", "drv", "backing_file_depth", "encrypted", "encryption_key_missing",
        "detect_zeroes", "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "image", "cache",
        "write_threshold"}


def image(name, size):
    path = f"{TMP}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def send_with_fd(q, command, arguments, fd):
    """As clients do: the descriptor travels with the first byte of the command."""
    text = json.dumps({"execute": command, "arguments": arguments}).encode()
    q.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    reply = q.reply()
    if "error" in reply:
        raise QmpError(reply["error"])
    return reply["return"]


def nodes(d):
    q = d.qmp()
    path = image("nodes.raw", 1 << 20)
    with open(path, "r+b") as f:
        f.write(b"x" * 65536)
    q.execute("blockdev-add", {"driver": "raw", "node-name": "r", "read-only": True,
                               "detect-zeroes": "on",
                               "file": {"driver": "file", "node-name": "f", "filename": path,
                                        "cache": {"no-flush": True}}})
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 4096})
    found = {i["node-name"]: i for i in q("query-named-block-nodes")}
    assert set(found) == {"r", "f", "n"}, set(found)
    for info in found.values():
        assert INFO <= set(info), INFO - set(info)
    r, f = found["r"], found["f"]
    assert (r["drv"], r["ro"], r["detect_zeroes"], r["file"]) == ("raw", True, "on", path), r
    assert r["children"] == [{"child": "file", "node-name": "f"}] and f["children"] == [], (r, f)
    assert f["cache"] == {"writeback": True, "direct": False, "no-flush": True}, f
    for info, kind in ((r, "raw"), (f, "file")):
        assert (info["image"]["format"], info["image"]["virtual-size"]) == (kind, 1 << 20), info
        assert info["image"]["filename"] == path
        assert info["image"]["actual-size"] == os.stat(path).st_blocks * 512
    assert json.loads(found["n"]["file"][5:]) == {"driver": "null-co", "size": 4096}
    assert q("query-named-block-nodes", flat=True) == q("query-named-block-nodes")
    q("block-set-write-threshold", node_name="n", write_threshold=4000)
    found = {i["node-name"]: i for i in q("query-named-block-nodes")}
    assert found["n"]["write_threshold"] == 4000
    fails(GE, "Invalid parameter type for 'flat', expected: boolean", q, "query-named-block-nodes", flat=1)
    for name in ("r", "n"):
        q("blockdev-del", node_name=name)
    assert q("query-named-block-nodes") == []
    q.close()


def devices(d):
    q = d.qmp()
    path = image("devices.raw", 1 << 20)
    q.execute("blockdev-add", {"driver": "file", "node-name": "f", "filename": path})
    q.execute("blockdev-add", {"driver": "raw", "node-name": "r", "file": "f"})
    assert q("query-block") == [] and q("query-blockstats") == []
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "r", "name": "x",
                                   "writable": True, "account-invalid": False, "stats-intervals": [60, 5]})
    (block,) = q("query-block")
    assert (block["device"], block["type"], block["removable"], block["locked"]) == \
        ("e", "unknown", False, False), block
    assert block["inserted"]["node-name"] == "r" and INFO <= set(block["inserted"])
    assert not {"io-status", "tray_open"} & set(block)

    (before,) = q("query-blockstats")
    assert "idle_time_ns" not in before["stats"], before
    assert (before["stats"]["account_invalid"], before["stats"]["account_failed"]) == (False, True)
    assert [t["interval_length"] for t in before["stats"]["timed_stats"]] == [60, 5]
    q("block-latency-histogram-set", id="e", boundaries=[1000, 10 ** 10], boundaries_flush=[7])
    io = ["write -P 1 0 64k", "write -P 2 512k 4k", "read 0 64k", "flush"]
    subprocess.run(["qemu-io", "-f", "raw", "-t", "writeback", *(w for c in io for w in ("-c", c)),
                    d.uri("x")], check=True, stdout=subprocess.DEVNULL)
    (stats,) = q("query-blockstats")
    assert (stats["device"], stats["node-name"]) == ("e", "r"), stats
    figures = stats["stats"]
    assert {f"{k}_total_time_ns" for k in KINDS} <= set(figures)
    assert {f"{how}_{k}_operations" for k in KINDS for how in ("failed", "invalid")} <= set(figures)
    assert (figures["wr_bytes"], figures["wr_operations"]) == (69632, 2), figures
    assert figures["rd_bytes"] == 65536 and figures["wr_highest_offset"] == (512 + 4) << 10, figures
    assert figures["flush_operations"] >= 1 and figures["idle_time_ns"] >= 0, figures
    assert stats["parent"]["node-name"] == "f" and stats["parent"]["stats"]["wr_bytes"] == 69632
    histogram = figures["wr_latency_histogram"]
    assert histogram["boundaries"] == [1000, 10 ** 10] and len(histogram["bins"]) == 3
    assert sum(histogram["bins"]) == 2, histogram
    assert figures["flush_latency_histogram"]["boundaries"] == [7]
    timed = figures["timed_stats"][0]
    assert 0 < timed["min_wr_latency_ns"] <= timed["avg_wr_latency_ns"] <= timed["max_wr_latency_ns"]

    named = {s["node-name"]: s for s in q.execute("query-blockstats", {"query-nodes": True})}
    assert set(named) == {"r", "f"} and "device" not in named["r"]
    assert named["r"]["parent"]["node-name"] == "f" and "parent" not in named["f"]

    fails(DNF, "Device 'r' not found", q, "block-latency-histogram-set", id="r", boundaries=[1])
    for bad in ([], [0, 1], [5, 5], [5, 4]):
        fails(GE, "Device 'e' set write boundaries fail", q, "block-latency-histogram-set", id="e",
              boundaries_read=[1], boundaries_write=bad)
    (stats,) = q("query-blockstats")
    assert stats["stats"]["rd_latency_histogram"]["boundaries"] == [1000, 10 ** 10], "half was done"
    q("block-latency-histogram-set", id="e")
    (stats,) = q("query-blockstats")
    assert not [k for k in stats["stats"] if "histogram" in k]
    q("nbd-server-stop")
    assert q("query-block") == []
    for name in ("r", "f"):
        q("blockdev-del", node_name=name)
    q.close()


def asked_while_removed(d):
    """Somebody asks all the time: nodes and exports can be removed and made anew all the same."""
    path = image("busy.raw", 1 << 20)
    done, wrong = threading.Event(), []

    def ask():
        q = d.qmp()
        try:
            while not done.is_set():
                for command in ("query-named-block-nodes", "query-block", "query-blockstats"):
                    q(command)
        except Exception as error:
            wrong.append(error)
        q.close()

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for a in askers:
        a.start()
    q = d.qmp()
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    try:
        for _ in range(100):
            q.execute("blockdev-add", {"driver": "file", "node-name": "f", "filename": path})
            q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "f",
                                           "stats-intervals": [1]})
            q("block-export-del", id="e")
            q.wait_event("BLOCK_EXPORT_DELETED")
            q("blockdev-del", node_name="f")
    finally:
        done.set()
        for a in askers:
            a.join(60)
    q("nbd-server-stop")
    q.close()
    assert not wrong, wrong


def deep(d):
    """A reply about a long chain stays within what clients can parse, and the daemon within its stack."""
    q = d.qmp()
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "n0"})
    for i in range(1, 400):
        q.execute("blockdev-add", {"driver": "raw", "node-name": f"n{i}", "file": f"n{i - 1}"})
    levels = []
    for s in q.execute("query-blockstats", {"query-nodes": True}):
        levels.append(0)
        while "parent" in s:
            s = s["parent"]
            levels[-1] += 1
    assert len(levels) == 400 and sum(levels) == 20000, (len(levels), sum(levels))
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n399"})
    (s,), below = q("query-blockstats"), 0
    while "parent" in s:
        s, below = s["parent"], below + 1
    assert below == 200, below
    q("nbd-server-stop")
    assert len(q("query-named-block-nodes")) == 400
    for i in reversed(range(400)):
        q("blockdev-del", node_name=f"n{i}")
    q.close()


def descriptors(d):
    q, other = d.qmp(), d.qmp()
    before = d.descriptors()
    path = image("passed.raw", 1 << 20)
    for command, arguments in (("getfd", {"fdname": "x"}), ("add-fd", {})):
        fails(GE, "No file descriptor supplied via SCM_RIGHTS", q.execute, command, arguments)
    with open(path, "r+b") as f:
        fails(GE, "Parameter 'fdname' expects a name not starting with a digit", send_with_fd, q,
              "getfd", {"fdname": "1x"}, f.fileno())
        fails(GE, "Parameter 'fdset-id' expects a non-negative value", send_with_fd, q,
              "add-fd", {"fdset-id": -1}, f.fileno())
        assert d.descriptors() == before, "a refused descriptor was kept"
        send_with_fd(q, "getfd", {"fdname": "x"}, f.fileno())
        assert d.descriptors() == before + 1
        send_with_fd(q, "getfd", {"fdname": "x"}, f.fileno())
        assert d.descriptors() == before + 1, "the older one of that name was not closed"
        fails(GE, "File descriptor named 'x' not found", other, "closefd", fdname="x")
        q("closefd", fdname="x")
        fails(GE, "File descriptor named 'x' not found", q, "closefd", fdname="x")

        # One that comes in the middle of a row of commands belongs to the first that asks for one.
        q.send('{"execute":"query-commands"}')
        send_with_fd(q, "query-version", {}, f.fileno())
        q.reply()
        q("getfd", fdname="late")
        q("closefd", fdname="late")
        assert d.descriptors() == before

        info = send_with_fd(q, "add-fd", {"fdset-id": 3, "opaque": "note"}, f.fileno())
        assert info["fdset-id"] == 3
        (found,) = q("query-fdsets")
        assert found == {"fdset-id": 3, "fds": [{"fd": info["fd"], "opaque": "note"}]}, found
    q.execute("blockdev-add", {"driver": "file", "node-name": "f", "filename": "/dev/fdset/3"})
    fails(GE, "File descriptor named 'fdset-id:3, fd:9999' not found", q, "remove-fd", fdset_id=3, fd=9999)
    fails(GE, "File descriptor named 'fdset-id:4' not found", q, "remove-fd", fdset_id=4)
    q("blockdev-del", node_name="f")
    q("remove-fd", fdset_id=3)
    assert q("query-fdsets") == [] and d.descriptors() == before
    q.close()
    other.close()


with daemon() as d:
    for part in (nodes, devices, asked_while_removed, deep, descriptors):
        part(d)
