#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A raw image over NBD, used by programs that we did not write: what they write is what is in the
file, what is in the file is what they read, and the counts agree."""

import json
import os
import resource
import socket
import struct
import subprocess
import sys

from harness import TMP, daemon, receive

SIZE = 48 << 20


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout.decode(errors='replace')}"
    return done.stdout.decode(errors="replace")


def random_file(path, size):
    with open(path, "wb") as f:
        f.write(os.urandom(size))


def main(direct):
    image, source, back = (f"{TMP}/{n}" for n in ("image.raw", "source", "back"))
    with open(image, "wb") as f:
        f.truncate(SIZE)
    random_file(source, SIZE)
    with daemon(
        "--blockdev", f"driver=file,node-name=f,filename={image},cache.direct={direct}",
        "--blockdev", "driver=raw,node-name=r,file=f",
        "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
        "--export", "type=nbd,id=e,node-name=r,name=x,writable=on,allocation-depth=on",
        "--export", "type=nbd,id=ro,node-name=r,name=ro",
    ) as d:
        info = json.loads(run("nbdinfo", "--json", d.uri("x")))["exports"][0]
        assert info["export-size"] == SIZE and not info["is_read_only"], info
        assert {c if isinstance(c, str) else c["id"] for c in info["contexts"]} == {
            "base:allocation", "qemu:allocation-depth"} or len(info["contexts"]) == 2, info
        assert json.loads(run("nbdinfo", "--json", d.uri("ro")))["exports"][0]["is_read_only"]
        extents = json.loads(run("nbdinfo", "--json", "--map", d.uri("x")))
        assert sum(e["length"] for e in extents) == SIZE, extents
        assert all(e["type"] == 3 for e in extents), extents

        run("nbdcopy", source, d.uri("x"))
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, d.uri("x"))
        run("nbdcopy", d.uri("ro"), back)
        run("cmp", source, back)
        run("cmp", source, image)
        refused = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 4k", d.uri("ro")],
                                 capture_output=True, timeout=60)
        assert refused.returncode != 0

        # Edges of requests, zeroes, discards, FUA, flush - through qemu's client.
        run("qemu-io", "-f", "raw", "-c", "write -P 7 4096 8192", "-c", "write -z 12288 65536",
            "-c", "write -z -u 1M 1M", "-c", "discard 3M 1M", "-c", "write -f -P 9 8M 4k",
            "-c", "flush", "-c", "read -P 7 4096 8192", "-c", "read -P 0 12288 65536",
            "-c", "read -P 0 1M 1M", "-c", "read -P 9 8M 4k", d.uri("x"))
        with open(image, "rb") as f:
            data = f.read()
        assert data[4096:12288] == b"\7" * 8192 and data[8 << 20:(8 << 20) + 4096] == b"\t" * 4096
        assert data[1 << 20:2 << 20] == bytes(1 << 20)

        jobs = 64 if direct == "on" else 8
        if direct == "on":
            run("fio", "--name=v", "--ioengine=nbd", f"--uri={d.uri('x')}", "--rw=randrw", "--bs=4k",
                f"--numjobs={jobs}", f"--size={SIZE // jobs}", f"--offset_increment={SIZE // jobs}",
                "--iodepth=4", "--verify=crc32c", "--verify_fatal=1", f"--aux-path={TMP}")
        else:
            run("fio", "--name=v", "--ioengine=nbd", f"--uri={d.uri('x')}", "--rw=randrw",
                "--bsrange=512-64k", "--bs_unaligned=1", f"--numjobs={jobs}",
                f"--size={SIZE // jobs}", f"--offset_increment={SIZE // jobs}", "--iodepth=16",
                "--verify=crc32c", "--verify_fatal=1", f"--aux-path={TMP}")


def cache():
    """A request to cache costs the client nothing, so one may not keep the server busy for ever."""
    with daemon(
        "--blockdev", "driver=null-co,node-name=n,size=4611686018427387904",
        "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
        "--export", "type=nbd,id=e,node-name=n,name=x",
    ) as d, socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(d.nbd_path)
        option = struct.Struct(">8sII").pack
        s.sendall(struct.pack(">I", 3) + option(b"IHAVEOPT", 11, 0)
                  + option(b"IHAVEOPT", 7, 7) + struct.pack(">I1sH", 1, b"x", 0))
        receive(s, 18 + 20 + (20 + 14) + (20 + 12) + 20)
        for length, error in ((32 << 20, 0), ((32 << 20) + 1, 22), (1 << 61, 22)):
            s.sendall(struct.pack(">IHHQQQ", 0x21e41c71, 0, 5, 9, 0, length))
            _, _, kind, cookie, _, rest = struct.unpack(">IHHQQQ", receive(s, 32))
            body = receive(s, rest)
            assert cookie == 9, cookie
            assert (struct.unpack_from(">I", body)[0] if kind == 0x8001 else 0) == error, (length, kind)


def errors():
    """A write that the file system refuses: the client hears of it, and so do those who watch."""
    image = f"{TMP}/limited.raw"
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    limit = 4 << 20
    with daemon(
        "--blockdev", f"driver=file,node-name=f,filename={image}",
        "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
        "--export", "type=nbd,id=e,node-name=f,name=x,writable=on",
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    ) as d:
        q = d.qmp()
        run("qemu-io", "-f", "raw", "-c", "write -P 3 1M 64k", d.uri("x"))
        refused = subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 3 6M 64k", d.uri("x")],
                                 capture_output=True, timeout=60)
        assert b"No space left on device" in refused.stdout + refused.stderr, refused
        data = q.wait_event("BLOCK_IO_ERROR")["data"]
        assert (data["device"], data["node-name"], data["operation"], data["action"]) == (
            "e", "f", "write", "report"), data
        assert "nospace" not in data, data
        run("qemu-io", "-f", "raw", "-c", "read -P 3 1M 64k", "-c", "read -P 0 6M 64k", d.uri("x"))
        q.close()


main("off")
main("on")
cache()
errors()
sys.exit(0)
