#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""What nbdinfo tells of every kind of export: of each driver, read-only and writable, with every option of
an export that a client can see.  Beside qemu-storage-daemon, of which it must tell the same."""

import contextlib
import json
import subprocess
import urllib.parse

import oracle
from harness import TMP, daemon

MIB = 1 << 20
SPARSE, ODD, TINY, EMPTY = (f"{TMP}/{name}.raw" for name in ("sparse", "odd", "tiny", "empty"))
MAPS = "base:allocation", "qemu:allocation-depth"


def file(path, **more):
    return dict({"driver": "file", "filename": path, "locking": "off"}, **more)


def raw(below, **more):
    return dict({"driver": "raw", "file": below}, **more)


# The node, and the options of its export: the name of the export is that of its case.
CASES = {
    "file": (file(SPARSE), {}),
    "file-writable": (file(SPARSE), {"writable": True}),
    "file-read-only": (file(SPARSE, **{"read-only": True}), {}),
    "file-auto": (file(SPARSE, **{"auto-read-only": True}), {"writable": True}),
    "file-direct": (file(SPARSE, cache={"direct": True}), {"writable": True}),
    "file-no-flush": (file(SPARSE, cache={"no-flush": True}), {"writable": True}),
    "file-unmap": (file(SPARSE, **{"discard": "unmap", "detect-zeroes": "unmap"}), {"writable": True}),
    "odd": (file(ODD), {"writable": True}),
    "tiny": (file(TINY), {}),
    "empty": (file(EMPTY), {"writable": True}),
    "raw": (raw(file(SPARSE)), {"writable": True}),
    "raw-direct": (raw(file(SPARSE), cache={"direct": True}), {}),
    "window": (raw(file(SPARSE), offset=4096, size=MIB), {"writable": True}),
    "window-odd": (raw(file(SPARSE), offset=513, size=1024), {}),
    "window-rest": (raw(file(ODD), offset=512), {}),
    "raw-raw": (raw(raw(file(SPARSE), offset=MIB), offset=MIB), {}),
    "null-co": ({"driver": "null-co"}, {}),
    "null-aio": ({"driver": "null-aio", "size": 1000}, {"writable": True}),
    "null-zeroes": ({"driver": "null-co", "read-zeroes": True, "size": MIB}, {"writable": True}),
    "null-empty": ({"driver": "null-co", "size": 0}, {}),
    "null-huge": ({"driver": "null-co", "size": 1 << 60, "read-zeroes": True}, {}),
    "raw-null": (raw({"driver": "null-co", "read-zeroes": True}), {}),
    "depth": (raw(file(SPARSE)), {"allocation-depth": True}),
    "depth-null": ({"driver": "null-co"}, {"allocation-depth": True}),
    "described": (file(SPARSE), {"description": "what it is: äöü \"quoted\" \\ \t"}),
    "through": (file(SPARSE), {"writable": True, "writethrough": True}),
    "": (raw(file(SPARSE)), {}),
    "ä ü/?&%41": (raw(file(ODD)), {"description": ""}),
    "x" * 200: (raw(file(TINY)), {"bitmaps": []}),
}


def nbdinfo(d, name, *options):
    uri = f"nbd+unix:///{urllib.parse.quote(name, safe='')}?socket={d.nbd_path}"
    done = subprocess.run(["nbdinfo", *options, uri], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout.decode().replace(d.nbd_path, "SOCKET")


def parsed(d, name, *options):
    status, text = nbdinfo(d, name, "--json", *options)
    assert status == 0, (name, options, text)
    return json.loads(text)


def merged(extents):
    """Extents without the cuts that mean nothing."""
    found = []
    for e in extents:
        last = found[-1] if found else None
        if last and last["type"] == e["type"]:
            last["length"] += e["length"]
        else:
            found.append(dict(e))
    return found


def told(d, name, node, options):
    """All that nbdinfo has to say about an export."""
    info = parsed(d, name)
    answers = {"info": info}
    for how in ("--size", "--is=read-only", "--is=rotational", "--is=tls", *(f"--can={can}" for can in (
            "cache", "connect", "df", "fast-zero", "flush", "fua", "multi-conn", "read", "trim", "write", "zero"))):
        answers[how] = nbdinfo(d, name, how)
    for context in MAPS:
        if node.get("size") != 1 << 60 and context in info["exports"][0]["contexts"]:
            answers[context] = merged(parsed(d, name, f"--map={context}"))
            answers[context + " totals"] = parsed(d, name, f"--map={context}", "--totals")
    return answers


def sound(name, options, answers):
    """What must be so of any server."""
    (e,) = answers["info"]["exports"]
    assert e["export-name"] == name and e.get("description") == (options.get("description") or None), e
    assert e["is_read_only"] is not options.get("writable", False), e
    assert ("qemu:allocation-depth" in e["contexts"]) is options.get("allocation-depth", False), e
    assert e["can_multi_conn"] and e["can_df"] and e["can_flush"] and e["can_fua"], e
    for context in MAPS:
        if context in answers:
            assert sum(x["length"] for x in answers[context]) == e["export-size"], (name, answers[context])
    if name == "file":
        assert [(x["offset"], x["length"], x["type"]) for x in answers["base:allocation"]] == [
            (0, MIB, 0), (MIB, 2 * MIB, 3), (3 * MIB, 65536, 0), (3 * MIB + 65536, 5 * MIB - 65536, 3)], answers


def differs(name, key):
    """May the reference say something else there?"""
    return (
        # The short last sector of a file is told as one of data or a hole, not as two parts.
        name in ("tiny", "x" * 200) and key.startswith("base:allocation")
        # A null disk is all there is: what it says comes from nowhere below.
        or name == "depth-null" and key.startswith("qemu:allocation-depth"))


def cleaned(e, name):
    """An export's members that must be the same in both."""
    e = dict(e)
    if name in ("null-co", "null-aio", "depth-null"):
        e.pop("content", None)  # of bytes that mean nothing
    if name == "raw-direct":  # the raw node has the blocks of its file: no client makes it read and write its edges
        e.pop("block_size_minimum")
    return e


def compare(p):
    for name, (node, options) in CASES.items():
        mine, reference = (told(d, name, node, options) for d in p.daemons)
        sound(name, options, mine)
        for key, value in reference.items():
            if key == "info":
                assert mine[key].keys() == value.keys(), (mine[key], value)
                a, b = (cleaned(i["exports"][0], name) for i in (mine[key], value))
                assert a == b, f"{name}: {a} rather than {b}"
            elif not differs(name, key):
                assert mine[key] == value, f"{name}, {key}: {mine[key]} rather than {value}"
    lists = [parsed(d, "", "--list") for d in p.daemons]
    mine, reference = ([cleaned(e, e["export-name"]) for e in sorted(x.pop("exports"), key=lambda e: e["export-name"])]
                       for x in lists)
    assert lists[0] == lists[1] and len(mine) == len(reference) == len(CASES), lists
    for a, b in zip(mine, reference):
        assert a == b, (a, b)


def alone():
    with daemon("--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d, contextlib.closing(d.qmp()) as q:
        add_all(lambda command, **arguments: q.execute(command, arguments))
        for name, (node, options) in CASES.items():
            sound(name, options, told(d, name, node, options))


def add_all(execute):
    for i, (name, (node, options)) in enumerate(CASES.items()):
        execute("blockdev-add", **dict(node, **{"node-name": f"n{i}"}))
        execute("block-export-add", **dict(options, type="nbd", id=f"e{i}", name=name, **{"node-name": f"n{i}"}))


def main():
    for path, size, data in ((SPARSE, 8 * MIB, ((0, MIB), (3 * MIB, 65536))), (ODD, 70000, ((0, 1000),)),
                             (TINY, 1, ((0, 1),)), (EMPTY, 0, ())):
        with open(path, "wb") as f:
            f.truncate(size)
            for offset, length in data:
                f.seek(offset)
                f.write(b"d" * length)
    if not oracle.there():
        print(f"{oracle.PROGRAM} is not here")
        alone()
        return
    with oracle.pair() as p:
        p.good("nbd-server-start", addr={"type": "unix", "data": {"path": "NBD"}})
        add_all(p.good)
        compare(p)


if __name__ == "__main__":
    main()
