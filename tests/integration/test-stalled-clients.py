#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=400 builds=plain,address,thread
"""Clients that ask for much and take nothing of it, or send half of what they announce, must not use up the
memory that a ring has for the buffers of all its clients: a good client on the same ring gets every service."""

import os
import random
import select
import shutil
import ssl
import struct
import subprocess

import nbdclient
from harness import TMP, daemon
from nbdclient import CACHE, DF, EINVAL, ENOSPC, FLUSH, READ, STATUS, TRIM, WRITE

SIZE = 64 << 20
LARGE = 32 << 20  # the largest payload
FULL = os.environ["RINGBLK_FULL"] == "1"
PLAIN = os.environ["RINGBLK_FLAVOUR"] == "plain"
STALLED = 12  # of each kind: their wishes are many times the memory that a ring has
EXPORT = ("--object", "iothread,id=one", "--blockdev", f"driver=file,node-name=f,filename={TMP}/image",
          "--export", "type=nbd,id=e,node-name=f,name=x,writable=on,iothread=one")
CONTENT = random.Random(7).randbytes(1 << 20)


class TlsClient(nbdclient.Client):
    """The same over TLS, with nobody's name checked: the server's port is the test's own."""

    def __init__(self, address):
        super().__init__(address)
        assert self.outcome(nbdclient.OPT_STARTTLS) == nbdclient.REP_ACK
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)


def client(d, style="structured", kind=nbdclient.Client):
    c = kind(d.nbd_path)
    if style != "simple":
        c.agree({"structured": nbdclient.OPT_STRUCTURED, "extended": nbdclient.OPT_EXTENDED}[style])
        c.meta(nbdclient.OPT_SET_META, "x", "base:allocation")
    c.go("x")
    return c


def push(c, data):
    """Send as much as the server takes."""
    c.socket.settimeout(0.05)
    try:
        while data:
            data = data[c.socket.send(data):]
    except (TimeoutError, ssl.SSLWantWriteError):
        pass


def request(kind, offset, length, cookie=1):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, offset, length)


STALLS = {
    "large reads": request(READ, 0, LARGE) * 64,
    "middling reads": request(READ, 0, 256 << 10) * 4096,
    "small reads": request(READ, 4096, 4096) * 30000,
    "refused requests": request(READ, 0, LARGE + 1) * 60000,
    "block status": request(STATUS, 0, SIZE) * 30000,
    "half a write": request(WRITE, LARGE, LARGE) + bytes(LARGE // 2),
    "writes that nobody hears of": (request(WRITE, LARGE, 4096) + bytes(4096)) * 8000,
}


def large_and_small(c):
    """All that a good client may wish, one after the other and at once."""
    for offset in (0, LARGE - (4 << 20), LARGE):
        data = c.read(offset, LARGE)
        assert len(data) == LARGE and data.startswith(CONTENT) or offset == LARGE
    payload = CONTENT[::-1] * 32
    c.write(LARGE, payload)
    assert c.read(LARGE, LARGE) == payload
    assert c.error(WRITE, SIZE - 4096, data=payload) == ENOSPC
    c.write(SIZE - 4096, CONTENT[:4096])
    assert c.error(FLUSH) == 0
    assert c.error(CACHE, 0, LARGE) == 0
    assert c.error(TRIM, SIZE - 65536, 65536) == 0
    if c.style != "simple":
        assert c.read(0, LARGE, flags=DF) == CONTENT * 32
        assert c.request(STATUS, 0, SIZE).error == 0


def many_at_once(c):
    """Replies may come in any order: only of equal requests that does not matter."""
    for length, count in ((4096, 100), (1 << 20, 16), (LARGE, 3)):
        sent = request(READ, 0, length, cookie=9) * count
        c.put(sent)
        for _ in range(count):
            data = c.take(READ, 9, 0, length).data
            assert data[:1 << 20] == CONTENT[:length] and len(data) == length


def shrinks_meanwhile(d, q, kind):
    """A client is in the middle of a large reply or payload when the end of the image goes: it hears of it."""
    for style in ("simple", "structured", "extended"):
        c = client(d, style, kind)
        cookie = c.send(READ, SIZE - LARGE, LARGE)
        assert select.select([c.socket], [], [], 60)[0]  # it has begun
        q("block_resize", node_name="f", size=SIZE - LARGE + (16 << 10))
        try:
            reply = c.take(READ, cookie, SIZE - LARGE, LARGE)
        except nbdclient.HungUp:
            assert style == "simple"
        else:
            assert style != "simple" and reply.error == EINVAL and len(reply.data) < LARGE, style
            c.end()
        q("block_resize", node_name="f", size=SIZE)
        c = client(d, style, kind)
        cookie = c.send(WRITE, SIZE - LARGE, LARGE, data=bytes(LARGE // 2))
        q("block_resize", node_name="f", size=SIZE - LARGE + (16 << 10))
        c.put(bytes(LARGE // 2))
        assert c.take(WRITE, cookie, SIZE - LARGE, 0).error == ENOSPC
        assert c.read(0, 4096) == CONTENT[:4096]  # it goes on behind the payload
        c.end()
        q("block_resize", node_name="f", size=SIZE)


def stall(d, kind, names):
    """Clients that stall, each kind in its turn."""
    made = []
    for _ in range(STALLED):
        for name in names:
            c = client(d, kind=kind)
            push(c, STALLS[name])
            made.append(c)
    return made


def resident(d):
    with open(f"/proc/{d.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def scene(d, kind):
    """What stalls, and then what must go on beside it."""
    q = d.qmp()
    names = list(STALLS)
    for stalled in [*([n] for n in names if FULL), names]:
        made = stall(d, kind, stalled)
        for style in ("simple", "structured", "extended"):
            good = client(d, style, kind)
            good.socket.settimeout(120)
            large_and_small(good)
            if style == "simple":
                many_at_once(good)
            good.end()
        if "large reads" in stalled:
            shrinks_meanwhile(d, q, kind)
        print(f"{len(made)} stalled by {', '.join(stalled)}: {resident(d) >> 20} MiB resident")
        assert not PLAIN or resident(d) < (512 << 20) + len(made) * (3 << 20)
        for c in made:
            c.socket.close()
    q.close()


with open(f"{TMP}/image", "wb") as f:
    f.write(CONTENT * (SIZE // len(CONTENT)))
with daemon(*EXPORT[:4], "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd,max-connections=0",
            *EXPORT[4:]) as d:
    scene(d, nbdclient.Client)

os.makedirs(f"{TMP}/pki")
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "2", "-subj", "/CN=localhost", "-keyout", f"{TMP}/pki/server-key.pem",
                "-out", f"{TMP}/pki/server-cert.pem"], check=True, stderr=subprocess.DEVNULL)
shutil.copy(f"{TMP}/pki/server-cert.pem", f"{TMP}/pki/ca-cert.pem")
with daemon("--object", f"tls-creds-x509,id=tls,dir={TMP}/pki,endpoint=server,verify-peer=off", *EXPORT[:4],
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd,max-connections=0,tls-creds=tls",
            *EXPORT[4:]) as d:
    scene(d, TlsClient)
