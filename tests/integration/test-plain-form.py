#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240
"""ringblkd IMAGE...: names, socket activation, passed descriptors - and a guest cannot turn its raw
image into one that names another file."""

import os
import signal
import socket
import struct
import subprocess
import time

import nbdclient
from harness import BUILD, TMP

RINGBLKD = f"{BUILD}/ringblkd"
QMP = ["--qmp", f"{TMP}/plain.qmp"]


def run(*command, status=0):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    text = done.stdout.decode(errors="replace")
    assert (done.returncode == 0) == (status == 0), f"{command}: {done.returncode}: {text}"
    return text


def make(path, size=1 << 20):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


class Plain:
    """ringblkd in its plain form; .lines is what it printed once ready."""

    def __init__(self, *arguments, wrapper=(), count=1, **keywords):
        self.process = subprocess.Popen([*wrapper, RINGBLKD, *QMP, *arguments], text=True,
                                        stdout=subprocess.PIPE, **keywords)
        self.lines = [self.process.stdout.readline().strip() for _ in range(count + 1)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        assert self.process.wait(60) == 0

    def uri(self, i=0):
        return self.lines[i].split(": ", 1)[1]


def names():
    os.makedirs(f"{TMP}/a", exist_ok=True)
    one, two = make(f"{TMP}/disk.raw"), make(f"{TMP}/a/disk.raw", 2 << 20)
    with Plain("--nbd", f"{TMP}/plain.nbd", one, two, count=2) as p:
        assert "/disk.raw?" in p.uri(0) and "/disk.raw-2?" in p.uri(1), p.lines
        assert run("nbdinfo", "--size", p.uri(0)).strip() == str(1 << 20)
        assert run("nbdinfo", "--size", p.uri(1)).strip() == str(2 << 20)
    with Plain("--nbd", "127.0.0.1:0", "--read-only", one) as p:
        assert p.uri().startswith("nbd://127.0.0.1:") and ":0/" not in p.uri(), p.lines
        assert "is_read_only: true" in run("nbdinfo", p.uri())


def activation():
    image = make(f"{TMP}/activated.raw")
    text = run("nbdinfo", "--list", "--", "[", RINGBLKD, *QMP, image, "]")
    assert 'export="activated.raw"' in text, text
    # The same by hand, in the form of qemu-storage-daemon: a descriptor that is listening already.
    with socket.socket(socket.AF_UNIX) as listening:
        path = f"{TMP}/passed.sock"
        listening.bind(path)
        listening.listen()
        fd = listening.fileno()
        pidfile = f"{TMP}/passed.pid"
        p = subprocess.Popen([RINGBLKD, "--blockdev", f"driver=file,node-name=f,filename={image}",
                              "--nbd-server", f"addr.type=fd,addr.str={fd}",
                              "--export", "type=nbd,id=e,node-name=f,name=x",
                              "--pidfile", pidfile], pass_fds=[fd])
        try:
            # The client connects at once; it must wait until all of the command line is done.
            assert run("nbdinfo", "--size", f"nbd+unix:///x?socket={path}").strip() == str(1 << 20)
        finally:
            p.terminate()
            assert p.wait(60) == 0
    run(RINGBLKD, "--nbd-server", "addr.type=fd,addr.str=77", status=1)


def qcow2_header(backing="", data=""):
    """Version 3, of an empty disk whose clusters, or those that it lacks, are said to be in other files."""
    names = struct.pack(">II", 0xE2792ACA, 5) + b"raw\0\0\0\0\0" if backing else b""
    if data:
        names += struct.pack(">II", 0x44415441, len(data)) + data.encode() + bytes(-len(data) % 8)
    names += bytes(8)
    at = 104 + len(names) if backing else 0
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, at, len(backing), 16, 1 << 20, 0, 1, 3 << 16,
                         1 << 16, 1, 0, 0, 4 if data else 0, 0, 2 if data else 0, 4, 104) + names + backing.encode()
    assert len(header) <= 512
    return header + bytes(512 - len(header))


HEADERS = {"backing": {"backing": f"{TMP}/secret"}, "data": {"data": f"{TMP}/secret"},
           "both": {"backing": f"{TMP}/secret", "data": f"{TMP}/secret"},
           "json": {"backing": 'json:{"driver":"file","filename":"%s/secret"}' % TMP}}


def storage_daemon(image, raw, wrapper):
    """The form of qemu-storage-daemon: the file alone is exported, or a raw node above it."""
    above = ("--blockdev", "driver=raw,node-name=r,file=f") if raw else ()
    return subprocess.Popen([*wrapper, RINGBLKD, "--blockdev", f"driver=file,node-name=f,filename={image}", *above,
                             "--nbd-server", f"addr.type=unix,addr.path={TMP}/sd.nbd", "--export",
                             f"type=nbd,id=e,node-name={'r' if raw else 'f'},name=x,writable=on",
                             "--pidfile", f"{TMP}/sd.pid"])


def served(image, raw, wrapper, *commands):
    """Run clients against it; "URI" among their arguments is where it is."""
    p = storage_daemon(image, raw, wrapper)
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{TMP}/sd.pid"):
        assert p.poll() is None and time.monotonic() < deadline, "it does not come up"
        time.sleep(0.02)
    try:
        return [run(*(f"nbd+unix:///x?socket={TMP}/sd.nbd" if a == "URI" else a for a in c)) for c in commands]
    finally:
        p.terminate()
        assert p.wait(60) == 0


def hostile_header(kind, trace):
    """No file but the image is opened, whatever a client writes into it."""
    image, header = make(f"{TMP}/{kind}.raw"), f"{TMP}/{kind}.header"
    with open(header, "wb") as f:
        f.write(qcow2_header(**HEADERS[kind]))
    theirs = run("qemu-img", "info", "--output=json", "-U", header)
    assert '"qcow2"' in theirs and "secret" in theirs, theirs  # a header as it should be
    write = f"write -s {header} 0 512"

    # Guessed raw: the write is refused, the image stays raw.
    with Plain("--nbd", f"{TMP}/plain.nbd", image, wrapper=trace) as p:
        refused = run("qemu-io", "-f", "raw", "-c", write, p.uri(), status=1)
        assert "Operation not permitted" in refused, refused
        with open(header, "rb") as f:
            part = nbdclient.connect(f"{TMP}/plain.nbd", os.path.basename(image), infos=())
            part.write(4, f.read()[4:])  # all but the signature, and then that byte by byte
            for i, byte in enumerate(b"QFI"):
                part.write(i, bytes([byte]))
            assert part.error(nbdclient.WRITE, 3, data=b"\xfb") == nbdclient.EPERM
            part.write(0, bytes(512))
            part.end()
        run("qemu-io", "-f", "raw", "-c", "write -P 1 1k 1k", "-c", "write -P 2 4k 4k", p.uri())
    with open(image, "rb") as f:
        assert f.read(4) == bytes(4)
    # Said to be raw, or exported as the file that it is: the bytes are the owner's business, and are never opened
    # as anything else, now or by the next daemon that is told the same ...
    with Plain("--nbd", f"{TMP}/plain.nbd", "--format", "raw", image, wrapper=trace) as p:
        run("qemu-io", "-f", "raw", "-c", write, p.uri())
        assert "virtual size: 1 MiB" in run("qemu-img", "info", "-f", "raw", p.uri())
    same = ("qemu-io", "-f", "raw", "-r", "-c", "read -P 2 4k 4k", "URI")
    again = ("qemu-io", "-f", "raw", "-c", write, "URI")
    size = ("nbdinfo", "--size", "URI")
    for raw in (True, False, True):
        assert served(image, raw, trace, same, again, size)[2].strip() == str(1 << 20)
    with open(image, "rb") as f, open(header, "rb") as g:
        assert f.read(512) == g.read()
    # ... and a later guess is refused, rather than following the name in the header.
    text = run(*trace, RINGBLKD, *QMP, "--nbd", f"{TMP}/plain.nbd", image, status=1)
    assert "which is not opened on a guess" in text or "exclude each other" in text, text


def hostile_headers():
    # LeakSanitizer does not work in a process that is traced.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    with open(f"{TMP}/secret", "wb") as f:
        f.write(b"secret" * 1000)
    trace = ["strace", "-D", "-f", "-A", "-o", f"{TMP}/trace", "-e", "trace=open,openat,openat2,io_uring_register"]
    for kind in HEADERS:
        hostile_header(kind, trace)
    with open(f"{TMP}/trace", encoding="utf-8", errors="replace") as f:
        opened = f.read()
    for kind in HEADERS:
        assert opened.count(f"/{kind}.raw\"") >= 6, "the trace does not see what is opened"
    assert "secret" not in opened, opened


names()
activation()
hostile_headers()
