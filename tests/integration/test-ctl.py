#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ringblkctl against a living daemon, for people and for programs, and against servers that are none."""

import json
import os
import signal
import socket
import subprocess
import threading

from harness import BUILD, TMP, daemon

CTL = f"{BUILD}/ringblkctl"
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


def ctl(*arguments, status=0, path=None, **environment):
    command = [CTL, *(["--socket", path] if path else []), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60,
                          env={**os.environ, "LC_ALL": "C.UTF-8", **environment})
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, f"{command}: {done.returncode}: {out}{errors}"
    assert (errors == "") == (status == 0), f"{command}: {errors}"
    return out if status == 0 else errors


def commands(d):
    path = d.qmp_path
    assert json.loads(ctl("--json", "exports", path=path)) == [
        {"id": i, "type": "nbd", "node-name": n, "shutting-down": False}
        for i, n in (("disk", "raw"), ("other", "zero"))]
    assert ctl("exports", path=path).splitlines() == [
        "ID     TYPE  NODE    SIZE  NODE-IS  CLIENTS  STATE",
        "disk   nbd   raw   64 MiB  rw       no       up",
        "other  nbd   zero   1 GiB  ro       no       up"]
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
    assert ctl("qmp", path=path, status=2).startswith("usage: ")
    for words in ((), ("nonsense",), ("--nonsense",), ("exports", "x"), ("events", "x")):
        assert ctl(*words, path=path, status=2)
    assert "--socket" in ctl("--help") and ctl("--version").startswith("ringblkctl ")


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


def fake(name, *answers):
    """A server that sends the first answer at once, each next one for a line that comes, and hangs up."""
    path = f"{TMP}/{name}"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def serve():
        with listening, listening.accept()[0] as s, s.makefile("rb") as lines:
            try:
                s.sendall(answers[0])
                for answer in answers[1:]:
                    lines.readline()
                    s.sendall(answer)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    return path


def strangers():
    text = ctl("exports", path=f"{TMP}/nobody", status=2)
    assert text == (f"ringblkctl: cannot connect to unix:{TMP}/nobody: No such file or directory; "
                    "is ringblkd running?\n"), text
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{TMP}/dead")
        assert "Connection refused; is ringblkd" in ctl("exports", path=f"{TMP}/dead", status=2)
    ok = b'{"return": {}, "id": 1}\n'
    for i, (answers, said) in enumerate((
            ([b"SSH-2.0-nonsense\r\n"], "does not speak QMP"),
            ([b"[1]\n"], "does not speak QMP"),
            ([b'{"hello": 1}\n'], "no greeting came"),
            ([GREETING[:20]], "hung up"),
            ([GREETING], "hung up"),
            ([GREETING, ok, b""], "hung up"),
            ([GREETING, ok, b'{"x": 1}\n'], "neither a reply nor an event"),
            ([GREETING, ok, b'{"return": 5, "id": 2}\n'], "returned no list"))):
        text = ctl("exports", path=fake(f"fake{i}", *answers), status=2)
        assert said in text, f"{answers}: {text}"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{TMP}/silent")
        silent.listen()
        assert "does not answer" in ctl("exports", path=f"{TMP}/silent", status=2)
    error = b'{"error": {"class": "X", "desc": "a\\u001b[2Jb"}, "id": 2}\n'
    assert ctl("qmp", "x", path=fake("escape", GREETING, ok, error), status=1) == "X: a\\x1b[2Jb\n"
    reply = b'{"return": "' + b"x" * (8 << 20) + b'", "id": 2}\n'
    assert len(ctl("qmp", "x", path=fake("long", GREETING, ok, reply))) == (8 << 20) + 3
    # An event, and the reply to something else, come first.
    reply = b'{"event": "E"}\n{"return": 1, "id": 77}\n{"return": 2, "id": 2}\n'
    assert ctl("qmp", "x", path=fake("late", GREETING, ok, reply)) == "2\n"


with open(f"{TMP}/disk.raw", "wb") as f:
    f.truncate(64 << 20)
with daemon("--blockdev", f"driver=file,node-name=file,filename={TMP}/disk.raw",
            "--blockdev", "driver=raw,node-name=raw,file=file",
            "--blockdev", "driver=null-co,node-name=zero,size=1073741824,read-zeroes=on,read-only=on",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=disk,node-name=raw,writable=on",
            "--export", "type=nbd,id=other,node-name=zero") as d:
    commands(d)
    refusals(d)
    events(d)
strangers()
