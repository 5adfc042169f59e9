#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=900 builds=plain,address,thread
"""Random writes, zeroes, discards, flushes and growth, side by side, through ringblkd on qcow2 images of every
kind that can be written, and some by qemu in between: at the end and on the way the bytes are those of a plain
model, read by us and by qemu, and qemu-img check finds neither errors nor leaks."""

import contextlib
import json
import os
import random
import signal
import subprocess

import nbd

from harness import TMP, Daemon, daemon
from qcow2images import KIB, KINDS, MIB, make, run

NAMES = ["v2", "v3", "small", "v2small", "large", "rc1", "rc64", "rcsmall", "lazy", "zlib", "zstd", "zlib512", "zlib2m", "pre",
         "full", "data", "dataraw", "snap", "odd", "sparse", "over", "overshort", "overover"]


def wait(h, cookies):
    for cookie in cookies:
        while not h.aio_command_completed(cookie):
            h.poll(-1)


class Model:
    """What must be in the image."""

    def __init__(self, path):
        raw = f"{TMP}/model.raw"
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
        with open(raw, "rb") as f:
            self.bytes = bytearray(f.read())

    def save(self):
        path = f"{TMP}/model.raw"
        with open(path, "wb") as f:
            f.write(self.bytes)
        return path

    def set(self, offset, data):
        self.bytes[offset:offset + len(data)] = data


def batch(chance, size):
    """Requests that don't overlap: (kind, offset, length)."""
    at, requests = chance.randrange(0, max(1, size // 2)), []
    while at < size and len(requests) < 8:
        length = min(chance.choice([1, 512, 4 * KIB, 33 * KIB, 200 * KIB, MIB]), size - at)
        kind = chance.choice(["write"] * 6 + ["zero", "unmap", "trim", "flush"])
        requests.append((kind, at, length))
        at += length + chance.choice([0, 0, 7, 4096, 100 * KIB])
    return requests


def work(h, model, chance, rounds):
    size = len(model.bytes)
    for _ in range(rounds):
        cookies = []
        for kind, offset, length in batch(chance, size):
            if kind == "write":
                data = bytes([chance.randrange(1, 256)]) * length
                model.set(offset, data)
                cookies.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset))
            elif kind in ("zero", "unmap"):
                model.set(offset, bytes(length))
                cookies.append(h.aio_zero(length, offset, flags=0 if kind == "unmap" else nbd.CMD_FLAG_NO_HOLE))
            elif kind == "trim":
                # What it leaves is read back: nobody says whether the edges count.
                wait(h, cookies)
                cookies = []
                h.trim(length, offset)
                model.set(offset, h.pread(length, offset))
            else:
                cookies.append(h.aio_flush())
        wait(h, cookies)


def connect(uri):
    h = nbd.NBD()
    h.set_strict_mode(h.get_strict_mode() & ~nbd.STRICT_ALIGN)
    h.connect_uri(uri)
    return h


def check(path):
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def options(path):
    return ["--blockdev", f"driver=qcow2,node-name=q,discard=unmap,file.driver=file,file.filename={path}",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=e,node-name=q,name=x,writable=on"]


def one(name, seed):
    chance = random.Random(seed)
    path = make(name, TMP, seed)
    model = Model(path)
    with daemon(*options(path)) as d:
        h = connect(d.uri("x"))
        work(h, model, chance, 12)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", d.uri("x"), model.save())
        if chance.randrange(2):
            grown = len(model.bytes) + chance.choice([512, 100 * KIB, 3 * MIB]) // 512 * 512
            qmp = d.qmp()
            qmp("block_resize", node_name="q", size=grown)
            qmp.close()
            model.bytes += bytes(grown - len(model.bytes))
            h.shutdown()
            h = connect(d.uri("x"))
            assert h.get_size() == grown
            work(h, model, chance, 6)
        h.shutdown()
    check(path)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, model.save())
    if "data_file_raw" in KINDS[name]["o"]:
        run("cmp", "-n", str(len(model.bytes)), f"{path}.data", model.save())
        assert os.path.getsize(f"{path}.data") >= len(model.bytes)
    # Again over what qemu wrote meanwhile, and the daemon dies in the middle: what it acknowledged is there.
    run("qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", f"write -P 77 0 {min(len(model.bytes), 70 * KIB)}", path)
    model.set(0, b"M" * min(len(model.bytes), 70 * KIB))
    d = Daemon(*options(path))
    try:
        h = connect(d.uri("x"))
        work(h, model, chance, 10)
    finally:
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        d.log.close()
    for left in (d.qmp_path, d.nbd_path, d.pidfile):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, model.save())
    done = subprocess.run(["qemu-img", "check", "--output=json", "-f", "qcow2", path], capture_output=True, text=True,
                          timeout=300)
    report = json.loads(done.stdout)
    assert not report.get("corruptions") and not report.get("check-errors"), report
    run("qemu-img", "check", "-q", "-r", "leaks", "-f", "qcow2", path)
    if KINDS[name].get("snapshot"):
        run("qemu-img", "snapshot", "-a", "one", path)
        check(path)


def main():
    seed = int(os.environ.get("RINGBLK_SEED", "0"), 0) or int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed} (RINGBLK_SEED)", flush=True)
    for i, name in enumerate(NAMES):
        backing = KINDS[name].get("backing")
        while backing:
            if not os.path.exists(f"{TMP}/{backing}.qcow2"):
                make(backing, TMP, seed + i)
            backing = KINDS[backing].get("backing")
        print(name, flush=True)
        one(name, seed + i)


main()
