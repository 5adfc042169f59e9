#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ringblkctl against a living daemon, for people and for programs, and against servers that are none."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

from ctl import CTL, GREETING, OK, ctl, fake
from harness import TMP, daemon
from nbdclient import connect


def commands(d):
    path = d.qmp_path
    assert [(x["id"], x["uri"]) for x in json.loads(ctl("--json", "exports", path=path))] == [
        ("disk", d.uri("raw")), ("other", f"nbd+unix:///z?socket={TMP}/two.nbd")]
    assert ctl("exports", path=path).splitlines() == [
        "ID     TYPE  NODE    SIZE  ACCESS  CLIENTS  STATE  SERVER  NAME  CONNECT-TO",
        f"disk   nbd   raw   64 MiB  rw      no       up             raw   {d.uri('raw')}",
        f"other  nbd   zero   1 GiB  ro      no       up     two     z     nbd+unix:///z?socket={TMP}/two.nbd"]
    assert [n["node-name"] for n in json.loads(ctl("--json", "nodes", path=path))] == ["file", "raw", "zero"]
    assert ctl("nodes", path=path).splitlines() == [
        "NODE           DRIVER     SIZE  ACCESS  USED-BY       FILE",
        "raw            raw      64 MiB  rw      export disk",
        f"└─ file: file  file     64 MiB  rw                    {TMP}/disk.raw",
        "zero           null-co   1 GiB  ro      export other"]
    assert "\n`- file: file" in ctl("nodes", path=path, LC_ALL="C")
    assert ctl("exports", RINGBLK_SOCKET=path).startswith("ID ")
    assert ctl("qmp", "block_resize", "node-name=raw", "size=96M", path=path) == "{}\n"
    assert os.stat(f"{TMP}/disk.raw").st_size == 96 << 20
    assert ctl("qmp", "block_resize", '{"node-name": "raw", "size": 1048576}', path=path) == "{}\n"
    assert os.stat(f"{TMP}/disk.raw").st_size == 1 << 20
    ctl("qmp", "blockdev-add", "driver=null-co,node-name=true", "size=1M", "read-zeroes=on", path=path)
    nodes = json.loads(ctl("qmp", "query-named-block-nodes", path=path))
    assert {n["node-name"]: n["image"]["virtual-size"] for n in nodes}["true"] == 1 << 20
    text = ctl("--json", "qmp", "query-named-block-nodes", "flat=on", path=path)
    assert text.count("\n") == 1 and len(json.loads(text)) == len(nodes)
    assert "ringblk" in ctl("qmp", "query-version", path=path)


def refusals(d):
    path = d.qmp_path
    text = ctl("qmp", "no-such", path=path, status=1)
    assert text == "CommandNotFound: The command no-such has not been found\n", text
    text = ctl("qmp", "block_resize", "node-name=raw", "size=huge", path=path, status=1)
    assert text.startswith("GenericError: ") and "size" in text, text
    assert ctl("qmp", "block_resize", "size", path=path, status=2)
    assert ctl("qmp", "block_resize", "{", path=path, status=2)
    assert ctl("complete", path=path, status=2).startswith("usage: ")
    for words in ((), ("nonsense",), ("--nonsense",), ("exports", "x"), ("events", "x"), ("nodes", "x"), ("stats", "x"),
                  ("stats", "--watch", "0"), ("stats", "--watch", "x"), ("stats", "--watch", "1", "1"),
                  *(("--timeout", t, "nodes") for t in ("", "x", "1x", "-1", "nan", "1e9"))):
        assert ctl(*words, path=path, status=2)
    assert "--socket" in ctl("--help") and ctl("--version").startswith("ringblkctl ")


def table(text):
    """The rows of a table by their first cell, by the heading.  (Cells here have at most one blank inside.)"""
    head, *rows = [re.split("  +", line) for line in text.splitlines()]
    return {row[0]: dict(zip(head, row)) for row in rows}


def stats(d):
    """Totals are what was done; --watch tells of each interval."""
    path = d.qmp_path
    assert set(table(ctl("stats", path=path))) == {"disk", "other"}
    with connect(d.nbd_path, "raw") as c:
        for i in range(5):
            c.write(i << 16, b"x" * 65536)
        c.read(0, 8192)
        row = table(ctl("stats", path=path))["disk"]
        assert (row["WRITES"], row["WRITTEN"], row["READS"], row["READ"]) == ("5", "320 KiB", "1", "8 KiB"), row
        assert table(ctl("stats", "--nodes", path=path))["file"]["WRITTEN"] == "320 KiB"
        (figures,) = [s["stats"] for s in json.loads(ctl("--json", "stats", path=path)) if s["device"] == "disk"]
        assert (figures["wr_operations"], figures["rd_bytes"]) == (5, 8192)
        command = [CTL, "--socket", path, "stats", "--watch", "0.05"]
        with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as p:
            seen = False
            while not seen: # the first interval in which there is a write
                c.write(0, b"y" * 512)
                head, disk, other, gap = [p.stdout.readline() for _ in range(4)]
                assert other.startswith("other ") and gap == "\n", (head, disk, other, gap)
                row = table(head + disk)["disk"]
                seen = row["WRITES/s"] != "0" and row["WRITTEN"].endswith("/s")
            p.send_signal(signal.SIGINT)
    with subprocess.Popen([CTL, "--json", "--socket", path, "stats", "--nodes", "--watch"], text=True,
                          stdout=subprocess.PIPE) as p:
        assert {n["node-name"] for n in json.loads(p.stdout.readline())} >= {"file", "raw", "zero"}
        p.terminate()


def events(d):
    for options in ([], ["--json"]):
        with subprocess.Popen([CTL, "--socket", d.qmp_path, *options, "events"], text=True,
                              stdout=subprocess.PIPE) as p:
            line = []
            reader = threading.Thread(target=lambda: line.append(p.stdout.readline()))
            reader.start()
            # It may not have connected yet: an event again and again until it has seen one.
            while reader.is_alive():
                ctl("qmp", "block-export-add", "type=nbd,id=e,node-name=zero,name=e",
                    path=d.qmp_path)
                ctl("qmp", "block-export-del", "id=e", path=d.qmp_path)
                reader.join(0.2)
            p.send_signal(signal.SIGTERM)
        if options:
            assert json.loads(line[0])["event"] == "BLOCK_EXPORT_DELETED", line
        else:
            assert line[0].endswith(' BLOCK_EXPORT_DELETED {"id": "e"}\n'), line
            assert line[0].startswith("20"), line


def nobody():
    for path, said in ((f"{TMP}/nobody", "No such file or directory; is ringblkd running?\n"),
                       (f"{TMP}/disk.raw/x", "Not a directory\n"), ("127.0.0.1:1", "refused; is ringblkd running?\n")):
        text = ctl("exports", path=path, status=3)
        assert text.startswith("ringblkctl: cannot connect to ") and text.endswith(said), text
    assert ctl("nodes", path="x" * 200 + "/", status=3)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{TMP}/dead")
        assert "Connection refused; is ringblkd" in ctl("exports", path=f"{TMP}/dead", status=3)
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError): # that user may not run the program either
                text = ctl("exports", path=f"{TMP}/dead", status=3, user=65534)
                assert "Permission denied; only the user who started ringblkd may" in text, text
    # Without --socket: where the daemon's plain form listens; how to say it otherwise is told.
    environment = {k: v for k, v in os.environ.items() if k not in ("RINGBLK_SOCKET", "XDG_RUNTIME_DIR")}
    if os.geteuid() != 0:
        assert "XDG_RUNTIME_DIR is not set" in ctl("nodes", status=2, env=environment)
        text = ctl("nodes", status=3, env=dict(environment, XDG_RUNTIME_DIR=TMP))
        assert f"unix:{TMP}/ringblk/qmp.sock" in text and "(--socket or $RINGBLK_SOCKET says where)" in text, text


def silence():
    """A server that takes no connection, does not greet, does not answer: within the time that is said."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{TMP}/silent")
        silent.listen(0)
        assert "does not answer" in ctl("--timeout", "0.1", "exports", path=f"{TMP}/silent", status=3)
        waiting = []
        while True: # until the kernel keeps no more of them waiting
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(f"{TMP}/silent")
            except BlockingIOError:
                break
        assert "takes no connection" in ctl("--timeout", "0.1", "exports", path=f"{TMP}/silent", status=3)
        for s in waiting:
            s.close()
    for i, (answers, command) in enumerate((([GREETING], ["nodes"]), ([GREETING, OK], ["nodes"]), ([GREETING, OK], ["qmp", "x"]),
                                            ([GREETING, OK, b'{"event": "E"}\n{"return'], ["exports"]))):
        path = fake(f"silent{i}", *answers, stay=True)
        text = ctl("--timeout", "0.1", *command, path=path, status=3)
        assert text == f"ringblkctl: unix:{path} does not answer\n", text


def strangers():
    for i, (answers, said) in enumerate((
            ([b"SSH-2.0-nonsense\r\n"], "does not speak QMP"),
            ([b"[1]\n"], "does not speak QMP"),
            ([b'{"hello": 1}\n'], "no greeting came"),
            ([b""], "hung up"),
            ([GREETING[:20]], "hung up"),
            ([GREETING], "hung up"),
            ([GREETING, OK, b""], "hung up"),
            ([GREETING, OK, b'{"return": [{"id'], "hung up"),
            ([GREETING, OK, b"[" * 2000], "does not speak QMP"),
            ([GREETING, OK, b"\xff\n"], "does not speak QMP"),
            ([GREETING, OK, b'{"x": 1}\n'], "neither a reply nor an event"),
            ([GREETING, OK, b'{"error": 1, "id": 2}\n'], "neither a reply nor an event"),
            ([GREETING, OK, b'{"return": 5, "id": 2}\n'], "returned no list"))):
        text = ctl("exports", path=fake(f"fake{i}", *answers), status=3)
        assert said in text, f"{answers}: {text}"
    # Lists of anything are shown as far as they make sense.
    odd = b'[1, null, {}, {"id": 5}, {"id": "\\u001b[2J", "node-name": [], "children": {}}, {"node-name": "n", "children": [1]}]'
    for command in ("nodes", "exports"):
        reply = b'{"return": %s, "id": %%d}\n' % odd
        text = ctl(command, path=fake(f"odd-{command}", GREETING, OK, reply % 2, reply % 3))
        assert "\x1b" not in text and ("\\x1b[2J" in text) == (command == "exports"), text
    error = b'{"error": {"class": "X", "desc": "a\\u001b[2Jb"}, "id": 2}\n'
    assert ctl("qmp", "x", path=fake("escape", GREETING, OK, error), status=1) == "X: a\\x1b[2Jb\n"
    reply = b'{"return": "' + b"x" * (8 << 20) + b'", "id": 2}\n'
    assert len(ctl("qmp", "x", path=fake("long", GREETING, OK, reply))) == (8 << 20) + 3
    # An event, and the reply to something else, come first.
    reply = b'{"event": "E"}\n{"return": 1, "id": 77}\n{"return": 2, "id": 2}\n'
    assert ctl("qmp", "x", path=fake("late", GREETING, OK, reply)) == "2\n"


with open(f"{TMP}/disk.raw", "wb") as f:
    f.truncate(64 << 20)
with daemon("--blockdev", f"driver=file,node-name=file,filename={TMP}/disk.raw",
            "--blockdev", "driver=raw,node-name=raw,file=file",
            "--blockdev", "driver=null-co,node-name=zero,size=1073741824,read-zeroes=on,read-only=on",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--nbd-server", f"id=two,addr.type=unix,addr.path={TMP}/two.nbd",
            "--export", "type=nbd,id=disk,node-name=raw,writable=on",
            "--export", "type=nbd,id=other,node-name=zero,server=two,name=z") as d:
    commands(d)
    refusals(d)
    stats(d)
    events(d)
nobody()
silence()
strangers()
