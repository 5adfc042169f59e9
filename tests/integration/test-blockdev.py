#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""blockdev-add and blockdev-del beside qemu-storage-daemon: what is refused, in which words, that nothing is
left of it, what nodes inherit, and that options do what they say."""

import contextlib
import json
import os

import oracle
from harness import TMP, daemon, fails
from nbdclient import EINVAL, ENOSPC, FLUSH, STATUS, TRIM, WRITE, ZERO, connect

GE = "GenericError"
IMAGE, ODD, FOLDER = f"{TMP}/image.raw", f"{TMP}/odd.raw", f"{TMP}/folder"


def add(**options):
    return "blockdev-add", {k.replace("_", "-"): v for k, v in options.items()}


def inline(**more):
    return dict({"driver": "file", "filename": IMAGE}, **more)


def names():
    return [add(driver="null-co", node_name=n) for n in (
        "", "#a", "#block123", "1a", "a b", "a/b", "a:b", "é", "-a", ".a", "_a", "a" * 32, "a" * 5000, "a,b",
        "a\n", "a=b")]


# Refused by both, in the same words.
REFUSED = [
    ("blockdev-add", {}), add(node_name="z"), add(driver="null-co"), add(driver="nope", node_name="z"),
    add(driver=1, node_name="z"), add(driver=None, node_name="z"), add(driver=["file"], node_name="z"),
    add(driver="null-co", node_name=1), add(driver="null-co", node_name=None),
    *names(), add(driver="null-co", node_name="n"), add(driver="null-aio", node_name="n"),
    add(driver="null-co", node_name="z", x=1), add(driver="null-co", node_name="z", file="n"),
    add(driver="null-co", node_name="z", size="1"), add(driver="null-co", node_name="z", size=1.5),
    add(driver="null-co", node_name="z", size=1 << 63), add(driver="null-co", node_name="z", size=1 << 64),
    add(driver="null-co", node_name="z", size=(1 << 63) - 1), add(driver="null-co", node_name="z", size=True),
    add(driver="null-co", node_name="z", detect_zeroes="unmap"),
    add(driver="null-co", node_name="z", detect_zeroes="unmap", discard="ignore"),
    add(driver="null-co", node_name="z", detect_zeroes="x"), add(driver="null-co", node_name="z", discard="x"),
    add(driver="null-co", node_name="z", discard=True), add(driver="null-co", node_name="z", cache=1),
    add(driver="null-co", node_name="z", cache={"direct": 1}),
    add(driver="null-co", node_name="z", cache={"x": True}),
    add(driver="null-co", node_name="z", cache={"no-flush": "on"}),
    add(driver="null-co", node_name="z", read_only="on"), add(driver="null-co", node_name="z", read_only=1),
    add(driver="null-co", node_name="z", auto_read_only="off"),
    add(driver="null-co", node_name="z", force_share=True),
    add(driver="null-co", node_name="z", force_share=True, read_only=False),
    add(driver="file", node_name="z"), add(driver="file", node_name="z", filename=1),
    add(driver="file", node_name="z", filename=None), add(driver="file", node_name="z", filename=""),
    add(driver="file", filename=IMAGE), add(driver="file", node_name="z", filename=IMAGE, x=1),
    add(driver="file", node_name="z", filename=IMAGE, size=512), add(driver="file", node_name="n", filename=IMAGE),
    add(driver="file", node_name="z", filename="/no/such/file"), add(driver="file", node_name="z", filename=FOLDER),
    add(driver="file", node_name="z", filename=FOLDER + "/"), add(driver="file", node_name="z", filename=IMAGE + "/"),
    add(driver="file", node_name="z", filename="x" * 256), add(driver="file", node_name="z", filename="x" * 5000),
    add(driver="file", node_name="z", filename="/dev/null"), add(driver="file", node_name="z", filename="file:" + IMAGE),
    add(driver="file", node_name="z", filename="nbd:unix:/no/such"),
    add(driver="file", node_name="z", filename='json:{"driver":"null-co"}'),
    add(driver="file", node_name="z", filename=IMAGE, aio="native"),
    add(driver="file", node_name="z", filename=IMAGE, aio="nope"),
    add(driver="file", node_name="z", filename=IMAGE, aio="native", cache={"direct": False}),
    add(driver="file", node_name="z", filename=IMAGE, locking="maybe"),
    add(driver="file", node_name="z", filename=IMAGE, locking=True),
    add(driver="file", node_name="z", filename=IMAGE, pr_manager="pr"),
    add(driver="file", node_name="z", filename=IMAGE, force_share=True),
    *[add(driver=d, node_name="z", filename=f) for d in ("host_device", "host_cdrom")
      for f in (IMAGE, FOLDER, "/no/such/device", "")],
    add(driver="raw", node_name="z"), add(driver="raw", node_name="z", file="nope"),
    add(driver="raw", node_name="z", file=""), add(driver="raw", node_name="z", file=1),
    add(driver="raw", node_name="z", file=None), add(driver="raw", node_name="z", file=[]),
    add(driver="raw", node_name="z", file={}), add(driver="raw", node_name="z", file={"driver": "file"}),
    add(driver="raw", node_name="z", file={"driver": "file", "filename": "/no/such"}),
    add(driver="raw", node_name="z", file=inline(x=1)), add(driver="raw", node_name="z", file=inline(**{"node-name": "n"})),
    add(driver="raw", node_name="z", file=inline(**{"node-name": "#"})), add(driver="raw", node_name="z", file="z"),
    add(driver="raw", node_name="z", file=inline(**{"node-name": "z"})),
    add(driver="raw", node_name="z", file=inline(), x=1), add(driver="raw", file=inline()),
    add(driver="raw", node_name="z", file=inline(), filename=IMAGE),
    add(driver="raw", node_name="z", file="n", offset=(1 << 30) + 1), add(driver="raw", node_name="z", file="n", offset=1 << 62),
    add(driver="raw", node_name="z", file="n", offset=-1), add(driver="raw", node_name="z", file="n", size=-512),
    add(driver="raw", node_name="z", file="n", size=(1 << 30) + 512), add(driver="raw", node_name="z", file="n", size=513),
    add(driver="raw", node_name="z", file="n", offset=512, size=1 << 30),
    add(driver="raw", node_name="z", file="n", size="1k"), add(driver="raw", node_name="z", file="n", offset=0.5),
    add(driver="raw", node_name="z", file="n", offset=1 << 64),
    add(driver="raw", node_name="z", detect_zeroes="unmap", file=inline()),
    add(driver="raw", node_name="z", file=inline(**{"read-only": True})),
    add(driver="raw", node_name="z", read_only=True, file={"driver": "raw", "file": {"driver": "raw", "file": inline(filename="/no")}}),
    add(driver="raw", node_name="z", force_share=True, file=inline(**{"read-only": True})),
    ("blockdev-del", {}), ("blockdev-del", {"node-name": 1}), ("blockdev-del", {"node-name": ""}),
    ("blockdev-del", {"node-name": "nope"}), ("blockdev-del", {"node-name": "n", "x": 1}),
    ("blockdev-del", {"id": "n"}), ("blockdev-del", {"node-name": "inner"}), ("blockdev-del", {"node-name": "used"}),
]
# A raw node takes what is read-only below it as it is, in both.
REFUSED.remove(add(driver="raw", node_name="z", file=inline(**{"read-only": True})))

# Refused here, for a reason, in words of our own: (command, arguments, our sentence).
OWN = [
    # The reference ends itself over these.
    (*add(driver="null-co", node_name="z", size=-1), "Parameter 'size' expects a non-negative number below 2^64"),
    (*add(driver="null-co", node_name="z", size=-(1 << 63)), "Parameter 'size' expects a non-negative number below 2^64"),
    (*add(driver="null-aio", node_name="z", size=-512), "Parameter 'size' expects a non-negative number below 2^64"),
    # It takes a negative number for one near 2^64.
    (*add(driver="null-co", node_name="z", latency_ns=-1), "Parameter 'latency-ns' expects uint64"),
    (*add(driver="null-co", node_name="z", latency_ns=1 << 63), "latency-ns is invalid"),
    # It cuts a string where it has a null character.
    (*add(driver="null-co", node_name="z\0z"), "Parameter 'node-name' expects a string without null characters"),
    (*add(driver="file", node_name="z", filename=IMAGE + "\0z"), "Parameter 'filename' expects a string without null characters"),
    # It has no passed descriptors.
    (*add(driver="file", node_name="z", filename="/dev/fdset/1"), "Could not open '/dev/fdset/1': No such file or directory"),
    (*add(driver="file", node_name="z", filename="/dev/fdset/x"), "Could not open '/dev/fdset/x': not the name of a descriptor set"),
    (*add(driver="file", node_name="z", filename="/dev/fdset/-1"), "Could not open '/dev/fdset/-1': not the name of a descriptor set"),
]

# Added, looked at and deleted again; what both say of all nodes is the same.
GRAPHS = [
    inline(), inline(**{"read-only": True}), inline(cache={"direct": True}), inline(cache={"no-flush": True}),
    inline(**{"detect-zeroes": "on"}), inline(**{"detect-zeroes": "unmap", "discard": "unmap"}),
    inline(**{"auto-read-only": True}), inline(**{"auto-read-only": True, "read-only": False}),
    inline(**{"force-share": True, "read-only": True}), inline(locking="off", aio="io_uring"), inline(locking="on"),
    inline(aio="native", cache={"direct": True}), inline(filename=ODD),
    {"driver": "raw", "file": inline()}, {"driver": "raw", "file": inline(), "read-only": True},
    {"driver": "raw", "file": inline(**{"read-only": True})},
    {"driver": "raw", "file": inline(**{"read-only": False}), "read-only": True},
    {"driver": "raw", "file": inline(), "cache": {"direct": True, "no-flush": True}},
    {"driver": "raw", "file": inline(cache={"direct": False}), "cache": {"direct": True}},
    {"driver": "raw", "file": inline(cache={"no-flush": True}), "cache": {"direct": True}},
    {"driver": "raw", "file": inline(), "detect-zeroes": "on"}, {"driver": "raw", "file": inline(), "auto-read-only": True},
    {"driver": "raw", "file": inline(**{"read-only": True}), "auto-read-only": True},
    {"driver": "raw", "file": inline(), "force-share": True, "read-only": True},
    {"driver": "raw", "file": inline(), "offset": 512, "size": 1024}, {"driver": "raw", "file": inline(), "offset": 1 << 20},
    {"driver": "raw", "file": inline(), "offset": 0, "size": 0},
    {"driver": "raw", "file": {"driver": "null-co", "read-zeroes": True}},
    {"driver": "null-co"}, {"driver": "null-aio", "size": 1000}, {"driver": "null-co", "read-zeroes": True, "size": 0},
    {"driver": "null-co", "read-only": True, "latency-ns": 5}, {"driver": "null-co", "detect-zeroes": "on"},
]


def plain(text):
    """A json: name without the order of its members."""
    return json.loads(text[5:]) if isinstance(text, str) and text.startswith("json:") else text


def comparable(nodes):
    """What is said of nodes, without what may differ: generated names; members that the seed of the
    interface or its newest form have and version 7.2 has not; the dirty flag of what cannot be dirty."""
    found = []
    for n in nodes:
        n = json.loads(json.dumps(n))
        for gone in ("active", "encryption_key_missing", "children"):
            n.pop(gone, None)
        if n["node-name"].startswith("#block"):
            n["node-name"] = "#block"
        n["file"] = plain(n["file"])
        n["image"]["filename"] = plain(n["image"]["filename"])
        if "null-" in str(n["file"]):
            n["image"].pop("dirty-flag", None)
        found.append(json.dumps(n, sort_keys=True))
    return sorted(found)


def settings(q):
    return q("query-named-block-nodes"), q("query-block-exports"), q("query-block")


def beside_the_reference():
    with oracle.pair() as p:
        p.good("blockdev-add", driver="null-co", node_name="n")
        p.good("blockdev-add", driver="null-co", node_name="used")
        p.good("blockdev-add", driver="raw", node_name="user", file="used")
        p.good("blockdev-add", driver="raw", node_name="outer", file={"driver": "null-co", "node-name": "inner"})
        p.good("blockdev-add", driver="file", node_name="warm", filename=IMAGE)
        p.good("blockdev-del", node_name="warm")
        before, descriptors = settings(p.ours), p.daemons[0].descriptors()
        for command, arguments in REFUSED:
            p.refused(command, arguments)
            assert settings(p.ours) == before, (command, arguments)
        for command, arguments, text in OWN:
            fails(GE, text, p.ours.execute, command, arguments)
            assert settings(p.ours) == before, (command, arguments)
        assert p.daemons[0].descriptors() == descriptors, "a refused command left a descriptor open"
        for name in ("A.-_9z", "a" * 31, "Z"):
            p.good("blockdev-add", driver="null-co", node_name=name)
            p.good("blockdev-del", node_name=name)
        for graph in GRAPHS:
            p.good("blockdev-add", **graph, node_name="t")
            for flat in ({}, {"flat": True}):
                mine, reference = p.good("query-named-block-nodes", **flat)
                differ = set(comparable(mine)) ^ set(comparable(reference))
                assert not differ and len(mine) == len(reference), (graph, differ)
            p.good("blockdev-del", node_name="t")
        assert settings(p.ours) == before and p.daemons[0].descriptors() == descriptors
        for name in ("user", "used", "outer"):
            p.good("blockdev-del", node_name=name)
        mine, reference = p.good("query-named-block-nodes")
        assert [n["node-name"] for n in mine] == [n["node-name"] for n in reference] == ["n"]


def refused_alone(d):
    """The same without the reference: nothing stays, the daemon goes on."""
    with contextlib.closing(d.qmp()) as q:
        for name, driver in (("n", "null-co"), ("used", "null-co")):
            q("blockdev-add", driver=driver, node_name=name)
        q("blockdev-add", driver="raw", node_name="user", file="used")
        q("blockdev-add", driver="raw", node_name="outer", file={"driver": "null-co", "node-name": "inner"})
        before, descriptors = settings(q), d.descriptors()
        for command, arguments in REFUSED + [case[:2] for case in OWN]:
            fails(GE, "...", q.execute, command, arguments)
        assert settings(q) == before and d.descriptors() == descriptors
        for name in ("user", "used", "outer", "n"):
            q("blockdev-del", node_name=name)
        assert q("query-named-block-nodes") == []


def flags_of(d, path):
    """How the daemon has a file open: {descriptor: flags}."""
    folder, found = f"/proc/{d.process.pid}/fd", {}
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{folder}/{fd}") == path:
                with open(f"/proc/{d.process.pid}/fdinfo/{fd}", encoding="ascii") as f:
                    found[fd] = int(f.read().split("flags:")[1].split()[0], 8)
    return found


def opened_as_said(d):
    """cache.direct, read-only and what a child inherits of them, as the kernel sees it."""
    path = os.path.realpath(IMAGE)
    direct = hasattr(os, "O_DIRECT") and os.O_DIRECT
    with contextlib.closing(d.qmp()) as q:
        for options, child, mode, with_direct in (
                ({}, {}, os.O_RDWR, False), ({"read-only": True}, {}, os.O_RDONLY, False),
                ({"cache": {"direct": True}}, {}, os.O_RDWR, True),
                ({"cache": {"direct": True}}, {"cache": {"direct": False}}, os.O_RDWR, False),
                ({}, {"cache": {"direct": True}, "read-only": True}, os.O_RDONLY, True),
                ({"read-only": True, "cache": {"direct": True}}, {}, os.O_RDONLY, True)):
            q.execute("blockdev-add", dict({"driver": "raw", "node-name": "r", "file": inline(**child)}, **options))
            (flags,) = flags_of(d, path).values()
            assert flags & os.O_ACCMODE == mode and bool(flags & direct) == with_direct, (options, child, oct(flags))
            assert flags & os.O_CLOEXEC
            q("blockdev-del", node_name="r")
            assert not flags_of(d, path)


@contextlib.contextmanager
def exported(d, q, writable=True, **options):
    q.execute("blockdev-add", dict({"node-name": "x"}, **options))
    q("nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    q("block-export-add", type="nbd", id="e", node_name="x", writable=writable)
    with connect(d.nbd_path, contexts=("base:allocation",)) as c:
        yield c
        c.end()
    q("nbd-server-stop")
    q("blockdev-del", node_name="x")


def blocks(path):
    return os.stat(path).st_blocks


def zeroes_and_discards(d):
    """detect-zeroes and discard: what becomes of the file's blocks.  Its bytes are right in every case."""
    size, path = 1 << 20, f"{TMP}/blocks.raw"

    def fill():
        with open(path, "wb") as f:
            f.write(b"d" * size)
            os.fsync(f.fileno())

    with contextlib.closing(d.qmp()) as q:
        for detect, discard, zero_frees, trim_frees in (
                ("off", "ignore", False, False), ("off", "unmap", False, True),
                ("on", "ignore", False, False), ("unmap", "unmap", True, True)):
            fill()
            full = blocks(path)
            with exported(d, q, driver="file", filename=path, **{"detect-zeroes": detect, "discard": discard}) as c:
                c.write(0, bytes(size // 2))
                assert c.error(FLUSH) == 0
                assert c.read(0, size // 2) == bytes(size // 2) and c.read(size // 2, 16) == b"d" * 16
                assert (blocks(path) < full) == zero_frees, (detect, discard, full, blocks(path))
                left = blocks(path)
                assert c.error(TRIM, size // 2, size // 2) == 0
                assert (blocks(path) < left) == trim_frees, (detect, discard, left, blocks(path))
                if not trim_frees:
                    assert c.read(size // 2, 16) == b"d" * 16, "an ignored discard changes nothing"
            with open(path, "rb") as f:
                assert f.read(size // 2) == bytes(size // 2)


def null_driver(d):
    with contextlib.closing(d.qmp()) as q:
        for driver in ("null-co", "null-aio"):
            for size, seen in ((1000, 1024), (0, 0), (1 << 20, 1 << 20), (None, 1 << 30)):
                options = {} if size is None else {"size": size}
                with exported(d, q, driver=driver, **options) as c:
                    assert c.size == seen, (size, c.size)
            with exported(d, q, driver=driver, **{"read-zeroes": True}) as c:
                assert c.error(WRITE, 0, data=b"gone") == 0 and c.read(0, 4) == bytes(4)
                (extents,) = c.request(STATUS, 0, 1 << 30).status.values()
                assert extents == [(1 << 30, 3)], extents
                assert c.error(ZERO, 0, 1 << 30) == 0
            with exported(d, q, driver=driver) as c:
                assert c.read(0, 512) == bytes(512), "nobody may see what another one read"
                (extents,) = c.request(STATUS, 0, 1 << 30).status.values()
                assert all(flags != 3 for _, flags in extents), extents


def raw_window(d):
    """Bytes outside a window are never touched."""
    path, size = f"{TMP}/window.raw", 64 << 10
    with contextlib.closing(d.qmp()) as q:
        for offset, length in ((0, 512), (512, 1024), (513, 1536), (1, size - 512), (size - 512, 512), (1000, None)):
            for direct in (False, True):
                with open(path, "wb") as f:
                    f.write(b"." * size)
                options = {"offset": offset} if length is None else {"offset": offset, "size": length}
                with exported(d, q, driver="raw", file={"driver": "file", "filename": path},
                              cache={"direct": direct}, **options) as c:
                    assert c.size == (size - offset if length is None else length), (offset, c.size)
                    minimum = c.block_sizes[0]
                    assert minimum == 1 or c.size % minimum == 0, "the end is out of reach for a client that obeys"
                    c.write(0, b"w" * c.size)
                    assert c.read(0, c.size) == b"w" * c.size
                    error = c.error(WRITE, c.size, data=b"!")
                    assert error == (EINVAL if direct and minimum > 1 else ENOSPC), (error, minimum)
                    used = c.size
                with open(path, "rb") as f:
                    data = f.read()
                assert data == b"." * offset + b"w" * used + b"." * (size - offset - used), (offset, length)


def inline_children(d):
    """They come and go with their parent, deep ones too, also when the last step fails."""
    with contextlib.closing(d.qmp()) as q:
        before = d.descriptors()
        deep = inline(**{"node-name": "c0"})
        for i in range(1, 20):
            deep = {"driver": "raw", "node-name": f"c{i}", "file": deep}
        q.execute("blockdev-add", deep)
        assert len(q("query-named-block-nodes")) == 20
        for i in range(19):
            fails(GE, f"Node c{i} is not owned by the monitor", q, "blockdev-del", node_name=f"c{i}")
        fails(GE, "Duplicate nodes with node-name='c5'", q, "blockdev-add", driver="raw", node_name="z",
              file=dict(inline(), **{"node-name": "c5"}))
        q("blockdev-del", node_name="c19")
        assert q("query-named-block-nodes") == [] and d.descriptors() == before
        for _ in range(50):
            fails(GE, "Offset (1048577) cannot be greater than size of the containing file (1048576)", q,
                  "blockdev-add", driver="raw", node_name="z", offset=(1 << 20) + 1, file=inline())
        assert q("query-named-block-nodes") == [] and d.descriptors() == before


def generated_names(d):
    """Nodes without a name get one of their own that no client can take, and it can be used."""
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="raw", node_name="r", file=inline())
        (name,) = (n["node-name"] for n in q("query-named-block-nodes") if n["node-name"] != "r")
        assert name.startswith("#block"), name
        fails(GE, f"Node {name} is not owned by the monitor", q, "blockdev-del", node_name=name)
        fails(GE, f"Invalid node-name: '{name}'", q, "blockdev-add", driver="null-co", node_name=name)
        q("block-set-write-threshold", node_name=name, write_threshold=5)
        q("blockdev-del", node_name="r")


def write_threshold(d):
    with contextlib.closing(d.qmp()) as q:
        with exported(d, q, driver="raw", file=inline(**{"node-name": "below"})) as c:
            q("block-set-write-threshold", node_name="below", write_threshold=65536)
            c.write(0, bytes(65536))
            c.write(0, bytes(131072))
            data = q.wait_event("BLOCK_WRITE_THRESHOLD")["data"]
            assert data == {"node-name": "below", "amount-exceeded": 65536, "write-threshold": 65536}, data
            c.write(0, bytes(131072))  # told once
            q("block-set-write-threshold", node_name="below", write_threshold=1)
            q("block-set-write-threshold", node_name="below", write_threshold=0)
            c.write(0, bytes(131072))
            q("query-version")
            assert not [e for e in q.events if e["event"] == "BLOCK_WRITE_THRESHOLD"]
            fails("DeviceNotFound", "Device 'nope' not found", q, "block-set-write-threshold", node_name="nope",
                  write_threshold=1)
            fails(GE, "Parameter 'write-threshold' expects uint64", q, "block-set-write-threshold",
                  node_name="below", write_threshold=-1)
            q("block-set-write-threshold", node_name="below", write_threshold=(1 << 64) - 1)


def random_arguments(d):
    """Whatever the values are: a reply, and the daemon goes on."""
    values = [None, True, 0, -1, 1 << 63, -(1 << 63), (1 << 64) - 1, 0.5, 1e300, "", "x", "\0", "é" * 100, [], {},
              [[]], {"driver": "raw"}, {"driver": "null-co", "node-name": "q"}, "n"]
    members = ["size", "offset", "file", "filename", "cache", "discard", "detect-zeroes", "read-only", "aio",
               "auto-read-only", "force-share", "locking", "latency-ns", "read-zeroes", "node-name", "driver"]
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="null-co", node_name="n")
        for base in ({"driver": "null-co"}, {"driver": "raw", "file": inline()}, inline(), {"driver": "host_device",
                                                                                         "filename": IMAGE}):
            for member in members:
                for value in values:
                    options = dict(base, **{"node-name": "v"})
                    options[member] = value
                    q.send(json.dumps({"execute": "blockdev-add", "arguments": options}))
                    if "return" in q.reply():
                        q("blockdev-del", node_name=options["node-name"])
        q("blockdev-del", node_name="n")
        assert q("query-named-block-nodes") == []


def main():
    for path, size in ((IMAGE, 1 << 20), (ODD, 1000)):
        with open(path, "wb") as f:
            f.truncate(size)
    os.mkdir(FOLDER)
    if oracle.there():
        beside_the_reference()
    else:
        print("beside_the_reference: qemu-storage-daemon is not here")
    with daemon() as d:
        for test in (refused_alone, opened_as_said, zeroes_and_discards, null_driver, raw_window, inline_children,
                     generated_names, write_threshold, random_arguments):
            print(test.__name__, flush=True)
            test(d)


if __name__ == "__main__":
    main()
