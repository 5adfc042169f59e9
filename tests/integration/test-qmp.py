#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The QMP channel: negotiation, framing, errors' classes and sentences, nodes and exports that come
and go, and nothing left open after any of it."""

import socket
import struct
import time

from harness import TMP, daemon, fails, receive

GE, CNF, DNF = "GenericError", "CommandNotFound", "DeviceNotFound"


def negotiation(d):
    q = d.qmp(negotiate=False)
    assert set(q.greeting["QMP"]) == {"version", "capabilities"}, q.greeting
    assert q.greeting["QMP"]["version"]["qemu"]["major"] > 0
    fails(CNF, "Expecting capabilities negotiation with 'qmp_capabilities'", q, "query-version")
    fails(GE, "Parameter 'enable[0]' does not accept value 'nope'", q, "qmp_capabilities", enable=["nope"])
    q("qmp_capabilities")
    fails(CNF, "Capabilities negotiation is already complete, command ignored", q, "qmp_capabilities")
    q.close()


def framing(d):
    q = d.qmp()
    q.send("{'execute':'query-version','id':[1,{'a':null}]}")
    assert q.reply()["id"] == [1, {"a": None}]
    q.send('{"execute":"query-ver')
    time.sleep(0.1)
    q.send('sion"}\r\n{"execute":"query-version"} {"execute":"query-version","id":1}')
    assert [("return" in q.reply()) for _ in range(3)] == [True] * 3
    for text, kind, sentence in (
        ('{"execute":}', GE, "JSON parse error, expecting value"),
        ("[]", GE, "QMP input must be a JSON object"),
        ('{"execute":"query-version","x":1}', GE, "QMP input member 'x' is unexpected"),
        ('{"execute":"nope"}', CNF, "The command nope has not been found"),
        ('{"execute":"query-version","arguments":{"x":1}}', GE, "Parameter 'x' is unexpected"),
        ('{"execute":"blockdev-del"}', GE, "Parameter 'node-name' is missing"),
    ):
        q.send(text + "\n")
        error = q.reply()["error"]
        assert (error["class"], error["desc"]) == (kind, sentence), (text, error)
    q("query-version")
    # A client that closes its side after asking still gets all answers.
    half = d.qmp()
    half.send('{"execute":"query-version"}{"execute":"query-commands"}')
    half.socket.shutdown(1)
    assert "return" in half.reply() and "return" in half.reply()
    half.close()
    q.close()


def out_of_band(d):
    q = d.qmp(negotiate=False)
    assert "oob" in q.greeting["QMP"]["capabilities"]
    q.execute("qmp_capabilities", {"enable": ["oob"]})
    marked = {s["name"] for s in q("query-qmp-schema") if s.get("allow-oob")}
    assert marked == {"query-version", "yank", "query-yank", "x-ringblk-query-in-flight"}, marked
    q.send('{"exec-oob": "query-version", "id": 7}')
    reply = q.reply()
    assert reply["id"] == 7 and "qemu" in reply["return"], reply
    q.send('{"exec-oob": "query-commands", "id": 8}')
    reply = q.reply()
    assert reply["id"] == 8 and reply["error"]["class"] == GE, reply
    q.close()


def introspection(d):
    q = d.qmp()
    commands = {c["name"] for c in q("query-commands")}
    schema = q("query-qmp-schema")
    assert {s["name"] for s in schema if s["meta-type"] == "command"} == commands
    names = [s["name"] for s in schema]
    assert len(names) == len(set(names))
    used = set()
    for s in schema:
        for m in s.get("members", []):
            used.add(m.get("type"))
        used |= {s.get("arg-type"), s.get("ret-type"), s.get("element-type")}
        used |= {v["type"] for v in s.get("variants", [])}
    assert used - {None} <= set(names), used - set(names)
    q.close()


def nodes(d):
    q = d.qmp()
    before = d.descriptors()
    image = f"{TMP}/nodes.raw"
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    good = {"driver": "raw", "node-name": "top", "file": {"driver": "file", "filename": image}}
    q.execute("blockdev-add", good)
    fails(GE, "Duplicate nodes with node-name='top'", q.execute,
          "blockdev-add", good)
    q("blockdev-del", node_name="top")
    for bad in (
        dict(good, extra=1),
        dict(good, file=dict(good["file"], extra=1)),
        dict(good, size="x"),
        dict(good, file={"driver": "file", "filename": f"{TMP}/missing"}),
        dict(good, **{"node-name": "#bad"}),
        dict(good, offset=1 << 40),
        {"driver": "null-co", "node-name": "n", "size": -1},
        {"driver": "nope", "node-name": "n", "file": good["file"]},
    ):
        fails(GE, "...", q.execute, "blockdev-add", bad)
    fails(GE, "Parameter 'driver' does not accept value 'nope'", q.execute, "blockdev-add",
          {"driver": "nope", "node-name": "n", "file": good["file"]})
    fails(GE, "Parameter 'file.filename' is missing", q.execute, "blockdev-add",
          {"driver": "raw", "node-name": "n", "file": {"driver": "file"}})
    q.execute("blockdev-add", {"driver": "null-aio", "node-name": "n"})
    fails(DNF, "Device 'nope' not found", q, "block_resize", device="nope", size=512)
    fails(GE, "Parameter 'size' expects a >0 size", q, "block_resize", node_name="n", size=-512)
    fails(DNF, "Device 'nope' not found", q, "block-set-write-threshold", node_name="nope",
          write_threshold=1)
    fails(GE, "...", q, "block_passwd", node_name="n", password="x")
    q("blockdev-del", node_name="n")
    assert d.descriptors() == before, (before, d.descriptors())
    q.close()


def nbd_client(path, name):
    """The shortest negotiation that there is, with NBD_OPT_EXPORT_NAME."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(path)
    assert len(receive(client, 18)) == 18
    client.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
    assert len(receive(client, 10)) == 10
    return client


def exports(d):
    q = d.qmp()
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 1 << 20, "read-zeroes": True})
    fails(GE, "NBD server not running", q.execute, "block-export-add",
          {"type": "nbd", "id": "e", "node-name": "n"})
    fails(GE, "NBD server not running", q, "nbd-server-stop")
    address = {"type": "unix", "data": {"path": d.nbd_path}}
    q("nbd-server-start", addr=address)
    fails(GE, "NBD server already running", q, "nbd-server-start", addr=address)
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "name": "x"})
    fails(GE, "Block export id 'e' is already in use", q.execute, "block-export-add",
          {"type": "nbd", "id": "e", "node-name": "n"})
    fails(GE, "NBD server already has export named 'x'", q.execute, "block-export-add",
          {"type": "nbd", "id": "e2", "node-name": "n", "name": "x"})
    fails(GE, "Cannot find device='' nor node-name='nope'", q.execute, "block-export-add",
          {"type": "nbd", "id": "e2", "node-name": "nope"})
    fails(GE, "Bitmap 'b' is not found", q.execute, "block-export-add",
          {"type": "nbd", "id": "e2", "node-name": "n", "name": "y", "bitmaps": ["b"]})
    fails(GE, "Node n is in use", q, "blockdev-del", node_name="n")
    fails(GE, "Export 'nope' is not found", q, "block-export-del", id="nope")
    assert [x["id"] for x in q("query-block-exports")] == ["e"]

    client = nbd_client(d.nbd_path, b"x")
    fails(GE, "export 'e' still in use", q, "block-export-del", id="e")
    q("block-export-del", id="e", mode="hard")
    assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
    assert client.recv(1) == b"", "its client was not cut off"
    client.close()
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "name": "x"})
    q("nbd-server-stop")
    assert q("query-block-exports") == []
    q("blockdev-del", node_name="n")
    q.close()


def many(d):
    q = d.qmp()
    began = time.monotonic()
    for i in range(2000):
        q.execute("blockdev-add", {"driver": "null-co", "node-name": f"n{i}"})
    for i in range(2000):
        q("blockdev-del", node_name=f"n{i}")
    assert time.monotonic() - began < 20
    q.close()


with daemon() as d:
    for part in (negotiation, framing, out_of_band, introspection, nodes, exports, many):
        part(d)
with daemon(name="quit") as d:
    q = d.qmp()
    q("quit")
    q.wait_event("SHUTDOWN")
    assert d.process.wait(20) == 0
    d.process.terminate = lambda: None
