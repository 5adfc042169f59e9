#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Requests that hang: they are seen, an edit that waits for them does not keep yank from failing them,
an export's deadline fails them by itself, and a yanked character device loses its clients."""

import errno
import socket
import struct
import threading
import time

from harness import TMP, daemon, fails, receive

DNF, GE = "DeviceNotFound", "GenericError"
FOREVER_NS = 3600 * 10 ** 9

class Writer:
    """A client that has sent one write."""

    def __init__(self, d, name):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(d.nbd_path)
        assert receive(self.socket, 18)[:8] == b"NBDMAGIC"
        self.socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(name)) + name.encode())
        receive(self.socket, 10)
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, 512) + bytes(512))

    def error(self):
        magic, error, cookie = struct.unpack(">IIQ", receive(self.socket, 16))
        assert (magic, cookie) == (0x67446698, 7)
        self.socket.close()
        return error


def in_flight(q, name):
    return [f for f in q("x-ringblk-query-in-flight") if f["id"] == name][0]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def slow_export(d, q, name, **more):
    q("blockdev-add", driver="null-co", node_name=name, latency_ns=FOREVER_NS)
    q("block-export-add", type="nbd", id="x" + name, node_name=name, name=name, writable=True, **more)


def instances(q):
    q("blockdev-add", driver="null-co", node_name="quick")
    listed = q("query-yank")
    assert {"type": "block-node", "node-name": "quick"} in listed, listed
    assert {"type": "chardev", "id": "qmp"} in listed, listed
    q("yank", instances=[])
    q("yank", instances=[{"type": "block-node", "node-name": "quick"}])
    with open(f"{TMP}/image", "wb") as f:
        f.truncate(4096)
    q("blockdev-add", driver="file", node_name="file", filename=f"{TMP}/image")
    # The kernel does not give up what it does with a file.
    assert not [i for i in q("query-yank") if i.get("node-name") == "file"]
    for bad in ({"type": "block-node", "node-name": "file"}, {"type": "block-node", "node-name": "no"},
                {"type": "chardev", "id": "no"}, {"type": "migration"}):
        fails(DNF, "Instance not found...", q, "yank",
              instances=[{"type": "block-node", "node-name": "quick"}, bad])
    fails(GE, "Parameter 'type' does not accept value 'x'", q, "yank", instances=[{"type": "x"}])
    fails(GE, "Parameter 'instances[0].node-name' is missing", q, "yank", instances=[{"type": "block-node"}])
    fails(GE, "Parameter 'instances' is missing", q, "yank")
    q("blockdev-del", node_name="quick")
    q("blockdev-del", node_name="file")


def during_an_edit(d):
    """The edit waits for the request, and commands in band wait for the edit."""
    q = d.qmp(negotiate=False)
    q.execute("qmp_capabilities", {"enable": ["oob"]})
    slow_export(d, q, "slow")
    client = Writer(d, "slow")
    wait_for(lambda: in_flight(q, "xslow")["requests"] == 1)
    assert in_flight(q, "xslow")["type"] == "export"
    q.send('{"execute":"block-set-write-threshold","arguments":{"node-name":"slow","write-threshold":1}}\n')
    q.send('{"execute":"query-version","id":"waits"}\n')
    time.sleep(0.3)
    q.send('{"exec-oob":"x-ringblk-query-in-flight","id":1}\n')
    reply = q.reply()
    assert reply["id"] == 1, reply
    mine = [f for f in reply["return"] if f["id"] == "xslow"][0]
    assert mine["requests"] == 1 and mine["oldest-ns"] >= 300 * 10 ** 6, mine
    q.send('{"exec-oob":"yank","id":2,"arguments":{"instances":[{"type":"block-node","node-name":"slow"}]}}\n')
    replies = [q.reply() for _ in range(3)]
    assert [r.get("id") for r in replies] == [2, None, "waits"], replies
    assert all("return" in r for r in replies), replies
    assert client.error() == errno.EIO
    assert in_flight(q, "xslow")["requests"] == 0
    q.close()


def with_a_deadline(d):
    q = d.qmp()
    slow_export(d, q, "late", request_deadline=1)
    began = time.monotonic()
    assert Writer(d, "late").error() == errno.EIO
    assert time.monotonic() - began > 0.9
    assert "'xlate': a request has been in flight for" in d.said()
    q.close()


def chardevs(d):
    q, other = d.qmp(), d.qmp()
    gone = threading.Event()

    def listen():
        try:
            while True:
                other.read()
        except (EOFError, OSError):
            gone.set()
    threading.Thread(target=listen, daemon=True).start()
    q.send('{"execute":"yank","arguments":{"instances":[{"type":"chardev","id":"qmp"}]}}\n')
    assert gone.wait(30)
    q.close()
    q = d.qmp()  # it still listens
    q("query-version")
    q.close()


with daemon("--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d:
    q = d.qmp()
    instances(q)
    q.close()
    during_an_edit(d)
    with_a_deadline(d)
    chardevs(d)
