#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""The NBD protocol, option by option and command by command, in all three styles of replies: what must
work, every way to be wrong, and the mistakes that brought down other servers."""

import contextlib
import socket
import struct
import threading
import time

import nbdclient as nbd
from harness import TMP, daemon, receive
from nbdclient import (CACHE, DF, DISC, EINVAL, ENOSPC, ENOTSUP, EPERM, FAST_ZERO, FLUSH, FUA, NO_HOLE,
                       READ, REQ_ONE, STATUS, TRIM, WRITE, ZERO, Client, HungUp, connect)

SIZE = 40 << 20
MAX = 32 << 20
STYLES = ("simple", "structured", "extended")


def client(d, **options):
    return connect(d.nbd_path, **options)


def hello(d, flags=3):
    return Client(d.nbd_path, flags)


def works(d):
    with client(d) as c:
        c.read(0, 512)
        c.end()


# ---- negotiation ----

def greeting(d):
    with hello(d) as c:
        assert c.greeting == (b"NBDMAGIC", b"IHAVEOPT", 3), c.greeting
    for flags in (1 << 2, 1 << 31, 0xffffffff):
        with hello(d, flags) as c:
            assert c.ended(), f"client flags {flags:x} are let in"
    with hello(d, 0) as c:  # a client from before options had replies
        c.send_option(nbd.OPT_LIST)
        assert c.ended()
    with hello(d, 0) as c:
        c.export_name("x", zeroes=True)
        assert c.read(0, 512) == bytes(512)
    with hello(d) as c:
        c.put(b"IHAVEOPX" + bytes(8))
        assert c.ended()


def export_name(d):
    for flags, zeroes in ((3, False), (1, True)):
        with hello(d, flags) as c:
            c.export_name("x", zeroes)
            assert c.size == SIZE and c.flags & nbd.HAS_FLAGS and not c.flags & nbd.SEND_DF
            assert c.read(0, 512) == bytes(512)
            c.end()
    for name in ("", "nope", "X", "x\0", "n" * 4097):
        with hello(d) as c:
            c.send_option(nbd.OPT_EXPORT_NAME, name.encode())
            assert c.ended(), name
    with hello(d) as c:
        c.agree(nbd.OPT_EXTENDED)
        c.send_option(nbd.OPT_EXPORT_NAME, b"x")
        assert c.ended(), "EXPORT_NAME cannot follow extended headers"
    with hello(d) as c:
        c.agree(nbd.OPT_STRUCTURED)
        c.export_name("x")
        assert c.flags & nbd.SEND_DF
        assert c.request(READ, 0, 512).chunks


def abort(d):
    for data in (b"", b"why not"):
        with hello(d) as c:
            assert c.option(nbd.OPT_ABORT, data) == [(nbd.REP_ACK, b"")]
            assert c.ended()


def listing(d):
    with hello(d) as c:
        replies = c.option(nbd.OPT_LIST)
        assert [r[0] for r in replies] == [nbd.REP_SERVER] * 3 + [nbd.REP_ACK], replies
        found = {}
        for _, data in replies[:-1]:
            (n,) = struct.unpack(">I", data[:4])
            found[data[4:4 + n].decode()] = data[4 + n:].decode()
        assert found == {"x": "all about x", "ro": "", "n": ""}, found
        assert c.outcome(nbd.OPT_LIST, b"?") == nbd.ERR_INVALID
        assert c.outcome(nbd.OPT_STARTTLS) in (nbd.ERR_UNSUP, nbd.ERR_POLICY)
        for number in (0, 4, 12, 0xffff, 0xffffffff):
            assert c.outcome(number, b"data") == nbd.ERR_UNSUP, number
        c.go("x")  # nothing of it has spoilt the negotiation
        assert c.read(0, 1) == b"\0"


def info_and_go(d):
    with hello(d) as c:
        for number in (nbd.OPT_INFO, nbd.OPT_GO):
            assert c.outcome(number, nbd.names("nope")) == nbd.ERR_UNKNOWN
            assert c.outcome(number, nbd.names("x" * 4097)) == nbd.ERR_INVALID
            for bad in (b"", b"\0\0\0\1", nbd.text("x"), nbd.text("x") + b"\0\1", nbd.names("x") + b"\0",
                        struct.pack(">I", 0xffffffff) + b"x\0\0", nbd.text("x") + b"\xff\xff\0\3"):
                assert c.outcome(number, bad) == nbd.ERR_INVALID, bad
        found = c.infos(nbd.OPT_INFO, "x", (nbd.INFO_NAME, nbd.INFO_DESCRIPTION, nbd.INFO_BLOCK_SIZE, 77))
        assert found[nbd.INFO_NAME] == b"x" and found[nbd.INFO_DESCRIPTION] == b"all about x", found
        minimum, preferred, maximum = struct.unpack(">III", found[nbd.INFO_BLOCK_SIZE])
        assert (minimum, preferred, maximum) == (1, 4096, MAX)
        assert c.size == SIZE and set(found) == {0, 1, 2, 3}, found
        wanted = (nbd.HAS_FLAGS | nbd.SEND_FLUSH | nbd.SEND_FUA | nbd.SEND_TRIM | nbd.SEND_ZEROES
                  | nbd.MULTI_CONN | nbd.SEND_CACHE | nbd.SEND_FAST_ZERO)
        assert c.flags == wanted, bin(c.flags)
        c.infos(nbd.OPT_INFO, "ro")
        assert c.flags & nbd.READ_ONLY and not c.flags & (nbd.SEND_TRIM | nbd.SEND_ZEROES
                                                          | nbd.SEND_FAST_ZERO), bin(c.flags)
        assert nbd.INFO_NAME not in c.infos(nbd.OPT_INFO, "ro")
        c.agree(nbd.OPT_STRUCTURED)
        c.go("x")
        assert c.flags == wanted | nbd.SEND_DF
        assert c.read(0, 512) == bytes(512)


def reply_styles(d):
    with hello(d) as c:
        for number in (nbd.OPT_STRUCTURED, nbd.OPT_EXTENDED):
            assert c.outcome(number, b"?") == nbd.ERR_INVALID
        c.agree(nbd.OPT_STRUCTURED)
        assert c.outcome(nbd.OPT_STRUCTURED) == nbd.ERR_INVALID
        c.agree(nbd.OPT_EXTENDED)
        assert c.outcome(nbd.OPT_EXTENDED) == nbd.ERR_INVALID
        assert c.outcome(nbd.OPT_STRUCTURED) == nbd.ERR_EXT
        c.go("x")
        assert c.read(0, 512) == bytes(512)


def meta_contexts(d):
    allocation, depth = "base:allocation", "qemu:allocation-depth"
    with hello(d) as c:
        for number in (nbd.OPT_LIST_META, nbd.OPT_SET_META):
            assert c.outcome(number, nbd.queries("x", allocation)) == nbd.ERR_INVALID, "before structured"
        c.agree(nbd.OPT_STRUCTURED)
        assert set(c.meta(nbd.OPT_LIST_META, "x")) == {allocation, depth}
        assert set(c.meta(nbd.OPT_LIST_META, "n")) == {allocation}
        for asked, found in ((["base:"], {allocation}), (["qemu:"], {depth}), ([allocation], {allocation}),
                             (["qemu:allocation-depth", "base:"], {allocation, depth}),
                             (["qemu:dirty-bitmap:"], set()), (["nope:"], set()), ([""], set()),
                             ([allocation, allocation], {allocation}), (["base:alloc"], set())):
            assert set(c.meta(nbd.OPT_LIST_META, "x", *asked)) == found, asked
        assert set(c.meta(nbd.OPT_LIST_META, "n", "qemu:")) == set()
        for asked, found in (([], set()), (["base:"], set()), (["qemu:"], set()),
                             ([allocation, "x:y"], {allocation}), ([depth], {depth})):
            assert set(c.meta(nbd.OPT_SET_META, "x", *asked)) == found, asked
        both = c.meta(nbd.OPT_SET_META, "x", allocation, depth)
        assert len(set(both.values())) == 2, both
        for number in (nbd.OPT_LIST_META, nbd.OPT_SET_META):
            assert c.outcome(number, nbd.queries("nope", allocation)) == nbd.ERR_UNKNOWN
            for bad in (b"", nbd.text("x"), nbd.text("x") + b"\0\0\0\1", nbd.queries("x", allocation)[:-1],
                        nbd.queries("x", allocation) + b"?", nbd.text("x") + b"\xff\xff\xff\xff",
                        nbd.text("x") + b"\0\0\0\1\xff\xff\xff\xff"):
                assert c.outcome(number, bad) in (nbd.ERR_INVALID, nbd.ERR_TOO_BIG), bad
            assert c.outcome(number, nbd.queries("x", *["a:b"] * 33)) == nbd.ERR_TOO_BIG
        # The last try failed: what was chosen before is gone.
        c.go("x")
        assert c.error(STATUS, 0, 4096) == EINVAL
        assert c.read(0, 512) == bytes(512)
    with hello(d) as c:  # chosen for one export, gone to another
        c.agree(nbd.OPT_STRUCTURED)
        c.meta(nbd.OPT_SET_META, "x", allocation)
        c.go("n")
        assert c.error(STATUS, 0, 4096) == EINVAL
    with hello(d) as c:  # not chosen at all
        c.agree(nbd.OPT_STRUCTURED)
        c.go("x")
        assert c.error(STATUS, 0, 4096) == EINVAL
    with hello(d) as c:  # a refused GO changes nothing
        c.agree(nbd.OPT_STRUCTURED)
        c.meta(nbd.OPT_SET_META, "x", allocation)
        assert c.outcome(nbd.OPT_GO, nbd.names("nope")) == nbd.ERR_UNKNOWN
        c.go("x")
        assert c.request(STATUS, 0, 4096).status


def long_options(d):
    """Up to 64 KiB an option is looked at, up to 32 MiB it is thrown away, then the client is."""
    with hello(d) as c:
        assert c.outcome(99, bytes(64 << 10)) == nbd.ERR_UNSUP
        assert c.outcome(99, bytes((64 << 10) + 1)) == nbd.ERR_TOO_BIG
        assert c.outcome(nbd.OPT_GO, bytes(1 << 20)) == nbd.ERR_TOO_BIG
        assert c.outcome(nbd.OPT_LIST, bytes(MAX)) == nbd.ERR_TOO_BIG
        c.go("x")
        assert c.read(0, 1) == b"\0"
    for length in (MAX + 1, 0x7fffffff, 0xffffffff):
        with hello(d) as c:
            c.send_option(nbd.OPT_LIST, length=length)
            assert c.ended(), length
    with hello(d) as c:
        with contextlib.suppress(HungUp):
            for _ in range(5000):
                c.option(99)
            raise AssertionError("a client may send options for ever")


# ---- transmission ----

def reads(d):
    for style in STYLES:
        with client(d, style=style) as c:
            c.write(0, b"0123456789" * 1000)
            for offset, length in ((0, 1), (3, 1), (511, 2), (4095, 3), (1, 9999), (0, 10000)):
                assert c.read(offset, length) == (b"0123456789" * 1000)[offset:offset + length], offset
            assert c.read(SIZE - 1, 1) == b"\0" and c.read(SIZE, 0) == b"" and c.read(0, 0) == b""
            assert c.read(0, MAX)[:10000] == b"0123456789" * 1000
            for offset, length in ((0, MAX + 1), (SIZE, 1), (SIZE - 1, 2), (SIZE + 1, 0), (1 << 63, 1),
                                   ((1 << 64) - 1, 1), ((1 << 64) - 512, 512), ((1 << 64) - 1, MAX),
                                   (0, 0xffffffff)):
                assert c.error(READ, offset, length) == EINVAL, (style, offset, length)
            if style == "simple":
                assert c.error(READ, 0, 512, flags=DF) == EINVAL, "DF was never offered"
            else:
                reply = c.request(READ, 0, 10000, flags=DF)
                assert len(reply.chunks) == 1 and reply.chunks[0][:2] == (1, 1), reply.chunks[0][:2]
                for length in (65536, 1 << 20, MAX):
                    reply = c.request(READ, 0, length, flags=DF)
                    assert reply.error == 0 and len(reply.data) == length and len(reply.chunks) == 1
            assert c.read(0, 10, flags=FUA) == b"0123456789"
            c.write(0, bytes(10000))
            c.end()


def writes(d):
    for style in STYLES:
        with client(d, style=style) as c:
            for offset, data in ((0, b"a"), (511, b"bc"), (4095, b"def"), (SIZE - 1, b"z"),
                                 (1 << 20, b"l" * 300001), (2 << 20, b"M" * (8 << 20))):
                c.write(offset, data, FUA if offset == 511 else 0)
                assert c.read(offset, len(data)) == data
            assert c.error(WRITE, 8, data=b"") == 0 and c.error(WRITE, SIZE, data=b"") == 0
            # Refused writes: the payload is read all the same, and the file is as it was.
            for offset, data in ((SIZE - 1, b"no"), (SIZE, b"n"), (1 << 63, b"n" * 5000),
                                 ((1 << 64) - 1, b"no"), (SIZE, b"n" * MAX)):
                assert c.error(WRITE, offset, data=data) == ENOSPC, (style, offset)
            for flags in (NO_HOLE, DF, REQ_ONE, FAST_ZERO, 1 << 6, 1 << 15):
                assert c.error(WRITE, 0, data=b"n" * 70000, flags=flags) == EINVAL, (style, flags)
            assert c.read(0, 2) == b"a\0" and c.read(SIZE - 1, 1) == b"z"
            c.write(0, bytes(MAX))
            c.write(MAX, bytes(SIZE - MAX))
            assert c.read(0, MAX) == bytes(MAX)
            c.end()
        with client(d, style=style) as c:  # more than the limit: not read, not kept
            with contextlib.suppress(HungUp):
                c.put(struct.pack(">IHHQQQ", 0x21e41c71, nbd.PAYLOAD_LEN, WRITE, 1, 0, MAX + 1)
                      if style == "extended" else struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, MAX + 1))
                assert c.ended()


def flushes(d):
    for style in STYLES:
        with client(d, style=style) as c:
            assert c.error(FLUSH) == 0 and c.error(FLUSH, flags=FUA) == 0
            assert c.error(FLUSH, 1, 0) == EINVAL and c.error(FLUSH, 0, 1) == EINVAL
            assert c.error(FLUSH, flags=NO_HOLE) == EINVAL
            c.end()


def zeroes_and_trim(d):
    for style in STYLES:
        with client(d, style=style) as c:
            for kind, flags in ((ZERO, 0), (ZERO, NO_HOLE), (ZERO, FUA), (ZERO, FAST_ZERO), (TRIM, 0),
                                (TRIM, FUA)):
                c.write(0, b"q" * 20000)
                error = c.error(kind, 4096, 8192, flags=flags)
                assert error in ((0, ENOTSUP) if flags & FAST_ZERO else (0,)), (kind, flags, error)
                data = c.read(0, 20000)
                assert data[:4096] + data[12288:] == b"q" * (20000 - 8192)
                if kind == ZERO and not error:
                    assert data[4096:12288] == bytes(8192), (kind, flags)
            c.write(0, b"q" * 20000)
            assert c.error(ZERO, 1, 4999) == 0
            assert c.read(0, 20000) == b"q" + bytes(4999) + b"q" * 15000
            for kind, beyond in ((ZERO, ENOSPC), (TRIM, EINVAL), (CACHE, EINVAL)):
                assert c.error(kind, 0, 0) == 0 and c.error(kind, SIZE, 0) == 0
                assert c.error(kind, SIZE - 512, 512) == 0
                for offset, length in ((SIZE, 1), (SIZE - 1, 2), ((1 << 64) - 1, 1), (1 << 63, 4096),
                                       (0, 0xffffffff)):
                    assert c.error(kind, offset, length) == beyond, (kind, offset, length)
                assert c.error(kind, 0, 512, flags=DF) == EINVAL
            assert c.error(ZERO, 0, SIZE) == 0, "more than 32 MiB may be zeroed at once"
            assert c.error(TRIM, 0, SIZE) == 0
            assert c.error(CACHE, 0, min(SIZE, MAX)) == 0
            assert SIZE <= MAX or c.error(CACHE, 0, MAX + 512) == EINVAL
            if style == "extended":
                assert c.error(ZERO, 0, 1 << 40) == ENOSPC and c.error(TRIM, 0, 1 << 63) == EINVAL
            c.end()


def fast_zero(d):
    """Fast, or refused at once; and never refused for that without the flag."""
    with client(d, name="n") as c:
        assert c.error(ZERO, 0, 1 << 20, flags=FAST_ZERO) in (0, ENOTSUP)
        assert c.error(ZERO, 0, 1 << 20) == 0


def read_only(d):
    for style in STYLES:
        with client(d, name="ro", style=style) as c:
            for size in (1, 512, 70000, 300000, MAX):
                assert c.error(WRITE, 0, data=b"n" * size) == EPERM, (style, size)
            assert c.error(ZERO, 0, 512) == EPERM and c.error(TRIM, 0, 512) == EPERM
            assert c.error(WRITE, SIZE, data=b"n") in (EPERM, ENOSPC)
            assert c.error(FLUSH) == 0 and c.read(0, 512) == bytes(512)
            c.end()


def unknown_requests(d):
    for style in STYLES:
        with client(d, style=style) as c:
            for kind in (8, 9, 100, 0xffff):
                assert c.error(kind, 0, 512) == EINVAL
            for kind in (READ, CACHE, ZERO, TRIM, FLUSH):
                assert c.error(kind, flags=1 << 15) == EINVAL, kind
            assert c.error(CACHE, 0, 512, flags=1 << 6) == EINVAL
            assert c.read(0, 512) == bytes(512)
            if style == "extended":  # a payload where none belongs is read and refused
                c.put(struct.pack(">IHHQQQ", 0x21e41c71, nbd.PAYLOAD_LEN, READ, 5, 0, 5000) + bytes(5000))
                assert c.take(READ, 5, 0, 5000).error == EINVAL
            else:
                assert c.error(READ, 0, 512, flags=nbd.PAYLOAD_LEN) == EINVAL
            c.put(struct.pack(">I", 0x25609514) + bytes(28))
            assert c.ended(), "an unknown magic number"
    for style in ("simple", "extended"):  # the header of the other style
        with client(d, style=style) as c:
            c.style = "extended" if style == "simple" else "simple"
            c.send(READ, 0, 512)
            c.socket.shutdown(socket.SHUT_WR)
            assert c.ended()


def block_status(d):
    contexts = ("base:allocation", "qemu:allocation-depth")
    for style in ("structured", "extended"):
        with client(d, style=style, contexts=contexts) as c:
            ids = [c.contexts[n] for n in contexts]
            assert c.error(TRIM, 0, SIZE) == 0 and c.error(ZERO, 0, SIZE) == 0
            c.write(1 << 20, b"d" * (1 << 20))
            c.write(4 << 20, b"d" * (1 << 20))
            reply = c.request(STATUS, 0, SIZE)
            assert set(reply.status) == set(ids) and len(reply.chunks) == 2, reply.status
            assert [f & 1 for _, f, _ in reply.chunks] == [0, 1]
            assert {k for k, _, _ in reply.chunks} == {6 if style == "extended" else 5}
            extents = reply.status[ids[0]]
            assert sum(n for n, _ in extents) == SIZE and extents[:5] == [
                (1 << 20, 3), (1 << 20, 0), (2 << 20, 3), (1 << 20, 0), (SIZE - (5 << 20), 3)], extents
            assert all(a[1] != b[1] for a, b in zip(extents, extents[1:])), "two that could be one"
            assert sum(n for n, _ in reply.status[ids[1]]) <= SIZE
            for offset, length in ((0, 4096), (0, SIZE), (1 << 20, 100), ((1 << 20) + 1, SIZE // 2),
                                   (SIZE - 1, 1)):
                reply = c.request(STATUS, offset, length, flags=REQ_ONE)
                for extents in reply.status.values():
                    assert len(extents) == 1 and 0 < extents[0][0] <= length, (offset, length, extents)
                assert len(reply.status) == 2
            for offset, length in ((0, 0), (SIZE, 1), (SIZE, 0), (SIZE - 1, 2), ((1 << 64) - 1, 1),
                                   (1 << 63, 4096), (0, 0xffffffff), (SIZE - 512, 0xfffffe00)):
                assert c.error(STATUS, offset, length) == EINVAL, (style, offset, length)
            for flags in (NO_HOLE, DF, FAST_ZERO, 1 << 15):
                assert c.error(STATUS, 0, 4096, flags=flags) == EINVAL
            assert c.error(STATUS, 0, 4096, flags=FUA) == 0
            c.write(1 << 20, bytes(4 << 20))
            assert c.error(TRIM, 0, SIZE) == 0
            c.end()
    with client(d, style="simple") as c:
        assert c.error(STATUS, 0, 4096) == EINVAL
        assert c.read(0, 1) == b"\0"


def huge(d):
    """Beyond 4 GiB: one extent of 32 bits is not enough, one of 64 is."""
    with client(d, name="n", contexts=("base:allocation",)) as c:
        assert c.size == 1 << 45
        (extents,) = c.request(STATUS, 0, 0xffffffff).status.values()
        assert extents[0][0] % 512 == 0 and extents[0][0] < 1 << 32 and extents[0][1] & 1, extents
        assert c.error(ZERO, (1 << 45) - 0xffffffff, 0xffffffff) == 0
        assert c.error(ZERO, (1 << 45) - 0xffffffff, 0xffffffff, flags=FUA) == 0
    with client(d, name="n", style="extended", contexts=("base:allocation",)) as c:
        (extents,) = c.request(STATUS, 0, 1 << 45).status.values()
        assert extents[0][0] > 1 << 32, extents
        assert c.error(STATUS, 0, (1 << 45) + 1) == EINVAL
        assert c.error(ZERO, 0, 1 << 45) == 0 and c.error(TRIM, 0, 1 << 45) == 0
        assert c.error(READ, 0, 1 << 45) == EINVAL


def pipeline(d):
    """Many at once, in any order, each answered once and with its own bytes."""
    for style in STYLES:
        with client(d, style=style) as c:
            for i in range(64):
                c.write(i * 4096, bytes([i]) * 4096)
            asked = {c.send(READ, i * 4096, 4096): i for i in list(range(64)) * 8}
            sizes = {"simple": 16, "structured": 28, "extended": 40}[style] + 4096
            for _ in range(len(asked)):
                answer = c.get(sizes)
                at = 8
                (cookie,) = struct.unpack(">Q", answer[at:at + 8])
                i = asked.pop(cookie)
                assert answer[-4096:] == bytes([i]) * 4096, (style, i)
            assert not asked
            c.write(0, bytes(64 * 4096))
            c.end()


def disconnect(d):
    """DISC: what is under way is finished and answered, what comes after is not looked at."""
    with client(d) as c:
        cookies = [c.send(WRITE, i << 20, data=b"%c" % (65 + i) * 100000) for i in range(8)]
        c.put(struct.pack(">IHHQQI", 0x25609513, 0, DISC, 0, 0, 0)
              + struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 9, 0, 4) + b"late")
        got = {struct.unpack(">Q", c.get(20)[8:16])[0] for _ in cookies}
        assert got == set(cookies) and c.ended()
    with client(d) as c:
        for i in range(8):
            assert c.read(i << 20, 100000) == b"%c" % (65 + i) * 100000
        c.write(0, bytes(8 << 20))
        c.end()


def shared_view(d):
    """A flush on one connection covers what all of them wrote, and all see it at once."""
    with client(d) as a, client(d, style="simple") as b:
        a.write(0, b"one view")
        assert b.read(0, 8) == b"one view" and b.error(FLUSH) == 0
        a.write(0, bytes(8))


# ---- a server's limits ----

def handshake_limit(_):
    with daemon("--blockdev", "driver=null-co,node-name=n",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/slow.nbd,handshake-max-seconds=1",
                "--export", "type=nbd,id=e,node-name=n,name=x", name="slow") as d:
        with Client(d.nbd_path, None) as silent, Client(d.nbd_path) as stuck, \
                connect(d.nbd_path) as idle:
            stuck.put(b"IHAVE")
            assert silent.ended() and stuck.ended(), "there is a limit"
            assert len(idle.read(0, 512)) == 512, "it is of the handshake alone"


def connection_limit(_):
    with daemon("--blockdev", "driver=null-co,node-name=n",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/few.nbd,max-connections=2",
                "--export", "type=nbd,id=e,node-name=n,name=x", name="few") as d:
        one, two, three = connect(d.nbd_path), connect(d.nbd_path), socket.socket(socket.AF_UNIX)
        three.settimeout(0.5)
        three.connect(d.nbd_path)
        with contextlib.suppress(TimeoutError):
            assert three.recv(1) == b"", "a third client is served"
        one.read(0, 512)
        one.end()
        three.settimeout(60)
        assert receive(three, 18)[:8] == b"NBDMAGIC", "its turn does not come"
        three.close()
        two.end()


# ---- what brought others down ----

def gone_in_negotiation(d):
    """CVE-2017-7539, CVE-2017-9524, CVE-2017-10664, CVE-2019-14850: clients that leave in the middle, with
    replies under way."""
    for last in (b"", b"\0\0", b"IHAVEOPT", b"IHAVEOPT\0\0\0\3\0\0\0\0" * 200):
        for _ in range(20):
            c = hello(d)
            with contextlib.suppress(HungUp):
                c.put(last)
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.socket.close()
    works(d)


def long_names(d):
    """CVE-2017-15118, CVE-2022-26495, CVE-2022-26496: names that are long, or whose length wraps around."""
    for number in (nbd.OPT_INFO, nbd.OPT_GO, nbd.OPT_LIST_META, nbd.OPT_SET_META):
        with hello(d) as c:
            c.agree(nbd.OPT_STRUCTURED)
            for length in (4096, 4097, 0x7fffffff, 0xfffffffc, 0xffffffff):
                data = struct.pack(">I", length) + b"n" * min(length, 60000)
                assert c.outcome(number, data) == nbd.ERR_INVALID, (number, length)
            name = "n" * 4096
            data = nbd.names(name) if number in (nbd.OPT_INFO, nbd.OPT_GO) else nbd.queries(name, "base:")
            assert c.outcome(number, data) == nbd.ERR_UNKNOWN, number
            c.go("x")
    works(d)


def long_error(d):
    """CVE-2020-10761: an error's text that does not fit, here about the longest name there may be."""
    with hello(d) as c:
        for kind, data in c.option(nbd.OPT_GO, nbd.names("é" * 2048)):
            assert kind == nbd.ERR_UNKNOWN and len(data) <= 4096
    works(d)


def big_option(d):
    """CVE-2017-15119: a client that announces much and sends nothing costs nothing."""
    with hello(d) as c:
        c.send_option(99, length=MAX)
        with open(f"/proc/{d.process.pid}/stat", encoding="utf-8") as f:
            ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
        time.sleep(1)
        with open(f"/proc/{d.process.pid}/stat", encoding="utf-8") as f:
            ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) - ticks
        assert ticks < 50, f"{ticks} ticks of CPU time in a second"
    works(d)


def option_orders(d):
    """CVE-2019-14851, CVE-2021-3716: any order of options; nothing that was sent early counts for later."""
    for first in range(12):
        for second in range(12):
            if nbd.OPT_EXPORT_NAME in (first, second):
                continue
            with hello(d) as c, contextlib.suppress(HungUp):
                for number in (first, second, first):
                    data = {6: nbd.names("x"), 9: nbd.queries("x", "base:allocation"),
                            10: nbd.queries("x", "base:allocation")}.get(number, b"")
                    c.option(number, data)
    works(d)


def status_ranges(d):
    """CVE-2025-47711, CVE-2025-47712: block status up to the last byte, of the largest lengths."""
    with client(d, name="n", contexts=("base:allocation",)) as c:
        for offset, length in ((c.size - 1, 1), (c.size - 0xffffffff, 0xffffffff), (1, 0xffffffff),
                               (511, 0xfffffe01), (0, 0xffffffff), (0, 0xfffffe00), (0, 1 << 31)):
            for flags in (0, REQ_ONE):
                (extents,) = c.request(STATUS, offset, length, flags=flags).status.values()
                assert all(n > 0 for n, _ in extents), (offset, length, extents)
    works(d)


def stop_with_half_open(_):
    """CVE-2024-7409: the server is stopped while clients are at every stage."""
    with daemon("--blockdev", "driver=null-co,node-name=n", name="stop") as d:
        q = d.qmp()
        for _ in range(10):
            q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
            q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "name": "x"})
            clients = [Client(d.nbd_path, None), Client(d.nbd_path), connect(d.nbd_path)]
            clients[1].put(b"IHAVEOPT\0\0")
            q("nbd-server-stop")
            assert all(c.ended() for c in clients)
            for c in clients:
                c.socket.close()
        q.close()


def hung_up_with_reads(d):
    """nbdkit died of a client that left with large reads under way."""
    for _ in range(10):
        c = client(d)
        for i in range(40):
            c.send(READ, (i % 8) << 20, 1 << 20)
        c.socket.close()
    works(d)


def all_at_once(d):
    """A crowd that comes and goes, each doing its part rightly."""
    wrong = []

    def visit(i):
        try:
            for _ in range(5):
                with client(d, style=STYLES[i % 3]) as c:
                    data = bytes([i + 1]) * 8192
                    c.write(i * 8192, data)
                    assert c.read(i * 8192, 8192) == data
                    c.write(i * 8192, bytes(8192))
                    c.end()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(32)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not wrong, wrong


TESTS = (greeting, export_name, abort, listing, info_and_go, reply_styles, meta_contexts, long_options,
         reads, writes, flushes, zeroes_and_trim, fast_zero, read_only, unknown_requests, block_status,
         huge, pipeline, disconnect, shared_view, handshake_limit, connection_limit, gone_in_negotiation,
         long_names, long_error, big_option, option_orders, status_ranges, stop_with_half_open,
         hung_up_with_reads, all_at_once)


def main():
    image = f"{TMP}/image"
    with open(image, "wb") as f:
        f.truncate(SIZE)
    with daemon("--blockdev", f"driver=file,node-name=f,filename={image},discard=unmap",
                "--blockdev", "driver=raw,node-name=r,file=f,discard=unmap",
                "--blockdev", f"driver=null-co,node-name=n,size={1 << 45},read-zeroes=on",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
                "--export", "type=nbd,id=e,node-name=r,name=x,writable=on,allocation-depth=on,"
                            "description=all about x",
                "--export", "type=nbd,id=ro,node-name=r,name=ro",
                "--export", "type=nbd,id=n,node-name=n,writable=on") as d:
        for test in TESTS:
            began = time.monotonic()
            test(d)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
