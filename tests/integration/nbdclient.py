# SPDX-License-Identifier: MIT
"""An NBD client made of a socket and struct.pack, for tests that must send what a good library would
never send, and see every byte that comes back."""

import contextlib
import os
import socket
import struct

from harness import receive

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED = 8, 9, 10, 11
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN, ERR_TOO_BIG, ERR_EXT = (
    (1 << 31) + n for n in (1, 2, 3, 5, 6, 7, 9, 10))
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM, SEND_ZEROES, SEND_DF, MULTI_CONN = (
    1 << n for n in range(9))
SEND_CACHE, SEND_FAST_ZERO = 1 << 10, 1 << 11
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108


def text(name):
    """A counted string."""
    name = name.encode() if isinstance(name, str) else name
    return struct.pack(">I", len(name)) + name


def names(name, infos=()):
    """The data of INFO and GO."""
    return text(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def queries(name, *contexts):
    """The data of LIST_META and SET_META."""
    return text(name) + struct.pack(">I", len(contexts)) + b"".join(text(c) for c in contexts)


class HungUp(Exception):
    """The server closed the connection."""


class Reply:
    """What a request led to.  .chunks: (type, flags, body); .data: what was read, holes as zeroes;
    .status: {context id: [(length, flags), ...]}."""

    def __init__(self):
        self.error, self.chunks, self.data, self.status = 0, [], b"", {}


class Client:
    """.style tells how replies look: "simple", "structured" or "extended"; .block_sizes: minimum, preferred
    and maximum."""

    def __init__(self, address, flags=3):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self.style, self.cookie = "simple", 0x1122334455667700
        self.size = self.flags = self.block_sizes = None
        self.greeting = struct.unpack(">8s8sH", self.get(18))
        if flags is not None:
            self.put(struct.pack(">I", flags))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def put(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise HungUp from error

    def get(self, size):
        try:
            data = receive(self.socket, size)
        except ConnectionResetError as error:
            raise HungUp from error
        if len(data) < size:
            raise HungUp(f"after {len(data)} of {size} bytes")
        return data

    def ended(self):
        """Has the server hung up, with nothing more to say?"""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # Negotiation.

    def send_option(self, number, data=b"", length=None):
        self.put(b"IHAVEOPT" + struct.pack(">II", number, len(data) if length is None else length) + data)

    def option_replies(self, number):
        """All replies to an option, the last one is ACK or an error."""
        replies = []
        while not replies or not (replies[-1][0] == REP_ACK or replies[-1][0] >> 31):
            magic, option, kind, length = struct.unpack(">QIII", self.get(20))
            assert (magic, option) == (0x3e889045565a9, number), (hex(magic), option)
            replies.append((kind, self.get(length)))
        return replies

    def option(self, number, data=b""):
        self.send_option(number, data)
        return self.option_replies(number)

    def outcome(self, number, data=b""):
        """The type of the last reply."""
        return self.option(number, data)[-1][0]

    def agree(self, number):
        assert self.outcome(number) == REP_ACK, number
        self.style = {OPT_STRUCTURED: "structured", OPT_EXTENDED: "extended"}[number]

    def infos(self, number, name, infos=()):
        """INFO or GO: {info type: bytes}."""
        replies = self.option(number, names(name, infos))
        assert replies[-1] == (REP_ACK, b""), replies
        assert all(kind == REP_INFO for kind, _ in replies[:-1]), replies
        found = {struct.unpack(">H", data[:2])[0]: data[2:] for _, data in replies[:-1]}
        assert len(found) == len(replies) - 1, replies
        self.size, self.flags = struct.unpack(">QH", found[INFO_EXPORT])
        self.block_sizes = struct.unpack(">III", found[INFO_BLOCK_SIZE])
        return found

    def go(self, name, infos=(INFO_BLOCK_SIZE,)):
        return self.infos(OPT_GO, name, infos)

    def meta(self, number, name, *contexts):
        """LIST_META or SET_META: {context: id}."""
        replies = self.option(number, queries(name, *contexts))
        assert replies[-1] == (REP_ACK, b""), replies
        return {data[4:].decode(): struct.unpack(">I", data[:4])[0] for _, data in replies[:-1]}

    def export_name(self, name, zeroes=False):
        self.send_option(OPT_EXPORT_NAME, name.encode())
        self.size, self.flags = struct.unpack(">QH", self.get(10))
        if zeroes:
            assert self.get(124) == bytes(124)

    # Transmission.

    def send(self, kind, offset=0, length=0, data=b"", flags=0):
        """One request; returns its cookie."""
        self.cookie += 1
        length = len(data) if kind == WRITE and not length else length
        if self.style == "extended":
            flags |= PAYLOAD_LEN if kind == WRITE else 0
            self.put(struct.pack(">IHHQQQ", 0x21e41c71, flags, kind, self.cookie, offset, length) + data)
        else:
            self.put(struct.pack(">IHHQQI", 0x25609513, flags, kind, self.cookie, offset, length) + data)
        return self.cookie

    def take_chunk(self, cookie, offset):
        if self.style == "extended":
            magic, flags, kind, got, where, length = struct.unpack(">IHHQQQ", self.get(32))
            assert magic == 0x6e8a278c and where == offset, (hex(magic), where)
        else:
            (magic,) = struct.unpack(">I", self.get(4))
            if magic == 0x67446698:  # allowed for all but reads
                error, got = struct.unpack(">IQ", self.get(12))
                assert got == cookie, (hex(got), hex(cookie))
                return (1 << 15) + 1 if error else 0, 1, struct.pack(">IH", error, 0) if error else b""
            flags, kind, got, length = struct.unpack(">HHQI", self.get(16))
            assert magic == 0x668e33ef, hex(magic)
        assert got == cookie, (hex(got), hex(cookie))
        return kind, flags, self.get(length)

    def take_structured(self, reply, cookie, offset, length):
        content = {}
        done = False
        while not done:
            kind, flags, body = self.take_chunk(cookie, offset)
            done = flags & 1
            reply.chunks.append((kind, flags, body))
            if kind >> 15:
                number, size = struct.unpack(">IH", body[:6])
                assert len(body) >= 6 + size, body
                reply.error = number
            elif kind == 1:
                content[struct.unpack(">Q", body[:8])[0]] = body[8:]
            elif kind == 2:
                at, hole = struct.unpack(">QI", body)
                content[at] = bytes(hole)
            elif kind in (5, 6):
                self.take_status(reply, kind, body)
            else:
                assert kind == 0 and body == b"", (kind, body)
        at = offset
        for start in sorted(content):
            assert start == at, (start, at)
            at += len(content[start])
        reply.data = b"".join(content[start] for start in sorted(content))
        assert not content or reply.error or at == offset + length, (at, offset, length)

    @staticmethod
    def take_status(reply, kind, body):
        (context,) = struct.unpack(">I", body[:4])
        assert context not in reply.status, "two chunks about one context"
        if kind == 6:
            (count,) = struct.unpack(">I", body[4:8])
            numbers = struct.unpack(f">{count * 2}Q", body[8:])
        else:
            numbers = struct.unpack(f">{(len(body) - 4) // 4}I", body[4:])
        reply.status[context] = list(zip(numbers[::2], numbers[1::2]))

    def take(self, kind, cookie, offset, length):
        reply = Reply()
        if self.style != "simple":
            self.take_structured(reply, cookie, offset, length)
            return reply
        magic, reply.error, got = struct.unpack(">IIQ", self.get(16))
        assert (magic, got) == (0x67446698, cookie), (hex(magic), hex(got))
        if kind == READ and not reply.error:
            reply.data = self.get(length)
        return reply

    def request(self, kind, offset=0, length=0, data=b"", flags=0):
        cookie = self.send(kind, offset, length, data, flags)
        return self.take(kind, cookie, offset, length)

    def error(self, *arguments, **keywords):
        return self.request(*arguments, **keywords).error

    def read(self, offset, length, flags=0):
        reply = self.request(READ, offset, length, flags=flags)
        assert reply.error == 0, reply.error
        return reply.data

    def write(self, offset, data, flags=0):
        assert self.error(WRITE, offset, data=data, flags=flags) == 0

    def end(self):
        self.put(struct.pack(">IHHQQI", 0x25609513, 0, DISC, 0, 0, 0) if self.style != "extended"
                 else struct.pack(">IHHQQQ", 0x21e41c71, 0, DISC, 0, 0, 0))
        assert self.ended()
        self.socket.close()


def connect(path, name="x", style="structured", contexts=(), infos=(INFO_BLOCK_SIZE,)):
    """A client that is past its negotiation; .contexts has the ids."""
    c = Client(path)
    if style != "simple":
        c.agree(OPT_EXTENDED if style == "extended" else OPT_STRUCTURED)
    c.contexts = c.meta(OPT_SET_META, name, *contexts) if contexts else {}
    c.go(name, infos)
    return c


def warm(d):
    """Every ring of a daemon serves a client once: what rings open is open from here on."""
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="null-co", node_name="warm")
        q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
        q("block-export-add", type="nbd", id="warm", node_name="warm")
        clients = [connect(d.nbd_path, "warm") for _ in range(2 * os.cpu_count())]
        for c in clients:
            c.read(0, 512)
        for c in clients:
            c.end()
        q("nbd-server-stop")
        q("blockdev-del", node_name="warm")
