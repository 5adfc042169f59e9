#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""NBD servers and exports over QMP, beside qemu-storage-daemon: what is refused, in which words, the two
ways to remove an export, its event, the older commands, and the kinds of addresses."""

import array
import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import oracle
from harness import TMP, QmpError, daemon, fails
from nbdclient import EPERM, READ, READ_ONLY, WRITE, Client, HungUp, connect

GE = "GenericError"
IMAGE = f"{TMP}/image.raw"
UNIX = {"type": "unix", "data": {"path": "NBD"}}


def export(**options):
    return "block-export-add", dict({"type": "nbd", "id": "z", "node-name": "n"}, **options)


def start(addr, **more):
    return "nbd-server-start", dict({"addr": addr}, **more)


# Refused by both, in the same words, while there is no server ...
REFUSED_BEFORE = [
    export(), export(**{"node-name": "nope"}), ("nbd-server-stop", {}), ("nbd-server-add", {"device": "n"}),
    ("nbd-server-remove", {"name": "n"}), ("nbd-server-start", {}),
    start({}), start({"type": "unix"}), start({"type": "unix", "data": {}}), start({"type": "nope", "data": {}}),
    start({"type": "unix", "data": {"path": 1}}), start({"type": "unix", "data": {"path": "x", "x": 1}}),
    start("unix:x"), start({"type": "inet", "data": {"host": "127.0.0.1"}}), start({"type": "inet", "data": {"port": "0"}}),
    start({"type": "inet", "data": {"host": "127.0.0.1", "port": 1}}), start({"type": "unix", "path": "x"}),
    start(UNIX, **{"max-connections": -1}), start(UNIX, **{"max-connections": "1"}),
    start(UNIX, **{"max-connections": 1 << 32}), start(UNIX, x=1),
]
# ... and while there is one, with the export `e` named `name` of the node `n`.
REFUSED = [
    start(UNIX), ("block-export-add", {}), ("block-export-add", {"type": "nope", "id": "z", "node-name": "n"}),
    ("block-export-add", {"type": "nbd"}), ("block-export-add", {"type": "nbd", "id": "z"}),
    ("block-export-add", {"type": "nbd", "node-name": "n"}),
    export(**{"node-name": "nope"}), export(**{"node-name": ""}), export(id="e"), export(id=""), export(id="1"),
    export(id="a b"), export(id="#z"), export(id="z/z"), export(id=1), export(name="name"), export(name=1),
    export(name="x" * 4097), export(description="x" * 4097), export(x=1), export(writable="on"),
    export(bitmaps="b"), export(bitmaps=["b"]), export(iothread="nope"),
    export(**{"allocation-depth": 1}), export(**{"node-name": "ro", "writable": True}),
    ("block-export-del", {}), ("block-export-del", {"id": "nope"}), ("block-export-del", {"id": ""}),
    ("block-export-del", {"id": "e", "mode": "soft"}), ("block-export-del", {"id": "e", "mode": True}),
    ("block-export-del", {"id": "e", "x": 1}), ("blockdev-del", {"node-name": "n"}),
    ("nbd-server-add", {}), ("nbd-server-add", {"device": "n", "x": 1}), ("nbd-server-add", {"device": 1}),
    ("nbd-server-add", {"device": "n", "name": "z", "bitmap": "b"}), ("nbd-server-add", {"device": "n", "name": "x" * 5000}),
    ("nbd-server-remove", {}), ("nbd-server-remove", {"name": "nope"}), ("nbd-server-remove", {"name": "e", "mode": "x"}),
    ("query-block-exports", {"x": 1}),
]


def state(q):
    return q("query-block-exports"), q("query-block"), [n["node-name"] for n in q("query-named-block-nodes")]


def nodes(q):
    q("blockdev-add", driver="null-co", node_name="n", size=1 << 20, read_zeroes=True)
    q("blockdev-add", driver="null-co", node_name="ro", size=1 << 20, read_only=True)


def serve(d, q, **more):
    q.execute("nbd-server-start", dict({"addr": {"type": "unix", "data": {"path": d.nbd_path}}}, **more))


def common(exports):
    """Without the members that only ours has."""
    return [{k: v for k, v in x.items() if k in ("id", "type", "node-name", "shutting-down")} for x in exports]


def beside_the_reference():
    with oracle.pair() as p:
        for q in (p.ours, p.theirs):
            nodes(q)
        before, descriptors = state(p.ours), p.daemons[0].descriptors()
        for command, arguments in REFUSED_BEFORE:
            p.refused(command, arguments)
            assert state(p.ours) == before and not os.path.exists(p.daemons[0].nbd_path), (command, arguments)
        assert p.daemons[0].descriptors() == descriptors
        p.good("nbd-server-start", addr=UNIX)
        p.good("block-export-add", type="nbd", id="e", node_name="n", name="name")
        before, descriptors = state(p.ours), p.daemons[0].descriptors()
        for command, arguments in REFUSED:
            p.refused(command, arguments)
            assert state(p.ours) == before, (command, arguments)
        assert p.daemons[0].descriptors() == descriptors
        mine, reference = p.good("query-block-exports")
        assert common(mine) == reference, (mine, reference)
        with connect(p.daemons[0].nbd_path, "name"), connect(p.daemons[1].nbd_path, "name"):
            p.refused("block-export-del", {"id": "e"})
            p.refused("block-export-del", {"id": "e", "mode": "safe"})
            p.refused("nbd-server-remove", {"name": "e"})
        for q in (p.ours, p.theirs):
            q("block-export-del", id="e", mode="hard")
            assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
        # The older commands: the name is the id, and what is read-only is exported read-only.
        p.good("nbd-server-add", device="n")
        p.good("nbd-server-add", device="n", name="second", writable=True, description="text")
        p.good("nbd-server-add", device="ro", writable=True)
        mine, reference = p.good("query-block-exports")
        assert sorted(map(str, map(sorted, map(dict.items, common(mine))))) == sorted(
            map(str, map(sorted, map(dict.items, reference)))), (mine, reference)
        for d in p.daemons:
            with connect(d.nbd_path, "ro") as c:
                assert c.flags & READ_ONLY
            with connect(d.nbd_path, "second") as c:
                assert not c.flags & READ_ONLY
        p.good("nbd-server-remove", name="second", mode="hard")
        for q in (p.ours, p.theirs):
            assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "second"}
        p.good("nbd-server-stop")
        p.refused("nbd-server-stop", {})
        assert p.good("query-block-exports") == ([], [])


def refused_alone(d):
    """The same without the reference: nothing is changed."""
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        before, descriptors = state(q), d.descriptors()
        for command, arguments in REFUSED_BEFORE:
            fails(GE, "...", q.execute, command, oracle.Pair.local(arguments, d))
            assert state(q) == before and not os.path.exists(d.nbd_path), (command, arguments)
        for address in ({"type": "unix", "data": {"path": "/no/such/folder/x"}},
                        {"type": "unix", "data": {"path": "x" * 200}}, {"type": "fd", "data": {"str": "nope"}},
                        {"type": "unix", "data": {"path": IMAGE}}, {"type": "fd", "data": {"str": "1"}},
                        *[{"type": "inet", "data": {"host": "127.0.0.1", "port": port}}
                          for port in ("65536", "70000", "-1", " 1", "+1", "99999999999999999999", "", "no service")],
                        {"type": "inet", "data": {"host": "192.0.2.1", "port": "0"}}):
            fails(GE, "...", q, "nbd-server-start", addr=address)
        assert os.path.isfile(IMAGE), "a file that is no socket was taken for an old one"
        assert d.descriptors() == descriptors
        serve(d, q)
        q("block-export-add", type="nbd", id="e", node_name="n", name="name")
        before, descriptors = state(q), d.descriptors()
        for command, arguments in REFUSED:
            fails(GE, "...", q.execute, command, oracle.Pair.local(arguments, d))
        assert state(q) == before and d.descriptors() == descriptors
        # An export's name is the device's name: it may not stand for two things.
        fails(GE, "Block export id 'ro' is the name of a node that it does not export", q, "block-export-add",
              type="nbd", id="ro", node_name="n", name="z")
        q("nbd-server-stop")
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def older_commands(d):
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        serve(d, q)
        q("nbd-server-add", device="n", name="first")
        q("nbd-server-add", device="first", name="again", writable=True)  # a device's name will do
        assert {(x["id"], x["node-name"]) for x in q("query-block-exports")} == {("first", "n"), ("again", "n")}
        fails(GE, "...", q, "nbd-server-add", device="n", name="first")
        fails(GE, "Cannot find device=...", q, "nbd-server-add", device="nope")
        q("nbd-server-add", device="ro", writable=True)
        with connect(d.nbd_path, "ro") as c:
            assert c.flags & READ_ONLY and c.error(WRITE, 0, data=b"x") == EPERM
        # Removed by its name, also when that is not its id.
        q("block-export-add", type="nbd", id="other", node_name="n", name="shown")
        q("nbd-server-remove", name="shown")
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "other"}
        q("nbd-server-stop")
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def removal(d):
    """Safe: not while somebody is there.  Hard: they are cut off.  The event: all of it can be had anew."""
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        serve(d, q)
        for i in range(60):
            q("block-export-add", type="nbd", id="e", node_name="n", name="x")
            clients = [connect(d.nbd_path) for _ in range(i % 4)]
            assert [b["locked"] for b in q("query-block")] == [bool(clients)]
            if clients:
                fails(GE, "export 'e' still in use", q, "block-export-del", id="e")
                assert [x["shutting-down"] for x in q("query-block-exports")] == [False]
                assert clients[0].read(0, 512) == bytes(512), "a refused removal disturbs a client"
            q("block-export-del", id="e", mode="hard" if clients else "safe")
            assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
            assert q("query-block-exports") == [] and q.events == [], q.events
            for c in clients:
                assert c.ended()
                c.socket.close()
            if i % 2:  # the node is free as well
                q("blockdev-del", node_name="n")
                q("blockdev-add", driver="null-co", node_name="n", size=1 << 20, read_zeroes=True)
        fails(GE, "Export 'e' is not found", q, "block-export-del", id="e", mode="hard")
        # A client that is gone holds nothing up.
        q("block-export-add", type="nbd", id="e", node_name="n", name="x")
        with connect(d.nbd_path) as c:
            c.end()
        for _ in range(200):
            try:
                q("block-export-del", id="e")
                break
            except QmpError as error:
                assert error.text == "export 'e' still in use", error
        q.wait_event("BLOCK_EXPORT_DELETED")
        q("nbd-server-stop")
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def hard_under_load(d):
    """An export is removed while its clients write; what was answered is in the file."""
    with contextlib.closing(d.qmp()) as q:
        q("blockdev-add", driver="file", node_name="f", filename=IMAGE)
        serve(d, q)
        for turn in range(5):
            q("block-export-add", type="nbd", id="e", node_name="f", name="x", writable=True)
            answered = {}
            wrong = []

            def write(n, c):
                try:
                    with c:
                        for i in range(10000):
                            at, data = (n * 64 + i % 64) * 4096, bytes([turn + 1, n, i % 251]) + bytes(509)
                            c.write(at, data)
                            answered[at] = data
                except (HungUp, OSError):
                    pass
                except Exception as error:
                    wrong.append(error)

            threads = [threading.Thread(target=write, args=(n, connect(d.nbd_path))) for n in range(4)]
            for t in threads:
                t.start()
            while len(answered) < 40 and not wrong:
                time.sleep(0.01)
            q("block-export-del", id="e", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            for t in threads:
                t.join(60)
            assert not wrong, wrong
            with open(IMAGE, "rb") as f:
                for at, data in answered.items():
                    f.seek(at)
                    got = f.read(512)
                    # The last request may have been carried out without an answer.
                    assert got == data or got[:2] == data[:2] and got[3:] == data[3:], (at, data[:3], got[:3])
        q("nbd-server-stop")
        q("blockdev-del", node_name="f")


def options(d):
    """What an export says of itself, and what is accepted without being needed here."""
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        serve(d, q)
        q("block-export-add", type="nbd", id="e", node_name="n", name="é/ü x", description="d" * 4096, writable=True,
          writethrough=True, fixed_iothread=False, allocation_depth=True, bitmaps=[])
        with Client(d.nbd_path) as c:
            c.agree(8)
            assert set(c.meta(9, "é/ü x".encode())) == {"base:allocation", "qemu:allocation-depth"}
            found = c.go("é/ü x".encode(), (1, 2))
            assert found[2] == b"d" * 4096 and found[1] == "é/ü x".encode()
            c.write(0, b"through")
        q("block-export-add", type="nbd", id="long", node_name="n", name="n" * 4096)
        with connect(d.nbd_path, "n" * 4096) as c:
            assert c.error(READ, 0, 512) == 0
        q("block-export-add", type="nbd", id="empty", node_name="n", name="")
        with Client(d.nbd_path) as c:  # the default export
            c.export_name("")
            assert c.size == 1 << 20
        q("block-export-add", type="nbd", id="plain", node_name="n")
        with connect(d.nbd_path, "n") as c:
            assert c.flags & READ_ONLY, "an export is read-only until it is said to be writable"
        q("nbd-server-stop")
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def sized(uri):
    return int(subprocess.run(["nbdinfo", "--size", uri], check=True, capture_output=True, timeout=60).stdout)


def addresses(d):
    """Unix, inet (a free port, a range, IPv6) and a passed descriptor; nothing is left of any."""
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        before = d.descriptors()

        def used(start):
            q("block-export-add", type="nbd", id="e", node_name="n", name="x")
            (info,) = q("query-block-exports")
            uri = info.pop("uri")
            assert uri.startswith(start), uri
            assert info == {"id": "e", "type": "nbd", "node-name": "n", "shutting-down": False, "writable": False,
                            "name": "x"}, info
            assert sized(uri) == 1 << 20
            q("nbd-server-stop")

        serve(d, q)
        assert os.stat(d.nbd_path).st_mode & 0o077 == 0, "others may connect"
        used(d.uri("x"))
        assert not os.path.exists(d.nbd_path)
        with socket.socket(socket.AF_UNIX) as old:  # left behind by somebody who died
            old.bind(d.nbd_path)
        serve(d, q)
        used(d.uri("x"))

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            inet = {"host": "127.0.0.1", "port": str(port)}
            fails(GE, "...", q, "nbd-server-start", addr={"type": "inet", "data": inet})
            fails(GE, "...", q, "nbd-server-start", addr={"type": "inet", "data": dict(inet, to=port - 1)})
            with contextlib.suppress(QmpError):  # others run beside us and may have the next ones
                q("nbd-server-start", addr={"type": "inet", "data": dict(inet, to=min(port + 50, 65535))})
                q("nbd-server-stop")
        q("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
        used("nbd://127.0.0.1:")
        with contextlib.suppress(QmpError):
            q("nbd-server-start", addr={"type": "inet", "data": {"host": "::1", "port": "0", "ipv6": True}})
            used("nbd://[::1]:")
        # A path is told as others can use it; what no URI can say is not told.
        q("nbd-server-start", addr={"type": "unix", "data": {"path": os.path.relpath(d.nbd_path)}})
        used("nbd+unix:///x?socket=/")
        q("nbd-server-start", addr={"type": "unix", "data": {"path": os.path.basename(TMP), "abstract": True}})
        q("block-export-add", type="nbd", id="e", node_name="n", name="x")
        assert "uri" not in q("query-block-exports")[0]
        q("nbd-server-stop")

        with socket.socket(socket.AF_UNIX) as listening:
            path = f"{TMP}/passed.sock"
            listening.bind(path)
            listening.listen()
            text = json.dumps({"execute": "getfd", "arguments": {"fdname": "l"}}).encode()
            q.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listening.fileno()]))])
            assert "return" in q.reply()
            q("nbd-server-start", addr={"type": "fd", "data": {"str": "l"}})
            used(f"nbd+unix:///x?socket={path}")
        assert d.descriptors() <= before + 1, "a name of getfd that was used may stay, nothing else"
        with contextlib.suppress(QmpError):
            q("closefd", fdname="l")
        assert d.descriptors() == before
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def several_servers(d):
    with contextlib.closing(d.qmp()) as q:
        nodes(q)
        serve(d, q)
        other = f"{TMP}/other.nbd"
        q("nbd-server-start", id="two", addr={"type": "unix", "data": {"path": other}})
        fails(GE, "NBD server 'two' already running", q, "nbd-server-start", id="two",
              addr={"type": "unix", "data": {"path": f"{TMP}/third.nbd"}})
        fails(GE, "NBD server 'nope' not running", q, "block-export-add", type="nbd", id="z", node_name="n", server="nope")
        q("block-export-add", type="nbd", id="a", node_name="n", name="x")
        q("block-export-add", type="nbd", id="b", node_name="ro", name="x", server="two")
        assert [(x.get("server"), x["uri"]) for x in q("query-block-exports")] == [
            (None, d.uri("x")), ("two", f"nbd+unix:///x?socket={other}")]
        with connect(d.nbd_path) as one, connect(other) as two:
            one.read(0, 512), two.read(0, 512)
            q("nbd-server-stop", id="two")
            assert two.ended() and one.read(0, 512) == bytes(512)
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "b"}
        assert not os.path.exists(other) and [x["id"] for x in q("query-block-exports")] == ["a"]
        q("nbd-server-stop")
        for name in ("n", "ro"):
            q("blockdev-del", node_name=name)


def main():
    with open(IMAGE, "wb") as f:
        f.truncate(4 << 20)
    if oracle.there():
        beside_the_reference()
    else:
        print("beside_the_reference: qemu-storage-daemon is not here")
    with daemon() as d:
        for test in (refused_alone, older_commands, removal, hard_under_load, options, addresses, several_servers):
            print(test.__name__, flush=True)
            test(d)


if __name__ == "__main__":
    main()
