#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""host_device and host_cdrom: what each driver takes for a device, beside qemu-storage-daemon, and block devices
with all that they can do, where the machine lets us make some (loop devices)."""

import contextlib
import json
import os
import subprocess

import oracle
from harness import TMP, QmpError, daemon, fails
from nbdclient import EINVAL, FLUSH, TRIM, ZERO, connect

GE = "GenericError"
MIB = 1 << 20
CHARACTER = ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty", "/dev/nope", "/dev/ptmx"]
OPTIONS = [{}, {"read-only": True}, {"auto-read-only": True}, {"cache": {"direct": True}}]


def run(*command, ok=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode(errors="replace")
    assert (done.returncode == 0) == ok, f"{command}: {text}"
    return text


def make(name, size):
    path = f"{TMP}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


class NoLoop(Exception):
    """No loop device can be made here."""


@contextlib.contextmanager
def loop(path, *options):
    made = subprocess.run(["losetup", "-f", "--show", *options, path], capture_output=True)
    if made.returncode != 0:
        raise NoLoop(made.stderr.decode().strip())
    device = made.stdout.decode().strip()
    try:
        yield device
    finally:
        run("losetup", "-d", device)


@contextlib.contextmanager
def exported(d, q, path, driver="host_device", writable=True, **options):
    q.execute("blockdev-add", dict({"driver": driver, "node-name": "n", "filename": path}, **options))
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    q("block-export-add", type="nbd", id="e", name="x", node_name="n", writable=writable)
    with connect(d.nbd_path, contexts=("base:allocation",)) as c:
        yield c
        c.end()
    q("nbd-server-stop")
    q("blockdev-del", node_name="n")


def outcome(p, q, arguments):
    """(error's text, None) or (None, what the node is)."""
    answer = p.answer(q, "blockdev-add", arguments)
    if isinstance(answer, QmpError):
        assert answer.kind == GE, answer
        return answer.text, None
    (n,) = q("query-named-block-nodes")
    q("blockdev-del", node_name="n")
    return None, (n["drv"], n["ro"], n["image"]["virtual-size"])


def kinds():
    """Character devices, what is none, and what is not there."""
    if not oracle.there():
        print(f"kinds: {oracle.PROGRAM} is not here")
        return
    with oracle.pair() as p:
        for driver in ("host_device", "host_cdrom", "file"):
            for path in CHARACTER:
                for options in OPTIONS:
                    arguments = dict({"driver": driver, "node-name": "n", "filename": path}, **options)
                    before = p.daemons[0].descriptors()
                    mine, reference = (outcome(p, q, arguments) for q in (p.ours, p.theirs))
                    assert p.daemons[0].descriptors() == before, arguments
                    if driver == "file" and path.startswith("/dev/") and path != "/dev/nope":
                        # It is not even opened, so its kind is all there is to say.
                        assert mine[0] == f"'file' driver requires '{path}' to be a regular file", mine
                        assert reference[0], reference
                    elif path == "/dev/ptmx" and "cache" not in options:
                        assert mine[0] == f"Could not find out the size of '{path}': Illegal seek", mine
                        assert reference[0] == "Could not refresh total sector count: Illegal seek", reference
                    else:
                        assert mine == reference, (arguments, mine, reference)


def data(d, q):
    """Sectors of both sizes, with and without the page cache: bytes, zeroes, discards, what is not aligned."""
    for sector in (512, 4096):
        path = make(f"data{sector}", 8 * MIB)
        with loop(path, "-b", str(sector)) as device:
            for driver, direct in (("host_device", True), ("host_device", False), ("host_cdrom", False)):
                with exported(d, q, device, driver, cache={"direct": direct}, discard="unmap") as c:
                    assert c.size == 8 * MIB and c.block_sizes[0] == (sector if direct else 1), c.block_sizes
                    run("qemu-io", "-f", "raw", "-c", "write -P 5 0 2M", "-c", "read -P 5 0 2M",
                        "-c", "write -z 64k 64k", "-c", "write -z -u 256k 64k", "-c", "discard 1M 64k",
                        "-c", "read -P 0 64k 64k", "-c", "read -P 0 256k 64k", "-c", "write -P 6 4097 1000",
                        "-c", "read -P 6 4097 1000", "-c", "read -P 5 0 4097", "-c", "flush", d.uri("x"))
                run("qemu-io", "-f", "raw", "-r", "-c", "read -P 6 4097 1000", device)
            fails(GE, f"'file' driver requires '{device}' to be a regular file", q, "blockdev-add", driver="file",
                  node_name="n", filename=device)


def frees(d, q):
    """What is discarded, or zeroed when that may free it, is given back to the disk behind."""
    path = make("frees", 8 * MIB)
    with loop(path) as device:
        for discard, kind, freed in (("unmap", TRIM, True), ("ignore", TRIM, False), ("unmap", ZERO, True)):
            with open(path, "r+b") as f:
                f.write(b"d" * 8 * MIB)
                os.fsync(f.fileno())
            full = os.stat(path).st_blocks
            with exported(d, q, device, discard=discard) as c:
                assert c.error(kind, MIB, 4 * MIB) == 0 and c.error(FLUSH) == 0
                zeroed = kind == ZERO or freed
                assert c.read(2 * MIB, 512) == (bytes(512) if zeroed else b"d" * 512), (discard, kind)
                assert c.read(MIB - 1, 1) == c.read(5 * MIB, 1) == b"d"
            assert (os.stat(path).st_blocks < full - 4096) == freed, (discard, kind, full, os.stat(path).st_blocks)


def grown(d, q):
    """A device has the size that it has: block_resize takes over what it has become, and no other."""
    path = make("grown", 2 * MIB)
    with loop(path) as device:
        with exported(d, q, device) as c:
            def refused(size, text):
                fails(GE, text, q, "block_resize", node_name="n", size=size)
                assert [n["image"]["virtual-size"] for n in q("query-named-block-nodes")] == [now]

            now = 2 * MIB
            refused(4 * MIB, f"Cannot grow device '{device}': it has {now} bytes")
            refused(MIB, f"Cannot resize device '{device}': it has {now} bytes")
            for now, before in ((4 * MIB, 2 * MIB), (MIB, 4 * MIB)):
                os.truncate(path, now)
                run("losetup", "-c", device)
                assert c.error(0, before, 512) == EINVAL, "not before somebody says so"
                q("block_resize", node_name="n", size=now)
                c.write(now - 512, b"z" * 512)
                assert c.error(0, now, 512) == EINVAL
                refused(8 * MIB, f"Cannot grow device '{device}': it has {now} bytes")
            assert os.path.getsize(path) == MIB


def read_only(d, q):
    path = make("read-only", 2 * MIB)
    with loop(path, "-r") as device:
        said = f"Could not open '{device}': The device is not writable: Permission denied"
        before = d.descriptors()
        fails(GE, said, q, "blockdev-add", driver="host_device", node_name="n", filename=device)
        fails(GE, said, q, "blockdev-add", driver="host_cdrom", node_name="n", filename=device, read_only=False)
        assert d.descriptors() == before and q("query-named-block-nodes") == []
        for driver, options in (("host_device", {"read-only": True}), ("host_device", {"auto-read-only": True}),
                                ("host_cdrom", {}), ("host_cdrom", {"read-only": True})):
            with exported(d, q, device, driver, False, **options) as c:
                assert c.read(0, 512) == bytes(512) and q("query-named-block-nodes")[0]["ro"] is True
                fails(GE, "...", q, "block-export-add", type="nbd", id="w", name="w", node_name="n", writable=True)


def locked(d, q):
    """Against QEMU's programs and another node, as files are."""
    path = make("locked", 2 * MIB)
    with loop(path) as device:
        with exported(d, q, device):
            said = run("qemu-io", "--image-opts", "-c", "write 0 512", f"driver=host_device,filename={device}", ok=False)
            assert 'Failed to get "write" lock' in said, said
            q("blockdev-add", driver="host_device", node_name="m", filename=device)
            fails(GE, 'Failed to get "write" lock...', q, "block-export-add", type="nbd", id="m", node_name="m",
                  writable=True)
            q("block-export-add", type="nbd", id="m", node_name="m")
            q("block-export-del", id="m")
            q.wait_event("BLOCK_EXPORT_DELETED")
            q("blockdev-del", node_name="m")
        run("qemu-io", "--image-opts", "-c", "write 0 512", f"driver=host_device,filename={device}")


def described():
    """nbdinfo tells the same of a device behind either daemon."""
    if not oracle.there():
        return
    with loop(make("described", 2 * MIB), "-b", "4096") as device, oracle.pair() as p:
        p.good("nbd-server-start", addr={"type": "unix", "data": {"path": "NBD"}})
        for name, options in (("a", {}), ("b", {"cache": {"direct": True}}), ("c", {"read-only": True})):
            p.good("blockdev-add", driver="host_device", node_name=name, filename=device, locking="off", **options)
            p.good("block-export-add", type="nbd", id=name, name=name, node_name=name)
            mine, reference = (json.loads(run("nbdinfo", "--json", f"nbd+unix:///{name}?socket={d.nbd_path}").replace(
                d.nbd_path, "SOCKET")) for d in p.daemons)
            assert mine == reference, (name, mine, reference)


def main():
    kinds()
    try:
        with daemon() as d, contextlib.closing(d.qmp()) as q:
            for test in (data, frees, grown, read_only, locked):
                print(test.__name__, flush=True)
                test(d, q)
                assert q("query-named-block-nodes") == []
        described()
    except NoLoop as error:
        print(f"no loop device can be made here: {error}")


if __name__ == "__main__":
    main()
