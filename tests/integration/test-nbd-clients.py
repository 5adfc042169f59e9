#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: builds=plain,address,thread
"""Clients that go away at every stage of a conversation, that say nothing, or that talk nonsense: the
daemon stays, other clients are served, and nothing is left of those that went."""

import os
import random
import socket
import struct
import time

from harness import TMP, daemon, receive

SEED = int(os.environ.get("RINGBLK_SEED", "1"))
NAME = b"x"


def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def request(kind, offset=0, length=0, data=b"", flags=0):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length) + data


GO = struct.pack(">I", len(NAME)) + NAME + struct.pack(">HH", 1, 3)
META = struct.pack(">I", len(NAME)) + NAME + struct.pack(">II", 1, 15) + b"base:allocation"
CONVERSATION = (
    struct.pack(">I", 3) + option(3) + option(8) + option(9, META) + option(10, META) + option(6, GO)
    + option(99, b"?") + option(7, GO)
    + request(0, 0, 4096) + request(1, 4096, 4096, b"w" * 4096) + request(0, 0, 1 << 20)
    + request(1, 1 << 20, 300000, b"W" * 300000) + request(7, 0, 1 << 20) + request(6, 8192, 65536)
    + request(4, 8192, 4096) + request(3) + request(5, 0, 65536) + request(2))
CUTS = sorted(set(range(0, 330)) | {0x200 * i for i in range(1, 20)} | {len(CONVERSATION) - 1,
                                                                        len(CONVERSATION)})


def connect(d):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(d.nbd_path)
    return s


def drain(s):
    """Read until the server hangs up (the client closed its side)."""
    try:
        while s.recv(1 << 20):
            pass
    except (ConnectionError, TimeoutError):
        pass


def works(d):
    """A good client, from the greeting to the end."""
    s = connect(d)
    assert receive(s, 18)[:16] == b"NBDMAGICIHAVEOPT"
    s.sendall(struct.pack(">I", 3) + option(1, NAME))
    size, _ = struct.unpack(">QH", receive(s, 10))
    assert size == 4 << 20
    s.sendall(request(0, 0, 512))
    assert len(receive(s, 16 + 512)) == 16 + 512
    s.sendall(request(2))
    assert s.recv(1) == b""
    s.close()


def cut_short(d):
    for n in CUTS:
        for polite in (True, False):
            s = connect(d)
            s.sendall(CONVERSATION[:n])
            if polite:
                s.shutdown(socket.SHUT_WR)
                drain(s)
            s.close()
    works(d)


def nonsense(d, rng):
    for _ in range(300):
        s = connect(d)
        text = bytearray(CONVERSATION[:rng.randrange(4, 5000)])
        for _ in range(rng.randrange(1, 8)):
            at = rng.randrange(len(text))
            text[at:at + rng.choice((1, 4, 8))] = rng.choice((
                bytes([rng.randrange(256)]), b"\xff" * 4, b"\0" * 8, struct.pack(">I", 0x7fffffff)))
        try:
            s.sendall(bytes(text))
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        drain(s)
        s.close()
    works(d)


def slow_readers(d):
    """Clients that ask for much and read nothing do not hold up the others."""
    greedy = []
    for _ in range(8):
        s = connect(d)
        s.sendall(struct.pack(">I", 3) + option(1, NAME))
        s.setblocking(False)
        try:
            while True:
                s.send(request(0, 0, 1 << 20) * 64)
        except BlockingIOError:
            pass
        greedy.append(s)
    began = time.monotonic()
    works(d)
    assert time.monotonic() - began < 20
    for s in greedy:
        s.close()


def hard_removal(d, q):
    """An export that goes, and a server that stops, with clients at every stage."""
    clients = []
    for n in (0, 3, 20, 330, 4000, 5000):
        s = connect(d)
        s.sendall(CONVERSATION[:n])
        clients.append(s)
    q("block-export-del", id="e", mode="hard")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q("nbd-server-stop")
    for s in clients:
        drain(s)
        s.close()


with open(f"{TMP}/image", "wb") as f:
    f.truncate(4 << 20)
with daemon("--blockdev", f"driver=file,node-name=f,filename={TMP}/image",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=e,node-name=f,name=x,writable=on") as d:
    q = d.qmp()
    at_once = [connect(d) for _ in range(4)]
    for s in at_once:  # every ring gets a client, and so has its descriptors from here on
        s.sendall(struct.pack(">I", 3) + option(1, NAME) + request(0, 0, 512))
        assert len(receive(s, 18 + 10 + 16 + 512)) == 18 + 10 + 16 + 512
    for s in at_once:
        s.close()
    works(d)
    before = d.settled()
    cut_short(d)
    nonsense(d, random.Random(SEED))
    slow_readers(d)
    assert d.settled(before) == before, (before, d.descriptors())
    hard_removal(d, q)
    q.close()
