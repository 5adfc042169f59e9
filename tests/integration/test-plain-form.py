#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ringblkd IMAGE...: names, socket activation, passed descriptors - and a guest cannot turn its raw
image into one that names another file."""

import os
import signal
import socket
import struct
import subprocess

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


def qcow2_header(backing):
    name = backing.encode()
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 72, len(name), 16, 1 << 20, 0, 1, 3 << 16,
                         1 << 16, 1, 0, 0)
    return header + name + bytes(512 - len(header) - len(name))


def hostile_header():
    """No file but the image is opened, whatever a client writes into it."""
    # LeakSanitizer does not work in a process that is traced.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    image, secret, header = make(f"{TMP}/guest.raw"), f"{TMP}/secret", f"{TMP}/header"
    with open(secret, "wb") as f:
        f.write(b"secret" * 1000)
    with open(header, "wb") as f:
        f.write(qcow2_header(secret))
    write = f"write -s {header} 0 512"
    trace = ["strace", "-D", "-f", "-o", f"{TMP}/trace", "-e", "trace=open,openat,openat2"]

    # Guessed raw: the write is refused, the image stays raw.
    with Plain("--nbd", f"{TMP}/plain.nbd", image, wrapper=trace) as p:
        refused = run("qemu-io", "-f", "raw", "-c", write, p.uri(), status=1)
        assert "Operation not permitted" in refused, refused
        run("qemu-io", "-f", "raw", "-c", "write -P 1 1k 1k", "-c", "write -P 2 4k 4k", p.uri())
    with open(image, "rb") as f:
        assert f.read(4) == bytes(4)
    # Said to be raw: the bytes are the owner's business, and are never opened as anything else ...
    with Plain("--nbd", f"{TMP}/plain.nbd", "--format", "raw", image,
               wrapper=[*trace, "-A"]) as p:
        run("qemu-io", "-f", "raw", "-c", write, p.uri())
        assert "virtual size: 1 MiB" in run("qemu-img", "info", "-f", "raw", p.uri())
    with open(image, "rb") as f:
        assert f.read(4) == b"QFI\xfb"
    # ... and a later guess is refused, rather than following the name in the header.
    text = run(*trace, "-A", RINGBLKD, *QMP, "--nbd", f"{TMP}/plain.nbd", image, status=1)
    assert "looks like an image of format 'qcow2'" in text, text
    with open(f"{TMP}/trace", encoding="utf-8", errors="replace") as f:
        opened = f.read()
    assert opened.count(image) >= 3, "the trace does not see what is opened"
    assert secret not in opened, opened


names()
activation()
hostile_header()
