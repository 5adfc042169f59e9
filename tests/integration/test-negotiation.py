#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""The QMP channel beside qemu-storage-daemon: what is said before and after negotiation, every way in which
text is no command, ids, several clients at once, clients that leave in the middle."""

import contextlib
import json
import os
import socket
import time

import oracle
from harness import daemon, fails

GE, CNF = "GenericError", "CommandNotFound"
END = b'\n\xff\n{"execute":"qmp_capabilities","id":"end"}\n'

# Sent after negotiation, each on a connection of its own.
TEXTS = [
    b'{"execute":}', b"[]", b"1", b'"x"', b"null", b"true", b"{}", b"tru", b"}", b"]", b",", b":", b"nan", b"-", b"1.",
    b'{"execute":1}', b'{"execute":null}', b'{"execute":{}}', b'{"execute":""}', b'{"execute":"nope","id":"i"}',
    b'{"execute":"query-version"}', b"{'execute':'query-version'}", b'{"execute":"query-version","arguments":{}}',
    b'{"execute":"query-version","arguments":1}', b'{"execute":"query-version","arguments":[]}',
    b'{"execute":"query-version","arguments":null}', b'{"execute":"query-version","arguments":{"x":1},"id":2}',
    b'{"execute":"query-version","x":1,"id":3}', b'{"id":1}', b'{"execute":"blockdev-del","id":9}',
    b'{"execute":"blockdev-del","arguments":{"node-name":1},"id":[9]}', b'{"execute":"query-version",}',
    b'{"execute" "query-version"}', b'{"execute","query-version"}', b'{"exec":"query-version"}',
    b'{"execute":"query-version" "id":1}', b'{"execute":"query-version"]', b'["execute":"query-version"}',
    b'{"exec-oob":"query-version"}', b'{"execute":"query-version","exec-oob":"query-version"}',
    b'{"execute":"query-version","execute":"query-version"}', b'\xff{"execute":"query-version"}',
    b'{"execute":"query-version"}{"execute":"query-version","id":1}', b'\x01{"execute":"query-version"}', b"\x00", b"\x7f", b"#", b"'",
    b'{"execute":"query-version"} \t\r\n {"execute":\n"query-version"\r\n,"id":1}', b'{"execute":"qmp_capabilities"}',
    b'{"execute":"query-version","id":"\\ud800"}', b'{"execute":"query-version","id":"\\q"}',
    b'{"execute":"query-version","id":"\\u0000"}',
    b"[" * 100, b'{"execute":"query-version","id":1e3x}',
    b'{"execute":"query-named-block-nodes","arguments":{"flat":"yes"}}', b'{"execute":"x-none","arguments":{"a":{"b":[]}}}',
    b'{"execute":"QUERY-VERSION"}', b'{"execute":"query_version"}', b'{"execute":" query-version"}',
    b'{"execute":"block-export-add","arguments":{"type":"nbd","id":{}}}',
]
IDS = ["1", "-1", "0", "1.5", "1e3", '"x"', "true", "null", "[]", "{}", '{"a":[1,{"b":null}]}', '"\\u00e9\\ud83d\\ude00"',
       '"\u00e9\U0001f600"', "9223372036854775807", "-9223372036854775808", "18446744073709551615", '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
       '"' + "long" * 20000 + '"']


def replies(q, text):
    """All that comes back, without what a command returns."""
    q.send(text + END)
    found = []
    while not found or found[-1].get("id") != "end":
        found.append(q.reply())
        if "return" in found[-1]:
            found[-1]["return"] = 0
    return found


def same_text():
    with oracle.pair() as p:
        p.close()  # the reference has one client at a time
        for text in TEXTS:
            mine, reference = (ask(d, text) for d in p.daemons)
            assert mine == reference, (text[:200], mine[:5], reference[:5])
        for text in TEXTS[::3]:
            mine, reference = (ask(d, text, False) for d in p.daemons)
            assert mine == reference, ("before negotiation", text[:200], mine[:5], reference[:5])
        p.ours, p.theirs = (d.qmp() for d in p.daemons)


def ask(d, text, negotiate=True):
    """The replies, of several parse errors in a row only the first, and without the text in its quotes: how
    much of the rest is taken for one more wrong word is nobody's interface."""
    with contextlib.closing(d.qmp(negotiate)) as q:
        found = replies(q, text)
    kept = []
    for r in found:
        desc = r.get("error", {}).get("desc", "")
        if desc.startswith("JSON parse error, stray"):
            r["error"]["desc"] = "JSON parse error, stray"
        if not (desc.startswith("JSON parse error") and kept and is_parse_error(kept[-1])):
            kept.append(r)
    return kept


def is_parse_error(reply):
    return reply.get("error", {}).get("desc", "").startswith("JSON parse error")


def ids(d):
    """What was sent comes back as it was, on success and on error."""
    with contextlib.closing(d.qmp()) as q:
        for text in IDS:
            for command in ("query-version", "nope", "blockdev-del"):
                q.send(f'{{"execute":"{command}","id":{text}}}\n'.encode())
                reply = q.reply()
                assert "id" in reply and reply["id"] == json.loads(text), (text[:50], reply)
        q.send('{"execute":"query-version"}')
        assert "id" not in q.reply()


def output_is_ascii(d):
    with contextlib.closing(d.qmp()) as q:
        q.send('{"execute":"query-version","id":"é\U0001f600\u0001"}'.replace("\u0001", "\\u0001").encode())
        line = q.file.readline()
        assert line.endswith(b"\r\n") and all(32 <= c < 127 for c in line[:-2]), line
        assert b"\\u00" in line.lower() and json.loads(line)["id"] == "é\U0001f600\u0001"


def before_negotiation(d):
    """Nothing is done and no event is told."""
    with contextlib.closing(d.qmp()) as q, contextlib.closing(d.qmp(negotiate=False)) as silent:
        assert silent.greeting["QMP"]["version"]["qemu"].keys() == {"major", "minor", "micro"}
        for command, arguments in (("query-version", {}), ("quit", {}), ("nope", {}),
                                   ("blockdev-add", {"driver": "null-co", "node-name": "n"})):
            fails(CNF, "Expecting capabilities negotiation with 'qmp_capabilities'", silent.execute, command, arguments)
        for enable in (["nope"], ["oob", "nope"], "oob", [1], [None]):
            fails(GE, "...", silent, "qmp_capabilities", enable=enable)
        assert q("query-named-block-nodes") == []
        q("blockdev-add", driver="null-co", node_name="n")
        q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
        q("block-export-add", type="nbd", id="e", node_name="n")
        q("block-export-del", id="e")
        q.wait_event("BLOCK_EXPORT_DELETED")
        silent("qmp_capabilities")
        silent("query-version")
        assert silent.events == [], "an event was told before negotiation"
        q("block-export-add", type="nbd", id="e", node_name="n")
        q("block-export-del", id="e")
        event = silent.wait_event("BLOCK_EXPORT_DELETED")
        assert event["data"] == {"id": "e"} and event["timestamp"].keys() == {"seconds", "microseconds"}, event
        assert abs(event["timestamp"]["seconds"] - time.time()) < 100
        q("nbd-server-stop")
        q("blockdev-del", node_name="n")


def several_clients(d):
    """Each has its own negotiation, ids and order; all see the same nodes."""
    clients = [d.qmp() for _ in range(20)]
    for i, q in enumerate(clients):
        q.execute("blockdev-add", {"driver": "null-co", "node-name": f"n{i}"})
    for q in clients:
        q.send("".join(f'{{"execute":"query-version","id":{i}}}' for i in range(200)))
    for q in clients:
        assert [q.reply()["id"] for _ in range(200)] == list(range(200))
        assert len(q("query-named-block-nodes")) == 20
    for i, q in enumerate(clients):
        q("blockdev-del", node_name=f"n{19 - i}")
        q.close()


def null_characters(d):
    """A name does not end where a null character is."""
    with contextlib.closing(d.qmp()) as q:
        fails(CNF, "The command query-version\\0... has not been found", q.execute, "query-version\0", {})
        fails(CNF, "The command quit\\0... has not been found", q.execute, "quit\0x", {})
        fails(CNF, "The command \\0... has not been found", q.execute, "\0", {})
        q.send('{"execute\\u0000x":"query-version"}')
        assert q.reply()["error"]["class"] == GE
        q("query-version")


def in_pieces(d):
    text = '{"execute":"query-version","id":"piece by \\u00e9 piece"}'.encode()
    with contextlib.closing(d.qmp()) as q:
        for i in range(len(text)):
            q.send(text[i:i + 1])
        assert q.reply()["id"] == "piece by é piece"
        q.send('{"execute":"query-version","id":"' + "x" * (1 << 20) + '"}')
        assert len(q.reply()["id"]) == 1 << 20


def too_deep(d):
    with contextlib.closing(d.qmp()) as q:
        for text in (b'{"id":' + b"[" * 1025 + b"]" * 1025 + b"}", b'{"id":' + b'{"a":' * 1025, b"[" * 100000):
            found = replies(q, text)
            assert found[0]["error"] == {"class": GE, "desc": "JSON nesting depth limit exceeded"}, found
        deep = "[" * 500 + "]" * 500
        q.send('{"execute":"query-version","id":' + deep + "}")
        assert json.dumps(q.reply()["id"]) == deep


def too_large(d):
    """More than 64 MiB, or without an end: refused, and the connection goes on."""
    with contextlib.closing(d.qmp()) as q:
        q.socket.settimeout(60)
        text = b'"' + b"x" * ((64 << 20) + 100) + b'"'
        q.send(b'{"execute":"query-version","id":')
        q.send(text)
        q.send(b"}" + END)
        while q.reply().get("id") != "end":
            pass
        q("query-version")


def leaving(d):
    """Clients that go at any byte, with replies on their way, or never read."""
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        text = b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{"execute":"query-commands"}'
        for n in range(0, len(text), 3):
            for ending in (None, socket.SHUT_WR, socket.SHUT_RDWR):
                s = socket.socket(socket.AF_UNIX)
                s.connect(d.qmp_path)
                s.sendall(text[:n])
                if ending is not None:
                    s.shutdown(ending)
                s.close()
        deaf = []
        for _ in range(4):
            s = socket.socket(socket.AF_UNIX)
            s.connect(d.qmp_path)
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.send(b'{"execute":"qmp_capabilities"}')
                for _ in range(2000):
                    s.send(b'{"execute":"query-qmp-schema"}')
            deaf.append(s)
        for _ in range(20):
            q("query-version")
        for s in deaf:
            s.close()
        deadline = time.monotonic() + 30
        while d.descriptors() != before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert d.descriptors() == before, (before, d.descriptors())


def quit_with_clients():
    """The reply to quit comes, or the end; all clients are told; what was asked before is answered."""
    for _ in range(5):
        with daemon(name="quit") as d:
            q, other = d.qmp(), d.qmp()
            q.send('{"execute":"query-version","id":1}{"execute":"quit","id":2}')
            assert q.reply()["id"] == 1
            with contextlib.suppress(EOFError):
                assert q.reply() == {"return": {}, "id": 2}
            for client in (q, other):
                event = client.wait_event("SHUTDOWN")
                assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}, event
            assert d.process.wait(60) == 0
            q.close(), other.close()
            assert not os.path.exists(d.qmp_path)
            d.process.terminate = lambda: None


def main():
    if oracle.there():
        same_text()
    else:
        print("same_text: qemu-storage-daemon is not here")
    with daemon() as d:
        for test in (ids, output_is_ascii, before_negotiation, several_clients, null_characters, in_pieces, too_deep, too_large, leaving):
            began = time.monotonic()
            test(d)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    quit_with_clients()


if __name__ == "__main__":
    main()
