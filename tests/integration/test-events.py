#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""Every event: when it comes and when not, its members, that each client gets it once, and how often at most."""

import contextlib
import select
import signal
import time

import rowfuzz
from harness import TMP, QmpError, daemon, fails
from nbdclient import CACHE, EIO, EINVAL, ENOSPC, FLUSH, FUA, READ, TRIM, WRITE, ZERO, connect

GE = "GenericError"
HOUR_NS = 3600 * 10 ** 9
MIB = 1 << 20
ALL = {"SHUTDOWN", "BLOCK_EXPORT_DELETED", "BLOCK_IO_ERROR", "BLOCK_WRITE_THRESHOLD"}


def no_event(q, *names):
    """None of these has come: an event is told before the reply to what is asked after it."""
    q("query-version")
    assert not [e for e in q.events if not names or e["event"] in names], q.events


def serve(d, q):
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})


def schema(d):
    """These are announced, and what is told here of each is what is announced."""
    with contextlib.closing(d.qmp()) as q:
        types = q("query-qmp-schema")
        events = {t["name"]: t["arg-type"] for t in types if t["meta-type"] == "event"}
        assert set(events) >= ALL, events
        return rowfuzz.generator(types, 0, TMP), events


def check(told, event):
    """An event that came: its form and its data."""
    g, events = told
    assert set(event) == {"event", "timestamp", "data"}, event
    assert set(event["timestamp"]) == {"seconds", "microseconds"}, event
    assert abs(event["timestamp"]["seconds"] - time.time()) < 300 and 0 <= event["timestamp"]["microseconds"] < 10 ** 6
    g.conforms(event["data"], events[event["event"]], event["event"])
    return event["data"]


def once_unused(remove):
    """The daemon hears a moment later that a client has left."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return remove()
        except QmpError as error:
            assert error.text == "export 'a' still in use" and time.monotonic() < deadline, error


def export_deleted(d, told):
    """Once for each export, to each client that has negotiated, whichever way the export goes."""
    with contextlib.closing(d.qmp()) as q, contextlib.closing(d.qmp()) as other, \
            contextlib.closing(d.qmp(negotiate=False)) as silent:
        q("blockdev-add", driver="null-co", node_name="n")
        serve(d, q)
        for names, remove in (
                (["a"], lambda: q("block-export-del", id="a")),
                (["a"], lambda: other("block-export-del", id="a", mode="hard")),
                (["a"], lambda: q("nbd-server-remove", name="a")),
                (["a", "b", "c"], lambda: q("nbd-server-stop"))):
            for name in names:
                q("block-export-add", type="nbd", id=name, name=name, node_name="n")
            with connect(d.nbd_path, "a") as c:
                fails(GE, "export 'a' still in use", q, "block-export-del", id="a")
                no_event(q)
                if len(names) == 1:
                    c.end()
                once_unused(remove)
            for client in (q, other):
                gone = {check(told, client.wait_event("BLOCK_EXPORT_DELETED"))["id"] for _ in names}
                assert gone == set(names), gone
                no_event(client)
        fails(GE, "NBD server not running", q, "nbd-server-stop")
        q("blockdev-del", node_name="n")
        silent("qmp_capabilities")
        no_event(silent)


def broken(q, name, flush=False):
    """A disk that answers nothing by itself, and an export of it.  (Without flushes, as it is flushed when it goes.)"""
    q("blockdev-add", driver="null-co", node_name=name, latency_ns=HOUR_NS, discard="unmap",
      cache={"no-flush": not flush})
    q("block-export-add", type="nbd", id="x" + name, name=name, node_name=name, writable=True)


def fail(q, c, name, kind, flags=0):
    """One request that the disk fails."""
    cookie = c.send(kind, 0, 512 if kind != FLUSH else 0, b"w" * 512 if kind == WRITE else b"", flags)
    while not select.select([c.socket], [], [], 0.01)[0]:
        q("yank", instances=[{"type": "block-node", "node-name": name}])
    assert c.take(kind, cookie, 0, 512).error == EIO


def io_error(d, told):
    with contextlib.closing(d.qmp()) as q, contextlib.closing(d.qmp()) as other:
        serve(d, q)
        for kind, operation in ((READ, "read"), (WRITE, "write"), (ZERO, "write"), (TRIM, "write"), (FLUSH, "write")):
            name = f"n{kind}"
            broken(q, name, kind == FLUSH)
            with connect(d.nbd_path, name) as c:
                if kind == FLUSH:  # of what was written
                    fail(q, c, name, WRITE)
                    for client in (q, other):
                        client.wait_event("BLOCK_IO_ERROR")
                fail(q, c, name, kind)
            for client in (q, other):
                data = check(told, client.wait_event("BLOCK_IO_ERROR"))
                assert data == {"device": "x" + name, "node-name": name, "operation": operation, "action": "report",
                                "reason": "Input/output error"}, data
                no_event(client)
        # Nothing is lost when a look ahead fails; what the client did wrong is its own affair.
        broken(q, "ahead")
        with connect(d.nbd_path, "ahead") as c:
            fail(q, c, "ahead", CACHE)
        q("blockdev-add", driver="null-co", node_name="good", size=MIB)
        q("block-export-add", type="nbd", id="good", node_name="good", writable=True)
        with connect(d.nbd_path, "good") as c:
            assert c.error(READ, MIB, 512) == EINVAL and c.error(WRITE, MIB, data=b"x") == ENOSPC
            assert c.error(READ, 0, 64 * MIB) == EINVAL and c.error(99) == EINVAL
            assert c.error(READ, 0, 512) == 0
        no_event(q)
        q("nbd-server-stop")
        q.events.clear()
        for n in q("query-named-block-nodes"):
            q("blockdev-del", node_name=n["node-name"])


def rate_limit(d, told):
    """One a second for each device, and the last one always comes."""
    with contextlib.closing(d.qmp()) as q:
        serve(d, q)
        broken(q, "a"), broken(q, "b")
        with connect(d.nbd_path, "a") as a, connect(d.nbd_path, "b") as b:
            began = time.monotonic()
            for _ in range(20):
                fail(q, a, "a", READ)
            fail(q, b, "b", READ)
            fail(q, a, "a", WRITE)
            found = []
            while not found or found[-1]["operation"] != "write":
                found.append(check(told, q.wait_event("BLOCK_IO_ERROR")))
            passed = time.monotonic() - began
        devices = [x["device"] for x in found]
        assert devices.count("xb") == 1 and 2 <= devices.count("xa") <= 2 + passed, (devices, passed)
        assert devices[0] == "xa" and devices[-1] == "xa", devices
        no_event(q)
        q("nbd-server-stop")
        for name in ("a", "b"):
            q("blockdev-del", node_name=name)


def threshold(q):
    return {n["node-name"]: n["write_threshold"] for n in q("query-named-block-nodes")}


def write_threshold(d, told):
    """Once when a write ends past it, on whatever node; reads, discards and writes that end there do not count."""
    with contextlib.closing(d.qmp()) as q:
        serve(d, q)
        with open(f"{TMP}/image", "wb") as f:
            f.truncate(MIB)
        q("blockdev-add", driver="raw", node_name="top", discard="unmap",
          file={"driver": "file", "node-name": "below", "filename": f"{TMP}/image"})
        q("block-export-add", type="nbd", id="e", name="x", node_name="top", writable=True)
        with connect(d.nbd_path) as c:
            for node in ("top", "below"):
                for kind, flags in ((WRITE, 0), (WRITE, FUA), (ZERO, 0)):
                    q("block-set-write-threshold", node_name=node, write_threshold=8192)
                    assert threshold(q) == {"top": 0, "below": 0} | {node: 8192}
                    c.write(0, bytes(8192))
                    assert c.error(READ, 8192, 4096) == c.error(TRIM, 8192, 4096) == c.error(FLUSH) == 0
                    no_event(q)
                    if kind == WRITE:
                        c.write(8191, b"ab", flags)
                    else:
                        assert c.error(ZERO, 8191, 2) == 0
                    data = check(told, q.wait_event("BLOCK_WRITE_THRESHOLD"))
                    assert data == {"node-name": node, "amount-exceeded": 1, "write-threshold": 8192}, data
                    c.write(0, bytes(65536))
                    no_event(q)
                    assert threshold(q) == {"top": 0, "below": 0}
            for value in (1 << 63, (1 << 64) - 1):
                q("block-set-write-threshold", node_name="below", write_threshold=value)
                assert threshold(q)["below"] == value
            c.write(MIB - 512, bytes(512))
            no_event(q)
            # The command's own errors leave the threshold as it is.
            for kind, text, arguments in (
                    ("DeviceNotFound", "Device 'nope' not found", {"node-name": "nope", "write-threshold": 1}),
                    ("DeviceNotFound", "Device 'e' not found", {"node-name": "e", "write-threshold": 1}),
                    ("DeviceNotFound", "Device '' not found", {"node-name": "", "write-threshold": 0}),
                    (GE, "Parameter 'write-threshold' is missing", {"node-name": "below"}),
                    (GE, "Parameter 'write-threshold' expects uint64", {"node-name": "below", "write-threshold": -1}),
                    (GE, "Parameter 'write-threshold' expects uint64", {"node-name": "below", "write-threshold": 1 << 64})):
                fails(kind, text, q.execute, "block-set-write-threshold", arguments)
                assert threshold(q)["below"] == (1 << 64) - 1
            # Armed anew from the event, as programs do that make the image larger.
            q("block-set-write-threshold", node_name="below", write_threshold=0)
            for at in range(5):
                q("block-set-write-threshold", node_name="below", write_threshold=at * 65536)
                c.write(at * 65536, bytes(65536))
                if at:
                    data = check(told, q.wait_event("BLOCK_WRITE_THRESHOLD"))
                    assert data["amount-exceeded"] == 65536 and data["write-threshold"] == at * 65536, data
                no_event(q)
        q("nbd-server-stop")
        q("blockdev-del", node_name="top")


def shutdown():
    """The last that all clients hear, with why."""
    for reason, end in (("host-qmp-quit", lambda d, q: q("quit")),
                        *[("host-signal", lambda d, q, s=s: d.process.send_signal(s))
                          for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]):
        with daemon(name="ends") as d:
            told = schema(d)
            q, other, silent = d.qmp(), d.qmp(), d.qmp(negotiate=False)
            q("blockdev-add", driver="null-co", node_name="n")
            serve(d, q)
            q("block-export-add", type="nbd", id="e", node_name="n")
            end(d, q)
            for client in (q, other):
                data = check(told, client.wait_event("SHUTDOWN"))
                assert data == {"guest": False, "reason": reason}, data
                rest = []
                with contextlib.suppress(EOFError, ConnectionError):
                    while True:
                        rest.append(client.read())
                assert [r["event"] for r in rest if r.get("event") != "BLOCK_EXPORT_DELETED"] == [], rest
                client.close()
            with contextlib.suppress(EOFError, ConnectionError):
                raise AssertionError(f"told before negotiation: {silent.read()}")
            silent.close()
            assert d.process.wait(60) == 0


with daemon() as d:
    told = schema(d)
    for test in (export_deleted, io_error, rate_limit, write_threshold):
        print(test.__name__, flush=True)
        test(d, told)
shutdown()
