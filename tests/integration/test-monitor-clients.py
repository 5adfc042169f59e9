#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""Bad clients of the monitor: torn messages, endless ones, clients that never read, hundreds of them, gone in
the middle of a command - memory stays bounded, nothing is left open, and others do not notice."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time

from harness import BUILD, TMP, QmpError, daemon

MIB = 1 << 20
MEMORY_COUNTS = os.environ["RINGBLK_FLAVOUR"] == "plain"  # sanitizers keep what was freed


def memory(d, what="VmRSS"):
    with open(f"/proc/{d.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what)) * 1024


def until(holds, what):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def raw(d):
    """A connection on which nothing was read yet."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(d.qmp_path)
    return s


@contextlib.contextmanager
def nobody_notices(d, most):
    """Meanwhile another client works; afterwards no descriptor is left, and never was more than `most` bytes
    of memory used on top."""
    other = d.qmp()
    other("query-version")
    before, descriptors = memory(d), d.descriptors()
    yield other
    other.socket.settimeout(20)
    other("query-version")
    until(lambda: d.descriptors() == descriptors, "descriptors are left open")
    other.close()
    assert not MEMORY_COUNTS or memory(d, "VmHWM") - before < most, (before, memory(d, "VmHWM"))


def drink(s):
    """Read all that comes, so that nothing has to wait for us."""
    while s.recv(1 << 20):
        pass


def torn(d):
    """The client goes in the middle of its message, or of ours."""
    whole = b'{"execute": "query-commands", "id": {"a": [1, "\\u00e9"]}}'
    with nobody_notices(d, 32 * MIB):
        for i in range(len(whole) + 1):
            s = raw(d)
            s.sendall(b'{"execute": "qmp_capabilities"}' + whole[:i])
            if i % 3 == 0:
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            s.close()


def endless(d):
    """Errors, not memory, for what has no end; the client can go on after it."""
    pieces = {
        "braces": b"{" * 65536, "brackets": b"[[[[" * 16384, "spaces": b" " * 65536, "zeroes": b"\0" * 65536,
        "numbers": b"1" * 65536, "commas": b"[1,1,1,1" + b",1" * 32768, "noise": bytes(range(128, 256)) * 512,
    }
    for name, piece in pieces.items():
        with nobody_notices(d, 400 * MIB):
            s = raw(d)
            reader = threading.Thread(target=drink, args=(s,))
            reader.start()
            s.sendall(b'{"execute": "qmp_capabilities"}')
            for _ in range(1 if name in ("zeroes", "noise") else 16):  # each byte of these is answered
                s.sendall(piece)
            s.shutdown(socket.SHUT_WR)
            reader.join(60)
            assert not reader.is_alive(), f"{name}: no end of replies"
            s.close()
        print(f"  {name}: {memory(d) >> 20} MiB", flush=True)


def large(d):
    """100 MB in one string: refused once it is past the limit, which is one for each client."""
    with nobody_notices(d, 300 * MIB):
        q = d.qmp()
        before = memory(d)
        q.send(b'{"execute": "')
        for _ in range(100):
            q.send(b"x" * MIB)
        q.send(b'"}\n{"execute": "query-version", "id": 1}')
        replies = [q.reply()]
        while "id" not in replies[-1]:
            replies.append(q.reply())
        assert "limit exceeded" in replies[0]["error"]["desc"], replies
        assert "return" in replies[-1], replies[-1]
        if MEMORY_COUNTS:
            until(lambda: memory(d) < before + 16 * MIB, "the memory is not given back")
        q.close()


def deaf(d):
    """Clients that ask for much and read nothing: what waits for each is bounded, and its requests wait, too."""
    ask = b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 2000
    clients = 20
    with nobody_notices(d, clients * 8 * MIB) as other:
        sockets = [raw(d) for _ in range(clients)]
        for s in sockets:
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.send(ask)
        for i in range(50):  # events reach, or do not reach, them as well
            other.execute("blockdev-add", {"driver": "null-co", "node-name": f"n{i}"})
            other("blockdev-del", node_name=f"n{i}")
        # One of them begins to read: it gets all that it asked for.
        sockets[0].settimeout(60)
        f = sockets[0].makefile("rb")
        assert "QMP" in json.loads(f.readline())
        assert json.loads(f.readline()) == {"return": {}}
        for _ in range(20):
            assert len(json.loads(f.readline())["return"]) > 100
        f.close()
        for s in sockets:
            s.close()


def many(d):
    """300 clients at once get the same event and their own replies."""
    with nobody_notices(d, 300 * 256 * 1024) as other:
        clients = [d.qmp() for _ in range(300)]
        for i, q in enumerate(clients):
            q.send(json.dumps({"execute": "query-version", "id": i}))
        for i, q in enumerate(clients):
            assert q.reply()["id"] == i
        other.execute("blockdev-add", {"driver": "null-co", "node-name": "n", "size": MIB})
        other("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
        other.execute("block-export-add", {"type": "nbd", "id": "many", "node-name": "n"})
        other("block-export-del", id="many")
        for q in clients:
            assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "many"}
        other("nbd-server-stop")
        other("blockdev-del", node_name="n")
        for q in clients:
            q.close()


def gone_meanwhile(d):
    """Whoever leaves after asking gets no reply, but what he asked for is done, once and to its end."""
    with nobody_notices(d, 32 * MIB) as other:
        for i in range(100):
            s = raw(d)
            s.sendall(b'{"execute": "qmp_capabilities"}' + json.dumps({"execute": "blockdev-add", "arguments": {
                "driver": "null-co", "node-name": f"g{i}", "size": MIB}}).encode() + b'{"execute": "query-block"}' * 5)
            s.close()
        wanted = {f"g{i}" for i in range(100)}
        # One who has left before the daemon looked may have been cut off before the request was read.
        time.sleep(0.2)
        there = {n["node-name"] for n in other("query-named-block-nodes")}
        assert there <= wanted, there - wanted
        for name in sorted(wanted):
            try:
                other("blockdev-del", node_name=name)
            except QmpError as error:
                assert name not in there and "Failed to find node" in error.text, (name, error)
        assert other("query-named-block-nodes") == []


def together(d):
    """Two clients of one character device: each has its own negotiation, replies and ids."""
    with nobody_notices(d, 32 * MIB):
        a, b = d.qmp(), d.qmp(negotiate=False)
        for i in range(200):
            a.send(json.dumps({"execute": "query-version", "id": ["a", i]}))
            b.send(json.dumps({"execute": "query-version", "id": ["b", i]}))
        for i in range(200):
            reply = a.reply()
            assert reply["id"] == ["a", i] and "return" in reply, reply
            reply = b.reply()
            assert reply["id"] == ["b", i] and reply["error"]["class"] == "CommandNotFound", reply
        a.close()
        b("qmp_capabilities")
        b("query-version")
        b.close()


def listener(path, backlog=10):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(backlog)
    s.settimeout(60)
    return s


def a_peer_that_comes_and_goes():
    """reconnect=: a peer that hangs up at once, in the middle of the greeting, or never answers."""
    path = f"{TMP}/flapping"
    peer = listener(path)
    with daemon("--chardev", f"socket,id=c,path={path},reconnect=1", "--monitor", "c") as d:
        for read in (0, 10, 100000):
            s = peer.accept()[0]
            if read:
                s.recv(read)
            s.close()
        q = d.qmp()
        q("query-version")
        q.close()
        s = peer.accept()[0]
        s.settimeout(60)
        f = s.makefile("rwb")
        assert "QMP" in json.loads(f.readline())
        f.write(b'{"execute": "qmp_capabilities"}')
        f.flush()
        assert json.loads(f.readline()) == {"return": {}}
        f.close()
        s.close()
    peer.close()
    os.unlink(path)


def a_peer_that_never_accepts():
    """Its queue is full, so connecting to it takes for ever: that keeps nothing but this monitor waiting."""
    path = f"{TMP}/full"
    peer = listener(path, 0)
    queue = []
    with contextlib.suppress(BlockingIOError):
        while True:
            s = socket.socket(socket.AF_UNIX)
            queue.append(s)
            s.setblocking(False)
            s.connect(path)
    with daemon("--chardev", f"socket,id=c,path={path},reconnect=1", "--monitor", "c") as d:
        q = d.qmp()
        q("query-version")
        time.sleep(0.2)
        q.close()
    # It waits for the connection before it is up; a signal ends that.
    process = subprocess.Popen([f"{BUILD}/ringblkd", "--chardev", f"socket,id=c,path={path}", "--monitor", "c",
                                "--pidfile", f"{TMP}/full.pid"], stderr=subprocess.PIPE)
    try:
        time.sleep(0.5)
        assert process.poll() is None and not os.path.exists(f"{TMP}/full.pid")
        process.terminate()
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode in (0, -15) and "ERROR: " not in said, (process.returncode, said)
    finally:
        process.kill()
        process.communicate()
    for s in [*queue, peer]:
        s.close()
    os.unlink(path)


for part in (torn, endless, large, deaf, many, gone_meanwhile, together):
    began = time.monotonic()
    with daemon() as d:
        part(d)
    print(f"{part.__name__}: {time.monotonic() - began:.1f} s", flush=True)
a_peer_that_comes_and_goes()
a_peer_that_never_accepts()
