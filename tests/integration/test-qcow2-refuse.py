#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=300 builds=plain,address
"""qcow2 images that must not be opened, or not follow where their headers point: hostile and cut off ones,
files named by a header, chains that are long or bite their own tail, and corruption that reading finds."""

import os
import shutil
import struct
import subprocess

from harness import BUILD, TMP, daemon, fails
from qcow2images import MIB, run

CLUSTER = 65536


def create(name, *more, size="1M", options="compat=1.1"):
    path = f"{TMP}/{name}.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *more, path, size)
    return path


def copy(path, name):
    return shutil.copy(path, f"{TMP}/{name}.qcow2")


def poke(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)
    return path


def peek(path, offset, form):
    with open(path, "rb") as f:
        f.seek(offset)
        return struct.unpack(form, f.read(struct.calcsize(form)))[0]


def add(qmp, path, name="q", **more):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, "read-only": True,
                                 "file": {"driver": "file", "filename": path}, **more})


def refused(qmp, path, sentence, **more):
    fails("GenericError", f"Could not open '{path}': {sentence}", add, qmp, path, **more)


def resident(d):
    """MiB of memory that the daemon has."""
    with open(f"/proc/{d.process.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) >> 10


def hostile_headers(d, qmp):
    """Numbers that ask for much: refused before anything of that size is allocated.  The shapes of
    CVE-2014-0143, -0144, -0145, -0146, -0147 and -2024-4467, and of what came after them."""
    base = create("base")
    before = resident(d)
    cases = {
        "bits": (20, ">I", 63, "Unsupported cluster size: 2^63"),
        "l1": (36, ">I", 0x7fffffff, "Active L1 table too large"),
        "l1far": (40, ">Q", 1 << 56, "Active L1 table (bytes 72057594037927936 to 72057594037927944) does "
                  "not lie within the file of 196608 bytes"),
        "refs": (56, ">I", 0xffffffff, "Reference count table too large"),
        "snapshots": (60, ">I", 0xffffffff, "Snapshot table too large"),
        "size": (24, ">Q", (1 << 63) - 512, "Image is too big"),
        "length": (100, ">I", 0xfffffff8, "qcow2 header exceeds cluster size"),
        "backing": (8, ">Q", 0xffffffffffff, "Invalid backing file offset"),
    }
    for name, (offset, form, value, sentence) in cases.items():
        path = poke(copy(base, name), offset, struct.pack(form, value))
        if name == "l1far":
            sentence = sentence.replace("196608", str(-(-os.path.getsize(path) // 512) * 512))
        refused(qmp, path, sentence)
    # The largest disk that a header of few bytes can promise: nothing is there to back its tables.
    tiny = poke(copy(base, "tiny"), 24, struct.pack(">Q", 1 << 50))
    poke(tiny, 36, struct.pack(">I", 1 << 21))
    with open(tiny, "r+b") as f:
        f.truncate(4 * CLUSTER)
    refused(qmp, tiny, "Active L1 table (bytes 196608 to 16973824) does not lie within the file of 262144 bytes")
    assert resident(d) < before + 64, f"{before} to {resident(d)} MiB"
    empty = f"{TMP}/empty"
    open(empty, "w").close()
    refused(qmp, empty, "Image is not in qcow2 format")


def other_files(qmp):
    """What headers name."""
    base = create("below")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 64k", base)
    over = create("over", "-b", "below.qcow2", "-F", "qcow2")
    add(qmp, over)
    qmp("blockdev-del", node_name="q")
    silent = poke(copy(over, "silent"), peek(over, 100, ">I"), struct.pack(">I", 0x11111111))
    sentence = ("The image names its backing file 'below.qcow2' without a format, which is not guessed; say it "
                "with the option 'backing'")
    refused(qmp, silent, sentence)
    add(qmp, silent, backing={"driver": "qcow2", "file": {"driver": "file", "filename": base}})
    qmp("blockdev-del", node_name="q")
    for nothing in (None, ""):
        add(qmp, silent, backing=nothing)
        assert len(qmp("query-named-block-nodes", flat=True)) == 2
        qmp("blockdev-del", node_name="q")

    definition = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{base}"}}}}'
    add(qmp, create("json", "-b", definition, "-F", "qcow2"))
    qmp("blockdev-del", node_name="q")
    url = create("url", "-u", "-b", "gopher://x/y", "-F", "raw")
    refused(qmp, url, "Could not open backing file 'gopher://x/y': Unknown protocol 'gopher'")
    gone = create("gone", "-u", "-b", "gone.raw", "-F", "raw")
    refused(qmp, gone, f"Could not open backing file 'gone.raw': Could not open '{TMP}/gone.raw': No such file or "
            "directory")
    odd = create("odd", "-u", "-b", "x", "-F", "raw")
    at = peek(odd, 8, ">Q")
    poke(odd, odd_format(odd), b"wat")
    assert at
    refused(qmp, odd, "Could not open backing file 'x': Unknown driver 'wat'")
    circle = create("circle", "-u", "-b", "circle.qcow2", "-F", "qcow2")
    fails("GenericError", f"Could not open '{circle}': Could not open backing file 'circle.qcow2': ...", add, qmp,
          circle)

    # A data file that is JSON would let an image open anything: only a path is taken from a header.
    data = create("data", options=f"data_file={TMP}/d.raw")
    name = b'json:{"driver":"null-co"}'
    where = peek_extension(data, 0x44415441)
    with open(data, "rb") as f:
        head = bytearray(f.read(CLUSTER))
    # The name grows: what follows (the table of feature names) makes room.
    head[where:] = struct.pack(">II", 0x44415441, len(name)) + name.ljust(32, b"\0")
    poke(data, 0, bytes(head.ljust(CLUSTER, b"\0")))
    refused(qmp, data, f"The image names its data file as '{name.decode()}'; say it with the option 'data-file'")
    refused(qmp, base, "'data-file' can only be set for images with an external data file",
            **{"data-file": {"driver": "null-co"}})


def peek_extension(path, kind):
    """Where the header extension begins."""
    at = peek(path, 100, ">I")
    while peek(path, at, ">I") != kind:
        at += 8 + (peek(path, at + 4, ">I") + 7) // 8 * 8
    return at


def odd_format(path):
    return peek_extension(path, 0xe2792aca) + 8


def guesses():
    """An image that was guessed to be qcow2 leads nowhere else; one that was said to be does."""
    secret = f"{TMP}/secret"
    with open(secret, "wb") as f:
        f.write(b"secret" * 1000)
    overlay = create("overlay", "-u", "-b", secret, "-F", "raw")
    trace = f"{TMP}/trace"
    # LeakSanitizer does not work in a process that is traced.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    done = subprocess.run(["strace", "-f", "-e", "trace=open,openat,openat2", "-o", trace,
                           f"{BUILD}/ringblkd", "--read-only", overlay], capture_output=True, timeout=120,
                          text=True)
    assert done.returncode != 0
    assert f"names '{secret}' as its backing file, which is not opened on a guess; say --format qcow2" in done.stderr, \
        done.stderr
    with open(trace) as f:
        assert secret not in f.read()


def chain(d, qmp):
    """200 deep."""
    run("qemu-img", "create", "-q", "-f", "qcow2", f"{TMP}/c0.qcow2", "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", f"{TMP}/c0.qcow2")
    for i in range(1, 200):
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", f"c{i - 1}.qcow2", "-F", "qcow2",
            f"{TMP}/c{i}.qcow2", "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 8 64k 64k", f"{TMP}/c199.qcow2")
    add(qmp, f"{TMP}/c199.qcow2")
    qmp("block-export-add", type="nbd", id="e", node_name="q", name="chain")
    run("qemu-io", "-r", "-f", "raw", "-c", "read -P 7 0 64k", "-c", "read -P 8 64k 64k", "-c", "read -P 7 128k 896k",
        d.uri("chain"))
    qmp("block-export-del", id="e", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp("blockdev-del", node_name="q")
    assert not qmp("query-named-block-nodes", flat=True)


def corruption(d, qmp):
    """What reading finds is told once; other clusters stay readable."""
    path = create("corrupt")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", path)
    l2 = peek(path, peek(path, 40, ">Q"), ">Q") & 0xfffffffffffe00
    poke(path, l2 + 8, struct.pack(">Q", 1 << 63 | 0x50200))
    poke(path, l2 + 16, struct.pack(">Q", 1 << 62 | 1 << 40))
    add(qmp, path)
    qmp("block-export-add", type="nbd", id="e", node_name="q", name="corrupt")
    for offset, good in (("0", True), ("64k", False), ("64k", False), ("128k", False), ("192k", True)):
        done = subprocess.run(["qemu-io", "-r", "-f", "raw", "-c", f"read -P 1 {offset} 4k", d.uri("corrupt")],
                              capture_output=True, text=True, timeout=60)
        assert ("Input/output error" in done.stdout + done.stderr) == (not good), (offset, done)
    data = qmp.wait_event("BLOCK_IMAGE_CORRUPTED")["data"]
    assert data == {"device": "e", "node-name": "q", "fatal": False, "offset": 0x50200,
                    "msg": "Cluster allocation offset 0x50200 unaligned (guest offset: 0x10000)"}, data
    qmp("query-version")
    assert "BLOCK_IMAGE_CORRUPTED" not in [e["event"] for e in qmp.events]
    qmp("block-export-del", id="e", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp("blockdev-del", node_name="q")


def options(qmp):
    path = create("options")
    for more, sentence in (
            ({"l2-cache-size": 2 * MIB, "cache-size": MIB}, "l2-cache-size may not exceed cache-size"),
            ({"l2-cache-entry-size": 1000}, "L2 cache entry size must be a power of two between 512 and the "
             "cluster size (65536)"),
            ({"l2-cache-entry-size": 131072}, "L2 cache entry size must be a power of two between 512 and the "
             "cluster size (65536)"),
            ({"cache-size": 1 << 50}, "L2 cache size too big")):
        refused(qmp, path, sentence, **more)

def writing(qmp):
    """Images that may be read only."""
    base = create("writable")
    for name, where, value, sentence in (
            ("corrupted", 72, 2, "Image is corrupt; cannot be opened read/write"),
            ("dirty", 72, 1, "The image was not closed and its refcounts are out of date: repair it with qemu-img "
             "check -r all, or say read-only=on")):
        path = poke(copy(base, name), where, struct.pack(">Q", value))
        add(qmp, path)
        qmp("blockdev-del", node_name="q")
        refused(qmp, path, sentence, **{"read-only": False})
        add(qmp, path, **{"read-only": False, "auto-read-only": True})
        assert all(n["ro"] for n in qmp("query-named-block-nodes", flat=True) if n["node-name"] == "q")
        qmp("blockdev-del", node_name="q")
    refused(qmp, create("readonly", options="extended_l2=on"),
            "Images with subclusters can only be read by this version: say read-only=on", **{"read-only": False})
    # What writers must know and we don't is cleared before anything is written.
    path = poke(copy(base, "autoclear"), 88, struct.pack(">Q", 1 << 60))
    add(qmp, path, **{"read-only": False})
    qmp("blockdev-del", node_name="q")
    assert peek(path, 88, ">Q") == 0


def main():
    with daemon("--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d:
        qmp = d.qmp()
        hostile_headers(d, qmp)
        options(qmp)
        writing(qmp)
        other_files(qmp)
        corruption(d, qmp)
        chain(d, qmp)
        qmp.close()
    guesses()


main()
