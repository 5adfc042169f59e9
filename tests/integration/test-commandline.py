#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""The command line of qemu-storage-daemon: a line of its own users works as it is, under 64 clients; all
options in both forms and in their order; what is wrong is told and ends with status 1, nothing left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

import oracle
from harness import BUILD, TMP, Qmp, receive
from nbdclient import connect

RINGBLKD = f"{BUILD}/ringblkd"
PROGRAMS = [RINGBLKD] + ([oracle.PROGRAM] if oracle.there() else [])
MIB = 1 << 20
FULL = os.environ["RINGBLK_FULL"] == "1"


def fresh(name, size=32 * MIB):
    folder = f"{TMP}/{name}"
    os.mkdir(folder)
    with open(f"{folder}/disk.raw", "wb") as f:
        f.truncate(size)
    return folder


def wait_for(test, process=None):
    deadline = time.monotonic() + 60
    while not test():
        assert process is None or process.poll() is None, process.returncode
        assert time.monotonic() < deadline, "it does not come up"
        time.sleep(0.02)


@contextlib.contextmanager
def started(program, folder, *arguments, **keywords):
    """The program in a folder of its own, up when its pidfile is there."""
    process = subprocess.Popen([program, *arguments, "--pidfile", "pid"], cwd=folder, stderr=subprocess.PIPE, **keywords)
    try:
        wait_for(lambda: os.path.exists(f"{folder}/pid"), process)
        yield process
        process.terminate()
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 0 and "ERROR: " not in said and "runtime error" not in said, said
        assert not os.path.exists(f"{folder}/pid")
    finally:
        process.kill()
        process.wait()


def run(program, *arguments, cwd=TMP, **keywords):
    return subprocess.run([program, *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=600 if FULL else 60, **keywords)


USUAL = ["--blockdev", "driver=file,node-name=f,filename=disk.raw,cache.direct=on",
         "--blockdev", "driver=raw,node-name=r,file=f", "--nbd-server", "addr.type=unix,addr.path=nbd.sock",
         "--export", "type=nbd,id=e,node-name=r,name=x,writable=on",
         "--chardev", "socket,id=c,path=qmp.sock,server=on,wait=off", "--monitor", "chardev=c"]


def usual_line():
    """The line as it stands, 64 clients that write, read back and compare."""
    each = (16 if FULL else 0.5) * MIB
    for program in PROGRAMS:
        folder = fresh("usual-" + os.path.basename(program), int(64 * each))
        with started(program, folder, *USUAL):
            uri = f"nbd+unix:///x?socket={folder}/nbd.sock"
            fio = run("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw", "--bs=4k",
                      "--numjobs=64", f"--size={int(each / 2)}", f"--offset_increment={int(each)}", "--iodepth=8",
                      "--verify=crc32c", "--verify_fatal=1", "--group_reporting", f"--aux-path={folder}")
            assert fio.returncode == 0 and "verify" not in fio.stderr, fio.stdout + fio.stderr
            q = Qmp(f"{folder}/qmp.sock")
            assert [x["id"] for x in q("query-block-exports")] == ["e"]
            nodes = {n["node-name"]: n["cache"]["direct"] for n in q("query-named-block-nodes")}
            assert nodes == {"f": True, "r": False}, nodes
            q.close()


def both_forms():
    """key=value and JSON mean the same, for every option."""
    lines = {
        "keys": ["--blockdev", "driver=null-co,node-name=n,size=1048576,read-zeroes=on,cache.direct=off,read-only=off",
                 "--blockdev", "raw,node-name=r,file.driver=null-co,file.size=2097152,file.node-name=b,offset=512",
                 "--nbd-server", "addr.type=unix,addr.path=nbd.sock,max-connections=3",
                 "--export", "nbd,id=e,node-name=n,name=a,,b,writable=on",
                 "--export", "type=nbd,id=e2,node-name=r,writable=off,allocation-depth=on",
                 "--object", "iothread,id=t", "--chardev", "backend=socket,id=c,path=qmp.sock,server=on,wait=off",
                 "--monitor", "c"],
        "json": ["--blockdev", json.dumps({"driver": "null-co", "node-name": "n", "size": MIB, "read-zeroes": True,
                                           "cache": {"direct": False}, "read-only": False}),
                 "--blockdev", json.dumps({"driver": "raw", "node-name": "r", "offset": 512,
                                           "file": {"driver": "null-co", "size": 2 * MIB, "node-name": "b"}}),
                 "--nbd-server", json.dumps({"addr": {"type": "unix", "path": "nbd.sock"}, "max-connections": 3}),
                 "--export", json.dumps({"type": "nbd", "id": "e", "node-name": "n", "name": "a,b", "writable": True}),
                 "--export", json.dumps({"type": "nbd", "id": "e2", "node-name": "r", "allocation-depth": True}),
                 "--object", json.dumps({"qom-type": "iothread", "id": "t"}),
                 "--chardev", "socket,id=c,path=qmp.sock,server=on,wait=off", "--monitor", '{"chardev": "c"}'],
    }
    found = {}
    for form, line in lines.items():
        for program in PROGRAMS:
            folder = fresh(f"{form}-{os.path.basename(program)}")
            with started(program, folder, *line):
                q = Qmp(f"{folder}/qmp.sock")
                nodes = {n["node-name"]: (n["drv"], n["ro"], n["cache"], n["image"]["virtual-size"])
                         for n in q("query-named-block-nodes")}
                exports = sorted((x["id"], x["node-name"], x["type"], x["shutting-down"])
                                 for x in q("query-block-exports"))
                q.close()
                with connect(f"{folder}/nbd.sock", "a,b") as c:
                    flags = c.flags
                found[form, program] = nodes, exports, flags & 2, c.size
    assert all(f == found["keys", RINGBLKD] for f in found.values()), found


def in_order():
    """An option can only use what stands before it."""
    theirs = fresh("order")  # the reference leaves its sockets behind
    node, server = ["--blockdev", "driver=null-co,node-name=n"], ["--nbd-server", "addr.type=unix,addr.path=o.sock"]
    export = ["--export", "type=nbd,id=e,node-name=n"]
    chardev, monitor = ["--chardev", "socket,id=c,path=o.qmp,server=on,wait=off"], ["--monitor", "chardev=c"]
    for line, text in (
            ([*server, *export, *node], "Cannot find device='' nor node-name='n'"),
            ([*node, *export, *server], "NBD server not running"),
            ([*monitor, *chardev], 'chardev "c" not found'),
            (["--blockdev", "driver=raw,node-name=r,file=n", *node], "Cannot find device='n' nor node-name='n'"),
            ([*node, *node], "Duplicate nodes with node-name='n'"),
            ([*server, *server], "NBD server already running"),
            ([*node, *server, *export, *export], "Block export id 'e' is already in use"),
            ([*chardev, *monitor, *monitor], "Device 'c' is in use")):
        for program in PROGRAMS:
            done = run(program, *line, cwd=TMP if program == RINGBLKD else theirs)
            assert done.returncode == 1 and text in done.stderr, (program, line, done)
        assert not os.path.exists(f"{TMP}/o.sock") and not os.path.exists(f"{TMP}/o.qmp"), line


def wrong_lines():
    good = ["--blockdev", f"driver=file,node-name=f,filename={TMP}/wrong/disk.raw", "--nbd-server", "addr.type=unix,addr.path=w.sock"]
    fresh("wrong")
    theirs = fresh("wrong-theirs")
    # Both say the same of these.
    for line, text in (
            (["--blockdev", "driver=nope,node-name=z"], "Parameter 'driver' does not accept value 'nope'"),
            (["--blockdev", "node-name=z"], "Parameter 'driver' is missing"),
            (["--blockdev", "driver=null-co"], "'node-name' must be specified for the root node"),
            (["--blockdev", "driver=null-co,node-name=z,x=1"], "Parameter 'x' is unexpected"),
            (["--blockdev", "driver=null-co,node-name=z,cache=1"], "Invalid parameter type for 'cache', expected: object"),
            (["--blockdev", "driver=null-co,node-name=z,read-only=maybe"], "Parameter 'read-only' expects 'on' or 'off'"),
            (["--blockdev", "driver=file,node-name=z,filename=/no/such"], "Could not open '/no/such': No such file or directory"),
            (["--blockdev", '{"driver": "null-co"'], "JSON parse error"),
            (["--blockdev", '{"driver": "null-co", "node-name": "z"} x'], "JSON"),
            (["--nbd-server", "addr.type=unix"], "Parameter 'addr.path' is missing"),
            (["--nbd-server", "addr.type=nope"], "Parameter 'type' does not accept value 'nope'"),
            (["--export", "type=nope,id=e,node-name=f"], "Parameter 'type' does not accept value 'nope'"),
            (["--export", "type=nbd,id=e,node-name=f,writable=1"], "Parameter 'writable' expects 'on' or 'off'"),
            (["--export", "type=nbd,node-name=f"], "Parameter 'id' is missing"),
            (["--object", "qom-type=nope,id=o"], "Parameter 'qom-type' does not accept value 'nope'"),
            (["--monitor", "chardev=nope"], 'chardev "nope" not found')):
        for program in PROGRAMS:
            done = run(program, *good, *line, cwd=TMP if program == RINGBLKD else theirs)
            assert done.returncode == 1 and text in done.stderr, (program, line, done)
            assert program != RINGBLKD or done.stdout == "", done
        assert not os.path.exists(f"{TMP}/w.sock"), line
    # These are worded otherwise, if the reference refuses them at all (it ends itself over the first).
    for line in (["--blockdev", "driver=null-co,node-name=z,size=-1"], ["--blockdev", "driver=null-co,node-name=z,size=big"],
                 ["--blockdev", ""], ["--blockdev"], ["--export", "nbd"], ["--nope"], ["--rings", "0"], ["--rings", "x"],
                 ["--blockdev", "="], ["--blockdev", "driver"], ["--blockdev", "driver=null-co,,node-name=z"],
                 ["--chardev", "socket,id=c"], ["--chardev", "socket,id=c,path=a,port=1"], ["--chardev", "nope,id=c"],
                 ["--chardev", "socket,path=x"], ["--monitor", ""], ["--monitor", "chardev=c,mode=readline"],
                 ["--chardev", "socket,id=c,path=/no/such/qmp,server=on,wait=off", "--monitor", "c"],
                 ["--chardev", "socket,id=c,path=x,wait=off"], ["--chardev", "socket,id=c,path=x,server=on,reconnect=1"],
                 ["--pidfile", "/no/such/pid"], ["--pidfile", f"{TMP}"], ["--nbd", "x"], ["--read-only"],
                 ["--daemonize", "--blockdev", "driver=nope"], ["--daemonize", "--pidfile", "/no/such/pid"],
                 ["--blockdev", "driver=raw,node-name=z," + "file.driver=raw,file." * 2000 + "driver=null-co"],
                 ["--blockdev", "{" * 5000], ["--blockdev", "x" * 100000]):
        done = run(RINGBLKD, *good, *line)
        assert done.returncode == 1 and "ringblkd: error: " in done.stderr and done.stdout == "", (line[:2], done)
        assert "ERROR: " not in done.stderr, done.stderr
        assert not os.path.exists(f"{TMP}/w.sock"), line


def says(text, *options):
    done = run(RINGBLKD, *options)
    assert done.returncode == 0 and text in done.stdout and done.stderr == "", (options, done)
    return done.stdout


def told():
    assert says("ringblkd version ", "--version") == says("ringblkd version ", "-V")
    text = says("Usage: ringblkd", "--help")
    assert text == says("Usage", "-h")
    for word in ("--object", "--blockdev", "--nbd-server", "--export", "--chardev", "--monitor", "--daemonize",
                 "--pidfile", "node-name=", "addr=", "writable=", "null-co", "host_cdrom"):
        assert word in text, word
    says("### block-export-add", "--qmp-reference")


def pidfile():
    """It is there when all is up, not before; a second daemon does not get it; it goes with its daemon."""
    folder = fresh("pidfile")
    arguments = ["--blockdev", "driver=null-co,node-name=n", "--nbd-server", "addr.type=unix,addr.path=nbd.sock",
                 "--export", "type=nbd,id=e,node-name=n,name=x", "--chardev", "socket,id=c,path=qmp.sock,server=on",
                 "--monitor", "c", "--pidfile", "pid"]
    process = subprocess.Popen([RINGBLKD, *arguments], cwd=folder)
    try:
        wait_for(lambda: os.path.exists(f"{folder}/qmp.sock"), process)
        time.sleep(0.3)  # wait=on: it waits for a client of the monitor
        assert not os.path.exists(f"{folder}/pid"), "the pidfile came too early"
        with socket.socket(socket.AF_UNIX) as early:
            early.settimeout(0.3)
            early.connect(f"{folder}/nbd.sock")
            with contextlib.suppress(TimeoutError):
                assert receive(early, 1) == b"", "a client is served before the line is done"
            q = Qmp(f"{folder}/qmp.sock")
            wait_for(lambda: os.path.exists(f"{folder}/pid"), process)
            early.settimeout(60)
            assert receive(early, 8) == b"NBDMAGIC"
        with open(f"{folder}/pid", encoding="ascii") as f:
            assert f.read() == f"{process.pid}\n"
        second = run(RINGBLKD, "--pidfile", "pid", cwd=folder)
        assert second.returncode == 1 and "another daemon's" in second.stderr, second
        assert os.path.exists(f"{folder}/pid"), "the loser took the pidfile away"
        q("quit")
        assert process.wait(60) == 0
        q.close()
    finally:
        process.kill()
        process.wait()
    assert os.listdir(folder) == ["disk.raw"], os.listdir(folder)
    with open(f"{folder}/pid", "w", encoding="ascii") as f:
        f.write("1234567 and more that a dead daemon left\n")
    with started(RINGBLKD, folder) as process, open(f"{folder}/pid", encoding="ascii") as f:
        wait_for(lambda: f.seek(0) == 0 and f.read() == f"{process.pid}\n", process)


def daemonize():
    """The parent ends when all is up; relative paths are those of where it was started."""
    for program in PROGRAMS:
        folder = fresh("daemonize-" + os.path.basename(program))
        done = run(program, *USUAL, "--daemonize", "--pidfile", "pid", cwd=folder)
        assert done.returncode == 0, done
        with open(f"{folder}/pid", encoding="ascii") as f:
            pid = int(f.read())
        try:
            with connect(f"{folder}/nbd.sock") as c:
                c.write(0, b"d" * 4096)
                c.end()
            assert os.getsid(pid) != os.getsid(0)
            assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: not os.path.exists(f"{folder}/pid"))
        assert program != RINGBLKD or sorted(os.listdir(folder)) == ["disk.raw"], os.listdir(folder)
        with open(f"{folder}/disk.raw", "rb") as f:
            assert f.read(4096) == b"d" * 4096
    # What goes wrong in the child is told by the parent's status and words.
    done = run(RINGBLKD, "--daemonize", "--blockdev", "driver=file,node-name=f,filename=/no/such")
    assert done.returncode == 1 and "No such file or directory" in done.stderr, done


def monitor_as_client():
    """Without server=on the daemon connects, as the iotests of QEMU have it."""
    for program in PROGRAMS:
        folder = fresh("client-" + os.path.basename(program))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{folder}/qmp.sock")
            listening.listen()
            listening.settimeout(60)
            with started(program, folder, "--chardev", "socket,id=c,path=qmp.sock", "--monitor", "chardev=c"):
                with listening.accept()[0] as s:
                    s.settimeout(60)
                    f = s.makefile("rb")
                    assert "QMP" in json.loads(f.readline())
                    s.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-version"}')
                    assert [*map(list, (json.loads(f.readline()) for _ in range(2)))] == [["return"]] * 2
                    f.close()


def monitor_on_stdio():
    process = subprocess.Popen([RINGBLKD, "--chardev", "stdio,id=c", "--monitor", "chardev=c,pretty=on"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate('{"execute":"qmp_capabilities"}{"execute":"quit"}', timeout=60)
    assert process.returncode == 0 and '"QMP": {\n' in said and '"SHUTDOWN"' in said, said


def signals():
    """Each of the three ends it well, also in the middle of its work."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        folder = fresh(f"signal-{number}")
        process = subprocess.Popen([RINGBLKD, *USUAL, "--pidfile", "pid"], cwd=folder)
        try:
            wait_for(lambda: os.path.exists(f"{folder}/pid"), process)
            q = Qmp(f"{folder}/qmp.sock")
            with connect(f"{folder}/nbd.sock") as c:
                for i in range(100):
                    c.send(1, i * 4096, data=b"s" * 4096)
                process.send_signal(number)
                data = q.wait_event("SHUTDOWN")["data"]
                assert data == {"guest": False, "reason": "host-signal"}, data
                assert process.wait(60) == 0
            q.close()
        finally:
            process.kill()
            process.wait()
        assert os.listdir(folder) == ["disk.raw"], os.listdir(folder)


for test in (usual_line, both_forms, in_order, wrong_lines, told, pidfile, daemonize, monitor_as_client,
             monitor_on_stdio, signals):
    began = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
